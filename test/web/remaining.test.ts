/** What remains of the quotas of an upstream, in the header fields of each dialect. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readRemaining } from '../../src/web/remaining.js';

describe('remaining units', () => {
  test.each<[string, Record<string, string>, Record<string, number>]>([
    [
      'OpenAI',
      { 'x-ratelimit-remaining-requests': '59', 'x-ratelimit-remaining-tokens': '149984' },
      { cost: 59, tokens: 149_984 },
    ],
    [
      'Anthropic',
      {
        'anthropic-ratelimit-requests-remaining': '49',
        'anthropic-ratelimit-tokens-remaining': '8000',
        'anthropic-ratelimit-input-tokens-remaining': '30000',
        'anthropic-ratelimit-output-tokens-remaining': '8000',
      },
      { cost: 49, tokens: 8_000, 'input-tokens': 30_000, 'output-tokens': 8_000 },
    ],
    ['GitHub, the main resource', { 'X-RateLimit-Remaining': '4990', 'X-RateLimit-Resource': 'core' }, { cost: 4_990 }],
    ['GitHub, another resource', { 'x-ratelimit-remaining': '29', 'x-ratelimit-resource': 'search' }, { search: 29 }],
    ['Envoy, Discord', { 'x-ratelimit-remaining': '5' }, { cost: 5 }],
    ['X', { 'x-rate-limit-remaining': '899' }, { cost: 899 }],
    ['IETF drafts 00 to 06', { 'ratelimit-remaining': '7' }, { cost: 7 }],
    ['IETF draft 07', { ratelimit: 'limit=100, remaining=50, reset=5' }, { cost: 50 }],
    [
      'later IETF drafts: the lowest of several quotas',
      { ratelimit: '"default";r=50;t=10, "day";r=20;t=3600' },
      { cost: 20 },
    ],
    [
      'the lowest of several fields',
      { ratelimit: '"a";r=50', 'x-ratelimit-remaining': '5', 'ratelimit-remaining': '9' },
      { cost: 5 },
    ],
    ['the lowest of a list', { 'x-ratelimit-remaining': '30, 20' }, { cost: 20 }],
    ['a fraction', { 'x-ratelimit-remaining': '0.5' }, { cost: 0.5 }],
    ['zero', { 'x-ratelimit-remaining-tokens': '0' }, { tokens: 0 }],
    ['unreadable values', { 'x-ratelimit-remaining': 'many', 'ratelimit-remaining': '-1', ratelimit: '"a";r=x' }, {}],
    ['a used-up quota without a number', { ratelimit: '"a";t=5', 'x-ratelimit-reset': '30' }, {}],
    ['no field', { 'content-type': 'text/plain' }, {}],
  ])('of %s', (_, headers, expected) => {
    expect(readRemaining(new Headers(headers))).toEqual(expected);
    expect(readRemaining(headers)).toEqual(expected);
  });

  test('a resource may have any name', () => {
    const remaining = readRemaining({ 'x-ratelimit-remaining': '1', 'x-ratelimit-resource': '__proto__' });
    expect(Object.entries(remaining)).toEqual([['__proto__', 1]]);
    expect(Object.getPrototypeOf(remaining)).toBe(Object.prototype);
  });

  test('are finite numbers >= 0, for arbitrary fields', () => {
    const names = [
      'ratelimit',
      'ratelimit-remaining',
      'x-ratelimit-remaining',
      'x-ratelimit-resource',
      'x-ratelimit-remaining-tokens',
    ];
    const value = fc.oneof(fc.string(), fc.stringMatching(/^[r0-9=;,. "-]*$/), fc.nat().map(String));
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...names), value), (headers) => {
        for (const units of Object.values(readRemaining(headers)))
          expect(units >= 0 && Number.isFinite(units)).toBe(true);
      }),
    );
  });
});
