/**
 * A throttle for each key, shared through Redis. All that is remembered is there, and vanishes there; here a key is
 * known only while somebody waits or holds.
 */
import { addDisposal } from '../core/dispose.js';
import { invalid } from '../core/validation.js';
import type { AcquireOptions, KeyedGate } from '../core/gate.js';
import { KeyedThrottle } from '../compose/keyed-throttle.js';
import { type Hub, hubOf } from './shared-connection.js';
import type { RedisPermit } from './lease.js';
import { type Inside, type Local, type RedisKeyedThrottleOptions, type RedisState, RedisThrottle } from './throttle.js';

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
export class RedisKeyedThrottle implements KeyedGate {
  /** `close()`, then `idle()`: `await using` ends with nothing left running. The constructor adds it, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  /** Tells it from a gate without keys. */
  readonly keyed = true as const;
  readonly #options: RedisKeyedThrottleOptions;
  readonly #inside: Inside;
  readonly #hub: Hub;
  /** Decides while Redis fails, for as long as it matters: a key's throttle comes and goes. */
  readonly #local: KeyedThrottle;
  readonly #throttles = new Map<string, RedisThrottle>();
  /** Never used: it has checked the options and, once closed, stands for every key. */
  readonly #model: RedisThrottle;

  /**
   * Connects to nothing yet.
   *
   * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
   */
  constructor(options: RedisKeyedThrottleOptions);
  /** @internal */
  constructor(options: RedisKeyedThrottleOptions, inside: Inside);
  constructor(options: RedisKeyedThrottleOptions, inside: Inside = {}) {
    addDisposal(RedisKeyedThrottle.prototype, 'asyncDispose', disposeRedisKeyedThrottle);
    this.#model = new RedisThrottle({ ...options, key: 'model' }, { rested() {} });
    const { capacity = Infinity, concurrency, period, burst, maxQueue, name, clock } = options;
    this.#local = new KeyedThrottle(capacity, concurrency, period, { burst, maxQueue, name, clock, silent: true });
    this.#options = { ...options };
    this.#inside = inside;
    this.#hub = hubOf(options.client);
    this.#hub.join();
  }

  /** How many keys somebody waits for or holds here. */
  get size(): number {
    return this.#throttles.size;
  }

  /** Tokens per period, for each key, as it was configured here. */
  get capacity(): number {
    return this.#model.capacity;
  }

  /** How many run at a time for each key, as it was configured here: `0` and `Infinity` mean any number. */
  get concurrency(): number {
    return this.#model.concurrency;
  }

  /** Seconds. */
  get period(): number {
    return this.#model.period;
  }

  /** What may start at once after silence, for each key. */
  get burst(): number {
    return this.#model.burst;
  }

  /** Whether `close` was called. */
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
   * @returns A promise that rejects as that of {@link RedisThrottle.acquire}. It never throws.
   */
  acquire(key: string, cost?: number, options?: AcquireOptions): Promise<RedisPermit> {
    return this.#with(key, (throttle) => throttle.acquire(cost, options));
  }

  /** Takes a permit of `key` if that is possible now and nobody waits for one, else resolves with `undefined`. */
  tryAcquire(key: string, cost?: number): Promise<RedisPermit | undefined> {
    return this.#with(key, (throttle) => throttle.tryAcquire(cost));
  }

  /** Waits for a permit of `key`, calls `fn` with it and releases it when what `fn` returned has settled. */
  run<T>(
    key: string,
    fn: (permit: RedisPermit) => T | PromiseLike<T>,
    cost?: number,
    options?: AcquireOptions,
  ): Promise<T> {
    return this.#with(key, (throttle) => throttle.run(fn, cost, options));
  }

  /** Holds everyone who waits or comes with `key`, in all processes, as {@link RedisThrottle.pause} does. */
  pause(key: string, seconds?: number): Promise<void> {
    return this.#with(key, (throttle) => throttle.pause(seconds));
  }

  /** Ends every pause of `key` now, in all processes. */
  resume(key: string): Promise<void> {
    return this.#with(key, (throttle) => throttle.resume());
  }

  /** The state of `key` in all processes, as {@link RedisThrottle.inspect} tells it. */
  inspect(key: string): Promise<RedisState> {
    return this.#look(key, (throttle) => throttle.inspect());
  }

  /** Forgets all of `key`, in all processes, as {@link RedisThrottle.reset} does. */
  reset(key: string): Promise<void> {
    return this.#look(key, (throttle) => throttle.reset());
  }

  /** Resolves once nobody waits here, the last permit of this object is back, and Redis knows. */
  async idle(): Promise<void> {
    await Promise.all([this.#local.idle(), ...Array.from(this.#throttles.values(), (throttle) => throttle.idle())]);
  }

  /** Closes all keys for good, in this process alone, as {@link RedisThrottle.close} does. */
  async close(reason?: unknown): Promise<void> {
    if (this.closed) return;
    await this.#model.close(reason);
    this.#local.close(reason);
    const closing = Array.from(this.#throttles.values(), (throttle) => throttle.close(reason));
    void this.idle().then(() => this.#hub.quit());
    await Promise.all(closing);
  }

  /** Not an async function: with a few ticks more, an `acquire` would be seen to come after the `run` behind it. */
  #with<T>(key: string, use: (throttle: RedisThrottle) => Promise<T>): Promise<T> {
    try {
      const throttle = this.#throttles.get(key) ?? this.#add(key);
      const result = use(throttle);
      // It was refused before it began.
      if (throttle.rests) this.#throttles.delete(key);
      return result;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** As `#with`, for what a closed throttle does as well: of that very key, not of what stands for it. */
  async #look<T>(key: string, use: (throttle: RedisThrottle) => Promise<T>): Promise<T> {
    return use(this.#throttles.get(key) ?? this.#make(key));
  }

  #add(key: string): RedisThrottle {
    if (this.closed) return this.#model;
    const throttle = this.#make(key);
    this.#throttles.set(key, throttle);
    return throttle;
  }

  #make(key: string): RedisThrottle {
    if (typeof key !== 'string') throw invalid('key', 'a string', key);
    const local = this.#local;
    const own: Local = {
      acquire: (cost, options) => local.acquire(key, cost, options),
      tryAcquire: (cost) => local.tryAcquire(key, cost),
      pause: (seconds) => local.pause(key, seconds),
      resume: () => local.resume(key),
    };
    const rested = (): void => {
      // It may have been used again, by a late settlement, when another has its place.
      if (this.#throttles.get(key) === throttle) this.#throttles.delete(key);
    };
    const throttle = new RedisThrottle({ ...this.#options, key }, { ...this.#inside, local: own, rested });
    return throttle;
  }
}

async function disposeRedisKeyedThrottle(this: RedisKeyedThrottle): Promise<void> {
  await this.close();
  await this.idle();
}
