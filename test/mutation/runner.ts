/** Skips tests that are too slow to run against every mutant: real time, large numbers, child processes and servers. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { TestRunner } from 'vitest';
import type { RunnerTestFile, RunnerTestSuite } from 'vitest';

// Stryker runs tests in worker threads, and a worker thread does not accept --expose-gc.
setFlagsFromString('--expose-gc');
globalThis.gc ??= runInNewContext('gc') as NonNullable<typeof globalThis.gc>;

/** Patterns of full test names, describe titles included. */
const SKIPPED = [
  / in real time is a gate /,
  /a gate behind a round trip is a gate /,
  /a (Resource|Limiter of one Throttle) is a gate /,
  /million|100,000|thousands of|5,000 grants|many calls/,
  /1 MB of/,
  /trap 19:/,
  /trap 24:/,
  /against a real server/,
  /the queue frees the memory of refused waiters/,
];

function skipSlow(suite: RunnerTestSuite, parents: string): void {
  for (const task of suite.tasks) {
    const name = `${parents} ${task.name}`.trim();
    if (task.type === 'suite') skipSlow(task, name);
    else if (SKIPPED.some((pattern) => pattern.test(name))) task.mode = 'skip';
  }
  if (suite.tasks.every(({ mode }) => mode === 'skip')) suite.mode = 'skip';
}

export default class extends TestRunner {
  onCollected(files: RunnerTestFile[]): void {
    for (const file of files) skipSlow(file, '');
  }
}
