/** The pause after a refusal: its length, and the requests that it holds. */
import type { ThrottledFetchOptions } from 'headgate/fetch';
import { describe, expect, test, vi } from 'vitest';
import { Outcomes } from '../support/support.js';
import {
  deferResponse,
  expectNothingHeld,
  refusal,
  registerHooks,
  retryAfter,
  setUpFetch,
  URL_A,
} from './fake-upstream.js';

const random = registerHooks();

describe('trap 28: a pause holds all requests, not only the refused one [octokit/plugin-throttling#629]', () => {
  test('queued and future requests wait, and running requests finish', async () => {
    const slow = deferResponse();
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([retryAfter(5), slow.promise], {}, [100, 2]);
    const outcomes = new Outcomes();
    for (const name of ['refused', 'running', 'queued']) outcomes.follow(name, limitedFetch(URL_A));
    await clock.advance(1);
    outcomes.follow('upcoming', limitedFetch(URL_A));
    expect(throttle.tryAcquire()).toBeUndefined();
    slow.resolve(new Response('ok'));
    await clock.advance(3.999);
    expect([outcomes.order, upstream.times]).toEqual([['running'], [0, 0]]);
    await clock.advance(0.001);
    expect([outcomes.order.toSorted(), upstream.times]).toEqual([
      ['queued', 'refused', 'running', 'upcoming'],
      [0, 0, 5, 5, 5],
    ]);
    expectNothingHeld(throttle);
    expect(throttle.tokens).toBeCloseTo(97);
  });

  test('the next waiter is not granted the slot of the refused request', async () => {
    const { clock, limitedFetch, upstream } = setUpFetch([retryAfter(5)], { retries: 0 }, [100, 1]);
    const both = [limitedFetch(URL_A), limitedFetch(URL_A)];
    await clock.advance(10);
    await Promise.all(both);
    expect(upstream.times).toEqual([0, 5]);
  });

  test.each<[string, ThrottledFetchOptions, Parameters<typeof fetch>]>([
    ['without retries', { retries: 0 }, [URL_A]],
    [
      'with a stream as its body',
      {},
      [URL_A, { method: 'POST', body: new ReadableStream(), duplex: 'half' } as RequestInit],
    ],
  ])('the refusal of a request %s pauses the gate, and is returned', async (_, options, call) => {
    const reply = retryAfter(5);
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([reply], options);
    expect(await limitedFetch(...call)).toBe(reply);
    expect(await reply.text()).toBe('slow down');
    expect(throttle.pausedFor).toBe(5);
    expectNothingHeld(throttle);
    void limitedFetch(URL_A);
    await clock.advance(10);
    expect(upstream.times).toEqual([0, 5]);
  });

  test('a burst of refusals pauses once: late refusals neither extend nor double the pause', async () => {
    const lateReplies = Array.from({ length: 10 }, deferResponse);
    const { clock, throttle, limitedFetch, upstream } = setUpFetch(lateReplies.map(({ promise }) => promise));
    const pause = vi.spyOn(throttle, 'pause');
    const all = Promise.all(lateReplies.map(() => limitedFetch(URL_A)));
    for (const { resolve } of lateReplies) {
      await clock.advance(0.05);
      resolve(refusal());
    }
    await clock.advance(0);
    expect(pause.mock.calls).toEqual([[1]]);
    expect(throttle.pausedFor).toBeCloseTo(0.55);
    await clock.advance(1);
    await all;
    expect(upstream.times.slice(10).map((at) => at.toFixed(3))).toEqual(Array.from({ length: 10 }, () => '1.050'));
  });

  test('a late refusal after the end of the pause does not pause the gate again', async () => {
    const late = deferResponse();
    const { clock, throttle, limitedFetch } = setUpFetch([refusal(), late.promise]);
    const both = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(30);
    late.resolve(refusal());
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(0);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
  });

  test('a refusal with a wait of 0 pauses nothing, so a later refusal is not late', async () => {
    const replies = Array.from({ length: 2 }, deferResponse);
    const { clock, throttle, limitedFetch } = setUpFetch(
      replies.map(({ promise }) => promise),
      { retries: 0, refusal: ({ status }) => (status === 403 ? 0 : status === 429) },
    );
    const pause = vi.spyOn(throttle, 'pause');
    const all = Promise.all(replies.map(() => limitedFetch(URL_A)));
    replies[0]?.resolve(refusal({}, 403));
    await clock.advance(0);
    expect(pause).not.toHaveBeenCalled();
    replies[1]?.resolve(refusal());
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(1);
    await all;
  });

  test('behind one gate, a late refusal of another origin is late, too', async () => {
    const late = deferResponse();
    const { clock, throttle, limitedFetch } = setUpFetch([refusal(), late.promise]);
    const both = Promise.all([limitedFetch(URL_A), limitedFetch('https://b.example/')]);
    await clock.advance(0.5);
    late.resolve(refusal());
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(0.5);
    await clock.advance(1);
    await both;
  });

  test('a refusal of a request that was sent after the pause pauses the gate again, for twice as long', async () => {
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([
      refusal(),
      refusal(),
      refusal(),
      refusal(),
      refusal(),
    ]);
    const pause = vi.spyOn(throttle, 'pause');
    const both = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(60);
    expect((await both).map(({ status }) => status)).toEqual([429, 200]);
    expect([upstream.times, pause.mock.calls]).toEqual([
      [0, 0, 1, 1, 3, 3],
      [[1], [2], [4]],
    ]);
  });

  test('a refusal pauses the gate if the requests that were sent with it succeeded', async () => {
    const slow = deferResponse();
    const { clock, throttle, limitedFetch } = setUpFetch([new Response('ok'), slow.promise]);
    const both = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(1);
    slow.resolve(refusal());
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(1);
    await clock.advance(1);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
  });

  test('a refusal of a request sent after the pause is not late, even if an older request ends', async () => {
    const [slow, next] = [deferResponse(), deferResponse()];
    const { clock, throttle, limitedFetch } = setUpFetch([refusal(), slow.promise, next.promise]);
    const both = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(1);
    slow.resolve(new Response('ok'));
    await clock.advance(0);
    next.resolve(refusal());
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(2);
    await clock.advance(2);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
  });

  test('a late refusal with a stated wait pauses the gate for that wait', async () => {
    const late = deferResponse();
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([retryAfter(2), late.promise]);
    const both = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(1);
    late.resolve(retryAfter(3));
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(3);
    await clock.advance(3);
    await both;
    expect(upstream.times).toEqual([0, 0, 4, 4]);
  });

  test('a shorter stated wait never shortens a longer pause', async () => {
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([retryAfter(5), retryAfter(1)]);
    const both = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(5);
    await clock.advance(5);
    await both;
    expect(upstream.times).toEqual([0, 0, 5, 5]);
  });
});

describe('trap 29: the retry waits for the stated wait', () => {
  const WALL = Date.UTC(2026, 10, 21, 8);
  const httpDate = (seconds: number): string => new Date(WALL + seconds * 1000).toUTCString();

  test.each<[string, HeadersInit, number]>([
    ['seconds', { 'Retry-After': '31' }, 31],
    ['a date', { 'Retry-After': httpDate(45), Date: httpDate(0) }, 45],
    ['a date and a Date, with a wrong local clock', { 'Retry-After': httpDate(99_045), Date: httpDate(99_000) }, 45],
    ['a date, without a Date', { 'Retry-After': httpDate(45) }, 45],
    ['RateLimit', { RateLimit: '"a";r=0;t=7' }, 7],
    ['X-RateLimit-Reset', { 'X-RateLimit-Reset': String(WALL / 1000 + 9) }, 9],
    ['the longest wait that maxPause allows', { 'Retry-After': '60' }, 60],
    ['RateLimit-Reset', { 'RateLimit-Reset': '12' }, 12],
    ['milliseconds (FAULTS 20, openai-node#1477)', { 'retry-after-ms': '6000' }, 6],
    ['an instant since 1970 (FAULTS 20, ky#618)', { 'Retry-After': String(WALL / 1000 + 25) }, 25],
    [
      'two Retry-After fields: the longer wait (FAULTS 40)',
      [
        ['Retry-After', '30'],
        ['Retry-After', httpDate(45)],
      ],
      45,
    ],
    ['a date in the past: the backoff', { 'Retry-After': httpDate(-45) }, 1],
    ['0: the backoff', { 'Retry-After': '0' }, 1],
    ['garbage: the backoff', { 'Retry-After': 'soon' }, 1],
    ['garbage, then another field', { 'Retry-After': 'soon', RateLimit: 'limit=1, remaining=0, reset=8' }, 8],
    ['no field: the backoff', {}, 1],
  ])('%s: %o waits %d s', async (_, headers, wait) => {
    vi.spyOn(Date, 'now').mockReturnValue(WALL);
    const { clock, limitedFetch, upstream } = setUpFetch([refusal(headers)]);
    const response = limitedFetch(URL_A);
    await clock.advance(wait - 0.001);
    expect(upstream.times).toEqual([0]);
    await clock.advance(0.001);
    expect([upstream.times, (await response).status]).toEqual([[0, wait], 200]);
    vi.mocked(Date.now).mockRestore();
  });

  test.each<[string, string, ThrottledFetchOptions, number]>([
    ['seconds', '61', {}, 60],
    ['more seconds than a number can hold', '9'.repeat(400), {}, 60],
    ['the year 9999', 'Fri, 31 Dec 9999 23:59:59 GMT', {}, 60],
    ['seconds, with a custom maxPause', '6', { maxPause: 5 }, 5],
  ])(
    'a wait beyond maxPause (%s) returns the refusal, and pauses the gate for maxPause',
    async (_, wait, options, paused) => {
      random.mockReturnValue(0.999);
      const reply = retryAfter(wait);
      const { throttle, limitedFetch, upstream } = setUpFetch([reply], options);
      expect(await limitedFetch(URL_A)).toBe(reply);
      expect(await reply.text()).toBe('slow down');
      expect([throttle.pausedFor, upstream.calls.length]).toEqual([paused, 1]);
      expectNothingHeld(throttle);
    },
  );

  test('with maxPause: Infinity a huge wait pauses the gate for a finite time', async () => {
    random.mockReturnValue(0.999);
    const { clock, throttle, limitedFetch } = setUpFetch([retryAfter('9'.repeat(400))], { maxPause: Infinity });
    limitedFetch(URL_A).catch(() => {});
    await clock.advance(0);
    expect(throttle.pausedFor).toBeGreaterThan(9e11);
    expect(throttle.pausedFor).toBeLessThan(Infinity);
    throttle.close();
    await clock.advance(0);
  });

  test.each<[string, Response, number]>([
    ['the stated wait', retryAfter(8), 8],
    ['the backoff', refusal(), 1],
  ])('a random part of up to a quarter is added to %s', async (_, reply, wait) => {
    for (const [randomNumber, factor] of [
      [0, 1],
      [0.4, 1.1],
      [0.999_999, 1.25],
    ] as const) {
      random.mockReturnValue(randomNumber);
      const { throttle, limitedFetch, clock } = setUpFetch([reply.clone()]);
      const response = limitedFetch(URL_A);
      await clock.advance(0);
      expect(throttle.pausedFor).toBeCloseTo(wait * factor, 4);
      await clock.advance(100);
      expect((await response).status).toBe(200);
    }
  });

  test('the random part and the backoff stay within maxPause', async () => {
    random.mockReturnValue(0.999);
    const { clock, limitedFetch, upstream } = setUpFetch([retryAfter(9), refusal(), refusal(), refusal()], {
      maxPause: 10,
      retries: 9,
    });
    const response = limitedFetch(URL_A);
    await clock.advance(60);
    expect((await response).status).toBe(200);
    const waits = upstream.times.map((at, index) => at - (upstream.times[index - 1] ?? 0)).slice(1);
    expect(waits.map((wait) => wait.toFixed(1))).toEqual(['10.0', '2.5', '5.0', '10.0']);
    const second = setUpFetch([refusal()], { maxPause: 0.5 });
    const retried = second.limitedFetch(URL_A);
    await second.clock.advance(0.5);
    expect([(await retried).status, second.upstream.times]).toEqual([200, [0, 0.5]]);
  });
});
