/**
 * The clock of a gate: the present instant and timers. All instants and durations are in seconds.
 */

/**
 * The source of time and timers of a gate. The default is the monotonic clock of the platform. A test can use the
 * `ManualClock` of `headgate/testing`, which moves only when the test advances it.
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
   * Returns the present instant, in seconds since a fixed point. The clock should never step back. If the clock steps
   * back, timers still grant waiters, but no tokens refill for other callers until the clock has caught up.
   */
  now(): number;
  /** Calls `callback` once, after `seconds` (> 0, finite). Returns a function that cancels the call. */
  schedule(seconds: number, callback: () => void): () => void;
}

/** The longest delay of `setTimeout`, in milliseconds. A timer with a longer delay fires at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Stored, because the lookup of the global `performance` takes a third of the time of a reading. */
const { performance: originalPerformance, setTimeout: originalSetTimeout } = globalThis;
const { now: originalNow } = originalPerformance as { now: unknown };

/** The time in seconds by which a timer of the platform may fire early. */
const MAX_EARLY = 0.002;
/** The time in seconds by which a timer may appear to fire early on a platform with a coarse clock. */
const MAX_EARLY_COARSE = 0.25;

/** Seconds by which fake timers have run ahead of `performance`. Zero unless a test fakes only the timers. */
let ahead = 0;

/** Whether a test has replaced `setTimeout`, or `now` of the original `performance`. */
function isFaked(): boolean {
  return setTimeout !== originalSetTimeout || (originalPerformance as { now: unknown }).now !== originalNow;
}

/**
 * The monotonic clock of the platform. A test may replace `setTimeout`, `performance` or both by fakes. If `setTimeout`
 * is replaced, the clock reads the present `performance`, which may be replaced, too. If only one of the two is
 * replaced, timers count: a waiter starts when its timer fires, even if `performance` shows an earlier instant.
 */
export const systemClock: Clock = {
  now: () => (setTimeout === originalSetTimeout ? originalPerformance : performance).now() / 1000 + ahead,

  schedule(seconds, callback) {
    // Rounding up avoids an early timer. The subtraction turns 100.00000000000001 ms into 100 ms.
    let left = Math.max(1, Math.ceil(seconds * 1000 - 1e-6));
    const due = systemClock.now() + seconds;
    let timer: ReturnType<typeof setTimeout>;
    const fire = (): void => {
      const early = due - systemClock.now();
      if (early > MAX_EARLY_COARSE || (early > MAX_EARLY && isFaked())) ahead += early;
      callback();
    };
    const startTimer = (): void => {
      const step = Math.min(left, MAX_DELAY_MS);
      left -= step;
      timer = setTimeout(left > 0 ? startTimer : fire, step);
    };
    startTimer();
    return () => clearTimeout(timer);
  },
};

/** The present instant of `clock`; NaN if `clock` throws. */
export function readClock(clock: Clock): number {
  try {
    return clock.now();
  } catch {
    return NaN;
  }
}

/** Starts a timer that does not keep the process alive. Returns a function that cancels it. */
export function scheduleInBackground(milliseconds: number, callback: () => void): () => void {
  const timer: unknown = setTimeout(callback, Math.min(milliseconds, MAX_DELAY_MS));
  // In browsers and similar runtimes, a timer is a number.
  (timer as { unref?: () => void }).unref?.();
  return () => clearTimeout(timer as number);
}
