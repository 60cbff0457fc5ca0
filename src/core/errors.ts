/**
 * How headgate says no: the errors that callers catch, and the checks that refuse a bad argument by name.
 */

/** What a {@link ThrottleError} can carry beside its message. */
export interface ThrottleErrorOptions {
  /** What led to this error. */
  cause?: unknown;
  /** Seconds, > 0, after which another try may succeed. */
  retryAfter?: number | undefined;
}

/** The brand of a {@link ThrottleError}, the same in every copy of the package that one program has loaded. */
const BRAND: unique symbol = Symbol.for('headgate.ThrottleError') as never;

/** Lets a program assign another `name`, as it can with any error. */
export function rename(error: Error, value: string): void {
  Object.defineProperty(error, 'name', { value, writable: true, configurable: true });
}

/** A {@link ThrottleError} as JSON and `structuredClone` can carry it: a clone of an error keeps no more than its message and stack. */
export interface ThrottleErrorData {
  /** The name of the class. */
  name: string;
  /** A constant for programs. */
  code: string;
  /** What was refused, and what the caller can do. */
  message: string;
  /** Seconds until another try may succeed. */
  retryAfter?: number;
}

/**
 * The base of every refusal by a gate. Arguments out of range are `RangeError`s and `TypeError`s instead:
 * those are mistakes in the program, these happen in operation.
 *
 * @example
 * import { Throttle, ThrottleError } from 'headgate';
 *
 * const throttle = new Throttle(1, 0, 60);
 * await throttle.run(() => 'one a minute');
 * try {
 *   await throttle.run(() => 'another', 1, { timeout: 2 });
 * } catch (error) {
 *   if (!(error instanceof ThrottleError)) throw error;
 *   console.log(error.code);                            // → ERR_THROTTLE_TIMEOUT
 * }
 */
export class ThrottleError extends Error {
  /** A constant for programs, such as `ERR_THROTTLE_TIMEOUT`. */
  readonly code: string;
  /** Seconds until another try may succeed: a lower bound. Absent where nobody can know, as with a taken slot. */
  declare readonly retryAfter?: number;

  /**
   * @param code A constant for programs.
   * @param message What was refused, and what the caller can do.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(code: string, message: string, options: ThrottleErrorOptions = {}) {
    super(message, options);
    // Not when the module is loaded: a bundler drops classes that nothing uses only where loading them does nothing.
    if (!(BRAND in ThrottleError.prototype)) Object.defineProperty(ThrottleError.prototype, BRAND, { value: true });
    this.code = code;
    if (options.retryAfter !== undefined) this.retryAfter = options.retryAfter;
  }

  /** The name of the class, whatever a minifier makes of it, unless a program has assigned another. */
  override get name(): string {
    return 'ThrottleError';
  }

  override set name(value: string) {
    rename(this, value);
  }

  /** The error as plain data, for logs and for messages between threads. */
  toJSON(): ThrottleErrorData {
    const { name, code, message, retryAfter } = this;
    return { name, code, message, ...(retryAfter !== undefined && { retryAfter }) };
  }
}

/** The permit could not be had within the `timeout`, or it was plain at once that it could not. */
export class ThrottleTimeoutError extends ThrottleError {
  /**
   * @param message What was refused, and what the caller can do.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(message: string, options?: ThrottleErrorOptions) {
    super('ERR_THROTTLE_TIMEOUT', message, options);
  }

  /** The name of the class, unless a program has assigned another. */
  override get name(): string {
    return 'ThrottleTimeoutError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/**
 * The resources of a {@link Limiter} could not be had within its timeout. Its message may be shown to a client, who
 * learns nothing about the resources from it; its `cause` says which of them was short.
 */
export class ServerBusyError extends ThrottleTimeoutError {
  /** The HTTP status that fits; frameworks read it from errors. */
  readonly status = 503;

  /** @param options {@link ThrottleErrorOptions} */
  constructor(options?: ThrottleErrorOptions) {
    super('Server busy, please retry later', options);
  }

  /** The name of the class, unless a program has assigned another. */
  override get name(): string {
    return 'ServerBusyError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/** As many callers wait as `maxQueue` allows; this one was turned away. */
export class QueueFullError extends ThrottleError {
  /**
   * @param message What was refused, and what the caller can do.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(message: string, options?: ThrottleErrorOptions) {
    super('ERR_THROTTLE_QUEUE_FULL', message, options);
  }

  /** The name of the class, unless a program has assigned another. */
  override get name(): string {
    return 'QueueFullError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/** The gate is closed for good. Its `cause` is the reason given to `close`. */
export class ThrottleClosedError extends ThrottleError {
  /**
   * @param message What was refused, and what the caller can do.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(message: string, options?: ThrottleErrorOptions) {
    super('ERR_THROTTLE_CLOSED', message, options);
  }

  /** The name of the class, unless a program has assigned another. */
  override get name(): string {
    return 'ThrottleClosedError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/** The `code` of any value, `undefined` where it has none. Reading it never throws. */
function codeOf(error: unknown): unknown {
  return Object(error) === error ? (error as { code?: unknown }).code : undefined;
}

/**
 * Whether a gate of this package refused a call. Errors are recognised by a registered symbol, never by `instanceof`:
 * a program may have loaded two copies of the package, one as ESM and one as CommonJS, or one bundled and one installed.
 */
export function isThrottleError(error: unknown): error is ThrottleError {
  return Object(error) === error && (error as { [BRAND]?: unknown })[BRAND] === true;
}

/** Whether the permit could not be had in time: a {@link ThrottleTimeoutError} of any copy, {@link ServerBusyError} included. */
export function isTimeoutError(error: unknown): error is ThrottleTimeoutError {
  return isThrottleError(error) && codeOf(error) === 'ERR_THROTTLE_TIMEOUT';
}

/** Whether it is a {@link ServerBusyError} of any copy. */
export function isServerBusyError(error: unknown): error is ServerBusyError {
  return isTimeoutError(error) && (error as { status?: unknown }).status === 503;
}

/** Whether it is a {@link QueueFullError} of any copy. */
export function isQueueFullError(error: unknown): error is QueueFullError {
  return isThrottleError(error) && codeOf(error) === 'ERR_THROTTLE_QUEUE_FULL';
}

/** Whether it is a `RangeError`, also one of another realm: a test runner may run each file in a realm of its own. */
export function isRangeError(error: unknown): error is RangeError {
  return Object(error) === error && (error as { name?: unknown }).name === 'RangeError';
}
