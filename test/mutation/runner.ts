/** What mutants are spared: tests that take long, by the clock or by the number, or start processes. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { TestRunner } from 'vitest';
import type { RunnerTestFile, RunnerTestSuite } from 'vitest';

// Stryker runs tests in worker threads, which cannot be started with --expose-gc.
setFlagsFromString('--expose-gc');
globalThis.gc ??= runInNewContext('gc') as NonNullable<typeof globalThis.gc>;

const SPARED = [
  / in real time is a gate /,
  /a gate behind a round trip is a gate /,
  /a (Resource|Limiter of one Throttle) is a gate /,
  /ten million|half a million|a million more|a million keys|100,000|thousands of/,
  /trap 19: no drift/,
  /trap 24: what keeps a process alive/,
  /against a real server/,
];

function spare(suite: RunnerTestSuite, name: string): void {
  for (const task of suite.tasks) {
    const full = `${name} ${task.name}`.trim();
    if (task.type === 'suite') spare(task, full);
    else if (SPARED.some((spared) => spared.test(full))) task.mode = 'skip';
  }
  if (suite.tasks.every(({ mode }) => mode === 'skip')) suite.mode = 'skip';
}

export default class extends TestRunner {
  onCollected(files: RunnerTestFile[]): void {
    for (const file of files) spare(file, '');
  }
}
