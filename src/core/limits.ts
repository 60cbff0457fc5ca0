/**
 * A limit on the rate, as callers state it: how much may start per period, and in what sense. Checks it, and makes
 * the budget that keeps it.
 */
import { TokenBucket } from './token-bucket.js';
import type { Budget } from './budget.js';
import { checkNumber, checkObject, invalid } from './validation.js';
import { SlidingWindow } from './sliding-window.js';

/** A limit on the rate: `capacity` tokens per `period`. */
export interface Rate {
  /** Tokens per `period`, > 0; `Infinity` for no limit. */
  capacity: number;
  /** Seconds, > 0 and finite. Default 1. */
  period?: number | undefined;
  /** The bucket's size: what may start at once after silence. > 0. Default `max(1, capacity)`. */
  burst?: number | undefined;
  /**
   * `'sliding'`: no rolling `period` ever sees more than `capacity`; a grant counts until exactly one period later.
   * Left out, a bucket keeps the rate, which lets `burst` and one period's refill into one period after silence:
   * with the default `burst`, twice `capacity`. A window remembers each grant for a period. With a `capacity` below 1, it
   * lets one token start in any `period / capacity` seconds.
   */
  window?: 'sliding' | undefined;
  /** Seconds by which a sliding window is widened, for what the network adds or takes on the way. >= 0. Default 0. */
  margin?: number | undefined;
}

/**
 * The budget that keeps `rate`, or none where it is unlimited.
 *
 * @param where Goes before the names of the arguments in errors.
 * @param earlier The budget of the same kind that this one replaces at `now`, after the grant `serial`: the tokens of a
 *   bucket stay, and the grants of a window that still count.
 */
export function createBudget(
  rate: Rate,
  where: string,
  now: number = -Infinity,
  serial: number = 0,
  earlier?: Budget,
): Budget | undefined {
  checkObject(where.slice(0, -1), rate);
  const { capacity, period = 1, burst, window, margin } = rate;
  checkNumber(`${where}capacity`, 'a number > 0', capacity, Number.MIN_VALUE, Infinity);
  checkNumber(`${where}period`, 'a finite number > 0', period, Number.MIN_VALUE, Number.MAX_VALUE);
  // An infinite bucket would be no limit at all, whatever the capacity says.
  const maxBurst = capacity === Infinity ? Infinity : Number.MAX_VALUE;
  if (burst !== undefined) checkNumber(`${where}burst`, 'a finite number > 0', burst, Number.MIN_VALUE, maxBurst);
  if (window !== undefined && window !== 'sliding') throw invalid(`${where}window`, '"sliding" or left out', window);
  if (margin !== undefined) checkNumber(`${where}margin`, 'a finite number >= 0', margin, 0, Number.MAX_VALUE - period);
  if (window === undefined && margin !== undefined)
    throw invalid(`${where}margin`, 'left out without window: "sliding"', margin, RangeError);
  if (window !== undefined && burst !== undefined)
    throw invalid(`${where}burst`, 'left out: a sliding window lets its capacity start at once', burst, RangeError);
  if (capacity === Infinity) return undefined;
  const size = burst ?? Math.max(1, capacity);
  const speed = capacity / period;
  // Rates beyond what numbers hold would refill everything at once, or nothing ever.
  if (!(speed < Infinity && size / speed < Infinity)) {
    throw new RangeError(
      `${where}capacity / ${where}period must fill the burst in finite time, received ${capacity} / ${period}`,
    );
  }
  if (window === undefined)
    return new TokenBucket(capacity, period, size, now, serial, earlier as TokenBucket | undefined);
  // One token fits, as by default into a bucket: otherwise no call with the default cost would ever be granted.
  const span = capacity < 1 ? period / capacity : period;
  return new SlidingWindow(size, span + (margin ?? 0), now, serial, earlier as SlidingWindow | undefined);
}

/** For messages: `10 per 1 s and 500 in any 60 s, 2 at a time`. */
export function describeLimits(rates: readonly Rate[], concurrency: number): string {
  const limited = rates.filter(({ capacity }) => capacity < Infinity);
  const rate =
    limited
      .map(({ capacity, period = 1, window }) => `${capacity} ${window === undefined ? 'per' : 'in any'} ${period} s`)
      .join(' and ') || 'any rate';
  return `${rate}, ${concurrency === 0 || concurrency === Infinity ? 'any number' : concurrency} at a time`;
}
