/**
 * Waiting for a function that a caller supplies, no longer than the caller's signal allows.
 */

/** Whether a signal can be listened to. Anything else is for `fetch` to reject. */
export function isSignal(signal: unknown): signal is AbortSignal {
  return typeof (signal as AbortSignal | null | undefined)?.addEventListener === 'function';
}

/**
 * Waits for the result of `start`, and rejects with the signal's reason as soon as the signal aborts. A result that comes
 * after the abort goes to `late`, and an error that comes after it is ignored.
 *
 * @param late It must not throw.
 */
export async function untilAborted<T>(
  signal: unknown,
  start: () => T | PromiseLike<T>,
  late: (result: T) => void = () => {},
): Promise<T> {
  if (!isSignal(signal)) return start();
  if (signal.aborted) throw signal.reason;
  let abort!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
  });
  signal.addEventListener('abort', abort);
  let work: Promise<T> | undefined;
  try {
    work = Promise.resolve(start());
    return await Promise.race([work, aborted]);
  } catch (error) {
    // Where the work itself has failed, this does nothing.
    void work?.then(late, () => {});
    throw error;
  } finally {
    removeListener(signal, abort);
  }
}

/** A signal that fails here has served its purpose. */
function removeListener(signal: AbortSignal, listener: () => void): void {
  try {
    signal.removeEventListener('abort', listener);
  } catch {
    // See above.
  }
}
