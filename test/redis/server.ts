/** Redis servers of the tests' own: on a free port, in a folder that goes with them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** Where `command` is on the PATH, if it is. */
const find = (command: string): string | undefined =>
  (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, command)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

/** Sees to it that `redis-server` is there: installs it where that is allowed, else says how. */
export function requireRedis(): void {
  if (find('redis-server') !== undefined) return;
  const install = 'apt-get install -y redis-server';
  if (find('apt-get') !== undefined && process.getuid?.() === 0) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
    const run = (...args: string[]): void => void execFileSync('apt-get', args, { env, stdio: 'pipe' });
    try {
      run('install', '-y', 'redis-server');
    } catch {
      // The list of packages may be missing, or too old.
      run('update');
      run('install', '-y', 'redis-server');
    }
    if (find('redis-server') !== undefined) return;
  }
  throw new Error(`The tests need redis-server 6.2 or later on the PATH. On Debian and Ubuntu: sudo ${install}`);
}

/** A port that was free a moment ago. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });

/** Waits until a server that was just started accepts connections; resolves with whether it does, or has ended. */
const ready = (server: ChildProcess): Promise<boolean> =>
  new Promise((resolve) => {
    // Not by asking on its port: if that was taken in the meantime, somebody else would answer.
    let printed = '';
    server.stdout?.setEncoding('utf8').on('data', (text: string) => {
      if (printed.length < 100_000) printed += text;
      if (printed.includes('Ready to accept connections')) resolve(true);
    });
    server.once('exit', () => resolve(false));
  });

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  readonly folder: string;
  /** Ends it at once, as a crash would. */
  kill(): Promise<void>;
  /** Starts it again on the same port, with the data that it has saved. */
  start(): Promise<void>;
  /** Lets it end, and removes its folder. */
  stop(): Promise<void>;
}

/** Starts a server. `settings` are those of redis.conf. */
export async function startRedis(settings: Record<string, string> = {}): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-redis-'));
  let port = await freePort();
  let child: ChildProcess | undefined;
  const started = async (): Promise<boolean> => {
    const options = { port: String(port), bind: '127.0.0.1', save: '', appendonly: 'no', dir: folder, ...settings };
    const made = spawn('redis-server', Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]), { stdio: ['ignore', 'pipe', 'ignore'] });
    child = made;
    // Whatever becomes of the tests, it does not outlive them.
    process.once('exit', () => made.kill('SIGKILL'));
    return ready(made);
  };
  const start = async (): Promise<void> => {
    for (let tries = 0; !(await started()); tries++) {
      if (tries === 100) throw new Error(`redis-server does not start on port ${port}`);
      await sleep(25);
    }
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = child;
    child = undefined;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    const ended = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill(signal);
    await ended;
  };
  // Whoever is first to take a port that was free a moment ago has it.
  for (let tries = 0; !(await started()); tries++) {
    if (tries === 5) throw new Error('redis-server does not start: is it 6.2 or later?');
    port = await freePort();
  }
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    folder,
    kill: () => end('SIGKILL'),
    start,
    async stop() {
      await end('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
