/**
 * Client addresses as keys. One client has many IPv6 addresses: whoever is given a network of them changes theirs at
 * will, so it is the network that counts. And an IPv4 client of a server that listens on IPv6 is still an IPv4 client.
 */

/**
 * The name under which an address counts: an IPv4 address as it is, also where it is mapped into IPv6; of an IPv6
 * address the network of `prefix` bits, in one spelling. A port is left out. What is no address stays as it is.
 */
export function group(address: string, prefix: number): string {
  // Some proxies write the port of the connection behind the address: it would make every connection a client.
  const host = address.replace(/^"?\[(.*)\].*|^([^:]*):\d+$/s, '$1$2');
  const words = parse(host.replace(/%.*/s, ''));
  if (words === undefined) return host;
  const [a, b, c, d, e, mapped, high = 0, low = 0] = words;
  if (!(a || b || c || d || e) && mapped === 0xffff) return [high >> 8, high & 255, low >> 8, low & 255].join('.');
  const kept = words.slice(0, Math.ceil(prefix / 16));
  kept.push(kept.pop()! & (0xffff << (kept.length * 16 + 16 - prefix)));
  return `${kept.map((word) => word.toString(16)).join(':')}${kept.length < 8 ? '::' : ''}/${prefix}`;
}

/** The eight 16-bit words of an IPv6 address, read by the platform's own parser of the hosts of URLs. */
function parse(text: string): number[] | undefined {
  const url = `http://[${text}]`;
  if (!/^[\da-f.]*:[\da-f:.]*$/i.test(text) || !URL.canParse(url)) return undefined;
  const [front = [], back = []] = new URL(url).hostname.slice(1, -1).split('::').map((part) => part.split(':').filter(Boolean));
  return [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back].map((word) => Number.parseInt(word, 16));
}
