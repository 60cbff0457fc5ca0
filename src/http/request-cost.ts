/** Comparison of the costs of one gate in two middlewares. */
import type { Cost } from '../core/cost.js';

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
