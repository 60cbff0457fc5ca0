/**
 * One suite of behaviour that every adapter passes, on the real frameworks and over real sockets.
 */
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
import { sites } from '../support/framework-servers.js';

/** A gate whose `acquire` does as it is told. */
const gateThat = (acquire: () => Promise<never>): Gate => ({ acquire }) as unknown as Gate;
const failing = (error: unknown): Gate =>
  gateThat(async () => {
    throw error;
  });
const outage = new Error('connect ECONNREFUSED');

/** A gate of a slot for each key. */
const onePerKey = (): KeyedThrottle => new KeyedThrottle(Infinity, 1);

describe.each(sites)('%s', (name, serve) => {
  /** Whether the framework can be told which proxy to trust. */
  const knowsProxies = ['express', 'koa', 'fastify'].includes(name);

  describe('lets through', () => {
    test('requests within the limit, untouched', async () => {
      const gate = new Throttle(Infinity, 2);
      const site = await serve({ gate }, { handler: (path) => `you asked for ${path}` });
      const seen = await get(site, '/some/path?q=1');
      expect([seen.status, seen.body]).toEqual([200, 'you asked for /some/path?q=1']);
      await until(() => gate.active === 0);
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test('never more at a time than the gate allows, and the rest are refused', async () => {
      const gate = new Throttle(Infinity, 2);
      const latch = new Latch();
      let inside = 0;
      const site = await serve({ gate }, { handler: async () => (inside++, await latch.opened, 'done') });
      const calls = [call(site), call(site)];
      await until(() => inside === 2);
      expect(await Promise.all([get(site), get(site)])).toMatchObject([{ status: 429 }, { status: 429 }]);
      latch.open();
      expect(await Promise.all(calls.map(({ seen }) => seen))).toMatchObject([{ status: 200 }, { status: 200 }]);
      expect(inside).toBe(2);
      await until(() => gate.active === 0);
    });

    test('those who wait, in the order in which they came', async () => {
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

    test('nobody after `wait` seconds', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const site = await serve({ gate, wait: 0.05 });
      const pending = get(site);
      await until(() => gate.waiting === 1);
      expect(await pending).toMatchObject({ status: 429, headers: { 'retry-after': '1' } });
      expect(gate.waiting).toBe(0);
      holder?.release();
    });

    test('whom `skip` names, without counting them', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const site = await serve({ gate, skip: async () => true });
      const seen = await get(site);
      expect([seen.status, seen.headers['ratelimit']]).toEqual([200, undefined]);
      const counted = await serve({ gate, skip: () => false });
      expect((await get(counted)).status).toBe(429);
      holder?.release();
    });

    test('for what a request costs', async () => {
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
    const full = (): Throttle => {
      const gate = new Throttle(Infinity, 1);
      gate.tryAcquire();
      return gate;
    };

    test('is a 429 with Retry-After and a problem document', async () => {
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate: full() }, { handler });
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

    test('has the status asked for', async () => {
      const site = await serve({ gate: full(), status: 420 });
      const seen = await get(site);
      expect([seen.status, JSON.parse(seen.body)]).toMatchObject([420, { status: 420 }]);
    });

    test('has no body for HEAD', async () => {
      const gate = full();
      const site = await serve({ gate });
      const seen = await get(site, '/', { method: 'HEAD' });
      expect([seen.status, seen.headers['retry-after'], seen.body]).toEqual([429, '1', '']);
    });

    test('answers a POST whose body nobody reads', async () => {
      const site = await serve({ gate: full() });
      expect(
        (await get(site, '/', { method: 'POST', body: 'x'.repeat(100_000), headers: { 'content-type': 'text/plain' } }))
          .status,
      ).toBe(429);
    });

    test('is a 503 where the server is busy, in the words of the reference', async () => {
      const site = await serve({ gate: failing(new ServerBusyError({ retryAfter: 2.5 })), status: 429 });
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

    test('is a 503 where the gate is closed, also for those who wait', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const site = await serve({ gate, wait: 10 });
      const queued = call(site);
      await until(() => gate.waiting === 1);
      gate.close();
      expect([(await queued.seen).status, (await get(site)).status]).toEqual([503, 503]);
      holder?.release();
    });

    test('is answered by onLimited: with a string', async () => {
      const refusals: Refusal[] = [];
      const site = await serve({ gate: full(), onLimited: (refusal) => (refusals.push(refusal), 'not now') });
      const seen = await get(site);
      expect([seen.status, seen.body, seen.headers['retry-after']]).toEqual([429, 'not now', '1']);
      expect(seen.headers['content-type']).toMatch(/^text\/plain/);
      expect(refusals).toEqual([{ status: 429, retryAfter: 1, error: expect.any(ThrottleTimeoutError) as Error }]);
      expect((await get(site, '/', { method: 'HEAD' })).body).toBe('');
    });

    test('is answered by onLimited: with JSON, and later', async () => {
      const site = await serve({
        gate: full(),
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

    test('is answered by onLimited: with a Response, whose fields win', async () => {
      const headers: [string, string][] = [
        ['Retry-After', '60'],
        ['Set-Cookie', 'a=1'],
        ['Set-Cookie', 'b=2'],
        ['Content-Type', 'text/html'],
      ];
      const site = await serve({ gate: full(), onLimited: () => new Response('<p>später', { status: 402, headers }) });
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

    test('is answered by onLimited: with a Response that has no body', async () => {
      const site = await serve({
        gate: full(),
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
    ])('is the default where onLimited returns %s', async (_, nothing) => {
      const onLimited = vi.fn(() => nothing);
      const site = await serve({ gate: full(), onLimited });
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
      ['returns what JSON cannot say', () => circular, expect.any(TypeError)],
      ['returns a response that was read', () => used, expect.any(TypeError)],
      ['returns no response but an error', () => Response.error(), expect.any(RangeError)],
    ])('is the default, and the log is told, where onLimited %s', async (_, onLimited, expected) => {
      const site = await serve({ gate: full(), onLimited: onLimited as () => undefined });
      const seen = await get(site);
      expect([seen.status, JSON.parse(seen.body), seen.headers['retry-after']]).toMatchObject([
        429,
        { title: 'Too Many Requests' },
        '1',
      ]);
      expect(site.logged).toEqual([expected]);
      expect(site.failures).toEqual([]);
    });

    test('trap 30: Retry-After is the true wait, rounded up, on refusals only; honouring it succeeds', async () => {
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
    test('tell of a rate on every response', async () => {
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

    test('tell of slots where there is no rate', async () => {
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
    ])('say when all is there again, with %s, too', async (_, options, seconds) => {
      const site = await serve({ gate: new Throttle(10, 0, 60, { clock: new ManualClock(), ...options }), cost: 2 });
      expect((await get(site)).headers['ratelimit']).toBe(`"default";r=${(options.burst ?? 10) - 2};t=${seconds}`);
    });

    test('leave nothing to whoever is refused, and know no end of a pause without one', async () => {
      const gate = new Throttle(10, 1, 60, { clock: new ManualClock() });
      const site = await serve({ gate });
      gate.tryAcquire(3);
      expect((await get(site)).headers['ratelimit']).toBe('"default";r=0;t=1');
      const paused = await serve({ gate: Object.assign(new Throttle(10), { estimateWait: () => Infinity }) });
      expect((await get(paused)).headers['ratelimit']).toBe('"default";r=9');
    });

    test('do without a gate that looks its numbers up elsewhere, or fails to', async () => {
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

    test("tell of a key's own limit", async () => {
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

    test('are absent where `headers` is false, where nothing is limited, and where the gate shows nothing', async () => {
      const silent = new Throttle(10);
      const permit = { release() {}, refund() {} };
      const odd = { acquire: async () => permit, capacity: 1, period: 1, tokens: 1, name: 7 } as unknown as Gate;
      for (const options of [
        { gate: silent, headers: false },
        { gate: new Throttle(Infinity) },
        { gate: { acquire: async () => permit } as unknown as Gate },
        { gate: odd },
      ]) {
        const site = await serve(options);
        const { status, headers } = await get(site);
        expect([status, headers['ratelimit'], headers['ratelimit-policy']]).toEqual([200, undefined, undefined]);
      }
    });
  });

  describe('holds the permit', () => {
    test('to the end of a streamed response', async () => {
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

    test('no longer than that: a request right after the last byte gets in', async () => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate, wait: 5 });
      for (let index = 0; index < 20; index++) expect((await get(site)).status).toBe(200);
      await until(() => gate.active === 0);
    });

    test('until the response to a HEAD is sent', async () => {
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
    ])('until the error is answered where a handler %s', async (_, handler) => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate }, { handler });
      expect(await get(site)).toMatchObject({ status: 500, body: 'failed' });
      expect(site.failures).toEqual([outage]);
      await until(() => gate.active === 0);
      expect((await get(site)).status).toBe(500);
    });

    test('until `ttl` has passed, and then for lost', async () => {
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

    test('and no timer of a `ttl` longer than the response', async () => {
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

  describe('trap 31: a client that hangs up', () => {
    test.each(['destroy', 'end', 'resetAndDestroy'] as const)(
      'with requests whose turn has not come frees all their slots (%s)',
      async (leave) => {
        const gate = new Throttle(Infinity, 3);
        const site = await serve({ gate }, { handler: () => new Promise(() => {}) });
        for (let round = 0; round < 3; round++) {
          const socket = net.connect(site.port, '127.0.0.1');
          socket.on('error', () => {});
          for (let index = 0; index < 3; index++) socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
          await until(() => gate.active > 0);
          await new Promise((resolve) => void setTimeout(resolve, 10));
          socket[leave]();
          if (leave === 'end') socket.destroySoon();
          await until(() => gate.active === 0, 'the release of all permits');
        }
      },
    );

    test('before a slow gate refuses or fails is not served all the same', async () => {
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
        const site = await serve({ gate: gateThat(acquire), ...options, onLimited }, { handler });
        const gone = call(site);
        await until(() => acquire.mock.calls.length === 1);
        gone.hangUp();
        await new Promise((resolve) => void setTimeout(resolve, 50));
        latch.open();
        await new Promise((resolve) => void setTimeout(resolve, 10));
        expect([handler.mock.calls, onLimited.mock.calls, site.failures]).toEqual([[], [], []]);
      }
    });

    test('in the queue leaves it, and its handler never runs', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate, wait: 60 }, { handler });
      const gone = call(site, '/gone');
      await until(() => gate.waiting === 1);
      const stays = call(site, '/stays');
      await until(() => gate.waiting === 2);
      gone.hangUp();
      await until(() => gate.waiting === 1);
      holder?.release();
      expect((await stays.seen).status).toBe(200);
      await until(() => gate.active === 0);
      expect(handler.mock.calls.map((given) => (given as unknown[])[0])).toEqual(['/stays']);
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test('while streaming frees its slot', async () => {
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

    test('while its handler works frees its slot', async () => {
      const gate = new Throttle(Infinity, 1);
      const latch = new Latch();
      const site = await serve({ gate }, { handler: async () => (await latch.opened, 'done') });
      const working = call(site);
      await until(() => gate.active === 1);
      working.hangUp();
      await until(() => gate.active === 0);
      latch.open();
      await new Promise((resolve) => void setTimeout(resolve, 20));
      expect([gate.active, site.failures]).toEqual([0, []]);
    });

    test('while its key is looked up never queues', async () => {
      const gate = new KeyedThrottle(Infinity, 1);
      const holder = gate.tryAcquire('me');
      const latch = new Latch();
      const key = vi.fn(async () => (await latch.opened, 'me'));
      const site = await serve({ keyed: gate, key, wait: 60 });
      const gone = call(site);
      await until(() => key.mock.calls.length === 1);
      gone.hangUp();
      await new Promise((resolve) => void setTimeout(resolve, 50));
      latch.open();
      await new Promise((resolve) => void setTimeout(resolve, 10));
      expect(gate.peek('me')?.waiting).toBe(0);
      holder?.release();
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test.each([0, 60])('before a slow gate grants (wait: %i) costs nothing', async (wait) => {
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
      const gone = call(site);
      await until(() => calls.length === 1);
      gone.hangUp();
      await new Promise((resolve) => void setTimeout(resolve, 50));
      latch.open();
      await until(() => permits[0]?.released === true);
      expect([inner.active, inner.tokens]).toEqual([0, 10]);
      expect(handler).not.toHaveBeenCalled();
      expect([site.failures, site.logged]).toEqual([[], []]);
    });
  });

  describe('keys', () => {
    /** The statuses of requests that come while a first one, with the same `wanted`, is inside. */
    const others = async (
      serving: ReturnType<typeof serve>,
      first: [path?: string, wanted?: object],
      rest: [path?: string, wanted?: object][],
      inside: () => number,
      latch: Latch,
    ): Promise<number[]> => {
      const site = await serving;
      const holding = call(site, ...first);
      await until(() => inside() === 1);
      const seen: number[] = [];
      for (const each of rest) seen.push((await get(site, ...each)).status);
      latch.open();
      expect((await holding.seen).status).toBe(200);
      return seen;
    };
    /** The site with one slot a key, whose first request stays inside. */
    const held = async (
      key: string | (() => unknown),
      first: [path?: string, wanted?: object],
      rest: [path?: string, wanted?: object][],
      setting: object = {},
      more: object = {},
    ): Promise<number[]> => {
      const latch = new Latch();
      let inside = 0;
      const keyed = onePerKey();
      const handler = async (): Promise<string> => (inside++ === 0 && (await latch.opened), 'done');
      return others(
        serve({ keyed, key: key as string, ...more }, { handler, ...setting }),
        first,
        rest,
        () => inside,
        latch,
      );
    };
    /** The key that a request gets. */
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
        acquire: (whose: string) => (found.push(whose), Promise.reject(new ThrottleTimeoutError('full'))),
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

    test.each(['user', 'user_or_ip'])("'%s' is the user's id, or the address of whoever is anonymous", async (key) => {
      expect(await keyOf(key, '/', {}, { user: { id: 42 } })).toBe('user:42');
      expect(await keyOf(key, '/', {}, { user: { id: 'ada' } })).toBe('user:ada');
      expect(await keyOf(key, '/', {}, { user: 0 })).toBe('user:0');
      expect(await keyOf(key, '/', {}, { user: 'bob' })).toBe('user:bob');
      for (const user of [undefined, null, false, '']) expect(await keyOf(key, '/', {}, { user })).toBe('ip:127.0.0.1');
    });

    test.each([[{}], [{ id: null }], [{ id: '' }], [{ id: {} }], [{ id: Number.NaN }], [{ id: false }], [true]])(
      "'user' takes %j for a mistake: the error handler gets it",
      async (user) => {
        expect(await keyOf('user', '/', {}, { user })).toMatch(
          /^500 failed TypeError: the user's id must be a string or a number/,
        );
      },
    );

    test("'header:NAME' is the field's value, whatever the case of its name", async () => {
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

    test('a template is filled in', async () => {
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

    test('a template keeps apart what differs', async () => {
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
    ])('%s has no value', async (key) => {
      const answer = detail(
        await keyOf(key, '/?b=1', {}, { user: { id: 'ada', list: [1], nan: Number.NaN, none: null } }),
      );
      expect(answer).toBe(`The request has no value for ${key.includes('query') ? '{query.a}' : key}.`);
    });

    test('a function says it, also later', async () => {
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

    test('a request without a key is refused with 400, and onLimited is not asked', async () => {
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
      expect(await held('header:x-key', as('a'), [as('a'), as('b'), as('a')])).toEqual([429, 200, 429]);
    });

    test('trap 32: a forwarded header is not believed, unless the framework trusts the proxy', async () => {
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
      expect(await held('ip', ['/'], [['/', { headers }]])).toEqual([429]);
      if (knowsProxies) expect(await keyOf('ip', '/', { headers }, { trustProxy: true })).toBe('ip:203.0.113.7');
    });

    // The others know no proxies, so here they have no other client than this one.
    if (knowsProxies)
      test('trap 32: a client that rotates its IPv6 addresses stays one client', async () => {
        const from = (address: string): [string, object] => ['/', { headers: { 'x-forwarded-for': address } }];
        const setting = { trustProxy: true };
        expect(await keyOf('ip', ...from('2001:db8:0:1ff::1'), setting)).toBe('ip:2001:db8:0:100::/56');
        expect(await keyOf('ip', ...from('::ffff:203.0.113.7'), setting)).toBe('ip:203.0.113.7');
        expect(await keyOf('ip', ...from('::FFFF:CB00:7107'), setting)).toBe('ip:203.0.113.7');
        expect(
          await held('ip', from('2001:db8:0:100::1'), [from('2001:db8:0:1ff::2'), from('2001:db8:0:200::1')], setting),
        ).toEqual([429, 200]);
        expect(
          await held(
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
    test('lets those over the limit run, without a permit', async () => {
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
    test('is no refusal: the error handler gets its error', async () => {
      const onLimited = vi.fn();
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate: failing(outage), onLimited, block: false }, { handler });
      const seen = await get(site);
      expect([seen.status, seen.body, seen.headers['retry-after']]).toEqual([500, 'failed', undefined]);
      expect([site.failures, onLimited.mock.calls, handler.mock.calls]).toEqual([[outage], [], []]);
    });

    test('lets requests through with failOpen', async () => {
      const site = await serve({ gate: failing(outage), failOpen: true });
      expect(await get(site)).toMatchObject({ status: 200, body: 'done' });
      const thrown = await serve({
        gate: gateThat(() => {
          throw outage;
        }),
        failOpen: true,
      });
      expect((await get(thrown)).status).toBe(200);
      expect(site.failures).toEqual([]);
    });

    test('refuses with failOpen, too', async () => {
      const site = await serve({ gate: failing(new QueueFullError('full')), failOpen: true });
      expect((await get(site)).status).toBe(503);
    });

    const mistake = new TypeError('a mistake');
    const thrower = (): never => {
      throw mistake;
    };
    test.each<[string, object, string]>([
      [
        'a cost that is none',
        { cost: () => Number.NaN },
        'RangeError: cost must be a finite number >= 0, received NaN',
      ],
      [
        'a cost of another type',
        { cost: async () => '1' },
        'TypeError: cost must be a finite number >= 0, received "1"',
      ],
      ['a cost over the burst', { cost: 11 }, 'RangeError: cost must be at most 10'],
      ['a cost function that throws', { cost: thrower }, 'TypeError: a mistake'],
      ['a skip function that throws', { skip: thrower }, 'TypeError: a mistake'],
      ['a skip function that rejects', { skip: async () => thrower() }, 'TypeError: a mistake'],
    ])('%s is a mistake in the program: failOpen does not hide it', async (_, options, message) => {
      const site = await serve({ gate: new Throttle(10), failOpen: true, ...options });
      expect(await get(site)).toMatchObject({ status: 500, body: 'failed' });
      expect(String(site.failures[0])).toContain(message);
    });

    test('and so is a key function that throws', async () => {
      for (const key of [thrower, async () => thrower()]) {
        const site = await serve({ keyed: onePerKey(), key, failOpen: true });
        expect((await get(site)).status).toBe(500);
        expect(site.failures).toEqual([mistake]);
      }
    });
  });

  describe('options are checked when the middleware is made', () => {
    const gate = new Throttle(1);
    const keyed = onePerKey();
    test.each<[string, unknown, string]>([
      ['nothing', undefined, 'TypeError: options must be an object, received undefined'],
      ['no gate', {}, 'TypeError: options must have either gate or keyed'],
      ['two gates', { gate, keyed, key: 'ip' }, 'TypeError: options must have either gate or keyed'],
      ['a gate that is none', { gate: 7 }, 'TypeError: gate must be a Gate, not a KeyedGate, received 7'],
      ['a gate that is null', { gate: null }, 'TypeError: gate must be a Gate, not a KeyedGate, received null'],
      ['a keyed gate as a gate', { gate: keyed }, 'TypeError: gate must be a Gate, not a KeyedGate, received object'],
      ['a gate as a keyed gate', { keyed: gate, key: 'ip' }, 'TypeError: keyed must be a KeyedGate, received object'],
      [
        'half a keyed gate',
        { keyed: { keyed: true }, key: 'ip' },
        'TypeError: keyed must be a KeyedGate, received object',
      ],
      ['no key', { keyed }, 'TypeError: key must be set if and only if keyed is set, received undefined'],
      [
        'a key for one gate',
        { gate, key: 'ip' },
        'TypeError: key must be set if and only if keyed is set, received "ip"',
      ],
      [
        'a key of no form',
        { keyed, key: 'ipp' },
        `TypeError: key must be 'ip', 'user', 'header:NAME', 'query:NAME', a template or a function, received "ipp"`,
      ],
      ['a key of another type', { keyed, key: 7 }, "TypeError: key must be 'ip', 'user',"],
      ['a header without a name', { keyed, key: 'header:' }, "TypeError: key must be 'ip', 'user',"],
      [
        'a header that cannot be',
        { keyed, key: 'header:a b' },
        'TypeError: key must be a template with valid header names, received "a b"',
      ],
      ['a query without a name', { keyed, key: 'query:' }, "TypeError: key must be 'ip', 'user',"],
      ['an open brace', { keyed, key: 'user:{user.id' }, "TypeError: key must be 'ip', 'user',"],
      ['a stray brace', { keyed, key: '{user.id}}' }, "TypeError: key must be 'ip', 'user',"],
      ['no place', { keyed, key: 'a{}' }, "TypeError: key must be 'ip', 'user',"],
      [
        'places without anything between',
        { keyed, key: '{a}{b}' },
        'TypeError: key must be a template with punctuation between its placeholders, received "{a}{b}"',
      ],
      [
        'places with a word between',
        { keyed, key: '{a}and{b}' },
        'TypeError: key must be a template with punctuation between its placeholders',
      ],
      [
        'places with a percent sign between',
        { keyed, key: '{a}%{b}' },
        'TypeError: key must be a template with punctuation between its placeholders',
      ],
      ['a cost below 0', { gate, cost: -1 }, 'RangeError: cost must be a finite number >= 0, received -1'],
      ['a cost that is a text', { gate, cost: '1' }, 'TypeError: cost must be a finite number >= 0, received "1"'],
      ['a wait below 0', { gate, wait: -1 }, 'RangeError: wait must be a number >= 0, received -1'],
      [
        'a timeout of the gate that is none',
        { gate: { acquire() {}, timeout: '5' } },
        'TypeError: wait must be a number >= 0, received "5"',
      ],
      ['a block that is none', { gate, block: 1 }, 'TypeError: block must be a boolean, received 1'],
      ['headers that are none', { gate, headers: 'x' }, 'TypeError: headers must be a boolean, received "x"'],
      ['failOpen that is none', { gate, failOpen: null }, 'TypeError: failOpen must be a boolean, received null'],
      [
        'a status that is no refusal',
        { gate, status: 200 },
        'RangeError: status must be an integer from 400 to 599, received 200',
      ],
      [
        'a status over all',
        { gate, status: 600 },
        'RangeError: status must be an integer from 400 to 599, received 600',
      ],
      [
        'half a status',
        { gate, status: 429.5 },
        'RangeError: status must be an integer from 400 to 599, received 429.5',
      ],
      [
        'onLimited that is none',
        { gate, onLimited: 'no' },
        'TypeError: onLimited must be a function or \'throw\', received "no"',
      ],
      [
        'a hold that is none',
        { gate, hold: 'body' },
        "TypeError: hold must be 'response' or 'handler', received \"body\"",
      ],
      ['skip that is none', { gate, skip: true }, 'TypeError: skip must be a function, received true'],
      [
        'a prefix of nothing',
        { gate, ipv6Prefix: 0 },
        'RangeError: ipv6Prefix must be an integer from 1 to 128, received 0',
      ],
      [
        'a prefix of too much',
        { gate, ipv6Prefix: 129 },
        'RangeError: ipv6Prefix must be an integer from 1 to 128, received 129',
      ],
      ['a ttl of nothing', { gate, ttl: 0 }, 'RangeError: ttl must be a number > 0, up to 2147483, received 0'],
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

    test('undefined is as good as absent', async () => {
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

    test("wait is the gate's own timeout, if it has one", async () => {
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
        { gate: gateThat(acquire as never) },
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
