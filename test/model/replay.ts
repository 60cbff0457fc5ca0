/**
 * What a rate has left, derived from the definition alone (DESIGN, promise 6): settling leaves exactly the tokens that
 * would be there had the true cost been asked for in the first place. A replay therefore keeps the whole log of grants,
 * each at its instant with its cost as it is known now, and computes the level at an instant from the beginning of the
 * log. A settlement changes the cost of its grant in the log. No formula says what a settlement gives back.
 */
import type { Rate } from 'headgate';

/** A grant in the log. A settlement replaces `cost`. */
export interface LoggedGrant {
  readonly at: number;
  cost: number;
}

export interface RateReplay {
  /** The largest cost that can be granted. */
  readonly size: number;
  readonly unlimited: boolean;
  /** The tokens at `now`, which is not earlier than the last entry of the log. Below zero is a debt. */
  level(now: number): number;
  /** The first instant from `from` on at which `cost` fits, if nothing else is granted. */
  opensAt(from: number, cost: number): number;
  add(grant: LoggedGrant): void;
  /** Takes back the latest `add`. */
  removeLatest(): void;
  /** The cost of `grant` was replaced, at `now`. */
  settled(grant: LoggedGrant, now: number): void;
  /** Other limits from `now` on. */
  configure(now: number, limits: Rate): void;
  /** Starts anew at `now`: full, and no earlier grant counts. */
  forget(now: number): void;
}

/** The limits of a bucket from an instant on. `fresh`: the bucket starts full, whatever came before. */
interface Limits {
  readonly at: number;
  readonly rate: number;
  readonly size: number;
  readonly fresh: boolean;
}

/** The bucket right after an entry of the log. */
interface State {
  readonly at: number;
  readonly level: number;
  readonly limits: Limits;
}

const limitsAt = (
  at: number,
  { capacity, period = 1, burst = Math.max(1, capacity) }: Rate,
  fresh: boolean,
): Limits => ({ at, rate: capacity / period, size: burst, fresh });

/** The level of a bucket, `seconds` after `level`. */
const refilled = ({ rate, size }: Limits, level: number, seconds: number): number =>
  rate === Infinity ? size : Math.min(size, level + rate * seconds);

export class BucketReplay implements RateReplay {
  readonly #log: (LoggedGrant | Limits)[];
  /** The states after the entries of the log, as far as they are computed and no settlement has changed them. */
  readonly #states: State[] = [];
  readonly #places: Map<LoggedGrant, number> = new Map();
  #limits: Limits;
  #rate: Rate;

  constructor(rate: Rate, now = 0) {
    this.#rate = rate;
    this.#limits = limitsAt(now, rate, true);
    this.#log = [this.#limits];
  }

  get size(): number {
    return this.#limits.size;
  }

  get unlimited(): boolean {
    return this.#limits.rate === Infinity;
  }

  level(now: number): number {
    const { at, level, limits } = this.#latest();
    return this.unlimited ? Infinity : refilled(limits, level, now - at);
  }

  opensAt(from: number, cost: number): number {
    const level = this.level(from);
    // A cost of 0 takes no token, so a debt does not delay it.
    return cost === 0 || cost <= level ? from : from + (cost - level) / this.#limits.rate;
  }

  add(grant: LoggedGrant): void {
    this.#places.set(grant, this.#log.length);
    this.#log.push(grant);
  }

  removeLatest(): void {
    this.#places.delete(this.#log.pop() as LoggedGrant);
    this.#states.length = Math.min(this.#states.length, this.#log.length);
  }

  settled(grant: LoggedGrant): void {
    this.#states.length = Math.min(this.#states.length, this.#places.get(grant) ?? Infinity);
  }

  configure(now: number, rate: Rate): void {
    this.#change(now, rate, this.unlimited);
  }

  forget(now: number): void {
    this.#change(now, this.#rate, true);
  }

  #change(now: number, rate: Rate, fresh: boolean): void {
    this.#rate = rate;
    this.#limits = limitsAt(now, rate, fresh);
    this.#log.push(this.#limits);
  }

  #latest(): State {
    for (let index = this.#states.length; index < this.#log.length; index++) {
      this.#states.push(this.#after(this.#states[index - 1], this.#log[index] as LoggedGrant | Limits));
    }
    return this.#states.at(-1) as State;
  }

  #after(before: State | undefined, entry: LoggedGrant | Limits): State {
    const { at } = entry;
    const level = before === undefined ? 0 : refilled(before.limits, before.level, at - before.at);
    if ('size' in entry) return { at, level: entry.fresh ? entry.size : Math.min(entry.size, level), limits: entry };
    return { at, level: level - entry.cost, limits: (before as State).limits };
  }
}

/** A sliding window: a grant at `at` counts in [at, at + span). */
export class WindowReplay implements RateReplay {
  #log: LoggedGrant[] = [];
  #rate: Rate;

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** A capacity below 1 is one token per `period / capacity` seconds. */
  get size(): number {
    return Math.max(1, this.#rate.capacity);
  }

  get span(): number {
    const { capacity, period = 1, margin = 0 } = this.#rate;
    return period / Math.min(1, capacity) + margin;
  }

  get unlimited(): boolean {
    return this.#rate.capacity === Infinity;
  }

  level(now: number): number {
    return this.#log.reduce((level, { at, cost }) => (at + this.span > now ? level - cost : level), this.size);
  }

  opensAt(from: number, cost: number): number {
    if (cost === 0) return from;
    const leaves = this.#log.map(({ at }) => at + this.span).filter((at) => at > from);
    return [from, ...leaves.toSorted((a, b) => a - b)].find((at) => cost <= this.level(at)) ?? Infinity;
  }

  add(grant: LoggedGrant): void {
    this.#log.push(grant);
  }

  removeLatest(): void {
    this.#log.pop();
  }

  settled(): void {}

  /** A grant that has left by now stays out of a longer window. The grants of an unlimited time never count. */
  configure(now: number, rate: Rate): void {
    this.#log = this.unlimited ? [] : this.#log.filter(({ at }) => at + this.span > now);
    this.#rate = rate;
  }

  forget(): void {
    this.#log = [];
  }
}

export const replayOf = (rate: Rate, now = 0): RateReplay =>
  rate.window === 'sliding' ? new WindowReplay(rate) : new BucketReplay(rate, now);
