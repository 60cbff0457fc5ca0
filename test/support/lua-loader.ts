/**
 * Lua scripts as modules of TypeScript: `import STEP from './step.lua'` is the text of the script as Redis runs it. The
 * line `--- @include NAME` is replaced by the file `NAME.lua` of the same folder. Comments and indentation are removed.
 */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Plugin } from 'esbuild';

/** A part that takes the place of a file, by its name. A test replaces or leaves out a part with it. */
export type Replacements = Readonly<Record<string, string>>;

/**
 * Reads a script with all its parts, as Redis runs it.
 *
 * @throws {Error} A part is missing, or contains itself.
 */
export function readLua(file: string, replacements: Replacements = {}): string {
  return removeSpaces(readLuaLines(file, replacements));
}

/** As {@link readLua}, but the spaces within lines stay, for tests that search the text. */
export function readLuaLines(file: string, replacements: Replacements = {}): string {
  const lines = include(file, replacements, []).split('\n');
  const trimmed = lines.map((line) => line.trim());
  // A comment stands on a line of its own.
  return `${trimmed.filter((line) => line !== '' && !line.startsWith('--')).join('\n')}\n`;
}

function include(file: string, replacements: Replacements, outer: readonly string[]): string {
  if (outer.includes(file)) throw new Error([...outer, file].map((path) => basename(path)).join(' includes '));
  const text = replacements[basename(file, '.lua')] ?? readFileSync(file, 'utf8');
  return text.replaceAll(/^--- @include (\S+)$/gm, (_, name: string) =>
    include(join(dirname(file), `${name}.lua`), replacements, [...outer, file]),
  );
}

/** Removes spaces around signs. */
function removeSpaces(code: string): string {
  // Every second piece is a string. A space after a digit stays, since `1 ..` is no `1..`. Two minus signs in a row would
  // begin a comment.
  const pieces = code.split(/('(?:[^'\\\n]|\\.)*')/);
  const signs = /(?<!\d) *([=+*/%<>,(){}]|\.\.|[~=<>]=|-(?! *-)) */g;
  return pieces.map((piece, index) => (index % 2 === 1 ? piece : piece.replaceAll(signs, '$1'))).join('');
}

const toModule = (file: string): string => `export default ${JSON.stringify(readLua(file))};`;

/** The plugin for esbuild and tsup. */
export const luaForEsbuild: Plugin = {
  name: 'lua',
  setup(build) {
    build.onLoad({ filter: /\.lua$/ }, ({ path }) => ({ contents: toModule(path), loader: 'js' }));
  },
};

/** The plugin for Vitest. */
export const luaForVitest: { name: string; enforce: 'pre'; load: (id: string) => string | undefined } = {
  name: 'lua',
  enforce: 'pre',
  load: (id) => (id.endsWith('.lua') ? toModule(id) : undefined),
};
