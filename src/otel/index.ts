/**
 * `headgate/otel`: OpenTelemetry metrics of the events that throttles publish (`core/events.ts`). Events are counted
 * when they happen. Values such as the queue length are read when the metrics are collected.
 */
import type { Attributes, BatchObservableResult, MeterProvider } from '@opentelemetry/api';
import {
  granted,
  type GrantedMessage,
  queued,
  refused,
  type RefusedMessage,
  released,
  type ThrottleMessage,
  type WatchedThrottle,
} from '../core/events.js';
import { sizeOf } from '../core/limits.js';
import { invalid } from '../core/validation.js';

/** The name of a rate; `undefined` for the main rate. */
type RateName = string | undefined;

/** The level of a rate, and the level of the rate in an idle throttle. */
interface Level {
  readonly rate: RateName;
  readonly level: number;
  readonly burst: number;
}

/**
 * The throttles of one name. A keyed throttle contributes one throttle per key, so there may be many. A group holds
 * weak references, so it keeps no throttle in memory.
 */
class ThrottleGroup {
  readonly attributes: Attributes;
  /** The throttles that were in use at the latest reading, or have published an event since. */
  readonly #busy = new Set<WeakRef<WatchedThrottle>>();
  /** The throttles in `#busy`. */
  readonly #known = new WeakSet<WatchedThrottle>();
  /** The size of `#busy` after the latest reading. */
  #busyAfterRead = 0;
  /** For each rate: of the idle throttles, the one with the lowest level, and its level at the latest reading. */
  readonly #leastIdle = new Map<RateName, { ref: WeakRef<WatchedThrottle>; level: number }>();

  constructor(name: string | undefined) {
    this.attributes = name === undefined ? {} : { name };
  }

  add(throttle: WatchedThrottle): void {
    if (this.#known.has(throttle)) return;
    this.#known.add(throttle);
    this.#busy.add(new WeakRef(throttle));
    // Bounds the memory even if no reader collects the metrics.
    if (this.#busy.size > 2 * this.#busyAfterRead + 64) this.read();
  }

  /**
   * The sums of `active` and `waiting` over the group, and the lowest level of each rate with a limit. Removes idle
   * throttles from `#busy`.
   */
  read(): { active: number; waiting: number; levels: Map<RateName, number> } {
    const sum = { active: 0, waiting: 0, levels: new Map<RateName, number>() };
    const addLevel = (rate: RateName, level: number): void => {
      if (level < (sum.levels.get(rate) ?? Infinity)) sum.levels.set(rate, level);
    };
    for (const ref of this.#busy) {
      const throttle = ref.deref();
      const { active = 0, held = active, waiting = 0 } = throttle ?? {};
      sum.active += held;
      sum.waiting += waiting;
      const levels = throttle === undefined ? [] : levelsOf(throttle);
      for (const { rate, level } of levels) addLevel(rate, level);
      if (held > 0 || waiting > 0 || levels.some(({ level, burst }) => level < burst)) continue;
      // The next event of an idle throttle adds it again.
      this.#busy.delete(ref);
      if (throttle === undefined) continue;
      this.#known.delete(throttle);
      for (const { rate, level } of levels) {
        if (level <= (this.#leastIdle.get(rate)?.level ?? Number.MAX_VALUE)) this.#leastIdle.set(rate, { ref, level });
      }
    }
    this.#busyAfterRead = this.#busy.size;
    // `configure` and `settle` change the tokens without an event, so the levels are read again.
    for (const [rate, idle] of this.#leastIdle) {
      const throttle = idle.ref.deref();
      if (throttle !== undefined) idle.level = levelsOf(throttle).find((one) => one.rate === rate)?.level ?? Infinity;
      addLevel(rate, idle.level);
    }
    return sum;
  }
}

/** The levels of the main rate and of each named rate, in tokens, with the level of an idle throttle. */
function levelsOf({ tokens = Infinity, burst, levels = {}, also = [] }: WatchedThrottle): Level[] {
  const named = also.flatMap((rate) =>
    rate.name === undefined ? [] : [{ rate: rate.name, level: levels[rate.name] ?? Infinity, burst: sizeOf(rate) }],
  );
  return [{ rate: undefined, level: tokens, burst }, ...named];
}

/** The instrumented providers, with the function that ends the instrumentation of each. */
type Instrumented = WeakMap<MeterProvider, () => void>;

/** The key of the instrumented providers. All copies of the package in a process share them, as they share channels. */
const INSTRUMENTED: unique symbol = Symbol.for('headgate.instrumented') as never;

/**
 * Measures every throttle of this process, including the throttles of all keys and the throttles on Redis. Metrics
 * carry the throttle's `name` as an attribute, and never a key. Throttles with the same name share one series: their
 * numbers are added up, and of their tokens the fewest are reported.
 *
 * - `headgate.wait.duration` (histogram, s): the wait of each granted call, also a wait of 0
 * - `headgate.queue.length` (up-down counter): the calls that wait
 * - `headgate.active` (up-down counter): the permits that are held; on Redis, those that this process holds
 * - `headgate.tokens` (gauge): the available tokens; absent without a rate limit, and on Redis. Each named rate has a
 *   series of its own, with the attribute `rate`
 * - `headgate.refused` (counter): the calls that ended without a permit, with their `reason`, a {@link RefusalReason}
 *
 * A throttle appears with its first event after this call. Use few names: the provider keeps a series for each name. On
 * Redis, a call that awaits the reply counts as a waiting call. On a platform without `node:diagnostics_channel`, only
 * throttles of the same copy of headgate are measured.
 *
 * @param meterProvider The provider of the SDK, or `metrics.getMeterProvider()` of `@opentelemetry/api`. Call the
 *   latter after the SDK is registered, since the default provider measures nothing. A second call with the same
 *   provider has no effect and returns the same function.
 * @returns A function that ends the measurement.
 * @throws {TypeError} `meterProvider` is not a MeterProvider.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { instrument } from 'headgate/otel';
 * import { metrics } from '@opentelemetry/api';
 *
 * const stop = instrument(metrics.getMeterProvider());
 * const throttle = new Throttle(10, 2, 1, { name: 'github' });
 * await throttle.run(() => console.log('measured')); // → measured
 * stop();
 */
export function instrument(meterProvider: MeterProvider): () => void {
  if (typeof meterProvider?.getMeter !== 'function') throw invalid('meterProvider', 'a MeterProvider', meterProvider);
  const instrumented = ((globalThis as { [INSTRUMENTED]?: Instrumented })[INSTRUMENTED] ??= new WeakMap());
  const current = instrumented.get(meterProvider);
  if (current !== undefined) return current;

  const meter = meterProvider.getMeter('headgate');
  const waits = meter.createHistogram('headgate.wait.duration', {
    unit: 's',
    description: 'Wait of each granted call',
    advice: { explicitBucketBoundaries: [0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300] },
  });
  const refusals = meter.createCounter('headgate.refused', {
    unit: '{call}',
    description: 'Calls that ended without a permit',
  });
  const active = meter.createObservableUpDownCounter('headgate.active', {
    unit: '{permit}',
    description: 'Slots in use',
  });
  const waiting = meter.createObservableUpDownCounter('headgate.queue.length', {
    unit: '{call}',
    description: 'Calls waiting for a permit',
  });
  const tokens = meter.createObservableGauge('headgate.tokens', {
    unit: '{token}',
    description: 'Available tokens, the fewest of several throttles',
  });

  const groups = new Map<string | undefined, ThrottleGroup>();
  const addToGroup = ({ throttle, name }: ThrottleMessage): ThrottleGroup => {
    let group = groups.get(name);
    if (group === undefined) groups.set(name, (group = new ThrottleGroup(name)));
    group.add(throttle);
    return group;
  };
  const onGranted = (message: GrantedMessage): void => waits.record(message.waited, addToGroup(message).attributes);
  const onRefused = (message: RefusedMessage): void =>
    refusals.add(1, { ...addToGroup(message).attributes, reason: message.reason });
  const collect = (result: BatchObservableResult): void => {
    for (const group of groups.values()) {
      const values = group.read();
      result.observe(active, values.active, group.attributes);
      result.observe(waiting, values.waiting, group.attributes);
      for (const [rate, level] of values.levels)
        result.observe(tokens, level, rate === undefined ? group.attributes : { ...group.attributes, rate });
    }
  };

  queued.subscribe(addToGroup);
  granted.subscribe(onGranted);
  released.subscribe(addToGroup);
  refused.subscribe(onRefused);
  const observed = [active, waiting, tokens];
  meter.addBatchObservableCallback(collect, observed);
  const stop = (): void => {
    if (instrumented.get(meterProvider) !== stop) return;
    instrumented.delete(meterProvider);
    queued.unsubscribe(addToGroup);
    granted.unsubscribe(onGranted);
    released.unsubscribe(addToGroup);
    refused.unsubscribe(onRefused);
    meter.removeBatchObservableCallback(collect, observed);
  };
  instrumented.set(meterProvider, stop);
  return stop;
}
