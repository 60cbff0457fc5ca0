/**
 * Settlements, compared with the definition (promise 6): a settlement leaves exactly the tokens that a request of the
 * true cost would have left.
 */
import fc from 'fast-check';
import { type Permit, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { bursts, capacities, KEPT_CHANGES, periods, quarters, rates } from './reference.js';
import { setUp, take } from '../support/support.js';
import { BucketReplay, type LoggedGrant } from './replay.js';

test('a refund counts the refill since the grant (FAULTS 8)', async () => {
  const { throttle, clock } = setUp(1, 0, 1, { burst: 10 });
  const [a, b] = [take(throttle, 5), take(throttle, 5)];
  await clock.advance(5);
  expect(throttle.tokens).toBe(5);
  a.refund();
  expect(throttle.tokens).toBe(10);
  // Without `a`, the bucket would have been full after 5 s, so the refund of `b` would have overflowed.
  b.refund();
  expect(throttle.tokens).toBe(10);
});

test('the overflow since the grant pays a debt (FAULTS 8)', async () => {
  const { throttle, clock } = setUp(1, 0, 1, { burst: 10 });
  const permit = take(throttle, 1);
  await clock.advance(4);
  permit.settle(3);
  // A grant of 3 four seconds ago would have left a full bucket by now.
  expect(throttle.tokens).toBe(10);
});

const finite = (value: { capacity: number }): boolean => value.capacity < Infinity;

test('settlements in either order leave the same tokens', async () => {
  const step = fc.record({ seconds: quarters(2), cost: quarters(4), trueCost: quarters(6) });
  await fc.assert(
    fc.asyncProperty(
      rates.filter(finite),
      fc.array(step, { maxLength: 40, size: 'max' }),
      quarters(4),
      fc.infiniteStream(fc.nat(1_000)),
      async (rate, steps, rest, order) => {
        const { capacity, period = 1, ...options } = rate;
        const played = [0, 1].map(() => {
          const clock = new ManualClock();
          const permits: [Permit, number][] = [];
          return { clock, permits, throttle: new Throttle(capacity, 0, period, { ...options, clock }) };
        });
        for (const { clock, permits, throttle } of played) {
          for (const { seconds, cost, trueCost } of steps) {
            await clock.advance(seconds);
            const permit = throttle.tryAcquire(Math.min(cost, throttle.burst));
            if (permit !== undefined) permits.push([permit, trueCost]);
          }
          await clock.advance(rest);
        }
        const [inOrder, shuffled] = played as [(typeof played)[0], (typeof played)[0]];
        for (const [permit, cost] of inOrder.permits) permit.settle(cost);
        for (let left = shuffled.permits; left.length > 0;) {
          const [[permit, cost]] = left.splice((order.next().value as number) % left.length, 1) as [[Permit, number]];
          permit.settle(cost);
        }
        expect(shuffled.throttle.tokens).toBe(inOrder.throttle.tokens);
      },
    ),
    { numRuns: 200 },
  );
});

test('a debt is exact after few limit changes, and charged at most in full after many', () => {
  for (let changes = 0; changes <= 40; changes += 2) {
    const { throttle } = setUp(1, 0, 1_024, { burst: 16 });
    const permit = take(throttle, 4);
    // The true cost leaves 6 tokens, more than the smaller burst holds, so the debt has no effect.
    for (let pair = 0; pair < changes; pair += 2) {
      throttle.configure({ burst: 2 });
      throttle.configure({ burst: 16 });
    }
    permit.settle(10);
    const exact = changes === 0 ? 6 : 2;
    if (changes <= KEPT_CHANGES) expect(throttle.tokens).toBe(exact);
    else expect([exact, exact - 6]).toContain(throttle.tokens);
  }
});

/** Grants at random instants. Many of them stay unsettled for a long time. */
const longHistory = fc.record({
  capacity: capacities.filter((capacity) => capacity < Infinity),
  period: periods,
  burst: bursts,
  steps: fc.array(
    fc.record({
      ticks: fc.nat(8),
      cost: quarters(1),
      settles: fc.nat(3),
      which: fc.nat(10_000),
      trueCost: quarters(2),
    }),
    { minLength: 700, maxLength: 900, size: 'max' },
  ),
});

/** Plays a history on a throttle and on replays of its grants, and calls `compare` after every step. */
async function playLong(
  { capacity, period, burst, steps }: typeof longHistory extends fc.Arbitrary<infer H> ? H : never,
  withDebts: boolean,
  compare: (tokens: number, exact: number, strict: number) => void,
): Promise<number> {
  const clock = new ManualClock();
  const throttle = new Throttle(capacity, 0, period, { burst, clock });
  const rate = { capacity, period, burst };
  const [exact, strict] = [new BucketReplay(rate), new BucketReplay(rate)];
  const open: { permit: Permit; grant: LoggedGrant; strictGrant: LoggedGrant }[] = [];
  let granted = 0;
  // `ManualClock.advance` is too slow for hundreds of instants. No caller waits here, so the test sets the time
  // directly.
  let now = 0;
  clock.now = () => now;
  for (const { ticks, cost, settles, which, trueCost } of steps) {
    now += ticks / 16;
    const permit = throttle.tryAcquire(Math.min(cost, throttle.burst));
    if (permit !== undefined) {
      granted++;
      const [grant, strictGrant] = [
        { at: now, cost: permit.cost },
        { at: now, cost: permit.cost },
      ];
      exact.add(grant);
      strict.add(strictGrant);
      open.push({ permit, grant, strictGrant });
    }
    // Old permits are settled as often as young permits, and most permits stay unsettled for a long time.
    if (settles === 0 && open.length > 0) {
      const [{ permit: settled, grant, strictGrant }] = open.splice(which % open.length, 1) as [(typeof open)[0]];
      const actual = withDebts ? trueCost : Math.min(trueCost, settled.cost) / 2;
      const debt = actual - settled.cost;
      settled.settle(actual);
      grant.cost = actual;
      exact.settled(grant);
      if (debt > 0) strict.add({ at: now, cost: debt });
      else strictGrant.cost = actual;
      strict.settled(strictGrant);
    }
    compare(throttle.tokens, exact.level(now), strict.level(now));
  }
  return granted;
}

describe('with more grants than the log keeps one by one', () => {
  test('refunds are exact in a bucket whose level rises and falls', async () => {
    let maxGranted = 0;
    await fc.assert(
      fc.asyncProperty(longHistory, async (history) => {
        maxGranted = Math.max(
          maxGranted,
          await playLong(history, false, (tokens, exact) => expect(tokens).toBe(exact)),
        );
      }),
      { numRuns: 30 },
    );
    expect(maxGranted).toBeGreaterThan(600);
  });

  test('debts of old grants are charged at most in full, and the tokens never exceed the exact level', async () => {
    let maxGranted = 0;
    await fc.assert(
      fc.asyncProperty(longHistory, async (history) => {
        maxGranted = Math.max(
          maxGranted,
          await playLong(history, true, (tokens, exact, strict) => {
            if (tokens > exact || tokens < strict) expect.fail(`${tokens} tokens, not from ${strict} to ${exact}`);
          }),
        );
      }),
      { numRuns: 30 },
    );
    expect(maxGranted).toBeGreaterThan(600);
  });

  /** Takes 2,000 grants at different instants from a full bucket, then refunds all of them, oldest first. */
  const refundAll = (compare: (tokens: number, exact: number) => void): void => {
    const clock = new ManualClock();
    let now = 0;
    clock.now = () => now;
    const throttle = new Throttle(1, 0, 1, { burst: 8_192, clock });
    const exact = new BucketReplay({ capacity: 1, burst: 8_192 });
    const permits = Array.from({ length: 2_000 }, (_, index) => {
      now = index;
      const grant: LoggedGrant = { at: now, cost: 2 };
      exact.add(grant);
      return { permit: take(throttle, 2), grant };
    });
    for (const { permit, grant } of permits) {
      permit.refund();
      grant.cost = 0;
      exact.settled(grant);
      compare(throttle.tokens, exact.level(now));
    }
  };

  test('the tokens never exceed the exact level while 2,000 permits are unsettled', () => {
    refundAll((tokens, exact) => expect(tokens).toBeLessThanOrEqual(exact));
  });

  test('refunds are exact while 2,000 permits are unsettled', () => {
    let left = 0;
    refundAll((tokens, exact) => void (left = exact - tokens));
    expect(left).toBe(0);
  });
});
