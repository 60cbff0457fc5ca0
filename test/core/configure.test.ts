/** The `configure` method. */
import type { Limits } from 'headgate';
import { describe, expect, test } from 'vitest';
import { setUp, take } from '../support/support.js';

describe('configure', () => {
  test('changes only the given limits; a burst that was not given follows the capacity', () => {
    const { throttle } = setUp(10, 2);
    throttle.configure({ capacity: 20 });
    expect([throttle.capacity, throttle.concurrency, throttle.period, throttle.burst, throttle.tokens]).toEqual([
      20, 2, 1, 20, 10,
    ]);
    throttle.configure({ burst: 5, period: 2 });
    expect([throttle.capacity, throttle.period, throttle.burst, throttle.tokens]).toEqual([20, 2, 5, 5]);
    throttle.configure({ capacity: 3, concurrency: 0 });
    expect([throttle.capacity, throttle.concurrency, throttle.burst, throttle.tokens]).toEqual([3, 0, 5, 5]);
    // After an explicit `undefined`, the burst follows the capacity again (FAULTS 18).
    throttle.configure({ burst: undefined });
    expect([throttle.burst, throttle.tokens]).toEqual([3, 3]);
    throttle.configure({ capacity: 7 });
    expect([throttle.burst, throttle.tokens]).toEqual([7, 3]);
  });

  test('refuses waiters whose cost exceeds the new burst and grants waiters that fit, synchronously', async () => {
    const { throttle } = setUp(10, 1);
    const hold = take(throttle, 4);
    const large = throttle.acquire(8).catch((error: unknown) => error);
    const small = throttle.acquire(1);
    const limits: Limits = { burst: 2, concurrency: 2 };
    throttle.configure(limits);
    expect([throttle.waiting, throttle.active]).toEqual([0, 2]);
    expect(await large).toMatchObject({
      name: 'RangeError',
      message: expect.stringContaining(
        'cost must be at most 2, the burst of Throttle (10 per 1 s, 2 at a time), received 8',
      ) as string,
    });
    (await small).release();
    hold.release();
  });

  test('changes a limited rate to an unlimited rate and back', async () => {
    const { throttle, clock } = setUp(10);
    take(throttle, 10);
    const waiting = throttle.acquire(10);
    throttle.configure({ capacity: Infinity });
    expect([throttle.waiting, throttle.tokens, clock.pending]).toEqual([0, Infinity, 0]);
    (await waiting).release();
    throttle.configure({ capacity: 4 });
    expect([throttle.tokens, throttle.burst]).toEqual([4, 4]);
  });

  test('a debt of a grant from before the first rate limit is ignored, also after eight changes of the limits', () => {
    const { throttle } = setUp(Infinity);
    const permit = take(throttle);
    for (let capacity = 10; capacity <= 18; capacity++) throttle.configure({ capacity, burst: 10 });
    permit.settle(5);
    expect(throttle.tokens).toBe(10);
  });
});

test('after more than eight changes of the limits, a refund of an old grant is dropped and its debt is charged', () => {
  const { throttle } = setUp(10, 0, 1);
  const [refunded, indebted] = [take(throttle, 3), take(throttle, 3)];
  for (let burst = 11; burst <= 22; burst++) throttle.configure({ burst });
  expect(throttle.tokens).toBe(4);
  refunded.refund();
  expect(throttle.tokens).toBe(4);
  indebted.settle(5);
  expect(throttle.tokens).toBe(2);
});
