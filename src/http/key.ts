/**
 * Whose request is it? The forms of the `key` option, each turned into a function when the middleware is made.
 *
 * The short forms are templates: `'ip'` is `'ip:{ip}'`, `'header:X-Api-Key'` is `'header:x-api-key:{headers.x-api-key}'`.
 * In every form, a key that is long or unprintable is replaced: see {@link boundKey}.
 */
import { invalid } from '../core/validation.js';
import { group } from './platform/address.js';
import { boundKey } from './bounded-key.js';
import { isPending } from './callback-timeout.js';
import { propertyOf } from './platform/node.js';
import { checkProxy, type Connection, NO_ADDRESS } from './platform/proxy.js';

/** What a key function returns: who it is, or nothing where it cannot tell. */
export type KeyValue = string | number | bigint | null | undefined;

/**
 * Whose limit counts:
 * - `'ip'`: the client's address, as the framework tells it. Whether a proxy's word is taken for it, is the framework's
 *   setting. IPv6 addresses count by network, see `ipv6Prefix`.
 * - `'user'` (or `'user_or_ip'`): the `id` of the user whom the framework knows, else the address.
 * - `'header:NAME'`, `'query:NAME'`: a header field, the first parameter of that name in the query.
 * - a template such as `'{user.id}:{params.project}'`. Its places are `user`, `params`, `query`, `headers`, `ip`,
 *   `method`, `path` (as the client spelled it), and properties of the framework's request, by path.
 *   Values are percent-encoded as far as it takes to keep them apart.
 * - a function of what the framework hands to its handlers.
 *
 * A key of more than 128 characters, or with control characters or lone surrogates, is replaced by the readable part of
 * its first 64 characters and its SHA-256 digest.
 */
export type Key<A extends unknown[]> = string | ((...args: A) => KeyValue | PromiseLike<KeyValue>);

/** What an adapter can show of a request. Each is read only if the key asks for it. */
export interface View<A extends unknown[]> extends Connection<A> {
  /** The client's address, by the framework's own rules. */
  ip(...args: A): string | undefined;
  user(...args: A): unknown;
  params(...args: A): unknown;
  /** What the framework has of that name on its request. */
  own(name: string, ...args: A): unknown;
  method(...args: A): unknown;
  /** As the client sent it: a path or a whole URL. */
  url(...args: A): string;
}

/** The key, or in words what the request lacks. */
export type Found = { readonly key: string } | { readonly key?: undefined; readonly missing: string };

const FORMS = "'ip', 'user', 'header:NAME', 'query:NAME', a template or a function";

/** The function that finds the key of a request. @throws {TypeError} `key` has none of the forms. */
export function createKeyResolver<A extends unknown[]>(
  key: unknown,
  view: View<A>,
  prefix: number,
): (...args: A) => Found | Promise<Found> {
  if (typeof key === 'function') {
    return (...args) => {
      const value: unknown = key(...args);
      // Only a promise needs a bound on its time, and a timer for it.
      return isPending(value) ? Promise.resolve(value).then(answered) : answered(value);
    };
  }
  if (typeof key !== 'string') throw invalid('key', FORMS, key);
  const address = template('ip:{ip}', view, prefix);
  if (key === 'ip') return address;
  if (key !== 'user' && key !== 'user_or_ip')
    return template(key.replace(/^(header|query):([^{}]+)$/, spellOut), view, prefix);
  return (...args) => {
    const user = view.user(...args);
    // 0 is a user like any other.
    return user || user === 0
      ? { key: boundKey(`user:${named("the user's id", (user as { id?: unknown }).id ?? user)}`) }
      : address(...args);
  };
}

/** A short form as the template that it stands for. */
function spellOut(_: string, form: string, name: string): string {
  return form === 'query'
    ? `query:${name}:{query.${name}}`
    : `header:${name.toLowerCase()}:{headers.${name.toLowerCase()}}`;
}

/** What a key function returned. */
function answered(value: unknown): Found {
  if (value === undefined || value === null || value === '') return { missing: 'key by which to limit it' };
  return { key: boundKey(named('what key() returns', value)) };
}

function named(what: string, value: unknown): string {
  const name = typeof value === 'boolean' ? undefined : plain(value);
  if (name === undefined) throw invalid(what, 'a string or a number', value);
  return name;
}

/** Fills the places of `text` in. */
function template<A extends unknown[]>(text: string, view: View<A>, prefix: number): (...args: A) => Found {
  // Every other piece is a place.
  const pieces = text.split(/\{([^{}]+)\}/);
  if (pieces.length < 3 || /[{}]/.test(pieces.join(''))) throw invalid('key', FORMS, text);
  // Punctuation between two places keeps `a:b` and `c` apart from `a` and `b:c`, once it is encoded in the values.
  const marks = pieces
    .slice(2, -2)
    .filter((_, index) => index % 2 === 0)
    .map((between) => between.replaceAll(/[^ -/:-@[-`{-~]|%/g, ''));
  if (marks.includes('')) throw invalid('key', 'a template with punctuation between its places', text);
  const special = marks.length === 0 ? '' : `%${marks.join('')}`;
  const parts = pieces.map((piece, index) => (index % 2 === 0 ? piece : place(piece, view, prefix)));

  return (...args) => {
    let key = '';
    for (const [index, part] of parts.entries()) {
      const value = typeof part === 'string' ? part : plain(part(args));
      if (value === undefined) return { missing: pieces[index] === 'ip' ? NO_ADDRESS : `value for {${pieces[index]}}` };
      key +=
        typeof part === 'string'
          ? part
          : value.replaceAll(/[ -/:-@[-`{-~]/g, (mark) =>
              special.includes(mark) ? `%${mark.charCodeAt(0).toString(16)}` : mark,
            );
    }
    return { key: boundKey(key) };
  };
}

/** Looks one place up. */
function place<A extends unknown[]>(name: string, view: View<A>, prefix: number): (args: A) => unknown {
  const [root = '', ...path] = name.split('.');
  const rest = path.join('.').toLowerCase();
  /** The path and the query. A client may send a whole URL where others send a path: both mean the same. */
  const parts = (args: A): RegExpExecArray | null =>
    /^(?:[a-z][\w+.-]*:\/\/[^/?#]*)?([^?#]*)\??([^#]*)/i.exec(view.url(...args));
  if (root === 'query') return (args) => new URLSearchParams(parts(args)?.[2]).get(path.join('.'));
  if (root === 'headers') {
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(rest)) throw invalid('key', 'made of names that header fields can have', rest);
    return (args) => view.header(rest, ...args);
  }
  const read = (args: A): unknown => {
    if (root === 'path') return parts(args)?.[1];
    if (root === 'user' || root === 'params' || root === 'method') return view[root](...args);
    if (root !== 'ip') return view.own(root, ...args);
    const address = view.ip(...args);
    checkProxy(address, view, args);
    return address && group(address, prefix);
  };
  return (args) => path.reduce(propertyOf, read(args));
}

/** As text, if it is a plain value that says something. */
function plain(value: unknown): string | undefined {
  return value !== '' && (Number.isFinite(value) || ['string', 'bigint', 'boolean'].includes(typeof value))
    ? String(value)
    : undefined;
}
