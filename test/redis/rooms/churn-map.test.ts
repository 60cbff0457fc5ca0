/** A map whose entries leave it soon. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ChurnMap } from '../../../src/redis/churn-map.js';

test('it has the entries and the order of a Map, also after thousands of removals', () => {
  const key = fc.integer({ min: 0, max: 9 });
  const operation = fc.oneof(
    fc.record({ kind: fc.constantFrom('set' as const, 'delete' as const), key }),
    fc.record({ kind: fc.constant('churn' as const), key: fc.constantFrom(100, 101) }),
    fc.record({ kind: fc.constant('clear' as const), key }),
  );
  fc.assert(
    fc.property(fc.array(operation), (operations) => {
      const [churned, plain] = [new ChurnMap<number, number>(), new Map<number, number>()];
      let value = 0;
      for (const { kind, key: name } of operations) {
        value++;
        if (kind === 'clear') [churned, plain].forEach((map) => map.clear());
        else if (kind === 'set') [churned, plain].forEach((map) => void map.set(name, value));
        else if (kind === 'delete') expect(churned.delete(name)).toBe(plain.delete(name));
        else
          for (let turn = 0; turn < 600; turn++) {
            churned.set(name, turn);
            expect(churned.delete(name)).toBe(true);
          }
        expect([churned.size, churned.has(name), churned.get(name)]).toEqual([
          plain.size,
          plain.has(name),
          plain.get(name),
        ]);
        expect([...churned.values()]).toEqual([...plain.values()]);
      }
    }),
    { numRuns: 30 },
  );
});
