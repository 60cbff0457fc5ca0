/** The rates of a gate on Redis: their checks, and their text for the script, see `scripts/rates.lua`. */
import { type NamedRates, readCosts, readLevels, Terms } from '../core/cost.js';
import { type CheckedRate, checkSettings, type Rate } from '../core/limits.js';
import type { Limits, Throttle } from '../core/throttle.js';
import { checkCost, checkInteger, invalid } from '../core/validation.js';
import { encodeLevels, escapeName } from './charge.js';
import { oversizeError } from './options.js';
import { encodeRate } from './protocol.js';

/** The most slots of one permit. The script takes the slots of a permit one by one. */
const MOST_SLOTS = 1_000;

/** The options of a gate that concern its rates. */
export interface RateOptions extends Pick<Rate, 'window' | 'margin'> {
  readonly also?: readonly Rate[] | undefined;
}

/** One rate as words: `capacity period burst`, and `w` for a sliding window. */
function encodeOne({ capacity, period, burst = Math.max(1, capacity), window, margin = 0 }: CheckedRate): string {
  if (window === undefined) return encodeRate(capacity, period, burst);
  // One token fits, as in `createBudget` of the core.
  return `${encodeRate(capacity, (capacity < 1 ? period / capacity : period) + margin, burst)} w`;
}

/** The rates of one throttle object. */
export class FleetRates implements NamedRates {
  readonly names: readonly string[];
  /** The rates beside the main rate. */
  readonly also: readonly CheckedRate[];
  /** The largest cost of each named rate. */
  readonly bursts: readonly number[];
  readonly describe: () => string;
  /** Has the concurrency, and the smallest burst of the rates without a name. */
  readonly #local: Throttle<string>;
  /** Has the main rate alone. */
  readonly #main: Throttle;
  readonly #window: Pick<Rate, 'window' | 'margin'>;

  constructor(local: Throttle<string>, main: Throttle, { also, window, margin }: RateOptions, describe: () => string) {
    const settings = checkSettings({ also });
    this.also = settings.also;
    this.names = settings.names;
    this.bursts = settings.bursts;
    this.#local = local;
    this.#main = main;
    this.#window = { window, margin };
    this.describe = describe;
  }

  /** The rates, for messages. */
  get rates(): readonly Rate[] {
    return [{ ...this.#mainRate(), ...this.#window }, ...this.also];
  }

  get hasWindow(): boolean {
    return this.#window.window !== undefined;
  }

  /** The number of jobs at a time; `0` and `Infinity` mean any number. */
  get concurrency(): number {
    return this.#main.concurrency;
  }

  get maxCosts(): readonly number[] {
    return this.#local.maxCosts;
  }

  /** The tokens of a full gate, of the rates without a name. */
  get fullTokens(): number {
    const unnamed = [
      this.#main.capacity,
      ...this.also.flatMap((rate) => (rate.name === undefined ? rate.capacity : [])),
    ];
    return Math.min(...unnamed) < Infinity ? this.#local.burst : Infinity;
  }

  /** The tokens of a full gate, of each named rate. */
  get fullLevels(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.names.map((name, index) => [name, this.bursts[index] as number]));
  }

  /** Applies new limits of the main rate, in both throttles or in none. */
  configure(limits: Limits): void {
    this.#main.configure(limits);
    if (this.#main !== (this.#local as Throttle)) this.#local.configure(limits);
  }

  /** Argument 5 of the step. */
  encode(): string {
    const main = this.#mainRate();
    const { window, margin } = this.#window;
    const rates = this.also.filter(({ capacity }) => capacity < Infinity);
    if (rates.length === 0 && (window === undefined || main.capacity === Infinity)) return encodeOne(main);
    const words = rates.map(
      (rate) => `${rate.name === undefined ? '-' : `=${escapeName(rate.name)}`} ${encodeOne(rate)}`,
    );
    if (main.capacity < Infinity) words.unshift(`- ${encodeOne({ ...main, window, margin })}`);
    return words.join(';');
  }

  #mainRate(): { capacity: number; period: number; burst: number; window: undefined; margin: undefined } {
    const { capacity, period, burst } = this.#main;
    return { capacity, period, burst, window: undefined, margin: undefined };
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
      if (cost > this.#local.burst) throw oversizeError(this.describe(), cost, this.#local.burst);
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
    const most = this.#main.concurrency || Infinity;
    if (slots <= most) return undefined;
    return invalid('slots', `at most ${most}, the concurrency of ${this.describe()}`, slots, RangeError);
  }
}
