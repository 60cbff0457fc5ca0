/** The recognition of refusals, and the delay after a refusal without a stated wait. */
import { QueueClearedError, ThrottleClosedError } from 'headgate';
import { throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Outcomes, setUp } from '../support/support.js';
import {
  expectNothingHeld,
  FakeUpstream,
  refusal,
  registerHooks,
  retryAfter,
  setUpFetch,
  URL_A,
} from './fake-upstream.js';
import { ThrottleMap } from './throttle-map.js';

const random = registerHooks();

describe('a refusal without a stated wait', () => {
  const QUOTA_LEFT = { 'x-ratelimit-limit': '5000', 'x-ratelimit-remaining': '4990' };

  test('a 503 with quota left does not wait for the reset (FAULTS 19, octokit/plugin-throttling#566)', async () => {
    const WALL = Date.UTC(2026, 10, 21, 8);
    vi.spyOn(Date, 'now').mockReturnValue(WALL);
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([
      refusal({ ...QUOTA_LEFT, 'x-ratelimit-reset': String(WALL / 1000 + 200) }, 503),
    ]);
    const response = limitedFetch(URL_A);
    await clock.advance(0);
    vi.mocked(Date.now).mockRestore();
    expect(throttle.pausedFor).toBe(0);
    await clock.advance(1);
    expect([(await response).status, upstream.times]).toEqual([200, [0, 1]]);
  });

  test.each([500, 502, 503, 504, 529])(
    'a %d delays only the refused request, and does not pause the gate (FAULTS 39)',
    async (status) => {
      const replies = [refusal({}, status), new Response('ok'), refusal({}, status)];
      const { clock, throttle, limitedFetch, upstream } = setUpFetch(replies, { statuses: [status] }, [100, 1]);
      const pause = vi.spyOn(throttle, 'pause');
      const outcomes = new Outcomes();
      outcomes.follow('refused', limitedFetch(URL_A));
      outcomes.follow('queued', limitedFetch(URL_A));
      await clock.advance(0);
      expect([outcomes.order, throttle.active, throttle.waiting]).toEqual([['queued'], 0, 0]);
      await clock.advance(0.999);
      expect(upstream.times).toEqual([0, 0]);
      await clock.advance(60);
      expect([outcomes.order, upstream.times]).toEqual([
        ['queued', 'refused'],
        [0, 0, 1, 3],
      ]);
      expect(pause).not.toHaveBeenCalled();
      expectNothingHeld(throttle);
      expect(clock.pending).toBe(0);
    },
  );

  test('a 503 with a stated wait pauses the gate for at most maxPause', async () => {
    const { throttle, limitedFetch } = setUpFetch([refusal({ 'Retry-After': '86400' }, 503)]);
    expect((await limitedFetch(URL_A)).status).toBe(503);
    expect(throttle.pausedFor).toBe(60);
  });

  test('a stated wait of a day pauses a gate without keys for 60 s, and a key for 300 s (FAULTS 39)', async () => {
    const { clock, throttle } = setUp();
    const gate = new ThrottleMap<string>({ clock });
    const upstream = new FakeUpstream(clock, retryAfter(86_400), retryAfter(86_400));
    expect((await throttledFetch(throttle, { fetch: upstream.fetch })(URL_A)).status).toBe(429);
    expect((await throttledFetch(gate, { fetch: upstream.fetch })(URL_A)).status).toBe(429);
    expect([
      throttle.pausedFor,
      gate.of('https://a.example').pausedFor,
      gate.of('https://b.example').pausedFor,
    ]).toEqual([60, 300, 0]);
  });

  test('a 529 is a refusal by default (FAULTS 21)', async () => {
    const { clock, limitedFetch, upstream } = setUpFetch([refusal({}, 529)]);
    const response = limitedFetch(URL_A);
    await clock.advance(1);
    expect([(await response).status, upstream.times]).toEqual([200, [0, 1]]);
  });

  test('the random part is added to a delay, and stays within maxPause', async () => {
    random.mockReturnValue(0.4);
    const { clock, limitedFetch, upstream } = setUpFetch(
      Array.from({ length: 3 }, () => refusal({}, 503)),
      { retries: 3, maxPause: 2 },
    );
    const response = limitedFetch(URL_A);
    await clock.advance(60);
    expect([(await response).status, upstream.times.map((at) => at.toFixed(2))]).toEqual([
      200,
      ['0.00', '1.10', '3.10', '5.10'],
    ]);
  });

  test('an abort ends the delay at once, and leaves no timer and no listener', async () => {
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([refusal({}, 503)]);
    const controller = new AbortController();
    const removed = vi.spyOn(controller.signal, 'removeEventListener');
    const added = vi.spyOn(controller.signal, 'addEventListener');
    const response = limitedFetch(URL_A, { signal: controller.signal });
    await clock.advance(0.5);
    expect(clock.pending).toBe(1);
    const reason = new Error('caller aborted');
    controller.abort(reason);
    await expect(response).rejects.toBe(reason);
    expect([upstream.calls.length, clock.pending, removed.mock.calls.length]).toEqual([1, 0, added.mock.calls.length]);
    expectNothingHeld(throttle);
  });
});

describe('the refusal option', () => {
  const WALL = Date.UTC(2026, 10, 21, 8);
  /** The function of the example in README.md. */
  const github: ThrottledFetchOptions['refusal'] = ({ status, headers }) =>
    status === 403 ? headers.has('retry-after') || headers.get('x-ratelimit-remaining') === '0' : undefined;
  beforeEach(() => void vi.spyOn(Date, 'now').mockReturnValue(WALL));
  afterEach(() => vi.mocked(Date.now).mockRestore());

  test.each<[string, Response, ThrottledFetchOptions, number | undefined]>([
    ['a 403 is not a refusal by default', refusal({}, 403), {}, undefined],
    [
      'a 403 of GitHub for a missing permission is not a refusal',
      refusal({ 'x-ratelimit-remaining': '4990', 'x-ratelimit-reset': String(WALL / 1000 + 30) }, 403),
      { refusal: github },
      undefined,
    ],
    [
      'a 403 of GitHub for the primary limit waits for the reset',
      refusal({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(WALL / 1000 + 30) }, 403),
      { refusal: github },
      30,
    ],
    [
      'a 403 of GitHub for a secondary limit waits for Retry-After',
      refusal({ 'x-ratelimit-remaining': '4990', 'retry-after': '20' }, 403),
      { refusal: github },
      20,
    ],
    ['undefined for a 429: statuses decides', retryAfter(10), { refusal: github }, 10],
    ['false for a 429: the response is returned', retryAfter(10), { refusal: () => false }, undefined],
    ['true without a stated wait: the backoff', refusal({}, 403), { refusal: ({ status }) => status === 403 }, 1],
    [
      'a number: so many seconds, which override the header fields',
      retryAfter(10),
      { refusal: ({ status }) => (status === 429 ? 2.5 : undefined) },
      2.5,
    ],
    ['0: the retry follows at once', retryAfter(10), { refusal: ({ status }) => (status === 429 ? 0 : undefined) }, 0],
    [
      'a promise of a number: so many seconds',
      refusal({}, 403),
      { refusal: async ({ status }) => (status === 403 ? 3 : false) },
      3,
    ],
    [
      "Google's 403 with rateLimitExceeded in the body: the backoff",
      Response.json({ error: { errors: [{ reason: 'rateLimitExceeded' }] } }, { status: 403 }),
      {
        refusal: async (response) =>
          response.status === 403 ? (await response.clone().text()).includes('ateLimitExceeded') : undefined,
      },
      1,
    ],
    [
      'a 200 with an error in the body: the computed wait (Shopify-api-node#489)',
      Response.json({
        errors: [{ message: 'Throttled' }],
        extensions: { cost: { requestedQueryCost: 150, throttleStatus: { currentlyAvailable: 50, restoreRate: 50 } } },
      }),
      {
        async refusal(response) {
          const { errors, extensions } = (await response
            .clone()
            .json()
            .catch(() => ({}))) as {
            errors?: { message: string }[];
            extensions?: {
              cost: { requestedQueryCost: number; throttleStatus: { currentlyAvailable: number; restoreRate: number } };
            };
          };
          if (errors?.[0]?.message !== 'Throttled' || !extensions) return undefined;
          const { requestedQueryCost, throttleStatus } = extensions.cost;
          return (requestedQueryCost - throttleStatus.currentlyAvailable) / throttleStatus.restoreRate;
        },
      },
      2,
    ],
  ])('%s (FAULTS 21)', async (_, reply, options, wait) => {
    const status = reply.status;
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([reply], options);
    const response = limitedFetch(URL_A);
    // Reading a clone takes several turns of the event loop.
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => void setImmediate(resolve));
    expect(throttle.pausedFor).toBe(wait ?? 0);
    await clock.advance(100);
    const { status: finalStatus } = await response;
    expect([finalStatus, upstream.times]).toEqual(wait === undefined ? [status, [0]] : [200, [0, wait]]);
    expectNothingHeld(throttle);
  });

  test('the returned body is complete although the function read a clone', async () => {
    const { limitedFetch, throttle } = setUpFetch([new Response('a page')], {
      hold: 'body',
      refusal: async (response) => (await response.clone().text()) === 'slow down',
    });
    const response = await limitedFetch(URL_A);
    expect(throttle.active).toBe(1);
    expect(await response.text()).toBe('a page');
    expectNothingHeld(throttle);
  });

  test.each<[string, Parameters<typeof fetch>, [string, string, string | null]]>([
    [
      'a string',
      ['https://a.example/x', { method: 'post', body: 'x', headers: { 'x-a': '1' } }],
      ['https://a.example/x', 'POST', '1'],
    ],
    ['a URL', [new URL('https://a.example/x')], ['https://a.example/x', 'GET', null]],
    [
      'a Request',
      [new Request('https://a.example/x', { method: 'PUT', body: 'x', headers: { 'x-a': '2' } })],
      ['https://a.example/x', 'PUT', '2'],
    ],
    [
      'a Request and init',
      [new Request('https://a.example/x', { headers: { 'x-a': '2' } }), { method: 'PATCH', headers: { 'x-a': '3' } }],
      ['https://a.example/x', 'PATCH', '3'],
    ],
  ])('the function receives the request that was sent: %s', async (_, call, expected) => {
    const received: unknown[] = [];
    const { limitedFetch } = setUpFetch([], {
      refusal: (_response, { url, method, headers }) => {
        received.push([url, method, headers.get('x-a')]);
        return undefined;
      },
    });
    await limitedFetch(...call);
    expect(received).toEqual([expected]);
  });

  test('the slot is held until the function has settled, so the next waiter is not granted early', async () => {
    const { clock, throttle, limitedFetch, upstream } = setUpFetch(
      [new Response('busy'), new Response('ok')],
      {
        async refusal(response) {
          await new Promise<void>((resolve) => void clock.schedule(1, resolve));
          return (await response.clone().text()) === 'busy' ? 5 : false;
        },
      },
      [100, 1],
    );
    const both = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(0.5);
    expect([throttle.active, throttle.waiting]).toEqual([1, 1]);
    await vi.waitFor(async () => {
      await clock.advance(1);
      expect(upstream.calls).toHaveLength(3);
    });
    await vi.waitFor(async () => {
      await clock.advance(1);
      expectNothingHeld(throttle);
    });
    await both;
    expect(upstream.times[1]! - upstream.times[0]!).toBeGreaterThanOrEqual(5);
  });
});

test('the errors of a cleared and of a draining gate reach the caller, and nothing is sent', async () => {
  const { clock, throttle, limitedFetch, upstream } = setUpFetch([], {}, [100, 1]);
  const holder = throttle.tryAcquire();
  const waiting = limitedFetch(URL_A);
  const cleared = expect(waiting).rejects.toThrow(QueueClearedError);
  await clock.advance(0);
  throttle.clear('reason');
  await cleared;
  const drained = throttle.drain();
  await expect(limitedFetch(URL_A)).rejects.toThrow(ThrottleClosedError);
  holder?.release();
  await drained;
  expect([upstream.times, throttle.active]).toEqual([[], 0]);
});
