/**
 * The sliding window: no rolling period ever sees more than `capacity`, where a bucket allows up to twice that. It
 * remembers every grant for one period, so it needs memory for as many as one window holds. Pure arithmetic over
 * `(now, cost)`: no timer, no promise, no clock. Instants and durations are seconds.
 *
 * This is the "sliding window log" of the literature. A grant at `t` counts in `[t, t + period)`: of a period with
 * both its ends one more grant may be part, which is what a margin is for.
 */
export class SlidingWindow {
  readonly burst: number;
  /** Seconds for which a grant counts. */
  readonly #span: number;
  /** What rounding may swallow: ten costs of 0.1 make one, although their sum is not quite 1. */
  readonly #slack: number;
  /**
   * The grants, oldest first, those of one instant as one: when, how much, and all that was spent up to then. The
   * marks tell grants apart; where a cost was corrected they are no longer the sums of the costs.
   */
  #times: number[] = [];
  #costs: number[] = [];
  #marks: number[] = [];
  /** The index of the oldest that still counts. */
  #first = 0;
  /** The sum of what counts. */
  #total = 0;
  /** All that was spent, as much of it as has left the window, and the mark up to which costs were corrected. */
  #spent = 0;
  #gone = 0;
  #corrected = 0;

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
    this.#corrected = before.#corrected;
  }

  level(now: number): number {
    this.#expire(now);
    return this.burst - this.#total;
  }

  readyAt(from: number, cost: number): number {
    // Whoever comes last in a queue has at most `burst` in the span before; the rest of the queue came before that.
    const spans = Math.max(0, Math.ceil(cost / this.burst - 1e-12) - 1);
    const over = this.#total + (cost - spans * this.burst) - this.burst;
    const at = over > this.#slack ? Math.max(from, this.#leaves(over - this.#slack)) : from;
    return at + spans * this.#span;
  }

  /** The instant at which the oldest grants, `cost` in all, have left the window. */
  #leaves(cost: number): number {
    let index = this.#first;
    if (this.#corrected <= this.#gone) index = this.#find(this.#gone + cost);
    else for (let left = cost - (this.#costs[index] ?? 0); left > 0 && index < this.#times.length - 1; ) left -= this.#costs[++index] as number;
    return (this.#times[Math.min(index, this.#times.length - 1)] as number) + this.#span;
  }

  /** The index of the first grant whose mark is not below `mark`. */
  #find(mark: number): number {
    let low = this.#first;
    for (let high = this.#marks.length; low < high; ) {
      const middle = (low + high) >> 1;
      if ((this.#marks[middle] as number) < mark) low = middle + 1;
      else high = middle;
    }
    return low;
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
    const index = this.#find(point);
    const cost = this.#costs[index];
    // Corrected to nothing before, and forgotten.
    if (cost === undefined) return;
    this.#costs[index] = cost + difference;
    this.#total += difference;
    this.#corrected = Math.max(this.#corrected, this.#marks[index] as number);
    // The latest grant that counts is the one until which the window is not full.
    while (this.#times.length > this.#first && (this.#costs.at(-1) as number) <= this.#slack) {
      this.#times.pop();
      this.#marks.pop();
      this.#total -= this.#costs.pop() as number;
    }
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
    if (first > length / 2) this.#compact();
  }

  /** Forgets what counts no more, and what rounding left of the sums. */
  #compact(): void {
    this.#times = this.#times.slice(this.#first);
    this.#costs = this.#costs.slice(this.#first);
    this.#marks = this.#marks.slice(this.#first).map((mark) => mark - this.#gone);
    this.#spent -= this.#gone;
    this.#corrected -= this.#gone;
    this.#gone = 0;
    this.#first = 0;
    this.#total = this.#costs.reduce((sum, cost) => sum + cost, 0);
  }
}
