/** The names of the keys in Redis, without a server. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { keyNames } from '../../src/redis/key-names.js';

/** Strings with many separators, escapes and broken characters: braces, colons, percent signs, lone surrogates. */
const text = fc
  .array(fc.constantFrom('a', 'v2', ':', '%', '%3A', '{', '}', '\uD83D', '\uDE00', '\u{1F600}', 'é', 'uD83D', '\n'), {
    maxLength: 6,
  })
  .map((parts) => parts.join(''));

test('different pairs of prefix and key share no name (FAULTS 43)', () => {
  fc.assert(
    fc.property(text, text, text, text, (prefix, key, otherPrefix, otherKey) => {
      const bytes = (one: string, two: string): string[] =>
        keyNames(one, two).map((name) => Buffer.from(name).toString('hex'));
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
])('prefix %o and key %o give %s', (prefix, key, base) => {
  expect(keyNames(prefix, key)).toEqual([
    base,
    ...['log', 'queue', 'leases', 'slots', 'owners', 'expiries', 'reset'].map((part) => `${base}:${part}`),
  ]);
});

test('all names of a throttle have one hash tag, which is not empty', () => {
  fc.assert(
    fc.property(text, text, (prefix, key) => {
      const tags = keyNames(prefix, key).map((name) => /^\{([^{}]+)\}(?::[a-z]+)?$/.exec(name)?.[1]);
      expect(tags[0]).toBeDefined();
      expect(new Set(tags).size).toBe(1);
    }),
  );
});

/** Strings of lone surrogates, surrogate pairs and the characters with a meaning in a name. */
const anyText = fc.oneof(
  text,
  fc.string({ unit: 'binary' }),
  fc
    .array(
      fc.oneof(
        fc.constantFrom(0x7b, 0x7d, 0x3a, 0x25),
        fc.integer({ min: 0xd700, max: 0xe000 }),
        fc.integer({ min: 0, max: 0xffff }),
      ),
    )
    .map((units) => String.fromCharCode(...units)),
);

/**
 * The part of a name that a cluster hashes by its specification: from the first opening brace to the next closing
 * brace.
 */
const hashTag = (name: string): string => name.slice(name.indexOf('{') + 1, name.indexOf('}', name.indexOf('{')));

test('each division of a text into prefix and key gives different names (FAULTS 43)', () => {
  fc.assert(
    fc.property(anyText, (whole) => {
      const pairs = Array.from(
        { length: whole.length },
        (_, at) =>
          [
            [whole.slice(0, at), whole.slice(at)],
            [whole.slice(0, at), whole.slice(at + 1)],
          ] as const,
      ).flat();
      const distinct = new Set(pairs.map((pair) => JSON.stringify(pair)));
      expect(
        new Set(pairs.map(([prefix, key]) => Buffer.from(keyNames(prefix, key)[0] as string).toString('hex'))).size,
      ).toBe(distinct.size);
    }),
    { numRuns: 1_000 },
  );
});

test('all names are valid Unicode with one hash tag by the cluster specification (FAULTS 43)', () => {
  fc.assert(
    fc.property(anyText, anyText, (prefix, key) => {
      const names = keyNames(prefix, key);
      for (const name of names) expect(Buffer.from(name).toString()).toBe(name);
      expect(new Set(names.map(hashTag))).toEqual(new Set([names[0]?.slice(1, -1)]));
    }),
    { numRuns: 1_000 },
  );
});
