/** Random work through another library and through headgate: every job starts and ends at the same instant. */
import { Sema } from 'async-sema';
import Bottleneck from 'bottleneck';
import fc from 'fast-check';
import { Throttle } from 'headgate';
import { RateLimiter } from 'limiter';
import pLimit from 'p-limit';
import PQueue from 'p-queue';
import pThrottle from 'p-throttle';
import { expect, test } from 'vitest';
import { observe, type Scene } from './scene.js';

/** A job arrives `after` the one before, and runs for `ms` milliseconds. */
interface Work {
  readonly after: number;
  readonly ms: number;
}

type Run = (fn: () => Promise<string>) => PromiseLike<unknown>;

/** Hands all jobs to `run` at their instants, and waits for them. */
async function play({ job, sleep }: Scene, work: readonly Work[], run: Run): Promise<void> {
  const all: PromiseLike<unknown>[] = [];
  for (const [index, { after, ms }] of work.entries()) {
    if (after > 0) await sleep(after);
    all.push(run(() => job(`${index}`, ms)));
  }
  await Promise.all(all);
}

const work = fc.array(
  fc.record({
    after: fc.constantFrom(0, 0, 0, 20, 60, 140),
    ms: fc.integer({ min: 1, max: 12 }).map((n) => 20 * n),
  }),
  { minLength: 1, maxLength: 12 },
);

const pairs: Record<string, { theirs: (n: number) => Run; ours: (n: number) => Run; grain?: number }> = {
  'p-limit, n at once': {
    theirs: (n) => pLimit(n),
    ours: (n) => runIn(new Throttle({ concurrency: n })),
  },
  'p-queue, n at once': {
    theirs: (n) => {
      const queue = new PQueue({ concurrency: n });
      return (fn) => queue.add(fn);
    },
    ours: (n) => runIn(new Throttle({ concurrency: n })),
  },
  'async-sema, n at once': {
    theirs: (n) => {
      const sema = new Sema(n);
      return async (fn) => {
        await sema.acquire();
        await fn();
        sema.release();
      };
    },
    ours: (n) => runIn(new Throttle({ concurrency: n })),
  },
  'bottleneck, n at once': {
    theirs: (n) => {
      const limiter = new Bottleneck({ maxConcurrent: n });
      return (fn) => limiter.schedule(fn);
    },
    ours: (n) => runIn(new Throttle({ concurrency: n })),
    grain: 20,
  },
  'bottleneck, an interval between starts': {
    theirs: (n) => {
      const limiter = new Bottleneck({ minTime: 100 * n });
      return (fn) => limiter.schedule(fn);
    },
    ours: (n) => runIn(new Throttle({ capacity: 1, period: 0.1 * n })),
    grain: 20,
  },
  'p-throttle with weights, n in a rolling second': {
    theirs: (n) => {
      const throttled = pThrottle({ limit: n, interval: 1_000, strict: true, weight: () => 1 })(
        (fn: () => Promise<string>) => fn(),
      );
      return (fn) => throttled(fn);
    },
    ours: (n) => runIn(new Throttle({ capacity: n, window: 'sliding' })),
    grain: 20,
  },
};

/** Runs jobs in a gate. */
function runIn(gate: Throttle): Run {
  return (fn) => gate.run(fn);
}

test.each(Object.entries(pairs))('%s: random jobs start and end alike', async (_name, { theirs, ours, grain = 1 }) => {
  await fc.assert(
    fc.asyncProperty(work, fc.integer({ min: 1, max: 4 }), async (jobs, n) => {
      const expected = await observe((scene) => play(scene, jobs, theirs(n)), grain);
      const found = await observe((scene) => play(scene, jobs, ours(n)), grain);
      expect(found.starts).toEqual(expected.starts);
      // Jobs that end in the same instant may do so in any order.
      expect(found.ends.toSorted()).toEqual(expected.ends.toSorted());
    }),
    { numRuns: 25 },
  );
});

/** The most starts in any rolling second. */
function mostPerSecond(starts: readonly string[]): number {
  const instants = starts.map((start) => Number(start.split(' at ')[1]));
  return Math.max(...instants.map((from) => instants.filter((at) => at >= from && at < from + 1_000).length));
}

/** Four per second, as each library counts by default. */
const counters: Record<string, () => Run> = {
  limiter: () => {
    const limiter = new RateLimiter({ tokensPerInterval: 4, interval: 'second' });
    return async (fn) => {
      await limiter.removeTokens(1);
      return fn();
    };
  },
  'p-queue': () => {
    const queue = new PQueue({ intervalCap: 4, interval: 1_000 });
    return (fn) => queue.add(fn);
  },
  'p-throttle': () => {
    const throttled = pThrottle({ limit: 4, interval: 1_000 })((fn: () => Promise<string>) => fn());
    return (fn) => throttled(fn);
  },
  bottleneck: () => {
    const limiter = new Bottleneck({ reservoir: 4, reservoirRefreshAmount: 4, reservoirRefreshInterval: 1_000 });
    return (fn) => limiter.schedule(fn);
  },
};

test.each(Object.entries(counters))(
  '%s starts more than its limit in a rolling second, and a window does not',
  async (_name, counter) => {
    const jobs = [0, 900, ...Array.from({ length: 12 }, () => 0)].map((after) => ({ after, ms: 20 }));
    const theirs = await observe((scene) => play(scene, jobs, counter()));
    const ours = await observe((scene) => play(scene, jobs, runIn(new Throttle({ capacity: 4, window: 'sliding' }))));
    expect(mostPerSecond(theirs.starts)).toBeGreaterThan(4);
    expect(mostPerSecond(theirs.starts)).toBeLessThanOrEqual(8);
    expect(mostPerSecond(ours.starts)).toBe(4);
  },
);
