/** The errors of refused callers: their messages, and their cost. */
import type { ThrottleErrorOptions } from './errors.js';

/**
 * `text` with all but printable ASCII escaped, quoted, and cut to 80 characters: for keys and names in messages. A key may
 * come from a client, and a raw line break or escape sequence in it would forge lines of a log or control a terminal.
 */
export function printable(text: string): string {
  const cut = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return JSON.stringify(cut).replaceAll(/[^ -~]/g, (unit) =>
    unit === '…' ? unit : `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * The refusal of a caller, with what to do about it.
 *
 * @param what The gate and what it refuses.
 * @param wait The seconds that pause and tokens alone demand.
 * @param stack Whether the error has a stack trace. Without one it costs half: an adapter makes thousands under attack.
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

/** What `make` returns, an error without the frames of a stack trace, where the platform lets us choose. */
export function withoutStack<E>(make: () => E): E {
  const { stackTraceLimit } = Error;
  // Where a program has frozen it, the stack trace stays.
  if (typeof stackTraceLimit !== 'number' || !Reflect.set(Error, 'stackTraceLimit', 0)) return make();
  try {
    return make();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}
