/** A server for each framework, with one handler behind the adapter. The suites of test/http use them. */
import createExpress from 'express';
import createFastify, { type FastifyBaseLogger } from 'fastify';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import http, { type Server } from 'node:http';
import { Readable } from 'node:stream';
import Koa from 'koa';
import { express, fastify, hono, koa, type LimitOptions, web } from 'headgate/http';
import { onTestFinished, vi } from 'vitest';
import { listen, stop } from './http-client.js';

/** Options for every adapter. Their functions use nothing of a framework. */
export type AnyOptions = LimitOptions<never[]>;

/** The result of a handler: a text, or a stream of texts. */
export type Page = string | AsyncIterable<string>;

export interface Setting {
  /** Handles every admitted request. It receives the request object of the framework, and Node's own. */
  handler?: (path: string, request: object, raw: object) => Page | Promise<Page>;
  /** The authenticated user. */
  user?: unknown;
  /** Whether the framework trusts a proxy. */
  trustProxy?: boolean;
  /** The address or the path of a Unix socket. */
  host?: string;
}

export interface Site {
  readonly port: number;
  /** The errors that the framework's error handler has received. */
  readonly failures: unknown[];
  /** The errors in the framework's log. */
  readonly logged: unknown[];
}

/**
 * Starts a server. Several options are several limits, in this order. Equal options are one middleware, mounted twice.
 */
export type Serve = (options: AnyOptions | AnyOptions[], setting?: Setting) => Promise<Site>;

interface Plan extends Required<Omit<Setting, 'host'>> {
  /** Creates the middleware of each limit. */
  limits<M>(make: (options: never) => M): M[];
  failures: unknown[];
  logged: unknown[];
}

const DONE = 'done';

/** Creates the server of each framework. The server does not listen yet. */
const makers: Record<string, (plan: Plan) => Server | Promise<Server>> = {
  'node:http': ({ limits, handler, user, failures, logged }) => {
    logToConsole(logged);
    const gates = limits((options) => express(options));
    return http.createServer((req, res) => {
      Object.assign(req, { user });
      const step = (index: number, error?: unknown): void => {
        const gate = gates[index];
        if (gate !== undefined && error === undefined) return gate(req, res, (failure) => step(index + 1, failure));
        void respond(res, error, async () => handler(req.url ?? '', req, req), failures);
      };
      step(0);
    });
  },

  connect: ({ limits, handler, user, failures, logged }) => {
    logToConsole(logged);
    type Next = (error?: unknown) => void;
    type Layer = (req: http.IncomingMessage, res: http.ServerResponse, next: Next) => unknown;
    const layers: Layer[] = [
      (req, _res, next) => next(void Object.assign(req, { user })),
      ...limits((options) => express(options)),
      (req, res, next) =>
        Promise.resolve(handler(req.url ?? '', req, req))
          .then((page) => write(res, page))
          .catch(next),
    ];
    return http.createServer((req, res) => {
      const step = (index: number, error?: unknown): void => {
        const fail = (failure: unknown): void => {
          failures.push(failure);
          res.statusCode = 500;
          res.end('failed');
        };
        if (error !== undefined) return fail(error);
        try {
          layers[index]?.(req, res, (failure) => step(index + 1, failure));
        } catch (failure) {
          fail(failure);
        }
      };
      step(0);
    });
  },

  express: ({ limits, handler, user, trustProxy, failures, logged }) => {
    logToConsole(logged);
    const app = createExpress();
    app.set('trust proxy', trustProxy);
    app.use((req, _res, next) => next(void Object.assign(req, { user })));
    for (const limit of limits((options) => express(options))) app.use(limit);
    app.use((req, res) => {
      const page = handler(req.url, req, req);
      return page instanceof Promise ? page.then((later) => write(res, later)) : write(res, page);
    });
    app.use((error: unknown, _req: unknown, res: createExpress.Response, _next: unknown) => {
      failures.push(error);
      res.status(500).send('failed');
    });
    return http.createServer(app);
  },

  koa: ({ limits, handler, user, trustProxy, failures, logged }) => {
    const app = new Koa({ proxy: trustProxy });
    app.on('error', (error) => void logged.push(error));
    app.use(async (ctx, next) => {
      ctx.state['user'] = user;
      try {
        await next();
      } catch (error) {
        failures.push(error);
        ctx.status = 500;
        ctx.body = 'failed';
      }
    });
    for (const limit of limits((options) => koa(options))) app.use(limit);
    app.use((ctx) => {
      const put = (page: Page): void => void (ctx.body = typeof page === 'string' ? page : Readable.from(page));
      const page = handler(ctx.url, ctx, ctx.req);
      return page instanceof Promise ? page.then(put) : put(page);
    });
    const listener = app.callback();
    return http.createServer((req, res) => void listener(req, res));
  },

  fastify: async ({ limits, handler, user, trustProxy, failures, logged }) => {
    const ignore = (): void => {};
    const logger = {
      level: 'info',
      info: ignore,
      warn: ignore,
      debug: ignore,
      trace: ignore,
      fatal: ignore,
      silent: ignore,
      error: (error: unknown) => void logged.push(error),
      child: () => logger,
    };
    const server = createFastify({
      trustProxy,
      loggerInstance: logger as unknown as FastifyBaseLogger,
      forceCloseConnections: true,
    });
    server.setErrorHandler((error, _request, reply) => {
      failures.push(error);
      return reply.code(500).send('failed');
    });
    server.addHook('onRequest', async (request) => void Object.assign(request, { user }));
    for (const limit of limits((options) => fastify(options))) await server.register(limit);
    server.all('/*', (request, reply) => {
      const put = (page: Page): unknown => reply.send(typeof page === 'string' ? page : Readable.from(page));
      const page = handler(request.url, request, request.raw);
      return page instanceof Promise ? page.then(put) : put(page);
    });
    await server.ready();
    return server.server;
  },

  hono: ({ limits, handler, user, failures, logged }) => {
    logToConsole(logged);
    const app = new Hono<{ Bindings: HttpBindings; Variables: { user: unknown } }>();
    app.onError((error, c) => {
      failures.push(error);
      return c.text('failed', 500);
    });
    app.use((c, next) => {
      c.set('user', user);
      return next();
    });
    for (const limit of limits((options) => hono(options))) app.use(limit);
    app.all('*', (c): Response | Promise<Response> => {
      const put = (page: Page): Response => c.body(typeof page === 'string' ? page : bytes(page));
      const { pathname, search } = new URL(c.req.url);
      const page = handler(pathname + search, c, c.env.incoming);
      return page instanceof Promise ? page.then(put) : put(page);
    });
    return fetchServer(app.fetch);
  },

  web: ({ limits, handler, user, failures, logged }) => {
    logToConsole(logged);
    const put = (page: Page): Response => new Response(typeof page === 'string' ? page : bytes(page));
    type Handler = (request: Request, env: HttpBindings) => Response | Promise<Response>;
    const limited = limits((options) => (inner: Handler) => web(inner, options));
    const guarded = limited.reduceRight<Handler>(
      (inner, limit) => limit(inner),
      (request, env) => {
        const { pathname, search } = new URL(request.url);
        const page = handler(pathname + search, request, env.incoming);
        return page instanceof Promise ? page.then(put) : put(page);
      },
    );
    return fetchServer((request, env) =>
      Promise.resolve(guarded(Object.assign(request, { user }), env)).catch((error: unknown) => {
        failures.push(error);
        return new Response('failed', { status: 500 });
      }),
    );
  },
};

/** Starts a server that is stopped when the test finishes. */
export async function startServer(server: Server, host?: string): Promise<{ port: number }> {
  onTestFinished(() => stop(server));
  return { port: await listen(server, host) };
}

/** Creates a server of Node for a `fetch` handler. */
export const fetchServer = (fetch: (request: Request, env: HttpBindings) => unknown): Server =>
  createAdaptorServer({ fetch: fetch as Parameters<typeof createAdaptorServer>[0]['fetch'] }) as Server;

/** The names of the frameworks, each with a function that runs its server until the test finishes. */
export const sites: [name: string, serve: Serve][] = Object.entries(makers).map(([name, make]) => [
  name,
  async (options, setting = {}) => {
    const { handler = () => DONE, user, trustProxy = false, host = '127.0.0.1' } = setting;
    const failures: unknown[] = [];
    const logged: unknown[] = [];
    const all = [options].flat();
    const limits = <M>(makeLimit: (each: never) => M): M[] => {
      const made = new Map([...new Set(all)].map((each) => [each, makeLimit(each as never)]));
      return all.map((each) => made.get(each)!);
    };
    const server = await make({ limits, handler, user, trustProxy, failures, logged });
    return { ...(await startServer(server, host)), failures, logged };
  },
]);

function logToConsole(logged: unknown[]): void {
  const log = vi.spyOn(console, 'error').mockImplementation((error: unknown) => void logged.push(error));
  onTestFinished(() => log.mockRestore());
}

/** Sends the result of the handler, or the error response: a bare server has no error handler of its own. */
async function respond(
  res: http.ServerResponse,
  error: unknown,
  handler: () => Promise<Page>,
  failures: unknown[],
): Promise<void> {
  try {
    if (error !== undefined) throw error;
    await write(res, await handler());
  } catch (failure) {
    failures.push(failure);
    res.statusCode = 500;
    res.end('failed');
  }
}

async function write(res: http.ServerResponse, page: Page): Promise<void> {
  if (typeof page === 'string') return void res.end(page);
  for await (const chunk of page)
    if (!res.write(chunk) && !res.destroyed)
      await new Promise((resolve) => void res.once('drain', resolve).once('close', resolve as () => void));
  res.end();
}

function bytes(page: AsyncIterable<string>): ReadableStream<Uint8Array> {
  return Readable.toWeb(
    Readable.from(page).map((chunk: string) => new TextEncoder().encode(chunk)),
  ) as ReadableStream<Uint8Array>;
}
