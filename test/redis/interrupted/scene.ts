/**
 * A test with a server of its own. processes.test.ts runs it with the vitest.config.ts of this folder, and interrupts
 * it while it waits.
 */
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
