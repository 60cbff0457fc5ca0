/** Promise 8, cancellation: abort signals, timeouts and deadlines. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { getEventListeners } from 'node:events';
import { type Clock, KeyedThrottle, Limiter, type Permit, Resource, Throttle, ThrottleTimeoutError } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Outcomes, setUp, SkewedClock, take } from '../support/support.js';

/** A clock that can lose its scheduler. Its timers fire after a `share` of their time. */
class BreakableClock extends ManualClock {
  broken = false;

  constructor(readonly share: number = 1) {
    super();
  }

  override schedule(seconds: number, callback: () => void): () => void {
    if (this.broken) throw new Error('no timers left');
    return super.schedule(seconds * this.share, callback);
  }
}

describe('trap 2: an aborted signal rejects with its reason and takes nothing [p-queue#241, golang/go#63615]', () => {
  const work = vi.fn(() => 'done');
  const calls: Record<string, (throttle: Throttle, signal: AbortSignal) => Promise<unknown>> = {
    acquire: (throttle, signal) => throttle.acquire(1, { signal }),
    run: (throttle, signal) => throttle.run(work, 1, { signal }),
    map: (throttle, signal) => throttle.map([1, 2], work, { signal }),
    'acquire with a timeout': (throttle, signal) => throttle.acquire(1, { signal, timeout: 0 }),
  };
  const gates: Record<string, (throttle: Throttle) => void> = {
    free: () => {},
    'out of tokens': (throttle) => void take(throttle, 10),
    paused: (throttle) => throttle.pause(60),
  };
  for (const [call, make] of Object.entries(calls)) {
    test.each(Object.entries(gates))(`${call}, on a gate that is %s`, async (_, prepare) => {
      const { clock, throttle } = setUp(10);
      prepare(throttle);
      const { tokens, active } = throttle;
      const reason = new Error('changed my mind');
      const signal = AbortSignal.abort(reason);
      await expect(make(throttle, signal)).rejects.toBe(reason);
      await expect(make(throttle, AbortSignal.abort())).rejects.toMatchObject({ name: 'AbortError' });
      expect([throttle.tokens, throttle.active, throttle.waiting, clock.pending]).toEqual([tokens, active, 0, 0]);
      expect(getEventListeners(signal, 'abort')).toHaveLength(0);
      expect(work).not.toHaveBeenCalled();
    });
  }
});

describe('an abort before the start of the function wins: slot and tokens come back (FAULTS 3, whatwg/dom#946)', () => {
  type Start = (options: { signal: AbortSignal }, fn: () => void) => Promise<unknown>;
  interface Scenario {
    start: Start;
    hold(): Permit;
    counts(): [active: number, tokens: number];
  }
  const scenarios: Record<string, () => Scenario> = {
    'Throttle.run': () => {
      const { throttle } = setUp(10, 1);
      return {
        start: (options, fn) => throttle.run(fn, 2, options),
        hold: () => take(throttle),
        counts: () => [throttle.active, throttle.tokens],
      };
    },
    'KeyedThrottle.run': () => {
      const keyed = new KeyedThrottle(10, 1, 1, { clock: new ManualClock() });
      return {
        start: (options, fn) => keyed.run('a', fn, 2, options),
        hold: () => keyed.tryAcquire('a') as Permit,
        counts: () => [keyed.peek('a')?.active ?? 0, keyed.peek('a')?.tokens ?? 10],
      };
    },
    'Limiter.run': () => {
      const clock = new ManualClock();
      const [resource, throttle] = [new Resource(1, { clock }), new Throttle(10, 0, 1, { clock })];
      const limiter = new Limiter({ timeout: 60, resources: [resource, throttle], clock });
      return {
        start: (options, fn) => limiter.resources([resource, throttle]).run(fn, 2, options),
        hold: () => resource.tryAcquire() as Permit,
        counts: () => [resource.active, throttle.tokens],
      };
    },
    'Throttle.map': () => {
      const { throttle } = setUp(10, 1);
      return {
        start: (options, fn) => throttle.map([1], fn, { ...options, cost: 2 }),
        hold: () => take(throttle),
        counts: () => [throttle.active, throttle.tokens],
      };
    },
  };

  test.each(Object.keys(scenarios))(
    '%s does not start its function when a release and an abort share a tick',
    async (name) => {
      const { start, hold, counts } = (scenarios[name] as () => Scenario)();
      const stop = new AbortController();
      const fn = vi.fn();
      const held = hold();
      const before = counts()[1];
      const done = start({ signal: stop.signal }, fn);
      await new Promise(setImmediate);
      held.release();
      stop.abort(new Error('cancel'));
      await expect(done).rejects.toThrow('cancel');
      expect(fn).not.toHaveBeenCalled();
      expect(counts()).toEqual([0, before]);
    },
  );

  test.each(Object.keys(scenarios))(
    '%s on a free gate does not start its function when aborted in the tick of the call',
    async (name) => {
      const { start, counts } = (scenarios[name] as () => Scenario)();
      const stop = new AbortController();
      const fn = vi.fn();
      const done = start({ signal: stop.signal }, fn);
      stop.abort(new Error('cancel'));
      await expect(done).rejects.toThrow('cancel');
      expect(fn).not.toHaveBeenCalled();
      expect(counts()).toEqual([0, 10]);
    },
  );

  test('an abort after the start of the function does not reject run', async () => {
    const { throttle } = setUp(10, 1);
    const stop = new AbortController();
    const done = throttle.run(
      async () => {
        stop.abort();
        return 'done';
      },
      1,
      { signal: stop.signal },
    );
    expect(await done).toBe('done');
  });
});

test.each([
  [
    'a proxy',
    (signal: AbortSignal) =>
      new Proxy(signal, {
        get: (target, key) =>
          typeof target[key as 'aborted'] === 'function'
            ? (target[key as never] as () => void).bind(target)
            : target[key as 'aborted'],
      }),
  ],
  [
    'a delegate',
    (signal: AbortSignal) =>
      ({
        get aborted() {
          return signal.aborted;
        },
        get reason(): unknown {
          return signal.reason;
        },
        addEventListener: signal.addEventListener.bind(signal),
        removeEventListener: signal.removeEventListener.bind(signal),
      }) as unknown as AbortSignal,
  ],
])('an abort rejects the waiter of a signal that is %s with another event target (FAULTS 12)', async (_, wrap) => {
  const { throttle } = setUp(Infinity, 1);
  take(throttle);
  const stop = new AbortController();
  const waiting = throttle.acquire(1, { signal: wrap(stop.signal) });
  stop.abort(new Error('stop'));
  await expect(waiting).rejects.toThrow('stop');
  expect(throttle.waiting).toBe(0);
});

describe('trap 11: a timed-out acquire leaves neither waiter nor timer [async-mutex#33, #54]', () => {
  test('a timed-out waiter leaves the queue and takes no slot', async () => {
    const { clock, throttle } = setUp(10, 1);
    const holder = take(throttle);
    const late = throttle.acquire(1, { timeout: 2 });
    await clock.advance(1.999);
    expect([throttle.waiting, clock.pending]).toEqual([1, 1]);
    await Promise.all([clock.advance(0.001), expect(late).rejects.toThrow(ThrottleTimeoutError)]);
    expect([throttle.waiting, clock.pending]).toEqual([0, 0]);
    holder.release();
    expect(throttle.active).toBe(0);
  });

  test('a grant removes the timer of the deadline', async () => {
    const { clock, throttle } = setUp(10, 1);
    const holder = take(throttle);
    const granted = throttle.acquire(1, { timeout: 2 });
    holder.release();
    expect(clock.pending).toBe(0);
    const permit = await granted;
    await clock.advance(10);
    expect([permit.released, throttle.active]).toEqual([false, 1]);
  });

  test.each([0, 0.5, 0.999])('a timeout of %d s that cannot be met is refused at once', async (timeout) => {
    const { clock, throttle } = setUp(10);
    take(throttle, 10);
    await expect(throttle.acquire(10, { timeout })).rejects.toBeInstanceOf(ThrottleTimeoutError);
    expect([clock.now(), throttle.waiting, clock.pending, throttle.tokens]).toEqual([0, 0, 0, 0]);
  });

  test('every deadline in the queue of a paused gate rejects its waiter', async () => {
    const { clock, throttle } = setUp(1_000);
    throttle.pause(5);
    const outcomes = new Outcomes();
    for (let index = 0; index < 50; index++)
      outcomes.follow(`${index}`, throttle.acquire(1, { timeout: 6 + index / 10 }));
    throttle.pause();
    await clock.advance(20);
    expect(outcomes.order).toEqual(Array.from({ length: 50 }, (_, index) => `${index}!`));
    expect([throttle.waiting, clock.pending, throttle.tokens]).toEqual([0, 0, 1_000]);
  });
});

describe('deadlines and timers', () => {
  test('a deadline timer that fires early is armed again (FAULTS 11)', async () => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => seconds / 2;
    const throttle = new Throttle(Infinity, 1, 1, { clock });
    throttle.tryAcquire();
    const start = clock.passing.now();
    const refused = throttle
      .acquire(1, { timeout: 10 })
      .catch((error: unknown) => [error, clock.passing.now() - start] as const);
    await clock.passing.advance(9.5);
    expect(throttle.waiting).toBe(1);
    await clock.passing.advance(0.5);
    const [error, waited] = (await refused) as [unknown, number];
    expect(error).toBeInstanceOf(ThrottleTimeoutError);
    expect(waited).toBeCloseTo(10, 6);
    expect(clock.passing.pending).toBe(0);
  });

  test('a deadline rejects its waiter on a clock that stands still or stepped back', async () => {
    for (const skew of [(now: number) => -now, () => -50]) {
      const clock = new SkewedClock();
      const throttle = new Throttle(Infinity, 1, 1, { clock });
      throttle.tryAcquire();
      const refused = throttle.acquire(1, { timeout: 10 }).catch((error: unknown) => error);
      clock.skew = skew(clock.passing.now());
      await clock.passing.advance(10);
      expect(await refused).toBeInstanceOf(ThrottleTimeoutError);
    }
  });

  test('a timeout of estimateWait() is met on the system clock (FAULTS 11)', async () => {
    const results = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const throttle = new Throttle(1, 0, 0.05);
        throttle.tryAcquire();
        return throttle.acquire(1, { timeout: throttle.estimateWait() }).then(
          () => 'granted',
          () => 'refused',
        );
      }),
    );
    expect(results.filter((result) => result === 'refused')).toEqual([]);
  });

  test('a scheduler that throws rejects its own caller and no other (FAULTS 10)', async () => {
    const clock = new BreakableClock();
    const throttle = new Throttle(1, 1, 1, { clock });
    const held = take(throttle);
    clock.broken = true;
    await expect(throttle.acquire(1, { timeout: 5 })).rejects.toThrow('no timers left');
    clock.broken = false;
    expect(throttle.waiting).toBe(0);
    const waiting = throttle.acquire();
    held.release();
    await clock.advance(1);
    (await waiting).release();
    expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
  });

  test('a scheduler that throws once refuses the waiter whose timer it was, and the next waiter has a timer', async () => {
    const clock = new BreakableClock();
    const throttle = new Throttle(1, 0, 1, { clock });
    take(throttle);
    const outcomes = new Outcomes();
    for (const name of ['first', 'second', 'third']) outcomes.follow(name, throttle.acquire());
    const schedule = vi.spyOn(clock, 'schedule').mockImplementationOnce(() => {
      throw new Error('no timers left');
    });
    await clock.advance(1);
    expect(outcomes.order).toEqual(['first', 'second!']);
    expect(outcomes.error('second').message).toBe('no timers left');
    schedule.mockRestore();
    await clock.advance(1);
    expect(outcomes.order).toEqual(['first', 'second!', 'third']);
    expect(outcomes.permit('third').waited).toBe(2);
  });

  test('a release grants the head at the latest known instant while the clock throws', async () => {
    const { clock, throttle } = setUp(10, 1);
    const held = take(throttle);
    await clock.advance(1);
    const waiting = throttle.acquire();
    await clock.advance(2);
    const now = vi.spyOn(clock, 'now').mockImplementation(() => {
      throw new Error('no time');
    });
    held.release();
    now.mockRestore();
    // The clock was last read when the waiter called.
    expect((await waiting).waited).toBe(0);
  });

  test('a waiter whose early timer cannot be set again is rejected with the error of the clock', async () => {
    const clock = new BreakableClock(0.5);
    const throttle = new Throttle(Infinity, 1, 1, { clock });
    const held = take(throttle);
    const waiting = throttle.acquire(1, { timeout: 10 });
    clock.broken = true;
    const outcome = expect(waiting).rejects.toThrow('no timers left');
    await clock.advance(5);
    await outcome;
    held.release();
    expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
  });

  test.each<[string, (abort: () => void) => { clock?: Clock; signal?: AbortSignal }]>([
    [
      'the clock during `schedule`',
      (abort) => {
        const clock = new ManualClock();
        return { clock: { now: () => clock.now(), schedule: (...call) => (abort(), clock.schedule(...call)) } };
      },
    ],
    [
      'the signal during `addEventListener`, which also calls the listener',
      () => {
        const signal = {
          aborted: false,
          reason: new Error('stop'),
          addEventListener(_: string, listener: () => void): void {
            signal.aborted = true;
            listener();
          },
          removeEventListener() {},
        };
        return { signal: signal as unknown as AbortSignal };
      },
    ],
  ])('a caller is rejected where %s aborts the signal', async (_, make) => {
    const controller = new AbortController();
    const { clock = new ManualClock(), signal = controller.signal } = make(() => controller.abort(new Error('stop')));
    const throttle = new Throttle(Infinity, 1, 1, { clock });
    const held = take(throttle);
    await expect(throttle.acquire(1, { signal, timeout: 5 })).rejects.toThrow('stop');
    expect(throttle.waiting).toBe(0);
    held.release();
    expect(take(throttle).released).toBe(false);
  });

  describe('a waiter that has its result before its signal throws keeps this result', () => {
    const signal = {
      aborted: false,
      addEventListener() {
        throw new Error('no listeners');
      },
      removeEventListener() {},
    };
    const options = { timeout: 5, signal: signal as unknown as AbortSignal };
    /** A clock that calls `during` in each call of `schedule`. */
    const clockWith = (during: (seconds: number, callback: () => void) => void): Clock => {
      const passing = new ManualClock();
      return { now: () => passing.now(), schedule: (...call) => (during(...call), passing.schedule(...call)) };
    };

    test('a refusal at its deadline', async () => {
      const unhandled = vi.fn();
      process.on('unhandledRejection', unhandled);
      onTestFinished(() => void process.off('unhandledRejection', unhandled));
      const throttle = new Throttle(Infinity, 1, 1, { clock: clockWith((_, callback) => callback()) });
      const held = take(throttle);
      await expect(throttle.acquire(1, options)).rejects.toThrow(ThrottleTimeoutError);
      await new Promise((resolve) => void setTimeout(resolve, 5));
      expect([unhandled.mock.calls, throttle.waiting]).toEqual([[], 0]);
      held.release();
      expect(throttle.active).toBe(0);
    });

    test.each([false, true])('a grant, with a subscriber: %s', async (hasSubscriber) => {
      const subscriber = (): void => {};
      if (hasSubscriber) subscribe('headgate:queued', subscriber);
      onTestFinished(() => void unsubscribe('headgate:queued', subscriber));
      const throttle: Throttle = new Throttle(Infinity, 1, 1, { clock: clockWith(() => held.release()) });
      const held = take(throttle);
      (await throttle.acquire(1, options)).release();
      expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
    });
  });

  test('a timer that fires after its cancellation, or twice, changes nothing', async () => {
    const passing = new ManualClock();
    const callbacks: (() => void)[] = [];
    const clock: Clock = {
      now: () => passing.now(),
      schedule: (seconds, callback) => {
        callbacks.push(callback);
        return passing.schedule(seconds, callback);
      },
    };
    const throttle = new Throttle(1, 0, 1, { clock });
    take(throttle);
    const waiting = throttle.acquire();
    throttle.pause(10);
    callbacks.slice().forEach((callback) => callback());
    await passing.advance(9);
    expect(throttle.waiting).toBe(1);
    await passing.advance(1);
    await waiting;
    callbacks.slice().forEach((callback) => callback());
    expect([throttle.waiting, passing.pending]).toEqual([0, 0]);
  });
});
