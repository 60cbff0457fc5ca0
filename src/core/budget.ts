/** The interface of rate limits. A budget is pure arithmetic over `(now, cost)`: no timer, no promise, no clock. */

/** A limit on the cost that may start in a span of time. Instants and durations are in seconds. */
export interface Budget {
  /** The largest cost that the budget can grant. */
  readonly burst: number;
  /** The tokens available at `now`. Negative while a settled cost has left a debt. */
  level(now: number): number;
  /**
   * The earliest instant, from `from` on, at which `cost` fits, if no other cost is taken. A `cost` above `burst` is
   * the sum of the costs of a queue. Each cost in that queue is at most `burst`.
   */
  readyAt(from: number, cost: number): number;
  /** The instant from which the budget equals a new budget, if no other cost is taken. */
  fullAt(): number;
  /** Takes `cost` if `readyAt(now, cost) <= now`; otherwise returns `false`. Serial numbers of grants increase. */
  take(now: number, cost: number, serial: number): boolean;
  /**
   * Adds `difference`, which may be negative, to the cost of the grant `serial`. Afterwards, the level is the level
   * that a request of the corrected cost would have left.
   */
  settle(now: number, difference: number, serial: number): void;
  /**
   * Adds `difference` to the cost of a grant of `earlier`. This budget has replaced `earlier`, which had the same
   * limits and was full at that instant.
   */
  settleEarlier(now: number, earlier: Budget, difference: number, serial: number): void;
  /** A new budget with the same limits. */
  fresh(): Budget;
}

/** Combines several budgets. A cost is taken from all of them or from none. */
export class CombinedBudget implements Budget {
  readonly burst: number;
  readonly #budgets: readonly Budget[];

  constructor(budgets: readonly Budget[]) {
    this.#budgets = budgets;
    this.burst = Math.min(...budgets.map(({ burst }) => burst));
  }

  level(now: number): number {
    return Math.min(...this.#budgets.map((budget) => budget.level(now)));
  }

  readyAt(from: number, cost: number): number {
    return Math.max(...this.#budgets.map((budget) => budget.readyAt(from, cost)));
  }

  fullAt(): number {
    return Math.max(...this.#budgets.map((budget) => budget.fullAt()));
  }

  take(now: number, cost: number, serial: number): boolean {
    // Check every budget before the first one takes the cost.
    if (this.readyAt(now, cost) > now) return false;
    for (const budget of this.#budgets) budget.take(now, cost, serial);
    return true;
  }

  settle(now: number, difference: number, serial: number): void {
    for (const budget of this.#budgets) budget.settle(now, difference, serial);
  }

  settleEarlier(now: number, earlier: CombinedBudget, difference: number, serial: number): void {
    this.#budgets.forEach((budget, index) =>
      budget.settleEarlier(now, earlier.#budgets[index] as Budget, difference, serial),
    );
  }

  fresh(): CombinedBudget {
    return new CombinedBudget(this.#budgets.map((budget) => budget.fresh()));
  }
}
