/** Middleware for Hono, on any runtime. */
import { createDecision } from '../decide.js';
import type { FrameworkAdapter } from '../framework-adapter.js';
import type { LimitOptions } from '../options.js';
import { propertyOf } from '../platform/node-response.js';
import { CLIENT_CLOSED_REQUEST, watchResponse } from '../platform/web-response.js';
import {
  endsWithBody,
  isFetchClosed,
  isFetchSent,
  onFetchClose,
  remoteAddress,
  requestObjectsOf,
  waitForFetchTurn,
  watchUpgrade,
} from '../platform/runtime.js';

/** A request of Hono. */
export interface HonoRequest {
  /** The platform's own request. */
  readonly raw: Request;
  /** The method, such as `GET`. */
  readonly method: string;
  /** The path of the URL. */
  readonly path: string;
  /** The whole URL. */
  readonly url: string;
  /** The parameters of the route. */
  param(): unknown;
  /** A header field. The name is case-insensitive. */
  header(name: string): string | undefined;
  /** The first parameter of that name in the query. */
  query(name: string): string | undefined;
}

/** A context of Hono. */
export interface HonoContext {
  /** The request. */
  readonly req: HonoRequest;
  /** The bindings of the runtime. */
  readonly env: unknown;
  /** The variables that `c.set` has set. */
  readonly var: object;
  /**
   * The variable that `c.set` has set. Its type is `any`, like the result of `JSON.parse`: the application knows it.
   */
  get(key: string): ReturnType<typeof JSON.parse>;
  /** The response. After the handlers have finished, it is the response of the handlers. */
  res: Response;
  /** Sets the status of the next response. */
  status(status: number): void;
  /** Sets a header field of the next response. */
  header(name: string, value: string): void;
  /** Creates a response. */
  body(data: string | ArrayBuffer | null, status: number, headers: Record<string, string | string[]>): Response;
}

/** Middleware of Hono. */
export type HonoMiddleware<C> = (c: C, next: () => Promise<void>) => Promise<Response | undefined>;

const adapter: FrameworkAdapter<[HonoContext]> = {
  name: 'hono',
  ip: (c) => remoteAddress(c.req.raw, c.env),
  user: (c) => propertyOf(c.var, 'user'),
  params: (c) => c.req.param(),
  property: (name, c) => propertyOf(c.var, name),
  header: (name, c) => c.req.raw.headers.get(name),
  method: (c) => c.req.raw.method,
  url: (c) => c.req.raw.url,
  requestObjects: (c) => requestObjectsOf(c.req.raw, c.env, c),
  waitForTurn: (c) => waitForFetchTurn(c.env),
  isClosed: (c) => isFetchClosed(c.req.raw, c.env),
  isSent: (c) => isFetchSent(c.req.raw, c.env),
  onClose: (listener, c) => onFetchClose(listener, c.req.raw, c.env),
  setHeaders(fields, c) {
    for (const [name, value] of Object.entries(fields)) c.header(name, value);
  },
  prepareRefusal(status, c) {
    c.status(status);
    return () => false;
  },
  logError: (error) => console.error(error),
};

/**
 * Creates middleware that admits requests through a gate. On Node, a permit is held until the response has been sent or
 * the client has disconnected. On other runtimes, it is held until the body of the response was read or cancelled or
 * has failed, or the request's signal has aborted.
 *
 * @param options The gate and further settings: {@link LimitOptions}. Functions receive `(c)`.
 * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
 *
 * @example
 * import { Hono } from 'hono';
 * import { Throttle } from 'headgate';
 * import { hono } from 'headgate/http';
 *
 * const app = new Hono();
 * // 100 per second, 20 at a time. The others queue for up to 5 s.
 * app.use(hono({ gate: new Throttle(100, 20), wait: 5 }));
 * app.get('/', (c) => c.text('hello'));
 */
export function hono(options: LimitOptions<[c: HonoContext]>): HonoMiddleware<HonoContext>;
/** The overload for options whose functions declare the type of the context. */
export function hono<C extends HonoContext = HonoContext>(options: LimitOptions<[c: C]>): HonoMiddleware<C>;
export function hono<C extends HonoContext>(options: LimitOptions<[c: C]>): HonoMiddleware<C> {
  const decide = createDecision<[C]>(options, adapter);
  return async function headgate(c, next) {
    const stopWatching = watchUpgrade(c.env);
    const verdict = await decide(c);
    stopWatching?.();
    if (!verdict.allowed) {
      const { status, headers, body } = verdict.reply ?? CLIENT_CLOSED_REQUEST;
      return c.body(body || null, status, headers);
    }
    try {
      await next();
    } catch (error) {
      if (endsWithBody(c.env, 500)) verdict.responseClosed?.();
      throw error;
    } finally {
      verdict.handlerFinished?.();
    }
    const response = watchResponse(
      c.req.raw,
      c.res,
      verdict.fields,
      endsWithBody(c.env, c.res.status) ? verdict.responseClosed : undefined,
    );
    if (response !== c.res) c.res = response;
    return undefined;
  };
}
