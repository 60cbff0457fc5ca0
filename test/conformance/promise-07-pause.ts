/** Promise 7. A paused gate grants nothing until the latest deadline, or until `resume`. */
import { ThrottleTimeoutError } from 'headgate';
import { expect, test } from 'vitest';
import { errorOf, take, takeAll, type Suite } from './suite.js';

export function pause({ sectionIf, testIf, withGate, unit, long, late, features, expectBetween }: Suite): void {
  sectionIf(features.pause)('promise 7: pause', () => {
    test(
      'a pause holds present and later waiters until its deadline, and running work continues',
      withGate({ concurrency: 2 }, async ({ gate, advance, now, outcomes, acquireAs }) => {
        const holders = [await take(gate), await take(gate)];
        const running = holders[1]!;
        acquireAs('queued');
        const from = now();
        await gate.pause(unit);
        const to = now();
        holders[0]!.release();
        acquireAs('to come', 1);
        await advance(0.25 * unit);
        expect(outcomes.order).toEqual([]);
        expect(await gate.tryAcquire()).toBeUndefined();
        expect(running.released).toBe(false);
        running.release();
        await advance(unit);
        expect(outcomes.order).toEqual(['queued', 'to come']);
        for (const call of ['queued', 'to come']) expectBetween(outcomes.at(call), from + unit, to + unit);
      }),
    );

    test(
      'tryAcquire and a timeout of 0 fail on a paused gate with free slots',
      withGate({}, async ({ gate }) => {
        await gate.pause(long);
        expect(await gate.tryAcquire()).toBeUndefined();
        expect(await errorOf(() => gate.acquire(1, { timeout: 0 }))).toBeInstanceOf(ThrottleTimeoutError);
      }),
    );

    test.each([[[1, 2]], [[2, 1]], [[2, 1, 0]]])('the latest deadline of several pauses applies: %j', (spans) =>
      withGate({}, async ({ gate, advance, now, outcomes, acquireAs }) => {
        const from = now();
        for (const span of spans) await gate.pause(span * unit);
        const to = now();
        acquireAs('held');
        await advance(3.5 * unit);
        expectBetween(outcomes.at('held'), from + 2 * unit, to + 2 * unit);
      })(),
    );

    test(
      'pause(0) neither pauses nor resumes the gate',
      withGate({}, async ({ gate, advance, settled, outcomes, acquireAs }) => {
        await gate.pause(0);
        await take(gate);
        await gate.pause(long);
        acquireAs('held');
        await gate.pause(0);
        await advance(0.25 * unit);
        expect(outcomes.order).toEqual([]);
        await gate.resume();
        await settled();
        expect(outcomes.order).toEqual(['held']);
      }),
    );

    test(
      'pause() lasts until resume, which grants the waiters that fit, in order',
      withGate({ concurrency: 2 }, async ({ gate, advance, settled, outcomes, acquireAs }) => {
        await gate.pause();
        for (const call of ['a', 'b', 'c']) acquireAs(call);
        await advance(long / 500);
        expect(outcomes.order).toEqual([]);
        await gate.resume();
        await settled();
        expect(outcomes.order).toEqual(['a', 'b']);
        outcomes.permit('a').release();
        await settled();
        expect(outcomes.order).toEqual(['a', 'b', 'c']);
      }),
    );

    test(
      'resume ends every pause, and does nothing on a gate that is not paused',
      withGate({ concurrency: 1 }, async ({ gate }) => {
        await gate.resume();
        await gate.pause(long);
        await gate.pause(2 * long);
        await gate.resume();
        const permit = await take(gate);
        await gate.resume();
        expect(await gate.tryAcquire()).toBeUndefined();
        permit.release();
        await take(gate);
      }),
    );

    test(
      'a waiter that aborts during a pause holds nothing',
      withGate({ concurrency: 1 }, async ({ gate, advance, settled, outcomes, acquireAs }) => {
        const stop = new AbortController();
        await gate.pause();
        acquireAs('aborted', 1, { signal: stop.signal });
        acquireAs('stays');
        await settled();
        const reason = new Error('enough');
        stop.abort(reason);
        await advance(0.25 * unit);
        expect(outcomes.order).toEqual(['aborted!']);
        expect(outcomes.error('aborted')).toBe(reason);
        await gate.resume();
        await settled();
        expect(outcomes.order).toEqual(['aborted!', 'stays']);
        outcomes.permit('stays').release();
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    testIf(features.rate)(
      'tokens refill during a pause, up to the burst',
      withGate({ capacity: 2, period: unit }, async ({ gate, advance, now, outcomes, acquireAs }) => {
        await take(gate, 2);
        const from = now();
        await gate.pause(2 * unit);
        const to = now();
        acquireAs('first', 2);
        acquireAs('second', 2);
        await advance(3.5 * unit);
        expectBetween(outcomes.at('first'), from + 2 * unit, to + 2 * unit);
        expectBetween(outcomes.at('second'), from + 3 * unit, to + 3 * unit);
      }),
    );

    testIf(features.earlyRefusal)(
      'a timeout that ends before the pause is refused at once',
      withGate({}, async ({ gate, settled, outcomes, acquireAs }) => {
        await gate.pause(long);
        acquireAs('hopeless', 1, { timeout: long / 2 });
        await settled();
        expect(outcomes.error('hopeless')).toBeInstanceOf(ThrottleTimeoutError);
        expectBetween((outcomes.error('hopeless') as ThrottleTimeoutError).retryAfter ?? NaN, long - late, long);
      }),
    );
  });
}
