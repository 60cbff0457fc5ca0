/** The form of a cost, which adapters and `throttledFetch` check before they call a gate. */
import { describe, expect, test } from 'vitest';
import { checkCostForm } from '../../src/core/cost.js';

describe('the form of a cost', () => {
  test.each([0, 3, {}, { cost: 2 }, { tokens: 0, cost: undefined }, { 'any name': 1e9 }])('accepts %j', (cost) => {
    expect(() => checkCostForm('cost', cost)).not.toThrow();
  });

  test.each([
    [-1, 'RangeError: cost must be a finite number >= 0, received -1'],
    [null, 'TypeError: cost must be a finite number >= 0, received null'],
    ['1', 'TypeError: cost must be a finite number >= 0, received "1"'],
    [[1], 'TypeError: cost must be a finite number >= 0, received object'],
    [{ tokens: NaN }, 'RangeError: cost.tokens must be a finite number >= 0, received NaN'],
    [{ cost: '1' }, 'TypeError: cost.cost must be a finite number >= 0, received "1"'],
    [{ a: 1, b: Infinity }, 'RangeError: cost.b must be a finite number >= 0, received Infinity'],
  ])('refuses %j', (cost, message) => {
    expect(() => checkCostForm('cost', cost)).toThrow(message.slice(message.indexOf(' ') + 1));
    expect(() => checkCostForm('cost', cost)).toThrow(message.startsWith('R') ? RangeError : TypeError);
  });
});
