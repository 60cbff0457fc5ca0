/**
 * One listener per AbortSignal, for any number of waiters that share the signal. 50,000 listeners on one signal take
 * seconds to add, and Node warns about a leak from the eleventh listener on.
 */

/** Removes a waiter from its queue. Returns a function that grants every waiter of that queue that fits. */
export type CancelWaiter = () => () => void;

interface Listeners {
  readonly cancels: Set<CancelWaiter>;
  readonly onAbort: () => void;
}

const abortListeners = new WeakMap<AbortSignal, Listeners>();

/**
 * Calls `cancel` when `signal` aborts. Calls the function that `cancel` returns after all waiters of the signal are
 * cancelled.
 *
 * @throws The error of `signal.addEventListener`. No listener is added then.
 */
export function addAbortListener(signal: AbortSignal, cancel: CancelWaiter): void {
  const known = abortListeners.get(signal);
  if (known !== undefined) {
    known.cancels.add(cancel);
    return;
  }
  const cancels = new Set([cancel]);
  // The event is not used: with a polyfill or a proxy, the target of the event may be another object than `signal`.
  const onAbort = (): void => cancelAll(cancels);
  abortListeners.set(signal, { cancels, onAbort });
  try {
    signal.addEventListener('abort', onAbort);
  } catch (error) {
    abortListeners.delete(signal);
    throw error;
  }
  // A signal that calls a new listener at once has already cancelled the waiter.
  if (cancels.size === 0) detach(signal, onAbort);
}

/** Reverts `addAbortListener`. Never throws. */
export function removeAbortListener(signal: AbortSignal, cancel: CancelWaiter): void {
  const known = abortListeners.get(signal);
  if (known === undefined || !known.cancels.delete(cancel) || known.cancels.size > 0) return;
  abortListeners.delete(signal);
  detach(signal, known.onAbort);
}

function detach(signal: AbortSignal, onAbort: () => void): void {
  try {
    signal.removeEventListener('abort', onAbort);
  } catch {
    // Without waiters, the remaining listener has no effect.
  }
}

/** Cancels every waiter before any queue grants another waiter, so that no waiter with an aborted signal is granted. */
function cancelAll(cancels: Set<CancelWaiter>): void {
  const reschedules = new Set<() => void>();
  for (const cancel of cancels) reschedules.add(cancel());
  for (const reschedule of reschedules) reschedule();
}
