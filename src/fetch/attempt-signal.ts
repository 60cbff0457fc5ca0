/**
 * The signal of one attempt. It aborts when the caller's signal aborts, when the permit is lost, or when the attempt
 * exceeds its time limit.
 *
 * `AbortSignal.any` is not used: in Node 20, each of its signals leaves an entry in the caller's signal, which may live
 * as long as the process.
 */
import { addAbortListener, removeAbortListener } from '../core/abort-listeners.js';
import type { Clock } from '../core/clock.js';
import { isSignal } from './until-aborted.js';

/** The signal of an attempt, and the sources that it follows. */
export interface AttemptSignal {
  /** The signal for `fetch`. It is the caller's own signal, or no signal, if the attempt has no other source. */
  readonly signal: unknown;
  /** Ends the time limit. */
  stopTimer(): void;
  /** Stops following the permit, which has been released. */
  leavePermit(): void;
  /** From now on, follows the caller's signal only while `response` or its body is in use. */
  followFor(response: { readonly body?: unknown }): void;
  /** Stops following every source. */
  end(): void;
}

/** The controllers of the responses that are in use, by the response and by its body. */
const controllers = new WeakMap<object, AbortController>();

let registry: FinalizationRegistry<() => void> | undefined;

const ignore = (): void => {};

/**
 * Creates the signal of an attempt.
 *
 * @param caller The caller's signal, or any other value, which is ignored.
 * @param lost The signal of the permit, or any other value, which is ignored.
 * @param timeout Seconds; `Infinity` for no limit.
 */
export function createAttemptSignal(caller: unknown, lost: unknown, timeout: number, clock: Clock): AttemptSignal {
  if (timeout === Infinity && !isSignal(lost))
    return { signal: caller, stopTimer: ignore, leavePermit: ignore, followFor: ignore, end: ignore };
  const controller = new AbortController();
  const leavePermit = isSignal(lost) ? onAbort(lost, () => controller.abort(lost.reason)) : ignore;
  const leaveCaller = isSignal(caller) ? followWeakly(caller, controller) : ignore;
  const end = (): void => {
    stopTimer();
    leavePermit();
    leaveCaller();
  };
  let stopTimer = ignore;
  try {
    if (timeout !== Infinity && !controller.signal.aborted) stopTimer = startTimer(controller, timeout, clock);
  } catch (error) {
    end();
    throw error;
  }
  return {
    signal: controller.signal,
    stopTimer: () => stopTimer(),
    leavePermit,
    followFor(response) {
      if (!isObject(response.body)) return leaveCaller();
      controllers.set(response, controller);
      controllers.set(response.body, controller);
    },
    end,
  };
}

function isObject(value: unknown): value is object {
  return Object(value) === value;
}

/** Calls `callback` when the signal aborts, or now if it has aborted. Returns a function that stops this. */
function onAbort(signal: AbortSignal, callback: () => void): () => void {
  if (signal.aborted) {
    callback();
    return ignore;
  }
  const cancel = (): (() => void) => {
    callback();
    return ignore;
  };
  addAbortListener(signal, cancel);
  return () => removeAbortListener(signal, cancel);
}

/**
 * Aborts the controller when the signal aborts. The signal does not keep the controller alive, because it may outlive
 * the responses of many requests. A caller who drops a response unread ends the following by garbage collection.
 */
function followWeakly(signal: AbortSignal, controller: AbortController): () => void {
  const leave = followReference(signal, new WeakRef(controller));
  if (typeof FinalizationRegistry !== 'undefined')
    (registry ??= new FinalizationRegistry((stop) => stop())).register(controller, leave);
  return leave;
}

/** Kept separate from {@link followWeakly}, so that the listener's scope does not contain the controller. */
function followReference(signal: AbortSignal, reference: WeakRef<AbortController>): () => void {
  return onAbort(signal, () => reference.deref()?.abort(signal.reason));
}

function startTimer(controller: AbortController, timeout: number, clock: Clock): () => void {
  let isRunning = true;
  const cancel = clock.schedule(timeout, () => {
    if (!isRunning) return;
    isRunning = false;
    controller.abort(new DOMException(`The attempt exceeded its timeout of ${timeout} s`, 'TimeoutError'));
  });
  return () => {
    if (!isRunning) return;
    isRunning = false;
    cancel();
  };
}
