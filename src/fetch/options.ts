/** The options of `throttledFetch`: their types, their defaults and their validation. */
import { type Clock, systemClock } from '../core/clock.js';
import {
  checkCost,
  checkCount,
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  invalid,
} from '../core/validation.js';
import type { Gate, KeyedGate } from '../core/gate.js';
import type { HeaderLookup } from '../web/retry-after.js';
import { isKeyed } from './keyed-gate.js';
import type { Fetch, SentRequest } from './request-copy.js';

/** The part of a response that `throttledFetch` needs. The responses of the platform, undici and node-fetch have it. */
export interface ResponseLike {
  /** The status code. */
  readonly status: number;
  /** The header fields. */
  readonly headers: HeaderLookup;
}

/** A function that sends requests as `fetch` does: the one of the platform, undici or node-fetch, or your own. */
export type FetchLike = (input: never, init?: never) => Promise<ResponseLike>;

/** The options of `throttledFetch`, for keys of type `K` and a `fetch` of type `F`. */
export interface ThrottledFetchOptions<K = string, F extends FetchLike = Fetch> {
  /** The function that sends the requests. Default: the global `fetch`, looked up at each request. */
  fetch?: F | undefined;
  /**
   * For a keyed gate: the key, or a synchronous function that computes the key from the arguments of `fetch`. Default:
   * the origin of the URL. All `data:` URLs share one origin.
   *
   * With the default key, a refusal after a redirect pauses the origin that refused. With your own key, such a refusal
   * pauses your key, because only you know which URLs share a limit.
   *
   * With the default key, a URL without an origin goes to `fetch` without a permit, and `fetch` reports the error. A
   * relative URL has no origin if the platform has no `location`. A `fetch` that accepts such URLs needs a key.
   */
  key?: K | ((...args: Parameters<F>) => K) | undefined;
  /** Tokens for each attempt, or a synchronous function that computes them from the arguments of `fetch`. Default 1. */
  cost?: number | ((...args: Parameters<F>) => number) | undefined;
  /**
   * The maximum number of times that `throttledFetch` sends a refused request again: an integer >= 0, or `Infinity`.
   * Default 2.
   */
  retries?: number | undefined;
  /**
   * The statuses of refusals: integers from 100 to 999. Default 429, 503 and 529. A 403 usually means a missing
   * permission, so it is left out. Use `refusal` for an API that refuses with a 403.
   */
  statuses?: readonly number[] | undefined;
  /**
   * Decides whether a response is a refusal if its status does not decide. The function may be asynchronous.
   *
   * - `true`: the response is a refusal, and its header fields state the wait.
   * - A number: the response is a refusal, and the number is the wait in seconds, finite and >= 0.
   * - `false`: the response is not a refusal.
   * - `undefined`: `statuses` decides.
   *
   * To read the body, read `response.clone()`. An error thrown by the function rejects the request.
   */
  refusal?: ((response: Awaited<ReturnType<F>>, request: SentRequest) => Refusal | PromiseLike<Refusal>) | undefined;
  /**
   * The longest pause in seconds, > 0. Default: 300 for each key of a keyed gate, and 60 for a gate without keys, which
   * all origins share. A request whose refusal states a longer wait is not sent again: the refusal is returned.
   */
  maxPause?: number | undefined;
  /** The event that releases the slot: the headers of the response arrive (default), or its body has been read. */
  hold?: 'headers' | 'body' | undefined;
  /** The clock for the waits of a single request. Default: the monotonic clock of the platform. */
  clock?: Clock | undefined;
}

/** The results of {@link ThrottledFetchOptions.refusal}. */
export type Refusal = boolean | number | undefined;

/** The options after validation, with their defaults. The key has a resolver of its own. */
export interface Settings<K> {
  readonly fetch: Fetch | undefined;
  readonly cost: NonNullable<ThrottledFetchOptions<K>['cost']>;
  readonly retries: number;
  readonly statuses: ReadonlySet<number>;
  readonly refusal: ThrottledFetchOptions<K>['refusal'];
  readonly maxPause: number;
  readonly hold: 'headers' | 'body';
  readonly clock: Clock;
}

/** Validates the arguments of `throttledFetch`, apart from the key, and adds the defaults. */
export function resolveOptions<K>(gate: Gate | KeyedGate<K>, options: ThrottledFetchOptions<K>): Settings<K> {
  if (typeof gate?.acquire !== 'function') throw invalid('gate', 'a Gate or a KeyedGate', gate);
  checkObject('options', options);
  const { fetch, cost = 1, retries = 2, statuses = [429, 503, 529], refusal } = options;
  const { maxPause = isKeyed(gate) ? 300 : 60, hold = 'headers', clock = systemClock } = options;
  if (fetch !== undefined) checkFunction('fetch', fetch);
  if (typeof cost !== 'function') checkCost(cost);
  checkCount('retries', retries);
  if (!Array.isArray(statuses)) throw invalid('statuses', 'an array', statuses);
  for (const status of statuses) checkInteger('statuses', 'integers from 100 to 999', status, 100, 999);
  if (refusal !== undefined) checkFunction('refusal', refusal);
  checkNumber('maxPause', 'a number > 0', maxPause, Number.MIN_VALUE, Infinity);
  if (hold !== 'headers' && hold !== 'body') throw invalid('hold', '"headers" or "body"', hold);
  if (typeof clock?.schedule !== 'function') throw invalid('clock', 'a Clock', clock);
  return { fetch, cost, retries, refusal, maxPause, hold, clock, statuses: new Set<number>(statuses) };
}
