/** How long each adapter holds a permit, on the real frameworks and over real sockets. */
import createExpress from 'express';
import createFastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { createAdaptorServer } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { pipeline, Readable } from 'node:stream';
import Koa from 'koa';
import { KeyedThrottle, Throttle } from 'headgate';
import { concurrencyLimit, express, fastify, hono, koa, type LimitOptions, web } from 'headgate/http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { call, get, Latch, listen, stop, until } from '../support/http-client.js';
import { sites } from '../support/framework-servers.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));

/** A handler that takes some time, and the most that ever ran at once. */
const meter = (ms: number): { handler: () => Promise<string>; running: number; most: number; started: number } => {
  const counts = {
    running: 0,
    most: 0,
    started: 0,
    async handler() {
      counts.started++;
      counts.most = Math.max(counts.most, ++counts.running);
      await pause(ms);
      counts.running--;
      return 'done';
    },
  };
  return counts;
};

const limitOfOne = (
  keyed = new KeyedThrottle(Infinity, 1),
): { keyed: KeyedThrottle; options: ReturnType<typeof concurrencyLimit<never[]>> } => ({
  keyed,
  options: concurrencyLimit<never[]>({ key: () => 'me', maxConcurrent: 1, backend: keyed, hold: 'handler' }),
});

const activeOf = (keyed: KeyedThrottle): number => keyed.peek('me')?.active ?? 0;

/** The timers of a delay that are set while a test runs. */
const timersOf = (
  ms: number,
): { readonly all: { timer: NodeJS.Timeout; fire: () => void }[]; cleared: (timer: NodeJS.Timeout) => boolean } => {
  const set = vi.spyOn(globalThis, 'setTimeout');
  const clear = vi.spyOn(globalThis, 'clearTimeout');
  onTestFinished(() => {
    set.mockRestore();
    clear.mockRestore();
  });
  return {
    get all() {
      return set.mock.calls.flatMap(([callback, delay], index) =>
        delay === ms ? [{ timer: set.mock.results[index]?.value as NodeJS.Timeout, fire: callback }] : [],
      );
    },
    cleared: (timer) => clear.mock.calls.some(([cleared]) => (cleared as unknown) === timer),
  };
};

describe.each(sites)('%s', (_, serve) => {
  test('connecting and dropping never runs more handlers than the limit, and every slot comes back (FAULTS 26, Ghost#30853)', async () => {
    const { keyed, options } = limitOfOne();
    const counts = meter(500);
    const site = await serve(options, counts);
    for (let index = 0; index < 10; index++) {
      const dropped = call(site);
      await pause(20);
      dropped.hangUp();
    }
    await until(() => activeOf(keyed) === 0 && counts.running === 0, 'the release of every slot');
    // One at a time; the slot may come back for one of the last, if this machine is slow.
    expect([counts.most, counts.started < 5]).toEqual([1, true]);
    expect((await get(site)).status).toBe(200);
    await until(() => activeOf(keyed) === 0);
    expect(site.failures).toEqual([]);
  });

  test('a client that goes while its handler works keeps the slot taken until the handler has finished (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const latch = new Latch();
    const site = await serve(options, { handler: async () => (await latch.opened, 'done') });
    const gone = call(site);
    await until(() => activeOf(keyed) === 1);
    gone.hangUp();
    await pause(50);
    expect([activeOf(keyed), (await get(site)).status]).toEqual([1, 429]);
    latch.open();
    await until(() => activeOf(keyed) === 0);
    expect((await get(site)).status).toBe(200);
  });

  test('a handler that fails after its client has gone has finished (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const latch = new Latch();
    const site = await serve(options, {
      handler: async () => {
        await latch.opened;
        throw new Error('no');
      },
    });
    const gone = call(site);
    await until(() => activeOf(keyed) === 1);
    gone.hangUp();
    await pause(30);
    expect(activeOf(keyed)).toBe(1);
    latch.open();
    await until(() => activeOf(keyed) === 0);
  });

  test('a handler that never finishes frees its slot 60 s after its client has gone, by one timer that keeps no process alive (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const timers = timersOf(60_000);
    const site = await serve(options, { handler: () => new Promise(() => {}) });
    const before = timers.all.length;
    const gone = call(site);
    await until(() => activeOf(keyed) === 1);
    expect(timers.all.length).toBe(before);
    gone.hangUp();
    await until(() => timers.all.length > before);
    const [{ timer, fire } = {} as never, ...others] = timers.all.slice(before);
    expect([others, timer.hasRef(), activeOf(keyed)]).toEqual([[], false, 1]);
    fire();
    expect(activeOf(keyed)).toBe(0);
    clearTimeout(timer);
  });

  test('no timer is left when a handler finishes after its client has gone', async () => {
    const { keyed, options } = limitOfOne();
    const timers = timersOf(60_000);
    const latch = new Latch();
    const site = await serve(options, { handler: async () => (await latch.opened, 'done') });
    const before = timers.all.length;
    const gone = call(site);
    await until(() => activeOf(keyed) === 1);
    gone.hangUp();
    await until(() => timers.all.length > before);
    latch.open();
    await until(() => activeOf(keyed) === 0);
    expect(timers.cleared(timers.all[before]!.timer)).toBe(true);
  });

  test('with hold: handler a response that is sent in peace frees its slot at once', async () => {
    const { keyed, options } = limitOfOne();
    const timers = timersOf(60_000);
    const site = await serve(options);
    const before = timers.all.length;
    for (let index = 0; index < 5; index++) {
      expect((await get(site)).status).toBe(200);
      await until(() => activeOf(keyed) === 0);
    }
    expect(timers.all.length).toBe(before);
  });

  test('with hold: handler a streamed response holds its slot to its end, and no longer than its stream when the client goes', async () => {
    const { keyed, options } = limitOfOne();
    const latch = new Latch();
    const site = await serve(options, {
      async *handler() {
        yield 'first ';
        await latch.opened;
        yield 'last';
      },
    });
    const streaming = call(site);
    expect(await streaming.started).toBe('first ');
    expect([activeOf(keyed), (await get(site)).status]).toEqual([1, 429]);
    const gone = streaming;
    gone.hangUp();
    latch.open();
    await until(() => activeOf(keyed) === 0);
  });

  test('a half-sent request that is dropped gives its slot back (FAULTS 37)', async () => {
    const { keyed, options } = limitOfOne();
    const counts = meter(50);
    const acquire = vi.spyOn(keyed, 'acquire');
    const site = await serve(options, counts);
    for (let index = 1; index <= 5; index++) {
      const socket = net.connect(site.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nhalf');
      await until(() => acquire.mock.calls.length === index);
      await pause(5);
      socket.resetAndDestroy();
      await until(() => activeOf(keyed) === 0 && counts.running === 0, 'the release of the slot');
    }
    expect(counts.most).toBeLessThanOrEqual(1);
    // Headers that end nowhere reach no handler, and take nothing.
    const headers = net.connect(site.port, '127.0.0.1');
    headers.write('GET / HTTP/1.1\r\nhost: x\r\nx-half:');
    expect((await get(site)).status).toBe(200);
    expect(acquire).toHaveBeenCalledTimes(6);
    headers.destroy();
  });

  test('a ttl bounds the slot of a client that does not read (FAULTS 37)', async () => {
    for (const hold of ['response', 'handler'] as const) {
      const gate = new Throttle(Infinity, 1);
      const chunk = 'x'.repeat(1 << 20);
      const site = await serve(
        { gate, ttl: 0.15, hold },
        {
          async *handler() {
            for (let index = 0; index < 32; index++) yield chunk;
          },
        },
      );
      const socket = net.connect(site.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.pause();
      socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
      await until(() => gate.active === 1);
      await until(() => gate.active === 0);
      expect(socket.bytesRead).toBeLessThan(32 << 20);
      socket.destroy();
    }
  });

  test('a ttl counts from the grant, whatever the handler and its client do', async () => {
    const gate = new Throttle(Infinity, 1);
    const site = await serve({ gate, ttl: 0.1, hold: 'handler' }, { handler: () => new Promise(() => {}) });
    const gone = call(site);
    await until(() => gate.active === 1);
    gone.hangUp();
    await until(() => gate.active === 0);
  });

  test('a pipelined request asks for a permit when it is its turn: one slow response holds no slot of others (FAULTS 36)', async () => {
    const gate = new Throttle(Infinity, 20);
    const latch = new Latch();
    const counts = meter(1);
    const site = await serve(
      { gate, wait: 5, skip: (...args: unknown[]) => slowPath(args) },
      { handler: async (path) => (path === '/slow' ? (await latch.opened, 'slow') : counts.handler()) },
    );
    const socket = net.connect(site.port, '127.0.0.1');
    let text = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => void (text += chunk));
    socket.write('GET /slow HTTP/1.1\r\nhost: x\r\n\r\n');
    for (let index = 0; index < 20; index++) socket.write(`GET /${index} HTTP/1.1\r\nhost: x\r\n\r\n`);
    await pause(50);
    expect([gate.active, gate.waiting, counts.started]).toEqual([0, 0, 0]);
    expect((await get(site, '/other')).status).toBe(200);
    latch.open();
    await until(() => counts.started === 21 && text.split('HTTP/1.1 200').length === 22);
    expect(counts.most).toBe(1);
    await until(() => gate.active === 0);
    socket.destroy();
  });

  test('pipelined requests of a limit of one are served in order, without a deadlock (FAULTS 36)', async () => {
    const gate = new Throttle(Infinity, 1);
    const order: string[] = [];
    for (const hold of ['response', 'handler'] as const) {
      const site = await serve(
        { gate, wait: 5, hold },
        { handler: async (path) => (order.push(path), await pause(2), path) },
      );
      const socket = net.connect(site.port, '127.0.0.1');
      let text = '';
      socket.setEncoding('latin1').on('data', (chunk: string) => void (text += chunk));
      for (let index = 0; index < 8; index++) socket.write(`GET /${index} HTTP/1.1\r\nhost: x\r\n\r\n`);
      await until(() => text.split('HTTP/1.1 200').length === 9);
      expect(order.splice(0)).toEqual(Array.from({ length: 8 }, (__, index) => `/${index}`));
      await until(() => gate.active === 0);
      socket.destroy();
    }
  });

  test('a pipelined request whose client goes before its turn takes nothing (FAULTS 36)', async () => {
    const gate = new Throttle(Infinity, 5);
    const counts = meter(30);
    const site = await serve({ gate, hold: 'handler' }, counts);
    const socket = net.connect(site.port, '127.0.0.1');
    for (let index = 0; index < 5; index++) socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    await until(() => gate.active === 1);
    socket.destroy();
    await until(() => gate.active === 0 && counts.running === 0);
    await pause(20);
    expect([counts.started, gate.active]).toEqual([1, 0]);
  });
});

/** Whether the path of a request, whatever the framework, is `/slow`. */
function slowPath([first]: unknown[]): boolean {
  const { url, req } = first as { url?: string; req?: { url: string } };
  return (url ?? req?.url ?? '').endsWith('/slow');
}

describe('HTTP/2', () => {
  type Listener = (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => void;
  /** A server of HTTP/2 for each adapter. */
  const servers: [
    string,
    (
      options: ReturnType<typeof limitOfOne>['options'],
      handler: () => Promise<string>,
    ) => http2.Http2Server | Promise<http2.Http2Server>,
  ][] = [
    [
      'node:http2',
      (options, handler) => {
        const limit = express<http2.Http2ServerRequest, http2.Http2ServerResponse>(options as never);
        return http2.createServer((req, res) => limit(req, res, () => void handler().then((text) => res.end(text))));
      },
    ],
    [
      'koa',
      (options, handler) => {
        const app = new Koa();
        app.use(koa(options as never)).use(async (ctx) => void (ctx.body = await handler()));
        return http2.createServer(app.callback() as unknown as Listener);
      },
    ],
    [
      'fastify',
      async (options, handler) => {
        const server = createFastify({ http2: true });
        await server.register(fastify(options as LimitOptions<[FastifyRequest, FastifyReply]>) as never);
        server.get('/', handler);
        await server.ready();
        return server.server;
      },
    ],
    [
      'hono',
      (options, handler) => {
        const app = new Hono();
        app.use(hono(options as never));
        app.get('/', async (c) => c.text(await handler()));
        return createAdaptorServer({ fetch: app.fetch, createServer: http2.createServer }) as http2.Http2Server;
      },
    ],
    [
      'web',
      (options, handler) => {
        const serve = web(async (_request: Request, _env: unknown) => new Response(await handler()), options as never);
        return createAdaptorServer({ fetch: serve, createServer: http2.createServer }) as http2.Http2Server;
      },
    ],
  ];

  const connect = async (server: http2.Http2Server): Promise<http2.ClientHttp2Session> => {
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const client = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
    client.on('error', () => {});
    onTestFinished(async () => {
      client.destroy();
      await new Promise((resolve) => void server.close(resolve));
    });
    return client;
  };
  const open = (client: http2.ClientHttp2Session): { stream: http2.ClientHttp2Stream; status: Promise<unknown> } => {
    const stream = client.request({ ':path': '/' });
    stream.on('error', () => {});
    stream.resume();
    return {
      stream,
      status: new Promise(
        (resolve) => void stream.once('response', (headers) => resolve(headers[':status'])).once('close', resolve),
      ),
    };
  };

  test.each(servers)(
    '%s: streams that are reset never run more handlers than the limit, and every slot comes back (FAULTS 26, Ghost#30853)',
    async (_, create) => {
      const { keyed, options } = limitOfOne();
      const counts = meter(500);
      const client = await connect(await create(options, counts.handler));
      for (let index = 0; index < 10; index++) {
        const { stream } = open(client);
        await pause(20);
        stream.close(http2.constants.NGHTTP2_CANCEL);
      }
      await until(() => activeOf(keyed) === 0 && counts.running === 0, 'the release of every slot');
      expect([counts.most, counts.started < 5]).toEqual([1, true]);
      expect(await open(client).status).toBe(200);
      await until(() => activeOf(keyed) === 0);
    },
  );

  test.each(servers)(
    '%s: a rapid reset never runs more handlers than the limit, and every slot comes back (FAULTS 26, CVE-2023-44487)',
    async (_, create) => {
      const { keyed, options } = limitOfOne();
      const counts = meter(20);
      const client = await connect(await create(options, counts.handler));
      for (let index = 0; index < 200; index++) {
        const { stream } = open(client);
        if (index % 2 === 0) await new Promise((resolve) => void setImmediate(resolve));
        stream.close(http2.constants.NGHTTP2_CANCEL);
      }
      await pause(50);
      await until(() => activeOf(keyed) === 0 && counts.running === 0, 'the release of every slot');
      expect(counts.most).toBeLessThanOrEqual(1);
      expect(await open(client).status).toBe(200);
    },
  );
});

describe('the end of a handler of Express', () => {
  const serveExpress = async (
    handler: (req: createExpress.Request, res: createExpress.Response) => unknown,
    ...before: createExpress.RequestHandler[]
  ): Promise<{ port: number; keyed: KeyedThrottle }> => {
    const { keyed, options } = limitOfOne();
    const app = createExpress();
    for (const each of before) app.use(each);
    app.use(express(options as LimitOptions<[createExpress.Request, createExpress.Response]>));
    app.use((req, res) => void handler(req, res));
    const server = http.createServer(app);
    onTestFinished(() => stop(server));
    return { port: await listen(server), keyed };
  };
  /** A client that goes, and the response that it leaves behind. */
  const leave = async (
    site: { port: number; keyed: KeyedThrottle },
    responses: createExpress.Response[],
  ): Promise<createExpress.Response> => {
    const gone = call(site);
    await until(() => responses.length === 1);
    gone.hangUp();
    await until(() => responses[0]!.destroyed);
    await pause(10);
    expect(activeOf(site.keyed)).toBe(1);
    return responses[0]!;
  };

  test.each<[string, (res: createExpress.Response) => unknown]>([
    ['end', (res) => res.end('done')],
    ['send', (res) => res.send('done')],
    ['destroy', (res) => res.destroy()],
    ['a stream that has ended', (res) => Readable.from(['a']).pipe(res)],
  ])('is %s, also once the client has gone (FAULTS 26)', async (__, finish) => {
    const responses: createExpress.Response[] = [];
    const site = await serveExpress((_req, res) => void responses.push(res));
    const res = await leave(site, responses);
    finish(res);
    await until(() => activeOf(site.keyed) === 0);
  });

  test('is seen although other middleware wraps res.end, before or after (FAULTS 26)', async () => {
    const wrap = (res: createExpress.Response): void => {
      const end = res.end.bind(res) as (...args: unknown[]) => createExpress.Response;
      res.end = ((...args: unknown[]) => {
        res.end = end as never;
        return end(...args);
      }) as never;
    };
    const responses: createExpress.Response[] = [];
    const site = await serveExpress(
      (_req, res) => {
        wrap(res);
        responses.push(res);
      },
      (_req, res, next) => (wrap(res), next()),
    );
    const res = await leave(site, responses);
    wrap(res);
    res.end('done');
    await until(() => activeOf(site.keyed) === 0);
    expect(
      (
        await Promise.all(
          [call(site)].map(
            async (again) => (await until(() => responses.length === 2), responses[1]!.end('again'), again.seen),
          ),
        )
      )[0],
    ).toMatchObject({ status: 200, body: 'again' });
  });

  test('is the end of the stream that is piped into the response, where the client goes first (FAULTS 26)', async () => {
    for (const join of [
      (source: Readable, res: createExpress.Response) => void source.pipe(res),
      (source: Readable, res: createExpress.Response) => void pipeline(source, res, () => {}),
    ]) {
      const sources: Readable[] = [];
      const site = await serveExpress((_req, res) => {
        const source = new Readable({ read() {} });
        source.push('first');
        join(source, res);
        sources.push(source);
      });
      const gone = call(site);
      await gone.started;
      gone.hangUp();
      await until(() => sources[0]!.destroyed || sources[0]!.readableFlowing === false);
      await pause(10);
      // A pipeline has destroyed its source; a bare pipe leaves it open, and the handler may still work on it.
      expect(activeOf(site.keyed)).toBe(sources[0]!.destroyed ? 0 : 1);
      sources[0]!.destroy();
      await until(() => activeOf(site.keyed) === 0);
    }
  });

  test('is not awaited where a later limit drops the request of a client that has gone (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const second = new Throttle(Infinity, 1);
    second.tryAcquire();
    const app = createExpress();
    app.use(
      express(options as LimitOptions<[createExpress.Request, createExpress.Response]>),
      express({ gate: second, wait: 60 }),
      (_req, res) => void res.send('done'),
    );
    const server = http.createServer(app);
    onTestFinished(() => stop(server));
    const gone = call({ port: await listen(server) });
    await until(() => second.waiting === 1);
    expect(activeOf(keyed)).toBe(1);
    gone.hangUp();
    await until(() => activeOf(keyed) === 0);
  });
});

describe('the end of a handler of Fastify', () => {
  const serveFastify = async (
    build: (server: FastifyInstance, limit: () => Promise<unknown>) => unknown,
  ): Promise<{ port: number; keyed: KeyedThrottle }> => {
    const { keyed, options } = limitOfOne();
    const server = createFastify();
    onTestFinished(() => server.close());
    await build(server, async () => {
      await server.register(fastify(options as LimitOptions<[FastifyRequest, FastifyReply]>));
    });
    await server.listen({ port: 0, host: '127.0.0.1' });
    return { port: (server.server.address() as net.AddressInfo).port, keyed };
  };

  test('is that of its promise, not of the response (FAULTS 26)', async () => {
    const latch = new Latch();
    const site = await serveFastify(async (server, limit) => {
      await limit();
      server.get('/', async (_request, reply) => {
        void reply.send('early');
        await latch.opened;
      });
    });
    expect((await get(site)).body).toBe('early');
    expect([activeOf(site.keyed), (await get(site)).status]).toEqual([1, 429]);
    latch.open();
    await until(() => activeOf(site.keyed) === 0);
  });

  test('is that of the response where a handler returns no promise, or its route was there before the limit (FAULTS 26)', async () => {
    for (const isEarly of [false, true]) {
      const latch = new Latch();
      const site = await serveFastify(async (server, limit) => {
        if (!isEarly) await limit();
        server.get(
          '/',
          isEarly
            ? async () => (await latch.opened, 'done')
            : (_request, reply) => void latch.opened.then(() => reply.send('done')),
        );
        if (isEarly) await limit();
      });
      const gone = call(site);
      await until(() => activeOf(site.keyed) === 1);
      gone.hangUp();
      await pause(30);
      expect([activeOf(site.keyed), (await get(site)).status]).toEqual([1, 429]);
      latch.open();
      await until(() => activeOf(site.keyed) === 0);
    }
  });

  test('is that of the response where the reply was hijacked (FAULTS 26)', async () => {
    const latch = new Latch();
    const site = await serveFastify(async (server, limit) => {
      await limit();
      server.get('/', async (_request, reply) => {
        reply.hijack();
        void latch.opened.then(() => reply.raw.end('done'));
      });
    });
    const gone = call(site);
    await until(() => activeOf(site.keyed) === 1);
    gone.hangUp();
    await pause(30);
    expect(activeOf(site.keyed)).toBe(1);
    latch.open();
    await until(() => activeOf(site.keyed) === 0);
  });

  test('a handler whose result starts its work each time it is awaited works once', async () => {
    const started = vi.fn();
    const site = await serveFastify(async (server, limit) => {
      await limit();
      // A query of Knex and its like.
      server.get('/', () => ({ then: (resolve: (value: string) => void) => (started(), resolve('rows')) }));
    });
    expect((await get(site)).body).toBe('rows');
    expect(started).toHaveBeenCalledOnce();
    await until(() => activeOf(site.keyed) === 0);
  });
});

test('a handler of Koa that responds without Koa has finished when it has ended the response (FAULTS 26)', async () => {
  const { keyed, options } = limitOfOne();
  const latch = new Latch();
  const app = new Koa();
  app.use(koa(options as LimitOptions<[Koa.Context]>)).use((ctx) => {
    ctx.respond = false;
    void latch.opened.then(() => ctx.res.end('done'));
  });
  const listener = app.callback();
  const server = http.createServer((req, res) => void listener(req, res));
  onTestFinished(() => stop(server));
  const gone = call({ port: await listen(server) });
  await until(() => activeOf(keyed) === 1);
  gone.hangUp();
  await pause(30);
  expect(activeOf(keyed)).toBe(1);
  latch.open();
  await until(() => activeOf(keyed) === 0);
});

test('web without Node: an aborted request keeps its slot until its handler has finished (FAULTS 26)', async () => {
  const { keyed, options } = limitOfOne();
  let latch = new Latch();
  const handler = web(
    async (_request: Request) => (await latch.opened, new Response('done')),
    options as LimitOptions<[Request]>,
  );
  const app = new Hono();
  app.use(hono(options as LimitOptions<[Context]>));
  app.get('/', async (c) => (await latch.opened, c.text('done')));
  for (const run of [
    (signal: AbortSignal) => handler(new Request('http://x/', { signal })),
    (signal: AbortSignal) => app.request('/', { signal }),
  ]) {
    latch = new Latch();
    const leaving = new AbortController();
    const response = run(leaving.signal);
    await until(() => activeOf(keyed) === 1);
    leaving.abort();
    expect(activeOf(keyed)).toBe(1);
    latch.open();
    await response;
    await until(() => activeOf(keyed) === 0);
  }
});
