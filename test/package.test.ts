/**
 * The package as a user receives it: packed, installed into an empty project, and imported in every supported way. The
 * test needs `npm run build` first, which `npm test` runs.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { entryPoints } from './support/entry-points.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
  typesVersions: object;
  exports: Record<string, string | Record<'import' | 'require', { types: string; default: string }>>;
};
/** The names that users import, such as `headgate/fetch`. */
const names = Object.keys(entryPoints);
const project = mkdtempSync(join(tmpdir(), 'headgate-package-'));
afterAll(() => rmSync(project, { recursive: true }));

const run = (command: string, args: string[], cwd = project): string =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: 'pipe' });
const node = (...args: string[]): string => run(process.execPath, args).trim();
let packed: string[];

beforeAll(() => {
  const [tarball] = JSON.parse(
    run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', project], root),
  ) as { filename: string; files: { path: string }[] }[];
  if (tarball === undefined) throw new Error('npm pack created no file');
  packed = tarball.files.map(({ path }) => path).toSorted();
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'stranger', private: true }));
  run('npm', ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', join(project, tarball.filename)]);
});

describe('the package', () => {
  test('contains every needed file and no other', () => {
    const extra = packed.filter((path) => !/^dist\/(?:[\w-]+\/)*[\w.-]+\.(js|d\.ts)$/.test(path));
    const chapters = readdirSync(join(root, 'src'))
      .flatMap((name) => [`src/${name}/COMING-FROM.md`, `src/${name}/README.md`])
      .filter((path) => existsSync(join(root, path)));
    const pictures = readdirSync(join(root, 'bench')).filter((name) => name.endsWith('.svg'));
    const bench = ['README.md', ...pictures].map((name) => `bench/${name}`);
    const others = ['CHANGELOG.md', 'LICENSE', 'README.md', ...bench, 'dist/cjs/package.json', 'package.json'];
    expect(extra).toEqual([...others, ...chapters]);
    for (const target of Object.values(manifest.exports)) {
      const paths = typeof target === 'string' ? [target] : Object.values(target).flatMap(Object.values<string>);
      for (const path of paths) expect(packed).toContain(path.replace('./', ''));
    }
  });

  test('has every file of the ESM build in CommonJS too', () => {
    const built = packed.filter((path) => path.startsWith('dist/') && !path.endsWith('package.json'));
    const [cjs, esm] = [true, false].map((inCjs) => built.filter((path) => path.startsWith('dist/cjs/') === inCjs));
    expect(esm?.length).toBeGreaterThan(50);
    expect(cjs).toEqual(esm?.map((path) => path.replace('dist/', 'dist/cjs/')).toSorted());
    for (const [path, target] of Object.entries(manifest.exports)) {
      if (typeof target === 'string') continue;
      const name = path === '.' ? 'index' : `${path.slice(2)}/index`;
      const files = (folder: string): object => ({
        types: `./${folder}/${name}.d.ts`,
        default: `./${folder}/${name}.js`,
      });
      // In a condition, the first match counts, so `types` comes first.
      expect(JSON.stringify(target)).toBe(JSON.stringify({ import: files('dist'), require: files('dist/cjs') }));
    }
    // Compilers that ignore `exports` read `types` and `typesVersions`.
    const subpaths = names.filter((name) => name !== 'headgate').map((name) => name.slice(9));
    expect(manifest.typesVersions).toEqual({
      '*': Object.fromEntries(subpaths.map((path) => [path, [`./dist/cjs/${path}/index.d.ts`]])),
    });
  });

  test('installs no dependency', () => {
    expect(readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual(['headgate']);
  });

  test('can be imported as ESM', () => {
    const code = `
      import { Throttle, ThrottleTimeoutError } from 'headgate';
      import { throttledFetch } from 'headgate/fetch';
      import { web } from 'headgate/http';
      import { instrument } from 'headgate/otel';
      import { RedisThrottle, ThrottleBackendError } from 'headgate/redis';
      import { ManualClock } from 'headgate/testing';
      import manifest from 'headgate/package.json' with { type: 'json' };
      const clock = new ManualClock();
      const throttle = new Throttle(1, 0, 60, { clock });
      await throttle.run(() => 1);
      const refused = await throttle.acquire(1, { timeout: 1 }).catch((error) => error instanceof ThrottleTimeoutError);
      const second = throttle.run(() => clock.now());
      await clock.advance(60);
      const serve = web(() => new Response('served'), { gate: new Throttle(1, 0, 60) });
      const polite = throttledFetch(new Throttle(10), { fetch: async (url) => serve(new Request(url)) });
      const responses = [await polite('http://localhost/'), await serve(new Request('http://localhost/'))];
      const statuses = responses.map(({ status }) => status);
      // Without the package "redis", the error names the missing package.
      const fleet = new RedisThrottle({ client: { url: 'redis://127.0.0.1:1' }, key: 'key', concurrency: 1 });
      const namesPackage = (error) =>
        error instanceof ThrottleBackendError && error.message.includes('npm install redis');
      const missing = await fleet.acquire().catch(namesPackage);
      const needsProvider = (() => { try { instrument(); } catch (error) { return error instanceof TypeError; } })();
      console.log(await second, refused, manifest.version, ...statuses, missing, needsProvider);`;
    expect(node('--no-warnings', '--input-type=module', '-e', code)).toBe(
      `60 true ${manifest.version} 200 429 true true`,
    );
  });

  test('can be required from CommonJS', () => {
    const code = `
      const { RedisThrottle } = require('headgate/redis');
      const { ManualClock } = require('headgate/testing');
      const { Throttle } = require('headgate');
      const named = (error) => error.code === 'ERR_THROTTLE_BACKEND' && error.message.includes('npm install redis');
      const fleet = new RedisThrottle({ client: { url: 'redis://127.0.0.1:1' }, key: 'key', concurrency: 1 });
      const missing = fleet.acquire().catch(named);
      const done = new Throttle(10, 2, 1, { clock: new ManualClock() }).run(() => 'done');
      Promise.all([done, missing]).then((results) => console.log(...results));`;
    // Node 20 warns about ESM that is loaded by `require`.
    const warnings = `process.on('warning', ({ message }) => console.log(message));`;
    expect(node('--no-warnings', '--input-type=commonjs', '-e', warnings + code)).toBe('done true');
  });

  test.each(names)('%s has the same exports in both formats, and CommonJS has plain ones', (name) => {
    const nest = join(project, 'node_modules/@nestjs');
    if (name === 'headgate/nest') symlinkSync(join(root, 'node_modules/@nestjs'), nest);
    onTestFinished(() => rmSync(nest, { force: true }));
    const code = `
      const esm = await import('${name}');
      const cjs = createRequire(import.meta.url)('${name}');
      const properties = Object.values(Object.getOwnPropertyDescriptors(cjs));
      console.log(JSON.stringify({
        esm: Object.entries(esm).map(([key, value]) => [key, typeof value]),
        cjs: Object.entries(cjs).map(([key, value]) => [key, typeof value]).sort(([one], [other]) => one < other ? -1 : 1),
        module: cjs.__esModule,
        separate: Object.keys(esm).some((key) => typeof esm[key] === 'function' && esm[key] !== cjs[key]),
        getters: properties.filter(({ get }) => get !== undefined).length,
      }));`;
    writeFileSync(join(project, 'both.mjs'), `import { createRequire } from 'node:module';${code}`);
    const { esm, cjs, ...rest } = JSON.parse(node('both.mjs')) as Record<'esm' | 'cjs', [string, string][]>;
    expect(esm.length).toBeGreaterThan(0);
    expect(cjs).toEqual(esm);
    expect(rest).toEqual({ module: true, separate: true, getters: 0 });
    // Node finds the names of the exports without running the file.
    const file = join(project, 'node_modules/headgate/dist/cjs', name === 'headgate' ? '' : name.slice(9), 'index.js');
    const listed = JSON.parse(
      node(
        '--input-type=module',
        '-e',
        `import * as all from '${file}'; console.log(JSON.stringify(Object.keys(all)));`,
      ),
    ) as string[];
    const added = new Set(['__esModule', 'default', 'module.exports']);
    expect(listed.filter((key) => !added.has(key))).toEqual(esm.map(([key]) => key));
  });

  test('imports no module of Node and has no effect on import', () => {
    // Nest has effects on import.
    const quiet = names.filter((name) => name !== 'headgate/nest');
    for (const path of packed.filter((name) => name.endsWith('.js'))) {
      const code = readFileSync(join(project, 'node_modules/headgate', path), 'utf8');
      const specifiers = [...code.matchAll(/(?:from|import\(?|\brequire\()\s*["']([^"']+)["']/g)]
        .map(([, specifier]) => specifier)
        .filter((specifier) => !/^headgate(\/|$)/.test(specifier ?? ''));
      // `redis` is imported on demand, and Nest by the entry point for Nest.
      const optional = { 'redis/index.js': ['redis'], 'nest/index.js': ['@nestjs/common', '@nestjs/core'] };
      const name = path.replace(/^dist\/(cjs\/)?/, '');
      expect(new Set(specifiers.filter((specifier) => !/^\.\.?\//.test(specifier ?? ''))), path).toEqual(
        new Set(optional[name as keyof typeof optional]),
      );
    }
    const code = `
      const fail = (what) => () => { throw new Error(what + ' at import'); };
      globalThis.setTimeout = fail('a timer'); globalThis.queueMicrotask = fail('a microtask');
      Math.random = fail('a random number');
      performance.now = fail('the clock'); globalThis.addEventListener = fail('a listener');
      for (const name of ${JSON.stringify(quiet)}) {
        await import(name);
        process.getBuiltinModule('node:module').createRequire(process.cwd() + '/')(name);
      }
      const { KeyedThrottle, Limiter, Resource, Throttle } = await import('headgate');
      const { concurrencyLimit, express, web } = await import('headgate/http');
      const resource = new Resource(1);
      new Limiter({ timeout: 1, resources: [resource] }).resources([resource])(() => 1);
      new KeyedThrottle(10, 2);
      const sliding = new Throttle(10, 2, 1, { window: 'sliding', also: [{ capacity: 5 }] });
      (await import('headgate/fetch')).throttledFetch(sliding);
      express(concurrencyLimit({ key: 'ip', maxConcurrent: 2 }));
      web(() => new Response(), { gate: resource });
      crypto.getRandomValues = fail('a random number'); crypto.subtle.digest = fail('a digest');
      const { RedisKeyedThrottle, RedisThrottle } = await import('headgate/redis');
      const client = { eval: fail('a call'), subscribe: fail('a subscription') };
      new RedisThrottle({ client, key: 'key', capacity: 10, concurrency: 2 });
      new RedisKeyedThrottle({ client: { url: 'redis://localhost:1' }, concurrency: 2 });
      console.log('quiet');`;
    expect(node('--input-type=module', '-e', code)).toBe('quiet');
  });

  /** The error messages of a compiler for `file` with the given text. */
  const compile = (compiler: string, file: string, code: string, options: object): string => {
    writeFileSync(join(project, file), code);
    const compilerOptions = {
      target: 'es2022',
      typeRoots: [join(root, 'node_modules/@types')],
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      noEmit: true,
      ...options,
    };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }));
    try {
      return node(join(root, 'node_modules', compiler, 'bin/tsc'), '-p', project);
    } catch (error) {
      return (error as { stdout: string }).stdout;
    }
  };

  test.each([
    { compiler: 'typescript', module: 'nodenext', file: 'stranger.mts', lib: ['es2022', 'dom'], types: [] },
    { compiler: 'typescript', module: 'nodenext', file: 'stranger.cts', lib: ['es2022', 'dom'], types: [] },
    { compiler: 'typescript', module: 'esnext', file: 'stranger.ts', lib: ['es2022', 'dom'], types: [] },
    { compiler: 'typescript', module: 'nodenext', file: 'stranger.mts', lib: ['es2022'], types: ['node'] },
    { compiler: 'typescript-5', module: 'node16', file: 'stranger.cts', lib: ['es2022', 'dom'], types: [] },
    { compiler: 'typescript-5', module: 'node16', file: 'stranger.mts', lib: ['es2022', 'dom'], types: [] },
    // With this module, version 5 resolves imports as Node 10 did, without `exports`.
    { compiler: 'typescript-5', module: 'commonjs', file: 'stranger.ts', lib: ['es2022', 'dom'], types: [] },
  ])(
    'has types for $compiler under $module, in a $file, with $lib and types of $types',
    ({ compiler, module, file, lib, types }) => {
      const code = `
      import { KeyedThrottle, Limiter, Resource, Throttle, ThrottleError } from 'headgate';
      import type { Gate, Permit, ThrottleMessages } from 'headgate';
      import { throttledFetch } from 'headgate/fetch';
      import { concurrencyLimit, express, fastify, hono, koa, web } from 'headgate/http';
      import { RedisKeyedThrottle, type RedisPermit, RedisThrottle } from 'headgate/redis';
      import { ManualClock } from 'headgate/testing';
      const throttle = new Throttle(10, 2, 1, { clock: new ManualClock() });
      const client = { url: 'redis://localhost:6379' };
      const fleet = new RedisThrottle({ client, key: 'key', capacity: 10 });
      export const slot: Promise<number> = fleet.run((permit: RedisPermit) => permit.slot);
      export const limited = express(
        concurrencyLimit({
          key: 'ip',
          maxConcurrent: 5,
          backend: ({ concurrency, ttl }) => new RedisKeyedThrottle({ client, concurrency, ttl }),
        }),
      );
      // @ts-expect-error the second argument is internal
      new RedisThrottle({ client, key: 'key' }, {});
      export const text: Promise<string> = throttle.run((permit: Permit) => permit.cost.toFixed());
      export const permit: Promise<Permit> = throttle.acquire(5);
      export const waited = ({ waited }: ThrottleMessages['headgate:granted']): number => waited;
      const database = new Resource(5);
      const both = new Limiter({ timeout: 1, resources: [database, throttle] }).resources([database, throttle]);
      class Reports {
        @both
        async write(name: string): Promise<string> {
          return name;
        }
      }
      export const gate: Gate = both;
      export const written: Promise<string> = new Reports().write('a');
      export const answer: Promise<Response> = throttledFetch(new KeyedThrottle(10))('http://localhost/');
      export const adapters: unknown[] = [koa({ gate }), fastify({ gate }), hono({ gate })];
      export const middleware = express(concurrencyLimit({ key: 'user', maxConcurrent: 5 }));
      export const handler = web(() => new Response(), { gate });
      // @ts-expect-error internal members have no public type
      throttle.rested;
      // @ts-expect-error a class needs the keyword new
      ThrottleError('code', 'message');
      // @ts-expect-error unknown export
      import { Semaphore } from 'headgate';`;
      expect(compile(compiler, file, code, { module, lib, types })).toBe('');
    },
  );

  test.each(['typescript', 'typescript-5'])('gates of both formats have compatible types for %s', (compiler) => {
    const code = `
      import { type Gate, type KeyedGate, Limiter, type Permit } from 'headgate';
      import { throttledFetch } from 'headgate/fetch';
      import { express, permitOf, web } from 'headgate/http';
      import { record } from 'headgate/testing';
      import type * as required from 'headgate' with { 'resolution-mode': 'require' };
      import type * as redis from 'headgate/redis' with { 'resolution-mode': 'require' };
      export function compose(
        throttle: required.Throttle,
        resource: required.Resource,
        keyed: required.KeyedThrottle<string>,
        fleet: redis.RedisThrottle,
      ): void {
        const limiter = new Limiter({ timeout: 1, resources: [throttle, resource, fleet] });
        limiter.resources([throttle, resource, fleet])(() => 1);
        for (const gate of [throttle, resource]) record(gate);
        const gates: Gate[] = [throttle, resource, fleet];
        const byKey: KeyedGate<string> = keyed;
        const permit: Promise<Permit> = throttle.acquire();
        for (const gate of gates) [express({ gate }), web(() => new Response(), { gate }), throttledFetch(gate)];
        throttledFetch(byKey);
        void [permit, permitOf];
      }
      // @ts-expect-error the classes are separate
      export const imported = (throttle: required.Throttle): import('headgate').Throttle => throttle;`;
    const options = { module: 'nodenext', lib: ['es2022', 'dom'], types: [] };
    expect(compile(compiler, 'stranger.mts', code, options)).toBe('');
  });
});

describe('sizes, minified and gzipped', () => {
  /** The size in bytes of a bundle of these lines. */
  const size = async (...lines: string[]): Promise<number> => {
    const { outputFiles } = await build({
      stdin: { contents: lines.join('\n'), resolveDir: join(root, 'dist') },
      bundle: true,
      minify: true,
      format: 'esm',
      write: false,
    });
    return gzipSync(outputFiles[0]?.contents ?? '', { level: 9 }).length;
  };
  const core = `export { Throttle } from './index.js';`;

  test('the README states the size of Throttle', async () => {
    const readme = readFileSync(join(root, 'README.md'), 'utf8');
    const [, stated] = /`Throttle` adds ([\d.]+) kB/.exec(readme) ?? [];
    expect(stated).toBe(((await size(core)) / 1000).toFixed(1));
  });

  test.each([
    { what: 'throttledFetch', from: './fetch/index.js', limit: 6_900 },
    ...['express', 'koa', 'fastify', 'hono', 'web'].map((what) => ({ what, from: './http/index.js', limit: 8_300 })),
  ])('$what adds at most $limit to the core', async ({ what, from, limit }) => {
    expect((await size(core, `export { ${what} } from '${from}';`)) - (await size(core))).toBeLessThanOrEqual(limit);
  });
});
