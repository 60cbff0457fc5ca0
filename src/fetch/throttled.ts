/** A limit for any function that sends requests: the client of a library, an RPC, a queue. */
import type { Cost } from '../core/cost.js';
import type { Clock } from '../core/clock.js';
import type { Gate, KeyedGate } from '../core/gate.js';
import { checkOptionNames } from '../core/option-names.js';
import type { Permit } from '../core/permit.js';
import { isPromiseLike } from '../core/promise-like.js';
import { checkFunction, checkObject } from '../core/validation.js';
import { discard } from '../web/response-body.js';
import { readCost } from './computed-options.js';
import { createEngine, type Engine, type Outcome, pauseAfterRefusal, type Retry, sendWithRetries } from './engine.js';
import { runSettle } from './hold.js';
import { createKeyResolver } from './key.js';
import type { RateName } from './names.js';
import { type Refusal, resolveOptions } from './options.js';
import { checkRefusal, NOT_REFUSED } from './refusal.js';
import { isSignal, untilAborted } from './until-aborted.js';

const NAMES: readonly (keyof ThrottledOptions<never, never>)[] = [
  'key',
  'cost',
  'refusal',
  'settle',
  'signal',
  'wait',
  'retries',
  'maxPause',
  'refundRefused',
  'clock',
];

/** A call of the wrapped function that has returned. */
export interface SendResult<R> {
  /** The result, after its promise has settled. */
  readonly result: R;
  /** Absent. */
  readonly error?: undefined;
}

/** A call of the wrapped function that has failed. */
export interface SendFailure {
  /** Absent. */
  readonly result?: undefined;
  /** The value that the function threw or rejected with. */
  readonly error: unknown;
}

/** The outcome of one call of the wrapped function. */
export type SendOutcome<R> = SendResult<R> | SendFailure;

/**
 * The options of `throttled`, for a function with the parameters `A` and the result `R`, keys of type `K`, and rates
 * with the names `Name`.
 */
export interface ThrottledOptions<A extends unknown[], R, K = string, Name extends string = string> {
  /** For a keyed gate, which requires it: the key, or a synchronous function of the arguments. */
  key?: K | ((...args: A) => K) | undefined;
  /** Tokens for each attempt: a cost, or a function of the arguments, which may be asynchronous. Default 1. */
  cost?: Cost<Name> | ((...args: A) => Cost<Name> | PromiseLike<Cost<Name>>) | undefined;
  /**
   * Decides whether the upstream has refused the call. The function may be asynchronous. An error of the function
   * rejects the call. Default: no outcome is a refusal.
   *
   * - A number: a refusal, and the wait in seconds, finite and >= 0. `readWait` reads it from header fields.
   * - `true`: a refusal without a stated wait. The pause is 1 s after the first attempt, then 2 s, 4 s and so on.
   * - `false` or `undefined`: no refusal. The outcome goes to the caller.
   */
  refusal?: ((outcome: SendOutcome<R>, ...args: A) => Refusal | PromiseLike<Refusal>) | undefined;
  /**
   * States the true cost, by `permit.settle`, after a result that is not a refusal. The slot stays taken until the
   * function, which may be asynchronous, has ended, or the signal of the call aborts. The caller does not wait for it.
   * An error of the function is reported once, as a warning of the process with the code `HEADGATE_SETTLE_FAILED`.
   */
  settle?: ((result: R, permit: Permit<Name>) => void | PromiseLike<void>) | undefined;
  /**
   * Returns the signal of a call. Its abort ends the waits for the gate. A call that runs must observe the signal
   * itself. Default: no signal.
   */
  signal?: ((...args: A) => AbortSignal | null | undefined) | undefined;
  /** The longest wait in the queue in seconds, for each attempt: >= 0. Default `Infinity`. */
  wait?: number | undefined;
  /** The maximum number of times that a refused call is repeated: an integer >= 0, or `Infinity`. Default 2. */
  retries?: number | undefined;
  /** The longest pause in seconds, > 0. Default: 300 for each key of a keyed gate, and 60 for a gate without keys. */
  maxPause?: number | undefined;
  /** Whether a refused attempt is refunded. Default `true`. */
  refundRefused?: boolean | undefined;
  /** The clock for the waits of a single call. Default: the monotonic clock of the platform. */
  clock?: Clock | undefined;
}

/**
 * Wraps any function that sends requests, so that each call waits for `gate`. When `refusal` reports a refusal, the gate
 * is paused for the wait: then all calls wait, not only the refused one. The refused call is refunded, and is repeated
 * with the same arguments, at most `retries` times. After that, or if the wait is longer than `wait` or `maxPause`, the
 * caller gets the result or the error of the last attempt.
 *
 * A slot is held until the promise of `send` has settled, and `settle` has ended.
 *
 * @returns A function with the parameters of `send`, which keeps `this`. It never throws. It rejects as `send` does;
 *   with the reason of the signal, if the signal aborts before `send` is called; with a `ThrottleError` if the gate
 *   refuses; and with any other error of the gate or of the functions of the options.
 * @throws {RangeError | TypeError} An option is out of range, or a keyed gate has no `key`.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { throttled } from 'headgate/fetch';
 *
 * class Busy extends Error {}
 * let calls = 0;
 * const send = async (text: string) => {
 *   if (++calls === 1) throw new Busy();
 *   return text.toUpperCase();
 * };
 * const limited = throttled(new Throttle(10, 2), send, {
 *   refusal: ({ error }) => (error instanceof Busy ? 0.01 : false), // seconds
 * });
 * console.log(await limited('sent'), calls); // → SENT 2
 */
export function throttled<G extends Gate | KeyedGate, A extends unknown[], R>(
  gate: G,
  send: (...args: A) => R,
  options?: ThrottledOptions<A, Awaited<R>, string, RateName<G>>,
): (...args: A) => Promise<Awaited<R>>;
/** The same for keys of any type. */
export function throttled<K, G extends KeyedGate<K>, A extends unknown[], R>(
  gate: G & KeyedGate<K>,
  send: (...args: A) => R,
  options: ThrottledOptions<A, Awaited<R>, K, RateName<G>> & { key: unknown },
): (...args: A) => Promise<Awaited<R>>;
export function throttled<K, A extends unknown[], R>(
  gate: Gate | KeyedGate<K>,
  send: (...args: A) => R | PromiseLike<R>,
  options: ThrottledOptions<A, R, K> = {},
): (...args: A) => Promise<R> {
  checkFunction('send', send);
  checkObject('options', options);
  checkOptionNames('throttled', options, NAMES);
  const { cost, refusal, settle, signal: signalOf, wait, retries, maxPause, refundRefused, clock } = options;
  for (const [name, value] of Object.entries({ refusal, settle, signal: signalOf }))
    if (value !== undefined) checkFunction(name, value);
  const common = { cost: cost as Cost | undefined, wait, retries, maxPause, refundRefused, clock };
  const engine = createEngine(gate, resolveOptions(gate, common));
  const keyOf = createKeyResolver<K, A>(gate, options.key);
  return async function (this: unknown, ...args) {
    const signal = signalOf?.(...args);
    const key = keyOf(...args);
    const computed = typeof cost === 'function' ? readCost(cost(...args), signal) : (engine.settings.cost as Cost);
    const tokens = isPromiseLike(computed) ? await computed : computed;
    const call = { send: () => send.apply(this, args), args, key, signal, refusal, settle };
    return sendWithRetries(engine, key, tokens, signal, (number) => (permit) => runCall(engine, call, permit, number));
  };
}

/** A call of the wrapped function. */
interface Call<A extends unknown[], R, K> {
  readonly send: () => R | PromiseLike<R>;
  readonly args: A;
  readonly key: K;
  readonly signal: unknown;
  readonly refusal: ThrottledOptions<A, R, K>['refusal'];
  readonly settle: ThrottledOptions<A, R, K>['settle'];
}

/** Calls the function once. The permit is released in every case, and refunded if the upstream did not count the call. */
async function runCall<A extends unknown[], R, K>(
  engine: Engine<K>,
  { send, args, key, signal, refusal, settle }: Call<A, R, K>,
  permit: Permit,
  number: number,
): Promise<Outcome<K, R>> {
  const { pauses, settings } = engine;
  const flight = pauses.begin();
  let isUncounted = true;
  let isSettling = false;
  try {
    // An abort in the instant of the grant: the function is not called.
    if (isSignal(signal) && signal.aborted) throw signal.reason;
    isUncounted = false;
    const outcome = await outcomeOf(send);
    const stated = refusal ? await untilAborted(signal, () => readOutcome(refusal, outcome, args)) : NOT_REFUSED;
    if (stated !== NOT_REFUSED) {
      isUncounted = settings.refundRefused;
      const maxRetries = settings.retries;
      const refused = { flight, pausedKey: key, stated, isServerError: false, number, maxRetries };
      const retry: Retry<K> | undefined = await pauseAfterRefusal(engine, refused);
      if (retry !== undefined) {
        void discard(outcome.result as { body?: unknown } | undefined);
        return { retry };
      }
    }
    if ('error' in outcome) throw outcome.error;
    const { result } = outcome;
    if (settle !== undefined && stated === NOT_REFUSED) {
      isSettling = true;
      const isAborted = (): boolean => isSignal(signal) && signal.aborted;
      void runSettle(
        () => settle(result, permit),
        signal,
        isAborted,
        () => permit.release(),
      );
    }
    return { value: result };
  } finally {
    pauses.end(flight);
    if (!isSettling) {
      if (isUncounted) permit.refund();
      permit.release();
    }
  }
}

async function outcomeOf<R>(send: () => R | PromiseLike<R>): Promise<SendOutcome<R>> {
  try {
    return { result: await send() };
  } catch (error) {
    return { error };
  }
}

/** Reads the result of `refusal`, as `readRefusal` does for a response. */
async function readOutcome<A extends unknown[], R>(
  refusal: (outcome: SendOutcome<R>, ...args: A) => Refusal | PromiseLike<Refusal>,
  outcome: SendOutcome<R>,
  args: A,
): Promise<number | undefined> {
  const result = checkRefusal(await refusal(outcome, ...args));
  if (typeof result === 'number') return result;
  return result === true ? undefined : NOT_REFUSED;
}
