/**
 * A throttle for each key: each user, each host, each API token. Keys come and go by the million; what is remembered
 * is what matters. A key's throttle is dropped exactly when it cannot be told from a new one: nothing runs, nobody
 * waits, the budget is full, no pause holds, and its limits are those of all. So dropping restores no quota early.
 *
 * No timer does it. A throttle that comes to rest says from which instant it is as good as new. These instants are
 * kept in a heap, one for each throttle, and calls take what is due from its top, a few at a time.
 */
import { type Clock, systemClock } from './clock.js';
import { checkCount, invalid, QueueFullError } from './errors.js';
import type { AcquireOptions, KeyedGate } from './gate.js';
import type { Grant, Permit } from './permit.js';
import { Throttle, type ThrottleOptions } from './throttle.js';

/** Settings of a {@link KeyedThrottle}: those of each key's throttle, and how many keys there may be. */
export interface KeyedThrottleOptions extends ThrottleOptions {
  /** How many keys may be live at a time: an integer >= 1, or `Infinity`, the default. The next gets a {@link QueueFullError}. */
  maxKeys?: number | undefined;
}

/** The throttle of one key. */
class KeyThrottle<K> extends Throttle {
  readonly key: K;
  /** The instant from which it is as good as new. It holds while nothing runs and nobody waits. */
  freshFrom = -Infinity;
  /** The instant for which it is in the heap; Infinity where it is not. */
  dueAt = Infinity;
  readonly #keyed: Keyed<K>;

  constructor(key: K, keyed: Keyed<K>, capacity: number, concurrency: number, period: number, options: ThrottleOptions) {
    super(capacity, concurrency, period, options);
    this.key = key;
    this.#keyed = keyed;
  }

  protected override rested(freshFrom: number): void {
    this.freshFrom = freshFrom;
    this.#keyed.rested(this);
  }

  /** A debt that comes after this was dropped is the key's all the same. What would come back is there already. */
  protected override settled(permit: Grant, difference: number): void {
    const present = this.#keyed.present(this, difference > 0);
    if (present === this) super.settled(permit, difference);
    else if (difference > 0) present.settled(permit, difference);
  }
}

/** What a key's throttle tells, and asks, those that keep it. */
interface Keyed<K> {
  rested(throttle: KeyThrottle<K>): void;
  /** The key's throttle by now; `throttle` itself, kept again if need be, where there is none. */
  present(throttle: KeyThrottle<K>, keep: boolean): KeyThrottle<K>;
}

/**
 * A {@link Throttle} for each key, made when it is first needed and forgotten once it makes no difference.
 *
 * @example
 * import { KeyedThrottle } from 'headgate';
 *
 * const perUser = new KeyedThrottle(10, 2);          // for each user 10 per second, 2 at a time
 * await perUser.run('ada', () => console.log('hello')); // → hello
 * console.log(perUser.peek('ada')?.active, perUser.peek('bob')); // → 0 undefined
 */
export class KeyedThrottle<K = string> implements KeyedGate<K> {
  /** Tells it from a gate without keys. */
  readonly keyed = true as const;
  readonly #capacity: number;
  readonly #concurrency: number;
  readonly #period: number;
  readonly #options: KeyedThrottleOptions;
  readonly #clock: Clock;
  readonly #maxKeys: number;
  /** Never used: it has checked the arguments, shows what a new one is like and, once closed, stands for every key. */
  readonly #model: Throttle;
  readonly #throttles = new Map<K, KeyThrottle<K>>();
  readonly #resting = new Heap<KeyThrottle<K>>();
  readonly #keeper: Keyed<K>;
  #calls = 0;

  /**
   * @param capacity Tokens per `period` for each key: > 0; `Infinity` for no rate limit.
   * @param concurrency How many at a time for each key: an integer >= 0; `0` (the default) and `Infinity` for any number.
   * @param period Seconds: > 0, finite. Default 1.
   * @param options {@link KeyedThrottleOptions}
   * @throws {RangeError | TypeError} An argument is out of range; the message names it and the value received.
   */
  constructor(capacity: number, concurrency = 0, period = 1, options: KeyedThrottleOptions = {}) {
    this.#model = new Throttle(capacity, concurrency, period, options);
    const { maxKeys = Infinity, clock = systemClock } = options;
    checkCount('maxKeys', maxKeys, 1);
    this.#capacity = capacity;
    this.#concurrency = concurrency;
    this.#period = period;
    this.#options = { ...options };
    this.#clock = clock;
    this.#maxKeys = maxKeys;
    this.#keeper = {
      rested: (throttle) => this.#rested(throttle),
      present: (throttle, keep) => {
        const present = this.#throttles.get(throttle.key);
        if (present === undefined && keep) this.#throttles.set(throttle.key, throttle);
        return present ?? throttle;
      },
    };
  }

  /** How many keys are live: their throttles can be told from new ones. */
  get size(): number {
    this.#sweep(Infinity);
    return this.#throttles.size;
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
   * Waits for a permit of `key`, as {@link Throttle.acquire} does.
   *
   * @param key Anything that tells one from another, as in a `Map`, but `undefined` and `null`.
   * @param cost Tokens: finite, from 0 to `burst`. Default 1.
   * @returns A promise that rejects as that of {@link Throttle.acquire}, and with a {@link QueueFullError} when
   *   `maxKeys` other keys are live. It never throws.
   *
   * @example
   * import { KeyedThrottle } from 'headgate';
   *
   * const perHost = new KeyedThrottle(10, 2);
   * {
   *   await using _ = await perHost.acquire('example.com');
   *   console.log(perHost.size); // → 1
   * }
   */
  acquire(key: K, cost?: number, options?: AcquireOptions): Promise<Permit> {
    try {
      return this.#of(key).acquire(cost, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Takes a permit of `key` if that is possible now, nobody waits for one and there is room for the key, else returns
   * `undefined`; so it does once closed.
   *
   * @throws {RangeError | TypeError} `key` is nothing, or `cost` out of range.
   */
  tryAcquire(key: K, cost?: number): Permit | undefined {
    try {
      return this.#of(key).tryAcquire(cost);
    } catch (error) {
      if (error instanceof QueueFullError) return undefined;
      throw error;
    }
  }

  /**
   * Waits for a permit of `key`, calls `fn` with it and releases it when what `fn` returned has settled, as
   * {@link Throttle.run} does.
   *
   * @returns A promise that rejects as that of {@link KeyedThrottle.acquire}, or with what `fn` throws. It never throws.
   */
  run<T>(key: K, fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T> {
    try {
      return this.#of(key).run(fn, cost, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Holds everyone who waits or comes with `key`, as {@link Throttle.pause} does.
   *
   * @param seconds >= 0. Default `Infinity`: until `resume`.
   * @throws {RangeError | TypeError} `key` is nothing, or `seconds` out of range.
   * @throws {QueueFullError} `maxKeys` other keys are live.
   */
  pause(key: K, seconds?: number): void {
    this.#of(key).pause(seconds);
  }

  /** Ends every pause of `key` now. */
  resume(key: K): void {
    this.#throttles.get(key)?.resume();
  }

  /**
   * The throttle of `key`, to look at or to `configure`; `undefined` where it could not be told from a new one. One
   * that was configured is kept. Use it at once: when next asked, it may be another.
   */
  peek(key: K): Throttle | undefined {
    const throttle = this.#throttles.get(key);
    if (throttle === undefined || !this.#isFresh(throttle, this.#clock.now())) return throttle;
    this.#throttles.delete(key);
    return undefined;
  }

  /** Resolves once nobody waits and every permit is back, for each of the keys that are live now. */
  async idle(): Promise<void> {
    await Promise.all(Array.from(this.#throttles.values(), (throttle) => throttle.idle()));
  }

  /**
   * Closes all keys for good: everyone who waits and everyone who comes gets a {@link ThrottleClosedError} with
   * `reason` as its `cause`. Running work finishes; await {@link KeyedThrottle.idle} for that. Only the first call counts.
   */
  close(reason?: unknown): void {
    this.#model.close(reason);
    for (const throttle of this.#throttles.values()) throttle.close(reason);
  }

  /** `close()`, then `idle()`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return this.idle();
  }

  #of(key: K): Throttle {
    // Now and then is enough, and spares most calls the reading of the clock.
    if ((++this.#calls & 15) === 0) this.#sweep(48);
    return this.#throttles.get(key) ?? this.#add(key);
  }

  #add(key: K): Throttle {
    if (this.#model.closed) return this.#model;
    if (key === undefined || key === null) throw invalid('key', 'one that tells callers apart', key);
    while (this.#throttles.size >= this.#maxKeys) if (!this.#sweep(16)) throw this.#full();
    const throttle = new KeyThrottle(key, this.#keeper, this.#capacity, this.#concurrency, this.#period, this.#options);
    this.#throttles.set(key, throttle);
    // It rests until it is used. If that fails (a bad argument), it goes with the next sweep.
    this.#rested(throttle);
    return throttle;
  }

  /** Sees to it that a throttle at rest is looked at again, not later than it is fresh. */
  #rested(throttle: KeyThrottle<K>): void {
    if (this.#model.closed) this.#drop(throttle);
    else if (throttle.freshFrom < throttle.dueAt) this.#resting.push((throttle.dueAt = throttle.freshFrom), throttle);
  }

  /** Drops what is fresh, looking at `most` throttles. Returns whether any was due. */
  #sweep(most: number): boolean {
    const now = this.#clock.now();
    const due = this.#resting.least <= now;
    for (let count = 0; count < most && this.#resting.least <= now; count++) {
      const at = this.#resting.least;
      const throttle = this.#resting.pop();
      // It was due earlier, and was looked at then.
      if (throttle.dueAt !== at) continue;
      throttle.dueAt = Infinity;
      if (this.#isFresh(throttle, now)) this.#drop(throttle);
      // Used in the meantime. Where it is in use, or has limits of its own, it says so itself when that ends.
      else if (throttle.freshFrom > now) this.#rested(throttle);
    }
    return due;
  }

  /** One that was dropped before may not take the present one of its key along. */
  #drop(throttle: KeyThrottle<K>): void {
    if (this.#throttles.get(throttle.key) === throttle) this.#throttles.delete(throttle.key);
  }

  #isFresh(throttle: KeyThrottle<K>, now: number): boolean {
    const model = this.#model;
    return (
      throttle.active === 0 && throttle.waiting === 0 && throttle.freshFrom <= now &&
      throttle.capacity === model.capacity && throttle.concurrency === model.concurrency &&
      throttle.period === model.period && throttle.burst === model.burst
    );
  }

  #full(): QueueFullError {
    const next = this.#resting.least - this.#clock.now();
    const name = this.name === undefined ? '' : ` "${this.name}"`;
    const hint = next < Infinity ? `retry in ${Number(next.toPrecision(3))} s or later` : 'retry when a running job has ended';
    return new QueueFullError(`KeyedThrottle${name} has ${this.#maxKeys} keys in use, as many as maxKeys allows; ${hint}`, {
      retryAfter: next < Infinity ? next : undefined,
    });
  }
}

/** A binary heap: Williams' of 1964. */
class Heap<T> {
  readonly #keys: number[] = [];
  readonly #values: T[] = [];

  /** The least key; Infinity where there is none. */
  get least(): number {
    return this.#keys[0] ?? Infinity;
  }

  push(key: number, value: T): void {
    let index = this.#keys.length;
    for (let parent; index > 0 && key < (this.#keys[(parent = (index - 1) >> 1)] as number); index = parent) this.#move(parent, index);
    this.#keys[index] = key;
    this.#values[index] = value;
  }

  /** Takes out the value of the least key. There has to be one. */
  pop(): T {
    const least = this.#values[0] as T;
    const key = this.#keys.pop() as number;
    const value = this.#values.pop() as T;
    const { length } = this.#keys;
    if (length === 0) return least;
    let index = 0;
    for (let child; (child = 2 * index + 1) < length; index = child) {
      if (child + 1 < length && (this.#keys[child + 1] as number) < (this.#keys[child] as number)) child++;
      if (key <= (this.#keys[child] as number)) break;
      this.#move(child, index);
    }
    this.#keys[index] = key;
    this.#values[index] = value;
    return least;
  }

  #move(from: number, to: number): void {
    this.#keys[to] = this.#keys[from] as number;
    this.#values[to] = this.#values[from] as T;
  }
}
