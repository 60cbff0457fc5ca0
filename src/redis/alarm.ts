/** The one timer of a throttle on Redis. */
import { scheduleInBackground } from '../core/clock.js';
import type { SteadyClock } from './steady-clock.js';

export class Alarm {
  readonly #clock: SteadyClock;
  readonly #onAlarm: () => void;
  #at = Infinity;
  /** Whether the timer keeps the process alive. */
  #isUrgent = false;
  #cancel: (() => void) | undefined;

  constructor(clock: SteadyClock, onAlarm: () => void) {
    this.#clock = clock;
    this.#onAlarm = onAlarm;
  }

  /**
   * Sets the timer to the instant `at`, in seconds; `Infinity` for no timer.
   *
   * @param isUrgent Whether the timer keeps the process alive. A release that is sent again must not, since its lease
   *   expires anyway.
   */
  set(at: number, isUrgent: boolean): void {
    if (at === this.#at && isUrgent === this.#isUrgent) return;
    // A timer that fires too early finds nothing due, and sets the next one. So a later instant needs no new timer.
    if (this.#cancel !== undefined && at > this.#at && at < Infinity && isUrgent === this.#isUrgent) return;
    this.#cancel?.();
    this.#cancel = undefined;
    this.#at = at;
    this.#isUrgent = isUrgent;
    if (at === Infinity) return;
    const delay = Math.max(1e-6, at - this.#clock.now());
    const fire = (): void => {
      this.#at = Infinity;
      this.#cancel = undefined;
      this.#onAlarm();
    };
    this.#cancel = isUrgent ? this.#clock.schedule(delay, fire) : scheduleInBackground(Math.ceil(delay * 1_000), fire);
  }
}
