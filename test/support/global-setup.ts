/**
 * Starts one Redis server for all tests that need no server of their own, and creates one folder for all temporary
 * files. Both are gone after the run, even if the run fails, is interrupted or is killed.
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
  // Inherited by the workers and by every process that they start.
  process.env['TMPDIR'] = folder;
  const server = await startRedis();
  project.provide('redisUrl', server.url);
  return async () => {
    await server.stop();
    removePath(folder);
  };
}
