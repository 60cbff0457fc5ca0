/**
 * What may start by several rates, computed from the grants alone, with room for what rounding may do. Two answers: what
 * must not be granted, and what must. They differ only where a refund's worth depends on what happened since.
 */
import type { Rate } from 'headgate';

/** Relative to the burst. */
const ROUNDING = 1e-9;

/** What rounding may do to an instant. */
export const grain = (now: number): number => Math.max(1e-12, Math.abs(now) * 2 ** -49);

interface Entry {
  readonly at: number;
  cost: number;
  /** It had left the window when that was made longer: whether it counts again is not promised. */
  doubtful?: boolean;
}

export interface Account {
  readonly burst: number;
  /** Whether `cost` could be granted at most, and has to be at least. */
  may(now: number, cost: number): boolean;
  must(now: number, cost: number): boolean;
  take(now: number, cost: number): Entry;
  /** A grant is corrected by `difference`: that of `entry`, if it is known here. */
  settle(now: number, entry: Entry | undefined, difference: number): void;
}

class BucketAccount implements Account {
  readonly burst: number;
  readonly #rate: number;
  #most: number;
  #least: number;
  #at: number;

  constructor({ capacity, period = 1, burst = Math.max(1, capacity) }: Rate, now: number, before?: Account) {
    this.burst = burst;
    this.#rate = capacity / period;
    this.#at = now;
    this.#most = this.#least = burst;
    if (!(before instanceof BucketAccount)) return;
    before.#flow(now);
    this.#most = Math.min(burst, before.#most);
    this.#least = Math.min(burst, before.#least);
  }

  #flow(now: number): void {
    if (now <= this.#at) return;
    const gain = this.#rate * (now - this.#at);
    this.#most = Math.min(this.burst, this.#most + gain);
    this.#least = Math.min(this.burst, this.#least + gain);
    this.#at = now;
  }

  #slack(now: number): number {
    return this.burst * ROUNDING + this.#rate * grain(now);
  }

  may(now: number, cost: number): boolean {
    this.#flow(now);
    return cost <= this.#most + this.#slack(now);
  }

  must(now: number, cost: number): boolean {
    this.#flow(now);
    return cost <= this.#least - this.#slack(now);
  }

  take(now: number, cost: number): Entry {
    this.#flow(now);
    this.#most -= cost;
    this.#least -= cost;
    return { at: now, cost };
  }

  settle(now: number, _entry: Entry | undefined, difference: number): void {
    this.#flow(now);
    this.#most = difference > 0 ? this.#most - difference : Math.max(this.#most, Math.min(this.burst, this.#most - difference));
    if (difference > 0) this.#least -= difference;
  }
}

class WindowAccount implements Account {
  readonly burst: number;
  readonly #span: number;
  #entries: Entry[];

  constructor({ capacity, period = 1, margin = 0 }: Rate, now: number, before?: Account) {
    this.burst = capacity;
    this.#span = period + margin;
    this.#entries = before instanceof WindowAccount ? [...before.#entries] : [];
    for (const entry of this.#entries) if (before instanceof WindowAccount && entry.at + before.#span <= now + 2 * grain(now)) entry.doubtful = true;
  }

  /** What counts at `now`. */
  #sum(now: number, slack: number, doubtfully: boolean): number {
    return this.#entries.reduce((sum, { at, cost, doubtful = false }) => (at + this.#span > now + slack && (doubtfully || !doubtful) ? sum + cost : sum), 0);
  }

  may(now: number, cost: number): boolean {
    return this.#sum(now, 2 * grain(now), false) + cost <= this.burst * (1 + ROUNDING);
  }

  must(now: number, cost: number): boolean {
    return this.#sum(now, -2 * grain(now), true) + cost <= this.burst * (1 - ROUNDING);
  }

  take(now: number, cost: number): Entry {
    const entry = { at: now, cost };
    this.#entries.push(entry);
    // What has long left counts no more, whatever becomes of it.
    if (this.#entries.length > 4_000) this.#entries = this.#entries.filter(({ at }) => at + 2 * this.#span > now);
    return entry;
  }

  settle(now: number, entry: Entry | undefined, difference: number): void {
    if (difference > 0) this.take(now, difference);
    else if (entry !== undefined) entry.cost += difference;
  }
}

/** The account of a rate, or none where it is unlimited. */
export function accountOf(rate: Rate, now: number, before?: Account): Account | undefined {
  if (rate.capacity === Infinity) return undefined;
  return rate.window === 'sliding' ? new WindowAccount(rate, now, before) : new BucketAccount(rate, now, before);
}
