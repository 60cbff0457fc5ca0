/** One signal that many throttles and waiters share. */
import { getEventListeners } from 'node:events';
import { Throttle } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { setUp, take } from '../support/support.js';

describe('one signal for many throttles', () => {
  test('makes one listener, no warning, and every queue goes on', async () => {
    const warned = vi.fn();
    process.on('warning', warned);
    const controller = new AbortController();
    const throttles = Array.from({ length: 20 }, () => new Throttle(Infinity, 1));
    const holds = throttles.map((throttle) => take(throttle));
    const aborted = throttles.map((throttle) => throttle.acquire(1, { signal: controller.signal }));
    const patient = throttles.map((throttle) => throttle.acquire());
    expect(getEventListeners(controller.signal, 'abort').length).toBe(1);
    controller.abort();
    for (const { status } of await Promise.allSettled(aborted)) expect(status).toBe('rejected');
    expect(getEventListeners(controller.signal, 'abort').length).toBe(0);
    for (const hold of holds) hold.release();
    expect((await Promise.all(patient)).length).toBe(20);
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.off('warning', warned);
    expect(warned).not.toHaveBeenCalled();
  });

  test('nobody is granted whose signal has aborted, though the one before left first', async () => {
    const { throttle: heavy } = setUp(10, 0);
    take(heavy, 5);
    const second = new AbortController();
    const large = heavy.acquire(10, { signal: second.signal }).catch(() => 'aborted');
    const small = heavy.acquire(1, { signal: second.signal }).catch(() => 'aborted');
    const other = heavy.acquire(1);
    second.abort();
    expect(await Promise.all([large, small])).toEqual(['aborted', 'aborted']);
    expect([heavy.active, heavy.tokens]).toEqual([2, 4]);
    (await other).release();
  });
});
