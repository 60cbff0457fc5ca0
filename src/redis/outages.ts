/**
 * The outages that a process knows. An outage belongs to a key, or to a whole connection. While it lasts, a gate with
 * `failOpen` grants permits by itself, and probes Redis from time to time.
 */

/** Seconds between two probes of a failed key or connection, while no caller waits for its reply. */
const PROBE_SECONDS = 1;
/** The largest number of outages. The oldest one is forgotten first: the next call of its key finds it again. */
const MOST_OUTAGES = 10_000;

export class Outages {
  /** The instant of the next probe, for each name of a key or a connection. */
  readonly #probeAt = new Map<string, number>();

  begin(name: string, now: number): void {
    this.#probeAt.delete(name);
    this.#probeAt.set(name, now + PROBE_SECONDS);
    if (this.#probeAt.size <= MOST_OUTAGES) return;
    const [oldest] = this.#probeAt.keys();
    this.#probeAt.delete(oldest as string);
  }

  end(name: string): void {
    if (this.#probeAt.size > 0) this.#probeAt.delete(name);
  }

  /** Whether `name` has failed. If its next probe is due, calls `probe`. */
  includes(name: string, now: number, probe: () => void): boolean {
    const probeAt = this.#probeAt.get(name);
    if (probeAt === undefined) return false;
    // Another throttle may have another clock, whose instants differ.
    if (now >= probeAt || now < probeAt - PROBE_SECONDS) {
      this.begin(name, now);
      probe();
    }
    return true;
  }
}
