/** The names of gates in messages. */
import { expect, test } from 'vitest';
import { labelOf } from '../../src/core/gate-label.js';

test.each([
  [{ describe: () => 'Throttle "api" (10 per 1 s)', name: 'api' }, 'Throttle "api" (10 per 1 s)'],
  [{ key: 'payments' }, 'RedisThrottle "payments"'],
  [{ name: 'own\n' }, 'the gate "own\\n"'],
  [{}, 'a gate without a name'],
])('the label of %j is %s', (gate, label) => {
  expect(labelOf(gate)).toBe(label);
});
