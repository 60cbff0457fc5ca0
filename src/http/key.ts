/**
 * Resolves the key of a request. Each form of the `key` option becomes a function when the middleware is created.
 *
 * The short forms are templates: `'ip'` is `'ip:{ip}'`, `'header:X-Api-Key'` is
 * `'header:x-api-key:{headers.x-api-key}'`. In every form, a long or unprintable key is replaced: see {@link boundKey}.
 */
import { invalid } from '../core/validation.js';
import { boundKey } from './bounded-key.js';
import { isPromiseLike } from '../core/promise-like.js';
import { addressKey } from './platform/address-key.js';
import { propertyOf } from './platform/node-response.js';
import { type ConnectionView, MISSING_ADDRESS, warnIfProxyUntrusted } from './platform/untrusted-proxy.js';

/** The result of a key function: the key, or nothing if the request has no key. */
export type KeyValue = string | number | bigint | null | undefined;

/**
 * The key of a request, which selects the limit that counts the request:
 * - `'ip'`: the client's address, from the framework. The framework's own settings decide whether it trusts a proxy.
 *   IPv6 addresses count by network, see `ipv6Prefix`.
 * - `'user'` (or `'user_or_ip'`): the `id` of the authenticated user, else the address.
 * - `'header:NAME'`, `'query:NAME'`: a header field, or the first query parameter of that name.
 * - a template such as `'{user.id}:{params.project}'`. Its placeholders are `user`, `params`, `query`, `headers`, `ip`,
 *   `method`, `path` (with the client's spelling), and properties of the framework's request, by path. Values are
 *   percent-encoded if different values would otherwise result in the same key.
 * - a function of the arguments that the framework passes to a handler.
 *
 * A key of more than 128 characters, or with control characters or lone surrogates, is replaced. The replacement
 * consists of the printable part of the first 64 characters, and the SHA-256 digest of the key.
 */
export type Key<A extends unknown[]> = string | ((...args: A) => KeyValue | PromiseLike<KeyValue>);

/** The parts of a request that a key may use. Each part is read only if the key uses it. */
export interface RequestView<A extends unknown[]> extends ConnectionView<A> {
  /** The client's address, by the framework's own rules. */
  ip(...args: A): string | undefined;
  user(...args: A): unknown;
  params(...args: A): unknown;
  /** The property of that name of the framework's request. */
  property(name: string, ...args: A): unknown;
  method(...args: A): unknown;
  /** The URL as the client sent it: a path or a whole URL. */
  url(...args: A): string;
}

/** The key, or a description of the part that the request lacks. */
export type ResolvedKey = { readonly key: string } | { readonly key?: undefined; readonly missing: string };

const FORMS = "'ip', 'user', 'header:NAME', 'query:NAME', a template or a function";

/** Creates the function that resolves the key of a request. @throws {TypeError} `key` has none of the forms. */
export function createKeyResolver<A extends unknown[]>(
  key: unknown,
  view: RequestView<A>,
  ipv6Prefix: number,
): (...args: A) => ResolvedKey | Promise<ResolvedKey> {
  if (typeof key === 'function') {
    return (...args) => {
      const value: unknown = key(...args);
      // A plain value must stay synchronous: every promise costs a timer for its time limit.
      return isPromiseLike(value) ? Promise.resolve(value).then(keyFromFunction) : keyFromFunction(value);
    };
  }
  if (typeof key !== 'string') throw invalid('key', FORMS, key);
  const resolveAddress = createTemplate('ip:{ip}', view, ipv6Prefix);
  if (key === 'ip') return resolveAddress;
  if (key !== 'user' && key !== 'user_or_ip')
    return createTemplate(key.replace(/^(header|query):([^{}]+)$/, expandShortForm), view, ipv6Prefix);
  return (...args) => {
    const user = view.user(...args);
    // 0 is a valid user id.
    return user || user === 0
      ? { key: boundKey(`user:${textOf("the user's id", (user as { id?: unknown }).id ?? user)}`) }
      : resolveAddress(...args);
  };
}

/** The template of a short form. */
function expandShortForm(_: string, form: string, name: string): string {
  return form === 'query'
    ? `query:${name}:{query.${name}}`
    : `header:${name.toLowerCase()}:{headers.${name.toLowerCase()}}`;
}

function keyFromFunction(value: unknown): ResolvedKey {
  if (value === undefined || value === null || value === '') return { missing: 'rate limit key' };
  return { key: boundKey(textOf('the result of key()', value)) };
}

/** The text of a string or a number. @throws {TypeError} `value` is something else. */
function textOf(name: string, value: unknown): string {
  const text = typeof value === 'boolean' ? undefined : primitiveText(value);
  if (text === undefined) throw invalid(name, 'a string or a number', value);
  return text;
}

/** Creates a function that fills in the placeholders of `text`. */
function createTemplate<A extends unknown[]>(
  text: string,
  view: RequestView<A>,
  ipv6Prefix: number,
): (...args: A) => ResolvedKey {
  // The pieces with odd indices are placeholders.
  const pieces = text.split(/\{([^{}]+)\}/);
  if (pieces.length < 3 || /[{}]/.test(pieces.join(''))) throw invalid('key', FORMS, text);
  // Punctuation separates placeholders, and values are percent-encoded. So the values `a:b` and `c` have another key
  // than the values `a` and `b:c`.
  const separators = pieces
    .slice(2, -2)
    .filter((_, index) => index % 2 === 0)
    .map((between) => between.replaceAll(/[^ -/:-@[-`{-~]|%/g, ''));
  if (separators.includes('')) throw invalid('key', 'a template with punctuation between its placeholders', text);
  const encoded = separators.length === 0 ? '' : `%${separators.join('')}`;
  const parts = pieces.map((piece, index) => (index % 2 === 0 ? piece : createReader(piece, view, ipv6Prefix)));

  return (...args) => {
    let key = '';
    for (const [index, part] of parts.entries()) {
      const value = typeof part === 'string' ? part : primitiveText(part(args));
      if (value === undefined)
        return { missing: pieces[index] === 'ip' ? MISSING_ADDRESS : `value for {${pieces[index]}}` };
      key +=
        typeof part === 'string'
          ? part
          : value.replaceAll(/[ -/:-@[-`{-~]/g, (mark) =>
              encoded.includes(mark) ? `%${mark.charCodeAt(0).toString(16)}` : mark,
            );
    }
    return { key: boundKey(key) };
  };
}

/** Creates the function that reads the value of one placeholder. */
function createReader<A extends unknown[]>(
  placeholder: string,
  view: RequestView<A>,
  ipv6Prefix: number,
): (args: A) => unknown {
  const [root = '', ...path] = placeholder.split('.');
  const headerName = path.join('.').toLowerCase();
  /** Splits the URL into its path and its query. A client may send a path or a whole URL: both have the same parts. */
  const splitUrl = (args: A): RegExpExecArray | null =>
    /^(?:[a-z][\w+.-]*:\/\/[^/?#]*)?([^?#]*)\??([^#]*)/i.exec(view.url(...args));
  if (root === 'query') return (args) => new URLSearchParams(splitUrl(args)?.[2]).get(path.join('.'));
  if (root === 'headers') {
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(headerName))
      throw invalid('key', 'a template with valid header names', headerName);
    return (args) => view.header(headerName, ...args);
  }
  const readRoot = (args: A): unknown => {
    if (root === 'path') return splitUrl(args)?.[1];
    if (root === 'user' || root === 'params' || root === 'method') return view[root](...args);
    if (root !== 'ip') return view.property(root, ...args);
    const address = view.ip(...args);
    warnIfProxyUntrusted(address, view, args);
    return address && addressKey(address, ipv6Prefix);
  };
  return (args) => path.reduce(propertyOf, readRoot(args));
}

/** The text of a non-empty string, a finite number, a bigint or a boolean; `undefined` for anything else. */
function primitiveText(value: unknown): string | undefined {
  return value !== '' && (Number.isFinite(value) || ['string', 'bigint', 'boolean'].includes(typeof value))
    ? String(value)
    : undefined;
}
