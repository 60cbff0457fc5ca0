/** The names of keys, by themselves. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { keyNames } from '../../src/redis/key-names.js';

/** Strings in which what separates, escapes and breaks is common: braces, colons, percent signs and lone surrogates. */
const text = fc.array(fc.constantFrom('a', 'v2', ':', '%', '%3A', '{', '}', '\uD83D', '\uDE00', '\u{1F600}', 'é', 'uD83D', '\n'), { maxLength: 6 }).map((parts) => parts.join(''));

test('two limiters share no name, whatever their prefixes and keys (FAULTS 43)', () => {
  fc.assert(
    fc.property(text, text, text, text, (prefix, key, otherPrefix, otherKey) => {
      const bytes = (one: string, two: string): string[] => keyNames(one, two).map((name) => Buffer.from(name).toString('hex'));
      const [names, others] = [bytes(prefix, key), bytes(otherPrefix, otherKey)];
      const same = prefix === otherPrefix && key === otherKey;
      expect(names.some((name) => others.includes(name))).toBe(same);
    }),
    { numRuns: 20_000 },
  );
});

test.each([
  ['headgate', 'payments', '{headgate:payments}'],
  ['api', 'v2:ada', '{api:v2:ada}'],
  ['api:v2', 'ada', '{api%3Av2:ada}'],
  ['api', 'a}b{c%', '{api:a%7Db%7Bc%25}'],
  ['api', '\uD83D', '{api:%uD83D}'],
])('prefix %o and key %o are %s', (prefix, key, base) => {
  expect(keyNames(prefix, key)).toEqual([base, ...['queue', 'leases', 'owners', 'slots', 'log'].map((part) => `${base}:${part}`)]);
});

test('all names of a limiter have one hash tag, which is not empty', () => {
  fc.assert(
    fc.property(text, text, (prefix, key) => {
      const tags = keyNames(prefix, key).map((name) => /^\{([^{}]+)\}(?::[a-z]+)?$/.exec(name)?.[1]);
      expect(tags[0]).toBeDefined();
      expect(new Set(tags).size).toBe(1);
    }),
  );
});
