/** The header fields in which a server describes its limits: their text, and the wait that a client reads back. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { writeRateLimit, writeRetryAfter } from '../../src/web/ratelimit-headers.js';
import { readField, readRateLimit } from '../../src/web/retry-after.js';
import { MAX_INTEGER, NOW } from './field-values.js';

describe('writeRetryAfter', () => {
  test.each([
    [0, '1'],
    [1e-9, '1'],
    [1, '1'],
    [1.000001, '2'],
    [59.5, '60'],
    [1e15, String(MAX_INTEGER)],
    [1e300, String(MAX_INTEGER)],
    [Infinity, String(MAX_INTEGER)],
  ])('writes %d s as %s', (seconds, written) => expect(writeRetryAfter(seconds)).toBe(written));

  test('trap 30: a written wait reads back as at least the true wait and 1 s, and less than 1 s more', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e9 - 1, noNaN: true }), (seconds) => {
        const read = readField(writeRetryAfter(seconds), NOW)!;
        expect(read).toBeGreaterThanOrEqual(Math.max(1, seconds));
        expect(read).toBeLessThan(Math.max(1.5, seconds + 1));
      }),
    );
  });
});

describe('writeRateLimit', () => {
  test.each([
    [
      { name: 'default', limit: 100, window: 60, remaining: 40, reset: 5 },
      '"default";q=100;w=60',
      '"default";r=40;t=5',
    ],
    [
      { name: 'default', limit: 100, window: 60, remaining: 40.9, reset: 5.1 },
      '"default";q=100;w=60',
      '"default";r=40;t=6',
    ],
    [
      { name: 'default', limit: 100, window: 60, remaining: -3, reset: -1 },
      '"default";q=100;w=60',
      '"default";r=0;t=0',
    ],
    [{ name: 'half', limit: 1, window: 2, remaining: 0, reset: 2 }, '"half";q=1;w=2', '"half";r=0;t=2'],
    [{ name: 'slow', limit: 0.5, window: 1, remaining: 0, reset: 2 }, '"slow";q=1;w=2', '"slow";r=0;t=2'],
    [{ name: 'fast', limit: 10, window: 0.5, remaining: 1 }, '"fast";q=20;w=1', '"fast";r=1'],
    [{ name: 'odd', limit: 10, window: 1.5, remaining: 1 }, '"odd";q=13;w=2', '"odd";r=1'],
    [{ name: 'slots', limit: 5, remaining: 0 }, '"slots";q=5;qu="concurrent-requests"', '"slots";r=0'],
    [
      { name: 'slots', limit: Infinity, remaining: Infinity },
      `"slots";q=${MAX_INTEGER};qu="concurrent-requests"`,
      `"slots";r=${MAX_INTEGER}`,
    ],
    [
      { name: 'a "b" \\ é', limit: 1, window: 1, remaining: 1 },
      String.raw`"a \"b\" \\ ?";q=1;w=1`,
      String.raw`"a \"b\" \\ ?";r=1`,
    ],
  ])('writes %j', (quota, policy, state) => expect(writeRateLimit(quota)).toEqual({ policy, state }));

  test('a written reset reads back rounded up, with any name', () => {
    const quota = fc.record({
      name: fc.string(),
      limit: fc.integer({ min: 1 }),
      window: fc.constant(60),
      remaining: fc.constant(0),
      reset: fc.double({ min: 0, max: 1e9, noNaN: true }),
    });
    fc.assert(
      fc.property(quota, (written) => {
        expect(readRateLimit(writeRateLimit(written).state)).toBe(Math.ceil(written.reset));
      }),
    );
    fc.assert(
      fc.property(quota, quota, (first, second) => {
        const field = `${writeRateLimit(first).state}, ${writeRateLimit(second).state}`;
        expect(readRateLimit(field)).toBe(Math.ceil(Math.max(first.reset, second.reset)));
      }),
    );
  });
});
