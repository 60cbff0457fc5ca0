/** The retries of a refused request, and the bodies that can be sent again. */
import { ThrottleClosedError } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { Outcomes } from '../support/support.js';
import { expectNothingHeld, registerHooks, type Reply, retryAfter, setUpFetch, URL_A } from './fake-upstream.js';

registerHooks();

describe('a refused request', () => {
  test.each([
    [undefined, [0, 1, 3]],
    [0, [0]],
    [1, [0, 1]],
    [4, [0, 1, 3, 7, 15]],
  ])(
    'with retries: %s is sent at %j s, each attempt spends the cost, and the last refusal is returned',
    async (retries, times) => {
      const replies = Array.from({ length: 9 }, (_, index) => new Response(`refusal ${index}`, { status: 503 }));
      const { clock, throttle, limitedFetch, upstream } = setUpFetch(replies, { retries, cost: 2 });
      const acquire = vi.spyOn(throttle, 'acquire');
      const response = limitedFetch(URL_A);
      await clock.advance(1_000);
      const last = times.length - 1;
      expect(await response).toBe(replies[last]);
      expect(await replies[last]!.text()).toBe(`refusal ${last}`);
      expect(upstream.times).toEqual(times);
      expect(acquire.mock.calls.map(([cost]) => cost)).toEqual(times.map(() => 2));
      expectNothingHeld(throttle);
      expect(clock.pending).toBe(0);
    },
  );

  test('is sent again until it succeeds, with retries: Infinity', async () => {
    const { clock, limitedFetch, upstream } = setUpFetch(
      Array.from({ length: 50 }, () => retryAfter(1)),
      { retries: Infinity },
    );
    const response = limitedFetch(URL_A);
    await clock.advance(50);
    expect([(await response).status, upstream.calls.length]).toEqual([200, 51]);
  });

  test('has its body cancelled and its slot released during its wait', async () => {
    const cancelled = vi.fn();
    const body = new ReadableStream({ cancel: () => (cancelled(), Promise.reject(new Error('lost'))) });
    const { clock, throttle, limitedFetch } = setUpFetch([new Response(body, { status: 429 })], { hold: 'body' });
    const response = limitedFetch(URL_A);
    await clock.advance(0);
    expect(cancelled).toHaveBeenCalledOnce();
    expect([throttle.active, throttle.waiting, throttle.tokens]).toEqual([0, 1, 100]);
    await clock.advance(1);
    expect(await (await response).text()).toBe('ok');
  });

  test.each([
    [200, 1],
    [404, 1],
    [429, 1],
    [500, 1],
    [503, 1],
    [520, 2],
    [999, 2],
  ])('is recognised by its status: with statuses [520, 999], a %d causes %d attempts', async (status, calls) => {
    const reply = Object.defineProperty(new Response(''), 'status', { value: status });
    const { clock, limitedFetch, upstream } = setUpFetch([reply], { statuses: [520, 999] });
    const response = limitedFetch(URL_A);
    await clock.advance(5);
    await response;
    expect(upstream.calls).toHaveLength(calls);
  });

  test('queues behind the other requests', async () => {
    const { clock, limitedFetch } = setUpFetch([retryAfter(1)], {}, [100, 1]);
    const outcomes = new Outcomes();
    for (const name of ['refused', 'second', 'third']) outcomes.follow(name, limitedFetch(URL_A));
    await clock.advance(5);
    expect(outcomes.order).toEqual(['second', 'third', 'refused']);
  });

  test('rejects with the error of the gate, if the gate closes during the pause', async () => {
    const { clock, throttle, limitedFetch } = setUpFetch([retryAfter(5)]);
    const response = limitedFetch(URL_A);
    await clock.advance(1);
    throttle.close();
    await expect(response).rejects.toBeInstanceOf(ThrottleClosedError);
    expectNothingHeld(throttle);
  });

  const form = new FormData();
  form.set('a', '1');
  test.each<[string, boolean, () => unknown]>([
    ['a string', true, () => 'hello'],
    ['an empty string', true, () => ''],
    ['null', true, () => null],
    ['an ArrayBuffer', true, () => new ArrayBuffer(3)],
    ['a Uint8Array', true, () => new Uint8Array(3)],
    ['a DataView', true, () => new DataView(new ArrayBuffer(3))],
    ['a Blob', true, () => new Blob(['hello'])],
    ['a FormData', true, () => form],
    ['a URLSearchParams', true, () => new URLSearchParams('a=1')],
    ['a stream', false, () => new ReadableStream()],
    [
      'an async iterable',
      false,
      async function* () {
        yield new Uint8Array(3);
      },
    ],
    ['an object of an unknown type', false, () => ({ pipe: () => {} })],
  ])('with %s as its body: is it sent again, unchanged? %s', async (_, isSentAgain, createBody) => {
    const { clock, limitedFetch, upstream } = setUpFetch([retryAfter(1)]);
    const body = createBody();
    const response = limitedFetch(URL_A, { method: 'POST', body } as RequestInit);
    await clock.advance(1);
    expect((await response).status).toBe(isSentAgain ? 200 : 429);
    expect(upstream.calls).toHaveLength(isSentAgain ? 2 : 1);
    for (const { init } of upstream.calls) expect(init?.body).toBe(body);
  });

  /** Consumes the body of the request, as the real fetch does. */
  const consumeBody =
    (texts: string[], reply: () => Response): Reply =>
    async ({ input, init }) => {
      texts.push(await new Request(input, init).text());
      return reply();
    };

  test('given as a Request with a body sends the same bytes each time, and consumes the given Request', async () => {
    const texts: string[] = [];
    const refuse = consumeBody(texts, () => retryAfter(1));
    const { clock, limitedFetch, upstream } = setUpFetch([refuse, refuse, refuse]);
    const request = new Request(URL_A, {
      method: 'POST',
      body: 'hello',
      headers: { 'x-a': '1' },
      referrer: '',
      referrerPolicy: 'origin',
    });
    const clone = vi.spyOn(Request.prototype, 'clone');
    const response = limitedFetch(request);
    await clock.advance(60);
    expect([(await response).status, texts]).toEqual([429, ['hello', 'hello', 'hello']]);
    expect(upstream.calls[0]!.input).toBe(request);
    expect(upstream.calls.map(({ input }) => (input as Request).headers.get('x-a'))).toEqual(['1', '1', '1']);
    for (const { input, init } of upstream.calls)
      expect({ ...init }).toEqual(
        input === request ? {} : { referrer: '', referrerPolicy: 'origin', signal: request.signal },
      );
    expect(request.bodyUsed).toBe(true);
    // The last attempt needs no clone.
    expect(clone).toHaveBeenCalledTimes(2);
    clone.mockRestore();
  });

  test('given as a Request is not cloned if init has the body, or if no body exists', async () => {
    const clone = vi.spyOn(Request.prototype, 'clone');
    const texts: string[] = [];
    const refuse = consumeBody(texts, () => retryAfter(1));
    const { clock, limitedFetch } = setUpFetch([refuse, refuse, refuse, refuse]);
    const both = Promise.all([
      limitedFetch(new Request(URL_A, { method: 'POST', body: 'hello' }), { body: 'instead' }),
      limitedFetch(new Request(URL_A)),
    ]);
    await clock.advance(60);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
    expect(texts.toSorted()).toEqual(['', '', 'instead', 'instead']);
    expect(clone).not.toHaveBeenCalled();
    clone.mockRestore();
  });

  test('given as a Request with a body and an init sends both each time', async () => {
    const texts: string[] = [];
    const { clock, limitedFetch, upstream } = setUpFetch([consumeBody(texts, () => retryAfter(1))]);
    const init = { headers: { 'x-a': '1' }, referrer: 'https://a.example/' };
    const response = limitedFetch(
      new Request(URL_A, { method: 'POST', body: 'hello', referrerPolicy: 'origin' }),
      init,
    );
    await clock.advance(1);
    expect([(await response).status, texts]).toEqual([200, ['hello']]);
    expect(upstream.calls[0]!.init).toEqual(init);
    expect(upstream.calls[1]!.init).toMatchObject({ ...init, referrerPolicy: 'origin' });
  });

  test('given as a Request is not cloned with retries: 0', async () => {
    const clone = vi.spyOn(Request.prototype, 'clone');
    const { limitedFetch } = setUpFetch([retryAfter(1)], { retries: 0 });
    expect((await limitedFetch(new Request(URL_A, { method: 'POST', body: 'hello' }))).status).toBe(429);
    expect(clone).not.toHaveBeenCalled();
    clone.mockRestore();
  });
});
