/**
 * `npm run test:runtimes` checks the published package on every runtime of runtimes.ts. `-- deno node24` selects
 * runtimes. `-- --markdown` also prints the table of supported runtimes.
 *
 * Each runtime is downloaded once, in the version of runtimes.ts, into `.cache` beside this file. A runtime that
 * cannot be downloaded or started, or that sends no report, is a failure.
 */
import { once } from 'node:events';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus } from 'node:os';
import { basename, join, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { commandEnv, execute, exitAfter, npm, packPackage } from '../support/commands.js';
import { endProcess, startProcess, temporaryFolder } from '../support/processes.js';
import { requireProgram } from '../support/programs.js';
import type { Outcome, Report } from './checks.js';
import { cache, fetched } from './downloads.js';
import { CHROMIUM, type Runtime, runtimes } from './runtimes.js';

/** npm runs scripts where package.json is. */
const root = process.cwd();
const source = join(root, 'test/runtimes');
/** An empty project with the package and the script. */
const project = join(cache, 'project');

/** The limit for all checks of a runtime, its start included, on a busy machine. */
const LIMIT_MS = 300_000;
/** The limit for a process to end after its report. A timer that kept it alive would take an hour. */
const END_MS = 60_000;

/** The number of characters of an error that are shown. */
const MAX_CHARACTERS = 1_000;

/** A report, and the version that the runtime prints. */
type RuntimeReport = Report & { readonly version: string };

interface Result {
  readonly runtime: Runtime;
  readonly version: string;
  readonly outcomes: readonly Outcome[];
  readonly seconds: number;
}

/** The environment of runtimes and the browser, with a separate home folder. */
let ownEnv: NodeJS.ProcessEnv = commandEnv;

const withLimit = async <T>(milliseconds: number, what: string, promise: Promise<T>): Promise<T> => {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${milliseconds / 1000} s`)), milliseconds);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
};

/** Packs the package, installs it into an empty project, and puts the script beside it. */
async function prepare(): Promise<void> {
  await rm(project, { recursive: true, force: true });
  await mkdir(project, { recursive: true });
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'runtimes', private: true, type: 'module' }));
  // Otherwise Bun, and esbuild for workers, follow the `paths` of the repository to the sources.
  await writeFile(join(project, 'tsconfig.json'), '{}');
  const tarball = await packPackage(project);
  await npm(
    'installing headgate into an empty project',
    project,
    'install',
    '--offline',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    tarball,
  );
  await build({
    entryPoints: ['main', 'worker', 'checks', 'using'].map((name) => join(source, `${name}.ts`)),
    outdir: project,
    format: 'esm',
    target: 'esnext',
    logLevel: 'error',
  });
}

/** Runs a script that prints its report and must end by itself. */
async function inProcess(binary: string, { args = [] }: Runtime): Promise<RuntimeReport> {
  const child = startProcess(binary, [...args, 'main.js'], {
    cwd: project,
    env: { ...ownEnv, DENO_NO_UPDATE_CHECK: '1', DENO_DIR: join(cache, 'deno-dir') },
  });
  let printed = '';
  let errors = '';
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve());
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const report = new Promise<Report>((resolve, reject) => {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      const [, line] = /^report: (.*)\n/m.exec(printed) ?? [];
      if (line !== undefined) resolve(JSON.parse(line) as Report);
    });
    ended.then(
      () =>
        reject(
          new Error(
            `it ended (${child.signalCode ?? child.exitCode}) without a report: ` +
              `${printed}${errors}`.trim().slice(-MAX_CHARACTERS),
          ),
        ),
      reject,
    );
  });
  try {
    const { agent, outcomes } = await withLimit(LIMIT_MS, 'the script', report);
    const expected = outcomes.some(({ failure }) => failure !== undefined) ? 1 : 0;
    const failure = await withLimit(END_MS, 'the end of the process, after all was done,', ended).then(
      () =>
        child.exitCode === expected
          ? undefined
          : `expected the exit code ${expected}, got ${child.signalCode ?? child.exitCode}: ` +
            errors.trim().slice(-MAX_CHARACTERS),
      (error: Error) => `expected no timer that keeps the process: ${error.message}`,
    );
    return {
      agent,
      version: agent.split(' ')[1] ?? '?',
      outcomes: [...outcomes, { name: 'the process ends by itself', ...(failure !== undefined && { failure }) }],
    };
  } finally {
    await endProcess(child);
  }
}

/** Bundles the script for a worker, which cannot resolve packages. The bundler uses the exports of the package. */
async function bundleWorker(folder: string): Promise<string[]> {
  const { metafile } = await build({
    absWorkingDir: project,
    entryPoints: ['worker.js'],
    outdir: folder,
    bundle: true,
    splitting: true,
    metafile: true,
    format: 'esm',
    target: 'esnext',
    logLevel: 'silent',
    conditions: ['workerd', 'worker', 'browser'],
    external: ['redis'],
    define: { 'import.meta.resolve': 'undefined' },
  });
  const strange = Object.keys(metafile.inputs).filter(
    (path) => path.includes('/') && !path.startsWith('node_modules/headgate/dist/'),
  );
  if (strange.length > 0)
    throw new Error(`expected nothing but the package and the script in the bundle, got ${strange.join(', ')}`);
  return Object.keys(metafile.outputs)
    .map((path) => basename(path))
    .toSorted((a, b) => Number(b === 'worker.js') - Number(a === 'worker.js'));
}

/** Starts a worker that responds to a request with its report. */
async function inWorker(binary: string, { name, rules }: Runtime): Promise<RuntimeReport> {
  const folder = join(project, name);
  const modules = await bundleWorker(folder);
  const config = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .worker)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const worker :Workerd.Worker = (
  modules = [${modules.map((file) => `(name = "${file}", esModule = embed "${file}")`).join(', ')}],
  compatibilityDate = "${rules?.date}",
  compatibilityFlags = [${rules?.flags.map((flag) => `"${flag}"`).join(', ')}],
  durableObjectNamespaces = [(className = "SharedGate", uniqueKey = "shared-gate")],
  durableObjectStorage = (inMemory = void),
  bindings = [(name = "gates", durableObjectNamespace = "SharedGate")],
);
`;
  await writeFile(join(folder, 'config.capnp'), config);
  const version = (await execute('the version of workerd', binary, ['--version'], { env: ownEnv }))
    .trim()
    .replace('workerd ', '');
  const child = startProcess(binary, ['serve', 'config.capnp', '--control-fd=3'], {
    cwd: folder,
    env: ownEnv,
    outputs: ['pipe', 'pipe', 'pipe'],
  });
  let errors = '';
  for (const output of [child.stdout, child.stderr])
    output?.setEncoding('utf8').on('data', (text: string) => (errors += text));
  try {
    const port = new Promise<number>((resolve, reject) => {
      let received = '';
      child.stdio[3]?.on('data', (text: Buffer) => {
        received += text.toString();
        const [, number] = /"event":"listen".*"port":(\d+)/.exec(received) ?? [];
        if (number !== undefined) resolve(Number(number));
      });
      child.once('error', reject);
      child.once('close', () =>
        reject(
          new Error(`workerd ended (${child.signalCode ?? child.exitCode}): ${errors.trim().slice(-MAX_CHARACTERS)}`),
        ),
      );
    });
    const answer = async (): Promise<Report> => {
      const response = await fetch(`http://127.0.0.1:${await port}/`);
      const text = await response.text();
      if (!response.ok)
        throw new Error(`the worker answered ${response.status}: ${text}${errors.trim().slice(-MAX_CHARACTERS)}`);
      return JSON.parse(text) as Report;
    };
    const { agent, outcomes } = await withLimit(LIMIT_MS, 'the worker', answer());
    return { agent: `${agent} ${version}`, version, outcomes };
  } finally {
    await endProcess(child);
  }
}

/** The used part of playwright-core. */
interface Browser {
  version(): string;
  newPage(): Promise<{
    goto(url: string, options: { timeout: number }): Promise<unknown>;
    evaluate(code: string): Promise<Report>;
  }>;
  close(): Promise<void>;
}

/** Serves the project to a page. An import map, made from the exports of the package, resolves the package. */
async function serveProject(): Promise<Server> {
  const { exports } = JSON.parse(await readFile(join(project, 'node_modules/headgate/package.json'), 'utf8')) as {
    exports: Record<string, string | { import: { default: string } }>;
  };
  const imports = Object.entries(exports).map(([name, target]) => [
    `headgate${name.slice(1)}`,
    `/node_modules/headgate${(typeof target === 'string' ? target : target.import.default).slice(1)}`,
  ]);
  const importMap = JSON.stringify({ imports: Object.fromEntries(imports) });
  const page = `<!doctype html><link rel="icon" href="data:,"><script type="importmap">${importMap}</script>`;
  const server = createServer((request, response) => {
    const path = join(project, new URL(request.url ?? '/', 'http://localhost').pathname);
    const fail = (): void => void response.writeHead(404).end();
    if (path === project + sep) response.setHeader('Content-Type', 'text/html').end(page);
    else if (!path.startsWith(project + sep) || !path.endsWith('.js')) fail();
    else readFile(path).then((text) => response.setHeader('Content-Type', 'text/javascript').end(text), fail);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

async function inPage(library: string): Promise<RuntimeReport> {
  const executablePath = await requireProgram(CHROMIUM);
  const { chromium } = (await import(pathToFileURL(library).href)) as {
    chromium: { launch(options: object): Promise<Browser> };
  };
  const server = await serveProject();
  try {
    const browser = await chromium.launch({ executablePath, args: CHROMIUM.args, env: ownEnv, timeout: LIMIT_MS });
    try {
      const page = await browser.newPage();
      await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, { timeout: LIMIT_MS });
      const report = await withLimit(
        LIMIT_MS,
        'the page',
        page.evaluate(`import('/checks.js').then(({ runChecks }) => runChecks())`),
      );
      return { ...report, version: browser.version() };
    } finally {
      await withLimit(END_MS, 'the end of the browser', browser.close());
    }
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** Compares the name and the features that the runtime reports with the expected ones. */
function compare({ agent, features }: Runtime, report: Report): Outcome[] {
  const outcomes: Outcome[] = [
    {
      name: 'the runtime is the one that it should be',
      ...(!agent.test(report.agent) && { failure: `expected ${agent}, got ${report.agent}` }),
    },
  ];
  if (report.outcomes.length === 0) outcomes.push({ name: 'there are checks', failure: 'expected some, got none' });
  for (const outcome of report.outcomes) {
    const expected: string | undefined = (features as unknown as Record<string, string | undefined>)[outcome.name];
    const differs = outcome.failure === undefined && outcome.found !== expected;
    outcomes.push(differs ? { ...outcome, failure: `expected "${expected}", got "${outcome.found}"` } : outcome);
  }
  return outcomes;
}

async function check(runtime: Runtime): Promise<Result> {
  const start = performance.now();
  let version = '?';
  let outcomes: Outcome[];
  try {
    const file = await fetched(runtime.download);
    const run = { process: inProcess, worker: inWorker, page: inPage }[runtime.kind];
    const report = await run(file, runtime);
    version = report.version;
    outcomes = compare(runtime, report);
  } catch (error) {
    outcomes = [{ name: 'the checks are run', failure: (error as Error).message.trim().slice(0, MAX_CHARACTERS) }];
  }
  return { runtime, version, outcomes, seconds: (performance.now() - start) / 1000 };
}

const failuresOf = ({ outcomes }: Result): readonly Outcome[] =>
  outcomes.filter(({ failure }) => failure !== undefined);
const foundBy = ({ outcomes }: Result, name: string): string =>
  outcomes.find((outcome) => outcome.name === name)?.found ?? '';

const HEAD = [
  'runtime',
  'version',
  'passed',
  'failed',
  'imports',
  'using',
  'AsyncLocalStorage',
  'diagnostics_channel',
  'unhandled rejections',
];
const rowOf = (result: Result): string[] => [
  result.runtime.title,
  result.version,
  String(result.outcomes.length - failuresOf(result).length),
  String(failuresOf(result).length),
  ...HEAD.slice(4).map((name) => foundBy(result, name)),
];

function printTable(results: readonly Result[]): void {
  const rows = [[...HEAD, 'seconds'], ...results.map((result) => [...rowOf(result), result.seconds.toFixed(1)])];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  for (const row of rows)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    );
}

/** The table of supported runtimes and their features. */
function printMarkdown(results: readonly Result[]): void {
  const features = ['using', 'AsyncLocalStorage', 'diagnostics_channel'];
  const rows = results.map((result) => [
    result.runtime.title,
    result.version,
    ...features.map((name) => foundBy(result, name)),
  ]);
  const head = ['runtime', 'version', ...features.map((name) => `\`${name}\``)];
  for (const row of [head, head.map(() => '---'), ...rows]) console.log(`| ${row.join(' | ')} |`);
}

async function main(args: readonly string[]): Promise<boolean> {
  const names = args.filter((arg) => !arg.startsWith('--'));
  const unknown = args.filter((arg) => arg !== '--markdown' && !runtimes.some(({ name }) => name === arg));
  if (unknown.length > 0)
    throw new Error(
      `unknown: ${unknown.join(' ')}. There are ${runtimes.map(({ name }) => name).join(', ')}, and --markdown`,
    );
  if (`${process.platform}-${process.arch}` !== 'linux-x64')
    throw new Error('the binaries are those for Linux on x64: run this in a container');
  const temporary = temporaryFolder('headgate-runtimes-');
  // A killed browser leaves its profile behind, so the profile is in a folder that is always removed.
  process.env['TMPDIR'] = temporary;
  ownEnv = { ...commandEnv, HOME: temporary, TMPDIR: temporary };
  await prepare();
  const chosen = runtimes.filter(({ name }) => names.length === 0 || names.includes(name));
  const results = new Map<Runtime, Result>();
  const rest = [...chosen];
  const work = async (): Promise<void> => {
    for (let runtime = rest.shift(); runtime !== undefined; runtime = rest.shift())
      results.set(runtime, await check(runtime));
  };
  await Promise.all(Array.from({ length: Math.min(cpus().length, 2) }, work));
  const inOrder = chosen.flatMap((runtime) => results.get(runtime) ?? []);
  for (const result of inOrder) {
    for (const { name, failure } of failuresOf(result))
      console.log(`FAILED ${result.runtime.name}, ${name}: ${failure}`);
  }
  printTable(inOrder);
  if (args.includes('--markdown')) printMarkdown(inOrder);
  const total = inOrder.reduce((sum, { outcomes }) => sum + outcomes.length, 0);
  const failed = inOrder.reduce((sum, result) => sum + failuresOf(result).length, 0);
  console.log(`${total - failed} passed, ${failed} failed`);
  return failed === 0 && total > 0;
}

exitAfter(main(process.argv.slice(2)));
