/** What the tests on Redis share. */
import { randomUUID } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Redis } from 'ioredis';
import type { NodeRedisClient, RedisCommands } from 'headgate/redis';
import { createClient } from 'redis';
import { inject, onTestFinished } from 'vitest';
import { temporaryFolder } from '../support/processes.js';

/** The server of all tests: nothing may be done to it but to use it. */
export const redisUrl = (): string => inject('redisUrl');

/** A key that no other test has. */
export const freshKey = (): string => randomUUID();

/** As many round trips as anything takes, and some. */
export const SETTLE_MILLISECONDS = 40;

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** Waits until `condition` holds, and says what it waited for where it never does. */
export async function until(what: string, condition: () => unknown, seconds = 10): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await sleep(5);
  }
}

/** A promise that a failing test may leave behind. */
export const later = <T>(promise: Promise<T>): Promise<T> => {
  promise.catch(() => {});
  return promise;
};

/** A client of ioredis, and how to close it. */
export const ioredis = (url: string = redisUrl()): { client: Redis; close: () => Promise<void> } => {
  const client = new Redis(url);
  client.on('error', () => {});
  return { client, close: async () => client.disconnect() };
};

export interface NodeRedis extends NodeRedisClient {
  sendCommand(words: string[]): Promise<unknown>;
}

/** A client of node-redis, connected, and how to close it. */
export const nodeRedis = async (
  url: string = redisUrl(),
): Promise<{ client: NodeRedis; close: () => Promise<void> }> => {
  const client = createClient({ url });
  client.on('error', () => {});
  await client.connect();
  return { client, close: async () => client.destroy() };
};

/** A client of ioredis that is ready; it is closed when the test is finished. */
export async function readyIoredis<T extends EventEmitter & { readonly status: string; disconnect(): void }>(
  client: T,
): Promise<T> {
  client.on('error', () => {});
  onTestFinished(() => client.disconnect());
  await until('a client', () => client.status === 'ready');
  return client;
}

/** A client of node-redis that is connected; it is closed when the test is finished. */
export async function readyNodeRedis<
  T extends { on(event: 'error', listener: () => void): unknown; connect(): Promise<unknown>; destroy(): void },
>(client: T): Promise<T> {
  client.on('error', () => {});
  onTestFinished(() => client.destroy());
  await client.connect();
  return client;
}

/** How a client by hand calls scripts: through one of ioredis. */
export const evalThrough =
  (commands: Redis): RedisCommands['eval'] =>
  (script, keys, args) =>
    commands.eval(script, keys.length, ...keys, ...args);

/** How a client by hand listens: through one of ioredis that does nothing else. */
export const subscribeThrough =
  (messages: Redis): RedisCommands['subscribe'] =>
  async (channel, listener) => {
    messages.on('message', (from: string, message: string) => void (from === channel && listener(message)));
    await messages.subscribe(channel);
  };

/** A client by hand that never hears a message. */
export const deaf = (commands: Redis): RedisCommands => ({ eval: evalThrough(commands), subscribe: async () => {} });

/** The client of a process that dies when it is told to: from then on nothing of it is heard, and it hears nothing. */
export const asMortal = ({ eval: run, subscribe }: RedisCommands): { client: RedisCommands; die: () => void } => {
  let dead = false;
  return {
    client: {
      eval: (...call) => (dead ? new Promise(() => {}) : run(...call)),
      subscribe: (channel, listener) => subscribe(channel, (message) => void (dead || listener(message))),
    },
    die: () => void (dead = true),
  };
};

/** How many connections a server has, not counting the one that asks. */
export async function connections(url: string): Promise<number> {
  const { client, close } = ioredis(url);
  const list = String(await client.client('LIST'));
  await close();
  return list.trim().split('\n').length - 1;
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** A new folder, within node_modules, so that packages are found from there. Its maker removes it, or else the end of the process. */
export function makeFolder(): string {
  const cache = here('../../node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  return temporaryFolder('headgate-', cache);
}

/** Makes programs of files of this folder, for processes of their own: `NAME.mjs` of `NAME.ts`. */
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
    alias: {
      headgate: here('../../src/index.ts'),
      'headgate/http': here('../../src/http/index.ts'),
      'headgate/redis': here('../../src/redis/index.ts'),
    },
  });
}
