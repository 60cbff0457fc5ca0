/** Redis servers of the tests' own: on a free port, in a folder that goes with them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
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

const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port });
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.on('error', () => end(false));
    // A server that still loads its data says so.
    socket.on('data', (data) => end(data.toString().startsWith('+PONG')));
    socket.on('connect', () => socket.write('PING\r\n'));
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
export async function startRedis(settings: Record<string, string> = {}, command = 'redis-server'): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-redis-'));
  const port = await freePort();
  let child: ChildProcess | undefined;
  const start = async (): Promise<void> => {
    const options = { port: String(port), bind: '127.0.0.1', save: '', appendonly: 'no', dir: folder, ...settings };
    const made = spawn(command, Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]), { stdio: 'ignore' });
    child = made;
    // Whatever becomes of the tests, it does not outlive them.
    process.once('exit', () => made.kill('SIGKILL'));
    for (let tries = 0; !(await accepts(port)); tries++) {
      if (tries === 200 || made.exitCode !== null) throw new Error(`redis-server does not answer on port ${port}`);
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
  await start();
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
