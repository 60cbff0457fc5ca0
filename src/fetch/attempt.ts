/**
 * One attempt to send a request: it holds a permit, sends the request, learns from the response, and pauses the gate if
 * the upstream refuses. Afterwards the permit is released, or is held for the body and for `settle`.
 */
import type { Permit } from '../core/permit.js';
import { invalid } from '../core/validation.js';
import { clonesOf, discard } from '../web/response-body.js';
import { type AttemptSignal, createAttemptSignal } from './attempt-signal.js';
import { deliver } from './hold.js';
import { type Engine, type Outcome, pauseAfterRefusal, type Retry } from './engine.js';
import { NOT_REFUSED, readRefusal } from './refusal.js';
import { type Fetch, type FetchInput, initFor, type SentRequest } from './request-copy.js';
import { untilAborted } from './until-aborted.js';

/** What all requests of a `throttledFetch` share. */
export interface Client<K> extends Engine<K> {
  /** The key of the origin that responded. It differs from the key of the request after a redirect. */
  readonly keyOf: (response: Response, key: K) => K;
}

/** A request of a caller. */
export interface Call<K> {
  readonly send: Fetch;
  readonly key: K;
  readonly input: FetchInput;
  readonly init: RequestInit | undefined;
  /** The caller's signal, or any other value, which `fetch` reports. */
  readonly signal: unknown;
  readonly request: SentRequest;
  readonly maxRetries: number;
}

/**
 * Sends a request once. The permit is released in every case, and refunded if the request did not count.
 *
 * @param input The request or its copy.
 * @param number The number of earlier attempts.
 */
export async function runAttempt<K>(
  client: Client<K>,
  call: Call<K>,
  permit: Permit,
  input: FetchInput,
  number: number,
): Promise<Outcome<K, Response>> {
  const { settings, canLosePermits, pauses, learner, keyOf } = client;
  const { send, key, init, signal, request, maxRetries } = call;
  const { settle, refundRefused, timeout, refusal, statuses, hold, clock } = settings;
  const flight = pauses.begin();
  const counted = learner?.begin(key, permit);
  let followed: AttemptSignal | undefined;
  let isDelivered = false;
  /** Whether the upstream did not count the request. */
  let isUncounted = true;
  /** The responses whose bodies are cancelled when the attempt ends. */
  let discarded: Response[] = [];
  const release = (): void => {
    followed?.leavePermit();
    permit.release();
  };
  try {
    followed = createAttemptSignal(signal, canLosePermits && permit.signal, timeout, clock);
    const start = (): Promise<Response> => {
      isUncounted = false;
      return send(input, initFor(input, init, signal, followed?.signal, input !== call.input));
    };
    const response = await untilAborted(followed.signal, start, (late) => void discard(late));
    if (Object(response) !== response) throw invalid('fetch', 'a function that returns a Response', response);
    discarded = refusal === undefined ? [] : clonesOf(response);
    discarded.push(response);
    const stated = await untilAborted(refusal && followed.signal, () =>
      readRefusal(response, request, refusal, statuses),
    );
    followed.stopTimer();
    const isRefused = stated !== NOT_REFUSED;
    isUncounted = isRefused && refundRefused;
    let retry: Retry<K> | undefined;
    if (isRefused) {
      const pausedKey = keyOf(response, key);
      const isServerError = response.status >= 500;
      retry = await pauseAfterRefusal(client, { flight, pausedKey, stated, isServerError, number, maxRetries });
      // The upstream has not counted this request, so the refund precedes the level that the upstream reports.
      if (isUncounted) permit.refund();
    }
    if (counted) learner?.learn(counted, response, () => keyOf(response, key));
    if (retry !== undefined) return { retry };
    followed.followFor(response);
    discarded = [];
    const isHead = request.method === 'HEAD';
    const held = { response, permit, hold, settle: isRefused ? undefined : settle, signal: followed.signal, isHead };
    const delivered = deliver(held, release);
    isDelivered = true;
    return { value: delivered };
  } finally {
    pauses.end(flight);
    if (counted) learner?.end(counted);
    if (!isDelivered) {
      followed?.end();
      if (isUncounted) permit.refund();
      release();
    }
    for (const each of discarded) void discard(each);
  }
}
