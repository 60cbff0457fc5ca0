/** Several limits on one request, the permit of a request, refusals as errors, and functions that never settle. */
import createExpress from 'express';
import createFastify, { type FastifyReply } from 'fastify';
import { type Context, Hono } from 'hono';
import http from 'node:http';
import { Readable } from 'node:stream';
import Koa from 'koa';
import { type Gate, KeyedThrottle, type Permit, ServerBusyError, Throttle, ThrottleTimeoutError } from 'headgate';
import { express, fastify, hono, koa, permitOf, type RefusalError, web } from 'headgate/http';
import { ManualClock } from 'headgate/testing';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { call, get, Latch, type Seen, until } from '../support/http-client.js';
import { fullGate } from '../support/fixed-gates.js';
import { type AnyOptions, fetchServer, sites, startServer } from '../support/framework-servers.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));
/** A rate of ten per ten seconds, whose clock does not advance. */
const tenTokens = (concurrency = 0, name?: string): Throttle =>
  new Throttle(10, concurrency, 10, { clock: new ManualClock(), name });
const rateLimitFields = ({ headers }: Seen): unknown => [headers['ratelimit-policy'], headers['ratelimit']];

/** Records the timers of 10 s, and can fire them at once. */
const recordTimers = (): { fire: () => void; readonly started: number; readonly uncleared: number } => {
  const set = vi.spyOn(globalThis, 'setTimeout');
  const clear = vi.spyOn(globalThis, 'clearTimeout');
  onTestFinished(() => {
    set.mockRestore();
    clear.mockRestore();
  });
  const all = (): { callback: () => void; timer: unknown }[] =>
    set.mock.calls.flatMap(([callback, delay], index) =>
      delay === 10_000 ? [{ callback, timer: set.mock.results[index]?.value as unknown }] : [],
    );
  return {
    fire: () => all().forEach(({ callback }) => callback()),
    get started() {
      return all().length;
    },
    get uncleared() {
      const cleared = new Set<unknown>(clear.mock.calls.map(([timer]) => timer));
      return all().filter(({ timer }) => !cleared.has(timer)).length;
    },
  };
};

describe.each(sites)('%s', (name, serve) => {
  describe('the same limit twice on a request', () => {
    test('counts once, as one middleware or as two of one gate (FAULTS 27, express-rate-limit#364)', async () => {
      const gate = tenTokens(1);
      const options: AnyOptions = { gate };
      for (const limits of [
        [options, options],
        [options, { ...options }],
        [options, { gate, wait: 5 }, options],
      ]) {
        const before = gate.tokens;
        const site = await serve(limits, { handler: () => `${gate.active}` });
        const seen = await get(site);
        expect([seen.status, seen.body, before - gate.tokens]).toEqual([200, '1', 1]);
        // The fields show the limit once.
        expect(rateLimitFields(seen)).toEqual([
          '"default";q=10;w=10',
          `"default";r=${gate.tokens};t=${10 - gate.tokens}`,
        ]);
        await until(() => gate.active === 0);
      }
    });

    test('counts once for each key (FAULTS 27)', async () => {
      const keyed = new KeyedThrottle(Infinity, 1);
      const site = await serve(
        [
          { keyed, key: 'header:x-key' },
          { keyed, key: 'header:x-key' },
          { keyed, key: 'header:x-other' },
        ],
        { handler: () => `${keyed.size}` },
      );
      expect(await get(site, '/', { headers: { 'x-key': 'a', 'x-other': 'b' } })).toMatchObject({
        status: 200,
        body: '2',
      });
      await until(() => keyed.size === 0);
    });

    test('counts at the higher cost and holds for the longer time (FAULTS 27)', async () => {
      const gate = tenTokens(1);
      const latch = new Latch();
      const site = await serve([{ gate }, { gate, cost: 4, hold: 'handler' }, { gate, cost: 2 }], {
        handler: async () => (await latch.opened, 'done'),
      });
      const dropped = call(site);
      await until(() => gate.active === 1);
      expect([gate.tokens, gate.active]).toEqual([6, 1]);
      dropped.hangUp();
      await pause(30);
      expect(gate.active).toBe(1);
      latch.open();
      await until(() => gate.active === 0);
      expect(gate.tokens).toBe(6);
    });

    test('counts at the higher cost of each named rate', async () => {
      const gate = new Throttle(10, 0, 60, { also: [{ name: 'tokens', capacity: 100, period: 60 }] });
      const costs = [{ tokens: 20 }, 2, { cost: 1, tokens: 30 }, () => ({ tokens: 30 })];
      const seen: number[] = [];
      const site = await serve(
        costs.map((cost) => ({ gate, cost })),
        {
          handler: (_, from) => (
            seen.push(permitOf(from)?.cost ?? NaN, permitOf(from)?.costs['tokens'] ?? NaN),
            'done'
          ),
        },
      );
      expect((await get(site)).status).toBe(200);
      expect(seen).toEqual([2, 30]);
      expect(Math.round(gate.tokens)).toBe(8);
      expect(Math.round(gate.levels.tokens)).toBe(70);
    });

    test('refuses the request if only the first has block: false (FAULTS 27)', async () => {
      const site = await serve([{ gate: fullGate(), block: false }, { gate: fullGate() }]);
      expect((await get(site)).status).toBe(429);
      const gate = fullGate();
      expect((await get(await serve([{ gate, block: false }, { gate }]))).status).toBe(429);
    });
  });

  describe('a request that a later limit refuses', () => {
    test('is refunded by the earlier limits, and its response shows all limits (FAULTS 29)', async () => {
      const first = tenTokens(5, 'first');
      const second = new Throttle(1, 0, 60, { clock: new ManualClock(), name: 'second' });
      const site = await serve([{ gate: first, hold: 'handler' }, { gate: second }]);
      const served = await get(site);
      expect([served.status, rateLimitFields(served)]).toEqual([
        200,
        ['"first";q=10;w=10, "second";q=1;w=60', '"first";r=9;t=1, "second";r=0;t=60'],
      ]);
      for (let index = 0; index < 5; index++) {
        const refused = await get(site);
        expect([refused.status, rateLimitFields(refused)]).toEqual([
          429,
          ['"first";q=10;w=10, "second";q=1;w=60', '"first";r=9;t=1, "second";r=0;t=60'],
        ]);
        expect([first.tokens, first.active]).toEqual([9, 0]);
      }
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test('is refunded before onLimited is called (FAULTS 29)', async () => {
      const first = tenTokens(1);
      const onLimited = vi.fn(() => `${first.active} ${first.tokens}`);
      const site = await serve([{ gate: first }, { gate: fullGate(), onLimited }]);
      expect((await get(site)).body).toBe('0 10');
    });

    test('shows limits without a name under different names (FAULTS 29)', async () => {
      const site = await serve([
        { gate: tenTokens() },
        { gate: new Throttle(Infinity, 3) },
        { gate: tenTokens(), headers: false },
      ]);
      expect(rateLimitFields(await get(site))).toEqual([
        '"default";q=10;w=10, "default-2";q=3;qu="concurrent-requests"',
        '"default";r=9;t=1, "default-2";r=2',
      ]);
    });
  });

  describe('permitOf', () => {
    test('returns the permit of the last limit, or of the gate that is given (FAULTS 30)', async () => {
      const [one, two] = [tenTokens(), tenTokens()];
      const keyed = new KeyedThrottle(10, 0, 10, { clock: new ManualClock() });
      const permits: unknown[] = [];
      const site = await serve(
        [
          { gate: one, cost: 2 },
          { gate: two, cost: 3 },
          { keyed, key: () => 'me', cost: 4 },
        ],
        {
          handler: (_, request, raw) => {
            for (const from of [request, raw])
              permits.push([
                permitOf(from)?.cost,
                permitOf(from, one)?.cost,
                permitOf(from, two)?.cost,
                permitOf(from, keyed)?.cost,
                permitOf(from, fullGate()),
              ]);
            return 'done';
          },
        },
      );
      expect((await get(site)).status).toBe(200);
      expect(permits).toEqual([
        [4, 2, 3, 4, undefined],
        [4, 2, 3, 4, undefined],
      ]);
    });

    test('returns a permit that refunds a success (FAULTS 30, express-rate-limit#71)', async () => {
      const gate = tenTokens();
      const site = await serve(
        { gate },
        {
          handler: (path, request) => {
            if (path === '/good') permitOf(request)?.refund();
            return 'done';
          },
        },
      );
      for (const path of ['/good', '/bad', '/good', '/bad']) expect((await get(site, path)).status).toBe(200);
      expect(gate.tokens).toBe(8);
    });

    test('returns a permit that settles the true cost after the response (FAULTS 30)', async () => {
      const gate = tenTokens(1);
      let request: object = {};
      const site = await serve({ gate }, { handler: (_, from) => ((request = from), 'done') });
      expect((await get(site)).status).toBe(200);
      await until(() => gate.active === 0);
      permitOf(request)?.settle(5);
      expect([gate.tokens, permitOf(request)?.released]).toEqual([5, true]);
    });

    test('returns undefined for a request without a permit (FAULTS 30)', async () => {
      const permits: unknown[] = [];
      const handler = (_: string, request: object, raw: object): string => (
        permits.push(permitOf(request), permitOf(raw)),
        'done'
      );
      const failing = {
        acquire: async () => {
          throw new Error('down');
        },
      } as unknown as Gate;
      for (const options of [
        { gate: tenTokens(), skip: () => true },
        { gate: failing, failOpen: true },
        { gate: fullGate(), block: false },
      ]) {
        expect((await get(await serve(options, { handler }))).status).toBe(200);
      }
      expect(permits).toEqual([undefined, undefined, undefined, undefined, undefined, undefined]);
      expect(permitOf({})).toBeUndefined();
      expect(permitOf(undefined as never)).toBeUndefined();
    });
  });

  test('a refusal captures no stack trace, which would take half of its time (FAULTS 45)', async () => {
    const errors: unknown[] = [];
    const onLimited = ({ error }: { error: unknown }): void => void errors.push(error);
    const keyed = new KeyedThrottle(1, 0, 60, { clock: new ManualClock() });
    keyed.tryAcquire('ada');
    await get(await serve({ gate: fullGate(), onLimited }));
    await get(await serve({ keyed, key: () => 'ada', onLimited }));
    const unqueued = new Throttle({ concurrency: 1, maxQueue: 0 });
    unqueued.tryAcquire();
    await get(await serve({ gate: unqueued, wait: 5, onLimited }));
    expect(errors.map((error) => (error as Error).stack?.split('\n').length)).toEqual([1, 1, 1]);
  });

  describe("onLimited: 'throw'", () => {
    test('passes an error with the properties of http-errors to the error handler (FAULTS 31)', async () => {
      const site = await serve([{ gate: tenTokens(0, 'one') }, { gate: fullGate(), onLimited: 'throw' }]);
      const seen = await get(site);
      expect([seen.status, seen.body]).toEqual([500, 'failed']);
      const [error] = site.failures as [RefusalError];
      expect(error).toMatchObject({
        name: 'RefusalError',
        status: 429,
        statusCode: 429,
        expose: true,
        retryAfter: 1,
        code: 'ERR_THROTTLE_TIMEOUT',
        message: 'Too Many Requests: retry in 1 s.',
      });
      expect(error.headers).toEqual({
        'Retry-After': '1',
        'RateLimit-Policy': '"one";q=10;w=10, "default-2";q=1;qu="concurrent-requests"',
        RateLimit: '"one";r=10;t=0, "default-2";r=0;t=1',
      });
      expect([error.error, error.cause]).toEqual([expect.any(ThrottleTimeoutError), error.error]);
      // A stack trace would cost more than the refusal, and show only this package.
      expect(error.stack).not.toContain('\n');
      expect([error instanceof Error, site.logged]).toEqual([true, []]);
    });

    test('passes the refusal of a busy server as a 503, with its key (FAULTS 31)', async () => {
      const keyed = Object.assign(Object.create(new KeyedThrottle(1)) as KeyedThrottle, {
        acquire: async () => {
          throw new ServerBusyError({ retryAfter: 2.5 });
        },
      });
      const site = await serve({ keyed, key: () => 'me', onLimited: 'throw' });
      await get(site);
      expect(site.failures).toMatchObject([
        {
          status: 503,
          key: 'me',
          retryAfter: 3,
          message: 'Server busy, please retry later',
          headers: { 'Retry-After': '3' },
        },
      ]);
      const response = (site.failures[0] as RefusalError).getResponse();
      expect([response.status, response.headers.get('retry-after'), await response.text()]).toEqual([
        503,
        '3',
        '{"detail":"Server busy, please retry later"}',
      ]);
    });
  });

  describe('a function of the options that never settles', () => {
    const never = (): Promise<never> => new Promise(() => {});
    test.each<[string, object]>([
      ['key', { keyed: new KeyedThrottle(10), key: never }],
      ['cost', { gate: new Throttle(10), cost: never }],
      ['skip', { gate: new Throttle(10), skip: never }],
    ])('%s: the error handler receives an error after 10 s (FAULTS 44)', async (what, options) => {
      const site = await serve(options as AnyOptions);
      const timers = recordTimers();
      const pending = get(site);
      await until(() => timers.started === 1);
      timers.fire();
      expect(await pending).toMatchObject({ status: 500, body: 'failed' });
      expect(site.failures).toEqual([expect.objectContaining({ message: `${what} did not settle within 10 s` })]);
      expect(timers.uncleared).toBe(0);
    });

    test.each<[string, object]>([
      ['key', { keyed: new KeyedThrottle(10), key: never }],
      ['cost', { gate: new Throttle(10), cost: never }],
      ['skip', { gate: new Throttle(10), skip: never }],
      ['onLimited', { gate: fullGate(), onLimited: never }],
    ])('%s: the adapter stops waiting when the client disconnects (FAULTS 44)', async (_, options) => {
      const handler = vi.fn(() => 'done');
      const site = await serve(options as AnyOptions, { handler });
      const timers = recordTimers();
      const dropped = call(site);
      await until(() => timers.started === 1);
      dropped.hangUp();
      await until(() => timers.uncleared === 0, 'the end of the wait');
      expect([handler.mock.calls, site.failures, site.logged]).toEqual([[], [], []]);
    });

    test('onLimited: the default refusal is sent and the error is logged after 10 s (FAULTS 44)', async () => {
      for (const onLimited of [never, () => new Response(new ReadableStream())]) {
        const site = await serve({ gate: fullGate(), onLimited });
        const timers = recordTimers();
        const pending = get(site);
        await until(() => timers.started === 1);
        timers.fire();
        const seen = await pending;
        expect([seen.status, seen.headers['retry-after'], JSON.parse(seen.body)]).toMatchObject([
          429,
          '1',
          { title: 'Too Many Requests' },
        ]);
        expect([site.failures, site.logged]).toEqual([
          [],
          [expect.objectContaining({ message: 'onLimited did not settle within 10 s' })],
        ]);
        expect(timers.uncleared).toBe(0);
        vi.restoreAllMocks();
      }
    });

    test('has its timer cleared if it settles in time (FAULTS 44)', async () => {
      const site = await serve({
        keyed: new KeyedThrottle(10),
        key: async () => 'me',
        cost: async () => 1,
        skip: async () => false,
      });
      const timers = recordTimers();
      expect((await get(site)).status).toBe(200);
      expect([timers.started, timers.uncleared]).toEqual([3, 0]);
    });
  });

  test.each([undefined, null, 'route', 0, Symbol('thrown')])(
    'a gate that rejects with %s causes an Error that names it (FAULTS 44)',
    async (thrown) => {
      const gate = { acquire: () => Promise.reject(thrown) } as unknown as Gate;
      const site = await serve({ gate });
      expect(await get(site)).toMatchObject({ status: 500, body: 'failed' });
      expect(site.failures).toEqual([new Error(`${String(thrown)} was thrown`)]);
    },
  );

  test('an error of release or refund is logged, and the response is sent (FAULTS 44)', async () => {
    const [sync, late] = [new Error('release failed'), new Error('release failed later')];
    for (const [failure, release] of [
      [
        sync,
        () => {
          throw sync;
        },
      ],
      [late, () => Promise.reject(late)],
    ] as const) {
      const permit = { release, refund: release, cost: 1 } as unknown as Permit;
      const site = await serve({ gate: { acquire: async () => permit } as unknown as Gate });
      expect(await get(site)).toMatchObject({ status: 200, body: 'done' });
      await until(() => site.logged.length === 1);
      expect([site.logged, site.failures]).toEqual([[failure], []]);
      const refused = await serve([{ gate: { acquire: async () => permit } as unknown as Gate }, { gate: fullGate() }]);
      expect((await get(refused)).status).toBe(429);
      await until(() => refused.logged.length === 2);
      vi.restoreAllMocks();
    }
  });

  test('a refusal is sent although the log throws', async () => {
    if (name === 'koa' || name === 'fastify') return;
    const site = await serve({
      gate: fullGate(),
      onLimited: () => {
        throw new Error('no');
      },
    });
    vi.spyOn(console, 'error').mockImplementation(() => {
      throw new Error('the log is full');
    });
    expect((await get(site)).status).toBe(429);
    vi.restoreAllMocks();
  });
});

describe("onLimited: 'throw' is answered with the refusal (FAULTS 31)", () => {
  const expected = [429, '1', '"default";r=0;t=1'];
  const short = ({ status, headers }: Seen): unknown => [status, headers['retry-after'], headers['ratelimit']];

  test('by the default error handler of Express', async () => {
    const app = createExpress().set('env', 'test');
    app.use(express({ gate: fullGate(), onLimited: 'throw' }));
    const seen = await get(await startServer(http.createServer(app)));
    expect(short(seen)).toEqual(expected);
    expect(seen.body).toContain('Too Many Requests: retry in 1 s.');
  });

  test('by the default error handler of Koa', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    onTestFinished(() => log.mockRestore());
    const app = new Koa();
    app.use(koa({ gate: fullGate(), onLimited: 'throw' }));
    const listener = app.callback();
    const seen = await get(await startServer(http.createServer((req, res) => void listener(req, res))));
    expect([short(seen), seen.body, log.mock.calls]).toEqual([expected, 'Too Many Requests: retry in 1 s.', []]);
  });

  test('by the default error handler of Fastify', async () => {
    const server = createFastify();
    onTestFinished(() => server.close());
    await server.register(fastify({ gate: fullGate(), onLimited: 'throw' }));
    server.get('/', async () => 'done');
    const { statusCode, headers, body } = await server.inject('/');
    expect([statusCode, headers['retry-after'], headers['ratelimit'], JSON.parse(body)]).toEqual([
      ...expected,
      {
        statusCode: 429,
        code: 'ERR_THROTTLE_TIMEOUT',
        error: 'Too Many Requests',
        message: 'Too Many Requests: retry in 1 s.',
      },
    ]);
  });

  test('by the default error handler of Hono, and by a custom one', async () => {
    const app = new Hono();
    app.use(hono({ gate: fullGate(), onLimited: 'throw' }));
    const response = await app.request('/');
    expect([
      response.status,
      response.headers.get('retry-after'),
      response.headers.get('ratelimit'),
      await response.json(),
    ]).toEqual([...expected, expect.objectContaining({ title: 'Too Many Requests' })]);
    app.onError((error, c: Context) =>
      c.json({ own: (error as RefusalError).retryAfter }, (error as RefusalError).status as 429),
    );
    const own = await app.request('/');
    expect([own.status, own.headers.get('retry-after'), await own.json()]).toEqual([429, '1', { own: 1 }]);
  });

  test('by a rejection of web, which has no error handler', async () => {
    await expect(
      web(() => new Response('done'), { gate: fullGate(), onLimited: 'throw' })(new Request('http://x/')),
    ).rejects.toMatchObject({ status: 429, headers: { 'Retry-After': '1' } });
  });
});

describe('a Request', () => {
  test('that a handler receives again counts as another request (FAULTS 27)', async () => {
    const gate = tenTokens();
    const handler = web(() => new Response('done'), { gate });
    const request = new Request('http://x/');
    for (let index = 1; index <= 3; index++) {
      await handler(request);
      expect(gate.tokens).toBe(10 - index);
      expect(permitOf(request)?.cost).toBe(1);
    }
  });

  test('counts once for the same limit around and inside an application of Hono (FAULTS 27)', async () => {
    const gate = tenTokens(1);
    const app = new Hono();
    app.use(hono({ gate }));
    app.get('/', (c) => c.text(`${gate.active} ${permitOf(c)?.cost} ${permitOf(c.req.raw)?.cost}`));
    const site = await startServer(
      fetchServer(web((request: Request, env: object) => app.fetch(request, env), { gate }) as never),
    );
    expect((await get(site)).body).toBe('1 1 1');
    expect(gate.tokens).toBe(9);
  });
});

test('the state of a request is garbage collected with the request (FAULTS 30)', async () => {
  const gate = new Throttle(Infinity, 1);
  const permits: WeakRef<object>[] = [];
  const limit = express({ gate, hold: 'handler' });
  const server = http.createServer((req, res) =>
    limit(req, res, () => {
      permits.push(new WeakRef(permitOf(req)!));
      res.end('done');
    }),
  );
  const site = await startServer(server);
  for (let index = 0; index < 10; index++) {
    await get(site);
    await until(() => gate.active === 0);
  }
  await pause(10);
  globalThis.gc?.();
  expect(permits.filter((permit) => permit.deref() !== undefined).length).toBeLessThanOrEqual(1);
});

test('a frozen request has its permit and counts once (FAULTS 27, 30)', async () => {
  const gate = tenTokens(1);
  const inner = web((request: Request) => new Response(String(permitOf(request)?.cost)), { gate });
  const outer = web((request: Request) => inner(request), { gate });
  expect(await (await outer(Object.freeze(new Request('http://x/')))).text()).toBe('1');
  expect(gate.tokens).toBe(9);
});

test('two copies of the package share the state and the refusals of a request (FAULTS 9)', async () => {
  vi.resetModules();
  const copy = { ...(await import('headgate')), ...(await import('headgate/http')) };
  expect(copy.permitOf).not.toBe(permitOf);
  const gate = new copy.Throttle(2, 0, 60);
  const inner = copy.web((request: Request) => new Response(String(permitOf(request)?.cost)), { gate });
  const outer = web((request: Request) => inner(request), { gate });
  expect(await (await outer(new Request('http://x/'))).text()).toBe('1');
  expect(gate.tokens).toBeGreaterThanOrEqual(1);
  await outer(new Request('http://x/'));
  const refused = await outer(new Request('http://x/'));
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '30']);
  const busy = {
    acquire: async () => {
      throw new copy.ServerBusyError();
    },
  } as unknown as Gate;
  expect((await web(() => new Response('done'), { gate: busy, failOpen: true })(new Request('http://x/'))).status).toBe(
    503,
  );
});

test.each<[string, (reply: FastifyReply, body: Readable) => unknown]>([
  ['returns the reply', (reply, body) => reply.send(body)],
  ['returns a promise of the reply', async (reply, body) => reply.send(body)],
])('Fastify: an onLimited that %s causes no timeout error for a slow client (FAULTS 44)', async (_, send) => {
  const logged: string[] = [];
  const server = createFastify({
    logger: { level: 'error', stream: { write: (line: string) => void logged.push(line) } },
  });
  onTestFinished(() => server.close());
  const body = new Readable({ read() {} });
  body.push('slow');
  await server.register(
    fastify({
      gate: fullGate(),
      onLimited: (_refusal, _request, reply: FastifyReply) => send(reply, body) as undefined,
    }),
  );
  server.get('/', async () => 'done');
  await server.ready();
  const timers = recordTimers();
  const pending = server.inject('/');
  await until(() => timers.started >= 1);
  timers.fire();
  await pause(10);
  body.push(null);
  expect(await pending).toMatchObject({ statusCode: 429, body: 'slow' });
  expect(logged).toEqual([]);
});
