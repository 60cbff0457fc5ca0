/** A throttle for each key: it behaves as if none were ever dropped, and remembers no more than that takes. */
import fc from 'fast-check';
import {
  type Clock,
  KeyedThrottle,
  type KeyedThrottleOptions,
  type Limits,
  type Permit,
  QueueFullError,
  Throttle,
  ThrottleClosedError,
} from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { heap } from '../support/support.js';

const setUp = (
  capacity = 10,
  concurrency = 0,
  period = 1,
  options: KeyedThrottleOptions = {},
): { clock: ManualClock; keyed: KeyedThrottle } => {
  const clock = new ManualClock();
  return { clock, keyed: new KeyedThrottle(capacity, concurrency, period, { clock, ...options }) };
};

describe('keys', () => {
  test('each have limits of their own', async () => {
    const { keyed } = setUp(2, 1);
    const a = await keyed.acquire('a');
    expect(keyed.tryAcquire('a')).toBeUndefined();
    expect(keyed.tryAcquire('b')).toBeDefined();
    a.release();
    expect(keyed.tryAcquire('a')).toBeDefined();
    expect(keyed.tryAcquire('a')).toBeUndefined();
  });

  test('wait each in a queue of their own', async () => {
    const { clock, keyed } = setUp(1);
    const order: string[] = [];
    const all = ['a', 'a', 'b', 'a', 'b'].map((key, index) =>
      keyed.run(key, () => order.push(`${key}${index}@${clock.now()}`)),
    );
    await clock.advance(5);
    await Promise.all(all);
    expect(order).toEqual(['a0@0', 'b2@0', 'a1@1', 'b4@1', 'a3@2']);
  });

  test('are paused and resumed each by itself', async () => {
    const { clock, keyed } = setUp();
    keyed.pause('a', 5);
    expect(keyed.tryAcquire('a')).toBeUndefined();
    expect(keyed.tryAcquire('b')).toBeDefined();
    keyed.resume('a');
    expect(keyed.tryAcquire('a')).toBeDefined();
    keyed.resume('nobody');
    expect(keyed.peek('nobody')).toBeUndefined();
    keyed.pause('c');
    await clock.advance(1e9);
    expect(keyed.peek('c')?.pausedFor).toBe(Infinity);
  });

  test('may be anything but nothing', async () => {
    const key = {};
    const keyed = new KeyedThrottle<unknown>(1, 1);
    expect(keyed.tryAcquire(key)).toBeDefined();
    expect(keyed.tryAcquire(key)).toBeUndefined();
    expect(keyed.tryAcquire({})).toBeDefined();
    expect(keyed.tryAcquire('')).toBeDefined();
    for (const nothing of [undefined, null]) {
      const message = `key must be one that tells callers apart, received ${nothing}`;
      await expect(keyed.acquire(nothing)).rejects.toThrow(new TypeError(message));
      await expect(keyed.run(nothing, () => 1)).rejects.toThrow(new TypeError(message));
      expect(() => keyed.tryAcquire(nothing)).toThrow(new TypeError(message));
      expect(() => keyed.pause(nothing)).toThrow(new TypeError(message));
    }
    expect(keyed.size).toBe(3);
  });

  test('carry the options over, and what fn returns or throws', async () => {
    const { clock, keyed } = setUp(1, 0, 60, { name: 'api', maxQueue: 1 });
    expect(await keyed.run('a', (permit) => permit.cost)).toBe(1);
    const waiting = keyed.run('a', () => Promise.reject(new Error('its own')));
    await expect(keyed.acquire('a')).rejects.toThrow(QueueFullError);
    await expect(keyed.acquire('a', 1, { timeout: 1 })).rejects.toThrow('Throttle "api" (1 per 60 s');
    const outcome = expect(waiting).rejects.toThrow('its own');
    await clock.advance(60);
    await outcome;
    expect(keyed.name).toBe('api');
    expect(keyed.keyed).toBe(true);
  });
});

describe('arguments', () => {
  test.each<[string, () => unknown, string]>([
    ['capacity', () => new KeyedThrottle(0), 'capacity must be a number > 0, received 0'],
    ['concurrency', () => new KeyedThrottle(1, 1.5), 'concurrency must be an integer >= 0, received 1.5'],
    ['maxKeys', () => new KeyedThrottle(1, 0, 1, { maxKeys: 0 }), 'maxKeys must be an integer >= 1, received 0'],
    ['maxKeys', () => new KeyedThrottle(1, 0, 1, { maxKeys: 1.5 }), 'maxKeys must be an integer >= 1, received 1.5'],
    ['maxKeys', () => new KeyedThrottle(1, 0, 1, { maxKeys: NaN }), 'maxKeys must be an integer >= 1, received NaN'],
  ])('%s is checked when it is made', (_, make, message) => {
    expect(make).toThrow(new RangeError(message));
  });

  test('options that are changed later change nothing, and those given as undefined keep their defaults', () => {
    const options = { burst: 2, maxKeys: undefined, clock: undefined };
    const keyed = new KeyedThrottle(1, 0, 1, options);
    options.burst = 100;
    expect(() => keyed.tryAcquire('a', 3)).toThrow(RangeError);
  });

  test('a call with a bad one leaves no key behind', async () => {
    const { keyed } = setUp();
    await expect(keyed.acquire('a', -1)).rejects.toThrow(RangeError);
    await expect(keyed.run('b', undefined as never)).rejects.toThrow(TypeError);
    expect(() => keyed.tryAcquire('c', NaN)).toThrow(RangeError);
    expect(() => keyed.pause('d', -1)).toThrow(RangeError);
    await expect(keyed.acquire('e', 1, { signal: AbortSignal.abort(new Error('gone')) })).rejects.toThrow('gone');
    expect(keyed.size).toBe(0);
  });
});

describe('a key is dropped', () => {
  test('once nothing runs, nobody waits, the bucket is full and no pause holds; not before', async () => {
    const { clock, keyed } = setUp(10, 1, 1);
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

  test('no later for a refund or a resumption', () => {
    const { keyed } = setUp(1, 0, 3600);
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

  test('with a sliding window once the last grant has left it, and with several rates once all are full', async () => {
    const { clock, keyed } = setUp(10, 0, 1, { window: 'sliding' });
    keyed.tryAcquire('a', 5)?.release();
    await clock.advance(0.5);
    keyed.tryAcquire('a', 1)?.release();
    await clock.advance(0.999);
    expect(keyed.size).toBe(1);
    await clock.advance(0.001);
    expect(keyed.size).toBe(0);

    const several = setUp(10, 0, 1, { also: [{ capacity: 100, period: 60 }] });
    several.keyed.tryAcquire('a', 5)?.release();
    await several.clock.advance(2.9);
    expect(several.keyed.size).toBe(1);
    await several.clock.advance(0.1);
    expect(several.keyed.size).toBe(0);
  });

  test('never while somebody waits, though nothing runs', async () => {
    const { clock, keyed } = setUp(Infinity, 1);
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
    'never while it has limits of its own: %o',
    async (limits) => {
      const { clock, keyed } = setUp(10, 1, 1, { burst: 10 });
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

  test('without taking along the one that follows', async () => {
    const { clock, keyed } = setUp(10);
    keyed.tryAcquire('a', 10)?.release();
    await clock.advance(1);
    expect(keyed.peek('a')).toBeUndefined();
    keyed.tryAcquire('a', 10)?.release();
    expect([keyed.size, keyed.peek('a')?.tokens]).toEqual([1, 0]);
  });

  test('and its late debts are still paid, by the throttle that follows or by the old one, kept again', async () => {
    const { clock, keyed } = setUp(10);
    const [first, second] = [keyed.tryAcquire('a'), keyed.tryAcquire('a')];
    first?.release();
    second?.release();
    await clock.advance(1);
    expect(keyed.size).toBe(0);
    // With the true cost of 21 there would have been -12, and ten tokens have flowed in since.
    first?.settle(21);
    expect([keyed.size, keyed.peek('a')?.tokens]).toEqual([1, -2]);
    await clock.advance(1.2);
    expect(keyed.size).toBe(0);
    keyed.tryAcquire('a', 4);
    // With the true cost of 3 the bucket would have been full 0.2 s later: 0.2 s before that, it held 8, and 4 are gone.
    second?.settle(3);
    expect(keyed.peek('a')?.tokens).toBeCloseTo(4, 9);
  });

  test('and a late refund to it makes nothing more of the throttle that follows', async () => {
    const { clock, keyed } = setUp(10);
    const old = keyed.tryAcquire('a', 10);
    old?.release();
    await clock.advance(1);
    expect(keyed.size).toBe(0);
    keyed.tryAcquire('a', 10);
    old?.refund();
    expect(keyed.peek('a')?.tokens).toBe(0);
    await clock.advance(0.5);
    // Looking at what the old one left in the heap does not drop the present one.
    expect([keyed.size, keyed.peek('a')?.tokens]).toEqual([1, 5]);
  });

  test('at its own instant, whatever the order in which many keys came to rest', () => {
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

  test('never while it is closed by itself', async () => {
    const { clock, keyed } = setUp();
    keyed.tryAcquire('a')?.release();
    keyed.peek('a')?.close('banned');
    await clock.advance(1e6);
    expect(keyed.size).toBe(1);
    await expect(keyed.acquire('a')).rejects.toMatchObject({ cause: 'banned' });
    expect(keyed.tryAcquire('b')).toBeDefined();
  });

  test('trap 27: only when idle, full and unpaused, and quota is never restored early', async () => {
    const { clock, keyed } = setUp(10, 0, 100);
    keyed.tryAcquire('a', 10)?.release();
    // Thousands of others come and go, and sweep as they do.
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

/** What a user would see who keeps every throttle for ever. */
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

describe('against throttles that are kept for ever', () => {
  test.each<{ title: string; options: KeyedThrottleOptions }>([
    { title: 'a bucket', options: { burst: 4 } },
    { title: 'a bucket, and a slower one', options: { burst: 4, also: [{ capacity: 8, period: 8, burst: 8 }] } },
    { title: 'a sliding window', options: { window: 'sliding' } },
  ])('$title: whatever is asked, the answer is the same, and whoever could tell is still there', ({ options }) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        // Nobody waits here, so nothing is ever scheduled.
        let now = 0;
        const clock: Clock = { now: () => now, schedule: () => () => {} };
        const keyed = new KeyedThrottle(4, 2, 2, { ...options, clock });
        const kept = new Map(['a', 'b', 'c'].map((name) => [name, new Throttle(4, 2, 2, { ...options, clock })]));
        const permits: { permit: Permit; twin: Permit }[] = [];
        for (const action of steps) {
          const pair = 'permit' in action ? permits[action.permit % Math.max(1, permits.length)] : undefined;
          if (action.do === 'take') {
            const [permit, twin] = [
              keyed.tryAcquire(action.key, action.cost),
              kept.get(action.key)?.tryAcquire(action.cost),
            ];
            expect(permit === undefined).toBe(twin === undefined);
            if (permit && twin) permits.push({ permit, twin });
          }
          for (const permit of [pair?.permit, pair?.twin]) {
            if (action.do === 'release') permit?.release();
            if (action.do === 'refund') permit?.refund();
            if (action.do === 'settle') permit?.settle(action.cost);
          }
          if (action.do === 'pause') {
            keyed.pause(action.key, action.seconds);
            kept.get(action.key)?.pause(action.seconds);
          }
          if (action.do === 'resume') {
            keyed.resume(action.key);
            kept.get(action.key)?.resume();
          }
          if (action.do === 'advance') now += action.seconds;
          let live = 0;
          for (const [name, twin] of kept) {
            // Of several rates, `tokens` is the least; the cost that fits after a while shows the rest.
            const asNew =
              twin.active === 0 &&
              twin.pausedFor === 0 &&
              (options.also === undefined ? twin.tokens === twin.burst : undefined);
            if (asNew !== undefined && !asNew) live++;
            const throttle = keyed.peek(name);
            if (asNew !== undefined) expect(throttle === undefined).toBe(asNew);
            for (const cost of [0, 1, twin.burst])
              expect(throttle?.estimateWait(cost) ?? 0).toBe(twin.estimateWait(cost));
          }
          if (options.also === undefined) expect(keyed.size).toBe(live);
        }
        // In the end nothing is left, whatever the rates.
        for (const { permit } of permits) permit.release();
        for (const name of kept.keys()) keyed.resume(name);
        now += 1e6;
        expect(keyed.size).toBe(0);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('maxKeys', () => {
  test('refuses a new key while every key is live, and lets it in once one is not', async () => {
    const { clock, keyed } = setUp(1, 1, 10, { maxKeys: 2, name: 'users' });
    const held = await keyed.acquire('a');
    await keyed.run('b', () => 1);
    const refused: unknown = await keyed.acquire('c').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(QueueFullError);
    expect(refused).toMatchObject({
      message: 'KeyedThrottle "users" has 2 keys in use, as many as maxKeys allows; retry later, or allow more',
    });
    // One of them is running, and nobody knows for how long.
    expect(refused).not.toHaveProperty('retryAfter');
    await expect(keyed.run('c', () => 1)).rejects.toThrow(QueueFullError);
    expect(keyed.tryAcquire('c')).toBeUndefined();
    expect(() => keyed.pause('c')).toThrow(QueueFullError);
    // Those who are in are served as before.
    const again = keyed.run('b', () => 'served');
    await clock.advance(10);
    expect(await again).toBe('served');
    held.release();
    expect(await keyed.run('c', () => 'in')).toBe('in');
    expect(keyed.size).toBe(2);
  });

  test('finds the one key that is free among many', async () => {
    const { keyed } = setUp(Infinity, 1, 1, { maxKeys: 1_000 });
    const permits = Array.from({ length: 1_000 }, (_, index) => keyed.tryAcquire(`${index}`));
    await expect(keyed.acquire('more')).rejects.toThrow(
      'KeyedThrottle has 1000 keys in use, as many as maxKeys allows; retry later, or allow more',
    );
    permits[777]?.release();
    expect(keyed.tryAcquire('more')).toBeDefined();
    expect(keyed.tryAcquire('one more')).toBeUndefined();
  });
});

test('a late debt is kept, also beyond maxKeys', () => {
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

describe('close', () => {
  test('refuses all who wait and come, of every key, and lets running work finish', async () => {
    const { keyed } = setUp(10, 1);
    const running = await keyed.acquire('a');
    const waiting = keyed.acquire('a');
    await keyed.run('b', () => 1);
    const reason = new Error('shutting down');
    keyed.close(reason);
    keyed.close(new Error('too late'));
    await expect(waiting).rejects.toMatchObject({ name: 'ThrottleClosedError', cause: reason });
    for (const name of ['a', 'b', 'new'])
      await expect(keyed.acquire(name)).rejects.toMatchObject({ name: 'ThrottleClosedError', cause: reason });
    expect(keyed.tryAcquire('new')).toBeUndefined();
    expect([keyed.closed, keyed.size]).toEqual([true, 1]);
    let idle = false;
    const ended = keyed.idle().then(() => (idle = true));
    await Promise.resolve();
    expect(idle).toBe(false);
    running.release();
    await ended;
    expect(keyed.size).toBe(0);
    running.settle(5);
    expect(keyed.size).toBe(0);
  });

  test('comes with await using', async () => {
    let finished = false;
    {
      await using keyed = new KeyedThrottle(10, 1);
      void keyed.run('a', async () => {
        await new Promise((resolve) => void setTimeout(resolve, 20));
        finished = true;
      });
      await Promise.resolve();
    }
    expect(finished).toBe(true);
    const closed = new KeyedThrottle(1);
    closed.close();
    await expect(closed.run('a', () => 1)).rejects.toThrow(ThrottleClosedError);
  });
});

const refund = (keyed: KeyedThrottle, name: string): void => {
  const permit = keyed.tryAcquire(name, 1_000);
  permit?.release();
  permit?.refund();
};

test('keys that are used once are forgotten by the calls for others', () => {
  const { keyed } = setUp(Infinity);
  const before = heap();
  for (let index = 0; index < 20_000; index++) keyed.tryAcquire(`key ${index}`)?.release();
  // All of them would be twenty times as much.
  expect(heap() - before).toBeLessThan(1_000_000);
  expect(keyed.size).toBe(0);
});

describe('a million keys', () => {
  test('are not needed to fill the memory, if one that is used a million times did: it does not', () => {
    const { keyed } = setUp(1e9, 0, 3600);
    const before = heap();
    for (let index = 0; index < 1_000_000; index++) keyed.tryAcquire('a')?.release();
    expect((heap() - before) / 1_000).toBeLessThan(1_000);
    expect(keyed.size).toBe(1);
  });

  test.each<{ title: string; use: (keyed: KeyedThrottle, index: number) => void }>([
    { title: 'the refunds of one', use: (keyed) => refund(keyed, 'a') },
    { title: 'the refunds of many', use: (keyed, index) => refund(keyed, `${index}`) },
    {
      title: 'pauses that end early',
      use: (keyed) => {
        keyed.pause('a', 86_400);
        keyed.resume('a');
      },
    },
  ])('nor do $title, however long a refill takes', ({ use }) => {
    const { keyed } = setUp(100_000, 0, 86_400);
    const before = heap();
    for (let index = 0; index < 200_000; index++) use(keyed, index);
    expect((heap() - before) / 1_000).toBeLessThan(1_000);
    expect(keyed.size).toBe(0);
  });

  test.each<{ title: string; capacity: number; every: number }>([
    { title: 'limited in concurrency alone', capacity: Infinity, every: 0 },
    { title: 'limited in rate, each a second later than the last thousand', capacity: 1, every: 1_000 },
  ])('$title: in sequence they leave a few thousand at the most', async ({ capacity, every }) => {
    const { clock, keyed } = setUp(capacity, 1, 1);
    const before = heap();
    for (let index = 0; index < 1_000_000; index++) {
      keyed.tryAcquire(`key ${index}`)?.release();
      if (every > 0 && index % every === 0) await clock.advance(1);
    }
    // What is really held: asking for `size` would sweep. A key takes a kilobyte or two.
    expect((heap() - before) / 1_000).toBeLessThan(4 * (every + 500));
    expect(keyed.size).toBeLessThanOrEqual(2 * every);
  });
});
