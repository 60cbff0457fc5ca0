/** Throttles, clocks and recorders that several test files share. */
import {
  type Clock,
  KeyedThrottle,
  type KeyedThrottleOptions,
  type Permit,
  Throttle,
  type ThrottleOptions,
} from 'headgate';
import { ManualClock } from 'headgate/testing';

/** A throttle on a manual clock. */
export const setUp = (
  capacity = 10,
  concurrency = 0,
  period = 1,
  options: ThrottleOptions = {},
): { clock: ManualClock; throttle: Throttle } => {
  const clock = new ManualClock();
  return { clock, throttle: new Throttle(capacity, concurrency, period, { clock, ...options }) };
};

/** A keyed throttle on a manual clock. */
export const setUpKeyed = (
  capacity = 10,
  concurrency = 0,
  period = 1,
  options: KeyedThrottleOptions = {},
): { clock: ManualClock; keyed: KeyedThrottle } => {
  const clock = new ManualClock();
  return { clock, keyed: new KeyedThrottle(capacity, concurrency, period, { clock, ...options }) };
};

/** A permit that is available now. Throws if there is none. */
export const take = (throttle: Throttle, cost?: number): Permit => {
  const permit = throttle.tryAcquire(cost);
  if (permit === undefined) throw new Error('no permit');
  return permit;
};

/** Bytes on the heap after garbage collection. */
export const heap = (): number => {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
};

/** Outcomes of promises, in the order in which they settle: `a` for a fulfilled promise, `a!` for a rejected one. */
export class Outcomes {
  readonly order: string[] = [];
  readonly #values = new Map<string, unknown>();

  follow(name: string, promise: Promise<unknown>): void {
    const record = (entry: string, value: unknown): void => {
      this.order.push(entry);
      this.#values.set(name, value);
    };
    promise.then(
      (value) => record(name, value),
      (error: unknown) => record(`${name}!`, error),
    );
  }

  permit(name: string): Permit {
    return this.#values.get(name) as Permit;
  }

  error(name: string): Error {
    return this.#values.get(name) as Error;
  }
}

/** A clock whose reading and whose timers can differ from the true time. */
export class SkewedClock implements Clock {
  readonly passing: ManualClock = new ManualClock(100_000);
  /** Seconds that are added to the reading. */
  skew = 0;
  /** The delay after which a timer for `seconds` really fires. */
  fires = (seconds: number): number => seconds;
  /** The delays of all calls of `schedule`. */
  readonly delays: number[] = [];

  now(): number {
    return this.passing.now() + this.skew;
  }

  schedule(seconds: number, callback: () => void): () => void {
    this.delays.push(seconds);
    return this.passing.schedule(this.fires(seconds), callback);
  }
}
