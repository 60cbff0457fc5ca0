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

/** The error for an argument: a TypeError for the wrong kind of thing, a RangeError for a wrong number. */
export function invalid(name: string, expected: string, value: unknown, Kind: ErrorConstructor = TypeError): Error {
  const shown =
    typeof value === 'string'
      ? JSON.stringify(value)
      : typeof value === 'bigint'
        ? `${value}n`
        : Object(value) === value
          ? typeof value
          : String(value);
  return new Kind(`${name} must be ${expected}, received ${shown}`);
}

/** Refuses whatever is not a number from `min` to `max`, both included. NaN is in no range. */
export function checkNumber(name: string, expected: string, value: unknown, min: number, max: number): void {
  if (typeof value !== 'number') throw invalid(name, expected, value);
  if (!(value >= min && value <= max)) throw invalid(name, expected, value, RangeError);
}

/** Refuses what is no cost: tokens, finite and >= 0. */
export function checkCost(cost: unknown): void {
  checkNumber('cost', 'a finite number >= 0', cost, 0, Number.MAX_VALUE);
}

/** Refuses whatever is not an integer from `min` to `max`, both included. */
export function checkInteger(name: string, expected: string, value: unknown, min: number, max: number): void {
  checkNumber(name, expected, value, min, max);
  if (!Number.isInteger(value)) throw invalid(name, expected, value, RangeError);
}

/** Refuses what is neither an integer >= `min` nor Infinity. */
export function checkCount(name: string, value: unknown, min: number = 0): void {
  if (value !== Infinity) checkInteger(name, `an integer >= ${min}`, value, min, Number.MAX_VALUE);
}

/** Refuses what cannot be called. */
export function checkFunction(name: string, value: unknown): void {
  if (typeof value !== 'function') throw invalid(name, 'a function', value);
}

/** Refuses an options bag that is none, such as a number given in its place. */
export function checkObject(name: string, value: unknown): void {
  if (typeof value !== 'object' || value === null) throw invalid(name, 'an object', value);
}

/** Refuses what is no {@link AcquireOptions}, and a signal that has aborted already. */
export function checkAcquireOptions(options: { signal?: AbortSignal | undefined; timeout?: number | undefined }): void {
  checkObject('options', options);
  const { signal, timeout = 0 } = options;
  checkNumber('timeout', 'a number >= 0', timeout, 0, Infinity);
  if (signal === undefined) return;
  if (typeof signal?.addEventListener !== 'function') throw invalid('signal', 'an AbortSignal', signal);
  if (signal.aborted) throw signal.reason;
}
