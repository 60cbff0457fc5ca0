/** A drain finishes the accepted calls and refuses new ones. A clear refuses the waiters, and the gate stays open. */
import { getEventListeners } from 'node:events';
import { type Gate, QueueClearedError, ThrottleClosedError } from 'headgate';
import { expect, test } from 'vitest';
import { type Suite, take, takeAll } from './suite.js';

type Life = Required<Pick<Gate, 'drain' | 'clear'>>;

export function drainAndClear({ features, section, withGate, testIf, unit, long }: Suite): void {
  const lifeOf = (gate: Gate): Life => gate as Gate & Life;

  section('drain', () => {
    test(
      'a drain finishes the running and the waiting calls in order, refuses new calls, and then resolves',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        acquireAs('a');
        outcomes.follow(
          'b',
          gate.run(() => {}),
        );
        await settled();
        outcomes.follow('drain', lifeOf(gate).drain());
        acquireAs('new', 1, { timeout: long });
        outcomes.follow(
          'new run',
          gate.run(() => {}),
        );
        await settled();
        expect(outcomes.order.toSorted()).toEqual(['new run!', 'new!']);
        for (const call of ['new', 'new run']) {
          expect(outcomes.error(call)).toBeInstanceOf(ThrottleClosedError);
          expect(outcomes.error(call).message).toMatch(/draining/);
        }
        expect(await gate.tryAcquire()).toBeUndefined();
        holder.release();
        await settled();
        expect(outcomes.order.slice(2)).toEqual(['a']);
        expect(await gate.tryAcquire()).toBeUndefined();
        outcomes.permit('a').release();
        await settled();
        expect(outcomes.order.slice(3).toSorted()).toEqual(['b', 'drain']);
        outcomes.follow('again', lifeOf(gate).drain());
        await settled();
        expect(outcomes.order.at(-1)).toBe('again');
        expect(await gate.tryAcquire()).toBeUndefined();
      }),
    );

    test(
      'close during a drain refuses the remaining waiters, and the drain resolves with the last release',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        acquireAs('waiting');
        await settled();
        outcomes.follow('drain', lifeOf(gate).drain());
        await settled();
        const reason = new Error('no more time');
        await gate.close(reason);
        await settled();
        expect(outcomes.order).toEqual(['waiting!']);
        expect(outcomes.error('waiting')).toMatchObject({ code: 'ERR_THROTTLE_CLOSED', cause: reason });
        holder.release();
        await settled();
        expect(outcomes.order).toEqual(['waiting!', 'drain']);
      }),
    );

    test(
      'a waiter of a draining gate can abort',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        const stop = new AbortController();
        acquireAs('waiting', 1, { signal: stop.signal });
        await settled();
        outcomes.follow('drain', lifeOf(gate).drain());
        stop.abort();
        await settled();
        expect(outcomes.order).toEqual(['waiting!']);
        holder.release();
        await settled();
        expect(outcomes.order).toEqual(['waiting!', 'drain']);
      }),
    );

    testIf(features.pause)(
      'a pause also holds the waiters of a draining gate, and a resume grants them',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        acquireAs('waiting');
        await settled();
        outcomes.follow('drain', lifeOf(gate).drain());
        await gate.pause();
        holder.release();
        await settled();
        expect(outcomes.order).toEqual([]);
        await gate.resume();
        await settled();
        expect(outcomes.order).toEqual(['waiting']);
        outcomes.permit('waiting').release();
        await settled();
        expect(outcomes.order).toEqual(['waiting', 'drain']);
      }),
    );

    testIf(features.rate)(
      'a draining gate still waits for tokens',
      withGate({ capacity: 1, period: unit }, async ({ gate, advance, settled, outcomes, acquireAs }) => {
        (await take(gate)).release();
        acquireAs('waiting');
        await settled();
        outcomes.follow('drain', lifeOf(gate).drain());
        await advance(1.5 * unit);
        expect(outcomes.order).toEqual(['waiting']);
        outcomes.permit('waiting').release();
        await settled();
        expect(outcomes.order).toEqual(['waiting', 'drain']);
      }),
    );
  });

  section('clear', () => {
    test(
      'a clear refuses every waiter with its reason, and the gate goes on',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const { signal } = new AbortController();
        const holder = await take(gate);
        acquireAs('a');
        acquireAs('b', 1, { signal, timeout: long });
        let started = false;
        outcomes.follow(
          'run',
          gate.run(() => (started = true)),
        );
        await settled();
        const reason = new Error('the user has left');
        await lifeOf(gate).clear(reason);
        await settled();
        expect(outcomes.order.toSorted()).toEqual(['a!', 'b!', 'run!']);
        for (const call of ['a', 'b', 'run']) {
          expect(outcomes.error(call)).toBeInstanceOf(QueueClearedError);
          expect(outcomes.error(call)).toMatchObject({ code: 'ERR_THROTTLE_CLEARED', cause: reason });
          expect(outcomes.error(call)).not.toHaveProperty('retryAfter');
        }
        expect([started, holder.released, getEventListeners(signal, 'abort')]).toEqual([false, false, []]);
        acquireAs('next');
        await settled();
        holder.release();
        await settled();
        expect(outcomes.order.at(-1)).toBe('next');
        outcomes.permit('next').release();
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    test(
      'a release and a clear in the same tick lose no slot',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        for (const first of ['release', 'clear'] as const) {
          const holder = await take(gate);
          acquireAs(first);
          await settled();
          if (first === 'clear') void lifeOf(gate).clear();
          holder.release();
          if (first === 'release') void lifeOf(gate).clear();
          await settled();
          if (outcomes.order.at(-1) === first) outcomes.permit(first).release();
          else expect(outcomes.error(first)).toBeInstanceOf(QueueClearedError);
          const all = await takeAll(gate);
          expect(all).toHaveLength(1);
          all[0]?.release();
        }
      }),
    );

    testIf(features.rate)(
      'a cleared waiter spends no tokens',
      withGate({ capacity: 4, period: long }, async ({ gate, settled, acquireAs }) => {
        const all = await take(gate, 4);
        acquireAs('a', 2);
        acquireAs('b', 4);
        await settled();
        await lifeOf(gate).clear();
        all.refund();
        await settled();
        await take(gate, 4);
      }),
    );

    test(
      'a clear of a draining gate ends the drain with the last release',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        acquireAs('waiting');
        await settled();
        outcomes.follow('drain', lifeOf(gate).drain());
        await lifeOf(gate).clear();
        await settled();
        expect(outcomes.order).toEqual(['waiting!']);
        holder.release();
        await settled();
        expect(outcomes.order).toEqual(['waiting!', 'drain']);
      }),
    );
  });
}
