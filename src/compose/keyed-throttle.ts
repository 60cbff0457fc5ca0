/**
 * One throttle per key: per user, per host, per API token. A key that equals a new key needs no memory, so its throttle
 * is evicted. A throttle equals a new one when it has no permit out and no waiter, its budget is full, no pause holds,
 * and its limits are the limits of the `KeyedThrottle`. Evicting such a throttle never returns quota early.
 *
 * Eviction uses no timer. An idle throttle reports the instant from which it will equal a new one, `evictableAt`. A
 * heap orders the idle entries by that instant. Every 16th call evicts the entries that are due. An entry that is in
 * use again leaves the heap, and returns to it when it is next idle. The cost is O(log n) per idle period, amortized.
 */
import { type Clock, systemClock } from '../core/clock.js';
import { addDisposal } from '../core/dispose.js';
import { isQueueFullError, QueueFullError } from '../core/errors.js';
import { printable } from '../core/refusals.js';
import { pickOptions } from '../core/option-names.js';
import { readSettings, THROTTLE_SETTINGS } from '../core/settings.js';
import { checkCount, invalid } from '../core/validation.js';
import type { Cost } from '../core/cost.js';
import type { WatchedThrottle } from '../core/events.js';
import type { AcquireOptions, CorrectOptions, KeyedGate } from '../core/gate.js';
import { IdleListeners, type IdleOptions, readBelow } from '../core/idle.js';
import { addInspection, readFields } from '../core/inspect.js';
import type { ThrottlePermit } from '../core/permit.js';
import { Throttle } from '../core/throttle.js';
import { IndexedHeap } from './indexed-heap.js';
import { type EntryOwner, KeyedEntry } from './keyed-entry.js';
import type { KeyedThrottleData, KeyedThrottleOptions, KeyedThrottleSettings } from './keyed-options.js';

/** The default bound: clients may choose the keys, and a client can send any number of different keys. */
const DEFAULT_MAX_KEYS = 100_000;

/**
 * A {@link Throttle} for each key, created on first use and evicted when it equals a new one.
 *
 * @example
 * import { KeyedThrottle } from 'headgate';
 *
 * const perUser = new KeyedThrottle(10, 2);          // for each user 10 per second, 2 at a time
 * await perUser.run('ada', () => console.log('hello')); // → hello
 * console.log(perUser.peek('ada')?.active, perUser.peek('bob')); // → 0 undefined
 */
export class KeyedThrottle<K = string, Name extends string = never> implements KeyedGate<K> {
  /** Calls `close()` and awaits `idle()`, for `await using`. The constructor adds the method, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  /** Distinguishes a keyed gate from a plain gate. */
  readonly keyed = true as const;
  readonly #clock: Clock;
  readonly #maxKeys: number;
  /** Issues no permits. The throttle of each entry copies it. After `close`, it refuses the calls for new keys. */
  readonly #template: Throttle<Name>;
  readonly #entries = new Map<K, KeyedEntry<K, Name>>();
  /** The entries that were idle when last seen, by the instant at which they may be evicted. */
  readonly #evictionQueue = new IndexedHeap<KeyedEntry<K, Name>>();
  readonly #entryOwner: EntryOwner<K, Name>;
  /** The number of waiters of all keys. */
  #waiting = 0;
  /** The callers that wait until the queues of all keys are short. */
  readonly #idleListeners = new IdleListeners();
  #callCount = 0;

  /**
   * @param settings {@link KeyedThrottleSettings}: the limits and the options by name, as for a {@link Throttle}.
   * @throws {RangeError | TypeError} A setting is out of range, or has an unknown name. The message contains its name
   *   and the received value, or the nearest known name.
   *
   * @example
   * import { KeyedThrottle } from 'headgate';
   *
   * const exportLimit = new KeyedThrottle({ concurrency: 2, maxKeys: 10_000 }); // each key: any rate, 2 at a time
   */
  constructor(settings: KeyedThrottleSettings<Name>);
  /**
   * @param capacity Tokens per `period` for each key: > 0; `Infinity` for no rate limit.
   * @param concurrency Jobs at a time for each key: an integer >= 0; `0` (the default) and `Infinity` for no limit.
   * @param period Seconds: > 0, finite. Default 1.
   * @param options {@link KeyedThrottleOptions}
   * @throws {RangeError | TypeError} An argument is out of range, or an option has an unknown name. The message contains
   *   its name and the received value, or the nearest known name.
   */
  constructor(capacity: number, concurrency?: number, period?: number, options?: KeyedThrottleOptions<Name>);
  constructor(...args: readonly unknown[]) {
    const names = [...THROTTLE_SETTINGS, 'maxKeys'] as const;
    const settings = readSettings('KeyedThrottle', names, args) as KeyedThrottleSettings<Name>;
    const { maxKeys = DEFAULT_MAX_KEYS, ...each } = pickOptions(settings, names);
    this.#template = new Throttle<Name>(each);
    addDisposal(KeyedThrottle.prototype, 'asyncDispose', disposeKeyedThrottle);
    addInspection(KeyedThrottle.prototype, 'KeyedThrottle');
    const { clock = systemClock } = each;
    checkCount('maxKeys', maxKeys, 1);
    this.#clock = clock;
    this.#maxKeys = maxKeys;
    this.#entryOwner = {
      onEntryIdle: (entry) => this.#onEntryIdle(entry),
      onResize: (change) => {
        this.#waiting += change;
        this.#idleListeners.notify(false, this.#waiting);
      },
      currentEntry: (entry) => {
        const current = this.#entries.get(entry.key) ?? entry;
        this.#entries.set(entry.key, current);
        return current;
      },
    };
  }

  /** The number of live keys. A key is live until its throttle equals a new one. */
  get size(): number {
    this.#evictDue(Infinity);
    return this.#entries.size;
  }

  /** Tokens per period, for each key. */
  get capacity(): number {
    return this.#template.capacity;
  }

  /** Jobs at a time for each key, as configured: `0` and `Infinity` mean no limit. */
  get concurrency(): number {
    return this.#template.concurrency;
  }

  /** The period in seconds. */
  get period(): number {
    return this.#template.period;
  }

  /** The bucket size of each key, in tokens: the largest cost that a new key grants at once. */
  get burst(): number {
    return this.#template.burst;
  }

  /** The maximum number of live keys. */
  get maxKeys(): number {
    return this.#maxKeys;
  }

  /** The number of permits out, in slots: the sum over all live keys, in O(keys) time. */
  get active(): number {
    let sum = 0;
    for (const { throttle } of this.#entries.values()) sum += throttle.active;
    return sum;
  }

  /** The number of waiters of all keys. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Whether `close` or `drain` was called. */
  get closed(): boolean {
    return this.#template.closed;
  }

  /** The name given in the options. */
  get name(): string | undefined {
    return this.#template.name;
  }

  /** The throttles of the live keys, for `expectIdle` of `headgate/testing`. @internal */
  get watchedByKey(): ReadonlyMap<unknown, WatchedThrottle> {
    return new Map(Array.from(this.#entries, ([key, { throttle }]) => [key, throttle]));
  }

  /** Seconds after which a permit expires; `Infinity` if permits do not expire. @internal */
  get ttl(): number {
    return this.#template.ttl;
  }

  /**
   * Waits for a permit of `key`, like {@link Throttle.acquire}.
   *
   * @param key Any value except `undefined` and `null`. Keys are compared as in a `Map`.
   * @param cost Tokens: finite, from 0 to `burst`. Default 1.
   * @returns A promise that rejects like the promise of {@link Throttle.acquire}, and with a {@link QueueFullError}
   *   when `maxKeys` other keys are live. The method never throws.
   *
   * @example
   * import { KeyedThrottle } from 'headgate';
   *
   * const perHost = new KeyedThrottle(10, 2);
   * const permit = await perHost.acquire('example.com');
   * try {
   *   console.log(perHost.size); // → 1
   * } finally {
   *   permit.release();
   * }
   */
  acquire(key: K, cost: Cost<Name> = 1, options?: AcquireOptions): Promise<ThrottlePermit<Name>> {
    try {
      return this.#throttleOf(key, cost).acquire(cost, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Takes a permit of `key` now, or returns `undefined`. It returns `undefined` when the key's limits allow no job now,
   * when another caller waits for the key, when `maxKeys` other keys are live, and after `close`.
   *
   * @throws {RangeError | TypeError} `key` is `undefined` or `null`, or `cost` is out of range.
   */
  tryAcquire(key: K, cost: Cost<Name> = 1): ThrottlePermit<Name> | undefined {
    try {
      return this.#throttleOf(key, cost).tryAcquire(cost);
    } catch (error) {
      if (isQueueFullError(error)) return undefined;
      throw error;
    }
  }

  /**
   * Waits for a permit of `key`, calls `fn` with the permit, and releases it when the result of `fn` has settled. Works
   * like {@link Throttle.run}.
   *
   * @returns A promise that rejects like the promise of {@link KeyedThrottle.acquire}, or with the error that `fn`
   *   throws. The method never throws.
   */
  run<T>(
    key: K,
    fn: (permit: ThrottlePermit<Name>) => T | PromiseLike<T>,
    cost: Cost<Name> = 1,
    options?: AcquireOptions,
  ): Promise<T> {
    try {
      return this.#throttleOf(key, cost).run(fn, cost, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Grants no permits of `key` for `seconds`, like {@link Throttle.pause}.
   *
   * @param seconds >= 0. Default `Infinity`: until `resume` is called.
   * @throws {RangeError | TypeError} `key` is `undefined` or `null`, or `seconds` is out of range.
   * @throws {QueueFullError} `maxKeys` other keys are live.
   */
  pause(key: K, seconds?: number): void {
    this.#throttleOf(key).pause(seconds);
  }

  /**
   * Sets the tokens at hand of `key`, like {@link Throttle.correct}.
   *
   * @throws {RangeError | TypeError} `key` is `undefined` or `null`, a level is out of range, or a name is unknown.
   * @throws {QueueFullError} `maxKeys` other keys are live.
   */
  correct(key: K, levels: Cost<Name>, options?: CorrectOptions): void {
    this.#throttleOf(key).correct(levels, options);
  }

  /** Ends every pause of `key` now. */
  resume(key: K): void {
    this.#entries.get(key)?.throttle.resume();
  }

  /**
   * The throttle of a live `key`, to read or to `configure`; `undefined` when the key is not live. A throttle whose
   * limits differ from the common limits stays live. Use the throttle at once: after an eviction the key gets another.
   */
  peek(key: K): Throttle<Name> | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || !this.#isEvictable(entry, this.#clock.now())) return entry?.throttle;
    this.#evict(entry);
    return undefined;
  }

  /**
   * Resolves when each key that is live now has no waiter and no permit out. With `below`, resolves once fewer than
   * `below` callers wait for all keys together.
   *
   * @param options {@link IdleOptions}
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a `below` that is not an integer >= 1.
   */
  async idle(options: IdleOptions = {}): Promise<void> {
    const below = readBelow(options);
    if (below === 0) await Promise.all(this.#throttles().map((throttle) => throttle.idle()));
    else if (this.#waiting >= below) await this.#idleListeners.add(below);
  }

  /**
   * Drains all keys, like {@link Throttle.drain}: refuses later calls for every key, and finishes the waiting and the
   * running work.
   *
   * @returns A promise that resolves once no key has a waiter or a permit out. It never rejects.
   */
  async drain(): Promise<void> {
    void this.#template.drain();
    await Promise.all(this.#throttles().map((throttle) => throttle.drain()));
  }

  /** Refuses the waiters of all keys, and stays open, like {@link Throttle.clear}. */
  clear(reason?: unknown): void {
    for (const throttle of this.#throttles()) throttle.clear(reason);
  }

  /** The throttles of all live keys. A copy: a key may come or go meanwhile. */
  #throttles(): Throttle<Name>[] {
    return Array.from(this.#entries.values(), ({ throttle }) => throttle);
  }

  /** The state as plain data, for logs, without the keys. `console.log` shows the same. */
  toJSON(): KeyedThrottleData {
    return readFields(
      this,
      'name capacity concurrency period burst size maxKeys active waiting closed',
    ) as KeyedThrottleData;
  }

  /**
   * Closes all keys permanently. All waiters and all later calls are rejected with a {@link ThrottleClosedError} whose
   * `cause` is `reason`. Running work finishes; {@link KeyedThrottle.idle} awaits it. Only the first call counts.
   */
  close(reason?: unknown): void {
    this.#template.close(reason);
    for (const { throttle } of this.#entries.values()) throttle.close(reason);
  }

  /** The throttle of a key, created if needed. `cost` is given when the caller requests a permit. */
  #throttleOf(key: K, cost?: Cost<Name>): Throttle<Name> {
    // Evicting at every 16th call saves a clock reading in all others. 48 per 16 calls keeps ahead of new keys.
    if ((++this.#callCount & 15) === 0) this.#evictDue(48);
    return this.#entries.get(key)?.throttle ?? this.#addEntry(key, cost);
  }

  #addEntry(key: K, cost: Cost<Name> | undefined): Throttle<Name> {
    if (this.#template.closed) return this.#template;
    if (key === undefined || key === null) throw invalid('key', 'neither undefined nor null', key);
    while (this.#entries.size >= this.#maxKeys) if (!this.#evictDue(16)) throw this.#tooManyKeys(cost);
    const entry = new KeyedEntry(key, this.#entryOwner, this.#template);
    this.#entries.set(key, entry);
    // The new throttle is idle. If the call fails (a bad argument), the next eviction removes the entry.
    this.#onEntryIdle(entry);
    return entry.throttle;
  }

  /** Schedules the eviction of an idle entry. */
  #onEntryIdle(entry: KeyedEntry<K, Name>): void {
    // A caller may still use an evicted throttle that it got from `peek`.
    if (this.#entries.get(entry.key) !== entry) return;
    if (this.#template.closed) this.#evict(entry);
    else this.#evictionQueue.put(entry);
  }

  /** Evicts the due entries that equal new ones. Checks at most `limit` entries. Returns whether any entry was due. */
  #evictDue(limit: number): boolean {
    const now = this.#clock.now();
    let count = 0;
    for (
      let next = this.#evictionQueue.first;
      next !== undefined && next.evictableAt <= now && count < limit;
      next = this.#evictionQueue.first, count++
    ) {
      if (this.#isEvictable(next, now)) this.#evict(next);
      // The entry is in use or has different limits. It calls `onIdle` when that ends.
      else this.#evictionQueue.remove(next);
    }
    return count > 0;
  }

  #evict(entry: KeyedEntry<K, Name>): void {
    this.#entries.delete(entry.key);
    this.#evictionQueue.remove(entry);
  }

  #isEvictable({ throttle, evictableAt }: KeyedEntry<K, Name>, now: number): boolean {
    const template = this.#template;
    return (
      throttle.active === 0 &&
      throttle.waiting === 0 &&
      evictableAt <= now &&
      throttle.capacity === template.capacity &&
      throttle.concurrency === template.concurrency &&
      throttle.period === template.period &&
      throttle.burst === template.burst
    );
  }

  #tooManyKeys(cost: Cost<Name> | undefined): QueueFullError {
    const name = this.name === undefined ? '' : ` ${printable(this.name)}`;
    const error = new QueueFullError(
      `KeyedThrottle${name} has ${this.#maxKeys} keys in use, the maximum (maxKeys); retry later or raise maxKeys`,
    );
    if (cost !== undefined) this.#template.publishRefusal(cost, error);
    return error;
  }
}

function disposeKeyedThrottle<K>(this: KeyedThrottle<K, string>): Promise<void> {
  this.close();
  return this.idle();
}
