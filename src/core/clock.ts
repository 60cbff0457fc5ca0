/**
 * Time, as a gate sees it: an instant to read and a callback to schedule. Everything is in seconds.
 */

/**
 * What a gate needs of time. The default is the system's monotonic clock; `ManualClock` of `headgate/testing`
 * is one that only a test moves.
 *
 * @example
 * import { Throttle, type Clock } from 'headgate';
 *
 * const halfSpeed: Clock = {
 *   now: () => performance.now() / 2000,
 *   schedule(seconds, callback) {
 *     const timer = setTimeout(callback, seconds * 2000);
 *     return () => clearTimeout(timer);
 *   },
 * };
 * const throttle = new Throttle(10, 2, 1, { clock: halfSpeed });
 */
export interface Clock {
  /**
   * The present instant in seconds since some fixed point. It should never step back. If it does, nothing extra is
   * granted: waiters go on by the timers, and no token flows in for others until it has caught up.
   */
  now(): number;
  /** Calls `callback` once, `seconds` (> 0, finite) from now, and returns a function that prevents it. */
  schedule(seconds: number, callback: () => void): () => void;
}

/** The longest delay that setTimeout takes, in milliseconds. It fires longer ones at once. */
const LONGEST_MS = 2 ** 31 - 1;

/** Held, since the lookup of `performance` costs a third of a reading. */
const { performance: original, setTimeout: originalTimer } = globalThis;
const { now: originalNow } = original as { now: unknown };

/** Seconds by which a timer of the platform may fire early; and, where the clock is a coarse one, by which it may seem to. */
const EARLY = 0.002;
const SEEMINGLY_EARLY = 0.25;

/** Seconds by which timers have run ahead of `performance`: more than 0 only under fake timers that leave `performance` alone. */
let ahead = 0;

/** Whether a test has replaced the timers or the clock. */
function isFaked(): boolean {
  return setTimeout !== originalTimer || performance !== original || (original as { now: unknown }).now !== originalNow;
}

/**
 * The monotonic clock of the platform. Where `setTimeout` is not the original one, fake timers are at work: then
 * `performance` may be another one, too. Where only one of the two is faked, the timers count: a job that waits for its
 * timer starts when the timer fires.
 */
export const systemClock: Clock = {
  now: () => (setTimeout === originalTimer ? original : performance).now() / 1000 + ahead,

  schedule(seconds, callback) {
    // Rounding up spares an early firing; the subtraction keeps 0.1 s, computed as 100.00000000000001 ms, at 100.
    let left = Math.max(1, Math.ceil(seconds * 1000 - 1e-6));
    const due = systemClock.now() + seconds;
    let timer: ReturnType<typeof setTimeout>;
    const fire = (): void => {
      const early = due - systemClock.now();
      if (early > SEEMINGLY_EARLY || (early > EARLY && isFaked())) ahead += early;
      callback();
    };
    const wait = (): void => {
      const step = Math.min(left, LONGEST_MS);
      left -= step;
      timer = setTimeout(left > 0 ? wait : fire, step);
    };
    wait();
    return () => clearTimeout(timer);
  },
};

/** What the clock shows; NaN if it throws. */
export function readClock(clock: Clock): number {
  try {
    return clock.now();
  } catch {
    return NaN;
  }
}
