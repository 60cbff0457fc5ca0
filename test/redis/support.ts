/** What the tests on Redis share. */
import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import type { NodeRedisClient } from 'headgate/redis';
import { createClient } from 'redis';
import { inject } from 'vitest';

/** The server of all tests: nothing may be done to it but to use it. */
export const redisUrl = (): string => inject('redisUrl');

/** A key that no other test has. */
export const freshKey = (): string => randomUUID();

export const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** Waits until `condition` holds, and says what it waited for where it never does. */
export async function until(what: string, condition: () => unknown, seconds = 10): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await sleep(5);
  }
}

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
export const nodeRedis = async (url: string = redisUrl()): Promise<{ client: NodeRedis; close: () => Promise<void> }> => {
  const client = createClient({ url });
  client.on('error', () => {});
  await client.connect();
  return { client, close: async () => client.destroy() };
};
