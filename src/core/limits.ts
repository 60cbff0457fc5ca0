/** The limits and settings of a gate: their checks, their budgets, and their description in messages. */
import { type Budget, CombinedBudget } from './budget.js';
import { type Clock, systemClock } from './clock.js';
import { warnIfMilliseconds } from './milliseconds.js';
import { checkOptionNames } from './option-names.js';
import { SlidingWindow } from './sliding-window.js';
import { TokenBucket } from './token-bucket.js';
import { checkCount, checkNumber, checkObject, checkSeconds, invalid } from './validation.js';

/** A rate limit: `capacity` tokens per `period`. */
export interface Rate<Name extends string = string> {
  /**
   * A name for a rate in `also`: a non-empty string other than `cost`, unique in the throttle. A call can then state a
   * cost for this rate alone.
   */
  name?: Name | undefined;
  /** Tokens per `period`, > 0; `Infinity` for no limit. */
  capacity: number;
  /** Seconds: > 0, finite. Default 1. */
  period?: number | undefined;
  /** The size of the bucket, which an idle throttle can grant at once: > 0. Default `max(1, capacity)`. */
  burst?: number | undefined;
  /**
   * `'sliding'`: any rolling `period` starts at most `capacity`. A grant counts for exactly one period. By default, a
   * token bucket limits the rate. After an idle time, a bucket can start `burst` plus the refill of one period within
   * one period: with the default `burst`, twice `capacity`. A window records each grant for one period. With a
   * `capacity` below 1, a window starts one token in any `period / capacity` seconds.
   */
  window?: 'sliding' | undefined;
  /** Seconds that lengthen a sliding window, to allow for variable network delays: >= 0. Default 0. */
  margin?: number | undefined;
}

/** A rate that {@link checkRate} has checked. */
export interface CheckedRate {
  readonly name?: string | undefined;
  readonly capacity: number;
  readonly period: number;
  /** As the caller gave it: `undefined` if the burst follows `capacity`. */
  readonly burst: number | undefined;
  readonly window: 'sliding' | undefined;
  readonly margin: number | undefined;
}

/** A rate that is not checked yet. The main rate of a gate needs no capacity. */
type GivenRate = { [Key in keyof Rate]?: Rate[Key] | undefined };

const RATE_OPTIONS = ['name', 'capacity', 'period', 'burst', 'window', 'margin'] as const;

/** The limits of a gate that {@link checkLimits} has checked. */
export interface CheckedLimits extends CheckedRate {
  readonly concurrency: number;
}

/** The settings of a gate that {@link checkSettings} has checked. */
export interface Settings {
  readonly also: readonly CheckedRate[];
  /** The names of the named rates, in the order of `also`. */
  readonly names: readonly string[];
  /** The largest cost that each named rate can grant. */
  readonly bursts: readonly number[];
  /** Seconds for which a permit is valid; `Infinity` without a limit. */
  readonly ttl: number;
  readonly maxQueue: number;
  readonly clock: Clock;
  readonly name: string | undefined;
  readonly silent: boolean | undefined;
}

/**
 * Checks the main rate and the concurrency of a gate, and fills in the defaults. The default `capacity` is `Infinity`.
 *
 * @throws {RangeError | TypeError} A limit is out of range.
 */
export function checkLimits(limits: GivenRate & { concurrency?: number | undefined }): CheckedLimits {
  const { concurrency = 0 } = limits;
  checkCount('concurrency', concurrency);
  const { capacity, period, burst, window, margin } = checkRate(limits, '');
  // With object spread instead of this literal, the constructor takes five times as long.
  return { capacity, concurrency, period, burst, window, margin };
}

/**
 * Checks the settings of a gate that are not part of its main limits, and fills in the defaults.
 *
 * @throws {RangeError | TypeError} A setting is out of range.
 */
export function checkSettings(options: {
  also?: readonly Rate[] | undefined;
  maxQueue?: number | undefined;
  ttl?: number | undefined;
  clock?: Clock | undefined;
  name?: string | undefined;
  silent?: boolean | undefined;
}): Settings {
  const { also = [], maxQueue = Infinity, ttl = Infinity, clock = systemClock, name, silent } = options;
  checkCount('maxQueue', maxQueue);
  checkSeconds('ttl', 'a number > 0', ttl, Number.MIN_VALUE, Infinity);
  if (typeof clock?.now !== 'function' || typeof clock.schedule !== 'function')
    throw invalid('clock', 'a Clock', clock);
  if (name !== undefined && typeof name !== 'string') throw invalid('name', 'a string', name);
  if (!Array.isArray(also)) throw invalid('also', 'an array of rates', also);
  const rates = also.map((rate: Rate, index) => checkRate(rate, `also[${index}].`));
  const named = rates.filter((rate) => rate.name !== undefined);
  const names = named.map((rate) => rate.name as string);
  const bursts = named.map((rate) => (rate.capacity === Infinity ? Number.MAX_VALUE : sizeOf(rate)));
  rates.forEach((rate, index) => {
    if (rate.name !== undefined && rates.findIndex((other) => other.name === rate.name) < index)
      throw invalid(`also[${index}].name`, 'unique', rate.name, RangeError);
  });
  return { also: rates, names, bursts, maxQueue, ttl, clock, name, silent };
}

/**
 * Checks one rate, and fills in the default period.
 *
 * @param prefix The text before the name of each argument in errors, such as `also[0].`.
 */
function checkRate(rate: GivenRate, prefix: string): CheckedRate {
  // `prefix` is empty for the main rate. The main rate has no name, and its caller has checked the names of its options.
  const isMain = prefix === '';
  const where = prefix.slice(0, -1);
  checkObject(where, rate);
  if (!isMain) checkOptionNames(where, rate, RATE_OPTIONS);
  const { capacity = isMain ? Infinity : undefined!, period = 1, burst, window, margin } = rate;
  const name = isMain ? undefined : rate.name;
  if (name !== undefined) checkRateName(`${prefix}name`, name);
  checkNumber(`${prefix}capacity`, 'a number > 0', capacity, Number.MIN_VALUE, Infinity);
  checkNumber(`${prefix}period`, 'a finite number > 0', period, Number.MIN_VALUE, Number.MAX_VALUE);
  // A bucket of infinite size would switch off a finite capacity.
  const maxBurst = capacity === Infinity ? Infinity : Number.MAX_VALUE;
  if (burst !== undefined) checkNumber(`${prefix}burst`, 'a finite number > 0', burst, Number.MIN_VALUE, maxBurst);
  if (window !== undefined && window !== 'sliding') throw invalid(`${prefix}window`, '"sliding" or left out', window);
  if (margin !== undefined)
    checkNumber(`${prefix}margin`, 'a finite number >= 0', margin, 0, Number.MAX_VALUE - period);
  if (window === undefined && margin !== undefined)
    throw invalid(`${prefix}margin`, 'left out without window: "sliding"', margin, RangeError);
  if (window !== undefined && burst !== undefined)
    throw invalid(`${prefix}burst`, 'left out with window: "sliding"', burst, RangeError);
  const checked = { name, capacity, period, burst, window, margin };
  const speed = capacity / period;
  // A rate that overflows would refill the bucket at once. A rate that underflows would never refill the bucket.
  if (capacity < Infinity && !(speed < Infinity && sizeOf(checked) / speed < Infinity)) {
    throw new RangeError(
      `${prefix}capacity / ${prefix}period must fill the burst in finite time, received ${capacity} / ${period}`,
    );
  }
  warnIfMilliseconds(`${prefix}period`, period);
  if (margin !== undefined) warnIfMilliseconds(`${prefix}margin`, margin);
  return checked;
}

/** Throws unless `name` can be the name of a rate. */
function checkRateName(argument: string, name: unknown): void {
  if (typeof name !== 'string') throw invalid(argument, 'a string', name);
  if (name === '' || name === 'cost') throw invalid(argument, 'a non-empty string other than "cost"', name, RangeError);
}

/** The largest cost that `rate` can grant at once. */
export function sizeOf({ burst, capacity }: Pick<Rate, 'burst' | 'capacity'>): number {
  return burst ?? Math.max(1, capacity);
}

/**
 * Seconds for which a sliding window counts a grant. One token fits, as by default in a bucket: otherwise no call with
 * the default cost could be granted.
 */
export function spanOf({ capacity, period, margin = 0 }: CheckedRate): number {
  return (capacity < 1 ? period / capacity : period) + margin;
}

/**
 * Makes the budget that enforces `rate`; `undefined` if the rate is unlimited.
 *
 * @param now The instant at which the new budget replaces `earlier`.
 * @param serial The serial number of the last grant before that instant.
 * @param earlier A budget of the same kind. The new bucket keeps its tokens; the new window keeps its live grants.
 */
export function createBudget(
  rate: CheckedRate,
  now: number = -Infinity,
  serial: number = 0,
  earlier?: Budget,
): Budget | undefined {
  const { capacity, period, window } = rate;
  if (capacity === Infinity) return undefined;
  const size = sizeOf(rate);
  if (window === undefined)
    return new TokenBucket(capacity, period, size, now, serial, earlier as TokenBucket | undefined);
  return new SlidingWindow(size, spanOf(rate), now, serial, earlier as SlidingWindow | undefined);
}

/**
 * Combines the budgets of a gate; `undefined` without a limit.
 *
 * @param own The budget of the main rate.
 * @param also The budgets of the rates in `also`.
 */
export function combineBudgets(
  own: Budget | undefined,
  also: readonly (Budget | undefined)[],
  { also: rates, names }: Settings,
): Budget | undefined {
  const budgets: Budget[] = [];
  const places: number[] = [];
  [own, ...also].forEach((budget, index) => {
    if (budget === undefined) return;
    budgets.push(budget);
    const name = rates[index - 1]?.name;
    places.push(name === undefined ? 0 : names.indexOf(name) + 1);
  });
  // A budget of one rate does not read vectors, so it serves only a gate whose one rate has no name.
  const isPlain = places.length < 2 && (places[0] ?? 0) === 0;
  return isPlain ? budgets[0] : new CombinedBudget(budgets, places);
}

/** The limits of a gate as messages show them: `10 per 1 s and 500 in any 60 s, 2 at a time`. */
export function describeLimits(rates: readonly Rate[], concurrency: number): string {
  const rate = rates
    .filter(({ capacity }) => capacity < Infinity)
    .map(({ capacity, period = 1, window }) => `${capacity} ${window === undefined ? 'per' : 'in any'} ${period} s`)
    .join(' and ');
  const jobs = concurrency === 0 || concurrency === Infinity ? 'any number' : concurrency;
  return `${rate || 'any rate'}, ${jobs} at a time`;
}
