/**
 * The names of the keys in Redis. Different pairs of prefix and key always have different names. The prefix and the key
 * are separated by `:`, so a colon in the prefix is escaped. Braces would end the hash tag, and UTF-8 cannot encode a
 * lone surrogate, so both are escaped in the prefix and in the key. A character is escaped as in a URL (`%7B`), and a
 * surrogate as `%uD83D`.
 */

const PARTS = ['log', 'queue', 'leases', 'slots', 'owners', 'expiries', 'reset'];

/**
 * Returns the names of all keys of a throttle, the state first. All names have the same hash tag, so a cluster keeps
 * the keys on one node.
 */
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
