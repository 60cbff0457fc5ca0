/**
 * A caller's clock as a gate can rely on it. It never steps back, and it never throws once it has shown an instant. A timer
 * fires once, neither early nor after it was cancelled.
 */
import { type Clock, readClock, systemClock } from '../core/clock.js';
import { invalid } from '../core/validation.js';
import { ignoreErrors, ROUNDING } from '../core/wait-queue.js';

/** A timer that is early by so many seconds counts as due: instants of Redis are whole microseconds. */
const GRAIN = 1e-6;

export class SteadyClock implements Clock {
  readonly #clock: Clock;
  #latest = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws Whatever the clock throws, and a TypeError, while it has never shown a number. */
  now(): number {
    try {
      return this.nowOrThrow();
    } catch (error) {
      if (this.#latest === -Infinity) throw error;
      return this.#latest;
    }
  }

  /** As `now`, for a caller who can be refused: it throws whatever the clock throws, at any time. */
  nowOrThrow(): number {
    const now = this.#clock.now();
    if (now > this.#latest && now < Infinity) this.#latest = now;
    else if (this.#latest === -Infinity) throw invalid('clock.now()', 'a finite number', now);
    return this.#latest;
  }

  /** For what must happen: where the clock throws, or fires at once, the platform's timer takes its place. */
  schedule(seconds: number, callback: () => void): () => void {
    return this.#time(seconds, callback, true);
  }

  /** As `schedule`, for a caller who can be refused. @throws Whatever the clock throws. */
  scheduleOrThrow(seconds: number, callback: () => void): () => void {
    return this.#time(seconds, callback, false);
  }

  #time(seconds: number, callback: () => void, anyway: boolean): () => void {
    const due = this.now() + seconds;
    let open = true;
    let cancel: (() => void) | undefined;
    const time = (left: number, orPlatform: boolean): void => {
      const set = readClock(this.#clock);
      let scheduling = true;
      let fired = false;
      const fire = (): void => {
        if (!open || fired) return;
        fired = true;
        if (scheduling) return;
        const elapsed = readClock(this.#clock) - set;
        // On a clock that stands still or stepped back, the timer's word counts.
        if (elapsed > 0 && left - elapsed > Math.max(GRAIN, seconds * ROUNDING)) return time(left - elapsed, true);
        open = false;
        this.#latest = Math.max(this.#latest, due);
        callback();
      };
      try {
        cancel = this.#clock.schedule(left, fire);
      } catch (error) {
        if (!orPlatform) throw error;
        fired = true;
      }
      scheduling = false;
      if (!fired) return;
      fired = false;
      cancel = systemClock.schedule(left, fire);
    };
    time(seconds, anyway);
    return () => {
      open = false;
      ignoreErrors(cancel);
    };
  }
}
