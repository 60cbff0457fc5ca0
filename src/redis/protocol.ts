/** The values that a process and the script exchange. `scripts/step.ts` describes the commands and the events. */
import type { ThrottleBackendError } from './errors.js';

/** One command for the script. */
export interface Command {
  readonly args: readonly string[];
  /** The serial of the call that requests a permit with this command. */
  readonly requestedBy?: string;
  /** A command that fails before this instant is sent again. */
  readonly retryUntil?: number;
  readonly onDone?: () => void;
  readonly onFailed?: (error: ThrottleBackendError) => void;
}

/** The microseconds that stand for Infinity: the largest integer that a double holds exactly. */
export const FOREVER: number = Number.MAX_SAFE_INTEGER;
/** A span of at least so many microseconds, some thirty years, counts as infinite. */
export const ENDLESS = 1e15;
/** The number of fields of a grant event after its serial. */
export const GRANT_FIELDS = 4;

/** Converts seconds to microseconds, as the script reads them. */
export const micros = (seconds: number): string =>
  (seconds === Infinity ? FOREVER : Math.min(FOREVER, Math.round(seconds * 1e6))).toString();

/** Converts a limit: -1 stands for Infinity. */
export const encodeLimit = (count: number): string => (count === Infinity ? '-1' : count.toString());

/**
 * Checks the reply of the script to `commands`. Returns its lines: the wake-up time, then one line for each event.
 *
 * @throws {TypeError} The reply is not from the script, or lacks an event for a request.
 */
export function checkReply(commands: readonly Command[], reply: unknown): string[] {
  const lines = Array.isArray(reply) ? reply.map(String) : [];
  const answered = new Set(lines.slice(1).map((event) => event.split(' ', 2)[1]));
  // A request without an event would stay pending forever.
  if (lines.length === 0 || commands.some(({ requestedBy }) => requestedBy !== undefined && !answered.has(requestedBy)))
    throw new TypeError('the client has returned a reply that is not from the script');
  return lines;
}
