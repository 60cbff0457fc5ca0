/** Redis servers for tests: each on a free port, in a folder of its own, and gone when this process ends. */
import type { ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { endProcess, removePath, startProcess, temporaryFolder } from './processes.js';
import { requireProgram } from './programs.js';

const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** For a server to start, on a machine that is busy with other things. */
const START_SECONDS = 60;
/** How many free ports are tried, and how often the same port is. */
const PORTS = 6;
const SAME_PORT = 100;
/** How much of what a server prints is kept. */
const KEPT_CHARACTERS = 100_000;
/** How many characters of it an error shows. */
const SHOWN_CHARACTERS = 1_000;

/** Resolves with the path of `redis-server`, which is installed where that is allowed. */
export const requireRedis = (): Promise<string> =>
  requireProgram({
    command: 'redis-server',
    debianPackage: 'redis-server',
    need: 'The tests need redis-server 6.2 or later',
  });

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

const PORT_TAKEN = 'Address already in use';
const isPortTaken = (error: unknown): boolean => String((error as Error | undefined)?.message).includes(PORT_TAKEN);

/** Starts something on a free port; on another one, if another process has taken the port meanwhile. */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await freePort());
    } catch (error) {
      if (attempt === PORTS || !isPortTaken(error)) throw error;
    }
  }
}

/** Starts `redis-server` with these arguments. Resolves when it prints `ready`; rejects with what it printed otherwise. */
export async function launch(args: readonly string[], ready = 'Ready to accept connections'): Promise<ChildProcess> {
  const program = await requireRedis();
  // A locale that the machine lacks must not matter.
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
      // A probe of its port could be answered by another process that has taken the port.
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
  /** Ends it at once, as a crash would. */
  kill(): Promise<void>;
  /** Starts it again on the same port, with the data that it has saved. */
  start(): Promise<void>;
  /** Ends it, and removes its folder. */
  stop(): Promise<void>;
}

/** Starts a server. `settings` are those of redis.conf. */
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
          // A connection of the tests may have taken the port for a while.
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
