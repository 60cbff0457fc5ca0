/**
 * The chapter for readers that come from another limiter: every public name of each library has a row, every name in
 * the first column exists, and every row with code has a run with the same code.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, describe, test } from 'vitest';
import { membersOf } from './members.js';

const root = new URL('../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');
const chapter = read('src/core/COMING-FROM.md');

interface Peer {
  /** The declaration files of the package. */
  readonly types: readonly string[];
  /** The test files with the runs of its rows. */
  readonly runs: string;
  /** Names in the types that are no option, method or event of the library. */
  readonly left: readonly string[];
}

const peers: Record<string, Peer> = {
  'p-limit': { types: ['index.d.ts'], runs: 'p-limit', left: [] },
  'p-queue': { types: ['dist/index.d.ts', 'dist/options.d.ts'], runs: 'p-queue', left: [] },
  'p-throttle': { types: ['index.d.ts'], runs: 'p-throttle', left: [] },
  limiter: {
    types: ['dist/esm/RateLimiter.d.ts', 'dist/esm/TokenBucket.d.ts'],
    runs: 'limiter',
    left: ['validateTokens'], // the package does not export it
  },
  'async-sema': { types: ['lib/index.d.ts'], runs: 'async-sema', left: [] },
  bottleneck: { types: ['bottleneck.d.ts'], runs: 'bottleneck', left: [] },
  'express-rate-limit': {
    types: ['dist/index.d.ts'],
    runs: 'express-rate-limit',
    // the parts of `validate`, and of a logger
    left: (
      'validations enabled disable ip trustProxy xForwardedForHeader forwardedHeader positiveHits ' +
      'unsharedStore singleCount draftPolliHeaders onLimitReached headersDraftVersion headersResetTime ' +
      'knownOptions validationsConfig creationStack ipv6SubnetOrKeyGenerator keyGeneratorIpFallback default ' +
      'error warn SUPPORTED_DRAFT_VERSIONS'
    ).split(' '),
  },
};

interface Row {
  readonly id: string;
  readonly theirs: string[];
  readonly ours: string[];
}

const spans = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);
const section = (name: string): string => new RegExp(`^## ${name}\\n(.*?)(?=^## )`, 'ms').exec(chapter)?.[1] ?? '';
const rowsOf = (name: string): Row[] =>
  [...section(name).matchAll(/^\| (.*?) \| (.*?) \| (.*?)\|$/gm)]
    .filter(([, first = '']) => first.includes('`'))
    .map(([, first = '', second = '']) => ({
      id: first.replaceAll('`', ''),
      theirs: spans(first),
      ours: spans(second),
    }));

/** Code without white space and without the commas that the formatter adds. */
const normalize = (code: string): string => code.replaceAll(/\s+/g, '').replaceAll(/,(?=[)\]}])/g, '');
/** Whether `text` contains `code`, where `…` stands for anything. */
const contains = (text: string, code: string): boolean => {
  const parts = normalize(code).split('…');
  return new RegExp(parts.map((part) => part.replaceAll(/[^\w\s]/g, String.raw`\$&`)).join('.*?')).test(
    normalize(text),
  );
};

/** The runs of a library by their names: the scripts of both packages as text. */
function runsOf(prefix: string): Map<string, string> {
  const files = readdirSync(new URL('.', import.meta.url)).filter(
    (file) => file.startsWith(prefix) && file.endsWith('.test.ts'),
  );
  const texts = files.flatMap((file) =>
    read(`test/moving/${file}`)
      .split(/^row\(\s*/m)
      .slice(1),
  );
  return new Map(
    texts.map((text) => {
      const [, quote = '', id = ''] = /^(['"])(.*?)\1,$/m.exec(text) ?? [];
      return [id, text.slice(id.length + 2 * quote.length)];
    }),
  );
}

test('every library has a section with its installed version', () => {
  for (const name of Object.keys(peers)) {
    const { version } = JSON.parse(read(`node_modules/${name}/package.json`)) as { version: string };
    expect(section(name)).toMatch(new RegExp(`^\\nVersion ${version.replaceAll('.', String.raw`\.`)}[.,]`));
  }
});

describe.each(Object.entries(peers))('%s', (name, { types, runs, left }) => {
  const rows = rowsOf(name);
  const members = new Set(
    types.flatMap((path) => [...membersOf(new URL(`node_modules/${name}/${path}`, root).pathname)]),
  );
  const scripts = runsOf(runs);
  const named = new Set(rows.flatMap(({ theirs }) => theirs.flatMap((code) => code.match(/\w+/g) ?? [])));

  test('every public name has a row', () => {
    expect([...members].filter((member) => !named.has(member) && !left.includes(member))).toEqual([]);
    expect(left.filter((member) => !members.has(member))).toEqual([]);
  });

  test('every name in the first column exists', () => {
    for (const { theirs } of rows) {
      // The first name in a piece of code that is no variable: an option, or a member that follows a point.
      for (const code of theirs) {
        const used = [...code.matchAll(/(?<=(?<!\.)\.)[A-Za-z]\w*(?!\w*:)|\b[A-Za-z]\w*(?=: )|^\w+(?=$|\(\)$)/g)].map(
          ([word]) => word,
        );
        for (const word of used) {
          const known = members.has(word) || ['strategy', 'on', 'length', 'rateLimit'].includes(word);
          expect(known, `${word} of ${name}`).toBe(true);
        }
      }
    }
  });

  test.each(rows.filter(({ ours }) => ours.length > 0))(
    'the row $id runs with the code that it shows',
    ({ id, ours, theirs }) => {
      const script = scripts.get(id);
      expect(script, `no run of ${id}`).toBeDefined();
      for (const code of ours) expect(contains(script ?? '', code), code).toBe(true);
      const words = theirs.flatMap((code) => code.match(/[A-Za-z]\w*/g) ?? []);
      for (const word of words) expect(script).toContain(word);
    },
  );

  test('every run has a row', () => {
    const ids = new Set(rows.map(({ id }) => id));
    expect([...scripts.keys()].filter((id) => !ids.has(id))).toEqual([]);
  });
});

test('the recipes of the chapter are those that the rows run', () => {
  const recipes = read('test/moving/recipes.ts');
  const declarations = [...recipes.matchAll(/^\/\*\*.*?\n}\n/gms)].map(([text]) => text);
  const exported = declarations.map((text) => text.slice(text.lastIndexOf('/**')).replace(/^export /m, ''));
  expect(exported.length).toBeGreaterThanOrEqual(6);
  for (const code of exported) expect(chapter).toContain(code);
});

test('the versions in the comparison are those of the packages', () => {
  const comparison = /^## How it compares\n(.*?)^## /ms.exec(read('bench/README.md'))?.[1] ?? '';
  const named = [...comparison.replaceAll('\n', ' ').matchAll(/([a-z-]+) (\d+\.\d+\.\d+)/g)];
  interface Manifest {
    dependencies?: Record<string, string>;
    devDependencies?: Record<string, string>;
  }
  const known: Record<string, string> = {};
  for (const path of ['package.json', 'bench/package.json']) {
    const { dependencies, devDependencies } = JSON.parse(read(path)) as Manifest;
    Object.assign(known, devDependencies, dependencies);
  }
  const checked = named.filter(([, name = '']) => name in known);
  expect(checked.length).toBeGreaterThanOrEqual(9);
  for (const [, name = '', version] of checked) expect(version, name).toBe(known[name]);
});
