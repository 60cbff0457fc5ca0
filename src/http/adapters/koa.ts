/** Middleware for Koa. */
import { createDecision, type LimitOptions, type FrameworkAdapter } from '../decide.js';
import {
  carriersOf,
  isOver,
  isSent,
  type NodeRequest,
  type NodeResponse,
  propertyOf,
  turnOf,
  whenEnded,
  whenOver,
} from '../platform/node.js';

/** A context of Koa. */
export interface KoaContext {
  /** The request of Node. */
  readonly req: NodeRequest;
  /** The response of Node. */
  readonly res: NodeResponse;
  /** The client's address, by the application's `proxy` setting. */
  readonly ip: string;
  /** What middleware has found out, such as the `user` who has signed in. */
  readonly state: { readonly user?: unknown };
  /** Such as `GET`. */
  readonly method: string;
  /** The path of the URL. */
  readonly path: string;
  /** The path and the query. */
  readonly url: string;
  /** The URL as the client sent it. */
  readonly originalUrl: string;
  /** The parameters of the query. */
  readonly query: Readonly<Record<string, string | string[] | undefined>>;
  /** A header field of the request, by its name in any case; `''` where there is none. */
  get(field: string): string;
  /** The application: its `error` event tells what `onLimited` throws. */
  readonly app: { emit(event: 'error', error: unknown, ctx: object): unknown };
  /** `false` where somebody responds without Koa. */
  respond?: boolean | undefined;
  /** The status of the response. */
  status: number;
  /** The body of the response. */
  body?: unknown;
  /** Sets header fields, by name. */
  set(fields: { [name: string]: string | string[] }): unknown;
}

/** Middleware of Koa. */
export type KoaMiddleware<Ctx> = (ctx: Ctx, next: () => Promise<unknown>) => Promise<void>;

const port: FrameworkAdapter<[KoaContext]> = {
  ip: (ctx) => ctx.ip,
  peer: (ctx) => ctx.req.socket.remoteAddress,
  user: (ctx) => ctx.state.user,
  // A router's.
  params: (ctx) => propertyOf(ctx, 'params'),
  own: (name, ctx) => propertyOf(ctx, name),
  header: (name, ctx) => ctx.req.headers[name],
  method: (ctx) => ctx.req.method,
  url: (ctx) => ctx.originalUrl,
  carriers: (ctx) => carriersOf(ctx.req, ctx),
  turn: (ctx) => turnOf(ctx.req, ctx.res),
  over: (ctx) => isOver(ctx.req, ctx.res),
  sent: (ctx) => isSent(ctx.res),
  whenOver: (end, ctx) => whenOver(ctx.res, end),
  announce: (fields, ctx) => ctx.set(fields),
  refusing(status, ctx) {
    const before = ctx.body;
    ctx.status = status;
    return () => ctx.body !== before || ctx.respond === false;
  },
  report: (error, ctx) => ctx.app.emit('error', error, ctx),
};

/**
 * Middleware that lets requests through a gate. A permit is held until the response has been sent or the client has
 * gone, however long that takes after the middleware is done.
 *
 * @param options The gate, and what else there is to say: {@link LimitOptions}. Functions get `(ctx)`.
 * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
 *
 * @example
 * import Koa from 'koa';
 * import { Throttle } from 'headgate';
 * import { koa } from 'headgate/http';
 *
 * const app = new Koa();
 * app.use(koa({ gate: new Throttle(100, 20), wait: 5 })); // 100 per second, 20 at a time, the others queue for 5 s
 * app.use((ctx) => void (ctx.body = 'hello'));
 */
export function koa(options: LimitOptions<[ctx: KoaContext]>): KoaMiddleware<KoaContext>;
/** The same for options whose functions name the type of the context. */
export function koa<Ctx extends KoaContext = KoaContext>(options: LimitOptions<[ctx: Ctx]>): KoaMiddleware<Ctx>;
export function koa<Ctx extends KoaContext>(options: LimitOptions<[ctx: Ctx]>): KoaMiddleware<Ctx> {
  const decide = createDecision<[Ctx]>(options, port);
  return async function headgate(ctx, next) {
    const verdict = await decide(ctx);
    if (verdict.runs) {
      ctx.set(verdict.fields);
      const finished = verdict.finished ?? (() => {});
      try {
        await next();
      } finally {
        // A handler that responds without Koa has finished when it has ended the response.
        if (ctx.respond === false) whenEnded(ctx.res, finished);
        else finished();
      }
    } else if (verdict.reply !== undefined) {
      const { status, headers, body } = verdict.reply;
      ctx.status = status;
      ctx.set(headers);
      // Koa takes plain bytes for an object.
      ctx.body = typeof body === 'string' ? body : new Blob([body]);
    }
  };
}
