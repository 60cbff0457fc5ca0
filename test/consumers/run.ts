/**
 * `npm run test:consumers` uses the packed package in the projects of users: Jest with ts-jest and babel-jest, programs
 * that TypeScript 5.9 compiles to CommonJS and ESM, and a NestJS application as the Nest CLI creates it. No project has
 * a setting for headgate. `-- nest` selects a project.
 *
 * A project is a folder beside this file. Its copy in `.cache` has the dependencies of its lock file, which are
 * installed again only when the lock file has changed.
 */
import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { commandEnv, execute, exitAfter, npm, packPackage } from '../support/commands.js';
import { removePath, temporaryFolder } from '../support/processes.js';
import { startRedis } from '../support/redis-server.js';

interface Step {
  readonly name: string;
  /** The arguments of Node. */
  readonly args: readonly string[];
  /** A program of `test`, which is bundled as `program.mjs`. It finds its packages in the project. */
  readonly program?: string;
  /** The expected output. Without it, any output will do. */
  readonly prints?: readonly string[];
}

/** The limit for one step on a busy machine. A test run that a timer keeps alive ends here, as a failure. */
const LIMIT_MS = 180_000;
/** The number of characters of an error that are shown. */
const SHOWN_CHARACTERS = 4_000;

const source = join(process.cwd(), 'test/consumers');
const cache = join(source, '.cache');

/** On a busy machine, loading a package through Jest takes longer than the 5 s that Jest allows a test. */
const TEST_MS = 90_000;

const jest = (name: string, ...args: string[]): Step => ({
  name,
  args: ['node_modules/jest/bin/jest.js', '--ci', '--runInBand', `--testTimeout=${TEST_MS}`, ...args],
});
const compile = (config: string, ...args: string[]): Step => ({
  name: `tsc -p ${config}`,
  args: ['node_modules/typescript/bin/tsc', '-p', config, ...args],
  prints: [],
});
const REQUIRED = ['slots 1 1', 'second 60 5', 'refused true true', 'served served', 'slot 1 function'];
const required = (module: string): Step => ({
  name: `a program of module ${module}`,
  args: [`out/${module}/required.js`],
  prints: REQUIRED,
});
const imported = (module: string): Step => ({
  name: `an ESM program of module ${module}`,
  args: [`out/${module}/imported.mjs`],
  prints: ['active 1 1', 'granted released'],
});

/** The steps of each project, by its folder. */
const projects: Readonly<Record<string, readonly Step[]>> = {
  jest: [
    jest('Jest with ts-jest and babel-jest'),
    compile('tsconfig.commonjs.json'),
    required('commonjs'),
    ...['node16', 'nodenext'].flatMap((module) => [
      compile(`tsconfig.${module}.json`),
      required(module),
      imported(module),
    ]),
  ],
  nest: [
    compile('tsconfig.json', '--noEmit'),
    compile('tsconfig.commonjs.json', '--noEmit'),
    jest('unit tests, module nodenext'),
    jest('unit tests, module commonjs', '--config', 'jest-commonjs.json'),
    jest('end-to-end tests', '--config', 'test/jest-e2e.json'),
    { name: 'the checks of headgate/nest', args: ['program.mjs'], program: 'test/nest/program.ts' },
  ],
};

interface Result {
  readonly project: string;
  readonly name: string;
  readonly seconds: number;
  readonly failure?: string;
}

/** Copies a project to the cache, with its dependencies and the packed package. Returns the copy. */
async function prepare(project: string, tarball: string): Promise<string> {
  const folder = join(cache, project);
  const modules = join(folder, 'node_modules');
  const lock = await readFile(join(source, project, 'package-lock.json'));
  const stamp = join(modules, `.headgate-${createHash('sha256').update(lock).digest('hex')}`);
  const installed = await readFile(stamp).catch(() => undefined);
  await mkdir(folder, { recursive: true });
  for (const name of await readdir(folder))
    if (name !== 'node_modules' || installed === undefined)
      await rm(join(folder, name), { recursive: true, force: true });
  await cp(join(source, project), folder, { recursive: true });
  if (installed === undefined) {
    console.log(`Installing the dependencies of ${project}`);
    const options = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'];
    await npm(`installing the dependencies of ${project}`, folder, 'ci', ...options);
    await writeFile(stamp, '');
  }
  // The package has no dependencies, so npm would only unpack it.
  const target = join(modules, 'headgate');
  await rm(target, { recursive: true, force: true });
  await execute('unpacking headgate', 'tar', ['-xzf', tarball, '-C', modules]);
  await rename(join(modules, 'package'), target);
  return folder;
}

/** Bundles a program of the tests. The bundle contains no package. */
async function bundleProgram(program: string, outfile: string): Promise<void> {
  const format = { platform: 'node', target: 'node20', format: 'esm' } as const;
  await build({ entryPoints: [program], outfile, bundle: true, packages: 'external', logLevel: 'warning', ...format });
}

async function timed(project: string, name: string, action: () => Promise<void>): Promise<Result> {
  const start = performance.now();
  const failure = await action().then(
    () => undefined,
    (error: Error & { cause?: { stdout?: string } }) =>
      `${error.message}\n${error.cause?.stdout ?? ''}`.trim().slice(-SHOWN_CHARACTERS),
  );
  const seconds = (performance.now() - start) / 1000;
  console.log(`${failure === undefined ? 'passed' : 'FAILED'} ${project}: ${name} (${seconds.toFixed(1)} s)`);
  return { project, name, seconds, ...(failure !== undefined && { failure }) };
}

async function check(project: string, tarball: string, env: NodeJS.ProcessEnv): Promise<Result[]> {
  let folder = '';
  const results = [
    await timed(project, 'the installation', async () => {
      folder = await prepare(project, tarball);
    }),
  ];
  if (results[0]?.failure !== undefined) return results;
  for (const { name, args, program, prints } of projects[project] ?? [])
    results.push(
      await timed(project, name, async () => {
        if (program !== undefined) await bundleProgram(program, join(folder, 'program.mjs'));
        const options = { cwd: folder, env, timeout: LIMIT_MS, killSignal: 'SIGKILL' } as const;
        const printed = await execute(name, process.execPath, args, options);
        const expected = prints?.map((line) => `${line}\n`).join('');
        if (expected !== undefined && printed !== expected)
          throw new Error(`expected the output ${JSON.stringify(expected)}, got ${JSON.stringify(printed)}`);
      }),
    );
  return results;
}

async function main(names: readonly string[]): Promise<boolean> {
  const unknown = names.filter((name) => !Object.hasOwn(projects, name));
  if (unknown.length > 0)
    throw new Error(`unknown: ${unknown.join(' ')}. There are ${Object.keys(projects).join(' and ')}`);
  const temporary = temporaryFolder('headgate-consumers-');
  // The cache of Jest and the files of Redis are temporary too.
  process.env['TMPDIR'] = temporary;
  const redis = await startRedis();
  try {
    const env = { ...commandEnv, TMPDIR: temporary, REDIS_URL: redis.url, NO_COLOR: '1', FORCE_COLOR: '0' };
    const tarball = await packPackage(temporary);
    const chosen = names.length === 0 ? Object.keys(projects) : names;
    const results = (await Promise.all(chosen.map((project) => check(project, tarball, env)))).flat();
    const failed = results.filter(({ failure }) => failure !== undefined);
    for (const { project, name, failure } of failed) console.log(`FAILED ${project}, ${name}: ${failure}`);
    console.log(`${results.length - failed.length} passed, ${failed.length} failed`);
    return failed.length === 0;
  } finally {
    await redis.stop();
    removePath(temporary);
  }
}

exitAfter(main(process.argv.slice(2)));
