/** Leaks: no waiter, listener, timer or memory remains after many calls. */
import { getEventListeners } from 'node:events';
import { KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { beforeAll, expect, test } from 'vitest';
import { setUp, take } from './support/support.js';

const MEGABYTE = 2 ** 20;

beforeAll(() => {
  if (globalThis.gc === undefined) throw new Error('run with --expose-gc: this file cannot measure memory without it');
});

/** Runs the garbage collector several times, so that it also clears weak references. */
const collect = async (): Promise<void> => {
  for (let round = 0; round < 4; round++) {
    globalThis.gc?.();
    await new Promise((resolve) => void setImmediate(resolve));
  }
};

const heapUsed = async (): Promise<number> => {
  await collect();
  return process.memoryUsage().heapUsed;
};

const ignore = (): void => {};

test('a million granted, aborted, late and refused calls leave no waiter, listener, timer or memory', async () => {
  const { clock, throttle } = setUp(Infinity, 4, 1, { maxQueue: 64 });
  const rated = new Throttle(4_000, 0, 1, { clock, burst: 2 });
  // A signal that never aborts. Granted, refused and late calls share it.
  const longLived = new AbortController().signal;

  /** Makes 50 calls that all settle within the round. */
  const round = async (): Promise<void> => {
    const stop = new AbortController();
    const holders = [take(throttle), take(throttle), take(throttle), take(throttle)];
    const settled: Promise<unknown>[] = [];
    for (let index = 0; index < 4; index++) {
      settled.push(
        // Granted after a wait, with and without a timeout and a signal.
        throttle.acquire().then((permit) => permit.release()),
        throttle.acquire(1, { signal: longLived, timeout: 60 }).then((permit) => permit.release()),
        throttle.run(ignore, 1, { signal: longLived }),
        throttle.run(() => Promise.reject(new Error('no')), 1).catch(ignore),
        // Aborted or late after a wait.
        throttle.acquire(1, { signal: stop.signal, timeout: 60 }).catch(ignore),
        throttle.run(ignore, 1, { signal: stop.signal }).catch(ignore),
        throttle.acquire(1, { signal: longLived, timeout: 0.001 }).catch(ignore),
        throttle.run(ignore, 1, { timeout: 0.001 }).catch(ignore),
        // Refused at once.
        throttle.acquire(1, { signal: longLived, timeout: 0 }).catch(ignore),
        throttle.acquire(1, { signal: AbortSignal.abort(0) }).catch(ignore),
        // Two of the four calls wait for tokens.
        rated.acquire(1, { signal: longLived, timeout: 60 }).then((permit) => permit.release()),
      );
    }
    settled.push(throttle.acquire(-1).catch(ignore), throttle.map([1], ignore, { signal: longLived }).catch(ignore));
    stop.abort(0);
    await clock.advance(0.001);
    for (const holder of holders) {
      holder.release();
      holder.release();
    }
    await Promise.all(settled);
  };

  for (let index = 0; index < 2_000; index++) await round();
  const before = await heapUsed();
  for (let index = 0; index < 18_000; index++) await round();
  const after = await heapUsed();

  expect({
    active: throttle.active + rated.active,
    waiting: throttle.waiting + rated.waiting,
    listeners: getEventListeners(longLived, 'abort').length,
    timers: clock.pending,
  }).toEqual({ active: 0, waiting: 0, listeners: 0, timers: 0 });
  expect(after - before).toBeLessThan(2 * MEGABYTE);
});

test('calls on keys, windows and resources leave no key, waiter, listener, timer or memory', async () => {
  const { clock, throttle } = setUp(8, 0, 1, { window: 'sliding', also: [{ capacity: 60, period: 10 }] });
  const keyed = new KeyedThrottle<number>(40, 2, 1, { clock, maxQueue: 4, maxKeys: 20 });
  const resources = [new Resource(3, { clock }), new Resource(1, { clock }), throttle];
  const limiter = new Limiter({ timeout: 0.5, resources, clock });
  const all = limiter.resources(resources);
  const longLived = new AbortController().signal;
  let key = 0;

  const round = async (): Promise<void> => {
    const stop = new AbortController();
    const settled: Promise<unknown>[] = [];
    for (let index = 0; index < 6; index++) {
      // More keys than `maxKeys`, and more waiters of one key than `maxQueue`.
      key++;
      settled.push(
        keyed.run(key, ignore, 1, { signal: longLived, timeout: 60 }).catch(ignore),
        keyed.run(0, ignore, 1, { signal: stop.signal }).catch(ignore),
        keyed.acquire(key, 5).then((permit) => permit[Symbol.asyncDispose](), ignore),
        all.run(ignore, 1, { signal: longLived }).catch(ignore),
        all.acquire(1, { signal: stop.signal }).then((permit) => permit.release(), ignore),
        all.acquire(1, { timeout: 0 }).then((permit) => permit.release(), ignore),
        all.tryAcquire().then((permit) => permit?.refund() ?? permit?.release()),
        limiter
          .resources([resources[1] as Resource])(() => Promise.reject(new Error('its own')))()
          .catch(ignore),
      );
    }
    stop.abort(0);
    await clock.runAll();
    await Promise.all(settled);
  };

  for (let index = 0; index < 400; index++) await round();
  await clock.advance(10);
  const before = await heapUsed();
  for (let index = 0; index < 4_000; index++) await round();
  await clock.advance(10);
  const after = await heapUsed();
  const gates = [...resources, ...Array.from({ length: key + 1 }, (_, name) => keyed.peek(name))];
  expect(
    gates.map((gate) => (gate === undefined ? 0 : gate.active + gate.waiting)).filter((count) => count > 0),
  ).toEqual([]);
  expect({
    keys: keyed.size,
    tokens: throttle.tokens,
    listeners: getEventListeners(longLived, 'abort').length,
    timers: clock.pending,
  }).toEqual({ keys: 0, tokens: 8, listeners: 0, timers: 0 });
  expect(after - before).toBeLessThan(MEGABYTE);
});

test('a million aborted waiters behind a blocked head use no memory', async () => {
  const { clock, throttle } = setUp(Infinity, 1);
  take(throttle);
  const head = throttle.acquire();
  const longLived = new AbortController();
  const last = throttle.acquire(1, { signal: longLived.signal });
  const batch = async (count: number): Promise<void> => {
    const stop = new AbortController();
    const aborted = Array.from({ length: count }, () => throttle.acquire(1, { signal: stop.signal }).catch(ignore));
    stop.abort(0);
    await Promise.all(aborted);
  };
  for (let index = 0; index < 20; index++) await batch(1_000);
  const before = await heapUsed();
  for (let index = 0; index < 980; index++) await batch(1_000);
  const after = await heapUsed();
  expect([throttle.waiting, throttle.active, clock.pending]).toEqual([2, 1, 0]);
  expect(after - before).toBeLessThan(MEGABYTE);
  throttle.close();
  await expect(Promise.allSettled([head, last])).resolves.toHaveLength(2);
  expect(getEventListeners(longLived.signal, 'abort')).toHaveLength(0);
});

test('the garbage collector frees the objects of aborted and late waiters behind a blocked head', async () => {
  const { clock, throttle } = setUp(Infinity, 1);
  take(throttle);
  const head = throttle.acquire();
  const longLived = new AbortController().signal;
  const weak: Record<string, WeakRef<object>> = {};

  // A separate function, so that no variable of this test references the objects.
  const refuseWaiters = async (): Promise<void> => {
    const stop = new AbortController();
    const work = (): void => {};
    const late = (): void => {};
    const reason = new Error('enough');
    const aborted = throttle.run(work, 1, { signal: stop.signal, timeout: 60 });
    const timedOut = throttle.run(late, 1, { signal: longLived, timeout: 1 });
    weak['signal'] = new WeakRef(stop.signal);
    weak['work'] = new WeakRef(work);
    weak['late work'] = new WeakRef(late);
    weak['reason'] = new WeakRef(reason);
    weak['promise'] = new WeakRef(aborted);
    weak['late promise'] = new WeakRef(timedOut);
    stop.abort(reason);
    await Promise.all([clock.advance(1), aborted.catch(ignore), timedOut.catch(ignore)]);
  };
  await refuseWaiters();
  await collect();
  const held = Object.keys(weak).filter((name) => weak[name]?.deref() !== undefined);
  expect(held).toEqual([]);
  expect([throttle.waiting, clock.pending]).toEqual([1, 0]);
  throttle.close();
  await expect(head).rejects.toThrow();
});

test('the garbage collector frees an unreferenced throttle, although a signal that it used stays alive', async () => {
  const longLived = new AbortController().signal;
  const use = async (): Promise<WeakRef<Throttle>> => {
    const { clock, throttle } = setUp(10, 1);
    const holder = take(throttle, 10);
    const stop = new AbortController();
    const waiters = [
      throttle.acquire(1, { signal: stop.signal }).catch(ignore),
      throttle.acquire(1, { signal: longLived }).then((permit) => permit.release()),
      throttle.map([1, 2], ignore, { signal: longLived }),
    ];
    stop.abort();
    holder.release();
    await clock.runAll();
    await Promise.all(waiters);
    return new WeakRef(throttle);
  };
  const weak = await use();
  await collect();
  expect(weak.deref()).toBeUndefined();
  expect(getEventListeners(longLived, 'abort')).toHaveLength(0);
});
