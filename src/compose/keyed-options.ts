/** The options and the visible state of a `KeyedThrottle`. */
import type { ThrottleData } from '../core/inspect.js';
import type { ThrottleOptions, ThrottleSettings } from '../core/throttle-options.js';

/** Options of a `KeyedThrottle`: the options of each key's throttle, and a bound on the number of keys. */
export interface KeyedThrottleOptions<Name extends string = string> extends ThrottleOptions<Name> {
  /**
   * The maximum number of live keys: an integer >= 1, or `Infinity`. Default 100,000, which is about 100 MB with short
   * keys. A key is live until its throttle equals a new one. The gate refuses a further key with a
   * `QueueFullError`. A late debt of an evicted key is stored even beyond `maxKeys`.
   */
  maxKeys?: number | undefined;
}

/** All settings of a `KeyedThrottle` by name: the limits of each key, and the {@link KeyedThrottleOptions}. */
export interface KeyedThrottleSettings<Name extends string = string>
  extends ThrottleSettings<Name>, Pick<KeyedThrottleOptions<Name>, 'maxKeys'> {}

/** The state of a `KeyedThrottle`: the limits of each key, and the sums over all live keys. */
export interface KeyedThrottleData extends Omit<ThrottleData, 'tokens' | 'levels' | 'pausedFor'> {
  /** The number of live keys. The keys are left out, because a key may be a secret. */
  size: number;
  /** The maximum number of live keys. */
  maxKeys: number;
}
