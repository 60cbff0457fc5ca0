/** A wrapper for handlers from `Request` to `Response`: Deno, Bun, workers, route handlers. */
import { checkFunction } from '../../core/validation.js';
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
import { responseOf } from '../refusal.js';

/** The source of the type {@link WebHandler}. */
interface HandlerMethod {
  /** A method: TypeScript then accepts handlers of subclasses of `Request`, such as `NextRequest`. */
  handle(request: Request, ...rest: unknown[]): Response | PromiseLike<Response>;
}

/** A handler. It receives a `Request` or an instance of a subclass, and the further arguments of the runtime. */
export type WebHandler = HandlerMethod['handle'];

/** The arguments of a handler. The first argument is a request, even if the handler declares no parameters. */
export type WebArguments<Handler extends WebHandler> =
  Parameters<Handler> extends [infer Req extends Request, ...infer Rest]
    ? [request: Req, ...rest: Rest]
    : [request: Request];

const adapter: FrameworkAdapter<[request: Request, ...rest: unknown[]]> = {
  name: 'web',
  ip: (request, connection) => remoteAddress(request, connection),
  user: (request) => (request as { user?: unknown }).user,
  params: () => undefined,
  property: (name, request) => propertyOf(request, name),
  header: (name, request) => request.headers.get(name),
  method: (request) => request.method,
  url: (request) => request.url,
  requestObjects: (request, connection) => requestObjectsOf(request, connection),
  waitForTurn: (_request, connection) => waitForFetchTurn(connection),
  isClosed: (request, connection) => isFetchClosed(request, connection),
  isSent: (request, connection) => isFetchSent(request, connection),
  onClose: (listener, request, connection) => onFetchClose(listener, request, connection),
  setHeaders: () => {},
  prepareRefusal: () => () => false,
  logError: (error) => console.error(error),
};

/**
 * Wraps `handler` in a handler that admits requests through a gate. A permit is held until the body of the response was
 * read or cancelled or has failed, or the request's signal has aborted. On Node, it is held until the response has been
 * sent or the client has disconnected. For that, pass on the `incoming` and `outgoing` of `@hono/node-server`.
 *
 * With the key `'ip'`, the address comes from the second argument: Deno's `info`, Bun's `server`. Other runtimes do not
 * provide the address there: use a key function.
 *
 * In Cloudflare's workers, one request cannot wait for another: put a gate with `wait` into a Durable Object.
 *
 * @param handler Receives the request and the further arguments of the runtime.
 * @param options The gate and further settings: {@link LimitOptions}. Functions receive the arguments of `handler`.
 * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { web } from 'headgate/http';
 *
 * const fetch = web(async (request) => new Response(`hello from ${request.url}`), { gate: new Throttle(1, 0, 60) });
 * console.log((await fetch(new Request('http://localhost/first'))).status);  // → 200
 * console.log((await fetch(new Request('http://localhost/second'))).status); // → 429
 */
export function web<Handler extends WebHandler>(
  handler: Handler,
  options: LimitOptions<WebArguments<Handler>>,
): (...args: WebArguments<Handler>) => Promise<Response> {
  checkFunction('handler', handler);
  const decide = createDecision<WebArguments<Handler>>(options, adapter);
  return async function headgate(...args) {
    const [request, connection] = args as [Request, ...unknown[]];
    const stopWatching = watchUpgrade(connection);
    const verdict = await decide(...args);
    stopWatching?.();
    if (!verdict.allowed) {
      return responseOf(verdict.reply ?? CLIENT_CLOSED_REQUEST, verdict.fields, request.method === 'HEAD');
    }
    try {
      const response = await handler(...(args as [Request, ...unknown[]]));
      return watchResponse(
        request,
        response,
        verdict.fields,
        endsWithBody(connection, response.status) ? verdict.responseClosed : undefined,
      );
    } catch (error) {
      if (endsWithBody(connection, 500)) verdict.responseClosed?.();
      throw error;
    } finally {
      verdict.handlerFinished?.();
    }
  };
}
