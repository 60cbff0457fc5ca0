/** The errors of a gate on Redis beside the refusals of the core: Redis failed, or a lease is lost. */

import { rename, type ThrottleErrorData } from '../core/errors.js';

/**
 * Redis returned an error, did not reply in time, or cannot be reached; `cause` is the error of the client. Redis may
 * or may not have applied the call. A permit that the call may have taken is released as soon as Redis replies again;
 * otherwise its lease expires within `ttl`.
 */
export class ThrottleBackendError extends Error {
  /** A constant for programs. */
  readonly code = 'ERR_THROTTLE_BACKEND';

  /** The name of the class, independent of minifiers. A program can assign another name. */
  override get name(): string {
    return 'ThrottleBackendError';
  }

  override set name(value: string) {
    rename(this, value);
  }

  /** Returns the error as plain data, for logs and for messages between threads. */
  toJSON(): ThrottleErrorData {
    return dataOf(this);
  }
}

/** The reason with which `permit.signal` aborts: from now on, another holder may have the slot of the permit. */
export class LeaseLostError extends Error {
  /** A constant for programs. */
  readonly code = 'ERR_THROTTLE_LEASE_LOST';

  /** The name of the class, independent of minifiers. A program can assign another name. */
  override get name(): string {
    return 'LeaseLostError';
  }

  override set name(value: string) {
    rename(this, value);
  }

  /** Returns the error as plain data, for logs and for messages between threads. */
  toJSON(): ThrottleErrorData {
    return dataOf(this);
  }
}

const dataOf = ({ name, code, message }: ThrottleErrorData): ThrottleErrorData => ({ name, code, message });

/**
 * Returns the message of an error that a client has thrown. The message may contain a key, and a key may come from an
 * attacker. So characters that could forge lines of a log or control a terminal are escaped.
 */
export function messageOf(error: unknown): string {
  let message: string;
  try {
    message = String((error as Error | undefined)?.message ?? error);
  } catch {
    message = typeof error;
  }
  return message.replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}

/**
 * Whether an error is a reply of Redis, which proves that the connection works. Such a reply starts with a code in
 * capital letters. The errors of the platform have a property `code` instead.
 */
export const isReply = (error: unknown): boolean =>
  (error as { code?: unknown } | null | undefined)?.code === undefined && /^[A-Z][A-Z0-9_]+ /.test(messageOf(error));

/** Whether Redis has refused a command because the user lacks a permission. */
export const isRefusal = (error: unknown): boolean => messageOf(error).startsWith('NOPERM');

/** The error of a user whose rules forbid the channel of this process. */
export const channelError = (cause: unknown): Error =>
  new Error(
    'the Redis user may not subscribe to the channels of headgate. Grant the permissions &headgate:* +subscribe ' +
      `+unsubscribe (ACL SETUSER). Without them, waiters are not notified. Redis replied: ${messageOf(cause)}`,
    { cause },
  );
