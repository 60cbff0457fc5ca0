/** Promise 5. A waiter that leaves keeps nothing, and a granted permit always reaches its caller. */
import { getEventListeners } from 'node:events';
import { ThrottleTimeoutError } from 'headgate';
import { expect, test } from 'vitest';
import { errorOf, take, takeAll, type Suite } from './suite.js';

export function nothingLost({
  section,
  testIf,
  withGate,
  unit,
  long,
  tolerance,
  features,
  expectBetween,
}: Suite): void {
  section('promise 5: a waiter that leaves keeps nothing', () => {
    test(
      'an aborted waiter rejects at once with the reason itself and holds no slot',
      withGate({ concurrency: 2 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holders = [await take(gate), await take(gate)];
        const stop = new AbortController();
        acquireAs('gone', 1, { signal: stop.signal });
        acquireAs('aborted second', 1, { signal: stop.signal });
        await settled();
        const reason = new Error('changed my mind');
        stop.abort(reason);
        await settled();
        expect(outcomes.order.toSorted()).toEqual(['aborted second!', 'gone!']);
        expect(outcomes.error('gone')).toBe(reason);
        expect(outcomes.error('aborted second')).toBe(reason);
        for (const holder of holders) holder.release();
        expect(await takeAll(gate)).toHaveLength(2);
      }),
    );

    test(
      'a timed-out waiter rejects at its deadline and holds no slot',
      withGate({ concurrency: 1 }, async ({ gate, advance, now, outcomes, acquireAs }) => {
        const holder = await take(gate);
        const from = now();
        acquireAs('gone', 1, { timeout: unit });
        outcomes.follow(
          'aborted second',
          gate.run(() => 'done', 1, { timeout: 0.5 * unit }),
        );
        await advance(0.25 * unit);
        const to = now();
        expect(outcomes.order).toEqual([]);
        await advance(1.25 * unit);
        expect(outcomes.order).toEqual(['aborted second!', 'gone!']);
        expect(outcomes.error('gone')).toMatchObject({ code: 'ERR_THROTTLE_TIMEOUT' });
        expect(outcomes.error('gone')).toBeInstanceOf(ThrottleTimeoutError);
        expectBetween(outcomes.at('aborted second'), from + 0.5 * unit, to + 0.5 * unit);
        expectBetween(outcomes.at('gone'), from + unit, to + unit);
        holder.release();
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    testIf(features.rate)(
      'a waiter that aborts or times out spends no tokens',
      withGate({ capacity: 4, period: long }, async ({ gate, settled, outcomes, acquireAs }) => {
        const all = await take(gate, 4);
        const stop = new AbortController();
        for (const call of ['a', 'b', 'c']) acquireAs(call, 2, { signal: stop.signal });
        outcomes.follow(
          'd',
          gate.run(() => {}, 1, { signal: stop.signal }),
        );
        await settled();
        stop.abort();
        await settled();
        expect(outcomes.order.toSorted()).toEqual(['a!', 'b!', 'c!', 'd!']);
        await errorOf(() => gate.acquire(1, { timeout: 0 }));
        all.refund();
        await settled();
        await take(gate, 4);
      }),
    );

    testIf(features.rate)(
      'a waiter for a slot that aborts spends no tokens, even if they were available',
      withGate({ capacity: 4, concurrency: 1, period: long }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate, 0);
        const stop = new AbortController();
        acquireAs('acquire', 4, { signal: stop.signal });
        outcomes.follow(
          'run',
          gate.run(() => {}, 1, { signal: stop.signal }),
        );
        await settled();
        stop.abort();
        holder.release();
        await settled();
        expect(outcomes.order.toSorted()).toEqual(['acquire!', 'run!']);
        await take(gate, 4);
      }),
    );

    test(
      'an abort in the middle of the queue lets no later waiter overtake the head',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        const stop = new AbortController();
        acquireAs('a');
        acquireAs('b', 1, { signal: stop.signal });
        acquireAs('c');
        await settled();
        stop.abort();
        await settled();
        expect(outcomes.order).toEqual(['b!']);
        holder.release();
        await settled();
        expect(outcomes.order).toEqual(['b!', 'a']);
        outcomes.permit('a').release();
        await settled();
        expect(outcomes.order).toEqual(['b!', 'a', 'c']);
      }),
    );

    test(
      'waiters that share an aborted signal all reject before a release grants one of them',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        const stop = new AbortController();
        acquireAs('head', 1, { signal: stop.signal });
        acquireAs('stays');
        acquireAs('tail', 1, { signal: stop.signal });
        await settled();
        stop.abort();
        holder.release();
        await settled();
        expect(outcomes.order.toSorted()).toEqual(['head!', 'stays', 'tail!']);
        outcomes.permit('stays').release();
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    testIf(features.rate)(
      'waiters that share an aborted signal all reject, even if tokens are available for one of them',
      withGate({ capacity: 4, period: long }, async ({ gate, settled, outcomes, acquireAs }) => {
        await take(gate, 2);
        const stop = new AbortController();
        acquireAs('heavy', 4, { signal: stop.signal });
        acquireAs('light', 1, { signal: stop.signal });
        acquireAs('stays', 2);
        await settled();
        stop.abort();
        await settled();
        expect(outcomes.order.toSorted()).toEqual(['heavy!', 'light!', 'stays']);
      }),
    );

    test(
      'the function of an aborted run never starts',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes }) => {
        const holder = await take(gate);
        const stop = new AbortController();
        let started = false;
        outcomes.follow(
          'gone',
          gate.run(() => (started = true), 1, { signal: stop.signal }),
        );
        await settled();
        stop.abort();
        holder.release();
        await settled();
        expect([outcomes.order, started]).toEqual([['gone!'], false]);
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    test(
      'granted, aborted and timed-out waiters leave no listener on their signals',
      withGate({ concurrency: 1 }, async ({ advance, settled, outcomes, acquireAs }) => {
        const stays = new AbortController();
        const stop = new AbortController();
        acquireAs('free', 1, { signal: stays.signal });
        await settled();
        acquireAs('granted', 1, { signal: stays.signal });
        acquireAs('late', 1, { signal: stays.signal, timeout: 0.25 * unit });
        acquireAs('aborted', 1, { signal: stop.signal });
        await settled();
        stop.abort();
        await advance(0.5 * unit);
        outcomes.permit('free').release();
        await settled();
        expect(outcomes.order).toEqual(['free', 'aborted!', 'late!', 'granted']);
        expect(getEventListeners(stays.signal, 'abort')).toEqual([]);
        expect(getEventListeners(stop.signal, 'abort')).toEqual([]);
      }),
    );
  });

  section('promise 5: a grant and an abort in the same tick lose no slot', () => {
    for (const first of ['release', 'abort'] as const) {
      test(
        `acquire with the ${first} first: a permit or a rejection, and no slot is lost`,
        withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
          const holder = await take(gate);
          const stop = new AbortController();
          const reason = new Error('changed my mind');
          acquireAs('either', 1, { signal: stop.signal });
          await settled();
          if (first === 'abort') stop.abort(reason);
          holder.release();
          if (first === 'release') stop.abort(reason);
          await settled();
          if (outcomes.order[0] === 'either!') expect(outcomes.error('either')).toBe(reason);
          else {
            expect(outcomes.permit('either').released).toBe(false);
            expect(await gate.tryAcquire()).toBeUndefined();
            outcomes.permit('either').release();
          }
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );

      test(
        `run with the ${first} first: the function completes or never starts, and no slot is lost`,
        withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
          const holder = await take(gate);
          const stop = new AbortController();
          let started = 0;
          outcomes.follow(
            'either',
            gate.run(() => ++started, 1, { signal: stop.signal }),
          );
          acquireAs('next');
          await settled();
          if (first === 'abort') stop.abort();
          holder.release();
          if (first === 'release') stop.abort();
          await settled();
          expect(outcomes.order.toSorted()).toEqual([started === 1 ? 'either' : 'either!', 'next']);
          outcomes.permit('next').release();
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );
    }

    test(
      'an abort at any point between a grant and its delivery loses no slot',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        let holder = await take(gate);
        for (let turn = 0; turn < 10; turn++) {
          const stop = new AbortController();
          acquireAs(`${turn}`, 1, { signal: stop.signal });
          await settled();
          holder.release();
          for (let step = 0; step < turn; step++) await null;
          if (tolerance > 0) await new Promise((resolve) => void setTimeout(resolve, turn));
          stop.abort();
          await settled();
          expect(outcomes.order).toHaveLength(turn + 1);
          if (outcomes.order[turn] === `${turn}`) {
            holder = outcomes.permit(`${turn}`);
            expect(holder.released).toBe(false);
            expect(await gate.tryAcquire()).toBeUndefined();
          } else holder = await take(gate);
        }
      }),
    );

    test(
      'an abort or a timeout after the grant changes nothing',
      withGate({ concurrency: 1 }, async ({ gate, advance, settled, outcomes, acquireAs }) => {
        const stop = new AbortController();
        const options = { signal: stop.signal, timeout: 0.25 * unit };
        acquireAs('granted', 1, options);
        await settled();
        stop.abort();
        await advance(0.5 * unit);
        expect(outcomes.order).toEqual(['granted']);
        expect(outcomes.permit('granted').released).toBe(false);
        expect(await gate.tryAcquire()).toBeUndefined();
      }),
    );
  });
}
