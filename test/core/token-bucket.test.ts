/** The arithmetic of the token bucket. */
import { describe, expect, test } from 'vitest';
import { TokenBucket } from '../../src/core/token-bucket.js';
import { BUCKET_SCENARIOS, READY_TABLE, SETTLE_TABLE } from './token-bucket-tables.js';

describe('TokenBucket', () => {
  test.each(Object.entries(BUCKET_SCENARIOS))('%s', (_name, { limits, steps }) => {
    const tested = new TokenBucket(...limits);
    let serial = 0;
    for (const { t, take, ok, left } of steps) {
      expect(tested.readyAt(t, take) <= t, `readyAt(${t}, ${take})`).toBe(ok);
      expect(tested.take(t, take, ++serial), `take(${t}, ${take})`).toBe(ok);
      expect(tested.level(t)).toBeCloseTo(left, 9);
    }
  });

  test.each([...READY_TABLE])(
    '%d per %d s, burst %d, %d spent at 0: from %d on, a cost of %d fits at %d',
    (capacity, period, burst, spent, from, cost, at) => {
      const bucket = new TokenBucket(capacity, period, burst);
      expect(bucket.take(0, spent, 1)).toBe(true);
      expect(bucket.readyAt(from, cost)).toBeCloseTo(at, 9);
    },
  );

  test('a cost fits at its readyAt instant, for inexact rates and instants', () => {
    for (const rate of [1 / 3, 0.1, 7, 1e9, 1 / 604_800]) {
      for (const start of [0, 0.1, 1e3, 1e6, 1.7e9]) {
        const bucket = new TokenBucket(rate, 1, 1);
        expect(bucket.take(start, 1, 1)).toBe(true);
        let now = start;
        for (let n = 0; n < 1000; n++) {
          const at = bucket.readyAt(now, 1);
          // A step below the resolution of the numbers leaves the instant unchanged.
          expect(at).toBeGreaterThanOrEqual(now);
          now = at;
          expect(bucket.readyAt(now, 1)).toBeLessThanOrEqual(now);
          expect(bucket.take(now, 1, n + 2)).toBe(true);
        }
      }
    }
  });

  test.each([1 / 3, 0.1, 1e9, 1 / 604_800])('ten million takes at %d per second add up to the bound', (rate) => {
    const burst = Math.max(1, rate);
    const bucket = new TokenBucket(rate, 1, burst);
    // With the largest rate, a cost of 1 would take less time than the resolution of the numbers.
    const cost = rate > 1e6 ? 100 : 1;
    let now = 0;
    let granted = 0;
    for (let n = 0; n < 1e7; n++) {
      now = bucket.readyAt(now, cost);
      if (bucket.take(now, cost, n + 1)) granted += cost;
    }
    const bound = burst + rate * now;
    expect(granted / bound).toBeLessThan(1 + 1e-6);
    // The tokens of the last cost may not have flowed in yet.
    expect((granted + cost) / bound).toBeGreaterThan(1 - 1e-6);
  });

  test('a new bucket is full at every instant', () => {
    const bucket = new TokenBucket(10, 1, 10);
    expect([bucket.level(-Infinity), bucket.level(0), bucket.fullAt()]).toEqual([10, 10, -Infinity]);
  });

  test('a replacement keeps the tokens of the replaced bucket, up to its own burst', () => {
    const earlier = new TokenBucket(1, 1, 10);
    earlier.take(0, 7, 1);
    expect(new TokenBucket(10, 1, 20, 2, 1, earlier).level(2)).toBe(5);
    expect(new TokenBucket(10, 1, 4, 2, 1, earlier).level(2)).toBe(4);
  });

  test('a lowered level starts to refill at the latest instant, also if the clock goes back', () => {
    const bucket = new TokenBucket(1, 1, 10);
    bucket.take(100, 10, 1);
    bucket.lower(50, -2, 2);
    expect([bucket.level(50), bucket.level(101)]).toEqual([-2, -1]);
  });

  test('a debt is exact across eight changes of the limits, and charged in full across nine', () => {
    let bucket = new TokenBucket(1, 1, 16);
    bucket.take(0, 4, 1);
    // The true cost 10 leaves 6 tokens. That is more than the smaller burst holds, so the debt has no effect.
    const levels = Array.from({ length: 9 }, (_, index) => {
      bucket = new TokenBucket(1, 1, index % 2 === 0 ? 2 : 16, 0, 1, bucket);
      bucket.settle(0, 6, 1);
      const level = bucket.level(0);
      bucket.settle(0, -6, 1);
      return level;
    });
    expect(levels).toEqual([...Array.from({ length: 8 }, () => 2), -4]);
  });

  test('a grant from a time without a limit has no effect, also after hundreds of later grants', () => {
    const bucket = new TokenBucket(1, 1, 8, 0, 1);
    for (let now = 1; now <= 600; now++) bucket.take(now, 1, now + 1);
    bucket.settle(600, 4, 1);
    expect(bucket.level(600)).toBe(7);
  });

  test('a debt of an evicted bucket from before a time without a limit has no effect', () => {
    const evicted = new TokenBucket(1, 1, 8);
    evicted.take(0, 0, 1);
    // The limits of the evicted bucket became infinite, and finite again at 1.
    const bucket = new TokenBucket(1, 1, 8, 1, 0);
    bucket.settleEarlier(1, evicted, 3, 1);
    expect(bucket.level(1)).toBe(8);
  });

  test('a debt of an evicted bucket counts from the first grant on, also after hundreds of grants', () => {
    const evicted = new TokenBucket(1, 1, 8);
    evicted.take(0, 0, 1);
    const bucket = evicted.fresh();
    bucket.take(6, 8, 1);
    for (let now = 7; now <= 700; now++) bucket.take(now, 1, now - 5);
    // Of the debt of 8 tokens, the refill until 6 has paid 6.
    bucket.settleEarlier(700, evicted, 8, 1);
    expect(bucket.level(700)).toBe(-2);
  });

  test('a smaller burst since an eviction limits the effect of an older debt', () => {
    const evicted = new TokenBucket(1, 1, 8);
    evicted.take(0, 0, 1);
    const smaller = new TokenBucket(1, 1, 2, 0, 0, evicted.fresh());
    const larger = new TokenBucket(1, 1, 8, 0, 0, smaller);
    // The true cost 3 leaves 5 tokens, more than the smaller burst holds.
    larger.settleEarlier(0, evicted, 3, 1);
    expect(larger.level(0)).toBe(2);
    larger.settleEarlier(0, evicted, 4, 1);
    expect(larger.level(0)).toBe(1);
  });

  describe('settle leaves the level that a request of the true cost would have left', () => {
    test.each([...SETTLE_TABLE])('%s', (_name, first, t, second, cost, level) => {
      const bucket = new TokenBucket(1, 1, 10);
      bucket.take(0, first, 1);
      if (second > 0) expect(bucket.take(t, second, 2)).toBe(true);
      bucket.settle(t, cost - first, 1);
      expect(bucket.level(t)).toBeCloseTo(level, 9);
    });

    test('two settlements in either order leave the same level', () => {
      for (const order of [
        [1, 2],
        [2, 1],
      ]) {
        const bucket = new TokenBucket(1, 1, 10);
        bucket.take(0, 5, 1);
        bucket.take(0.5, 5, 2);
        // The true costs are 0 and 12. Of the refund of the first grant, 0.5 tokens would have overflowed.
        for (const serial of order) bucket.settle(12, serial === 1 ? -5 : 7, serial);
        expect(bucket.level(12)).toBeCloseTo(9.5, 9);
      }
    });

    test('settle ignores an instant before the latest instant', () => {
      const bucket = new TokenBucket(1, 1, 10);
      bucket.take(100, 10, 1);
      bucket.settle(50, -1, 1);
      expect(bucket.level(101)).toBeCloseTo(2, 9);
    });
  });
});
