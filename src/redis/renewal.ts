/**
 * The age of the leases and the waiters of one throttle object. Redis keeps them until `ttl` has passed since the
 * latest batch. The process counts from the sending of a batch, never from the receipt of a reply. So it gives its
 * leases up before Redis does. Instants are in seconds of the process.
 */

/** The share of `ttl` after the last renewal when leases count as lost. The rest allows for late timers. */
export const SAFE_SHARE = 0.9;
/** The share of `ttl` after which the process renews. */
const RENEWAL_SHARE = 1 / 3;

export class Renewal {
  readonly ttl: number;
  /** The sending of the latest batch that Redis has applied. */
  #renewedAt = -Infinity;
  /** The sending of the latest list of all waiters. */
  #listedAt = -Infinity;
  /** Whether the renewal that is due has been sent. */
  #isSent = false;

  constructor(ttl: number) {
    this.ttl = ttl;
  }

  /** The throttle holds nothing yet, so nothing can expire. */
  begin(now: number): void {
    this.#renewedAt = Math.max(this.#renewedAt, now);
    this.#listedAt = Math.max(this.#listedAt, now);
    this.#isSent = false;
  }

  /** Redis has applied a batch that was sent at `sentAt`. */
  confirm(sentAt: number): void {
    this.#renewedAt = Math.max(this.#renewedAt, sentAt);
    this.#isSent = false;
  }

  /** A batch with the list of all waiters is sent. Redis repeats the grants whose messages were lost. */
  listed(now: number): void {
    this.#listedAt = now;
  }

  /** A renewal was sent. The next one is due after its reply. */
  sent(): void {
    this.#isSent = true;
  }

  /** A call has failed, so the renewal must be sent again. */
  failed(): void {
    this.#isSent = false;
  }

  dueAt(waits: boolean): number {
    if (this.#isSent) return Infinity;
    return Math.min(this.#renewedAt, waits ? this.#listedAt : Infinity) + this.ttl * RENEWAL_SHARE;
  }

  isListDue(now: number): boolean {
    return now >= this.#listedAt + this.ttl * RENEWAL_SHARE;
  }

  /** The instant at which all leases of the process count as lost. */
  get safeUntil(): number {
    return this.#renewedAt + SAFE_SHARE * this.ttl;
  }

  /** The instant at which Redis has surely forgotten the owner. */
  get expiredAt(): number {
    return this.#renewedAt + this.ttl;
  }
}
