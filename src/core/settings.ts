/**
 * The arguments of the gates in memory, which have two forms: `new Throttle(10, 2, 1, { burst: 5 })`, and one object
 * with all settings by name.
 */
import { checkOptionNames } from './option-names.js';
import { checkObject, invalid } from './validation.js';

/** The settings of a {@link Throttle}. The first three are the arguments of the form with numbers. */
export const THROTTLE_SETTINGS = [
  'capacity',
  'concurrency',
  'period',
  'burst',
  'window',
  'margin',
  'also',
  'maxQueue',
  'ttl',
  'clock',
  'name',
  'silent',
] as const;

/**
 * Reads the arguments of a constructor. The result is the object of the caller, or an object with the properties of
 * both forms. Its values are unchecked, apart from the types of the three numbers.
 *
 * @param kind The name of the class.
 * @param names The names of all settings, in the order of {@link THROTTLE_SETTINGS}.
 * @throws {TypeError} The arguments have neither form, or an option is unknown. The message shows both forms.
 */
export function readSettings(kind: string, names: readonly string[], args: readonly unknown[]): object {
  const where = `new ${kind}`;
  const [capacity, concurrency = 0, period = 1, options = {}] = args;
  if (isSettings(capacity)) {
    if (args.some((argument, index) => index > 0 && argument !== undefined))
      throw new TypeError(`${where} takes numbers, or one object with all settings${formsOf(where)}`);
    checkOptionNames(where, capacity, names);
    return capacity;
  }
  checkArgument(where, 'capacity', capacity);
  checkArgument(where, 'concurrency', concurrency);
  checkArgument(where, 'period', period);
  checkObject('options', options);
  checkOptionNames(where, options as object, names.slice(3));
  const { burst, window, margin, also, maxQueue, ttl, clock, name, silent, maxKeys } = options as Record<
    string,
    unknown
  >;
  // A constructor with object spread instead of this literal takes five times as long.
  return {
    capacity,
    concurrency,
    period,
    burst,
    window,
    margin,
    also,
    maxQueue,
    ttl,
    clock,
    name,
    silent,
    maxKeys,
  };
}

/** Whether a value can hold settings. Another gate has properties of the same names, but not all settings. */
function isSettings(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !('acquire' in value);
}

function checkArgument(where: string, name: string, value: unknown): void {
  if (typeof value === 'number') return;
  const { message } = invalid(name, 'a number', value);
  throw new TypeError(message + formsOf(where));
}

/** Both forms of a constructor. */
function formsOf(where: string): string {
  return `; write ${where}(10, 2, 1, { burst: 5 }) or ${where}({ capacity: 10, concurrency: 2, burst: 5 })`;
}
