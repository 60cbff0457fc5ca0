/** The `run` method. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, test } from 'vitest';
import { setUp, take } from '../support/support.js';

describe('run', () => {
  test('starts the function asynchronously, also with a free slot', async () => {
    const { throttle } = setUp();
    let started = false;
    const done = throttle.run(() => {
      started = true;
    });
    expect([started, throttle.active]).toEqual([false, 1]);
    await done;
    expect([started, throttle.active]).toEqual([true, 0]);
  });

  test('passes values, errors and thenables through unchanged', async () => {
    const { throttle } = setUp(100, 1);
    const value = { a: 1 };
    const error = new Error('mine');
    expect(await throttle.run(() => value)).toBe(value);
    expect(await throttle.run(async () => value)).toBe(value);
    expect(await throttle.run(() => undefined)).toBeUndefined();
    // oxlint-disable-next-line unicorn/no-thenable
    const thenable = { then: (resolve: (value: number) => void) => resolve(7) };
    expect(await throttle.run(() => thenable as PromiseLike<number>)).toBe(7);
    await expect(
      throttle.run(() => {
        throw error;
      }),
    ).rejects.toBe(error);
    await expect(throttle.run(() => Promise.reject(error))).rejects.toBe(error);
    await expect(throttle.run(() => Promise.reject(undefined))).rejects.toBeUndefined();
    expect(throttle.active).toBe(0);
    // The tokens of a function that throws stay spent.
    expect(throttle.tokens).toBe(93);
  });

  test('releases the permit before its promise settles, after a result or an error', async () => {
    const { throttle } = setUp(Infinity, 1);
    for (const fn of [
      () => 1,
      async () => 1,
      () => Promise.reject(new Error('x')),
      () => {
        throw new Error('x');
      },
    ]) {
      const queued = throttle.run(fn).then(
        () => throttle.active,
        () => throttle.active,
      );
      expect(await queued).toBe(0);
    }
    // Queued calls, too.
    const hold = await throttle.acquire();
    let finish = (): void => {};
    const first = throttle.run(() => 1).then(() => throttle.waiting);
    const second = throttle.run(() => new Promise<void>((resolve) => (finish = resolve)));
    hold.release();
    expect(await first).toBe(0);
    finish();
    await second;
    expect(throttle.active).toBe(0);
  });

  test('passes the permit to the function and the result to the caller', async () => {
    const { throttle, clock } = setUp(10, 1);
    take(throttle, 10).release();
    const waited = throttle.run((permit) => {
      permit.settle(1);
      return [permit.cost, permit.waited];
    }, 4);
    await clock.advance(0.4);
    expect(await waited).toEqual([1, 0.4]);
    expect(throttle.tokens).toBeCloseTo(3, 9);
  });

  test('100,000 queued synchronous functions cause no stack overflow', async () => {
    const { throttle } = setUp(Infinity, 1);
    let count = 0;
    const all = Array.from({ length: 100_000 }, () => throttle.run(() => ++count));
    expect(await all.at(-1)).toBe(100_000);
  });

  test('runs the function in the async context of the caller, not of the releasing holder', async () => {
    const context = new AsyncLocalStorage<string>();
    const { throttle } = setUp(Infinity, 1);
    const hold = await context.run('holder', () => throttle.acquire());
    const seen = context.run('caller', () => throttle.run(() => context.getStore()));
    context.run('releaser', () => hold.release());
    expect(await seen).toBe('caller');
  });
});
