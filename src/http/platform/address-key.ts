/**
 * Client addresses as keys. The framework determines the address of a client. A client that has an IPv6 network can
 * change its address at will, so the network counts. An IPv4 client counts by its IPv4 address, also if an IPv6
 * address embeds the IPv4 address. Otherwise all clients behind one translator would share a network, or one client
 * would count as many clients.
 */

/**
 * Returns the key of an address: an IPv4 address, also one that an IPv6 address embeds. Any other IPv6 address counts
 * as its network of `prefixLength` bits, in one spelling. A port is removed. Other text stays unchanged.
 */
export function addressKey(address: string, prefixLength: number): string {
  // Some proxies append the port of the connection: each connection would then count as a client.
  const host = address.replace(/^"?\[(.*)\].*|^([^:]*):\d+$/s, '$1$2');
  const words = parseIPv6(host.replace(/%.*/s, ''));
  if (words === undefined) return host;
  const ipv4 = embeddedIPv4(words);
  if (ipv4 !== undefined) return [ipv4 >>> 24, (ipv4 >> 16) & 255, (ipv4 >> 8) & 255, ipv4 & 255].join('.');
  // In the local-use NAT64 prefix of RFC 8215, each translator chooses the place of the IPv4 address. So each address
  // counts as a client.
  const bits = hasPrefix(words, [0x64, 0xff9b, 1]) ? 128 : prefixLength;
  const kept = words.slice(0, Math.ceil(bits / 16));
  kept.push(kept.pop()! & (0xffff << (kept.length * 16 + 16 - bits)));
  return `${kept.map((word) => word.toString(16)).join(':')}${kept.length < 8 ? '::' : ''}/${bits}`;
}

/** The IPv4 address, as 32 bits, that an IPv6 address embeds. */
function embeddedIPv4(words: readonly number[]): number | undefined {
  const ipv4At = (index: number): number => (words[index]! << 16) | words[index + 1]!;
  // 6to4: RFC 3056, section 2. The client owns all addresses of its network.
  if (words[0] === 0x2002) return ipv4At(1);
  // Teredo: RFC 4380, section 4. The address of the client's NAT, with every bit inverted.
  if (hasPrefix(words, [0x2001, 0])) return ~ipv4At(6);
  // NAT64 with the well-known prefix: RFC 6052, section 2.1.
  if (hasPrefix(words, [0x64, 0xff9b, 0, 0, 0, 0])) return ipv4At(6);
  if (!hasPrefix(words, [0, 0, 0, 0])) return undefined;
  const middle = ipv4At(4);
  const isMapped = middle === 0xffff; // RFC 4291, section 2.5.5.2
  const isTranslated = middle === -0x1_0000; // RFC 2765, section 2.1
  // RFC 4291, section 2.5.5.1. `::` and `::1` have this form, too, but no client has an address in 0.0.0.0/8.
  const isCompatible = middle === 0 && words[6]! > 0xff;
  return isMapped || isTranslated || isCompatible ? ipv4At(6) : undefined;
}

function hasPrefix(words: readonly number[], prefix: readonly number[]): boolean {
  return prefix.every((word, index) => words[index] === word);
}

/** Parses an IPv6 address into its eight 16-bit words. The platform's URL parser normalizes the address. */
function parseIPv6(text: string): number[] | undefined {
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
