/** The names of a throttle's keys in Redis: which pairs of prefix and key share them, and what a cluster makes of them. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { namesOf } from '../../src/redis/names.js';

/** What a key or a prefix may be made of by chance or by an attacker: everything that a name gives a meaning to, and whole strings. */
const awkward = fc.constantFrom('{', '}', ':', '%', '%7B', '%D800', '%3A', 'queue', ':queue', ':log', 'a', '3', '\0', '\r\n', '\u001b', '\ud800', '\udc00', '\udbff', '😀', '\ufffd', 'ä', ' ');
const strings = fc.oneof(fc.array(awkward, { maxLength: 6 }).map((parts) => parts.join('')), fc.string({ unit: 'binary' }), fc.array(fc.integer({ min: 0, max: 0xffff })).map((units) => String.fromCharCode(...units)));
const prefixes = strings.map((text) => text.replaceAll(/[{}]/g, ''));
const keys = strings.filter((text) => text !== '');

/** The part of a name that a cluster hashes, by its specification: between the first brace and the first closing one after it. */
const hashTag = (name: string): string => {
  const open = name.indexOf('{');
  const close = name.indexOf('}', open + 1);
  return open < 0 || close <= open + 1 ? name : name.slice(open + 1, close);
};

/** As Redis receives it. */
const bytes = (name: string): string => createHash('sha256').update(name, 'utf8').digest('hex');

test('throttles of distinct prefixes or keys share no key (FAULTS 43)', () => {
  fc.assert(
    fc.property(prefixes, keys, prefixes, keys, (prefix, key, otherPrefix, otherKey) => {
      const same = prefix === otherPrefix && key === otherKey;
      const [mine, theirs] = [namesOf(prefix, key), namesOf(otherPrefix, otherKey)];
      expect(new Set([...mine, ...theirs].map(bytes)).size).toBe(same ? mine.length : mine.length + theirs.length);
    }),
    { numRuns: 2_000 },
  );
});

test('a text is cut into prefix and key at any place, and each cut has names of its own (FAULTS 43)', () => {
  fc.assert(
    fc.property(strings.filter((text) => text.length > 1), (text) => {
      const cuts = Array.from({ length: text.length - 1 }, (_, at) => [text.slice(0, at + 1), text.slice(at + 1)] as const);
      // Also with the separator of the two cut off.
      const pairs = cuts.flatMap(([prefix, key]) => [[prefix, key], ...(key.startsWith(':') && key.length > 1 ? [[prefix, key.slice(1)]] : [])] as [string, string][]).filter(([prefix]) => !/[{}]/.test(prefix));
      expect(new Set(pairs.map(([prefix, key]) => bytes(namesOf(prefix, key)[0] as string))).size).toBe(pairs.length);
    }),
    { numRuns: 1_000 },
  );
});

test('all keys of a throttle are valid Unicode and have the throttle’s hash tag, whatever is in the key', () => {
  fc.assert(
    fc.property(prefixes, keys, (prefix, key) => {
      const names = namesOf(prefix, key);
      expect(names).toHaveLength(6);
      expect(new Set(names.map(hashTag))).toEqual(new Set([names[0]?.slice(1, -1)]));
      for (const name of names) expect(Buffer.from(name, 'utf8').toString('utf8')).toBe(name);
    }),
    { numRuns: 1_000 },
  );
});

test.each([
  ['headgate', 'payments', '{headgate:payments}'],
  ['headgate', '2001:db8::/56', '{headgate:2001:db8::/56}'],
  ['api:v2', 'ada', '{api%3Av2:ada}'],
  ['api', 'v2:ada', '{api:v2:ada}'],
  ['headgate', '100%', '{headgate:100%25}'],
  ['headgate', 'a}:queue', '{headgate:a%7D:queue}'],
  ['headgate', '\ud800', '{headgate:%D800}'],
  ['headgate', '\ufffd', '{headgate:\ufffd}'],
  ['headgate', '日本語 🚦', '{headgate:日本語 🚦}'],
])('the prefix %j with the key %j is called %s', (prefix, key, name) => {
  expect(namesOf(prefix, key)).toEqual([name, `${name}:queue`, `${name}:leases`, `${name}:owners`, `${name}:slots`, `${name}:log`]);
});
