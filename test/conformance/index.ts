/**
 * One suite for every gate: the promises of the README, checked through the `Gate` interface alone. So the suite fits a
 * gate with a round trip to a server as well as a `Throttle` in the same process.
 *
 * All spans are multiples of the suite's `unit`: a second on a clock that the test moves, and otherwise as little real
 * time as the tolerance permits. A test may observe an action up to the tolerance late, which is half a unit, and never
 * early. Every expectation distinguishes right from wrong by about one unit.
 *
 * A gate with a round trip must apply the calls of one caller in their order, releases included: when a caller releases
 * and then acquires, the gate applies the release first.
 */
import { describe } from 'vitest';
import { invalidArguments } from './arguments.js';
import { asyncioSemaphore } from './asyncio-semaphore.js';
import { budgets } from './budgets.js';
import { drainAndClear } from './drain-and-clear.js';
import { concurrency } from './promise-01-concurrency.js';
import { rate } from './promise-02-rate.js';
import { fifo } from './promise-03-fifo.js';
import { workConservation } from './promise-04-work-conservation.js';
import { nothingLost } from './promise-05-nothing-lost.js';
import { permits } from './promise-06-permits.js';
import { pause } from './promise-07-pause.js';
import { cancellation } from './promise-08-cancellation.js';
import { close } from './promise-09-close.js';
import { costOfRunning } from './promise-10-cost-of-running.js';
import { context } from './promise-11-context.js';
import { numbers } from './promise-12-numbers.js';
import { randomHistory } from './random-history.js';
import type { Subject } from './subject.js';
import { createSuite, type Suite } from './suite.js';

export * from './subject.js';

const parts: readonly ((suite: Suite) => void)[] = [
  concurrency,
  rate,
  fifo,
  workConservation,
  nothingLost,
  permits,
  pause,
  cancellation,
  close,
  drainAndClear,
  costOfRunning,
  context,
  numbers,
  budgets,
  invalidArguments,
  randomHistory,
  asyncioSemaphore,
];

/** Defines the whole suite for one kind of gate. */
export function conformance(name: string, subject: Subject): void {
  const suite = createSuite(subject);
  describe(`${name} is a gate`, () => {
    for (const define of parts) define(suite);
  });
}
