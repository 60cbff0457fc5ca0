/** The timer of a throttle by itself, on clocks that do not keep their promises. */
import type { Clock } from 'headgate';
import { expect, test, vi } from 'vitest';
import { Timer } from '../../src/core/timer.js';

/** A clock that keeps its callbacks. `present` is its instant. */
class HeldClock implements Clock {
  present = 0;
  readonly callbacks: (() => void)[] = [];

  now(): number {
    return this.present;
  }

  schedule(_: number, callback: () => void): () => void {
    this.callbacks.push(callback);
    return () => {};
  }
}

test('a cancelled timer that fires anyway is ignored', () => {
  const clock = new HeldClock();
  const onTime = vi.fn();
  const timer = new Timer(clock, onTime);
  timer.set(0, 5);
  timer.set(0, Infinity);
  clock.callbacks[0]?.();
  expect([onTime.mock.calls.length, timer.at]).toEqual([0, Infinity]);
});

test('a timer that fires inside schedule can be set for the same instant again', () => {
  const clock = new HeldClock();
  const onTime = vi.fn();
  const timer = new Timer(clock, onTime);
  vi.spyOn(clock, 'schedule').mockImplementationOnce((_, callback) => {
    callback();
    return () => {};
  });
  timer.set(0, 5);
  expect([onTime.mock.calls.length, timer.at]).toEqual([1, Infinity]);
  timer.set(0, 5);
  expect([clock.callbacks.length, timer.at]).toEqual([1, 5]);
});

test.each([
  ['early', 4, 4],
  ['on time', 5, 5],
  ['late', 9, 5],
  ['on a clock that has stepped back', -3, 5],
])('a timer for 5 s that fires %s, at %d s, has reached %d s', (_, present, reached) => {
  const clock = new HeldClock();
  const onTime = vi.fn();
  new Timer(clock, onTime).set(0, 5);
  clock.present = present;
  clock.callbacks[0]?.();
  clock.callbacks[0]?.();
  expect(onTime.mock.calls).toEqual([[reached]]);
});
