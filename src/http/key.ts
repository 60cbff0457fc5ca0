/**
 * Whose request is it? The forms of the `key` option, each turned into a function when the middleware is made.
 *
 * The short forms are templates: `'ip'` is `'ip:{ip}'`, `'header:X-Api-Key'` is `'header:x-api-key:{headers.x-api-key}'`.
 */
import { invalid } from '../errors.js';
import { group } from './address.js';

/** What a key function returns: who it is, or nothing where it cannot tell. */
export type KeyValue = string | number | bigint | null | undefined;

/**
 * Whose limit counts:
 * - `'ip'`: the client's address, as the framework tells it. Whether a proxy's word is taken for it, is the framework's
 *   setting. IPv6 addresses count by network, see `ipv6Prefix`.
 * - `'user'` (or `'user_or_ip'`): the `id` of the user whom the framework knows, else the address.
 * - `'header:NAME'`, `'query:NAME'`: a header field, the first parameter of that name in the query.
 * - a template such as `'{user.id}:{params.project}'`. Its places are `user`, `params`, `query`, `headers`, `ip`,
 *   `method`, `path` (as the client spelled it), and own properties of the framework's request, by path.
 *   Values are percent-encoded as far as it takes to keep them apart.
 * - a function of what the framework hands to its handlers.
 */
export type Key<A extends unknown[]> = string | ((...args: A) => KeyValue | PromiseLike<KeyValue>);

/** What an adapter can show of a request. Each is read only if the key asks for it. */
export interface View<A extends unknown[]> {
  /** The client's address, by the framework's own rules. */
  ip(...args: A): string | undefined;
  user(...args: A): unknown;
  params(...args: A): unknown;
  /** What the framework itself sets of that name on its request. */
  own(name: string, ...args: A): unknown;
  /** The first value of the field; the name is in lower case. */
  header(name: string, ...args: A): string | undefined;
  method(...args: A): string | undefined;
  /** As the client sent it: a path or a whole URL. */
  url(...args: A): string | undefined;
}

/** The key, or in words what the request lacks. */
export type Found = { readonly key: string } | { readonly key?: undefined; readonly missing: string };

const FORMS = "'ip', 'user', 'header:NAME', 'query:NAME', a template like 'user:{user.id}', or a function";

/** The function that finds the key of a request. @throws {TypeError} `key` has none of the forms. */
export function finder<A extends unknown[]>(key: unknown, view: View<A>, prefix: number): (...args: A) => Found | Promise<Found> {
  if (typeof key === 'function') return async (...args) => answered(await key(...args));
  if (typeof key !== 'string') throw invalid('key', FORMS, key);
  const address = template(key, 'ip:{ip}', view, prefix);
  if (key === 'ip') return address;
  if (key === 'user' || key === 'user_or_ip') {
    return (...args) => {
      const user = view.user(...args);
      return user === undefined || user === null || user === false || user === '' ? address(...args) : { key: `user:${identity(user)}` };
    };
  }
  const header = /^header:([^{}]+)$/.exec(key)?.[1]?.toLowerCase();
  if (header !== undefined) return template(key, `header:${header}:{headers.${header}}`, view, prefix);
  return template(key, key.replace(/^query:([^{}]+)$/, 'query:$1:{query.$1}'), view, prefix);
}

/** What a key function returned. */
function answered(value: unknown): Found {
  if (value === undefined || value === null || value === '') return { missing: 'key by which to limit it' };
  const key = plain(value);
  if (key === undefined || typeof value === 'boolean') throw invalid('what key() returns', 'a string, a number or nothing', value);
  return { key };
}

/** Whom a user object stands for. */
function identity(user: unknown): string {
  const id = Object(user) === user ? (user as { id?: unknown }).id : user;
  const name = typeof id === 'boolean' ? undefined : plain(id);
  if (name === undefined) throw invalid("the user's id", "a string or a number (or key a function that knows the user's name)", id);
  return name;
}

/** Fills the places of `text` in. `key` is how it was given, for the error. */
function template<A extends unknown[]>(key: string, text: string, view: View<A>, prefix: number): (...args: A) => Found {
  // Every other piece is a place.
  const pieces = text.split(/\{([^{}]+)\}/);
  const inner = pieces.slice(2, -2).filter((_, index) => index % 2 === 0);
  // Punctuation between two places keeps `a:b` and `c` apart from `a` and `b:c`, once it is encoded in the values.
  const marks = inner.map((between) => between.replaceAll(/[^ -/:-@[-`{-~]|%/g, ''));
  if (pieces.length < 3 || pieces.some((piece) => /[{}]/.test(piece))) throw invalid('key', FORMS, key);
  if (marks.includes('')) throw invalid('key', 'a template with punctuation between its places', key);
  const special = new Set(marks.length === 0 ? '' : `%${marks.join('')}`);
  const places = pieces.map((piece, index) => (index % 2 === 0 ? piece : place(key, piece, view, prefix)));

  return (...args) => {
    let filled = '';
    for (const [index, part] of places.entries()) {
      const value = typeof part === 'string' ? part : plain(part(args));
      if (value === undefined) return { missing: lack(pieces[index]!) };
      filled += typeof part === 'string' ? part : encode(value, special);
    }
    return { key: filled };
  };
}

/** How to say that a place has no value. */
function lack(name: string): string {
  const [, where, what] = /^(headers|query)\.(.+)$/s.exec(name) ?? [];
  if (where !== undefined) return `${where === 'query' ? 'query parameter' : 'header field'} "${what}"`;
  return name === 'ip' ? 'client address' : `value for {${name}}`;
}

/** Looks one place up. */
function place<A extends unknown[]>(key: string, name: string, view: View<A>, prefix: number): (args: A) => unknown {
  const [root = '', ...path] = name.split('.');
  const rest = path.join('.');
  const search = (args: A): string => /\?([^#]*)/.exec(view.url(...args) ?? '')?.[1] ?? '';
  switch (root) {
    case 'query':
      return (args) => new URLSearchParams(search(args)).get(rest);
    case 'headers':
      if (!/^[\w!#$%&'*+.^`|~-]+$/.test(rest)) throw invalid('key', 'made of header names that exist', key);
      return (args) => view.header(rest.toLowerCase(), ...args);
    case 'ip':
      return (args) => walk(grouped(view.ip(...args), prefix), path);
    case 'path':
      // A client may send a whole URL where others send a path. Both mean the same.
      return (args) => walk(/^(?:[a-z][a-z\d+.-]*:\/\/[^/?#]*)?([^?#]*)/i.exec(view.url(...args) ?? '')?.[1], path);
    case 'method':
      return (args) => walk(view.method(...args), path);
    case 'user':
      return (args) => walk(view.user(...args), path);
    case 'params':
      return (args) => walk(view.params(...args), path);
    default:
      return (args) => walk(view.own(root, ...args), path);
  }
}

function grouped(address: string | undefined, prefix: number): string | undefined {
  return address === undefined ? undefined : group(address, prefix);
}

/** Own properties only: nothing that every object has can stand for a client. */
function walk(value: unknown, path: string[]): unknown {
  let at = value;
  for (const name of path) at = Object(at) === at && Object.hasOwn(at as object, name) ? (at as Record<string, unknown>)[name] : undefined;
  return at;
}

/** As text, if it is a plain value that says something. */
function plain(value: unknown): string | undefined {
  const telling = typeof value === 'number' ? Number.isFinite(value) : ['string', 'bigint', 'boolean'].includes(typeof value);
  return telling && value !== '' ? String(value) : undefined;
}

function encode(value: string, special: ReadonlySet<string>): string {
  if (special.size === 0) return value;
  return value.replaceAll(/[ -/:-@[-`{-~]/g, (mark) => (special.has(mark) ? `%${mark.charCodeAt(0).toString(16)}` : mark));
}
