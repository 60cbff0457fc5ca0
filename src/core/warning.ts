/** Warnings about settings. The process emits each warning once. */

/** The codes of the emitted warnings. All copies of the package in a process share the set. */
const EMITTED: unique symbol = Symbol.for('headgate.warnings') as never;

interface Platform {
  [EMITTED]?: Set<string>;
  process?: { emitWarning?(message: string, options: { type: string; code: string; detail?: string }): void };
}

interface WarningOptions {
  readonly key?: string;
  readonly detail?: string;
}

const platform = globalThis as Platform;

/** Whether a warning with this code was emitted. */
export function hasWarned(code: string): boolean {
  return platform[EMITTED]?.has(code) === true;
}

/**
 * Emits a warning by `process.emitWarning`, or to the console if that is missing. A repeated code is ignored.
 *
 * @param options `key`: the warning is repeated for another key, although the code is the same. `detail`: further lines.
 */
export function warnOnce(code: string, message: string, { key = code, detail }: WarningOptions = {}): void {
  if (hasWarned(key)) return;
  (platform[EMITTED] ??= new Set()).add(key);
  const { process } = platform;
  if (typeof process?.emitWarning === 'function')
    process.emitWarning(message, { type: 'HeadgateWarning', code, ...(detail !== undefined && { detail }) });
  else console.warn(`${code}: ${message}${detail === undefined ? '' : `\n${detail}`}`);
}
