/** Promise 9, close: bounded queues, closing, idling and nested calls. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import { type Permit, QueueFullError, Throttle, ThrottleClosedError, ThrottleTimeoutError } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { Outcomes, setUp, setUpKeyed, take } from '../support/support.js';
import { expectNothingHeld, HOUR } from './expectations.js';

test.each<[string, (throttle: Throttle, permit: Permit) => void]>([
  ['releases a permit', (_, permit) => permit.release()],
  ['raises the concurrency', (throttle) => throttle.configure({ concurrency: 5 })],
])('close refuses every waiter, also if a subscriber %s at the first refusal', async (_, onRefused) => {
  const { throttle } = setUp(Infinity, 1);
  const permit = take(throttle);
  const outcomes = new Outcomes();
  for (const name of ['a', 'b', 'c']) outcomes.follow(name, throttle.acquire());
  const listener = (): void => onRefused(throttle, permit);
  subscribe('headgate:refused', listener);
  throttle.close();
  unsubscribe('headgate:refused', listener);
  await new Promise(setImmediate);
  expect(outcomes.order).toEqual(['a!', 'b!', 'c!']);
  permit.release();
  expectNothingHeld(throttle);
});

test('a key whose throttle is closed stays closed', async () => {
  const { clock, keyed } = setUpKeyed(1);
  keyed.tryAcquire('ada')?.release();
  keyed.peek('ada')?.close();
  await clock.advance(60);
  expect([keyed.size, keyed.tryAcquire('ada'), keyed.tryAcquire('bob')?.cost]).toEqual([1, undefined, 1]);
});

describe('trap 14: a nested acquire on a full throttle [p-limit#91]', () => {
  const nested = (throttle: Throttle, timeout?: number): Promise<string> =>
    throttle.run(() => throttle.run(() => 'inner', 1, { timeout }));

  test('the danger is documented', () => {
    expect(readFileSync(new URL('../../src/core/throttle.ts', import.meta.url), 'utf8')).toMatch(
      /second permit of the same throttle can deadlock|while it holds one\s+(\* )?can wait for itself/,
    );
  });

  test('close ends the deadlock', async () => {
    const { clock, throttle } = setUp(10, 1);
    const stuck = nested(throttle);
    await clock.advance(HOUR);
    expect([throttle.active, throttle.waiting]).toEqual([1, 1]);
    throttle.close();
    await expect(stuck).rejects.toBeInstanceOf(ThrottleClosedError);
    await throttle.idle();
    expectNothingHeld(throttle);
  });

  test('a timeout ends the deadlock, and the gate keeps working', async () => {
    const { clock, throttle } = setUp(10, 1);
    const stuck = nested(throttle, 5);
    await Promise.all([clock.advance(5), expect(stuck).rejects.toBeInstanceOf(ThrottleTimeoutError)]);
    await expect(throttle.run(() => 'next')).resolves.toBe('next');
  });

  test('two throttles that are always acquired in the same order never deadlock', async () => {
    const { clock, throttle: database } = setUp(Infinity, 1);
    const files = new Throttle(Infinity, 2, 1, { clock });
    const sleep = (): Promise<void> => new Promise((resolve) => void clock.schedule(0.01, resolve));
    const all = Promise.all(
      Array.from({ length: 60 }, (_, index) => {
        if (index % 3 === 0) return files.run(sleep);
        if (index % 3 === 1) return database.run(sleep);
        return database.run(async () => {
          await sleep();
          await files.run(sleep);
        });
      }),
    );
    await clock.advance(HOUR);
    await all;
    expectNothingHeld(database);
    expectNothingHeld(files);
  });
});

describe('trap 23: bounded queues, close and idle', () => {
  test('a full queue refuses with a QueueFullError [bottleneck#169]', async () => {
    const { clock, throttle } = setUp(10, 1, 1, { maxQueue: 2 });
    const holder = take(throttle);
    const outcomes = new Outcomes();
    const stop = new AbortController();
    outcomes.follow('a', throttle.acquire());
    outcomes.follow(
      'b',
      throttle.run(() => {}, 1, { signal: stop.signal }),
    );
    outcomes.follow('c', throttle.acquire());
    outcomes.follow(
      'd',
      throttle.run(() => {}),
    );
    await clock.advance(0);
    expect(outcomes.order).toEqual(['c!', 'd!']);
    for (const name of ['c', 'd']) {
      expect(outcomes.error(name)).toBeInstanceOf(QueueFullError);
      expect(outcomes.error(name)).toMatchObject({ code: 'ERR_THROTTLE_QUEUE_FULL' });
    }
    // An aborted waiter makes room.
    stop.abort();
    await clock.advance(0);
    outcomes.follow('e', throttle.acquire());
    holder.release();
    await clock.advance(0);
    expect(outcomes.order).toEqual(['c!', 'd!', 'b!', 'a']);
    outcomes.permit('a').release();
    await clock.advance(0);
    expectNothingHeld(throttle, outcomes.permit('e'));
  });

  test('a maxQueue of 0 grants callers that fit and refuses all others', async () => {
    const { throttle } = setUp(10, 1, 1, { maxQueue: 0 });
    const permit = await throttle.acquire();
    await expect(throttle.acquire()).rejects.toBeInstanceOf(QueueFullError);
    expectNothingHeld(throttle, permit);
  });

  test('close rejects every waiter, cancels the timer and is final [p-limit#25, tokio#8020]', async () => {
    const { clock, throttle } = setUp(10, 2);
    const holder = take(throttle, 10);
    const outcomes = new Outcomes();
    const signal = new AbortController().signal;
    outcomes.follow('acquire', throttle.acquire());
    outcomes.follow('signal', throttle.acquire(1, { signal, timeout: 60 }));
    outcomes.follow(
      'run',
      throttle.run(() => {}),
    );
    outcomes.follow(
      'map',
      throttle.map([1, 2, 3], () => {}),
    );
    const reason = new Error('shutting down');
    throttle.close(reason);
    throttle.close(new Error('again'));
    expect([throttle.waiting, clock.pending, throttle.active]).toEqual([0, 0, 1]);
    await clock.advance(0);
    expect(outcomes.order.toSorted()).toEqual(['acquire!', 'map!', 'run!', 'signal!']);
    for (const name of ['acquire', 'signal', 'run', 'map']) {
      expect(outcomes.error(name)).toBeInstanceOf(ThrottleClosedError);
      expect(outcomes.error(name).cause).toBe(reason);
    }
    // No later call reopens the throttle.
    throttle.configure({ capacity: 1_000, concurrency: 0, burst: 1_000 });
    throttle.resume();
    throttle.pause(1);
    holder.refund();
    holder.release();
    await clock.advance(HOUR);
    expect([throttle.closed, throttle.tryAcquire()]).toEqual([true, undefined]);
    const work = vi.fn();
    for (const refused of [
      throttle.acquire(),
      throttle.acquire(0),
      throttle.run(work),
      throttle.wrap(work)(),
      throttle.map([1], work),
    ]) {
      await expect(refused).rejects.toBeInstanceOf(ThrottleClosedError);
    }
    expect(work).not.toHaveBeenCalled();
    await throttle.idle();
  });

  test.each<[string, (throttle: Throttle, clock: { advance(seconds: number): Promise<void> }) => unknown]>([
    [
      'close',
      (throttle) => {
        throttle.acquire().catch(() => {});
        throttle.close();
      },
    ],
    [
      'abort',
      (throttle) => {
        const stop = new AbortController();
        throttle.acquire(1, { signal: stop.signal }).catch(() => {});
        stop.abort();
      },
    ],
    [
      'a timeout',
      async (throttle, clock) => {
        throttle.acquire(1, { timeout: 1 }).catch(() => {});
        await clock.advance(1);
      },
    ],
    [
      'a configure that refuses the last waiter',
      (throttle) => {
        throttle.acquire(10).catch(() => {});
        throttle.configure({ burst: 1 });
      },
    ],
    ['a function that rejects', (throttle) => void throttle.run(() => Promise.reject(new Error('no'))).catch(() => {})],
    [
      'a function that throws',
      (throttle) =>
        void throttle
          .run(() => {
            throw new Error('no');
          })
          .catch(() => {}),
    ],
  ])('after %s, idle resolves when the last permit is released [p-queue#23]', async (_, end) => {
    const { clock, throttle } = setUp(10, 1);
    const holder = take(throttle, 0);
    const idle = vi.fn();
    void throttle.idle().then(idle);
    await end(throttle, clock);
    await clock.advance(0);
    expect(idle).not.toHaveBeenCalled();
    holder.release();
    await clock.advance(0);
    expect(idle).toHaveBeenCalledOnce();
    await throttle.idle();
  });

  test.each<[string, (throttle: Throttle, stop: AbortController) => void]>([
    ['abort', (_, stop) => stop.abort()],
    ['close', (throttle) => throttle.close()],
  ])('idle resolves when %s empties the queue and no permit is active', async (_, end) => {
    const { clock, throttle } = setUp(10);
    throttle.pause();
    const stop = new AbortController();
    throttle.acquire(1, { signal: stop.signal }).catch(() => {});
    const idle = vi.fn();
    void throttle.idle().then(idle);
    await clock.advance(0);
    expect(idle).not.toHaveBeenCalled();
    end(throttle, stop);
    await clock.advance(0);
    expect(idle).toHaveBeenCalledOnce();
  });
});
