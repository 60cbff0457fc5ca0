/**
 * Middleware for Express, for Connect and its like, and for bare `node:http`: whatever calls `(req, res, next)`.
 */
import { createDecision, type LimitOptions, type FrameworkAdapter, type Reply } from '../decide.js';
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

/** A request of Express, or a bare one. */
export interface ExpressRequest extends NodeRequest {
  /** The client's address, by the application's `trust proxy` setting. */
  readonly ip?: string | undefined;
  /** Who has signed in, as Passport and its like tell it. */
  readonly user?: unknown;
  /** The parameters of the route. */
  readonly params?: unknown;
  /** The URL as the client sent it, wherever the router is mounted. */
  readonly originalUrl?: string | undefined;
}

/**
 * Middleware of Express, Connect and `node:http`, for any route. Its request has neither `params` nor the methods that
 * return the request itself, since both name the parameters of one route: with them, Express would infer for the handlers
 * that follow the parameters that the middleware knows, in place of those of the route's own path.
 */
export type ExpressMiddleware<Req, Res> = (
  req: {
    [K in keyof Req as K extends 'params' ? never : Req[K] extends (...args: never[]) => Req ? never : K]: Req[K];
  },
  res: Res,
  next: (error?: unknown) => void,
) => void;

const port: FrameworkAdapter<[ExpressRequest, NodeResponse]> = {
  ip: (req) => req.ip ?? req.socket.remoteAddress,
  peer: (req) => req.socket.remoteAddress,
  user: (req) => req.user,
  params: (req) => req.params,
  own: (name, req) => propertyOf(req, name),
  header: (name, req) => req.headers[name],
  method: (req) => req.method,
  url: (req) => (req.originalUrl ?? req.url)!,
  carriers: (req) => carriersOf(req),
  turn: turnOf,
  over: isOver,
  sent: (_req, res) => isSent(res),
  whenOver: (end, _req, res) => whenOver(res, end),
  whenFinished: (end, _req, res) => whenEnded(res, end),
  announce: (fields, _req, res) => announce(res, fields),
  refusing(status, _, res) {
    const begun = res.headersSent;
    res.statusCode = status;
    return () => res.headersSent !== begun;
  },
  // So does Express, with the errors that nobody handles.
  report: (error) => console.error(error),
};

/**
 * Middleware that lets requests through a gate. A permit is held until the response has been sent or the client has
 * gone. Handlers after it run as ever; one that fails keeps its permit until the error's response was sent.
 *
 * @param options The gate, and what else there is to say: {@link LimitOptions}. Functions get `(req, res)`.
 * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
 *
 * @example
 * import createApp from 'express';
 * import { Throttle } from 'headgate';
 * import { express } from 'headgate/http';
 *
 * const app = createApp();
 * app.use(express({ gate: new Throttle(100, 20), wait: 5 })); // 100 per second, 20 at a time, the others queue for 5 s
 * app.get('/', (req, res) => void res.send('hello'));
 */
export function express(
  options: LimitOptions<[req: ExpressRequest, res: NodeResponse]>,
): ExpressMiddleware<ExpressRequest, NodeResponse>;
/** The same for options whose functions name the types of the request and the response. */
export function express<Req extends ExpressRequest = ExpressRequest, Res extends NodeResponse = NodeResponse>(
  options: LimitOptions<[req: Req, res: Res]>,
): ExpressMiddleware<Req, Res>;
export function express<Req extends ExpressRequest, Res extends NodeResponse>(
  options: LimitOptions<[req: Req, res: Res]>,
): ExpressMiddleware<Req, Res> {
  const decide = createDecision<[Req, Res]>(options, port);
  return function headgate(req, res, next) {
    void decide(req as Req, res).then((verdict) => {
      if (!verdict.runs) return verdict.reply && send(res, verdict.reply);
      announce(res, verdict.fields);
      return next();
    }, next);
  };
}

function announce(res: NodeResponse, fields: Reply['headers']): void {
  if (res.headersSent) return;
  for (const [name, value] of Object.entries(fields)) res.setHeader(name, value);
}

function send(res: NodeResponse, { status, headers, body }: Reply): void {
  // A response that has begun can only be ended.
  const rest = res.headersSent ? '' : typeof body === 'string' ? body : new Uint8Array(body);
  announce(res, headers);
  res.statusCode = status;
  res.end(rest);
}
