/**
 * One listener per signal, however many waiters share the signal: 50,000 listeners on one AbortSignal take seconds to add,
 * and Node warns of a leak from the eleventh on.
 */

/** Takes a waiter out of its queue. Returns the function that judges that queue again. */
export type Leave = () => () => void;

interface Listeners {
  readonly leaves: Set<Leave>;
  readonly onAbort: () => void;
}

const abortListeners = new WeakMap<AbortSignal, Listeners>();

/**
 * Calls `leave` when `signal` aborts. What `leave` returns is called once every waiter on that signal has left.
 *
 * @throws Whatever `signal.addEventListener` throws. Nothing is left behind then.
 */
export function addAbortListener(signal: AbortSignal, leave: Leave): void {
  const known = abortListeners.get(signal);
  if (known !== undefined) {
    known.leaves.add(leave);
    return;
  }
  const leaves = new Set([leave]);
  // The signal is held here, not read from the event: the target of a polyfill's or a proxy's event may be another object.
  const onAbort = (): void => leaveAll(leaves);
  abortListeners.set(signal, { leaves, onAbort });
  try {
    signal.addEventListener('abort', onAbort);
  } catch (error) {
    abortListeners.delete(signal);
    throw error;
  }
  // A signal that calls its listener at once has no use for it any more.
  if (leaves.size === 0) detach(signal, onAbort);
}

/** Ends that. It never throws. */
export function removeAbortListener(signal: AbortSignal, leave: Leave): void {
  const known = abortListeners.get(signal);
  if (known === undefined || !known.leaves.delete(leave) || known.leaves.size > 0) return;
  abortListeners.delete(signal);
  detach(signal, known.onAbort);
}

function detach(signal: AbortSignal, onAbort: () => void): void {
  try {
    signal.removeEventListener('abort', onAbort);
  } catch {
    // The waiters have left: a listener that stays does nothing.
  }
}

/** Every waiter leaves before any queue is judged again: no waiter is granted whose signal has aborted. */
function leaveAll(leaves: Set<Leave>): void {
  const reviews = new Set<() => void>();
  for (const leave of leaves) reviews.add(leave());
  for (const review of reviews) review();
}
