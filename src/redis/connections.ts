/** The shared connections of a process: one for each client of a user, and one for equal plain options. */
import { warnOnce } from '../core/warning.js';

/** A program with this many open connections to one address most likely forgets to close them. */
const MANY = 100;
/** The depth to which options are compared. Deeper options are shared by identity only. */
const DEEPEST = 8;

const byClient = new WeakMap<object, unknown>();
const byOptions = new Map<string, unknown>();
/** The number of open connections that headgate has created, for each address. */
const openConnections = new Map<string, number>();

/** Returns the shared connection of `client`. Without one, calls `create`, with a function to call at its end. */
export function findShared<T>(client: object, create: (onClose: () => void) => T): T {
  const options = stableText(client);
  const known = options === undefined ? isObject(client) && byClient.get(client) : byOptions.get(options);
  if (known) return known as T;
  const address = isObject(client) ? addressOf(client) : undefined;
  const shared = create(() => {
    if (options === undefined) byClient.delete(client);
    else byOptions.delete(options);
    if (address !== undefined) countOpen(address, -1);
  });
  if (options === undefined) byClient.set(client, shared);
  else byOptions.set(options, shared);
  if (address !== undefined) countOpen(address, 1);
  return shared;
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

/**
 * Returns the same text for equal values of plain data: the order of properties does not matter. Returns `undefined`
 * for all other values: functions, instances of classes, and what contains them.
 */
export function stableText(value: unknown, depth = 0): string | undefined {
  if (value === null || ['string', 'number', 'boolean'].includes(typeof value)) return JSON.stringify(value);
  if (!isObject(value) || depth === DEEPEST) return undefined;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (!Array.isArray(value) && prototype !== Object.prototype && prototype !== null) return undefined;
  const parts: string[] = [];
  for (const [name, part] of Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1))) {
    if (part === undefined) continue;
    const text = stableText(part, depth + 1);
    if (text === undefined) return undefined;
    parts.push(`${JSON.stringify(name)}:${text}`);
  }
  return `${Array.isArray(value) ? 'array' : 'object'}{${parts.join()}}`;
}

/** The address in options for a client, without name and password. Clients of a user have none. */
function addressOf(options: { url?: unknown; socket?: unknown; eval?: unknown }): string | undefined {
  const { url, socket } = options;
  if ('eval' in options) return undefined;
  if (typeof url === 'string') return url.replace(/\/\/[^/]*@/, '//').replace(/[?#].*/s, '');
  const { host = 'localhost', port = 6379, path = `${host}:${port}` } = (socket ?? {}) as Record<string, string>;
  return path;
}

function countOpen(address: string, change: number): void {
  const count = (openConnections.get(address) ?? 0) + change;
  if (count === 0) openConnections.delete(address);
  else openConnections.set(address, count);
  if (count < MANY) return;
  warnOnce(
    'HEADGATE_MANY_CLIENTS',
    `headgate has ${count} clients of ${address} open. Throttles share a client if their option \`client\` is the ` +
      'same object, or has equal plain values. Close each throttle that is not needed any more.',
  );
}
