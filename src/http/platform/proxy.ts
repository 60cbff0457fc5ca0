/** Notices a proxy that the framework does not trust: all clients behind it would share the limit of its address. */
import { printable } from '../../core/refusals.js';
import { group } from './address.js';
import { hasWarned, warnOnce } from './warning.js';

const CODE = 'HEADGATE_UNTRUSTED_PROXY';
const REMEDY =
  "Tell the framework which proxy to trust (Express: app.set('trust proxy', …); Koa: app.proxy; Fastify: trustProxy), " +
  'or give a key function where there is no such setting (node:http, Connect, Hono, web)';

/** What a request lacks whose client has no address. */
export const NO_ADDRESS =
  'client address: the server knows none, as behind a proxy on a Unix socket until the proxy is trusted';

/** What is known of the connection of a request. */
export interface Connection<A extends unknown[]> {
  /** The address at the other end, be it the client's or a proxy's. Absent where the client's address is always this one. */
  peer?(...args: A): string | undefined;
  /** Whether the response was sent, or the client has gone. */
  over(...args: A): boolean;
  /** The header field of a name in lower case. */
  header(name: string, ...args: A): unknown;
}

/**
 * Warns, once for the process, if `address`, the client's by the framework's own rules, is the one of the connection although
 * the request names another client.
 */
export function checkProxy<A extends unknown[]>(address: string | undefined, connection: Connection<A>, args: A): void {
  if (hasWarned(CODE)) return;
  if (connection.peer !== undefined && (address || undefined) !== (connection.peer(...args) || undefined)) return;
  const forwarded = connection.header('x-forwarded-for', ...args) || connection.header('forwarded', ...args);
  // A connection that has ended has no address, either.
  if (typeof forwarded !== 'string' || !namesOther(forwarded, address ?? '') || connection.over(...args)) return;
  warnOnce(
    CODE,
    address
      ? `A limit counts the address ${printable(address)} of the connection, but a forwarding header of the request names another client. ` +
          `If a proxy stands there, all of its clients share one limit. ${REMEDY}. If clients connect directly, a client has written the header itself, and no setting needs a change`
      : `A limit by client address refuses every request: the connections have no address, as on a Unix socket. ${REMEDY}`,
  );
}

/** Whether `X-Forwarded-For`, or `Forwarded` of RFC 7239, names an address that counts as another client. */
function namesOther(value: string, ip: string): boolean {
  // A few are enough to tell, and a client may send thousands.
  const nodes = value.split(',', 4).map((each) => /(?:^|;)\s*for=("?[^";]*)/i.exec(each)?.[1] ?? each);
  return nodes.some((node) => group(node.trim(), 128) !== group(ip, 128));
}
