/** Promise 8. An abort rejects with the reason of the signal, and a timeout with `ThrottleTimeoutError`. */
import { getEventListeners } from 'node:events';
import { type Gate, ThrottleTimeoutError } from 'headgate';
import { expect, test } from 'vitest';
import { errorOf, take, takeAll, type Suite } from './suite.js';

export function cancellation({
  section,
  sectionIf,
  testIf,
  withGate,
  unit,
  long,
  early,
  late,
  features,
  expectBetween,
}: Suite): void {
  section('promise 8: abort signals', () => {
    const gates: Record<
      string,
      { supported: boolean; prepare: (gate: Gate) => unknown; then: (gate: Gate) => unknown }
    > = {
      free: { supported: true, prepare: () => {}, then: () => {} },
      'out of slots': { supported: true, prepare: (gate) => take(gate), then: () => {} },
      paused: { supported: features.pause, prepare: (gate) => gate.pause(), then: (gate) => gate.resume() },
    };
    for (const [state, { supported, prepare, then }] of Object.entries(gates)) {
      testIf(supported)(
        `an aborted signal rejects with its reason and takes nothing, on a gate that is ${state}`,
        withGate({ concurrency: 2 }, async ({ gate, settled }) => {
          await take(gate);
          await prepare(gate);
          const reason = new Error('changed my mind');
          let started = false;
          const signal = AbortSignal.abort(reason);
          expect(await errorOf(() => gate.acquire(1, { signal }))).toBe(reason);
          expect(await errorOf(() => gate.acquire(1, { signal, timeout: 0 }))).toBe(reason);
          expect(await errorOf(() => gate.run(() => (started = true), 1, { signal }))).toBe(reason);
          await settled();
          expect(started).toBe(false);
          expect(getEventListeners(signal, 'abort')).toEqual([]);
          await then(gate);
          expect(await takeAll(gate)).toHaveLength(state === 'out of slots' ? 0 : 1);
        }),
      );
    }

    testIf(features.rate)(
      'an aborted signal spends no tokens',
      withGate({ capacity: 3, period: long }, async ({ gate }) => {
        const signal = AbortSignal.abort();
        expect(await errorOf(() => gate.acquire(3, { signal }))).toBe(signal.reason);
        expect(await errorOf(() => gate.run(() => {}, 3, { signal }))).toBe(signal.reason);
        await take(gate, 3);
      }),
    );

    test.each<[string, unknown]>([
      ['an Error', new Error('enough')],
      ['a string', 'enough'],
      ['null', null],
      ['a TimeoutError', new DOMException('late', 'TimeoutError')],
    ])('an abort rejects a waiter with the reason itself: %s', (_, reason) =>
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        await take(gate);
        const stop = new AbortController();
        acquireAs('acquire', 1, { signal: stop.signal });
        outcomes.follow(
          'run',
          gate.run(() => {}, 1, { signal: stop.signal }),
        );
        await settled();
        stop.abort(reason);
        await settled();
        expect(outcomes.order).toEqual(['acquire!', 'run!']);
        expect(outcomes.error('acquire')).toBe(reason);
        expect(outcomes.error('run')).toBe(reason);
      })(),
    );

    test(
      'an abort without a reason rejects a waiter with an AbortError',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        await take(gate);
        const stop = new AbortController();
        acquireAs('waiting', 1, { signal: stop.signal });
        await settled();
        stop.abort();
        await settled();
        expect(outcomes.error('waiting')).toMatchObject({ name: 'AbortError' });
      }),
    );
  });

  section('promise 8: timeouts', () => {
    test(
      'a timeout of 0 grants at once or rejects, and never queues',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const permit = await gate.acquire(1, { timeout: 0 });
        acquireAs('never', 1, { timeout: 0 });
        outcomes.follow(
          'nor run',
          gate.run(() => 1, 1, { timeout: 0 }),
        );
        await settled();
        expect(outcomes.order).toEqual(['never!', 'nor run!']);
        for (const call of ['never', 'nor run']) expect(outcomes.error(call)).toBeInstanceOf(ThrottleTimeoutError);
        permit.release();
        expect(await gate.run(() => 'now', 1, { timeout: 0 })).toBe('now');
      }),
    );

    test(
      'a timeout of undefined or Infinity never ends, and a signal of undefined is ignored',
      withGate({ concurrency: 1 }, async ({ gate, advance, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        acquireAs('undefined', undefined, { timeout: undefined, signal: undefined });
        acquireAs('Infinity', 1, { timeout: Infinity });
        acquireAs('empty', 1, {});
        await advance(2 * unit);
        holder.release();
        for (const call of ['undefined', 'Infinity', 'empty']) {
          await settled();
          outcomes.permit(call).release();
        }
        expect(outcomes.order).toEqual(['undefined', 'Infinity', 'empty']);
      }),
    );

    test(
      'a timeout has no effect after the grant',
      withGate({ concurrency: 1 }, async ({ gate, advance, settled, outcomes, acquireAs }) => {
        const holder = await take(gate);
        acquireAs('met', 1, { timeout: 0.5 * unit });
        await settled();
        holder.release();
        await advance(unit);
        expect(outcomes.order).toEqual(['met']);
        expect(outcomes.permit('met').released).toBe(false);
        expect(await gate.tryAcquire()).toBeUndefined();
      }),
    );

    sectionIf(features.rate)('with too few tokens', () => {
      test(
        'a timeout that is long enough for the refill is met',
        withGate({ capacity: 1, period: unit }, async ({ gate, advance, outcomes, acquireAs }) => {
          await take(gate);
          acquireAs('met', 1, { timeout: unit + late });
          await advance(1.5 * unit + late);
          expect(outcomes.order).toEqual(['met']);
        }),
      );

      test(
        'the retryAfter of a timeout of 0 includes the tokens of all waiters',
        withGate({ capacity: 1, period: unit, burst: 4 }, async ({ gate, settled, acquireAs, now }) => {
          const from = now();
          await take(gate, 4);
          acquireAs('ahead', 3);
          await settled();
          const error = await errorOf(() => gate.acquire(2, { timeout: 0 }));
          const passed = now() - from;
          expect(error).toBeInstanceOf(ThrottleTimeoutError);
          const { retryAfter = NaN } = error as ThrottleTimeoutError;
          expect(retryAfter).toBeGreaterThanOrEqual(5 * unit - passed - early);
          expect(retryAfter).toBeLessThanOrEqual(5 * unit + early);
        }),
      );
    });

    testIf(features.rate && features.earlyRefusal)(
      'a timeout that is too short for the refill is refused at once and spends nothing',
      withGate({ capacity: 1, period: long, burst: 4 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const all = await take(gate, 4);
        acquireAs('hopeless', 2, { timeout: 1.5 * long });
        outcomes.follow(
          'hopeless run',
          gate.run(() => {}, 2, { timeout: 1.5 * long }),
        );
        await settled();
        expect(outcomes.order).toEqual(['hopeless!', 'hopeless run!']);
        for (const call of ['hopeless', 'hopeless run']) {
          const error = outcomes.error(call) as ThrottleTimeoutError;
          expect(error).toBeInstanceOf(ThrottleTimeoutError);
          expectBetween(error.retryAfter ?? NaN, 2 * long - late, 2 * long);
        }
        acquireAs('ahead', 1, { timeout: 1.5 * long });
        acquireAs('hopeless behind it', 1, { timeout: 1.5 * long });
        await settled();
        expect(outcomes.order.slice(2)).toEqual(['hopeless behind it!']);
        all.refund();
        await settled();
        await take(gate, 3);
      }),
    );
  });
}
