/** Promise 3, first in, first out: no caller overtakes an earlier waiter. */
import { ThrottleTimeoutError } from 'headgate';
import { describe, expect, test } from 'vitest';
import { Outcomes, setUp, take } from '../support/support.js';
import { expectNothingHeld } from './expectations.js';

describe('trap 5: an abort in the middle of the queue lets no waiter overtake [cats-effect#3562]', () => {
  test('a light waiter stays behind a heavy head after an abort between them', async () => {
    const { clock, throttle } = setUp(8);
    take(throttle, 8);
    const outcomes = new Outcomes();
    const stop = new AbortController();
    outcomes.follow('heavy', throttle.acquire(8));
    outcomes.follow('middle', throttle.acquire(1, { signal: stop.signal }));
    outcomes.follow('light', throttle.acquire(1));
    outcomes.follow('last', throttle.acquire(1));
    await clock.advance(0.5);
    stop.abort();
    await clock.advance(0.25);
    expect([outcomes.order, throttle.tryAcquire()]).toEqual([['middle!'], undefined]);
    await clock.advance(0.25);
    expect(outcomes.order).toEqual(['middle!', 'heavy']);
    await clock.advance(0.25);
    expect(outcomes.order).toEqual(['middle!', 'heavy', 'light', 'last']);
  });

  test('each release grants one waiter, in order, and skips aborted waiters', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    let holder = take(throttle);
    const outcomes = new Outcomes();
    const stops = Array.from({ length: 9 }, () => new AbortController());
    stops.forEach((stop, index) => outcomes.follow(`${index}`, throttle.acquire(1, { signal: stop.signal })));
    for (const index of [4, 1, 7, 2]) stops[index]!.abort();
    await clock.advance(0);
    const rejected = outcomes.order.length;
    expect(outcomes.order.toSorted()).toEqual(['1!', '2!', '4!', '7!']);
    for (const [served, name] of ['0', '3', '5', '6', '8'].entries()) {
      holder.release();
      await clock.advance(0);
      expect(outcomes.order.slice(rejected)).toHaveLength(served + 1);
      expect([outcomes.order.at(-1), throttle.active]).toEqual([name, 1]);
      holder = outcomes.permit(name);
    }
  });
});

describe('trap 7: no fast path overtakes a waiter', () => {
  test('a holder that releases and acquires again is granted after all earlier waiters [bpo-45997]', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    const holder = take(throttle);
    const outcomes = new Outcomes();
    outcomes.follow('first', throttle.acquire());
    outcomes.follow('second', throttle.acquire());
    holder.release();
    // `first` holds the slot already, although its continuation has not run.
    expect(throttle.tryAcquire()).toBeUndefined();
    await expect(throttle.acquire(1, { timeout: 0 })).rejects.toBeInstanceOf(ThrottleTimeoutError);
    outcomes.follow('again', throttle.acquire());
    for (const expected of ['first', 'second', 'again']) {
      await clock.advance(0);
      expect(outcomes.order.at(-1)).toBe(expected);
      outcomes.permit(expected).release();
    }
    expect(outcomes.order).toEqual(['first', 'second', 'again']);
  });

  test('a small cost does not overtake a large head, even if a slot and its tokens are available', async () => {
    const { clock, throttle } = setUp(10, 5);
    take(throttle, 5);
    const outcomes = new Outcomes();
    outcomes.follow('large', throttle.acquire(10));
    expect(throttle.tryAcquire(1)).toBeUndefined();
    expect(throttle.tryAcquire(0)).toBeUndefined();
    outcomes.follow('never', throttle.acquire(0, { timeout: 0 }));
    outcomes.follow(
      'small',
      throttle.run(() => {}, 0),
    );
    await clock.advance(0.4);
    expect(outcomes.order).toEqual(['never!']);
    await clock.advance(0.1);
    expect(outcomes.order).toEqual(['never!', 'large', 'small']);
  });

  test('a caller does not wait after the last waiter has left', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    const holder = take(throttle);
    const waiter = throttle.acquire();
    holder.release();
    (await waiter).release();
    await clock.advance(0);
    expectNothingHeld(throttle, take(throttle));
  });

  test.each([1, 2, 5])(
    '%d releases in one tick grant as many waiters, in order [CPython test_acquire_fifo_order]',
    async (releases) => {
      const { clock, throttle } = setUp(Infinity, 5);
      const holders = Array.from({ length: 5 }, () => take(throttle));
      const outcomes = new Outcomes();
      for (let index = 0; index < 8; index++) outcomes.follow(`${index}`, throttle.acquire());
      for (const holder of holders.slice(0, releases)) holder.release();
      expect([throttle.active, throttle.waiting]).toEqual([5, 8 - releases]);
      await clock.advance(0);
      expect(outcomes.order).toEqual(['0', '1', '2', '3', '4'].slice(0, releases));
    },
  );

  test.each([
    ['sleeps while it holds the slot', 0.01],
    ['never sleeps', 0],
  ])(
    'every job gets its first turn before any second turn: a job that %s [CPython test_acquire_fifo_order_1..4]',
    async (_, seconds) => {
      const { clock, throttle } = setUp(Infinity, 1);
      const order: string[] = [];
      const sleep = (): Promise<void> => new Promise((resolve) => void clock.schedule(seconds, resolve));
      const job = async (tag: string): Promise<void> => {
        for (const turn of [1, 2]) {
          const permit = await throttle.acquire();
          order.push(`${tag}${turn}`);
          if (seconds > 0) await sleep();
          permit.release();
        }
      };
      const all = Promise.all([job('a'), job('b'), job('c')]);
      await clock.advance(1);
      await all;
      expect(order).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'c2']);
    },
  );

  test('a release, an abort of the new head and a release in one tick grant two waiters', async () => {
    const { clock, throttle } = setUp(Infinity, 2);
    const holders = [take(throttle), take(throttle)];
    const outcomes = new Outcomes();
    const stop = new AbortController();
    outcomes.follow('a', throttle.acquire());
    outcomes.follow('b', throttle.acquire(1, { signal: stop.signal }));
    outcomes.follow('c', throttle.acquire());
    outcomes.follow('d', throttle.acquire());
    holders[0]!.release();
    stop.abort();
    holders[1]!.release();
    await clock.advance(0);
    expect(outcomes.order.filter((name) => name !== 'b!')).toEqual(['a', 'c']);
    expect([throttle.active, throttle.waiting]).toEqual([2, 1]);
  });
});
