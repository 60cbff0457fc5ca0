/**
 * The types of the adapters, used with the real frameworks without a cast. This file is not run: `npm run check:types`
 * compiles it, and fails where an expected error is missing.
 */
import createExpress, { type Request, type Response as ExpressResponse } from 'express';
import createFastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import { type Context, Hono } from 'hono';
import http from 'node:http';
import http2 from 'node:http2';
import Koa from 'koa';
import { type Gate, KeyedThrottle, Limiter, type Permit, type ThrottlePermit, Resource, Throttle } from 'headgate';
import {
  concurrencyLimit,
  express,
  fastify,
  hono,
  koa,
  permitOf,
  type Refusal,
  type RefusalError,
  web,
} from 'headgate/http';
import { expectTypeOf } from 'vitest';

const gate = new Throttle(1);
const keyed = new KeyedThrottle(1);
const database = new Resource(1);

// One gate for all requests, or one for each key.
express({ gate });
express({ gate: database });
express({ gate: new Limiter({ timeout: 1, resources: [database] }).resources([database]) });
express({ keyed, key: 'ip' });
// @ts-expect-error gate or keyed is missing
express({});
// @ts-expect-error gate and keyed exclude each other
express({ gate, keyed, key: 'ip' });
// @ts-expect-error keyed needs a key
express({ keyed });
// @ts-expect-error gate excludes key
express({ gate, key: 'ip' });
// @ts-expect-error gate is no keyed gate
express({ gate: keyed });
// @ts-expect-error keys are strings
express({ keyed: new KeyedThrottle<number>(1), key: 'ip' });
// @ts-expect-error the option is misspelt
express({ gate, waits: 5 });
express({
  gate,
  wait: undefined,
  cost: undefined,
  block: undefined,
  status: undefined,
  onLimited: undefined,
  headers: undefined,
  skip: undefined,
  failOpen: undefined,
  ipv6Prefix: undefined,
  ttl: undefined,
});

// Express, Connect, node:http, HTTP/2
const app = createExpress();
app.use(express({ gate }));
app.use('/path', express({ keyed, key: (req) => req.ip }));
app.get(
  '/:id',
  express({ keyed, key: (req: Request) => req.get('x'), cost: async (req) => Number(req.params['id']) }),
  (_req, res) => void res.send(),
);
app.use(express({ gate, onLimited: ({ status }, _req: Request, res: ExpressResponse) => res.status(status).json({}) }));
app.get('/export', express(concurrencyLimit({ key: 'user', maxConcurrent: 5 })), (_req, res) => void res.send());
app.use(
  express(
    concurrencyLimit({
      key: (req: Request) => req.ip,
      maxConcurrent: 5,
      onLimited: ({ retryAfter }, req) => `${retryAfter} ${req.path}`,
    }),
  ),
);
const limited = express({ gate });
http.createServer((req, res) => limited(req, res, () => res.end()));
const limited2 = express<http2.Http2ServerRequest, http2.Http2ServerResponse>({ gate });
http2.createServer((req, res) => limited2(req, res, () => res.end()));
// @ts-expect-error the key function needs a request of Express
http.createServer((req, res) => express({ keyed, key: (own: Request) => own.get('x') })(req, res, () => res.end()));

// On a route of Express, later handlers infer the parameters from the path of the route (FAULTS 33).
for (const middleware of [
  express({ gate }),
  express({ keyed, key: (req) => req.ip }),
  express(concurrencyLimit({ key: (req) => req.ip, maxConcurrent: 5 })),
]) {
  app.get('/p/:project', middleware, (req, res) => {
    expectTypeOf(req.params).toEqualTypeOf<{ project: string }>();
    res.send();
  });
}
app.get(
  '/p/:project',
  express({ keyed, key: (req: Request) => req.get('x') }),
  (req, res) => void res.send(expectTypeOf(req.params.project).toBeString()),
);
app.get(
  '/p/:project',
  express(concurrencyLimit({ key: (req: Request) => req.get('x'), maxConcurrent: 5 })),
  (req, res) => void res.send(expectTypeOf(req.params.project).toBeString()),
);

// Koa
new Koa()
  .use(koa({ gate }))
  .use(koa({ keyed, key: (ctx) => ctx.ip, skip: (ctx) => ctx.originalUrl === '/health' }))
  .use(koa({ gate, onLimited: (_refusal, ctx: Koa.Context) => void (ctx.body = ctx.host) }))
  .use(
    koa({
      gate,
      skip: (ctx) => ctx.path === '/health' && ctx.method === 'GET' && ctx.get('x') === '' && ctx.query['q'] === 'x',
    }),
  )
  .use(koa(concurrencyLimit({ key: (ctx) => ctx.path, maxConcurrent: 5 })))
  .use(koa(concurrencyLimit({ key: 'ip', maxConcurrent: 5 })));

// Fastify
const server = createFastify();
void server.register(fastify({ gate }));
void server.register(fastify({ keyed, key: (request) => request.ip, hook: 'preHandler' }));
void server.register(fastify({ gate, onLimited: (_refusal, _request, reply) => reply.send({}) as object }));
void server.register(fastify(concurrencyLimit({ key: 'ip', maxConcurrent: 5 })));
// @ts-expect-error onSend is too late for the decision
fastify({ gate, hook: 'onSend' });
const ofRoute = fastify.route({ gate, wait: 5 });
server.get('/one', { onRequest: ofRoute, preHandler: [ofRoute, fastify.route({ keyed, key: 'ip' })] }, async () => '');
server.get('/two', { preValidation: ofRoute, preParsing: ofRoute }, async () => '');
server.get('/limit', { preHandler: fastify.route(concurrencyLimit({ key: 'ip', maxConcurrent: 5 })) }, async () => '');
server.route({ method: 'GET', url: '/three', preHandler: ofRoute, handler: async () => '' });
interface OneProject {
  Params: { project: string };
  Body: { name: string };
}
server.post<OneProject>('/p/:project', { preHandler: ofRoute }, async ({ params, body }) => params.project + body.name);
server.post<OneProject>(
  '/q/:project',
  {
    preHandler: fastify.route({
      keyed,
      key: ({ params, body }: FastifyRequest<OneProject>) => params.project + body.name,
      onLimited: (_refusal, request, reply: FastifyReply) => reply.send(request.params.project),
    }),
  },
  async ({ params }) => params.project,
);
// @ts-expect-error the route names the hook
fastify.route({ gate, hook: 'preHandler' });
// @ts-expect-error gate or keyed is missing
fastify.route({});

// Hono
const typed = new Hono<{ Variables: { user: { id: string } }; Bindings: { secret: string } }>();
typed.use(hono({ gate }));
typed.use('*', hono({ keyed, key: (c) => c.req.raw.url }));
typed.get('/', hono({ gate, onLimited: () => new Response('') }), (c) => c.text(c.var.user.id));
typed.use(hono({ keyed, key: (c: Context) => c.req.header('x'), onLimited: (_refusal, c) => c.json({}) }));
typed.use(hono(concurrencyLimit({ key: (c: Context) => c.req.header('x'), maxConcurrent: 5 })));
typed.use(
  hono({
    keyed,
    key: (c) => c.get('user').id,
    skip: (c) => c.req.path === '/health' && c.req.method === 'GET' && c.req.header('x') === c.req.query('x'),
  }),
);
typed.use(hono(concurrencyLimit({ key: (c) => c.req.path, maxConcurrent: 5 })));

// Request to Response
expectTypeOf(web(() => new Response(), { gate })).toEqualTypeOf<(request: globalThis.Request) => Promise<Response>>();
expectTypeOf(
  web(async (_request, _info: { port: number }) => new Response(), {
    keyed,
    key: (request, info) => request.url + info.port,
  }),
).toEqualTypeOf<(request: globalThis.Request, info: { port: number }) => Promise<Response>>();
web(() => new Response(), concurrencyLimit({ key: 'ip', maxConcurrent: 5 }));
web(() => new Response(), concurrencyLimit({ key: (request) => request.url, maxConcurrent: 5 }));
web((request) => new Response(request.url), concurrencyLimit({ key: (request) => request.url, maxConcurrent: 5 }));
/** A subclass of Request, as in Next.js. */
declare class NextRequest extends globalThis.Request {
  readonly nextUrl: URL;
}
const page = async (request: NextRequest, context: { params: Promise<{ id: string }> }): Promise<Response> =>
  new Response(request.nextUrl.pathname + (await context.params).id);
expectTypeOf(
  web(page, { keyed, key: async (request, { params }) => request.nextUrl.pathname + (await params).id }),
).toEqualTypeOf<typeof page>();
expectTypeOf(
  web(page, concurrencyLimit({ key: (request) => request.nextUrl.pathname, maxConcurrent: 5 })),
).toEqualTypeOf<typeof page>();
// @ts-expect-error a handler returns a Response
web(() => 'text', { gate });

// The end of the hold on a permit
web(() => new Response(), { gate, hold: 'handler' });
// @ts-expect-error hold has no such value
web(() => new Response(), { gate, hold: 'body' });

// The permit of a request
declare const fleet: Omit<Gate, 'acquire'> & { acquire(): Promise<Permit & { slot: number }> };
expectTypeOf(permitOf(new globalThis.Request('http://x/'))).toEqualTypeOf<Permit | undefined>();
declare const incoming: Request;
expectTypeOf(permitOf(incoming, keyed)).toEqualTypeOf<ThrottlePermit<never> | undefined>();
expectTypeOf(permitOf(incoming, fleet)?.slot).toEqualTypeOf<number | undefined>();
// @ts-expect-error the second argument is a gate
permitOf(incoming, 'gate');

// Refusals as errors
web(() => new Response(), { gate, onLimited: 'throw' });
expectTypeOf<RefusalError>().toExtend<Refusal & Error>();
// @ts-expect-error onLimited has no such value
web(() => new Response(), { gate, onLimited: 'reject' });

// The arguments and the result of onLimited
express({ gate, onLimited: (refusal) => void expectTypeOf(refusal).toEqualTypeOf<Refusal>() });
// @ts-expect-error onLimited cannot return a number
express({ gate, onLimited: () => 429 });
