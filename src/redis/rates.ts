/** The rates of a gate on Redis: their checks, and their text for the script, see `scripts/rates.lua`. */
import {
  costsByName,
  type NamedRates,
  readCosts,
  readLevels,
  Terms,
  tooLargeError,
  tooManySlotsError,
} from '../core/cost.js';
import { type CheckedRate, type Rate, sizeOf, spanOf } from '../core/limits.js';
import type { Throttle } from '../core/throttle.js';
import type { Limits } from '../core/throttle-options.js';
import { checkCost, checkInteger, invalid } from '../core/validation.js';
import { encodeLevels, escapeName } from './charge.js';
import { encodeRate } from './protocol.js';

/** The most slots of one permit. The script takes the slots of a permit one by one. */
const MOST_SLOTS = 1_000;

/** One rate as words: `capacity period burst`, and `w` for a sliding window. */
function encodeOne(rate: CheckedRate): string {
  const { capacity, period, window } = rate;
  if (window === undefined) return encodeRate(capacity, period, sizeOf(rate));
  return `${encodeRate(capacity, spanOf(rate), sizeOf(rate))} w`;
}

/** The rates of one throttle object. */
export class FleetRates implements NamedRates {
  readonly describe: () => string;
  /** Has the checked limits, and the rates beside the main rate. */
  readonly #local: Throttle<string>;
  readonly #window: Pick<Rate, 'window' | 'margin'>;
  /** The burst of the main rate, as given: the burst of the local throttle is the smallest burst of several rates. */
  #burst: number | undefined;

  /** @param main The options of the main rate that `local` does not show. `local` has checked them. */
  constructor(local: Throttle<string>, main: Pick<Rate, 'burst' | 'window' | 'margin'>, describe: () => string) {
    const { burst, window, margin } = main;
    this.#local = local;
    this.#burst = burst;
    this.#window = { window, margin };
    this.describe = describe;
  }

  get names(): readonly string[] {
    return this.#local.names;
  }

  /** All rates, for messages. */
  get list(): readonly Rate[] {
    return this.#checkedRates();
  }

  /** Whether the gate has one bucket, or no rate. */
  get isSimple(): boolean {
    return this.#local.also.length === 0 && this.#window.window === undefined;
  }

  /** The number of jobs at a time; `0` and `Infinity` mean any number. */
  get concurrency(): number {
    return this.#local.concurrency;
  }

  get maxCosts(): readonly number[] {
    return this.#local.maxCosts;
  }

  /** The tokens of a full gate, of the rates without a name. */
  get fullTokens(): number {
    const isLimited = this.list.some(({ name, capacity }) => name === undefined && capacity < Infinity);
    return isLimited ? this.#local.burst : Infinity;
  }

  /** The tokens of a full gate, of each named rate. */
  get fullLevels(): Readonly<Record<string, number>> {
    return costsByName(this.names, this.maxCosts);
  }

  /** Applies new limits of the main rate. */
  configure(limits: Limits): void {
    this.#local.configure(limits);
    if ('burst' in limits) this.#burst = limits.burst;
  }

  /** The rates as the header of a batch states them. */
  encode(): string {
    const [main, ...also] = this.#checkedRates();
    const rates = [main, ...also].filter(({ capacity }) => capacity < Infinity);
    if (rates.length === 0) return encodeOne({ ...main, window: undefined });
    if (rates.length === 1 && rates[0] === main && main.window === undefined) return encodeOne(main);
    return rates
      .map((rate) => `${rate.name === undefined ? '-' : `=${escapeName(rate.name)}`} ${encodeOne(rate)}`)
      .join(';');
  }

  #checkedRates(): [CheckedRate, ...CheckedRate[]] {
    const { capacity, period, also } = this.#local;
    const { window, margin } = this.#window;
    return [{ capacity, period, burst: this.#burst, window, margin }, ...(also as readonly CheckedRate[])];
  }

  /**
   * Checks a cost and a number of slots.
   *
   * @returns `undefined` for a number and one slot in a gate without named rates.
   * @throws {RangeError | TypeError} One of them is out of range, or a name is unknown.
   */
  read(cost: unknown, slots: number = 1): Terms | undefined {
    if (slots !== 1) this.#checkSlots(slots);
    else if (typeof cost === 'number' && this.names.length === 0) {
      checkCost(cost);
      if (cost > this.#local.burst) throw tooLargeError('cost', cost, this.#local.burst, this.describe());
      return undefined;
    }
    return new Terms(readCosts(cost, this), slots);
  }

  /** Checks the levels of a correction. */
  readLevels(levels: unknown): string {
    return encodeLevels(readLevels(levels, this), this.names);
  }

  #checkSlots(slots: number): void {
    checkInteger('slots', 'an integer >= 0', slots, 0, Number.MAX_VALUE);
    const error = this.tooManySlots(slots);
    if (error !== undefined) throw error;
    if (slots > MOST_SLOTS) throw invalid('slots', `at most ${MOST_SLOTS} in a gate on Redis`, slots, RangeError);
  }

  /** The error of a permit with more slots than the concurrency of this object. */
  tooManySlots(slots: number): Error | undefined {
    return tooManySlotsError(slots, this);
  }
}
