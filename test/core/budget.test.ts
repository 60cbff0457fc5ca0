/** Several budgets as one. */
import { expect, test } from 'vitest';
import { CombinedBudget } from '../../src/core/budget.js';
import { SlidingWindow } from '../../src/core/sliding-window.js';
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

test('a debt of an evicted combination is charged to each budget by its place in the vector', () => {
  const [main, other, named] = [new TokenBucket(1, 1, 10), new SlidingWindow(10, 60), new TokenBucket(1, 1, 10)];
  const evicted = new CombinedBudget([main, other, named], [0, 0, 1]);
  expect(evicted.take(0, 0, 1, [0, 0])).toBe(true);
  const budgets = [main.fresh(), other.fresh(), named.fresh()];
  const combined = new CombinedBudget(budgets, [0, 0, 1]);
  const levels = (): number[] => budgets.map((budget) => budget.level(0));
  combined.settleEarlier(0, evicted, 2, 1, [2, 0]);
  expect(levels()).toEqual([8, 8, 10]);
  combined.settleEarlier(0, evicted, 0, 1, [0, 5]);
  expect(levels()).toEqual([8, 8, 5]);
  combined.settleEarlier(0, evicted, 1, 1);
  expect(levels()).toEqual([7, 7, 4]);
});

test('a level without a vector sets the rates without a name only', () => {
  const budgets = [new TokenBucket(1, 1, 10), new TokenBucket(1, 1, 20), new TokenBucket(1, 1, 10)];
  const combined = new CombinedBudget(budgets, [0, 0, 1]);
  const levels = (): number[] => budgets.map((budget) => budget.level(0));
  combined.lower(0, 4, 1);
  expect(levels()).toEqual([4, 4, 10]);
  combined.correct(0, 15, 1);
  expect(levels()).toEqual([10, 15, 10]);
});
