/** A call that waits for its own job (FAULTS 53). `nested-programs.test.ts` has random programs. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { type Gate, KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { configureDevelopment, NestedAcquireError } from 'headgate/development';
import { ManualClock } from 'headgate/testing';
import { RedisKeyedThrottle, RedisThrottle } from 'headgate/redis';
import { afterEach, describe, expect, inject, test } from 'vitest';
import { warningsOf } from './warnings.js';

const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, milliseconds));

afterEach(() => configureDevelopment({ nested: 'reject', leaks: true }));

/** The error that a promise rejects with. */
const errorOf = async (promise: Promise<unknown>): Promise<NestedAcquireError> => {
  const settled = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (settled === undefined) throw new Error('the call succeeded');
  return settled as NestedAcquireError;
};

/** The line of the caller. */
const here = (): number => Number(/nested\.test\.ts:(\d+)/.exec(new Error().stack?.split('\n')[2] ?? '')?.[1]);

/** The lines of this file that a message names. */
const linesOf = ({ message }: Error): number[] =>
  [...message.matchAll(/nested\.test\.ts:(\d+):\d+/g)].map(([, line]) => Number(line));

describe('each way to nest a call', () => {
  type Nest = (inner: () => Promise<unknown>) => Promise<unknown>;
  const throttle = new Throttle(Infinity, 1);
  const keyed = new KeyedThrottle(Infinity, 1);
  const resource = new Resource(1);
  const [first, second] = [new Resource(1), new Resource(1)];
  const limiter = new Limiter({ timeout: 30, resources: [first, second] });
  const wrap = (gate: Pick<Throttle, 'wrap'>): Nest => {
    const wrapped = gate.wrap((inner: () => Promise<unknown>) => inner());
    return (inner) => wrapped(inner);
  };
  const methods: Record<string, { nest: Nest; acquire: () => Promise<unknown> }> = {
    'Throttle.run': { nest: (inner) => throttle.run(inner), acquire: () => throttle.acquire() },
    'Throttle.wrap': { nest: wrap(throttle), acquire: () => throttle.run(() => 0) },
    'Throttle.map': { nest: (inner) => throttle.map([0], inner), acquire: () => throttle.map([0], () => 0) },
    'KeyedThrottle.run': { nest: (inner) => keyed.run('a', inner), acquire: () => keyed.acquire('a') },
    'Resource.run': { nest: (inner) => resource.run(inner), acquire: () => resource.acquire() },
    'Resource.wrap': { nest: wrap(resource), acquire: () => resource.run(() => 0) },
    'Resource.map': { nest: (inner) => resource.map([0], inner), acquire: () => resource.map([0], () => 0) },
    'Resources.run': {
      nest: (inner) => limiter.resources([second]).run(inner),
      acquire: () => limiter.acquire([first, second]),
    },
    'a wrapped handler': {
      nest: (inner) => limiter.resources([first])(inner)(),
      acquire: () => limiter.resources([first, second]).run(() => 0),
    },
    'a resource of a limiter': { nest: (inner) => limiter.resources([first])(inner)(), acquire: () => first.acquire() },
    'a limiter with the gate of the job': {
      nest: (inner) => second.run(inner),
      acquire: () => limiter.acquire([first, second]),
    },
  };

  test.each(Object.entries(methods))('%s', async (_name, { nest, acquire }) => {
    let outer = 0;
    let inner = 0;
    const job = async (): Promise<unknown> => {
      await sleep(1);
      inner = here() + 1;
      return acquire();
    };
    outer = here() + 1;
    const error = await errorOf(nest(job));
    expect(error).toBeInstanceOf(NestedAcquireError);
    expect(error).toMatchObject({ name: 'NestedAcquireError', code: 'ERR_THROTTLE_NESTED' });
    // The frames of this file: of `acquire` and `nest`, or of their callers.
    expect(error.message).toMatch(
      /a job waits for itself: the call at .*nested\.test\.ts.* of the call at .*nested\.test\.ts/,
    );
    expect(linesOf(error)).toHaveLength(2);
    expect([inner > 0, outer > 0]).toEqual([true, true]);
    expect(error.message).not.toMatch(/src\/|node:internal/);
    expect([throttle, resource, first, second].map(({ active, waiting }) => active + waiting)).toEqual([0, 0, 0, 0]);
    expect(keyed.size).toBe(0);
  });
});

test('the message names the lines of both calls, the gate, and the ways out', async () => {
  const throttle = new Throttle(Infinity, 1, 1, { name: 'db' });
  let inner = 0;
  const outer = here() + 1;
  const call = throttle.run(async () => {
    inner = here() + 1;
    await throttle.run(() => 'never');
  });
  const error = await errorOf(call);
  expect(linesOf(error)).toEqual([inner, outer]);
  expect(error.message).toContain('needs 1 slot of Throttle "db" (any rate, 1 at a time)');
  for (const advice of [
    'a throttle of its own',
    'AsyncLocalStorage.snapshot()',
    "configureDevelopment({ nested: 'warn' })",
  ])
    expect(error.message).toContain(advice);
});

test('a name that a program assigns to the error stays', async () => {
  const throttle = new Throttle(Infinity, 1);
  const error = await errorOf(throttle.run(() => throttle.acquire()));
  error.name = 'Mine';
  expect(`${error.name} ${error.toString().slice(0, 4)}`).toBe('Mine Mine');
});

test('of three calls deep, the message names each job that holds a slot, the innermost first', async () => {
  const throttle = new Throttle(Infinity, 2);
  const line = here();
  const third = (): Promise<unknown> => throttle.run(() => 0);
  const second = (): Promise<unknown> => throttle.run(third);
  const first = (): Promise<unknown> => throttle.run(second);
  expect(linesOf(await errorOf(first()))).toEqual([line + 1, line + 2, line + 3]);
  expect(throttle.active).toBe(0);
});

test('a long chain of jobs is cut in the message', async () => {
  const throttle = new Throttle(Infinity, 8);
  const jobs = [
    (next: () => Promise<unknown>) => throttle.run(next),
    (next: () => Promise<unknown>) => throttle.run(next),
    (next: () => Promise<unknown>) => throttle.run(next),
    (next: () => Promise<unknown>) => throttle.run(next),
    (next: () => Promise<unknown>) => throttle.run(next),
    (next: () => Promise<unknown>) => throttle.run(next),
    (next: () => Promise<unknown>) => throttle.run(next),
    (next: () => Promise<unknown>) => throttle.run(next),
  ];
  const chain = jobs.reduce<() => Promise<unknown>>(
    (next, job) => () => job(next),
    () => throttle.acquire(),
  );
  const error = await errorOf(chain());
  expect(linesOf(error)).toHaveLength(6);
  expect(error.message).toContain('and 3 more places');
});

test('two throttles that nest in each other: the second call of the first throttle rejects', async () => {
  const [a, b] = [new Throttle(Infinity, 1, 1, { name: 'a' }), new Throttle(Infinity, 1, 1, { name: 'b' })];
  const error = await errorOf(a.run(() => b.run(() => a.run(() => 0))));
  expect(error.message).toContain('Throttle "a"');
  expect([a.active, b.active]).toEqual([0, 0]);
});

test('a nested call that can be granted is untouched', async () => {
  const throttle = new Throttle(Infinity, 2);
  expect(await throttle.run(() => throttle.run(() => 'granted'))).toBe('granted');
  // One slot belongs to another job, which ends.
  const other = throttle.run(() => sleep(5));
  expect(await throttle.run(() => throttle.run(() => 'later'))).toBe('later');
  await other;
  const unlimited = new Throttle(100);
  expect(await unlimited.run(() => unlimited.run(() => 'unlimited'))).toBe('unlimited');
});

test('a nested call that waits for tokens only is untouched', async () => {
  const clock = new ManualClock();
  const throttle = new Throttle(1, 2, 1, { clock });
  const result = throttle.run(() => throttle.run(() => clock.now()));
  await clock.advance(1);
  expect(await result).toBe(1);
});

test.each([
  { concurrency: 4, outer: 3, inner: 2, nested: true },
  { concurrency: 4, outer: 2, inner: 2, nested: false },
  { concurrency: 4, outer: 4, inner: 0, nested: false },
  { concurrency: 1, outer: 0, inner: 1, nested: false },
])('slots count: $inner slots inside of $outer of $concurrency', async ({ concurrency, outer, inner, nested }) => {
  const throttle = new Throttle(Infinity, concurrency);
  const call = throttle.run(() => throttle.run(() => 'done', 1, { slots: inner }), 1, { slots: outer });
  if (nested) expect((await errorOf(call)).message).toContain('needs 2 slots of');
  else expect(await call).toBe('done');
});

test('a nested call behind a waiter that needs the slots of the job rejects', async () => {
  const throttle = new Throttle(Infinity, 2);
  const job = throttle.run(async () => {
    await sleep(2);
    return throttle.run(() => 'inner');
  });
  const both = throttle.run(() => 'both', 1, { slots: 2 });
  expect(await errorOf(job)).toBeInstanceOf(NestedAcquireError);
  expect(await both).toBe('both');
  // A waiter with one slot is no obstacle.
  const second = throttle.run(async () => {
    await sleep(2);
    return throttle.run(() => 'inner');
  });
  const others = [throttle.run(() => sleep(4)), throttle.run(() => 'other')];
  expect(await second).toBe('inner');
  await Promise.all(others);
  // A heavy waiter that has left is no obstacle.
  const third = throttle.run(async () => {
    await sleep(4);
    return throttle.run(() => 'inner');
  });
  await expect(throttle.acquire(1, { slots: 2, timeout: 0.001 })).rejects.toMatchObject({
    code: 'ERR_THROTTLE_TIMEOUT',
  });
  expect(await third).toBe('inner');
});

test('a call after the end of its job, or after an early release, is untouched', async () => {
  const throttle = new Throttle(Infinity, 1);
  let late: Promise<unknown> = Promise.resolve();
  await throttle.run(() => {
    late = sleep(1).then(() => Promise.all([throttle.run(() => sleep(1)), throttle.run(() => 'late')]));
  });
  expect(await late).toEqual([undefined, 'late']);
  const early = throttle.run(async (permit) => {
    permit.release();
    return Promise.all([throttle.run(() => sleep(1)), throttle.run(() => 'early')]);
  });
  expect(await early).toEqual([undefined, 'early']);
});

test('a call whose job has lost its permit by `ttl` is untouched', async () => {
  const clock = new ManualClock();
  const throttle = new Throttle(Infinity, 1, 1, { clock, ttl: 5 });
  const call = throttle.run(async () => {
    await clock.advance(5);
    const held = await throttle.acquire();
    const next = throttle.run(() => 'next');
    held.release();
    return next;
  });
  expect(await call).toBe('next');
});

test('`acquire` then `acquire` without a job is not judged', async () => {
  const throttle = new Throttle(Infinity, 1);
  const permit = await throttle.acquire();
  const second = throttle.acquire();
  await sleep(1);
  permit.release();
  (await second).release();
});

test('`tryAcquire` and `timeout: 0` fail as usual', async () => {
  const throttle = new Throttle(Infinity, 1);
  await throttle.run(async () => {
    expect(throttle.tryAcquire()).toBeUndefined();
    await expect(throttle.acquire(1, { timeout: 0 })).rejects.toMatchObject({ code: 'ERR_THROTTLE_TIMEOUT' });
  });
});

test('a nested call with a timeout, or in a race, rejects at once', async () => {
  const throttle = new Throttle(Infinity, 1);
  const timed = await errorOf(throttle.run(() => throttle.acquire(1, { timeout: 3600 })));
  const raced = await errorOf(throttle.run(() => Promise.race([throttle.run(() => 0), sleep(60_000)])));
  expect([timed.code, raced.code]).toEqual(['ERR_THROTTLE_NESTED', 'ERR_THROTTLE_NESTED']);
});

test('an invalid argument, an aborted signal and a closed throttle are reported as usual', async () => {
  const throttle = new Throttle(Infinity, 1);
  await throttle.run(async () => {
    await expect(throttle.acquire(-1)).rejects.toThrow(RangeError);
    await expect(throttle.acquire(1, { signal: AbortSignal.abort('gone') })).rejects.toBe('gone');
    throttle.close();
    await expect(throttle.acquire()).rejects.toMatchObject({ code: 'ERR_THROTTLE_CLOSED' });
  });
});

test('a gate of a user that delegates to a throttle is judged by the throttle', async () => {
  const throttle = new Throttle(Infinity, 1);
  const gate: Pick<Gate, 'acquire' | 'run'> = {
    acquire: (cost, options) => throttle.acquire(cost, options),
    run: (fn, cost, options) => throttle.run(fn, cost, options),
  };
  expect((await errorOf(gate.run(() => gate.acquire()))).code).toBe('ERR_THROTTLE_NESTED');
});

test('on Redis, a nested call rejects, and a call that can be granted is untouched', async () => {
  const client = { url: inject('redisUrl') };
  const prefix = `nested-${Math.random()}`;
  const one = new RedisThrottle({ client, key: 'one', prefix, concurrency: 1 });
  const two = new RedisThrottle({ client, key: 'two', prefix, concurrency: 2 });
  const keyed = new RedisKeyedThrottle({ client, prefix, concurrency: 1 });
  for (const call of [
    () => one.run(() => one.acquire()),
    () => one.map([1], () => one.run(() => 0)),
    () => keyed.run('ada', () => keyed.acquire('ada')),
    () => two.run(() => two.run(() => two.acquire())),
  ]) {
    const error = await errorOf(call());
    expect(error.code).toBe('ERR_THROTTLE_NESTED');
    expect(error.message).toMatch(/the call at .*nested\.test\.ts:\d+.* of the calls? at .*nested\.test\.ts:\d+/);
  }
  expect(await two.run(() => two.run(() => 'granted'))).toBe('granted');
  expect(await keyed.run('ada', () => keyed.run('bob', () => 'another key'))).toBe('another key');
  await one.run(async () => expect(await one.tryAcquire()).toBeUndefined());
  await Promise.all([one.close(), two.close(), keyed.close()]);
});

describe('a job that adds jobs without waiting for them', () => {
  /** Crawls pages 1 to 3: each page adds the next page. Returns the errors and the crawled pages. */
  const crawl = async (start: (call: () => Promise<unknown>) => Promise<unknown>): Promise<unknown[]> => {
    const throttle = new Throttle(Infinity, 1);
    const log: unknown[] = [];
    const visit = (page: number): Promise<unknown> =>
      throttle.run(async () => {
        log.push(page);
        if (page < 3) start(() => visit(page + 1)).catch((error: { code: string }) => void log.push(error.code));
        await sleep(1);
      });
    await visit(1);
    await throttle.idle();
    return log;
  };
  const plain = (call: () => Promise<unknown>): Promise<unknown> => call();

  test('rejects by default', async () => {
    expect(await crawl(plain)).toEqual([1, 'ERR_THROTTLE_NESTED']);
  });

  test('works outside of the job, by a snapshot of AsyncLocalStorage', async () => {
    expect(await crawl(AsyncLocalStorage.snapshot())).toEqual([1, 2, 3]);
  });

  test("works with nested: 'ignore', without a warning", async () => {
    configureDevelopment({ nested: 'ignore' });
    const warnings = await warningsOf(async () => expect(await crawl(plain)).toEqual([1, 2, 3]));
    expect(warnings).toEqual([]);
  });

  test("works with nested: 'warn', with one warning for the place", async () => {
    configureDevelopment({ nested: 'warn' });
    const warnings = await warningsOf(async () => {
      expect(await crawl(plain)).toEqual([1, 2, 3]);
      expect(await crawl(plain)).toEqual([1, 2, 3]);
    });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatchObject({ name: 'HeadgateWarning', code: 'HEADGATE_NESTED_ACQUIRE' });
    expect(warnings[0]?.message).toMatch(/a job waits for itself: the call at .*nested\.test\.ts/);
    expect(warnings[0]?.detail).toMatch(/^ {4}at .*nested\.test\.ts:\d+:\d+/);
  });
});

test('a chain of twenty thousand jobs that each start the next does not grow', async () => {
  configureDevelopment({ nested: 'ignore' });
  const throttle = new Throttle(Infinity, 3);
  const chain = (length: number): Promise<NodeJS.Timeout> => {
    let left = length;
    return new Promise((resolve) => {
      const visit = (): Promise<void> =>
        throttle.run(async () => {
          if (--left > 0) void visit();
          // The timer keeps the asynchronous context of the last job.
          else resolve(setTimeout(() => {}, 60_000));
          // The next job starts before this job ends.
          for (let tick = 0; tick < 8; tick++) await undefined;
        });
      void visit();
    });
  };
  const heap = async (): Promise<number> => {
    for (let round = 0; round < 3; round++) {
      globalThis.gc?.();
      await sleep(0);
    }
    return process.memoryUsage().heapUsed;
  };
  clearTimeout(await chain(2_000));
  const before = await heap();
  const last = await chain(20_000);
  const after = await heap();
  clearTimeout(last);
  expect((after - before) / 20_000).toBeLessThan(20);
});

test('the function runs in the context of its caller, and the result passes through', async () => {
  const storage = new AsyncLocalStorage<string>();
  const throttle = new Throttle(Infinity, 1);
  const results = await Promise.all(
    ['a', 'b'].map((name) => storage.run(name, () => throttle.run(async () => `${storage.getStore()} ${name}`))),
  );
  expect(results).toEqual(['a a', 'b b']);
  const error = new Error('mine');
  await expect(throttle.run(() => Promise.reject(error))).rejects.toBe(error);
});

describe('configureDevelopment', () => {
  test.each<{ options: unknown; message: string }>([
    { options: undefined, message: 'options must be an object, received undefined' },
    { options: { nested: 'no' }, message: `nested must be 'reject', 'warn' or 'ignore', received "no"` },
    { options: { leaks: 1 }, message: 'leaks must be a boolean, received 1' },
    { options: { leak: true }, message: 'unknown option "leak" of configureDevelopment' },
    { options: { toString: 1 }, message: 'unknown option "toString" of configureDevelopment' },
  ])('refuses $options', ({ options, message }) => {
    expect(() => configureDevelopment(options as never)).toThrow(message);
    expect(() => configureDevelopment(options as never)).toThrow(TypeError);
  });

  test('changes nothing if one setting is invalid, and keeps a setting that is left out or undefined', async () => {
    const throttle = new Throttle(Infinity, 1);
    expect(() => configureDevelopment({ nested: 'ignore', leaks: 1 as never })).toThrow('leaks');
    configureDevelopment({ nested: undefined });
    configureDevelopment({});
    expect((await errorOf(throttle.run(() => throttle.acquire()))).code).toBe('ERR_THROTTLE_NESTED');
  });
});
