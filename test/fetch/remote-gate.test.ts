/** A gate whose methods are asynchronous and may fail, such as a gate on Redis. */
import type { Gate, Throttle } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import type { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { setUp } from '../support/support.js';
import { expectNothingHeld, FakeUpstream, registerHooks, retryAfter, URL_A } from './fake-upstream.js';

registerHooks();

describe('an asynchronous gate', () => {
  /** A gate whose methods take 0.1 s. With `failure`, pausing fails. */
  const createRemoteGate = (clock: ManualClock, throttle: Throttle, failure?: Error): Gate => {
    const roundTrip = async <T>(call: () => T): Promise<T> => {
      await new Promise<void>((resolve) => void clock.schedule(0.1, resolve));
      return call();
    };
    return {
      acquire: (...args) => throttle.acquire(...args),
      tryAcquire: (...args) => roundTrip(() => throttle.tryAcquire(...args)),
      run: (...args) => throttle.run(...args),
      pause: (seconds) =>
        roundTrip(() => {
          if (failure) throw failure;
          throttle.pause(seconds);
        }),
      resume: () => roundTrip(() => throttle.resume()),
      close: () => roundTrip(() => throttle.close()),
    };
  };

  test('a refusal pauses the gate before the slot is released and before the request queues again', async () => {
    const { clock, throttle } = setUp(100, 1);
    const upstream = new FakeUpstream(clock, retryAfter(5));
    const limitedFetch = throttledFetch(createRemoteGate(clock, throttle), { fetch: upstream.fetch });
    const both = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(0.05);
    expect(throttle.active).toBe(1);
    await clock.advance(6);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
    expect(upstream.times).toEqual([0, 5.1, 5.1]);
    expectNothingHeld(throttle);
  });

  test('trap 33: a failed acquire rejects the request, and nothing is sent or retried [firecrawl#3728]', async () => {
    const { clock, throttle } = setUp(100, 1);
    const upstream = new FakeUpstream(clock);
    const failure = Object.assign(new Error('connection lost'), { status: 429 });
    const acquire = vi.fn(() => Promise.reject(failure));
    const gate: Gate = { ...createRemoteGate(clock, throttle), acquire };
    await expect(throttledFetch(gate, { fetch: upstream.fetch })(URL_A)).rejects.toBe(failure);
    expect([acquire.mock.calls.length, upstream.calls.length]).toEqual([1, 0]);
  });

  test.each([0, 2])(
    'trap 33: a failed pause rejects the request, releases its slot and discards its response (retries: %d)',
    async (retries) => {
      const { clock, throttle } = setUp(100, 1);
      const cancelled = vi.fn();
      const upstream = new FakeUpstream(
        clock,
        new Response(new ReadableStream({ cancel: cancelled }), { status: 429 }),
      );
      const failure = new Error('connection lost');
      const response = throttledFetch(createRemoteGate(clock, throttle, failure), { fetch: upstream.fetch, retries })(
        URL_A,
      );
      const outcome = expect(response).rejects.toBe(failure);
      await clock.advance(1);
      await outcome;
      expect(cancelled).toHaveBeenCalledOnce();
      expectNothingHeld(throttle);
    },
  );
});
