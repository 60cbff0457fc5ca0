/**
 * The short form for the most common wish: at most so many requests of one client at a time.
 */
import { checkInteger, invalid } from '../core/validation.js';
import type { KeyedGate } from '../core/gate.js';
import { KeyedThrottle } from '../compose/keyed-throttle.js';
import { checkKeyed, checkTtl, type CommonOptions, type GatePerKey } from './decide.js';
import type { Key } from './key.js';
import { MAX_KEYS } from './max-keys.js';

/** What a backend is asked for. */
export interface BackendNeeds {
  /** How many a key may hold at a time: an integer >= 1. */
  readonly concurrency: number;
  /** Seconds after which the permit of a process that has died is given back. The backend's own default where absent. */
  readonly ttl?: number | undefined;
}

/** Settings of {@link concurrencyLimit}, beside those that every adapter knows. */
export interface ConcurrencyLimitOptions<A extends unknown[]> extends CommonOptions<A> {
  /** Whose requests count together: {@link Key}. */
  key: Key<A>;
  /** How many of them at a time: an integer >= 1. */
  maxConcurrent: number;
  /**
   * The gate that counts, which must allow a key `maxConcurrent` permits, or a function that makes it. Default: a
   * `KeyedThrottle` of this process.
   */
  backend?: KeyedGate | ((needs: BackendNeeds) => KeyedGate) | undefined;
  /**
   * How many keys may have requests at a time: an integer >= 1. Default 100,000. A request of one more is refused with 503.
   * Only without `backend`, which has a bound of its own.
   */
  maxKeys?: number | undefined;
  /** Until when a slot is held: `'handler'`, the default, also counts the work for a client that has gone; or `'response'`. */
  hold?: 'response' | 'handler' | undefined;
  /**
   * Seconds, > 0, up to 2,147,483. A `backend` that is a function is given it, and alone sees to it: a process that
   * lives keeps its permits for as long as its requests take. Otherwise a permit that is still held after so long
   * counts as leaked, and is given back.
   */
  ttl?: number | undefined;
}

/**
 * Options for any of the adapters that allow each client `maxConcurrent` requests at a time. One more is refused at
 * once, unless `wait` says how long it may queue.
 *
 * @throws {RangeError | TypeError} `maxConcurrent`, `maxKeys`, `ttl` or `backend` is out of range, or the backend's
 *   `concurrency` is not `maxConcurrent`; the rest is checked by the adapter.
 *
 * @example
 * import createApp from 'express';
 * import { concurrencyLimit, express } from 'headgate/http';
 *
 * const app = createApp();
 * const exports = express(concurrencyLimit({ key: 'user', maxConcurrent: 5, ttl: 600 }));
 * app.get('/export', exports, (req, res) => void res.send('all of it'));
 *
 * @example
 * import { concurrencyLimit, express } from 'headgate/http';
 * import { RedisKeyedThrottle } from 'headgate/redis';
 *
 * const client = { url: process.env.REDIS_URL ?? 'redis://localhost:6379' };
 * const exports = express(concurrencyLimit({
 *   key: 'user', maxConcurrent: 5, ttl: 60,                 // in all processes; one that dies leaves its slots after 60 s
 *   backend: ({ concurrency, ttl }) => new RedisKeyedThrottle({ client, concurrency, ttl }),
 * }));
 */
export function concurrencyLimit<A extends unknown[]>(
  options: ConcurrencyLimitOptions<A>,
): CommonOptions<A> & GatePerKey<A> {
  const { maxConcurrent, maxKeys, backend, ttl, hold = 'handler', ...rest } = options;
  checkInteger('maxConcurrent', 'an integer >= 1', maxConcurrent, 1, Number.MAX_VALUE);
  if (maxKeys !== undefined && backend !== undefined)
    throw invalid('maxKeys', "the backend's own option where there is a backend", maxKeys);
  if (maxKeys !== undefined) checkInteger('maxKeys', 'an integer >= 1', maxKeys, 1, Number.MAX_VALUE);
  checkTtl(ttl);
  const made = typeof backend === 'function';
  const keyed = made
    ? backend({ concurrency: maxConcurrent, ttl })
    : (backend ?? new KeyedThrottle(Infinity, maxConcurrent, 1, { maxKeys: maxKeys ?? MAX_KEYS }));
  checkKeyed('backend', keyed);
  checkConcurrency(keyed, maxConcurrent);
  // Two who see to it would be one too many: the adapter cannot tell a request that takes long from one that has leaked.
  return { ...rest, keyed, hold, ...(!made && { ttl }) };
}

/** Refuses a backend that shows another limit: the backend alone counts, so `maxConcurrent` would mean nothing. */
function checkConcurrency(keyed: object, maxConcurrent: number): void {
  const { concurrency } = keyed as { concurrency?: unknown };
  if (typeof concurrency !== 'number' || concurrency === maxConcurrent) return;
  const limited = concurrency > 0 && concurrency < Infinity;
  throw invalid(
    'maxConcurrent',
    `the concurrency of the backend, which is ${concurrency}${limited ? '' : ' (no limit)'}`,
    maxConcurrent,
    RangeError,
  );
}
