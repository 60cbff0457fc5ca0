/** Every gate of this process keeps the promises of conformance.ts, and so can one whose answers take a round trip. */
import {
  type AcquireOptions,
  type Gate,
  KeyedThrottle,
  Limiter,
  type Permit,
  Resource,
  Throttle,
  type ThrottleOptions,
} from 'headgate';
import { ManualClock } from 'headgate/testing';
import {
  conformance,
  type Features,
  GRAIN_SECONDS,
  type Settings,
  sleep,
  type Stage,
  stageInRealTime,
  type Subject,
} from './conformance.js';

const features: Features = { rate: true, pause: true, foresight: true };

type Make = (capacity: number, concurrency: number, period: number, options: ThrottleOptions) => Gate;

/** What is made of `settings`, with a clock that the suite moves. */
const byHand = (make: Make, has: Features = features): Subject => ({
  grain: 0,
  features: has,
  async make({ capacity = Infinity, concurrency = 0, period = 1, burst }: Settings): Promise<Stage> {
    const clock = new ManualClock();
    const gate = make(capacity, concurrency, period, { burst, clock });
    return {
      gate,
      elapse: (seconds) => clock.advance(seconds),
      settled: () => clock.advance(0),
      now: () => clock.now(),
    };
  },
});

/** What is made of `settings`, on the system's clock. `latency`: how long it takes to hear of anything. */
const inRealTime = (make: Make, latencyMilliseconds = 0): Subject => ({
  grain: GRAIN_SECONDS,
  features,
  async make({ capacity = Infinity, concurrency = 0, period = 1, burst }: Settings): Promise<Stage> {
    const gate = make(capacity, concurrency, period, { burst });
    return { ...stageInRealTime(gate, latencyMilliseconds), dispose: async () => gate.close() };
  },
});

/** Milliseconds that a question takes, and an answer. */
const TRIP_MILLISECONDS = 2;

/**
 * A gate that lives elsewhere: whatever is asked or told takes a trip there, and every answer one back. Trips take
 * equally long, so what is sent first arrives first: that is all it takes to keep every promise of the suite. What it
 * cannot do is to let the next in before `release` has returned, which nobody can see who hears of it a trip later.
 */
class Remote implements Gate {
  readonly #gate: Gate;

  constructor(gate: Gate) {
    this.#gate = gate;
  }

  async acquire(cost?: number, options?: AcquireOptions): Promise<Permit> {
    await sleep(TRIP_MILLISECONDS);
    try {
      return this.#lend(await this.#gate.acquire(cost, options));
    } finally {
      await sleep(TRIP_MILLISECONDS);
    }
  }

  async tryAcquire(cost?: number): Promise<Permit | undefined> {
    await sleep(TRIP_MILLISECONDS);
    const permit = await this.#gate.tryAcquire(cost);
    await sleep(TRIP_MILLISECONDS);
    return permit && this.#lend(permit);
  }

  async run<T>(fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T> {
    if (typeof fn !== 'function') return this.#gate.run(fn, cost, options);
    await using permit = await this.acquire(cost, options);
    return await fn(permit);
  }

  async pause(seconds?: number): Promise<void> {
    return this.#send(() => this.#gate.pause(seconds));
  }

  async resume(): Promise<void> {
    return this.#send(() => this.#gate.resume());
  }

  async close(reason?: unknown): Promise<void> {
    return this.#send(() => this.#gate.close(reason));
  }

  async #send(message: () => void | Promise<void>): Promise<void> {
    await sleep(TRIP_MILLISECONDS);
    await message();
    await sleep(TRIP_MILLISECONDS);
  }

  /** The permit as it is known here: what is done to it holds here at once, and there a trip later. */
  #lend(there: Permit): Permit {
    let released = false;
    let settled = false;
    let { cost } = there;
    const release = (): void => {
      released = true;
      void sleep(TRIP_MILLISECONDS).then(() => there.release());
    };
    const settle = (actual: number): void => {
      if (typeof actual !== 'number')
        throw new TypeError(`cost must be a finite number >= 0, received ${String(actual)}`);
      if (!(actual >= 0 && actual < Infinity))
        throw new RangeError(`cost must be a finite number >= 0, received ${actual}`);
      if (settled) return;
      settled = true;
      cost = actual;
      void sleep(TRIP_MILLISECONDS).then(() => there.settle(actual));
    };
    return {
      get cost() {
        return cost;
      },
      get released() {
        return released;
      },
      waited: there.waited,
      release,
      settle,
      refund: () => settle(0),
      [Symbol.dispose]: release,
      [Symbol.asyncDispose]: async () => release(),
    };
  }
}

const throttle: Make = (capacity, concurrency, period, options) => new Throttle(capacity, concurrency, period, options);

conformance('a Throttle', byHand(throttle));

conformance('a Throttle in real time', inRealTime(throttle));

conformance(
  'a key of a KeyedThrottle',
  byHand((...limits) => {
    const keyed = new KeyedThrottle(...limits);
    keyed.pause('another key');
    return {
      acquire: (...call) => keyed.acquire('key', ...call),
      tryAcquire: (...call) => keyed.tryAcquire('key', ...call),
      run: (...call) => keyed.run('key', ...call),
      pause: (...call) => keyed.pause('key', ...call),
      resume: () => keyed.resume('key'),
      close: (...call) => keyed.close(...call),
    };
  }),
);

conformance(
  'a Resource',
  byHand((_, concurrency, __, { clock }) => new Resource(concurrency || 1_000, { clock }), {
    ...features,
    rate: false,
  }),
);

conformance(
  'a Limiter of one Throttle',
  byHand((...limits) => {
    const only = throttle(...limits);
    return new Limiter({ timeout: Infinity, resources: [only], clock: limits[3].clock }).resources([only]);
  }),
);

// What has a rate comes last: a start that it allowed is not held up by the next, to happen later beside others.
conformance(
  'a Limiter of a Resource for the slots and a Throttle for the rate',
  byHand((capacity, concurrency, period, options) => {
    const { clock } = options;
    const resources = [new Resource(concurrency || 1_000, { clock }), throttle(capacity, 0, period, options)];
    return new Limiter({ timeout: Infinity, resources, clock }).resources(resources);
  }),
);

conformance(
  'a gate behind a round trip',
  inRealTime((...limits) => new Remote(throttle(...limits)), 20 * TRIP_MILLISECONDS),
);
