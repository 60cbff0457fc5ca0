/**
 * What can go wrong between a process and Redis.
 */

import { rename, type ThrottleErrorData } from '../core/errors.js';

/**
 * Redis refused, did not answer in time, or is gone. Its `cause` says which. Whether the call took effect is not known;
 * what it may have taken is given back as soon as Redis answers again, and lapses within `ttl` otherwise.
 */
export class ThrottleBackendError extends Error {
  /** A constant for programs. */
  readonly code = 'ERR_THROTTLE_BACKEND';

  /** The name of the class, whatever a minifier makes of it, unless a program has assigned another. */
  override get name(): string {
    return 'ThrottleBackendError';
  }

  override set name(value: string) {
    rename(this, value);
  }

  /** The error as plain data, for logs and for messages between threads. */
  toJSON(): ThrottleErrorData {
    return dataOf(this);
  }
}

/** The reason with which `permit.signal` aborts: the permit may be somebody else's from now on. */
export class LeaseLostError extends Error {
  /** A constant for programs. */
  readonly code = 'ERR_THROTTLE_LEASE_LOST';

  /** The name of the class, whatever a minifier makes of it, unless a program has assigned another. */
  override get name(): string {
    return 'LeaseLostError';
  }

  override set name(value: string) {
    rename(this, value);
  }

  /** The error as plain data, for logs and for messages between threads. */
  toJSON(): ThrottleErrorData {
    return dataOf(this);
  }
}

const dataOf = ({ name, code, message }: ThrottleErrorData): ThrottleErrorData => ({ name, code, message });

/**
 * The message of whatever a client has thrown. Characters that could forge lines of a log or control a terminal are
 * escaped: a message of Redis may hold a key, and a key may come from anyone.
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
