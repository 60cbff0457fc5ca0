/** One request: its arguments, its cost, and its errors. */
import { KeyedThrottle, ThrottleClosedError } from 'headgate';
import { throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import { describe, expect, test } from 'vitest';
import { Outcomes, setUp } from '../support/support.js';
import { expectNothingHeld, FakeUpstream, registerHooks, setUpFetch, URL_A } from './fake-upstream.js';
import { ThrottleMap } from './throttle-map.js';

registerHooks();

describe('a request', () => {
  test('reaches the upstream unchanged, and its response reaches the caller unchanged', async () => {
    const reply = new Response('ok');
    const { limitedFetch, upstream, throttle } = setUpFetch([reply]);
    const init = { method: 'POST', body: 'x' };
    const input = new Request(URL_A);
    expect(await limitedFetch(input, init)).toBe(reply);
    expect(Object.hasOwn(reply, 'clone')).toBe(false);
    expect(upstream.calls[0]!.input).toBe(input);
    expect(upstream.calls[0]!.init).toEqual(init);
    expectNothingHeld(throttle);
    expect(throttle.tokens).toBe(99);
  });

  test.each<[string, () => HeadersInit, (headers: HeadersInit) => void]>([
    ['a Headers', () => new Headers({ 'x-n': '0' }), (headers) => (headers as Headers).set('x-n', '1')],
    ['an object', () => ({ 'x-n': '0' }), (headers) => void ((headers as Record<string, string>)['x-n'] = '1')],
    ['a list', () => [['x-n', '0']], (headers) => void ((headers as string[][])[0] = ['x-n', '1'])],
  ])(
    'is copied: later changes of the URL, the init and its headers (%s) do not affect it',
    async (_, createHeaders, change) => {
      const { clock } = setUp();
      const keyed = new KeyedThrottle(100, 0, 1, { clock });
      const upstream = new FakeUpstream(clock);
      keyed.pause('https://a.example', 5);
      const url = new URL(URL_A);
      const headers = createHeaders();
      const init = { method: 'POST', headers };
      const response = throttledFetch(keyed, { fetch: upstream.fetch })(url, init);
      url.hostname = 'b.example';
      change(headers);
      init.method = 'DELETE';
      await clock.advance(5);
      await response;
      const [{ input, init: sent } = {}] = upstream.calls;
      expect([(input as URL).href, sent?.method, new Headers(sent?.headers).get('x-n')]).toEqual([URL_A, 'POST', '0']);
    },
  );

  test('releases its slot although the body of its refusal cannot be cancelled', async () => {
    const withoutCancel = { status: 429, headers: new Headers(), body: {} } as unknown as Response;
    const { clock, limitedFetch, throttle } = setUpFetch([withoutCancel], {}, [100, 1]);
    const response = limitedFetch(URL_A);
    await clock.advance(1);
    expect((await response).status).toBe(200);
    expectNothingHeld(throttle);
  });

  test('may have a relative URL, which spends a token as any URL does', async () => {
    const { limitedFetch, throttle } = setUpFetch([]);
    expect((await limitedFetch('/items')).status).toBe(200);
    expect(throttle.tokens).toBe(99);
  });

  test('is sent in the order of the calls and within both limits', async () => {
    const { clock, limitedFetch, upstream, throttle } = setUpFetch([], {}, [1, 1]);
    const outcomes = new Outcomes();
    for (const name of ['a', 'b', 'c']) outcomes.follow(name, limitedFetch(`https://a.example/${name}`));
    // The calls have joined the queue synchronously.
    expect(throttle.waiting).toBe(2);
    await clock.advance(10);
    expect([outcomes.order, upstream.times]).toEqual([
      ['a', 'b', 'c'],
      [0, 1, 2],
    ]);
    expectNothingHeld(throttle);
  });

  test.each<[string, ThrottledFetchOptions['cost'], number]>([
    ['a number', 5, 5],
    ['zero', 0, 0],
    [
      'a function of the arguments',
      (input, init) => (input as string).length + (init!.body as string).length,
      URL_A.length + 3,
    ],
  ])('spends the cost given as %s', async (_, cost, expected) => {
    const { limitedFetch, throttle } = setUpFetch([], { cost });
    await limitedFetch(URL_A, { method: 'POST', body: 'abc' });
    expect(throttle.tokens).toBe(100 - expected);
  });

  test.each<[string, () => number]>([
    [
      'throws',
      () => {
        throw new RangeError('no cost');
      },
    ],
    ['returns NaN', () => Number.NaN],
  ])('is rejected and not sent if its cost function %s', async (_, cost) => {
    const { limitedFetch, throttle, upstream } = setUpFetch([], { cost });
    await expect(limitedFetch(URL_A)).rejects.toThrow(RangeError);
    expectNothingHeld(throttle);
    expect([throttle.tokens, upstream.calls.length]).toEqual([100, 0]);
  });

  test('that fails in transit rejects with its error, releases its slot and keeps its tokens spent', async () => {
    const error = new TypeError('fetch failed');
    const { limitedFetch, throttle, upstream } = setUpFetch([error]);
    await expect(limitedFetch(URL_A)).rejects.toBe(error);
    expectNothingHeld(throttle);
    expect([throttle.tokens, upstream.calls.length]).toEqual([99, 1]);
  });

  test('that the gate refuses rejects with the error of the gate', async () => {
    const { limitedFetch, throttle, upstream } = setUpFetch([]);
    throttle.close();
    await expect(limitedFetch(URL_A)).rejects.toBeInstanceOf(ThrottleClosedError);
    expect(upstream.calls).toEqual([]);
  });

  test.each<[string, unknown[]]>([
    ['a relative URL', ['/items']],
    ['an invalid URL', ['http://']],
    ['no arguments', []],
    ['null', [null]],
    ['credentials', ['https://user:password@a.example/']],
    ['a GET with a body', [URL_A, { body: 'x' }]],
    ['a signal of another type', [URL_A, { signal: 'now' }]],
    [
      'a used body',
      [Object.defineProperty(new Request(URL_A, { method: 'POST', body: 'x' }), 'bodyUsed', { value: true })],
    ],
  ])('with invalid arguments (%s) is rejected with the error of fetch, behind any gate', async (_, args) => {
    const call = args as Parameters<typeof fetch>;
    const request = args[0] instanceof Request ? args[0] : undefined;
    await request?.text();
    const expected = await fetch(...call).then(
      () => undefined,
      (error: Error) => error,
    );
    expect(expected).toBeInstanceOf(TypeError);
    const { throttle } = setUp();
    const keyed = new ThrottleMap<string>({});
    for (const limitedFetch of [throttledFetch(throttle), throttledFetch(keyed)]) {
      await expect(limitedFetch(...call)).rejects.toThrow(new TypeError(expected!.message));
    }
    expectNothingHeld(throttle);
    for (const each of keyed.throttles.values()) expectNothingHeld(each);
  });
});
