/**
 * Runs every example of the READMEs and of the doc comments as a separate module, as a newcomer would paste it. An
 * example must print the texts of its `// → ` comments, in order. All examples pass the strict type check together.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { format } from 'node:util';
import { afterAll, afterEach, describe, expect, inject, test, vi } from 'vitest';
import { chart } from '../bench/upstream/chart.js';
import { fill, type Results } from '../bench/upstream/report.js';
import { removePath, temporaryFolder } from './support/processes.js';

interface Example {
  name: string;
  code: string;
  file: string;
}

const root = fileURLToPath(new URL('..', import.meta.url));
mkdirSync(join(root, 'coverage'), { recursive: true });
const folder = temporaryFolder('examples-', join(root, 'coverage'));
afterAll(() => removePath(folder));
afterEach(() => {
  vi.unstubAllGlobals();
  vi.unstubAllEnvs();
});

const examples: Example[] = [];
const collect = (source: string, code: string): void => {
  const file = join(folder, `example-${examples.length}.ts`);
  writeFileSync(file, `${code}\nexport {};\n`);
  const firstLine = code.split('\n').find((line) => line !== '' && !line.startsWith('import')) ?? '';
  examples.push({
    name: `${source} ${examples.length}: ${firstLine}`,
    code,
    file,
  });
};

/** The README, the chapters beside the code, and the guide for contributors. */
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  ...['bench', 'test', ...readdirSync(join(root, 'src')).map((name) => `src/${name}`)].map(
    (name) => `${name}/README.md`,
  ),
  'src/core/COMING-FROM.md',
].filter((path) => existsSync(join(root, path)));
for (const page of pages) {
  const text = readFileSync(join(root, page), 'utf8');
  for (const [, code = ''] of text.matchAll(/^```ts\n(.*?)^```$/gms)) collect(page, code);
}
const fromReadme = examples.length;
for (const name of readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((path) =>
  path.endsWith('.ts'),
)) {
  const source = readFileSync(join(root, 'src', name), 'utf8');
  for (const [, block = ''] of source.matchAll(/@example\n(.*?)(?=\n\s*\*\/|\n\s*\*\s*@)/gs))
    collect(name, block.replaceAll(/^\s*\* ?/gm, ''));
}

describe('examples', () => {
  test('exist in the READMEs and in the doc comments', () => {
    expect(fromReadme).toBeGreaterThanOrEqual(12);
    expect(examples.length - fromReadme).toBeGreaterThanOrEqual(12);
  });

  test.each(examples)('$name', async ({ code, file }) => {
    const printed: string[] = [];
    const log = vi
      .spyOn(console, 'log')
      .mockImplementation((...values: unknown[]) => void printed.push(format(...values)));
    // The upstream of the recipes refuses once, and then serves.
    const responses = [new Response('', { status: 429, headers: { 'retry-after': '0.01' } })];
    vi.stubGlobal('fetch', async () => responses.pop() ?? new Response('ok'));
    vi.stubEnv('REDIS_URL', inject('redisUrl'));
    await import(pathToFileURL(file).href);
    log.mockRestore();
    const expected = [...code.matchAll(/\/\/ → (.*)$/gm)].map(([, text]) => text);
    if (expected.length > 0) expect(printed).toEqual(expected);
  });

  // The decorators of Nest are those of TypeScript. All other examples use the decorators of JavaScript.
  test.each([false, true])('pass the strict type check, those for Nest: %s', (forNest) => {
    const config = {
      extends: '../../tsconfig.json',
      compilerOptions: {
        isolatedDeclarations: false,
        noPropertyAccessFromIndexSignature: false,
        declaration: false,
        noUnusedLocals: false,
        noUnusedParameters: false,
        experimentalDecorators: forNest,
      },
      // The examples reach the sources, and the sources reach the scripts of Redis.
      include: ['../../src/redis/scripts/lua.d.ts'],
      files: examples.filter(({ code }) => /['/]nest/.test(code) === forNest).map(({ file }) => file),
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const { stdout } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
    expect(stdout).toBe('');
  });
});

test.each(pages)('the pictures, files and headings that %s links to exist', (page) => {
  const text = readFileSync(join(root, page), 'utf8');
  for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
    const [path = '', heading] = target.split('#');
    const file = path === '' ? join(root, page) : join(root, dirname(page), path);
    expect(existsSync(file), `${page} links to ${target}`).toBe(true);
    if (heading !== undefined && file.endsWith('.md'))
      expect(headingsOf(readFileSync(file, 'utf8'))).toContain(heading);
  }
});

/** The anchors of the headings of a page, as a Markdown renderer creates them. */
function headingsOf(text: string): string[] {
  return [...text.replaceAll(/^```.*?^```$/gms, '').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

describe('the strict upstream', () => {
  const results = JSON.parse(readFileSync(join(root, 'bench/upstream.json'), 'utf8')) as Results;

  test('the table and the picture match the results', () => {
    const page = readFileSync(join(root, 'bench/README.md'), 'utf8');
    expect(fill(page, results)).toBe(page);
    expect(readFileSync(join(root, 'bench/upstream.svg'), 'utf8')).toBe(chart(results));
  });

  test.each([
    { id: 'window', right: 'headgate, sliding', wrong: 'headgate, bucket' },
    { id: 'bucket', right: 'headgate, bucket', wrong: 'headgate, sliding' },
    { id: 'concurrency', right: 'headgate', wrong: undefined },
  ])('by $id, headgate has no refusals and the best throughput, as the text states', ({ id, right, wrong }) => {
    const clients = results.upstreams.find((upstream) => upstream.id === id)?.clients ?? {};
    const share = (name: string): number => clients[name]?.share ?? NaN;
    for (const name of [right, wrong ?? right])
      expect(clients[name]?.trials.map(({ refused }) => refused)).toEqual(
        Array.from({ length: results.rounds }, () => 0),
      );
    expect(share(right)).toBeGreaterThan(Math.max(...Object.keys(clients).map(share)) - 0.02);
    if (wrong === undefined) return;
    const cost = 1 - share(wrong) / share(right);
    expect(Math.round(20 * cost) * 5).toBeGreaterThanOrEqual(10);
    expect(Math.round(20 * cost) * 5).toBeLessThanOrEqual(20);
  });

  test('by requests and tokens, headgate alone gets almost everything without a refusal, as the text states', () => {
    const { clients, jobs } = results.both;
    const share = (name: string): number => clients[name]?.share ?? NaN;
    const refused = (name: string): number[] => clients[name]?.trials.map((trial) => trial.refused) ?? [];
    expect(refused('headgate')).toEqual(Array.from({ length: results.both.rounds }, () => 0));
    expect(share('headgate')).toBeGreaterThanOrEqual(0.97);
    for (const name of ['headgate, nested', 'p-queue', 'bottleneck', 'own retries'])
      expect(Math.min(...refused(name)), name).toBeGreaterThan(0);
    expect(Math.max(...refused('bottleneck, half'))).toBe(0);
    expect(share('bottleneck, half')).toBeLessThan(0.5);
    expect(Math.round((clients['own retries']?.refused ?? NaN) / jobs)).toBe(10);
  });

  test('without tuning, every client has refusals, as the text states', () => {
    const clients = results.upstreams.find(({ id }) => id === 'plain')?.clients ?? {};
    for (const { refused } of Object.values(clients)) expect(refused).toBeGreaterThan(0);
  });
});
