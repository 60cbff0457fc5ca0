/**
 * Several gates for one piece of work: a database and a disk, a queue and a quota. A limiter acquires gates one after
 * another, always in the order in which they were registered. Two handlers that need the same gates therefore cannot
 * each hold one gate and wait for the other. This is the resource hierarchy of Dijkstra (1965). The order is checked
 * when a handler is defined.
 *
 * The order covers the gates of one acquisition. A handler that holds gates and calls another limited handler can
 * deadlock.
 */
import { type Clock, systemClock } from '../core/clock.js';
import { callFrom, development, runJob } from '../core/development.js';
import { isTimeoutError, ServerBusyError } from '../core/errors.js';
import type { Cost } from '../core/cost.js';
import type { AcquireOptions, Gate } from '../core/gate.js';
import { addInspection } from '../core/inspect.js';
import { copyMetadata } from '../core/map.js';
import { checkOptionNames, pickOptions } from '../core/option-names.js';
import { withoutStack } from '../core/refusals.js';
import {
  ACQUIRE_OPTIONS,
  checkAcquireOptions,
  checkFunction,
  checkObject,
  checkSeconds,
  invalid,
} from '../core/validation.js';
import {
  applyToEach,
  type JointCost,
  JointPermit,
  type NamedPermit,
  readEntries,
  refundAndRelease,
  type ResourcesPermit,
} from './joint-permit.js';

/** Options of a {@link Limiter}. */
export interface LimiterOptions {
  /** Seconds for all resources of a handler together: >= 0. `0` means now or never; `Infinity` means no limit. */
  timeout: number;
  /**
   * Every resource, in the order of acquisition. List gates with a rate last. A gate with a rate counts a job at its
   * grant. If the job then waits for another resource, it starts later, together with jobs that were granted later.
   */
  resources: readonly Gate[];
  /** The clock that measures the timeout. Default: the platform's monotonic clock. */
  clock?: Clock | undefined;
}

/** Options of {@link Limiter.acquire}. */
export interface LimiterAcquireOptions extends AcquireOptions {
  /**
   * The cost of the job. A number charges every resource. A record states the cost of each resource by its `name`: a
   * number, or a record with a cost for each named rate of that resource. Default 1.
   */
  cost?: JointCost | undefined;
}

/**
 * Some of a limiter's resources, acquired together. The object wraps a handler, decorates a method, and is a
 * {@link Gate} itself. `pause`, `resume`, `clear` and `close` apply to each of the resources.
 */
export interface Resources extends Gate {
  /**
   * Wraps `handler` in a function with the same parameters and the same `this`. The function holds the resources while
   * the handler runs.
   *
   * @returns A function that returns a promise. The promise rejects with a {@link ServerBusyError} when the resources
   *   are not available in time, with any other error of a gate's `acquire`, or with the error that `handler` throws.
   *   A timeout error that `handler` throws passes through unchanged.
   * @throws {TypeError} `handler` is not a function.
   */
  <This, Args extends unknown[], R>(
    handler: (this: This, ...args: Args) => R,
    context?: ClassMethodDecoratorContext,
  ): (this: This, ...args: Args) => Promise<Awaited<R>>;
  /** Waits for one permit for all of the resources: {@link Limiter.acquire}. */
  acquire(cost?: JointCost, options?: AcquireOptions): Promise<ResourcesPermit>;
  /** One permit for all of the resources, if each is available now. Otherwise `undefined`, and no permit is kept. */
  tryAcquire(cost?: JointCost): Promise<ResourcesPermit | undefined>;
  /** Waits for all of the resources, calls `fn` with the permit, and releases it when the result has settled. */
  run<T>(fn: (permit: ResourcesPermit) => T | PromiseLike<T>, cost?: JointCost, options?: AcquireOptions): Promise<T>;
  /**
   * Drains the resources one after another, in the order of acquisition: a handler that waits for the first resource
   * still gets the others. A gate of a user without `drain` is left as it is.
   */
  drain(): Promise<void>;
  /** Refuses the waiters of each of the resources: {@link Throttle.clear}. */
  clear(reason?: unknown): Promise<void>;
  /** Seconds: the limiter's timeout. It applies if `acquire` and `run` get no timeout. */
  readonly timeout: number;
}

/** The settings of a {@link Limiter}, and the state of its resources. */
export interface LimiterData {
  /** Seconds for all resources of a handler together. */
  timeout: number;
  /** The state of each resource, in the order of acquisition. Empty for a gate of a user without `toJSON`. */
  resources: object[];
}

/**
 * Acquires several resources in one order, within one timeout. The result of `resources` wraps a function. Before a
 * method, as in `@limiter.resources([database])`, it is a standard decorator.
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
  /** Each resource, with its index in the order of acquisition. */
  readonly #order: ReadonlyMap<Gate, number>;

  /**
   * @param options {@link LimiterOptions}
   * @throws {RangeError | TypeError} An option is out of range or unknown, a resource is not a gate, or a gate is listed
   *   twice.
   */
  constructor(options: LimiterOptions) {
    checkObject('options', options);
    checkOptionNames('new Limiter', options, ['timeout', 'resources', 'clock']);
    const { timeout, resources, clock = systemClock } = options;
    checkSeconds('timeout', 'a number >= 0', timeout, 0, Infinity);
    if (!Array.isArray(resources)) throw invalid('resources', 'an array of gates', resources);
    resources.forEach((gate: Partial<Gate> | undefined, index) => {
      if (typeof gate?.acquire !== 'function' || 'keyed' in gate) throw invalid(`resources[${index}]`, 'a Gate', gate);
    });
    this.#order = new Map(resources.map((gate: Gate, index) => [gate, index]));
    if (this.#order.size < resources.length) throw new RangeError('resources must list each gate once');
    this.#timeout = timeout;
    this.#clock = clock;
    // The resources appear with the names of their classes.
    addInspection(Limiter.prototype, 'Limiter', (limiter) => limiter.#view());
  }

  #view(): LimiterData {
    return { timeout: this.#timeout, resources: [...this.#order.keys()] };
  }

  /** The settings and the state of the resources as plain data, for logs. `console.log` shows the same. */
  toJSON(): LimiterData {
    const { timeout, resources } = this.#view();
    return { timeout, resources: resources.map((gate) => dataOf(gate)) };
  }

  /** The resources, for `expectIdle` of `headgate/testing`. @internal */
  get watchedGates(): readonly Gate[] {
    return [...this.#order.keys()];
  }

  /**
   * Selects the resources of a handler. Call it where the handler is defined, so that a mistake throws at once.
   *
   * @param resources Registered resources, in the order of their registration, each listed once.
   * @throws {RangeError} A resource is not registered, out of order or listed twice, or the list is empty.
   * @throws {TypeError} `resources` is not an array.
   */
  resources(resources: readonly Gate[]): Resources {
    this.#checkOrder(resources);
    const gates = [...resources];
    const acquire: Resources['acquire'] = (cost, options) => callFrom(() => this.#acquire(gates, cost, options));
    const run: Resources['run'] = async (fn, cost, options) => {
      checkFunction('fn', fn);
      const permit = await acquire(cost, options);
      let result;
      try {
        // An abort before the start of `fn` wins.
        if (options?.signal?.aborted) {
          permit.refund();
          throw options.signal.reason;
        }
        result = await runJob(fn, permit);
      } catch (error) {
        // The error of `fn` is more useful to the caller than an error of `release`, which is ignored.
        applyToEach([permit], (held) => held.release());
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
        throw invalid('context', 'the context of a method', context?.kind ?? context);
      const limited = function (this: This, ...args: Args): Promise<Awaited<R>> {
        return run<Awaited<R>>(() => handler.apply(this, args) as Awaited<R>);
      };
      return copyMetadata(handler, limited);
    };
    // Error messages show a gate's `name`. The name of this inner function would mislead.
    return Object.assign(Object.defineProperty(wrap, 'name', { value: undefined }), {
      acquire,
      run,
      tryAcquire: (cost?: JointCost) => this.#tryAcquire(gates, cost),
      pause: (seconds?: number) => forEachGate(gates, (gate) => gate.pause(seconds)),
      resume: () => forEachGate(gates, (gate) => gate.resume()),
      close: (reason?: unknown) => forEachGate(gates, (gate) => gate.close(reason)),
      clear: (reason?: unknown) => forEachGate(gates, (gate) => gate.clear?.(reason)),
      drain: async () => {
        for (const gate of gates) await gate.drain?.();
      },
      timeout: this.#timeout,
      watchedGates: gates,
    });
  }

  /**
   * Waits for all of `resources`, one after another. The permit stands for all of them and releases them in reverse.
   *
   * @param resources The same as for {@link Limiter.resources}.
   * @param options {@link LimiterAcquireOptions}. `timeout` replaces the limiter's: seconds, for all of the resources
   *   together.
   * @returns A promise that rejects with
   *   a `RangeError` when a resource is not registered, out of order or listed twice;
   *   a `TypeError` when `cost` names an unknown resource;
   *   a {@link ServerBusyError} when the resources are not available in time;
   *   any other error of a gate's `acquire`.
   *   Before it rejects, the resources that it already holds are refunded and released. The method never throws.
   *
   * @example
   * import { Limiter, Resource } from 'headgate';
   *
   * const [database, files] = [new Resource(10), new Resource(2)];
   * const limiter = new Limiter({ timeout: 5, resources: [database, files] });
   * const permit = await limiter.acquire([database, files]);
   * try {
   *   console.log(database.active, files.active); // → 1 1
   * } finally {
   *   permit.release();
   * }
   */
  async acquire(resources: readonly Gate[], options: LimiterAcquireOptions = {}): Promise<ResourcesPermit> {
    this.#checkOrder(resources);
    checkObject('options', options);
    checkOptionNames('acquire', options, ['cost', ...ACQUIRE_OPTIONS]);
    const acquireOptions = pickOptions(options, ACQUIRE_OPTIONS);
    return callFrom(() => this.#acquire([...resources], options.cost, acquireOptions));
  }

  #checkOrder(resources: readonly Gate[]): void {
    if (!Array.isArray(resources)) throw invalid('resources', 'an array of gates', resources);
    if (resources.length === 0) throw new RangeError('resources must list at least one gate');
    let previous = -1;
    resources.forEach((gate: Gate, index) => {
      const registered = this.#order.get(gate);
      const { name } = (gate ?? {}) as { name?: unknown };
      const label = `resources[${index}]${typeof name === 'string' ? ` ("${name}")` : ''}`;
      if (registered === undefined)
        throw new RangeError(`${label} is not registered: list it in the limiter's resources option`);
      if (registered === previous) throw new RangeError(`${label} is listed twice: acquire would wait for itself`);
      if (registered < previous) {
        throw new RangeError(
          `${label} is out of order: registered at index ${registered}, but listed after index ${previous}`,
        );
      }
      previous = registered;
    });
  }

  async #acquire(gates: readonly Gate[], cost: JointCost = 1, options: AcquireOptions = {}): Promise<ResourcesPermit> {
    checkAcquireOptions(options);
    const { signal, timeout = this.#timeout, slots, stack } = options;
    const costs = costOfEach(gates, cost);
    const start = this.#clock.now();
    const permits: NamedPermit[] = [];
    try {
      for (const [index, gate] of gates.entries()) {
        const remaining = Math.max(0, timeout - (this.#clock.now() - start));
        const each = {
          signal,
          timeout: remaining,
          ...(slots !== undefined && { slots }),
          ...(stack === false && { stack }),
        };
        permits.push({ permit: await gate.acquire(costs[index], each), name: nameOf(gate) });
      }
      const grantedAt = this.#clock.now();
      const readAge = (): number => Math.max(0, this.#clock.now() - grantedAt);
      return joinPermits(permits, cost, Math.max(0, grantedAt - start), slots, readAge);
    } catch (error) {
      refundAndRelease(permits);
      if (!isTimeoutError(error) || error === signal?.reason) throw error;
      const busy = (): ServerBusyError => new ServerBusyError({ cause: error, retryAfter: error.retryAfter });
      throw stack === false ? withoutStack(busy) : busy();
    }
  }

  async #tryAcquire(gates: readonly Gate[], cost: JointCost = 1): Promise<ResourcesPermit | undefined> {
    const costs = costOfEach(gates, cost);
    const permits: NamedPermit[] = [];
    try {
      for (const [index, gate] of gates.entries()) {
        const permit = await gate.tryAcquire(costs[index]);
        if (permit === undefined) {
          refundAndRelease(permits);
          return undefined;
        }
        permits.push({ permit, name: nameOf(gate) });
      }
    } catch (error) {
      refundAndRelease(permits);
      throw error;
    }
    return joinPermits(permits, cost, 0);
  }
}

/** The state of a gate. A gate of a user may lack `toJSON`, or throw. */
function dataOf(gate: object): object {
  try {
    return (gate as { toJSON?(): object }).toJSON?.() ?? {};
  } catch {
    return {};
  }
}

/** The name of a gate, as in its options. */
function nameOf(gate: Gate): string | undefined {
  const { name } = gate as { name?: unknown };
  return typeof name === 'string' ? name : undefined;
}

/** The cost that each gate is charged. A gate that a record does not mention is charged 1. */
function costOfEach(gates: readonly Gate[], cost: JointCost): Cost[] {
  if (typeof cost !== 'object' || cost === null) return gates.map(() => cost);
  const names = gates.map(nameOf);
  const entries = readEntries(cost, names);
  return names.map((name) => entries.get(name) ?? 1);
}

/** A joint permit. With a record of costs, its cost is the cost of the first gate. */
function joinPermits(
  permits: readonly NamedPermit[],
  cost: JointCost,
  waited: number,
  slots?: number,
  readAge?: () => number,
): ResourcesPermit {
  const number = typeof cost === 'number' ? cost : (permits[0] as NamedPermit).permit.cost;
  const joint = new JointPermit(permits, number, waited, slots, readAge);
  development.aids?.joined(
    joint,
    permits.map(({ permit }) => permit),
  );
  return joint;
}

async function forEachGate(
  gates: readonly Gate[],
  action: (gate: Gate) => void | Promise<void> | undefined,
): Promise<void> {
  await Promise.all(gates.map(async (gate) => action(gate)));
}
