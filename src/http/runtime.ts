/**
 * What runtimes hand to a `fetch` handler beside the request, and where in it they tell the client's address.
 */
import type { NodeRequest, NodeResponse } from './node.js';

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
