/** The formats of times in header fields: numbers, instants, durations, HTTP dates, RFC 3339 dates, and lists. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readDate, readField } from '../../src/web/retry-after.js';
import { GARBAGE, HUGE, MAX_INTEGER, NOW } from './field-values.js';

describe('readDate', () => {
  const JANUARY = Date.UTC(2026, 0, 6, 8, 49, 37);

  test.each<[string, string, number | undefined]>([
    ['IMF-fixdate', 'Tue, 06 Jan 2026 08:49:37 GMT', JANUARY],
    ['RFC 850', 'Tuesday, 06-Jan-26 08:49:37 GMT', JANUARY],
    ['asctime, which is in UTC', 'Tue Jan  6 08:49:37 2026', JANUARY],
    ['asctime with a day of two digits', 'Tue Jan 16 08:49:37 2026', JANUARY + 10 * 86_400_000],
    ['the last second of a year', 'Thu, 31 Dec 2026 23:59:59 GMT', Date.UTC(2026, 11, 31, 23, 59, 59)],
    ['a leap day', 'Thu, 29 Feb 2024 00:00:00 GMT', Date.UTC(2024, 1, 29)],
    ['a leap second', 'Sat, 31 Dec 2016 23:59:60 GMT', Date.UTC(2017, 0, 1)],
    ['the last possible second', 'Fri, 31 Dec 9999 23:59:59 GMT', Date.UTC(9999, 11, 31, 23, 59, 59)],
    ['before 1970', 'Sun, 06 Nov 1904 08:49:37 GMT', Date.UTC(1904, 10, 6, 8, 49, 37)],
    ['a two-digit year in the last century', 'Sunday, 06-Nov-94 08:49:37 GMT', Date.UTC(1994, 10, 6, 8, 49, 37)],
    ['a two-digit year 50 years ahead', 'Friday, 06-Nov-76 08:49:37 GMT', Date.UTC(2076, 10, 6, 8, 49, 37)],
    ['a two-digit year 51 years ahead', 'Sunday, 06-Nov-77 08:49:37 GMT', Date.UTC(1977, 10, 6, 8, 49, 37)],
    ['29 February outside a leap year', 'Wed, 29 Feb 2023 00:00:00 GMT', undefined],
    ['31 April', 'Tue, 31 Apr 2026 00:00:00 GMT', undefined],
    ['day 0', 'Tue, 00 Jan 2026 00:00:00 GMT', undefined],
    ['an unknown month', 'Tue, 06 Foo 2026 08:49:37 GMT', undefined],
    ['letters of two months', 'Tue, 06 Anf 2026 08:49:37 GMT', undefined],
    ['24 hours', 'Tue, 06 Jan 2026 24:00:00 GMT', undefined],
    ['60 minutes', 'Tue, 06 Jan 2026 08:60:00 GMT', undefined],
    ['61 seconds', 'Tue, 06 Jan 2026 08:49:61 GMT', undefined],
    ['another time zone', 'Tue, 06 Jan 2026 08:49:37 CET', undefined],
    ['+0000 as the time zone', 'Tue, 06 Jan 2026 08:49:37 +0000', JANUARY],
    ['-0000 as the time zone', 'Tue, 06 Jan 2026 08:49:37 -0000', JANUARY],
    ['UTC as the time zone', 'Tue, 06 Jan 2026 08:49:37 UTC', JANUARY],
    ['an offset', 'Tue, 06 Jan 2026 08:49:37 +0100', undefined],
    ['no time zone', 'Tue, 06 Jan 2026 08:49:37', undefined],
    ['a time zone after asctime', 'Tue Jan  6 08:49:37 2026 GMT', undefined],
    ['no day of the week', '06 Jan 2026 08:49:37 GMT', undefined],
    ['a day of one digit', 'Tue, 6 Jan 2026 08:49:37 GMT', undefined],
    ['text before IMF-fixdate', 'x Tue, 06 Jan 2026 08:49:37 GMT', undefined],
    ['text after IMF-fixdate', 'Tue, 06 Jan 2026 08:49:37 GMT x', undefined],
    ['text before RFC 850', 'x Tuesday, 06-Jan-26 08:49:37 GMT', undefined],
    ['text after RFC 850', 'Tuesday, 06-Jan-26 08:49:37 GMT x', undefined],
    ['text before asctime', 'x Tue Jan  6 08:49:37 2026', undefined],
    ['ISO 8601', '2026-01-06T08:49:37Z', undefined],
    ['text that Date.parse accepts', 'foo 5', undefined],
    ['an empty string', '', undefined],
  ])('%s: "%s" reads as %s', (_, text, expected) => expect(readDate(text, NOW)).toBe(expected));

  test('a two-digit year at the turn of a century belongs to the century of RFC 9110', () => {
    const at = (year: number, text: string): number =>
      new Date(readDate(`Friday, 01-Jan-${text} 00:00:00 GMT`, Date.UTC(year, 6))!).getUTCFullYear();
    expect([at(2099, '00'), at(2099, '99'), at(2101, '99'), at(2100, '00'), at(2100, '51')]).toEqual([
      2100, 2099, 2099, 2100, 2051,
    ]);
  });

  test('each of the three formats reads back as the same second', () => {
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

describe('trap 29: readField', () => {
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
    [HUGE, (MAX_INTEGER - NOW) / 1000],
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
    ['at 2026-11-21T08:00:30Z', undefined],
    ['2026-11-21T08:00:30+00:00 or so', undefined],
    // Durations in the format of Go
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
    [`${'9'.repeat(60)}h`, MAX_INTEGER],
    ['-6m0s', undefined],
    ['6m 0s', undefined],
    ['6M', undefined],
    ['s', undefined],
    ['m5s', undefined],
    ['6m0', undefined],
    ['1.s', undefined],
    ['1s'.repeat(32), 32],
    [`0${'1s'.repeat(32)}`, undefined],
    ['1s'.repeat(50), undefined],
    // Lists: the longest wait counts (FAULTS 40)
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
  ])('"%s" reads as %s s', (text, seconds) => {
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
  ])('"%s" in milliseconds reads as %s s', (text, seconds) => expect(readField(text, NOW, 0.001)).toBe(seconds));
});
