/** The arithmetic of the token bucket, in tables. */
import { describe, expect, test } from 'vitest';
import { TokenBucket } from '../../src/core/token-bucket.js';

type Step = { t: number; take: number; ok: boolean; left: number };

const scenarios: Record<string, { bucket: () => TokenBucket; steps: Step[] }> = {
  'starts full and refills evenly': {
    bucket: () => new TokenBucket(10, 1, 10),
    steps: [
      { t: 0, take: 10, ok: true, left: 0 },
      { t: 0, take: 1, ok: false, left: 0 },
      { t: 0.05, take: 1, ok: false, left: 0.5 },
      { t: 0.1, take: 1, ok: true, left: 0 },
      { t: 0.5, take: 4, ok: true, left: 0 },
      { t: 100, take: 10, ok: true, left: 0 },
    ],
  },
  'holds at most the burst after any idle time': {
    bucket: () => new TokenBucket(10, 1, 3),
    steps: [
      { t: 1e9, take: 4, ok: false, left: 3 },
      { t: 1e9, take: 3, ok: true, left: 0 },
      { t: 1e9 + 1, take: 3, ok: true, left: 0 },
    ],
  },
  'refills to a burst above the capacity': {
    bucket: () => new TokenBucket(1, 1, 3),
    steps: [
      { t: 0, take: 3, ok: true, left: 0 },
      { t: 1, take: 2, ok: false, left: 1 },
      { t: 2, take: 2, ok: true, left: 0 },
    ],
  },
  'a cost of 0 fits into an empty bucket': {
    bucket: () => new TokenBucket(1, 1, 1),
    steps: [
      { t: 0, take: 1, ok: true, left: 0 },
      { t: 0, take: 0, ok: true, left: 0 },
      { t: 1, take: 1, ok: true, left: 0 },
    ],
  },
  'an instant before the latest instant changes no level': {
    bucket: () => new TokenBucket(10, 1, 10),
    steps: [
      { t: 100, take: 10, ok: true, left: 0 },
      { t: 40, take: 1, ok: false, left: 0 },
      { t: 100.1, take: 1, ok: true, left: 0 },
      { t: 99, take: 1, ok: false, left: 0 },
      { t: 100.1, take: 1, ok: false, left: 0 },
      { t: 100.2, take: 1, ok: true, left: 0 },
    ],
  },
  'three costs of 0.1 fit into a burst of 0.3': {
    bucket: () => new TokenBucket(1e-9, 1, 0.3),
    steps: [
      { t: 0, take: 0.1, ok: true, left: 0.2 },
      { t: 0, take: 0.1, ok: true, left: 0.1 },
      { t: 0, take: 0.1, ok: true, left: 0 },
      { t: 0, take: 0.1, ok: false, left: 0 },
    ],
  },
};

describe('TokenBucket', () => {
  test.each(Object.entries(scenarios))('%s', (_name, { bucket, steps }) => {
    const tested = bucket();
    let serial = 0;
    for (const { t, take, ok, left } of steps) {
      expect(tested.readyAt(t, take) <= t, `readyAt(${t}, ${take})`).toBe(ok);
      expect(tested.take(t, take, ++serial), `take(${t}, ${take})`).toBe(ok);
      expect(tested.level(t)).toBeCloseTo(left, 9);
    }
  });

  test.each([
    // Columns: capacity, period, burst, tokens spent at 0, from, cost, readyAt.
    [10, 1, 10, 10, 0, 1, 0.1],
    [10, 1, 10, 10, 0.05, 1, 0.1],
    [10, 1, 10, 4, 0, 6, 0],
    [10, 1, 10, 4, 0, 7, 0.1],
    [1, 60, 1, 1, 0, 1, 60],
    [10, 1, 10, 10, 0, 30, 3],
    [10, 1, 10, 0, 5, 30, 7],
    [10, 1, 10, 10, 5, 30, 7],
  ])(
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

  describe('settle leaves the level that a request of the true cost would have left', () => {
    test.each([
      // Burst 10, 1 token per s. Columns: cost at 0, instant `t`, cost at `t`, true cost of the first grant, level at
      // `t`.
      ['a refund returns the unused tokens', 6, 0, 0, 2, 8],
      ['a debt takes tokens', 6, 0, 0, 9, 1],
      ['a debt can make the level negative', 10, 0, 0, 15, -5],
      ['a refund returns tokens that the refill has not replaced', 10, 2, 0, 4, 8],
      ['a refund adds no tokens to a full bucket', 10, 20, 0, 0, 10],
      ['a refund returns no tokens that would have overflowed', 10, 9, 9, 0, 1],
      ['a refund under load returns all tokens', 10, 5, 5, 6, 4],
      ['a refund returns the tokens that the refill since the grant left room for (FAULTS 8)', 5, 5, 5, 0, 5],
      ['the overflow since the grant pays a debt in full', 5, 100, 0, 8, 10],
      ['the overflow since the grant pays a debt in part', 5, 7, 0, 9, 8],
    ])('%s', (_name, first, t, second, cost, level) => {
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
