/** Promise 3. Grants come in the order of the calls, whatever the costs. */
import { ThrottleTimeoutError } from 'headgate';
import { expect, test } from 'vitest';
import { errorOf, take, takeAll, type Suite } from './suite.js';

export function fifo({ section, testIf, withGate, unit, long, early, features, expectBetween }: Suite): void {
  section('promise 3: first in, first out', () => {
    test(
      'acquire and run are granted in the order of the calls',
      withGate({ concurrency: 1 }, async ({ gate, settled }) => {
        const holder = await take(gate);
        const order: number[] = [];
        const all = Array.from({ length: 8 }, (_, index) => {
          if (index % 3 === 0) return gate.run(() => order.push(index));
          return gate.acquire(1, index % 3 === 1 ? { timeout: long } : undefined).then((permit) => {
            permit.release();
            return order.push(index);
          });
        });
        await settled();
        expect(order).toEqual([]);
        holder.release();
        await Promise.all(all);
        expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
      }),
    );

    test(
      'tryAcquire and a timeout of 0 fail while a caller waits, even in the tick of a release',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        acquireAs('first');
        acquireAs('second');
        await settled();
        holder.release();
        const [tried, error] = await Promise.all([gate.tryAcquire(), errorOf(() => gate.acquire(1, { timeout: 0 }))]);
        expect(tried).toBeUndefined();
        expect(error).toBeInstanceOf(ThrottleTimeoutError);
        await settled();
        expect(outcomes.order).toEqual(['first']);
        outcomes.permit('first').release();
        await settled();
        expect(outcomes.order).toEqual(['first', 'second']);
      }),
    );

    test(
      'a holder that releases and acquires again is granted after all earlier waiters',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        acquireAs('first');
        acquireAs('second');
        await settled();
        holder.release();
        acquireAs('again');
        for (const names of [['first'], ['first', 'second'], ['first', 'second', 'again']]) {
          await settled();
          expect(outcomes.order).toEqual(names);
          outcomes.permit(names.at(-1)!).release();
        }
      }),
    );

    test(
      'the remaining waiters keep their order when most of a long queue aborts',
      withGate({ concurrency: 5 }, async ({ gate, settled }) => {
        const holders = [await take(gate), await take(gate), await take(gate), await take(gate), await take(gate)];
        const stop = new AbortController();
        const order: number[] = [];
        const stays = (index: number): boolean => index % 4 === 1;
        const all = Array.from({ length: 300 }, async (__, index) => {
          using _ = await gate.acquire(1, stays(index) ? undefined : { signal: stop.signal });
          order.push(index);
        });
        const ends = Promise.allSettled(all);
        await settled();
        stop.abort();
        await settled();
        for (const holder of holders) holder.release();
        await ends;
        expect(order).toEqual(Array.from(all.keys()).filter(stays));
        expect(await takeAll(gate)).toHaveLength(5);
      }),
    );

    testIf(features.rate)(
      'small costs do not overtake a large one, even if their tokens are available',
      withGate({ capacity: 4, period: unit }, async ({ gate, advance, settled, now, outcomes, acquireAs }) => {
        const from = now();
        await take(gate, 4);
        const to = now();
        acquireAs('large', 4);
        await settled();
        for (let count = 0; count < 3; count++) {
          acquireAs(`small ${count}`, 0.5);
          await advance(0.2 * unit);
          if (now() < from + unit - early) {
            expect(await gate.tryAcquire(0.1)).toBeUndefined();
            expect(await errorOf(() => gate.acquire(0.1, { timeout: 0 }))).toBeInstanceOf(ThrottleTimeoutError);
            expect(await errorOf(() => gate.run(() => {}, 0.1, { timeout: 0 }))).toBeInstanceOf(ThrottleTimeoutError);
          }
        }
        await advance(unit);
        expect(outcomes.order).toEqual(['large', 'small 0', 'small 1', 'small 2']);
        expectBetween(outcomes.at('large'), from + unit, to + unit);
      }),
    );
  });
}
