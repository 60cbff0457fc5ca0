/** A test as any other on a server of its own, which is interrupted while it waits. It runs under vitest.config.ts of this folder. */
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'vitest';
import { makeFolder } from '../support.js';
import { startRedis } from '../../support/redis-server.js';

test('waits to be interrupted', async () => {
  const { pid } = process;
  await startRedis();
  console.log(`SCENE ${JSON.stringify({ pid, folder: makeFolder() })}`);
  await sleep(50_000);
});
