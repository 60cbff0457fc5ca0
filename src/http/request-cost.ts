/** The cost of a request, and its comparison with the cost of the same gate in another middleware. */
import type { Cost } from '../core/cost.js';
import { checkCost, checkNumber } from '../core/validation.js';

/**
 * Throws unless `cost` is a number or a record of numbers, each finite and >= 0. The gate checks the names.
 *
 * @throws {RangeError | TypeError} An entry is out of range.
 */
export function checkRequestCost(cost: Cost): void {
  if (typeof cost !== 'object' || cost === null) return checkCost(cost);
  for (const [name, value] of Object.entries(cost))
    if (value !== undefined) checkNumber(`cost.${name}`, 'a finite number >= 0', value, 0, Number.MAX_VALUE);
}

/** Whether `held` is at least `requested` for every rate that one of them names. */
export function covers(held: Cost, requested: Cost): boolean {
  if (typeof held === 'number' && typeof requested === 'number') return requested <= held;
  return namesOf(held, requested).every((name) => costOf(requested, name) <= costOf(held, name));
}

/** For every rate, the higher one of two costs. */
export function highestCost(one: Cost, other: Cost): Cost {
  if (typeof one === 'number' && typeof other === 'number') return Math.max(one, other);
  return Object.fromEntries(
    namesOf(one, other).map((name) => [name, Math.max(costOf(one, name), costOf(other, name))] as const),
  );
}

/** The main rate, which has the name `cost` in a record, and every rate that a record names. */
function namesOf(...costs: Cost[]): string[] {
  const names = costs.flatMap((cost) => (typeof cost === 'number' ? [] : Object.keys(cost)));
  return [...new Set(['cost', ...names])];
}

/** The tokens of one rate. A number charges every rate. */
function costOf(cost: Cost, name: string): number {
  if (typeof cost === 'number') return cost;
  const own = Object.hasOwn(cost, name) ? cost[name] : undefined;
  return own ?? (name === 'cost' ? 1 : 0);
}
