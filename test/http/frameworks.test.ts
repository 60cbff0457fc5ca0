/** What is particular to each framework: routes and their parameters, its own ways to respond, HTTP/2 and pipelining, other runtimes. */
import createExpress, { type NextFunction, type Request as ExpressRequest, type Response as ExpressResponse } from 'express';
import createFastify from 'fastify';
import { type Context, Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { Readable } from 'node:stream';
import Koa from 'koa';
import { type Gate, type KeyedGate, Throttle, ThrottleTimeoutError } from 'headgate';
import { concurrencyLimit, express, fastify, hono, koa, type Refusal, web } from 'headgate/http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { call, fetchServer, get, Latch, listen, type Seen, stop, until } from './sites.js';

/** A gate that is full. */
const full = (): Throttle => {
  const gate = new Throttle(Infinity, 1);
  gate.tryAcquire();
  return gate;
};

/** A keyed gate that refuses, and tells whom. */
const namesakes = (): { keyed: KeyedGate; names: string[] } => {
  const names: string[] = [];
  const acquire = async (name: string): Promise<never> => {
    names.push(name);
    throw new ThrottleTimeoutError('full');
  };
  return { keyed: { keyed: true, acquire } as unknown as KeyedGate, names };
};

const start = async (server: http.Server): Promise<{ port: number }> => {
  onTestFinished(() => stop(server));
  return { port: await listen(server) };
};
const short = ({ status, headers, body }: Seen): unknown => [status, headers['retry-after'], body];

describe('express', () => {
  test('on a route, a key knows its parameters, and what came before', async () => {
    const { keyed, names } = namesakes();
    const app = createExpress();
    app.use((req, res, next) => {
      Object.assign(req, { tenant: { id: 'acme' } });
      res.locals['plan'] = 'free';
      next();
    });
    app.get('/p/:project', express({ keyed, key: '{tenant.id}:{params.project}' }));
    app.use('/mounted', express({ keyed, key: '{path}' }));
    app.use(express({ keyed, key: (_req: ExpressRequest, res: ExpressResponse) => String(res.locals['plan']) }));
    const site = await start(http.createServer(app));
    for (const path of ['/p/one%3Atwo', '/mounted/x?y', '/else']) expect((await get(site, path)).status).toBe(429);
    expect(names).toEqual(['acme:one%3atwo', '/mounted/x', 'free']);
  });

  test.each<[string, (res: ExpressResponse) => unknown]>([
    ['and says so by returning the response', (res) => res.json({ own: true })],
    ['and returns nothing', (res) => void res.json({ own: true })],
    ['and then fails', (res) => { res.json({ own: true }); throw new Error('too late'); }],
  ])('onLimited responds by itself, %s', async (_, respond) => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    onTestFinished(() => log.mockRestore());
    const app = createExpress();
    app.use(express({ gate: full(), onLimited: (_refusal, _req: ExpressRequest, res: ExpressResponse) => respond(res) as undefined }));
    const site = await start(http.createServer(app));
    expect(short(await get(site))).toEqual([429, '1', '{"own":true}']);
    expect(log.mock.calls).toHaveLength(_ === 'and then fails' ? 1 : 0);
  });

  test('a response that has begun is left alone', async () => {
    const app = createExpress();
    app.use((_req, res, next) => (res.write('begun '), next()));
    app.use('/in', express({ gate: new Throttle(Infinity, 1) }), (_req, res) => void res.end('done'));
    app.use('/out', express({ gate: full() }));
    const site = await start(http.createServer(app));
    expect(short(await get(site, '/in'))).toEqual([200, undefined, 'begun done']);
    expect((await get(site, '/out')).status).toBe(200);
  });

  test('a function that throws nothing is an error all the same', async () => {
    const failures: unknown[] = [];
    const app = createExpress();
    app.use(express({ gate: new Throttle(1), skip: () => Promise.reject(undefined as never) }), (_req, res) => void res.send('let in'));
    app.use((error: unknown, _req: ExpressRequest, res: ExpressResponse, _next: NextFunction) => (failures.push(error), res.sendStatus(500)));
    const site = await start(http.createServer(app));
    expect((await get(site)).status).toBe(500);
    expect(failures).toEqual([new Error('nothing was thrown')]);
  });

  test('a piped response holds the permit to its end, and lets go when the client does', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const app = createExpress();
    app.use(express({ gate }), (_req, res) => void Readable.from((async function* () {
      yield 'first';
      await latch.opened;
    })()).pipe(res));
    const site = await start(http.createServer(app));
    const gone = call(site);
    await gone.started;
    expect([gate.active, (await get(site)).status]).toEqual([1, 429]);
    gone.hangUp();
    await until(() => gate.active === 0);
    const stays = call(site);
    await stays.started;
    expect(gate.active).toBe(1);
    latch.open();
    expect((await stays.seen).body).toBe('first');
    await until(() => gate.active === 0);
  });

  test('an error without a handler of its own is answered by Express, and releases', async () => {
    const gate = new Throttle(Infinity, 1);
    const app = createExpress().set('env', 'test');
    app.use(express({ gate }), () => { throw new Error('no'); });
    const site = await start(http.createServer(app));
    for (let index = 0; index < 3; index++) {
      expect((await get(site)).status).toBe(500);
      await until(() => gate.active === 0);
    }
  });

  test('at most 5 simultaneous exports per user', async () => {
    const latch = new Latch();
    let inside = 0;
    const app = createExpress();
    app.use((req, _res, next) => next(void Object.assign(req, { user: { id: req.get('x-user') } })));
    app.get('/export', express(concurrencyLimit({ key: 'user', maxConcurrent: 5 })), async (_req, res) => {
      inside++;
      await latch.opened;
      res.send('all of it');
    });
    const site = await start(http.createServer(app));
    const as = (user: string): { headers: Record<string, string> } => ({ headers: { 'x-user': user } });
    const calls = Array.from({ length: 5 }, () => call(site, '/export', as('ada')));
    await until(() => inside === 5);
    expect((await get(site, '/export', as('ada'))).status).toBe(429);
    const other = call(site, '/export', as('bob'));
    await until(() => inside === 6);
    latch.open();
    for (const { seen } of [...calls, other]) expect((await seen).status).toBe(200);
  });
});

describe('node:http', () => {
  test('pipelined requests, some of whose turn never comes: no permit is lost', async () => {
    const gate = new Throttle(Infinity, 3);
    const latch = new Latch();
    const limited = express({ gate, wait: 60 });
    const paths: string[] = [];
    const server = http.createServer((req, res) => limited(req, res, () => {
      paths.push(req.url ?? '');
      // A handler that reads the request to its end: from then on the request itself tells no more.
      req.resume();
      void latch.opened.then(() => res.end(req.url));
    }));
    const { port } = await start(server);
    const ask = (count: number): net.Socket => {
      const socket = net.connect(port, '127.0.0.1');
      for (let index = 0; index < count; index++) socket.write(`GET /${index} HTTP/1.1\r\nhost: x\r\n\r\n`);
      return socket;
    };
    const gone = ask(5);
    await until(() => gate.active === 3 && gate.waiting === 2);
    gone.destroy();
    await until(() => gate.active === 0 && gate.waiting === 0);
    expect(paths).toEqual(['/0', '/1', '/2']);

    const warned = vi.fn();
    process.on('warning', warned);
    onTestFinished(() => void process.off('warning', warned));
    const stays = ask(5);
    let text = '';
    stays.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk));
    await until(() => gate.active === 3);
    const listeners = stays.listenerCount('close');
    latch.open();
    await until(() => text.endsWith('/4'));
    await until(() => gate.active === 0);
    expect([stays.listenerCount('close') <= listeners, warned.mock.calls]).toEqual([true, []]);
    stays.destroy();
  });

  test('a request that comes after its client has gone takes nothing', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const limited = express({ gate, wait: 60 });
    const ran = vi.fn();
    let arrived = false;
    const server = http.createServer((req, res) => {
      arrived = true;
      void latch.opened.then(() => limited(req, res, ran));
    });
    const site = await start(server);
    const gone = call(site);
    await until(() => arrived);
    gone.hangUp();
    await new Promise((resolve) => void setTimeout(resolve, 50));
    latch.open();
    await new Promise((resolve) => void setTimeout(resolve, 20));
    expect([gate.active, gate.waiting, ran.mock.calls]).toEqual([0, 0, []]);
  });

  test('HTTP/2: the limit, a refusal, a client that goes', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const limited = express<http2.Http2ServerRequest, http2.Http2ServerResponse>({ gate, wait: 0 });
    const queued = express<http2.Http2ServerRequest, http2.Http2ServerResponse>({ gate, wait: 60 });
    const server = http2.createServer((req, res) => (req.url === '/wait' ? queued : limited)(req, res, () => {
      res.write('first');
      void latch.opened.then(() => res.stream && !res.stream.destroyed && res.end());
    }));
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const client = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
    onTestFinished(async () => {
      client.destroy();
      await new Promise((resolve) => void server.close(resolve));
    });
    const ask = (path: string): { stream: http2.ClientHttp2Stream; status: Promise<unknown> } => {
      const stream = client.request({ ':path': path });
      stream.on('error', () => {});
      stream.resume();
      return { stream, status: new Promise((resolve) => void stream.once('response', (headers) => resolve(headers[':status']))) };
    };
    const first = ask('/');
    expect(await first.status).toBe(200);
    expect(await ask('/').status).toBe(429);
    const waiting = ask('/wait');
    await until(() => gate.waiting === 1);
    waiting.stream.close(http2.constants.NGHTTP2_CANCEL);
    await until(() => gate.waiting === 0);
    first.stream.close(http2.constants.NGHTTP2_CANCEL);
    await until(() => gate.active === 0);
    const last = ask('/');
    expect(await last.status).toBe(200);
    latch.open();
    await until(() => gate.active === 0);
  });
});

describe('koa', () => {
  test.each<[string, (refusal: Refusal, ctx: Koa.Context) => void, unknown]>([
    ['a body', (_refusal, ctx) => void (ctx.body = { own: true }), [429, '1', '{"own":true}']],
    ['a body and a status', (_refusal, ctx) => void Object.assign(ctx, { status: 503, body: 'own' }), [503, '1', 'own']],
    ['the bare response', (_refusal, ctx) => { ctx.respond = false; ctx.remove('content-length'); ctx.res.end('own'); }, [429, '1', 'own']],
    ['the bare response, later', (_refusal, ctx) => { ctx.respond = false; ctx.remove('content-length'); setTimeout(() => ctx.res.end('own'), 10); }, [429, '1', 'own']],
  ])('onLimited responds by itself, with %s', async (_, onLimited, expected) => {
    const app = new Koa();
    app.use(async (ctx, next) => {
      // Of no account: it was there before.
      ctx.body = 'before';
      await next();
    });
    app.use(koa({ gate: full(), onLimited }));
    const site = await start(http.createServer((req, res) => void app.callback()(req, res)));
    expect(short(await get(site))).toEqual(expected);
  });

  test('what came before is not taken for an answer', async () => {
    const app = new Koa();
    app.use((ctx, next) => {
      ctx.body = 'before';
      return next();
    });
    app.use(koa({ gate: full(), onLimited: () => {} }));
    const site = await start(http.createServer((req, res) => void app.callback()(req, res)));
    expect((await get(site)).status).toBe(429);
  });

  test("a key knows a router's parameters and what came before", async () => {
    const { keyed, names } = namesakes();
    const app = new Koa();
    app.use((ctx, next) => {
      ctx['params'] = { project: 'one' };
      ctx.state['tenant'] = 'acme';
      return next();
    });
    app.use(koa({ keyed, key: '{state.tenant}:{params.project}' }));
    const site = await start(http.createServer((req, res) => void app.callback()(req, res)));
    await get(site);
    expect(names).toEqual(['acme:one']);
  });

  test('an address that is not known is none', async () => {
    const { keyed } = namesakes();
    const app = new Koa();
    app.use((ctx, next) => (Object.defineProperty(ctx, 'ip', { value: '' }), next()));
    app.use(koa({ keyed, key: 'ip' }));
    const site = await start(http.createServer((req, res) => void app.callback()(req, res)));
    const { status, body } = await get(site);
    expect([status, JSON.parse(body).detail]).toEqual([400, 'The request has no client address.']);
  });
});

describe('fastify', () => {
  test('applies to the instance that registers it, and to those within', async () => {
    const server = createFastify();
    onTestFinished(() => server.close());
    server.get('/outside', async () => 'done');
    await server.register(async (part) => {
      await part.register(fastify({ gate: full() }));
      part.get('/inside', async () => 'done');
      await part.register(async (inner) => void inner.get('/within', async () => 'done'));
    });
    const statuses = await Promise.all(['/outside', '/inside', '/within'].map(async (url) => (await server.inject(url)).statusCode));
    expect(statuses).toEqual([200, 429, 429]);
  });

  test('its hook can come after authentication, and knows the parameters of the route', async () => {
    const { keyed, names } = namesakes();
    const server = createFastify();
    onTestFinished(() => server.close());
    server.addHook('preValidation', async (request) => void Object.assign(request, { user: { id: 7 }, plan: 'free' }));
    await server.register(fastify({ keyed, key: '{user.id}:{params.project}:{plan}', hook: 'preHandler' }));
    server.get('/p/:project', async () => 'done');
    expect((await server.inject('/p/one')).statusCode).toBe(429);
    expect(names).toEqual(['7:one:free']);
  });

  test.each(['onRequest', 'preValidation', 'preHandler'] as const)('a refusal in %s ends there', async (hook) => {
    const handler = vi.fn(async () => 'done');
    const server = createFastify();
    onTestFinished(() => server.close());
    // Takes its time, so that the reply is under way when the hook is done.
    server.addHook('onSend', async () => void (await new Promise((resolve) => void setTimeout(resolve, 10))));
    const own = vi.fn((_refusal: unknown, _request: unknown, reply: { send(payload: unknown): unknown }) => reply.send({ own: true }) as object);
    await server.register(fastify({ gate: full(), hook }));
    await server.register(async (part) => {
      part.get('/', handler);
    });
    const other = createFastify();
    onTestFinished(() => other.close());
    other.addHook('onSend', async () => void (await new Promise((resolve) => void setTimeout(resolve, 10))));
    await other.register(fastify({ gate: full(), hook, onLimited: own }));
    other.get('/', handler);
    expect(await server.inject('/')).toMatchObject({ statusCode: 429, headers: { 'retry-after': '1' } });
    expect(await other.inject('/')).toMatchObject({ statusCode: 429, headers: { 'retry-after': '1' }, body: '{"own":true}' });
    expect([handler.mock.calls, own.mock.calls.length]).toEqual([[], 1]);
  });

  test('onLimited sends the reply, and returns nothing', async () => {
    const server = createFastify();
    onTestFinished(() => server.close());
    await server.register(fastify({ gate: full(), onLimited: (_refusal, _request, reply) => void reply.send({ own: true }) }));
    server.get('/', async () => 'done');
    expect(await server.inject('/')).toMatchObject({ statusCode: 429, body: '{"own":true}' });
  });

  test('injected requests give their permits back', async () => {
    const gate = new Throttle(Infinity, 1);
    const server = createFastify();
    onTestFinished(() => server.close());
    await server.register(fastify({ gate, wait: 5 }));
    server.get('/', async () => 'done');
    server.get('/none', async (_request, reply) => reply.code(204).send());
    for (const url of ['/', '/none', '/missing', '/']) expect((await server.inject(url)).statusCode).toBeLessThan(405);
    await until(() => gate.active === 0);
  });

  test('a hijacked reply holds its permit until it is over', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const server = createFastify();
    onTestFinished(() => server.close());
    await server.register(fastify({ gate }));
    server.get('/', (_request, reply) => {
      reply.hijack();
      reply.raw.write('data: 1\n\n');
      void latch.opened.then(() => reply.raw.end());
    });
    await server.listen({ port: 0, host: '127.0.0.1' });
    const site = { port: (server.server.address() as net.AddressInfo).port };
    const events = call(site);
    await events.started;
    expect(gate.active).toBe(1);
    latch.open();
    await events.seen;
    await until(() => gate.active === 0);
  });

  test('another hook is refused', () => {
    expect(() => fastify({ gate: full(), hook: 'onSend' as never })).toThrow("hook must be 'onRequest', 'preValidation' or 'preHandler', received \"onSend\"");
  });
});

describe('hono', () => {
  test('a key knows the parameters of the route and what was set', async () => {
    const { keyed, names } = namesakes();
    const app = new Hono<{ Variables: { tenant: { id: string } } }>();
    app.use((c, next) => (c.set('tenant', { id: 'acme' }), next()));
    app.get('/p/:project', hono({ keyed, key: '{tenant.id}:{params.project}:{method}:{path}' }));
    expect((await app.request('/p/one?x=1')).status).toBe(429);
    expect(names).toEqual(['acme:one:GET:/p/one']);
  });

  test("onLimited answers by the context's own means", async () => {
    const app = new Hono();
    app.use(async (c, next) => (await next(), c.header('x-outer', 'yes')));
    app.use(hono({ gate: full(), onLimited: (refusal, c: Context) => c.json({ own: refusal.retryAfter }) }));
    const response = await app.request('/');
    expect([response.status, response.headers.get('retry-after'), response.headers.get('x-outer'), await response.json()]).toEqual([429, '1', 'yes', { own: 1 }]);
  });

  test('fields that were set before are kept, and those of the handler win', async () => {
    const app = new Hono();
    app.use(async (c, next) => (c.header('x-before', 'yes'), await next()));
    app.use('/in', hono({ gate: new Throttle(Infinity, 2) }));
    app.use('/out', hono({ gate: full() }));
    app.get('/in', (c) => c.text('done', 200, { ratelimit: 'mine' }));
    const seen = async (path: string): Promise<unknown> => {
      const { status, headers } = await app.request(path);
      return [status, headers.get('x-before'), headers.get('ratelimit'), headers.get('ratelimit-policy')];
    };
    expect(await seen('/in')).toEqual([200, 'yes', 'mine', '"default";q=2;qu="concurrent-requests"']);
    expect(await seen('/out')).toEqual([429, 'yes', '"default";r=0;t=1', '"default";q=1;qu="concurrent-requests"']);
  });

  test('without Node, the permit is held until the body was read, cancelled, or nobody will read it', async () => {
    const gate = new Throttle(Infinity, 1);
    const app = new Hono();
    app.use(hono({ gate }));
    app.get('/text', (c) => c.text('done'));
    app.get('/none', (c) => c.body(null, 204));
    app.get('/fails', () => { throw new Error('no'); });
    app.get('/odd', () => { throw 'no error'; });
    app.onError((_error, c) => c.text('failed', 500));

    const response = await app.request('/text');
    expect([gate.active, (await app.request('/text')).status]).toEqual([1, 429]);
    expect(await response.text()).toBe('done');
    await until(() => gate.active === 0);
    await (await app.request('/text')).body?.cancel();
    await until(() => gate.active === 0);
    expect([(await app.request('/text', { method: 'HEAD' })).status, gate.active]).toEqual([200, 0]);
    expect([(await app.request('/none')).status, gate.active]).toEqual([204, 0]);
    for (const [path, body] of [['/fails', 'failed'], ['/missing', '404 Not Found']] as const) {
      expect(await (await app.request(path)).text()).toBe(body);
      await until(() => gate.active === 0);
    }
    await expect(app.request('/odd')).rejects.toBe('no error');
    expect(gate.active).toBe(0);
  });

  test('without Node, a client that leaves the queue, or while its handler works', async () => {
    const gate = new Throttle(Infinity, 1);
    const app = new Hono();
    const latch = new Latch();
    app.use(hono({ gate, wait: 60 }));
    app.get('/', async (c) => (await latch.opened, c.text('done')));
    const [working, waiting] = [new AbortController(), new AbortController()];
    const one = app.request('/', { signal: working.signal });
    await until(() => gate.active === 1);
    const two = app.request('/', { signal: waiting.signal });
    await until(() => gate.waiting === 1);
    waiting.abort();
    expect([(await two).status, gate.waiting]).toEqual([499, 0]);
    working.abort();
    expect(gate.active).toBe(0);
    latch.open();
    await one;
    expect(gate.active).toBe(0);
  });

  test('server-sent events hold the permit, on Node', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const app = new Hono();
    app.use(hono({ gate }));
    app.get('/', (c) => streamSSE(c, async (stream) => {
      await stream.writeSSE({ data: '1' });
      await latch.opened;
    }));
    const site = await start(fetchServer(app.fetch));
    const events = call(site);
    expect(await events.started).toBe('data: 1\n\n');
    expect([gate.active, (await get(site)).status]).toEqual([1, 429]);
    latch.open();
    await events.seen;
    await until(() => gate.active === 0);
  });
});

describe('the address on other runtimes', () => {
  const key = 'ip';
  test.each<[string, unknown, string | undefined]>([
    ['Deno', { remoteAddr: { hostname: '203.0.113.7', port: 1 } }, 'ip:203.0.113.7'],
    ['Deno on a Unix socket', { remoteAddr: { transport: 'unix', path: '/tmp/x' } }, undefined],
    ['Bun', { requestIP: () => ({ address: '::ffff:203.0.113.7' }) }, 'ip:203.0.113.7'],
    ['Bun, by name', { server: { requestIP: () => ({ address: '2001:db8::1' }) } }, 'ip:2001:db8:0:0::/56'],
    ['Bun, once the client has gone', { requestIP: () => null }, undefined],
    ['Node', { incoming: { socket: { remoteAddress: '203.0.113.7' } } }, 'ip:203.0.113.7'],
  ])('%s', async (_, connection, expected) => {
    const { keyed, names } = namesakes();
    const app = new Hono();
    app.use(hono({ keyed, key }));
    const handler = web((_request: Request, _connection: unknown) => new Response('done'), { keyed, key });
    const statuses = [(await app.request('/', {}, connection)).status, (await handler(new Request('http://x/'), connection)).status];
    expect([statuses, names]).toEqual(expected === undefined ? [[400, 400], []] : [[429, 429], [expected, expected]]);
  });

  test.each([[undefined], [{}], [{ requestIP: 'no' }], ['text']])('is not to be had from %j: the error says what to do', async (connection) => {
    const { keyed } = namesakes();
    const handler = web((_request: Request, _connection: unknown) => new Response('done'), { keyed, key });
    const headers = { 'x-forwarded-for': '203.0.113.7', 'cf-connecting-ip': '203.0.113.7' };
    await expect(handler(new Request('http://x/', { headers }), connection)).rejects.toThrow('key must be a function that knows it');
    const app = new Hono();
    app.use(hono({ keyed, key }));
    let failure: unknown;
    app.onError((error, c) => (failure = error, c.text('failed', 500)));
    await app.request('/', { headers }, connection);
    expect(failure).toBeInstanceOf(TypeError);
  });
});

describe('web', () => {
  const url = 'http://localhost/';

  test('passes on whatever the runtime hands over, also to the functions of the options', async () => {
    const key = vi.fn((_request: Request, env: { tenant: string }) => env.tenant);
    const handler = web((request: Request, env: { tenant: string }) => new Response(`${request.url} ${env.tenant}`), concurrencyLimit({ key, maxConcurrent: 1 }));
    const request = new Request(url);
    const env = { tenant: 'acme' };
    expect(await (await handler(request, env)).text()).toBe(`${url} acme`);
    expect(key.mock.calls).toEqual([[request, env]]);
  });

  test('the permit is held until the body was read, cancelled, or nobody will read it', async () => {
    const gate = new Throttle(Infinity, 1);
    const responses: Record<string, () => Response | Promise<Response>> = {
      text: () => new Response('done'),
      none: () => new Response(null, { status: 204 }),
      moved: () => Response.redirect('http://localhost/elsewhere'),
      fails: () => { throw new Error('no'); },
      rejects: async () => { throw new Error('no'); },
      mistake: () => undefined as never,
    };
    const handler = web((request: Request) => responses[new URL(request.url).pathname.slice(1)]!(), { gate });
    const ask = (path: string, init?: RequestInit): Promise<Response> => handler(new Request(url + path, init));

    const response = await ask('text');
    expect([gate.active, (await ask('text')).status]).toEqual([1, 429]);
    expect(await response.text()).toBe('done');
    await until(() => gate.active === 0);
    await (await ask('text')).body?.cancel();
    await until(() => gate.active === 0);
    expect([(await ask('text', { method: 'HEAD' })).status, gate.active]).toEqual([200, 0]);
    expect([(await ask('none')).status, gate.active]).toEqual([204, 0]);
    const moved = await ask('moved');
    expect([moved.status, moved.headers.get('location'), moved.headers.get('ratelimit'), gate.active]).toEqual([302, 'http://localhost/elsewhere', '"default";r=0', 0]);
    for (const path of ['fails', 'rejects', 'mistake']) {
      await expect(ask(path)).rejects.toThrow();
      expect(gate.active).toBe(0);
    }
  });

  test('a response that can be neither changed nor copied is sent as it is', async () => {
    const gate = new Throttle(Infinity, 1);
    const error = Object.defineProperty(Response.redirect('http://localhost/'), 'status', { value: 101 });
    expect(await web(() => error, { gate })(new Request(url))).toBe(error);
    expect(gate.active).toBe(0);
  });

  test('a client that leaves: before, in the queue, while its handler works, while it reads', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const ran = vi.fn();
    const handler = web(async () => (ran(), await latch.opened, new Response('done')), { gate, wait: 60 });
    expect((await handler(new Request(url, { signal: AbortSignal.abort() }))).status).toBe(499);
    expect((await web(async () => (ran(), new Response('done')), { gate })(new Request(url, { signal: AbortSignal.abort() }))).status).toBe(499);
    expect(ran).not.toHaveBeenCalled();

    const [working, waiting] = [new AbortController(), new AbortController()];
    const one = handler(new Request(url, { signal: working.signal }));
    await until(() => gate.active === 1);
    const two = handler(new Request(url, { signal: waiting.signal }));
    await until(() => gate.waiting === 1);
    waiting.abort();
    expect([(await two).status, gate.waiting]).toEqual([499, 0]);
    working.abort();
    expect(gate.active).toBe(0);
    latch.open();
    await one;
    expect(gate.active).toBe(0);

    const reading = new AbortController();
    await handler(new Request(url, { signal: reading.signal }));
    expect(gate.active).toBe(1);
    reading.abort();
    expect([gate.active, ran.mock.calls.length]).toEqual([0, 2]);
  });

  test('leaves no listener on the signal of a request', async () => {
    const gate = new Throttle(Infinity, 1);
    const lasting = new AbortController();
    const add = vi.spyOn(AbortSignal.prototype, 'addEventListener');
    const remove = vi.spyOn(AbortSignal.prototype, 'removeEventListener');
    const request = new Request(url, { signal: lasting.signal });
    const before = add.mock.calls.length;
    await (await web(() => new Response('done'), { gate })(request)).text();
    await until(() => gate.active === 0);
    const added = add.mock.calls.slice(before).map(([, listener]) => listener);
    expect(added).toHaveLength(1);
    expect(remove.mock.calls.map(([, listener]) => listener)).toContain(added[0]);
    add.mockRestore();
    remove.mockRestore();
  });

  test('templates see what was set on the request', async () => {
    const { keyed, names } = namesakes();
    const handler = web(() => new Response('done'), { keyed, key: '{tenant}:{params.x}' });
    expect((await handler(Object.assign(new Request(url), { tenant: 'acme' }))).status).toBe(400);
    const other = web(() => new Response('done'), { keyed, key: '{tenant}:{path}' });
    expect((await other(Object.assign(new Request(`${url}a?b#c`), { tenant: 'acme' }))).status).toBe(429);
    expect(names).toEqual(['acme:/a']);
  });

  test('a handler that is none is refused', () => {
    expect(() => web('no' as never, { gate: full() })).toThrow('handler must be a function, received "no"');
  });
});

test('a whole URL as the target of a request is the same path', async () => {
  const { keyed, names } = namesakes();
  const limited = express({ keyed, key: '{path}?{query.a}' });
  const site = await start(http.createServer((req, res) => limited(req, res, () => res.end())));
  for (const path of ['/export?a=1', 'http://other.example/export?a=1', 'HTTP://x:80/export?a=1#c?a=2', '/http://x/y?a=1']) await get(site, path);
  expect(names).toEqual(['/export?1', '/export?1', '/export?1', '/http://x/y?1']);
});

test('a gate of somebody else whose numbers cannot be read breaks no response', async () => {
  const permit = { release() {}, refund() {} };
  const gate = {
    acquire: async () => permit,
    get capacity(): number {
      throw new Error('no');
    },
  } as unknown as Gate;
  const response = await web(() => new Response('done'), { gate })(new Request('http://localhost/'));
  expect([response.status, response.headers.get('ratelimit')]).toEqual([200, null]);
});
