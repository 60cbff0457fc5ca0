/** One Redis server for all tests that do nothing to it: that of REDIS_URL, or one of our own. */
import type { TestProject } from 'vitest/node';
import { requireRedis, startRedis } from './server.js';

declare module 'vitest' {
  export interface ProvidedContext {
    redisUrl: string;
  }
}

export default async function setUp(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  requireRedis();
  const url = process.env['REDIS_URL'];
  if (url !== undefined) {
    project.provide('redisUrl', url);
    return undefined;
  }
  const server = await startRedis();
  project.provide('redisUrl', server.url);
  return () => server.stop();
}
