/** Checks of arguments. Each check throws an error that contains the name of the argument and the received value. */
import { warnIfMilliseconds } from './milliseconds.js';
import { checkOptionNames } from './option-names.js';
import { isPromiseLike } from './promise-like.js';

/** Creates the error for an argument: a `TypeError` for a wrong type, a `RangeError` for a number out of range. */
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

/** Throws unless `value` is a number from `min` to `max`, both included. NaN is out of every range. */
export function checkNumber(name: string, expected: string, value: unknown, min: number, max: number): void {
  if (typeof value !== 'number') throw invalid(name, expected, value);
  if (!(value >= min && value <= max)) throw invalid(name, expected, value, RangeError);
}

/** Throws unless `cost` is a finite number >= 0. */
export function checkCost(cost: unknown): void {
  checkNumber('cost', 'a finite number >= 0', cost, 0, Number.MAX_VALUE);
}

/** Throws unless `value` is an integer from `min` to `max`, both included. */
export function checkInteger(name: string, expected: string, value: unknown, min: number, max: number): void {
  checkNumber(name, expected, value, min, max);
  if (!Number.isInteger(value)) throw invalid(name, expected, value, RangeError);
}

/** Throws unless `value` is an integer >= `min` or `Infinity`. */
export function checkCount(name: string, value: unknown, min: number = 0): void {
  if (value !== Infinity) checkInteger(name, `an integer >= ${min}`, value, min, Number.MAX_VALUE);
}

/** Throws unless `value` is a function. */
export function checkFunction(name: string, value: unknown): void {
  if (typeof value === 'function') return;
  throw invalid(name, isPromiseLike(value) ? 'a function that returns the promise: () => work()' : 'a function', value);
}

/** Throws unless `value` is an object. */
export function checkObject(name: string, value: unknown): void {
  if (typeof value !== 'object' || value === null) throw invalid(name, 'an object', value);
}

/** Throws unless `value` is a duration in seconds from `min` to `max`. Warns if it looks like milliseconds. */
export function checkSeconds(name: string, expected: string, value: unknown, min: number, max: number): void {
  checkNumber(name, expected, value, min, max);
  warnIfMilliseconds(name, value as number);
}

/** The options of `acquire` and `run`. */
export const ACQUIRE_OPTIONS = ['signal', 'timeout', 'slots', 'stack'] as const;

/** Throws unless `options` are valid {@link AcquireOptions}. Throws the reason of a signal that has already aborted. */
export function checkAcquireOptions(options: {
  signal?: AbortSignal | undefined;
  timeout?: number | undefined;
  slots?: number | undefined;
}): void {
  checkObject('options', options);
  // A plain comparison of the usual names takes less time than the full check.
  for (const name in options)
    if (name !== 'timeout' && name !== 'signal') checkOptionNames('acquire or run', options, ACQUIRE_OPTIONS);
  const { signal, timeout, slots } = options;
  if (timeout !== undefined) checkSeconds('timeout', 'a number >= 0', timeout, 0, Infinity);
  if (slots !== undefined) checkInteger('slots', 'an integer >= 0', slots, 0, Number.MAX_VALUE);
  checkSignal(signal);
}

/** Throws unless `options` are valid {@link CorrectOptions}. Returns `onlyLower`. */
export function readOnlyLower(options: { onlyLower?: boolean | undefined }): boolean {
  checkObject('options', options);
  checkOptionNames('correct', options, ['onlyLower']);
  const { onlyLower = false } = options;
  if (typeof onlyLower !== 'boolean') throw invalid('onlyLower', 'a boolean', onlyLower);
  return onlyLower;
}

/** Throws unless `signal` is an `AbortSignal`. Throws the reason of a signal that has already aborted. */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal === undefined) return;
  if (typeof signal?.addEventListener !== 'function') throw invalid('signal', 'an AbortSignal', signal);
  if (signal.aborted) throw signal.reason;
}
