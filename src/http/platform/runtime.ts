/** The second argument of a `fetch` handler: it contains the client's address, and on Node the connection. */
import { isClosed, isSent, type NodeRequest, type NodeResponse, onClose, waitForTurn } from './node-response.js';
import { onSocketClose, type UpgradeSocket, watchForEnd } from './upgrade-socket.js';

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

/** The socket of an upgrade, if the handler of `@hono/node-server` decides on one: then Node has no response. */
function upgradeSocket(connection: unknown): UpgradeSocket | undefined {
  const { incoming, outgoing } = (connection ?? {}) as Connection;
  const isUpgrade = incoming !== undefined && outgoing === undefined && incoming.headers?.['upgrade'] !== undefined;
  return isUpgrade ? (incoming.socket as unknown as UpgradeSocket) : undefined;
}

/** Until the returned function is called, a client that disconnects closes the socket of its upgrade. */
export function watchUpgrade(connection: unknown): (() => void) | undefined {
  const socket = upgradeSocket(connection);
  return socket && watchForEnd(socket);
}

/**
 * Whether a permit is held until the end of the response's body. On Node, it is held until the response has been sent,
 * and for an upgrade it is held until the socket is closed.
 *
 * @param status The status of the response: an upgrade with an error status is refused.
 */
export function endsWithBody(connection: unknown, status: number): boolean {
  return nodeConnection(connection) === undefined && (status >= 400 || upgradeSocket(connection) === undefined);
}

/** The objects that represent a request: see `findState`. */
export function requestObjectsOf(request: Request, connection: unknown, framework?: object): readonly object[] {
  const isOnNode = nodeConnection(connection) !== undefined || upgradeSocket(connection) !== undefined;
  const incoming = isOnNode ? (connection as NodeConnection).incoming : undefined;
  return [...(framework === undefined ? [] : [framework]), ...(incoming === undefined ? [] : [incoming]), request];
}

/** Waits for the response's turn on its connection, if Node runs the handler. */
export function waitForFetchTurn(connection: unknown): Promise<void> | undefined {
  const node = nodeConnection(connection);
  return node && waitForTurn(node.incoming, node.outgoing);
}

/** Whether the response was sent completely, or the client has disconnected. */
export function isFetchClosed({ signal }: Request, connection: unknown): boolean {
  const node = nodeConnection(connection);
  if (node !== undefined) return isClosed(node.incoming, node.outgoing);
  return upgradeSocket(connection)?.destroyed ?? signal.aborted;
}

/** Whether the closed response was sent completely. */
export function isFetchSent({ signal }: Request, connection: unknown): boolean {
  const node = nodeConnection(connection);
  return node === undefined ? !signal.aborted && upgradeSocket(connection) === undefined : isSent(node.outgoing);
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
  const socket = upgradeSocket(connection);
  if (socket !== undefined) return onSocketClose(socket, listener);
  signal.addEventListener('abort', listener);
  return () => signal.removeEventListener('abort', listener);
}
