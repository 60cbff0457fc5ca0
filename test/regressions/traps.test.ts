/**
 * The faults that users of other limiters have met: each a scenario that headgate survives, under its number in the
 * list of traps. What stands in brackets is the issue that documents it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { getEventListeners } from 'node:events';
import FakeTimers from '@sinonjs/fake-timers';
import { type Permit, QueueFullError, Throttle, ThrottleClosedError, ThrottleTimeoutError } from 'headgate';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { TokenBucket } from '../../src/core/token-bucket.js';
import { guarded } from '../support/processes.js';
import { Outcomes, setUp, SkewedClock, take } from '../support/support.js';

const HOUR = 3_600;
const DAY = 24 * HOUR;

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** Ends every job of `permits` and tells whether the gate is as good as new. */
const expectNothingHeld = (throttle: Throttle, ...permits: Permit[]): void => {
  for (const permit of permits) permit.release();
  expect({ active: throttle.active, waiting: throttle.waiting }).toEqual({ active: 0, waiting: 0 });
};

/** The cost granted in every span of `grants` ([instant, cost], in order) is at most burst + rate x span. */
const expectWithinRate = (grants: readonly (readonly [number, number])[], burst: number, rate: number): void => {
  for (let from = 0; from < grants.length; from++) {
    let cost = 0;
    for (let to = from; to < grants.length; to++) {
      cost += grants[to]![1];
      const bound = burst + rate * (grants[to]![0] - grants[from]![0]);
      if (cost > bound * (1 + 1e-9))
        expect.fail(`${cost} granted from ${grants[from]![0]} to ${grants[to]![0]}, at most ${bound} may be`);
    }
  }
};

afterEach(() => void vi.useRealTimers());

describe('trap 1: whoever leaves the head lets the next run', () => {
  test('a cancelled head lets the next run at once [golang/go#37852]', async () => {
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

  test('a cancelled head has the timer set anew for the next', async () => {
    const { clock, throttle } = setUp(10);
    take(throttle, 10);
    const stop = new AbortController();
    throttle.acquire(10, { signal: stop.signal }).catch(() => {});
    const light = throttle.acquire(5);
    stop.abort();
    await clock.advance(0.5);
    expect((await light).waited).toBe(0.5);
  });

  test('a timed-out heavy head does not go on blocking a light one [async-mutex]', async () => {
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

  test('a cancelled head frees no slot: the next still waits for one', async () => {
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

describe('trap 2: a signal aborted beforehand rejects with its reason and takes nothing [p-queue#241, golang/go#63615]', () => {
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

describe('trap 4: an aborted waiter is never charged and settles at once', () => {
  test('it spends no token [p-queue#220, axios-rate-limit#21]', async () => {
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

  test('its work never starts', async () => {
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
  ])('it settles at once while %s is still missing [cockatiel]', async (_, block) => {
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

describe('trap 5: the abort of a waiter in the middle lets nobody skip ahead [cats-effect#3562]', () => {
  test('who would fit stays behind a head that does not', async () => {
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

  test('one slot a release, in order, around any that left', async () => {
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

describe('trap 6: grant and abort in one tick make a permit or a rejection, never a lost permit [bpo-27585, bpo-32734, effect#6910]', () => {
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
    test(`${name}, then abort: the permit reaches its caller`, async () => {
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

    test(`abort, then ${name}: a rejection, and the next has the permit`, async () => {
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

  test('run: granted and aborted in one tick, the function does not run, and the slot and the tokens come back', async () => {
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
  ] as const)('an abort at the very instant of the timer, %s it', async (when, expected, tokens) => {
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
    'a permit due at the very instant of the deadline is given: %d a second',
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

describe('trap 7: no fast path past those who wait', () => {
  test('who releases and acquires again comes after all who wait [bpo-45997]', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    const holder = take(throttle);
    const outcomes = new Outcomes();
    outcomes.follow('first', throttle.acquire());
    outcomes.follow('second', throttle.acquire());
    holder.release();
    // The slot is promised to `first`, although its continuation has not run.
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

  test('a slot and tokens for the small do not let it past a large head', async () => {
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

  test('the last waiter has gone, and who comes then need not wait', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    const holder = take(throttle);
    const waiter = throttle.acquire();
    holder.release();
    (await waiter).release();
    await clock.advance(0);
    expectNothingHeld(throttle, take(throttle));
  });

  test.each([1, 2, 5])(
    '%d releases in one tick wake as many, in order [CPython test_acquire_fifo_order]',
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
    ['sleeps between', 0.01],
    ['sleeps never', 0],
  ])(
    'who comes back for a second turn waits for all the first: a job that %s [CPython test_acquire_fifo_order_1..4]',
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

  test('a release, an abort of the first and a release, all in one tick', async () => {
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

describe('trap 8: listeners are removed on every way out [p-queue#235, p-map#75]', () => {
  type Way = (throttle: Throttle, signal: AbortSignal, stop: AbortController) => Promise<unknown>;
  const full = (throttle: Throttle): Permit => take(throttle, 10);
  const ways: Record<string, Way> = {
    'granted at once': (throttle, signal) => throttle.acquire(1, { signal }).then((permit) => permit.release()),
    'granted by a release': (throttle, signal) => {
      const holder = take(throttle);
      const granted = throttle.acquire(1, { signal, timeout: 60 });
      holder.release();
      return granted.then((permit) => permit.release());
    },
    'granted by the timer': (throttle, signal) => {
      full(throttle).release();
      return throttle.acquire(1, { signal, timeout: 60 }).then((permit) => permit.release());
    },
    aborted: (throttle, signal, stop) => {
      full(throttle);
      const gone = throttle.acquire(1, { signal, timeout: 60 });
      stop.abort();
      return gone;
    },
    'timed out': (throttle, signal) => {
      take(throttle);
      return throttle.acquire(1, { signal, timeout: 0.5 });
    },
    'refused for its timeout': (throttle, signal) => {
      full(throttle);
      return throttle.acquire(10, { signal, timeout: 0.5 });
    },
    'refused for want of a place': (throttle, signal) => {
      full(throttle);
      throttle.acquire(1).catch(() => {});
      return throttle.acquire(1, { signal, timeout: 60 }).finally(() => throttle.close());
    },
    closed: (throttle, signal) => {
      full(throttle);
      const gone = throttle.acquire(1, { signal, timeout: 60 });
      throttle.close();
      return gone;
    },
    'too large for new settings': (throttle, signal) => {
      full(throttle);
      const gone = throttle.acquire(10, { signal, timeout: 60 });
      throttle.configure({ capacity: 5 });
      return gone;
    },
    'run, done': (throttle, signal) => throttle.run(() => 1, 1, { signal }),
    'run after a wait, failed': (throttle, signal) => {
      full(throttle).release();
      return throttle.run(() => Promise.reject(new Error('no')), 1, { signal });
    },
    'map, done': (throttle, signal) => throttle.map(Array(25).fill(0), () => 1, { signal }),
    'map, failed': (throttle, signal) =>
      throttle.map(Array(25).fill(0), () => Promise.reject(new Error('no')), { signal }),
    'map of what cannot be iterated': (throttle, signal) => throttle.map(0 as never, () => 1, { signal }),
    'map, aborted': (throttle, signal, stop) => throttle.map(Array(25).fill(0), () => stop.abort(), { signal }),
  };

  test.each(Object.entries(ways))('%s', async (_, way) => {
    const { clock, throttle } = setUp(10, 1, 1, { maxQueue: 1 });
    const stop = new AbortController();
    const end = way(throttle, stop.signal, stop).catch(() => {});
    await clock.runAll();
    await end;
    expect({
      listeners: getEventListeners(stop.signal, 'abort').length,
      timers: clock.pending,
      waiting: throttle.waiting,
    }).toEqual({ listeners: 0, timers: 0, waiting: 0 });
  });

  test('10,000 waiters on one signal: one listener, no warning, no overflow, all rejected in order', async () => {
    const warned = vi.fn();
    process.on('warning', warned);
    const { clock, throttle } = setUp(Infinity, 1);
    take(throttle);
    const stop = new AbortController();
    const order: number[] = [];
    const gone = Array.from({ length: 10_000 }, (_, index) =>
      throttle.acquire(1, { signal: stop.signal }).catch(() => void order.push(index)),
    );
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
    stop.abort();
    expect(throttle.waiting).toBe(0);
    await Promise.all(gone);
    await clock.advance(0);
    expect(order).toEqual(Array.from({ length: 10_000 }, (_, index) => index));
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
    process.off('warning', warned);
    expect(warned).not.toHaveBeenCalled();
  });

  test('the listener stays as long as one waits on the signal, and not longer', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    let holder = take(throttle);
    const stop = new AbortController();
    const waiters = Array.from({ length: 3 }, () => throttle.acquire(1, { signal: stop.signal }));
    for (const waiter of waiters) {
      expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
      holder.release();
      holder = await waiter;
    }
    await clock.advance(0);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
  });
});

describe('trap 9: releasing twice raises nothing, and nobody is stranded', () => {
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
  ])('release, then %s: one slot comes back [async-sema#36]', async (_, again) => {
    const { clock, throttle } = setUp(Infinity, 2);
    const holders = [take(throttle), take(throttle)];
    for (let index = 0; index < 3; index++) throttle.acquire().catch(() => {});
    holders[0]!.release();
    await again(holders[0]!);
    await again(holders[0]!);
    await clock.advance(0);
    expect([throttle.active, throttle.waiting]).toEqual([2, 2]);
  });

  test('a job of run that released by itself', async () => {
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

  test('a waiter cancelled in the tick it was notified strands nobody [gh-112202, anyio#1145]', async () => {
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

describe('trap 10: an oversize cost is refused at once', () => {
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

  test('what new settings make oversize is refused where it waits, and blocks nobody', async () => {
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

  test('without a rate, burst is still the largest cost', async () => {
    const { throttle } = setUp(Infinity, 0, 1, { burst: 5 });
    await expect(throttle.acquire(6)).rejects.toThrow(RangeError);
    expectNothingHeld(throttle, take(throttle, 5));
  });
});

describe('trap 11: a timed-out acquire leaves neither waiter nor timer [async-mutex#33, #54]', () => {
  test('it is out of the queue, its slot goes to nobody', async () => {
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

  test('granted in time, its timer is gone', async () => {
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

  test('a paused gate, a queue of deadlines: all of it ends', async () => {
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

describe('trap 12: a cancelled reservation lets nobody burst early [golang/go#69419, cadence#6030]', () => {
  test('aborts in the queue shift those behind forward, never beyond the rate', async () => {
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
    // And not later than the rate demands: the cancelled ones left no gap.
    expect(last).toBeCloseTo((sum(grants.map(([, cost]) => cost)) - 10) / 10, 9);
  });

  test('a refund after the refill is no second burst', async () => {
    const { clock, throttle } = setUp(10);
    const never = take(throttle, 10);
    await clock.advance(0.9);
    take(throttle, 9);
    never.refund();
    // As if it had never been spent: the 10 of a full bucket less 9.
    expect(throttle.tokens).toBeCloseTo(1, 9);
    await clock.advance(10);
    expect(throttle.tokens).toBe(10);
  });

  test('a permit is settled once: what is said later neither refunds nor charges again', async () => {
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

  test('a refund wakes the head and nobody else', async () => {
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

describe('trap 13: limits change in use', () => {
  test('raising concurrency over-grants nothing, lowering it starts nothing [anyio#1223]', async () => {
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

  test('raising capacity or burst makes no tokens', async () => {
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

  test('shrinking below the tokens present keeps the refill alive [resilience4j#2489]', async () => {
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
    ['an empty one', {}],
    ['the same values', { capacity: 1, period: 1, concurrency: 0, burst: 1 }],
  ])(
    'a change of settings, %s, over and over, neither starves the refill nor feeds it [bottleneck#185]',
    async (_, limits) => {
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
    },
  );

  test('it re-times those who wait: sooner', async () => {
    const { clock, throttle } = setUp(1, 0, 60);
    take(throttle);
    const waiter = throttle.acquire();
    await clock.advance(30);
    throttle.configure({ period: 1 });
    expect(clock.pending).toBe(1);
    await clock.advance(0.5);
    expect((await waiter).waited).toBeCloseTo(30.5, 9);
  });

  test('it re-times those who wait: later', async () => {
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

  test('a refused change changes nothing', async () => {
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

describe('trap 14: a nested acquire on a full throttle [p-limit#91]', () => {
  const nested = (throttle: Throttle, timeout?: number): Promise<string> =>
    throttle.run(() => throttle.run(() => 'inner', 1, { timeout }));

  test('is documented', () => {
    expect(readFileSync(new URL('../../src/core/throttle.ts', import.meta.url), 'utf8')).toMatch(
      /while it holds one\s+(\* )?can wait for itself/,
    );
  });

  test('close ends it', async () => {
    const { clock, throttle } = setUp(10, 1);
    const stuck = nested(throttle);
    await clock.advance(HOUR);
    expect([throttle.active, throttle.waiting]).toEqual([1, 1]);
    throttle.close();
    await expect(stuck).rejects.toBeInstanceOf(ThrottleClosedError);
    await throttle.idle();
    expectNothingHeld(throttle);
  });

  test('a timeout ends it, and the gate works on', async () => {
    const { clock, throttle } = setUp(10, 1);
    const stuck = nested(throttle, 5);
    await Promise.all([clock.advance(5), expect(stuck).rejects.toBeInstanceOf(ThrottleTimeoutError)]);
    await expect(throttle.run(() => 'next')).resolves.toBe('next');
  });

  test('two throttles taken in one order never deadlock', async () => {
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

describe('trap 15: long delays and a wall clock that jumps', () => {
  const LONG = 2 ** 31 / 1_000;

  // setTimeout fires a delay of 2^31 ms at once, and so does the fake one.
  test.each([LONG - 0.001, LONG, LONG + 0.001, 60 * DAY, 365 * DAY])(
    'a wait of %d s is neither cut short nor spun [p-throttle#40, rate-limiter-flexible#71]',
    async (seconds) => {
      vi.useFakeTimers();
      const started = performance.now();
      const ended: Record<string, number> = {};
      const record = (name: string) => (): void => void (ended[name] = performance.now() - started);
      const timers = vi.spyOn(globalThis, 'setTimeout');
      const paced = new Throttle(1, 0, seconds);
      take(paced);
      paced.acquire().then(record('tokens'), () => {});
      const paused = new Throttle(1);
      paused.pause(seconds);
      paused.acquire().then(record('pause'), () => {});
      const full = new Throttle(Infinity, 1);
      take(full);
      full.acquire(1, { timeout: seconds }).catch(record('deadline'));
      const due = seconds * 1_000;
      await vi.advanceTimersByTimeAsync(due / 2);
      await vi.advanceTimersByTimeAsync(due / 2 - 1);
      expect(ended).toEqual({});
      await vi.advanceTimersByTimeAsync(3);
      expect(Object.keys(ended).toSorted()).toEqual(['deadline', 'pause', 'tokens']);
      for (const at of Object.values(ended)) expect(at).toBeGreaterThanOrEqual(due - 1e-3);
      expect(timers.mock.calls.length).toBeLessThan(100);
    },
  );

  test.each([-HOUR, HOUR])('the wall clock jumps by %d s: no stall and no burst [bottleneck#134]', async (jump) => {
    vi.useFakeTimers();
    const throttle = new Throttle(10);
    take(throttle, 10);
    throttle.pause(0.5);
    const granted: number[] = [];
    const started = performance.now();
    for (let index = 0; index < 10; index++)
      throttle.acquire().then(
        () => granted.push(performance.now() - started),
        () => {},
      );
    await vi.advanceTimersByTimeAsync(100);
    vi.setSystemTime(Date.now() + jump * 1_000);
    expect(throttle.tokens).toBeCloseTo(1, 9);
    expect(throttle.pausedFor).toBeCloseTo(0.4, 9);
    throttle.configure({});
    await vi.advanceTimersByTimeAsync(399);
    expect(granted).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(granted).toHaveLength(5);
    vi.setSystemTime(Date.now() - 2 * jump * 1_000);
    await vi.advanceTimersByTimeAsync(500);
    expect(granted).toHaveLength(10);
    expect(throttle.tokens).toBeCloseTo(0, 9);
  });

  test.each([-HOUR, -1, -1e-6])(
    'an injected clock that steps back by %d s: nobody stalls, nothing extra is granted',
    async (step) => {
      const clock = new SkewedClock();
      const throttle = new Throttle(10, 0, 1, { clock });
      take(throttle, 10);
      const grants: [number, number][] = [];
      const started = clock.passing.now();
      const acquire = (): void =>
        void throttle.acquire().then(
          () => grants.push([clock.passing.now() - started, 1]),
          () => {},
        );
      for (let index = 0; index < 10; index++) acquire();
      await clock.passing.advance(0.35);
      expect(grants).toHaveLength(3);
      clock.skew = step;
      const { tokens } = throttle;
      expect(tokens).toBeLessThan(1);
      // The timers that were computed fall due; one that the step makes look early is set once more at the most.
      await clock.passing.advance(2);
      expect(throttle.waiting).toBe(0);
      expectWithinRate(grants, 1, 10);
      for (let index = 0; index < 20; index++) acquire();
      await clock.passing.advance(4);
      expect(throttle.waiting).toBe(0);
      expectWithinRate(grants, 10, 10);
      expect(clock.delays.length).toBeLessThan(100);
      expect(Math.min(...clock.delays)).toBeGreaterThan(0);
    },
  );

  test('an injected clock that has stepped back: a pause holds as long as it says, whatever timer was set before', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(1, 0, 3, { clock });
    take(throttle, 1);
    let granted = 0;
    void throttle.acquire(0.2).then(() => granted++);
    void throttle.acquire(1).then(() => granted++);
    clock.skew = -2.4;
    // The timer for the second is set at 0.6 s, for 3.6 s; at 3 s the clock shows 0.6 s again.
    await clock.passing.advance(3);
    expect(granted).toBe(1);
    throttle.pause(3);
    await clock.passing.advance(2.999);
    expect(granted).toBe(1);
    await clock.passing.advance(0.002);
    expect(granted).toBe(2);
  });

  test('an injected clock that jumps ahead by an hour: a full bucket, no more', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(10, 0, 1, { clock });
    take(throttle, 10);
    const outcomes = new Outcomes();
    for (let index = 0; index < 30; index++) outcomes.follow(`${index}`, throttle.acquire());
    clock.skew = HOUR;
    await clock.passing.advance(0.1);
    expect(outcomes.order).toHaveLength(10);
    await clock.passing.advance(1);
    expect(outcomes.order).toHaveLength(20);
  });
});

describe('trap 16: the process sleeps for hours', () => {
  test('on waking, at most burst is granted, and no wait is negative [redis-semaphore#24]', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(10, 0, 1, { clock, burst: 15 });
    take(throttle, 15);
    throttle.pause(0.2);
    const outcomes = new Outcomes();
    for (let index = 0; index < 40; index++) outcomes.follow(`${index}`, throttle.acquire());
    await clock.passing.advance(0.05);
    clock.skew = 3 * HOUR;
    const seen = [throttle.tokens, throttle.pausedFor, throttle.estimateWait(0)];
    expect(seen).toEqual([15, 0, 2.5]);
    await clock.passing.advance(0.2);
    expect(outcomes.order).toHaveLength(15);
    expect(throttle.tokens).toBeGreaterThanOrEqual(0);
    await clock.passing.advance(0.5);
    expect(outcomes.order.length).toBeLessThanOrEqual(21);
    await clock.passing.runAll();
    expect(outcomes.order).toHaveLength(40);
    const waits = outcomes.order.map((name) => outcomes.permit(name).waited);
    expect(Math.min(...waits)).toBeGreaterThan(0);
    expect(Math.min(...clock.delays)).toBeGreaterThan(0);
  });

  test('deadlines and pauses that passed in the sleep are over', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(1, 1, 1, { clock });
    const holder = take(throttle);
    throttle.pause(60);
    const outcomes = new Outcomes();
    outcomes.follow('waiter', throttle.acquire());
    clock.skew = HOUR;
    holder.release();
    await clock.passing.advance(0);
    expect(outcomes.order).toEqual(['waiter']);
    expect([clock.passing.pending, throttle.pausedFor]).toEqual([0, 0]);
  });
});

describe('trap 17: timers that fire early, readings that are stale', () => {
  test.each<[string, (seconds: number) => number]>([
    ['a tenth', (seconds) => seconds * 0.9],
    ['a millisecond', (seconds) => Math.max(seconds - 0.001, seconds / 2)],
    ['almost all', (seconds) => (seconds > 0.01 ? 0.001 : seconds)],
  ])('a timer that fires early by %s is set again: no grant before its time, no spin', async (_, fires) => {
    const clock = new SkewedClock();
    clock.fires = fires;
    const throttle = new Throttle(10, 0, 1, { clock, burst: 1 });
    const started = clock.now();
    take(throttle);
    const granted: number[] = [];
    for (let index = 0; index < 20; index++)
      throttle.acquire().then(
        () => granted.push(clock.now() - started),
        () => {},
      );
    await clock.passing.advance(5);
    expect(granted).toHaveLength(20);
    granted.forEach((at, index) => {
      expect(at).toBeGreaterThan((index + 1) / 10 - 1e-9);
      expect(at).toBeLessThan((index + 1) / 10 + 0.01);
    });
    expect(clock.delays.length).toBeLessThan(20 * 110);
    expect(clock.passing.pending).toBe(0);
  });

  test('on a clock that has stepped back, only what is missing is waited for', async () => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => seconds * 0.9;
    const throttle = new Throttle(10, 0, 1, { clock, burst: 1 });
    take(throttle);
    clock.skew = -HOUR;
    const grants: [number, number][] = [];
    for (let index = 0; index < 20; index++)
      throttle.acquire().then(
        () => grants.push([clock.now(), 1]),
        () => {},
      );
    await clock.passing.advance(2.1);
    expect(grants).toHaveLength(20);
    expectWithinRate(grants, 1, 10);
  });

  test('the end of a pause as well', async () => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => seconds / 2;
    const throttle = new Throttle(10, 0, 1, { clock });
    throttle.pause(8);
    const waiter = throttle.acquire();
    await clock.passing.advance(7.999);
    expect(throttle.waiting).toBe(1);
    await clock.passing.advance(0.001_001);
    expect((await waiter).waited).toBeCloseTo(8, 6);
    expect(clock.delays.length).toBeLessThan(60);
  });

  test('a stale now rewinds no bucket [golang/go#71360]', () => {
    const bucket = new TokenBucket(10, 1, 10);
    expect(bucket.take(100, 10, 1)).toBe(true);
    expect(bucket.level(100.5)).toBe(5);
    expect(bucket.take(100.5, 5, 2)).toBe(true);
    for (const stale of [100.4, 100, 0, -Infinity]) {
      expect(bucket.level(stale)).toBe(0);
      expect(bucket.take(stale, 1, 3)).toBe(false);
      expect(bucket.take(stale, 0, 3)).toBe(true);
      bucket.settle(stale, 0, 3);
      expect(bucket.level(100.5)).toBe(0);
    }
    expect(bucket.level(100.6)).toBeCloseTo(1, 9);
    expect(bucket.readyAt(100, 1)).toBeCloseTo(100.6, 9);
  });

  test('nor a throttle: stale readings between good ones refill nothing twice', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(10, 0, 1, { clock });
    let granted = 0;
    for (let tick = 0; tick < 1_100; tick++) {
      await clock.passing.advance(tick % 100 === 0 ? 0.010_1 : 0);
      clock.skew = -(tick % 7) / 100;
      while (throttle.tryAcquire()) granted++;
    }
    // 10 at once, and 0.101 s have passed since.
    expect(granted).toBe(11);
  });
});

describe('trap 18: no double burst beyond burst + rate x w [aiolimiter#298]', () => {
  test('ten at the end of a period leave none for the start of the next', async () => {
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
    '%d per %d s, burst %s, cost %d: a greedy caller with every pattern of silence',
    async (capacity, period, burst, cost) => {
      const { clock, throttle } = setUp(capacity, 0, period, { burst: burst ?? undefined });
      const grants: [number, number][] = [];
      const rate = capacity / period;
      const span = (cost + throttle.burst) / rate;
      for (let step = 0; step < 600; step++) {
        // Silences of odd lengths, so that requests come at all phases of a period.
        await clock.advance(step % 50 === 0 ? span * ((step % 7) / 5) : span / 40);
        while (throttle.tryAcquire(cost)) grants.push([clock.now(), cost]);
      }
      expect(grants.length).toBeGreaterThan(20);
      expectWithinRate(grants, throttle.burst, rate);
    },
  );

  test('who wants no burst at all asks for it: one token apart, always', async () => {
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

describe('trap 19: no drift', () => {
  test.each([
    [10, 1, 100_000],
    [1 / 3, 1, 2_000],
    [0.1, 7, 2_000],
    [3, 1, 2_000],
    [1, 7 * DAY, 1_000],
    [1e9, 1, 2_000],
  ])('%d per %d s: %d paced tasks end at the ideal time', async (capacity, period, tasks) => {
    const { clock, throttle } = setUp(capacity, 0, period, { burst: 1 });
    await clock.advance(1);
    const ends: number[] = [];
    const record = (): void => void ends.push(clock.now());
    const all = Promise.all(Array.from({ length: tasks }, () => throttle.run(record)));
    await clock.advance((tasks * period) / capacity);
    await all;
    for (const index of [1, 2, 10, 100, tasks - 1]) {
      const ideal = (index * period) / capacity;
      const error = Math.abs(ends[index]! - 1 - ideal) / ideal;
      expect(error).toBeLessThan(1e-6);
    }
    expect(throttle.waiting).toBe(0);
  });

  test('with timers that are late, each wait is computed anew: lateness does not add up', async () => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => seconds + 0.02;
    const throttle = new Throttle(10, 0, 1, { clock });
    take(throttle, 10);
    const outcomes = new Outcomes();
    for (let index = 0; index < 1_000; index++) outcomes.follow(`${index}`, throttle.acquire());
    await clock.passing.advance(100.1);
    expect(outcomes.order).toHaveLength(1_000);
  });

  test('idle in the middle of a period, then a late call: no undue delay, no undue start [p-queue#251]', async () => {
    const { clock, throttle } = setUp(1);
    take(throttle);
    await clock.advance(1.5);
    const outcomes = new Outcomes();
    outcomes.follow('late', throttle.acquire());
    outcomes.follow('next', throttle.acquire());
    await clock.advance(0);
    expect(outcomes.order).toEqual(['late']);
    await clock.advance(0.99);
    expect(outcomes.order).toEqual(['late']);
    await clock.advance(0.01);
    expect(outcomes.order).toEqual(['late', 'next']);
  });
});

describe('trap 20: small numbers and vast ones', () => {
  test('ten times 0.1 make one', async () => {
    const { clock, throttle } = setUp(1);
    for (let index = 0; index < 10; index++) take(throttle, 0.1);
    expect(throttle.tryAcquire(0.1)).toBeUndefined();
    for (let index = 0; index < 10; index++) await clock.advance(0.1);
    expect(throttle.tryAcquire(1)).toBeDefined();
    expect(throttle.tryAcquire(0.1)).toBeUndefined();
  });

  test.each([
    [0.1, 3, 0.3],
    [0.1, 6, 0.6],
    [0.7, 3, 2.1],
    [1 / 3, 3, 1],
  ])('%d, %d times, makes %d', (cost, times, burst) => {
    const { throttle } = setUp(1, 0, 1, { burst });
    for (let index = 0; index < times; index++) take(throttle, cost);
    expect(throttle.tryAcquire(cost / 1_000)).toBeUndefined();
  });

  test('one refills ten times 0.1', async () => {
    const { clock, throttle } = setUp(1);
    take(throttle, 1);
    await clock.advance(1);
    for (let index = 0; index < 10; index++) take(throttle, 0.1);
    expect(throttle.tryAcquire(0.1)).toBeUndefined();
  });

  test.each([
    [1e9, 1],
    [1e12, 1e-3],
    [1e15, 1],
    [Number.MAX_SAFE_INTEGER, 1],
    [1, 1e-9],
    [1, 1e-6],
    [1e300, 1],
    [1e-300, 1e-6],
    [1, Number.MAX_SAFE_INTEGER],
  ])(
    '%d per %d s is a limit, never "unlimited by accident", and no wait is zero [Guava#6475]',
    async (capacity, period) => {
      const { clock, throttle } = setUp(capacity, 0, period);
      const rate = capacity / period;
      const cost = throttle.burst;
      take(throttle, cost);
      expect(throttle.tokens).toBe(0);
      for (const part of [1, 0.5, 1e-3]) {
        expect(throttle.tryAcquire(cost * part)).toBeUndefined();
        expect(throttle.estimateWait(cost * part) / ((cost * part) / rate)).toBeCloseTo(1, 6);
      }
      const grants: number[] = [];
      for (let index = 0; index < 5; index++)
        throttle.acquire(cost).then(
          () => grants.push(clock.now()),
          () => {},
        );
      await clock.advance(0);
      expect([throttle.waiting, clock.pending]).toEqual([5, 1]);
      await clock.advance(((5 * cost) / rate) * (1 + 1e-9));
      expect(grants).toHaveLength(5);
      grants.forEach((at, index) => expect(at / (((index + 1) * cost) / rate)).toBeCloseTo(1, 9));
    },
  );

  test('a long-lived process: tiny waits far from zero on the clock', async () => {
    const clock = new SkewedClock();
    clock.skew = 1e7;
    const throttle = new Throttle(1, 0, 1e-6, { clock });
    take(throttle);
    expect(throttle.tryAcquire()).toBeUndefined();
    expect(throttle.estimateWait()).toBeGreaterThan(0);
    const waiter = throttle.acquire();
    await clock.passing.advance(0);
    expect(throttle.waiting).toBe(1);
    await clock.passing.advance(2e-6);
    expect((await waiter).waited).toBeGreaterThan(0);
  });

  test('a wait on the system clock is never a timer of zero', async () => {
    vi.useFakeTimers();
    const timers = vi.spyOn(globalThis, 'setTimeout');
    const throttle = new Throttle(1e6, 0, 1, { burst: 1 });
    take(throttle);
    const waiter = throttle.acquire();
    expect(throttle.waiting).toBe(1);
    expect(timers.mock.calls.map(([, delay]) => delay)).toEqual([1]);
    await vi.advanceTimersByTimeAsync(1);
    await expect(waiter).resolves.toBeDefined();
  });

  test.each([
    [Number.MAX_VALUE, 0.5],
    [1, Number.MIN_VALUE],
    [Number.MIN_VALUE, 1e300],
  ])('a rate beyond what numbers hold, %d per %d s, is refused', (capacity, period) => {
    expect(() => new Throttle(capacity, 0, period)).toThrow(RangeError);
  });

  test('Infinity alone means no limit', () => {
    const { throttle } = setUp(Infinity);
    for (let index = 0; index < 1_000; index++) take(throttle, Number.MAX_VALUE);
    expect(throttle.active).toBe(1_000);
  });
});

describe('trap 21: fake timers and injected clocks', () => {
  /** Three at ten a second from an empty bucket, a pause, a deadline: the instants in ms at which each is over. */
  const scenario = async (
    throttle: Throttle,
    now: () => number,
    advance: (ms: number) => Promise<unknown>,
  ): Promise<void> => {
    const started = now();
    const ends: [string, number][] = [];
    const record = (name: string) => (): void => void ends.push([name, Math.round(now() - started)]);
    take(throttle, 10);
    throttle.acquire(1).then(record('first'), () => {});
    throttle.run(record('second')).catch(() => {});
    throttle.acquire(1, { timeout: 0.4 }).then(record('no'), record('deadline'));
    await advance(100);
    expect(ends).toEqual([['first', 100]]);
    await advance(150);
    throttle.pause(0.5);
    throttle.pause(0.1);
    await advance(500);
    throttle.acquire().then(record('third'), () => {});
    await advance(1_000);
    expect(ends).toEqual([
      ['first', 100],
      ['second', 200],
      ['deadline', 400],
      ['third', 750],
    ]);
    expect([throttle.waiting, throttle.tokens]).toEqual([0, 10]);
  };

  test('vitest', async () => {
    vi.useFakeTimers();
    await scenario(
      new Throttle(10),
      () => performance.now(),
      (ms) => vi.advanceTimersByTimeAsync(ms),
    );
    expect(vi.getTimerCount()).toBe(0);
  });

  test('sinon', async () => {
    const timers = FakeTimers.install();
    try {
      await scenario(
        new Throttle(10),
        () => performance.now(),
        (ms) => timers.tickAsync(ms),
      );
      expect(timers.countTimers()).toBe(0);
    } finally {
      timers.uninstall();
    }
  });

  test('a clock of sinon, injected', async () => {
    const timers = FakeTimers.createClock();
    const clock = {
      now: () => timers.now / 1_000,
      schedule: (seconds: number, callback: () => void) => {
        const timer = timers.setTimeout(callback, seconds * 1_000);
        return () => timers.clearTimeout(timer);
      },
    };
    await scenario(
      new Throttle(10, 0, 1, { clock }),
      () => timers.now,
      (ms) => timers.tickAsync(ms),
    );
    expect(timers.countTimers()).toBe(0);
  });

  test('ManualClock, injected', async () => {
    const { clock, throttle } = setUp(10);
    await scenario(
      throttle,
      () => clock.now() * 1_000,
      (ms) => clock.advance(ms / 1_000),
    );
    expect(clock.pending).toBe(0);
  });

  test('a throttle older than the fake timers, and younger', async () => {
    const throttle = new Throttle(10);
    take(throttle, 10).release();
    for (let round = 0; round < 2; round++) {
      vi.useFakeTimers();
      const waiter = throttle.acquire(10);
      await vi.advanceTimersByTimeAsync(1_001);
      (await waiter).release();
      vi.useRealTimers();
    }
    await expect(throttle.acquire(0)).resolves.toBeDefined();
  });
});

describe('trap 22: 100,000 waiters', () => {
  const MANY = 100_000;

  test('one timer for all, set once, and FIFO [aiolimiter#73]', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(MANY / 10, 0, 1, { clock });
    take(throttle, MANY / 10);
    const order: number[] = [];
    for (let index = 0; index < MANY; index++)
      throttle.acquire().then(
        () => order.push(index),
        () => {},
      );
    expect([throttle.waiting, clock.passing.pending, clock.delays.length]).toEqual([MANY, 1, 1]);
    // Timers of 0.1 s: each grants what has flowed in, in one pass.
    clock.fires = (seconds) => Math.max(seconds, 0.1);
    clock.delays.length = 0;
    await clock.passing.advance(11);
    expect(order).toHaveLength(MANY);
    expect(order.every((value, index) => value === index)).toBe(true);
    expect(clock.delays.length).toBeLessThan(120);
    expect(clock.passing.pending).toBe(0);
  });

  test('who leaves behind the head has no timer set anew', () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(10, 0, 1, { clock });
    take(throttle, 10);
    throttle.acquire().catch(() => {});
    for (let index = 0; index < 1_000; index++) {
      const stop = new AbortController();
      throttle.acquire(1, { signal: stop.signal }).catch(() => {});
      stop.abort();
    }
    expect([throttle.waiting, clock.passing.pending, clock.delays.length]).toEqual([1, 1, 1]);
  });

  test('100,000 synchronous functions, one at a time: no recursion, no chain', async () => {
    const { throttle } = setUp(Infinity, 1);
    const holder = take(throttle);
    let next = 0;
    let inOrder = true;
    const all = Array.from({ length: MANY }, (_, index) => throttle.run(() => void (inOrder &&= index === next++)));
    holder.release();
    await Promise.all(all);
    expect([next, inOrder, throttle.active]).toEqual([MANY, true, 0]);
  });

  test('one resume grants them all', async () => {
    const { throttle } = setUp(Infinity);
    throttle.pause();
    const all = Array.from({ length: MANY }, () => throttle.acquire());
    throttle.resume();
    expect([throttle.waiting, throttle.active]).toEqual([0, MANY]);
    await Promise.all(all);
  });

  const cancelling: Record<string, (index: number, count: number) => number> = {
    'from the back': (index, count) => count - 1 - index,
    'from the front': (index) => index,
    'from the middle': (index, count) => (index * 7_919) % count,
  };
  test.each(Object.entries(cancelling))('cancelling them %s is linear', async (_, which) => {
    /** Milliseconds for all. */
    const time = async (count: number): Promise<number> => {
      const { throttle } = setUp(Infinity, 1);
      take(throttle);
      const stops = Array.from({ length: count }, () => new AbortController());
      const all = Promise.allSettled(stops.map((stop) => throttle.acquire(1, { signal: stop.signal })));
      const started = performance.now();
      for (let index = 0; index < count; index++) stops[which(index, count)]!.abort(0);
      const taken = performance.now() - started;
      expect(throttle.waiting).toBe(0);
      await all;
      return taken;
    };
    const small = Math.min(await time(3_000), await time(3_000), await time(3_000), await time(3_000));
    const large = Math.min(await time(30_000), await time(30_000));
    // Ten times as many: quadratic would take a hundred times as long.
    expect(large).toBeLessThan(40 * small);
  });
});

describe('trap 23: bounds and ends', () => {
  test('a bound on the queue refuses with a typed error [bottleneck#169]', async () => {
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
    // Who leaves makes room.
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

  test('maxQueue 0: nobody waits, whoever fits is let in', async () => {
    const { throttle } = setUp(10, 1, 1, { maxQueue: 0 });
    const permit = await throttle.acquire();
    await expect(throttle.acquire()).rejects.toBeInstanceOf(QueueFullError);
    expectNothingHeld(throttle, permit);
  });

  test('close settles every waiter, stops the timer and is final [p-limit#25, tokio#8020]', async () => {
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
    // Nothing reopens it.
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
      'settings that refuse the last waiter',
      (throttle) => {
        throttle.acquire(10).catch(() => {});
        throttle.configure({ burst: 1 });
      },
    ],
    ['an error', (throttle) => void throttle.run(() => Promise.reject(new Error('no'))).catch(() => {})],
    [
      'an error thrown',
      (throttle) =>
        void throttle
          .run(() => {
            throw new Error('no');
          })
          .catch(() => {}),
    ],
  ])('idle resolves after %s, when the last permit is back [p-queue#23]', async (_, end) => {
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
  ])('idle resolves when %s empties the queue and nothing runs', async (_, end) => {
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

describe('trap 24: what keeps a process alive [p-queue#163]', () => {
  const dist = new URL('../../dist/index.js', import.meta.url);

  beforeAll(() => {
    if (!existsSync(dist)) throw new Error('dist is missing: run `npm run build` first');
  });

  /** Runs `body` in a process of its own; how long it lived after the last line, in ms, and what it said. */
  const live = (body: string): Promise<{ said: string; lived: number }> => {
    const program = `
      import { Throttle } from ${JSON.stringify(dist.href)};
      const say = (text) => process.stdout.write(text + ' ');
      ${body}
      const end = performance.now();
      process.on('exit', () => say('lived ' + (performance.now() - end)));`;
    return new Promise((resolve, reject) => {
      guarded(
        execFile(process.execPath, ['--input-type=module', '-e', program], { timeout: 20_000 }, (error, stdout) => {
          const [said = '', lived] = stdout.split('lived ');
          if (error) reject(error);
          else resolve({ said: said.trim(), lived: Number(lived) });
        }),
      );
    });
  };

  test.concurrent.each([
    ['a throttle that was used up', 'const t = new Throttle(1, 1, 3600); (await t.acquire()).release();'],
    ['a permit never released', 'const t = new Throttle(1, 1, 3600); await t.acquire();'],
    ['a pause with nobody waiting', 'const t = new Throttle(1); t.pause(3600);'],
    [
      'a waiter that was aborted',
      'const t = new Throttle(1, 0, 3600); await t.acquire(); const s = new AbortController(); t.acquire(1, { signal: s.signal, timeout: 7200 }).catch(() => {}); s.abort();',
    ],
    [
      'a waiter that was closed',
      'const t = new Throttle(1, 0, 3600); await t.acquire(); t.acquire(1, { timeout: 7200 }).catch(() => {}); t.close();',
    ],
    [
      'a waiter that was granted',
      'const t = new Throttle(5, 1, 3600); const p = await t.acquire(); const w = t.acquire(1, { timeout: 7200 }); p.release(); (await w).release();',
    ],
    [
      'a signal nobody aborts',
      'const t = new Throttle(1, 1, 3600); await t.acquire(0); t.acquire(1, { signal: new AbortController().signal }).catch(() => {});',
    ],
    ['a pause without an end', 'const t = new Throttle(1); t.pause(); t.acquire().catch(() => {});'],
  ])('%s does not', async (_, body) => {
    const { said, lived } = await live(body);
    expect(said).toBe('');
    expect(lived).toBeLessThan(3_000);
  });

  test.concurrent.each([
    [
      'for tokens',
      "const t = new Throttle(1, 0, 0.4); await t.acquire(); t.acquire().then(() => say('granted'));",
      'granted',
    ],
    ['for the end of a pause', "const t = new Throttle(1); t.pause(0.4); t.run(() => say('granted'));", 'granted'],
    [
      'for its deadline',
      'const t = new Throttle(1, 1); await t.acquire(0); t.acquire(0, { timeout: 0.4 }).catch((error) => say(error.code));',
      'ERR_THROTTLE_TIMEOUT',
    ],
  ])('a pending acquire does, %s', async (_, body, expected) => {
    const { said, lived } = await live(body);
    expect(said).toBe(expected);
    expect(lived).toBeGreaterThan(300);
  });
});

describe("trap 25: AsyncLocalStorage is the caller's [p-queue#200, bottleneck]", () => {
  const storage = new AsyncLocalStorage<string>();
  const here = (): string | undefined => storage.getStore();

  type Use = (throttle: Throttle) => Promise<string | undefined>;
  const uses: Record<string, Use> = {
    'inside run': (throttle) => throttle.run(here),
    'inside run, after an await': (throttle) =>
      throttle.run(async () => {
        await null;
        return here();
      }),
    'after run': (throttle) => throttle.run(() => {}).then(here),
    'inside wrap': (throttle) => throttle.wrap(here)(),
    'inside map': async (throttle) => (await throttle.map([0], here))[0],
    'inside an item of map that comes late': async (throttle) => (await throttle.map([0, 1, 2], here))[2],
    'after acquire': async (throttle) => {
      using _ = await throttle.acquire();
      return here();
    },
    'in the then of acquire': (throttle) =>
      throttle.acquire().then((permit) => {
        permit.release();
        return here();
      }),
    'after a rejected acquire': (throttle) =>
      throttle.acquire(1, { timeout: 0 }).then((permit) => {
        permit.release();
        return here();
      }, here),
  };

  const openings: Record<string, (throttle: Throttle) => () => void> = {
    'at once': () => () => {},
    'when another context releases': (throttle) => {
      const holder = take(throttle);
      return () => holder.release();
    },
    'when another context resumes': (throttle) => {
      throttle.pause();
      return () => throttle.resume();
    },
    'when another context changes the settings': (throttle) => {
      take(throttle, 0);
      return () => throttle.configure({ concurrency: 2 });
    },
    'by the timer': (throttle) => {
      take(throttle, 10).release();
      return () => {};
    },
  };

  test('run starts its function after it has returned, granted at once or by a release', async () => {
    const { throttle } = setUp(10, 1);
    const work = vi.fn();
    const first = throttle.run(work);
    expect(work).not.toHaveBeenCalled();
    await first;
    const holder = take(throttle);
    const second = throttle.run(work);
    holder.release();
    expect(work).toHaveBeenCalledOnce();
    await second;
    expect(work).toHaveBeenCalledTimes(2);
  });

  for (const [where, use] of Object.entries(uses)) {
    test.each(Object.entries(openings))(`${where}, granted %s`, async (_, opening) => {
      const { clock, throttle } = setUp(10, 1);
      const open = storage.run('opener', () => opening(throttle));
      const seen = ['a', 'b'].map((name) => storage.run(name, () => use(throttle)));
      storage.run('opener', open);
      await storage.run('clock', () => clock.runAll());
      expect(await Promise.all(seen)).toEqual(['a', 'b']);
    });
  }
});

describe('trap 26: map pulls lazily [p-queue#204]', () => {
  /** A source that counts what is pulled and whether it was closed. */
  class Source {
    pulled = 0;
    closed = 0;
    readonly length: number;

    constructor(length = Infinity) {
      this.length = length;
    }

    *[Symbol.iterator](): Generator<number> {
      try {
        while (this.pulled < this.length) yield this.pulled++;
      } finally {
        this.closed++;
      }
    }

    async *async(): AsyncGenerator<number> {
      yield* this;
    }
  }
  const kinds: Record<string, (source: Source) => Iterable<number> | AsyncIterable<number>> = {
    'an iterable': (source) => source,
    'an async iterable': (source) => source.async(),
  };

  describe.each(Object.entries(kinds))('over %s', (_, iterate) => {
    test('without an end: one ahead of the work at the most, slots and tokens alike', async () => {
      for (const [capacity, concurrency, expected] of [
        [Infinity, 3, [4, 4]],
        [5, 0, [6, 16]],
      ] as const) {
        const { clock, throttle } = setUp(capacity, concurrency);
        const source = new Source();
        const stop = new AbortController();
        const end = throttle.map(iterate(source), () => new Promise(() => {}), { signal: stop.signal });
        await clock.advance(0);
        const seen = [source.pulled];
        await clock.advance(2);
        expect([...seen, source.pulled]).toEqual(expected);
        stop.abort(new Error('enough'));
        await expect(end).rejects.toThrow('enough');
        await clock.advance(HOUR);
        expect([source.pulled, source.closed, throttle.waiting, clock.pending]).toEqual([expected[1], 1, 0, 0]);
      }
    });

    test('with an end: all results, in the order of the items', async () => {
      const { clock, throttle } = setUp(10, 4);
      const source = new Source(30);
      const all = throttle.map(iterate(source), async (item, index) => {
        await new Promise<void>((resolve) => void clock.schedule(((item * 7) % 5) / 10, resolve));
        return [item, index];
      });
      await clock.runAll();
      expect(await all).toEqual(Array.from({ length: 30 }, (__, index) => [index, index]));
      expect([source.closed, throttle.active]).toEqual([1, 0]);
    });

    test('on a failure of the work: it rejects at once, the iterator is closed, nothing more starts', async () => {
      const { clock, throttle } = setUp(Infinity, 2);
      const source = new Source();
      const started: number[] = [];
      let fail: (error: Error) => void = () => {};
      const end = throttle.map(iterate(source), (item) => {
        started.push(item);
        return new Promise((__, reject) => (fail = reject));
      });
      await clock.advance(0);
      const error = new Error('no');
      fail(error);
      await expect(end).rejects.toBe(error);
      await clock.advance(0);
      expect([started, source.pulled, source.closed, throttle.waiting]).toEqual([[0, 1], 3, 1, 0]);
    });

    test('on a bad cost: it rejects, and the iterator is closed', async () => {
      const { clock, throttle } = setUp(10, 2);
      const source = new Source();
      await expect(throttle.map(iterate(source), () => 1, { cost: (item) => (item === 3 ? 11 : 1) })).rejects.toThrow(
        RangeError,
      );
      await clock.advance(0);
      expect([source.pulled, source.closed, throttle.active]).toEqual([4, 1, 0]);
    });
  });

  test('an abort works while the source is stuck, and closes it when it comes back', async () => {
    const { clock, throttle } = setUp(10, 2);
    let deliver: () => void = () => {};
    let closed = false;
    const work = vi.fn();
    async function* source(): AsyncGenerator<number> {
      try {
        yield 1;
        await new Promise<void>((resolve) => (deliver = resolve));
        yield 2;
      } finally {
        closed = true;
      }
    }
    const stop = new AbortController();
    const end = throttle.map(source(), work, { signal: stop.signal });
    await clock.advance(0);
    const reason = new Error('enough');
    stop.abort(reason);
    await expect(end).rejects.toBe(reason);
    expectNothingHeld(throttle);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
    deliver();
    await clock.advance(0);
    expect(closed).toBe(true);
    expect(work.mock.calls).toEqual([[1, 0]]);
  });

  test('a close while the source is stuck ends it with the next item', async () => {
    const { clock, throttle } = setUp(10);
    const source = new Source();
    const end = throttle.map(source, () => 1);
    await clock.advance(0);
    throttle.close();
    await expect(end).rejects.toBeInstanceOf(ThrottleClosedError);
    expect(source.closed).toBe(1);
  });

  test('a source that fails: its error, and running work is left to finish', async () => {
    const { clock, throttle } = setUp(10);
    const error = new Error('no more');
    const finished = vi.fn();
    // oxlint-disable-next-line require-yield
    async function* source(): AsyncGenerator<number> {
      yield 1;
      throw error;
    }
    const end = throttle.map(source(), () =>
      new Promise<void>((resolve) => void clock.schedule(1, resolve)).then(finished),
    );
    await expect(end).rejects.toBe(error);
    expect(throttle.active).toBe(1);
    await clock.advance(1);
    expect(finished).toHaveBeenCalledOnce();
    expectNothingHeld(throttle);
  });

  test('an item that is a rejected promise: its error, and the iterator is closed', async () => {
    const { throttle } = setUp(10);
    let closed = false;
    function* source(): Generator<Promise<number>> {
      try {
        yield Promise.resolve(1);
        yield Promise.reject(new Error('no'));
        yield Promise.resolve(3);
      } finally {
        closed = true;
      }
    }
    await expect(throttle.map(source(), (item) => item)).rejects.toThrow('no');
    expect(closed).toBe(true);
  });
});
