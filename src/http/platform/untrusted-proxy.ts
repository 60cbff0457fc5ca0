/** Detects a proxy that the framework does not trust: all clients behind the proxy share the limit of its address. */
import { printable } from '../../core/refusals.js';
import { addressKey } from './address-key.js';
import { hasWarned, warnOnce } from '../../core/warning.js';

const CODE = 'HEADGATE_UNTRUSTED_PROXY';
const REMEDY =
  "Configure the trusted proxies of the framework (Express: app.set('trust proxy', …); Koa: app.proxy; " +
  'Fastify: trustProxy), or use a key function (node:http, Connect, Hono, web)';

/** The description of the missing part of a request whose client has no address. */
export const MISSING_ADDRESS = 'client address; behind a proxy on a Unix socket, the server must trust the proxy';

/** The connection of a request. */
export interface ConnectionView<A extends unknown[]> {
  /** The address of the socket: the client's or a proxy's. Absent if the client's address is always this address. */
  socketAddress?(...args: A): string | undefined;
  /** Whether the response was sent completely, or the client has disconnected. */
  isClosed(...args: A): boolean;
  /** The header field of a name in lower case. */
  header(name: string, ...args: A): unknown;
}

/**
 * Warns, once for the process, if the client's address is the address of the socket but a forwarding header names
 * another client.
 *
 * @param address The client's address, by the framework's own rules.
 */
export function warnIfProxyUntrusted<A extends unknown[]>(
  address: string | undefined,
  connection: ConnectionView<A>,
  args: A,
): void {
  if (hasWarned(CODE)) return;
  if (
    connection.socketAddress !== undefined &&
    (address || undefined) !== (connection.socketAddress(...args) || undefined)
  )
    return;
  const forwarded = connection.header('x-forwarded-for', ...args) || connection.header('forwarded', ...args);
  // A closed connection has no address either, but that is no reason for a warning.
  if (typeof forwarded !== 'string' || !namesAnotherClient(forwarded, address ?? '') || connection.isClosed(...args))
    return;
  warnOnce(
    CODE,
    address
      ? `A limit counts the socket address ${printable(address)}, but a forwarding header names another client. ` +
          `If the socket belongs to a proxy, all of its clients share one limit. ${REMEDY}. ` +
          'If clients connect directly, a client has written the header, and no setting needs a change'
      : 'A limit by client address refuses every request: the connections have no address, as on a Unix socket. ' +
          REMEDY,
  );
}

/** Whether `X-Forwarded-For`, or `Forwarded` of RFC 7239, contains an address that counts as another client. */
function namesAnotherClient(value: string, address: string): boolean {
  // A client may send thousands of addresses: the first few are sufficient for a warning.
  const nodes = value.split(',', 4).map((each) => /(?:^|;)\s*for=("?[^";]*)/i.exec(each)?.[1] ?? each);
  return nodes.some((node) => addressKey(node.trim(), 128) !== addressKey(address, 128));
}
