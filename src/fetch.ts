/**
 * `headgate/fetch`: a `fetch` that keeps to the limits of an upstream, and that listens when the upstream says no.
 */
import { releaseWhenRead } from './web/response-body.js';
import { checkCost, checkCount, checkFunction, checkInteger, checkNumber, checkObject, invalid } from './errors.js';
import type { Gate, KeyedGate } from './gate.js';
import { readWait } from './web/ratelimit-headers.js';

/** The platform's `fetch`. */
type Fetch = typeof globalThis.fetch;
/** What it is asked for: a URL or a `Request`. */
type Input = Parameters<Fetch>[0];

/** Settings of {@link throttledFetch}. */
export interface ThrottledFetchOptions<K = string> {
  /** What sends the requests. Default: the global `fetch`, looked up at each request. */
  fetch?: Fetch | undefined;
  /**
   * For a keyed gate: the key, or a function of the arguments of `fetch` that says which. Default: the origin of the URL
   * that is asked for, wherever it redirects to; all `data:` URLs share one.
   * A URL without one, such as a relative one where there is no `location`, goes to `fetch` for its error, and takes no
   * permit. A `fetch` that can do something with it needs a key.
   */
  key?: K | ((input: Input, init?: RequestInit) => K) | undefined;
  /** Tokens for each request, and for each time that it is sent again, or a function that says how many. Default 1. */
  cost?: number | ((input: Input, init?: RequestInit) => number) | undefined;
  /** How often a refused request is sent again: an integer >= 0, or `Infinity`. Default 2. */
  retries?: number | undefined;
  /** The statuses that mean "not now": integers from 100 to 999. Default 429 and 503. */
  statuses?: readonly number[] | undefined;
  /** The longest pause in seconds, > 0. Default 300. Who is told to wait for longer gets the refusal instead. */
  maxPause?: number | undefined;
  /** When the slot is free again: once the headers are there, the default, or once the body is read, cancelled or broken off. */
  hold?: 'headers' | 'body' | undefined;
}

/**
 * A `fetch` whose requests go through `gate`, and that pauses the gate when the upstream refuses one: then everybody
 * waits who waits already or comes later, not only the request that was refused.
 *
 * How long is for the upstream to say, in `Retry-After`, `RateLimit`, `RateLimit-Reset` or `X-RateLimit-Reset`. Where
 * it does not, or where that is over already, it is 1 s after the first attempt, 2 s after the second, then 4 s. Up to
 * a quarter is added to either at random, so that not all clients of an upstream come back at once. A refusal without
 * a word on how long is a late one when this function paused the gate while it was under way: the gate is not paused
 * again.
 *
 * A refused request queues again, behind all others, unless
 *   it was sent again `retries` times already;
 *   its body can be read only once, as a stream can;
 *   the wait is longer than `maxPause`: then the gate is paused for `maxPause`, and never is a request sent early.
 * Then the refusal is the response. The body of a `Request` is kept in memory for as long as it may be sent again.
 * Any request may reach the upstream more than once: leave 503 out of `statuses` where it may have had an effect.
 *
 * With `hold: 'body'` every body must be read or cancelled, since until then it keeps the slot.
 *
 * @param gate Any gate, or a keyed one: then only the key is paused.
 * @returns A function with the type of `fetch`. It rejects as `fetch` does, with the signal's reason at once also while
 *   it waits for the gate; besides with a `ThrottleError` where the gate refuses, and with whatever else the gate fails
 *   with. A request that is aborted before it was sent is refunded. It never throws.
 * @throws {RangeError | TypeError} An option is out of range, or a key was given for a gate that has none.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { throttledFetch } from 'headgate/fetch';
 *
 * const polite = throttledFetch(new Throttle(10, 2));
 * const response = await polite('https://api.example/items');   // 429 at first: waits, and asks again
 * console.log(await response.text());                           // → ok
 */
export function throttledFetch(gate: Gate | KeyedGate, options?: ThrottledFetchOptions): Fetch;
/** The same for keys of any type, which `key` has to tell: a URL's origin is a string. */
export function throttledFetch<K>(gate: KeyedGate<K>, options: ThrottledFetchOptions<K> & { key: unknown }): Fetch;
export function throttledFetch<K>(gate: Gate | KeyedGate<K>, options: ThrottledFetchOptions<K> = {}): Fetch {
  if (typeof gate?.acquire !== 'function') throw invalid('gate', 'a Gate or a KeyedGate', gate);
  checkObject('options', options);
  const { fetch: own, key: keyOption, cost = 1, retries = 2, statuses = [429, 503], maxPause = 300, hold = 'headers' } = options;
  if (own !== undefined) checkFunction('fetch', own);
  if (typeof cost !== 'function') checkCost(cost);
  checkCount('retries', retries);
  if (!Array.isArray(statuses)) throw invalid('statuses', 'an array', statuses);
  for (const status of statuses) checkInteger('statuses', 'integers from 100 to 999', status, 100, 999);
  const refusals = new Set<number>(statuses);
  checkNumber('maxPause', 'a number > 0', maxPause, Number.MIN_VALUE, Infinity);
  if (hold !== 'headers' && hold !== 'body') throw invalid('hold', '"headers" or "body"', hold);
  const keyOf = keyReader(gate, keyOption);
  const doors = isKeyed(gate) ? gate : only(gate);
  /** What is under way, by key: the requests sent since its last pause. A refusal of any other is a late one. */
  const rounds = new Map<K, { size: number }>();

  return async (asked, given) => {
    const send = own ?? globalThis.fetch;
    const key = keyOf(asked, given);
    if (key === undefined) return send(asked, given);
    const price = typeof cost === 'function' ? cost(asked, given) : cost;
    // As they are now, like `fetch`: the caller may change them while the request waits.
    const input = asked instanceof URL ? new URL(asked) : asked;
    const init = given && { ...given, ...(given.headers && { headers: copyOfHeaders(given.headers) }) };
    const { signal = asRequest(input)?.signal, body } = init ?? {};
    // Whatever else a signal may be is for fetch to complain about.
    const exits = typeof signal?.addEventListener === 'function' ? { signal } : undefined;
    const limit = canReplay(body) ? retries : 0;

    let next = input;
    for (let attempt = 0; ; attempt++) {
      const permit = await doors.acquire(key, price, exits);
      const round = rounds.get(key) ?? { size: 0 };
      rounds.set(key, round);
      round.size++;
      let held = false;
      let discarded: Response | undefined;
      try {
        if (signal?.aborted) {
          permit.refund();
          throw signal.reason;
        }
        const current = next;
        if (attempt < limit && !body) next = copyOf(next);
        const response = await send(current, current === input ? init : besides(current as Request, init, signal));
        if (refusals.has(response.status)) {
          discarded = response;
          const told = readWait(response.headers, Date.now());
          const wait = told || Math.min(2 ** attempt, maxPause);
          if (told || rounds.get(key) === round) {
            rounds.delete(key);
            // Before the slot is free, or the next in line would slip through.
            await doors.pause(key, Math.min(wait * (1 + Math.random() / 4), maxPause));
          }
          if (attempt < limit && wait <= maxPause) continue;
          discarded = undefined;
        }
        if (hold === 'headers') return response;
        const watched = releaseWhenRead(response, () => permit.release());
        held = true;
        return watched;
      } finally {
        if (--round.size === 0 && rounds.get(key) === round) rounds.delete(key);
        if (!held) permit.release();
        void discard(discarded);
      }
    }
  };
}

/** Frees the connection of a response that nobody will read. */
async function discard(response: Response | undefined): Promise<void> {
  try {
    await response?.body?.cancel();
  } catch {
    // It was broken off by itself.
  }
}

function isKeyed<K>(gate: Gate | KeyedGate<K>): gate is KeyedGate<K> {
  return (gate as Partial<KeyedGate<K>>).keyed === true;
}

/** A gate without keys, taken as one that has the same for all. */
function only<K>(gate: Gate): Pick<KeyedGate<K>, 'acquire' | 'pause'> {
  return { acquire: (_, cost, options) => gate.acquire(cost, options), pause: (_, seconds) => gate.pause(seconds) };
}

/** How a request's key is found. There is none for a URL that only `fetch` can tell what is wrong with. */
function keyReader<K>(gate: Gate | KeyedGate<K>, key: ThrottledFetchOptions<K>['key']): (input: Input, init?: RequestInit) => K | undefined {
  if (!isKeyed(gate)) {
    if (key !== undefined) throw invalid('key', 'left out for a gate that is not keyed', key);
    return () => '' as K;
  }
  if (key === undefined) return (input) => originOf(input) as K | undefined;
  if (typeof key !== 'function') return () => key;
  return (input, init) => {
    const found: K | undefined = (key as (input: Input, init?: RequestInit) => K)(input, init);
    if (found === undefined) throw invalid('key', 'a key', found);
    return found;
  };
}

function originOf(input: Input): string | undefined {
  try {
    return new URL(asRequest(input)?.url ?? (input as string | URL), globalThis.location?.href).origin;
  } catch {
    return undefined;
  }
}

function asRequest(input: Input): Request | undefined {
  return (input as Request | null)?.url === undefined ? undefined : (input as Request);
}

/** Whether a body can be sent once more. What is not known to be, a stream above all, is not. */
function canReplay(body: unknown): boolean {
  return !body || typeof body === 'string' || ArrayBuffer.isView(body) || [ArrayBuffer, Blob, FormData, URLSearchParams].some((Kind) => body instanceof Kind);
}

function copyOfHeaders(headers: HeadersInit): HeadersInit {
  if (headers instanceof Headers) return new Headers(headers);
  return Symbol.iterator in headers ? [...headers] : { ...headers };
}

/** What to send the next time: `fetch` uses up the body of a Request. */
function copyOf(input: Input): Input {
  const request = asRequest(input);
  return request === undefined || request.body === null || request.bodyUsed ? input : request.clone();
}

/**
 * What goes beside a copy. Its own signal follows that of the original only until garbage is collected, where `fetch` is
 * undici's; so the signal is given once more. A referrer would be reset by that, unless it is given, too.
 */
function besides({ referrer, referrerPolicy }: Request, init: RequestInit | undefined, signal: AbortSignal | null = null): RequestInit {
  return { referrer, referrerPolicy, ...init, signal };
}
