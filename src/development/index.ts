/**
 * `headgate/development`: finds nested calls and leaked permits. An import switches the aids on for all copies of
 * headgate in the process.
 */
import { development } from '../core/development.js';
import { checkOptionNames } from '../core/option-names.js';
import { checkObject, invalid } from '../core/validation.js';
import { Aids, type DevelopmentOptions } from './aids.js';

export { type DevelopmentOptions } from './aids.js';
export { NestedAcquireError } from './nested-acquire-error.js';

/** The compilers of web applications replace the text `process.env.NODE_ENV`. Browsers have no `process`. */
declare const process: { env: { NODE_ENV?: string; HEADGATE_DEVELOPMENT?: string } };

function readVariable(read: () => string | undefined): string | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

const isProduction = readVariable(() => process.env.NODE_ENV) === 'production';
const isForced = readVariable(() => process.env.HEADGATE_DEVELOPMENT) === '1';
// The first copy of this module serves all copies of headgate.
if (!isProduction || isForced) development.aids ??= new Aids();

/** The settings, with the values that each allows. */
const SETTINGS: Readonly<Record<string, readonly unknown[]>> = {
  nested: ['reject', 'warn', 'ignore', undefined],
  leaks: [true, false, undefined],
};

/**
 * Changes the settings of the development aids. A setting that is left out stays as it is. Without the aids, as in
 * production, the function only checks its argument.
 *
 * @param options {@link DevelopmentOptions}
 * @throws {TypeError} A setting is unknown, or its value is. Nothing changes then.
 *
 * @example
 * import { configureDevelopment } from 'headgate/development';
 *
 * configureDevelopment({ nested: 'warn' }); // a crawler whose jobs add jobs to their own throttle
 */
export function configureDevelopment(options: DevelopmentOptions): void {
  checkObject('options', options);
  checkOptionNames('configureDevelopment', options, Object.keys(SETTINGS));
  const values = { ...options } as Record<string, unknown>;
  for (const [name, allowed] of Object.entries(SETTINGS)) {
    const value = values[name];
    if (!allowed.includes(value))
      throw invalid(name, name === 'leaks' ? 'a boolean' : "'reject', 'warn' or 'ignore'", value);
  }
  development.aids?.configure(values);
}
