/**
 * The names of the keys in Redis. Two limiters never share one: `:` separates the prefix from the key, so it is escaped in
 * the prefix; braces would end the hash tag, and a lone surrogate is no character that UTF-8 can carry, so both are
 * escaped in either. A name is escaped as in a URL, and a surrogate as `%uD83D`.
 */

const PARTS = ['queue', 'leases', 'owners', 'slots', 'log'];

/** The names of all keys of a limiter, the state first. They have one hash tag: a cluster keeps them on one node. */
export function keyNames(prefix: string, key: string): string[] {
  const base = `{${escape(prefix).replaceAll(':', '%3A')}:${escape(key)}}`;
  return [base, ...PARTS.map((part) => `${base}:${part}`)];
}

function escape(text: string): string {
  return text.replaceAll(/[%{}]|[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, (unit) => {
    const code = unit.charCodeAt(0).toString(16).toUpperCase();
    return code.length > 2 ? `%u${code}` : `%${code}`;
  });
}
