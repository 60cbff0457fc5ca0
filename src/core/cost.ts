/**
 * Costs by name. A throttle with several rates may name them, and a call may then state a cost for each name. Inside a
 * gate with named rates, every cost is a vector: an array with the cost of the main rate first, and the cost of each
 * named rate after it, in the order of the names. Inside a gate without named rates, every cost is a number.
 */
import { printable } from './refusals.js';
import { ACQUIRE_OPTIONS, checkNumber, invalid } from './validation.js';

/**
 * A cost in tokens. A number charges every rate. A record charges each named rate its entry.
 *
 * @example
 * import { type Cost, Throttle } from 'headgate';
 *
 * const llm = new Throttle(500, 20, 60, { also: [{ name: 'tokens', capacity: 200_000, period: 60 }] });
 * const estimate: Cost<'tokens'> = { tokens: 4_000 };   // 1 request and 4,000 tokens
 * using permit = await llm.acquire(estimate);
 * console.log(permit.cost, permit.costs.tokens);        // → 1 4000
 */
export type Cost<Name extends string = string> = number | CostRecord<Name>;

/**
 * A cost for each rate by its name. `cost` is the cost of the main rate and of every rate without a name. A call is
 * charged 1 for a `cost` that is left out, and 0 for a name that is left out.
 */
export type CostRecord<Name extends string = string> = Readonly<Partial<Record<Name | 'cost', number | undefined>>>;

/** A gate with named rates, as far as this file needs to know it. */
export interface NamedRates {
  /** The names of the rates, in the order of the vector. */
  readonly names: readonly string[];
  /** The largest cost that can be granted, as a vector. */
  readonly maxCosts: readonly number[];
  /** Describes the gate in an error message. */
  describe(): string;
}

/** Checks one entry of a vector. `argument` is the name of the entry in error messages. */
type CheckEntry = (argument: string, value: unknown, index: number, rates: NamedRates) => void;

/** Throws unless `value` is a finite number >= 0. */
export function checkTokens(argument: string, value: unknown): void {
  checkNumber(argument, 'a finite number >= 0', value, 0, Number.MAX_VALUE);
}

/** Throws unless `cost` has the form of a cost. A gate checks the names, and compares each entry with its rate. */
export function checkCostForm(argument: string, cost: unknown): asserts cost is Cost {
  if (typeof cost !== 'object' || cost === null || Array.isArray(cost)) return checkTokens(argument, cost);
  for (const [name, value] of Object.entries(cost)) if (value !== undefined) checkTokens(`${argument}.${name}`, value);
}

/** Throws unless the gate can grant `value`. */
function checkRequest(argument: string, value: unknown, index: number, rates: NamedRates): void {
  const most = rates.maxCosts[index] as number;
  if (typeof value === 'number' && value >= 0 && value <= most) return;
  checkTokens(argument, value);
  throw tooLargeError(argument, value as number, most, rates.describe(), rates.names[index - 1]);
}

/** Throws unless `value` is a number above `-Infinity`. A negative level is a debt. */
export function checkLevel(argument: string, value: unknown): void {
  checkNumber(argument, 'a number above -Infinity', value, -Number.MAX_VALUE, Infinity);
}

/** The error of a cost that no rate with this burst can ever grant. `rate`: the name of the rate, if it has one. */
export function tooLargeError(argument: string, cost: number, burst: number, label: string, rate?: string): Error {
  const owner = rate === undefined ? label : `the rate ${printable(rate)} of ${label}`;
  return invalid(argument, `at most ${burst}, the burst of ${owner}`, cost, RangeError);
}

/** The error of a permit with more slots than the concurrency of a gate; `undefined` if the slots fit. */
export function tooManySlotsError(
  slots: number,
  gate: { readonly concurrency: number; describe(): string },
): Error | undefined {
  const most = gate.concurrency || Infinity;
  if (slots <= most) return undefined;
  return invalid('slots', `at most ${most}, the concurrency of ${gate.describe()}`, slots, RangeError);
}

/**
 * Reads a cost or levels into a vector. A number is the value of the first `count` entries. A record is read once: its
 * own enumerable string keys. An entry without a value stays as in `values`.
 *
 * @throws {RangeError | TypeError} A value is out of range, or a name is unknown.
 */
function readVector<Value>(
  argument: 'cost' | 'levels',
  cost: unknown,
  values: Value[],
  count: number,
  rates: NamedRates,
  check: CheckEntry,
): Value[] {
  const { names } = rates;
  if (typeof cost !== 'object' || cost === null) {
    for (let index = 0; index < count; index++) {
      check(argument, cost, index, rates);
      values[index] = cost as Value;
    }
    return values;
  }
  for (const key of Object.keys(cost)) {
    const value = (cost as Readonly<Record<string, unknown>>)[key];
    // No rate has the name `cost`, so its index is 0.
    const index = names.indexOf(key) + 1;
    if (index === 0 && key !== 'cost') throw unknownRate(argument, key, rates);
    if (value === undefined) continue;
    // Any of the checks accepts a cost that can be granted. The name of the entry is needed only for an error.
    const isOrdinary = typeof value === 'number' && value >= 0 && value <= (rates.maxCosts[index] as number);
    if (!isOrdinary) check(`${argument}.${key}`, value, index, rates);
    values[index] = value as Value;
  }
  return values;
}

/** The cost that a call requests, as a vector. */
export function readCosts(cost: unknown, rates: NamedRates): number[] {
  const count = rates.names.length + 1;
  // A literal has room for exactly its entries.
  const values = count === 2 ? [1, 0] : rates.maxCosts.map((_, index) => (index === 0 ? 1 : 0));
  return readVector('cost', cost, values, count, rates, checkRequest);
}

/** The true costs that a settlement states, as a vector; `undefined` for each rate that it does not mention. */
export function readSettlement(cost: unknown, rates: NamedRates): (number | undefined)[] {
  return readVector<number | undefined>('cost', cost, [], rates.names.length + 1, rates, checkTokens);
}

/** The levels that a correction states, as a vector. A number sets only the rates without a name. */
export function readLevels(levels: unknown, rates: NamedRates): (number | undefined)[] {
  return readVector<number | undefined>('levels', levels, [], 1, rates, checkLevel);
}

function unknownRate(argument: string, key: string, rates: NamedRates): TypeError {
  const names = rates.names.map(printable).join(', ');
  const isOption = argument === 'cost' && (ACQUIRE_OPTIONS as readonly string[]).includes(key);
  return new TypeError(
    `${argument}.${printable(key).slice(1, -1)} is not a rate of ${rates.describe()}: ` +
      (names === '' ? 'it has no named rates' : `its named rates are ${names}`) +
      (isOption ? `; the options follow the cost: acquire(1, { ${key} }) or run(fn, 1, { ${key} })` : ''),
  );
}

/** A frozen record of the entries of a vector, by the names of the rates. */
export function costsByName(names: readonly string[], costs: readonly number[]): Readonly<Record<string, number>> {
  return Object.freeze(Object.fromEntries(names.map((name, index) => [name, costs[index + 1] as number])));
}

/** A cost as error messages show it: `1`, or `1 ("tokens": 4000)`. */
export function describeCost(cost: number, names: readonly string[], terms: Terms | undefined): string {
  const named = names.map((name, index) => `${printable(name)}: ${terms?.costs[index + 1]}`).join(', ');
  return named === '' ? `${cost}` : `${cost} (${named})`;
}

/**
 * What a call requests, if it requests more than a number of tokens and one slot. Its permit keeps the object and adds
 * its own state. All objects have one shape, so that the code that reads them stays fast.
 */
export class Terms {
  /** The vector; with one entry in a gate without named rates. A settlement replaces the array. */
  costs: readonly number[];
  readonly slots: number;
  /** The state of a permit that few permits have. */
  extra: PermitExtra | undefined = undefined;

  constructor(costs: readonly number[], slots: number) {
    this.costs = costs;
    this.slots = slots;
  }

  /** The controller of the signal. Created at the first call: most holders never read the signal. */
  get controller(): AbortController {
    const extra = (this.extra ??= new PermitExtra());
    return (extra.controller ??= new AbortController());
  }

  /** Records the true costs that are given, each once. Returns the vector of the differences. */
  settle(trueCosts: readonly (number | undefined)[]): number[] {
    const before = this.costs;
    const { settled } = (this.extra ??= new PermitExtra());
    const after = before.map((cost, index) => {
      const trueCost = trueCosts[index];
      if (trueCost === undefined || settled[index] === true) return cost;
      settled[index] = true;
      return trueCost;
    });
    this.costs = after;
    return after.map((cost, index) => cost - (before[index] as number));
  }
}

/** The state of a permit that has been settled by name, or whose signal has been read. */
class PermitExtra {
  /** The entries of the vector that have been settled. */
  readonly settled: boolean[] = [];
  controller: AbortController | undefined = undefined;
}

/** The cost of the main rate. `terms` are absent if `cost` is a number. */
export function mainCost(cost: unknown, terms: Terms | undefined): number {
  return terms === undefined ? (cost as number) : (terms.costs[0] as number);
}
