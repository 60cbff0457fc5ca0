/** Promise 5, nothing is lost: aborts leave no waiter, token, slot or permit behind. */
import { Throttle } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { Outcomes, setUp, SkewedClock, take } from '../support/support.js';
import { expectNothingHeld } from './expectations.js';

describe('trap 3: head and tail aborted together [p-queue#168]', () => {
  test.each([
    ['one signal', [0], [0, 0]],
    ['two signals', [0, 1], [0, 1]],
    ['two signals, the tail first', [1, 0], [0, 1]],
  ])('%s: counts return to zero and the next acquire works', async (_, aborted, [head, tail]) => {
    for (const middle of [false, true]) {
      const { clock, throttle } = setUp(10, 1);
      const holder = take(throttle);
      const outcomes = new Outcomes();
      const stops = [new AbortController(), new AbortController()];
      outcomes.follow('head', throttle.acquire(1, { signal: stops[head!]!.signal }));
      if (middle) outcomes.follow('middle', throttle.acquire());
      outcomes.follow('tail', throttle.acquire(1, { signal: stops[tail!]!.signal }));
      for (const index of aborted) stops[index]!.abort();
      expect(throttle.waiting).toBe(Number(middle));
      await clock.advance(0);
      expect(outcomes.order.toSorted()).toEqual(['head!', 'tail!']);
      holder.release();
      await clock.advance(0);
      if (middle) outcomes.permit('middle').release();
      expectNothingHeld(throttle, take(throttle));
      expect(throttle.estimateWait(10)).toBeCloseTo((2 + Number(middle)) / 10, 9);
    }
  });
});

describe('trap 4: an aborted waiter is never charged and rejects at once', () => {
  test('an aborted waiter spends no tokens [p-queue#220, axios-rate-limit#21]', async () => {
    const { clock, throttle } = setUp(10);
    take(throttle, 10);
    const stop = new AbortController();
    const gone = Array.from({ length: 5 }, () => throttle.acquire(2, { signal: stop.signal }));
    await clock.advance(0.1);
    stop.abort();
    expect((await Promise.allSettled(gone)).map((one) => one.status)).toEqual(Array(5).fill('rejected'));
    expect(throttle.tokens).toBeCloseTo(1, 9);
    expect(throttle.estimateWait(1)).toBe(0);
    await clock.advance(0.9);
    expect(throttle.tokens).toBeCloseTo(10, 9);
    expect(throttle.tryAcquire(10)).toBeDefined();
  });

  test('the function of an aborted waiter never starts', async () => {
    const { clock, throttle } = setUp(10, 1);
    const holder = take(throttle);
    const stop = new AbortController();
    const work = vi.fn();
    const gone = throttle.run(work, 1, { signal: stop.signal });
    stop.abort(new Error('enough'));
    holder.release();
    await expect(gone).rejects.toThrow('enough');
    await clock.advance(60);
    expect(work).not.toHaveBeenCalled();
    expect([throttle.active, throttle.tokens]).toEqual([0, 10]);
  });

  test.each([
    ['a slot', (throttle: Throttle) => void take(throttle)],
    ['tokens', (throttle: Throttle) => void take(throttle, 10)],
    ['the end of a pause', (throttle: Throttle) => throttle.pause()],
  ])('an aborted waiter rejects at once while it still lacks %s [cockatiel]', async (_, block) => {
    const { clock, throttle } = setUp(10, 1);
    block(throttle);
    const { active } = throttle;
    const reason = new Error('enough');
    const stop = new AbortController();
    const gone = throttle.acquire(1, { signal: stop.signal });
    stop.abort(reason);
    expect(throttle.waiting).toBe(0);
    await expect(gone).rejects.toBe(reason);
    expect([clock.now(), clock.pending, throttle.active]).toEqual([0, 0, active]);
  });
});

describe('trap 6: a grant and an abort in one tick lose no permit [bpo-27585, bpo-32734, effect#6910]', () => {
  const blocks: Record<string, (throttle: Throttle) => () => void> = {
    release: (throttle) => {
      const holder = take(throttle, 0);
      return () => holder.release();
    },
    resume: (throttle) => {
      throttle.pause(60);
      return () => throttle.resume();
    },
    settle: (throttle) => {
      const whole = take(throttle, 10);
      whole.release();
      return () => whole.refund();
    },
    configure: (throttle) => {
      const holder = take(throttle, 0);
      return () => {
        throttle.configure({ concurrency: 2 });
        queueMicrotask(() => {
          throttle.configure({ concurrency: 1 });
          holder.release();
        });
      };
    },
  };
  for (const [name, block] of Object.entries(blocks)) {
    test(`${name} before the abort: the permit reaches its caller`, async () => {
      const { clock, throttle } = setUp(10, 1);
      const open = block(throttle);
      const stop = new AbortController();
      const granted = throttle.acquire(1, { signal: stop.signal });
      open();
      expect(clock.pending).toBe(0);
      stop.abort();
      const permit = await granted;
      expect(permit.released).toBe(false);
      await clock.advance(0);
      expect(throttle.active).toBe(1);
      expectNothingHeld(throttle, permit);
      expectNothingHeld(throttle, take(throttle));
    });

    test(`abort before ${name}: the call rejects, and the next waiter gets the permit`, async () => {
      const { clock, throttle } = setUp(10, 1);
      const open = block(throttle);
      const stop = new AbortController();
      const outcomes = new Outcomes();
      outcomes.follow('gone', throttle.acquire(1, { signal: stop.signal }));
      outcomes.follow('next', throttle.acquire(1));
      stop.abort();
      open();
      await clock.advance(0);
      expect(outcomes.order).toEqual(['gone!', 'next']);
      expectNothingHeld(throttle, outcomes.permit('next'));
      expect(throttle.tokens).toBeCloseTo(9, 9);
    });
  }

  test('run that is granted and aborted in one tick does not call its function', async () => {
    const { throttle } = setUp(10, 1);
    const holder = take(throttle);
    const stop = new AbortController();
    const fn = vi.fn();
    const done = throttle.run(fn, 1, { signal: stop.signal });
    holder.release();
    stop.abort();
    await expect(done).rejects.toBe(stop.signal.reason);
    expect([fn.mock.calls.length, throttle.tokens]).toEqual([0, 9]);
    expectNothingHeld(throttle);
  });

  test.each([
    ['before', ['aborted!'], 1],
    ['after', ['aborted'], 0],
  ] as const)('an abort at the instant of the grant timer, %s the timer', async (when, expected, tokens) => {
    const { clock, throttle } = setUp(1);
    take(throttle);
    const outcomes = new Outcomes();
    const stop = new AbortController();
    if (when === 'before') clock.schedule(1, () => stop.abort());
    outcomes.follow('aborted', throttle.acquire(1, { signal: stop.signal }));
    if (when === 'after') clock.schedule(1, () => stop.abort());
    await clock.advance(1);
    expect(outcomes.order).toEqual(expected);
    expect([throttle.tokens, throttle.waiting, clock.pending]).toEqual([tokens, 0, 0]);
  });

  test.each([1, 3, 7, 1 / 3, 0.1, 1_000])(
    'a permit that is due at the instant of the deadline is granted: %d per second',
    async (capacity) => {
      for (const start of [0, 12_345.678, 1.7e9]) {
        const clock = new SkewedClock();
        clock.skew = start;
        const throttle = new Throttle(capacity, 0, 1, { clock });
        const burst = take(throttle, throttle.burst);
        burst.release();
        await clock.passing.advance(0.0123456);
        const outcomes = new Outcomes();
        outcomes.follow('first', throttle.acquire(1, { timeout: throttle.estimateWait(1) }));
        outcomes.follow('second', throttle.acquire(1, { timeout: throttle.estimateWait(1) }));
        await clock.passing.runAll();
        expect(outcomes.order).toEqual(['first', 'second']);
        expect(clock.passing.pending).toBe(0);
      }
    },
  );
});
