/** Promise 9. A closed gate rejects every waiter and every later call, and lets running work finish. */
import { getEventListeners } from 'node:events';
import { ThrottleClosedError } from 'headgate';
import { expect, test } from 'vitest';
import { take, type Suite } from './suite.js';

export function close({ section, withGate, long }: Suite): void {
  section('promise 9: close', () => {
    test(
      'close rejects every waiter and every later call, with the first reason as the cause',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        await take(gate);
        acquireAs('waiting');
        acquireAs('with a timeout', 1, { timeout: long });
        outcomes.follow(
          'run',
          gate.run(() => {}),
        );
        await settled();
        const reason = new Error('shutting down');
        await gate.close(reason);
        await gate.close(new Error('too late'));
        acquireAs('later');
        outcomes.follow(
          'later run',
          gate.run(() => {}),
        );
        await settled();
        const calls = ['waiting', 'with a timeout', 'run', 'later', 'later run'];
        expect(outcomes.order.toSorted()).toEqual(calls.map((call) => `${call}!`).toSorted());
        for (const call of calls) {
          expect(outcomes.error(call)).toBeInstanceOf(ThrottleClosedError);
          expect(outcomes.error(call)).toMatchObject({ code: 'ERR_THROTTLE_CLOSED', cause: reason });
        }
        expect(await gate.tryAcquire()).toBeUndefined();
      }),
    );

    test(
      'a closed gate stays closed when permits are released',
      withGate({ concurrency: 2 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const permit = await take(gate);
        await gate.close();
        expect(await gate.tryAcquire()).toBeUndefined();
        permit.release();
        permit.refund();
        permit.release();
        await gate.resume();
        await settled();
        expect(permit.released).toBe(true);
        expect(await gate.tryAcquire()).toBeUndefined();
        acquireAs('later');
        await settled();
        expect(outcomes.error('later')).toBeInstanceOf(ThrottleClosedError);
      }),
    );

    test(
      'running work finishes after close, and its result passes through',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes }) => {
        let finish: (value: string) => void = () => {};
        outcomes.follow(
          'running',
          gate.run(() => new Promise<string>((resolve) => (finish = resolve))),
        );
        await settled();
        await gate.close();
        await settled();
        expect(outcomes.order).toEqual([]);
        finish('done');
        await settled();
        expect(outcomes.order).toEqual(['running']);
      }),
    );

    test(
      'close removes every abort listener',
      withGate({ concurrency: 1 }, async ({ gate, settled, acquireAs }) => {
        const { signal } = new AbortController();
        await take(gate);
        acquireAs('waiting', 1, { signal });
        await settled();
        await gate.close();
        await settled();
        expect(getEventListeners(signal, 'abort')).toEqual([]);
      }),
    );
  });
}
