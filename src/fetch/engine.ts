/**
 * The engine of every limited sender: `throttledFetch`, `throttled` and `undiciThrottle`. It repeats the attempts of a
 * request, and pauses the gate when the upstream refuses one of them.
 */
import type { Cost } from '../core/cost.js';
import type { AcquireOptions, Gate, KeyedGate } from '../core/gate.js';
import type { Permit } from '../core/permit.js';
import { acquireInOrder, type CalledGate, canLosePermits, toKeyedGate } from './keyed-gate.js';
import { Learner } from './learn.js';
import type { Settings } from './options.js';
import { type Flight, PauseLog } from './pause-log.js';
import { isSignal, sleep } from './until-aborted.js';

/** What all requests of a sender share. */
export interface Engine<K> {
  readonly settings: Settings;
  readonly gate: CalledGate<K>;
  /** Whether a permit may be lost before its release. */
  readonly canLosePermits: boolean;
  readonly pauses: PauseLog<K>;
  /** Absent if the gate does not learn. */
  readonly learner: Learner<K> | undefined;
}

/** Creates the engine of one sender. */
export function createEngine<K>(gate: Gate | KeyedGate<K>, settings: Settings): Engine<K> {
  const called = toKeyedGate(gate);
  return {
    settings,
    gate: called,
    canLosePermits: canLosePermits(gate),
    pauses: new PauseLog<K>(),
    learner: settings.learn && new Learner(called, settings.learn),
  };
}

/** The result of an attempt that is to be repeated. */
export interface Retry<K> {
  /** The key that was paused, or would have been. */
  readonly pausedKey: K;
  /** Seconds that only this request waits before its next attempt. */
  readonly delay: number;
}

/** The result of an attempt: a value for the caller, or a retry. */
export type Outcome<K, R> = { readonly value: R; readonly retry?: never } | { readonly retry: Retry<K> };

/** A refused attempt. */
export interface RefusedAttempt<K> {
  readonly flight: Flight;
  /** The key to pause. */
  readonly pausedKey: K;
  /** The stated wait in seconds, or `undefined` for a refusal without a stated wait. */
  readonly stated: number | undefined;
  /** Whether the upstream is in trouble: without a stated wait, only the refused request waits. */
  readonly isServerError: boolean;
  /** The number of earlier attempts. */
  readonly number: number;
  readonly maxRetries: number;
}

/** Pauses the gate after a refusal. Returns the retry, or `undefined` if the refusal is the result of the request. */
export async function pauseAfterRefusal<K>(
  { gate, pauses, settings: { maxPause, wait } }: Engine<K>,
  { flight, pausedKey, stated, isServerError, number, maxRetries }: RefusedAttempt<K>,
): Promise<Retry<K> | undefined> {
  const needed = stated ?? Math.min(2 ** number, maxPause);
  const pause = Math.min(needed * (1 + Math.random() / 4), maxPause);
  const isOwnDelay = stated === undefined && isServerError;
  if (!isOwnDelay && pause > 0 && (stated !== undefined || !pauses.isLate(flight, pausedKey))) {
    pauses.pause(pausedKey);
    // The pause precedes the release: otherwise the next waiter would be granted the slot.
    await gate.pause(pausedKey, pause);
  }
  return number < maxRetries && needed <= maxPause && pause <= wait
    ? { pausedKey, delay: isOwnDelay ? pause : 0 }
    : undefined;
}

/**
 * Makes attempts until one of them has a value. Each attempt receives a permit, which it must release.
 *
 * @param signal An abort ends the waits before an attempt. Any other value is ignored.
 * @param prepare Called before the wait of each attempt, with the number of earlier attempts. Returns the attempt.
 */
export async function sendWithRetries<K, R>(
  { gate, settings: { wait, clock } }: Engine<K>,
  key: K,
  cost: Cost,
  signal: unknown,
  prepare: (number: number) => (permit: Permit) => Promise<Outcome<K, R>>,
): Promise<R> {
  const acquireOptions = acquireOptionsOf(signal, wait);
  /** The key that was paused after the last attempt, if it differs from `key`. */
  let redirectKey: K | undefined;
  for (let number = 0; ; number++) {
    const attempt = prepare(number);
    const outcome = await attempt(await acquireInOrder(gate, redirectKey, key, cost, acquireOptions));
    if (outcome.retry === undefined) return outcome.value;
    const { pausedKey, delay } = outcome.retry;
    redirectKey = pausedKey === key ? undefined : pausedKey;
    if (delay > 0) await sleep(clock, delay, signal);
  }
}

/** The options of `acquire`, or `undefined` if the caller waits without limit and cannot abort. */
function acquireOptionsOf(signal: unknown, wait: number): AcquireOptions | undefined {
  const options: AcquireOptions = {};
  if (isSignal(signal)) options.signal = signal;
  if (wait !== Infinity) options.timeout = wait;
  return Object.keys(options).length === 0 ? undefined : options;
}
