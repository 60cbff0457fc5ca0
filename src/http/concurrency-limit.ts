/** The short form for the most common limit: a maximum number of simultaneous requests for each client. */
import { checkOptionNames, pickOptions } from '../core/option-names.js';
import { checkInteger, checkObject, invalid } from '../core/validation.js';
import type { KeyedGate } from '../core/gate.js';
import { KeyedThrottle } from '../compose/keyed-throttle.js';
import type { Key } from './key.js';
import { DEFAULT_MAX_KEYS } from './max-keys.js';
import { checkKeyed, checkTtl, COMMON_OPTIONS, type CommonOptions, type GatePerKey } from './options.js';

/** The argument of a function that creates a backend. */
export interface BackendNeeds {
  /** The maximum number of permits that a key may hold at a time: an integer >= 1. */
  readonly concurrency: number;
  /** Seconds until the permits of a crashed process are released. Default: the backend's own. */
  readonly ttl?: number | undefined;
}

/** The options of {@link concurrencyLimit}, with those of every adapter. */
export interface ConcurrencyLimitOptions<A extends unknown[]> extends CommonOptions<A> {
  /** The key of a request: {@link Key}. Requests with the same key count together. */
  key: Key<A>;
  /** The maximum number of simultaneous requests of a key: an integer >= 1. */
  maxConcurrent: number;
  /**
   * The gate that counts, or a function that creates it. Its `concurrency` must be `maxConcurrent`. Default: a
   * `KeyedThrottle` in this process.
   */
  backend?: KeyedGate | ((needs: BackendNeeds) => KeyedGate) | undefined;
  /**
   * The maximum number of keys with running requests: an integer >= 1. Default 100,000. A request with one more key is
   * refused with 503. Not with `backend`.
   */
  maxKeys?: number | undefined;
  /**
   * The end of the hold on a slot. Default `'handler'`: a handler whose client has disconnected still counts. The other
   * value is `'response'`.
   */
  hold?: 'response' | 'handler' | undefined;
  /**
   * Seconds, > 0, at most 2,147,483. A `backend` function receives it, and the backend alone applies it: a running
   * process keeps its permits for as long as its requests take. Otherwise, a permit that is held longer counts as
   * leaked, and is released.
   */
  ttl?: number | undefined;
}

/**
 * Creates options for any of the adapters that allow `maxConcurrent` simultaneous requests for each client. A request
 * over the limit is refused at once, unless `wait` allows it to queue.
 *
 * @throws {RangeError | TypeError} `maxConcurrent`, `maxKeys`, `ttl` or `backend` is out of range, or the backend's
 *   `concurrency` is not `maxConcurrent`; the adapter checks the other options.
 *
 * @example
 * import createApp from 'express';
 * import { concurrencyLimit, express } from 'headgate/http';
 *
 * const app = createApp();
 * const exportLimit = express(concurrencyLimit({ key: 'user', maxConcurrent: 5, ttl: 600 }));
 * app.get('/export', exportLimit, (req, res) => void res.send('all of it'));
 *
 * @example
 * import { concurrencyLimit, express } from 'headgate/http';
 * import { RedisKeyedThrottle } from 'headgate/redis';
 *
 * const client = { url: process.env.REDIS_URL ?? 'redis://localhost:6379' };
 * const exportLimit = express(concurrencyLimit({
 *   key: 'user',
 *   maxConcurrent: 5, // in all processes together
 *   ttl: 60, // a crashed process loses its slots after 60 s
 *   backend: ({ concurrency, ttl }) => new RedisKeyedThrottle({ client, concurrency, ttl, prefix: 'exports' }),
 * }));
 */
export function concurrencyLimit<A extends unknown[]>(
  options: ConcurrencyLimitOptions<A>,
): CommonOptions<A> & GatePerKey<A> {
  checkObject('options', options);
  const names = ['key', 'maxConcurrent', 'backend', 'maxKeys', ...COMMON_OPTIONS] as const;
  checkOptionNames('concurrencyLimit', options, names);
  const { maxConcurrent, maxKeys, backend, ttl, hold = 'handler', ...rest } = pickOptions(options, names);
  checkInteger('maxConcurrent', 'an integer >= 1', maxConcurrent, 1, Number.MAX_VALUE);
  if (maxKeys !== undefined && backend !== undefined)
    throw invalid('maxKeys', 'undefined where backend is set', maxKeys);
  if (maxKeys !== undefined) checkInteger('maxKeys', 'an integer >= 1', maxKeys, 1, Number.MAX_VALUE);
  checkTtl(ttl);
  const isCreated = typeof backend === 'function';
  const keyed = isCreated
    ? backend({ concurrency: maxConcurrent, ttl })
    : (backend ?? new KeyedThrottle({ concurrency: maxConcurrent, maxKeys: maxKeys ?? DEFAULT_MAX_KEYS }));
  checkKeyed('backend', keyed);
  checkConcurrency(keyed, maxConcurrent);
  // A created backend applies `ttl` alone: the adapter cannot distinguish a slow request from a leaked one.
  return { ...rest, keyed, hold, ...(!isCreated && { ttl }) };
}

/** Throws if the backend shows another limit. The backend alone counts, so `maxConcurrent` would have no effect. */
function checkConcurrency(keyed: object, maxConcurrent: number): void {
  const { concurrency } = keyed as { concurrency?: unknown };
  if (typeof concurrency !== 'number' || concurrency === maxConcurrent) return;
  const isLimited = concurrency > 0 && concurrency < Infinity;
  throw invalid(
    'maxConcurrent',
    `the concurrency of the backend, which is ${concurrency}${isLimited ? '' : ' (no limit)'}`,
    maxConcurrent,
    RangeError,
  );
}
