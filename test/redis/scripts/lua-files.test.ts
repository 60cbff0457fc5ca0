/** The files of Lua: how they are joined, their syntax, their size, and their headers. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import luaparse from 'luaparse';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readLua, shortenNames } from '../../support/lua-loader.js';
import { scriptFile } from './support.js';

/** Writes files into a folder, and returns the path of one of them. */
function write(files: Record<string, string>): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-lua-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, `${name}.lua`), text);
  return (name) => join(folder, `${name}.lua`);
}

describe('the loader', () => {
  test('replaces an include by the file, also within a file that is included', () => {
    const path = write({ a: 'one()\n--- @include b\nfour()', b: 'two()\n--- @include c', c: 'three()' });
    expect(readLua(path('a'))).toBe('one()\ntwo()\nthree()\nfour()\n');
  });

  test('removes comments, indentation, empty lines and spaces around signs', () => {
    const path = write({ a: "-- A comment.\nif x == 1 .. y then\n  -- Another.\n  call('-- not = one', z)\n\nend\n" });
    expect(readLua(path('a'))).toBe("if x==1 ..y then\ncall('-- not = one',z)\nend\n");
  });

  test('takes a replacement in the place of a file', () => {
    const path = write({ a: '--- @include b', b: 'two()' });
    expect(readLua(path('a'), { b: 'nothing()' })).toBe('nothing()\n');
  });

  test('a missing file is an error', () => {
    const path = write({ a: '--- @include nothing' });
    expect(() => readLua(path('a'))).toThrow('nothing.lua');
  });

  test('a file that includes itself is an error that names the circle', () => {
    const path = write({ a: '--- @include b', b: '--- @include a' });
    expect(() => readLua(path('a'))).toThrow('a.lua includes b.lua includes a.lua');
  });
});

const folder = dirname(scriptFile('step'));
const names = readdirSync(folder)
  .filter((name) => name.endsWith('.lua'))
  .map((name) => name.slice(0, -4));

describe('the scripts', () => {
  test.each(['step', 'inspect', 'reset'])('%s.lua has no syntax error, and sets no global', (name) => {
    const { globals } = luaparse.parse(readLua(scriptFile(name)), { luaVersion: '5.1', scope: true });
    const provided = ['ARGV', 'KEYS', 'cmsgpack', 'ipairs', 'math', 'next', 'pairs', 'redis', 'string', 'struct'];
    const known = new Set([...provided, 'table', 'tonumber', 'type', 'unpack']);
    expect(globals.map((found) => found.name).filter((found) => !known.has(found))).toEqual([]);
  });

  test.each(['step', 'inspect', 'reset'])('%s.lua means the same without comments and spaces', (name) => {
    const joined = (part: string): string =>
      readFileSync(scriptFile(part), 'utf8').replaceAll(/^--- @include (\S+)$/gm, (_, inner: string) => joined(inner));
    const meaning = (code: string): string =>
      JSON.stringify(luaparse.parse(code, { luaVersion: '5.1', comments: false }));
    expect(meaning(readLua(scriptFile(name)))).toBe(meaning(joined(name)));
  });

  test.each(['step', 'inspect', 'reset'])('%s.lua means the same with short names', (name) => {
    /** The meaning, with a number for each local name, in the order of the first uses. */
    const meaning = (code: string): string => {
      const numbers = new Map<string, number>();
      const found = luaparse.parse(code, { luaVersion: '5.1', comments: false, scope: true });
      return JSON.stringify(found, (key, value: { type?: string; isLocal?: boolean; name?: string } | null) => {
        if (key === 'globals') return undefined;
        if (value?.type !== 'Identifier' || value.isLocal !== true) return value;
        const number = numbers.get(value.name as string) ?? numbers.size;
        numbers.set(value.name as string, number);
        return number;
      });
    };
    const code = readLua(scriptFile(name));
    const short = shortenNames(code);
    expect(short.length).toBeLessThan(code.length * 0.85);
    expect(meaning(short)).toBe(meaning(code));
  });

  test.each(names)('%s.lua begins with a comment, and has at most 350 lines of at most 120 columns', (name) => {
    const lines = readFileSync(scriptFile(name), 'utf8').split('\n');
    expect(lines[0]).toMatch(/^-- /);
    expect(lines.length).toBeLessThanOrEqual(350);
    expect(lines.filter((line) => line.length > 120)).toEqual([]);
  });

  test('every file is a script or a part of one', () => {
    const included = new Set(
      names.flatMap((name) =>
        [...readFileSync(scriptFile(name), 'utf8').matchAll(/^--- @include (\S+)$/gm)].map(([, part]) => part),
      ),
    );
    expect(names.filter((name) => !included.has(name)).toSorted()).toEqual(['inspect', 'reset', 'step']);
  });
});
