/**
 * `headgate/fetch`: a `fetch` that keeps to the limits of an upstream, and that waits when the upstream refuses.
 */
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
import type { AcquireOptions, Gate, KeyedGate } from '../core/gate.js';
import type { Permit } from '../core/permit.js';
import { isSignal, untilAborted } from './until-aborted.js';
import { PauseLog } from './pause-log.js';
import {
  asRequest,
  canReplay,
  copyOfInit,
  copyOfInput,
  describe,
  type Fetch,
  type Input,
  originOf,
  replayInit,
  type SentRequest,
} from './request-copy.js';
import { clonesOf, discard, releaseWhenRead } from '../web/response-body.js';
import { type HeaderLookup, type HeaderSource, readWait as readWaitOf } from '../web/retry-after.js';

export type { HeaderLookup, HeaderSource, SentRequest };

/** The part of a response that {@link throttledFetch} needs: the platform's, undici's and node-fetch's have it. */
export interface ResponseLike {
  /** The status code. */
  readonly status: number;
  /** The header fields. */
  readonly headers: HeaderLookup;
}

/** A function that sends requests as `fetch` does: the platform's, undici's, node-fetch's or one of your own. */
export type FetchLike = (input: never, init?: never) => Promise<ResponseLike>;

/** Settings of {@link throttledFetch}, for keys of type `K` and a `fetch` of type `F`. */
export interface ThrottledFetchOptions<K = string, F extends FetchLike = Fetch> {
  /** The function that sends the requests. Default: the global `fetch`, looked up at each request. */
  fetch?: F | undefined;
  /**
   * For a keyed gate: the key, or a function of the arguments of `fetch` that returns the key at once. Default: the
   * origin of the URL; all `data:` URLs share one. Only with the default does a refusal after a redirect pause the origin
   * that refused. With a key of your own it pauses that key, since only you know which limit a URL counts for.
   *
   * By default a URL without an origin, such as a relative URL where there is no `location`, goes to `fetch` for its
   * error, and takes no permit. A `fetch` that accepts such URLs needs a key.
   */
  key?: K | ((...args: Parameters<F>) => K) | undefined;
  /** Tokens for each attempt, or a function of the arguments of `fetch` that returns them at once. Default 1. */
  cost?: number | ((...args: Parameters<F>) => number) | undefined;
  /** How often a refused request is sent again: an integer >= 0, or `Infinity`. Default 2. */
  retries?: number | undefined;
  /**
   * The statuses that mean "not now": integers from 100 to 999. Default 429, 503 and 529. A 403 is none of them: most are
   * missing permissions. Where an API refuses with a 403, use `refusal`.
   */
  statuses?: readonly number[] | undefined;
  /**
   * Decides where a status does not, at once or by a promise. `true`: the response is a refusal, and its header fields
   * state the wait. A number: a refusal, with the wait in seconds, finite and >= 0. `false`: no refusal. `undefined`:
   * `statuses` decides. To read the body, read `response.clone()`. An error thrown here rejects the request.
   */
  refusal?: ((response: Awaited<ReturnType<F>>, request: SentRequest) => Refusal | PromiseLike<Refusal>) | undefined;
  /**
   * The longest pause in seconds, > 0. Default 300 for each key of a keyed gate, and 60 for a gate that all origins share.
   * A request whose refusal states a longer wait is not sent again: the refusal is its response.
   */
  maxPause?: number | undefined;
  /** When the slot is free again: once the headers are there, the default, or once the body has been read. */
  hold?: 'headers' | 'body' | undefined;
  /** The clock for the waits of a single request. Default: the platform's monotonic clock. */
  clock?: Clock | undefined;
}

/** The answers of {@link ThrottledFetchOptions.refusal}. */
export type Refusal = boolean | number | undefined;

/**
 * The wait in seconds that the header fields of a response state, for requests that are sent in another way. It reads
 * `Retry-After`, `retry-after-ms`, `x-ms-retry-after-ms` and `x-ratelimit-retry-after`; where none of them states a wait,
 * the resets of those quotas that are used up: `RateLimit` of every IETF draft, `RateLimit-Reset`, `X-RateLimit-Reset`,
 * `X-RateLimit-Reset-After`, `x-rate-limit-reset`, and the fields of OpenAI and Anthropic. It reads seconds, durations
 * such as `6m0s`, instants since 1970, HTTP dates, RFC 3339, and lists of them, of which the longest wait counts.
 *
 * @param headers A `Headers` or another object with `get`, a record of strings or arrays of strings, such as Node's and
 *   undici's, or Node's `rawHeaders`.
 * @param nowMs Milliseconds since 1970. An instant is measured by the server's clock where the server sends `Date`.
 *   Default `Date.now()`.
 * @returns Seconds, finite and >= 0: `0` for an instant that has passed, `undefined` where no field states a wait.
 * @throws {TypeError} `headers` is no object.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { readWait } from 'headgate/fetch';
 *
 * const throttle = new Throttle(10, 2);
 * const response = { status: 429, headers: { 'retry-after': ['30', '60'] } }; // from node:http, axios, undici.request
 * if (response.status === 429) throttle.pause(readWait(response.headers) ?? 1);
 * console.log(Math.round(throttle.pausedFor)); // → 60
 */
export function readWait(headers: HeaderSource, nowMs: number = Date.now()): number | undefined {
  checkObject('headers', headers);
  checkNumber('nowMs', 'a finite number', nowMs, -Number.MAX_VALUE, Number.MAX_VALUE);
  return readWaitOf(headers, nowMs);
}

/**
 * A `fetch` whose requests go through `gate`, and that pauses the gate when the upstream refuses a request: then every
 * request waits, not only the refused one. A keyed gate pauses only the origin that refused.
 *
 * The wait is the one that the response states: see {@link readWait}. Where the response states none, or one that is
 * over, the wait is 1 s after the first attempt, 2 s after the second, then 4 s. Up to a quarter is added at random, so
 * that the clients of an upstream do not all come back at once.
 *
 * A refusal without a stated wait pauses less:
 * - A status of 500 or more means that the upstream is in trouble, not that this client is over its limit. Only the
 *   refused request waits; the gate is not paused.
 * - A refusal is late if the gate was paused after its request was sent. It does not pause the gate again.
 *
 * A refused request queues again, behind all others, unless
 *   it was sent again `retries` times already;
 *   its body can be read only once, as a stream can;
 *   the wait is longer than `maxPause`: then the gate is paused for `maxPause`.
 * Then the refusal is the response. The body of a `Request` is kept in memory for as long as it may be sent again.
 * Any request may reach the upstream more than once: leave 503 out of `statuses` where it may have had an effect.
 *
 * With `hold: 'body'` a body keeps its slot until it has been read or cancelled, or is garbage collected.
 *
 * @param gate A keyed gate, with a limit for each origin, or a gate for all.
 * @returns A function with the type of `options.fetch`, by default that of the global `fetch`. It rejects as `fetch` does,
 *   and with the signal's reason as soon as the signal aborts, also while it waits for the gate; with a `ThrottleError`
 *   where the gate refuses, and with any other error of the gate. A request that is aborted before it was sent is
 *   refunded. It never throws.
 * @throws {RangeError | TypeError} An option is out of range, or a key was given for a gate that has none.
 *
 * @example
 * import { KeyedThrottle } from 'headgate';
 * import { throttledFetch } from 'headgate/fetch';
 *
 * const polite = throttledFetch(new KeyedThrottle(10, 2));      // each origin: 10 per second, 2 at a time
 * const response = await polite('https://api.example/items');   // 429 at first: waits, and sends it again
 * console.log(await response.text());                           // → ok
 */
export function throttledFetch(gate: Gate | KeyedGate, options?: ThrottledFetchOptions): Fetch;
/** The same for keys of any type, which needs a `key`: an origin is a string. */
export function throttledFetch<K>(gate: KeyedGate<K>, options: ThrottledFetchOptions<K> & { key: unknown }): Fetch;
/** The same for a `fetch` of another client, such as undici or node-fetch. */
export function throttledFetch<F extends FetchLike>(
  gate: Gate | KeyedGate,
  options: ThrottledFetchOptions<string, F> & { fetch: F },
): F;
/** The same for keys of any type and a `fetch` of another client. */
export function throttledFetch<K, F extends FetchLike>(
  gate: KeyedGate<K>,
  options: ThrottledFetchOptions<K, F> & { key: unknown; fetch: F },
): F;
export function throttledFetch<K>(gate: Gate | KeyedGate<K>, options: ThrottledFetchOptions<K> = {}): Fetch {
  if (typeof gate?.acquire !== 'function') throw invalid('gate', 'a Gate or a KeyedGate', gate);
  checkObject('options', options);
  const { fetch: own, key: keyOption, cost = 1, retries = 2, statuses = [429, 503, 529], refusal } = options;
  const { maxPause = isKeyed(gate) ? 300 : 60, hold = 'headers', clock = systemClock } = options;
  if (own !== undefined) checkFunction('fetch', own);
  if (typeof cost !== 'function') checkCost(cost);
  checkCount('retries', retries);
  if (!Array.isArray(statuses)) throw invalid('statuses', 'an array', statuses);
  for (const status of statuses) checkInteger('statuses', 'integers from 100 to 999', status, 100, 999);
  const refusing = new Set<number>(statuses);
  if (refusal !== undefined) checkFunction('refusal', refusal);
  checkNumber('maxPause', 'a number > 0', maxPause, Number.MIN_VALUE, Infinity);
  if (hold !== 'headers' && hold !== 'body') throw invalid('hold', '"headers" or "body"', hold);
  if (typeof clock?.schedule !== 'function') throw invalid('clock', 'a Clock', clock);
  const keyOf = createKeyResolver(gate, keyOption);
  const keyedGate = isKeyed(gate) ? gate : withoutKeys<K>(gate);
  const pauses = new PauseLog<K>();

  /** The key to pause for a response. A redirect may lead to an origin with a limit of its own. */
  const keyToPause = ({ redirected, url }: Response, key: K): K =>
    (redirected && keyOf === originOf ? keyOf(url) : undefined) ?? key;

  return async (asked, given) => {
    const send = own ?? globalThis.fetch;
    const key = keyOf(asked, given);
    if (key === undefined) return send(asked, given);
    const price = typeof cost === 'function' ? cost(asked, given) : cost;
    checkCost(price);
    // As they are now, like `fetch`: the caller may change them while the request waits.
    const input = asked instanceof URL ? new URL(asked) : asked;
    const init = copyOfInit(given);
    const { signal = asRequest(input)?.signal, body } = init ?? {};
    const acquireOptions = isSignal(signal) ? { signal } : undefined;
    const limit = canReplay(body) ? retries : 0;
    const request = describe(input, init);

    let next = input;
    /** The key that refused the last attempt, where it is another one. */
    let other: K | undefined;
    /** Seconds that this request alone waits for. */
    let delay = 0;
    for (let attempt = 0; ; attempt++) {
      if (delay > 0) await sleep(clock, delay, signal);
      delay = 0;
      const permit = await acquire(keyedGate, key, other, price, acquireOptions);
      const flight = pauses.begin();
      let released = () => permit.release();
      let isSent = false;
      let discarded: Response[] = [];
      try {
        const current = next;
        if (attempt < limit && !body) next = copyOfInput(next);
        const start = (): Promise<Response> => {
          isSent = true;
          return send(current, current === input ? init : replayInit(current as Request, init, signal));
        };
        const response = await untilAborted(signal, start, (late) => void discard(late));
        if (Object(response) !== response) throw invalid('fetch', 'a function that returns a Response', response);
        discarded = refusal === undefined ? [] : clonesOf(response);
        discarded.push(response);
        const stated = await untilAborted(refusal && signal, () => statedWait(response, refusal, request, refusing));
        if (stated !== NOT_REFUSED) {
          const wait = stated ?? Math.min(2 ** attempt, maxPause);
          const pause = Math.min(wait * (1 + Math.random() / 4), maxPause);
          const refuser = keyToPause(response, key);
          other = refuser === key ? undefined : refuser;
          if (stated === undefined && response.status >= 500) delay = pause;
          else if (pause > 0 && (stated !== undefined || !pauses.isLate(flight, refuser))) {
            pauses.pause(refuser);
            // Before the slot is free, or the next waiter would be granted it.
            await keyedGate.pause(refuser, pause);
          }
          if (attempt < limit && wait <= maxPause) continue;
        }
        discarded = [];
        if (hold === 'headers') return response;
        const kept = releaseWhenRead(response, released, request.method === 'HEAD');
        released = () => {};
        return kept;
      } finally {
        pauses.end(flight);
        if (!isSent) permit.refund();
        released();
        for (const each of discarded) void discard(each);
      }
    }
  };
}

/** The answer of {@link statedWait} for a response that is no refusal. */
const NOT_REFUSED = -1;

/** The wait that a refusal states, > 0 or of the caller's own choice; `undefined` where it states none. */
async function statedWait<K>(
  response: Response,
  refusal: ThrottledFetchOptions<K>['refusal'],
  request: SentRequest,
  refusing: ReadonlySet<number>,
): Promise<number | undefined> {
  const answer: unknown = await refusal?.(response, request);
  const isNumber = typeof answer === 'number';
  if (isNumber && answer >= 0 && answer < Infinity) return answer;
  if (isNumber || (answer !== undefined && typeof answer !== 'boolean')) {
    throw invalid(
      'refusal',
      'a function that returns a boolean, a finite number >= 0 or undefined',
      answer,
      isNumber ? RangeError : TypeError,
    );
  }
  if (!(answer ?? refusing.has(response.status))) return NOT_REFUSED;
  return (response.headers && readWaitOf(response.headers, Date.now())) || undefined;
}

/**
 * A permit of `key`, after a turn in the queue of `other`. The slot of `other` is given back before `key` is waited for:
 * two requests that redirect to each other's keys would wait for each other.
 */
async function acquire<K>(
  gate: Pick<KeyedGate<K>, 'acquire'>,
  key: K,
  other: K | undefined,
  cost: number,
  options: AcquireOptions | undefined,
): Promise<Permit> {
  if (other === undefined) return gate.acquire(key, cost, options);
  const turn = await gate.acquire(other, cost, options);
  turn.release();
  try {
    return await gate.acquire(key, cost, options);
  } catch (error) {
    turn.refund();
    throw error;
  }
}

async function sleep(clock: Clock, seconds: number, signal: unknown): Promise<void> {
  let cancel = (): void => {};
  try {
    await untilAborted(signal, () => new Promise<void>((resolve) => void (cancel = clock.schedule(seconds, resolve))));
  } finally {
    cancel();
  }
}

function isKeyed<K>(gate: Gate | KeyedGate<K>): gate is KeyedGate<K> {
  return (gate as Partial<KeyedGate<K>>).keyed === true;
}

/** A gate without keys, as one that has the same gate for every key. */
function withoutKeys<K>(gate: Gate): Pick<KeyedGate<K>, 'acquire' | 'pause'> {
  return { acquire: (_, cost, options) => gate.acquire(cost, options), pause: (_, seconds) => gate.pause(seconds) };
}

/** How to find a request's key. A URL without an origin has none: `fetch` knows what is wrong with it. */
function createKeyResolver<K>(
  gate: Gate | KeyedGate<K>,
  key: ThrottledFetchOptions<K>['key'],
): (input: Input, init?: RequestInit) => K | undefined {
  if (!isKeyed(gate)) {
    if (key !== undefined) throw invalid('key', 'left out for a gate that is not keyed', key);
    return () => '' as K;
  }
  if (key === undefined) return originOf as (input: Input) => K | undefined;
  if (typeof key !== 'function') return () => key;
  return (input, init) => {
    const found: K | undefined = (key as (input: Input, init?: RequestInit) => K)(input, init);
    if (found === undefined) throw invalid('key', 'a key', found);
    // Each promise would be a key of its own, with a limit of its own.
    if (typeof (found as { then?: unknown } | null)?.then === 'function')
      throw invalid('key', 'a function that returns a key at once', found);
    return found;
  };
}
