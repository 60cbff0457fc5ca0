/** Permits that expire after the `ttl` of their throttle. */
import { type Clock, KeyedThrottle, QueueClearedError, Resource, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { recordEvents } from '../support/record-events.js';
import { SkewedClock } from '../support/support.js';

const setUp = (concurrency = 1, ttl = 5): { clock: ManualClock; throttle: Throttle } => {
  const clock = new ManualClock();
  return { clock, throttle: new Throttle(Infinity, concurrency, 1, { ttl, clock, name: 'jobs' }) };
};

describe('a permit with a ttl', () => {
  test.each([0, -1, NaN, '5', null])('a ttl of %s is refused', (ttl) => {
    expect(() => new Throttle(1, 1, 1, { ttl: ttl as number })).toThrow(/^ttl must be a number > 0/);
  });

  test('expires at its ttl: the slot is free, and released is true', async () => {
    const { clock, throttle } = setUp();
    const permit = await throttle.acquire();
    await clock.advance(4.999);
    expect([permit.released, throttle.active]).toEqual([false, 1]);
    await clock.advance(0.001);
    expect([permit.released, throttle.active]).toEqual([true, 0]);
    const next = await throttle.acquire();
    permit.release();
    permit[Symbol.dispose]();
    expect([next.released, throttle.active]).toEqual([false, 1]);
  });

  test('the reason of the signal names the throttle, the ttl and the remedy, also for a late reader', async () => {
    const { clock, throttle } = setUp(2);
    const [early, late] = [await throttle.acquire(), await throttle.acquire()];
    const { signal } = early;
    await clock.advance(5);
    for (const each of [signal, late.signal]) {
      expect(each.aborted).toBe(true);
      expect(each.reason).toMatchObject({ name: 'PermitExpiredError', code: 'ERR_THROTTLE_PERMIT_EXPIRED' });
      expect((each.reason as Error).message).toBe(
        'a permit of Throttle "jobs" (any rate, 2 at a time) was held for more than 5 s (ttl), so its slots were ' +
          'freed; stop the work when permit.signal aborts, or raise ttl',
      );
    }
    expect(late.signal).toBe(late.signal);
  });

  test('a released permit never expires, and its signal never aborts', async () => {
    const { clock, throttle } = setUp();
    const permit = await throttle.acquire();
    const { signal } = permit;
    permit.release();
    expect(clock.pending).toBe(0);
    await clock.advance(20);
    expect(signal.aborted).toBe(false);
  });

  test('one timer exists for any number of permits, and none while no permit is held', async () => {
    const { clock, throttle } = setUp(0);
    expect(clock.pending).toBe(0);
    const permits = await Promise.all(Array.from({ length: 50 }, () => throttle.acquire()));
    expect(clock.pending).toBe(1);
    await clock.advance(1);
    const younger = await throttle.acquire();
    for (const permit of permits) permit.release();
    expect(clock.pending).toBe(1);
    await clock.advance(4.5);
    expect([younger.released, clock.pending]).toEqual([false, 1]);
    await clock.advance(0.5);
    expect([younger.released, clock.pending]).toEqual([true, 0]);
  });

  test('a call that finds no tokens leaves no timer', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(1, 0, 100, { ttl: 5, clock });
    throttle.tryAcquire()?.release();
    expect(throttle.tryAcquire()).toBeUndefined();
    expect(clock.pending).toBe(0);
    const waiting = throttle.acquire();
    expect(clock.pending).toBe(1);
    throttle.close();
    await expect(waiting).rejects.toThrow('is closed');
    expect(clock.pending).toBe(0);
  });

  test('a settlement after the expiry counts', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(8, 1, 1_000, { ttl: 5, clock });
    const permit = await throttle.acquire(8);
    await clock.advance(5);
    permit.settle(1);
    expect([permit.cost, throttle.tokens]).toEqual([1, 7.04]);
  });

  test('idle counts an expired permit as gone', async () => {
    const { clock, throttle } = setUp();
    void throttle.run(() => new Promise(() => {}));
    const idle = throttle.idle();
    await clock.advance(5);
    await idle;
  });

  test('run gives the slot back although its function has not ended, and aborts the work by the signal', async () => {
    const { clock, throttle } = setUp();
    const work = throttle.run(
      ({ signal }) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    );
    const failure = work.catch((error: unknown) => error);
    const next = throttle.run(() => 'next');
    await clock.advance(5);
    expect(await next).toBe('next');
    expect(await failure).toMatchObject({ code: 'ERR_THROTTLE_PERMIT_EXPIRED' });
  });

  test('a waiter whose deadline is the instant of the expiry is granted', async () => {
    const { clock, throttle } = setUp();
    await clock.advance(1);
    // The timer of the deadline is older than the timer of the expiry.
    const first = await throttle.acquire();
    const second = throttle.acquire(1, { timeout: 5 });
    first.release();
    await second;
    const third = throttle.acquire(1, { timeout: 5 });
    await clock.advance(5);
    await expect(third).resolves.toMatchObject({ waited: 5 });
  });

  test('a listener of the signal that throws or calls the throttle corrupts nothing', async () => {
    const { clock, throttle } = setUp(2);
    const errors: unknown[] = [];
    const onError = (error: unknown): void => void errors.push(error);
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', onError);
    try {
      const [first, second] = [await throttle.acquire(), await throttle.acquire()];
      const states: number[] = [];
      first.signal.addEventListener('abort', () => {
        states.push(throttle.active, throttle.waiting);
        first.release();
        second.release();
        throttle.tryAcquire();
        throw new Error('a bad listener');
      });
      second.signal.addEventListener('abort', () => states.push(throttle.active));
      const waiter = throttle.acquire();
      await clock.advance(5);
      await waiter;
      // The waiter was granted before the first listener ran.
      expect(states).toEqual([1, 0, 2]);
      expect(throttle.active).toBe(2);
      await clock.advance(5);
      expect([throttle.active, clock.pending]).toEqual([0, 0]);
      await new Promise((resolve) => void setTimeout(resolve));
      expect(errors).toMatchObject([{ message: 'a bad listener' }]);
    } finally {
      process.off('uncaughtException', onError);
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
  });

  test('a clock that cannot schedule refuses a call before anything changes', async () => {
    const clock = new ManualClock();
    const schedule = vi.spyOn(clock, 'schedule').mockImplementation(() => {
      throw new Error('no timers');
    });
    const throttle = new Throttle(4, 1, 1_000, { ttl: 5, clock });
    await expect(throttle.acquire()).rejects.toThrow('no timers');
    expect(() => throttle.tryAcquire()).toThrow('no timers');
    expect([throttle.active, throttle.tokens]).toEqual([0, 4]);
    schedule.mockRestore();
    await throttle.acquire();
    await clock.advance(5);
    expect(throttle.active).toBe(0);
  });

  test('a clock that cannot schedule for the next permit refuses the head instead of a wait forever', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(Infinity, 2, 1, { ttl: 5, clock });
    await throttle.acquire();
    await clock.advance(1);
    await throttle.acquire();
    const waiters = [throttle.acquire(), throttle.acquire()].map((waiter) =>
      waiter.then(
        () => 'granted',
        (error: Error) => error.message,
      ),
    );
    const schedule = vi.spyOn(clock, 'schedule').mockImplementation(() => {
      throw new Error('no timers');
    });
    await clock.advance(4);
    expect(await Promise.all(waiters)).toEqual(['no timers', 'no timers']);
    schedule.mockRestore();
    await expect(throttle.acquire()).resolves.toMatchObject({ released: false });
    await clock.advance(10);
    expect([throttle.active, clock.pending]).toEqual([0, 0]);
  });

  test('a clock that clears the queue inside schedule, and then throws, refuses each waiter once', async () => {
    const { clock, throttle } = setUp(2);
    await throttle.acquire();
    await clock.advance(1);
    await throttle.acquire();
    const waiting = throttle.acquire(1, { slots: 2 });
    const outcome = expect(waiting).rejects.toThrow(QueueClearedError);
    vi.spyOn(clock, 'schedule').mockImplementationOnce(() => {
      throttle.clear();
      throw new Error('no timers');
    });
    await clock.advance(4);
    await outcome;
    expect([throttle.waiting, new Throttle(1).waiting]).toEqual([0, 0]);
    await clock.advance(10);
    expect([throttle.active, clock.pending]).toEqual([0, 0]);
  });

  test('a call passes no waiter that a clock has added inside schedule', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(4, 0, 1, { ttl: 5, clock });
    const order: string[] = [];
    const follow = (name: string, cost: number): void => void throttle.run(() => order.push(name), cost);
    throttle.tryAcquire(2)?.release();
    vi.spyOn(clock, 'schedule').mockImplementationOnce((...call) => {
      follow('large', 4);
      return clock.schedule(...call);
    });
    follow('small', 1);
    await clock.advance(1);
    expect(order).toEqual(['large', 'small']);
  });

  test('a permit that expires at the deadline of a waiter is granted to the waiter', async () => {
    const { clock, throttle } = setUp(2);
    await throttle.acquire();
    await clock.advance(1);
    await throttle.acquire();
    await clock.advance(1);
    // The timer of the deadline is older than the timer of the second permit, which is set at 5 s. Both fire at 6 s.
    const waiting = throttle.acquire(1, { slots: 2, timeout: 4 });
    await clock.advance(4);
    expect((await waiting).waited).toBe(4);
  });

  test('an expiry publishes the release of the permit', async () => {
    const { clock, throttle } = setUp();
    const recorded = recordEvents();
    const permit = await throttle.acquire();
    await clock.advance(5);
    permit.release();
    expect(recorded.map(({ kind, at }) => [kind, at])).toEqual([
      ['granted', 0],
      ['released', 5],
    ]);
  });

  test('an expiry counts as passed time on a clock that steps back', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(Infinity, 1, 1, { ttl: 5, clock });
    await throttle.acquire();
    const waiting = throttle.acquire();
    clock.skew = -100;
    await clock.passing.advance(5);
    expect((await waiting).waited).toBe(5);
  });

  test('an expiry that comes late never sets the time back', async () => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => seconds + 5;
    const throttle = new Throttle(Infinity, 1, 1, { ttl: 5, clock });
    const permit = await throttle.acquire();
    await clock.passing.advance(9);
    throttle.pause(10);
    clock.skew = -4;
    await clock.passing.advance(1);
    expect([permit.released, throttle.pausedFor]).toEqual([true, 10]);
  });

  test('the ttl of a throttle is Infinity unless it is set', () => {
    expect([setUp(1, 5).throttle.ttl, new Throttle(1).ttl]).toEqual([5, Infinity]);
  });

  test('a timer that fires early or twice expires no permit early', async () => {
    const timers: (() => void)[] = [];
    let now = 0;
    const clock: Clock = { now: () => now, schedule: (_, callback) => (timers.push(callback), () => {}) };
    const throttle = new Throttle(Infinity, 1, 1, { ttl: 5, clock });
    const permit = await throttle.acquire();
    now = 4;
    timers[0]?.();
    timers[0]?.();
    expect([permit.released, timers.length]).toEqual([false, 2]);
    now = 5;
    timers[1]?.();
    expect(permit.released).toBe(true);
  });

  test('a key with an expired permit is evicted, and a key with a held permit is not', async () => {
    const clock = new ManualClock();
    const keyed = new KeyedThrottle(Infinity, 1, 1, { ttl: 5, clock });
    await keyed.acquire('leaked');
    expect(keyed.size).toBe(1);
    await clock.advance(4);
    expect(keyed.size).toBe(1);
    await clock.advance(1);
    expect(keyed.size).toBe(0);
  });

  test('a Resource accepts a ttl', async () => {
    const clock = new ManualClock();
    const resource = new Resource(1, { ttl: 2, clock });
    await resource.acquire();
    await clock.advance(2);
    expect(resource.active).toBe(0);
  });

  test('grants and releases take the same time with any number of held permits', async () => {
    const { throttle } = setUp(0);
    const held = Array.from({ length: 100_000 }, () => throttle.tryAcquire());
    const timeOf = (): number => {
      const from = performance.now();
      for (let index = 0; index < 20_000; index++) throttle.tryAcquire()?.release();
      return performance.now() - from;
    };
    expect(timeOf()).toBeLessThan(2_000);
    for (const permit of held) permit?.release();
    expect(throttle.active).toBe(0);
  });
});
