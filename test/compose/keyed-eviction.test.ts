/** Eviction: a key is evicted exactly when its throttle equals a new one. */
import fc from 'fast-check';
import { type Clock, KeyedThrottle, type KeyedThrottleOptions, type Limits, type Permit, Throttle } from 'headgate';
import { describe, expect, test } from 'vitest';
import { setUpKeyed } from '../support/support.js';

describe('eviction', () => {
  test('a key is evicted when it has no permit, no waiter, a full bucket and no pause, and no earlier', async () => {
    const { clock, keyed } = setUpKeyed(10, 1, 1);
    const permit = await keyed.acquire('a', 5);
    await clock.advance(10);
    expect(keyed.size).toBe(1);
    permit.release();
    expect(keyed.size).toBe(0);

    await keyed.run('a', () => 1, 5);
    await clock.advance(0.5 - 1e-6);
    expect([keyed.size, keyed.peek('a') === undefined]).toEqual([1, false]);
    await clock.advance(1e-6);
    expect([keyed.size, keyed.peek('a') === undefined]).toEqual([0, true]);

    keyed.pause('a', 3);
    await clock.advance(2.999);
    expect(keyed.size).toBe(1);
    await clock.advance(0.001);
    expect(keyed.size).toBe(0);

    const running = await keyed.acquire('a', 0);
    const abort = new AbortController();
    const waiting = keyed.acquire('a', 0, { signal: abort.signal });
    expect(keyed.peek('a')?.waiting).toBe(1);
    abort.abort();
    await expect(waiting).rejects.toBe(abort.signal.reason);
    running.release();
    expect(keyed.size).toBe(0);
  });

  test('a refund and resume make a key evictable at once', () => {
    const { keyed } = setUpKeyed(1, 0, 3600);
    const permit = keyed.tryAcquire('a');
    permit?.release();
    expect(keyed.size).toBe(1);
    permit?.refund();
    expect(keyed.size).toBe(0);
    keyed.pause('a', 3600);
    expect(keyed.size).toBe(1);
    keyed.resume('a');
    expect(keyed.size).toBe(0);
  });

  test('a sliding window is full after its last grant expires, and several rates must all be full', async () => {
    const { clock, keyed } = setUpKeyed(10, 0, 1, { window: 'sliding' });
    keyed.tryAcquire('a', 5)?.release();
    await clock.advance(0.5);
    keyed.tryAcquire('a', 1)?.release();
    await clock.advance(0.999);
    expect(keyed.size).toBe(1);
    await clock.advance(0.001);
    expect(keyed.size).toBe(0);

    const several = setUpKeyed(10, 0, 1, { also: [{ capacity: 100, period: 60 }] });
    several.keyed.tryAcquire('a', 5)?.release();
    await several.clock.advance(2.9);
    expect(several.keyed.size).toBe(1);
    await several.clock.advance(0.1);
    expect(several.keyed.size).toBe(0);
  });

  test('a key with a waiter and no permit stays live', async () => {
    const { clock, keyed } = setUpKeyed(Infinity, 1);
    const running = await keyed.acquire('a');
    const waiting = keyed.acquire('a');
    keyed.pause('a', 100);
    running.release();
    expect([keyed.size, keyed.peek('a')?.waiting]).toEqual([1, 1]);
    await clock.advance(100);
    expect((await waiting).waited).toBe(100);
    expect(keyed.size).toBe(1);
  });

  test.each<Limits>([{ capacity: 9 }, { concurrency: 2 }, { period: 2 }, { burst: 9 }])(
    'a key with different limits stays live: %o',
    async (limits) => {
      const { clock, keyed } = setUpKeyed(10, 1, 1, { burst: 10 });
      keyed.tryAcquire('vip')?.release();
      keyed.peek('vip')?.configure(limits);
      await clock.advance(1e6);
      expect(keyed.size).toBe(1);
      await keyed.run('vip', () => 1, 9);
      await clock.advance(1e6);
      expect(keyed.peek('vip')).toMatchObject(limits);
      keyed.peek('vip')?.configure({ capacity: 10, concurrency: 1, period: 1, burst: 10 });
      await clock.advance(1e6);
      expect(keyed.size).toBe(0);
    },
  );

  test('an eviction leaves a new throttle of the same key untouched', async () => {
    const { clock, keyed } = setUpKeyed(10);
    keyed.tryAcquire('a', 10)?.release();
    await clock.advance(1);
    expect(keyed.peek('a')).toBeUndefined();
    keyed.tryAcquire('a', 10)?.release();
    expect([keyed.size, keyed.peek('a')?.tokens]).toEqual([1, 0]);
  });

  test('the current throttle of an evicted key takes a late debt', async () => {
    const { clock, keyed } = setUpKeyed(10);
    const [first, second] = [keyed.tryAcquire('a'), keyed.tryAcquire('a')];
    first?.release();
    second?.release();
    await clock.advance(1);
    expect(keyed.size).toBe(0);
    // With the true cost of 21 the level would have been -12. Ten tokens have been refilled since.
    first?.settle(21);
    expect([keyed.size, keyed.peek('a')?.tokens]).toEqual([1, -2]);
    await clock.advance(1.2);
    expect(keyed.size).toBe(0);
    keyed.tryAcquire('a', 4);
    // With the true cost of 3 the bucket would become full in 0.2 s, so it would hold 8 now. 4 of them are spent.
    second?.settle(3);
    expect(keyed.peek('a')?.tokens).toBeCloseTo(4, 9);
  });

  test('a new throttle without a grant takes the late debt of an evicted throttle', async () => {
    const { clock, keyed } = setUpKeyed(10, 0, 1, { also: [{ capacity: 100, period: 60 }] });
    const old = keyed.tryAcquire('a');
    old?.release();
    await clock.advance(1);
    expect(keyed.size).toBe(0);
    // The pause creates a new throttle for the key.
    keyed.pause('a', 60);
    old?.settle(21);
    // With the true cost of 21 the level would have been -11. Ten tokens have been refilled since.
    expect(keyed.peek('a')?.tokens).toBe(-1);
  });

  test('a late refund to an evicted throttle adds no tokens to the new throttle of the key', async () => {
    const { clock, keyed } = setUpKeyed(10);
    const old = keyed.tryAcquire('a', 10);
    old?.release();
    await clock.advance(1);
    expect(keyed.size).toBe(0);
    keyed.tryAcquire('a', 10);
    old?.refund();
    expect(keyed.peek('a')?.tokens).toBe(0);
    await clock.advance(0.5);
    // A heap entry of the old throttle must not evict the new throttle.
    expect([keyed.size, keyed.peek('a')?.tokens]).toEqual([1, 5]);
  });

  test('each of many keys is evicted at its own instant, for every order in which the keys become idle', () => {
    const history = fc.array(fc.tuple(fc.nat(30), fc.integer({ min: 0, max: 16 }), fc.integer({ min: 0, max: 4 })), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(history, (uses) => {
        let now = 0;
        const keyed = new KeyedThrottle<number>(1, 0, 1, {
          burst: 16,
          clock: { now: () => now, schedule: () => () => {} },
        });
        const fullAt = new Map<number, number>();
        for (const [name, cost, pause] of uses) {
          const permit = keyed.tryAcquire(name, cost);
          permit?.release();
          if (permit !== undefined) fullAt.set(name, Math.max(now, fullAt.get(name) ?? now) + cost);
          now += pause;
          expect(keyed.size).toBe([...fullAt.values()].filter((at) => at > now).length);
        }
      }),
    );
  });

  test('a key that was closed through peek stays live', async () => {
    const { clock, keyed } = setUpKeyed();
    keyed.tryAcquire('a')?.release();
    keyed.peek('a')?.close('banned');
    await clock.advance(1e6);
    expect(keyed.size).toBe(1);
    await expect(keyed.acquire('a')).rejects.toMatchObject({ cause: 'banned' });
    expect(keyed.tryAcquire('b')).toBeDefined();
  });

  test('trap 27: a key is evicted only when idle, full and unpaused, and quota never returns early', async () => {
    const { clock, keyed } = setUpKeyed(10, 0, 100);
    keyed.tryAcquire('a', 10)?.release();
    // The calls for thousands of other keys run evictions.
    for (let index = 0; index < 5_000; index++) {
      keyed.tryAcquire(`other ${index}`, 0)?.release();
      if (index % 50 === 0) await clock.advance(0.5);
    }
    expect(keyed.peek('a')?.tokens).toBeCloseTo(5);
    expect(keyed.tryAcquire('a', 6)).toBeUndefined();
    await clock.advance(50);
    expect(keyed.peek('a')).toBeUndefined();
  });
});

/** One step of a history that a keyed throttle and never-evicted throttles both execute. */
type Step =
  | { do: 'take'; key: string; cost: number }
  | { do: 'release' | 'refund'; permit: number }
  | { do: 'settle'; permit: number; cost: number }
  | { do: 'pause'; key: string; seconds: number }
  | { do: 'resume'; key: string }
  | { do: 'advance'; seconds: number };

const key = fc.constantFrom('a', 'b', 'c');
const eighths = fc.integer({ min: 0, max: 40 }).map((value) => value / 8);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('take' as const), key, cost: fc.constantFrom(0, 0.5, 1, 2, 4) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('release' as const), permit: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('refund' as const), permit: fc.nat(20) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('settle' as const), permit: fc.nat(20), cost: eighths }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pause' as const), key, seconds: eighths }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('resume' as const), key }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), seconds: eighths }) },
);

describe('compared with throttles that are never evicted', () => {
  test.each<{ title: string; options: KeyedThrottleOptions }>([
    { title: 'a bucket', options: { burst: 4 } },
    { title: 'a bucket, and a slower one', options: { burst: 4, also: [{ capacity: 8, period: 8, burst: 8 }] } },
    { title: 'a sliding window', options: { window: 'sliding' } },
  ])(
    '$title: every call has the same result, and exactly the keys that differ from new ones are live',
    ({ options }) => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
          // No call waits, so the clock needs no timers.
          let now = 0;
          const clock: Clock = { now: () => now, schedule: () => () => {} };
          const keyed = new KeyedThrottle(4, 2, 2, { ...options, clock });
          const references = new Map(
            ['a', 'b', 'c'].map((name) => [name, new Throttle(4, 2, 2, { ...options, clock })]),
          );
          const permits: { permit: Permit; reference: Permit }[] = [];
          for (const action of steps) {
            const pair = 'permit' in action ? permits[action.permit % Math.max(1, permits.length)] : undefined;
            if (action.do === 'take') {
              const [permit, reference] = [
                keyed.tryAcquire(action.key, action.cost),
                references.get(action.key)?.tryAcquire(action.cost),
              ];
              expect(permit === undefined).toBe(reference === undefined);
              if (permit && reference) permits.push({ permit, reference });
            }
            for (const permit of [pair?.permit, pair?.reference]) {
              if (action.do === 'release') permit?.release();
              if (action.do === 'refund') permit?.refund();
              if (action.do === 'settle') permit?.settle(action.cost);
            }
            if (action.do === 'pause') {
              keyed.pause(action.key, action.seconds);
              references.get(action.key)?.pause(action.seconds);
            }
            if (action.do === 'resume') {
              keyed.resume(action.key);
              references.get(action.key)?.resume();
            }
            if (action.do === 'advance') now += action.seconds;
            let live = 0;
            for (const [name, reference] of references) {
              // With several rates `tokens` is the lowest level. `estimateWait` of a large cost shows the others.
              const equalsNew =
                reference.active === 0 &&
                reference.pausedFor === 0 &&
                (options.also === undefined ? reference.tokens === reference.burst : undefined);
              if (equalsNew !== undefined && !equalsNew) live++;
              const throttle = keyed.peek(name);
              if (equalsNew !== undefined) expect(throttle === undefined).toBe(equalsNew);
              for (const cost of [0, 1, reference.burst])
                expect(throttle?.estimateWait(cost) ?? 0).toBe(reference.estimateWait(cost));
            }
            if (options.also === undefined) expect(keyed.size).toBe(live);
          }
          // At the end every key is evicted, with any rates.
          for (const { permit } of permits) permit.release();
          for (const name of references.keys()) keyed.resume(name);
          now += 1e6;
          expect(keyed.size).toBe(0);
        }),
        { numRuns: 2_000 },
      );
    },
  );
});

test('a late debt is stored even beyond maxKeys', () => {
  let now = 0;
  const keyed = new KeyedThrottle<number>(10, 0, 1, {
    maxKeys: 1,
    clock: { now: () => now, schedule: () => () => {} },
  });
  const permits = Array.from({ length: 3 }, (_, name) => {
    const permit = keyed.tryAcquire(name);
    permit?.release();
    now += 1;
    return permit;
  });
  expect(keyed.size).toBe(0);
  for (const permit of permits) permit?.settle(41);
  expect(keyed.size).toBe(3);
  expect(keyed.tryAcquire(5)).toBeUndefined();
  // The debt of the last key is paid after 3.1 s.
  now += 3.2;
  expect(keyed.tryAcquire(5)).toBeDefined();
});
