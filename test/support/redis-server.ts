/** Redis servers for tests. Each has a free port and its own folder, and ends with this process. */
import type { ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { endProcess, removePath, startProcess, temporaryFolder } from './processes.js';
import { requireProgram } from './programs.js';

const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** Seconds within which a server must start, on a busy machine. */
const START_SECONDS = 60;
/** The number of free ports to try, and the number of attempts on the same port. */
const PORTS = 6;
const SAME_PORT = 100;
/** The number of printed characters that are kept. */
const KEPT_CHARACTERS = 100_000;
/** The number of printed characters in an error. */
const SHOWN_CHARACTERS = 1_000;

/** Resolves with the path of `redis-server`. A missing program is installed where this is allowed. */
export const requireRedis = (): Promise<string> =>
  requireProgram({
    command: 'redis-server',
    debianPackage: 'redis-server',
    need: 'The tests need redis-server 6.2 or later',
  });

/** Resolves with a port that is free at the moment. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });

const PORT_TAKEN = 'Address already in use';
const isPortTaken = (error: unknown): boolean => String((error as Error | undefined)?.message).includes(PORT_TAKEN);

/** Calls `start` with a free port, and again with another port if a process has taken the port meanwhile. */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await freePort());
    } catch (error) {
      if (attempt === PORTS || !isPortTaken(error)) throw error;
    }
  }
}

/** Starts `redis-server`. Resolves when the server prints `ready`; otherwise it rejects with the output. */
export async function launch(args: readonly string[], ready = 'Ready to accept connections'): Promise<ChildProcess> {
  const program = await requireRedis();
  // The server must start even if the locale of the user does not exist.
  const child = startProcess(program, args, { env: { ...process.env, LC_ALL: 'C' } });
  let printed = '';
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (what: string): void =>
        reject(
          new Error(
            `redis-server ${what} (6.2 or later is needed). It printed: ${printed.trim().slice(-SHOWN_CHARACTERS)}`,
          ),
        );
      // The output proves the start. A probe of the port could reach another process.
      for (const output of [child.stdout, child.stderr]) {
        output?.setEncoding('utf8').on('data', (text: string) => {
          if (printed.length < KEPT_CHARACTERS) printed += text;
          if (printed.includes(ready)) resolve();
        });
      }
      child.once('error', (error) => fail(`cannot be started: ${error.message}`));
      child.once('close', (code, signal) => fail(`ended with ${signal ?? code} while it started`));
      timer = setTimeout(() => fail(`did not start within ${START_SECONDS} s`), START_SECONDS * 1_000);
    });
  } catch (error) {
    await endProcess(child);
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return child;
}

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  readonly folder: string;
  /** Kills the server, as a crash would. */
  kill(): Promise<void>;
  /** Starts the server again on the same port, with its saved data. */
  start(): Promise<void>;
  /** Stops the server, and removes its folder. */
  stop(): Promise<void>;
}

/** Starts a server with `settings` of redis.conf. */
export async function startRedis(settings: Record<string, string> = {}): Promise<RedisServer> {
  const folder = temporaryFolder('headgate-redis-');
  let child: ChildProcess | undefined;
  const startOn = async (port: number): Promise<number> => {
    const options = { port: String(port), bind: '127.0.0.1', save: '', appendonly: 'no', dir: folder, ...settings };
    child = await launch(Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]));
    return port;
  };
  const kill = async (): Promise<void> => {
    const ending = child;
    child = undefined;
    if (ending !== undefined) await endProcess(ending);
  };
  let port: number;
  try {
    port = await onFreePort(startOn);
  } catch (error) {
    removePath(folder);
    throw error;
  }
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    folder,
    kill,
    async start() {
      for (let attempt = 1; ; attempt++) {
        try {
          return void (await startOn(port));
        } catch (error) {
          // A client connection of the tests may use the port for a while.
          if (attempt === SAME_PORT || !isPortTaken(error)) throw error;
          await sleep(25);
        }
      }
    },
    async stop() {
      await kill();
      removePath(folder);
    },
  };
}
