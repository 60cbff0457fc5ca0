/**
 * The level of a rate, computed from the definition alone (promise 6): a settlement leaves exactly the tokens that a
 * request of the true cost would have left. A replay keeps all grants in a log, each with its instant and its latest
 * cost. It computes a level from the beginning of the log. A settlement only replaces the cost of its grant in the log;
 * there is no formula for refunds and debts.
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
  /** The tokens at `now`, which must not be earlier than the last entry of the log. A negative level is a debt. */
  level(now: number): number;
  /** The first instant from `from` on at which `cost` fits, if no other cost is granted. */
  opensAt(from: number, cost: number): number;
  add(grant: LoggedGrant): void;
  /** Reverts the latest `add`. */
  removeLatest(): void;
  /** Called after a change of `grant.cost`, at `now`. */
  settled(grant: LoggedGrant, now: number): void;
  /** Changes the limits at `now`. */
  configure(now: number, limits: Rate): void;
  /** Resets the rate to full at `now`. Earlier grants no longer count. */
  forget(now: number): void;
}

/** The limits of a bucket from an instant on. `fresh`: the bucket is full at that instant. */
interface Limits {
  readonly at: number;
  readonly rate: number;
  readonly size: number;
  readonly fresh: boolean;
}

/** A correction of the level. A replay of the log passes it, so the grants before it do not matter any more. */
interface Correction {
  readonly at: number;
  readonly corrected: number;
}

/** The state of a bucket directly after an entry of the log. */
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
  readonly #log: (LoggedGrant | Limits | Correction)[];
  /** The states after the first entries of the log. A settlement drops the states from its grant on. */
  readonly #states: State[] = [];
  readonly #indexes: Map<LoggedGrant, number> = new Map();
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
    // A cost of 0 takes no tokens, so a debt does not delay it.
    return cost === 0 || cost <= level ? from : from + (cost - level) / this.#limits.rate;
  }

  add(grant: LoggedGrant): void {
    this.#indexes.set(grant, this.#log.length);
    this.#log.push(grant);
  }

  removeLatest(): void {
    this.#indexes.delete(this.#log.pop() as LoggedGrant);
    this.#states.length = Math.min(this.#states.length, this.#log.length);
  }

  settled(grant: LoggedGrant): void {
    this.#states.length = Math.min(this.#states.length, this.#indexes.get(grant) ?? Infinity);
  }

  configure(now: number, rate: Rate): void {
    this.#change(now, rate, this.unlimited);
  }

  forget(now: number): void {
    this.#change(now, this.#rate, true);
  }

  /** Sets the level at `now`. A later settlement of an earlier grant has no effect. */
  setLevel(now: number, level: number): void {
    this.#log.push({ at: now, corrected: Math.min(this.size, level) });
  }

  #change(now: number, rate: Rate, fresh: boolean): void {
    this.#rate = rate;
    this.#limits = limitsAt(now, rate, fresh);
    this.#log.push(this.#limits);
  }

  #latest(): State {
    for (let index = this.#states.length; index < this.#log.length; index++) {
      this.#states.push(this.#after(this.#states[index - 1], this.#log[index] as LoggedGrant | Limits | Correction));
    }
    return this.#states.at(-1) as State;
  }

  #after(before: State | undefined, entry: LoggedGrant | Limits | Correction): State {
    const { at } = entry;
    const level = before === undefined ? 0 : refilled(before.limits, before.level, at - before.at);
    if ('size' in entry) return { at, level: entry.fresh ? entry.size : Math.min(entry.size, level), limits: entry };
    if ('corrected' in entry) return { at, level: entry.corrected, limits: (before as State).limits };
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
    const expiries = this.#log.map(({ at }) => at + this.span).filter((at) => at > from);
    return [from, ...expiries.toSorted((a, b) => a - b)].find((at) => cost <= this.level(at)) ?? Infinity;
  }

  add(grant: LoggedGrant): void {
    this.#log.push(grant);
  }

  removeLatest(): void {
    this.#log.pop();
  }

  settled(): void {}

  /** A longer window does not restore expired grants. Grants of a time without a limit never count. */
  configure(now: number, rate: Rate): void {
    this.#log = this.unlimited ? [] : this.#log.filter(({ at }) => at + this.span > now);
    this.#rate = rate;
  }

  forget(): void {
    this.#log = [];
  }

  /** A lower level is one more grant at `now`. A higher level forgets the oldest costs first. */
  setLevel(now: number, level: number): void {
    let raise = Math.min(this.size, level) - this.level(now);
    // The copies do not follow later settlements.
    this.#log = this.#log.filter(({ at }) => at + this.span > now).map(({ at, cost }) => ({ at, cost }));
    if (raise < 0) this.#log.push({ at: now, cost: -raise });
    for (const grant of this.#log) {
      const forgotten = Math.min(Math.max(0, raise), grant.cost);
      grant.cost -= forgotten;
      raise -= forgotten;
    }
  }
}

export const replayOf = (rate: Rate, now = 0): BucketReplay | WindowReplay =>
  rate.window === 'sliding' ? new WindowReplay(rate) : new BucketReplay(rate, now);
