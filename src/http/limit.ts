/**
 * The short form for the most common wish: at most so many requests of one client at a time.
 */
import { checkInteger } from '../errors.js';
import type { KeyedGate } from '../gate.js';
import { KeyedThrottle } from '../keyed.js';
import { checkKeyed, checkTtl, type CommonOptions, type GatePerKey } from './decide.js';
import type { Key } from './key.js';

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
  /** Who counts: a gate with limits of its own, or a function that makes one. Default: this process. */
  backend?: KeyedGate | ((needs: BackendNeeds) => KeyedGate) | undefined;
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
 * @throws {RangeError | TypeError} `maxConcurrent`, `ttl` or `backend` is out of range; the rest is checked by the adapter.
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
export function concurrencyLimit<A extends unknown[]>(options: ConcurrencyLimitOptions<A>): CommonOptions<A> & GatePerKey<A> {
  const { maxConcurrent, backend, ttl, ...rest } = options;
  checkInteger('maxConcurrent', 'an integer >= 1', maxConcurrent, 1, Number.MAX_VALUE);
  checkTtl(ttl);
  const made = typeof backend === 'function';
  const keyed = made ? backend({ concurrency: maxConcurrent, ttl }) : (backend ?? new KeyedThrottle(Infinity, maxConcurrent));
  checkKeyed('backend', keyed);
  // Two who see to it would be one too many: the adapter cannot tell a request that takes long from one that has leaked.
  return { ...rest, keyed, ...(!made && { ttl }) };
}
