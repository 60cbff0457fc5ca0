/** The refusals of every adapter, and their header fields, on the real frameworks and over real sockets. */
import {
  type Gate,
  KeyedThrottle,
  ServerBusyError,
  Throttle,
  type ThrottleOptions,
  ThrottleTimeoutError,
} from 'headgate';
import type { Refusal } from 'headgate/http';
import { ManualClock } from 'headgate/testing';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { fullGate } from '../support/fixed-gates.js';
import { sites } from '../support/framework-servers.js';
import { call, get, until } from '../support/http-client.js';

/** A gate with the given `acquire`. */
const gateWith = (acquire: () => Promise<never>): Gate => ({ acquire }) as unknown as Gate;
const failingGate = (error: unknown): Gate =>
  gateWith(async () => {
    throw error;
  });
const outage = new Error('connect ECONNREFUSED');
/** A keyed gate with one slot for each key. */
const onePerKey = (): KeyedThrottle => new KeyedThrottle(Infinity, 1);

describe.each(sites)('%s', (_name, serve) => {
  describe('a refusal', () => {
    // Fastify adds a charset.
    const PROBLEM = expect.stringMatching(/^application\/problem\+json(;|$)/) as string;

    test('is a 429 with Retry-After and a problem document', async () => {
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate: fullGate() }, { handler });
      const seen = await get(site);
      expect(seen.status).toBe(429);
      expect(seen.headers).toMatchObject({ 'retry-after': '1', 'content-type': PROBLEM });
      expect(JSON.parse(seen.body)).toEqual({
        type: 'about:blank',
        title: 'Too Many Requests',
        status: 429,
        detail: 'Too Many Requests: retry in 1 s.',
      });
      expect(handler).not.toHaveBeenCalled();
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test.each(['clear', 'drain', 'close'] as const)('is a 503 with Retry-After after %s', async (how) => {
      const handler = vi.fn(() => 'done');
      const gate = fullGate();
      const site = await serve({ gate, wait: 60 }, { handler });
      const waiting = get(site);
      await until(() => gate.waiting === 1);
      void gate[how]();
      if (how === 'drain') {
        expect((await get(site)).status).toBe(503);
        gate.close();
      }
      const seen = await waiting;
      expect([seen.status, seen.headers['retry-after'], seen.headers['content-type']]).toEqual([503, '1', PROBLEM]);
      expect([JSON.parse(seen.body), site.failures]).toMatchObject([{ status: 503 }, []]);
      expect(handler).not.toHaveBeenCalled();
    });

    test('has the `status` of the options', async () => {
      const site = await serve({ gate: fullGate(), status: 420 });
      const seen = await get(site);
      expect([seen.status, JSON.parse(seen.body)]).toMatchObject([420, { status: 420 }]);
    });

    test('has no body for HEAD', async () => {
      const gate = fullGate();
      const site = await serve({ gate });
      const seen = await get(site, '/', { method: 'HEAD' });
      expect([seen.status, seen.headers['retry-after'], seen.body]).toEqual([429, '1', '']);
    });

    test('a POST whose body the server does not read receives the refusal', async () => {
      const site = await serve({ gate: fullGate() });
      expect(
        (await get(site, '/', { method: 'POST', body: 'x'.repeat(100_000), headers: { 'content-type': 'text/plain' } }))
          .status,
      ).toBe(429);
    });

    test('is a 503 with the reference message where the server is busy', async () => {
      const site = await serve({ gate: failingGate(new ServerBusyError({ retryAfter: 2.5 })), status: 429 });
      const seen = await get(site);
      expect([seen.status, seen.headers['retry-after'], seen.headers['content-type']]).toEqual([
        503,
        '3',
        expect.stringMatching(/^application\/json(;|$)/),
      ]);
      expect(JSON.parse(seen.body)).toEqual({ detail: 'Server busy, please retry later' });
    });

    test('is a 503 where the queue is full', async () => {
      const gate = new Throttle(Infinity, 1, 1, { maxQueue: 1 });
      const holder = gate.tryAcquire();
      const site = await serve({ gate, wait: 10 });
      const queued = call(site);
      await until(() => gate.waiting === 1);
      const seen = await get(site);
      expect([seen.status, seen.headers['retry-after'], seen.headers['content-type']]).toEqual([503, '1', PROBLEM]);
      expect(JSON.parse(seen.body)).toMatchObject({
        title: 'Service Unavailable',
        detail: 'Service Unavailable: retry in 1 s.',
      });
      holder?.release();
      expect((await queued.seen).status).toBe(200);
    });

    test('is a 503 where the gate is closed, also for queued requests', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const site = await serve({ gate, wait: 10 });
      const queued = call(site);
      await until(() => gate.waiting === 1);
      gate.close();
      expect([(await queued.seen).status, (await get(site)).status]).toEqual([503, 503]);
      holder?.release();
    });

    test('contains the string that onLimited returns', async () => {
      const refusals: Refusal[] = [];
      const site = await serve({ gate: fullGate(), onLimited: (refusal) => (refusals.push(refusal), 'not now') });
      const seen = await get(site);
      expect([seen.status, seen.body, seen.headers['retry-after']]).toEqual([429, 'not now', '1']);
      expect(seen.headers['content-type']).toMatch(/^text\/plain/);
      expect(refusals).toEqual([{ status: 429, retryAfter: 1, error: expect.any(ThrottleTimeoutError) as Error }]);
      expect((await get(site, '/', { method: 'HEAD' })).body).toBe('');
    });

    test('contains the object that an asynchronous onLimited returns, as JSON', async () => {
      const site = await serve({
        gate: fullGate(),
        status: 503,
        onLimited: async ({ retryAfter }) => (await Promise.resolve(), { busy: true, retryAfter }),
      });
      const seen = await get(site);
      expect([seen.status, JSON.parse(seen.body), seen.headers['retry-after']]).toEqual([
        503,
        { busy: true, retryAfter: 1 },
        '1',
      ]);
      expect(seen.headers['content-type']).toMatch(/^application\/json/);
    });

    test('is the Response that onLimited returns, with its header fields', async () => {
      const headers: [string, string][] = [
        ['Retry-After', '60'],
        ['Set-Cookie', 'a=1'],
        ['Set-Cookie', 'b=2'],
        ['Content-Type', 'text/html'],
      ];
      const site = await serve({
        gate: fullGate(),
        onLimited: () => new Response('<p>später', { status: 402, headers }),
      });
      const seen = await get(site);
      expect([seen.status, seen.body]).toEqual([402, '<p>später']);
      expect(seen.headers).toMatchObject({
        'retry-after': '60',
        'set-cookie': ['a=1', 'b=2'],
        'content-type': 'text/html',
      });
      expect(seen.headers['ratelimit']).toBe('"default";r=0;t=1');
      expect(await get(site, '/', { method: 'HEAD' })).toMatchObject({ status: 402, body: '' });
    });

    test('is the Response without a body that onLimited returns', async () => {
      const site = await serve({
        gate: fullGate(),
        onLimited: () => new Response(null, { status: 302, headers: { location: '/queue' } }),
      });
      const seen = await get(site);
      expect([seen.status, seen.headers['location'], seen.headers['retry-after'], seen.body]).toEqual([
        302,
        '/queue',
        '1',
        '',
      ]);
    });

    test.each([
      ['undefined', undefined],
      ['null', null],
    ])('has the default body where onLimited returns %s', async (_, nothing) => {
      const onLimited = vi.fn(() => nothing);
      const site = await serve({ gate: fullGate(), onLimited });
      const seen = await get(site);
      expect([seen.status, JSON.parse(seen.body)]).toMatchObject([429, { title: 'Too Many Requests' }]);
      expect(onLimited).toHaveBeenCalledOnce();
    });

    const mistake = new Error('a mistake in onLimited');
    const circular: { self?: object } = {};
    circular.self = circular;
    const used = new Response('read');
    void used.text();
    test.each<[string, () => unknown, unknown]>([
      [
        'throws',
        () => {
          throw mistake;
        },
        mistake,
      ],
      ['rejects', () => Promise.reject(mistake), mistake],
      ['returns a value that JSON cannot represent', () => circular, expect.any(TypeError)],
      ['returns a response whose body was read', () => used, expect.any(TypeError)],
      ['returns Response.error()', () => Response.error(), expect.any(RangeError)],
    ])('has the default body, and the log receives the error, where onLimited %s', async (_, onLimited, expected) => {
      const site = await serve({ gate: fullGate(), onLimited: onLimited as () => undefined });
      const seen = await get(site);
      expect([seen.status, JSON.parse(seen.body), seen.headers['retry-after']]).toMatchObject([
        429,
        { title: 'Too Many Requests' },
        '1',
      ]);
      expect(site.logged).toEqual([expected]);
      expect(site.failures).toEqual([]);
    });

    test('trap 30: has the true wait in Retry-After, rounded up, and a retry after that time succeeds', async () => {
      const gate = new Throttle(1, 0, 1.2);
      const site = await serve({ gate });
      const first = await get(site);
      expect([first.status, first.headers['retry-after']]).toEqual([200, undefined]);
      const refused = await get(site);
      expect([refused.status, refused.headers['retry-after']]).toEqual([429, '2']);
      await new Promise((resolve) => void setTimeout(resolve, Number(refused.headers['retry-after']) * 1000));
      const again = await get(site);
      expect([again.status, again.headers['retry-after']]).toEqual([200, undefined]);
    });
  });

  describe('RateLimit and RateLimit-Policy', () => {
    test('show a rate on every response', async () => {
      const clock = new ManualClock();
      const gate = new Throttle(2, 5, 60, { clock, name: 'api' });
      const site = await serve({ gate });
      const fields = async (): Promise<unknown> => {
        const { status, headers } = await get(site);
        return [status, headers['ratelimit-policy'], headers['ratelimit']];
      };
      expect(await fields()).toEqual([200, '"api";q=2;w=60', '"api";r=1;t=30']);
      expect(await fields()).toEqual([200, '"api";q=2;w=60', '"api";r=0;t=60']);
      expect(await fields()).toEqual([429, '"api";q=2;w=60', '"api";r=0;t=30']);
    });

    test('show the slots of a gate without a rate', async () => {
      const gate = new Throttle(Infinity, 2);
      const site = await serve({ gate });
      const { headers } = await get(site);
      expect([headers['ratelimit-policy'], headers['ratelimit']]).toEqual([
        '"default";q=2;qu="concurrent-requests"',
        '"default";r=1',
      ]);
    });

    test.each<[string, ThrottleOptions, number]>([
      ['a slower rate', { also: [{ capacity: 10, period: 120 }] }, 24],
      ['a sliding window', { window: 'sliding' }, 60],
      ['a burst above the capacity', { burst: 20 }, 12],
    ])('show when the bucket is full again, with %s', async (_, options, seconds) => {
      const site = await serve({ gate: new Throttle(10, 0, 60, { clock: new ManualClock(), ...options }), cost: 2 });
      expect((await get(site)).headers['ratelimit']).toBe(`"default";r=${(options.burst ?? 10) - 2};t=${seconds}`);
    });

    test('show zero tokens to a refused client, and no reset for an indefinite pause', async () => {
      const gate = new Throttle(10, 1, 60, { clock: new ManualClock() });
      const site = await serve({ gate });
      gate.tryAcquire(3);
      expect((await get(site)).headers['ratelimit']).toBe('"default";r=0;t=1');
      const paused = await serve({ gate: Object.assign(new Throttle(10), { estimateWait: () => Infinity }) });
      expect((await get(paused)).headers['ratelimit']).toBe('"default";r=9');
    });

    test('are absent where `peek` of the gate is asynchronous or throws', async () => {
      const keyed = onePerKey();
      const unhandled = vi.fn();
      process.on('unhandledRejection', unhandled);
      onTestFinished(() => void process.off('unhandledRejection', unhandled));
      for (const peek of [
        async () => {
          throw outage;
        },
        async () => ({ capacity: 1, period: 1, tokens: 1 }),
        () => {
          throw outage;
        },
      ]) {
        const site = await serve({
          keyed: Object.assign(Object.create(keyed) as KeyedThrottle, { acquire: keyed.acquire.bind(keyed), peek }),
          key: () => 'me',
        });
        const { status, headers } = await get(site);
        expect([status, headers['ratelimit']]).toEqual([200, undefined]);
        await until(() => keyed.size === 0);
      }
      expect(unhandled).not.toHaveBeenCalled();
    });

    test("show the limit of the request's own key", async () => {
      const site = await serve({
        keyed: new KeyedThrottle(2, 0, 60, { clock: new ManualClock() }),
        key: 'header:x-key',
      });
      const remaining = async (key: string): Promise<unknown> =>
        (await get(site, '/', { headers: { 'x-key': key } })).headers['ratelimit'];
      expect([await remaining('a'), await remaining('a'), await remaining('b'), await remaining('a')]).toEqual([
        '"default";r=1;t=30',
        '"default";r=0;t=60',
        '"default";r=1;t=30',
        '"default";r=0;t=30',
      ]);
    });

    test('are absent where `headers` is false, the gate is unlimited, or the gate shows no numbers', async () => {
      const rated = new Throttle(10);
      const permit = { release() {}, refund() {} };
      const invalidName = {
        acquire: async () => permit,
        capacity: 1,
        period: 1,
        tokens: 1,
        name: 7,
      } as unknown as Gate;
      for (const options of [
        { gate: rated, headers: false },
        { gate: new Throttle(Infinity) },
        { gate: { acquire: async () => permit } as unknown as Gate },
        { gate: invalidName },
      ]) {
        const site = await serve(options);
        const { status, headers } = await get(site);
        expect([status, headers['ratelimit'], headers['ratelimit-policy']]).toEqual([200, undefined, undefined]);
      }
    });
  });
});
