/** Promise 4. The head of the queue is granted the moment it fits. */
import { ThrottleTimeoutError } from 'headgate';
import { expect, test } from 'vitest';
import { take, type Suite } from './suite.js';

export function workConservation({ section, sectionIf, withGate, unit, long, features, expectBetween }: Suite): void {
  section('promise 4: work conservation', () => {
    test(
      'one release grants the next waiter and no other',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        acquireAs('first');
        acquireAs('second');
        await settled();
        expect(outcomes.order).toEqual([]);
        holder.release();
        await settled();
        expect(outcomes.order).toEqual(['first']);
      }),
    );

    test(
      'several releases in one tick grant as many waiters, in order',
      withGate({ concurrency: 3 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holders = [await take(gate), await take(gate), await take(gate)];
        for (const call of ['a', 'b', 'c', 'd', 'e']) acquireAs(call);
        await settled();
        for (const holder of holders) holder.release();
        await settled();
        expect(outcomes.order).toEqual(['a', 'b', 'c']);
        outcomes.permit('b').release();
        outcomes.permit('a').release();
        await settled();
        expect(outcomes.order).toEqual(['a', 'b', 'c', 'd', 'e']);
      }),
    );

    sectionIf(features.rate)('with too few tokens', () => {
      test(
        'a head that aborts lets the next waiter be granted at once if its cost is available',
        withGate({ capacity: 4, period: unit }, async ({ gate, advance, settled, now, outcomes, acquireAs }) => {
          await take(gate, 4);
          const stop = new AbortController();
          acquireAs('heavy', 4, { signal: stop.signal });
          acquireAs('light', 1);
          await advance(0.5 * unit);
          expect(outcomes.order).toEqual([]);
          const from = now();
          stop.abort();
          await settled();
          expect(outcomes.order).toEqual(['heavy!', 'light']);
          expectBetween(outcomes.at('light'), from, from);
        }),
      );

      test(
        'a head that aborts re-times the next waiter',
        withGate(
          { capacity: 1, period: unit, burst: 4 },
          async ({ gate, advance, settled, now, outcomes, acquireAs }) => {
            const from = now();
            await take(gate, 4);
            const to = now();
            const stop = new AbortController();
            acquireAs('heavy', 4, { signal: stop.signal });
            acquireAs('light', 1);
            await settled();
            stop.abort();
            await advance(1.5 * unit);
            expect(outcomes.order).toEqual(['heavy!', 'light']);
            expectBetween(outcomes.at('light'), from + unit, to + unit);
          },
        ),
      );

      test(
        'a head that times out lets the next waiter be granted at once',
        withGate(
          { capacity: 1, period: unit, burst: 4 },
          async ({ gate, advance, settled, now, outcomes, acquireAs }) => {
            const indebted = await take(gate, 4);
            acquireAs('heavy', 1.5, { timeout: 2 * unit });
            acquireAs('light', 0.5);
            await settled();
            const from = now();
            indebted.settle(5.25);
            await advance(2.5 * unit);
            expect(outcomes.order).toEqual(['heavy!', 'light']);
            expect(outcomes.error('heavy')).toBeInstanceOf(ThrottleTimeoutError);
            expectBetween(outcomes.at('light'), from + 1.75 * unit, from + 2 * unit);
          },
        ),
      );

      test(
        'a refund or a lower settlement grants the head at once',
        withGate({ capacity: 4, period: long }, async ({ gate, settled, outcomes, acquireAs }) => {
          const [refunded, settledLower] = [await take(gate, 2), await take(gate, 2)];
          acquireAs('first', 2);
          acquireAs('second', 1);
          await settled();
          expect(outcomes.order).toEqual([]);
          refunded.refund();
          await settled();
          expect(outcomes.order).toEqual(['first']);
          settledLower.settle(1);
          await settled();
          expect(outcomes.order).toEqual(['first', 'second']);
        }),
      );
    });
  });
}
