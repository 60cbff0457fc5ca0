/** The behaviour of the adapter for Hono, on Node and without Node. */
import { type Context, Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { Throttle } from 'headgate';
import { hono } from 'headgate/http';
import { describe, expect, test } from 'vitest';
import { fullGate, refusingGate } from '../support/fixed-gates.js';
import { fetchServer, startServer } from '../support/framework-servers.js';
import { call, get, Latch, until } from '../support/http-client.js';

describe('hono', () => {
  test('a key can use the parameters of the route and the variables of the context', async () => {
    const { keyed, keys } = refusingGate();
    const app = new Hono<{ Variables: { tenant: { id: string } } }>();
    app.use((c, next) => (c.set('tenant', { id: 'acme' }), next()));
    app.get('/p/:project', hono({ keyed, key: '{tenant.id}:{params.project}:{method}:{path}' }));
    expect((await app.request('/p/one?x=1')).status).toBe(429);
    expect(keys).toEqual(['acme:one:GET:/p/one']);
  });

  test('onLimited can respond with the context', async () => {
    const app = new Hono();
    app.use(async (c, next) => (await next(), c.header('x-outer', 'yes')));
    app.use(hono({ gate: fullGate(), onLimited: (refusal, c: Context) => c.json({ own: refusal.retryAfter }) }));
    const response = await app.request('/');
    expect([
      response.status,
      response.headers.get('retry-after'),
      response.headers.get('x-outer'),
      await response.json(),
    ]).toEqual([429, '1', 'yes', { own: 1 }]);
  });

  test('earlier header fields are kept, and the fields of the handler take precedence', async () => {
    const app = new Hono();
    app.use(async (c, next) => (c.header('x-before', 'yes'), await next()));
    app.use('/in', hono({ gate: new Throttle(Infinity, 2) }));
    app.use('/out', hono({ gate: fullGate() }));
    app.get('/in', (c) => c.text('done', 200, { ratelimit: 'mine' }));
    const seen = async (path: string): Promise<unknown> => {
      const { status, headers } = await app.request(path);
      return [status, headers.get('x-before'), headers.get('ratelimit'), headers.get('ratelimit-policy')];
    };
    expect(await seen('/in')).toEqual([200, 'yes', 'mine', '"default";q=2;qu="concurrent-requests"']);
    expect(await seen('/out')).toEqual([429, 'yes', '"default";r=0;t=1', '"default";q=1;qu="concurrent-requests"']);
  });

  test('server-sent events hold the permit on Node until the stream ends', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const app = new Hono();
    app.use(hono({ gate }));
    app.get('/', (c) =>
      streamSSE(c, async (stream) => {
        await stream.writeSSE({ data: '1' });
        await latch.opened;
      }),
    );
    const site = await startServer(fetchServer(app.fetch));
    const events = call(site);
    expect(await events.started).toBe('data: 1\n\n');
    expect([gate.active, (await get(site)).status]).toEqual([1, 429]);
    latch.open();
    await events.seen;
    await until(() => gate.active === 0);
  });
});

describe('hono without Node', () => {
  test('holds the permit until the body was read or cancelled, or cannot be read', async () => {
    const gate = new Throttle(Infinity, 1);
    const app = new Hono();
    app.use(hono({ gate }));
    app.get('/text', (c) => c.text('done'));
    app.get('/none', (c) => c.body(null, 204));
    app.get('/fails', () => {
      throw new Error('no');
    });
    app.get('/thrown', () => {
      throw 'no error';
    });
    app.onError((_error, c) => c.text('failed', 500));

    const response = await app.request('/text');
    expect([gate.active, (await app.request('/text')).status]).toEqual([1, 429]);
    expect(await response.text()).toBe('done');
    await until(() => gate.active === 0);
    await (await app.request('/text')).body?.cancel();
    await until(() => gate.active === 0);
    expect([(await app.request('/text', { method: 'HEAD' })).status, gate.active]).toEqual([200, 0]);
    expect([(await app.request('/none')).status, gate.active]).toEqual([204, 0]);
    for (const [path, body] of [
      ['/fails', 'failed'],
      ['/missing', '404 Not Found'],
    ] as const) {
      expect(await (await app.request(path)).text()).toBe(body);
      await until(() => gate.active === 0);
    }
    await expect(app.request('/thrown')).rejects.toBe('no error');
    expect(gate.active).toBe(0);
  });

  test('releases the permit when the client disconnects', async () => {
    const gate = new Throttle(Infinity, 1);
    const app = new Hono();
    const latch = new Latch();
    app.use(hono({ gate, wait: 60 }));
    app.get('/', async (c) => (await latch.opened, c.text('done')));
    const [running, waiting] = [new AbortController(), new AbortController()];
    const one = app.request('/', { signal: running.signal });
    await until(() => gate.active === 1);
    const two = app.request('/', { signal: waiting.signal });
    await until(() => gate.waiting === 1);
    waiting.abort();
    expect([(await two).status, gate.waiting]).toEqual([499, 0]);
    running.abort();
    expect(gate.active).toBe(0);
    latch.open();
    await one;
    expect(gate.active).toBe(0);
  });
});
