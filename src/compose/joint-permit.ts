/// <reference lib="esnext.disposable" preserve="true" />
/** One permit that holds the permits of several gates. */
import { checkCostForm, type Cost } from '../core/cost.js';
import { addDisposal, dispose } from '../core/dispose.js';
import { addInspection, type PermitData, readFields } from '../core/inspect.js';
import type { Permit } from '../core/permit.js';
import { printable } from '../core/refusals.js';
import { checkCost } from '../core/validation.js';

/**
 * The cost of a job that needs several gates. A number charges every gate. A record states the cost of each gate by the
 * name of the gate: a number, or a record with a cost for each rate of that gate.
 */
export type JointCost = number | { readonly [gate: string]: Cost | undefined };

/** A permit that stands for several gates. */
export interface ResourcesPermit extends Permit {
  /** The requested cost of every gate; after `settle`, the true cost. With a record, the cost of the first gate. */
  readonly cost: number;
  /** The cost of each gate with a name, in tokens of its main rate. */
  readonly costs: Readonly<Record<string, number>>;
  /**
   * States the true cost, as {@link Permit.settle} does, for every gate. A record settles the gates that it names.
   *
   * @throws {RangeError | TypeError} `cost` is out of range, or names an unknown gate or rate. Nothing changes then.
   */
  settle(cost: JointCost): void;
  /** The permit as plain data, for logs. `console.log` shows the same. */
  toJSON(): PermitData;
}

/** A permit, and the name of the gate that granted it. */
export interface NamedPermit {
  readonly permit: Permit;
  readonly name: string | undefined;
}

/** Releases and settles the permits of several gates together. */
export class JointPermit implements Omit<ResourcesPermit, keyof Disposable | keyof AsyncDisposable> {
  /** The last acquired permit comes first: it is released first. */
  readonly #permits: readonly NamedPermit[];
  #cost: number;
  #settled = false;
  #released = false;
  #signal: AbortSignal | undefined;
  readonly waited: number;
  readonly slots: number;
  readonly #readAge: (() => number) | undefined;

  /**
   * @param permits In the order in which they were acquired.
   * @param readAge Returns the seconds since the grant.
   */
  constructor(
    permits: readonly NamedPermit[],
    cost: number,
    waited: number,
    slots: number = 1,
    readAge?: () => number,
  ) {
    addDisposal(JointPermit.prototype, 'dispose', function () {
      this.release();
    });
    addDisposal(JointPermit.prototype, 'asyncDispose', function () {
      return this.#dispose();
    });
    addInspection(JointPermit.prototype, 'ResourcesPermit');
    this.#readAge = readAge;
    this.#permits = permits.toReversed();
    this.#cost = cost;
    this.waited = waited;
    this.slots = slots;
  }

  get cost(): number {
    return this.#cost;
  }

  get costs(): Readonly<Record<string, number>> {
    const costs = this.#permits.toReversed().map(({ name, permit }) => [name, permit.cost] as const);
    return Object.freeze(Object.fromEntries(costs.filter(([name]) => name !== undefined)));
  }

  /** Aborts when one of the permits is lost. */
  get signal(): AbortSignal {
    // The permits of a gate that a user wrote may lack a signal.
    this.#signal ??= AbortSignal.any(
      this.#permits
        .map(({ permit }) => permit.signal as AbortSignal | undefined)
        .filter((signal) => signal !== undefined),
    );
    return this.#signal;
  }

  get released(): boolean {
    return this.#released || this.#permits.every(({ permit }) => permit.released);
  }

  /** Seconds since the grant; `undefined` after `tryAcquire`, which does not read the clock. */
  get age(): number | undefined {
    return this.#readAge?.();
  }

  toJSON(): PermitData {
    return readFields(this, 'cost costs slots age released') as PermitData;
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#forEach((permit) => permit.release());
  }

  settle(cost: JointCost): void {
    if (typeof cost === 'object' && cost !== null) return this.#settleByGate(cost);
    checkCost(cost);
    if (this.#settled) return;
    this.#settled = true;
    this.#cost = cost;
    this.#forEach((permit) => permit.settle(cost));
  }

  #settleByGate(cost: Readonly<Record<string, Cost | undefined>>): void {
    const { length } = this.#permits;
    const entries = readEntries(
      cost,
      this.#permits.map(({ name }) => name),
    );
    // Check every entry before the first permit is settled.
    for (const { name, permit } of this.#permits) checkEntry(`cost.${name}`, entries.get(name), permit);
    this.#forEach((permit, name) => {
      const own = entries.get(name);
      if (own !== undefined) permit.settle(own);
    });
    this.#cost = this.#settled ? this.#cost : (this.#permits[length - 1] as NamedPermit).permit.cost;
  }

  refund(): void {
    this.settle(0);
  }

  /** Calls `action` with each permit, then throws the first error. */
  #forEach(action: (permit: Permit, name: string | undefined) => void): void {
    const failure = applyToEach(this.#permits, ({ permit, name }) => action(permit, name));
    if (failure !== undefined) throw failure.error;
  }

  /** Resolves when every gate has processed the release. */
  async #dispose(): Promise<void> {
    this.release();
    for (const { permit } of this.#permits) await dispose(permit);
  }
}

/** `using` and `await using` both release. {@link addDisposal} adds the two methods. */
export interface JointPermit extends Disposable, AsyncDisposable {}

/**
 * Reads a record of costs once: the cost of each gate by its name.
 *
 * @throws {TypeError} A key is not the name of a gate.
 */
export function readEntries(
  cost: Readonly<Record<string, Cost | undefined>>,
  names: readonly (string | undefined)[],
): Map<string | undefined, Cost> {
  const entries = new Map<string | undefined, Cost>();
  for (const key of Object.keys(cost)) {
    if (!names.includes(key)) {
      const known = names.filter((name) => name !== undefined).map(printable);
      throw new TypeError(
        `cost.${printable(key).slice(1, -1)} is not the name of one of the resources: ` +
          (known.length === 0 ? 'none of them has a name' : `their names are ${known.join(', ')}`),
      );
    }
    const value = cost[key];
    if (value === undefined) continue;
    entries.set(key, typeof value === 'object' && value !== null ? { ...value } : value);
  }
  return entries;
}

/** Throws unless `permit` can settle `cost`. */
function checkEntry(argument: string, cost: Cost | undefined, permit: Permit): void {
  if (cost === undefined) return;
  checkCostForm(argument, cost);
  if (typeof cost === 'number') return;
  const unknown = Object.keys(cost).find((key) => key !== 'cost' && !Object.hasOwn(permit.costs ?? {}, key));
  if (unknown !== undefined)
    throw new TypeError(`${argument}.${printable(unknown).slice(1, -1)} is not a rate of that resource`);
}

/** Refunds and releases, the last acquired permit first. Ignores errors: the caller rejects with its own error. */
export function refundAndRelease(permits: readonly NamedPermit[]): void {
  const reversed = permits.toReversed();
  applyToEach(reversed, ({ permit }) => permit.refund());
  applyToEach(reversed, ({ permit }) => permit.release());
}

/** Calls `action` with each item, even after one of the calls throws. Returns the first error. */
export function applyToEach<T>(items: readonly T[], action: (item: T) => void): { error: unknown } | undefined {
  let failure: { error: unknown } | undefined;
  for (const item of items) {
    try {
      action(item);
    } catch (error) {
      failure ??= { error };
    }
  }
  return failure;
}
