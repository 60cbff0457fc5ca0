/** What mutants are spared: tests that take long, by the clock or by the number, start processes or collect garbage. */
import { TestRunner } from 'vitest';
import type { RunnerTestFile, RunnerTestSuite } from 'vitest';

const SPARED = [
  / in real time is a gate /,
  /a gate behind a round trip is a gate /,
  /a (Resource|Limiter of one Throttle) is a gate /,
  /ten million|a million|100,000|thousands of/,
  /trap 19: no drift/,
  /trap 24: what keeps a process alive/,
  /against a real server/,
  // A worker thread may not ask for a collection of garbage.
  /keeps no key once nothing is under way|a sliding window remembers/,
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
