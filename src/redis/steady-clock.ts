/**
 * Wraps the clock of a caller, and makes it reliable. The time never steps back, and `now` never throws after the first
 * good reading. A timer fires once: never early, and never after it was cancelled.
 */
import { type Clock, readClock, systemClock } from '../core/clock.js';
import { invalid } from '../core/validation.js';
import { ignoreErrors, ROUNDING } from '../core/wait-queue.js';

/** A timer that fires early by at most this many seconds counts as due: instants of Redis are whole microseconds. */
const TOLERANCE = 1e-6;

export class SteadyClock implements Clock {
  readonly #clock: Clock;
  #latest = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The clock of the caller. Throttles on the same clock can share a timer. */
  get source(): Clock {
    return this.#clock;
  }

  /** @throws The error of the clock, or a TypeError, as long as the clock has never returned a finite number. */
  now(): number {
    try {
      return this.nowOrThrow();
    } catch (error) {
      if (this.#latest === -Infinity) throw error;
      return this.#latest;
    }
  }

  /** As `now`, but throws every error of the clock. The caller rejects its promise with that error. */
  nowOrThrow(): number {
    const now = this.#clock.now();
    if (now > this.#latest && now < Infinity) this.#latest = now;
    else if (this.#latest === -Infinity) throw invalid('clock.now()', 'a finite number', now);
    return this.#latest;
  }

  /** Schedules a callback that must run: if the clock throws, or fires at once, the system clock replaces it. */
  schedule(seconds: number, callback: () => void): () => void {
    return this.#startTimer(seconds, callback, true);
  }

  /**
   * As `schedule`, but throws if the clock cannot set the first timer. The caller rejects its promise with that error.
   */
  scheduleOrThrow(seconds: number, callback: () => void): () => void {
    return this.#startTimer(seconds, callback, false);
  }

  #startTimer(seconds: number, callback: () => void, fallBack: boolean): () => void {
    const due = this.now() + seconds;
    let open = true;
    let cancel: (() => void) | undefined;
    const start = (left: number, fallBackNow: boolean): void => {
      const startedAt = readClock(this.#clock);
      let scheduling = true;
      let fired = false;
      const fire = (): void => {
        if (!open || fired) return;
        fired = true;
        if (scheduling) return;
        const elapsed = readClock(this.#clock) - startedAt;
        // If the clock stands still or has stepped back, the timer is trusted.
        if (elapsed > 0 && left - elapsed > Math.max(TOLERANCE, seconds * ROUNDING)) return start(left - elapsed, true);
        open = false;
        this.#latest = Math.max(this.#latest, due);
        callback();
      };
      try {
        cancel = this.#clock.schedule(left, fire);
      } catch (error) {
        if (!fallBackNow) throw error;
        fired = true;
      }
      scheduling = false;
      if (!fired) return;
      fired = false;
      cancel = systemClock.schedule(left, fire);
    };
    start(seconds, fallBack);
    return () => {
      open = false;
      ignoreErrors(cancel);
    };
  }
}
