/** Random histories with costs by name, slots, corrections and expiry: a throttle equals its model (budgets.ts). */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { budgetHistory, type Counts, createThrottle, createThrottleOfKey, playBudgets } from './budget-histories.js';

describe('costs by name, weighted slots, corrections and expiry', () => {
  const cases = [
    'settled in parts',
    'settled after the expiry',
    'corrected',
    'expired',
    'with several slots',
    'with no slot',
  ];

  test.each([
    ['a throttle', createThrottle],
    ['the throttle of a key', createThrottleOfKey],
  ])('%s equals the model after every step', { timeout: 120_000 }, async (_, create) => {
    const counts: Counts = new Map();
    await fc.assert(
      fc.asyncProperty(budgetHistory, async (settings) => {
        await playBudgets(create, settings, counts);
      }),
      { numRuns: 600 },
    );
    for (const what of cases) expect([what, (counts.get(what) ?? 0) > 20]).toEqual([what, true]);
  });
});
