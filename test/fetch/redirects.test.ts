/** Refusals after a redirect to another origin. */
import { ThrottleClosedError } from 'headgate';
import type { ThrottledFetchOptions } from 'headgate/fetch';
import { describe, expect, test } from 'vitest';
import {
  deferResponse,
  refusal,
  registerHooks,
  retryAfter,
  setUpFetch,
  setUpKeyedFetch,
  URL_A,
} from './fake-upstream.js';

registerHooks();

describe('a redirect', () => {
  const redirected = (response: Response, url: string): Response =>
    Object.defineProperties(response, { redirected: { value: true }, url: { value: url } });
  const B = 'https://b.example/there';

  test('pauses the origin that refused, and the retry waits for that origin (FAULTS 38)', async () => {
    const { clock, gate, upstream, limitedFetch } = setUpKeyedFetch([redirected(retryAfter(20), B)]);
    const response = limitedFetch(URL_A);
    await clock.advance(0);
    expect([gate.of('https://a.example').pausedFor, gate.of('https://b.example').pausedFor]).toEqual([0, 20]);
    // Requests to the redirecting origin continue meanwhile.
    await clock.advance(5);
    expect((await limitedFetch('https://a.example/other')).status).toBe(200);
    await clock.advance(14.999);
    expect(upstream.times).toEqual([0, 5]);
    await clock.advance(0.001);
    expect([(await response).status, upstream.times]).toEqual([200, [0, 5, 20]]);
    expect([...gate.throttles.values()].map(({ active, waiting }) => active + waiting)).toEqual([0, 0]);
  });

  test('a wait beyond maxPause does not pause the redirecting origin (FAULTS 38)', async () => {
    const { gate, limitedFetch } = setUpKeyedFetch([redirected(retryAfter(86_400), B)]);
    expect((await limitedFetch(URL_A)).status).toBe(429);
    expect([gate.of('https://a.example').pausedFor, gate.of('https://b.example').pausedFor]).toEqual([0, 300]);
  });

  test('the retry holds no slot of either origin during its wait', async () => {
    const { clock, gate, limitedFetch } = setUpKeyedFetch([redirected(retryAfter(20), B)], {}, 1);
    const response = limitedFetch(URL_A);
    await clock.advance(10);
    expect([
      gate.of('https://a.example').active,
      gate.of('https://b.example').active,
      gate.of('https://b.example').waiting,
    ]).toEqual([0, 0, 1]);
    await clock.advance(10);
    expect((await response).status).toBe(200);
  });

  test('two origins that redirect to each other do not deadlock', async () => {
    const { clock, limitedFetch } = setUpKeyedFetch(
      [redirected(retryAfter(2), B), redirected(retryAfter(2), URL_A), new Response('ok'), new Response('ok')],
      {},
      1,
    );
    const both = Promise.all([limitedFetch(URL_A), limitedFetch(B)]);
    await clock.advance(10);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
  });

  test('a late refusal after a redirect is late for the origin that refused', async () => {
    const [first, second] = [deferResponse(), deferResponse()];
    const { clock, gate, limitedFetch, upstream } = setUpKeyedFetch([first.promise, second.promise]);
    const both = Promise.all([limitedFetch(URL_A), limitedFetch('https://c.example/')]);
    await clock.advance(1);
    first.resolve(redirected(refusal(), B));
    await clock.advance(0.5);
    second.resolve(redirected(refusal(), B));
    await clock.advance(0);
    expect(gate.of('https://b.example').pausedFor).toBe(0.5);
    await clock.advance(0.5);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
    expect(upstream.times).toEqual([0, 0, 2, 2]);
  });

  test('an abort during the wait for the origin that refused spends no tokens of that origin', async () => {
    const { clock, gate, limitedFetch } = setUpKeyedFetch([redirected(retryAfter(20), B)]);
    const controller = new AbortController();
    const response = limitedFetch(URL_A, { signal: controller.signal });
    await clock.advance(1);
    const reason = new Error('caller aborted');
    controller.abort(reason);
    await expect(response).rejects.toBe(reason);
    await clock.advance(30);
    expect([gate.of('https://b.example').tokens, gate.of('https://b.example').waiting]).toEqual([100, 0]);
  });

  test('a turn at the origin that refused is refunded if the request is not sent', async () => {
    const { clock, gate, limitedFetch } = setUpKeyedFetch([redirected(retryAfter(20), B)]);
    const response = limitedFetch(URL_A);
    await clock.advance(1);
    gate.of('https://a.example').close();
    const outcome = expect(response).rejects.toBeInstanceOf(ThrottleClosedError);
    await clock.advance(19);
    await outcome;
    expect([gate.of('https://b.example').tokens, gate.of('https://b.example').active]).toEqual([100, 0]);
  });

  test.each<[string, ThrottledFetchOptions, string]>([
    ['a fixed key', { key: 'upstream' }, 'upstream'],
    ['a key function', { key: (input) => new URL(input as string).pathname }, '/items'],
  ])('%s stays the key after a redirect', async (_, options, key) => {
    const { clock, gate, limitedFetch } = setUpKeyedFetch([redirected(retryAfter(20), B)], options);
    const response = limitedFetch(URL_A);
    await clock.advance(0);
    expect([[...gate.throttles.keys()], gate.of(key).pausedFor]).toEqual([[key], 20]);
    await clock.advance(20);
    expect((await response).status).toBe(200);
  });

  test.each<[string, Response]>([
    ['within one origin', redirected(retryAfter(5), 'https://a.example/there')],
    ['to an empty URL', redirected(retryAfter(5), '')],
    ['that was not followed', Object.defineProperty(retryAfter(5), 'url', { value: B })],
  ])('%s keeps the key', async (_, reply) => {
    const { clock, gate, limitedFetch } = setUpKeyedFetch([reply]);
    const response = limitedFetch(URL_A);
    await clock.advance(0);
    expect([[...gate.throttles.keys()], gate.of('https://a.example').pausedFor]).toEqual([['https://a.example'], 5]);
    await clock.advance(5);
    expect((await response).status).toBe(200);
  });

  test('behind a gate without keys pauses that gate', async () => {
    const { clock, throttle, limitedFetch } = setUpFetch([redirected(retryAfter(5), B)]);
    const response = limitedFetch(URL_A);
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(5);
    await clock.advance(5);
    expect((await response).status).toBe(200);
  });
});
