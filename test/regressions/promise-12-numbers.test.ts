/** Promise 12, numbers: drift, and very small and very large rates. */
import { Throttle } from 'headgate';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Outcomes, setUp, SkewedClock, take } from '../support/support.js';
import { DAY } from './expectations.js';

afterEach(() => void vi.useRealTimers());

describe('trap 19: grants do not drift', () => {
  test.each([
    [10, 1, 100_000],
    [1 / 3, 1, 2_000],
    [0.1, 7, 2_000],
    [3, 1, 2_000],
    [1, 7 * DAY, 1_000],
    [1e9, 1, 2_000],
  ])('%d per %d s: %d paced tasks end at the ideal time', async (capacity, period, tasks) => {
    const { clock, throttle } = setUp(capacity, 0, period, { burst: 1 });
    await clock.advance(1);
    const ends: number[] = [];
    const record = (): void => void ends.push(clock.now());
    const all = Promise.all(Array.from({ length: tasks }, () => throttle.run(record)));
    await clock.advance((tasks * period) / capacity);
    await all;
    for (const index of [1, 2, 10, 100, tasks - 1]) {
      const ideal = (index * period) / capacity;
      const error = Math.abs(ends[index]! - 1 - ideal) / ideal;
      expect(error).toBeLessThan(1e-6);
    }
    expect(throttle.waiting).toBe(0);
  });

  test('the lateness of timers does not add up', async () => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => seconds + 0.02;
    const throttle = new Throttle(10, 0, 1, { clock });
    take(throttle, 10);
    const outcomes = new Outcomes();
    for (let index = 0; index < 1_000; index++) outcomes.follow(`${index}`, throttle.acquire());
    await clock.passing.advance(100.1);
    expect(outcomes.order).toHaveLength(1_000);
  });

  test('a call after an idle half period is granted at once, and the next call in time [p-queue#251]', async () => {
    const { clock, throttle } = setUp(1);
    take(throttle);
    await clock.advance(1.5);
    const outcomes = new Outcomes();
    outcomes.follow('late', throttle.acquire());
    outcomes.follow('next', throttle.acquire());
    await clock.advance(0);
    expect(outcomes.order).toEqual(['late']);
    await clock.advance(0.99);
    expect(outcomes.order).toEqual(['late']);
    await clock.advance(0.01);
    expect(outcomes.order).toEqual(['late', 'next']);
  });
});

describe('trap 20: very small and very large numbers', () => {
  test('ten costs of 0.1 use exactly one token', async () => {
    const { clock, throttle } = setUp(1);
    for (let index = 0; index < 10; index++) take(throttle, 0.1);
    expect(throttle.tryAcquire(0.1)).toBeUndefined();
    for (let index = 0; index < 10; index++) await clock.advance(0.1);
    expect(throttle.tryAcquire(1)).toBeDefined();
    expect(throttle.tryAcquire(0.1)).toBeUndefined();
  });

  test.each([
    [0.1, 3, 0.3],
    [0.1, 6, 0.6],
    [0.7, 3, 2.1],
    [1 / 3, 3, 1],
  ])('a cost of %d, taken %d times, uses a burst of %d', (cost, times, burst) => {
    const { throttle } = setUp(1, 0, 1, { burst });
    for (let index = 0; index < times; index++) take(throttle, cost);
    expect(throttle.tryAcquire(cost / 1_000)).toBeUndefined();
  });

  test('one refilled token grants ten costs of 0.1', async () => {
    const { clock, throttle } = setUp(1);
    take(throttle, 1);
    await clock.advance(1);
    for (let index = 0; index < 10; index++) take(throttle, 0.1);
    expect(throttle.tryAcquire(0.1)).toBeUndefined();
  });

  test.each([
    [1e9, 1],
    [1e12, 1e-3],
    [1e15, 1],
    [Number.MAX_SAFE_INTEGER, 1],
    [1, 1e-9],
    [1, 1e-6],
    [1e300, 1],
    [1e-300, 1e-6],
    [1, Number.MAX_SAFE_INTEGER],
  ])('%d per %d s limits the rate, and no wait is zero [Guava#6475]', async (capacity, period) => {
    const { clock, throttle } = setUp(capacity, 0, period);
    const rate = capacity / period;
    const cost = throttle.burst;
    take(throttle, cost);
    expect(throttle.tokens).toBe(0);
    for (const part of [1, 0.5, 1e-3]) {
      expect(throttle.tryAcquire(cost * part)).toBeUndefined();
      expect(throttle.estimateWait(cost * part) / ((cost * part) / rate)).toBeCloseTo(1, 6);
    }
    const grants: number[] = [];
    for (let index = 0; index < 5; index++)
      throttle.acquire(cost).then(
        () => grants.push(clock.now()),
        () => {},
      );
    await clock.advance(0);
    expect([throttle.waiting, clock.pending]).toEqual([5, 1]);
    await clock.advance(((5 * cost) / rate) * (1 + 1e-9));
    expect(grants).toHaveLength(5);
    grants.forEach((at, index) => expect(at / (((index + 1) * cost) / rate)).toBeCloseTo(1, 9));
  });

  test('a wait of a microsecond is kept far from zero on the clock', async () => {
    const clock = new SkewedClock();
    clock.skew = 1e7;
    const throttle = new Throttle(1, 0, 1e-6, { clock });
    take(throttle);
    expect(throttle.tryAcquire()).toBeUndefined();
    expect(throttle.estimateWait()).toBeGreaterThan(0);
    const waiter = throttle.acquire();
    await clock.passing.advance(0);
    expect(throttle.waiting).toBe(1);
    await clock.passing.advance(2e-6);
    expect((await waiter).waited).toBeGreaterThan(0);
  });

  test('a wait on the system clock never arms a timer of 0 ms', async () => {
    vi.useFakeTimers();
    const timers = vi.spyOn(globalThis, 'setTimeout');
    const throttle = new Throttle(1e6, 0, 1, { burst: 1 });
    take(throttle);
    const waiter = throttle.acquire();
    expect(throttle.waiting).toBe(1);
    expect(timers.mock.calls.map(([, delay]) => delay)).toEqual([1]);
    await vi.advanceTimersByTimeAsync(1);
    await expect(waiter).resolves.toBeDefined();
  });

  test.each([
    [Number.MAX_VALUE, 0.5],
    [1, Number.MIN_VALUE],
    [Number.MIN_VALUE, 1e300],
  ])('a rate that a number cannot represent, %d per %d s, is refused', (capacity, period) => {
    expect(() => new Throttle(capacity, 0, period)).toThrow(RangeError);
  });

  test('only Infinity means no limit', () => {
    const { throttle } = setUp(Infinity);
    for (let index = 0; index < 1_000; index++) take(throttle, Number.MAX_VALUE);
    expect(throttle.active).toBe(1_000);
  });
});
