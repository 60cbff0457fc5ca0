/** The fields that speak of limits, in tables: what is written, and what is made of what others write. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readDate, readRateLimit, readReset, readRetryAfter, readWait, writeRateLimit, writeRetryAfter } from '../src/web/ratelimit-headers.js';

const NOW = Date.UTC(2026, 10, 21, 8, 0, 0);
const HUGE = '9'.repeat(400);
const MOST = 999_999_999_999_999;

/** What no field can mean. */
const GARBAGE = ['', ' ', '-1', '+1', '1e3', '0x10', 'Infinity', 'NaN', '1,5', '5 s', '5, 10', '.5', '5.', 'foo 5', 'soon', '\u0665', 'null', '{}'];

describe('Retry-After, written', () => {
  test.each([
    [0, '1'],
    [1e-9, '1'],
    [1, '1'],
    [1.000001, '2'],
    [59.5, '60'],
    [1e15, String(MOST)],
    [1e300, String(MOST)],
    [Infinity, String(MOST)],
  ])('%d s: %s', (seconds, written) => expect(writeRetryAfter(seconds)).toBe(written));

  test('trap 30: reads back as the true wait or more, and less than a second more, but never as nothing', () => {
    fc.assert(fc.property(fc.double({ min: 0, max: 1e14, noNaN: true }), (seconds) => {
      const read = readRetryAfter(writeRetryAfter(seconds), NOW)!;
      expect(read).toBeGreaterThanOrEqual(Math.max(1, seconds));
      expect(read).toBeLessThan(Math.max(1.5, seconds + 1));
    }));
  });
});

describe('RateLimit, written', () => {
  test.each([
    [{ name: 'default', limit: 100, window: 60, remaining: 40, reset: 5 }, '"default";q=100;w=60', '"default";r=40;t=5'],
    [{ name: 'default', limit: 100, window: 60, remaining: 40.9, reset: 5.1 }, '"default";q=100;w=60', '"default";r=40;t=6'],
    [{ name: 'default', limit: 100, window: 60, remaining: -3, reset: -1 }, '"default";q=100;w=60', '"default";r=0;t=0'],
    [{ name: 'half', limit: 1, window: 2, remaining: 0, reset: 2 }, '"half";q=1;w=2', '"half";r=0;t=2'],
    [{ name: 'slow', limit: 0.5, window: 1, remaining: 0, reset: 2 }, '"slow";q=1;w=2', '"slow";r=0;t=2'],
    [{ name: 'fast', limit: 10, window: 0.5, remaining: 1 }, '"fast";q=20;w=1', '"fast";r=1'],
    [{ name: 'odd', limit: 10, window: 1.5, remaining: 1 }, '"odd";q=13;w=2', '"odd";r=1'],
    [{ name: 'slots', limit: 5, remaining: 0 }, '"slots";q=5;qu="concurrent-requests"', '"slots";r=0'],
    [{ name: 'slots', limit: Infinity, remaining: Infinity }, `"slots";q=${MOST};qu="concurrent-requests"`, `"slots";r=${MOST}`],
    [{ name: 'a "b" \\ é', limit: 1, window: 1, remaining: 1 }, String.raw`"a \"b\" \\ ?";q=1;w=1`, String.raw`"a \"b\" \\ ?";r=1`],
  ])('%j', (quota, policy, state) => expect(writeRateLimit(quota)).toEqual({ policy, state }));

  test('reads back as the reset rounded up, whatever the name', () => {
    const quota = fc.record({ name: fc.string(), limit: fc.integer({ min: 1 }), window: fc.constant(60), remaining: fc.constant(0), reset: fc.double({ min: 0, max: 1e9, noNaN: true }) });
    fc.assert(fc.property(quota, (told) => {
      expect(readRateLimit(writeRateLimit(told).state)).toBe(Math.ceil(told.reset));
    }));
    fc.assert(fc.property(quota, quota, (one, other) => {
      const field = `${writeRateLimit(one).state}, ${writeRateLimit(other).state}`;
      expect(readRateLimit(field)).toBe(Math.ceil(Math.max(one.reset, other.reset)));
    }));
  });
});

describe('an HTTP date', () => {
  const JANUARY = Date.UTC(2026, 0, 6, 8, 49, 37);

  test.each<[string, string, number | undefined]>([
    ['IMF-fixdate', 'Tue, 06 Jan 2026 08:49:37 GMT', JANUARY],
    ['RFC 850', 'Tuesday, 06-Jan-26 08:49:37 GMT', JANUARY],
    ['asctime, which is UTC, too', 'Tue Jan  6 08:49:37 2026', JANUARY],
    ['asctime with a day of two digits', 'Tue Jan 16 08:49:37 2026', JANUARY + 10 * 86_400_000],
    ['the last of a year', 'Thu, 31 Dec 2026 23:59:59 GMT', Date.UTC(2026, 11, 31, 23, 59, 59)],
    ['a leap day', 'Thu, 29 Feb 2024 00:00:00 GMT', Date.UTC(2024, 1, 29)],
    ['a leap second', 'Sat, 31 Dec 2016 23:59:60 GMT', Date.UTC(2017, 0, 1)],
    ['the last that can be written', 'Fri, 31 Dec 9999 23:59:59 GMT', Date.UTC(9999, 11, 31, 23, 59, 59)],
    ['before 1970', 'Sun, 06 Nov 1904 08:49:37 GMT', Date.UTC(1904, 10, 6, 8, 49, 37)],
    ['two digits from the last century', 'Sunday, 06-Nov-94 08:49:37 GMT', Date.UTC(1994, 10, 6, 8, 49, 37)],
    ['two digits 50 years ahead', 'Friday, 06-Nov-76 08:49:37 GMT', Date.UTC(2076, 10, 6, 8, 49, 37)],
    ['two digits 51 years ahead', 'Sunday, 06-Nov-77 08:49:37 GMT', Date.UTC(1977, 10, 6, 8, 49, 37)],
    ['29 February of another year', 'Wed, 29 Feb 2023 00:00:00 GMT', undefined],
    ['31 April', 'Tue, 31 Apr 2026 00:00:00 GMT', undefined],
    ['day 0', 'Tue, 00 Jan 2026 00:00:00 GMT', undefined],
    ['an unknown month', 'Tue, 06 Foo 2026 08:49:37 GMT', undefined],
    ['a month of parts of two', 'Tue, 06 Anf 2026 08:49:37 GMT', undefined],
    ['24 hours', 'Tue, 06 Jan 2026 24:00:00 GMT', undefined],
    ['60 minutes', 'Tue, 06 Jan 2026 08:60:00 GMT', undefined],
    ['61 seconds', 'Tue, 06 Jan 2026 08:49:61 GMT', undefined],
    ['another zone', 'Tue, 06 Jan 2026 08:49:37 CET', undefined],
    ['an offset', 'Tue, 06 Jan 2026 08:49:37 +0100', undefined],
    ['no zone', 'Tue, 06 Jan 2026 08:49:37', undefined],
    ['a zone after asctime', 'Tue Jan  6 08:49:37 2026 GMT', undefined],
    ['no day of the week', '06 Jan 2026 08:49:37 GMT', undefined],
    ['a day of one digit', 'Tue, 6 Jan 2026 08:49:37 GMT', undefined],
    ['something before it', 'x Tue, 06 Jan 2026 08:49:37 GMT', undefined],
    ['something after it', 'Tue, 06 Jan 2026 08:49:37 GMT x', undefined],
    ['something before RFC 850', 'x Tuesday, 06-Jan-26 08:49:37 GMT', undefined],
    ['something after RFC 850', 'Tuesday, 06-Jan-26 08:49:37 GMT x', undefined],
    ['something before asctime', 'x Tue Jan  6 08:49:37 2026', undefined],
    ['ISO 8601', '2026-01-06T08:49:37Z', undefined],
    ['what Date.parse makes of anything', 'foo 5', undefined],
    ['nothing', '', undefined],
  ])('%s: %s', (_, text, expected) => expect(readDate(text, NOW)).toBe(expected));

  test('two digits of a year around the turn of a century', () => {
    const at = (year: number, text: string): number => new Date(readDate(`Friday, 01-Jan-${text} 00:00:00 GMT`, Date.UTC(year, 6))!).getUTCFullYear();
    expect([at(2099, '00'), at(2099, '99'), at(2101, '99'), at(2100, '00'), at(2100, '51')]).toEqual([2100, 2099, 2099, 2100, 2051]);
  });

  test('of any second is read in each form as what it is', () => {
    const second = fc.integer({ min: Math.ceil(NOW / 1000) - 49 * 31_536_000, max: Math.floor(NOW / 1000) + 49 * 31_536_000 });
    fc.assert(fc.property(second, (seconds) => {
      const date = new Date(seconds * 1000);
      const fixdate = date.toUTCString();
      const [, day, month, year, time] = fixdate.split(/[ ,]+/);
      const rfc850 = `Weekday, ${day}-${month}-${year!.slice(2)} ${time} GMT`;
      const asctime = `Day ${month} ${day!.replace(/^0/, ' ')} ${time} ${year}`;
      expect([fixdate, rfc850, asctime].map((text) => readDate(text, NOW))).toEqual([date, date, date].map(Number));
    }));
  });
});

describe('trap 29: Retry-After', () => {
  test.each<[string, number | undefined]>([
    ['0', 0],
    ['1', 1],
    ['007', 7],
    ['1.5', 1.5],
    ['1.25', 1.25],
    ['31', 31],
    ['86400', 86_400],
    ['4000000000', 4e9],
    [HUGE, MOST],
    ['Sat, 21 Nov 2026 08:00:30 GMT', 30],
    ['Saturday, 21-Nov-26 08:00:30 GMT', 30],
    ['Sat Nov 21 08:00:30 2026', 30],
    ['Fri, 31 Dec 9999 23:59:59 GMT', (Date.UTC(9999, 11, 31, 23, 59, 59) - NOW) / 1000],
    ['Sat, 21 Nov 2026 08:00:00 GMT', 0],
    ['Sat, 21 Nov 2026 07:59:59 GMT', 0],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
    ...GARBAGE.map((text): [string, undefined] => [text, undefined]),
  ])('%s', (text, seconds) => expect(readRetryAfter(text, NOW)).toBe(seconds));
});

describe('trap 29: RateLimit', () => {
  test.each<[string, number | undefined]>([
    ['"default";r=0;t=5', 5],
    ['"default";t=5;r=0', 5],
    ['"default"; r=0; t=5', 5],
    ['"default" ;\tr=0 ;\tt=5 ', 5],
    ['default;r=0;t=5', 5],
    ['"default";r=0;t=0', 0],
    ['"default";r=0;t=5;pk=:dXNlcg==:', 5],
    ['"second";r=0;t=1, "day";r=0;t=3600', 3_600],
    ['"day";r=0;t=3600, "second";r=0;t=1', 3_600],
    ['"second";r=0;t=1, "day";r=10;t=3600', 1],
    ['"day";r=10;t=3600,"second";r=0;t=1', 1],
    ['"second";r=1;t=1, "day";r=10;t=3600', 3_600],
    ['"second";t=2, "day";t=1', 2],
    ['"slots";r=0, "day";r=10;t=3600', undefined],
    ['"a;r=0;t=99";r=1;t=1, "b";r=0;t=2', 2],
    [String.raw`"a\";r=0;t=99, \\";r=0;t=3`, 3],
    ['"never closed;r=0;t=5', undefined],
    ['"never closed\\', undefined],
    ['limit=100, remaining=0, reset=5', 5],
    ['limit=100,remaining=0,reset=5', 5],
    ['reset=5', 5],
    ['reset=5, limit=100, remaining=0', 5],
    ['limit=100, remaining=7, reset=5', 5],
    ['limit=10, remaining=0, reset=0', 0],
    ['limit=10, remaining=0, reset=soon', undefined],
    ['"a";r=1;t=1;noreset=1, "b";r=0;t=9', 9],
    ['"a";r=1;t=1;x-reset=1, "b";r=0;t=9', 9],
    ['"a reset=1";r=1;t=1, "b";r=0;t=9', 9],
    [`"default";r=0;t=${HUGE}`, MOST],
    ['"default"', undefined],
    ['"default";r=0', undefined],
    ['"default";r=0;t', undefined],
    ['"default";r=0;t=', undefined],
    ['"default";r=0;t=-5', undefined],
    ['"default";r=0;t=5x', undefined],
    ['"default";r=0;t="5"', undefined],
    ['"default";r=0;t=5 6', undefined],
    ['"default";r=0;tt=5', undefined],
    ['"default";r=0;t=x, "other";r=0;t=3', 3],
    ['"other";r=0;t=3, "default";r=0;t=x', 3],
    ...GARBAGE.map((text): [string, undefined] => [text, undefined]),
  ])('%s', (text, seconds) => expect(readRateLimit(text)).toBe(seconds));

  test('takes no longer than its text', () => {
    for (const text of ['"', '"\\', '\\"', '"\\"', ';', '; ', ';r=', ',', '";r=0;t=', 'reset=']) {
      const started = performance.now();
      readRateLimit(text.repeat(200_000));
      expect(performance.now() - started, text).toBeLessThan(2_000);
    }
  });
});

describe('trap 29: RateLimit-Reset and X-RateLimit-Reset', () => {
  test.each<[string, number | undefined]>([
    ['0', 0],
    ['5', 5],
    ['2.5', 2.5],
    ['86400', 86_400],
    ['999999999', 999_999_999],
    [String(NOW / 1000 + 30), 30],
    [String(NOW / 1000 + 30.5), 30.5],
    [String(NOW + 30_000), 30],
    [String(NOW + 1), 0.001],
    [String(NOW / 1000), 0],
    [String(NOW / 1000 - 30), 0],
    [String(NOW - 30_000), 0],
    ['1000000000', 0],
    ['999999999999', 999_999_999_999 - NOW / 1000],
    ['1000000000000', 0],
    [HUGE, (MOST - NOW) / 1000],
    ...GARBAGE.map((text): [string, undefined] => [text, undefined]),
    ['Sat, 21 Nov 2026 08:00:30 GMT', undefined],
  ])('%s', (text, seconds) => expect(readReset(text, NOW)).toBe(seconds));
});

describe('the wait', () => {
  const wait = (fields: Record<string, string>): number | undefined => readWait(new Headers(fields), NOW);
  const all = { 'Retry-After': '1', RateLimit: '"a";r=0;t=2', 'RateLimit-Reset': '3', 'X-RateLimit-Reset': '4' };
  type Name = keyof typeof all;
  const names = Object.keys(all) as Name[];

  test('is that of the first field, in this order, that can be read', () => {
    const left = new Headers(all);
    for (const [index, name] of names.entries()) {
      expect(readWait(left, NOW)).toBe(index + 1);
      left.set(name, 'garbage');
      expect(readWait(left, NOW)).toBe([2, 3, 4, undefined][index]);
      left.delete(name);
    }
    expect(readWait(left, NOW)).toBeUndefined();
  });

  test('is nothing, not that of another field, where the first is over', () => {
    expect(wait({ ...all, 'Retry-After': '0' })).toBe(0);
    expect(wait({ ...all, 'Retry-After': 'Sat, 21 Nov 2026 07:00:00 GMT' })).toBe(0);
  });

  describe.each([
    ['an hour behind', -3_600_000],
    ['right', 0],
    ['an hour ahead', 3_600_000],
    ['fifty years behind', -50 * 365 * 86_400_000],
  ])('the clock here is %s', (_, skew) => {
    test.each<[string, Record<string, string>]>([
      ['Retry-After', { 'Retry-After': 'Sat, 21 Nov 2026 08:00:30 GMT' }],
      ['Retry-After of asctime', { 'Retry-After': 'Sat Nov 21 08:00:30 2026' }],
      ['Retry-After in seconds', { 'Retry-After': '30' }],
      ['RateLimit-Reset', { 'RateLimit-Reset': String(NOW / 1000 + 30) }],
      ['X-RateLimit-Reset', { 'X-RateLimit-Reset': String(NOW / 1000 + 30) }],
      ['X-RateLimit-Reset in milliseconds', { 'X-RateLimit-Reset': String(NOW + 30_000) }],
    ])('%s is measured by Date', (__, fields) => {
      expect(readWait(new Headers({ ...fields, Date: 'Sat, 21 Nov 2026 08:00:00 GMT' }), NOW + skew)).toBe(30);
      expect(readWait(new Headers({ ...fields, Date: 'Sat Nov 21 08:00:00 2026' }), NOW + skew)).toBe(30);
    });
  });

  test.each(['', 'today', '2026-11-21T07:00:00Z', 'Sat, 31 Nov 2026 07:00:00 GMT'])('a Date of "%s" counts for nothing', (date) => {
    expect(wait({ Date: date, 'Retry-After': 'Sat, 21 Nov 2026 08:00:30 GMT' })).toBe(30);
  });

  test('is a finite number >= 0 or undefined, whatever the fields hold', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'grapheme-ascii' }),
      fc.constantFrom(...GARBAGE, ...Object.values(all), HUGE, '"', ';t=', ';r=0', 'reset=', ', ', 'Sat, 21 Nov 2026 08:00:30 GMT', 'Sat Nov 21 08:00:30 2026'),
      fc.nat().map(String),
      fc.bigInt({ min: 0n }).map(String),
      fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
    );
    const text = fc.option(fc.oneof(piece, fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(''))));
    const fields = fc.record(Object.fromEntries(['date', ...names].map((name) => [name.toLowerCase(), text])) as Record<string, typeof text>);
    fc.assert(fc.property(fields, fc.integer({ min: 0, max: 4e12 }), (record, now) => {
      const seconds = readWait({ get: (name) => record[name] ?? null }, now) ?? 0;
      expect(seconds >= 0 && seconds < Infinity).toBe(true);
    }), { numRuns: 2_000 });
  });
});
