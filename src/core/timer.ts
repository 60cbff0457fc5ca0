/** One timer of a gate, set for an instant of the gate's clock. The clock is code of a user: it may misbehave. */
import { type Clock, readClock } from './clock.js';
import { ignoreErrors } from './wait-queue.js';

export class Timer {
  /** The instant at which the timer is due; `Infinity` without a timer. */
  at: number = Infinity;
  #cancel: (() => void) | undefined;
  readonly #clock: Clock;
  readonly #onTime: (now: number) => void;

  /** Calls `onTime` with the instant that the timer has reached. The timer may be early by up to 1 ms. */
  constructor(clock: Clock, onTime: (now: number) => void) {
    this.#clock = clock;
    this.#onTime = onTime;
  }

  /**
   * Sets the timer for the instant `at`; `Infinity` cancels the timer.
   *
   * @throws The error of the clock. No timer is set then.
   */
  set(now: number, at: number): void {
    if (at === this.at) return;
    ignoreErrors(this.#cancel);
    this.#cancel = undefined;
    this.at = Infinity;
    if (at < Infinity) this.#start(now, at);
  }

  #start(now: number, at: number): void {
    const clock = this.#clock;
    const startedAt = clock.now();
    // The rounding of `now + ttl` may lose a tiny `ttl`.
    const delay = at - now || Number.MIN_VALUE;
    let cancelled = false;
    const cancel = clock.schedule(delay, () => {
      // A clock of the user may fire a cancelled timer, or fire a timer twice.
      if (cancelled) return;
      cancelled = true;
      this.#cancel = undefined;
      this.at = Infinity;
      // A timer may fire up to 1 ms early. The gate then sets a timer for the rest. Otherwise `at` counts as reached,
      // even if rounding or a clock that stepped back shows an earlier instant, so that no waiter waits forever.
      const elapsed = readClock(clock) - startedAt;
      this.#onTime(elapsed >= 0 && elapsed < delay ? now + elapsed : at);
    });
    if (cancelled) return;
    this.at = at;
    this.#cancel = () => {
      cancelled = true;
      cancel();
    };
  }
}
