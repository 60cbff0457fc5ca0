/** The time of the next retry after failures. Instants are in seconds of the process. */

/** Seconds until a failed call is sent again: the first time, and at most. */
const FIRST = 0.1;
const LONGEST = 2;

export class Backoff {
  readonly #longest: number;
  #at = Infinity;
  /** Seconds until the retry after the next failure; 0 after a success. */
  #delay = 0;

  constructor(ttl: number) {
    this.#longest = Math.min(LONGEST, ttl / 3);
  }

  /** `Infinity` for no retry. */
  get at(): number {
    return this.#at;
  }

  get isFailing(): boolean {
    return this.#delay > 0;
  }

  /** Several calls may fail before the retry; only the first failure sets its time. */
  failed(now: number): void {
    if (this.#at < Infinity) return;
    this.#delay = Math.min(this.#longest, this.#delay * 2 || FIRST);
    this.#at = now + this.#delay;
  }

  succeeded(): void {
    this.#at = Infinity;
    this.#delay = 0;
  }

  /** The retry is on its way. If it fails, `failed` sets the time of the next one. */
  retried(): void {
    this.#at = Infinity;
  }
}
