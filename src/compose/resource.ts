/// <reference lib="esnext.disposable" preserve="true" />
/** A gate without a rate: a throttle with a concurrency limit only. */
import { addDisposal } from '../core/dispose.js';
import type { WatchedThrottle } from '../core/events.js';
import type { Cost } from '../core/cost.js';
import type { AcquireOptions, Gate } from '../core/gate.js';
import type { IdleOptions } from '../core/idle.js';
import { addInspection, readFields, type ThrottleData } from '../core/inspect.js';
import type { MapOptions } from '../core/map.js';
import type { ThrottlePermit } from '../core/permit.js';
import { Throttle } from '../core/throttle.js';
import type { ThrottleOptions } from '../core/throttle-options.js';
import { checkOptionNames } from '../core/option-names.js';
import { checkInteger, checkObject } from '../core/validation.js';

/**
 * A pool of which at most `capacity` units are in use at a time: connections, workers, licences. A gate without a rate.
 *
 * @example
 * import { Resource } from 'headgate';
 *
 * const database = new Resource(10, { name: 'database' });
 * console.log(await database.run(() => database.active)); // → 1
 */
export class Resource implements Gate {
  /** Calls `close()` and awaits `idle()`, for `await using`. The constructor adds the method, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  readonly #throttle: Throttle;

  /**
   * @param capacity The maximum number in use at a time: an integer >= 1.
   * @param options `name`, `maxQueue`, `ttl` and `clock` of {@link ThrottleOptions}.
   * @throws {RangeError | TypeError} An argument is out of range, or an option has an unknown name. The message contains
   *   its name and the received value, or the nearest known name.
   */
  constructor(capacity: number, options: Pick<ThrottleOptions, 'name' | 'maxQueue' | 'ttl' | 'clock'> = {}) {
    checkInteger('capacity', 'an integer >= 1', capacity, 1, Number.MAX_VALUE);
    checkObject('options', options);
    checkOptionNames('new Resource', options, ['name', 'maxQueue', 'ttl', 'clock']);
    const { name, maxQueue, ttl, clock } = options;
    addDisposal(Resource.prototype, 'asyncDispose', disposeResource);
    addInspection(Resource.prototype, 'Resource');
    this.#throttle = new Throttle({ concurrency: capacity, name, maxQueue, ttl, clock });
  }

  /** The maximum number in use at a time. */
  get capacity(): number {
    return this.#throttle.concurrency;
  }

  /** The same number as `capacity`, under the name that a {@link Throttle} uses. */
  get concurrency(): number {
    return this.#throttle.concurrency;
  }

  /** The number in use. */
  get active(): number {
    return this.#throttle.active;
  }

  /** The number of waiters. */
  get waiting(): number {
    return this.#throttle.waiting;
  }

  /** Whether `close` or `drain` was called. */
  get closed(): boolean {
    return this.#throttle.closed;
  }

  /** The name given in the options. */
  get name(): string | undefined {
    return this.#throttle.name;
  }

  /** Like {@link Throttle.acquire}. */
  acquire(cost?: Cost<never>, options?: AcquireOptions): Promise<ThrottlePermit<never>> {
    return this.#throttle.acquire(cost, options);
  }

  /** Like {@link Throttle.tryAcquire}. */
  tryAcquire(cost?: Cost<never>): ThrottlePermit<never> | undefined {
    return this.#throttle.tryAcquire(cost);
  }

  /** Like {@link Throttle.run}. */
  run<T>(
    fn: (permit: ThrottlePermit<never>) => T | PromiseLike<T>,
    cost?: Cost<never>,
    options?: AcquireOptions,
  ): Promise<T> {
    return this.#throttle.run(fn, cost, options);
  }

  /** Like {@link Throttle.pause}. */
  pause(seconds?: number): void {
    this.#throttle.pause(seconds);
  }

  /** Like {@link Throttle.resume}. */
  resume(): void {
    this.#throttle.resume();
  }

  /** Like {@link Throttle.idle}. */
  idle(options?: IdleOptions): Promise<void> {
    return this.#throttle.idle(options);
  }

  /** Like {@link Throttle.drain}. */
  drain(): Promise<void> {
    return this.#throttle.drain();
  }

  /** Like {@link Throttle.clear}. */
  clear(reason?: unknown): void {
    this.#throttle.clear(reason);
  }

  /** Like {@link Throttle.close}. */
  close(reason?: unknown): void {
    this.#throttle.close(reason);
  }

  /** Seconds until the pause ends, like {@link Throttle.pausedFor}. */
  get pausedFor(): number {
    return this.#throttle.pausedFor;
  }

  /** Like {@link Throttle.estimateWait}: 0 seconds, unless the resource is paused. */
  estimateWait(cost?: Cost<never>): number {
    return this.#throttle.estimateWait(cost);
  }

  /** Like {@link Throttle.wrap}. */
  wrap<This, Args extends unknown[], R>(
    fn: (this: This, ...args: Args) => R,
    cost?: Cost<never> | ((...args: Args) => Cost<never>),
  ): (this: This, ...args: Args) => Promise<Awaited<R>> {
    return this.#throttle.wrap(fn, cost);
  }

  /** Like {@link Throttle.map}. */
  map<T, R>(
    items: Iterable<T | PromiseLike<T>> | AsyncIterable<T>,
    fn: (item: T, index: number) => R | PromiseLike<R>,
    options?: MapOptions<T, never>,
  ): Promise<R[]> {
    return this.#throttle.map(items, fn, options);
  }

  /**
   * Changes the maximum number in use at a time, like {@link Throttle.configure}. A lower number revokes no permit.
   *
   * @param limits `capacity`: an integer >= 1. Absent: it stays as it is.
   * @throws {RangeError | TypeError} `capacity` is out of range. Nothing changes then.
   *
   * @example
   * import { Resource } from 'headgate';
   *
   * const workers = new Resource(2);
   * workers.configure({ capacity: 4 });
   * console.log(workers.capacity);                          // → 4
   */
  configure(limits: { capacity?: number | undefined }): void {
    checkObject('limits', limits);
    checkOptionNames('configure', limits, ['capacity']);
    const { capacity = this.capacity } = limits;
    checkInteger('capacity', 'an integer >= 1', capacity, 1, Number.MAX_VALUE);
    this.#throttle.configure({ concurrency: capacity });
  }

  /** The state as plain data, for logs. `console.log` shows the same. A field whose clock throws is left out. */
  toJSON(): Omit<ThrottleData, 'concurrency' | 'period' | 'burst' | 'tokens' | 'levels'> {
    return readFields(this, 'name capacity active waiting pausedFor closed') as ReturnType<Resource['toJSON']>;
  }

  /** The throttle that publishes this resource's events, for `record` of `headgate/testing`. @internal */
  get watched(): WatchedThrottle {
    return this.#throttle;
  }
}

function disposeResource(this: Resource): Promise<void> {
  this.close();
  return this.idle();
}
