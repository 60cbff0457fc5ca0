/**
 * What may start by several rates, computed from the grants alone, with room for what rounding may do: each rate is a
 * replay of the whole log of grants with their true costs (../model/replay.ts). Two answers: what must not be granted,
 * and what must. They differ by rounding, and where a throttle no longer keeps a grant exactly.
 */
import type { Rate } from 'headgate';
import { type LoggedGrant, type RateReplay, replayOf } from '../model/replay.js';
import { KEPT_CHANGES } from '../model/reference.js';

/** Relative to the burst. */
const ROUNDING = 1e-9;

/** What rounding may do to an instant. */
export const grain = (now: number): number => Math.max(1e-12, Math.abs(now) * 2 ** -49);

/** A throttle keeps at least so many of its latest grants exactly: a debt of an older one may be charged in full, and so may one from before many changes of limits. */
const KEPT_EXACTLY = 100;

/** A grant in the logs of the two answers. */
export interface Entry {
  readonly generous: LoggedGrant;
  readonly strict: LoggedGrant;
  /** How many were granted before, and how often limits had changed. */
  readonly serial: number;
  readonly changes: number;
}

export class Account {
  /** The log of what may be granted: every level that a throttle shows is at most this one. */
  readonly #generous: RateReplay;
  /** The log of what has to be granted. */
  readonly #strict: RateReplay;
  readonly #sliding: boolean;
  #rate: Rate;
  #grants = 0;
  #changes = 0;

  constructor(rate: Rate, now: number) {
    this.#rate = rate;
    this.#sliding = rate.window === 'sliding';
    [this.#generous, this.#strict] = [replayOf(rate, now), replayOf(rate, now)];
  }

  /** The largest cost that can be granted. */
  get burst(): number {
    return this.#generous.unlimited ? Infinity : this.#generous.size;
  }

  /** By how many tokens rounding may be off. */
  #slack(now: number): number {
    const { capacity, period = 1 } = this.#rate;
    return this.burst * ROUNDING + (this.#sliding ? 0 : (capacity / period) * grain(now));
  }

  /** By how many seconds rounding may be off, where a grant leaves a window. */
  #edge(now: number): number {
    return this.#sliding ? 2 * grain(now) : 0;
  }

  /** Whether `cost` can be granted at `now`. */
  may(now: number, cost: number): boolean {
    return (
      cost === 0 || this.burst === Infinity || cost <= this.#generous.level(now + this.#edge(now)) + this.#slack(now)
    );
  }

  /** Whether `cost` has to be granted at `now`. */
  must(now: number, cost: number): boolean {
    return (
      cost === 0 || this.burst === Infinity || cost <= this.#strict.level(now - this.#edge(now)) - this.#slack(now)
    );
  }

  take(now: number, cost: number): Entry {
    const entry = {
      generous: { at: now, cost },
      strict: { at: now, cost },
      serial: this.#grants++,
      changes: this.#changes,
    };
    this.#generous.add(entry.generous);
    this.#strict.add(entry.strict);
    return entry;
  }

  /** The true cost of a grant is known. */
  settle(now: number, { generous, strict, serial, changes }: Entry, cost: number): void {
    const debt = cost - generous.cost;
    generous.cost = cost;
    this.#generous.settled(generous, now);
    const isOld = this.#grants - serial > KEPT_EXACTLY || this.#changes - changes > KEPT_CHANGES;
    if (debt > 0 && !this.#sliding && isOld) this.#strict.add({ at: now, cost: debt });
    else strict.cost = cost;
    this.#strict.settled(strict, now);
  }

  /** Other limits from `now` on. */
  configure(now: number, rate: Rate): void {
    this.#rate = rate;
    this.#changes++;
    this.#generous.configure(now + this.#edge(now), rate);
    this.#strict.configure(now - this.#edge(now), rate);
  }
}
