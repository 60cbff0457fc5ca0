/**
 * Tells a late refusal from a new one. A burst of requests is refused together, and its refusals arrive one by one: the
 * first pauses the key, and the others bring no news. A refusal is late when its key was paused after its request was sent.
 */

/** A request that was sent and has no response yet. */
export interface Flight {
  /** The place of the sending among all sendings and pauses. */
  readonly sentAt: number;
}

/** The pauses that requests under way may still be late for. It keeps nothing once no request is under way. */
export class PauseLog<K> {
  #events = 0;
  /** In the order of sending. */
  readonly #flights = new Set<Flight>();
  /** The place of the last pause of each key, in the order of those pauses. */
  readonly #pauses = new Map<K, number>();

  /** Records that a request is being sent. */
  begin(): Flight {
    const flight = { sentAt: ++this.#events };
    this.#flights.add(flight);
    return flight;
  }

  /** Records that a request has its response, or has failed. */
  end(flight: Flight): void {
    this.#flights.delete(flight);
    const oldest = this.#flights.values().next().value?.sentAt ?? Infinity;
    for (const [key, pausedAt] of this.#pauses) {
      if (pausedAt > oldest) break;
      this.#pauses.delete(key);
    }
  }

  /** Records a pause. */
  pause(key: K): void {
    this.#pauses.delete(key);
    this.#pauses.set(key, ++this.#events);
  }

  /** Whether the key was paused after the request was sent. */
  isLate(flight: Flight, key: K): boolean {
    return (this.#pauses.get(key) ?? 0) > flight.sentAt;
  }
}
