/** Warnings about settings. The process emits each warning once. */

/** The codes of the emitted warnings. All copies of the package in a process share the set. */
const EMITTED: unique symbol = Symbol.for('headgate.warnings') as never;

interface Platform {
  [EMITTED]?: Set<string>;
  process?: { emitWarning?(message: string, options: { type: string; code: string }): void };
}

const platform = globalThis as Platform;

/** Whether a warning with this code was emitted. */
export function hasWarned(code: string): boolean {
  return platform[EMITTED]?.has(code) === true;
}

/** Emits a warning by `process.emitWarning`, or to the console if that is missing. A repeated code is ignored. */
export function warnOnce(code: string, message: string): void {
  if (hasWarned(code)) return;
  (platform[EMITTED] ??= new Set()).add(code);
  const { process } = platform;
  if (typeof process?.emitWarning === 'function') process.emitWarning(message, { type: 'HeadgateWarning', code });
  else console.warn(`${code}: ${message}`);
}
