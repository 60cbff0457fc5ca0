/** The wait that a refused client reads: the order of the header fields, and the forms of headers. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type HeaderSource, readRateLimit, readWait } from '../../src/web/retry-after.js';
import { GARBAGE, HUGE, MAX_INTEGER, NOW } from './field-values.js';

describe('trap 29: readRateLimit', () => {
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
    [`"default";r=0;t=${HUGE}`, MAX_INTEGER],
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
    // The name of a quota may contain or resemble any part of the field.
    ['remaining=0, reset=5, daylimit;r=1;t=9', 5],
    ['remaining=0, reset=5, limits;r=1;t=9', 5],
    ['"a,r=0;t=5;x=\\', undefined],
    ...GARBAGE.map((text): [string, undefined] => [text, undefined]),
    ['1,5', undefined],
    ['5, 10', undefined],
  ])('%s reads as %s s', (text, seconds) => expect(readRateLimit(text)).toBe(seconds));
});

describe('readWait', () => {
  const wait = (fields: Record<string, string>): number | undefined => readWait(new Headers(fields), NOW);
  const stated = {
    'Retry-After-Ms': '1000',
    'X-Ms-Retry-After-Ms': '2000',
    'Retry-After': '3',
    'X-RateLimit-Retry-After': '4',
  };
  const quotas = { RateLimit: '"a";r=0;t=8', 'RateLimit-Reset': '9', 'X-RateLimit-Reset': '7' };
  const allFields = { ...stated, ...quotas };
  type Name = keyof typeof allFields;
  const names = Object.keys(allFields) as Name[];

  test('the first field that states a wait wins, in a fixed order', () => {
    const headers = new Headers(allFields);
    for (const [index, name] of Object.keys(stated).entries()) {
      expect(readWait(headers, NOW)).toBe(index + 1);
      headers.set(name, 'garbage');
      expect(readWait(headers, NOW)).toBe([2, 3, 4, 9][index]);
      headers.delete(name);
    }
  });

  test('where no field states a wait, the longest reset of the used-up quotas counts', () => {
    expect(wait(quotas)).toBe(9);
    expect(wait({ ...quotas, 'RateLimit-Remaining': '1' })).toBe(8);
    expect(wait({ ...quotas, 'RateLimit-Remaining': '1', RateLimit: '"a";r=1;t=8' })).toBe(7);
    expect(
      wait({ ...quotas, 'RateLimit-Remaining': '1', RateLimit: '"a";r=1;t=8', 'X-RateLimit-Remaining': '1' }),
    ).toBeUndefined();
    expect(wait({})).toBeUndefined();
  });

  test.each<[string, string, number | undefined]>([
    ['5, 0', '10, 20', 20],
    ['0, 5', '10, 20', 10],
    ['5', '10, 20', undefined],
    ['0', '10, 20', 20],
    [',5', '10', undefined],
    ['5,,0', '10,20', 20],
  ])('with %s units left and resets in %s s, the wait is %s s', (remaining, resets, seconds) => {
    expect(wait({ 'RateLimit-Remaining': remaining, 'RateLimit-Reset': resets })).toBe(seconds);
  });

  test('a stated wait that is over reads as 0, and the resets do not count', () => {
    expect(wait({ ...quotas, 'Retry-After': '0' })).toBe(0);
    expect(wait({ ...quotas, 'Retry-After': 'Sat, 21 Nov 2026 07:00:00 GMT' })).toBe(0);
    expect(wait({ ...quotas, 'Retry-After-Ms': '0', 'Retry-After': '2' })).toBe(2);
  });

  test('two Retry-After fields form one list, in every form of headers (FAULTS 40)', () => {
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
      'fields with values of other types',
      {
        'retry-after': { seconds: 5 },
        ratelimit: true,
        'x-ratelimit-reset': null,
        date: Symbol('now'),
        'retry-after-ms': [1, {}],
      },
    ],
    ['a get that returns values of other types', { get: () => ({}) }],
    ['an odd number of names and values', ['retry-after']],
    ['no fields', {}],
    ['a value that is the name of a field', ['x-note', 'retry-after', '5', 'x-other']],
    ['a get that returns objects with a text', { get: () => ({ toString: () => '5' }) }],
    [
      'an absent value of a field whose other spelling has a value',
      { 'X-RateLimit-Remaining': undefined, 'x-ratelimit-remaining': '5', 'x-ratelimit-reset': '10' },
    ],
  ])('%s state no wait', (_, headers) => expect(readWait(headers as HeaderSource, NOW)).toBeUndefined());

  test('the running time is linear in the length of the fields: 1 MB of each piece', () => {
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
      // A quadratic search takes more than 15 minutes.
      expect(performance.now() - started, piece).toBeLessThan(20_000);
    }
  }, 180_000);

  describe.each([
    ['an hour behind', -3_600_000],
    ['correct', 0],
    ['an hour ahead', 3_600_000],
    ['fifty years behind', -50 * 365 * 86_400_000],
  ])('a local clock that is %s', (_, skew) => {
    test.each<[string, Record<string, string>]>([
      ['Retry-After', { 'Retry-After': 'Sat, 21 Nov 2026 08:00:30 GMT' }],
      ['Retry-After of asctime', { 'Retry-After': 'Sat Nov 21 08:00:30 2026' }],
      ['Retry-After in seconds', { 'Retry-After': '30' }],
      ['RateLimit-Reset', { 'RateLimit-Reset': String(NOW / 1000 + 30) }],
      ['X-RateLimit-Reset', { 'X-RateLimit-Reset': String(NOW / 1000 + 30) }],
      ['X-RateLimit-Reset in milliseconds', { 'X-RateLimit-Reset': String(NOW + 30_000) }],
    ])('%s is measured from Date', (__, fields) => {
      expect(readWait(new Headers({ ...fields, Date: 'Sat, 21 Nov 2026 08:00:00 GMT' }), NOW + skew)).toBe(30);
      expect(readWait(new Headers({ ...fields, Date: 'Sat Nov 21 08:00:00 2026' }), NOW + skew)).toBe(30);
    });
  });

  test.each(['', 'today', '2026-11-21T07:00:00Z', 'Sat, 31 Nov 2026 07:00:00 GMT'])(
    'an unreadable Date "%s" is ignored',
    (date) => {
      expect(wait({ Date: date, 'Retry-After': 'Sat, 21 Nov 2026 08:00:30 GMT' })).toBe(30);
    },
  );

  test('the wait is a finite number >= 0 or undefined, for arbitrary fields', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'grapheme-ascii' }),
      fc.constantFrom(
        ...GARBAGE,
        ...Object.values(allFields),
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
