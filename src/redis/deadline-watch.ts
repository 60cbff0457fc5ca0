/**
 * The timeouts of all calls of one connection on one clock: a single timer watches them.
 *
 * A process that was blocked finds its timer due and the reply unread. So a call is overdue only if two firings in a
 * row find it without a reply, and two turns of the event loop later it still has none (FAULTS 59).
 */
import { systemClock } from '../core/clock.js';
import { afterPendingInput } from './drivers/driver.js';
import type { SteadyClock } from './steady-clock.js';

/** Something that must end within its timeout. */
export abstract class Timed {
  /** Seconds. */
  readonly timeout: number;
  /** The instant at which the timeout has started. */
  since = 0;
  /** Whether a firing has found it late in its timeout. */
  seenLate = false;

  constructor(timeout: number) {
    this.timeout = timeout;
  }

  abstract onOverdue(): void;
}

/**
 * Seconds between two firings on the clock of the platform, while calls are in flight. Its timer outlives the call for
 * which it was set: a timer for each call would take a tenth of the time of the call. An idle watch has no timer, since
 * a timer keeps the process alive.
 */
const PERIOD = 0.05;
/** Seconds after which a timer that has not fired is replaced: a test may have removed it with its fake timers. */
const LOST_AFTER = 1;
/** The share of the timeout after which a firing finds a call late. The rest passes until the next firing. */
const LATE_SHARE = 0.9;

export class DeadlineWatch {
  readonly #clock: SteadyClock;
  readonly #pending = new Set<Timed>();
  #cancel: (() => void) | undefined;
  #firesAt = Infinity;

  constructor(clock: SteadyClock) {
    this.#clock = clock;
  }

  /** The timeout of `item` starts. */
  add(item: Timed): void {
    const now = this.#clock.now();
    item.since = now;
    this.#pending.add(item);
    this.#fireAt(now + LATE_SHARE * item.timeout, now);
  }

  has(item: Timed): boolean {
    return this.#pending.has(item);
  }

  /** Returns whether `item` was pending. */
  delete(item: Timed): boolean {
    const deleted = this.#pending.delete(item);
    if (this.#pending.size === 0 && this.#clock.source !== systemClock) this.#stop();
    return deleted;
  }

  #stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#firesAt = Infinity;
  }

  #fireAt(instant: number, now: number): void {
    if (instant >= this.#firesAt && now < this.#firesAt + LOST_AFTER) return;
    this.#stop();
    const wait = this.#clock.source === systemClock ? Math.min(PERIOD, instant - now) : instant - now;
    this.#firesAt = now + wait;
    this.#cancel = this.#clock.schedule(Math.max(1e-6, wait), () => this.#fire());
  }

  #fire(): void {
    this.#stop();
    const now = this.#clock.now();
    const overdue: Timed[] = [];
    let next = Infinity;
    for (const item of this.#pending) {
      const lateAt = item.since + LATE_SHARE * item.timeout;
      if (now < lateAt) next = Math.min(next, lateAt);
      else if (item.seenLate && now >= item.since + item.timeout) overdue.push(item);
      else {
        item.seenLate = true;
        next = Math.min(next, Math.max(item.since, now - LATE_SHARE * item.timeout) + item.timeout);
      }
    }
    if (next < Infinity) this.#fireAt(next, now);
    if (overdue.length === 0) return;
    afterPendingInput(() => {
      for (const item of overdue) if (this.delete(item)) item.onOverdue();
    });
  }
}
