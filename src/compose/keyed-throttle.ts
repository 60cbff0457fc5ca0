/**
 * A throttle for each key: each user, each host, each API token. Keys come and go by the million; what is remembered
 * is what matters. A key's throttle is dropped exactly when it cannot be told from a new one: nothing runs, nobody
 * waits, the budget is full, no pause holds, and its limits are those of all. So dropping restores no quota early.
 *
 * No timer does it. A throttle that comes to rest says from which instant it is as good as new. By these instants they
 * are kept in a heap, and now and then a call takes what is due from its top. What was used again meanwhile is let go,
 * and comes back when it rests: so all this is O(log n) for each time that a throttle comes to rest, amortized.
 */
import { EventPublisher } from '../core/events.js';
import { type Clock, systemClock } from '../core/clock.js';
import { addDisposal } from '../core/dispose.js';
import { isQueueFullError, QueueFullError } from '../core/errors.js';
import { printable } from '../core/refusals.js';
import { checkCount, invalid } from '../core/validation.js';
import type { AcquireOptions, KeyedGate } from '../core/gate.js';
import type { Permit } from '../core/permit.js';
import { Throttle, type ThrottleOptions, type ThrottleOwner } from '../core/throttle.js';

/** Settings of a {@link KeyedThrottle}: those of each key's throttle, and how many keys there may be. */
export interface KeyedThrottleOptions extends ThrottleOptions {
  /**
   * How many keys may be live at a time: an integer >= 1, or `Infinity`. Default 100,000, some 100 MB where keys are
   * short. A key is live while it cannot be told from a new one. The next key gets a {@link QueueFullError}. A debt that
   * comes late, for a key that was dropped, is kept all the same.
   */
  maxKeys?: number | undefined;
}

/** How many keys may be live by default: some keys come from clients, and a client can make up any number. */
const DEFAULT_MAX_KEYS = 100_000;

/** What is kept of a key. */
class Entry<K> implements ThrottleOwner {
  readonly key: K;
  readonly throttle: Throttle;
  /** The instant from which it is as good as new. It holds while nothing runs and nothing waits. */
  evictableAt = -Infinity;
  /** Its index in the heap; -1 where it has none. */
  heapIndex = -1;
  readonly #keyed: Keyed<K>;

  constructor(key: K, keyed: Keyed<K>, model: Throttle) {
    this.key = key;
    this.#keyed = keyed;
    this.throttle = new Throttle(model, this);
  }

  onIdle(evictableAt: number): void {
    this.evictableAt = evictableAt;
    this.#keyed.rested(this);
  }

  /** A debt that comes after this was dropped is the key's all the same. */
  currentThrottle(): Throttle {
    return this.#keyed.present(this).throttle;
  }
}

/** What an entry tells, and asks, those that keep it. */
interface Keyed<K> {
  rested(entry: Entry<K>): void;
  /** The entry of its key by now: `entry` itself, kept again, where there is none. */
  present(entry: Entry<K>): Entry<K>;
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
  /** `close()`, then `idle()`: `await using` ends with nothing left running. The constructor adds it, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  /** Tells it from a gate without keys. */
  readonly keyed = true as const;
  readonly #clock: Clock;
  readonly #publisher: EventPublisher;
  readonly #maxKeys: number;
  /** Never used: it has checked the arguments, shows what a new one is like and, once closed, stands for every key. */
  readonly #model: Throttle;
  readonly #entries = new Map<K, Entry<K>>();
  readonly #resting = new Heap<Entry<K>>();
  readonly #keyed: Keyed<K>;
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
    addDisposal(KeyedThrottle.prototype, 'asyncDispose', disposeKeyedThrottle);
    const { maxKeys = DEFAULT_MAX_KEYS, clock = systemClock } = options;
    checkCount('maxKeys', maxKeys, 1);
    this.#clock = clock;
    this.#publisher = new EventPublisher(options.silent === true ? undefined : this.#model, clock);
    this.#maxKeys = maxKeys;
    this.#keyed = {
      rested: (entry) => this.#rested(entry),
      present: (entry) => {
        const present = this.#entries.get(entry.key) ?? entry;
        this.#entries.set(entry.key, present);
        return present;
      },
    };
  }

  /** How many keys are live: their throttles can be told from new ones. */
  get size(): number {
    this.#sweep(Infinity);
    return this.#entries.size;
  }

  /** Tokens per period, for each key. */
  get capacity(): number {
    return this.#model.capacity;
  }

  /** How many run at a time for each key, as it was set: `0` and `Infinity` mean any number. */
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

  /** How many keys may be live at a time. */
  get maxKeys(): number {
    return this.#maxKeys;
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
  acquire(key: K, cost = 1, options?: AcquireOptions): Promise<Permit> {
    try {
      return this.#of(key, cost).acquire(cost, options);
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
  tryAcquire(key: K, cost = 1): Permit | undefined {
    try {
      return this.#of(key, cost).tryAcquire(cost);
    } catch (error) {
      if (isQueueFullError(error)) return undefined;
      throw error;
    }
  }

  /**
   * Waits for a permit of `key`, calls `fn` with it and releases it when what `fn` returned has settled, as
   * {@link Throttle.run} does.
   *
   * @returns A promise that rejects as that of {@link KeyedThrottle.acquire}, or with what `fn` throws. It never throws.
   */
  run<T>(key: K, fn: (permit: Permit) => T | PromiseLike<T>, cost = 1, options?: AcquireOptions): Promise<T> {
    try {
      return this.#of(key, cost).run(fn, cost, options);
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
    this.#entries.get(key)?.throttle.resume();
  }

  /**
   * The throttle of `key`, to look at or to `configure`; `undefined` where it could not be told from a new one. One
   * that was configured is kept. Use it at once: when next asked, it may be another.
   */
  peek(key: K): Throttle | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || !this.#isFresh(entry, this.#clock.now())) return entry?.throttle;
    this.#drop(entry);
    return undefined;
  }

  /** Resolves once nobody waits and every permit is back, for each of the keys that are live now. */
  async idle(): Promise<void> {
    await Promise.all(Array.from(this.#entries.values(), ({ throttle }) => throttle.idle()));
  }

  /**
   * Closes all keys for good: everyone who waits and everyone who comes gets a {@link ThrottleClosedError} with
   * `reason` as its `cause`. Running work finishes; await {@link KeyedThrottle.idle} for that. Only the first call counts.
   */
  close(reason?: unknown): void {
    this.#model.close(reason);
    for (const { throttle } of this.#entries.values()) throttle.close(reason);
  }

  /** The throttle of a key; `cost` is that of the call, where it is for one. */
  #of(key: K, cost?: number): Throttle {
    // Now and then is enough, and spares most calls the reading of the clock.
    if ((++this.#calls & 15) === 0) this.#sweep(48);
    return this.#entries.get(key)?.throttle ?? this.#add(key, cost);
  }

  #add(key: K, cost: number | undefined): Throttle {
    if (this.#model.closed) return this.#model;
    if (key === undefined || key === null) throw invalid('key', 'one that tells callers apart', key);
    while (this.#entries.size >= this.#maxKeys) if (!this.#sweep(16)) throw this.#full(cost);
    const entry = new Entry(key, this.#keyed, this.#model);
    this.#entries.set(key, entry);
    // It rests until it is used. If that fails (a bad argument), it goes with the next sweep.
    this.#rested(entry);
    return entry.throttle;
  }

  /** Sees to it that what is at rest is looked at again at the instant from which it is fresh. */
  #rested(entry: Entry<K>): void {
    // Whoever holds on to what `peek` has shown uses one of their own, once that was dropped.
    if (this.#entries.get(entry.key) !== entry) return;
    if (this.#model.closed) this.#drop(entry);
    else this.#resting.put(entry);
  }

  /** Drops what is fresh, looking at `most` entries. Returns whether any was due. */
  #sweep(most: number): boolean {
    const now = this.#clock.now();
    let count = 0;
    for (
      let next = this.#resting.first;
      next !== undefined && next.evictableAt <= now && count < most;
      next = this.#resting.first, count++
    ) {
      if (this.#isFresh(next, now)) this.#drop(next);
      // It is in use, or has limits of its own. When that ends, it says so itself.
      else this.#resting.remove(next);
    }
    return count > 0;
  }

  #drop(entry: Entry<K>): void {
    this.#entries.delete(entry.key);
    this.#resting.remove(entry);
  }

  #isFresh({ throttle, evictableAt }: Entry<K>, now: number): boolean {
    const model = this.#model;
    return (
      throttle.active === 0 &&
      throttle.waiting === 0 &&
      evictableAt <= now &&
      throttle.capacity === model.capacity &&
      throttle.concurrency === model.concurrency &&
      throttle.period === model.period &&
      throttle.burst === model.burst
    );
  }

  #full(cost: number | undefined): QueueFullError {
    const name = this.name === undefined ? '' : ` ${printable(this.name)}`;
    const error = new QueueFullError(
      `KeyedThrottle${name} has ${this.#maxKeys} keys in use, as many as maxKeys allows; retry later, or allow more`,
    );
    if (cost !== undefined) this.#publisher.refused({}, cost, error);
    return error;
  }
}

function disposeKeyedThrottle<K>(this: KeyedThrottle<K>): Promise<void> {
  this.close();
  return this.idle();
}

/** What a heap orders, and where it has it. */
interface Placed {
  readonly evictableAt: number;
  heapIndex: number;
}

/** A binary heap by `evictableAt`, Williams' of 1964, in which each knows its place, so that it can be moved or taken out. */
class Heap<T extends Placed> {
  readonly #items: T[] = [];

  /** The one with the least `evictableAt`. */
  get first(): T | undefined {
    return this.#items[0];
  }

  /** Puts it where it belongs, be it new, or there already with another `evictableAt`. */
  put(item: T): void {
    this.#sift(item, item.heapIndex < 0 ? this.#items.length : item.heapIndex);
  }

  remove(item: T): void {
    const { heapIndex: place } = item;
    if (place < 0) return;
    item.heapIndex = -1;
    const last = this.#items.pop();
    if (last !== undefined && last !== item) this.#sift(last, place);
  }

  /** Moves `item` from the hole at `place` up or down to where it belongs. */
  #sift(item: T, place: number): void {
    const items = this.#items;
    for (
      let parent;
      place > 0 && item.evictableAt < (items[(parent = (place - 1) >> 1)] as T).evictableAt;
      place = parent
    )
      this.#set(place, items[parent] as T);
    for (let child; (child = 2 * place + 1) < items.length; place = child) {
      if (child + 1 < items.length && (items[child + 1] as T).evictableAt < (items[child] as T).evictableAt) child++;
      if (item.evictableAt <= (items[child] as T).evictableAt) break;
      this.#set(place, items[child] as T);
    }
    this.#set(place, item);
  }

  #set(place: number, item: T): void {
    this.#items[place] = item;
    item.heapIndex = place;
  }
}
