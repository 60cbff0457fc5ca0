/** Middleware for Hono, on Node and elsewhere. */
import { createDecision, type LimitOptions, type FrameworkAdapter } from '../decide.js';
import { propertyOf } from '../platform/node.js';
import { deliver, NOBODY } from '../platform/response.js';
import { addressOf, carriersIn, isDone, nodeOf, turnIn, wasSent, whenDone } from '../platform/runtime.js';

/** A request of Hono. */
export interface HonoRequest {
  /** The request, as the platform has it. */
  readonly raw: Request;
  /** Such as `GET`. */
  readonly method: string;
  /** The path of the URL. */
  readonly path: string;
  /** The whole URL. */
  readonly url: string;
  /** The parameters of the route. */
  param(): unknown;
  /** A header field, by its name in any case. */
  header(name: string): string | undefined;
  /** The first parameter of that name in the query. */
  query(name: string): string | undefined;
}

/** A context of Hono. */
export interface HonoContext {
  /** The request. */
  readonly req: HonoRequest;
  /** What the runtime hands over. */
  readonly env: unknown;
  /** What `c.set` has set. */
  readonly var: object;
  /** What `c.set` has set under `key`: of any type, as what `JSON.parse` returns, since an application knows its own variables. */
  get(key: string): ReturnType<typeof JSON.parse>;
  /** The response; once the handlers are done, theirs. */
  res: Response;
  /** Sets the status of the response to come. */
  status(status: number): void;
  /** Sets a header field of the response to come. */
  header(name: string, value: string): void;
  /** Makes a response. */
  body(data: string | ArrayBuffer | null, status: number, headers: Record<string, string | string[]>): Response;
}

/** Middleware of Hono. */
export type HonoMiddleware<C> = (c: C, next: () => Promise<void>) => Promise<Response | undefined>;

const port: FrameworkAdapter<[HonoContext]> = {
  ip: (c) => addressOf(c.req.raw, c.env),
  user: (c) => propertyOf(c.var, 'user'),
  params: (c) => c.req.param(),
  own: (name, c) => propertyOf(c.var, name),
  header: (name, c) => c.req.raw.headers.get(name),
  method: (c) => c.req.raw.method,
  url: (c) => c.req.raw.url,
  carriers: (c) => carriersIn(c.req.raw, c.env, c),
  turn: (c) => turnIn(c.env),
  over: (c) => isDone(c.req.raw, c.env),
  sent: (c) => wasSent(c.req.raw, c.env),
  whenOver: (end, c) => whenDone(end, c.req.raw, c.env),
  announce(fields, c) {
    for (const [name, value] of Object.entries(fields)) c.header(name, value);
  },
  refusing(status, c) {
    c.status(status);
    return () => false;
  },
  report: (error) => console.error(error),
};

/**
 * Middleware that lets requests through a gate. A permit is held until the response has been sent or the client has
 * gone; where the runtime is not Node, until the body of the response was read, cancelled or broken off.
 *
 * @param options The gate, and what else there is to say: {@link LimitOptions}. Functions get `(c)`.
 * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
 *
 * @example
 * import { Hono } from 'hono';
 * import { Throttle } from 'headgate';
 * import { hono } from 'headgate/http';
 *
 * const app = new Hono();
 * app.use(hono({ gate: new Throttle(100, 20), wait: 5 })); // 100 per second, 20 at a time, the others queue for 5 s
 * app.get('/', (c) => c.text('hello'));
 */
export function hono(options: LimitOptions<[c: HonoContext]>): HonoMiddleware<HonoContext>;
/** The same for options whose functions name the type of the context. */
export function hono<C extends HonoContext = HonoContext>(options: LimitOptions<[c: C]>): HonoMiddleware<C>;
export function hono<C extends HonoContext>(options: LimitOptions<[c: C]>): HonoMiddleware<C> {
  const decide = createDecision<[C]>(options, port);
  return async function headgate(c, next) {
    const verdict = await decide(c);
    if (!verdict.runs) {
      const { status, headers, body } = verdict.reply ?? NOBODY;
      return c.body(body || null, status, headers);
    }
    const over = nodeOf(c.env) === undefined ? verdict.over : undefined;
    try {
      await next();
    } catch (error) {
      over?.();
      throw error;
    } finally {
      verdict.finished?.();
    }
    const response = deliver(c.req.raw, c.res, verdict.fields, over);
    if (response !== c.res) c.res = response;
    return undefined;
  };
}
