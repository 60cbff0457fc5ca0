/**
 * `headgate/testing`: a clock that only a test moves; and what a throttle does, as data (`trace.ts`) and as a picture
 * (`timeline.ts`).
 */
import type { Clock } from '../core/clock.js';
import { checkNumber } from '../core/validation.js';

export { type TimelineOptions, toSVG } from './timeline.js';
export {
  type GrantedEvent,
  type PausedEvent,
  type QueuedEvent,
  record,
  type Recording,
  type RefusedEvent,
  type ReleasedEvent,
  type Trace,
  type TracedCall,
  type TracedEvent,
  type TracedLimits,
  type TraceEvent,
} from './recorder.js';

interface Timer {
  readonly at: number;
  /** Tells timers of the same instant apart, in the order in which they were set. */
  readonly serial: number;
  readonly callback: () => void;
}

/** More timers than this in one `runAll`, and something re-arms itself for ever. */
const MOST_TIMERS = 100_000;

/**
 * A {@link Clock} that stands still until it is told to advance. Pass it to a throttle and test code that waits for
 * minutes in no time at all.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { ManualClock } from 'headgate/testing';
 *
 * const clock = new ManualClock();
 * const throttle = new Throttle(1, 0, 60, { clock });   // one a minute
 * await throttle.run(() => 'first');
 * const second = throttle.run(() => 'second');
 * await clock.advance(60);
 * console.log(await second, clock.now());               // second 60
 */
export class ManualClock implements Clock {
  #now: number;
  #target: number;
  /** In the order in which they fall due. */
  readonly #timers: Timer[] = [];
  #serial = 0;

  /** @param start The first instant, in seconds: finite. Default 0. */
  constructor(start = 0) {
    checkNumber('start', 'a finite number', start, -Number.MAX_VALUE, Number.MAX_VALUE);
    this.#now = this.#target = start;
  }

  /** The present instant in seconds. */
  now(): number {
    return this.#now;
  }

  /** How many timers are armed. */
  get pending(): number {
    return this.#timers.length;
  }

  /**
   * Calls `callback` once the clock has advanced by `seconds`.
   *
   * @param seconds >= 0, finite.
   * @returns A function that prevents it.
   * @throws {RangeError | TypeError} `seconds` is out of range.
   */
  schedule(seconds: number, callback: () => void): () => void {
    checkNumber('seconds', 'a finite number >= 0', seconds, 0, Number.MAX_VALUE);
    const timer: Timer = { at: this.#now + seconds, serial: this.#serial++, callback };
    this.#timers.splice(this.#place(timer), 0, timer);
    return () => {
      const place = this.#place(timer);
      if (this.#timers[place] === timer) this.#timers.splice(place, 1);
    };
  }

  /**
   * Lets `seconds` pass. What falls due fires in order, each at its own instant, with all promise continuations in
   * between, so that whatever they schedule within the span fires too.
   *
   * @param seconds >= 0, finite. `0` fires what is due now.
   * @returns A promise that resolves when the span is over and the last continuation has run. It rejects with a
   *   `RangeError` or `TypeError` for a bad argument, and with whatever a callback throws.
   */
  async advance(seconds: number): Promise<void> {
    checkNumber('seconds', 'a finite number >= 0', seconds, 0, Number.MAX_VALUE);
    // From the end of a call that is still under way: two calls in a row add up, awaited or not.
    const target = (this.#target += seconds);
    await this.#fireUntil(target);
    if (target > this.#now) this.#now = target;
  }

  /**
   * Fires everything that is armed, and what that arms, until nothing is. The clock ends at the last instant.
   *
   * @returns A promise that rejects after 100,000 timers, since then something re-arms itself for ever.
   */
  async runAll(): Promise<void> {
    await this.#fireUntil(Infinity, MOST_TIMERS);
    if (this.#now > this.#target) this.#target = this.#now;
  }

  /** Where `timer` stands in the order, or would stand: found by bisection. */
  #place(timer: Timer): number {
    let low = 0;
    for (let high = this.#timers.length; low < high;) {
      const middle = (low + high) >>> 1;
      const other = this.#timers[middle] as Timer;
      if (other.at < timer.at || (other.at === timer.at && other.serial < timer.serial)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  async #fireUntil(target: number, most = Infinity): Promise<void> {
    await continuations();
    for (let fired = 0; ; fired++) {
      const next = this.#timers[0];
      if (next === undefined || next.at > target) return;
      if (fired === most)
        throw new Error(
          `runAll fired ${most} timers up to ${this.#now} s and more are armed: something re-arms itself for ever`,
        );
      this.#timers.shift();
      if (next.at > this.#now) this.#now = next.at;
      next.callback();
      await continuations();
    }
  }
}

/**
 * Lets every promise continuation run that can: a task of its own comes after all of them. A message port makes one
 * everywhere and, unlike setTimeout and setImmediate, no fake timers replace it.
 */
function continuations(): Promise<void> {
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
