/** Costs by name: the types that connect the options of `throttledFetch` to the rates of its gate. */

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
