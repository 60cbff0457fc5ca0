/**
 * `throttledFetch`: engine.ts repeats the attempts, and attempt.ts describes a single attempt.
 */
import type { Gate, KeyedGate } from '../core/gate.js';
import { checkOptionNames } from '../core/option-names.js';
import { isPromiseLike } from '../core/promise-like.js';
import { type Call, type Client, runAttempt } from './attempt.js';
import { computeCost, isSkipped } from './computed-options.js';
import { createEngine, sendWithRetries } from './engine.js';
import { createKeyResolver, originOf } from './key.js';
import type { RateName } from './names.js';
import { type FetchLike, resolveOptions, type ThrottledFetchOptions } from './options.js';
import { asRequest, canReplay, copyInit, copyInput, describeRequest, type Fetch } from './request-copy.js';

const NAMES: readonly (keyof ThrottledFetchOptions)[] = [
  'fetch',
  'key',
  'cost',
  'settle',
  'refundRefused',
  'learn',
  'wait',
  'timeout',
  'skip',
  'retries',
  'statuses',
  'refusal',
  'maxPause',
  'hold',
  'clock',
];

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
 * A refused request is refunded, and queues again, behind all others. Its refusal is returned instead if
 *   the request was sent again `retries` times already;
 *   its body can be read only once, as a stream can;
 *   the wait is longer than the option `wait`;
 *   the wait is longer than `maxPause`: then the gate is paused for `maxPause`.
 * The body of a `Request` is kept in memory for as long as the request may be sent again. Any request may reach the
 * upstream more than once: leave 503 out of `statuses` if a refused request may have had an effect.
 *
 * With `hold: 'body'` a response holds its slot until its body has been read or cancelled, or is garbage collected.
 * With `settle` the slot is held until the true cost of the request is known.
 *
 * If a permit can be lost, by the `ttl` of its throttle or with its lease on Redis, `fetch` receives a signal in its
 * init. The loss of the permit aborts the request, its body included, until the permit is released.
 *
 * @param gate A keyed gate, with a limit for each origin, or a gate without keys, for all origins together.
 * @returns A function with the type of `options.fetch`, by default the type of the global `fetch`. It never throws. It
 *   rejects as `fetch` does; with the signal's reason as soon as the signal aborts, also during a wait for the gate;
 *   with a `TimeoutError` after the `timeout` of an attempt; with the reason of a lost permit; with a `ThrottleError` if
 *   the gate refuses; and with any other error of the gate. A request that is aborted
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
export function throttledFetch<G extends Gate | KeyedGate>(
  gate: G,
  options?: ThrottledFetchOptions<string, Fetch, RateName<G>>,
): Fetch;
/** The same for keys of any type. They need a `key` option, because an origin is a string. */
export function throttledFetch<K, G extends KeyedGate<K>>(
  gate: G & KeyedGate<K>,
  options: ThrottledFetchOptions<K, Fetch, RateName<G>> & { key: unknown },
): Fetch;
/** The same for the `fetch` of another client, such as undici or node-fetch. */
export function throttledFetch<G extends Gate | KeyedGate, F extends FetchLike>(
  gate: G,
  options: ThrottledFetchOptions<string, F, RateName<G>> & { fetch: F },
): F;
/** The same for keys of any type and the `fetch` of another client. */
export function throttledFetch<K, G extends KeyedGate<K>, F extends FetchLike>(
  gate: G & KeyedGate<K>,
  options: ThrottledFetchOptions<K, F, RateName<G>> & { key: unknown; fetch: F },
): F;
export function throttledFetch<K>(gate: Gate | KeyedGate<K>, options: ThrottledFetchOptions<K> = {}): Fetch {
  const settings = resolveOptions(gate, options);
  checkOptionNames('throttledFetch', options, NAMES);
  const { fetch, cost, skip, retries } = settings;
  const resolveKey = createKeyResolver(gate, options.key, originOf as (...args: Parameters<Fetch>) => K | undefined);
  const engine = createEngine(gate, settings);
  const client: Client<K> = {
    ...engine,
    keyOf: ({ redirected, url }, key) => (redirected && resolveKey === originOf ? resolveKey(url) : undefined) ?? key,
  };

  return async (callerInput, callerInit) => {
    const send = fetch ?? globalThis.fetch;
    // Copied now, as `fetch` does: the caller may change the originals while the request waits.
    const input = callerInput instanceof URL ? new URL(callerInput) : callerInput;
    const init = copyInit(callerInit);
    const { signal = asRequest(input)?.signal, body } = init ?? {};
    const request = describeRequest(input, init);

    const skipped = isSkipped(skip, request, signal);
    if (isPromiseLike(skipped) ? await skipped : skipped) return send(callerInput, callerInit);
    const key = resolveKey(callerInput, callerInit);
    if (key === undefined) return send(callerInput, callerInit);
    const computed = computeCost(cost, callerInput, callerInit, signal);
    const tokens = isPromiseLike(computed) ? await computed : computed;

    const maxRetries = canReplay(body) ? retries : 0;
    const call: Call<K> = { send, key, input, init, signal, request, maxRetries };
    let nextInput = input;
    return sendWithRetries(client, key, tokens, signal, (number) => {
      const current = nextInput;
      if (number < maxRetries && !body) nextInput = copyInput(nextInput);
      return (permit) => runAttempt(client, call, permit, current, number);
    });
  };
}
