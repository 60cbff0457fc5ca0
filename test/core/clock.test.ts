/** The system clock and the timers in the background, with fake timers and once with real timers. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { readClock, scheduleInBackground, systemClock } from '../../src/core/clock.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe('systemClock', () => {
  test.each([
    // A test has replaced `setTimeout` alone. A timer of the platform may fire 2 ms early.
    ['fake', 0.1, 0, 0.1],
    ['fake', 0.1, 0.0625, 0.1],
    ['fake', 0.002, 0, 0],
    ['fake', 0.002, 0.001, 0.001],
    ['fake', 0.1, 0.2, 0.2],
    // On a platform with a coarse clock, a timer may appear to fire 0.25 s early.
    ['native', 0.1, 0, 0],
    ['native', 0.5, 0.25, 0.25],
    ['native', 0.5, 0.125, 0.5],
    ['native', 0.1, 0.2, 0.2],
  ])('a %s timer of %d s that fires after %d s on `performance` ends at %d s', async (timer, seconds, elapsed, end) => {
    const fakeTimers = (): unknown => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const now = vi.spyOn(performance, 'now').mockReturnValue(0);
    // The clock takes the functions that are present when it is loaded for the functions of the platform.
    if (timer === 'native') fakeTimers();
    vi.resetModules();
    const { systemClock: clock } = await import('../../src/core/clock.js');
    if (timer === 'fake') fakeTimers();
    const callback = vi.fn();
    clock.schedule(seconds, callback);
    now.mockReturnValue(elapsed * 1000);
    vi.advanceTimersByTime(seconds * 1000);
    expect(callback).toHaveBeenCalledOnce();
    expect(clock.now()).toBeCloseTo(end, 12);
  });

  test('never steps back when a test replaces only the global `performance`', () => {
    const before = systemClock.now();
    vi.stubGlobal('performance', { now: () => 0 });
    expect(systemClock.now()).toBeGreaterThanOrEqual(before);
  });

  test('a timer that fires counts as elapsed time where a test replaces only `performance.now`', async () => {
    const start = systemClock.now();
    vi.spyOn(performance, 'now').mockReturnValue(start * 1000);
    const before = systemClock.now();
    await new Promise<void>((resolve) => systemClock.schedule(0.02, resolve));
    expect(systemClock.now() - before).toBeCloseTo(0.02, 9);
  });

  test('counts seconds and fires no timer before its delay', async () => {
    const start = systemClock.now();
    await new Promise<void>((resolve) => systemClock.schedule(0.02, resolve));
    // setTimeout may fire up to a millisecond early.
    expect(systemClock.now() - start).toBeGreaterThanOrEqual(0.019);
    expect(systemClock.now() - start).toBeLessThan(5);
  });

  test.each([
    [0.1, 100],
    [0.1 + 0.2, 300],
    [0.0001, 1],
    [1e-12, 1],
    [0.1001, 101],
    [2 ** 31 / 1000, 2 ** 31],
    [1e7, 1e10],
  ])('a timer of %d s fires after %d ms, also beyond the maximum of setTimeout', (seconds, ms) => {
    vi.useFakeTimers();
    const callback = vi.fn();
    systemClock.schedule(seconds, callback);
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(ms - 1);
    expect(callback).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(callback).toHaveBeenCalledOnce();
    expect(vi.getTimerCount()).toBe(0);
  });

  test.each([1, 1e7])('a timer of %d s can be cancelled 1 ms before it fires', (seconds) => {
    vi.useFakeTimers();
    const callback = vi.fn();
    const cancel = systemClock.schedule(seconds, callback);
    vi.advanceTimersByTime(seconds * 1000 - 1);
    cancel();
    expect(vi.getTimerCount()).toBe(0);
    vi.advanceTimersByTime(1e10);
    expect(callback).not.toHaveBeenCalled();
  });
});

test('the instant of a clock that throws is NaN', () => {
  const clock = {
    now: () => {
      throw new Error('broken');
    },
    schedule: () => () => {},
  };
  expect(readClock(clock)).toBeNaN();
});

describe('a timer in the background', () => {
  test.each([
    [1, 1],
    [100, 100],
    [2 ** 31 - 1, 2 ** 31 - 1],
    // The longest delay of setTimeout.
    [2 ** 31, 2 ** 31 - 1],
    [1e12, 2 ** 31 - 1],
  ])('of %d ms fires once, after %d ms', (milliseconds, due) => {
    vi.useFakeTimers();
    const callback = vi.fn();
    scheduleInBackground(milliseconds, callback);
    vi.advanceTimersByTime(due - 1);
    expect(callback).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(callback).toHaveBeenCalledOnce();
    expect(vi.getTimerCount()).toBe(0);
  });

  test('never fires once it is cancelled', () => {
    vi.useFakeTimers();
    const callback = vi.fn();
    scheduleInBackground(100, callback)();
    expect(vi.getTimerCount()).toBe(0);
    vi.advanceTimersByTime(1_000);
    expect(callback).not.toHaveBeenCalled();
  });

  test('does not keep the process alive', () => {
    const timers = vi.spyOn(globalThis, 'setTimeout');
    const cancel = scheduleInBackground(1_000, () => {});
    const timer = timers.mock.results[0]?.value as NodeJS.Timeout;
    expect(timer.hasRef()).toBe(false);
    cancel();
  });

  test('works where a timer is a number, as in browsers', () => {
    const cleared = vi.fn();
    vi.stubGlobal('setTimeout', () => 7);
    vi.stubGlobal('clearTimeout', cleared);
    scheduleInBackground(1_000, () => {})();
    expect(cleared).toHaveBeenCalledExactlyOnceWith(7);
  });
});
