/** A limit for upgrades: it holds a permit for the life of a socket, such as the socket of a WebSocket. */
import { checkFunction, invalid } from '../../core/validation.js';
import { createDecision } from '../decide.js';
import type { FrameworkAdapter } from '../framework-adapter.js';
import type { LimitOptions } from '../options.js';
import { type NodeRequest, propertyOf } from '../platform/node-response.js';
import { onSocketClose, type UpgradeSocket, watchForEnd } from '../platform/upgrade-socket.js';
import { type Fields, NO_FIELDS } from '../ratelimit-fields.js';
import { headersOf, problemReply, type Reply } from '../refusal.js';

/** A request that asks for an upgrade. */
export interface UpgradeRequest extends NodeRequest {
  /** The authenticated user, if the application sets it. */
  readonly user?: unknown;
}

/** Admits one upgrade: see {@link limitUpgrade}. */
export type UpgradeLimit<Req, Socket> = (req: Req, socket: Socket, next: () => void) => void;

const adapter: FrameworkAdapter<[UpgradeRequest, UpgradeSocket]> = {
  name: 'limitUpgrade',
  ip: (req) => req.socket.remoteAddress,
  socketAddress: (req) => req.socket.remoteAddress,
  user: (req) => req.user,
  params: () => undefined,
  property: (name, req) => propertyOf(req, name),
  header: (name, req) => req.headers[name],
  method: (req) => req.method,
  url: (req) => req.url!,
  requestObjects: (req) => [req],
  isClosed: (_req, socket) => socket.destroyed,
  isSent: () => true,
  onClose: (listener, _req, socket) => onSocketClose(socket, listener),
  setHeaders: () => {},
  prepareRefusal: () => () => false,
  logError: (error) => console.error(error),
};

/**
 * Creates a limit for the `'upgrade'` event of a server of Node. A permit is held until the socket is closed, however
 * it is closed. A refused client receives a response with status 429 or 503, and the socket is closed. A client that
 * disconnects while it queues leaves the queue.
 *
 * The limit calls `next` once for an admitted upgrade, and never for a refused one. An error of the gate or of a
 * function of the options is logged to the console, and the client receives a 500. An error that `next` throws is
 * logged, and the socket is closed. Until `next` is called, the socket has a listener for its errors. Afterwards, the
 * owner of the socket needs one: `ws` has one.
 *
 * `permitOf(req)` returns the permit. The option `hold` has no effect.
 *
 * @param options The gate and further settings: {@link LimitOptions}. Functions receive `(req, socket)`. The result of
 *   `onLimited` is the response.
 * @throws {RangeError | TypeError} An option is out of range, or `onLimited` is `'throw'`: an upgrade has no error
 *   handler.
 *
 * @example
 * import { KeyedThrottle } from 'headgate';
 * import { limitUpgrade } from 'headgate/http';
 * import { createServer } from 'node:http';
 * import { WebSocketServer } from 'ws';
 *
 * const sockets = new WebSocketServer({ noServer: true });
 * const limit = limitUpgrade({ keyed: new KeyedThrottle(Infinity, 5), key: 'ip' }); // 5 sockets for each address
 * const server = createServer();
 * server.on('upgrade', (request, socket, head) => {
 *   limit(request, socket, () => {
 *     sockets.handleUpgrade(request, socket, head, (ws) => void sockets.emit('connection', ws, request));
 *   });
 * });
 */
export function limitUpgrade(
  options: LimitOptions<[req: UpgradeRequest, socket: UpgradeSocket]>,
): UpgradeLimit<UpgradeRequest, UpgradeSocket>;
/** The overload for options whose functions declare the types of the request and the socket. */
export function limitUpgrade<Req extends UpgradeRequest = UpgradeRequest, Socket extends UpgradeSocket = UpgradeSocket>(
  options: LimitOptions<[req: Req, socket: Socket]>,
): UpgradeLimit<Req, Socket>;
export function limitUpgrade<Req extends UpgradeRequest, Socket extends UpgradeSocket>(
  options: LimitOptions<[req: Req, socket: Socket]>,
): UpgradeLimit<Req, Socket> {
  const decide = createDecision<[Req, Socket]>(options && { ...options, hold: 'response' }, adapter);
  if (options.onLimited === 'throw')
    throw invalid('onLimited', 'a function, because an upgrade has no error handler', options.onLimited);
  return function headgate(req, socket, next) {
    checkFunction('next', next);
    const stopWatching = watchForEnd(socket);
    void decide(req, socket).then(
      (verdict) => {
        if (!verdict.allowed) return respond(socket, verdict.reply, verdict.fields);
        stopWatching();
        return callNext(next, socket);
      },
      (error) => {
        console.error(error);
        respond(socket, problemReply(500, 'Internal Server Error', 'The server has failed.'), NO_FIELDS);
      },
    );
  };
}

function callNext(next: () => void, socket: UpgradeSocket): void {
  try {
    next();
  } catch (error) {
    console.error(error);
    socket.destroy();
  }
}

/** The header fields that describe the connection. The response ends the connection, so it has its own values. */
const CONNECTION_FIELDS = ['connection', 'content-length', 'keep-alive', 'transfer-encoding', 'upgrade'];

/**
 * Writes a response, and closes the socket. The parser of Node no longer belongs to the socket, so nothing else would
 * write or close. Without a reply, the client has disconnected.
 */
function respond(socket: UpgradeSocket, reply: Reply | undefined, fields: Fields): void {
  if (reply === undefined || socket.destroyed) return void socket.destroy();
  const headers = headersOf(reply, fields);
  for (const name of CONNECTION_FIELDS) headers.delete(name);
  const { status } = reply;
  const body = typeof reply.body === 'string' ? new TextEncoder().encode(reply.body) : new Uint8Array(reply.body);
  // The reason phrase is optional: RFC 9112, section 4.
  let head = `HTTP/1.1 ${status} \r\nConnection: close\r\nContent-Length: ${body.byteLength}\r\n`;
  for (const [name, value] of headers) head += `${name}: ${value}\r\n`;
  const start = new TextEncoder().encode(`${head}\r\n`);
  const all = new Uint8Array(start.byteLength + body.byteLength);
  all.set(start);
  all.set(body, start.byteLength);
  socket.on('finish', () => void socket.destroy());
  socket.end(all);
}
