/** The digest of this package, compared with the digest of `node:crypto`. */
import fc from 'fast-check';
import { createHash } from 'node:crypto';
import { afterEach, expect, test, vi } from 'vitest';
import { encode, pureSha256, sha256 } from '../../src/web/sha256.js';

const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
/** Arbitrary sequences of code units, which include lone surrogates. */
const units = fc
  .array(
    fc.oneof(
      fc.integer({ min: 0, max: 0xffff }),
      fc.integer({ min: 0xd7ff, max: 0xe000 }),
      fc.constantFrom(0x41, 0x7f, 0x80, 0x7ff, 0x800, 0xfffd),
    ),
    { maxLength: 300 },
  )
  .map((codes) => String.fromCharCode(...codes));

afterEach(() => {
  vi.unstubAllGlobals();
  vi.resetModules();
});

test.each([
  // FIPS 180-4, the examples of NIST.
  ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
  ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
  [
    'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
    '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
  ],
])('the digest of %j equals the example of the standard', (text, digest) => {
  expect([sha256(text), pureSha256(encode(text))]).toEqual([digest, digest]);
});

test('the digest equals the digest of node:crypto for every length up to four blocks, and for long inputs', () => {
  for (const length of [...Array(257).keys(), 15_000, 70_001]) {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 167 + length) & 255);
    expect(pureSha256(bytes), `${length} bytes`).toBe(digestOf(bytes));
  }
});

test('a view into a larger buffer is hashed by its own bytes only', () => {
  const bytes = Uint8Array.from({ length: 300 }, (_, index) => index & 255);
  expect(pureSha256(bytes.subarray(100, 231))).toBe(digestOf(bytes.slice(100, 231)));
});

test('the digest of random texts equals the digest of node:crypto, with and without node:crypto', () => {
  fc.assert(
    fc.property(units, (text) => {
      const bytes = encode(text);
      if (!/\p{Surrogate}/u.test(text)) expect(Buffer.from(bytes)).toEqual(Buffer.from(text, 'utf8'));
      expect([sha256(text), pureSha256(bytes)]).toEqual([digestOf(bytes), digestOf(bytes)]);
    }),
    { numRuns: 1_000 },
  );
});

test.each([
  ['a', [0x61]],
  ['é😀', [0xc3, 0xa9, 0xf0, 0x9f, 0x98, 0x80]],
  ['\ud800', [0xed, 0xa0, 0x80]],
  ['a\udfffé', [0x61, 0xed, 0xbf, 0xbf, 0xc3, 0xa9]],
])('%j is encoded as UTF-8, and a lone surrogate as three bytes', (text, bytes) => {
  expect([...encode(text)]).toEqual(bytes);
});

test('different texts are encoded as different bytes, lone surrogates included', () => {
  // Every code unit, and all pairs and triples of code units at the edges of the surrogates and of the byte lengths.
  const edges = [
    0x0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xd800, 0xd801, 0xdbff, 0xdc00, 0xdc01, 0xdfff, 0xe000, 0xfffd, 0xffff,
  ];
  const texts = [
    ...Array.from({ length: 0x1_0000 }, (_, code) => String.fromCharCode(code)),
    ...edges.flatMap((first) => edges.map((second) => String.fromCharCode(first, second))),
    ...edges.flatMap((first) =>
      edges.flatMap((second) => edges.map((third) => String.fromCharCode(first, second, third))),
    ),
  ];
  expect(new Set(texts.map((text) => Buffer.from(encode(text)).toString('latin1'))).size).toBe(texts.length);
  fc.assert(
    fc.property(units, units, (first, second) => {
      expect(Buffer.from(encode(first)).equals(encode(second))).toBe(first === second);
    }),
  );
});

test.each<[string, object | undefined]>([
  ['no process', undefined],
  ['no getBuiltinModule', {}],
  ['no node:crypto', { getBuiltinModule: () => undefined }],
  [
    'a build without crypto',
    {
      getBuiltinModule: () => {
        throw new Error('ERR_NO_CRYPTO');
      },
    },
  ],
])('a runtime with %s computes the same digest', async (_, process) => {
  const expected = sha256('ключ\ud800');
  vi.resetModules();
  const fresh = await import('../../src/web/sha256.js');
  vi.stubGlobal('process', process);
  const digest = fresh.sha256('ключ\ud800');
  vi.unstubAllGlobals();
  expect(digest).toBe(expected);
});

test('where node:crypto is present, it computes the digest', async () => {
  vi.resetModules();
  const fresh = await import('../../src/web/sha256.js');
  const create = vi.fn(() => ({ update: () => ({ digest: () => 'native' }) }));
  vi.stubGlobal('process', {
    getBuiltinModule: (name: string) => (name === 'node:crypto' ? { createHash: create } : undefined),
  });
  const digests = [fresh.sha256('a'), fresh.sha256('b')];
  vi.unstubAllGlobals();
  expect([digests, create.mock.calls]).toEqual([
    ['native', 'native'],
    [['sha256'], ['sha256']],
  ]);
});
