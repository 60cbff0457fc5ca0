/** The aids as programs load them: in production, on other platforms, in bundles, and with several copies of headgate. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type BuildOptions } from 'esbuild';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { removePath, temporaryFolder } from '../support/processes.js';
import { warningsOf } from './warnings.js';

const source = (path: string): string => fileURLToPath(new URL(`../../src/${path}`, import.meta.url));
const alias = {
  headgate: source('index.ts'),
  'headgate/development': source('development/index.ts'),
  'headgate/testing': source('testing/index.ts'),
};
const folder = temporaryFolder('headgate-development-');
afterAll(() => removePath(folder));

const KEY = Symbol.for('headgate.development');
const hooks = (): { aids?: unknown } => (globalThis as { [KEY]?: { aids?: unknown } })[KEY] ?? {};

/** A fresh copy of the sources, without aids. */
const load = async () => {
  vi.resetModules();
  hooks().aids = undefined;
  const { Throttle } = await import('headgate');
  const development = await import('headgate/development');
  return { Throttle, ...development };
};
type Loaded = Awaited<ReturnType<typeof load>>;

/** What happens to a nested call: `rejects` or `waits`. */
const nestedCall = async ({ Throttle }: Pick<Loaded, 'Throttle'>): Promise<string> => {
  const throttle = new Throttle(Infinity, 1);
  const inner = throttle.run(() => {
    const nested = throttle.run(() => 'waits');
    return Promise.race([nested, new Promise((resolve) => void setTimeout(() => resolve('waits'), 5))]);
  });
  return inner.then(String, ({ code }: { code: string }) => (code === 'ERR_THROTTLE_NESTED' ? 'rejects' : code));
};

beforeEach(() => void (hooks().aids = undefined));
afterEach(() => {
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
  hooks().aids = undefined;
});

describe('the environment', () => {
  test.each([
    { mode: undefined, forced: undefined, expected: 'rejects' },
    { mode: 'test', forced: undefined, expected: 'rejects' },
    { mode: 'production', forced: undefined, expected: 'waits' },
    { mode: 'production', forced: '0', expected: 'waits' },
    { mode: 'production', forced: '1', expected: 'rejects' },
  ])('NODE_ENV $mode, HEADGATE_DEVELOPMENT $forced: a nested call $expected', async ({ mode, forced, expected }) => {
    vi.stubEnv('NODE_ENV', mode);
    vi.stubEnv('HEADGATE_DEVELOPMENT', forced);
    const loaded = await load();
    expect(await nestedCall(loaded)).toBe(expected);
    expect(hooks().aids === undefined).toBe(expected === 'waits');
    loaded.configureDevelopment({ nested: 'warn' });
    expect(() => loaded.configureDevelopment({ nested: 1 as never })).toThrow(TypeError);
  });

  // Vitest sets `process.nextTick` at any time, so `process` itself cannot be absent here.
  test('with an empty `process`, leaks are reported on the console, and nested calls wait', async () => {
    const { process: real } = globalThis;
    vi.stubGlobal('process', { nextTick: real.nextTick });
    const loaded = await load();
    expect(await nestedCall(loaded)).toBe('waits');
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    (() => new loaded.Throttle(Infinity, 1).tryAcquire())();
    for (let round = 0; round < 6; round++) {
      globalThis.gc?.();
      await new Promise((resolve) => void setTimeout(resolve, 2));
    }
    const printed = warn.mock.calls.map(([text]) => String(text));
    warn.mockRestore();
    vi.stubGlobal('process', real);
    expect(printed).toHaveLength(1);
    expect(printed[0]).toMatch(/^HEADGATE_LEAKED_PERMIT: a permit of Throttle[^]*\n {4}at .*platforms\.test\.ts/);
  });

  test.each(['getBuiltinModule is absent', 'the module is empty'])(
    'without AsyncLocalStorage (%s), nested calls wait',
    async (how) => {
      const { getBuiltinModule } = process;
      const fake = { 'getBuiltinModule is absent': undefined, 'the module is empty': () => ({}) }[how];
      process.getBuiltinModule = fake as never;
      const loaded = await load();
      process.getBuiltinModule = getBuiltinModule;
      expect(await nestedCall(loaded)).toBe('waits');
      expect(await new loaded.Throttle(Infinity, 2).map([1, 2, 3], (item) => item)).toEqual([1, 2, 3]);
    },
  );

  test('without FinalizationRegistry, nothing is reported, and nested calls reject', async () => {
    vi.stubGlobal('FinalizationRegistry', undefined);
    const loaded = await load();
    expect(await nestedCall(loaded)).toBe('rejects');
    const warnings = await warningsOf(async () => {
      (() => new loaded.Throttle(Infinity, 1).tryAcquire())();
      globalThis.gc?.();
      await new Promise((resolve) => void setTimeout(resolve, 5));
    });
    expect(warnings).toEqual([]);
  });
});

/** Builds a program, and returns its file. */
const bundle = async (name: string, code: string, options: BuildOptions): Promise<string> => {
  const outfile = join(folder, name);
  const stdin = { contents: code, resolveDir: folder, sourcefile: 'program.ts', loader: 'ts' as const };
  await build({ stdin, alias, bundle: true, platform: 'node', format: 'esm', target: 'node20', outfile, ...options });
  return outfile;
};

describe('several copies of headgate in one program share the aids', () => {
  const code = `export { Throttle } from 'headgate'; export { configureDevelopment } from 'headgate/development';`;

  test.each(['esm', 'cjs'] as const)('a copy as %s beside the sources', async (format) => {
    const installed = await load();
    const { aids } = hooks();
    const file = await bundle(`copy.${format === 'esm' ? 'mjs' : 'cjs'}`, code, { format, minify: true });
    const copy = (
      format === 'esm' ? await import(/* @vite-ignore */ pathToFileURL(file).href) : createRequire(file)(file)
    ) as Loaded;
    expect(copy.Throttle).not.toBe(installed.Throttle);
    expect(hooks().aids).toBe(aids);
    expect(await nestedCall(copy)).toBe('rejects');
    copy.configureDevelopment({ nested: 'ignore' });
    expect(await nestedCall(installed)).toBe('waits');
    // A cycle through gates of both copies.
    installed.configureDevelopment({ nested: 'reject' });
    const [first, second] = [new installed.Throttle(Infinity, 1), new copy.Throttle(Infinity, 1)];
    await expect(first.run(() => second.run(() => first.run(() => 0)))).rejects.toMatchObject({
      code: 'ERR_THROTTLE_NESTED',
    });
  });
});

describe('bundles', () => {
  const program = `import { Throttle } from 'headgate';
import 'headgate/development';
const throttle = new Throttle(Infinity, 1);
async function inner() {
  await throttle.run(() => 'never');
}
async function outer() {
  await throttle.run(inner);
}
await outer().catch((error) => console.log(error.message));
`;
  const print = (file: string, ...flags: string[]): string =>
    execFileSync(process.execPath, [...flags, file], { encoding: 'utf8', env: { ...process.env, NODE_ENV: '' } });

  test('without a source map, the message names the functions of the program', async () => {
    const file = await bundle('plain.mjs', program, {});
    expect(print(file)).toMatch(
      /the call at inner \(.*plain\.mjs:\d+:\d+\).* of the call at outer \(.*plain\.mjs:\d+:\d+\)\./,
    );
  });

  test('with a source map, the message names the lines of the source', async () => {
    const file = await bundle('mapped.mjs', program, { sourcemap: 'inline', minify: true });
    const message = print(file, '--enable-source-maps');
    expect(message).toMatch(
      /the call at (\w+ )?\(?.*program\.ts:5:18\)?.* of the call at (\w+ )?\(?.*program\.ts:8:18/,
    );
  });

  test('minified without a source map, there is an error with some place', async () => {
    const file = await bundle('minified.mjs', program, { minify: true });
    expect(print(file)).toMatch(/a job waits for itself: the call at .*minified\.mjs:\d+:\d+/);
  });

  test('a define of production switches the aids off, also where `process` is absent', async () => {
    const code = `import 'headgate/development';
delete globalThis.process;
console.log(globalThis[Symbol.for('headgate.development')].aids === undefined);`;
    const define = { 'process.env.NODE_ENV': '"production"' };
    const file = await bundle('production.mjs', code, { define });
    expect(print(file).trim()).toBe('true');
  });
});

test('expectIdle in node:test fails with the stack of the permit', async () => {
  const code = `import assert from 'node:assert';
import { test } from 'node:test';
import { Throttle } from 'headgate';
import 'headgate/development';
import { expectIdle } from 'headgate/testing';
const throttle = new Throttle(Infinity, 1, 1, { name: 'db' });
async function forgetful() {
  return throttle.acquire();
}
test('work', async () => {
  globalThis.kept = await forgetful();
  expectIdle(throttle);
});`;
  const file = await bundle('idle.test.mjs', code, { external: ['node:*'] });
  writeFileSync(join(folder, 'package.json'), '{}');
  let printed = '';
  try {
    execFileSync(process.execPath, ['--test-reporter=tap', file], {
      encoding: 'utf8',
      env: { ...process.env, NODE_ENV: '', NODE_TEST_CONTEXT: '' },
    });
  } catch (error) {
    printed = (error as { stdout: string }).stdout;
  }
  expect(printed).toMatch(/not ok 1 - work/);
  expect(printed).toMatch(/Throttle "db" \(any rate, 1 at a time\) is not idle: active 1, waiting 0/);
  expect(printed).toMatch(/a permit was not released \(1 slot\), called\n\s+at (async )?forgetful \(/);
});
