/**
 * How one candidate is measured, in a process of its own.
 */
import { setImmediate } from 'node:timers/promises';
import { Bench, type FnReturnedObject } from 'tinybench';

/** How long tinybench measures: at least `time` and at least `iterations`. It warms up for as long again. */
export interface Effort {
  /** Milliseconds. Default 0. */
  time?: number;
  /** Calls. Default 1. */
  iterations?: number;
}

/**
 * Nanoseconds for each of the `operations` of one call of `work`: the median over the calls. If `work` returns an
 * `overriddenDuration`, that duration counts. The garbage collector runs once, before the first call. It does not run
 * between calls: garbage is part of the cost of a library.
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

/** As {@link nanosecondsEach}, in CPU time of all threads of this process. Other processes cannot lengthen it. */
export function cpuNanosecondsEach(operations: number, effort: Effort, work: () => Promise<void>): Promise<number> {
  return nanosecondsEach(operations, effort, async () => {
    const before = process.cpuUsage();
    await work();
    const { user, system } = process.cpuUsage(before);
    return { overriddenDuration: (user + system) / 1e3 };
  });
}

/**
 * Bytes on the heap for each of `count` promises that `wait` returns, without the promise itself and without its place
 * in the caller's array.
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
  // Some libraries queue a job a few microtasks after the call.
  await setImmediate();
  collectGarbage();
  const after = process.memoryUsage().heapUsed;
  // Reading the length keeps the array alive until here.
  if (waiting.length !== count) throw new Error('some waiters are missing');
  return after - before;
}

function collectGarbage(): void {
  if (globalThis.gc === undefined) throw new Error('the bench needs node --expose-gc');
  // The first collection runs finalizers, which can release more objects.
  globalThis.gc();
  globalThis.gc();
}
