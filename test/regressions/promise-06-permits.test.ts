/** Promise 6, permits: releases and settlements count once. */
import { KeyedThrottle, type Permit } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { Outcomes, setUp, take } from '../support/support.js';
import { expectNothingHeld } from './expectations.js';

describe('trap 9: a second release has no effect and strands no waiter', () => {
  test.each<[string, (permit: Permit) => unknown]>([
    ['release', (permit) => permit.release()],
    [
      'using',
      (permit) => {
        using _ = permit;
      },
    ],
    [
      'await using',
      async (permit) => {
        await using _ = permit;
      },
    ],
    ['Symbol.dispose', (permit) => permit[Symbol.dispose]()],
    ['Symbol.asyncDispose', (permit) => permit[Symbol.asyncDispose]()],
  ])('release followed by %s returns one slot [async-sema#36]', async (_, again) => {
    const { clock, throttle } = setUp(Infinity, 2);
    const holders = [take(throttle), take(throttle)];
    for (let index = 0; index < 3; index++) throttle.acquire().catch(() => {});
    holders[0]!.release();
    await again(holders[0]!);
    await again(holders[0]!);
    await clock.advance(0);
    expect([throttle.active, throttle.waiting]).toEqual([2, 2]);
  });

  test('a function of run that releases its own permit frees one slot only', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    let running = 0;
    const most: number[] = [];
    const job = async (permit: Permit): Promise<void> => {
      permit.release();
      permit.release();
      running++;
      await Promise.resolve();
      most.push(throttle.active);
      running--;
    };
    await Promise.all([1, 2, 3].map(() => throttle.run(job)));
    await clock.advance(0);
    expect(Math.max(...most)).toBeLessThanOrEqual(1);
    expect([running, throttle.active]).toEqual([0, 0]);
  });

  test('a cancellation in the tick of the grant strands no other waiter [gh-112202, anyio#1145]', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    const holder = take(throttle);
    const outcomes = new Outcomes();
    const stops = [new AbortController(), new AbortController()];
    const polite = async (signal: AbortSignal): Promise<void> => {
      using _ = await throttle.acquire(1, { signal });
      signal.throwIfAborted();
    };
    stops.forEach((stop, index) => outcomes.follow(`${index}`, polite(stop.signal)));
    outcomes.follow('last', throttle.acquire());
    holder.release();
    for (const stop of stops) stop.abort();
    await clock.advance(0);
    expect(outcomes.order.toSorted()).toEqual(['0!', '1!', 'last']);
    expectNothingHeld(throttle, outcomes.permit('last'));
  });
});

describe('settlements (FAULTS 8)', () => {
  test('a refund returns the tokens that would not have overflowed', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const first = take(throttle, 5);
    take(throttle, 5);
    await clock.advance(5);
    first.refund();
    expect(throttle.tokens).toBe(10);
  });

  test('a refund returns no tokens that would have overflowed', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const first = take(throttle, 5);
    await clock.advance(3);
    // The level is 8. Without the refunded cost, the bucket would have been full from the start.
    take(throttle, 8);
    first.refund();
    expect(throttle.tokens).toBe(2);
  });

  test('a debt that the overflow has paid is not charged again', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const first = take(throttle, 5);
    await clock.advance(100);
    first.settle(50);
    expect(throttle.tokens).toBe(10);
  });

  test('each of several rates is settled separately', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10, also: [{ capacity: 20, period: 100, window: 'sliding' }] });
    const first = take(throttle, 8);
    await clock.advance(10);
    // The full bucket takes nothing of the refund. The window takes all of it.
    first.refund();
    for (let index = 0; index < 2; index++) {
      take(throttle, 10);
      await clock.advance(10);
    }
    expect(throttle.tryAcquire(1)).toBeUndefined();
  });

  test('a settlement after configure applies to the old limits first (FAULTS 14)', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const first = take(throttle, 5);
    await clock.advance(5);
    throttle.configure({ burst: 100 });
    // The bucket of 10 was full when the limits changed, with or without the refund.
    first.refund();
    expect(throttle.tokens).toBe(10);
  });

  test('a rate that was removed and set again ignores earlier grants', async () => {
    const { throttle } = setUp(10);
    const first = take(throttle, 5);
    throttle.configure({ capacity: Infinity });
    throttle.configure({ capacity: 10 });
    take(throttle, 5);
    first.refund();
    expect(throttle.tokens).toBe(5);
    first.settle(10);
    expect(throttle.tokens).toBe(5);
  });

  test('a refund after 5,000 grants is exact', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const early = take(throttle, 5);
    take(throttle, 5);
    // A steady backlog: 5,000 grants that spend each token as it refills.
    for (let index = 0; index < 5_000; index++) {
      await throttle.acquire(1, { timeout: 0 }).catch(() => clock.advance(1));
    }
    early.refund();
    expect(throttle.tokens).toBe(throttle.tokens > 5 ? 6 : 5);
    const spent = take(throttle, Math.floor(throttle.tokens));
    spent.settle(spent.cost + 3);
    expect(throttle.tokens).toBeLessThan(0);
  });
});

test('a late debt of an evicted key counts after a change of the limits (soak, seed 413525372)', async () => {
  const clock = new ManualClock();
  const keyed = new KeyedThrottle(1, 0, 0.5, { clock });
  const first = keyed.tryAcquire('ada', 0)!;
  first.release();
  // Looking at a key evicts the throttle of a key that equals a new one.
  expect(keyed.peek('ada')).toBeUndefined();
  const second = keyed.tryAcquire('ada', 0)!;
  await clock.advance(0.125);
  keyed.peek('ada')!.configure({});
  first.settle(0.25);
  second.settle(0.25);
  // Both debts of 0.25 date from the start, and 2 tokens per second have paid 0.25 of their sum since.
  expect(keyed.peek('ada')!.tokens).toBe(0.75);
});
