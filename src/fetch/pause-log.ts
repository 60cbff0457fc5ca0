/**
 * Separates late refusals from new ones. An upstream refuses a burst of requests together, and the refusals arrive
 * one by one. The first refusal pauses the key, so the later refusals add nothing. A refusal is late if its key was
 * paused after its request was sent.
 */

/** A request that was sent and has no response yet. */
export interface Flight {
  /** Position of the sending in the sequence of all sendings and pauses. */
  readonly sentAt: number;
}

/** The pauses that matter for requests in flight. Without a request in flight, the log is empty and holds no key. */
export class PauseLog<K> {
  #eventCount = 0;
  /** In the order of sending. */
  readonly #flights = new Set<Flight>();
  /** The position of the latest pause of each key, oldest first. */
  readonly #pausedAt = new Map<K, number>();

  /** Records that a request is being sent. */
  begin(): Flight {
    const flight = { sentAt: ++this.#eventCount };
    this.#flights.add(flight);
    return flight;
  }

  /** Records that a request has its response, or has failed. Drops the pauses that no request in flight predates. */
  end(flight: Flight): void {
    this.#flights.delete(flight);
    const oldest = this.#flights.values().next().value?.sentAt ?? Infinity;
    for (const [key, pausedAt] of this.#pausedAt) {
      if (pausedAt > oldest) break;
      this.#pausedAt.delete(key);
    }
  }

  /** Records a pause. */
  pause(key: K): void {
    this.#pausedAt.delete(key);
    this.#pausedAt.set(key, ++this.#eventCount);
  }

  /** Whether the key was paused after the request was sent. */
  isLate(flight: Flight, key: K): boolean {
    return (this.#pausedAt.get(key) ?? 0) > flight.sentAt;
  }
}
