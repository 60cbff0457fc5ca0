/** The Fenwick tree against a plain array whose prefix sums are computed from the start each time. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FenwickTree } from '../../src/core/fenwick-tree.js';

const step = fc.oneof(
  fc.record({ do: fc.constant('append' as const) }),
  fc.record({ do: fc.constant('add' as const), index: fc.nat(63), difference: fc.integer({ min: -8, max: 8 }) }),
);

test('prefix sums equal the sums of a plain array after any additions and appended numbers', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.array(step, { maxLength: 60 }), (length, steps) => {
      const tree = new FenwickTree(length);
      const numbers = Array.from({ length }, () => 0);
      for (const one of steps) {
        if (one.do === 'append') {
          tree.append();
          numbers.push(0);
        } else {
          const index = one.index % numbers.length;
          tree.add(index, one.difference);
          numbers[index]! += one.difference;
        }
        for (let end = 0; end <= numbers.length; end++)
          expect(tree.sumBefore(end)).toBe(numbers.slice(0, end).reduce((sum, number) => sum + number, 0));
      }
    }),
  );
});
