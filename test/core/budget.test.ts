/** Several budgets as one. */
import { expect, test } from 'vitest';
import { CombinedBudget } from '../../src/core/budget.js';
import { TokenBucket } from '../../src/core/token-bucket.js';

test('a fresh combination is full, has the same limits, and shares no tokens', () => {
  const combined = new CombinedBudget([new TokenBucket(10, 1, 10), new TokenBucket(30, 60, 30)]);
  expect(combined.take(0, 10, 1)).toBe(true);
  const fresh = combined.fresh();
  expect([fresh.burst, fresh.level(0), combined.level(0)]).toEqual([10, 10, 0]);
  expect(fresh.take(0, 10, 1)).toBe(true);
  expect([fresh.readyAt(0, 10), combined.readyAt(0, 10)]).toEqual([1, 1]);
});

test('a combination takes a cost from all budgets or from none', () => {
  const [fast, slow] = [new TokenBucket(10, 1, 10), new TokenBucket(4, 60, 4)];
  const combined = new CombinedBudget([fast, slow]);
  expect(combined.take(0, 3, 1)).toBe(true);
  expect(combined.take(0, 3, 2)).toBe(false);
  expect([fast.level(0), slow.level(0)]).toEqual([7, 1]);
});
