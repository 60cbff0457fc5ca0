/**
 * Costs by name. A throttle with several rates may name them, and a call may then state a cost for each name. Inside a
 * gate with named rates, every cost is a vector: an array with the cost of the main rate first, and the cost of each
 * named rate after it, in the order of the names. Inside a gate without named rates, every cost is a number.
 */
import { printable } from './refusals.js';
import { checkNumber } from './validation.js';

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
export type CostRecord<Name extends string = string> = { readonly [N in Name | 'cost']?: number | undefined };

/** What {@link readCosts} needs to know about a gate. */
export interface NamedRates {
  /** The names of the rates, in the order of the vector. */
  readonly names: readonly string[];
  /** Describes the gate in an error message. */
  describe(): string;
}

/** Checks one entry of a cost. `argument` is its name in messages, `index` its index in the vector. */
type CheckEntry = (argument: string, value: unknown, index: number) => void;

/** Throws unless `value` is a finite number >= 0. */
export function checkTokens(argument: string, value: unknown): void {
  checkNumber(argument, 'a finite number >= 0', value, 0, Number.MAX_VALUE);
}

/**
 * Reads a cost into a vector. A number is the value of every entry. A record is read once: its own enumerable string
 * keys. Entries that the record does not mention become `main` and `named`.
 *
 * @param argument The name of the argument in error messages.
 * @throws {RangeError | TypeError} An entry is out of range, or a name is unknown.
 */
export function readCosts<Absent>(
  argument: string,
  cost: unknown,
  rates: NamedRates,
  main: Absent,
  named: Absent,
  check: CheckEntry,
): (number | Absent)[] {
  const { names } = rates;
  const costs: (number | Absent)[] = [main];
  if (typeof cost !== 'object' || cost === null) {
    check(argument, cost, 0);
    costs[0] = cost as number;
    for (let index = 1; index <= names.length; index++) {
      check(`${argument}.${names[index - 1]}`, cost, index);
      costs.push(cost as number);
    }
    return costs;
  }
  for (let index = names.length; index > 0; index--) costs.push(named);
  for (const key of Object.keys(cost)) {
    const value = (cost as Readonly<Record<string, unknown>>)[key];
    const index = key === 'cost' ? 0 : names.indexOf(key) + 1;
    if (index === 0 && key !== 'cost') throw unknownRate(argument, key, rates);
    if (value === undefined) continue;
    check(`${argument}.${key}`, value, index);
    costs[index] = value as number;
  }
  return costs;
}

/** Throws unless `value` is a number above `-Infinity`. */
function checkLevel(argument: string, value: unknown): void {
  checkNumber(argument, 'a number above -Infinity', value, -Number.MAX_VALUE, Infinity);
}

/** The levels that a correction states, as a vector. A number sets only the rates without a name. */
export function readLevels(levels: unknown, rates: NamedRates): (number | undefined)[] {
  if (typeof levels === 'object' && levels !== null)
    return readCosts('levels', levels, rates, undefined, undefined, checkLevel);
  checkLevel('levels', levels);
  return [levels as number];
}

/** The true costs that a settlement states, as a vector; `undefined` for each rate that it does not mention. */
export function readSettlement(cost: unknown, rates: NamedRates): (number | undefined)[] {
  return readCosts('cost', cost, rates, undefined, undefined, checkTokens);
}

function unknownRate(argument: string, key: string, rates: NamedRates): TypeError {
  const names = rates.names.map(printable).join(', ');
  return new TypeError(
    `${argument}.${printable(key).slice(1, -1)} is not a rate of ${rates.describe()}: ` +
      (names === '' ? 'it has no named rates' : `its named rates are ${names}`),
  );
}

/** A frozen record of the entries of a vector, by the names of the rates. */
export function costsByName(names: readonly string[], costs: readonly number[]): Readonly<Record<string, number>> {
  return Object.freeze(Object.fromEntries(names.map((name, index) => [name, costs[index + 1] as number])));
}

/** A cost as error messages show it: `1`, or `1 ("tokens": 4000)`. */
export function describeCost(cost: number, names: readonly string[], terms: Terms | undefined): string {
  const named = names.map((name, index) => `${printable(name)}: ${terms?.costs?.[index + 1]}`).join(', ');
  return named === '' ? `${cost}` : `${cost} (${named})`;
}

/**
 * What a call requests, if it requests more than a number of tokens and one slot. Its permit keeps the object and adds
 * its own state. All objects have one shape, so that the code that reads them stays fast.
 */
export class Terms {
  /** The requested cost of the main rate. */
  readonly cost: number;
  /** The vector; `undefined` in a gate without named rates. A settlement replaces the array. */
  costs: readonly number[] | undefined;
  readonly slots: number;
  /** For each entry of `costs`, whether it has been settled; `undefined` before the first settlement by name. */
  settled: boolean[] | undefined = undefined;
  /** Created when the signal of the permit is first read: most holders never read it. */
  controller: AbortController | undefined = undefined;

  constructor(cost: number, costs: readonly number[] | undefined, slots: number) {
    this.cost = cost;
    this.costs = costs;
    this.slots = slots;
  }

  /** Records the true costs that are given, each once. Returns the vector of the differences. */
  settle(trueCosts: readonly (number | undefined)[]): number[] {
    const before = this.costs ?? [];
    const settled = (this.settled ??= before.map(() => false));
    const after = before.map((cost, index) => (settled[index] === true ? cost : (trueCosts[index] ?? cost)));
    trueCosts.forEach((cost, index) => {
      if (cost !== undefined) settled[index] = true;
    });
    this.costs = after;
    return after.map((cost, index) => cost - (before[index] as number));
  }
}
