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

/** A handler that takes `ms` milliseconds, and counts how many of its calls run at once. */
const countingHandler = (
  ms: number,
): { handler: () => Promise<string>; running: number; maxRunning: number; started: number } => {
  const counts = {
    running: 0,
    maxRunning: 0,
    started: 0,
    async handler() {
      counts.started++;
      counts.maxRunning = Math.max(counts.maxRunning, ++counts.running);
      await pause(ms);
      counts.running--;
      return 'done';
    },
  };
  return counts;
};

/** A limit of one request at a time, which is held until the handler has finished. */
const limitOfOne = (
  keyed = new KeyedThrottle(Infinity, 1),
): { keyed: KeyedThrottle; options: ReturnType<typeof concurrencyLimit<never[]>> } => ({
  keyed,
  options: concurrencyLimit<never[]>({ key: () => 'me', maxConcurrent: 1, backend: keyed, hold: 'handler' }),
});

const activeOf = (keyed: KeyedThrottle): number => keyed.peek('me')?.active ?? 0;

/** Records the timers with a delay of `ms` milliseconds. */
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
  test('a client that drops connections never runs more handlers than the limit (FAULTS 26, Ghost#30853)', async () => {
    const { keyed, options } = limitOfOne();
    const counts = countingHandler(500);
    const site = await serve(options, counts);
    for (let index = 0; index < 10; index++) {
      const dropped = call(site);
      await pause(20);
      dropped.hangUp();
    }
    await until(() => activeOf(keyed) === 0 && counts.running === 0, 'the release of every slot');
    // On a slow machine, the slot may be free again for one of the last requests.
    expect([counts.maxRunning, counts.started < 5]).toEqual([1, true]);
    expect((await get(site)).status).toBe(200);
    await until(() => activeOf(keyed) === 0);
    expect(site.failures).toEqual([]);
  });

  test('the slot of a disconnected client is held until its handler has finished (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const latch = new Latch();
    const site = await serve(options, { handler: async () => (await latch.opened, 'done') });
    const dropped = call(site);
    await until(() => activeOf(keyed) === 1);
    dropped.hangUp();
    await pause(50);
    expect([activeOf(keyed), (await get(site)).status]).toEqual([1, 429]);
    latch.open();
    await until(() => activeOf(keyed) === 0);
    expect((await get(site)).status).toBe(200);
  });

  test('a handler that fails after its client disconnected frees its slot (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const latch = new Latch();
    const site = await serve(options, {
      handler: async () => {
        await latch.opened;
        throw new Error('no');
      },
    });
    const dropped = call(site);
    await until(() => activeOf(keyed) === 1);
    dropped.hangUp();
    await pause(30);
    expect(activeOf(keyed)).toBe(1);
    latch.open();
    await until(() => activeOf(keyed) === 0);
  });

  test('an unreferenced timer frees the slot 60 s after the client disconnected (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const timers = timersOf(60_000);
    const site = await serve(options, { handler: () => new Promise(() => {}) });
    const before = timers.all.length;
    const dropped = call(site);
    await until(() => activeOf(keyed) === 1);
    expect(timers.all.length).toBe(before);
    dropped.hangUp();
    await until(() => timers.all.length > before);
    const [{ timer, fire } = {} as never, ...others] = timers.all.slice(before);
    expect([others, timer.hasRef(), activeOf(keyed)]).toEqual([[], false, 1]);
    fire();
    expect(activeOf(keyed)).toBe(0);
    clearTimeout(timer);
  });

  test('a handler that finishes after its client disconnected clears the timer of its slot', async () => {
    const { keyed, options } = limitOfOne();
    const timers = timersOf(60_000);
    const latch = new Latch();
    const site = await serve(options, { handler: async () => (await latch.opened, 'done') });
    const before = timers.all.length;
    const dropped = call(site);
    await until(() => activeOf(keyed) === 1);
    dropped.hangUp();
    await until(() => timers.all.length > before);
    latch.open();
    await until(() => activeOf(keyed) === 0);
    expect(timers.cleared(timers.all[before]!.timer)).toBe(true);
  });

  test('a response that was sent completely frees its slot without a timer', async () => {
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

  test('a streamed response holds its slot until the stream ends, also if the client disconnects', async () => {
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
    streaming.hangUp();
    latch.open();
    await until(() => activeOf(keyed) === 0);
  });

  test('a half-sent request that is dropped frees its slot (FAULTS 37)', async () => {
    const { keyed, options } = limitOfOne();
    const counts = countingHandler(50);
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
    expect(counts.maxRunning).toBeLessThanOrEqual(1);
    // A request with unfinished headers reaches no handler, and takes no slot.
    const headers = net.connect(site.port, '127.0.0.1');
    headers.write('GET / HTTP/1.1\r\nhost: x\r\nx-half:');
    expect((await get(site)).status).toBe(200);
    expect(acquire).toHaveBeenCalledTimes(6);
    headers.destroy();
  });

  test('a ttl frees the slot of a client that does not read its response (FAULTS 37)', async () => {
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

  test('a ttl frees the slot of an unfinished handler whose client has disconnected', async () => {
    const gate = new Throttle(Infinity, 1);
    const site = await serve({ gate, ttl: 0.1, hold: 'handler' }, { handler: () => new Promise(() => {}) });
    const dropped = call(site);
    await until(() => gate.active === 1);
    dropped.hangUp();
    await until(() => gate.active === 0);
  });

  test('a pipelined request takes its permit when it is the turn of its response (FAULTS 36)', async () => {
    const gate = new Throttle(Infinity, 20);
    const latch = new Latch();
    const counts = countingHandler(1);
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
    expect(counts.maxRunning).toBe(1);
    await until(() => gate.active === 0);
    socket.destroy();
  });

  test('a limit of one serves pipelined requests in order (FAULTS 36)', async () => {
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

  test('a pipelined request whose client disconnects before its turn takes no permit (FAULTS 36)', async () => {
    const gate = new Throttle(Infinity, 5);
    const counts = countingHandler(30);
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

/** Whether the path of a request is `/slow`, in any framework. */
function slowPath([first]: unknown[]): boolean {
  const { url, req } = first as { url?: string; req?: { url: string } };
  return (url ?? req?.url ?? '').endsWith('/slow');
}

describe('HTTP/2', () => {
  type Listener = (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => void;
  /** An HTTP/2 server for each adapter. */
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
  const openStream = (
    client: http2.ClientHttp2Session,
  ): { stream: http2.ClientHttp2Stream; status: Promise<unknown> } => {
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
    '%s: a client that opens and resets streams never runs more handlers than the limit (FAULTS 26, Ghost#30853)',
    async (_, create) => {
      const { keyed, options } = limitOfOne();
      const counts = countingHandler(500);
      const client = await connect(await create(options, counts.handler));
      for (let index = 0; index < 10; index++) {
        const { stream } = openStream(client);
        await pause(20);
        stream.close(http2.constants.NGHTTP2_CANCEL);
      }
      await until(() => activeOf(keyed) === 0 && counts.running === 0, 'the release of every slot');
      expect([counts.maxRunning, counts.started < 5]).toEqual([1, true]);
      expect(await openStream(client).status).toBe(200);
      await until(() => activeOf(keyed) === 0);
    },
  );

  test.each(servers)(
    '%s: a rapid reset never runs more handlers than the limit (FAULTS 26, CVE-2023-44487)',
    async (_, create) => {
      const { keyed, options } = limitOfOne();
      const counts = countingHandler(20);
      const client = await connect(await create(options, counts.handler));
      for (let index = 0; index < 200; index++) {
        const { stream } = openStream(client);
        if (index % 2 === 0) await new Promise((resolve) => void setImmediate(resolve));
        stream.close(http2.constants.NGHTTP2_CANCEL);
      }
      await pause(50);
      await until(() => activeOf(keyed) === 0 && counts.running === 0, 'the release of every slot');
      expect(counts.maxRunning).toBeLessThanOrEqual(1);
      expect(await openStream(client).status).toBe(200);
    },
  );
});

describe('a handler of Express has finished', () => {
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
  /** Disconnects a client while its handler runs, and returns the response of the handler. */
  const disconnect = async (
    site: { port: number; keyed: KeyedThrottle },
    responses: createExpress.Response[],
  ): Promise<createExpress.Response> => {
    const dropped = call(site);
    await until(() => responses.length === 1);
    dropped.hangUp();
    await until(() => responses[0]!.destroyed);
    await pause(10);
    expect(activeOf(site.keyed)).toBe(1);
    return responses[0]!;
  };

  test.each<[string, (res: createExpress.Response) => unknown]>([
    ['res.end', (res) => res.end('done')],
    ['res.send', (res) => res.send('done')],
    ['res.destroy', (res) => res.destroy()],
    ['the end of a piped stream', (res) => Readable.from(['a']).pipe(res)],
  ])('by %s after its client has disconnected (FAULTS 26)', async (__, finish) => {
    const responses: createExpress.Response[] = [];
    const site = await serveExpress((_req, res) => void responses.push(res));
    const res = await disconnect(site, responses);
    finish(res);
    await until(() => activeOf(site.keyed) === 0);
  });

  test('by res.end, also where other middleware wraps res.end (FAULTS 26)', async () => {
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
    const res = await disconnect(site, responses);
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

  test('by the end of a stream whose client has disconnected before (FAULTS 26)', async () => {
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
      const dropped = call(site);
      await dropped.started;
      dropped.hangUp();
      await until(() => sources[0]!.destroyed || sources[0]!.readableFlowing === false);
      await pause(10);
      // A pipeline destroys its source. A bare pipe leaves the source open, so the handler may still use it.
      expect(activeOf(site.keyed)).toBe(sources[0]!.destroyed ? 0 : 1);
      sources[0]!.destroy();
      await until(() => activeOf(site.keyed) === 0);
    }
  });

  test('if a later limit drops the request of a disconnected client (FAULTS 26)', async () => {
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
    const dropped = call({ port: await listen(server) });
    await until(() => second.waiting === 1);
    expect(activeOf(keyed)).toBe(1);
    dropped.hangUp();
    await until(() => activeOf(keyed) === 0);
  });
});

describe('a handler of Fastify has finished', () => {
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

  test('when its promise settles, also after the response (FAULTS 26)', async () => {
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

  test('at the end of the response if it has no promise or its route is older (FAULTS 26)', async () => {
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
      const dropped = call(site);
      await until(() => activeOf(site.keyed) === 1);
      dropped.hangUp();
      await pause(30);
      expect([activeOf(site.keyed), (await get(site)).status]).toEqual([1, 429]);
      latch.open();
      await until(() => activeOf(site.keyed) === 0);
    }
  });

  test('at the end of the response where it has hijacked the reply (FAULTS 26)', async () => {
    const latch = new Latch();
    const site = await serveFastify(async (server, limit) => {
      await limit();
      server.get('/', async (_request, reply) => {
        reply.hijack();
        void latch.opened.then(() => reply.raw.end('done'));
      });
    });
    const dropped = call(site);
    await until(() => activeOf(site.keyed) === 1);
    dropped.hangUp();
    await pause(30);
    expect(activeOf(site.keyed)).toBe(1);
    latch.open();
    await until(() => activeOf(site.keyed) === 0);
  });

  test('after one call of `then` on a result that starts a query with each call', async () => {
    const started = vi.fn();
    const site = await serveFastify(async (server, limit) => {
      await limit();
      // Query builders such as Knex return such results.
      server.get('/', () => ({ then: (resolve: (value: string) => void) => (started(), resolve('rows')) }));
    });
    expect((await get(site)).body).toBe('rows');
    expect(started).toHaveBeenCalledOnce();
    await until(() => activeOf(site.keyed) === 0);
  });
});

test('a handler of Koa that responds without Koa has finished at the end of its response (FAULTS 26)', async () => {
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
  const dropped = call({ port: await listen(server) });
  await until(() => activeOf(keyed) === 1);
  dropped.hangUp();
  await pause(30);
  expect(activeOf(keyed)).toBe(1);
  latch.open();
  await until(() => activeOf(keyed) === 0);
});

test('without Node, an aborted request holds its slot until its handler has finished (FAULTS 26)', async () => {
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
    const client = new AbortController();
    const response = run(client.signal);
    await until(() => activeOf(keyed) === 1);
    client.abort();
    expect(activeOf(keyed)).toBe(1);
    latch.open();
    await response;
    await until(() => activeOf(keyed) === 0);
  }
});
