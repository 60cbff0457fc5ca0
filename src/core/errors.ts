/** The errors that gates throw and reject with, and functions that recognise these errors. */

/** The optional properties of a {@link ThrottleError}. */
export interface ThrottleErrorOptions {
  /** The error or value that caused this error. */
  cause?: unknown;
  /** Seconds, > 0, after which a retry may succeed. */
  retryAfter?: number | undefined;
}

/** The key that marks a {@link ThrottleError}. Every loaded copy of the package uses the same key. */
const BRAND: unique symbol = Symbol.for('headgate.ThrottleError') as never;

/** Assigns `name` as an own property, as on a plain `Error`. */
export function rename(error: Error, value: string): void {
  Object.defineProperty(error, 'name', { value, writable: true, configurable: true });
}

/**
 * A {@link ThrottleError} as plain data, for JSON and `structuredClone`. A structured clone of an error itself keeps
 * only the message and the stack.
 */
export interface ThrottleErrorData {
  /** The name of the class. */
  name: string;
  /** A constant for programs. */
  code: string;
  /** A description of the refusal, with advice for the caller. */
  message: string;
  /** Seconds until a retry may succeed. */
  retryAfter?: number;
}

/**
 * The base class of all refusals by a gate. A `ThrottleError` can occur in a correct program. An invalid argument is a
 * mistake in the program; it leads to a `RangeError` or a `TypeError` instead.
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
  /** Seconds until a retry may succeed: a lower bound. Absent if unknown, for instance while all slots are occupied. */
  declare readonly retryAfter?: number;

  /**
   * @param code A constant for programs.
   * @param message A description of the refusal, with advice for the caller.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(code: string, message: string, options: ThrottleErrorOptions = {}) {
    super(message, options);
    // Not at module load: a bundler removes an unused class only if loading its module has no side effects.
    if (!(BRAND in ThrottleError.prototype)) Object.defineProperty(ThrottleError.prototype, BRAND, { value: true });
    this.code = code;
    if (options.retryAfter !== undefined) this.retryAfter = options.retryAfter;
  }

  /** The name of the class, also in minified code, unless a program has assigned another name. */
  override get name(): string {
    return 'ThrottleError';
  }

  override set name(value: string) {
    rename(this, value);
  }

  /** Returns the error as plain data, for logs and for messages between threads. */
  toJSON(): ThrottleErrorData {
    const { name, code, message, retryAfter } = this;
    return { name, code, message, ...(retryAfter !== undefined && { retryAfter }) };
  }
}

/**
 * No permit was available within the `timeout`, or the estimated wait exceeded the `timeout` at the time of the call.
 */
export class ThrottleTimeoutError extends ThrottleError {
  /**
   * @param message A description of the refusal, with advice for the caller.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(message: string, options?: ThrottleErrorOptions) {
    super('ERR_THROTTLE_TIMEOUT', message, options);
  }

  /** The name of the class, unless a program has assigned another name. */
  override get name(): string {
    return 'ThrottleTimeoutError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/**
 * The resources of a {@link Limiter} were not available within its timeout. The message is safe to send to a client,
 * because it does not mention the resources. The `cause` names the resource that was not available.
 */
export class ServerBusyError extends ThrottleTimeoutError {
  /** The HTTP status of the response. Frameworks read this property from errors. */
  readonly status = 503;

  /** @param options {@link ThrottleErrorOptions} */
  constructor(options?: ThrottleErrorOptions) {
    super('Server busy, please retry later', options);
  }

  /** The name of the class, unless a program has assigned another name. */
  override get name(): string {
    return 'ServerBusyError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/** The queue already holds `maxQueue` waiters, so the call was refused. */
export class QueueFullError extends ThrottleError {
  /**
   * @param message A description of the refusal, with advice for the caller.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(message: string, options?: ThrottleErrorOptions) {
    super('ERR_THROTTLE_QUEUE_FULL', message, options);
  }

  /** The name of the class, unless a program has assigned another name. */
  override get name(): string {
    return 'QueueFullError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/** `clear` has removed the call from the queue. The gate stays open. The `cause` is the argument of `clear`. */
export class QueueClearedError extends ThrottleError {
  /**
   * @param message A description of the refusal, with advice for the caller.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(message: string, options?: ThrottleErrorOptions) {
    super('ERR_THROTTLE_CLEARED', message, options);
  }

  /** The name of the class, unless a program has assigned another name. */
  override get name(): string {
    return 'QueueClearedError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/** The gate is closed permanently, by `close` or by `drain`. The `cause` is the argument of `close`. */
export class ThrottleClosedError extends ThrottleError {
  /**
   * @param message A description of the refusal, with advice for the caller.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(message: string, options?: ThrottleErrorOptions) {
    super('ERR_THROTTLE_CLOSED', message, options);
  }

  /** The name of the class, unless a program has assigned another name. */
  override get name(): string {
    return 'ThrottleClosedError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/** A holder kept its permit longer than the `ttl` of the throttle. The throttle has given the slot to other callers. */
export class PermitExpiredError extends ThrottleError {
  /**
   * @param message A description of the expiry, with advice for the holder.
   * @param options {@link ThrottleErrorOptions}
   */
  constructor(message: string, options?: ThrottleErrorOptions) {
    super('ERR_THROTTLE_PERMIT_EXPIRED', message, options);
  }

  /** The name of the class, unless a program has assigned another name. */
  override get name(): string {
    return 'PermitExpiredError';
  }

  override set name(value: string) {
    rename(this, value);
  }
}

/**
 * Whether `error` is a {@link ThrottleError} of any copy of the package. A registered symbol marks these errors.
 * `instanceof` would fail for a second copy: one bundled and one installed, or one as ESM and one as CommonJS.
 */
export function isThrottleError(error: unknown): error is ThrottleError {
  return Object(error) === error && (error as { [BRAND]?: unknown })[BRAND] === true;
}

/** Whether `error` is a {@link ThrottleTimeoutError} of any copy, {@link ServerBusyError} included. */
export function isTimeoutError(error: unknown): error is ThrottleTimeoutError {
  return isThrottleError(error) && error.code === 'ERR_THROTTLE_TIMEOUT';
}

/** Whether `error` is a {@link ServerBusyError} of any copy. */
export function isServerBusyError(error: unknown): error is ServerBusyError {
  return isTimeoutError(error) && (error as { status?: unknown }).status === 503;
}

/** Whether `error` is a {@link QueueFullError} of any copy. */
export function isQueueFullError(error: unknown): error is QueueFullError {
  return isThrottleError(error) && error.code === 'ERR_THROTTLE_QUEUE_FULL';
}

/** Whether `error` is a `RangeError` of any realm. A test runner may run each file in a separate realm. */
export function isRangeError(error: unknown): error is RangeError {
  return Object(error) === error && (error as { name?: unknown }).name === 'RangeError';
}
