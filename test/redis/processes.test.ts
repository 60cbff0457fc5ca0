/** The tests leave no process and no temporary folder, however a test run ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { endProcess, guarded, removePath, temporaryFolder } from '../support/processes.js';
import { findProgram } from '../support/programs.js';
import { sendCommand, startCluster, startSentinels } from '../support/redis-clusters.js';
import { descendants, running } from './interrupted/started.js';
import { startRedis } from '../support/redis-server.js';
import { bundle, makeFolder, until } from './support.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const vitest = join(root, 'node_modules/vitest/vitest.mjs');

let programs = '';
beforeAll(async () => {
  programs = makeFolder();
  await bundle(programs, 'interrupted/program');
  return () => removePath(programs);
});

afterEach(() => vi.unstubAllEnvs());

/** Creates a folder for one test. */
function ownFolder(): string {
  const folder = temporaryFolder('headgate-processes-');
  onTestFinished(() => removePath(folder));
  return folder;
}

/** Waits until none of the processes runs and the folders are empty. */
async function expectNothingLeft(pids: readonly number[], ...folders: string[]): Promise<void> {
  const left = (): unknown[] => [
    ...running(pids),
    ...folders.flatMap((folder) => (existsSync(folder) ? readdirSync(folder) : [])),
  ];
  try {
    await until('nothing is left', () => left().length === 0, 5).catch(() => expect(left()).toEqual([]));
  } finally {
    // A failed test must not leave processes either.
    for (const pid of running(pids)) process.kill(pid, 'SIGKILL');
  }
}

/** Starts a Node program in its own process group, as a terminal does. Its temporary folders are in `temporary`. */
function run(args: string[], temporary: string): ChildProcess {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(?:VITEST|TEST$|NODE_)/.test(name)));
  const child = guarded(
    spawn(process.execPath, args, {
      cwd: root,
      env: { ...env, NO_COLOR: '1', TMPDIR: temporary },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
  return child;
}

/** Resolves with the rest of the first printed line that starts with a prefix. */
async function printed(child: ChildProcess, beginning = ''): Promise<string> {
  let all = '';
  child.stderr?.on('data', (data: Buffer) => (all += data.toString()));
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    if (line.startsWith(beginning)) return line.slice(beginning.length);
    all += `${line}\n`;
  }
  throw new Error(`it printed no line with ${beginning}: ${all}`);
}

describe('servers, child processes and folders are removed (FAULTS 1)', () => {
  const signal =
    (name: NodeJS.Signals) =>
    (child: ChildProcess): void =>
      void child.kill(name);
  it.each<[string, string, (child: ChildProcess) => void]>([
    ['that throws while it sets up', 'throw', () => {}],
    ['that calls process.exit', 'exit', () => {}],
    ['that gets SIGINT', 'wait', signal('SIGINT')],
    ['that gets SIGTERM', 'wait', signal('SIGTERM')],
    ['that gets SIGHUP', 'wait', signal('SIGHUP')],
    ['that gets SIGKILL', 'wait', signal('SIGKILL')],
    ['whose process group gets SIGINT, as from Ctrl-C', 'wait', ({ pid }) => process.kill(-(pid as number), 'SIGINT')],
    [
      'that gets SIGKILL while all that it started is stopped',
      'wait',
      (child) => {
        // The reaper has its own process group.
        process.kill(-(child.pid as number), 'SIGSTOP');
        child.kill('SIGKILL');
      },
    ],
  ])('%s', async (_, end, interrupt) => {
    const temporary = ownFolder();
    const child = run([join(programs, 'program.mjs'), end], temporary);
    onTestFinished(() => endProcess(child));
    const ended = once(child, 'exit');
    const pids = JSON.parse(await printed(child)) as number[];
    // The reaper, the server and the other process.
    expect(pids).toHaveLength(3);
    interrupt(child);
    await ended;
    await expectNothingLeft(pids, temporary);
  });
});

describe('an interrupted test run leaves no process and no folder (FAULTS 1)', () => {
  const interruptions: [string, (main: ChildProcess, worker: number) => void][] = [
    ['when Ctrl-C interrupts it', ({ pid }) => process.kill(-(pid as number), 'SIGINT')],
    ['when SIGTERM reaches the main process alone', (main) => void main.kill('SIGTERM')],
    ['when SIGKILL reaches the main process alone', (main) => void main.kill('SIGKILL')],
    ['when SIGKILL reaches the process that runs the test', (_, worker) => void process.kill(worker, 'SIGKILL')],
  ];
  it.concurrent.for(interruptions)('%s', { timeout: 90_000 }, async ([, interrupt], { onTestFinished: finished }) => {
    const temporary = temporaryFolder('headgate-processes-');
    const main = run([vitest, 'run', '--config', 'test/redis/interrupted/vitest.config.ts'], temporary);
    finished(async () => {
      await endProcess(main);
      removePath(temporary);
    });
    const ended = once(main, 'exit');
    const { pid, folder } = JSON.parse(await printed(main, 'SCENE ')) as { pid: number; folder: string };
    const pids = descendants(main.pid as number);
    // The reaper and the server of the run; the process that runs the test, its reaper and its server.
    expect(pids.length).toBeGreaterThanOrEqual(5);
    expect(pids).toContain(pid);
    interrupt(main, pid);
    const [code, signal] = (await ended) as [number | null, string | null];
    expect([code, signal]).not.toEqual([0, null]);
    await expectNothingLeft(pids, temporary, folder);
    expect(existsSync(folder)).toBe(false);
  });
});

describe('a failed start', () => {
  /**
   * Puts a fake `redis-server` first on the PATH. It records its process id, runs `script` and then becomes the real
   * server.
   */
  function fakeServer(script: string): { folder: string; temporary: string; pids: () => number[] } {
    const folder = ownFolder();
    const temporary = ownFolder();
    const path = join(folder, 'redis-server');
    const started = join(folder, 'started');
    writeFileSync(path, `#!/bin/sh\necho $$ >> '${started}'\n${script}\nexec '${findProgram('redis-server')}' "$@"\n`);
    chmodSync(path, 0o755);
    vi.stubEnv('PATH', `${folder}:${process.env['PATH']}`);
    vi.stubEnv('TMPDIR', temporary);
    return { folder, temporary, pids: () => readFileSync(started, 'utf8').trim().split('\n').map(Number) };
  }

  it('rejects with what redis-server printed, and removes the folder (FAULTS 1)', async () => {
    const { temporary, pids } = fakeServer('echo cannot load this >&2; exit 3');
    await expect(startRedis()).rejects.toThrow(/^redis-server ended with 3 while it started .*cannot load this/);
    await expectNothingLeft(pids(), temporary);
  });

  it('rejects when redis-server is not a program, without an unhandled error (FAULTS 1)', async () => {
    const folder = ownFolder();
    writeFileSync(join(folder, 'redis-server'), '#!/no/such/interpreter\n');
    chmodSync(join(folder, 'redis-server'), 0o755);
    vi.stubEnv('PATH', folder);
    await expect(startRedis()).rejects.toThrow(/^redis-server ended with 12[67] while it started .*redis-server/s);
  });

  it('takes another port when its port is taken, and rejects at once for a wrong setting', async () => {
    const { pids } = fakeServer(
      'if [ ! -e "$0.tried" ]; then touch "$0.tried"; echo "bind: Address already in use"; exit 1; fi',
    );
    const server = await startRedis();
    onTestFinished(() => server.stop());
    expect(pids()).toHaveLength(2);
    await expect(startRedis({ 'no-such-setting': 'yes' })).rejects.toThrow(/no-such-setting/);
    expect(pids()).toHaveLength(3);
  });

  it('of a cluster stops the servers that have started (FAULTS 1)', async () => {
    const { temporary, pids } = fakeServer('[ "$(wc -l < "${0%/*}/started")" -lt 3 ] || { echo no more >&2; exit 1; }');
    await expect(startCluster()).rejects.toThrow(/no more/);
    expect(pids()).toHaveLength(3);
    await expectNothingLeft(pids(), temporary);
  });

  it('of a sentinel stops its master and its replica (FAULTS 1)', async () => {
    const { temporary, pids } = fakeServer('case "$*" in *--sentinel*) echo no sentinel >&2; exit 1;; esac');
    await expect(startSentinels()).rejects.toThrow(/no sentinel/);
    expect(pids()).toHaveLength(3);
    await expectNothingLeft(pids(), temporary);
  });
});

it('sentinels need only the program redis-server (FAULTS 1)', async () => {
  const folder = ownFolder();
  symlinkSync(findProgram('redis-server') as string, join(folder, 'redis-server'));
  vi.stubEnv('PATH', folder);
  const sentinels = await startSentinels();
  onTestFinished(() => sentinels.stop());
  expect(
    await sendCommand(sentinels.sentinels[0]!.port, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', sentinels.name),
  ).toEqual(['127.0.0.1', String(sentinels.master.port)]);
});

it('a server starts without HOME and with an unknown locale (FAULTS 1)', async () => {
  vi.stubEnv('HOME', undefined);
  vi.stubEnv('LC_ALL', 'xx_XX.UTF-8');
  const spaced = join(ownFolder(), 'a folder');
  mkdirSync(spaced);
  vi.stubEnv('TMPDIR', spaced);
  const server = await startRedis();
  expect(String(await sendCommand(server.port, 'PING'))).toBe('PONG');
  await server.stop();
  expect(readdirSync(spaced)).toEqual([]);
});
