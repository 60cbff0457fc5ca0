/** Requests that are aborted by the caller. */
import { describe, expect, test } from 'vitest';
import { Outcomes, take } from '../support/support.js';
import { expectNothingHeld, registerHooks, retryAfter, setUpFetch, URL_A } from './fake-upstream.js';

registerHooks();

describe('an abort', () => {
  const calls: Record<string, (signal: AbortSignal) => Parameters<typeof fetch>> = {
    init: (signal) => [URL_A, { signal }],
    'a Request': (signal) => [new Request(URL_A, { signal })],
    'init, which overrides the signal of a Request': (signal) => [
      new Request(URL_A, { signal: new AbortController().signal }),
      { signal },
    ],
  };

  describe.each(Object.entries(calls))('by the signal of %s', (_, createArguments) => {
    test('an abort in the queue removes the request, which spends nothing', async () => {
      const { clock, throttle, limitedFetch, upstream } = setUpFetch([], {}, [100, 1]);
      const holder = take(throttle);
      const controller = new AbortController();
      const outcomes = new Outcomes();
      outcomes.follow('aborted', limitedFetch(...createArguments(controller.signal)));
      outcomes.follow('next', limitedFetch(URL_A));
      const reason = new Error('caller aborted');
      controller.abort(reason);
      expect(throttle.waiting).toBe(1);
      holder.release();
      await clock.advance(0);
      expect(outcomes.order.toSorted()).toEqual(['aborted!', 'next']);
      expect(outcomes.error('aborted')).toBe(reason);
      expect([upstream.calls.length, throttle.tokens]).toEqual([1, 98]);
      expectNothingHeld(throttle);
    });

    test('an abort before the call rejects, and takes neither slot nor tokens', async () => {
      const { throttle, limitedFetch, upstream } = setUpFetch([]);
      const reason = new Error('caller aborted');
      await expect(limitedFetch(...createArguments(AbortSignal.abort(reason)))).rejects.toBe(reason);
      expect([upstream.calls.length, throttle.tokens]).toEqual([0, 100]);
      expectNothingHeld(throttle);
    });

    test('trap 33: an abort between the grant and the sending refunds the request, which is not sent', async () => {
      const { clock, throttle, limitedFetch, upstream } = setUpFetch([], { cost: 7 });
      const controller = new AbortController();
      const response = limitedFetch(...createArguments(controller.signal));
      expect(throttle.active).toBe(1);
      const reason = new Error('caller aborted');
      controller.abort(reason);
      await expect(response).rejects.toBe(reason);
      await clock.advance(0);
      expect([upstream.calls.length, throttle.tokens]).toEqual([0, 100]);
      expectNothingHeld(throttle);
    });

    test('an abort during the pause before a retry rejects at once', async () => {
      const { clock, throttle, limitedFetch, upstream } = setUpFetch([retryAfter(5)]);
      const controller = new AbortController();
      const response = limitedFetch(...createArguments(controller.signal));
      await clock.advance(1);
      const reason = new Error('caller aborted');
      controller.abort(reason);
      await expect(response).rejects.toBe(reason);
      expect([upstream.calls.length, clock.pending]).toEqual([1, 0]);
      expectNothingHeld(throttle);
    });
  });

  test('`signal: null` in init disables the signal of a Request', async () => {
    const { limitedFetch, throttle } = setUpFetch([]);
    const response = await limitedFetch(new Request(URL_A, { signal: AbortSignal.abort() }), { signal: null });
    expect(response.status).toBe(200);
    expectNothingHeld(throttle);
  });

  test('an abort rejects at once while `refusal` is pending, and its late result has no effect', async () => {
    let resolve!: (wait: number) => void;
    const refusal = (): Promise<number> => new Promise<number>((settle) => void (resolve = settle));
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([], { refusal });
    const controller = new AbortController();
    const response = limitedFetch(URL_A, { signal: controller.signal });
    await clock.advance(0);
    const reason = new Error('caller aborted');
    controller.abort(reason);
    await expect(response).rejects.toBe(reason);
    resolve(30);
    await clock.advance(60);
    expect([upstream.calls.length, throttle.pausedFor]).toEqual([1, 0]);
    expectNothingHeld(throttle);
  });
});
