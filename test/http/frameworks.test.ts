/** The behaviour of single frameworks: routes and their parameters, responses, HTTP/2 and pipelining. */
import createExpress, {
  type NextFunction,
  type Request as ExpressRequest,
  type Response as ExpressResponse,
} from 'express';
import createFastify from 'fastify';
import { type Context, Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { Readable, Writable } from 'node:stream';
import Koa from 'koa';
import { KeyedThrottle, Throttle } from 'headgate';
import { concurrencyLimit, express, fastify, hono, koa, type Refusal } from 'headgate/http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { call, get, Latch, listen, type Seen, stop, until } from '../support/http-client.js';
import { fullGate, refusingGate } from '../support/fixed-gates.js';
import { fetchServer } from '../support/framework-servers.js';

const start = async (server: http.Server): Promise<{ port: number }> => {
  onTestFinished(() => stop(server));
  return { port: await listen(server) };
};
const short = ({ status, headers, body }: Seen): unknown => [status, headers['retry-after'], body];

describe('express', () => {
  test('a key on a route can use its parameters and the properties that earlier middleware has set', async () => {
    const { keyed, keys } = refusingGate();
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
    expect(keys).toEqual(['acme:one%3atwo', '/mounted/x', 'free']);
  });

  test.each<[string, (res: ExpressResponse) => unknown]>([
    ['and return it', (res) => res.json({ own: true })],
    ['and return nothing', (res) => void res.json({ own: true })],
    [
      'and then throw',
      (res) => {
        res.json({ own: true });
        throw new Error('too late');
      },
    ],
  ])('onLimited can send the response %s', async (_, respond) => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    onTestFinished(() => log.mockRestore());
    const app = createExpress();
    app.use(
      express({
        gate: fullGate(),
        onLimited: (_refusal, _req: ExpressRequest, res: ExpressResponse) => respond(res) as undefined,
      }),
    );
    const site = await start(http.createServer(app));
    expect(short(await get(site))).toEqual([429, '1', '{"own":true}']);
    expect(log.mock.calls).toHaveLength(_ === 'and then throw' ? 1 : 0);
  });

  test('a response whose header was sent is ended, and its header stays unchanged', async () => {
    const app = createExpress();
    app.use((_req, res, next) => (res.write('begun '), next()));
    app.use('/in', express({ gate: new Throttle(Infinity, 1) }), (_req, res) => void res.end('done'));
    app.use('/out', express({ gate: fullGate() }));
    const site = await start(http.createServer(app));
    expect(short(await get(site, '/in'))).toEqual([200, undefined, 'begun done']);
    expect(short(await get(site, '/out'))).toEqual([200, undefined, 'begun ']);
  });

  test.each([undefined, 'route', 'router', 0])(
    'a function that rejects with %j causes an Error that names it',
    async (thrown) => {
      const failures: unknown[] = [];
      const app = createExpress();
      app.use(
        express({ gate: new Throttle(1), skip: () => Promise.reject(thrown as never) }),
        (_req, res) => void res.send('admitted'),
      );
      app.use(
        (error: unknown, _req: ExpressRequest, res: ExpressResponse, _next: NextFunction) => (
          failures.push(error),
          res.sendStatus(500)
        ),
      );
      const site = await start(http.createServer(app));
      expect((await get(site)).status).toBe(500);
      expect(failures).toEqual([new Error(`${thrown} was thrown`)]);
    },
  );

  test('an onLimited that only sets a header field gets the default body', async () => {
    const app = createExpress();
    app.use(
      express({ gate: fullGate(), onLimited: (_refusal, _req, res: ExpressResponse) => res.set('Retry-After', '60') }),
    );
    const site = await start(http.createServer(app));
    const { status, headers, body } = await get(site);
    expect([status, headers['retry-after'], JSON.parse(body)]).toEqual([
      429,
      '60',
      expect.objectContaining({ status: 429 }),
    ]);
  });

  test('six limits on one route cause no warning about leaked listeners', async () => {
    const warned = vi.fn();
    process.on('warning', warned);
    onTestFinished(() => void process.off('warning', warned));
    const gates = Array.from({ length: 6 }, () => new Throttle(Infinity, 1));
    const active = (): number => gates.reduce((sum, gate) => sum + gate.active, 0);
    const app = createExpress();
    for (const gate of gates) app.use(express({ gate, wait: 1 }));
    app.get('/', (_req, res) => void res.send(String(active())));
    const site = await start(http.createServer(app));
    expect((await get(site)).body).toBe('6');
    await until(() => active() === 0);
    expect(warned).not.toHaveBeenCalled();
  });

  test('a template reads the getters of classes', async () => {
    class User {
      get id(): number {
        return 42;
      }
    }
    const keyed = new KeyedThrottle(Infinity, 1);
    const acquire = vi.spyOn(keyed, 'acquire');
    const app = createExpress();
    app.use((req, _res, next) => next(void Object.assign(req, { user: new User() })));
    app.use('/user', express({ keyed, key: 'user:{user.id}' }), (_req, res) => void res.send('done'));
    app.use('/constructor', express({ keyed, key: '{user.constructor.name}' }), (_req, res) => void res.send('done'));
    const site = await start(http.createServer(app));
    expect([(await get(site, '/user')).status, (await get(site, '/constructor')).status]).toEqual([200, 400]);
    expect(acquire.mock.calls.map(([key]) => key)).toEqual(['user:42']);
  });

  test('a piped response holds its permit until it ends or its client disconnects', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const app = createExpress();
    app.use(
      express({ gate }),
      (_req, res) =>
        void Readable.from(
          (async function* () {
            yield 'first';
            await latch.opened;
          })(),
        ).pipe(res),
    );
    const site = await start(http.createServer(app));
    const dropped = call(site);
    await dropped.started;
    expect([gate.active, (await get(site)).status]).toEqual([1, 429]);
    dropped.hangUp();
    await until(() => gate.active === 0);
    const staying = call(site);
    await staying.started;
    expect(gate.active).toBe(1);
    latch.open();
    expect((await staying.seen).body).toBe('first');
    await until(() => gate.active === 0);
  });

  test('an error that Express answers itself releases the permit', async () => {
    const gate = new Throttle(Infinity, 1);
    const app = createExpress().set('env', 'test');
    app.use(express({ gate }), () => {
      throw new Error('no');
    });
    const site = await start(http.createServer(app));
    for (let index = 0; index < 3; index++) {
      expect((await get(site)).status).toBe(500);
      await until(() => gate.active === 0);
    }
  });

  test('concurrencyLimit admits 5 simultaneous exports per user', async () => {
    const latch = new Latch();
    let running = 0;
    const app = createExpress();
    app.use((req, _res, next) => next(void Object.assign(req, { user: { id: req.get('x-user') } })));
    app.get('/export', express(concurrencyLimit({ key: 'user', maxConcurrent: 5 })), async (_req, res) => {
      running++;
      await latch.opened;
      res.send('all of it');
    });
    const site = await start(http.createServer(app));
    const as = (user: string): { headers: Record<string, string> } => ({ headers: { 'x-user': user } });
    const calls = Array.from({ length: 5 }, () => call(site, '/export', as('ada')));
    await until(() => running === 5);
    expect((await get(site, '/export', as('ada'))).status).toBe(429);
    const other = call(site, '/export', as('bob'));
    await until(() => running === 6);
    latch.open();
    for (const { seen } of [...calls, other]) expect((await seen).status).toBe(200);
  });
});

describe('node:http', () => {
  test('pipelined requests whose client disconnects take no permits', async () => {
    const gate = new Throttle(Infinity, 3);
    const latch = new Latch();
    const limited = express({ gate, wait: 60 });
    const paths: string[] = [];
    const permits: WeakRef<object>[] = [];
    const acquire = gate.acquire.bind(gate);
    gate.acquire = async (...args) => {
      const permit = await acquire(...args);
      permits.push(new WeakRef(permit));
      return permit;
    };
    const sockets: [socket: net.Socket, listeners: number][] = [];
    const server = http.createServer((req, res) =>
      limited(req, res, () => {
        paths.push(req.url ?? '');
        // After the handler has read the request to its end, the request emits no event for a disconnected client.
        req.resume();
        void latch.opened.then(() => res.end(req.url));
      }),
    );
    server.on('connection', (socket) => void sockets.push([socket, socket.listenerCount('close')]));
    const { port } = await start(server);
    const sendRequests = (count: number): net.Socket => {
      const socket = net.connect(port, '127.0.0.1');
      for (let index = 0; index < count; index++) socket.write(`GET /${index} HTTP/1.1\r\nhost: x\r\n\r\n`);
      return socket;
    };
    const dropped = sendRequests(5);
    await until(() => gate.active === 1);
    await new Promise((resolve) => void setTimeout(resolve, 20));
    // Only the request whose response is next takes a permit.
    expect([gate.active, gate.waiting]).toEqual([1, 0]);
    dropped.destroy();
    await until(() => gate.active === 0 && gate.waiting === 0);
    expect(paths).toEqual(['/0']);

    const warned = vi.fn();
    process.on('warning', warned);
    onTestFinished(() => void process.off('warning', warned));
    const staying = sendRequests(25);
    let text = '';
    staying.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk));
    await until(() => gate.active === 1 && sockets.length === 2);
    const [, [socket, listeners] = []] = sockets;
    latch.open();
    await until(() => text.endsWith('/24'));
    await until(() => gate.active === 0);
    // All requests share one listener of the socket.
    expect([socket!.listenerCount('close') - listeners!, warned.mock.calls]).toEqual([1, []]);
    // The permits of finished requests are collected while the connection is open.
    await new Promise((resolve) => void setTimeout(resolve, 10));
    globalThis.gc?.();
    expect(permits.slice(10, 20).map((permit) => permit.deref())).toEqual(Array.from({ length: 10 }));
    staying.destroy();
  });

  test('a request whose client has already disconnected takes no permit', async () => {
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
    const dropped = call(site);
    await until(() => arrived);
    dropped.hangUp();
    await new Promise((resolve) => void setTimeout(resolve, 50));
    latch.open();
    await new Promise((resolve) => void setTimeout(resolve, 20));
    expect([gate.active, gate.waiting, ran.mock.calls]).toEqual([0, 0, []]);
  });

  test('a response without a server releases its permit when it is finished', async () => {
    const gate = new Throttle(Infinity, 1);
    const req = new http.IncomingMessage(new net.Socket());
    const res = new http.ServerResponse(req);
    res.assignSocket(new Writable({ write: (_chunk, _encoding, done) => done() }) as net.Socket);
    await new Promise<void>((resolve) => express({ gate })(req, res, () => resolve()));
    expect(gate.active).toBe(1);
    res.end('done');
    await until(() => gate.active === 0);
    // The handler does not run for a response that was sent already.
    const ran = vi.fn();
    express({ gate })(req, res, ran);
    await new Promise((resolve) => void setTimeout(resolve, 10));
    expect([ran.mock.calls, gate.active]).toEqual([[], 0]);
  });

  test('an admitted request aborts no signal when it ends', async () => {
    const abort = vi.spyOn(AbortController.prototype, 'abort');
    const gate = new Throttle(Infinity, 1);
    const limited = express({ gate, wait: 5 });
    const site = await start(http.createServer((req, res) => limited(req, res, () => res.end('done'))));
    expect((await get(site)).status).toBe(200);
    await until(() => gate.active === 0);
    expect(abort).not.toHaveBeenCalled();
    abort.mockRestore();
  });

  test('the middleware limits HTTP/2 requests, and a reset stream leaves the queue', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const limited = express<http2.Http2ServerRequest, http2.Http2ServerResponse>({ gate, wait: 0 });
    const queued = express<http2.Http2ServerRequest, http2.Http2ServerResponse>({ gate, wait: 60 });
    const lookup = new Latch();
    const skip = vi.fn(async () => (await lookup.opened, false));
    const slow = express<http2.Http2ServerRequest, http2.Http2ServerResponse>({ gate, wait: 60, skip });
    const server = http2.createServer((req, res) =>
      (({ '/wait': queued, '/slow': slow })[req.url] ?? limited)(req, res, () => {
        res.write('first');
        void latch.opened.then(() => res.stream && !res.stream.destroyed && res.end());
      }),
    );
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const client = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
    onTestFinished(async () => {
      client.destroy();
      await new Promise((resolve) => void server.close(resolve));
    });
    const openStream = (path: string): { stream: http2.ClientHttp2Stream; status: Promise<unknown> } => {
      const stream = client.request({ ':path': path });
      stream.on('error', () => {});
      stream.resume();
      return {
        stream,
        status: new Promise((resolve) => void stream.once('response', (headers) => resolve(headers[':status']))),
      };
    };
    const first = openStream('/');
    expect(await first.status).toBe(200);
    expect(await openStream('/').status).toBe(429);
    const waiting = openStream('/wait');
    await until(() => gate.waiting === 1);
    waiting.stream.close(http2.constants.NGHTTP2_CANCEL);
    await until(() => gate.waiting === 0);
    // The client resets this stream before the request can queue.
    const dropped = openStream('/slow');
    await until(() => skip.mock.calls.length === 1);
    dropped.stream.close(http2.constants.NGHTTP2_CANCEL);
    await new Promise((resolve) => void setTimeout(resolve, 50));
    lookup.open();
    await new Promise((resolve) => void setTimeout(resolve, 10));
    expect(gate.waiting).toBe(0);
    first.stream.close(http2.constants.NGHTTP2_CANCEL);
    await until(() => gate.active === 0);
    const last = openStream('/');
    expect(await last.status).toBe(200);
    latch.open();
    await until(() => gate.active === 0);
  });
});

describe('koa', () => {
  test.each<[string, (refusal: Refusal, ctx: Koa.Context) => void, unknown]>([
    ['a body', (_refusal, ctx) => void (ctx.body = { own: true }), [429, '1', '{"own":true}']],
    [
      'a body and a status',
      (_refusal, ctx) => void Object.assign(ctx, { status: 503, body: 'own' }),
      [503, '1', 'own'],
    ],
    [
      'the bare response',
      (_refusal, ctx) => {
        ctx.respond = false;
        ctx.remove('content-length');
        ctx.res.end('own');
      },
      [429, '1', 'own'],
    ],
    [
      'the bare response, after it has returned',
      (_refusal, ctx) => {
        ctx.respond = false;
        ctx.remove('content-length');
        setTimeout(() => ctx.res.end('own'), 10);
      },
      [429, '1', 'own'],
    ],
  ])('onLimited can respond with %s', async (_, onLimited, expected) => {
    const app = new Koa();
    app.use(async (ctx, next) => {
      // An earlier body is not the response of onLimited.
      ctx.body = 'before';
      await next();
    });
    app.use(koa({ gate: fullGate(), onLimited }));
    const site = await start(http.createServer((req, res) => void app.callback()(req, res)));
    expect(short(await get(site))).toEqual(expected);
  });

  test('an earlier body is replaced by the default body of the refusal', async () => {
    const app = new Koa();
    app.use((ctx, next) => {
      ctx.body = 'before';
      return next();
    });
    app.use(koa({ gate: fullGate(), onLimited: () => {} }));
    const site = await start(http.createServer((req, res) => void app.callback()(req, res)));
    const { status, body } = await get(site);
    expect([status, JSON.parse(body)]).toMatchObject([429, { status: 429 }]);
  });

  test('a key can use the parameters of a router and the state that earlier middleware has set', async () => {
    const { keyed, keys } = refusingGate();
    const app = new Koa();
    app.use((ctx, next) => {
      ctx['params'] = { project: 'one' };
      ctx.state['tenant'] = 'acme';
      return next();
    });
    app.use(koa({ keyed, key: '{state.tenant}:{params.project}' }));
    const site = await start(http.createServer((req, res) => void app.callback()(req, res)));
    await get(site);
    expect(keys).toEqual(['acme:one']);
  });

  test('a request with an empty address is refused with 400', async () => {
    const { keyed } = refusingGate();
    const app = new Koa();
    app.use((ctx, next) => (Object.defineProperty(ctx, 'ip', { value: '' }), next()));
    app.use(koa({ keyed, key: 'ip' }));
    const site = await start(http.createServer((req, res) => void app.callback()(req, res)));
    const { status, body } = await get(site);
    expect([status, JSON.parse(body).detail]).toEqual([
      400,
      'The request has no client address; behind a proxy on a Unix socket, the server must trust the proxy.',
    ]);
  });
});

describe('fastify', () => {
  test('the plugin limits the instance that registers it, and the instances inside it', async () => {
    const server = createFastify();
    onTestFinished(() => server.close());
    server.get('/outside', async () => 'done');
    await server.register(async (part) => {
      await part.register(fastify({ gate: fullGate() }));
      part.get('/inside', async () => 'done');
      await part.register(async (inner) => void inner.get('/within', async () => 'done'));
    });
    const statuses = await Promise.all(
      ['/outside', '/inside', '/within'].map(async (url) => (await server.inject(url)).statusCode),
    );
    expect(statuses).toEqual([200, 429, 429]);
  });

  test('with hook: preHandler, a key can use the authenticated user and the parameters of the route', async () => {
    const { keyed, keys } = refusingGate();
    const server = createFastify();
    onTestFinished(() => server.close());
    server.addHook('preValidation', async (request) => void Object.assign(request, { user: { id: 7 }, plan: 'free' }));
    await server.register(fastify({ keyed, key: '{user.id}:{params.project}:{plan}', hook: 'preHandler' }));
    server.get('/p/:project', async () => 'done');
    expect((await server.inject('/p/one')).statusCode).toBe(429);
    expect(keys).toEqual(['7:one:free']);
  });

  test.each(['onRequest', 'preValidation', 'preHandler'] as const)(
    'a refusal in %s prevents the call of the handler',
    async (hook) => {
      const handler = vi.fn(async () => 'done');
      const server = createFastify();
      onTestFinished(() => server.close());
      // This delay keeps the reply unsent when the hook has finished.
      server.addHook('onSend', async () => void (await new Promise((resolve) => void setTimeout(resolve, 10))));
      const own = vi.fn(
        (_refusal: unknown, _request: unknown, reply: { send(payload: unknown): unknown }) =>
          reply.send({ own: true }) as object,
      );
      await server.register(fastify({ gate: fullGate(), hook }));
      await server.register(async (part) => {
        part.get('/', handler);
      });
      const other = createFastify();
      onTestFinished(() => other.close());
      other.addHook('onSend', async () => void (await new Promise((resolve) => void setTimeout(resolve, 10))));
      await other.register(fastify({ gate: fullGate(), hook, onLimited: own }));
      other.get('/', handler);
      expect(await server.inject('/')).toMatchObject({ statusCode: 429, headers: { 'retry-after': '1' } });
      expect(await other.inject('/')).toMatchObject({
        statusCode: 429,
        headers: { 'retry-after': '1' },
        body: '{"own":true}',
      });
      expect([handler.mock.calls, own.mock.calls.length]).toEqual([[], 1]);
    },
  );

  test('onLimited can send the reply and return nothing', async () => {
    const warnings: string[] = [];
    const server = createFastify({
      logger: { level: 'warn', stream: { write: (line: string) => void warnings.push(line) } },
    });
    onTestFinished(() => server.close());
    await server.register(
      fastify({ gate: fullGate(), onLimited: (_refusal, _request, reply) => void reply.send({ own: true }) }),
    );
    server.get('/', async () => 'done');
    expect(await server.inject('/')).toMatchObject({ statusCode: 429, body: '{"own":true}' });
    expect(warnings).toEqual([]);
  });

  test('injected requests release their permits', async () => {
    const gate = new Throttle(Infinity, 1);
    const server = createFastify();
    onTestFinished(() => server.close());
    await server.register(fastify({ gate, wait: 5 }));
    server.get('/', async () => 'done');
    server.get('/none', async (_request, reply) => reply.code(204).send());
    for (const url of ['/', '/none', '/missing', '/']) expect((await server.inject(url)).statusCode).toBeLessThan(405);
    await until(() => gate.active === 0);
  });

  test('a hijacked reply holds its permit until it ends', async () => {
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

  test('the plugin throws for an unknown hook', () => {
    expect(() => fastify({ gate: fullGate(), hook: 'onSend' as never })).toThrow(
      "hook must be 'onRequest', 'preValidation' or 'preHandler', received \"onSend\"",
    );
  });
});

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
    const site = await start(fetchServer(app.fetch));
    const events = call(site);
    expect(await events.started).toBe('data: 1\n\n');
    expect([gate.active, (await get(site)).status]).toEqual([1, 429]);
    latch.open();
    await events.seen;
    await until(() => gate.active === 0);
  });
});

test('a whole URL as the request target has the same path as its path alone', async () => {
  const { keyed, keys } = refusingGate();
  const limited = express({ keyed, key: '{path}?{query.a}' });
  const site = await start(http.createServer((req, res) => limited(req, res, () => res.end())));
  for (const path of [
    '/export?a=1',
    'http://other.example/export?a=1',
    'HTTP://x:80/export?a=1#c?a=2',
    '/http://x/y?a=1',
  ])
    await get(site, path);
  expect(keys).toEqual(['/export?1', '/export?1', '/export?1', '/http://x/y?1']);
});
