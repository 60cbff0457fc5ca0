/** Waits that end as soon as the caller's signal aborts. */
import type { Clock } from '../core/clock.js';

/** Whether a value accepts abort listeners. `fetch` rejects any other value. */
export function isSignal(signal: unknown): signal is AbortSignal {
  return typeof (signal as AbortSignal | null | undefined)?.addEventListener === 'function';
}

/**
 * Waits for the result of `start`, and rejects with the signal's reason as soon as the signal aborts. A result that
 * arrives after the abort goes to `onLateResult`. An error that arrives after the abort is ignored.
 *
 * @param onLateResult It must not throw.
 */
export async function untilAborted<T>(
  signal: unknown,
  start: () => T | PromiseLike<T>,
  onLateResult: (result: T) => void = () => {},
): Promise<T> {
  if (!isSignal(signal)) return start();
  if (signal.aborted) throw signal.reason;
  let abort!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
  });
  signal.addEventListener('abort', abort);
  let started: Promise<T> | undefined;
  try {
    started = Promise.resolve(start());
    return await Promise.race([started, aborted]);
  } catch (error) {
    // If `started` itself has rejected, this line has no effect.
    void started?.then(onLateResult, () => {});
    throw error;
  } finally {
    try {
      signal.removeEventListener('abort', abort);
    } catch {
      // The request has its result already. An error of a non-standard signal must not replace the result.
    }
  }
}

/** Waits for a promise that exists already. Its own rejection after an abort is ignored. */
export function rejectOnAbort<T>(signal: unknown, promiseLike: PromiseLike<T>): Promise<T> {
  const promise = Promise.resolve(promiseLike);
  promise.catch(() => {});
  return untilAborted(signal, () => promise);
}

/** Waits for so many seconds, and cancels the timer if the signal aborts first. */
export async function sleep(clock: Clock, seconds: number, signal: unknown): Promise<void> {
  let cancel: (() => void) | undefined;
  try {
    await untilAborted(signal, () => new Promise<void>((resolve) => void (cancel = clock.schedule(seconds, resolve))));
  } finally {
    cancel?.();
  }
}
