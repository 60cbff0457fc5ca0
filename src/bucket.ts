/**
 * The token bucket: how much may start, and from when. Pure arithmetic over `(now, cost)`: no timer, no promise,
 * no clock. Instants and durations are seconds.
 *
 * The bucket is the "leaky bucket as a meter" of ITU-T I.371, the one that GCRA describes, kept as a level of
 * tokens and the instant at which that level was true.
 */

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
  /** Takes `cost`, if it fits at `now`: if `readyAt(now, cost) <= now`. */
  take(now: number, cost: number): boolean;
  /**
   * Corrects a cost that was spent before: by `difference` more, or less where it is negative. `since` is what was
   * spent after it.
   */
  settle(now: number, difference: number, since: number): void;
}

export class TokenBucket implements Budget {
  readonly burst: number;
  /** Tokens per second. */
  readonly #rate: number;
  /** What rounding may swallow: ten costs of 0.1 make one, although their sum is not quite 1. */
  readonly #slack: number;
  #tokens: number;
  /** The instant at which there were `#tokens`. At first, any: the bucket starts full. */
  #at = -Infinity;

  /** `capacity` tokens flow in per `period` seconds, evenly, up to `burst`; `tokens` are there at the start. */
  constructor(capacity: number, period: number, burst: number, tokens: number = burst, now: number = -Infinity) {
    this.burst = burst;
    this.#rate = capacity / period;
    this.#slack = burst * 1e-12;
    this.#tokens = tokens;
    this.#at = tokens < burst ? now : -Infinity;
  }

  level(now: number): number {
    // A `now` from before is no earlier than the last: a stale instant neither refills nor drains.
    return now > this.#at ? Math.min(this.burst, this.#tokens + (now - this.#at) * this.#rate) : this.#tokens;
  }

  readyAt(from: number, cost: number): number {
    const level = this.level(from);
    if (cost - level <= this.#slack) return from;
    // From a fixed state, not from `from`: the same instant comes out however often it is asked for, so a timer
    // set for it is not set anew, and once that instant has come the cost fits, whatever rounding did to `level`.
    if (level < this.burst) return this.#at + (cost - this.#tokens) / this.#rate;
    return from + (cost - this.burst) / this.#rate;
  }

  fullAt(): number {
    return this.#at + (this.burst - this.#tokens) / this.#rate;
  }

  take(now: number, cost: number): boolean {
    const level = this.level(now);
    if (cost - level > this.#slack && this.readyAt(now, cost) > now) return false;
    this.#tokens = level - cost;
    if (now > this.#at) this.#at = now;
    return true;
  }

  settle(now: number, difference: number, since: number): void {
    const level = this.level(now);
    // What comes back late was in part refilled already: after a whole refill, 9 of 10 tokens spent and then a
    // refund of 10, ten more at once would make 19 in an instant. As if the cost had never been spent, a full
    // bucket less what was spent since is the most that can be there.
    this.#tokens = difference > 0 ? level - difference : Math.max(level, Math.min(level - difference, this.burst - since));
    if (now > this.#at) this.#at = now;
  }
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

  take(now: number, cost: number): boolean {
    // None spends while another refuses.
    if (this.readyAt(now, cost) > now) return false;
    for (const budget of this.#budgets) budget.take(now, cost);
    return true;
  }

  settle(now: number, difference: number, since: number): void {
    for (const budget of this.#budgets) budget.settle(now, difference, since);
  }
}
