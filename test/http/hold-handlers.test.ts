/** The end of a handler in each framework, for `hold: 'handler'`. */
import createExpress from 'express';
import createFastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type Context, Hono } from 'hono';
import http from 'node:http';
import type net from 'node:net';
import { pipeline, Readable } from 'node:stream';
import Koa from 'koa';
import { type KeyedThrottle, Throttle } from 'headgate';
import { express, fastify, hono, koa, type LimitOptions, web } from 'headgate/http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { call, get, Latch, listen, stop, until } from '../support/http-client.js';
import { activeOf, limitOfOne, pause } from './hold-support.js';

/** Sends a request, and hangs up as soon as the request holds the only slot. */
async function drop(
  { port, keyed }: { port: number; keyed: KeyedThrottle },
  path?: string,
  options?: Parameters<typeof call>[2],
): Promise<void> {
  const dropped = call({ port }, path, options);
  await until(() => activeOf(keyed) === 1);
  dropped.hangUp();
  await pause(30);
}

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
      await drop(site);
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
    await drop(site);
    expect(activeOf(site.keyed)).toBe(1);
    latch.open();
    await until(() => activeOf(site.keyed) === 0);
  });

  test('when its promise settles, for the HEAD route that Fastify adds to a GET route', async () => {
    const latch = new Latch();
    const site = await serveFastify(async (server, limit) => {
      await limit();
      server.get('/', async () => (await latch.opened, 'done'));
    });
    await drop(site, '/', { method: 'HEAD' });
    expect([activeOf(site.keyed), (await get(site)).status]).toEqual([1, 429]);
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
  await drop({ port: await listen(server), keyed });
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
