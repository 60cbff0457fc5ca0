/**
 * The sliding window: no rolling period ever sees more than `capacity`, where a bucket allows up to twice that. It
 * remembers every grant for one period, so it needs memory for as many as one window holds. Pure arithmetic over
 * `(now, cost)`: no timer, no promise, no clock. Instants and durations are seconds.
 *
 * This is the "sliding window log" of the literature. A grant at `t` counts in `[t, t + period)`: of a period with
 * both its ends one more grant may be part, which is what a margin is for. A cost that is corrected later counts at the
 * instant of its grant. The corrections are kept in a Fenwick tree ("A new data structure for cumulative frequency
 * tables", 1994), so that the instant at which a cost fits is found in logarithmic time also after corrections.
 */
import type { Budget } from './budget.js';
import { FenwickTree } from './fenwick-tree.js';

export class SlidingWindow implements Budget {
  readonly burst: number;
  /** Seconds for which a grant counts. */
  readonly #span: number;
  /** What rounding may swallow: ten costs of 0.1 make one, although their sum is not quite 1. */
  readonly #slack: number;
  /** The grants, oldest first, those of one instant as one: the instant, the true cost, the serial number of the last of them. */
  #times: number[] = [];
  #costs: number[] = [];
  #serials: number[] = [];
  /** For each entry, the sum of all costs up to it as they were before any correction. */
  #sums: number[] = [];
  /** The differences between the true costs and the costs in `#sums`; absent while there are none. */
  #corrections: FenwickTree | undefined;
  /** The index of the oldest entry that still counts. */
  #first = 0;
  /** The sum of the true costs that count. */
  #total = 0;
  /** The serial number of the last grant that counts no more, or never did. */
  #goneSerial: number;

  /**
   * @param capacity What may start in any `span`.
   * @param span Seconds: the period, and the margin for what the network adds.
   * @param now The instant at which it replaces `earlier`.
   * @param serial The serial number of the last grant before that.
   * @param earlier The window that it replaces: the grants that still count at `now` go on counting.
   */
  constructor(capacity: number, span: number, now: number = -Infinity, serial: number = 0, earlier?: SlidingWindow) {
    this.burst = capacity;
    this.#span = span;
    this.#slack = capacity * 1e-11;
    this.#goneSerial = serial;
    if (earlier === undefined) return;
    // Grants that have left the shorter window stay out, also if nothing has looked at it since.
    earlier.#expire(now);
    this.#times = earlier.#times;
    this.#costs = earlier.#costs;
    this.#serials = earlier.#serials;
    this.#sums = earlier.#sums;
    this.#corrections = earlier.#corrections;
    this.#first = earlier.#first;
    this.#total = earlier.#total;
    this.#goneSerial = earlier.#goneSerial;
  }

  level(now: number): number {
    this.#expire(now);
    return this.burst - this.#total;
  }

  readyAt(from: number, cost: number): number {
    if (cost === 0) return from;
    // The last of a queue has at most `burst` in the span before it; the rest of the queue came before that.
    const spans = Math.max(0, Math.ceil(cost / this.burst - 1e-12) - 1);
    const over = this.#total + (cost - spans * this.burst) - this.burst;
    const at = over > this.#slack ? Math.max(from, this.#leaves(over - this.#slack)) : from;
    return at + spans * this.#span;
  }

  /** The instant at which the oldest grants, `cost` in all, have left the window. */
  #leaves(cost: number): number {
    const gone = this.#sumBefore(this.#first);
    let low = this.#first;
    for (let high = this.#times.length - 1; low < high;) {
      const middle = (low + high) >> 1;
      if (this.#sumBefore(middle + 1) - gone < cost) low = middle + 1;
      else high = middle;
    }
    return (this.#times[low] as number) + this.#span;
  }

  /** The sum of the true costs of all entries before `index`. */
  #sumBefore(index: number): number {
    return index === 0 ? 0 : (this.#sums[index - 1] as number) + (this.#corrections?.sumBefore(index) ?? 0);
  }

  fullAt(): number {
    // The latest grant that counts is the one until which the window is not full.
    let last = this.#times.length - 1;
    while (last >= this.#first && (this.#costs[last] as number) <= this.#slack) last--;
    return last < this.#first ? -Infinity : (this.#times[last] as number) + this.#span;
  }

  take(now: number, cost: number, serial: number): boolean {
    this.#expire(now);
    // Twice the slack of `readyAt`, which adds in another order: when it says "now", this must agree.
    if (cost > 0 && this.#total + cost - this.burst > 2 * this.#slack) return false;
    this.#add(now, cost, serial);
    return true;
  }

  settle(now: number, difference: number, serial: number): void {
    this.#expire(now);
    // A grant that has left the window counts no more, whatever it cost.
    if (serial <= this.#goneSerial) return;
    const index = this.#indexOf(serial);
    (this.#costs[index] as number) += difference;
    this.#total += difference;
    this.#corrections ??= new FenwickTree(this.#times.length);
    this.#corrections.add(index, difference);
  }

  /** The index of the entry that the grant `serial` is part of. */
  #indexOf(serial: number): number {
    let low = this.#first;
    for (let high = this.#serials.length - 1; low < high;) {
      const middle = (low + high) >> 1;
      if ((this.#serials[middle] as number) < serial) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  settleEarlier(now: number, earlier: SlidingWindow, difference: number, serial: number): void {
    earlier.#expire(now);
    if (serial <= earlier.#goneSerial) return;
    // All grants of the earlier window came before those of this one.
    const time = earlier.#times[earlier.#indexOf(serial)] as number;
    earlier.settle(now, difference, serial);
    this.#compact();
    let index = 0;
    while (index < this.#times.length && (this.#times[index] as number) < time) index++;
    this.#times.splice(index, 0, time);
    this.#costs.splice(index, 0, difference);
    this.#serials.splice(index, 0, this.#serials[index - 1] ?? this.#goneSerial);
    this.#compact();
  }

  fresh(): SlidingWindow {
    return new SlidingWindow(this.burst, this.#span);
  }

  #add(now: number, cost: number, serial: number): void {
    this.#total += cost;
    const last = this.#times.length - 1;
    if (last >= this.#first && now <= (this.#times[last] as number)) {
      (this.#costs[last] as number) += cost;
      (this.#sums[last] as number) += cost;
      this.#serials[last] = serial;
      return;
    }
    this.#times.push(now);
    this.#costs.push(cost);
    this.#sums.push((this.#sums[last] ?? 0) + cost);
    this.#serials.push(serial);
    this.#corrections?.append();
  }

  #expire(now: number): void {
    const { length } = this.#times;
    let first = this.#first;
    while (first < length && (this.#times[first] as number) + this.#span <= now)
      this.#total -= this.#costs[first++] as number;
    if (first === this.#first) return;
    this.#first = first;
    this.#goneSerial = this.#serials[first - 1] as number;
    if (first > length / 2) this.#compact();
  }

  /** Forgets the entries that count no more, and what rounding left of the sums. */
  #compact(): void {
    this.#times = this.#times.slice(this.#first);
    this.#costs = this.#costs.slice(this.#first);
    this.#serials = this.#serials.slice(this.#first);
    this.#corrections = undefined;
    this.#first = 0;
    let sum = 0;
    this.#sums = this.#costs.map((cost) => (sum += cost));
    this.#total = sum;
  }
}
