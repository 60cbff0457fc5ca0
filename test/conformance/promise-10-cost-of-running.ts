/** Promise 10. Listeners and stack depth do not grow with the number of waiters. */
import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { take, type Suite } from './suite.js';

export function costOfRunning({ section, withGate, tolerance }: Suite): void {
  section('promise 10: cost of running', () => {
    test(
      'all waiters on one signal share one listener',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        await take(gate);
        const stop = new AbortController();
        for (let count = 0; count < 20; count++) acquireAs(`${count}`, 1, { signal: stop.signal });
        await settled();
        expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
        stop.abort();
        await settled();
        expect(outcomes.order).toHaveLength(20);
      }),
    );

    test(
      'thousands of synchronous functions run through one slot, in order',
      withGate({ concurrency: 1 }, async ({ gate }) => {
        const order: number[] = [];
        const expected = Array.from({ length: tolerance === 0 ? 20_000 : 200 }, (_, index) => index);
        await Promise.all(expected.map((index) => gate.run(() => order.push(index))));
        expect(order).toEqual(expected);
      }),
    );
  });
}
