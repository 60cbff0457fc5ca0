/**
 * Before all tests: one Redis server for those that only use it (the others start servers of their own), and one folder
 * for everything temporary. Both are gone after the run, also after one that fails, is interrupted or killed.
 */
import type { TestProject } from 'vitest/node';
import { guardedPath, removePath, temporaryFolder } from './processes.js';
import { startRedis } from './redis-server.js';

declare module 'vitest' {
  export interface ProvidedContext {
    redisUrl: string;
  }
}

export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  // Vitest leaves this folder behind when it is interrupted.
  guardedPath(project.tmpDir);
  const folder = temporaryFolder('headgate-');
  // For the processes that run the tests, and for all that they start.
  process.env['TMPDIR'] = folder;
  const server = await startRedis();
  project.provide('redisUrl', server.url);
  return async () => {
    await server.stop();
    removePath(folder);
  };
}
