/**
 * A throttle for each key, shared through Redis. Redis keeps all state and expires it. A process keeps a key only while
 * one of its callers waits for a permit of the key or holds one.
 */
import { addDisposal } from '../core/dispose.js';
import { checkOptionNames, pickOptions } from '../core/option-names.js';
import { checkObject, invalid } from '../core/validation.js';
import type { Cost } from '../core/cost.js';
import type { WatchedThrottle } from '../core/events.js';
import type { AcquireOptions, CorrectOptions, KeyedGate } from '../core/gate.js';
import { IdleListeners, type IdleOptions, readBelow } from '../core/idle.js';
import { addInspection, readFields } from '../core/inspect.js';
import { KeyedThrottle } from '../compose/keyed-throttle.js';
import type { RedisState } from './inspect.js';
import type { RedisPermit } from './lease.js';
import { KEYED_OPTIONS, localOptions, type RedisKeyedThrottleOptions } from './options.js';
import { type SharedConnection, sharedConnection } from './shared-connection.js';
import type { LocalGate } from './fallback.js';
import { type InternalOptions, RedisThrottle, type RedisThrottleData } from './throttle.js';

/** The state of a {@link RedisKeyedThrottle} in this process: the limits of each key, and the sums over all keys. */
export interface RedisKeyedThrottleData extends Omit<RedisThrottleData, 'key'> {
  /** The number of keys with holders or waiters in this process. The keys are left out: a key may be a secret. */
  size: number;
}

/**
 * A {@link RedisThrottle} for each key: each user, each host, each API token.
 *
 * @example
 * import { RedisKeyedThrottle } from 'headgate/redis';
 *
 * const client = { url: process.env.REDIS_URL ?? 'redis://localhost:6379' };
 * const perUser = new RedisKeyedThrottle({ client, capacity: 10, concurrency: 2 });
 * await perUser.run('ada', () => console.log('hello')); // → hello
 * await perUser.close();
 */
export class RedisKeyedThrottle<Name extends string = never> implements KeyedGate {
  /** Calls `close()`, then `idle()`. The constructor adds the method, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  /** Distinguishes a keyed gate from a gate without keys. */
  readonly keyed = true as const;
  readonly #options: RedisKeyedThrottleOptions;
  readonly #internal: InternalOptions;
  readonly #connection: SharedConnection;
  /** Grants permits while Redis fails. It outlives the throttles of the keys, which are removed when idle. */
  readonly #local: KeyedThrottle<string, string>;
  /** The throttles of the keys with holders or waiters in this process. */
  readonly #throttles = new Map<string, RedisThrottle<string>>();
  /** Holds the checked options. After `close` or `drain`, it rejects the calls of every key. */
  readonly #model: RedisThrottle<string>;
  /** Whether the connection is released once all keys are idle. */
  #isLeaving = false;
  readonly #idleListeners = new IdleListeners();
  /** The number of waiters of all keys in this process. */
  #waiting = 0;

  /**
   * Checks the options. The first call connects to Redis.
   *
   * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
   */
  constructor(options: RedisKeyedThrottleOptions<Name>);
  /** @internal */
  constructor(options: RedisKeyedThrottleOptions<Name>, internal: InternalOptions);
  constructor(options: RedisKeyedThrottleOptions<Name>, internal: InternalOptions = {}) {
    addDisposal(RedisKeyedThrottle.prototype, 'asyncDispose', disposeRedisKeyedThrottle);
    addInspection(RedisKeyedThrottle.prototype, 'RedisKeyedThrottle');
    checkObject('options', options);
    checkOptionNames('new RedisKeyedThrottle', options, KEYED_OPTIONS);
    this.#options = pickOptions<RedisKeyedThrottleOptions, keyof RedisKeyedThrottleOptions>(options, KEYED_OPTIONS);
    this.#model = new RedisThrottle<string>({ ...this.#options, key: 'model' }, { onUnregistered() {} });
    this.#local = new KeyedThrottle<string, string>(localOptions(this.#options));
    this.#internal = internal;
    this.#connection = sharedConnection(this.#options.client);
    this.#connection.retain();
  }

  /** The number of keys with holders or waiters in this process. */
  get size(): number {
    return this.#throttles.size;
  }

  /** The throttles of these keys, for `expectIdle` of `headgate/testing`. @internal */
  get watchedByKey(): ReadonlyMap<unknown, WatchedThrottle> {
    return this.#throttles;
  }

  /** Tokens per period, for each key, as configured in this object. */
  get capacity(): number {
    return this.#model.capacity;
  }

  /** The number of jobs at a time for each key, as configured in this object: `0` and `Infinity` mean any number. */
  get concurrency(): number {
    return this.#model.concurrency;
  }

  /** Seconds. */
  get period(): number {
    return this.#model.period;
  }

  /** The size of the bucket of each key: the cost that can start at once after idle time. */
  get burst(): number {
    return this.#model.burst;
  }

  /** The number of permits of all keys that are held through this object. */
  get held(): number {
    let sum = 0;
    for (const { held } of this.#throttles.values()) sum += held;
    return sum;
  }

  /** The number of callers of this object that wait, for all keys. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Whether `close` or `drain` was called. */
  get closed(): boolean {
    return this.#model.closed;
  }

  /** The name given in the options. */
  get name(): string | undefined {
    return this.#model.name;
  }

  /**
   * Waits for a permit of `key`, as {@link RedisThrottle.acquire} does.
   *
   * @param key A string that is not empty.
   * @returns A promise that rejects as the promise of {@link RedisThrottle.acquire} does. The method never throws.
   */
  acquire(key: string, cost?: Cost<Name>, options?: AcquireOptions): Promise<RedisPermit<Name>> {
    return this.#with(key, (throttle) => throttle.acquire(cost, options));
  }

  /** Takes a permit of `key` if one is free now and no caller waits for one. Otherwise it resolves with `undefined`. */
  tryAcquire(key: string, cost?: Cost<Name>): Promise<RedisPermit<Name> | undefined> {
    return this.#with(key, (throttle) => throttle.tryAcquire(cost));
  }

  /** Waits for a permit of `key`, calls `fn` with it and releases it when the result of `fn` has settled. */
  run<T>(
    key: string,
    fn: (permit: RedisPermit<Name>) => T | PromiseLike<T>,
    cost?: Cost<Name>,
    options?: AcquireOptions,
  ): Promise<T> {
    return this.#with(key, (throttle) => throttle.run(fn, cost, options));
  }

  /** Pauses `key` in all processes, as {@link RedisThrottle.pause} does. */
  pause(key: string, seconds?: number): Promise<void> {
    return this.#with(key, (throttle) => throttle.pause(seconds));
  }

  /** Sets the tokens at hand of `key` in all processes, as {@link RedisThrottle.correct} does. */
  correct(key: string, levels: Cost<Name>, options?: CorrectOptions): Promise<void> {
    return this.#with(key, (throttle) => throttle.correct(levels, options));
  }

  /** Ends every pause of `key` now, in all processes. */
  resume(key: string): Promise<void> {
    return this.#with(key, (throttle) => throttle.resume());
  }

  /** Returns the state of `key` in all processes, as {@link RedisThrottle.inspect} does. */
  inspect(key: string): Promise<RedisState> {
    return this.#withOpen(key, (throttle) => throttle.inspect());
  }

  /** Resets `key` in all processes, as {@link RedisThrottle.reset} does. */
  reset(key: string): Promise<void> {
    return this.#withOpen(key, (throttle) => throttle.reset());
  }

  /**
   * Resolves when no caller of this object waits, the last permit of this object is released, and Redis has confirmed
   * the release. With `below`, resolves once fewer than `below` callers of this object wait, for all keys together.
   *
   * @param options {@link IdleOptions}
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a `below` that is not an integer >= 1.
   */
  async idle(options: IdleOptions = {}): Promise<void> {
    const below = readBelow(options);
    if (below > 0) return this.#waiting < below ? undefined : this.#idleListeners.add(below);
    await this.#forEach((throttle) => throttle.idle());
    // A key leaves the map while its permits are those of the fallback.
    await this.#local.idle();
  }

  /** Closes all keys for good, in this process only, as {@link RedisThrottle.close} does. */
  async close(reason?: unknown): Promise<void> {
    await this.#model.close(reason);
    this.#local.close(reason);
    const closing = this.#forEach((throttle) => throttle.close(reason));
    this.#leave();
    await closing;
  }

  /**
   * Drains all keys, in this process only, as {@link RedisThrottle.drain} does: refuses later calls, and finishes the
   * waiting and the running work.
   */
  async drain(): Promise<void> {
    const draining = [this.#model.drain(), this.#forEach((throttle) => throttle.drain())];
    this.#leave();
    await Promise.all(draining);
    await this.#local.idle();
  }

  /** Refuses the waiters of all keys, in this process only, and stays open, as {@link RedisThrottle.clear} does. */
  async clear(reason?: unknown): Promise<void> {
    this.#local.clear(reason);
    await this.#forEach((throttle) => throttle.clear(reason));
  }

  /** The state in this process as plain data, for logs, without the keys. `console.log` shows the same. */
  toJSON(): RedisKeyedThrottleData {
    return readFields(
      this,
      'name capacity concurrency period burst size held waiting closed',
    ) as RedisKeyedThrottleData;
  }

  #leave(): void {
    if (!this.#isLeaving) void this.idle().then(() => this.#connection.release());
    this.#isLeaving = true;
  }

  /** Calls `action` with the throttles of all keys. */
  async #forEach(action: (throttle: RedisThrottle<string>) => Promise<void>): Promise<void> {
    await Promise.all(Array.from(this.#throttles.values(), action));
  }

  #onResize(change: 1 | -1): void {
    this.#waiting += change;
    if (!this.#idleListeners.isEmpty) queueMicrotask(() => this.#idleListeners.notify(false, this.#waiting));
  }

  /**
   * Not an async function: its extra ticks would delay an `acquire` until after the function of a later `run` starts.
   */
  #with<T>(key: string, call: (throttle: RedisThrottle<Name>) => Promise<T>): Promise<T> {
    try {
      const throttle = this.#throttles.get(key) ?? this.#add(key);
      const result = call(throttle);
      // The call was refused before it was sent.
      if (!throttle.registered) this.#throttles.delete(key);
      return result;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** As `#with`, for methods that work after `close`: they need the throttle of the key, not the closed model. */
  async #withOpen<T>(key: string, call: (throttle: RedisThrottle<Name>) => Promise<T>): Promise<T> {
    return call(this.#throttles.get(key) ?? this.#create(key));
  }

  #add(key: string): RedisThrottle<Name> {
    if (this.closed) return this.#model;
    const throttle = this.#create(key);
    this.#throttles.set(key, throttle);
    return throttle;
  }

  #create(key: string): RedisThrottle<Name> {
    if (typeof key !== 'string') throw invalid('key', 'a string', key);
    const local = this.#local;
    const fallback: LocalGate = {
      acquire: (cost, options) => local.acquire(key, cost, options),
      tryAcquire: (cost) => local.tryAcquire(key, cost),
      pause: (seconds) => local.pause(key, seconds),
      correct: (levels, options) => local.correct(key, levels, options),
      resume: () => local.resume(key),
    };
    const onUnregistered = (): void => {
      // A late settlement can use a removed throttle again; the key may have a new throttle by then.
      if (this.#throttles.get(key) === throttle) this.#throttles.delete(key);
    };
    const throttle = new RedisThrottle<string>(
      { ...this.#options, key },
      { ...this.#internal, fallback, onUnregistered, onResize: (change) => this.#onResize(change) },
    );
    return throttle;
  }
}

async function disposeRedisKeyedThrottle(this: RedisKeyedThrottle<string>): Promise<void> {
  await this.close();
  await this.idle();
}
