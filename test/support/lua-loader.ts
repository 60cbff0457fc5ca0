/**
 * Lua scripts as modules of TypeScript: `import STEP from './step.lua'` is the text of the script as Redis runs it. The
 * line `--- @include NAME` is replaced by the file `NAME.lua` of the same folder. Comments and indentation are removed,
 * and the local names are short.
 */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Plugin } from 'esbuild';
import luaparse from 'luaparse';

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

/** A local name in the text of a script. */
interface LocalName {
  readonly type: string;
  readonly name: string;
  readonly isLocal?: boolean;
  readonly range: readonly [number, number];
}

/**
 * Gives the local names of a script short names: each name the same one everywhere, the most frequent names the
 * shortest ones. The names of globals and of fields stay, and no short name is a global or a keyword.
 */
export function shortenNames(code: string): string {
  const found: LocalName[] = [];
  const fields = new Set<LocalName>();
  const kept = new Set(
    'and break do else elseif end false for function if in local nil not or repeat return then true until while'.split(
      ' ',
    ),
  );
  luaparse.parse(code, {
    luaVersion: '5.1',
    scope: true,
    ranges: true,
    onCreateNode(created: unknown) {
      const node = created as LocalName & { readonly identifier?: LocalName; readonly key?: LocalName };
      if (node.type === 'Identifier') found.push(node);
      else if (node.type === 'MemberExpression' && node.identifier !== undefined) fields.add(node.identifier);
      else if (node.type === 'TableKeyString' && node.key !== undefined) fields.add(node.key);
    },
  });
  const counts = new Map<string, number>();
  for (const node of found) {
    const { name, isLocal } = node;
    if (fields.has(node)) continue;
    if (isLocal === true) counts.set(name, (counts.get(name) ?? 0) + 1);
    else kept.add(name);
  }
  const names = [...counts].filter(([name]) => !kept.has(name)).toSorted(([, one], [, other]) => other - one);
  const short = new Map<string, string>();
  let number = 0;
  for (const [name] of names) {
    let candidate: string;
    do candidate = shortName(number++);
    while (kept.has(candidate));
    short.set(name, candidate);
  }
  let result = '';
  let end = 0;
  for (const node of found.toSorted((one, other) => one.range[0] - other.range[0])) {
    const { name, isLocal, range } = node;
    const replacement = isLocal === true && !fields.has(node) ? short.get(name) : undefined;
    if (replacement === undefined) continue;
    result += code.slice(end, range[0]) + replacement;
    [, end] = range;
  }
  return result + code.slice(end);
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
const shortName = (number: number): string =>
  number < LETTERS.length
    ? (LETTERS[number] as string)
    : `${shortName(Math.floor(number / LETTERS.length) - 1)}${LETTERS[number % LETTERS.length]}`;

const toModule = (file: string): string => `export default ${JSON.stringify(shortenNames(readLua(file)))};`;

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
