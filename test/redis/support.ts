/** Helpers of the tests on Redis: clients, keys and waiting. */
import { randomUUID } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Redis } from 'ioredis';
import type { NodeRedisClient, RedisCommands } from 'headgate/redis';
import { createClient } from 'redis';
import { inject, onTestFinished } from 'vitest';
import { luaForEsbuild } from '../support/lua-loader.js';
import { temporaryFolder } from '../support/processes.js';

/** The URL of the shared server. A test must not stop it or change its settings. */
export const redisUrl = (): string => inject('redisUrl');

/** Returns a key that no other test uses. */
export const freshKey = (): string => randomUUID();

/** Long enough for all round trips of any operation. */
export const SETTLE_MILLISECONDS = 40;

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => void setTimeout(resolve, milliseconds));

/**
 * Measures the milliseconds until the returned function is called, without the time in which the machine ran other
 * processes instead: each such gap counts 10 ms at most. So an upper bound also holds on a busy machine.
 */
export const stopwatch = (): (() => number) => {
  let ran = 0;
  let latest = performance.now();
  const count = (): void => {
    const now = performance.now();
    ran += Math.min(now - latest, 10);
    latest = now;
  };
  const timer = setInterval(count, 5).unref();
  return () => {
    clearInterval(timer);
    count();
    return ran;
  };
};

/** Waits until `condition` holds. After `seconds`, it rejects with `what`. */
export async function until(what: string, condition: () => unknown, seconds = 10): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await sleep(5);
  }
}

/** Marks a promise as handled, so that a failing test causes no unhandled rejection. */
export const later = <T>(promise: Promise<T>): Promise<T> => {
  promise.catch(() => {});
  return promise;
};

/** Creates a client of ioredis, and a function that closes it. */
export const ioredis = (url: string = redisUrl()): { client: Redis; close: () => Promise<void> } => {
  const client = new Redis(url);
  client.on('error', () => {});
  return { client, close: async () => client.disconnect() };
};

export interface NodeRedis extends NodeRedisClient {
  sendCommand(words: string[]): Promise<unknown>;
}

/** Creates a connected client of node-redis, and a function that closes it. */
export const nodeRedis = async (
  url: string = redisUrl(),
): Promise<{ client: NodeRedis; close: () => Promise<void> }> => {
  const client = createClient({ url });
  client.on('error', () => {});
  await client.connect();
  return { client, close: async () => client.destroy() };
};

/** Waits until a client of ioredis is ready, and closes it after the test. */
export async function readyIoredis<T extends EventEmitter & { readonly status: string; disconnect(): void }>(
  client: T,
): Promise<T> {
  client.on('error', () => {});
  onTestFinished(() => client.disconnect());
  await until('a client', () => client.status === 'ready');
  return client;
}

/** Connects a client of node-redis, and closes it after the test. */
export async function readyNodeRedis<
  T extends { on(event: 'error', listener: () => void): unknown; connect(): Promise<unknown>; destroy(): void },
>(client: T): Promise<T> {
  client.on('error', () => {});
  onTestFinished(() => client.destroy());
  await client.connect();
  return client;
}

/** The `eval` of a custom client, through a client of ioredis. */
export const evalThrough =
  (commands: Redis): RedisCommands['eval'] =>
  (script, keys, args) =>
    commands.eval(script, keys.length, ...keys, ...args);

/** The `subscribe` of a custom client, through a dedicated client of ioredis. */
export const subscribeThrough =
  (messages: Redis): RedisCommands['subscribe'] =>
  async (channel, listener) => {
    messages.on('message', (from: string, message: string) => void (from === channel && listener(message)));
    await messages.subscribe(channel);
  };

/** A custom client that never receives a message. */
export const withoutMessages = (commands: Redis): RedisCommands => ({
  eval: evalThrough(commands),
  subscribe: async () => {},
});

/** The client of a simulated process. After `die`, it sends and receives nothing. */
export const killableClient = ({ eval: run, subscribe }: RedisCommands): { client: RedisCommands; die: () => void } => {
  let dead = false;
  return {
    client: {
      eval: (...call) => (dead ? new Promise(() => {}) : run(...call)),
      subscribe: (channel, listener) => subscribe(channel, (message) => void (dead || listener(message))),
    },
    die: () => void (dead = true),
  };
};

/** Returns the number of connections of a server, without the connection of this call. */
export async function connections(url: string): Promise<number> {
  const { client, close } = ioredis(url);
  const list = String(await client.client('LIST'));
  await close();
  return list.trim().split('\n').length - 1;
}

/** The positions of two numbers in the state of a throttle, see src/redis/scripts/state.lua. */
const [ACTIVE_AT, WAITING_AT] = [34, 170];

/**
 * The keys that match `pattern` and hold more than an idle state. The state of an idle throttle keeps the owners for
 * their ttl; it is one key, which expires, without leases and waiters.
 */
export async function busyKeys(client: Redis, pattern = '*'): Promise<string[]> {
  const busy: string[] = [];
  for (const key of await client.keys(pattern)) {
    const state = (await client.type(key)) === 'string' ? await client.getBuffer(key) : undefined;
    const expires = (await client.pttl(key)) !== -1;
    // A key without a buffer has expired meanwhile.
    if (state === null) continue;
    const isIdle = state?.toString('latin1', 0, 9) === 'headgate2' && expires;
    if (!isIdle || state.readDoubleBE(ACTIVE_AT) > 0 || state.readDoubleBE(WAITING_AT) > 0) busy.push(key);
  }
  return busy;
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/**
 * Creates a folder within node_modules, so that programs in it find the packages. The caller removes it; otherwise the
 * end of the process does.
 */
export function makeFolder(): string {
  const cache = here('../../node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  return temporaryFolder('headgate-', cache);
}

/** Bundles files of this folder into programs for child processes: `NAME.ts` becomes `NAME.mjs`. */
export async function bundle(folder: string, ...names: string[]): Promise<void> {
  await build({
    entryPoints: names.map((name) => here(`${name}.ts`)),
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    plugins: [luaForEsbuild],
    alias: {
      headgate: here('../../src/index.ts'),
      'headgate/http': here('../../src/http/index.ts'),
      'headgate/redis': here('../../src/redis/index.ts'),
    },
  });
}
