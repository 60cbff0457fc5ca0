/** A clock for tests: time passes only when the test advances it. */
import type { Clock } from '../core/clock.js';
import { checkNumber } from '../core/validation.js';

interface Timer {
  readonly at: number;
  /** Timers of the same instant fire in the order in which they were scheduled. */
  readonly serial: number;
  readonly callback: () => void;
}

/** `runAll` rejects after this many timers: a callback that schedules the next timer would keep it running for ever. */
const MAX_TIMERS = 100_000;

/**
 * A {@link Clock} that moves only when the test calls `advance` or `runAll`. Pass it to a throttle to test waits of
 * minutes without real waiting.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { ManualClock } from 'headgate/testing';
 *
 * const clock = new ManualClock();
 * const throttle = new Throttle(1, 0, 60, { clock });   // one per minute
 * await throttle.run(() => 'first');
 * const second = throttle.run(() => 'second');
 * await clock.advance(60);
 * console.log(await second, clock.now());               // second 60
 */
export class ManualClock implements Clock {
  #now: number;
  /** The instant at which the latest call of `advance` ends. */
  #target: number;
  /** Sorted by `at`, then by `serial`. */
  readonly #timers: Timer[] = [];
  #serial = 0;

  /** @param start The first instant, in seconds: finite. Default 0. */
  constructor(start = 0) {
    checkNumber('start', 'a finite number', start, -Number.MAX_VALUE, Number.MAX_VALUE);
    this.#now = this.#target = start;
  }

  /** The current instant in seconds. */
  now(): number {
    return this.#now;
  }

  /** The number of armed timers. */
  get pending(): number {
    return this.#timers.length;
  }

  /**
   * Calls `callback` once the clock has advanced by `seconds`.
   *
   * @param seconds >= 0, finite.
   * @returns A function that cancels the timer.
   * @throws {RangeError | TypeError} `seconds` is out of range.
   */
  schedule(seconds: number, callback: () => void): () => void {
    checkNumber('seconds', 'a finite number >= 0', seconds, 0, Number.MAX_VALUE);
    const timer: Timer = { at: this.#now + seconds, serial: this.#serial++, callback };
    this.#timers.splice(this.#indexOf(timer), 0, timer);
    return () => {
      const index = this.#indexOf(timer);
      if (this.#timers[index] === timer) this.#timers.splice(index, 1);
    };
  }

  /**
   * Moves the clock forward by `seconds`. Due timers fire in order, each at its own instant. All promise continuations
   * run between two timers, so timers that they schedule within the span fire too.
   *
   * @param seconds >= 0, finite. `0` fires the timers that are due now.
   * @returns A promise that resolves when the span is over and the last continuation has run. It rejects with a
   *   `RangeError` or `TypeError` for an invalid argument, and with the error that a callback throws.
   */
  async advance(seconds: number): Promise<void> {
    checkNumber('seconds', 'a finite number >= 0', seconds, 0, Number.MAX_VALUE);
    // A second call that starts before the first one ends continues from the end of the first.
    const target = (this.#target += seconds);
    await this.#fireUntil(target);
    if (target > this.#now) this.#now = target;
  }

  /**
   * Fires all armed timers, and the timers that their callbacks arm, until none is armed. The clock ends at the instant
   * of the last timer.
   *
   * @returns A promise that rejects with the error that a callback throws, and after 100,000 timers: a callback that
   *   always schedules the next timer would never end.
   */
  async runAll(): Promise<void> {
    await this.#fireUntil(Infinity, MAX_TIMERS);
    if (this.#now > this.#target) this.#target = this.#now;
  }

  /** The index of `timer`, or the index at which it belongs, by binary search. */
  #indexOf(timer: Timer): number {
    let low = 0;
    for (let high = this.#timers.length; low < high;) {
      const middle = (low + high) >>> 1;
      const other = this.#timers[middle] as Timer;
      if (other.at < timer.at || (other.at === timer.at && other.serial < timer.serial)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  async #fireUntil(target: number, maxTimers = Infinity): Promise<void> {
    await runContinuations();
    for (let fired = 0; ; fired++) {
      const next = this.#timers[0];
      if (next === undefined || next.at > target) return;
      if (fired === maxTimers)
        throw new Error(
          `runAll fired ${maxTimers} timers up to ${this.#now} s and more are armed: a callback keeps arming timers`,
        );
      this.#timers.shift();
      if (next.at > this.#now) this.#now = next.at;
      next.callback();
      await runContinuations();
    }
  }
}

/**
 * Waits for a new task, which starts after all promise continuations that can run now. A message port creates a task on
 * every platform. Fake timers replace setTimeout and setImmediate, but not message ports.
 */
function runContinuations(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.addEventListener('message', () => {
      port1.close();
      resolve();
    });
    port1.start();
    port2.postMessage(undefined);
  });
}
