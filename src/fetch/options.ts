/** The options of `throttledFetch`: their types, their defaults and their validation. */
import { type Clock, systemClock } from '../core/clock.js';
import { checkCount, checkFunction, checkInteger, checkObject, checkSeconds, invalid } from '../core/validation.js';
import { type Cost, checkCostForm } from '../core/cost.js';
import type { Gate, KeyedGate } from '../core/gate.js';
import type { Permit } from '../core/permit.js';
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

/** The options of `throttledFetch`, for keys of type `K`, a `fetch` of type `F` and rates with the names `Name`. */
export interface ThrottledFetchOptions<K = string, F extends FetchLike = Fetch, Name extends string = string> {
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
  /**
   * Tokens for each attempt: a number, a record with the tokens of each named rate, or a function that computes one of
   * them from the arguments of `fetch`. Default 1.
   *
   * The function may be asynchronous. Then requests queue in the order in which their costs are known. Instead of a
   * `Request` with a body, the function receives a clone, whose body it may read. It must not read a stream in `init`.
   * An error of the function rejects the request.
   */
  cost?: Cost<Name> | ((...args: Parameters<F>) => Cost<Name> | PromiseLike<Cost<Name>>) | undefined;
  /**
   * States the true cost, by `permit.settle`, after a response that is not a refusal. The slot stays taken until the
   * function, which may be asynchronous, has ended, or the signal of the request aborts. The caller does not wait for
   * it.
   *
   * The function receives a response of its own: a copy, made before the caller gets the original. It may read the
   * body to the end, for example to find the usage at the end of a stream. Until the caller has read the same bytes,
   * they are buffered in memory. When the function has ended, the rest of the copy is dropped. When the caller cancels
   * its body, the body of the copy fails. A response that cannot be copied is passed itself; then the function must not
   * read its body.
   *
   * An error of the function does not affect the request. The first error is reported as a warning of the process,
   * with the code `HEADGATE_SETTLE_FAILED`. An error after an abort, or after the caller has cancelled its body, is
   * ignored.
   */
  settle?: ((response: Awaited<ReturnType<F>>, permit: Permit<Name>) => void | PromiseLike<void>) | undefined;
  /** Whether a refused attempt is refunded. Default `true`. Use `false` if the upstream counts refused requests, too. */
  refundRefused?: boolean | undefined;
  /**
   * Lowers the levels of the gate to the tokens that the upstream reports in each response, refusals included. Levels
   * are never raised. Default: the gate does not learn. A gate without the method `correct` does not learn either.
   *
   * - `true`: the header fields of OpenAI, Anthropic, GitHub, X and the IETF drafts. Requests lower the main rate, and
   *   tokens lower the rates named `tokens`, `input-tokens` and `output-tokens`, if the gate has rates of these names.
   * - A function: what remains of each rate, as a number or a record, or `undefined` if the response does not say.
   *
   * A response does not count the requests that were sent after its own request. The tokens of those that still wait
   * for a response are subtracted from the reported number.
   *
   * An error of the function or of `correct` does not affect the request. The first error is reported as a warning of
   * the process, with the code `HEADGATE_LEARN_FAILED`.
   */
  learn?: true | ((response: Awaited<ReturnType<F>>) => Cost<Name> | undefined) | undefined;
  /**
   * The longest wait in the queue in seconds, for each attempt: >= 0. Default `Infinity`. A request that would wait
   * longer rejects with a `ThrottleTimeoutError`. A refusal that demands a longer wait is returned.
   */
  wait?: number | undefined;
  /**
   * Seconds, > 0, for each attempt, from its grant until the headers have arrived and `refusal` has decided. Default
   * `Infinity`. After that, the attempt is aborted, and the request rejects with a `TimeoutError`, as after
   * `AbortSignal.timeout`. The time in the queue does not count, and neither does the body of a response that the
   * caller has received.
   */
  timeout?: number | undefined;
  /**
   * Returns `true` for a request that needs no permit. It goes to `fetch` unchanged. The function may be asynchronous.
   * An error of the function rejects the request.
   */
  skip?: ((request: SentRequest) => boolean | PromiseLike<boolean>) | undefined;
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
  /**
   * The event that releases the slot: the headers of the response arrive (default), or its body has been read. With
   * `settle`, the slot is released when both the event has occurred and `settle` has ended.
   */
  hold?: 'headers' | 'body' | undefined;
  /** The clock for the waits of a single request. Default: the monotonic clock of the platform. */
  clock?: Clock | undefined;
}

/** The results of {@link ThrottledFetchOptions.refusal}. */
export type Refusal = boolean | number | undefined;

/** The options after validation, with their defaults. The key has a resolver of its own. */
export interface Settings {
  readonly fetch: Fetch | undefined;
  readonly cost: NonNullable<ThrottledFetchOptions['cost']>;
  readonly settle: ThrottledFetchOptions['settle'];
  readonly refundRefused: boolean;
  readonly learn: ThrottledFetchOptions['learn'];
  readonly wait: number;
  readonly timeout: number;
  readonly skip: ThrottledFetchOptions['skip'];
  readonly retries: number;
  readonly statuses: ReadonlySet<number>;
  readonly refusal: ThrottledFetchOptions['refusal'];
  readonly maxPause: number;
  readonly hold: 'headers' | 'body';
  readonly clock: Clock;
}

/** Validates the arguments of `throttledFetch`, apart from the key, and adds the defaults. */
export function resolveOptions<K>(gate: Gate | KeyedGate<K>, options: ThrottledFetchOptions<K>): Settings {
  if (typeof gate?.acquire !== 'function') throw invalid('gate', 'a Gate or a KeyedGate', gate);
  checkObject('options', options);
  const { fetch, cost = 1, settle, refundRefused = true, learn, wait = Infinity, timeout = Infinity, skip } = options;
  const { retries = 2, statuses = [429, 503, 529], refusal } = options;
  const { maxPause = isKeyed(gate) ? 300 : 60, hold = 'headers', clock = systemClock } = options;
  for (const [name, value] of Object.entries({ fetch, settle, skip, refusal }))
    if (value !== undefined) checkFunction(name, value);
  if (typeof cost !== 'function') checkCostForm('cost', cost);
  if (typeof refundRefused !== 'boolean') throw invalid('refundRefused', 'a boolean', refundRefused);
  if (learn !== undefined && learn !== true && typeof learn !== 'function')
    throw invalid('learn', 'true or a function', learn);
  checkSeconds('wait', 'a number >= 0', wait, 0, Infinity);
  checkSeconds('timeout', 'a number > 0', timeout, Number.MIN_VALUE, Infinity);
  checkCount('retries', retries);
  if (!Array.isArray(statuses)) throw invalid('statuses', 'an array', statuses);
  for (const status of statuses) checkInteger('statuses', 'integers from 100 to 999', status, 100, 999);
  checkSeconds('maxPause', 'a number > 0', maxPause, Number.MIN_VALUE, Infinity);
  if (hold !== 'headers' && hold !== 'body') throw invalid('hold', '"headers" or "body"', hold);
  if (typeof clock?.schedule !== 'function') throw invalid('clock', 'a Clock', clock);
  return {
    fetch,
    // A copy, because the caller may change the record later.
    cost: typeof cost === 'object' ? { ...cost } : cost,
    settle,
    refundRefused,
    learn,
    wait,
    timeout,
    skip,
    retries,
    statuses: new Set<number>(statuses),
    refusal,
    maxPause,
    hold,
    clock,
  };
}
