/**
 * The sliding window, a budget that grants at most `capacity` in any rolling period. A token bucket can grant up to
 * twice as much. The window records every grant for one period, so its memory grows with the grants of one window. It
 * is pure arithmetic over `(now, cost)`: no timer, no promise, no clock. Instants and durations are in seconds.
 *
 * The literature calls this algorithm "sliding window log". A grant at `t` counts in `[t, t + period)`. A period that
 * includes both its ends can contain one more grant; a `margin` prevents that. A corrected cost counts at the instant
 * of its grant. A Fenwick tree (P. M. Fenwick, 1994) stores the corrections. With this tree, `readyAt` takes
 * logarithmic time, also after corrections.
 */
import type { Budget } from './budget.js';
import { FenwickTree } from './fenwick-tree.js';

export class SlidingWindow implements Budget {
  readonly burst: number;
  /** Seconds for which a grant counts. */
  readonly #span: number;
  /** The tolerated rounding error: ten costs of 0.1 fit into 1 token, although their sum differs. */
  readonly #slack: number;
  /** The instants of the entries, oldest first. One entry holds all grants of one instant. */
  #times: number[] = [];
  /** The true cost of each entry. */
  #costs: number[] = [];
  /** The serial number of the last grant of each entry. */
  #serials: number[] = [];
  /** For each entry, the sum of all costs up to and including the entry, without corrections. */
  #sums: number[] = [];
  /** The differences between the true costs and the costs in `#sums`; `undefined` without corrections. */
  #corrections: FenwickTree | undefined;
  /** The index of the oldest live entry. */
  #first = 0;
  /** The sum of the true costs of the live entries. */
  #total = 0;
  /** The serial number of the last grant that is no longer in the window, or that came before the window. */
  #expiredSerial: number;
  /** The serial number of the last grant before the latest correction; -1 without a correction. */
  #correctedSerial = -1;

  /**
   * @param capacity The largest cost that may start in any `span`.
   * @param span Seconds: the period plus the margin.
   * @param now The instant at which this window replaces `earlier`.
   * @param serial The serial number of the last grant before that instant.
   * @param earlier The replaced window. Its grants that are live at `now` stay live.
   */
  constructor(capacity: number, span: number, now: number = -Infinity, serial: number = 0, earlier?: SlidingWindow) {
    this.burst = capacity;
    this.#span = span;
    this.#slack = capacity * 1e-11;
    this.#expiredSerial = serial;
    if (earlier === undefined) {
      // A window that follows a time without a limit ignores all grants before that time, as after a correction.
      if (now > -Infinity) this.#correctedSerial = serial;
      return;
    }
    // Remove the expired grants first: a grant that has left a shorter window must not return to a longer window.
    earlier.#expire(now);
    this.#times = earlier.#times;
    this.#costs = earlier.#costs;
    this.#serials = earlier.#serials;
    this.#sums = earlier.#sums;
    this.#corrections = earlier.#corrections;
    this.#first = earlier.#first;
    this.#total = earlier.#total;
    this.#expiredSerial = earlier.#expiredSerial;
    this.#correctedSerial = earlier.#correctedSerial;
  }

  level(now: number): number {
    this.#expire(now);
    return this.burst - this.#total;
  }

  readyAt(from: number, cost: number): number {
    if (cost === 0) return from;
    // A queue needs one more span for each full `burst` ahead of its last cost.
    const spans = Math.max(0, Math.ceil(cost / this.burst - 1e-12) - 1);
    const over = this.#total + (cost - spans * this.burst) - this.burst;
    const at = over > this.#slack ? Math.max(from, this.#expiryOf(over - this.#slack)) : from;
    return at + spans * this.#span;
  }

  /** The instant at which the oldest live grants, with a sum of `cost`, have left the window. */
  #expiryOf(cost: number): number {
    const expired = this.#sumBefore(this.#first);
    let low = this.#first;
    for (let high = this.#times.length - 1; low < high;) {
      const middle = (low + high) >> 1;
      if (this.#sumBefore(middle + 1) - expired < cost) low = middle + 1;
      else high = middle;
    }
    return (this.#times[low] as number) + this.#span;
  }

  /** The sum of the true costs of all entries before `index`. */
  #sumBefore(index: number): number {
    return index === 0 ? 0 : (this.#sums[index - 1] as number) + (this.#corrections?.sumBefore(index) ?? 0);
  }

  fullAt(): number {
    // The window is full again once its latest grant with a cost has expired.
    let last = this.#times.length - 1;
    while (last >= this.#first && (this.#costs[last] as number) <= this.#slack) last--;
    return last < this.#first ? -Infinity : (this.#times[last] as number) + this.#span;
  }

  take(now: number, cost: number, serial: number): boolean {
    this.#expire(now);
    // Twice the tolerance of `readyAt`, which adds in another order: a cost that is ready now must fit here.
    if (cost > 0 && this.#total + cost - this.burst > 2 * this.#slack) return false;
    this.#add(now, cost, serial);
    return true;
  }

  settle(now: number, difference: number, serial: number): void {
    this.#expire(now);
    // An expired grant does not count, so a correction of its cost has no effect.
    if (serial <= this.#expiredSerial || serial <= this.#correctedSerial) return;
    this.#addTo(this.#indexOf(serial), difference);
  }

  /** Adds `difference` to the cost of the entry at `index`. */
  #addTo(index: number, difference: number): void {
    (this.#costs[index] as number) += difference;
    this.#total += difference;
    this.#corrections ??= new FenwickTree(this.#times.length);
    this.#corrections.add(index, difference);
  }

  /** The index of the entry that contains the grant `serial`. */
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
    // A correction of this window came after all grants of `earlier`.
    if (serial <= earlier.#expiredSerial || serial <= earlier.#correctedSerial || this.#correctedSerial >= 0) return;
    // All grants of `earlier` are older than the grants of this window.
    const time = earlier.#times[earlier.#indexOf(serial)] as number;
    earlier.settle(now, difference, serial);
    this.#compact();
    let index = 0;
    while (index < this.#times.length && (this.#times[index] as number) < time) index++;
    this.#times.splice(index, 0, time);
    this.#costs.splice(index, 0, difference);
    this.#serials.splice(index, 0, this.#serials[index - 1] ?? this.#expiredSerial);
    this.#compact();
  }

  lower(now: number, level: number | undefined, serial: number): void {
    const present = this.level(now);
    this.#add(now, Math.max(0, present - (level ?? present)), serial);
  }

  correct(now: number, level: number | undefined, serial: number): void {
    if (level === undefined) return;
    this.#expire(now);
    let excess = this.#total - (this.burst - Math.min(this.burst, level));
    this.#correctedSerial = serial;
    // A lower level counts like a grant at this instant. A higher level forgets the oldest grants first.
    if (excess < 0) return this.#add(now, -excess, serial);
    for (let index = this.#first; excess > 0 && index < this.#times.length; index++) {
      const share = Math.min(excess, this.#costs[index] as number);
      this.#addTo(index, -share);
      excess -= share;
    }
  }

  fresh(): SlidingWindow {
    return new SlidingWindow(this.burst, this.#span);
  }

  #add(now: number, cost: number, serial: number): void {
    this.#total += cost;
    const last = this.#times.length - 1;
    // If there is a last entry, it is live: `#expire` removes all entries once the last one has expired.
    if (now <= (this.#times[last] ?? -Infinity)) {
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
    this.#expiredSerial = this.#serials[first - 1] as number;
    if (first > length / 2) this.#compact();
  }

  /** Drops the expired entries, and computes all sums again, without their rounding errors. */
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
