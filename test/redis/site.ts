/**
 * A server process of http.test.ts: a small site in each framework, behind gates that it shares with other processes.
 * The parent decides when a request ends. The process reports each start and each end of a request.
 */
import createExpress from 'express';
import createFastify from 'fastify';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import { Redis } from 'ioredis';
import http, { type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline, Readable } from 'node:stream';
import Koa from 'koa';
import { createClient } from 'redis';
import { Limiter, Resource } from 'headgate';
import { concurrencyLimit, express, fastify, hono, koa, type LimitOptions, web } from 'headgate/http';
import { type RedisConnection, RedisKeyedThrottle, RedisThrottle } from 'headgate/redis';

/** The settings of the process, in its environment. */
export interface Setting {
  url: string;
  prefix: string;
  client: 'ioredis' | 'node-redis';
  ttl: number;
  /** The concurrency of each gate, and of each key of a keyed gate. */
  limit: number;
}

/** The sites of a framework: the kind of gate, and whether requests wait. */
export type Variant = 'shared' | 'shared, waiting' | 'keyed' | 'keyed, waiting' | 'no queue' | 'resources';

/** A message of the process to its parent. */
export type Report =
  | { kind: 'ready'; ports: Record<string, Record<Variant, number>> }
  /** A request has started or ended, at an instant of the monotonic clock of the machine, in nanoseconds. */
  | { kind: 'enter' | 'exit'; framework: string; name: string; at: string };

/** A message of the parent: the request with this name ends. */
export interface Order {
  open: string;
}

type AnyOptions = LimitOptions<never[]>;
type Page = (path: string, res: ServerResponse) => AsyncIterable<string>;

/** Ignores the error of a pipeline whose client has hung up; the pipeline ends its source. */
const ignore = (): void => {};

const bytes = (page: AsyncIterable<string>): ReadableStream<Uint8Array> =>
  Readable.toWeb(
    Readable.from(page).map((chunk: string) => new TextEncoder().encode(chunk)),
  ) as ReadableStream<Uint8Array>;
const pathOf = ({ url }: Request): string => url.slice(new URL(url).origin.length);
const fetchServer = (fetch: (request: Request, env: HttpBindings) => unknown): Server =>
  createAdaptorServer({ fetch: fetch as Parameters<typeof createAdaptorServer>[0]['fetch'] }) as Server;

const frameworks: Record<string, (options: never, page: Page) => Server | Promise<Server>> = {
  'node:http': (options, page) => {
    const gate = express(options);
    return http.createServer((req, res) =>
      gate(req, res, () => void pipeline(Readable.from(page(req.url ?? '', res)), res, ignore)),
    );
  },
  express: (options, page) => {
    const app = createExpress();
    app.use(express(options));
    app.use((req, res) => void pipeline(Readable.from(page(req.url, res)), res, ignore));
    return http.createServer(app);
  },
  koa: (options, page) => {
    const app = new Koa();
    app.silent = true;
    app.use(koa(options));
    app.use((ctx) => void (ctx.body = Readable.from(page(ctx.url, ctx.res))));
    const listener = app.callback();
    return http.createServer((req, res) => void listener(req, res));
  },
  fastify: async (options, page) => {
    const server = createFastify();
    await server.register(fastify(options));
    server.all('/*', (request, reply) => reply.send(Readable.from(page(request.url, reply.raw))));
    await server.ready();
    return server.server;
  },
  hono: (options, page) => {
    const app = new Hono<{ Bindings: HttpBindings }>();
    app.use(hono(options));
    app.all('*', (c) => c.body(bytes(page(pathOf(c.req.raw), c.env.outgoing))));
    return fetchServer(app.fetch);
  },
  web: (options, page) =>
    fetchServer(
      web(
        (request: Request, { outgoing }: HttpBindings) => new Response(bytes(page(pathOf(request), outgoing))),
        options,
      ),
    ),
};

/** Longer than any request in the tests waits. */
const WAIT_SECONDS = 20;

const setting = JSON.parse(process.env['SITE'] ?? '{}') as Setting;
const { url, prefix, ttl, limit } = setting;
const send = (report: Report): void => void process.send?.(report);
/** The functions that end requests, by name. */
const latches = new Map<string, () => void>();

process.on('message', ({ open }: Order) => latches.get(open)?.());
process.on('disconnect', () => process.exit());

/** `/name?hold=20` ends after 20 ms, `/name` when the parent decides. Both send their first bytes at once. */
const pageOf =
  (framework: string): Page =>
  (path, res) => {
    const { pathname, searchParams } = new URL(path, 'http://site');
    const name = pathname.slice(1);
    const hold = searchParams.get('hold');
    const ended = new Promise<void>((resolve) =>
      hold === null ? latches.set(name, resolve) : void setTimeout(resolve, Number(hold)),
    );
    const at = (): string => process.hrtime.bigint().toString();
    let inside = true;
    const exit = (): void => {
      if (inside) send({ kind: 'exit', framework, name, at: at() });
      inside = false;
    };
    send({ kind: 'enter', framework, name, at: at() });
    res.on('finish', exit).on('close', exit);
    return (async function* () {
      yield 'begun, ';
      await ended;
      yield 'done';
    })();
  };

async function connect(): Promise<RedisConnection> {
  if (setting.client === 'ioredis') return new Redis(url);
  return createClient({ url }).connect();
}

const client = await connect();
const ports: Record<string, Record<string, number>> = {};
for (const [framework, make] of Object.entries(frameworks)) {
  const common = { client, ttl, prefix: `${prefix}:${framework}` };
  const gate = new RedisThrottle({ ...common, key: 'shared', concurrency: limit });
  const perUser = (wait: number): AnyOptions =>
    concurrencyLimit({
      key: 'header:x-user',
      maxConcurrent: limit,
      wait,
      ttl,
      backend: (needs) => new RedisKeyedThrottle({ ...common, ...needs }),
    });
  const desk = new Resource(100);
  const licences = new RedisThrottle({ ...common, key: 'licences', concurrency: 1 });
  const limiter = new Limiter({ timeout: 0.05, resources: [desk, licences] });
  const variants: Record<Variant, AnyOptions> = {
    shared: { gate },
    'shared, waiting': { gate, wait: WAIT_SECONDS },
    keyed: perUser(0),
    'keyed, waiting': perUser(WAIT_SECONDS),
    'no queue': {
      gate: new RedisThrottle({ ...common, key: 'no queue', concurrency: 1, maxQueue: 0 }),
      wait: WAIT_SECONDS,
    },
    resources: { gate: limiter.resources([desk, licences]) },
  };
  const own: Record<string, number> = (ports[framework] = {});
  for (const [variant, options] of Object.entries(variants)) {
    const server = await make(options as never, pageOf(framework));
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    own[variant] = (server.address() as AddressInfo).port;
  }
}
send({ kind: 'ready', ports });
