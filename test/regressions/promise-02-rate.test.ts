/** Promise 2, rate: costs above the burst, cancelled reservations and bursts at period boundaries. */
import { ThrottleTimeoutError } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { Outcomes, setUp, take } from '../support/support.js';
import { expectNothingHeld, expectWithinRate } from './expectations.js';

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

describe('trap 10: a cost above the burst is refused at once', () => {
  test.each([11, 10.000_001, Number.MAX_VALUE])(
    'a cost of %d takes no slot and never pends [async-throttle, Guava#7130]',
    async (cost) => {
      for (const busy of [false, true]) {
        const { clock, throttle } = setUp(10, 2);
        if (busy) {
          take(throttle);
          take(throttle);
          throttle.acquire().catch(() => {});
        }
        const { active, waiting, tokens } = throttle;
        const work = vi.fn();
        for (const refused of [
          throttle.acquire(cost),
          throttle.run(work, cost),
          throttle.wrap(work, cost)(),
          throttle.map([1], work, { cost }),
        ]) {
          await expect(refused).rejects.toThrow(RangeError);
        }
        expect(() => throttle.tryAcquire(cost)).toThrow(RangeError);
        expect(() => throttle.estimateWait(cost)).toThrow(RangeError);
        expect(work).not.toHaveBeenCalled();
        expect([throttle.active, throttle.waiting, throttle.tokens, clock.pending]).toEqual([
          active,
          waiting,
          tokens,
          0,
        ]);
      }
    },
  );

  test('a waiter whose cost exceeds a new burst is refused and blocks no other waiter', async () => {
    const { clock, throttle } = setUp(10);
    take(throttle, 10);
    const outcomes = new Outcomes();
    outcomes.follow('large', throttle.acquire(8));
    outcomes.follow('small', throttle.acquire(1));
    throttle.configure({ burst: 5 });
    await clock.advance(0.1);
    expect(outcomes.order).toEqual(['large!', 'small']);
    expect(outcomes.error('large')).toBeInstanceOf(RangeError);
  });

  test('the burst limits the cost even without a rate', async () => {
    const { throttle } = setUp(Infinity, 0, 1, { burst: 5 });
    await expect(throttle.acquire(6)).rejects.toThrow(RangeError);
    expectNothingHeld(throttle, take(throttle, 5));
  });
});

describe('trap 12: a cancelled reservation allows no early burst [golang/go#69419, cadence#6030]', () => {
  test('aborts move the later waiters forward, within the rate', async () => {
    const { clock, throttle } = setUp(10);
    const grants: [number, number][] = [];
    const stops = Array.from({ length: 60 }, () => new AbortController());
    stops.forEach((stop, index) => {
      const cost = 1 + (index % 3);
      throttle.acquire(cost, { signal: stop.signal }).then(
        () => grants.push([clock.now(), cost]),
        () => {},
      );
    });
    await clock.advance(0.55);
    stops.forEach((stop, index) => index % 2 && stop.abort());
    await clock.runAll();
    expectWithinRate(grants, 10, 10);
    const [last] = grants.at(-1)!;
    // The last grant is as early as the rate allows: the cancelled waiters left no gap.
    expect(last).toBeCloseTo((sum(grants.map(([, cost]) => cost)) - 10) / 10, 9);
  });

  test('a refund after a refill makes no second burst', async () => {
    const { clock, throttle } = setUp(10);
    const never = take(throttle, 10);
    await clock.advance(0.9);
    take(throttle, 9);
    never.refund();
    // As if the refunded cost had never been spent: a full bucket of 10, less 9.
    expect(throttle.tokens).toBeCloseTo(1, 9);
    await clock.advance(10);
    expect(throttle.tokens).toBe(10);
  });

  test('a permit is settled once: later settlements neither refund nor charge', async () => {
    const { throttle } = setUp(10);
    const permit = take(throttle, 8);
    permit.settle(3);
    expect(throttle.tokens).toBe(7);
    for (const again of [0, 3, 10]) permit.settle(again);
    permit.refund();
    permit.release();
    permit.refund();
    expect([throttle.tokens, permit.cost]).toEqual([7, 3]);
  });

  test('a refund grants the head and no other waiter', async () => {
    const { clock, throttle } = setUp(10);
    const whole = take(throttle, 10);
    const outcomes = new Outcomes();
    for (const name of ['a', 'b']) outcomes.follow(name, throttle.acquire(6));
    whole.refund();
    whole.refund();
    await clock.advance(0);
    expect([outcomes.order, throttle.tokens]).toEqual([['a'], 4]);
    await clock.advance(0.2);
    expect(outcomes.order).toEqual(['a', 'b']);
  });
});

describe('trap 18: no span of w seconds grants more than burst + rate x w [aiolimiter#298]', () => {
  test('ten grants at the end of a period leave none for the start of the next period', async () => {
    const { clock, throttle } = setUp(10);
    await clock.advance(0.99);
    take(throttle, 10);
    await clock.advance(0.01);
    expect(throttle.tryAcquire()).toBeUndefined();
    expect(throttle.tokens).toBeCloseTo(0.1, 9);
  });

  test.each([
    [10, 1, undefined, 1],
    [10, 1, 1, 1],
    [3, 7, 5, 2],
    [1 / 3, 1, undefined, 1],
    [100, 0.5, 20, 7],
  ])(
    '%d per %d s, burst %s, cost %d: a greedy caller stays within the rate after idle times of any length',
    async (capacity, period, burst, cost) => {
      const { clock, throttle } = setUp(capacity, 0, period, { burst: burst ?? undefined });
      const grants: [number, number][] = [];
      const rate = capacity / period;
      const span = (cost + throttle.burst) / rate;
      for (let step = 0; step < 600; step++) {
        // Idle times of uneven lengths, so that requests arrive at all phases of a period.
        await clock.advance(step % 50 === 0 ? span * ((step % 7) / 5) : span / 40);
        while (throttle.tryAcquire(cost)) grants.push([clock.now(), cost]);
      }
      expect(grants.length).toBeGreaterThan(20);
      expectWithinRate(grants, throttle.burst, rate);
    },
  );

  test('a burst of 1 spaces all grants by one token', async () => {
    const { clock, throttle } = setUp(10, 0, 1, { burst: 1 });
    const granted: number[] = [];
    await clock.advance(60);
    for (let index = 0; index < 50; index++)
      throttle.acquire().then(
        () => granted.push(clock.now()),
        () => {},
      );
    await clock.runAll();
    for (let index = 1; index < 50; index++) expect(granted[index]! - granted[index - 1]!).toBeCloseTo(0.1, 9);
  });
});

test('a cost of 0 takes a slot at once, even during a debt (FAULTS 15)', async () => {
  for (const options of [{}, { window: 'sliding' }, { also: [{ capacity: 10, period: 60 }] }] as const) {
    const { throttle } = setUp(10, 2, 1, options);
    take(throttle, 10).settle(50);
    expect(throttle.tokens).toBe(-40);
    expect([throttle.estimateWait(0), throttle.tryAcquire(0)?.cost]).toEqual([0, 0]);
    await expect(throttle.acquire(0, { timeout: 0 })).rejects.toThrow(ThrottleTimeoutError);
  }
});
