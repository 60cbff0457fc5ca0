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
  /** Seconds after which a permit that is still held counts as leaked. */
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
 */
export function concurrencyLimit<A extends unknown[]>(options: ConcurrencyLimitOptions<A>): CommonOptions<A> & GatePerKey<A> {
  const { maxConcurrent, backend, ...rest } = options;
  const { ttl } = rest;
  checkInteger('maxConcurrent', 'an integer >= 1', maxConcurrent, 1, Number.MAX_VALUE);
  checkTtl(ttl);
  const keyed = typeof backend === 'function' ? backend({ concurrency: maxConcurrent, ttl }) : (backend ?? new KeyedThrottle(Infinity, maxConcurrent));
  checkKeyed('backend', keyed);
  return { ...rest, keyed };
}
