/** The interface of rate limits. A budget is pure arithmetic over `(now, cost)`: no timer, no promise, no clock. */

/**
 * A limit on the cost that may start in a span of time. Instants and durations are in seconds. A budget of one rate
 * uses the `cost`. A {@link CombinedBudget} with named rates uses the vector `costs` instead, see `cost.ts`.
 */
export interface Budget {
  /** The largest cost that the budget can grant. */
  readonly burst: number;
  /** The tokens available at `now`. Negative while a settled cost has left a debt. */
  level(now: number): number;
  /**
   * The earliest instant, from `from` on, at which `cost` fits, if no other cost is taken. A `cost` above `burst` is
   * the sum of the costs of a queue. Each cost in that queue is at most `burst`.
   */
  readyAt(from: number, cost: number, costs?: readonly number[]): number;
  /** The instant from which the budget equals a new budget, if no other cost is taken. */
  fullAt(): number;
  /** Takes `cost` if `readyAt(now, cost) <= now`; otherwise returns `false`. Serial numbers of grants increase. */
  take(now: number, cost: number, serial: number, costs?: readonly number[]): boolean;
  /**
   * Adds `difference`, which may be negative, to the cost of the grant `serial`. Afterwards, the level is the level
   * that a request of the corrected cost would have left.
   */
  settle(now: number, difference: number, serial: number, differences?: readonly number[]): void;
  /**
   * Adds `difference` to the cost of a grant of `earlier`. This budget has replaced `earlier`, which had the same
   * limits and was full at that instant.
   */
  settleEarlier(
    now: number,
    earlier: Budget,
    difference: number,
    serial: number,
    differences?: readonly number[],
  ): void;
  /**
   * Sets the level at `now`, to at most `burst`; `undefined` changes nothing. `serial` is the serial number of the
   * latest grant: later settlements of the grants up to `serial` have no effect. With `onlyLower`, a level that is
   * lower already stays as it is.
   */
  correct(
    now: number,
    level: number | undefined,
    serial: number,
    onlyLower: boolean,
    levels?: readonly (number | undefined)[],
  ): void;
  /** A new budget with the same limits. */
  fresh(): Budget;
}

/**
 * Combines several budgets. A cost is taken from all of them or from none. Each budget has a place in the vectors: 0 for
 * the main rate and for every rate without a name. A call without a vector charges its cost to every budget.
 */
export class CombinedBudget implements Budget {
  readonly burst: number;
  readonly #budgets: readonly Budget[];
  readonly #places: readonly number[];

  constructor(budgets: readonly Budget[], places: readonly number[] = budgets.map(() => 0)) {
    this.#budgets = budgets;
    this.#places = places;
    this.burst = Math.min(...this.#unnamed.map(({ burst }) => burst));
  }

  /** The budgets of the rates without a name. */
  get #unnamed(): Budget[] {
    return this.#budgets.filter((_, index) => this.#places[index] === 0);
  }

  level(now: number): number {
    return Math.min(...this.#unnamed.map((budget) => budget.level(now)));
  }

  readyAt(from: number, cost: number, costs?: readonly number[]): number {
    let at = from;
    for (let index = 0; index < this.#budgets.length; index++) {
      const ready = (this.#budgets[index] as Budget).readyAt(from, this.#at(index, cost, costs));
      if (ready > at) at = ready;
    }
    return at;
  }

  /** The number that `values` holds for a budget; `value` without a vector. */
  #at(index: number, value: number, values: readonly number[] | undefined): number {
    return values === undefined ? value : (values[this.#places[index] as number] as number);
  }

  fullAt(): number {
    return Math.max(...this.#budgets.map((budget) => budget.fullAt()));
  }

  take(now: number, cost: number, serial: number, costs?: readonly number[]): boolean {
    // Check every budget before the first one takes the cost.
    if (this.readyAt(now, cost, costs) > now) return false;
    for (let index = 0; index < this.#budgets.length; index++)
      (this.#budgets[index] as Budget).take(now, this.#at(index, cost, costs), serial);
    return true;
  }

  settle(now: number, difference: number, serial: number, differences?: readonly number[]): void {
    this.#budgets.forEach((budget, index) => {
      const own = this.#at(index, difference, differences);
      if (own !== 0) budget.settle(now, own, serial);
    });
  }

  settleEarlier(
    now: number,
    earlier: CombinedBudget,
    difference: number,
    serial: number,
    differences?: readonly number[],
  ): void {
    this.#budgets.forEach((budget, index) => {
      const own = this.#at(index, difference, differences);
      if (own !== 0) budget.settleEarlier(now, earlier.#budgets[index] as Budget, own, serial);
    });
  }

  correct(
    now: number,
    level: number | undefined,
    serial: number,
    onlyLower: boolean,
    levels: readonly (number | undefined)[] = [level],
  ): void {
    this.#budgets.forEach((budget, index) =>
      budget.correct(now, levels[this.#places[index] as number], serial, onlyLower),
    );
  }

  fresh(): CombinedBudget {
    return new CombinedBudget(
      this.#budgets.map((budget) => budget.fresh()),
      this.#places,
    );
  }
}
