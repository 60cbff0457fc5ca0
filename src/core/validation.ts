/** Checks of the arguments that callers pass. Each check throws an error that names the argument and the received value. */

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
