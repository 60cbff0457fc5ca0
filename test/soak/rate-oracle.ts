/**
 * Decides from the log of grants alone whether a rate allows a further grant. Each rate replays the whole log with the
 * true costs (../model/replay.ts). There are two answers: whether a grant is allowed, and whether a grant is due. The
 * answers differ by the rounding error, and for grants that a throttle no longer keeps exactly.
 */
import type { Rate } from 'headgate';
import { type LoggedGrant, type RateReplay, replayOf } from '../model/replay.js';
import { KEPT_CHANGES } from '../model/reference.js';

/** Relative to the burst. */
const ROUNDING = 1e-9;

/** The rounding error of an instant, in seconds. */
export const roundingError = (now: number): number => Math.max(1e-12, Math.abs(now) * 2 ** -49);

/**
 * A throttle keeps at least so many of its latest grants exactly. It may charge the debt of an older grant in full, and
 * also a debt from before many changes of limits.
 */
const KEPT_EXACTLY = 100;

/** A grant in both logs. */
export interface LoggedEntry {
  readonly generous: LoggedGrant;
  readonly strict: LoggedGrant;
  /** The number of earlier grants, and of earlier changes of limits. */
  readonly serial: number;
  readonly changes: number;
}

export class RateOracle {
  /** The log that decides what is allowed. The level of a throttle never exceeds the level of this log. */
  readonly #generous: RateReplay;
  /** The log that decides what is due. */
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

  /** The rounding error of a level, in tokens. */
  #slack(now: number): number {
    const { capacity, period = 1 } = this.#rate;
    return this.burst * ROUNDING + (this.#sliding ? 0 : (capacity / period) * roundingError(now));
  }

  /** The rounding error of the instant at which a grant leaves a window, in seconds. */
  #edge(now: number): number {
    return this.#sliding ? 2 * roundingError(now) : 0;
  }

  /** Whether a grant of `cost` at `now` is allowed. */
  mayGrant(now: number, cost: number): boolean {
    return (
      cost === 0 || this.burst === Infinity || cost <= this.#generous.level(now + this.#edge(now)) + this.#slack(now)
    );
  }

  /** Whether a grant of `cost` at `now` is due. */
  mustGrant(now: number, cost: number): boolean {
    return (
      cost === 0 || this.burst === Infinity || cost <= this.#strict.level(now - this.#edge(now)) - this.#slack(now)
    );
  }

  take(now: number, cost: number): LoggedEntry {
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

  /** Records the true cost of a grant. */
  settle(now: number, { generous, strict, serial, changes }: LoggedEntry, cost: number): void {
    const debt = cost - generous.cost;
    generous.cost = cost;
    this.#generous.settled(generous, now);
    const isOld = this.#grants - serial > KEPT_EXACTLY || this.#changes - changes > KEPT_CHANGES;
    if (debt > 0 && !this.#sliding && isOld) this.#strict.add({ at: now, cost: debt });
    else strict.cost = cost;
    this.#strict.settled(strict, now);
  }

  /** Applies other limits from `now` on. */
  configure(now: number, rate: Rate): void {
    this.#rate = rate;
    this.#changes++;
    this.#generous.configure(now + this.#edge(now), rate);
    this.#strict.configure(now - this.#edge(now), rate);
  }
}
