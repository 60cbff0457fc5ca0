/** Runs the conformance suite against every gate of this process, and against a gate with a round trip. */
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
  ALL_FEATURES,
  conformance,
  type Features,
  type Fixture,
  realTimeFixture,
  type Settings,
  sleep,
  type Subject,
  TOLERANCE_SECONDS,
} from './index.js';

/** A limiter charges by the names of its gates, and its levels are the levels of its gates. */
const limiterFeatures: Features = { ...ALL_FEATURES, names: false, correct: false };

type CreateGate = (capacity: number, concurrency: number, period: number, options: ThrottleOptions) => Gate;

/** A gate on a clock that the suite moves. */
const onManualClock = (createGate: CreateGate, supported: Features = ALL_FEATURES): Subject => ({
  tolerance: 0,
  features: supported,
  async create({ capacity = Infinity, concurrency = 0, period = 1, ...rest }: Settings): Promise<Fixture> {
    const clock = new ManualClock();
    const gate = createGate(capacity, concurrency, period, { ...rest, clock });
    return {
      gate,
      advance: (seconds) => clock.advance(seconds),
      settled: () => clock.advance(0),
      now: () => clock.now(),
    };
  },
});

/** A gate on the system clock whose callers receive every result within `latencyMilliseconds`. */
const inRealTime = (createGate: CreateGate, latencyMilliseconds = 0, supported: Features = ALL_FEATURES): Subject => ({
  tolerance: TOLERANCE_SECONDS,
  features: supported,
  async create({ capacity = Infinity, concurrency = 0, period = 1, ...rest }: Settings): Promise<Fixture> {
    const gate = createGate(capacity, concurrency, period, rest);
    return { ...realTimeFixture(gate, latencyMilliseconds), dispose: async () => gate.close() };
  },
});

/** The time that a call takes to reach the gate, and that a reply takes to come back. */
const TRIP_MILLISECONDS = 2;

/**
 * A gate behind a simulated network: each call takes a trip there, and each reply a trip back. All trips take equally
 * long, so calls arrive in the order in which they were sent, and the gate keeps every promise of the suite. Unlike a
 * local gate, it grants the next waiter after `release` has returned. A caller cannot observe the difference.
 */
class DelayedGate implements Gate {
  readonly #gate: Gate;

  constructor(gate: Gate) {
    this.#gate = gate;
  }

  async acquire(cost?: number, options?: AcquireOptions): Promise<Permit> {
    await sleep(TRIP_MILLISECONDS);
    try {
      return this.#wrapPermit(await this.#gate.acquire(cost, options));
    } finally {
      await sleep(TRIP_MILLISECONDS);
    }
  }

  async tryAcquire(cost?: number): Promise<Permit | undefined> {
    await sleep(TRIP_MILLISECONDS);
    const permit = await this.#gate.tryAcquire(cost);
    await sleep(TRIP_MILLISECONDS);
    return permit && this.#wrapPermit(permit);
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

  async drain(): Promise<void> {
    return this.#send(() => this.#gate.drain?.());
  }

  async clear(reason?: unknown): Promise<void> {
    return this.#send(() => this.#gate.clear?.(reason));
  }

  async #send(message: () => void | Promise<void> | undefined): Promise<void> {
    await sleep(TRIP_MILLISECONDS);
    await message();
    await sleep(TRIP_MILLISECONDS);
  }

  /** A local view of the permit: release and settle apply here at once, and to the remote permit a trip later. */
  #wrapPermit(remote: Permit): Permit {
    let released = false;
    let settled = false;
    let { cost } = remote;
    const release = (): void => {
      released = true;
      void sleep(TRIP_MILLISECONDS).then(() => remote.release());
    };
    const settle = (actual: number): void => {
      if (typeof actual !== 'number')
        throw new TypeError(`cost must be a finite number >= 0, received ${String(actual)}`);
      if (!(actual >= 0 && actual < Infinity))
        throw new RangeError(`cost must be a finite number >= 0, received ${actual}`);
      if (settled) return;
      settled = true;
      cost = actual;
      void sleep(TRIP_MILLISECONDS).then(() => remote.settle(actual));
    };
    return {
      get cost() {
        return cost;
      },
      get released() {
        return released;
      },
      waited: remote.waited,
      costs: remote.costs,
      slots: remote.slots,
      signal: remote.signal,
      release,
      settle,
      refund: () => settle(0),
      [Symbol.dispose]: release,
      [Symbol.asyncDispose]: async () => release(),
    };
  }
}

const throttle: CreateGate = (capacity, concurrency, period, options) =>
  new Throttle(capacity, concurrency, period, options);

conformance('a Throttle', onManualClock(throttle));

conformance('a Throttle in real time', inRealTime(throttle));

conformance(
  'a key of a KeyedThrottle',
  onManualClock((...limits) => {
    const keyed = new KeyedThrottle(...limits);
    keyed.pause('another key');
    return {
      acquire: (...call) => keyed.acquire('key', ...call),
      tryAcquire: (...call) => keyed.tryAcquire('key', ...call),
      run: (...call) => keyed.run('key', ...call),
      pause: (...call) => keyed.pause('key', ...call),
      resume: () => keyed.resume('key'),
      correct: (...call) => keyed.correct('key', ...call),
      close: (...call) => keyed.close(...call),
      drain: () => keyed.drain(),
      clear: (...call) => keyed.clear(...call),
    };
  }),
);

conformance(
  'a Resource',
  onManualClock((_, concurrency, __, { clock, ttl }) => new Resource(concurrency || 1_000, { clock, ttl }), {
    ...ALL_FEATURES,
    rate: false,
    names: false,
    correct: false,
  }),
);

conformance(
  'a Limiter of one Throttle',
  onManualClock((...limits) => {
    const only = throttle(...limits);
    return new Limiter({ timeout: Infinity, resources: [only], clock: limits[3].clock }).resources([only]);
  }, limiterFeatures),
);

// The resource with the rate comes last: no later resource delays the starts that the rate allowed.
conformance(
  'a Limiter of a Resource for the slots and a Throttle for the rate',
  onManualClock(
    (capacity, concurrency, period, options) => {
      const { clock } = options;
      const resources = [new Resource(concurrency || 1_000, { clock }), throttle(capacity, 0, period, options)];
      return new Limiter({ timeout: Infinity, resources, clock }).resources(resources);
    },
    { ...limiterFeatures, ttl: false },
  ),
);

conformance(
  'a gate behind a round trip',
  inRealTime((...limits) => new DelayedGate(throttle(...limits)), 20 * TRIP_MILLISECONDS, {
    ...ALL_FEATURES,
    names: false,
    correct: false,
    ttl: false,
  }),
);
