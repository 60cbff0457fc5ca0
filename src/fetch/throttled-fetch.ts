/**
 * The retry loop: each attempt acquires a permit, sends the request, and pauses the gate if the upstream refuses.
 */
import { checkCost, invalid } from '../core/validation.js';
import type { Gate, KeyedGate } from '../core/gate.js';
import { clonesOf, discard, releaseWhenRead } from '../web/response-body.js';
import { createKeyResolver, originOf } from './key.js';
import { acquireInOrder, toKeyedGate } from './keyed-gate.js';
import { type FetchLike, resolveOptions, type ThrottledFetchOptions } from './options.js';
import { PauseLog } from './pause-log.js';
import { NOT_REFUSED, readRefusal } from './refusal.js';
import { asRequest, canReplay, copyInit, copyInput, describeRequest, type Fetch, replayInit } from './request-copy.js';
import { isSignal, sleep, untilAborted } from './until-aborted.js';

/**
 * Creates a `fetch` that sends every request through `gate`. When the upstream refuses a request, the gate is paused:
 * then all requests wait, not only the refused one. A keyed gate pauses only the origin that refused.
 *
 * The pause is the wait that the response states, as `readWait` reads it. If the response states no wait, or a wait
 * that is over, the pause is 1 s after the first attempt, 2 s after the second, then 4 s. A random part of up to a
 * quarter is added, so that the clients of an upstream return at different times.
 *
 * Two kinds of refusals without a stated wait pause less:
 * - A status of 500 or more means that the upstream is in trouble, not that this client is over its limit. Only the
 *   refused request waits; the gate stays open.
 * - A refusal is late if the gate was paused after its request was sent. It does not pause the gate again.
 *
 * A refused request queues again, behind all others. Its refusal is returned instead if
 *   the request was sent again `retries` times already;
 *   its body can be read only once, as a stream can;
 *   the wait is longer than `maxPause`: then the gate is paused for `maxPause`.
 * The body of a `Request` is kept in memory for as long as the request may be sent again. Any request may reach the
 * upstream more than once: leave 503 out of `statuses` if a refused request may have had an effect.
 *
 * With `hold: 'body'` a response holds its slot until its body has been read or cancelled, or is garbage collected.
 *
 * @param gate A keyed gate, with a limit for each origin, or a gate without keys, for all origins together.
 * @returns A function with the type of `options.fetch`, by default the type of the global `fetch`. It never throws. It
 *   rejects as `fetch` does; with the signal's reason as soon as the signal aborts, also during a wait for the gate;
 *   with a `ThrottleError` if the gate refuses; and with any other error of the gate. A request that is aborted
 *   before it was sent is refunded.
 * @throws {RangeError | TypeError} An option is out of range, or a key was given for a gate without keys.
 *
 * @example
 * import { KeyedThrottle } from 'headgate';
 * import { throttledFetch } from 'headgate/fetch';
 *
 * const limitedFetch = throttledFetch(new KeyedThrottle(10, 2));      // each origin: 10 per second, 2 at a time
 * const response = await limitedFetch('https://api.example/items');   // a 429 at first: waits, then sends it again
 * console.log(await response.text());                                 // → ok
 */
export function throttledFetch(gate: Gate | KeyedGate, options?: ThrottledFetchOptions): Fetch;
/** The same for keys of any type. They need a `key` option, because an origin is a string. */
export function throttledFetch<K>(gate: KeyedGate<K>, options: ThrottledFetchOptions<K> & { key: unknown }): Fetch;
/** The same for the `fetch` of another client, such as undici or node-fetch. */
export function throttledFetch<F extends FetchLike>(
  gate: Gate | KeyedGate,
  options: ThrottledFetchOptions<string, F> & { fetch: F },
): F;
/** The same for keys of any type and the `fetch` of another client. */
export function throttledFetch<K, F extends FetchLike>(
  gate: KeyedGate<K>,
  options: ThrottledFetchOptions<K, F> & { key: unknown; fetch: F },
): F;
export function throttledFetch<K>(gate: Gate | KeyedGate<K>, options: ThrottledFetchOptions<K> = {}): Fetch {
  const { fetch, cost, retries, refusal, maxPause, hold, clock, statuses } = resolveOptions(gate, options);
  const resolveKey = createKeyResolver(gate, options.key);
  const keyedGate = toKeyedGate(gate);
  const pauses = new PauseLog<K>();

  /** The key to pause for a refusal. A redirect may lead to another origin, which has its own limit. */
  const keyToPause = ({ redirected, url }: Response, key: K): K =>
    (redirected && resolveKey === originOf ? resolveKey(url) : undefined) ?? key;

  return async (callerInput, callerInit) => {
    const send = fetch ?? globalThis.fetch;
    const key = resolveKey(callerInput, callerInit);
    if (key === undefined) return send(callerInput, callerInit);
    const tokens = typeof cost === 'function' ? cost(callerInput, callerInit) : cost;
    checkCost(tokens);
    // Copied now, as `fetch` does: the caller may change the originals while the request waits.
    const input = callerInput instanceof URL ? new URL(callerInput) : callerInput;
    const init = copyInit(callerInit);
    const { signal = asRequest(input)?.signal, body } = init ?? {};
    const acquireOptions = isSignal(signal) ? { signal } : undefined;
    const maxRetries = canReplay(body) ? retries : 0;
    const request = describeRequest(input, init);

    let nextInput = input;
    /** The key that was paused after the last attempt, if it differs from `key`. */
    let redirectKey: K | undefined;
    /** Seconds that only this request waits before its next attempt. */
    let delay = 0;
    for (let attempt = 0; ; attempt++) {
      if (delay > 0) await sleep(clock, delay, signal);
      delay = 0;
      const permit = await acquireInOrder(keyedGate, redirectKey, key, tokens, acquireOptions);
      const flight = pauses.begin();
      let release = () => permit.release();
      let isSent = false;
      /** The responses whose bodies are cancelled when the attempt ends. */
      let discarded: Response[] = [];
      try {
        const current = nextInput;
        if (attempt < maxRetries && !body) nextInput = copyInput(nextInput);
        const start = (): Promise<Response> => {
          isSent = true;
          return send(current, current === input ? init : replayInit(current as Request, init, signal));
        };
        const response = await untilAborted(signal, start, (late) => void discard(late));
        if (Object(response) !== response) throw invalid('fetch', 'a function that returns a Response', response);
        discarded = refusal === undefined ? [] : clonesOf(response);
        discarded.push(response);
        const stated = await untilAborted(refusal && signal, () => readRefusal(response, request, refusal, statuses));
        if (stated !== NOT_REFUSED) {
          const wait = stated ?? Math.min(2 ** attempt, maxPause);
          const pause = Math.min(wait * (1 + Math.random() / 4), maxPause);
          const pausedKey = keyToPause(response, key);
          redirectKey = pausedKey === key ? undefined : pausedKey;
          if (stated === undefined && response.status >= 500) delay = pause;
          else if (pause > 0 && (stated !== undefined || !pauses.isLate(flight, pausedKey))) {
            pauses.pause(pausedKey);
            // The pause precedes the release: otherwise the next waiter would be granted the slot.
            await keyedGate.pause(pausedKey, pause);
          }
          if (attempt < maxRetries && wait <= maxPause) continue;
        }
        discarded = [];
        if (hold === 'headers') return response;
        const held = releaseWhenRead(response, release, request.method === 'HEAD');
        release = () => {};
        return held;
      } finally {
        pauses.end(flight);
        if (!isSent) permit.refund();
        release();
        for (const each of discarded) void discard(each);
      }
    }
  };
}
