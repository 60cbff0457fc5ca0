/** Promise 4, work conservation: the next waiter is granted or re-timed when the head leaves or limits change. */
import { ThrottleTimeoutError } from 'headgate';
import { describe, expect, test } from 'vitest';
import { Outcomes, setUp, take } from '../support/support.js';
import { expectWithinRate } from './expectations.js';

describe('trap 1: the next waiter is granted when the head leaves', () => {
  test('a cancelled head lets the next waiter be granted at once [golang/go#37852]', async () => {
    const { clock, throttle } = setUp(10);
    take(throttle, 10);
    const outcomes = new Outcomes();
    const stop = new AbortController();
    outcomes.follow('heavy', throttle.acquire(10, { signal: stop.signal }));
    outcomes.follow('light', throttle.acquire(1));
    await clock.advance(0.5);
    expect(outcomes.order).toEqual([]);
    stop.abort();
    expect(throttle.waiting).toBe(0);
    await clock.advance(0);
    expect(outcomes.order).toEqual(['heavy!', 'light']);
    expect(outcomes.permit('light').waited).toBe(0.5);
  });

  test('a cancelled head re-times the next waiter', async () => {
    const { clock, throttle } = setUp(10);
    take(throttle, 10);
    const stop = new AbortController();
    throttle.acquire(10, { signal: stop.signal }).catch(() => {});
    const light = throttle.acquire(5);
    stop.abort();
    await clock.advance(0.5);
    expect((await light).waited).toBe(0.5);
  });

  test('a timed-out heavy head stops blocking a light waiter [async-mutex]', async () => {
    const { clock, throttle } = setUp(10, 0, 1, { burst: 10 });
    take(throttle, 10);
    const outcomes = new Outcomes();
    outcomes.follow('heavy', throttle.acquire(10, { timeout: 1.5 }));
    outcomes.follow('light', throttle.acquire(1));
    throttle.configure({ capacity: 1 });
    await clock.advance(1.5);
    expect(outcomes.order).toEqual(['heavy!', 'light']);
    expect(outcomes.error('heavy')).toBeInstanceOf(ThrottleTimeoutError);
    expect(outcomes.permit('light').waited).toBe(1.5);
  });

  test('a cancelled head frees no slot, so the next waiter still waits for one', async () => {
    const { clock, throttle } = setUp(10, 1);
    const holder = take(throttle);
    const outcomes = new Outcomes();
    const stop = new AbortController();
    outcomes.follow('head', throttle.acquire(1, { signal: stop.signal }));
    outcomes.follow('next', throttle.acquire(1));
    stop.abort();
    await clock.advance(60);
    expect([outcomes.order, throttle.active]).toEqual([['head!'], 1]);
    holder.release();
    await clock.advance(0);
    expect([outcomes.order, throttle.active]).toEqual([['head!', 'next'], 1]);
  });
});

describe('trap 13: limits change while callers wait', () => {
  test('a raised concurrency over-grants nothing, and a lowered one grants nothing [anyio#1223]', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    const held = [take(throttle)];
    for (let index = 0; index < 8; index++)
      throttle.acquire().then(
        (permit) => held.push(permit),
        () => {},
      );
    throttle.configure({ concurrency: 3 });
    await clock.advance(0);
    expect([throttle.active, throttle.waiting]).toEqual([3, 6]);
    throttle.configure({ concurrency: 1 });
    for (const [active, waiting] of [
      [3, 6],
      [2, 6],
      [1, 6],
      [1, 5],
      [1, 4],
    ]) {
      expect([throttle.active, throttle.waiting]).toEqual([active, waiting]);
      held.shift()!.release();
      await clock.advance(0);
    }
  });

  test('a raised capacity or burst creates no tokens', async () => {
    const { clock, throttle } = setUp(10);
    take(throttle, 10);
    const grants: [number, number][] = [];
    for (let index = 0; index < 300; index++)
      throttle.acquire().then(
        () => grants.push([clock.now(), 1]),
        () => {},
      );
    throttle.configure({ capacity: 100, burst: 200 });
    expect([throttle.tokens, throttle.waiting]).toEqual([0, 300]);
    await clock.advance(0.1);
    expect(grants).toHaveLength(10);
    await clock.runAll();
    expect(clock.now()).toBeCloseTo(3, 9);
    expectWithinRate(grants, 1, 100);
  });

  test('the bucket keeps refilling after its size drops below its level [resilience4j#2489]', async () => {
    const { clock, throttle } = setUp(10);
    throttle.configure({ capacity: 2 });
    expect([throttle.tokens, throttle.burst]).toEqual([2, 2]);
    take(throttle, 2);
    const outcomes = new Outcomes();
    for (const name of ['a', 'b']) outcomes.follow(name, throttle.acquire());
    await clock.advance(0.5);
    expect(outcomes.order).toEqual(['a']);
    await clock.advance(0.5);
    expect(outcomes.order).toEqual(['a', 'b']);
    await clock.advance(10);
    expect(throttle.tokens).toBe(2);
  });

  test.each([
    ['no limits', {}],
    ['the present limits', { capacity: 1, period: 1, concurrency: 0, burst: 1 }],
  ])('repeated calls of configure with %s neither stop nor speed up the refill [bottleneck#185]', async (_, limits) => {
    const { clock, throttle } = setUp(1);
    take(throttle);
    const waiter = throttle.acquire();
    for (let index = 0; index < 99; index++) {
      await clock.advance(0.01);
      throttle.configure(limits);
    }
    expect([throttle.waiting, clock.pending]).toEqual([1, 1]);
    await clock.advance(0.010_001);
    expect((await waiter).waited).toBeCloseTo(1, 5);
  });

  test('a shorter period re-times the head to an earlier instant', async () => {
    const { clock, throttle } = setUp(1, 0, 60);
    take(throttle);
    const waiter = throttle.acquire();
    await clock.advance(30);
    throttle.configure({ period: 1 });
    expect(clock.pending).toBe(1);
    await clock.advance(0.5);
    expect((await waiter).waited).toBeCloseTo(30.5, 9);
  });

  test('a longer period re-times the head to a later instant', async () => {
    const { clock, throttle } = setUp(1);
    take(throttle);
    const waiter = throttle.acquire();
    await clock.advance(0.5);
    throttle.configure({ period: 60 });
    await clock.advance(29.9);
    expect([throttle.waiting, clock.pending]).toEqual([1, 1]);
    await clock.advance(0.1);
    expect((await waiter).waited).toBeCloseTo(30.5, 9);
  });

  test('a rejected configure changes nothing', async () => {
    const { clock, throttle } = setUp(1);
    take(throttle);
    const waiter = throttle.acquire();
    expect(() => throttle.configure({ capacity: 100, period: Number.NaN })).toThrow(RangeError);
    await clock.advance(0.99);
    expect([throttle.capacity, throttle.waiting]).toEqual([1, 1]);
    await clock.advance(0.01);
    expect((await waiter).waited).toBe(1);
  });
});
