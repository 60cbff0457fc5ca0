/** The public readWait: its default time and its validation. */
import { type HeaderSource, readWait } from 'headgate/fetch';
import { describe, expect, test } from 'vitest';

describe('readWait', () => {
  test('measures instants from Date.now() if the server sends no Date', () => {
    const inAMinute = Math.ceil(Date.now() / 1000) + 60;
    expect(readWait({ 'Retry-After': String(inAMinute) })).toBeGreaterThan(50);
    expect(readWait({ 'Retry-After': String(inAMinute) }, (inAMinute - 5) * 1000)).toBe(5);
  });

  test.each<[unknown[], string, ErrorConstructor]>([
    [[], 'headers must be an object, received undefined', TypeError],
    [[null], 'headers must be an object, received null', TypeError],
    [['30'], 'headers must be an object, received "30"', TypeError],
    [[{}, NaN], 'nowMs must be a finite number, received NaN', RangeError],
    [[{}, new Date()], 'nowMs must be a finite number, received object', TypeError],
  ])('%o: the error is "%s"', (args, message, Kind) => {
    const read = (): unknown => readWait(...(args as [HeaderSource]));
    expect(read).toThrow(new Kind(message));
  });
});
