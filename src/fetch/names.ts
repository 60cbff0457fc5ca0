/** Costs by name: the types that connect the options of `throttledFetch` to the rates of its gate. */
import { type Cost, checkTokens } from '../core/cost.js';

/** The costs that `acquire` of a gate accepts. */
type AcceptedCost<G> = G extends { readonly keyed: true; acquire(key: never, cost?: infer C, ...rest: never): unknown }
  ? C
  : G extends { acquire(cost?: infer C, ...rest: never): unknown }
    ? C
    : never;

/** The names in the record form of a cost. */
type KeyOf<C> = C extends object ? keyof C : never;

/** The names of the rates of a gate: `never` for a gate without named rates, `string` for a gate that accepts any name. */
export type RateName<G> = Exclude<KeyOf<AcceptedCost<G>>, 'cost'> & string;

/** Throws unless `cost` has the form of a cost. The gate checks the names, and compares each entry with its rate. */
export function checkCostForm(cost: unknown): asserts cost is Cost {
  if (typeof cost !== 'object' || cost === null || Array.isArray(cost)) return checkTokens('cost', cost);
  for (const [name, value] of Object.entries(cost)) if (value !== undefined) checkTokens(`cost.${name}`, value);
}
