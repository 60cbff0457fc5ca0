/**
 * What runtimes hand to a `fetch` handler beside the request, and where in it they tell the client's address.
 */
import { isOver, isSent, type NodeRequest, type NodeResponse, turnOf, whenOver } from './node.js';

/** Node's own request and response, where `@hono/node-server` runs the handler. */
export interface NodeConnection {
  readonly incoming: NodeRequest;
  readonly outgoing: NodeResponse;
}

interface BunServer {
  requestIP(request: Request): { readonly address: string } | null;
}

type Connection = Partial<NodeConnection & BunServer> & { server?: BunServer; remoteAddr?: { hostname?: string } };

/**
 * The address at the other end of the connection. Of header fields nothing is taken: a client writes what it likes.
 *
 * @param connection What the runtime hands over: Node's `incoming`, Deno's `info`, Bun's `server`.
 * @throws {TypeError} The runtime does not say.
 */
export function addressOf(request: Request, connection: unknown): string | undefined {
  const { incoming, remoteAddr, server = connection } = (connection ?? {}) as Connection;
  if (incoming !== undefined) return incoming.socket.remoteAddress;
  if (remoteAddr !== undefined) return remoteAddr.hostname;
  const { requestIP } = (server ?? {}) as Partial<BunServer>;
  if (typeof requestIP === 'function') return requestIP.call(server, request)?.address;
  throw new TypeError('this runtime tells no addresses of clients: key must be a function that knows it');
}

/** Node's request and response, if they are there. */
export function nodeOf(connection: unknown): NodeConnection | undefined {
  const node = connection as NodeConnection | undefined;
  return node?.incoming && node.outgoing ? node : undefined;
}

/** The objects that stand for a request. */
export function carriersIn(request: Request, connection: unknown, framework?: object): readonly object[] {
  const node = nodeOf(connection);
  return [...(framework === undefined ? [] : [framework]), ...(node === undefined ? [] : [node.incoming]), request];
}

/** Waits for the turn of the response on its connection, where Node runs the handler. */
export function turnIn(connection: unknown): Promise<void> | undefined {
  const node = nodeOf(connection);
  return node && turnOf(node.incoming, node.outgoing);
}

/** Whether the response was sent, or the client has gone. */
export function isDone({ signal }: Request, connection: unknown): boolean {
  const node = nodeOf(connection);
  return node === undefined ? signal.aborted : isOver(node.incoming, node.outgoing);
}

/** Of a response that is over: whether all of it was sent. */
export function wasSent({ signal }: Request, connection: unknown): boolean {
  const node = nodeOf(connection);
  return node === undefined ? !signal.aborted : isSent(node.outgoing);
}

/**
 * Calls `end` when the response is over; what it returns takes that back. Where Node runs the handler, its own word
 * counts: the signal of a request never tells that its client has gone before its turn came.
 */
export function whenDone(end: () => void, { signal }: Request, connection: unknown): (() => void) | undefined {
  const node = nodeOf(connection);
  if (node !== undefined) return whenOver(node.outgoing, end);
  signal.addEventListener('abort', end);
  return () => signal.removeEventListener('abort', end);
}
