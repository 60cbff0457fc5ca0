/** Warnings about settings, each of them once for the process. */

/** The codes of the warnings that were given, the same set for every copy of the package that the process has loaded. */
const GIVEN: unique symbol = Symbol.for('headgate.warnings') as never;

interface Platform {
  [GIVEN]?: Set<string>;
  process?: { emitWarning?(message: string, options: { type: string; code: string }): void };
}

const platform = globalThis as Platform;

/** Whether the warning of this code was given. */
export function hasWarned(code: string): boolean {
  return platform[GIVEN]?.has(code) === true;
}

/** Gives the warning, unless one of this code was given: by `process.emitWarning`, or to the console where there is none. */
export function warnOnce(code: string, message: string): void {
  if (hasWarned(code)) return;
  (platform[GIVEN] ??= new Set()).add(code);
  const { process } = platform;
  if (typeof process?.emitWarning === 'function') process.emitWarning(message, { type: 'HeadgateWarning', code });
  else console.warn(`${code}: ${message}`);
}
