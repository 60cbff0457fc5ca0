/** Costs by name: the types that connect the options of `throttledFetch` to the rates of its gate. */
import type { Permit as CorePermit } from '../core/permit.js';
import { checkCost, checkNumber } from '../core/validation.js';

/** A permit with costs by name. */
export type Permit<Name extends string = string> = CorePermit & {
  readonly costs?: Readonly<Record<Name, number>>;
  readonly signal?: AbortSignal;
  settle(cost: Cost<Name>): void;
};

/** A cost in tokens. A number charges every rate. A record charges each named rate its entry. */
export type Cost<Name extends string = string> = number | CostRecord<Name>;

/** A cost for each rate by its name. `cost` is the cost of the main rate and of every rate without a name. */
export type CostRecord<Name extends string = string> = {
  /** Tokens of the main rate and of every rate without a name. */
  readonly cost?: number | undefined;
} & {
  /** Tokens of a named rate. */
  readonly [N in Name]?: number | undefined;
};

/** The costs that `acquire` of a gate accepts. */
type AcceptedCost<G> = G extends { readonly keyed: true; acquire(key: never, cost?: infer C, ...rest: never): unknown }
  ? C
  : G extends { acquire(cost?: infer C, ...rest: never): unknown }
    ? C
    : never;

type KeyOf<C> = C extends object ? keyof C : never;

/** The names of the rates of a gate: `never` for a gate without named rates, `string` for a gate that accepts any name. */
export type RateName<G> = Exclude<KeyOf<AcceptedCost<G>>, 'cost'> & string;

/** Throws unless `cost` is a cost in its form. The gate checks the names, and compares each entry with its rate. */
export function checkCostForm(cost: unknown): asserts cost is Cost {
  if (typeof cost !== 'object' || cost === null || Array.isArray(cost)) return checkCost(cost);
  for (const [name, value] of Object.entries(cost)) {
    if (value !== undefined) checkNumber(`cost.${name}`, 'a finite number >= 0', value, 0, Number.MAX_VALUE);
  }
}
