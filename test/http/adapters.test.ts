/** The behaviour that all adapters share, on the real frameworks and over real sockets. */
import net from 'node:net';
import {
  type Gate,
  type Permit,
  QueueFullError,
  ServerBusyError,
  Throttle,
  type ThrottleOptions,
  ThrottleTimeoutError,
} from 'headgate';
import type { Refusal } from 'headgate/http';
import { ManualClock } from 'headgate/testing';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { KeyedThrottle } from '../../src/compose/keyed-throttle.js';
import { call, get, Latch, until } from '../support/http-client.js';
import { fullGate } from '../support/fixed-gates.js';
import { sites } from '../support/framework-servers.js';

/** A gate with the given `acquire`. */
const gateWith = (acquire: () => Promise<never>): Gate => ({ acquire }) as unknown as Gate;
const failingGate = (error: unknown): Gate =>
  gateWith(async () => {
    throw error;
  });
const outage = new Error('connect ECONNREFUSED');

/** A keyed gate with one slot for each key. */
const onePerKey = (): KeyedThrottle => new KeyedThrottle(Infinity, 1);

describe.each(sites)('%s', (name, serve) => {
  /** Whether the framework has a setting for trusted proxies. */
  const hasProxySetting = ['express', 'koa', 'fastify'].includes(name);

  describe('a request', () => {
    test('within the limit reaches the handler unchanged', async () => {
      const gate = new Throttle(Infinity, 2);
      const site = await serve({ gate }, { handler: (path) => `path: ${path}` });
      const seen = await get(site, '/some/path?q=1');
      expect([seen.status, seen.body]).toEqual([200, 'path: /some/path?q=1']);
      await until(() => gate.active === 0);
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test('over the concurrency of the gate is refused', async () => {
      const gate = new Throttle(Infinity, 2);
      const latch = new Latch();
      let running = 0;
      const site = await serve({ gate }, { handler: async () => (running++, await latch.opened, 'done') });
      const calls = [call(site), call(site)];
      await until(() => running === 2);
      expect(await Promise.all([get(site), get(site)])).toMatchObject([{ status: 429 }, { status: 429 }]);
      latch.open();
      expect(await Promise.all(calls.map(({ seen }) => seen))).toMatchObject([{ status: 200 }, { status: 200 }]);
      expect(running).toBe(2);
      await until(() => gate.active === 0);
    });

    test('in the queue is admitted in order of arrival', async () => {
      const gate = new Throttle(Infinity, 1);
      const first = new Latch();
      const order: string[] = [];
      const site = await serve(
        { gate, wait: 10 },
        {
          handler: async (path) => {
            order.push(path);
            if (path === '/0') await first.opened;
            return path;
          },
        },
      );
      const calls = [call(site, '/0')];
      await until(() => gate.active === 1);
      for (let index = 1; index <= 5; index++) {
        calls.push(call(site, `/${index}`));
        await until(() => gate.waiting === index);
      }
      first.open();
      const seen = await Promise.all(calls.map((each) => each.seen));
      expect(seen.map(({ status, body }) => `${status} ${body}`)).toEqual([
        '200 /0',
        '200 /1',
        '200 /2',
        '200 /3',
        '200 /4',
        '200 /5',
      ]);
      expect(order).toEqual(['/0', '/1', '/2', '/3', '/4', '/5']);
      await until(() => gate.active === 0);
    });

    test('that has queued for `wait` seconds is refused', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const site = await serve({ gate, wait: 0.05 });
      const pending = get(site);
      await until(() => gate.waiting === 1);
      expect(await pending).toMatchObject({ status: 429, headers: { 'retry-after': '1' } });
      expect(gate.waiting).toBe(0);
      holder?.release();
    });

    test('that `skip` selects is admitted and not counted', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const site = await serve({ gate, skip: async () => true });
      const seen = await get(site);
      expect([seen.status, seen.headers['ratelimit']]).toEqual([200, undefined]);
      const counted = await serve({ gate, skip: () => false });
      expect((await get(counted)).status).toBe(429);
      holder?.release();
    });

    test('spends its cost in tokens', async () => {
      const clock = new ManualClock();
      const gate = new Throttle(10, 0, 10, { clock });
      const costs = [4, 5];
      const site = await serve({ gate, cost: async () => costs.shift() ?? 3 });
      expect([(await get(site)).status, (await get(site)).status]).toEqual([200, 200]);
      expect(gate.tokens).toBe(1);
      expect(await get(site)).toMatchObject({ status: 429, headers: { 'retry-after': '2' } });
      const fixed = await serve({ gate, cost: 1 });
      expect((await get(fixed)).status).toBe(200);
      expect(gate.tokens).toBe(0);
    });
  });

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

    test('is sent to a POST whose body is never read', async () => {
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
    const used = new Response('gone');
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

  describe('a permit', () => {
    test('is held to the end of a streamed response', async () => {
      const gate = new Throttle(Infinity, 1);
      const latch = new Latch();
      const site = await serve(
        { gate },
        {
          async *handler() {
            yield 'first ';
            await latch.opened;
            yield 'last';
          },
        },
      );
      const streaming = call(site);
      expect(await streaming.started).toBe('first ');
      expect(gate.active).toBe(1);
      expect((await get(site)).status).toBe(429);
      latch.open();
      expect(await streaming.seen).toMatchObject({ status: 200, body: 'first last' });
      await until(() => gate.active === 0);
    });

    test('is released before the client can send another request', async () => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate, wait: 5 });
      for (let index = 0; index < 20; index++) expect((await get(site)).status).toBe(200);
      await until(() => gate.active === 0);
    });

    test('is held until the response to a HEAD is sent', async () => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate });
      expect((await get(site, '/', { method: 'HEAD' })).body).toBe('');
      await until(() => gate.active === 0);
    });

    test.each<[string, () => never | Promise<never>]>([
      [
        'throws',
        () => {
          throw outage;
        },
      ],
      [
        'rejects',
        async () => {
          await Promise.resolve();
          throw outage;
        },
      ],
    ])('is held until the error response is sent where a handler %s', async (_, handler) => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate }, { handler });
      expect(await get(site)).toMatchObject({ status: 500, body: 'failed' });
      expect(site.failures).toEqual([outage]);
      await until(() => gate.active === 0);
      expect((await get(site)).status).toBe(500);
    });

    test('is released when its `ttl` has passed', async () => {
      const gate = new Throttle(Infinity, 1);
      const latch = new Latch();
      const site = await serve(
        { gate, ttl: 0.05 },
        { handler: async (path) => (path === '/slow' && (await latch.opened), 'done') },
      );
      const slow = call(site, '/slow');
      await until(() => gate.active === 1);
      expect((await get(site)).status).toBe(429);
      await until(() => gate.active === 0);
      expect((await get(site)).status).toBe(200);
      latch.open();
      expect((await slow.seen).status).toBe(200);
      await until(() => gate.active === 0);
    });

    test('clears the timer of its `ttl` when it is released', async () => {
      const clear = vi.spyOn(globalThis, 'clearTimeout');
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate, ttl: 1_234 });
      const set = vi.spyOn(globalThis, 'setTimeout');
      expect((await get(site)).status).toBe(200);
      await until(() => gate.active === 0);
      const timers = set.mock.calls.flatMap(([, delay], index) =>
        delay === 1_234_000 ? [set.mock.results[index]?.value as NodeJS.Timeout] : [],
      );
      expect(timers).toHaveLength(1);
      expect(timers[0]?.hasRef()).toBe(false);
      expect(clear.mock.calls.flat()).toContain(timers[0]);
      set.mockRestore();
      clear.mockRestore();
    });
  });

  describe('trap 31: a client that disconnects', () => {
    test.each(['destroy', 'end', 'resetAndDestroy'] as const)(
      'with pipelined requests in progress frees all their slots (%s)',
      async (disconnect) => {
        const gate = new Throttle(Infinity, 3);
        const site = await serve({ gate }, { handler: () => new Promise(() => {}) });
        for (let round = 0; round < 3; round++) {
          const socket = net.connect(site.port, '127.0.0.1');
          socket.on('error', () => {});
          for (let index = 0; index < 3; index++) socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
          await until(() => gate.active > 0);
          await new Promise((resolve) => void setTimeout(resolve, 10));
          socket[disconnect]();
          if (disconnect === 'end') socket.destroySoon();
          await until(() => gate.active === 0, 'the release of all permits');
        }
      },
    );

    test('before a slow gate refuses or fails causes no call of the handler or onLimited', async () => {
      for (const [options, error] of [
        [{ block: false }, new QueueFullError('full')],
        [{}, new QueueFullError('full')],
        [{ failOpen: true }, outage],
      ] as const) {
        const latch = new Latch();
        const acquire = vi.fn(async () => {
          await latch.opened;
          throw error;
        });
        const [handler, onLimited] = [vi.fn(() => 'done'), vi.fn()];
        const site = await serve({ gate: gateWith(acquire), ...options, onLimited }, { handler });
        const disconnecting = call(site);
        await until(() => acquire.mock.calls.length === 1);
        disconnecting.hangUp();
        await new Promise((resolve) => void setTimeout(resolve, 50));
        latch.open();
        await new Promise((resolve) => void setTimeout(resolve, 10));
        expect([handler.mock.calls, onLimited.mock.calls, site.failures]).toEqual([[], [], []]);
      }
    });

    test('in the queue leaves the queue, and its handler never runs', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate, wait: 60 }, { handler });
      const disconnecting = call(site, '/disconnecting');
      await until(() => gate.waiting === 1);
      const staying = call(site, '/staying');
      await until(() => gate.waiting === 2);
      disconnecting.hangUp();
      await until(() => gate.waiting === 1);
      holder?.release();
      expect((await staying.seen).status).toBe(200);
      await until(() => gate.active === 0);
      expect(handler.mock.calls.map((given) => (given as unknown[])[0])).toEqual(['/staying']);
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test('during a streamed response frees its slot', async () => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve(
        { gate },
        {
          async *handler() {
            yield 'first ';
            await new Promise(() => {});
          },
        },
      );
      const streaming = call(site);
      await streaming.started;
      expect(gate.active).toBe(1);
      streaming.hangUp();
      await until(() => gate.active === 0);
    });

    test('while its handler runs frees its slot', async () => {
      const gate = new Throttle(Infinity, 1);
      const latch = new Latch();
      const site = await serve({ gate }, { handler: async () => (await latch.opened, 'done') });
      const running = call(site);
      await until(() => gate.active === 1);
      running.hangUp();
      await until(() => gate.active === 0);
      latch.open();
      await new Promise((resolve) => void setTimeout(resolve, 20));
      expect([gate.active, site.failures]).toEqual([0, []]);
    });

    test('during the lookup of its key never queues', async () => {
      const gate = new KeyedThrottle(Infinity, 1);
      const holder = gate.tryAcquire('me');
      const latch = new Latch();
      const key = vi.fn(async () => (await latch.opened, 'me'));
      const site = await serve({ keyed: gate, key, wait: 60 });
      const disconnecting = call(site);
      await until(() => key.mock.calls.length === 1);
      disconnecting.hangUp();
      await new Promise((resolve) => void setTimeout(resolve, 50));
      latch.open();
      await new Promise((resolve) => void setTimeout(resolve, 10));
      expect(gate.peek('me')?.waiting).toBe(0);
      holder?.release();
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test.each([0, 60])('before a slow gate grants (wait: %i) is refunded', async (wait) => {
      const inner = new Throttle(10, 1, 60, { clock: new ManualClock() });
      const latch = new Latch();
      const calls: unknown[] = [];
      const permits: Permit[] = [];
      const acquire = async (cost: number): Promise<Permit> => {
        calls.push(cost);
        await latch.opened;
        permits.push(await inner.acquire(cost));
        return permits[0]!;
      };
      const gate = { acquire } as unknown as Gate;
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate, wait }, { handler });
      const disconnecting = call(site);
      await until(() => calls.length === 1);
      disconnecting.hangUp();
      await new Promise((resolve) => void setTimeout(resolve, 50));
      latch.open();
      await until(() => permits[0]?.released === true);
      expect([inner.active, inner.tokens]).toEqual([0, 10]);
      expect(handler).not.toHaveBeenCalled();
      expect([site.failures, site.logged]).toEqual([[], []]);
    });
  });

  describe('keys', () => {
    /** The statuses of the `rest` of the requests, which arrive while the handler of the first request runs. */
    const statusesDuring = async (
      serving: ReturnType<typeof serve>,
      first: [path?: string, wanted?: object],
      rest: [path?: string, wanted?: object][],
      running: () => number,
      latch: Latch,
    ): Promise<number[]> => {
      const site = await serving;
      const holding = call(site, ...first);
      await until(() => running() === 1);
      const seen: number[] = [];
      for (const each of rest) seen.push((await get(site, ...each)).status);
      latch.open();
      expect((await holding.seen).status).toBe(200);
      return seen;
    };
    /** The statuses of the `rest`, on a server with one slot for each key. */
    const statusesWithOneSlot = async (
      key: string | (() => unknown),
      first: [path?: string, wanted?: object],
      rest: [path?: string, wanted?: object][],
      setting: object = {},
      more: object = {},
    ): Promise<number[]> => {
      const latch = new Latch();
      let running = 0;
      const keyed = onePerKey();
      const handler = async (): Promise<string> => (running++ === 0 && (await latch.opened), 'done');
      return statusesDuring(
        serve({ keyed, key: key as string, ...more }, { handler, ...setting }),
        first,
        rest,
        () => running,
        latch,
      );
    };
    /** The key of a request, or its error response. */
    const keyOf = async (
      key: unknown,
      path = '/',
      wanted: object = {},
      setting: object = {},
      more: object = {},
    ): Promise<unknown> => {
      const found: unknown[] = [];
      const keyed = {
        keyed: true as const,
        acquire: (resolvedKey: string) => (found.push(resolvedKey), Promise.reject(new ThrottleTimeoutError('full'))),
      };
      const refusals: unknown[] = [];
      const site = await serve(
        { keyed: keyed as never, key: key as string, onLimited: (refusal) => void refusals.push(refusal.key), ...more },
        setting,
      );
      const seen = await get(site, path, wanted);
      expect(refusals).toEqual(found);
      return found[0] ?? `${seen.status} ${seen.body} ${String(site.failures[0])}`;
    };
    const detail = (text: unknown): unknown => JSON.parse(/^400 (\{.*\})/.exec(String(text))?.[1] ?? '{}').detail;

    test.each(['user', 'user_or_ip'])("'%s' is the user's id, or the address of an anonymous client", async (key) => {
      expect(await keyOf(key, '/', {}, { user: { id: 42 } })).toBe('user:42');
      expect(await keyOf(key, '/', {}, { user: { id: 'ada' } })).toBe('user:ada');
      expect(await keyOf(key, '/', {}, { user: 0 })).toBe('user:0');
      expect(await keyOf(key, '/', {}, { user: 'bob' })).toBe('user:bob');
      for (const user of [undefined, null, false, '']) expect(await keyOf(key, '/', {}, { user })).toBe('ip:127.0.0.1');
    });

    test.each([[{}], [{ id: null }], [{ id: '' }], [{ id: {} }], [{ id: Number.NaN }], [{ id: false }], [true]])(
      "'user' rejects the user %j with an error for the error handler",
      async (user) => {
        expect(await keyOf('user', '/', {}, { user })).toMatch(
          /^500 failed TypeError: the user's id must be a string or a number/,
        );
      },
    );

    test("'header:NAME' is the value of the field, and its name is case-insensitive", async () => {
      expect(await keyOf('header:X-Api-Key', '/', { headers: { 'x-api-key': 'a:b%' } })).toBe('header:x-api-key:a:b%');
      expect(await keyOf('header:x-api-key', '/', { headers: { 'X-API-KEY': 'k' } })).toBe('header:x-api-key:k');
      expect(await keyOf('header:x-api-key', '/', { headers: { 'X-API-KEY': ['k', 'l'] } })).toBe(
        'header:x-api-key:k, l',
      );
      expect(detail(await keyOf('header:x-api-key'))).toBe('The request has no value for {headers.x-api-key}.');
      expect(detail(await keyOf('header:x-api-key', '/', { headers: { 'x-api-key': '' } }))).toBe(
        'The request has no value for {headers.x-api-key}.',
      );
    });

    test("'query:NAME' is the first parameter of that name", async () => {
      expect(await keyOf('query:tag', '/?tag=a&tag=b')).toBe('query:tag:a');
      expect(await keyOf('query:tag', '/x?x=1&tag=%C3%A4+b#tag')).toBe('query:tag:ä b');
      expect(await keyOf('query:tag', '/?tag[]=1&tag[x]=2&tag=3')).toBe('query:tag:3');
      for (const path of ['/', '/?', '/?tag=', '/?tags=1', '/tag=1'])
        expect(detail(await keyOf('query:tag', path))).toBe('The request has no value for {query.tag}.');
    });

    test('a template is filled in from the request', async () => {
      const user = { id: 42, org: { name: 'x:y%z' }, on: true, big: 10n };
      expect(await keyOf('user:{user.id}', '/', {}, { user })).toBe('user:42');
      expect(await keyOf('{user.org.name}', '/', {}, { user })).toBe('x:y%z');
      expect(await keyOf('{user.org.name}:{user.id}', '/', {}, { user })).toBe('x%3ay%25z:42');
      expect(await keyOf('{user.on}/{user.big}', '/', {}, { user })).toBe('true/10');
      expect(await keyOf('{user}', '/', {}, { user: 'ada' })).toBe('ada');
      expect(await keyOf('{method} {path}', '/a/b?c', { method: 'POST' })).toBe('POST /a/b');
      expect(await keyOf('{query.a}|{headers.X-B}|{ip}', '/?a=1', { headers: { 'x-b': 'b|c' } })).toBe(
        '1|b%7cc|127.0.0.1',
      );
    });

    test('a template has different keys for different values', async () => {
      const key = '{query.a}:{query.b}';
      const pairs = ['/?a=1:2&b=3', '/?a=1&b=2:3', '/?a=1%253a2&b=3', '/?a=1%3a&b=2', '/?a=1&b=%3a2'];
      const keys = await Promise.all(pairs.map((path) => keyOf(key, path)));
      expect(new Set(keys).size).toBe(pairs.length);
    });

    test.each([
      '{user.constructor.name}',
      '{user.__proto__.x}',
      '{user.toString.name}',
      '{user.list}',
      '{user.id.length}',
      '{user.nan}',
      '{user.none}',
      '{constructor.name}',
      '{query.a}x:{query.b}',
    ])('the placeholder of %s has no value', async (key) => {
      const answer = detail(
        await keyOf(key, '/?b=1', {}, { user: { id: 'ada', list: [1], nan: Number.NaN, none: null } }),
      );
      expect(answer).toBe(`The request has no value for ${key.includes('query') ? '{query.a}' : key}.`);
    });

    test('a function returns the key, also asynchronously', async () => {
      expect(await keyOf(() => 'me')).toBe('me');
      expect(await keyOf(async () => 7)).toBe('7');
      expect(await keyOf(() => 8n)).toBe('8');
      for (const nothing of [undefined, null, ''])
        expect(detail(await keyOf(async () => nothing))).toBe('The request has no rate limit key.');
      for (const wrong of [{}, true, false, Number.NaN])
        expect(await keyOf(() => wrong)).toMatch(
          /^500 failed (Type|Range)Error: the result of key\(\) must be a string or a number, received/,
        );
    });

    test('a request without a key is refused with 400, without a call of onLimited', async () => {
      const onLimited = vi.fn();
      const keyed = onePerKey();
      const handler = vi.fn(() => 'done');
      const site = await serve({ keyed, key: 'header:x-key', onLimited }, { handler });
      const seen = await get(site);
      expect([
        seen.status,
        seen.headers['content-type'],
        seen.headers['retry-after'],
        seen.headers['ratelimit'],
      ]).toEqual([400, expect.stringMatching(/^application\/problem\+json(;|$)/), undefined, undefined]);
      expect(JSON.parse(seen.body)).toEqual({
        type: 'about:blank',
        title: 'Bad Request',
        status: 400,
        detail: 'The request has no value for {headers.x-key}.',
      });
      expect([onLimited.mock.calls, handler.mock.calls, keyed.size]).toEqual([[], [], 0]);
      const watching = await serve({ keyed, key: 'header:x-key', block: false }, { handler });
      expect((await get(watching)).status).toBe(200);
    });

    test('each key has a limit of its own', async () => {
      const as = (key: string): [string, object] => ['/', { headers: { 'x-key': key } }];
      expect(await statusesWithOneSlot('header:x-key', as('a'), [as('a'), as('b'), as('a')])).toEqual([429, 200, 429]);
    });

    test('trap 32: a forwarding header is ignored, unless the framework trusts the proxy', async () => {
      const headers = {
        'x-forwarded-for': '203.0.113.7',
        forwarded: 'for=203.0.113.7',
        'x-real-ip': '203.0.113.7',
        'client-ip': '203.0.113.7',
        'cf-connecting-ip': '203.0.113.7',
        'x-forwarded-host': 'other',
      };
      expect(await keyOf('ip', '/', { headers })).toBe('ip:127.0.0.1');
      expect(await keyOf('{ip}', '/', { headers })).toBe('127.0.0.1');
      expect(await statusesWithOneSlot('ip', ['/'], [['/', { headers }]])).toEqual([429]);
      if (hasProxySetting) expect(await keyOf('ip', '/', { headers }, { trustProxy: true })).toBe('ip:203.0.113.7');
    });

    // The other frameworks have no setting for proxies, so all clients of this test have one address.
    if (hasProxySetting)
      test('trap 32: a client that rotates its IPv6 addresses counts as one client', async () => {
        const from = (address: string): [string, object] => ['/', { headers: { 'x-forwarded-for': address } }];
        const setting = { trustProxy: true };
        expect(await keyOf('ip', ...from('2001:db8:0:1ff::1'), setting)).toBe('ip:2001:db8:0:100::/56');
        expect(await keyOf('ip', ...from('::ffff:203.0.113.7'), setting)).toBe('ip:203.0.113.7');
        expect(await keyOf('ip', ...from('::FFFF:CB00:7107'), setting)).toBe('ip:203.0.113.7');
        expect(
          await statusesWithOneSlot(
            'ip',
            from('2001:db8:0:100::1'),
            [from('2001:db8:0:1ff::2'), from('2001:db8:0:200::1')],
            setting,
          ),
        ).toEqual([429, 200]);
        expect(
          await statusesWithOneSlot(
            'ip',
            from('2001:db8:0:100::1'),
            [from('2001:db8:0:1ff::2'), from('2001:db8:0:100:ffff::')],
            setting,
            { ipv6Prefix: 64 },
          ),
        ).toEqual([200, 429]);
      });

    test('trap 32: an IPv4 client of an IPv6 server counts as IPv4', async () => {
      const setting = { host: '::' };
      expect(await keyOf('ip', '/', { host: '127.0.0.1' }, setting)).toBe('ip:127.0.0.1');
      expect(await keyOf('ip', '/', { host: '::1' }, setting)).toBe('ip:0:0:0:0::/56');
    });
  });

  describe('block: false', () => {
    test('runs requests over the limit without a permit', async () => {
      const gate = new Throttle(Infinity, 1);
      const latch = new Latch();
      const onLimited = vi.fn();
      const site = await serve(
        { gate, block: false, onLimited },
        { handler: async (path) => (path === '/slow' && (await latch.opened), path) },
      );
      const slow = call(site, '/slow');
      await until(() => gate.active === 1);
      const seen = await get(site, '/over');
      expect([seen.status, seen.body, seen.headers['retry-after'], seen.headers['ratelimit']]).toEqual([
        200,
        '/over',
        undefined,
        '"default";r=0;t=1',
      ]);
      expect([gate.active, onLimited.mock.calls]).toEqual([1, []]);
      latch.open();
      await slow.seen;
      await until(() => gate.active === 0);
    });
  });

  describe('trap 33: a gate that fails', () => {
    test('causes an error for the error handler, and no refusal', async () => {
      const onLimited = vi.fn();
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate: failingGate(outage), onLimited, block: false }, { handler });
      const seen = await get(site);
      expect([seen.status, seen.body, seen.headers['retry-after']]).toEqual([500, 'failed', undefined]);
      expect([site.failures, onLimited.mock.calls, handler.mock.calls]).toEqual([[outage], [], []]);
    });

    test('admits requests with failOpen', async () => {
      const site = await serve({ gate: failingGate(outage), failOpen: true });
      expect(await get(site)).toMatchObject({ status: 200, body: 'done' });
      const thrown = await serve({
        gate: gateWith(() => {
          throw outage;
        }),
        failOpen: true,
      });
      expect((await get(thrown)).status).toBe(200);
      expect(site.failures).toEqual([]);
    });

    test('refuses requests with failOpen, too', async () => {
      const site = await serve({ gate: failingGate(new QueueFullError('full')), failOpen: true });
      expect((await get(site)).status).toBe(503);
    });

    const mistake = new TypeError('a mistake');
    const thrower = (): never => {
      throw mistake;
    };
    test.each<[string, object, string]>([
      ['a cost of NaN', { cost: () => Number.NaN }, 'RangeError: cost must be a finite number >= 0, received NaN'],
      [
        'a cost of another type',
        { cost: async () => '1' },
        'TypeError: cost must be a finite number >= 0, received "1"',
      ],
      ['a cost over the burst', { cost: 11 }, 'RangeError: cost must be at most 10'],
      ['a cost function that throws', { cost: thrower }, 'TypeError: a mistake'],
      ['a skip function that throws', { skip: thrower }, 'TypeError: a mistake'],
      ['a skip function that rejects', { skip: async () => thrower() }, 'TypeError: a mistake'],
    ])('failOpen does not hide %s', async (_, options, message) => {
      const site = await serve({ gate: new Throttle(10), failOpen: true, ...options });
      expect(await get(site)).toMatchObject({ status: 500, body: 'failed' });
      expect(String(site.failures[0])).toContain(message);
    });

    test('failOpen does not hide a key function that throws', async () => {
      for (const key of [thrower, async () => thrower()]) {
        const site = await serve({ keyed: onePerKey(), key, failOpen: true });
        expect((await get(site)).status).toBe(500);
        expect(site.failures).toEqual([mistake]);
      }
    });
  });

  describe('the adapter throws at creation for', () => {
    const gate = new Throttle(1);
    const keyed = onePerKey();
    test.each<[string, unknown, string]>([
      ['missing options', undefined, 'TypeError: options must be an object, received undefined'],
      ['no gate', {}, 'TypeError: options must have either gate or keyed'],
      ['two gates', { gate, keyed, key: 'ip' }, 'TypeError: options must have either gate or keyed'],
      ['a gate that is a number', { gate: 7 }, 'TypeError: gate must be a Gate, not a KeyedGate, received 7'],
      ['a gate that is null', { gate: null }, 'TypeError: gate must be a Gate, not a KeyedGate, received null'],
      ['a keyed gate as a gate', { gate: keyed }, 'TypeError: gate must be a Gate, not a KeyedGate, received object'],
      ['a gate as a keyed gate', { keyed: gate, key: 'ip' }, 'TypeError: keyed must be a KeyedGate, received object'],
      [
        'a keyed gate without acquire',
        { keyed: { keyed: true }, key: 'ip' },
        'TypeError: keyed must be a KeyedGate, received object',
      ],
      ['keyed without key', { keyed }, 'TypeError: key must be set if and only if keyed is set, received undefined'],
      ['a key with gate', { gate, key: 'ip' }, 'TypeError: key must be set if and only if keyed is set, received "ip"'],
      [
        'a key of an unknown form',
        { keyed, key: 'ipp' },
        `TypeError: key must be 'ip', 'user', 'header:NAME', 'query:NAME', a template or a function, received "ipp"`,
      ],
      ['a key that is a number', { keyed, key: 7 }, "TypeError: key must be 'ip', 'user',"],
      ['a header without a name', { keyed, key: 'header:' }, "TypeError: key must be 'ip', 'user',"],
      [
        'a header with an invalid name',
        { keyed, key: 'header:a b' },
        'TypeError: key must be a template with valid header names, received "a b"',
      ],
      ['a query without a name', { keyed, key: 'query:' }, "TypeError: key must be 'ip', 'user',"],
      ['an unclosed brace', { keyed, key: 'user:{user.id' }, "TypeError: key must be 'ip', 'user',"],
      ['an unopened brace', { keyed, key: '{user.id}}' }, "TypeError: key must be 'ip', 'user',"],
      ['an empty placeholder', { keyed, key: 'a{}' }, "TypeError: key must be 'ip', 'user',"],
      [
        'adjacent placeholders',
        { keyed, key: '{a}{b}' },
        'TypeError: key must be a template with punctuation between its placeholders, received "{a}{b}"',
      ],
      [
        'a word between placeholders',
        { keyed, key: '{a}and{b}' },
        'TypeError: key must be a template with punctuation between its placeholders',
      ],
      [
        'a percent sign between placeholders',
        { keyed, key: '{a}%{b}' },
        'TypeError: key must be a template with punctuation between its placeholders',
      ],
      ['a negative cost', { gate, cost: -1 }, 'RangeError: cost must be a finite number >= 0, received -1'],
      ['a cost that is a string', { gate, cost: '1' }, 'TypeError: cost must be a finite number >= 0, received "1"'],
      ['a negative wait', { gate, wait: -1 }, 'RangeError: wait must be a number >= 0, received -1'],
      [
        'a gate whose timeout is a string',
        { gate: { acquire() {}, timeout: '5' } },
        'TypeError: wait must be a number >= 0, received "5"',
      ],
      ['a block that is a number', { gate, block: 1 }, 'TypeError: block must be a boolean, received 1'],
      ['headers that are a string', { gate, headers: 'x' }, 'TypeError: headers must be a boolean, received "x"'],
      ['failOpen that is null', { gate, failOpen: null }, 'TypeError: failOpen must be a boolean, received null'],
      [
        'a status of success',
        { gate, status: 200 },
        'RangeError: status must be an integer from 400 to 599, received 200',
      ],
      [
        'a status above 599',
        { gate, status: 600 },
        'RangeError: status must be an integer from 400 to 599, received 600',
      ],
      [
        'a fractional status',
        { gate, status: 429.5 },
        'RangeError: status must be an integer from 400 to 599, received 429.5',
      ],
      [
        'an unknown onLimited',
        { gate, onLimited: 'no' },
        'TypeError: onLimited must be a function or \'throw\', received "no"',
      ],
      ['an unknown hold', { gate, hold: 'body' }, "TypeError: hold must be 'response' or 'handler', received \"body\""],
      ['skip that is a boolean', { gate, skip: true }, 'TypeError: skip must be a function, received true'],
      [
        'a prefix of 0 bits',
        { gate, ipv6Prefix: 0 },
        'RangeError: ipv6Prefix must be an integer from 1 to 128, received 0',
      ],
      [
        'a prefix of 129 bits',
        { gate, ipv6Prefix: 129 },
        'RangeError: ipv6Prefix must be an integer from 1 to 128, received 129',
      ],
      ['a ttl of 0', { gate, ttl: 0 }, 'RangeError: ttl must be a number > 0, up to 2147483, received 0'],
      [
        'a ttl too long for a timer',
        { gate, ttl: 2_147_484 },
        'RangeError: ttl must be a number > 0, up to 2147483, received 2147484',
      ],
    ])('%s', async (_, options, message) => {
      await expect(
        serve(options as never).catch((error: unknown) => Promise.reject(new Error(String(error)))),
      ).rejects.toThrow(message);
    });

    test('an option of undefined has its default', async () => {
      const options = {
        gate: new Throttle(10),
        key: undefined,
        keyed: undefined,
        cost: undefined,
        wait: undefined,
        block: undefined,
        status: undefined,
        onLimited: undefined,
        headers: undefined,
        skip: undefined,
        failOpen: undefined,
        ipv6Prefix: undefined,
        hold: undefined,
        ttl: undefined,
      };
      expect((await get(await serve(options))).status).toBe(200);
    });

    test('the default of wait is the timeout of the gate', async () => {
      const timeouts: unknown[] = [];
      const acquire = (_: number, options: { timeout: number; signal?: AbortSignal }): Promise<never> => {
        timeouts.push([options.timeout, options.signal instanceof AbortSignal]);
        return Promise.reject(new ServerBusyError());
      };
      const busy = Object.assign(() => {}, { acquire, timeout: 3 }) as unknown as Gate;
      for (const options of [
        { gate: busy },
        { gate: busy, wait: 0 },
        { gate: busy, wait: 9 },
        { gate: gateWith(acquire as never) },
      ])
        await get(await serve(options));
      expect(timeouts).toEqual([
        [3, true],
        [0, false],
        [9, true],
        [0, false],
      ]);
    });
  });
});
