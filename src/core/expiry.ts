/**
 * The permits of a throttle with a `ttl`, oldest first. All permits of a throttle have the same `ttl`, so the oldest
 * permit is the first to expire, and one timer is enough. Adding and removing a permit take O(1) time.
 */
import type { Clock } from './clock.js';
import type { Grant } from './permit.js';
import { Timer } from './timer.js';

export class Expiry {
  /** Seconds for which a permit is valid. */
  readonly ttl: number;
  /** The instant at which each permit expires. A `Map` keeps the order in which the permits were added. */
  readonly #expiresAt = new Map<Grant, number>();
  readonly #timer: Timer;

  /** Calls `onDue` when the oldest permit may have expired. */
  constructor(clock: Clock, ttl: number, onDue: (now: number) => void) {
    this.ttl = ttl;
    this.#timer = new Timer(clock, onDue);
  }

  /** The instant for which the timer is set; `Infinity` without a timer. */
  get timerAt(): number {
    return this.#timer.at;
  }

  /**
   * Sets the timer for the oldest permit or, without a permit, for a permit that is granted at `now`. Called before a
   * grant, so that a clock that throws changes nothing.
   *
   * @throws The error of the clock.
   */
  prepare(now: number): void {
    if (this.#timer.at < Infinity) return;
    const [oldest = now + this.ttl] = this.#expiresAt.values();
    this.#timer.set(now, oldest);
  }

  /** Cancels the timer if no permit is held. */
  cancelIfUnused(): void {
    if (this.#expiresAt.size === 0) this.#timer.set(0, Infinity);
  }

  add(now: number, permit: Grant): void {
    this.#expiresAt.set(permit, now + this.ttl);
  }

  remove(permit: Grant): void {
    this.#expiresAt.delete(permit);
    this.cancelIfUnused();
  }

  /** Removes and returns the permits that have expired at `now`. */
  takeExpired(now: number): Grant[] {
    const expired: Grant[] = [];
    for (const [permit, at] of this.#expiresAt) {
      if (at > now) break;
      expired.push(permit);
      this.#expiresAt.delete(permit);
    }
    return expired;
  }
}
