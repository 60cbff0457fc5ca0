/**
 * A wrapper for handlers that take a `Request` and return a `Response`: Deno, Bun, workers, route handlers.
 */
import { checkFunction } from '../../core/validation.js';
import { createDecision, type LimitOptions, type FrameworkAdapter } from '../decide.js';
import { propertyOf } from '../platform/node.js';
import { responseOf } from '../refusal.js';
import { deliver, NOBODY } from '../platform/response.js';
import { addressOf, carriersIn, isDone, nodeOf, turnIn, wasSent, whenDone } from '../platform/runtime.js';

/** What has a handler. */
interface Handles {
  /** A method, whose parameters may be of subclasses, such as `NextRequest`. */
  handle(request: Request, ...rest: unknown[]): Response | PromiseLike<Response>;
}

/** A handler of requests, or of a subclass of `Request`, with whatever else the runtime hands over. */
export type WebHandler = Handles['handle'];

/** What a handler gets. One that takes no request gets one all the same. */
export type WebArguments<Handler extends WebHandler> =
  Parameters<Handler> extends [infer Req extends Request, ...infer Rest]
    ? [request: Req, ...rest: Rest]
    : [request: Request];

const port: FrameworkAdapter<[request: Request, ...rest: unknown[]]> = {
  ip: (request, connection) => addressOf(request, connection),
  user: (request) => (request as { user?: unknown }).user,
  params: () => undefined,
  own: (name, request) => propertyOf(request, name),
  header: (name, request) => request.headers.get(name),
  method: (request) => request.method,
  url: (request) => request.url,
  carriers: (request, connection) => carriersIn(request, connection),
  turn: (_request, connection) => turnIn(connection),
  over: (request, connection) => isDone(request, connection),
  sent: (request, connection) => wasSent(request, connection),
  whenOver: (end, request, connection) => whenDone(end, request, connection),
  announce: () => {},
  refusing: () => () => false,
  report: (error) => console.error(error),
};

/**
 * A handler that lets requests through a gate to `handler`. A permit is held until the body of the response was read
 * to its end, cancelled or broken off, or the request's signal has aborted; on Node (where `@hono/node-server` hands
 * over its `incoming` and `outgoing`: pass them on) until the response has been sent or the client has gone.
 *
 * Where the key is `'ip'`, the address comes from the second argument: Deno's `info`, Bun's `server`. Other runtimes
 * do not tell it; there a function knows it.
 *
 * In Cloudflare's workers, where no request may wait for another, a gate with `wait` belongs into a Durable Object.
 *
 * @param handler Gets the request and whatever else the runtime hands over.
 * @param options The gate, and what else there is to say: {@link LimitOptions}. Functions get what `handler` gets.
 * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { web } from 'headgate/http';
 *
 * const fetch = web(async (request) => new Response(`you asked for ${request.url}`), { gate: new Throttle(1, 0, 60) });
 * console.log((await fetch(new Request('http://localhost/first'))).status);  // → 200
 * console.log((await fetch(new Request('http://localhost/second'))).status); // → 429
 */
export function web<Handler extends WebHandler>(
  handler: Handler,
  options: LimitOptions<WebArguments<Handler>>,
): (...args: WebArguments<Handler>) => Promise<Response> {
  checkFunction('handler', handler);
  const decide = createDecision<WebArguments<Handler>>(options, port);
  return async function headgate(...args) {
    const [request, connection] = args as [Request, ...unknown[]];
    const verdict = await decide(...args);
    if (!verdict.runs) return responseOf(verdict.reply ?? NOBODY, verdict.fields, request.method === 'HEAD');
    const over = nodeOf(connection) === undefined ? verdict.over : undefined;
    try {
      return deliver(request, await handler(...(args as [Request, ...unknown[]])), verdict.fields, over);
    } catch (error) {
      over?.();
      throw error;
    } finally {
      verdict.finished?.();
    }
  };
}
