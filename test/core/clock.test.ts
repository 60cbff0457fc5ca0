/** The system clock, with fake timers and once with real timers. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/core/clock.js';

describe('systemClock', () => {
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
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
