/** A budget answers how much may start, and from when. Pure arithmetic: without timers, promises and clocks. */

/** A limit on the cost that may start in a span of time. */
export interface Budget {
  /** The largest cost that it can ever grant. */
  readonly burst: number;
  /** The tokens at hand at `now`. Below zero where a settled cost left a debt. */
  level(now: number): number;
  /**
   * The earliest instant, not before `from`, at which `cost` fits if nothing else is spent. A `cost` above `burst`
   * stands for a queue of costs that each fit.
   */
  readyAt(from: number, cost: number): number;
  /** The instant from which it is as full as a new one, if nothing else is spent. */
  fullAt(): number;
  /** Takes `cost`, if it fits at `now`: if `readyAt(now, cost) <= now`. `serial` numbers the grant, and only grows. */
  take(now: number, cost: number, serial: number): boolean;
  /**
   * Corrects the cost of the grant `serial` by `difference`: more, or less where it is negative. Afterwards the level is
   * the one that there would be, had the corrected cost been asked for in the first place.
   */
  settle(now: number, difference: number, serial: number): void;
  /** Corrects the cost of a grant of `earlier`, a budget of the same limits that was full when this one took its place. */
  settleEarlier(now: number, earlier: Budget, difference: number, serial: number): void;
  /** A new budget with the same limits. */
  fresh(): Budget;
}

/** Several budgets as one: they are met together or not at all. */
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
    // None spends while another refuses.
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
