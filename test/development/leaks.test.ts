/** Permits that are garbage collected without a release. */
import { KeyedThrottle, Limiter, type Permit, Resource, Throttle } from 'headgate';
import { configureDevelopment } from 'headgate/development';
import { ManualClock } from 'headgate/testing';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { warningsOf } from './warnings.js';

beforeAll(() => {
  if (globalThis.gc === undefined) throw new Error('run with --expose-gc: this file cannot collect permits without it');
});

afterEach(() => configureDevelopment({ leaks: true }));

/** Collects garbage until the registries have reported. */
const collect = async (): Promise<void> => {
  for (let round = 0; round < 6; round++) {
    globalThis.gc?.();
    await new Promise((resolve) => void setTimeout(resolve, 2));
  }
};

/** The leaks that are reported after `fn`. */
const leaksOf = async (fn: () => unknown) => {
  const warnings = await warningsOf(async () => {
    // A frame of its own, so that no register of this function keeps a permit.
    await (async () => void (await fn()))();
    await collect();
  });
  return warnings.filter(({ code }) => code === 'HEADGATE_LEAKED_PERMIT');
};

const ignore = (): void => {};

test('a permit of `acquire` is reported with the stack of its call', async () => {
  const throttle = new Throttle(Infinity, 2, 1, { name: 'db' });
  async function forget(): Promise<void> {
    await throttle.acquire();
  }
  const leaks = await leaksOf(forget);
  expect(leaks).toHaveLength(1);
  expect(leaks[0]?.name).toBe('HeadgateWarning');
  expect(leaks[0]?.message).toMatch(
    /^a permit of Throttle "db" \(any rate, 2 at a time\) was garbage collected without a release, so its slot stays occupied\. It was acquired at forget \(.*leaks\.test\.ts:\d+:\d+\)\./,
  );
  expect(leaks[0]?.detail).toMatch(/^ {4}at forget \(.*leaks\.test\.ts:\d+:\d+\)\n {4}at .*leaks\.test\.ts/);
  expect(leaks[0]?.detail).not.toMatch(/\/src\//);
  expect(throttle.active).toBe(1);
});

const full = new Throttle(Infinity, 1);
const clock = new ManualClock();
test.each<[string, () => unknown, RegExp]>([
  ['tryAcquire', () => new Throttle(Infinity, 1).tryAcquire(), /its slot stays occupied/],
  ['several slots', () => new Throttle(Infinity, 3).acquire(1, { slots: 3 }), /its 3 slots stay occupied/],
  ['no concurrency limit', () => new Throttle(10).tryAcquire(), /it counts as running, and idle\(\) never resolves/],
  ['a key', () => new KeyedThrottle(Infinity, 1, 1, { name: 'users' }).acquire('ada'), /Throttle "users"/],
  ['a resource', () => new Resource(1, { name: 'disk' }).acquire(), /Throttle "disk"/],
  [
    'a limiter',
    () => {
      const [first, second] = [new Resource(1, { name: 'first' }), new Resource(1, { name: 'second' })];
      return new Limiter({ timeout: 1, resources: [first, second] }).acquire([first, second]);
    },
    /Throttle "(first|second)"/,
  ],
  [
    'a grant after a wait',
    async () => {
      const held = await full.acquire();
      const second = full.acquire();
      held.release();
      await second;
    },
    /its slot stays occupied/,
  ],
])('%s: one warning', async (_name, fn, message) => {
  const leaks = await leaksOf(fn);
  expect(leaks).toHaveLength(1);
  expect(leaks[0]?.message).toMatch(message);
  expect(leaks[0]?.message).toMatch(/leaks\.test\.ts:\d+:\d+/);
});

test('a place is reported once, and another place once more', async () => {
  const throttle = new Throttle(Infinity, 100);
  const first = (): unknown => throttle.tryAcquire();
  const second = (): unknown => throttle.tryAcquire();
  const leaks = await leaksOf(() => {
    for (let round = 0; round < 10; round++) first();
    for (let round = 0; round < 10; round++) second();
  });
  expect(leaks).toHaveLength(2);
  expect(await leaksOf(first)).toEqual([]);
});

test.each<[string, () => unknown]>([
  [
    'released',
    async () => {
      const throttle = new Throttle(Infinity, 1);
      (await throttle.acquire()).release();
      throttle.tryAcquire()?.release();
    },
  ],
  [
    'disposed',
    async () => {
      const throttle = new Throttle(Infinity, 1);
      (await throttle.acquire())[Symbol.dispose]?.();
    },
  ],
  [
    'refunded and released, in both orders',
    async () => {
      const throttle = new Throttle(10, 1);
      const permit = await throttle.acquire();
      permit.refund();
      permit.release();
      const other = await throttle.acquire();
      other.release();
      other.refund();
    },
  ],
  [
    'expired',
    async () => {
      const throttle = new Throttle(Infinity, 1, 1, { clock, ttl: 1 });
      await throttle.acquire();
      await clock.advance(1);
    },
  ],
  [
    'released as a part of a limiter',
    async () => {
      const [first, second] = [new Resource(1), new Resource(1)];
      const limiter = new Limiter({ timeout: 1, resources: [first, second] });
      (await limiter.acquire([first, second])).release();
      await limiter.resources([first, second]).run(ignore);
    },
  ],
  ['without a slot', () => new Throttle(10, 1).acquire(1, { slots: 0 })],
  ['held by a job that never ends', () => void new Throttle(Infinity, 1).run(() => new Promise(ignore))],
  ['held by an item of map that never ends', () => void new Throttle(Infinity, 1).map([1], () => new Promise(ignore))],
  [
    'held by a job of a limiter that never ends',
    () => {
      const resource = new Resource(1);
      void new Limiter({ timeout: 1, resources: [resource] }).resources([resource])(() => new Promise(ignore))();
    },
  ],
  ['held by jobs that end', () => new Throttle(Infinity, 1).map([1, 2, 3], (item) => item)],
  [
    'refused after a wait',
    async () => {
      const throttle = new Throttle(Infinity, 1);
      const permit = await throttle.acquire();
      await throttle.acquire(1, { timeout: 0.001 }).catch(ignore);
      throttle.close();
      permit.release();
    },
  ],
])('a permit is not reported: %s', async (_name, fn) => {
  expect(await leaksOf(fn)).toEqual([]);
});

test('a permit that the program still references is not reported', async () => {
  const kept: unknown[] = [];
  const throttle = new Throttle(Infinity, 1);
  expect(await leaksOf(() => kept.push(throttle.tryAcquire()))).toEqual([]);
  expect((kept[0] as Permit).released).toBe(false);
});

test('`leaks: false` reports nothing', async () => {
  configureDevelopment({ leaks: false });
  expect(await leaksOf(() => new Throttle(Infinity, 1).tryAcquire())).toEqual([]);
});

test('the aids keep neither permits nor throttles alive', async () => {
  configureDevelopment({ leaks: false });
  const references: WeakRef<object>[] = [];
  const use = async (): Promise<void> => {
    const throttle = new Throttle(Infinity, 3);
    const released = await throttle.acquire();
    released.release();
    const leaked = await throttle.acquire();
    await throttle.run(() => {
      // This timer keeps the asynchronous context of the job.
      setTimeout(ignore, 60_000).unref();
    });
    const wide = await throttle.acquire(1, { slots: 2 });
    // These calls wait for ever.
    const waiting = [throttle.acquire(), throttle.run(ignore)];
    references.push(...[throttle, released, leaked, wide, ...waiting].map((each) => new WeakRef<object>(each)));
  };
  await use();
  await collect();
  expect(references).toHaveLength(6);
  expect(references.map((reference) => reference.deref())).toEqual(references.map(() => undefined));
});

test('a hundred thousand calls do not grow the memory', { timeout: 300_000 }, async () => {
  configureDevelopment({ leaks: false });
  const throttle = new Throttle(Infinity, 2);
  const heap = async (): Promise<number> => {
    await collect();
    return process.memoryUsage().heapUsed;
  };
  const work = async (calls: number): Promise<void> => {
    for (let call = 0; call < calls; call += 5) {
      (await throttle.acquire()).release();
      throttle.tryAcquire()?.release();
      await throttle.run(ignore);
      // Granted after a wait, and lost.
      const [first, second] = await Promise.all([throttle.acquire(), throttle.acquire()]);
      const third = throttle.acquire();
      first.release();
      second.release();
      (await third).release();
      new Throttle(10).tryAcquire();
      if (call % 5_000 === 0) await new Promise((resolve) => void setImmediate(resolve));
    }
  };
  await work(20_000);
  const before = await heap();
  await work(100_000);
  expect(((await heap()) - before) / 2 ** 20).toBeLessThan(2);
});

test('a hundred thousand lost permits of one throttle do not grow the memory', { timeout: 300_000 }, async () => {
  configureDevelopment({ leaks: false });
  const throttle = new Throttle(Infinity);
  const heap = async (): Promise<number> => {
    await collect();
    return process.memoryUsage().heapUsed;
  };
  const lose = async (calls: number): Promise<void> => {
    for (let call = 0; call < calls; call++) {
      throttle.tryAcquire();
      if (call % 20_000 === 0) await collect();
    }
  };
  await lose(20_000);
  const before = await heap();
  await lose(100_000);
  expect(throttle.active).toBe(120_000);
  expect(((await heap()) - before) / 2 ** 20).toBeLessThan(2);
});
