/** A plugin for Fastify. */
import { checkObject, invalid } from '../../core/validation.js';
import { isPromiseLike } from '../../core/promise-like.js';
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
import { findState } from '../request-state.js';

/** A request of Fastify. */
export interface FastifyRequest {
  /** The request of Node. */
  readonly raw: NodeRequest;
  /** The client's address, according to the server's `trustProxy` setting. */
  readonly ip: string;
  /** The authenticated user, if a plugin sets it before the hook. */
  readonly user?: unknown;
  /** The parameters of the route. */
  readonly params: unknown;
  /** The URL as the client sent it. */
  readonly originalUrl: string;
  /** The log. It receives the errors of `onLimited`. */
  readonly log: { error(error: unknown): void };
}

/** A reply of Fastify. */
export interface FastifyReply {
  /** The response of Node. */
  readonly raw: NodeResponse;
  /** Whether the reply was sent or hijacked. */
  readonly sent: boolean;
  /** Sets the status. */
  code(status: number): unknown;
  /** Sets header fields, by name. */
  headers(fields: Record<string, string | string[]>): unknown;
  /** Sends the reply. */
  send(payload: unknown): unknown;
  /** Prevents Fastify from sending a reply. */
  hijack(): unknown;
}

/** The hook that decides: `onRequest`, the default, before the body is read; `preHandler` after authentication. */
export type FastifyHook = 'onRequest' | 'preValidation' | 'preHandler';

/** A Fastify server, or an encapsulated instance of it. */
export interface FastifyInstance<Request, Reply> {
  /** Adds the hook that decides: {@link FastifyHook}. */
  addHook(name: 'onRequest', hook: (request: Request, reply: Reply) => Promise<unknown>): unknown;
}

/** The options of the plugin. */
export type FastifyOptions<Request extends FastifyRequest, Reply extends FastifyReply> = LimitOptions<
  [request: Request, reply: Reply]
> & { hook?: FastifyHook | undefined };

/** A plugin of Fastify. */
export type FastifyPlugin<Request, Reply> = (instance: FastifyInstance<Request, Reply>) => Promise<void>;

/** The requests whose handlers have returned a promise that is still pending. */
const pendingRequests = new WeakSet<object>();

/** A handler of Fastify. */
type Handler = (this: unknown, request: FastifyRequest, reply: FastifyReply) => unknown;

/** Returns a handler that calls `handler` and reports when the promise of `handler` has settled. */
function observe(handler: Handler): Handler {
  return function (request, reply) {
    const result = handler.call(this, request, reply);
    // The reply is thenable, too, but it settles independently of the handler.
    if (result === reply || !isPromiseLike(result)) return result;
    pendingRequests.add(request);
    // Fastify receives the same promise, so `then` of the result is called once: a query may start with each call.
    const promise = Promise.resolve(result);
    const settled = (): void => {
      pendingRequests.delete(request);
      const finish = (): void => findState([request.raw])?.handlerFinished();
      // A hijacked reply: the handler has finished when it has ended the response.
      if (reply.sent && reply.raw.writableEnded !== true) onEnd(reply.raw, finish);
      else finish();
    };
    promise.then(settled, settled);
    return promise;
  };
}

const adapter: FrameworkAdapter<[FastifyRequest, FastifyReply]> = {
  name: 'fastify',
  ip: (request) => request.ip,
  socketAddress: (request) => request.raw.socket.remoteAddress,
  user: (request) => request.user,
  params: (request) => request.params,
  property: (name, request) => propertyOf(request, name),
  header: (name, request) => request.raw.headers[name],
  method: (request) => request.raw.method,
  url: (request) => request.originalUrl,
  requestObjects: (request) => [request.raw, request],
  waitForTurn: (request, reply) => waitForTurn(request.raw, reply.raw),
  isClosed: (request, reply) => isClosed(request.raw, reply.raw),
  isSent: (_request, reply) => isSent(reply.raw),
  onClose: (listener, _request, reply) => onClose(reply.raw, listener),
  // A handler without a promise counts as finished at the end of its response.
  onHandlerFinish: (listener, request, reply) =>
    onEnd(reply.raw, () => void (pendingRequests.has(request) || listener())),
  setHeaders: (fields, _request, reply) => void reply.headers(fields),
  prepareRefusal(status, _, reply) {
    reply.code(status);
    // For a stream, the header is sent before `sent` is true.
    return () => reply.sent || reply.raw.headersSent;
  },
  logError: (error, request) => request.log.error(error),
};

export { adapter as fastifyAdapter };

/** Creates the hook that decides. Its result is the reply if the handler must not run. */
function createHook<Request extends FastifyRequest, Reply extends FastifyReply>(
  options: LimitOptions<[request: Request, reply: Reply]>,
  ownOptions: readonly string[] = [],
): FastifyRouteHook<Request, Reply> {
  const decide = createDecision<[Request, Reply]>(options, adapter, ownOptions);
  return async function headgate(request, reply) {
    const verdict = await decide(request, reply);
    if (verdict.allowed) {
      reply.headers(verdict.fields);
      return undefined;
    }
    if (verdict.reply !== undefined) {
      reply.code(verdict.reply.status);
      reply.headers(verdict.reply.headers);
      const { body } = verdict.reply;
      reply.send(typeof body === 'string' ? body : new Uint8Array(body));
    } else if (adapter.isClosed(request, reply)) {
      // The client has disconnected. Without the hijack, Fastify would call the handler.
      reply.hijack();
    }
    return reply;
  };
}

function createPlugin<Request extends FastifyRequest, Reply extends FastifyReply>(
  options: FastifyOptions<Request, Reply>,
): FastifyPlugin<Request, Reply> {
  checkObject('options', options);
  const { hook = 'onRequest' } = options;
  if (!['onRequest', 'preValidation', 'preHandler'].includes(hook))
    throw invalid('hook', "'onRequest', 'preValidation' or 'preHandler'", hook);
  const decide = createHook(options, ['hook']);
  const headgate = async (instance: FastifyInstance<Request, Reply>): Promise<void> => {
    if (options.hold === 'handler') {
      const routes = instance as unknown as {
        addHook(name: 'onRoute', hook: (route: { handler: Handler }) => void): unknown;
      };
      routes.addHook('onRoute', (route) => void (route.handler = observe(route.handler)));
    }
    instance.addHook(hook as 'onRequest', decide);
  };
  // Without encapsulation: the hook of an encapsulated plugin would receive only the requests of the plugin's own
  // routes.
  return Object.assign(headgate, { [Symbol.for('skip-override')]: true });
}

/** The plugin for Fastify, and the hook for a single route. */
export interface FastifyAdapter {
  /**
   * Creates a plugin that admits requests through a gate: the requests of the instance that registers the plugin, and
   * of the instances inside it. A permit is held until the response has been sent or the client has disconnected.
   *
   * @param options The gate and further settings: {@link LimitOptions}. Functions receive `(request, reply)`; an
   *   `onLimited` that sends the reply itself returns the reply. `hook` selects the hook that decides: {@link
   *   FastifyHook}.
   * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
   *
   * @example
   * import createServer from 'fastify';
   * import { Throttle } from 'headgate';
   * import { fastify } from 'headgate/http';
   *
   * const server = createServer();
   * // 100 per second, 20 at a time. The others queue for up to 5 s.
   * await server.register(fastify({ gate: new Throttle(100, 20), wait: 5 }));
   * server.get('/', async () => 'hello');
   */
  (options: FastifyOptions<FastifyRequest, FastifyReply>): FastifyPlugin<FastifyRequest, FastifyReply>;
  /** The overload for options whose functions declare the types of the request and the reply. */
  <Request extends FastifyRequest = FastifyRequest, Reply extends FastifyReply = FastifyReply>(
    options: FastifyOptions<Request, Reply>,
  ): FastifyPlugin<Request, Reply>;
  /** Creates a hook that admits the requests of single routes: {@link FastifyRoute}. */
  readonly route: FastifyRoute;
}

/**
 * Creates a hook that admits the requests of the routes that list it. The name of the hook in the route decides when:
 * `onRequest` before the body is read, `preHandler` after authentication and with the parsed body. The same hook may
 * belong to any number of routes, which then share its limit. A route may list several hooks.
 *
 * With `hold: 'handler'`, the handler of the route has finished when it has ended the response. The plugin also observes
 * the promise of a handler that replies first and goes on working: such a handler needs the plugin.
 */
export interface FastifyRoute {
  /**
   * Creates the hook: {@link FastifyRoute}.
   *
   * @param options The gate and further settings: {@link LimitOptions}. Functions receive `(request, reply)`.
   * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
   *
   * @example
   * import createServer from 'fastify';
   * import { Throttle } from 'headgate';
   * import { fastify } from 'headgate/http';
   *
   * const server = createServer();
   * const exportLimit = fastify.route({ gate: new Throttle(Infinity, 2), hold: 'handler' }); // two exports at a time
   * server.get('/export', { preHandler: exportLimit }, async () => 'all of it');
   */
  (
    options: LimitOptions<[request: FastifyRequest, reply: FastifyReply]>,
  ): FastifyRouteHook<FastifyRequest, FastifyReply>;
  /** The overload for options whose functions declare the types of the request and the reply. */
  <Request extends FastifyRequest = FastifyRequest, Reply extends FastifyReply = FastifyReply>(
    options: LimitOptions<[request: Request, reply: Reply]>,
  ): FastifyRouteHook<Request, Reply>;
}

/** A hook of a route: `onRequest`, `preParsing`, `preValidation` or `preHandler`. */
export type FastifyRouteHook<Request, Reply> = (request: Request, reply: Reply) => Promise<unknown>;

/** The adapter for Fastify: a plugin, and `fastify.route` for single routes. */
export const fastify: FastifyAdapter = /* @__PURE__ */ Object.assign(
  <Request extends FastifyRequest, Reply extends FastifyReply>(
    options: FastifyOptions<Request, Reply>,
  ): FastifyPlugin<Request, Reply> => createPlugin(options),
  {
    route: <Request extends FastifyRequest, Reply extends FastifyReply>(
      options: LimitOptions<[request: Request, reply: Reply]>,
    ): FastifyRouteHook<Request, Reply> => createHook(options),
  },
);
