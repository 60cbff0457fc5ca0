/** Creates the errors of refused calls: messages that are safe to log, and stack traces that can be switched off. */
import type { ThrottleErrorOptions } from './errors.js';

/**
 * Returns `text` in quotes, cut to 80 characters, with all characters but printable ASCII escaped: for keys and names
 * in messages. A client may choose the key. A raw line break could forge a log line, and a raw escape sequence could
 * control a terminal.
 */
export function printable(text: string): string {
  const cut = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return JSON.stringify(cut).replaceAll(/[^ -~]/g, (unit) =>
    unit === '…' ? unit : `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The state of a gate after `drain`, in the message of its error. */
export const DRAINS = 'draining: it finishes the calls that it has accepted, and refuses new calls';

/** The message of a {@link QueueClearedError}. */
export function clearedMessage(label: string): string {
  return `clear() removed this call from the queue of ${label}; call again to wait again`;
}

/**
 * Creates the error of a refused call, with advice on when to retry.
 *
 * @param what The first part of the message: the gate and the reason.
 * @param wait The wait in seconds that the pause and the tokens require.
 * @param stack Whether the error has a stack trace. Without it, the error takes half the time to create. An adapter
 *   creates thousands of refusals during an attack.
 */
export function refusal<E>(
  Kind: new (message: string, options: ThrottleErrorOptions) => E,
  what: string,
  wait: number,
  running: number,
  waiting: number,
  stack: boolean = true,
): E {
  const timed = wait > 0 && wait < Infinity;
  const when = timed
    ? `retry in ${+wait.toPrecision(3)} s or later`
    : wait > 0
      ? 'it is paused until resume()'
      : 'retry when a running job has ended';
  const make = (): E =>
    new Kind(`${what}; ${when} (${running} running, ${waiting} waiting)`, { retryAfter: timed ? wait : undefined });
  return stack ? make() : withoutStack(make);
}

/** Calls `make` and returns its error, without stack frames on platforms with `Error.stackTraceLimit`. */
export function withoutStack<E>(make: () => E): E {
  const { stackTraceLimit } = Error;
  // If a program has frozen `stackTraceLimit`, the error keeps its stack trace.
  if (typeof stackTraceLimit !== 'number' || !Reflect.set(Error, 'stackTraceLimit', 0)) return make();
  try {
    return make();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}
