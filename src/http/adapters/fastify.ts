/** A plugin for Fastify. */
import { checkObject, invalid } from '../../core/validation.js';
import { createDecision, type LimitOptions, type FrameworkAdapter } from '../decide.js';
import { isPending } from '../callback-timeout.js';
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
import { findRequest } from '../request-state.js';

/** A request of Fastify. */
export interface FastifyRequest {
  /** The request of Node. */
  readonly raw: NodeRequest;
  /** The client's address, by the server's `trustProxy` setting. */
  readonly ip: string;
  /** Who has signed in, if a plugin tells it before the hook. */
  readonly user?: unknown;
  /** The parameters of the route. */
  readonly params: unknown;
  /** The URL as the client sent it. */
  readonly originalUrl: string;
  /** Is told by `error` what `onLimited` throws. */
  readonly log: { error(error: unknown): void };
}

/** A reply of Fastify. */
export interface FastifyReply {
  /** The response of Node. */
  readonly raw: NodeResponse;
  /** Whether it was sent, or somebody else will see to that. */
  readonly sent: boolean;
  /** Sets the status. */
  code(status: number): unknown;
  /** Sets header fields, by name. */
  headers(fields: Record<string, string | string[]>): unknown;
  /** Sends the reply. */
  send(payload: unknown): unknown;
  /** Tells Fastify that it need not reply. */
  hijack(): unknown;
}

/** When the decision is made: `onRequest`, the default, is before the body is read; `preHandler` after authentication. */
export type FastifyHook = 'onRequest' | 'preValidation' | 'preHandler';

/** A server of Fastify, or a part of it. */
export interface FastifyInstance<Request, Reply> {
  /** Adds the hook that decides; which one, {@link FastifyHook} says. */
  addHook(name: 'onRequest', hook: (request: Request, reply: Reply) => Promise<unknown>): unknown;
}

/** What the plugin is made with. */
export type FastifyOptions<Request extends FastifyRequest, Reply extends FastifyReply> = LimitOptions<
  [request: Request, reply: Reply]
> & { hook?: FastifyHook | undefined };

/** A plugin of Fastify. */
export type FastifyPlugin<Request, Reply> = (instance: FastifyInstance<Request, Reply>) => Promise<void>;

/** The requests whose handlers have returned a promise that has not settled yet. */
const running = new WeakSet<object>();

/** A handler of Fastify. */
type Handler = (this: unknown, request: FastifyRequest, reply: FastifyReply) => unknown;

/** The handlers made by {@link followed}: Fastify shows the one of a `GET` route again for its `HEAD` route. */
const followers = new WeakSet<Handler>();

/** A handler that does what `handler` does, and says when its promise has settled. */
function followed(handler: Handler): Handler {
  if (followers.has(handler)) return handler;
  const follower: Handler = function (request, reply) {
    const result = handler.call(this, request, reply);
    // The reply can be awaited, too, but says nothing of the handler.
    if (result === reply || !isPending(result)) return result;
    running.add(request);
    // Once for Fastify and for this: the result may be a query that starts each time that it is awaited.
    const promise = Promise.resolve(result);
    const settled = (): void => {
      running.delete(request);
      const finish = (): void => findRequest([request.raw])?.finish();
      // Hijacked: the handler has finished when it has ended the response.
      if (reply.sent && reply.raw.writableEnded !== true) whenEnded(reply.raw, finish);
      else finish();
    };
    promise.then(settled, settled);
    return promise;
  };
  followers.add(follower);
  return follower;
}

const port: FrameworkAdapter<[FastifyRequest, FastifyReply]> = {
  ip: (request) => request.ip,
  peer: (request) => request.raw.socket.remoteAddress,
  user: (request) => request.user,
  params: (request) => request.params,
  own: (name, request) => propertyOf(request, name),
  header: (name, request) => request.raw.headers[name],
  method: (request) => request.raw.method,
  url: (request) => request.originalUrl,
  carriers: (request) => carriersOf(request.raw, request),
  turn: (request, reply) => turnOf(request.raw, reply.raw),
  over: (request, reply) => isOver(request.raw, reply.raw),
  sent: (_request, reply) => isSent(reply.raw),
  whenOver: (end, _request, reply) => whenOver(reply.raw, end),
  // Where no promise tells it, the end of the response is taken for the end of the handler.
  whenFinished: (end, request, reply) => whenEnded(reply.raw, () => void (running.has(request) || end())),
  announce: (fields, _request, reply) => void reply.headers(fields),
  refusing(status, _, reply) {
    reply.code(status);
    // A stream is under way before the reply counts as sent.
    return () => reply.sent || reply.raw.headersSent;
  },
  report: (error, request) => request.log.error(error),
};

/**
 * A plugin that lets requests through a gate: those of the instance that registers it, and of the instances within.
 * A permit is held until the response has been sent or the client has gone.
 *
 * @param options The gate, and what else there is to say: {@link LimitOptions}. Functions get `(request, reply)`; an
 *   `onLimited` that sends the reply by itself returns it. `hook`: when the decision is made, see {@link FastifyHook}.
 * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
 *
 * @example
 * import createServer from 'fastify';
 * import { Throttle } from 'headgate';
 * import { fastify } from 'headgate/http';
 *
 * const server = createServer();
 * await server.register(fastify({ gate: new Throttle(100, 20), wait: 5 })); // 100 per second, 20 at a time, the others queue for 5 s
 * server.get('/', async () => 'hello');
 */
export function fastify(
  options: FastifyOptions<FastifyRequest, FastifyReply>,
): FastifyPlugin<FastifyRequest, FastifyReply>;
/** The same for options whose functions name the types of the request and the reply. */
export function fastify<Request extends FastifyRequest = FastifyRequest, Reply extends FastifyReply = FastifyReply>(
  options: FastifyOptions<Request, Reply>,
): FastifyPlugin<Request, Reply>;
export function fastify<Request extends FastifyRequest, Reply extends FastifyReply>(
  options: FastifyOptions<Request, Reply>,
): FastifyPlugin<Request, Reply> {
  checkObject('options', options);
  const { hook = 'onRequest' } = options;
  if (!['onRequest', 'preValidation', 'preHandler'].includes(hook))
    throw invalid('hook', "'onRequest', 'preValidation' or 'preHandler'", hook);
  const decide = createDecision<[Request, Reply]>(options, port);
  const headgate = async (instance: FastifyInstance<Request, Reply>): Promise<void> => {
    if (options.hold === 'handler') {
      const routes = instance as unknown as {
        addHook(name: 'onRoute', hook: (route: { handler: Handler }) => void): unknown;
      };
      routes.addHook('onRoute', (route) => void (route.handler = followed(route.handler)));
    }
    instance.addHook(hook as 'onRequest', async (request, reply) => {
      const verdict = await decide(request, reply);
      if (verdict.runs) {
        reply.headers(verdict.fields);
        return undefined;
      }
      if (verdict.reply !== undefined) {
        reply.code(verdict.reply.status);
        reply.headers(verdict.reply.headers);
        const { body } = verdict.reply;
        reply.send(typeof body === 'string' ? body : new Uint8Array(body));
      } else if (port.over(request, reply)) {
        // Nothing will be sent: without this, the handler would run for it.
        reply.hijack();
      }
      return reply;
    });
  };
  // Registered as it is, in the instance itself: otherwise the hook would see no request but those of the plugin.
  return Object.assign(headgate, { [Symbol.for('skip-override')]: true });
}
