/** The error of a call that waits for its own job. */
import { rename } from '../core/errors.js';

/**
 * A job has requested a permit of a gate whose slots it holds itself, so the job and the call would wait for each
 * other. The error is a mistake in the program, like a `RangeError`. So it is not a `ThrottleError`, and publishes no
 * message. Only `headgate/development` creates it.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { configureDevelopment, NestedAcquireError } from 'headgate/development';
 *
 * configureDevelopment({ nested: 'reject' }); // the default
 * const throttle = new Throttle(Infinity, 1);
 * const outer = throttle.run(() => throttle.run(() => 'never'));
 * await outer.catch((error: unknown) => console.log(error instanceof NestedAcquireError)); // → true
 */
export class NestedAcquireError extends Error {
  /** A constant for programs. */
  readonly code = 'ERR_THROTTLE_NESTED';

  /** The name of the class, unless a program has assigned another name. */
  override get name(): string {
    return 'NestedAcquireError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}
