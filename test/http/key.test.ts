/** The keys that gates receive: bounded in length, printable, and different for different requests. */
import fc from 'fast-check';
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { boundKey } from '../../src/http/bounded-key.js';
import { get } from '../support/http-client.js';
import { refusingGate } from '../support/fixed-gates.js';
import { sites } from '../support/framework-servers.js';

const REPLACED = /^[ -~]{64}~sha256:[\da-f]{64}$/;
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

describe('a key', () => {
  test('of up to 128 characters is unchanged', () => {
    for (const key of [
      'a',
      'x'.repeat(128),
      '€'.repeat(128),
      '😀'.repeat(64),
      "user:Zoë O'Brien <zoe@example.com>",
      '%0d%0a',
      '?'.repeat(64),
    ])
      expect(boundKey(key)).toBe(key);
  });

  test('of 129 characters or more is replaced by a readable prefix and its digest', () => {
    const jwt = `header:authorization:Bearer eyJhbGciOiJIUzI1NiJ9.${'a'.repeat(500)}`;
    expect(boundKey(jwt)).toBe(`${jwt.slice(0, 64)}~sha256:${sha256(jwt)}`);
    expect(boundKey('x'.repeat(129))).toBe(`${'x'.repeat(64)}~sha256:${sha256('x'.repeat(129))}`);
    expect(boundKey(`user:${'é'.repeat(200)}`)).toBe(
      `user:${'?'.repeat(59)}~sha256:${sha256(`user:${'é'.repeat(200)}`)}`,
    );
    expect(boundKey('😀'.repeat(1_000))).toMatch(REPLACED);
  });

  test('with control characters, line separators, directional marks or lone surrogates is replaced (FAULTS 42)', () => {
    const marks = [
      '\0',
      '\t',
      '\n',
      '\r',
      '\u001B',
      '\u007F',
      '\u0085',
      '\u009B',
      '\u2028',
      '\u2029',
      '\u202E',
      '\u2066',
      '\uD800',
      '\uDFFF',
      '\uDC00\uD800',
    ];
    for (const mark of marks) expect(boundKey(`a${mark}b`), JSON.stringify(mark)).toMatch(REPLACED);
    expect(boundKey('a\r\nb')).toBe(`a??b${'.'.repeat(60)}~sha256:${sha256('a\r\nb')}`);
  });

  test('that a client sends never equals a replacement', () => {
    const long = boundKey('x'.repeat(1_000));
    expect(boundKey(long)).not.toBe(long);
    expect(boundKey(boundKey('a\nb'))).not.toBe(boundKey('a\nb'));
    expect(long).toHaveLength(136);
  });

  test('never equals the result for another key, also in UTF-8 (FAULTS 35, 43)', () => {
    const unit = fc.oneof(
      fc.integer({ min: 0, max: 0xffff }),
      fc.integer({ min: 0xd800, max: 0xdfff }),
      fc.constantFrom(0x61, 0x3f, 0xe9, 0xfffd),
    );
    const text = fc.array(unit, { maxLength: 400 }).map((units) => String.fromCharCode(...units));
    const utf8 = (key: string): string => Buffer.from(boundKey(key)).toString('latin1');
    fc.assert(
      fc.property(text, text, fc.nat(), unit, (one, other, index, code) => {
        expect(utf8(one) === utf8(other)).toBe(one === other);
        // These keys differ in one code unit.
        const at = index % (one.length + 1);
        const near = one.slice(0, at) + String.fromCharCode(code) + one.slice(at + 1);
        expect(utf8(one) === utf8(near)).toBe(one === near);
      }),
      { numRuns: 500 },
    );
    const surrogates = Array.from({ length: 0x800 }, (_, index) => String.fromCharCode(0xd800 + index));
    for (const rest of ['', 'x'.repeat(200)])
      expect(new Set(['\uFFFD', ...surrogates].map((each) => utf8(each + rest))).size).toBe(0x801);
  });

  test('has at most 136 characters, which are printable and on one line', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        const key = boundKey(text);
        expect(key.length).toBeLessThanOrEqual(136);
        expect(key).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Cs}]/u);
      }),
    );
  });

  test.each<[string, (text: string) => string]>([
    ['sliced from a longer text', (text) => text.slice(0, 100)],
    ['concatenated with a slice of a longer text', (text) => `path:${text.slice(0, 100)}`],
    ['matched in a longer text', (text) => /^[^?]+/.exec(text)?.[0] ?? ''],
    ['replaced', (text) => text],
  ])('%s does not keep the longer text alive (FAULTS 35)', (_, cut) => {
    const kept: string[] = [];
    const gc = globalThis.gc!;
    gc();
    const before = process.memoryUsage().heapUsed;
    for (let index = 0; index < 1_000; index++)
      kept.push(
        boundKey(cut(Buffer.from(`${String(index).padStart(110, '/')}?${'x'.repeat(15_000)}`).toString('latin1'))),
      );
    gc();
    expect((process.memoryUsage().heapUsed - before) / kept.length).toBeLessThan(2_000);
    expect(new Set(kept).size).toBeGreaterThan(0);
  });
});

describe.each(sites)('a key of %s', (name, serve) => {
  const long = 'k'.repeat(5_000);
  const agent = (header: string): object => ({ headers: { 'x-api-key': header } });
  const keysOf = async (
    key: unknown,
    path = '/',
    wanted: object = {},
    setting: object = {},
  ): Promise<[string | undefined, string | undefined]> => {
    const { keyed, keys } = refusingGate();
    const refusals: (string | undefined)[] = [];
    const site = await serve(
      { keyed, key: key as string, onLimited: (refusal) => void refusals.push(refusal.key) },
      setting,
    );
    await get(site, path, wanted);
    return [keys[0], refusals[0]];
  };

  test.each<[string, unknown, string, object, object, string]>([
    ["'header:NAME'", 'header:x-api-key', '/', agent(long), {}, `header:x-api-key:${long}`],
    ["'query:NAME'", 'query:token', `/?token=${long}`, {}, {}, `query:token:${long}`],
    ["'user'", 'user', '/', {}, { user: { id: long } }, `user:${long}`],
    ['a template', '{user.id}:{headers.x-api-key}', '/', agent(long), { user: { id: 'ada' } }, `ada:${long}`],
    ['a path', 'path:{path}', `/${long}`, {}, {}, `path:/${long}`],
    ['a function', () => long, '/', {}, {}, long],
    ['an asynchronous function', async () => long, '/', {}, {}, long],
  ])('from %s is bounded, for the gate and for onLimited (FAULTS 35)', async (_, key, path, wanted, setting, whole) => {
    const expected = `${whole.slice(0, 64)}~sha256:${sha256(whole)}`;
    expect(await keysOf(key, path, wanted, setting)).toEqual([expected, expected]);
  });

  if (['express', 'koa', 'fastify'].includes(name))
    test("from 'ip' is bounded where a trusted proxy forwards the text of a client (FAULTS 35)", async () => {
      const whole = `ip:${long}`;
      const expected = `${whole.slice(0, 64)}~sha256:${sha256(whole)}`;
      const [key] = await keysOf('ip', '/', { headers: { 'x-forwarded-for': long } }, { trustProxy: true });
      expect([expected, 'ip:127.0.0.1']).toContain(key);
    });

  test('with line breaks is printable in every message, log and header (FAULTS 42)', async () => {
    const { keyed, keys } = refusingGate();
    const refusals: unknown[] = [];
    const site = await serve({
      keyed,
      key: 'query:token',
      onLimited: (refusal) => {
        refusals.push(refusal.key, refusal.error.message);
        throw new Error(`refused ${refusal.key}`);
      },
    });
    const seen = await get(site, '/?token=x%0d%0a2026-01-01%20INFO%20all%20is%20well%1b%5B2J%E2%80%AE');
    expect([seen.status, keys]).toEqual([429, [expect.stringMatching(REPLACED)]]);
    const written = [
      ...keys,
      ...refusals,
      ...site.logged,
      ...site.failures,
      seen.body,
      ...Object.values(seen.headers),
    ].map(String);
    expect(site.logged).toHaveLength(1);
    for (const text of written) expect(text).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u);
  });
});
