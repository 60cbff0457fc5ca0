/** The hold on a permit over HTTP/2, where clients can reset streams. */
import createFastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';
import http2 from 'node:http2';
import type net from 'node:net';
import Koa from 'koa';
import { express, fastify, hono, koa, type LimitOptions, web } from 'headgate/http';
import { describe, expect, onTestFinished, test } from 'vitest';
import { until } from '../support/http-client.js';
import { activeOf, countingHandler, limitOfOne, pause } from './hold-support.js';

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
