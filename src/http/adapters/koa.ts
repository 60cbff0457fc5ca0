/** Middleware for Koa. */
import { createDecision } from '../decide.js';
import type { FrameworkAdapter } from '../framework-adapter.js';
import type { LimitOptions } from '../options.js';
import {
  isClosed,
  isSent,
  type NodeRequest,
  type NodeResponse,
  onClose,
  onEnd,
  propertyOf,
  waitForTurn,
} from '../platform/node-response.js';

/** A context of Koa. */
export interface KoaContext {
  /** The request of Node. */
  readonly req: NodeRequest;
  /** The response of Node. */
  readonly res: NodeResponse;
  /** The client's address, according to the application's `proxy` setting. */
  readonly ip: string;
  /** The state that middleware has set, such as the authenticated `user`. */
  readonly state: { readonly user?: unknown };
  /** The method, such as `GET`. */
  readonly method: string;
  /** The path of the URL. */
  readonly path: string;
  /** The path and the query. */
  readonly url: string;
  /** The URL as the client sent it. */
  readonly originalUrl: string;
  /** The parameters of the query. */
  readonly query: Readonly<Record<string, string | string[] | undefined>>;
  /** A header field of the request. The name is case-insensitive. `''` if the field is absent. */
  get(field: string): string;
  /** The application. Its `error` event reports the errors of `onLimited`. */
  readonly app: { emit(event: 'error', error: unknown, ctx: object): unknown };
  /** `false` if a handler responds without Koa. */
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

const adapter: FrameworkAdapter<[KoaContext]> = {
  name: 'koa',
  ip: (ctx) => ctx.ip,
  socketAddress: (ctx) => ctx.req.socket.remoteAddress,
  user: (ctx) => ctx.state.user,
  // A router sets the parameters.
  params: (ctx) => propertyOf(ctx, 'params'),
  property: (name, ctx) => propertyOf(ctx, name),
  header: (name, ctx) => ctx.req.headers[name],
  method: (ctx) => ctx.req.method,
  url: (ctx) => ctx.originalUrl,
  requestObjects: (ctx) => [ctx.req, ctx],
  waitForTurn: (ctx) => waitForTurn(ctx.req, ctx.res),
  isClosed: (ctx) => isClosed(ctx.req, ctx.res),
  isSent: (ctx) => isSent(ctx.res),
  onClose: (listener, ctx) => onClose(ctx.res, listener),
  setHeaders: (fields, ctx) => ctx.set(fields),
  prepareRefusal(status, ctx) {
    const before = ctx.body;
    ctx.status = status;
    return () => ctx.body !== before || ctx.respond === false;
  },
  logError: (error, ctx) => ctx.app.emit('error', error, ctx),
};

/**
 * Creates middleware that admits requests through a gate. A permit is held until the response has been sent or the
 * client has disconnected, also after all middleware has finished.
 *
 * @param options The gate and further settings: {@link LimitOptions}. Functions receive `(ctx)`.
 * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
 *
 * @example
 * import Koa from 'koa';
 * import { Throttle } from 'headgate';
 * import { koa } from 'headgate/http';
 *
 * const app = new Koa();
 * // 100 per second, 20 at a time. The others queue for up to 5 s.
 * app.use(koa({ gate: new Throttle(100, 20), wait: 5 }));
 * app.use((ctx) => void (ctx.body = 'hello'));
 */
export function koa(options: LimitOptions<[ctx: KoaContext]>): KoaMiddleware<KoaContext>;
/** The overload for options whose functions declare the type of the context. */
export function koa<Ctx extends KoaContext = KoaContext>(options: LimitOptions<[ctx: Ctx]>): KoaMiddleware<Ctx>;
export function koa<Ctx extends KoaContext>(options: LimitOptions<[ctx: Ctx]>): KoaMiddleware<Ctx> {
  const decide = createDecision<[Ctx]>(options, adapter);
  return async function headgate(ctx, next) {
    const verdict = await decide(ctx);
    if (verdict.allowed) {
      ctx.set(verdict.fields);
      const handlerFinished = verdict.handlerFinished ?? (() => {});
      try {
        await next();
      } finally {
        // A handler that responds without Koa has finished when it has ended the response.
        if (ctx.respond === false) onEnd(ctx.res, handlerFinished);
        else handlerFinished();
      }
    } else if (verdict.reply !== undefined) {
      const { status, headers, body } = verdict.reply;
      ctx.status = status;
      ctx.set(headers);
      // Koa would send an ArrayBuffer as JSON.
      ctx.body = typeof body === 'string' ? body : new Blob([body]);
    }
  };
}
