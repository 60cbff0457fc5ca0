/** The constructor and the methods of `Throttle`. test/model and test/conformance check its promises. */
import fc from 'fast-check';
import { Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { Outcomes, setUp, SkewedClock, take } from '../support/support.js';

describe('constructor', () => {
  test('sets the defaults', () => {
    const throttle = new Throttle(10);
    const { capacity, concurrency, period, burst, tokens, active, waiting, pausedFor, closed, name } = throttle;
    expect({ capacity, concurrency, period, burst, tokens, active, waiting, pausedFor, closed, name }).toEqual({
      capacity: 10,
      concurrency: 0,
      period: 1,
      burst: 10,
      tokens: 10,
      active: 0,
      waiting: 0,
      pausedFor: 0,
      closed: false,
      name: undefined,
    });
  });

  test.each([
    [0.25, undefined, 1],
    [0.25, 0.25, 0.25],
    [10, undefined, 10],
    [10, 3, 3],
    [10, 30, 30],
    [Infinity, undefined, Infinity],
    [Infinity, 5, 5],
  ])('capacity %d with burst %s has a burst of %d', (capacity, burst, expected) => {
    const throttle = new Throttle(capacity, 0, 1, { burst });
    expect(throttle.burst).toBe(expected);
    expect(throttle.tokens).toBe(expected);
  });

  test('an option that is undefined keeps its default', () => {
    const throttle = new Throttle(10, undefined, undefined, {
      burst: undefined,
      maxQueue: undefined,
      clock: undefined,
      name: undefined,
    });
    expect([throttle.concurrency, throttle.period, throttle.burst, throttle.name]).toEqual([0, 1, 10, undefined]);
  });

  test('reads no clock, sets no timer and draws no random number', () => {
    const clock = { now: vi.fn(() => 0), schedule: vi.fn(() => () => {}) };
    const random = vi.spyOn(Math, 'random');
    void new Throttle(10, 2, 1, { clock });
    expect(clock.now).not.toHaveBeenCalled();
    expect(clock.schedule).not.toHaveBeenCalled();
    expect(random).not.toHaveBeenCalled();
    random.mockRestore();
  });
});

describe('pause and resume', () => {
  test('the latest end of all pauses counts, in any order of the calls', async () => {
    const { throttle, clock } = setUp();
    throttle.pause(5);
    throttle.pause(3);
    throttle.pause(0);
    expect(throttle.pausedFor).toBe(5);
    await clock.advance(1);
    throttle.pause(4.5);
    expect(throttle.pausedFor).toBe(4.5);
    const waited = throttle.acquire().then((permit) => permit.waited);
    await clock.advance(4.5);
    expect(await waited).toBe(4.5);
    expect(throttle.pausedFor).toBe(0);
  });

  test('a pause without an end sets no timer and lasts until resume', async () => {
    const { throttle, clock } = setUp();
    throttle.pause();
    expect([throttle.pausedFor, throttle.estimateWait()]).toEqual([Infinity, Infinity]);
    const waiting = throttle.acquire();
    await clock.advance(1e9);
    expect([throttle.waiting, clock.pending]).toEqual([1, 0]);
    throttle.resume();
    expect([throttle.waiting, throttle.active]).toEqual([0, 1]);
    (await waiting).release();
  });

  test('a timeout shorter than the pause is refused at once', async () => {
    const { throttle } = setUp();
    throttle.pause(30);
    await expect(throttle.acquire(1, { timeout: 29 })).rejects.toMatchObject({ retryAfter: 30 });
    expect(throttle.tryAcquire()).toBeUndefined();
  });
});

describe('estimateWait', () => {
  test('includes the pause, the tokens of all waiters, and the refill during the pause up to the burst', async () => {
    const { throttle, clock } = setUp(10);
    expect(throttle.estimateWait(10)).toBe(0);
    take(throttle, 10);
    expect(throttle.estimateWait(5)).toBe(0.5);
    const waiting = [throttle.acquire(10), throttle.acquire(10)];
    expect(throttle.estimateWait(5)).toBe(2.5);
    expect(throttle.estimateWait(0)).toBe(2);
    throttle.pause(10);
    expect(throttle.estimateWait(5)).toBe(11.5);
    await clock.advance(11);
    expect(throttle.waiting).toBe(0);
    await Promise.all(waiting);
  });

  test.each([
    [0, 0.9, 0.2],
    [0, 1.7, 0.4],
    [0, 3.6, 0.8],
  ])(
    'a permit is available after the estimated wait: start %d, pause %d, estimate %d s later',
    async (start, pause, later) => {
      const clock = new ManualClock(start);
      const throttle = new Throttle(10, 0, 1, { clock });
      throttle.pause(pause);
      await clock.advance(later);
      const wait = throttle.estimateWait();
      // The unrounded difference is too short by a rounding error.
      expect(later + (pause - later)).toBeLessThan(pause);
      await clock.advance(wait);
      expect(throttle.tryAcquire()).toBeDefined();
      expect(wait).toBeCloseTo(pause - later, 9);
    },
  );
});

describe('a clock that steps back', () => {
  test('does not delay a waiter beyond its timer', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(1, 0, 1, { clock });
    take(throttle);
    const outcomes = new Outcomes();
    outcomes.follow('waiter', throttle.acquire());
    await clock.passing.advance(0.5);
    clock.skew = -100;
    await clock.passing.advance(0.5);
    expect(outcomes.order).toEqual(['waiter']);
    expect(clock.delays).toEqual([1]);
  });

  test('does not move the latest known instant back when a timer is late', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(1, 0, 1, { clock, burst: 10 });
    take(throttle, 10);
    clock.fires = (seconds) => seconds + 1;
    const waiter = throttle.acquire();
    await clock.passing.advance(1.875);
    expect(throttle.tokens).toBe(1.875);
    clock.skew = -100;
    await clock.passing.advance(0.125);
    await waiter;
    expect(throttle.tokens).toBe(0.875);
  });
});

describe('timers', () => {
  test('the timer of the head stays while waiters behind it join, abort or are granted', async () => {
    const clock = new ManualClock();
    const schedule = vi.spyOn(clock, 'schedule');
    const throttle = new Throttle(10, 3, 1, { clock });
    const held = take(throttle, 10);
    const head = throttle.acquire(5);
    expect(schedule).toHaveBeenCalledTimes(1);
    const controller = new AbortController();
    const aborted = [
      throttle.acquire(1, { signal: controller.signal }),
      throttle.acquire(2, { signal: controller.signal }),
    ];
    controller.abort();
    await Promise.allSettled(aborted);
    const behind = throttle.acquire(1);
    held.release();
    held.settle(10);
    throttle.resume();
    throttle.configure({});
    // Only `configure` may set the timer again.
    expect(schedule.mock.calls.length).toBeLessThanOrEqual(2);
    expect(clock.pending).toBe(1);
    await clock.advance(0.6);
    for (const permit of await Promise.all([head, behind])) permit.release();
    expect(clock.pending).toBe(0);
  });

  test('the rounding error of the queued cost is cleared when the queue is empty', async () => {
    const { throttle } = setUp(1, 1);
    for (let round = 0; round < 100; round++) {
      const hold = take(throttle, 0);
      const waiting = [0.1, 0.2, 0.3].map((cost) => throttle.acquire(cost));
      throttle.configure({ capacity: Infinity });
      hold.release();
      for (const waiter of waiting) (await waiter).release();
      throttle.configure({ capacity: 1 });
    }
    expect(throttle.estimateWait(1)).toBe(0);
    take(throttle, 1).release();
    expect(throttle.estimateWait(0)).toBe(0);
  });
});

describe('idle', () => {
  test('resolves at once without work, otherwise after the last release of the last waiter', async () => {
    const { throttle } = setUp(Infinity, 1);
    await throttle.idle();
    const first = await throttle.acquire();
    const second = throttle.acquire();
    const idle = vi.fn();
    const both = [throttle.idle().then(idle), throttle.idle().then(idle)];
    first.release();
    await new Promise(setImmediate);
    expect(idle).not.toHaveBeenCalled();
    (await second).release();
    await Promise.all(both);
    expect(idle).toHaveBeenCalledTimes(2);
  });

  test('resolves when the last waiter aborts', async () => {
    const { throttle, clock } = setUp();
    const controller = new AbortController();
    throttle.pause();
    const waiting = throttle.acquire(1, { signal: controller.signal });
    const idle = throttle.idle();
    controller.abort();
    await expect(waiting).rejects.toBe(controller.signal.reason);
    await idle;
    expect(clock.pending).toBe(0);
  });

  test('await using closes the throttle and waits for running work', async () => {
    const log: string[] = [];
    const work = async (): Promise<void> => {
      for (let n = 0; n < 5; n++) await null;
      log.push('done');
    };
    {
      await using throttle = new Throttle(10, 1);
      void throttle.run(work);
      throttle.run(work).catch((error: Error) => log.push(error.name));
    }
    log.push('disposed');
    expect(log).toEqual(['ThrottleClosedError', 'done', 'disposed']);
  });
});

describe('interleavings', () => {
  test('in any order of job ends: at most `concurrency` jobs run, in call order, and all slots return', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 12 }),
        async (scheduler, concurrency, jobs) => {
          const throttle = new Throttle(Infinity, concurrency);
          const started: number[] = [];
          let inside = 0;
          let maxInside = 0;
          const job = (index: number) => async (): Promise<number> => {
            started.push(index);
            maxInside = Math.max(maxInside, ++inside);
            await scheduler.schedule(Promise.resolve(), `job ${index}`);
            inside--;
            if (index % 3 === 2) throw new Error(`job ${index}`);
            return index;
          };
          const all = Promise.allSettled(Array.from({ length: jobs }, (_, index) => throttle.run(job(index))));
          await scheduler.waitFor(all);
          expect(started).toEqual(Array.from({ length: jobs }, (_, index) => index));
          expect(maxInside).toBe(Math.min(concurrency, jobs));
          expect((await all).map(({ status }) => status)).toEqual(
            Array.from({ length: jobs }, (_, index) => (index % 3 === 2 ? 'rejected' : 'fulfilled')),
          );
          expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
        },
      ),
    );
  });

  test('in any order of aborts, releases and calls: every call settles and every slot returns', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(fc.constantFrom('plain', 'shared', 'own'), { minLength: 1, maxLength: 12 }),
        async (scheduler, kinds) => {
          const throttle = new Throttle(Infinity, 2);
          const shared = new AbortController();
          const calls = kinds.map(async (kind, index) => {
            await scheduler.schedule(Promise.resolve(), `arrive ${index}`);
            const controller = kind === 'shared' ? shared : new AbortController();
            const permit = throttle.acquire(1, { signal: controller.signal });
            if (kind === 'own')
              void scheduler.schedule(Promise.resolve(), `abort ${index}`).then(() => controller.abort());
            try {
              using _ = await permit;
              await scheduler.schedule(Promise.resolve(), `work ${index}`);
            } catch (error) {
              expect(error).toBe(controller.signal.reason);
            }
          });
          void scheduler.schedule(Promise.resolve(), 'abort shared').then(() => shared.abort());
          await scheduler.waitFor(Promise.all(calls));
          expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
          expect(throttle.tryAcquire()).toBeDefined();
        },
      ),
    );
  });
});
