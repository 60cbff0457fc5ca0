/**
 * How one contestant is measured, in a process of its own.
 */
import { setImmediate } from 'node:timers/promises';
import { Bench, type FnReturnedObject } from 'tinybench';

/** How long tinybench goes on: for some time and some calls at least. It warms up for as long again. */
export interface Effort {
  /** Milliseconds. Default 0. */
  time?: number;
  /** Default 1. */
  iterations?: number;
}

/**
 * Nanoseconds for each of the `operations` that one call of `work` does: the median over its calls. Where `work`
 * says how long the part that counts took, that is what counts. The heap is cleaned once, before the first of them,
 * and not in between: a program that runs has the garbage of its past, and whoever leaves more of it pays for that.
 */
export async function nanosecondsEach(
  operations: number,
  { time = 0, iterations = 1 }: Effort,
  work: () => Promise<void | FnReturnedObject> | void,
): Promise<number> {
  const bench = new Bench({ time, iterations, warmupTime: time, warmupIterations: iterations, throws: true });
  bench.add('work', work, { beforeAll: collectGarbage });
  const [task] = await bench.run();
  if (task?.result.state !== 'completed') throw new Error('tinybench did not complete');
  return (task.result.latency.p50 * 1e6) / operations;
}

/**
 * Bytes on the heap for each of `count` promises that `wait` makes, without the promise itself and its place in the
 * caller's array.
 */
export async function bytesEach(count: number, wait: () => Promise<unknown>): Promise<number> {
  const ofTheCaller = await bytesHeld(count, () => new Promise(() => {}));
  return ((await bytesHeld(count, wait)) - ofTheCaller) / count;
}

async function bytesHeld(count: number, wait: () => Promise<unknown>): Promise<number> {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  const waiting: Promise<unknown>[] = [];
  for (let i = 0; i < count; i++) waiting.push(wait());
  // Some libraries queue a job only a few microtasks after it was given to them.
  await setImmediate();
  collectGarbage();
  const after = process.memoryUsage().heapUsed;
  // The length is read here to keep the array alive until now.
  if (waiting.length !== count) throw new Error('some waiters are missing');
  return after - before;
}

function collectGarbage(): void {
  if (globalThis.gc === undefined) throw new Error('the bench needs node --expose-gc');
  // The first round may leave behind what its finalizers held.
  globalThis.gc();
  globalThis.gc();
}
