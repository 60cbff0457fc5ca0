/** The differences that the remarks of the chapter state, as both packages show them. */
import { Sema } from 'async-sema';
import { Throttle } from 'headgate';
import { TokenBucket } from 'limiter';
import pLimit from 'p-limit';
import PQueue from 'p-queue';
import pThrottle from 'p-throttle';
import { expect, test } from 'vitest';
import { observe } from './scene.js';

const items = ['a', 'b', 'c', 'd'];

test('after a failure, p-limit and p-queue start the remaining items, and map does not', async () => {
  const [limit, queue, gate] = [pLimit(1), new PQueue({ concurrency: 1 }), new Throttle({ concurrency: 1 })];
  const starts = async (map: (fn: (item: string) => Promise<string>) => Promise<unknown>): Promise<string[]> => {
    const { starts: seen } = await observe(async ({ job, sleep, follow }) => {
      const fn = async (item: string): Promise<string> => {
        await job(item);
        throw new Error(item);
      };
      await follow('map', map(fn));
      await sleep(500);
    });
    return seen;
  };
  expect(await starts((fn) => limit.map(items, fn))).toHaveLength(4);
  expect(await starts((fn) => queue.addAll(items.map((item) => () => fn(item))))).toHaveLength(4);
  expect(await starts((fn) => gate.map(items, fn))).toHaveLength(1);
});

test('the promises of jobs that p-limit and p-queue clear never settle, and those of a gate reject', async () => {
  const [limit, queue, gate] = [pLimit(1), new PQueue({ concurrency: 1 }), new Throttle({ concurrency: 1 })];
  const outcome = async (run: (fn: () => Promise<string>) => Promise<unknown>, clear: () => void): Promise<unknown> => {
    const { results } = await observe(async ({ job, sleep, follow }) => {
      void run(() => job('first'));
      void follow(
        'second',
        run(() => job('second')),
      );
      await sleep(5);
      clear();
      await sleep(5_000);
    });
    return results['second'];
  };
  expect(await outcome(limit, () => limit.clearQueue())).toBeUndefined();
  expect(
    await outcome(
      (fn) => queue.add(fn),
      () => queue.clear(),
    ),
  ).toBeUndefined();
  expect(
    await outcome(
      (fn) => gate.run(fn),
      () => gate.clear(),
    ),
  ).toBe('rejected');
});

test('an aborted waiter of p-queue rejects at its turn, and a waiter of a gate at once', async () => {
  const [queue, gate] = [new PQueue({ concurrency: 1 }), new Throttle({ concurrency: 1 })];
  const rejected = async (
    run: (fn: () => Promise<string>, signal?: AbortSignal) => Promise<unknown>,
  ): Promise<unknown> => {
    const controller = new AbortController();
    const { notes } = await observe(async ({ job, sleep, note }) => {
      const first = run(() => job('first', 50));
      const second = run(() => job('second'), controller.signal).catch(() => note('rejected'));
      await sleep(10);
      controller.abort();
      await Promise.all([first, second]);
    });
    return notes;
  };
  expect(await rejected((fn, signal) => queue.add(fn, signal === undefined ? {} : { signal }))).toEqual([
    'rejected at 50',
  ]);
  expect(await rejected((fn, signal) => gate.run(fn, 1, { signal }))).toEqual(['rejected at 10']);
});

test('a light call of p-throttle overtakes a heavy one, and a call of a gate does not', async () => {
  const weights = [3, 2, 1];
  const order = async (
    wrap: (fn: (weight: number) => Promise<string>) => (weight: number) => Promise<unknown>,
  ): Promise<string[]> => {
    const { starts } = await observe(async ({ job }) => {
      const run = wrap((weight) => job(`${weight}`));
      await Promise.all(weights.map((weight) => run(weight)));
    });
    return starts.map((start) => start.slice(0, 1));
  };
  const throttle = pThrottle({ limit: 4, interval: 1_000, strict: true, weight: (weight: number) => weight });
  const gate = new Throttle({ capacity: 4, window: 'sliding' });
  expect(await order((fn) => throttle(fn))).toEqual(['3', '1', '2']);
  expect(await order((fn) => gate.wrap(fn, (weight) => weight))).toEqual(['3', '2', '1']);
});

test('an attempt of limiter passes a waiter, and tryAcquire does not', async () => {
  const { notes } = await observe(async ({ note, sleep }) => {
    const bucket = new TokenBucket({ bucketSize: 4, tokensPerInterval: 8, interval: 'second' });
    const gate = new Throttle({ capacity: 8, burst: 4 });
    gate.correct(0);
    const waiters = [bucket.removeTokens(4), gate.acquire(4).then((permit) => permit.release())];
    await sleep(250); // two tokens
    note('limiter', bucket.tryRemoveTokens(1));
    note('headgate', gate.tryAcquire(1) !== undefined);
    await Promise.all(waiters);
  });
  expect(notes).toEqual(['limiter true at 250', 'headgate false at 250']);
});

test('a second release adds a slot to a Sema, and nothing to a gate', async () => {
  const [sema, gate] = [new Sema(1), new Throttle({ concurrency: 1 })];
  await sema.acquire();
  sema.release();
  sema.release();
  const permit = await gate.acquire();
  permit.release();
  permit.release();
  expect([sema.tryAcquire(), sema.tryAcquire()].filter((token) => token !== undefined)).toHaveLength(2);
  expect([gate.tryAcquire(), gate.tryAcquire()].filter((token) => token !== undefined)).toHaveLength(1);
});
