/** The errors of refused calls: class, code, message and `retryAfter`. */
import { QueueFullError, Throttle, ThrottleClosedError, ThrottleError, ThrottleTimeoutError } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { printable, withoutStack } from '../../src/core/refusals.js';
import { setUp, take } from '../support/support.js';

describe('the error of a refused call', () => {
  test('a timeout shorter than the wait is refused at once, with the wait as retryAfter', async () => {
    const { throttle, clock } = setUp(10, 2, 1, { name: 'github' });
    take(throttle, 10).release();
    const error: unknown = await throttle.acquire(5, { timeout: 0.2 }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ThrottleTimeoutError);
    expect(error).toBeInstanceOf(ThrottleError);
    expect(error).toMatchObject({ name: 'ThrottleTimeoutError', code: 'ERR_THROTTLE_TIMEOUT', retryAfter: 0.5 });
    expect((error as Error).message).toBe(
      'Throttle "github" (10 per 1 s, 2 at a time) has no permit for a cost of 5 within the timeout of 0.2 s; ' +
        'retry in 0.5 s or later (0 running, 0 waiting)',
    );
    expect([throttle.waiting, clock.pending]).toEqual([0, 0]);
  });

  test('the error of a refused call shows where it was created', async () => {
    const { throttle } = setUp(1, 0, 60);
    take(throttle);
    const error = await throttle.acquire(1, { timeout: 0 }).catch((reason: unknown) => reason as Error);
    expect((error as Error).stack).toContain('refusals.test');
  });

  test('the wait counts every waiter ahead, also for a call with several slots and several rates', async () => {
    const { throttle } = setUp(1, 4, 1, { burst: 10, also: [{ capacity: 100 }] });
    take(throttle, 10).release();
    void throttle.acquire(5);
    void throttle.acquire(2, { slots: 2 });
    await expect(throttle.acquire(3, { slots: 2, timeout: 0 })).rejects.toMatchObject({ retryAfter: 10 });
  });

  test('the error of a cleared call shows the gate and the remedy', async () => {
    const { throttle } = setUp(1, 0, 60, { name: 'api' });
    take(throttle);
    const waiting = throttle.acquire();
    throttle.clear();
    await expect(waiting).rejects.toThrow(
      'clear() removed this call from the queue of Throttle "api" (1 per 60 s, any number at a time); call again to ' +
        'wait again',
    );
  });

  test.each([0, 0.1, 0.7, 1e3, 1e6])('a timeout equal to the wait is granted, with the clock at %d', async (start) => {
    const clock = new ManualClock(start);
    const throttle = new Throttle(10, 0, 1, { clock });
    take(throttle, 10);
    const waits = [0.1, 0.2, 0.3].map(async (timeout) => (await throttle.acquire(1, { timeout })).waited);
    expect(throttle.waiting).toBe(3);
    await clock.advance(0.3);
    expect((await Promise.all(waits)).map((waited) => Number(waited.toFixed(6)))).toEqual([0.1, 0.2, 0.3]);
  });

  test.each<[string, (throttle: Throttle) => void, string, number | undefined]>([
    ['an occupied slot', () => {}, 'retry when a running job has ended (1 running, 0 waiting)', undefined],
    ['a pause with an end', (t) => t.pause(7), 'retry in 7 s or later (1 running, 0 waiting)', 7],
    ['a pause without an end', (t) => t.pause(), 'it is paused until resume() (1 running, 0 waiting)', undefined],
  ])('timeout 0 with %s is refused with advice', async (_name, prepare, hint, retryAfter) => {
    const { throttle } = setUp(Infinity, 1);
    take(throttle);
    prepare(throttle);
    const error = (await throttle.acquire(1, { timeout: 0 }).catch((reason: unknown) => reason)) as ThrottleError;
    expect(error).toBeInstanceOf(ThrottleTimeoutError);
    expect(error.message).toBe(
      `Throttle (any rate, 1 at a time) has no permit for a cost of 1 within the timeout of 0 s; ${hint}`,
    );
    expect(error.retryAfter).toBe(retryAfter);
    expect('retryAfter' in error).toBe(retryAfter !== undefined);
  });

  test('a waiter is refused when its timeout has passed', async () => {
    const { throttle, clock } = setUp(10, 1);
    take(throttle);
    const refused = throttle.acquire(1, { timeout: 3 }).catch((reason: unknown) => reason);
    await clock.advance(3);
    expect(await refused).toMatchObject({
      code: 'ERR_THROTTLE_TIMEOUT',
      message: expect.stringContaining(
        'within the timeout of 3 s; retry when a running job has ended (1 running, 0 waiting)',
      ) as string,
    });
  });

  test('a call beyond maxQueue is refused with the size of the queue', async () => {
    const { throttle } = setUp(10, 0, 1, { maxQueue: 2 });
    take(throttle, 10);
    const waiting = [throttle.acquire(), throttle.acquire()];
    const error: unknown = await throttle.acquire(3).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(QueueFullError);
    expect(error).toMatchObject({ name: 'QueueFullError', code: 'ERR_THROTTLE_QUEUE_FULL', retryAfter: 0.5 });
    expect((error as Error).message).toBe(
      'Throttle (10 per 1 s, any number at a time) allows at most 2 waiters; ' +
        'retry in 0.5 s or later (1 running, 2 waiting)',
    );
    expect(throttle.waiting).toBe(2);
    throttle.close();
    await Promise.allSettled(waiting);
  });

  test('maxQueue 0 refuses every call that cannot start at once', async () => {
    const { throttle } = setUp(10, 1, 1, { maxQueue: 0 });
    const first = await throttle.acquire();
    await expect(throttle.acquire()).rejects.toBeInstanceOf(QueueFullError);
    first.release();
    (await throttle.acquire()).release();
  });

  test('close refuses waiters and later calls, with the reason as the cause', async () => {
    const { throttle } = setUp(10, 1);
    const running = await throttle.acquire();
    const waiting = throttle.acquire().catch((reason: unknown) => reason);
    const job = throttle.run(() => 1).catch((reason: unknown) => reason);
    const reason = new Error('shutting down');
    throttle.close(reason);
    throttle.close(new Error('too late'));
    const later = throttle.acquire().catch((error: unknown) => error);
    for (const error of await Promise.all([waiting, job, later])) {
      expect(error).toBeInstanceOf(ThrottleClosedError);
      expect(error).toMatchObject({
        name: 'ThrottleClosedError',
        code: 'ERR_THROTTLE_CLOSED',
        cause: reason,
        message: 'Throttle (10 per 1 s, 1 at a time) is closed',
      });
    }
    expect(throttle.tryAcquire()).toBeUndefined();
    expect([throttle.closed, throttle.waiting, throttle.active]).toEqual([true, 0, 1]);
    running.release();
    await throttle.idle();
  });

  test('a custom gate can create these errors', () => {
    const cause = new Error('lost');
    expect(new ThrottleError('ERR_MINE', 'mine')).toMatchObject({
      name: 'ThrottleError',
      code: 'ERR_MINE',
      message: 'mine',
    });
    expect(new ThrottleTimeoutError('late', { cause, retryAfter: 2 })).toMatchObject({ cause, retryAfter: 2 });
    expect(new ThrottleError('ERR_MINE', 'mine').stack).toMatch(/^ThrottleError: mine/);
  });
});

describe('the text of a key in a message', () => {
  test.each([
    ['ada', '"ada"'],
    ['a\r\nb', String.raw`"a\r\nb"`],
    ['\u001B[31m', String.raw`"\u001b[31m"`],
    ['ä', String.raw`"\u00e4"`],
    ['x'.repeat(80), `"${'x'.repeat(80)}"`],
    ['x'.repeat(81), `"${'x'.repeat(80)}…"`],
  ])('%j is printed as %s', (text, printed) => {
    expect(printable(text)).toBe(printed);
  });
});

describe('an error without a stack trace', () => {
  const limit = Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit') as PropertyDescriptor;
  const restore = (): void => void Object.defineProperty(Error, 'stackTraceLimit', limit);

  test('has no frames, and later errors have them again', () => {
    expect(withoutStack(() => new Error('refused')).stack).toBe('Error: refused');
    expect(new Error('other').stack).toContain('at ');
  });

  test('keeps its frames where the program has frozen the limit', () => {
    Object.defineProperty(Error, 'stackTraceLimit', { ...limit, writable: false });
    try {
      expect(withoutStack(() => new Error('refused')).message).toBe('refused');
    } finally {
      restore();
    }
  });

  test('is created on a platform without a limit', () => {
    delete (Error as { stackTraceLimit?: number }).stackTraceLimit;
    try {
      expect(withoutStack(() => new Error('refused')).message).toBe('refused');
      expect('stackTraceLimit' in Error).toBe(false);
    } finally {
      restore();
    }
  });
});
