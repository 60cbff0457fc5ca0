/**
 * Client addresses as keys. One client has many IPv6 addresses: a client that is given a network changes its address at
 * will, so the network is what counts. An IPv4 client stays an IPv4 client, also where its address reaches the server
 * inside an IPv6 address: otherwise all clients behind one translator would share a network, or one client would have many.
 */

/**
 * The name under which an address counts: an IPv4 address as it is, also one that an IPv6 address carries; of any other
 * IPv6 address the network of `prefix` bits, in one spelling. A port is left out. Any other text stays as it is.
 */
export function group(address: string, prefix: number): string {
  // Some proxies write the port of the connection behind the address: it would make every connection a client.
  const host = address.replace(/^"?\[(.*)\].*|^([^:]*):\d+$/s, '$1$2');
  const words = parse(host.replace(/%.*/s, ''));
  if (words === undefined) return host;
  const carried = carriedIPv4(words);
  if (carried !== undefined)
    return [carried >>> 24, (carried >> 16) & 255, (carried >> 8) & 255, carried & 255].join('.');
  // Each translator divides this prefix as it likes, so the place of the IPv4 address is unknown: each address is a client.
  const bits = hasPrefix(words, [0x64, 0xff9b, 1]) ? 128 : prefix;
  const kept = words.slice(0, Math.ceil(bits / 16));
  kept.push(kept.pop()! & (0xffff << (kept.length * 16 + 16 - bits)));
  return `${kept.map((word) => word.toString(16)).join(':')}${kept.length < 8 ? '::' : ''}/${bits}`;
}

/** The IPv4 client, as 32 bits, that an IPv6 address of these words carries. */
function carriedIPv4(words: readonly number[]): number | undefined {
  const at = (index: number): number => (words[index]! << 16) | words[index + 1]!;
  // 6to4: RFC 3056, section 2. The client has all of the addresses behind it.
  if (words[0] === 0x2002) return at(1);
  // Teredo: RFC 4380, section 4. The address of the client's NAT, with every bit inverted.
  if (hasPrefix(words, [0x2001, 0])) return ~at(6);
  // NAT64: RFC 6052, section 2.1. For the prefix of RFC 8215, see above.
  if (hasPrefix(words, [0x64, 0xff9b, 0, 0, 0, 0])) return at(6);
  if (!hasPrefix(words, [0, 0, 0, 0])) return undefined;
  const middle = at(4);
  const isMapped = middle === 0xffff; // RFC 4291, section 2.5.5.2
  const isTranslated = middle === -0x1_0000; // RFC 2765, section 2.1
  // RFC 4291, section 2.5.5.1. No client has an address in 0.0.0.0/8, but `::` and `::1` have this form, too.
  const isCompatible = middle === 0 && words[6]! > 0xff;
  return isMapped || isTranslated || isCompatible ? at(6) : undefined;
}

function hasPrefix(words: readonly number[], prefix: readonly number[]): boolean {
  return prefix.every((word, index) => words[index] === word);
}

/** The eight 16-bit words of an IPv6 address, read by the platform's own parser of the hosts of URLs. */
function parse(text: string): number[] | undefined {
  const url = `http://[${text}]`;
  if (!/^[\da-f.]*:[\da-f:.]*$/i.test(text) || !URL.canParse(url)) return undefined;
  const [front = [], back = []] = new URL(url).hostname
    .slice(1, -1)
    .split('::')
    .map((part) => part.split(':').filter(Boolean));
  return [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back].map((word) =>
    Number.parseInt(word, 16),
  );
}
