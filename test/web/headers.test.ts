/** The header fields about limits, in tables: the fields that we write, and the waits that we read in the fields of others. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { writeRateLimit, writeRetryAfter } from '../../src/web/ratelimit-headers.js';
import { type HeaderSource, readDate, readField, readRateLimit, readWait } from '../../src/web/retry-after.js';

const NOW = Date.UTC(2026, 10, 21, 8, 0, 0);
const HUGE = '9'.repeat(400);
const MOST = 999_999_999_999_999;

/** Values that no field can hold. */
const GARBAGE = [
  '',
  ' ',
  ',',
  '-1',
  '+1',
  '1e3',
  '0x10',
  'Infinity',
  '-Infinity',
  'NaN',
  '5 s',
  '.5',
  '5.',
  'foo 5',
  'soon',
  '\u0665',
  '\uFF15',
  '\u00B2',
  'null',
  'undefined',
  '{}',
  '5\u0000',
  '1_000',
];

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
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e9 - 1, noNaN: true }), (seconds) => {
        const read = readField(writeRetryAfter(seconds), NOW)!;
        expect(read).toBeGreaterThanOrEqual(Math.max(1, seconds));
        expect(read).toBeLessThan(Math.max(1.5, seconds + 1));
      }),
    );
  });
});

describe('RateLimit, written', () => {
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
      `"slots";q=${MOST};qu="concurrent-requests"`,
      `"slots";r=${MOST}`,
    ],
    [
      { name: 'a "b" \\ é', limit: 1, window: 1, remaining: 1 },
      String.raw`"a \"b\" \\ ?";q=1;w=1`,
      String.raw`"a \"b\" \\ ?";r=1`,
    ],
  ])('%j', (quota, policy, state) => expect(writeRateLimit(quota)).toEqual({ policy, state }));

  test('reads back as the reset rounded up, whatever the name', () => {
    const quota = fc.record({
      name: fc.string(),
      limit: fc.integer({ min: 1 }),
      window: fc.constant(60),
      remaining: fc.constant(0),
      reset: fc.double({ min: 0, max: 1e9, noNaN: true }),
    });
    fc.assert(
      fc.property(quota, (told) => {
        expect(readRateLimit(writeRateLimit(told).state)).toBe(Math.ceil(told.reset));
      }),
    );
    fc.assert(
      fc.property(quota, quota, (one, other) => {
        const field = `${writeRateLimit(one).state}, ${writeRateLimit(other).state}`;
        expect(readRateLimit(field)).toBe(Math.ceil(Math.max(one.reset, other.reset)));
      }),
    );
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
    ['+0000 for a zone', 'Tue, 06 Jan 2026 08:49:37 +0000', JANUARY],
    ['-0000 for a zone', 'Tue, 06 Jan 2026 08:49:37 -0000', JANUARY],
    ['UTC for a zone', 'Tue, 06 Jan 2026 08:49:37 UTC', JANUARY],
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
    const at = (year: number, text: string): number =>
      new Date(readDate(`Friday, 01-Jan-${text} 00:00:00 GMT`, Date.UTC(year, 6))!).getUTCFullYear();
    expect([at(2099, '00'), at(2099, '99'), at(2101, '99'), at(2100, '00'), at(2100, '51')]).toEqual([
      2100, 2099, 2099, 2100, 2051,
    ]);
  });

  test('of any second is read in each form as what it is', () => {
    const second = fc.integer({
      min: Math.ceil(NOW / 1000) - 49 * 31_536_000,
      max: Math.floor(NOW / 1000) + 49 * 31_536_000,
    });
    fc.assert(
      fc.property(second, (seconds) => {
        const date = new Date(seconds * 1000);
        const fixdate = date.toUTCString();
        const [, day, month, year, time] = fixdate.split(/[ ,]+/);
        const rfc850 = `Weekday, ${day}-${month}-${year!.slice(2)} ${time} GMT`;
        const asctime = `Day ${month} ${day!.replace(/^0/, ' ')} ${time} ${year}`;
        expect([fixdate, rfc850, asctime].map((text) => readDate(text, NOW))).toEqual([date, date, date].map(Number));
      }),
    );
  });
});

describe('trap 29: a time in a field', () => {
  const DATE = 'Sat, 21 Nov 2026 08:00:30 GMT';
  const LATER = 'Sat, 21 Nov 2026 08:01:30 GMT';

  test.each<[string, number | undefined]>([
    ['0', 0],
    ['1', 1],
    ['007', 7],
    ['1.5', 1.5],
    ['1.25', 1.25],
    ['2.0', 2],
    ['31', 31],
    ['86400', 86_400],
    ['999999999', 999_999_999],
    [' 30 ', 30],
    // HTTP dates
    [DATE, 30],
    ['Sat, 21 Nov 2026 08:00:30 +0000', 30],
    ['Saturday, 21-Nov-26 08:00:30 GMT', 30],
    ['Sat Nov 21 08:00:30 2026', 30],
    ['Fri, 31 Dec 9999 23:59:59 GMT', (Date.UTC(9999, 11, 31, 23, 59, 59) - NOW) / 1000],
    ['Sat, 21 Nov 2026 08:00:00 GMT', 0],
    ['Sat, 21 Nov 2026 07:59:59 GMT', 0],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
    // Instants since 1970, in seconds and in milliseconds (FAULTS 20)
    [String(NOW / 1000 + 30), 30],
    [String(NOW / 1000 + 30.5), 30.5],
    [String(NOW + 30_000), 30],
    [String(NOW + 1), 0.001],
    [String(NOW / 1000), 0],
    [String(NOW / 1000 - 30), 0],
    [String(NOW - 30_000), 0],
    ['1000000000', 0],
    ['4000000000', 4e9 - NOW / 1000],
    ['999999999999', 999_999_999_999 - NOW / 1000],
    ['1000000000000', 0],
    [HUGE, (MOST - NOW) / 1000],
    // RFC 3339
    ['2026-11-21T08:00:30Z', 30],
    ['2026-11-21t08:00:30z', 30],
    ['2026-11-21T08:00:30.25Z', 30.25],
    ['2026-11-21T08:00:30.123456789Z', 30.123_456_789],
    ['2026-11-21T10:00:30+02:00', 30],
    ['2026-11-21T04:30:30-0330', 30],
    ['2026-11-21 08:00:30 UTC', 30],
    ['2026-11-21 08:00:30 +0000', 30],
    ['2026-11-21T07:00:00Z', 0],
    ['2026-11-21T08:00:30', undefined],
    ['2026-11-31T08:00:30Z', undefined],
    ['2026-13-21T08:00:30Z', undefined],
    ['2026-00-21T08:00:30Z', undefined],
    ['2026-11-21T24:00:30Z', undefined],
    ['2026-11-21', undefined],
    // Durations as Go writes them
    ['6m0s', 360],
    ['20ms', 0.02],
    ['1h2m3.5s', 3_723.5],
    ['1s', 1],
    ['8.64s', 8.64],
    ['0s', 0],
    ['24h0m0s', 86_400],
    ['2d', 172_800],
    ['5\u00B5s', 5e-6],
    ['5\u00C2\u00B5s', 5e-6],
    ['5us', 5e-6],
    ['1ns', 1e-9],
    [`${'9'.repeat(60)}h`, MOST],
    ['-6m0s', undefined],
    ['6m 0s', undefined],
    ['6M', undefined],
    ['s', undefined],
    ['m5s', undefined],
    ['6m0', undefined],
    ['1.s', undefined],
    ['1s'.repeat(50), undefined],
    // Lists: the longest (FAULTS 40)
    ['30, 30', 30],
    ['5, 10', 10],
    ['10,5', 10],
    ['1,5', 5],
    ['0, 0', 0],
    ['soon, 30', 30],
    ['30, soon', 30],
    ['30,', 30],
    [',30', 30],
    [`${DATE}, 20`, 30],
    [`20, ${DATE}`, 30],
    [`${DATE}, ${LATER}`, 90],
    [`${LATER},${DATE}`, 90],
    ['Saturday, 21-Nov-26 08:00:30 GMT, Sat Nov 21 08:01:30 2026', 90],
    ['Sat, 20', undefined],
    ['Sat, Sat, 20', 20],
    ['Sat', undefined],
    ...GARBAGE.map((text): [string, undefined] => [text, undefined]),
  ])('%s', (text, seconds) => {
    const read = readField(text, NOW);
    if (seconds === undefined) expect(read).toBeUndefined();
    else expect(read).toBeCloseTo(seconds, seconds < 1 ? 9 : 6);
  });

  test.each<[string, number | undefined]>([
    ['0', 0],
    ['6000', 6],
    ['20.5', 0.0205],
    ['86400000', 86_400],
    ['2000000000', 2e6],
    ['100, 6000', 6],
    ['-1', undefined],
  ])('%s milliseconds', (text, seconds) => expect(readField(text, NOW, 0.001)).toBe(seconds));
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
    ['"second";r=1;t=1, "day";r=10;t=3600', undefined],
    ['"second";t=2, "day";t=1', 2],
    ['"second";t=2, "day";r=1;t=10', 2],
    ['"a";r=-1;t=5', 5],
    ['"a";r=0.5;t=5', 5],
    ['"a";r=many;t=5', 5],
    ['constructor;r=0;t=5, toString;r=1;t=9', 5],
    ['"slots";r=0, "day";r=10;t=3600', undefined],
    ['"a;r=0;t=99";r=1;t=1, "b";r=0;t=2', 2],
    [String.raw`"a\";r=0;t=99, \\";r=0;t=3`, 3],
    ['"never closed;r=0;t=5', undefined],
    ['"never closed\\', undefined],
    ['limit=100, remaining=0, reset=5', 5],
    ['limit=100,remaining=0,reset=5', 5],
    ['reset=5', 5],
    ['reset=5, limit=100, remaining=0', 5],
    ['limit=100, remaining=7, reset=5', undefined],
    ['limit=10, remaining=0, reset=5, limit=100, remaining=7, reset=900', 5],
    ['limit=10, remaining=1, reset=5, limit=100, remaining=0, reset=900', 900],
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
    ['1,5', undefined],
    ['5, 10', undefined],
  ])('%s', (text, seconds) => expect(readRateLimit(text)).toBe(seconds));
});

describe('the wait', () => {
  const wait = (fields: Record<string, string>): number | undefined => readWait(new Headers(fields), NOW);
  const stated = {
    'Retry-After-Ms': '1000',
    'X-Ms-Retry-After-Ms': '2000',
    'Retry-After': '3',
    'X-RateLimit-Retry-After': '4',
  };
  const quotas = { RateLimit: '"a";r=0;t=8', 'RateLimit-Reset': '9', 'X-RateLimit-Reset': '7' };
  const all = { ...stated, ...quotas };
  type Name = keyof typeof all;
  const names = Object.keys(all) as Name[];

  test('is that of the first field, in this order, that states a wait', () => {
    const left = new Headers(all);
    for (const [index, name] of Object.keys(stated).entries()) {
      expect(readWait(left, NOW)).toBe(index + 1);
      left.set(name, 'garbage');
      expect(readWait(left, NOW)).toBe([2, 3, 4, 9][index]);
      left.delete(name);
    }
  });

  test('is the longest of the resets, where no field states a wait', () => {
    expect(wait(quotas)).toBe(9);
    expect(wait({ ...quotas, 'RateLimit-Remaining': '1' })).toBe(8);
    expect(wait({ ...quotas, 'RateLimit-Remaining': '1', RateLimit: '"a";r=1;t=8' })).toBe(7);
    expect(
      wait({ ...quotas, 'RateLimit-Remaining': '1', RateLimit: '"a";r=1;t=8', 'X-RateLimit-Remaining': '1' }),
    ).toBeUndefined();
    expect(wait({})).toBeUndefined();
  });

  test('is 0, not that of a reset, where the stated wait is over', () => {
    expect(wait({ ...quotas, 'Retry-After': '0' })).toBe(0);
    expect(wait({ ...quotas, 'Retry-After': 'Sat, 21 Nov 2026 07:00:00 GMT' })).toBe(0);
    expect(wait({ ...quotas, 'Retry-After-Ms': '0', 'Retry-After': '2' })).toBe(2);
  });

  test.each<[string, Record<string, string>, number | undefined]>([
    [
      'OpenAI: the tokens are used up',
      {
        'x-ratelimit-limit-requests': '500',
        'x-ratelimit-remaining-requests': '499',
        'x-ratelimit-reset-requests': '120ms',
        'x-ratelimit-limit-tokens': '30000',
        'x-ratelimit-remaining-tokens': '0',
        'x-ratelimit-reset-tokens': '6m0s',
      },
      360,
    ],
    [
      'OpenAI: the requests are used up',
      {
        'x-ratelimit-remaining-requests': '0',
        'x-ratelimit-reset-requests': '8.64s',
        'x-ratelimit-remaining-tokens': '149984',
        'x-ratelimit-reset-tokens': '6ms',
      },
      8.64,
    ],
    [
      'OpenAI: both are used up',
      {
        'x-ratelimit-remaining-requests': '0',
        'x-ratelimit-reset-requests': '1m',
        'x-ratelimit-remaining-tokens': '0',
        'x-ratelimit-reset-tokens': '20ms',
      },
      60,
    ],
    [
      'OpenAI: quota is left',
      {
        'x-ratelimit-remaining-requests': '4999',
        'x-ratelimit-reset-requests': '12ms',
        'x-ratelimit-remaining-tokens': '159976',
        'x-ratelimit-reset-tokens': '9ms',
      },
      undefined,
    ],
    [
      'OpenAI: usage based tokens',
      { 'x-ratelimit-remaining-tokens_usage_based': '0', 'x-ratelimit-reset-tokens_usage_based': '41.724s' },
      41.724,
    ],
    [
      'OpenAI: a stated wait (openai-node#1477)',
      {
        'retry-after-ms': '6000',
        'retry-after': '6',
        'x-ratelimit-remaining-requests': '0',
        'x-ratelimit-reset-requests': '1h',
      },
      6,
    ],
    ['Azure OpenAI', { 'retry-after': '1', 'retry-after-ms': '43' }, 0.043],
    [
      'Azure OpenAI: unknown numbers',
      { 'x-ratelimit-limit-tokens': '-1', 'x-ratelimit-remaining-tokens': '-1', 'x-ratelimit-reset-tokens': '0' },
      0,
    ],
    ['Azure Cosmos DB', { 'x-ms-retry-after-ms': '1234.5' }, 1.2345],
    [
      'Anthropic: input tokens are used up (anthropic-sdk-typescript#357)',
      {
        'anthropic-ratelimit-requests-remaining': '49',
        'anthropic-ratelimit-requests-reset': '2026-11-21T08:10:00Z',
        'anthropic-ratelimit-input-tokens-remaining': '0',
        'anthropic-ratelimit-input-tokens-reset': '2026-11-21T08:00:45Z',
        'anthropic-ratelimit-output-tokens-remaining': '8000',
        'anthropic-ratelimit-output-tokens-reset': '2026-11-21T08:20:00Z',
      },
      45,
    ],
    [
      'Anthropic: requests and tokens are used up',
      {
        'anthropic-ratelimit-requests-remaining': '0',
        'anthropic-ratelimit-requests-reset': '2026-11-21T08:00:05Z',
        'anthropic-ratelimit-tokens-remaining': '0',
        'anthropic-ratelimit-tokens-reset': '2026-11-21T08:01:00Z',
        'anthropic-ratelimit-output-tokens-remaining': '0',
        'anthropic-ratelimit-output-tokens-reset': '2026-11-21T08:00:50Z',
      },
      60,
    ],
    [
      'Anthropic: a stated wait',
      {
        'retry-after': '12',
        'anthropic-ratelimit-requests-remaining': '0',
        'anthropic-ratelimit-requests-reset': '2026-11-21T08:10:00Z',
      },
      12,
    ],
    [
      'GitHub: the primary limit',
      {
        'x-ratelimit-limit': '5000',
        'x-ratelimit-remaining': '0',
        'x-ratelimit-used': '5000',
        'x-ratelimit-reset': String(NOW / 1000 + 1200),
      },
      1200,
    ],
    [
      'GitHub: a secondary limit',
      { 'retry-after': '60', 'x-ratelimit-remaining': '4990', 'x-ratelimit-reset': String(NOW / 1000 + 200) },
      60,
    ],
    [
      'GitHub: quota is left (FAULTS 19, octokit/plugin-throttling#566)',
      { 'x-ratelimit-remaining': '4990', 'x-ratelimit-reset': String(NOW / 1000 + 200) },
      undefined,
    ],
    ['Google', { 'retry-after': '30' }, 30],
    [
      'Discord',
      {
        'retry-after': '0.65',
        'x-ratelimit-remaining': '0',
        'x-ratelimit-reset': '1470173023.123',
        'x-ratelimit-reset-after': '1',
      },
      0.65,
    ],
    [
      'Discord: a reset without a clock',
      { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1470173023.123', 'x-ratelimit-reset-after': '64.57' },
      64.57,
    ],
    [
      'Discord: a bucket with requests left',
      { 'x-ratelimit-remaining': '1', 'x-ratelimit-reset': String(NOW / 1000 + 9), 'x-ratelimit-reset-after': '9' },
      undefined,
    ],
    ['Slack', { 'retry-after': '30' }, 30],
    ['Shopify', { 'retry-after': '2.0', 'x-shopify-shop-api-call-limit': '40/40' }, 2],
    [
      'X',
      { 'x-rate-limit-limit': '900', 'x-rate-limit-remaining': '0', 'x-rate-limit-reset': String(NOW / 1000 + 840) },
      840,
    ],
    [
      'X: the limit per day',
      {
        'x-rate-limit-remaining': '40',
        'x-rate-limit-reset': String(NOW / 1000 + 840),
        'x-user-limit-24hour-remaining': '0',
        'x-user-limit-24hour-reset': String(NOW / 1000 + 7200),
        'x-app-limit-24hour-remaining': '10',
        'x-app-limit-24hour-reset': String(NOW / 1000 + 9000),
      },
      7200,
    ],
    [
      'Okta',
      { 'x-rate-limit-limit': '1200', 'x-rate-limit-remaining': '0', 'x-rate-limit-reset': String(NOW / 1000 + 59) },
      59,
    ],
    [
      'Okta: quota is left',
      { 'x-rate-limit-remaining': '1199', 'x-rate-limit-reset': String(NOW / 1000 + 59) },
      undefined,
    ],
    ['Zendesk', { 'retry-after': '17', 'ratelimit-remaining': '0', 'ratelimit-reset': '41' }, 17],
    [
      'Zendesk: a reset only',
      { 'x-rate-limit-remaining': '0', 'ratelimit-limit': '700', 'ratelimit-remaining': '0', 'ratelimit-reset': '41' },
      41,
    ],
    [
      'Envoy',
      {
        'x-envoy-ratelimited': 'true',
        'x-ratelimit-limit': '10, 10;w=1;name="per-ip", 1000;w=3600',
        'x-ratelimit-remaining': '0',
        'x-ratelimit-reset': '1',
      },
      1,
    ],
    ['MailerLite', { 'x-ratelimit-retry-after': '59' }, 59],
    ['GitLab', { 'ratelimit-remaining': '0', 'ratelimit-reset': String(NOW / 1000 + 20) }, 20],
    [
      'IETF drafts 00 to 06',
      {
        'ratelimit-limit': '100, 100;w=10',
        'ratelimit-policy': '100;w=10',
        'ratelimit-remaining': '0',
        'ratelimit-reset': '9',
      },
      9,
    ],
    ['IETF draft 07', { 'ratelimit-policy': '100;w=10', ratelimit: 'limit=100, remaining=0, reset=8' }, 8],
    [
      'IETF draft 08 and later',
      {
        'ratelimit-policy': '"burst";q=100;w=60,"daily";q=1000;w=86400',
        ratelimit: '"burst";r=0;t=7, "daily";r=900;t=8000',
      },
      7,
    ],
    [
      'IETF: a policy without a reset states no wait',
      { 'ratelimit-policy': '"burst";q=100;w=60', ratelimit: '"burst";r=0' },
      undefined,
    ],
    [
      'two proxies: each reset belongs to its own quota',
      { 'x-ratelimit-remaining': '0, 5', 'x-ratelimit-reset': '30, 900' },
      30,
    ],
    ['two proxies: one number for both', { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '30, 900' }, 900],
    [
      'an unreadable number of units counts as used up',
      { 'x-ratelimit-remaining': 'none', 'x-ratelimit-reset': '30' },
      30,
    ],
  ])('FAULTS 20, %s', (_, fields, expected) => {
    const seconds = wait(fields);
    if (expected === undefined) expect(seconds).toBeUndefined();
    else expect(seconds).toBeCloseTo(expected, 6);
  });

  test('two Retry-After fields are one list, in every form of headers (FAULTS 40)', () => {
    const joined = new Headers([
      ['Retry-After', 'Sat, 21 Nov 2026 08:00:30 GMT'],
      ['Retry-After', '20'],
    ]);
    const forms: HeaderSource[] = [
      joined,
      { 'Retry-After': ['20', 'Sat, 21 Nov 2026 08:00:30 GMT'] },
      { 'retry-after': '20', 'Retry-After': '30' },
      ['Content-Type', 'text/plain', 'Retry-After', '20', 'RETRY-AFTER', '30'],
      { get: (name) => (name.toLowerCase() === 'retry-after' ? ['20', '30'] : undefined) },
      { 'retry-after': 30, date: undefined },
    ];
    expect(forms.map((form) => readWait(form, NOW))).toEqual(forms.map(() => 30));
  });

  test.each<[string, unknown]>([
    [
      'values of other kinds',
      {
        'retry-after': { seconds: 5 },
        ratelimit: true,
        'x-ratelimit-reset': null,
        date: Symbol('now'),
        'retry-after-ms': [1, {}],
      },
    ],
    ['a get that returns other kinds', { get: () => ({}) }],
    ['an odd number of names and values', ['retry-after']],
    ['no fields', {}],
  ])('%s: no wait', (_, headers) => expect(readWait(headers as HeaderSource, NOW)).toBeUndefined());

  test('takes time linear in the length of the fields: 1 MB of anything', () => {
    const pieces = [
      '"',
      '"\\',
      '\\"',
      '"\\"',
      ';',
      '; ',
      ';r=',
      ',',
      ', ',
      '";r=0;t=',
      'reset=',
      'reset=5,',
      '=',
      ' ',
      '1',
      '1.',
      '1s',
      '1h2m',
      '1, ',
      'Sat, ',
      'Sat, 21 Nov 2026 08:00:30 GMT, ',
      '2026-11-21T08:00:30Z',
      '\u00C2',
      'Aa',
    ];
    for (const piece of pieces) {
      const text = piece.repeat(Math.ceil(1_000_000 / piece.length));
      const started = performance.now();
      readWait({ 'retry-after': text }, NOW);
      readWait(
        {
          date: text,
          ratelimit: text,
          'x-ratelimit-remaining': text,
          'x-ratelimit-reset': text,
          'anthropic-ratelimit-tokens-reset': text,
        },
        NOW,
      );
      // A quadratic search takes a quarter of an hour and more.
      expect(performance.now() - started, piece).toBeLessThan(20_000);
    }
  }, 180_000);

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

  test.each(['', 'today', '2026-11-21T07:00:00Z', 'Sat, 31 Nov 2026 07:00:00 GMT'])(
    'a Date of "%s" is ignored',
    (date) => {
      expect(wait({ Date: date, 'Retry-After': 'Sat, 21 Nov 2026 08:00:30 GMT' })).toBe(30);
    },
  );

  test('is a finite number >= 0 or undefined, whatever the fields hold', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'grapheme-ascii' }),
      fc.constantFrom(
        ...GARBAGE,
        ...Object.values(all),
        HUGE,
        '"',
        ';t=',
        ';r=0',
        'reset=',
        ', ',
        'Sat, 21 Nov 2026 08:00:30 GMT',
        'Sat Nov 21 08:00:30 2026',
      ),
      fc.nat().map(String),
      fc.bigInt({ min: 0n }).map(String),
      fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
    );
    const text = fc.option(
      fc.oneof(
        piece,
        fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join('')),
      ),
    );
    const fields = fc.record(
      Object.fromEntries(['date', ...names].map((name) => [name.toLowerCase(), text])) as Record<string, typeof text>,
    );
    fc.assert(
      fc.property(fields, fc.integer({ min: 0, max: 4e12 }), (record, now) => {
        const seconds = readWait({ get: (name) => record[name] ?? null }, now) ?? 0;
        expect(seconds >= 0 && seconds < Infinity).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });
});
