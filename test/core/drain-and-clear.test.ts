/** `drain`, `clear` and `idle({ below })` of a throttle: re-entrant calls, all ways to call, many waiters, messages. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { KeyedThrottle, QueueClearedError, type RefusedMessage, Throttle, ThrottleClosedError } from 'headgate';
import { record } from 'headgate/testing';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { IdleListeners } from '../../src/core/idle.js';
import { Outcomes, setUp, setUpKeyed, take } from '../support/support.js';

const onRefused = (listener: (message: RefusedMessage) => void): void => {
  const receive = (message: unknown): void => listener(message as RefusedMessage);
  subscribe('headgate:refused', receive);
  onTestFinished(() => void unsubscribe('headgate:refused', receive));
};

/** A throttle with one slot, which is taken, and named waiters. */
const withWaiters = (...names: string[]): ReturnType<typeof setUp> & { outcomes: Outcomes; release: () => void } => {
  const scene = setUp(Infinity, 1);
  const holder = take(scene.throttle);
  const outcomes = new Outcomes();
  for (const name of names) outcomes.follow(name, scene.throttle.acquire());
  return { ...scene, outcomes, release: () => holder.release() };
};

test('listeners are empty until one is added, and again after the notification', async () => {
  const listeners = new IdleListeners();
  expect(listeners.isEmpty).toBe(true);
  const idle = listeners.add(2);
  listeners.notify(false, 2);
  expect(listeners.isEmpty).toBe(false);
  listeners.notify(false, 1);
  expect(listeners.isEmpty).toBe(true);
  await idle;
});

describe('drain', () => {
  test('a copy of the package that is loaded later refuses calls with the same message', async () => {
    vi.resetModules();
    const { Throttle: Copy } = await import('headgate');
    const messages = [Throttle, Copy].map(async (Kind) => {
      const throttle = new Kind(1);
      void throttle.drain();
      return throttle.acquire().catch((error: Error) => error.message);
    });
    const [first, later] = await Promise.all(messages);
    expect(later).toBe(first);
    expect(later).toContain('is draining: it finishes the calls that it has accepted, and refuses new calls');
  });

  test('an acquire in the tick of the drain is refused, with and without a queue', async () => {
    const { clock, throttle } = setUp(Infinity, 2);
    const drained = throttle.drain();
    expect(throttle.closed).toBe(true);
    await expect(throttle.acquire()).rejects.toThrow(
      new ThrottleClosedError(
        'Throttle (any rate, 2 at a time) is draining: it finishes the calls that it has accepted, and refuses new calls',
      ),
    );
    expect(throttle.tryAcquire()).toBeUndefined();
    await drained;
    expect(clock.pending).toBe(0);
  });

  test('run, wrap and map of a draining throttle are refused, and a map under way stops at its next item', async () => {
    const { throttle } = setUp(Infinity, 1);
    const read: number[] = [];
    const items = [1, 2, 3];
    let finish: () => void = () => {};
    const mapped = throttle.map(items, (item) => {
      read.push(item);
      return new Promise<void>((resolve) => (finish = resolve));
    });
    const failed = expect(mapped).rejects.toThrow(ThrottleClosedError);
    await new Promise(setImmediate);
    // The call for the second item waits, so it is finished. The third item is new.
    const drained = throttle.drain();
    for (const call of [throttle.run(() => 1), throttle.wrap(() => 1)(), throttle.map([1], () => 1)])
      await expect(call).rejects.toThrow(ThrottleClosedError);
    finish();
    await failed;
    finish();
    await drained;
    expect(read).toEqual([1, 2]);
  });

  test('a tryAcquire of a subscriber during the grant of the last waiter gets no permit', async () => {
    const { throttle, release, outcomes } = withWaiters('last');
    const tried: unknown[] = [];
    const listener = (): void => void tried.push(throttle.tryAcquire(), throttle.waiting);
    subscribe('headgate:granted', listener);
    onTestFinished(() => void unsubscribe('headgate:granted', listener));
    const drained = throttle.drain();
    throttle.configure({ concurrency: 5 });
    expect(tried).toEqual([undefined, 0]);
    release();
    outcomes.follow('drained', drained);
    await new Promise(setImmediate);
    expect(outcomes.order).toEqual(['last']);
    outcomes.permit('last').release();
    await drained;
  });

  test('a new concurrency applies to the waiters of a draining throttle, and not to a closed throttle', async () => {
    const { throttle, outcomes, release } = withWaiters('a', 'b', 'c');
    void throttle.drain();
    throttle.configure({ concurrency: 3 });
    await null;
    expect(outcomes.order).toEqual(['a', 'b']);
    throttle.close();
    throttle.configure({ concurrency: 10 });
    release();
    await null;
    expect([outcomes.order, throttle.tryAcquire()]).toEqual([['a', 'b', 'c!'], undefined]);
  });

  test('with a deadline: after close, the rest of the queue is refused and the drain ends with the work', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    const outcomes = new Outcomes();
    for (const name of ['a', 'b', 'c'])
      outcomes.follow(
        name,
        throttle.run(() => new Promise<void>((resolve) => void clock.schedule(2, resolve))),
      );
    outcomes.follow('drain', throttle.drain());
    await clock.advance(3);
    throttle.close(new Error('deadline'));
    await clock.advance(0);
    expect(outcomes.order).toEqual(['a', 'c!']);
    expect(outcomes.error('c')).toMatchObject({
      message: 'Throttle (any rate, 1 at a time) is closed',
      cause: new Error('deadline'),
    });
    await clock.advance(1);
    expect(outcomes.order.toSorted()).toEqual(['a', 'b', 'c!', 'drain']);
    expect(clock.pending).toBe(0);
  });

  test('a keyed throttle drains all keys, while keys come and go', async () => {
    const { clock, keyed } = setUpKeyed(1, 1, 1);
    const outcomes = new Outcomes();
    const work = (): Promise<void> => new Promise((resolve) => void clock.schedule(0.5, resolve));
    for (const key of ['a', 'a', 'a', 'b', 'c']) outcomes.follow(key, keyed.run(key, work));
    await clock.advance(0.75);
    outcomes.follow('drain', keyed.drain());
    outcomes.follow('known', keyed.run('a', work));
    outcomes.follow('new', keyed.run('z', work));
    expect([keyed.closed, keyed.tryAcquire('b'), keyed.tryAcquire('y')]).toEqual([true, undefined, undefined]);
    await clock.advance(0);
    expect(outcomes.order.slice(3)).toEqual(['known!', 'new!']);
    for (const name of ['known', 'new']) expect(outcomes.error(name).message).toMatch(/^Throttle .* is draining/);
    await clock.advance(1.5);
    expect(outcomes.order.slice(5)).toEqual(['a']);
    await clock.advance(0.25);
    expect(outcomes.order.slice(6).toSorted()).toEqual(['a', 'drain']);
    expect([keyed.size, clock.pending]).toEqual([0, 0]);
  });
});

describe('clear', () => {
  test('a waiter that a subscriber could grant during the clear is refused, too', async () => {
    const { throttle, outcomes, release } = withWaiters('a', 'b');
    onRefused(() => release());
    throttle.clear();
    await null;
    expect(outcomes.order).toEqual(['a!', 'b!']);
    expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
  });

  test('a call that a subscriber or a rejection handler makes during the clear stays in the queue', async () => {
    const { throttle, outcomes, release } = withWaiters('a', 'b');
    let calls = 0;
    onRefused(() => {
      if (calls++ === 0) outcomes.follow('from the subscriber', throttle.acquire());
      if (calls === 2) throttle.clear('again');
    });
    const retried = throttle.acquire().catch(() => throttle.acquire());
    outcomes.follow('from the handler', retried);
    throttle.clear('first');
    await new Promise(setImmediate);
    // The second clear refuses the call of the subscriber. The waiters of the first clear keep their reason.
    expect(outcomes.order.toSorted()).toEqual(['a!', 'b!', 'from the subscriber!']);
    expect(outcomes.error('b').cause).toBe('first');
    expect(outcomes.error('from the subscriber').cause).toBe('again');
    expect(throttle.waiting).toBe(1);
    release();
    await new Promise(setImmediate);
    expect(outcomes.order.at(-1)).toBe('from the handler');
  });

  test('a clock that clears the queue inside schedule, and then throws, harms no other throttle', async () => {
    const { clock, throttle } = setUp(1, 0, 1);
    take(throttle);
    const schedule = clock.schedule.bind(clock);
    clock.schedule = () => {
      clock.schedule = schedule;
      throttle.clear('by the clock');
      throw new Error('no timers');
    };
    await expect(throttle.acquire()).rejects.toThrow(QueueClearedError);
    expect(throttle.waiting).toBe(0);
    expect(new Throttle(1).waiting).toBe(0);
    const next = throttle.acquire();
    await clock.advance(1);
    expect((await next).waited).toBe(1);
  });

  test('a cleared waiter leaves no timer and no deadline', async () => {
    const { clock, throttle } = setUp(1, 0, 1);
    take(throttle);
    const waiting = [throttle.acquire(1, { timeout: 5 }), throttle.acquire()];
    throttle.clear();
    expect(clock.pending).toBe(0);
    for (const each of waiting) await expect(each).rejects.toThrow(QueueClearedError);
  });

  test('a clear of an empty queue changes nothing', () => {
    const { throttle } = setUp(Infinity, 1);
    throttle.clear();
    expect([throttle.closed, throttle.tryAcquire()?.cost]).toEqual([false, 1]);
  });

  test('100,000 waiters are cleared in linear time', async () => {
    const timeFor = async (count: number): Promise<number> => {
      const { throttle } = setUp(Infinity, 1);
      take(throttle);
      const waiting = Array.from({ length: count }, () => throttle.acquire());
      const settled = Promise.allSettled(waiting);
      const start = performance.now();
      throttle.clear();
      const elapsed = performance.now() - start;
      expect((await settled).every(({ status }) => status === 'rejected')).toBe(true);
      return elapsed;
    };
    await timeFor(10_000);
    const small = Math.min(await timeFor(12_500), await timeFor(12_500), await timeFor(12_500));
    const large = Math.min(await timeFor(100_000), await timeFor(100_000));
    // Linear: 8 times as long. Quadratic: 64 times.
    expect(large).toBeLessThan(Math.max(1_500, 30 * small));
  });

  test('a keyed throttle clears all keys and stays open', async () => {
    const { keyed } = setUpKeyed(Infinity, 1);
    const outcomes = new Outcomes();
    for (const key of ['a', 'b']) {
      void keyed.acquire(key);
      outcomes.follow(key, keyed.acquire(key));
    }
    expect(keyed.waiting).toBe(2);
    onRefused(() => void keyed.acquire('new'));
    keyed.clear('reason');
    await new Promise(setImmediate);
    expect(outcomes.order).toEqual(['a!', 'b!']);
    expect(outcomes.error('a')).toMatchObject({ code: 'ERR_THROTTLE_CLEARED', cause: 'reason' });
    expect([keyed.closed, keyed.waiting]).toEqual([false, 1]);
  });
});

describe('idle', () => {
  test('with below, resolves once fewer callers wait, whatever runs', async () => {
    const { throttle, outcomes, release } = withWaiters('a', 'b', 'c');
    for (const below of [1, 2, 3, 4]) outcomes.follow(`${below}`, throttle.idle({ below }));
    await null;
    expect(outcomes.order).toEqual(['4']);
    release();
    await new Promise(setImmediate);
    expect(outcomes.order.toSorted()).toEqual(['3', '4', 'a']);
    throttle.clear();
    await new Promise(setImmediate);
    expect(outcomes.order.slice(3).toSorted()).toEqual(['1', '2', 'b!', 'c!']);
    expect(throttle.active).toBe(1);
  });

  test('a producer that awaits idle({ below }) keeps the queue short', async () => {
    const { clock, throttle } = setUp(Infinity, 2);
    let longest = 0;
    let done = 0;
    const produce = async (): Promise<void> => {
      for (let index = 0; index < 100; index++) {
        await throttle.idle({ below: 4 });
        void throttle.run(() => new Promise<void>((resolve) => void clock.schedule(1, resolve))).then(() => done++);
        longest = Math.max(longest, throttle.waiting);
      }
    };
    const produced = produce();
    await clock.advance(100);
    await produced;
    expect([longest, done]).toEqual([4, 100]);
  });

  test.each([0, -1, 1.5, NaN, Infinity, '1', null])('rejects a below of %s', async (below) => {
    for (const gate of [new Throttle(1), new KeyedThrottle(1)])
      await expect(gate.idle({ below: below as never })).rejects.toThrow(/^below must be an integer >= 1, received /);
  });

  test('rejects options that are no object', async () => {
    await expect(new Throttle(1).idle(3 as never)).rejects.toThrow('options must be an object, received 3');
  });

  test('a keyed throttle counts the waiters of all keys', async () => {
    const { keyed } = setUpKeyed(Infinity, 1);
    const holders = await Promise.all(['a', 'b'].map((key) => keyed.acquire(key)));
    for (const key of ['a', 'b']) void keyed.acquire(key);
    const outcomes = new Outcomes();
    for (const below of [1, 2, 3]) outcomes.follow(`${below}`, keyed.idle({ below }));
    await new Promise(setImmediate);
    expect(outcomes.order).toEqual(['3']);
    for (const holder of holders) {
      holder.release();
      await new Promise(setImmediate);
    }
    expect(outcomes.order).toEqual(['3', '2', '1']);
  });
});

describe('messages', () => {
  test('a drain and a clear appear as refusals, in the channel and in a recording', async () => {
    const { throttle } = withWaiters('a');
    const messages: [string, unknown][] = [];
    onRefused(
      ({ reason, error, throttle: { waiting } }) => void messages.push([reason, [(error as Error).name, waiting]]),
    );
    using trace = record(throttle);
    throttle.clear();
    void throttle.drain();
    await expect(throttle.acquire()).rejects.toThrow(ThrottleClosedError);
    expect(messages).toEqual([
      ['cleared', ['QueueClearedError', 0]],
      ['closed', ['ThrottleClosedError', 0]],
    ]);
    expect(trace.events.map((event) => (event.kind === 'refused' ? event.reason : event.kind))).toEqual([
      'cleared',
      'closed',
    ]);
  });
});
