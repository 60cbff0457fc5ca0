/** Values of header fields that several test files use. */

/** The local time in all tests: 2026-11-21, 08:00 UTC, in milliseconds since 1970. */
export const NOW: number = Date.UTC(2026, 10, 21, 8, 0, 0);
/** A number of seconds that no double can hold. */
export const HUGE: string = '9'.repeat(400);
/** The largest integer of a structured field. */
export const MAX_INTEGER = 999_999_999_999_999;

/** Values that no field can have. */
export const GARBAGE: readonly string[] = [
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
