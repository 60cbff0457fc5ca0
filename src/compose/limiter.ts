/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Several gates for one piece of work: a database and a disk, a queue and a quota. They are acquired one after another
 * in one order, the same for everybody, so that two who need both can never hold one each and wait for the other. That
 * holds for what a handler asks for at once: one that holds some and calls another that needs more is on its own.
 * That order is Dijkstra's hierarchy of resources, of 1965; it is checked when a handler is defined, not when it hangs.
 */
import type { WatchedThrottle } from '../core/events.js';
import { type Clock, systemClock } from '../core/clock.js';
import { addDisposal, dispose } from '../core/dispose.js';
import { isTimeoutError, ServerBusyError } from '../core/errors.js';
import { withoutStack } from '../core/refusals.js';
import {
  checkAcquireOptions,
  checkCost,
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  invalid,
} from '../core/validation.js';
import type { AcquireOptions, Gate } from '../core/gate.js';
import { copyMetadata, type MapOptions } from '../core/map.js';
import type { Permit } from '../core/permit.js';
import { Throttle, type ThrottleOptions } from '../core/throttle.js';

/**
 * Something of which only so many can be in use at a time: connections, workers, licences. A gate without a rate.
 *
 * @example
 * import { Resource } from 'headgate';
 *
 * const database = new Resource(10, { name: 'database' });
 * console.log(await database.run(() => database.active)); // → 1
 */
export class Resource implements Gate {
  /** `close()`, then `idle()`: `await using` ends with nothing left running. The constructor adds it, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  readonly #throttle: Throttle;

  /**
   * @param capacity How many can be in use at a time: an integer >= 1.
   * @param options `name`, `maxQueue` and `clock` of {@link ThrottleOptions}.
   * @throws {RangeError | TypeError} An argument is out of range; the message names it and the value received.
   */
  constructor(capacity: number, options: Pick<ThrottleOptions, 'name' | 'maxQueue' | 'clock'> = {}) {
    checkInteger('capacity', 'an integer >= 1', capacity, 1, Number.MAX_VALUE);
    checkObject('options', options);
    const { name, maxQueue, clock } = options;
    addDisposal(Resource.prototype, 'asyncDispose', disposeResource);
    this.#throttle = new Throttle(Infinity, capacity, 1, { name, maxQueue, clock });
  }

  /** How many can be in use at a time. */
  get capacity(): number {
    return this.#throttle.concurrency;
  }

  /** The same as `capacity`, under the name that a {@link Throttle} has for it. */
  get concurrency(): number {
    return this.#throttle.concurrency;
  }

  /** How many are in use. */
  get active(): number {
    return this.#throttle.active;
  }

  /** How many callers wait. */
  get waiting(): number {
    return this.#throttle.waiting;
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#throttle.closed;
  }

  /** The name given in the options. */
  get name(): string | undefined {
    return this.#throttle.name;
  }

  /** As {@link Throttle.acquire}. */
  acquire(cost?: number, options?: AcquireOptions): Promise<Permit> {
    return this.#throttle.acquire(cost, options);
  }

  /** As {@link Throttle.tryAcquire}. */
  tryAcquire(cost?: number): Permit | undefined {
    return this.#throttle.tryAcquire(cost);
  }

  /** As {@link Throttle.run}. */
  run<T>(fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T> {
    return this.#throttle.run(fn, cost, options);
  }

  /** As {@link Throttle.pause}. */
  pause(seconds?: number): void {
    this.#throttle.pause(seconds);
  }

  /** As {@link Throttle.resume}. */
  resume(): void {
    this.#throttle.resume();
  }

  /** As {@link Throttle.idle}. */
  idle(): Promise<void> {
    return this.#throttle.idle();
  }

  /** As {@link Throttle.close}. */
  close(reason?: unknown): void {
    this.#throttle.close(reason);
  }

  /** Seconds until the pause ends, as {@link Throttle.pausedFor}. */
  get pausedFor(): number {
    return this.#throttle.pausedFor;
  }

  /** As {@link Throttle.estimateWait}: 0 unless it is paused. */
  estimateWait(cost?: number): number {
    return this.#throttle.estimateWait(cost);
  }

  /** As {@link Throttle.wrap}. */
  wrap<This, Args extends unknown[], R>(
    fn: (this: This, ...args: Args) => R,
    cost?: number | ((...args: Args) => number),
  ): (this: This, ...args: Args) => Promise<Awaited<R>> {
    return this.#throttle.wrap(fn, cost);
  }

  /** As {@link Throttle.map}. */
  map<T, R>(
    items: Iterable<T | PromiseLike<T>> | AsyncIterable<T>,
    fn: (item: T, index: number) => R | PromiseLike<R>,
    options?: MapOptions<T>,
  ): Promise<R[]> {
    return this.#throttle.map(items, fn, options);
  }

  /** What `record` of `headgate/testing` watches. @internal */
  get watched(): WatchedThrottle {
    return this.#throttle;
  }
}

function disposeResource(this: Resource): Promise<void> {
  this.close();
  return this.idle();
}

/** Settings of a {@link Limiter}. */
export interface LimiterOptions {
  /** Seconds for all resources of a handler together: >= 0. `0` means now or never, `Infinity` for ever. */
  timeout: number;
  /**
   * Every resource, in the order in which they are to be acquired. What has a rate comes last: a start that it allowed,
   * held up by another resource, would happen later, together with those that it allows then.
   */
  resources: readonly Gate[];
  /** What the timeout is measured with. Default: the platform's monotonic clock. */
  clock?: Clock | undefined;
}

/**
 * Some of a limiter's resources, taken together: wraps a handler, decorates a method, and is a {@link Gate} of its
 * own, for whatever takes one. `pause`, `resume` and `close` do that to each of them.
 */
export interface Resources extends Gate {
  /**
   * A function with the parameters and the `this` of `handler` that holds the resources while it runs.
   *
   * @returns A function whose promise rejects with a {@link ServerBusyError} when the resources cannot be had in
   *   time, as a gate's `acquire` does otherwise, or with what `handler` throws, be that a timeout, too.
   * @throws {TypeError} `handler` is not a function.
   */
  <This, Args extends unknown[], R>(
    handler: (this: This, ...args: Args) => R,
    context?: ClassMethodDecoratorContext,
  ): (this: This, ...args: Args) => Promise<Awaited<R>>;
  /** One permit for all of the resources, if each is to be had now; else `undefined`, and none is kept. */
  tryAcquire(cost?: number): Promise<Permit | undefined>;
  /** Seconds: that of the limiter, which counts where `acquire` and `run` are given none. */
  readonly timeout: number;
}

/**
 * Hands out several resources at once, in one order, within one timeout. What `resources` returns wraps a function;
 * before a method, as in `@limiter.resources([database])`, it is a standard decorator.
 *
 * @example
 * import { Limiter, Resource } from 'headgate';
 *
 * const database = new Resource(10);
 * const files = new Resource(2);
 * const limiter = new Limiter({ timeout: 5, resources: [database, files] });
 *
 * const report = limiter.resources([database, files])(async (name: string) => `report of ${name}`);
 * console.log(await report('March')); // → report of March
 */
export class Limiter {
  readonly #timeout: number;
  readonly #clock: Clock;
  /** Each resource, and its place in the order. */
  readonly #order: ReadonlyMap<Gate, number>;

  /**
   * @param options {@link LimiterOptions}
   * @throws {RangeError | TypeError} An option is out of range, no gate, or a gate is listed twice.
   */
  constructor(options: LimiterOptions) {
    checkObject('options', options);
    const { timeout, resources, clock = systemClock } = options;
    checkNumber('timeout', 'a number >= 0', timeout, 0, Infinity);
    if (!Array.isArray(resources)) throw invalid('resources', 'an array of gates', resources);
    resources.forEach((gate: Partial<Gate> | undefined, index) => {
      if (typeof gate?.acquire !== 'function' || 'keyed' in gate) throw invalid(`resources[${index}]`, 'a Gate', gate);
    });
    this.#order = new Map(resources.map((gate: Gate, index) => [gate, index]));
    if (this.#order.size < resources.length) throw new RangeError('resources must name each gate once');
    this.#timeout = timeout;
    this.#clock = clock;
  }

  /**
   * Chooses what a handler needs. To be called where the handler is defined: a mistake shows at once.
   *
   * @param resources Of those that the limiter was made with, in the same order, each once.
   * @throws {RangeError} One is not registered, out of order or listed twice, or there is none.
   * @throws {TypeError} It is not an array.
   */
  resources(resources: readonly Gate[]): Resources {
    this.#check(resources);
    const gates = [...resources];
    const acquire = (cost?: number, options?: AcquireOptions): Promise<Permit> => this.#acquire(gates, cost, options);
    const run: Gate['run'] = async (fn, cost, options) => {
      checkFunction('fn', fn);
      const permit = await acquire(cost, options);
      let result;
      try {
        // An abort that comes before `fn` has started wins.
        if (options?.signal?.aborted) {
          permit.refund();
          throw options.signal.reason;
        }
        result = await fn(permit);
      } catch (error) {
        // It matters more than one that comes while releasing.
        all([permit], (held) => held.release());
        throw error;
      }
      permit.release();
      return result;
    };
    const wrap = function <This, Args extends unknown[], R>(
      handler: (this: This, ...args: Args) => R,
      context?: ClassMethodDecoratorContext,
    ): (this: This, ...args: Args) => Promise<Awaited<R>> {
      checkFunction('handler', handler);
      if (context !== undefined && context?.kind !== 'method')
        throw invalid('context', 'that of a method', context?.kind ?? context);
      const limited = function (this: This, ...args: Args): Promise<Awaited<R>> {
        return run<Awaited<R>>(() => handler.apply(this, args) as Awaited<R>);
      };
      return copyMetadata(handler, limited);
    };
    return Object.assign(Object.defineProperty(wrap, 'name', { value: undefined }), {
      acquire,
      run,
      tryAcquire: (cost?: number) => this.#tryAcquire(gates, cost),
      pause: (seconds?: number) => each(gates, (gate) => gate.pause(seconds)),
      resume: () => each(gates, (gate) => gate.resume()),
      close: (reason?: unknown) => each(gates, (gate) => gate.close(reason)),
      timeout: this.#timeout,
    });
  }

  /**
   * Waits for all of `resources`, one after the other. One permit stands for all: it releases them in reverse.
   *
   * @param resources As for {@link Limiter.resources}.
   * @param options `signal`, and a `timeout` in place of the limiter's: seconds, for all of them together.
   * @returns A promise that rejects with a `RangeError` for resources that the limiter does not have, or not in that
   *   order; with a {@link ServerBusyError} when they cannot be had in time; and otherwise as `acquire` of the gates
   *   does. What was taken by then is given back. It never throws.
   *
   * @example
   * import { Limiter, Resource } from 'headgate';
   *
   * const [database, files] = [new Resource(10), new Resource(2)];
   * const limiter = new Limiter({ timeout: 5, resources: [database, files] });
   * {
   *   await using _ = await limiter.acquire([database, files]);
   *   console.log(database.active, files.active); // → 1 1
   * }
   */
  async acquire(resources: readonly Gate[], options?: AcquireOptions): Promise<Permit> {
    this.#check(resources);
    return this.#acquire([...resources], 1, options);
  }

  #check(resources: readonly Gate[]): void {
    if (!Array.isArray(resources)) throw invalid('resources', 'an array of gates', resources);
    if (resources.length === 0) throw new RangeError('resources must name at least one');
    let last = -1;
    resources.forEach((gate: Gate, index) => {
      const place = this.#order.get(gate);
      const named =
        typeof (gate as { name?: unknown })?.name === 'string' ? ` ("${(gate as { name?: string }).name}")` : '';
      if (place === undefined)
        throw new RangeError(`resources[${index}]${named} is not registered: add it to the limiter's own resources`);
      if (place === last) throw new RangeError(`resources[${index}]${named} is listed twice: it would wait for itself`);
      if (place < last) {
        throw new RangeError(
          `resources[${index}]${named} is out of order: the limiter has it at ${place}, before the one at ${last}`,
        );
      }
      last = place;
    });
  }

  async #acquire(gates: readonly Gate[], cost = 1, options: AcquireOptions = {}): Promise<Permit> {
    checkAcquireOptions(options);
    const { signal, timeout = this.#timeout, stack } = options;
    const start = this.#clock.now();
    const permits: Permit[] = [];
    try {
      for (const gate of gates) {
        const left = timeout - (this.#clock.now() - start);
        permits.push(
          await gate.acquire(cost, { signal, timeout: Math.max(0, left), ...(stack === false && { stack }) }),
        );
      }
      return new JointPermit(permits, cost, Math.max(0, this.#clock.now() - start));
    } catch (error) {
      giveBack(permits);
      if (!isTimeoutError(error) || error === signal?.reason) throw error;
      const busy = (): ServerBusyError => new ServerBusyError({ cause: error, retryAfter: error.retryAfter });
      throw stack === false ? withoutStack(busy) : busy();
    }
  }

  async #tryAcquire(gates: readonly Gate[], cost = 1): Promise<Permit | undefined> {
    const permits: Permit[] = [];
    try {
      for (const gate of gates) {
        const permit = await gate.tryAcquire(cost);
        if (permit === undefined) {
          giveBack(permits);
          return undefined;
        }
        permits.push(permit);
      }
    } catch (error) {
      giveBack(permits);
      throw error;
    }
    return new JointPermit(permits, cost, 0);
  }
}

/** One permit for several gates. */
class JointPermit implements Omit<Permit, keyof Disposable | keyof AsyncDisposable> {
  readonly #permits: readonly Permit[];
  #cost: number;
  #settled = false;
  #released = false;
  readonly waited: number;

  constructor(permits: readonly Permit[], cost: number, waited: number) {
    addDisposal(JointPermit.prototype, 'dispose', function () {
      this.release();
    });
    addDisposal(JointPermit.prototype, 'asyncDispose', function () {
      return this.#dispose();
    });
    this.#permits = permits.toReversed();
    this.#cost = cost;
    this.waited = waited;
  }

  get cost(): number {
    return this.#cost;
  }

  get released(): boolean {
    return this.#released;
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    const failure = all(this.#permits, (permit) => permit.release());
    if (failure !== undefined) throw failure.error;
  }

  settle(cost: number): void {
    checkCost(cost);
    if (this.#settled) return;
    this.#settled = true;
    this.#cost = cost;
    const failure = all(this.#permits, (permit) => permit.settle(cost));
    if (failure !== undefined) throw failure.error;
  }

  refund(): void {
    this.settle(0);
  }

  /** Resolves once each gate knows of the release. */
  async #dispose(): Promise<void> {
    this.release();
    for (const permit of this.#permits) await dispose(permit);
  }
}

/** Both ways of `using` release; {@link addDisposal} adds them. */
interface JointPermit extends Disposable, AsyncDisposable {}

/** As if they had never been taken, last first. Why that is so matters more than an error on the way. */
function giveBack(permits: readonly Permit[]): void {
  all(permits.toReversed(), (permit) => permit.refund());
  all(permits.toReversed(), (permit) => permit.release());
}

/** Does it to each, also when one fails: returns the first failure. */
function all(permits: readonly Permit[], action: (permit: Permit) => void): { error: unknown } | undefined {
  let failure: { error: unknown } | undefined;
  for (const permit of permits) {
    try {
      action(permit);
    } catch (error) {
      failure ??= { error };
    }
  }
  return failure;
}

async function each(gates: readonly Gate[], action: (gate: Gate) => void | Promise<void>): Promise<void> {
  await Promise.all(gates.map(async (gate) => action(gate)));
}
