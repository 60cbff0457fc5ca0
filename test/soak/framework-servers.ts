/**
 * One handler behind each adapter on a real server: the servers of the HTTP part of the soak.
 */
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import createExpress from 'express';
import createFastify from 'fastify';
import { Hono } from 'hono';
import http, { type Server, type ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import Koa from 'koa';
import { express, fastify, hono, koa, type LimitOptions, web } from 'headgate/http';

export type Page = string | AsyncIterable<string>;

/** Handles a request that the gate has granted. `response` is the response of Node in every framework. */
export type Handler = (path: string, response: ServerResponse) => Promise<Page>;

/** Settings that fit every adapter. */
export type AnyOptions = LimitOptions<never[]>;

const bytes = (page: AsyncIterable<string>): ReadableStream<Uint8Array> =>
  Readable.toWeb(
    Readable.from(page).map((chunk: string) => new TextEncoder().encode(chunk)),
  ) as ReadableStream<Uint8Array>;

async function write(response: ServerResponse, page: Page): Promise<void> {
  if (typeof page === 'string') return void response.end(page);
  // A client may disconnect in the middle of the page.
  await pipeline(Readable.from(page), response).catch(() => {});
}

const fail = (response: ServerResponse): void => {
  if (response.headersSent) return void response.destroy();
  response.statusCode = 500;
  response.end('failed');
};

const fetchServer = (fetch: (request: Request, env: HttpBindings) => Response | Promise<Response>): Server =>
  createAdaptorServer({ fetch: fetch as Parameters<typeof createAdaptorServer>[0]['fetch'] }) as Server;

/** Creates the servers. They do not listen yet. */
export const frameworkServers: Record<string, (options: AnyOptions, handler: Handler) => Server | Promise<Server>> = {
  'node:http'(options, handler) {
    const gate = express(options as never);
    return http.createServer((req, res) => {
      const serve = async (error: unknown): Promise<void> => {
        try {
          if (error !== undefined) throw error;
          await write(res, await handler(req.url ?? '', res));
        } catch {
          fail(res);
        }
      };
      gate(req, res, (error) => void serve(error));
    });
  },

  express(options, handler) {
    const app = createExpress();
    app.use(express(options as never) as createExpress.RequestHandler);
    app.use(
      (req, res, next) =>
        void handler(req.url, res)
          .then((page) => write(res, page))
          .catch(next),
    );
    app.use((_error: unknown, _req: unknown, res: createExpress.Response, _next: unknown) => fail(res));
    return http.createServer(app);
  },

  koa(options, handler) {
    const app = new Koa();
    app.silent = true;
    app.use(koa(options as never));
    app.use(async (ctx) => {
      const page = await handler(ctx.url, ctx.res);
      ctx.body = typeof page === 'string' ? page : Readable.from(page);
    });
    const listener = app.callback();
    return http.createServer((req, res) => void listener(req, res));
  },

  async fastify(options, handler) {
    const server = createFastify({ forceCloseConnections: true });
    server.setErrorHandler((_error, _request, reply) => reply.code(500).send('failed'));
    await server.register(fastify(options as never));
    server.all('/*', async (request, reply) => {
      const page = await handler(request.url, reply.raw);
      return reply.send(typeof page === 'string' ? page : Readable.from(page));
    });
    await server.ready();
    return server.server;
  },

  hono(options, handler) {
    const app = new Hono<{ Bindings: HttpBindings }>();
    app.onError((_error, c) => c.text('failed', 500));
    app.use(hono(options as never));
    app.all('*', async (c) => {
      const { pathname, search } = new URL(c.req.url);
      const page = await handler(pathname + search, c.env.outgoing);
      return c.body(typeof page === 'string' ? page : bytes(page));
    });
    return fetchServer(app.fetch);
  },

  web(options, handler) {
    const guarded = web(async (request: Request, env: HttpBindings) => {
      const { pathname, search } = new URL(request.url);
      const page = await handler(pathname + search, env.outgoing);
      return new Response(typeof page === 'string' ? page : bytes(page));
    }, options as never);
    return fetchServer((request, env) => guarded(request, env).catch(() => new Response('failed', { status: 500 })));
  },
};
