/**
 * One attempt to send a request: it holds a permit, sends the request, learns from the response, and pauses the gate if
 * the upstream refuses. Afterwards the permit is released, or is held for the body and for `settle`.
 */
import type { Permit } from '../core/permit.js';
import { invalid } from '../core/validation.js';
import { clonesOf, discard } from '../web/response-body.js';
import { type AttemptSignal, createAttemptSignal } from './attempt-signal.js';
import { deliver } from './hold.js';
import type { CalledGate } from './keyed-gate.js';
import type { Learner } from './learn.js';
import type { Settings } from './options.js';
import type { PauseLog } from './pause-log.js';
import { NOT_REFUSED, readRefusal } from './refusal.js';
import { type Fetch, type FetchInput, initFor, type SentRequest } from './request-copy.js';
import { untilAborted } from './until-aborted.js';

/** What all requests of a `throttledFetch` share. */
export interface Client<K> {
  readonly settings: Settings;
  readonly gate: CalledGate<K>;
  /** Whether a permit may be lost before its release. */
  readonly canLosePermits: boolean;
  readonly pauses: PauseLog<K>;
  readonly learner: Learner<K> | undefined;
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

/** The result of an attempt that is to be repeated. */
export interface Retry<K> {
  /** The key that was paused, or would have been. */
  readonly pausedKey: K;
  /** Seconds that only this request waits before its next attempt. */
  readonly delay: number;
}

/** The result of an attempt: a response for the caller, or a retry. */
export type Outcome<K> = { readonly response: Response; readonly retry?: never } | { readonly retry: Retry<K> };

/**
 * Sends a request once. The permit is released in every case, and refunded if the request did not count.
 *
 * @param input The request or its copy.
 * @param number The number of earlier attempts.
 */
export async function runAttempt<K>(
  { settings, gate, canLosePermits, pauses, learner, keyOf }: Client<K>,
  call: Call<K>,
  permit: Permit,
  input: FetchInput,
  number: number,
): Promise<Outcome<K>> {
  const { send, key, init, signal, request, maxRetries } = call;
  const { settle, refundRefused, wait, timeout, refusal, statuses, maxPause, hold, clock } = settings;
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
      const needed = stated ?? Math.min(2 ** number, maxPause);
      const pause = Math.min(needed * (1 + Math.random() / 4), maxPause);
      const pausedKey = keyOf(response, key);
      const isOwnDelay = stated === undefined && response.status >= 500;
      if (!isOwnDelay && pause > 0 && (stated !== undefined || !pauses.isLate(flight, pausedKey))) {
        pauses.pause(pausedKey);
        // The pause precedes the release: otherwise the next waiter would be granted the slot.
        await gate.pause(pausedKey, pause);
      }
      if (number < maxRetries && needed <= maxPause && pause <= wait)
        retry = { pausedKey, delay: isOwnDelay ? pause : 0 };
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
    return { response: delivered };
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
