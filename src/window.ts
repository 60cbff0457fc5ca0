/**
 * The sliding window: no rolling period ever sees more than `capacity`, where a bucket allows up to twice that. It
 * remembers every grant for one period, so it needs memory for as many as one window holds. Pure arithmetic over
 * `(now, cost)`: no timer, no promise, no clock. Instants and durations are seconds.
 *
 * This is the "sliding window log" of the literature. A grant at `t` counts in `[t, t + period)`.
 */
export class SlidingWindow {
  readonly burst: number;
  /** Seconds for which a grant counts. */
  readonly #span: number;
  /** What rounding may swallow: ten costs of 0.1 make one, although their sum is not quite 1. */
  readonly #slack: number;
  /** The grants, oldest first, those of one instant as one: when, how much, and all that was spent up to then. */
  #times: number[] = [];
  #costs: number[] = [];
  #marks: number[] = [];
  /** The index of the oldest that still counts. */
  #first = 0;
  /** The sum of what counts. */
  #total = 0;
  /** All that was ever spent, and as much of it as has left the window. */
  #spent = 0;
  #gone = 0;

  /**
   * @param capacity What may start in any `span`.
   * @param span Seconds: the period, and the margin for what the network adds.
   * @param before Whose grants still count.
   */
  constructor(capacity: number, span: number, before?: SlidingWindow) {
    this.burst = capacity;
    this.#span = span;
    this.#slack = capacity * 1e-11;
    if (before === undefined) return;
    this.#times = before.#times;
    this.#costs = before.#costs;
    this.#marks = before.#marks;
    this.#first = before.#first;
    this.#total = before.#total;
    this.#spent = before.#spent;
    this.#gone = before.#gone;
  }

  level(now: number): number {
    this.#expire(now);
    return this.burst - this.#total;
  }

  readyAt(from: number, cost: number): number {
    // Whoever comes last in a queue has at most `burst` in the span before; the rest of the queue came before that.
    const spans = Math.max(0, Math.ceil(cost / this.burst - 1e-12) - 1);
    let over = this.#total + (cost - spans * this.burst) - this.burst;
    let at = from;
    for (let index = this.#first; over > this.#slack && index < this.#times.length; index++) {
      over -= this.#costs[index] as number;
      at = Math.max(from, (this.#times[index] as number) + this.#span);
    }
    return at + spans * this.#span;
  }

  fullAt(): number {
    return this.#first < this.#times.length ? (this.#times.at(-1) as number) + this.#span : -Infinity;
  }

  take(now: number, cost: number): boolean {
    this.#expire(now);
    // Twice the slack of `readyAt`, which adds in another order: when it says "now", this must agree.
    if (this.#total + cost - this.burst > 2 * this.#slack) return false;
    this.#add(now, cost);
    return true;
  }

  settle(now: number, difference: number, since: number): void {
    if (difference > 0) return this.#add(now, difference);
    // A point within what the grant spent. Where that has left the window nothing comes back: what it took is there
    // again, and a second time would be too much for the present window.
    const point = this.#spent - since + difference / 2;
    if (point <= this.#gone) return;
    let low = this.#first;
    for (let high = this.#marks.length; low < high; ) {
      const middle = (low + high) >> 1;
      if ((this.#marks[middle] as number) < point) low = middle + 1;
      else high = middle;
    }
    const back = Math.min(-difference, this.#costs[low] ?? 0);
    this.#costs[low] = (this.#costs[low] ?? 0) - back;
    this.#total -= back;
  }

  #add(now: number, cost: number): void {
    if (cost === 0) return;
    this.#spent += cost;
    this.#total += cost;
    const last = this.#times.length - 1;
    if (now <= (this.#times[last] ?? -Infinity)) {
      this.#costs[last] = (this.#costs[last] as number) + cost;
      this.#marks[last] = this.#spent;
      return;
    }
    this.#times.push(now);
    this.#costs.push(cost);
    this.#marks.push(this.#spent);
  }

  #expire(now: number): void {
    const { length } = this.#times;
    let first = this.#first;
    while (first < length && (this.#times[first] as number) + this.#span <= now) this.#total -= this.#costs[first++] as number;
    if (first === this.#first) return;
    this.#first = first;
    this.#gone = this.#marks[first - 1] as number;
    if (first > length / 2 || first === length) this.#compact();
  }

  /** Forgets what counts no more, and what rounding left of the sum. */
  #compact(): void {
    this.#times = this.#times.slice(this.#first);
    this.#costs = this.#costs.slice(this.#first);
    this.#marks = this.#marks.slice(this.#first);
    this.#first = 0;
    this.#total = this.#costs.reduce((sum, cost) => sum + cost, 0);
  }
}
