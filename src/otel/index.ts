/**
 * `headgate/otel`: what throttles tell (`channels.ts`), as metrics of OpenTelemetry. Events are counted as they come;
 * what has a value at any instant is read when the metrics are collected.
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
import { invalid } from '../core/validation.js';

/** The throttles of one name, which may be as many as there are keys. Nobody is kept alive by being watched. */
class Group {
  readonly attributes: Attributes;
  /** Those that were not at rest when last looked at. */
  readonly #busy = new Set<WeakRef<WatchedThrottle>>();
  readonly #known = new WeakSet<WatchedThrottle>();
  /** How many of them were left when all were looked at. */
  #left = 0;
  /** Of those at rest, the one that has the fewest tokens then, and how many. */
  #resting: WeakRef<WatchedThrottle> | undefined;
  #atRest = Infinity;

  constructor(name: string | undefined) {
    this.attributes = name === undefined ? {} : { name };
  }

  add(throttle: WatchedThrottle): void {
    if (this.#known.has(throttle)) return;
    this.#known.add(throttle);
    this.#busy.add(new WeakRef(throttle));
    // Also where nobody collects.
    if (this.#busy.size > 2 * this.#left + 64) this.read();
  }

  /** The sums over all of them, and the tokens of the one that has the fewest. */
  read(): { active: number; waiting: number; tokens: number } {
    const sum = { active: 0, waiting: 0, tokens: Infinity };
    for (const ref of this.#busy) {
      const throttle = ref.deref();
      const { active = 0, held = active, waiting = 0, tokens = Infinity, burst = Infinity } = throttle ?? {};
      sum.active += held;
      sum.waiting += waiting;
      sum.tokens = Math.min(sum.tokens, tokens);
      if (held > 0 || waiting > 0 || tokens < burst) continue;
      // It is told of again as soon as it does something.
      this.#busy.delete(ref);
      if (throttle === undefined) continue;
      this.#known.delete(throttle);
      if (tokens > this.#atRest || tokens === Infinity) continue;
      this.#resting = ref;
      this.#atRest = tokens;
    }
    this.#left = this.#busy.size;
    // Its limits may have been changed, or a cost settled, of which nobody is told.
    const { tokens = this.#atRest } = this.#resting?.deref() ?? {};
    this.#atRest = tokens;
    sum.tokens = Math.min(sum.tokens, tokens);
    return sum;
  }
}

/** How each provider is served, and by what that ends. */
const served = new WeakMap<MeterProvider, () => void>();

/**
 * Counts and measures every throttle of this process, those of all keys and those on Redis included, by the throttle's
 * `name`; never by key. Those of one name are one: their numbers are added up, but for the tokens.
 *
 * - `headgate.wait.duration` (histogram, s): how long whoever got a permit had waited for it, also where that is 0
 * - `headgate.queue.length` (up-down counter): how many wait
 * - `headgate.active` (up-down counter): how many permits are out; on Redis, those that this process holds
 * - `headgate.tokens` (gauge): the tokens at hand, of several throttles the fewest; not without a bound, nor on Redis
 * - `headgate.refused` (counter): calls that ended without a permit, with their `reason`, a {@link RefusalReason}
 *
 * A throttle is seen from the first event on that it tells after this call. Names should be few: what was counted under
 * one is kept for as long as the provider. On Redis, a call that waits for its answer counts as one that waits. Where the
 * platform has no `node:diagnostics_channel`, there is one for this copy of headgate alone.
 *
 * @param meterProvider That of the SDK, or `metrics.getMeterProvider()` of `@opentelemetry/api` once the SDK is registered:
 *   before that, nobody measures. Given twice, it is served once.
 * @returns A function that ends it.
 * @throws {TypeError} `meterProvider` is none.
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
  const present = served.get(meterProvider);
  if (present !== undefined) return present;

  const meter = meterProvider.getMeter('headgate');
  const waits = meter.createHistogram('headgate.wait.duration', {
    unit: 's',
    description: 'How long whoever got a permit had waited for it',
    advice: { explicitBucketBoundaries: [0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300] },
  });
  const refusals = meter.createCounter('headgate.refused', {
    unit: '{call}',
    description: 'Calls that ended without a permit',
  });
  const active = meter.createObservableUpDownCounter('headgate.active', {
    unit: '{permit}',
    description: 'Permits that are out',
  });
  const waiting = meter.createObservableUpDownCounter('headgate.queue.length', {
    unit: '{call}',
    description: 'Calls that wait for a permit',
  });
  const tokens = meter.createObservableGauge('headgate.tokens', {
    unit: '{token}',
    description: 'Tokens at hand, of several throttles the fewest',
  });

  const groups = new Map<string | undefined, Group>();
  const see = ({ throttle, name }: ThrottleMessage): Group => {
    let group = groups.get(name);
    if (group === undefined) groups.set(name, (group = new Group(name)));
    group.add(throttle);
    return group;
  };
  const onGranted = (message: GrantedMessage): void => waits.record(message.waited, see(message).attributes);
  const onRefused = (message: RefusedMessage): void =>
    refusals.add(1, { ...see(message).attributes, reason: message.reason });
  const collect = (result: BatchObservableResult): void => {
    for (const group of groups.values()) {
      const now = group.read();
      result.observe(active, now.active, group.attributes);
      result.observe(waiting, now.waiting, group.attributes);
      if (now.tokens < Infinity) result.observe(tokens, now.tokens, group.attributes);
    }
  };

  queued.subscribe(see);
  granted.subscribe(onGranted);
  released.subscribe(see);
  refused.subscribe(onRefused);
  const observed = [active, waiting, tokens];
  meter.addBatchObservableCallback(collect, observed);
  const stop = (): void => {
    if (served.get(meterProvider) !== stop) return;
    served.delete(meterProvider);
    queued.unsubscribe(see);
    granted.unsubscribe(onGranted);
    released.unsubscribe(see);
    refused.unsubscribe(onRefused);
    meter.removeBatchObservableCallback(collect, observed);
  };
  served.set(meterProvider, stop);
  return stop;
}
