/** The options of a `Throttle`. */
import type { Clock } from './clock.js';
import type { Rate } from './limits.js';

/** Settings of a `Throttle` beside capacity, concurrency and period. */
export interface ThrottleOptions<Name extends string = string> extends Pick<Rate, 'burst' | 'window' | 'margin'> {
  /** Further rates. A job starts once every rate permits its cost. It then spends its cost from every rate at once. */
  also?: readonly Rate<Name>[] | undefined;
  /**
   * The largest number of waiters: an integer >= 0, or `Infinity`, the default. Further calls are refused with a
   * `QueueFullError`.
   */
  maxQueue?: number | undefined;
  /**
   * Seconds: > 0. A permit that is held longer counts as leaked: its slots are free for other callers, its `signal`
   * aborts with a `PermitExpiredError`, and its release has no effect. Default `Infinity`.
   */
  ttl?: number | undefined;
  /** The source of time and timers. Default: the platform's monotonic clock. */
  clock?: Clock | undefined;
  /** A name for error messages and events. */
  name?: string | undefined;
  /** `true`: the throttle publishes no events, because the gate that uses the throttle publishes them. @internal */
  silent?: boolean | undefined;
}

/**
 * All settings of a `Throttle` by name: the limits, and the {@link ThrottleOptions}.
 *
 * @example
 * import { Throttle, type ThrottleSettings } from 'headgate';
 *
 * const settings: ThrottleSettings = { capacity: 100, period: 60, window: 'sliding', name: 'mail' };
 * console.log(new Throttle(settings).concurrency); // → 0
 */
export interface ThrottleSettings<Name extends string = string> extends ThrottleOptions<Name> {
  /** Tokens per period: > 0. Default `Infinity`, for no rate limit. */
  capacity?: number | undefined;
  /** The largest number of jobs at a time: an integer >= 0. `0`, the default, and `Infinity` for no limit. */
  concurrency?: number | undefined;
  /** Seconds: > 0, finite. Default 1. */
  period?: number | undefined;
}

/** The limits that `Throttle.configure` can change. A limit that is left out stays as it is. */
export interface Limits {
  /** Tokens per period: > 0; `Infinity` for no rate limit. */
  capacity?: number | undefined;
  /** The largest number of jobs at a time: an integer >= 0; `0` and `Infinity` for no limit. */
  concurrency?: number | undefined;
  /** Seconds: > 0, finite. */
  period?: number | undefined;
  /** The size of the bucket: > 0. An explicit `undefined` restores the default. Not for a sliding window. */
  burst?: number | undefined;
}
