/**
 * What can go wrong where a gate is kept elsewhere. Neither is a refusal, so neither is a `ThrottleError`: nobody is
 * told to come back later because a backend is down.
 */
import { rename, type ThrottleErrorData } from '../errors.js';

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
    const { name, code, message } = this;
    return { name, code, message };
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
    const { name, code, message } = this;
    return { name, code, message };
  }
}
