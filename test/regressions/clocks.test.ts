/** Clocks that jump, stand still or run ahead, timers that fire early or late, and fake timers. */
import FakeTimers, { type Clock as FakeClock, install } from '@sinonjs/fake-timers';
import { type Clock, Throttle } from 'headgate';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { TokenBucket } from '../../src/core/token-bucket.js';
import { Outcomes, setUp, SkewedClock, take } from '../support/support.js';
import { DAY, expectWithinRate, HOUR } from './expectations.js';

/**
 * All timers of sinon but `nextTick`. Vitest replaces `process.nextTick` while it reports, and puts the previous function
 * back later. After `uninstall`, that function would be the fake, and the worker would hang.
 */
const ALL_TIMERS = { toNotFake: ['nextTick' as const] };

afterEach(() => {
  // A spy on a fake timer would keep that fake in place.
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe('trap 15: long delays and a wall clock that jumps', () => {
  const LONG = 2 ** 31 / 1_000;

  // setTimeout fires a delay of 2^31 ms at once, and so does the fake setTimeout.
  test.each([LONG - 0.001, LONG, LONG + 0.001, 60 * DAY, 365 * DAY])(
    'a wait of %d s neither ends early nor spins [p-throttle#40, rate-limiter-flexible#71]',
    async (seconds) => {
      vi.useFakeTimers();
      const started = performance.now();
      const ended: Record<string, number> = {};
      const record = (name: string) => (): void => void (ended[name] = performance.now() - started);
      const timers = vi.spyOn(globalThis, 'setTimeout');
      const paced = new Throttle(1, 0, seconds);
      take(paced);
      paced.acquire().then(record('tokens'), () => {});
      const paused = new Throttle(1);
      paused.pause(seconds);
      paused.acquire().then(record('pause'), () => {});
      const full = new Throttle(Infinity, 1);
      take(full);
      full.acquire(1, { timeout: seconds }).catch(record('deadline'));
      const due = seconds * 1_000;
      await vi.advanceTimersByTimeAsync(due / 2);
      await vi.advanceTimersByTimeAsync(due / 2 - 1);
      expect(ended).toEqual({});
      await vi.advanceTimersByTimeAsync(3);
      expect(Object.keys(ended).toSorted()).toEqual(['deadline', 'pause', 'tokens']);
      for (const at of Object.values(ended)) expect(at).toBeGreaterThanOrEqual(due - 1e-3);
      expect(timers.mock.calls.length).toBeLessThan(100);
    },
  );

  test.each([-HOUR, HOUR])(
    'a wall clock that jumps by %d s causes no stall and no burst [bottleneck#134]',
    async (jump) => {
      vi.useFakeTimers();
      const throttle = new Throttle(10);
      take(throttle, 10);
      throttle.pause(0.5);
      const granted: number[] = [];
      const started = performance.now();
      for (let index = 0; index < 10; index++)
        throttle.acquire().then(
          () => granted.push(performance.now() - started),
          () => {},
        );
      await vi.advanceTimersByTimeAsync(100);
      vi.setSystemTime(Date.now() + jump * 1_000);
      expect(throttle.tokens).toBeCloseTo(1, 9);
      expect(throttle.pausedFor).toBeCloseTo(0.4, 9);
      throttle.configure({});
      await vi.advanceTimersByTimeAsync(399);
      expect(granted).toHaveLength(0);
      await vi.advanceTimersByTimeAsync(1);
      expect(granted).toHaveLength(5);
      vi.setSystemTime(Date.now() - 2 * jump * 1_000);
      await vi.advanceTimersByTimeAsync(500);
      expect(granted).toHaveLength(10);
      expect(throttle.tokens).toBeCloseTo(0, 9);
    },
  );

  test.each([-HOUR, -1, -1e-6])(
    'an injected clock that steps back by %d s causes no stall and no extra grants',
    async (step) => {
      const clock = new SkewedClock();
      const throttle = new Throttle(10, 0, 1, { clock });
      take(throttle, 10);
      const grants: [number, number][] = [];
      const started = clock.passing.now();
      const acquire = (): void =>
        void throttle.acquire().then(
          () => grants.push([clock.passing.now() - started, 1]),
          () => {},
        );
      for (let index = 0; index < 10; index++) acquire();
      await clock.passing.advance(0.35);
      expect(grants).toHaveLength(3);
      clock.skew = step;
      const { tokens } = throttle;
      expect(tokens).toBeLessThan(1);
      // The armed timers fire. A timer that looks early after the step is armed once more at most.
      await clock.passing.advance(2);
      expect(throttle.waiting).toBe(0);
      expectWithinRate(grants, 1, 10);
      for (let index = 0; index < 20; index++) acquire();
      await clock.passing.advance(4);
      expect(throttle.waiting).toBe(0);
      expectWithinRate(grants, 10, 10);
      expect(clock.delays.length).toBeLessThan(100);
      expect(Math.min(...clock.delays)).toBeGreaterThan(0);
    },
  );

  test('a pause lasts its full time on a clock that stepped back, whichever timer was armed before', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(1, 0, 3, { clock });
    take(throttle, 1);
    let granted = 0;
    void throttle.acquire(0.2).then(() => granted++);
    void throttle.acquire(1).then(() => granted++);
    clock.skew = -2.4;
    // The timer of the second waiter is armed at 0.6 s for 3.6 s. At 3 s the clock shows 0.6 s again.
    await clock.passing.advance(3);
    expect(granted).toBe(1);
    throttle.pause(3);
    await clock.passing.advance(2.999);
    expect(granted).toBe(1);
    await clock.passing.advance(0.002);
    expect(granted).toBe(2);
  });

  test('an injected clock that jumps ahead by an hour fills the bucket and grants no more than the burst', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(10, 0, 1, { clock });
    take(throttle, 10);
    const outcomes = new Outcomes();
    for (let index = 0; index < 30; index++) outcomes.follow(`${index}`, throttle.acquire());
    clock.skew = HOUR;
    await clock.passing.advance(0.1);
    expect(outcomes.order).toHaveLength(10);
    await clock.passing.advance(1);
    expect(outcomes.order).toHaveLength(20);
  });
});

describe('trap 16: the process sleeps for hours', () => {
  test('on waking, a throttle grants at most the burst, and no wait is negative [redis-semaphore#24]', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(10, 0, 1, { clock, burst: 15 });
    take(throttle, 15);
    throttle.pause(0.2);
    const outcomes = new Outcomes();
    for (let index = 0; index < 40; index++) outcomes.follow(`${index}`, throttle.acquire());
    await clock.passing.advance(0.05);
    clock.skew = 3 * HOUR;
    const seen = [throttle.tokens, throttle.pausedFor, throttle.estimateWait(0)];
    expect(seen).toEqual([15, 0, 2.5]);
    await clock.passing.advance(0.2);
    expect(outcomes.order).toHaveLength(15);
    expect(throttle.tokens).toBeGreaterThanOrEqual(0);
    await clock.passing.advance(0.5);
    expect(outcomes.order.length).toBeLessThanOrEqual(21);
    await clock.passing.runAll();
    expect(outcomes.order).toHaveLength(40);
    const waits = outcomes.order.map((name) => outcomes.permit(name).waited);
    expect(Math.min(...waits)).toBeGreaterThan(0);
    expect(Math.min(...clock.delays)).toBeGreaterThan(0);
  });

  test('a pause that ended during the sleep is over on waking', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(1, 1, 1, { clock });
    const holder = take(throttle);
    throttle.pause(60);
    const outcomes = new Outcomes();
    outcomes.follow('waiter', throttle.acquire());
    clock.skew = HOUR;
    holder.release();
    await clock.passing.advance(0);
    expect(outcomes.order).toEqual(['waiter']);
    expect([clock.passing.pending, throttle.pausedFor]).toEqual([0, 0]);
  });
});

describe('trap 17: timers that fire early and clock readings that are stale', () => {
  test.each<[string, (seconds: number) => number]>([
    ['a tenth', (seconds) => seconds * 0.9],
    ['a millisecond', (seconds) => Math.max(seconds - 0.001, seconds / 2)],
    ['almost all', (seconds) => (seconds > 0.01 ? 0.001 : seconds)],
  ])('a timer that fires early by %s is armed again, without an early grant or a spin', async (_, fires) => {
    const clock = new SkewedClock();
    clock.fires = fires;
    const throttle = new Throttle(10, 0, 1, { clock, burst: 1 });
    const started = clock.now();
    take(throttle);
    const granted: number[] = [];
    for (let index = 0; index < 20; index++)
      throttle.acquire().then(
        () => granted.push(clock.now() - started),
        () => {},
      );
    await clock.passing.advance(5);
    expect(granted).toHaveLength(20);
    granted.forEach((at, index) => {
      expect(at).toBeGreaterThan((index + 1) / 10 - 1e-9);
      expect(at).toBeLessThan((index + 1) / 10 + 0.01);
    });
    expect(clock.delays.length).toBeLessThan(20 * 110);
    expect(clock.passing.pending).toBe(0);
  });

  test('a waiter on a clock that stepped back waits only for the missing tokens', async () => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => seconds * 0.9;
    const throttle = new Throttle(10, 0, 1, { clock, burst: 1 });
    take(throttle);
    clock.skew = -HOUR;
    const grants: [number, number][] = [];
    for (let index = 0; index < 20; index++)
      throttle.acquire().then(
        () => grants.push([clock.now(), 1]),
        () => {},
      );
    await clock.passing.advance(2.1);
    expect(grants).toHaveLength(20);
    expectWithinRate(grants, 1, 10);
  });

  test('a waiter is granted on a clock that calls back during `schedule`', async () => {
    let now = 0;
    const clock: Clock = {
      now: () => now,
      schedule(seconds, callback) {
        now += seconds;
        callback();
        return () => {};
      },
    };
    const throttle = new Throttle(1, 0, 1, { clock });
    take(throttle);
    expect((await throttle.acquire()).waited).toBe(1);
    expect((await throttle.acquire()).waited).toBe(1);
    expect([now, throttle.waiting]).toEqual([2, 0]);
  });

  test('a pause timer that fires early is armed again', async () => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => seconds / 2;
    const throttle = new Throttle(10, 0, 1, { clock });
    throttle.pause(8);
    const waiter = throttle.acquire();
    await clock.passing.advance(7.999);
    expect(throttle.waiting).toBe(1);
    await clock.passing.advance(0.001_001);
    expect((await waiter).waited).toBeCloseTo(8, 6);
    expect(clock.delays.length).toBeLessThan(60);
  });

  test('a stale reading of the clock never rewinds a bucket [golang/go#71360]', () => {
    const bucket = new TokenBucket(10, 1, 10);
    expect(bucket.take(100, 10, 1)).toBe(true);
    expect(bucket.level(100.5)).toBe(5);
    expect(bucket.take(100.5, 5, 2)).toBe(true);
    for (const stale of [100.4, 100, 0, -Infinity]) {
      expect(bucket.level(stale)).toBe(0);
      expect(bucket.take(stale, 1, 3)).toBe(false);
      expect(bucket.take(stale, 0, 3)).toBe(true);
      bucket.settle(stale, 0, 3);
      expect(bucket.level(100.5)).toBe(0);
    }
    expect(bucket.level(100.6)).toBeCloseTo(1, 9);
    expect(bucket.readyAt(100, 1)).toBeCloseTo(100.6, 9);
  });

  test('stale readings of the clock between correct readings refill nothing twice', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(10, 0, 1, { clock });
    let granted = 0;
    for (let tick = 0; tick < 1_100; tick++) {
      await clock.passing.advance(tick % 100 === 0 ? 0.010_1 : 0);
      clock.skew = -(tick % 7) / 100;
      while (throttle.tryAcquire()) granted++;
    }
    // 10 at once, and 1 more in the 0.101 s since then.
    expect(granted).toBe(11);
  });
});

describe('trap 21: fake timers and injected clocks', () => {
  /** Three waiters at ten per second on an empty bucket, a pause and a deadline, with their expected instants in ms. */
  const scenario = async (
    throttle: Throttle,
    now: () => number,
    advance: (ms: number) => Promise<unknown>,
  ): Promise<void> => {
    const started = now();
    const ends: [string, number][] = [];
    const record = (name: string) => (): void => void ends.push([name, Math.round(now() - started)]);
    take(throttle, 10);
    throttle.acquire(1).then(record('first'), () => {});
    throttle.run(record('second')).catch(() => {});
    throttle.acquire(1, { timeout: 0.4 }).then(record('no'), record('deadline'));
    await advance(100);
    expect(ends).toEqual([['first', 100]]);
    await advance(150);
    throttle.pause(0.5);
    throttle.pause(0.1);
    await advance(500);
    throttle.acquire().then(record('third'), () => {});
    await advance(1_000);
    expect(ends).toEqual([
      ['first', 100],
      ['second', 200],
      ['deadline', 400],
      ['third', 750],
    ]);
    expect([throttle.waiting, throttle.tokens]).toEqual([0, 10]);
  };

  test('the fake timers of vitest drive a throttle', async () => {
    vi.useFakeTimers();
    await scenario(
      new Throttle(10),
      () => performance.now(),
      (ms) => vi.advanceTimersByTimeAsync(ms),
    );
    expect(vi.getTimerCount()).toBe(0);
  });

  test('the fake timers of sinon drive a throttle', async () => {
    const timers = install(ALL_TIMERS);
    try {
      await scenario(
        new Throttle(10),
        () => performance.now(),
        (ms) => timers.tickAsync(ms),
      );
      expect(timers.countTimers()).toBe(0);
    } finally {
      timers.uninstall();
    }
  });

  test('an injected clock of sinon drives a throttle', async () => {
    const timers = FakeTimers.createClock();
    const clock = {
      now: () => timers.now / 1_000,
      schedule: (seconds: number, callback: () => void) => {
        const timer = timers.setTimeout(callback, seconds * 1_000);
        return () => timers.clearTimeout(timer);
      },
    };
    await scenario(
      new Throttle(10, 0, 1, { clock }),
      () => timers.now,
      (ms) => timers.tickAsync(ms),
    );
    expect(timers.countTimers()).toBe(0);
  });

  test('an injected ManualClock drives a throttle', async () => {
    const { clock, throttle } = setUp(10);
    await scenario(
      throttle,
      () => clock.now() * 1_000,
      (ms) => clock.advance(ms / 1_000),
    );
    expect(clock.pending).toBe(0);
  });

  test('a throttle works with fake timers installed after it, and after they are removed', async () => {
    const throttle = new Throttle(10);
    take(throttle, 10).release();
    for (let round = 0; round < 2; round++) {
      vi.useFakeTimers();
      const waiter = throttle.acquire(10);
      await vi.advanceTimersByTimeAsync(1_001);
      (await waiter).release();
      vi.useRealTimers();
    }
    await expect(throttle.acquire(0)).resolves.toBeDefined();
  });
});

describe('fake timers that replace only one of two clocks (FAULTS 4, p-limit#92, p-queue#193)', () => {
  let clock: (FakeClock & { uninstall(): void }) | undefined;
  afterEach(() => clock?.uninstall());

  test.each([
    ['setTimeout and Date', ['setTimeout', 'clearTimeout', 'Date']],
    ['setTimeout alone', ['setTimeout', 'clearTimeout']],
    ['everything', undefined],
  ] as const)('%s: jobs that wait for a timer finish', async (_, toFake) => {
    clock = install(toFake === undefined ? ALL_TIMERS : { toFake: [...toFake] });
    const throttle = new Throttle(1, 0, 60);
    const done: number[] = [];
    const jobs = [1, 2, 3].map((job) => throttle.run(() => void done.push(job)));
    for (let minute = 0; minute < 3; minute++) await clock.tickAsync(60_000);
    await Promise.all(jobs);
    expect(done).toEqual([1, 2, 3]);
  });

  test.each([
    ['setTimeout and Date', ['setTimeout', 'clearTimeout', 'Date']],
    ['everything', undefined],
  ] as const)('%s: no job starts early', async (_, toFake) => {
    clock = install(toFake === undefined ? ALL_TIMERS : { toFake: [...toFake] });
    const throttle = new Throttle(1, 0, 60);
    const fn = vi.fn();
    const jobs = [throttle.run(fn), throttle.run(fn), throttle.run(fn)];
    await clock.tickAsync(59_000);
    expect(fn).toHaveBeenCalledTimes(1);
    await clock.tickAsync(1_000);
    expect(fn).toHaveBeenCalledTimes(2);
    await clock.tickAsync(59_000);
    expect(fn).toHaveBeenCalledTimes(2);
    await clock.tickAsync(1_000);
    await Promise.all(jobs);
  });

  test('performance alone: jobs that wait for a real timer finish', async () => {
    clock = install({ toFake: ['performance'] });
    const throttle = new Throttle(1, 0, 0.05);
    expect(await Promise.all([throttle.run(() => 1), throttle.run(() => 2), throttle.run(() => 3)])).toEqual([1, 2, 3]);
  });

  test('jobs finish when timers are replaced before the package is loaded', async () => {
    clock = install({ toFake: ['setTimeout', 'clearTimeout'] });
    vi.resetModules();
    const { Throttle: Fresh } = await import('headgate');
    const throttle = new Fresh(1, 0, 60, { burst: 1 });
    const jobs = Promise.all([throttle.run(() => 1), throttle.run(() => 2)]);
    await clock.tickAsync(60_000);
    expect(await jobs).toEqual([1, 2]);
  });
});
