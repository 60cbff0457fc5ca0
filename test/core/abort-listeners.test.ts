/** One signal that many throttles and waiters share. */
import { getEventListeners } from 'node:events';
import { Throttle } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { setUp, take } from '../support/support.js';

describe('a signal that many waiters share', () => {
  test('has one listener, causes no warning, and its abort unblocks every queue', async () => {
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

  test('an abort cancels all waiters of the signal before another waiter is granted', async () => {
    const { throttle } = setUp(10, 0);
    take(throttle, 5);
    const controller = new AbortController();
    const large = throttle.acquire(10, { signal: controller.signal }).catch(() => 'aborted');
    const small = throttle.acquire(1, { signal: controller.signal }).catch(() => 'aborted');
    const unaffected = throttle.acquire(1);
    controller.abort();
    expect(await Promise.all([large, small])).toEqual(['aborted', 'aborted']);
    expect([throttle.active, throttle.tokens]).toEqual([2, 4]);
    (await unaffected).release();
  });
});
