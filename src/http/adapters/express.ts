/** Middleware for Express, Connect, bare `node:http`, and other callers of `(req, res, next)`. */
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
import type { Reply } from '../refusal.js';

/** A request of Express or of `node:http`. */
export interface ExpressRequest extends NodeRequest {
  /** The client's address, according to the application's `trust proxy` setting. */
  readonly ip?: string | undefined;
  /** The authenticated user, as Passport and similar middleware set it. */
  readonly user?: unknown;
  /** The parameters of the route. */
  readonly params?: unknown;
  /** The URL as the client sent it. A router does not change it. */
  readonly originalUrl?: string | undefined;
}

/**
 * Middleware of Express, Connect and `node:http`, for any route. The type of its request omits `params` and the methods
 * that return the request itself, because their types contain the parameters of one route. Express would otherwise
 * infer the parameters of later handlers from the middleware, and not from the route's path.
 */
export type ExpressMiddleware<Req, Res> = (
  req: {
    [K in keyof Req as K extends 'params' ? never : Req[K] extends (...args: never[]) => Req ? never : K]: Req[K];
  },
  res: Res,
  next: (error?: unknown) => void,
) => void;

const adapter: FrameworkAdapter<[ExpressRequest, NodeResponse]> = {
  name: 'express',
  ip: (req) => req.ip ?? req.socket.remoteAddress,
  socketAddress: (req) => req.socket.remoteAddress,
  user: (req) => req.user,
  params: (req) => req.params,
  property: (name, req) => propertyOf(req, name),
  header: (name, req) => req.headers[name],
  method: (req) => req.method,
  url: (req) => (req.originalUrl ?? req.url)!,
  requestObjects: (req) => [req],
  waitForTurn,
  isClosed,
  isSent: (_req, res) => isSent(res),
  onClose: (listener, _req, res) => onClose(res, listener),
  onHandlerFinish: (listener, _req, res) => onEnd(res, listener),
  setHeaders: (fields, _req, res) => setHeaders(res, fields),
  prepareRefusal(status, _, res) {
    const before = res.headersSent;
    res.statusCode = status;
    return () => res.headersSent !== before;
  },
  // Express logs unhandled errors to the console, too.
  logError: (error) => console.error(error),
};

export { adapter as expressAdapter };

/**
 * Creates middleware that admits requests through a gate. A permit is held until the response has been sent or the
 * client has disconnected. If a later handler fails, the permit is held until the error response has been sent.
 *
 * @param options The gate and further settings: {@link LimitOptions}. Functions receive `(req, res)`.
 * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
 *
 * @example
 * import createApp from 'express';
 * import { Throttle } from 'headgate';
 * import { express } from 'headgate/http';
 *
 * const app = createApp();
 * // 100 per second, 20 at a time. The others queue for up to 5 s.
 * app.use(express({ gate: new Throttle(100, 20), wait: 5 }));
 * app.get('/', (req, res) => void res.send('hello'));
 */
export function express(
  options: LimitOptions<[req: ExpressRequest, res: NodeResponse]>,
): ExpressMiddleware<ExpressRequest, NodeResponse>;
/** The overload for options whose functions declare the types of the request and the response. */
export function express<Req extends ExpressRequest = ExpressRequest, Res extends NodeResponse = NodeResponse>(
  options: LimitOptions<[req: Req, res: Res]>,
): ExpressMiddleware<Req, Res>;
export function express<Req extends ExpressRequest, Res extends NodeResponse>(
  options: LimitOptions<[req: Req, res: Res]>,
): ExpressMiddleware<Req, Res> {
  const decide = createDecision<[Req, Res]>(options, adapter);
  return function headgate(req, res, next) {
    void decide(req as Req, res).then((verdict) => {
      if (!verdict.allowed) return verdict.reply && send(res, verdict.reply);
      setHeaders(res, verdict.fields);
      return next();
    }, next);
  };
}

function setHeaders(res: NodeResponse, fields: Reply['headers']): void {
  if (res.headersSent) return;
  for (const [name, value] of Object.entries(fields)) res.setHeader(name, value);
}

function send(res: NodeResponse, { status, headers, body }: Reply): void {
  // After the header, nothing but the end of the response can be sent.
  const rest = res.headersSent ? '' : typeof body === 'string' ? body : new Uint8Array(body);
  setHeaders(res, headers);
  res.statusCode = status;
  res.end(rest);
}
