/** Nothing is left behind: neither waiters, listeners and timers, nor memory. */
import { getEventListeners } from 'node:events';
import { KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { beforeAll, expect, test } from 'vitest';
import { setUp, take } from './support/support.js';

const MEGABYTE = 2 ** 20;

beforeAll(() => {
  if (globalThis.gc === undefined) throw new Error('run with --expose-gc: without it nothing is tested here');
});

/** Collects all that can be collected, finalizers and weak references included. */
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

test(
  'a million acquires, granted, aborted, timed out, refused: everything is back where it was',
  { timeout: 60_000 },
  async () => {
    const { clock, throttle } = setUp(Infinity, 4, 1, { maxQueue: 64 });
    const rated = new Throttle(4_000, 0, 1, { clock, burst: 2 });
    // Long-lived: never aborted, and shared by all that are granted, refused or late.
    const lasting = new AbortController().signal;

    /** 50 acquires, each on its way out. */
    const round = async (): Promise<void> => {
      const stop = new AbortController();
      const holders = [take(throttle), take(throttle), take(throttle), take(throttle)];
      const ends: Promise<unknown>[] = [];
      for (let index = 0; index < 4; index++) {
        ends.push(
          // Waits and is granted, with and without ways to leave.
          throttle.acquire().then((permit) => permit.release()),
          throttle.acquire(1, { signal: lasting, timeout: 60 }).then((permit) => permit.release()),
          throttle.run(ignore, 1, { signal: lasting }),
          throttle.run(() => Promise.reject(new Error('no')), 1).catch(ignore),
          // Waits and leaves.
          throttle.acquire(1, { signal: stop.signal, timeout: 60 }).catch(ignore),
          throttle.run(ignore, 1, { signal: stop.signal }).catch(ignore),
          throttle.acquire(1, { signal: lasting, timeout: 0.001 }).catch(ignore),
          throttle.run(ignore, 1, { timeout: 0.001 }).catch(ignore),
          // Never gets in.
          throttle.acquire(1, { signal: lasting, timeout: 0 }).catch(ignore),
          throttle.acquire(1, { signal: AbortSignal.abort(0) }).catch(ignore),
          // Waits for tokens: two of the four.
          rated.acquire(1, { signal: lasting, timeout: 60 }).then((permit) => permit.release()),
        );
      }
      ends.push(throttle.acquire(-1).catch(ignore), throttle.map([1], ignore, { signal: lasting }).catch(ignore));
      stop.abort(0);
      await clock.advance(0.001);
      for (const holder of holders) {
        holder.release();
        holder.release();
      }
      await Promise.all(ends);
    };

    for (let index = 0; index < 2_000; index++) await round();
    const before = await heapUsed();
    for (let index = 0; index < 18_000; index++) await round();
    const after = await heapUsed();

    expect({
      active: throttle.active + rated.active,
      waiting: throttle.waiting + rated.waiting,
      listeners: getEventListeners(lasting, 'abort').length,
      timers: clock.pending,
    }).toEqual({ active: 0, waiting: 0, listeners: 0, timers: 0 });
    expect(after - before).toBeLessThan(2 * MEGABYTE);
  },
);

test(
  'keys, windows and several resources, granted, aborted, timed out, refused: everything is back where it was',
  { timeout: 60_000 },
  async () => {
    const { clock, throttle } = setUp(8, 0, 1, { window: 'sliding', also: [{ capacity: 60, period: 10 }] });
    const keyed = new KeyedThrottle<number>(40, 2, 1, { clock, maxQueue: 4, maxKeys: 20 });
    const resources = [new Resource(3, { clock }), new Resource(1, { clock }), throttle];
    const limiter = new Limiter({ timeout: 0.5, resources, clock });
    const all = limiter.resources(resources);
    const lasting = new AbortController().signal;
    let key = 0;

    const round = async (): Promise<void> => {
      const stop = new AbortController();
      const ends: Promise<unknown>[] = [];
      for (let index = 0; index < 6; index++) {
        // More keys than there may be, and more who wait for one of them.
        key++;
        ends.push(
          keyed.run(key, ignore, 1, { signal: lasting, timeout: 60 }).catch(ignore),
          keyed.run(0, ignore, 1, { signal: stop.signal }).catch(ignore),
          keyed.acquire(key, 5).then((permit) => permit[Symbol.asyncDispose](), ignore),
          all.run(ignore, 1, { signal: lasting }).catch(ignore),
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
      await Promise.all(ends);
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
      listeners: getEventListeners(lasting, 'abort').length,
      timers: clock.pending,
    }).toEqual({ keys: 0, tokens: 8, listeners: 0, timers: 0 });
    expect(after - before).toBeLessThan(MEGABYTE);
  },
);

test('a million waiters join and abort behind a head that is stuck for ever: the queue does not grow', async () => {
  const { clock, throttle } = setUp(Infinity, 1);
  take(throttle);
  const head = throttle.acquire();
  const lasting = new AbortController();
  const last = throttle.acquire(1, { signal: lasting.signal });
  const batch = async (count: number): Promise<void> => {
    const stop = new AbortController();
    const gone = Array.from({ length: count }, () => throttle.acquire(1, { signal: stop.signal }).catch(ignore));
    stop.abort(0);
    await Promise.all(gone);
  };
  for (let index = 0; index < 20; index++) await batch(1_000);
  const before = await heapUsed();
  for (let index = 0; index < 980; index++) await batch(1_000);
  const after = await heapUsed();
  expect([throttle.waiting, throttle.active, clock.pending]).toEqual([2, 1, 0]);
  expect(after - before).toBeLessThan(MEGABYTE);
  throttle.close();
  await expect(Promise.allSettled([head, last])).resolves.toHaveLength(2);
  expect(getEventListeners(lasting.signal, 'abort')).toHaveLength(0);
});

test('what an aborted, late or refused waiter held can be collected, behind a head that is stuck for ever', async () => {
  const { clock, throttle } = setUp(Infinity, 1);
  take(throttle);
  const head = throttle.acquire();
  const lasting = new AbortController().signal;
  const weak: Record<string, WeakRef<object>> = {};

  // In a function of its own, so that no variable here holds on to what it made.
  const leave = async (): Promise<void> => {
    const stop = new AbortController();
    const work = (): void => {};
    const late = (): void => {};
    const reason = new Error('enough');
    const gone = throttle.run(work, 1, { signal: stop.signal, timeout: 60 });
    const timedOut = throttle.run(late, 1, { signal: lasting, timeout: 1 });
    weak['signal'] = new WeakRef(stop.signal);
    weak['work'] = new WeakRef(work);
    weak['late work'] = new WeakRef(late);
    weak['reason'] = new WeakRef(reason);
    weak['promise'] = new WeakRef(gone);
    weak['late promise'] = new WeakRef(timedOut);
    stop.abort(reason);
    await Promise.all([clock.advance(1), gone.catch(ignore), timedOut.catch(ignore)]);
  };
  await leave();
  await collect();
  const held = Object.keys(weak).filter((name) => weak[name]?.deref() !== undefined);
  expect(held).toEqual([]);
  expect([throttle.waiting, clock.pending]).toEqual([1, 0]);
  throttle.close();
  await expect(head).rejects.toThrow();
});

test('a throttle that nobody holds can be collected, whatever it has done, while a signal it knew lives on', async () => {
  const lasting = new AbortController().signal;
  const use = async (): Promise<WeakRef<Throttle>> => {
    const { clock, throttle } = setUp(10, 1);
    const holder = take(throttle, 10);
    const stop = new AbortController();
    const waiters = [
      throttle.acquire(1, { signal: stop.signal }).catch(ignore),
      throttle.acquire(1, { signal: lasting }).then((permit) => permit.release()),
      throttle.map([1, 2], ignore, { signal: lasting }),
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
  expect(getEventListeners(lasting, 'abort')).toHaveLength(0);
});
