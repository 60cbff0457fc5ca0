/** Promise 12. Rounding neither blocks a caller nor grants extra tokens. */
import { expect, test } from 'vitest';
import { take, type Suite } from './suite.js';

export function numbers({ sectionIf, withGate, long, features }: Suite): void {
  sectionIf(features.rate)('promise 12: numbers', () => {
    test(
      'ten costs of 0.1 use exactly one token',
      withGate({ capacity: 1, period: long }, async ({ gate }) => {
        for (let count = 0; count < 10; count++) await take(gate, 0.1);
        expect(await gate.tryAcquire(0.1)).toBeUndefined();
      }),
    );

    test(
      'costs of 0.9 and 0.1 fit into one token despite rounding',
      withGate({ capacity: 1, period: long }, async ({ gate }) => {
        await take(gate, 0.9);
        await take(gate, 0.1);
      }),
    );
  });
}
