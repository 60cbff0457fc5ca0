/** Test doubles and instruments that several files share. */
import { type Clock, type Permit, Throttle, type ThrottleOptions } from 'headgate';
import { ManualClock } from 'headgate/testing';

/** A throttle with a clock of its own. */
export const setUp = (
  capacity = 10,
  concurrency = 0,
  period = 1,
  options: ThrottleOptions = {},
): { clock: ManualClock; throttle: Throttle } => {
  const clock = new ManualClock();
  return { clock, throttle: new Throttle(capacity, concurrency, period, { clock, ...options }) };
};

/** The permit, which has to be there at once. */
export const take = (throttle: Throttle, cost?: number): Permit => {
  const permit = throttle.tryAcquire(cost);
  if (permit === undefined) throw new Error('no permit');
  return permit;
};

/** Bytes on the heap, once what can be collected is. */
export const heap = (): number => {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
};

/** What became of promises, in the order in which it did: `a` for a permit or a result, `a!` for a rejection. */
export class Outcomes {
  readonly order: string[] = [];
  readonly #values = new Map<string, unknown>();

  follow(name: string, promise: Promise<unknown>): void {
    const note = (entry: string, value: unknown): void => {
      this.order.push(entry);
      this.#values.set(name, value);
    };
    promise.then(
      (value) => note(name, value),
      (error: unknown) => note(`${name}!`, error),
    );
  }

  permit(name: string): Permit {
    return this.#values.get(name) as Permit;
  }

  error(name: string): Error {
    return this.#values.get(name) as Error;
  }
}

/** A clock whose reading, and whose timers, need not agree with the time that passes. */
export class SkewedClock implements Clock {
  readonly passing: ManualClock = new ManualClock(100_000);
  /** What the reading is off by. */
  skew = 0;
  /** When a timer for so many seconds really fires. */
  fires = (seconds: number): number => seconds;
  /** All delays asked for. */
  readonly delays: number[] = [];

  now(): number {
    return this.passing.now() + this.skew;
  }

  schedule(seconds: number, callback: () => void): () => void {
    this.delays.push(seconds);
    return this.passing.schedule(this.fires(seconds), callback);
  }
}
