/**
 * The package as a stranger gets it: packed, installed into an empty project, imported in every way that it promises.
 * It needs `npm run build` before; `npm test` sees to that.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string; exports: Record<string, string | { types: string; default: string }> };
const project = mkdtempSync(join(tmpdir(), 'headgate-package-'));
afterAll(() => rmSync(project, { recursive: true }));

const run = (command: string, args: string[], cwd = project): string => execFileSync(command, args, { cwd, encoding: 'utf8', stdio: 'pipe' });
const node = (...args: string[]): string => run(process.execPath, args).trim();
let packed: string[];

beforeAll(() => {
  const [tarball] = JSON.parse(run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', project], root)) as { filename: string; files: { path: string }[] }[];
  if (tarball === undefined) throw new Error('npm pack made nothing');
  packed = tarball.files.map(({ path }) => path).toSorted();
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'stranger', private: true }));
  run('npm', ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', join(project, tarball.filename)]);
});

describe('the package', () => {
  test('contains what is needed and nothing else', () => {
    const extra = packed.filter((path) => !/^dist\/[\w.-]+\.(js|d\.ts)$/.test(path));
    expect(extra).toEqual(['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']);
    for (const target of Object.values(manifest.exports)) {
      for (const path of typeof target === 'string' ? [target] : Object.values(target)) expect(packed).toContain(path.replace('./', ''));
    }
  });

  test('brings no dependency along', () => {
    expect(readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual(['headgate']);
  });

  test('is imported as ESM', () => {
    const code = `
      import { Throttle, ThrottleTimeoutError } from 'headgate';
      import { ManualClock } from 'headgate/testing';
      import manifest from 'headgate/package.json' with { type: 'json' };
      const clock = new ManualClock();
      const throttle = new Throttle(1, 0, 60, { clock });
      await throttle.run(() => 1);
      const refused = await throttle.acquire(1, { timeout: 1 }).catch((error) => error instanceof ThrottleTimeoutError);
      const second = throttle.run(() => clock.now());
      await clock.advance(60);
      console.log(await second, refused, manifest.version);`;
    expect(node('--no-warnings', '--input-type=module', '-e', code)).toBe(`60 true ${manifest.version}`);
  });

  test('is required from CommonJS', () => {
    const code = `
      const { Throttle } = require('headgate');
      const { ManualClock } = require('headgate/testing');
      new Throttle(10, 2, 1, { clock: new ManualClock() }).run(() => 'done').then(console.log);`;
    expect(node('--no-warnings', '--input-type=commonjs', '-e', code)).toBe('done');
  });

  test('imports nothing of Node, and does nothing when imported', () => {
    for (const path of packed.filter((name) => name.endsWith('.js'))) {
      const code = readFileSync(join(project, 'node_modules/headgate', path), 'utf8');
      const specifiers = [...code.matchAll(/(?:from|import\(?)\s*["']([^"']+)["']/g)].map(([, specifier]) => specifier).filter((specifier) => !['headgate', 'headgate/testing'].includes(specifier ?? ''));
      expect(specifiers.filter((specifier) => !specifier?.startsWith('./')), path).toEqual([]);
    }
    const code = `
      const fail = (what) => () => { throw new Error(what + ' at import'); };
      globalThis.setTimeout = fail('a timer'); globalThis.queueMicrotask = fail('a microtask'); Math.random = fail('a random number');
      performance.now = fail('the clock'); globalThis.addEventListener = fail('a listener');
      await import('headgate'); await import('headgate/testing');
      const { Throttle } = await import('headgate');
      new Throttle(10, 2);
      console.log('quiet');`;
    expect(node('--input-type=module', '-e', code)).toBe('quiet');
  });

  test.each([
    { module: 'nodenext', moduleResolution: 'nodenext', file: 'stranger.mts' },
    { module: 'nodenext', moduleResolution: 'nodenext', file: 'stranger.cts' },
    { module: 'esnext', moduleResolution: 'bundler', file: 'stranger.ts' },
  ])('has types under $moduleResolution, in a $file, with a lib of its own choice', ({ module, moduleResolution, file }) => {
    const code = `
      import { type Permit, Throttle, ThrottleError } from 'headgate';
      import { ManualClock } from 'headgate/testing';
      const throttle = new Throttle(10, 2, 1, { clock: new ManualClock() });
      export const text: Promise<string> = throttle.run((permit: Permit) => permit.cost.toFixed());
      export const permit: Promise<Permit> = throttle.acquire(5);
      // @ts-expect-error an instance, not a function
      ThrottleError('code', 'message');
      // @ts-expect-error there is no such export
      import { Semaphore } from 'headgate';`;
    writeFileSync(join(project, file), code);
    const compilerOptions = { module, moduleResolution, target: 'es2022', lib: ['es2022', 'dom'], types: [], strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false, noEmit: true };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }));
    let printed = '';
    try {
      printed = node(join(root, 'node_modules/typescript/bin/tsc'), '-p', project);
    } catch (error) {
      printed = (error as { stdout: string }).stdout;
    }
    expect(printed).toBe('');
  });
});
