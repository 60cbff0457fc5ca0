/** The options that depend on the request or its refusal: `cost`, `skip` and `refundRefused`. */
import { KeyedThrottle, Throttle } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import {
  expectNothingHeld,
  FakeUpstream,
  refusal,
  registerHooks,
  retryAfter,
  setUpFetch,
  URL_A,
} from './fake-upstream.js';

registerHooks();

const never = (): Promise<never> => new Promise(() => {});

describe('cost', () => {
  test('a record charges each rate its entry, also for each key', async () => {
    const clock = new ManualClock();
    const also = [{ name: 'tokens' as const, capacity: 1_000, period: 1e12 }];
    const gate = new KeyedThrottle(100, 0, 1e12, { clock, also });
    const fetch = async (): Promise<Response> => new Response('ok');
    await throttledFetch(gate, { fetch, cost: { tokens: 300 } })(URL_A);
    await throttledFetch(gate, { fetch, cost: async () => ({ cost: 2, tokens: 5 }) })(URL_A);
    const { tokens, levels } = gate.peek('https://a.example')!;
    expect([Math.round(tokens), Math.round(levels.tokens)]).toEqual([97, 695]);
  });

  test('an unknown name rejects the request, which is not sent', async () => {
    const { throttle, limitedFetch, upstream } = setUpFetch([], { cost: { tokns: 1 } });
    await expect(limitedFetch(URL_A)).rejects.toThrow(/cost\.tokns is not a rate/);
    expect([upstream.calls.length, throttle.tokens]).toEqual([0, 100]);
  });

  test('a later change of the record has no effect', async () => {
    const cost = { cost: 5 };
    const { throttle, limitedFetch } = setUpFetch([], { cost });
    cost.cost = 50;
    await limitedFetch(URL_A);
    expect(throttle.tokens).toBe(95);
  });

  test('a number joins the queue synchronously, and asynchronous costs queue in the order of their results', async () => {
    const delays = [2, 1];
    const clock = new ManualClock();
    const throttle = new Throttle(100, 1, 1, { clock });
    const { fetch, calls } = new FakeUpstream(clock);
    const limitedFetch = throttledFetch(throttle, {
      fetch,
      cost: () => new Promise<number>((resolve) => void clock.schedule(delays.shift()!, () => resolve(1))),
    });
    const both = Promise.all([limitedFetch('https://a.example/1'), limitedFetch('https://a.example/2')]);
    await clock.advance(2);
    await both;
    expect(calls.map(({ input }) => input)).toEqual(['https://a.example/2', 'https://a.example/1']);
  });

  test('the arguments are copied before an asynchronous cost is known', async () => {
    const { clock, limitedFetch, upstream } = setUpFetch([], { cost: async () => 1 });
    const [url, init] = [new URL(URL_A), { method: 'POST' }];
    const response = limitedFetch(url, init);
    url.hostname = 'b.example';
    init.method = 'DELETE';
    await clock.advance(0);
    await response;
    expect([(upstream.calls[0]!.input as URL).href, upstream.calls[0]!.init!.method]).toEqual([URL_A, 'POST']);
  });

  test('a clone of a Request that the function does not read is cancelled', async () => {
    const copies: Request[] = [];
    const { limitedFetch, upstream } = setUpFetch(
      [async ({ input }) => new Response(await (input as Request).text())],
      {
        cost: (input) => (copies.push(input as Request), 1),
        retries: 0,
      },
    );
    const request = new Request(URL_A, { method: 'POST', body: 'x' });
    const response = await limitedFetch(request);
    expect(copies[0]).not.toBe(request);
    expect(copies[0]!.bodyUsed).toBe(true);
    expect(upstream.calls[0]!.input).toBe(request);
    expect(await response.text()).toBe('x');
  });

  test('a Request without a body is passed itself', async () => {
    const seen: unknown[] = [];
    const { limitedFetch } = setUpFetch([], { cost: (input) => (seen.push(input), 1) });
    const request = new Request(URL_A);
    await limitedFetch(request);
    expect(seen).toEqual([request]);
  });

  test('an abort while the cost is computed rejects at once', async () => {
    const { throttle, limitedFetch, upstream } = setUpFetch([], { cost: never });
    const controller = new AbortController();
    const removed = vi.spyOn(controller.signal, 'removeEventListener');
    const response = limitedFetch(new Request(URL_A, { method: 'POST', body: 'x' }), { signal: controller.signal });
    const reason = new Error('caller aborted');
    controller.abort(reason);
    await expect(response).rejects.toBe(reason);
    expect([upstream.calls.length, throttle.tokens, removed.mock.calls.length]).toEqual([0, 100, 1]);
    expectNothingHeld(throttle);
  });
});

describe('skip', () => {
  test.each([
    ['true', true],
    ['a promise of true', Promise.resolve(true)],
  ])('%s sends the request unchanged and without a permit', async (_, result) => {
    const { throttle, limitedFetch, upstream } = setUpFetch([refusal()], { skip: () => result });
    const init = {};
    expect((await limitedFetch(URL_A, init)).status).toBe(429);
    expect(upstream.calls[0]!.init).toBe(init);
    expect([throttle.tokens, throttle.pausedFor]).toEqual([100, 0]);
  });

  test('false, or a promise of false, needs a permit', async () => {
    const { throttle, limitedFetch } = setUpFetch([], {
      skip: ({ method }) => (method === 'GET' ? false : Promise.resolve(false)),
    });
    await limitedFetch(URL_A);
    await limitedFetch(URL_A, { method: 'post' });
    expect(throttle.tokens).toBe(98);
  });

  test('a skipped request needs no key', async () => {
    const gate = new KeyedThrottle(1);
    const key = vi.fn(() => 'a');
    await throttledFetch(gate, { fetch: async () => new Response('ok'), skip: ({ url }) => url === '/health', key })(
      '/health',
    );
    expect(key).not.toHaveBeenCalled();
  });

  test.each<[string, () => unknown, string]>([
    ['throws', () => JSON.parse(''), 'JSON'],
    ['rejects', async () => JSON.parse(''), 'JSON'],
    ['returns a string', () => 'yes', 'skip must be a function that returns a boolean, received "yes"'],
    ['resolves with a number', async () => 1, 'skip must be a function that returns a boolean, received 1'],
  ])('a function that %s rejects the request, which is not sent', async (_, skip, message) => {
    const { throttle, limitedFetch, upstream } = setUpFetch([], { skip: skip as never });
    await expect(limitedFetch(URL_A)).rejects.toThrow(message);
    expect([upstream.calls.length, throttle.tokens]).toEqual([0, 100]);
  });

  test('an abort while the function runs rejects at once', async () => {
    const { limitedFetch, upstream } = setUpFetch([], { skip: never });
    const controller = new AbortController();
    const response = limitedFetch(URL_A, { signal: controller.signal });
    controller.abort(new Error('caller aborted'));
    await expect(response).rejects.toThrow('caller aborted');
    expect(upstream.calls.length).toBe(0);
  });
});

describe('a refused attempt', () => {
  test.each<[boolean | undefined, 'headers' | 'body', number]>([
    [undefined, 'headers', 100],
    [undefined, 'body', 100],
    [true, 'headers', 100],
    [false, 'headers', 95],
    [false, 'body', 95],
  ])('with refundRefused: %s and hold: %s, the gate has %i tokens', async (refundRefused, hold, tokens) => {
    const clock = new ManualClock();
    const throttle = new Throttle(100, 1, 1e12, { clock });
    const { fetch } = new FakeUpstream(clock, retryAfter(1));
    const limitedFetch = throttledFetch(throttle, { fetch, clock, retries: 0, cost: 5, refundRefused, hold });
    const response = await limitedFetch(URL_A);
    expect(Math.round(throttle.tokens)).toBe(tokens);
    await response.text();
    expectNothingHeld(throttle);
  });

  test('is charged again when it is sent again', async () => {
    const clock = new ManualClock();
    for (const [refundRefused, tokens] of [
      [true, 95],
      [false, 85],
    ] as const) {
      const throttle = new Throttle(100, 1, 1e12, { clock });
      const { fetch } = new FakeUpstream(clock, retryAfter(1), refusal({}, 503));
      const response = throttledFetch(throttle, { fetch, clock, cost: 5, refundRefused })(URL_A);
      await clock.advance(10);
      expect([(await response).status, Math.round(throttle.tokens)]).toEqual([200, tokens]);
    }
  });

  test('the pause precedes the refund: a waiter for the tokens does not start', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(1, 0, 1e6, { clock });
    const upstream = new FakeUpstream(clock, retryAfter(5));
    const limitedFetch = throttledFetch(throttle, { fetch: upstream.fetch, clock, retries: 0 });
    const both = [limitedFetch(URL_A), limitedFetch(URL_A)];
    await clock.advance(4.9);
    expect(upstream.times).toEqual([0]);
    await clock.advance(0.1);
    await Promise.all(both);
    expect(upstream.times).toEqual([0, 5]);
  });
});
