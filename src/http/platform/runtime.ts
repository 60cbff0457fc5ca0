/** The second argument of a `fetch` handler: it contains the client's address, and on Node the connection. */
import { isClosed, isSent, type NodeRequest, type NodeResponse, onClose, waitForTurn } from './node-response.js';

/** Node's own request and response, if `@hono/node-server` runs the handler. */
export interface NodeConnection {
  readonly incoming: NodeRequest;
  readonly outgoing: NodeResponse;
}

interface BunServer {
  requestIP(request: Request): { readonly address: string } | null;
}

type Connection = Partial<NodeConnection & BunServer> & { server?: BunServer; remoteAddr?: { hostname?: string } };

/**
 * The address of the client's end of the connection. Header fields are ignored: a client can write any value there.
 *
 * @param connection The value from the runtime: Node's `incoming`, Deno's `info`, Bun's `server`.
 * @throws {TypeError} The runtime does not provide the address.
 */
export function remoteAddress(request: Request, connection: unknown): string | undefined {
  const { incoming, remoteAddr, server = connection } = (connection ?? {}) as Connection;
  if (incoming !== undefined) return incoming.socket.remoteAddress;
  if (remoteAddr !== undefined) return remoteAddr.hostname;
  const { requestIP } = (server ?? {}) as Partial<BunServer>;
  if (typeof requestIP === 'function') return requestIP.call(server, request)?.address;
  throw new TypeError('this runtime provides no client addresses: key must be a function');
}

/** Node's request and response, if Node runs the handler. */
export function nodeConnection(connection: unknown): NodeConnection | undefined {
  const node = connection as NodeConnection | undefined;
  return node?.incoming && node.outgoing ? node : undefined;
}

/** The objects that represent a request: see `findState`. */
export function requestObjectsOf(request: Request, connection: unknown, framework?: object): readonly object[] {
  const node = nodeConnection(connection);
  return [...(framework === undefined ? [] : [framework]), ...(node === undefined ? [] : [node.incoming]), request];
}

/** Waits for the response's turn on its connection, if Node runs the handler. */
export function waitForFetchTurn(connection: unknown): Promise<void> | undefined {
  const node = nodeConnection(connection);
  return node && waitForTurn(node.incoming, node.outgoing);
}

/** Whether the response was sent completely, or the client has disconnected. */
export function isFetchClosed({ signal }: Request, connection: unknown): boolean {
  const node = nodeConnection(connection);
  return node === undefined ? signal.aborted : isClosed(node.incoming, node.outgoing);
}

/** Whether the closed response was sent completely. */
export function isFetchSent({ signal }: Request, connection: unknown): boolean {
  const node = nodeConnection(connection);
  return node === undefined ? !signal.aborted : isSent(node.outgoing);
}

/**
 * Calls `listener` when the response is closed. If Node runs the handler, Node's events are used: the signal of a
 * request does not abort if its client disconnects before the response's turn.
 *
 * @returns A function that removes the listener, if the runtime supports it.
 */
export function onFetchClose(listener: () => void, { signal }: Request, connection: unknown): (() => void) | undefined {
  const node = nodeConnection(connection);
  if (node !== undefined) return onClose(node.outgoing, listener);
  signal.addEventListener('abort', listener);
  return () => signal.removeEventListener('abort', listener);
}
