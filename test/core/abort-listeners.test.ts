/** One signal that many throttles and waiters share. */
import { getEventListeners } from 'node:events';
import { Throttle } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { setUp, take } from '../support/support.js';

describe('a signal of a user', () => {
  test('that accepts no listener rejects each call with its error', async () => {
    const { throttle } = setUp(10, 1);
    take(throttle);
    const error = new Error('no listeners');
    const addEventListener = vi.fn(() => {
      throw error;
    });
    const signal = { aborted: false, addEventListener, removeEventListener() {} } as unknown as AbortSignal;
    for (let call = 0; call < 2; call++) await expect(throttle.acquire(1, { signal })).rejects.toBe(error);
    expect([addEventListener.mock.calls.length, throttle.waiting]).toEqual([2, 0]);
  });

  test('that calls a new listener before it stores it keeps no listener', async () => {
    const { throttle } = setUp(10, 1);
    take(throttle);
    const listeners = new Set<() => void>();
    const reason = new Error('stop');
    const signal = {
      aborted: false,
      reason,
      addEventListener(_: string, listener: () => void) {
        signal.aborted = true;
        listener();
        listeners.add(listener);
      },
      removeEventListener: (_: string, listener: () => void) => listeners.delete(listener),
    };
    await expect(throttle.acquire(1, { signal: signal as unknown as AbortSignal })).rejects.toBe(reason);
    expect([listeners.size, throttle.waiting]).toEqual([0, 0]);
  });
});

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
