/** Addresses as keys, compared with the results of `ipaddr.js`. */
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { expect, test } from 'vitest';
import { addressKey } from '../../src/http/platform/address-key.js';

const word = fc.integer({ min: 0, max: 0xffff });
const words = fc.array(fc.oneof(word, fc.constant(0)), { minLength: 8, maxLength: 8 });
const byte = fc.integer({ min: 0, max: 255 });
const dotted = fc.tuple(byte, byte, byte, byte).map((bytes) => bytes.join('.'));

/** Several spellings of one address. */
const spellings = (parts: number[]): string[] => {
  const plain = parts.map((part) => part.toString(16));
  const padded = plain.map((part) => part.padStart(4, '0').toUpperCase());
  const [high = 0, low = 0] = parts.slice(6);
  const mixed = [...plain.slice(0, 6), [high >> 8, high & 255, low >> 8, low & 255].join('.')].join(':');
  const address = new ipaddr.IPv6(parts);
  return [plain.join(':'), padded.join(':'), mixed, address.toRFC5952String(), `${address.toString()}%eth0`];
};

/** Whether an IPv6 address embeds an IPv4 address, or has a prefix of local translators. */
const isTranslation = (address: ipaddr.IPv6): boolean => {
  const compatible = address.match(ipaddr.IPv6.parse('::'), 96) && !address.match(ipaddr.IPv6.parse('::'), 104);
  return compatible || ['ipv4Mapped', 'rfc6145', 'rfc6052', '6to4', 'teredo'].includes(address.range());
};

test('an IPv6 address counts as its network, in every spelling', () => {
  fc.assert(
    fc.property(words, fc.integer({ min: 1, max: 128 }), (parts, prefix) => {
      fc.pre(!isTranslation(new ipaddr.IPv6(parts)));
      const found = new Set(spellings(parts).map((spelling) => addressKey(spelling, prefix)));
      expect(found.size).toBe(1);
      const [network = ''] = found;
      const [base, bits] = ipaddr.IPv6.parseCIDR(network);
      expect(bits).toBe(prefix);
      expect(base.toNormalizedString()).toBe(
        ipaddr.IPv6.networkAddressFromCIDR(
          `${new ipaddr.IPv6(parts).toNormalizedString()}/${prefix}`,
        ).toNormalizedString(),
      );
    }),
    { numRuns: 2_000 },
  );
});

test('two addresses have the same key if and only if they share the network', () => {
  fc.assert(
    fc.property(words, words, fc.integer({ min: 1, max: 128 }), fc.nat(8), (a, b, prefix, shared) => {
      const other = [...a.slice(0, shared), ...b.slice(shared)];
      const [one, two] = [new ipaddr.IPv6(a), new ipaddr.IPv6(other)];
      fc.pre(!isTranslation(one) && !isTranslation(two));
      expect(addressKey(one.toString(), prefix) === addressKey(two.toString(), prefix)).toBe(one.match(two, prefix));
    }),
    { numRuns: 2_000 },
  );
});

test('an IPv4 address is its own key, also where it is mapped into IPv6', () => {
  fc.assert(
    fc.property(dotted, fc.integer({ min: 1, max: 128 }), (address, prefix) => {
      const mapped = ipaddr.IPv4.parse(address).toIPv4MappedAddress();
      for (const spelling of [
        address,
        `::ffff:${address}`,
        `::FFFF:${address}`,
        `0:0:0:0:0:ffff:${address}`,
        ...spellings(mapped.parts),
      ]) {
        expect(addressKey(spelling, prefix)).toBe(address);
      }
    }),
  );
});

test.each([
  ['2001:db8:85a3:8d3:1319:8a2e:370:7348', 56, '2001:db8:85a3:800::/56'],
  ['2001:db8:85a3:8d3:1319:8a2e:370:7348', 64, '2001:db8:85a3:8d3::/64'],
  ['2001:db8:85a3:8d3:1319:8a2e:370:7348', 128, '2001:db8:85a3:8d3:1319:8a2e:370:7348/128'],
  ['2001:db8:85a3:8d3:1319:8a2e:370:7348', 1, '0::/1'],
  ['fe80::1%eth0', 64, 'fe80:0:0:0::/64'],
  ['fe80::1%25lo', 64, 'fe80:0:0:0::/64'],
  ['::', 56, '0:0:0:0::/56'],
  ['::1', 128, '0:0:0:0:0:0:0:1/128'],
  ['::0.255.255.255', 128, '0:0:0:0:0:0:ff:ffff/128'],
  ['::fffe:1.2.3.4', 16, '0::/16'],
  ['1::ffff:1.2.3.4', 16, '1::/16'],
])('%s/%i has the key %s', (address, prefix, expected) => {
  expect(addressKey(address, prefix)).toBe(expected);
});

/** The forms of IPv6 addresses that embed an IPv4 address: the range of `ipaddr.js`, and a constructor. */
const FORMS: Record<string, { range?: string; embed: (bytes: number[], more: number[]) => ipaddr.IPv6 }> = {
  'IPv4-mapped, RFC 4291': {
    range: 'ipv4Mapped',
    embed: (bytes) => new ipaddr.IPv6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes]),
  },
  'IPv4-compatible, RFC 4291': { embed: (bytes) => new ipaddr.IPv6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...bytes]) },
  'IPv4-translated, RFC 2765': {
    range: 'rfc6145',
    embed: (bytes) => new ipaddr.IPv6([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, ...bytes]),
  },
  'NAT64, RFC 6052': {
    range: 'rfc6052',
    embed: (bytes) => new ipaddr.IPv6([0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, ...bytes]),
  },
  '6to4, RFC 3056': { range: '6to4', embed: (bytes, more) => new ipaddr.IPv6([0x20, 0x02, ...bytes, ...more]) },
  'Teredo, RFC 4380': {
    range: 'teredo',
    embed: (bytes, more) =>
      new ipaddr.IPv6([0x20, 0x01, 0, 0, ...more.slice(0, 8), ...bytes.map((each) => each ^ 0xff)]),
  },
};

test.each(Object.entries(FORMS))(
  '%s: the address counts as the embedded IPv4 address, in every spelling (FAULTS 41)',
  (_, { range, embed }) => {
    const client = fc.tuple(fc.integer({ min: 1, max: 255 }), byte, byte, byte);
    const rest = fc.array(byte, { minLength: 10, maxLength: 10 });
    fc.assert(
      fc.property(client, rest, fc.integer({ min: 1, max: 128 }), (bytes, more, prefix) => {
        const address = embed(bytes, more);
        if (range !== undefined) expect(address.range()).toBe(range);
        for (const spelling of [...spellings(address.parts), `[${address.toString()}]:50001`])
          expect(addressKey(spelling, prefix)).toBe(bytes.join('.'));
      }),
    );
  },
);

test.each([
  // The examples of the RFCs.
  ['::ffff:129.144.52.38', '129.144.52.38'], // RFC 4291, section 2.5.5.2
  ['::13.1.68.3', '13.1.68.3'], // RFC 4291, section 2.2
  ['::ffff:0:203.0.113.7', '203.0.113.7'],
  ['64:ff9b::192.0.2.33', '192.0.2.33'], // RFC 6052, section 2.4
  ['64:ff9b::c000:221', '192.0.2.33'],
  ['2002:c000:204::1', '192.0.2.4'],
  ['2002:c000:204:ffff:1:2:3:4', '192.0.2.4'],
  // A client at 192.0.2.45 behind a Teredo server at 65.54.227.120.
  ['2001:0:4136:e378:8000:63bf:3fff:fdd2', '192.0.2.45'],
  ['64:ff9b::192.0.2.33%eth0', '192.0.2.33'],
  // Similar addresses, which embed no IPv4 address.
  ['64:ff9b:0:0:0:1:c000:221', '64:ff9b:0:0::/56'],
  ['64:ff9c::c000:221', '64:ff9c:0:0::/56'],
  ['::1:ffff:0:203.0.113.7', '0:0:0:1::/64'],
  ['2001:1::1', '2001:1:0:0::/56'],
  ['2003:c000:204::1', '2003:c000:204:0::/56'],
])('%s counts as %s (FAULTS 41)', (address, expected) => {
  expect(addressKey(address, expected.endsWith('/64') ? 64 : 56)).toBe(expected);
});

test.each([48, 56, 64, 96])(
  'each address of the local-use prefix 64:ff9b:1::/48 has its own key, divided at /%i (FAULTS 41, RFC 8215)',
  (length) => {
    // RFC 6052, section 2.2: the positions of the 32 bits. Byte 8 is always zero.
    const places = { 48: [6, 7, 9, 10], 56: [7, 9, 10, 11], 64: [9, 10, 11, 12], 96: [12, 13, 14, 15] }[length] ?? [];
    const keys = [
      [192, 0, 2, 33],
      [192, 0, 2, 34],
      [192, 0, 3, 33],
      [10, 0, 2, 33],
    ].map((client) => {
      const bytes = [0, 0x64, 0xff, 0x9b, 0, 1, ...Array<number>(10).fill(0)];
      for (const [index, place] of places.entries()) bytes[place] = client[index]!;
      const address = new ipaddr.IPv6(bytes);
      expect(address.range()).toBe('rfc6052');
      expect(new Set(spellings(address.parts).map((spelling) => addressKey(spelling, 56))).size).toBe(1);
      return addressKey(address.toString(), 56);
    });
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys[0]).toMatch(/^64:ff9b:1:.*\/128$/);
  },
);

test.each([
  ['203.0.113.7:50001', '203.0.113.7'],
  ['[2001:db8::1]:50001', '2001:db8:0:0::/56'],
  ['[2001:db8::1]', '2001:db8:0:0::/56'],
  ['"[2001:db8::1]:50001"', '2001:db8:0:0::/56'],
  ['[::ffff:203.0.113.7]:50001', '203.0.113.7'],
  ['unknown:50001', 'unknown'],
])('the key of %s does not contain the port', (address, expected) => {
  expect(addressKey(address, 56)).toBe(expected);
});

test.each([
  '',
  'unknown',
  '_hidden',
  '1.2.3',
  '999.1.1.1',
  ':::',
  '1::2::3',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '12345::',
  'g::',
  '::1.2.3',
  '::1.2.3.256',
  '1.2.3.4::',
  '::1]/x[',
  '::1 ',
  'a:b',
])('%j is no address, and stays unchanged', (text) => {
  expect(ipaddr.IPv6.isValid(text)).toBe(false);
  expect(addressKey(text, 56)).toBe(text);
});
