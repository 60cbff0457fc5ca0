/**
 * Client addresses as keys. One client has many IPv6 addresses: whoever is given a network of them changes theirs at
 * will, so it is the network that counts. And an IPv4 client of a server that listens on IPv6 is still an IPv4 client.
 */

/** The default of `ipv6Prefix`: providers hand out networks from /48 to /64, most of them /56. */
export const PREFIX = 56;

/**
 * The name under which an address counts: an IPv4 address as it is, also where it is mapped into IPv6; of an IPv6
 * address the network of `prefix` bits, in one spelling. What is no address stays as it is.
 */
export function group(address: string, prefix: number): string {
  const words = parse(address.replace(/%.*$/s, ''));
  if (words === undefined) return address;
  if (words.slice(0, 5).every((word) => word === 0) && words[5] === 0xffff) {
    return words.slice(6).flatMap((word) => [word >> 8, word & 0xff]).join('.');
  }
  const kept = words.slice(0, Math.ceil(prefix / 16));
  kept[kept.length - 1]! &= 0xffff << (kept.length * 16 - prefix);
  return `${kept.map((word) => word.toString(16)).join(':')}${kept.length < 8 ? '::' : ''}/${prefix}`;
}

/** The eight 16-bit words of an IPv6 address. */
function parse(text: string): number[] | undefined {
  // The end may be written as an IPv4 address.
  const plain = text.replace(/(?<=:)(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/, (end, ...bytes) => {
    const [a, b, c, d] = bytes.slice(0, 4).map(Number) as [number, number, number, number];
    return Math.max(a, b, c, d) > 255 ? end : `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  });
  const parts = plain.split('::').map(wordsOf);
  if (parts.length > 2 || parts.includes(undefined)) return undefined;
  const [front = [], back] = parts as number[][];
  if (back === undefined) return front.length === 8 ? front : undefined;
  const missing = 8 - front.length - back.length;
  return missing < 1 ? undefined : [...front, ...Array.from({ length: missing }, () => 0), ...back];
}

/** The words of a part without `::`. */
function wordsOf(part: string): number[] | undefined {
  const pieces = part === '' ? [] : part.split(':');
  return pieces.every((piece) => /^[\da-f]{1,4}$/i.test(piece)) ? pieces.map((piece) => Number.parseInt(piece, 16)) : undefined;
}
