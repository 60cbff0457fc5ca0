/** Addresses as keys, compared with what another library makes of them. */
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { expect, test } from 'vitest';
import { group } from '../../src/http/address.js';

const word = fc.integer({ min: 0, max: 0xffff });
const words = fc.array(fc.oneof(word, fc.constant(0)), { minLength: 8, maxLength: 8 });
const byte = fc.integer({ min: 0, max: 255 });
const dotted = fc.tuple(byte, byte, byte, byte).map((bytes) => bytes.join('.'));

/** The spellings of one address. */
const spellings = (parts: number[]): string[] => {
  const plain = parts.map((part) => part.toString(16));
  const padded = plain.map((part) => part.padStart(4, '0').toUpperCase());
  const [high = 0, low = 0] = parts.slice(6);
  const mixed = [...plain.slice(0, 6), [high >> 8, high & 255, low >> 8, low & 255].join('.')].join(':');
  const address = new ipaddr.IPv6(parts);
  return [plain.join(':'), padded.join(':'), mixed, address.toRFC5952String(), `${address.toString()}%eth0`];
};

test('an IPv6 address is its network, in every spelling', () => {
  fc.assert(fc.property(words, fc.integer({ min: 1, max: 128 }), (parts, prefix) => {
    fc.pre(!new ipaddr.IPv6(parts).isIPv4MappedAddress());
    const found = new Set(spellings(parts).map((spelling) => group(spelling, prefix)));
    expect(found.size).toBe(1);
    const [network = ''] = found;
    const [base, bits] = ipaddr.IPv6.parseCIDR(network);
    expect(bits).toBe(prefix);
    expect(base.toNormalizedString()).toBe(ipaddr.IPv6.networkAddressFromCIDR(`${new ipaddr.IPv6(parts).toNormalizedString()}/${prefix}`).toNormalizedString());
  }), { numRuns: 2_000 });
});

test('two addresses count together if, and only if, they share the network', () => {
  fc.assert(fc.property(words, words, fc.integer({ min: 1, max: 128 }), fc.nat(8), (a, b, prefix, shared) => {
    const other = [...a.slice(0, shared), ...b.slice(shared)];
    const [one, two] = [new ipaddr.IPv6(a), new ipaddr.IPv6(other)];
    fc.pre(!one.isIPv4MappedAddress() && !two.isIPv4MappedAddress());
    expect(group(one.toString(), prefix) === group(two.toString(), prefix)).toBe(one.match(two, prefix));
  }), { numRuns: 2_000 });
});

test('an IPv4 address stays as it is, also where it is mapped into IPv6', () => {
  fc.assert(fc.property(dotted, fc.integer({ min: 1, max: 128 }), (address, prefix) => {
    const mapped = ipaddr.IPv4.parse(address).toIPv4MappedAddress();
    for (const spelling of [address, `::ffff:${address}`, `::FFFF:${address}`, `0:0:0:0:0:ffff:${address}`, ...spellings(mapped.parts)]) {
      expect(group(spelling, prefix)).toBe(address);
    }
  }));
});

test.each([
  ['2001:db8:85a3:8d3:1319:8a2e:370:7348', 56, '2001:db8:85a3:800::/56'],
  ['2001:db8:85a3:8d3:1319:8a2e:370:7348', 64, '2001:db8:85a3:8d3::/64'],
  ['2001:db8:85a3:8d3:1319:8a2e:370:7348', 128, '2001:db8:85a3:8d3:1319:8a2e:370:7348/128'],
  ['2001:db8:85a3:8d3:1319:8a2e:370:7348', 1, '0::/1'],
  ['fe80::1%eth0', 64, 'fe80:0:0:0::/64'],
  ['fe80::1%25lo', 64, 'fe80:0:0:0::/64'],
  ['::', 56, '0:0:0:0::/56'],
  ['::1.2.3.4', 128, '0:0:0:0:0:0:102:304/128'],
  ['::fffe:1.2.3.4', 16, '0::/16'],
  ['1::ffff:1.2.3.4', 16, '1::/16'],
])('%s/%i is %s', (address, prefix, expected) => {
  expect(group(address, prefix)).toBe(expected);
});

test.each([
  ['203.0.113.7:50001', '203.0.113.7'],
  ['[2001:db8::1]:50001', '2001:db8:0:0::/56'],
  ['[2001:db8::1]', '2001:db8:0:0::/56'],
  ['"[2001:db8::1]:50001"', '2001:db8:0:0::/56'],
  ['[::ffff:203.0.113.7]:50001', '203.0.113.7'],
  ['unknown:50001', 'unknown'],
])('the port of %s makes no other client', (address, expected) => {
  expect(group(address, 56)).toBe(expected);
});

test.each(['', 'unknown', '_hidden', '1.2.3', '999.1.1.1', ':::', '1::2::3', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '12345::', 'g::', '::1.2.3', '::1.2.3.256', '1.2.3.4::', '::1]/x[', '::1 ', 'a:b'])('%j is no address, and stays as it is', (text) => {
  expect(ipaddr.IPv6.isValid(text)).toBe(false);
  expect(group(text, 56)).toBe(text);
});
