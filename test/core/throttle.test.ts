/** Throttle: its surface, its errors and its corners. The promises as such: model.test.ts and traps.test.ts. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import {
  QueueFullError,
  Throttle,
  ThrottleClosedError,
  ThrottleError,
  ThrottleTimeoutError,
  type Limits,
} from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { Outcomes, setUp, SkewedClock, take } from '../support/support.js';

const wrong = (value: unknown): never => value as never;

describe('construction', () => {
  test('the defaults', () => {
    const throttle = new Throttle(10);
    const { capacity, concurrency, period, burst, tokens, active, waiting, pausedFor, closed, name } = throttle;
    expect({ capacity, concurrency, period, burst, tokens, active, waiting, pausedFor, closed, name }).toEqual({
      capacity: 10,
      concurrency: 0,
      period: 1,
      burst: 10,
      tokens: 10,
      active: 0,
      waiting: 0,
      pausedFor: 0,
      closed: false,
      name: undefined,
    });
  });

  test.each([
    [0.25, undefined, 1],
    [0.25, 0.25, 0.25],
    [10, undefined, 10],
    [10, 3, 3],
    [10, 30, 30],
    [Infinity, undefined, Infinity],
    [Infinity, 5, 5],
  ])('capacity %d with burst %s has a burst of %d', (capacity, burst, expected) => {
    const throttle = new Throttle(capacity, 0, 1, { burst });
    expect(throttle.burst).toBe(expected);
    expect(throttle.tokens).toBe(expected);
  });

  test('an option given as undefined keeps its default', () => {
    const throttle = new Throttle(10, undefined, undefined, {
      burst: undefined,
      maxQueue: undefined,
      clock: undefined,
      name: undefined,
    });
    expect([throttle.concurrency, throttle.period, throttle.burst, throttle.name]).toEqual([0, 1, 10, undefined]);
  });

  test('reads no clock, sets no timer and draws no random number', () => {
    const clock = { now: vi.fn(() => 0), schedule: vi.fn(() => () => {}) };
    const random = vi.spyOn(Math, 'random');
    void new Throttle(10, 2, 1, { clock });
    expect(clock.now).not.toHaveBeenCalled();
    expect(clock.schedule).not.toHaveBeenCalled();
    expect(random).not.toHaveBeenCalled();
    random.mockRestore();
  });

  test.each<[string, () => unknown, typeof RangeError | typeof TypeError, string]>([
    ['capacity', () => new Throttle(0), RangeError, 'capacity must be a number > 0, received 0'],
    ['capacity', () => new Throttle(-1), RangeError, 'capacity must be a number > 0, received -1'],
    ['capacity', () => new Throttle(NaN), RangeError, 'capacity must be a number > 0, received NaN'],
    ['capacity', () => new Throttle(wrong('5')), TypeError, 'capacity must be a number > 0, received "5"'],
    ['capacity', () => new Throttle(wrong(5n)), TypeError, 'capacity must be a number > 0, received 5n'],
    ['capacity', () => new Throttle(wrong(null)), TypeError, 'capacity must be a number > 0, received null'],
    ['capacity', () => new Throttle(wrong(undefined)), TypeError, 'capacity must be a number > 0, received undefined'],
    ['capacity', () => new Throttle(wrong([])), TypeError, 'capacity must be a number > 0, received object'],
    ['capacity', () => new Throttle(wrong({})), TypeError, 'capacity must be a number > 0, received object'],
    [
      'capacity',
      () => new Throttle(wrong(Symbol('s'))),
      TypeError,
      'capacity must be a number > 0, received Symbol(s)',
    ],
    ['concurrency', () => new Throttle(1, 1.5), RangeError, 'concurrency must be an integer >= 0, received 1.5'],
    ['concurrency', () => new Throttle(1, -1), RangeError, 'concurrency must be an integer >= 0, received -1'],
    ['concurrency', () => new Throttle(1, NaN), RangeError, 'concurrency must be an integer >= 0, received NaN'],
    ['concurrency', () => new Throttle(1, wrong('2')), TypeError, 'concurrency must be an integer >= 0, received "2"'],
    [
      'concurrency',
      () => new Throttle(1, wrong(null)),
      TypeError,
      'concurrency must be an integer >= 0, received null',
    ],
    ['period', () => new Throttle(1, 0, 0), RangeError, 'period must be a finite number > 0, received 0'],
    ['period', () => new Throttle(1, 0, Infinity), RangeError, 'period must be a finite number > 0, received Infinity'],
    ['period', () => new Throttle(1, 0, NaN), RangeError, 'period must be a finite number > 0, received NaN'],
    ['period', () => new Throttle(1, 0, wrong('1')), TypeError, 'period must be a finite number > 0, received "1"'],
    ['burst', () => new Throttle(1, 0, 1, { burst: 0 }), RangeError, 'burst must be a finite number > 0, received 0'],
    [
      'burst',
      () => new Throttle(1, 0, 1, { burst: Infinity }),
      RangeError,
      'burst must be a finite number > 0, received Infinity',
    ],
    [
      'burst',
      () => new Throttle(1, 0, 1, { burst: wrong('9') }),
      TypeError,
      'burst must be a finite number > 0, received "9"',
    ],
    [
      'maxQueue',
      () => new Throttle(1, 0, 1, { maxQueue: -1 }),
      RangeError,
      'maxQueue must be an integer >= 0, received -1',
    ],
    [
      'maxQueue',
      () => new Throttle(1, 0, 1, { maxQueue: 0.5 }),
      RangeError,
      'maxQueue must be an integer >= 0, received 0.5',
    ],
    [
      'clock',
      () => new Throttle(1, 0, 1, { clock: wrong({ now: () => 0 }) }),
      TypeError,
      'clock must be a Clock, received object',
    ],
    ['clock', () => new Throttle(1, 0, 1, { clock: wrong(null) }), TypeError, 'clock must be a Clock, received null'],
    [
      'clock',
      () => new Throttle(1, 0, 1, { clock: wrong(() => 0) }),
      TypeError,
      'clock must be a Clock, received function',
    ],
    ['name', () => new Throttle(1, 0, 1, { name: wrong(7) }), TypeError, 'name must be a string, received 7'],
    ['options', () => new Throttle(1, 0, 1, wrong(5)), TypeError, 'options must be an object, received 5'],
    ['options', () => new Throttle(1, 0, 1, wrong(null)), TypeError, 'options must be an object, received null'],
    [
      'rate',
      () => new Throttle(1e300, 0, 1e-300),
      RangeError,
      'capacity / period must fill the burst in finite time, received 1e+300 / 1e-300',
    ],
    [
      'rate',
      () => new Throttle(1e-300, 0, 1e300),
      RangeError,
      'capacity / period must fill the burst in finite time, received 1e-300 / 1e+300',
    ],
    [
      'rate',
      () => new Throttle(1e-308, 0, 1, { burst: 1e10 }),
      RangeError,
      'capacity / period must fill the burst in finite time, received 1e-308 / 1',
    ],
  ])('a bad %s is refused by name and value', (_name, make, Kind, message) => {
    expect(make).toThrow(new Kind(message));
  });
});

describe('bad input to calls: refused before anything is queued or spent', () => {
  const calls: [string, (throttle: Throttle) => unknown, typeof RangeError | typeof TypeError, string][] = [
    ...(
      [
        [-1, '-1', RangeError],
        [NaN, 'NaN', RangeError],
        [Infinity, 'Infinity', RangeError],
        ['1', '"1"', TypeError],
        [null, 'null', TypeError],
        [true, 'true', TypeError],
      ] as const
    ).flatMap(([cost, shown, Kind]): typeof calls => [
      [
        `acquire(${shown})`,
        (t) => t.acquire(wrong(cost)),
        Kind,
        `cost must be a finite number >= 0, received ${shown}`,
      ],
      [
        `run(fn, ${shown})`,
        (t) => t.run(() => {}, wrong(cost)),
        Kind,
        `cost must be a finite number >= 0, received ${shown}`,
      ],
      [
        `tryAcquire(${shown})`,
        (t) => t.tryAcquire(wrong(cost)),
        Kind,
        `cost must be a finite number >= 0, received ${shown}`,
      ],
      [
        `estimateWait(${shown})`,
        (t) => t.estimateWait(wrong(cost)),
        Kind,
        `cost must be a finite number >= 0, received ${shown}`,
      ],
      [
        `map(cost: ${shown})`,
        (t) => t.map([1], () => {}, { cost: wrong(cost) }),
        Kind,
        `cost must be a finite number >= 0, received ${shown}`,
      ],
      [
        `map(cost: () => ${shown})`,
        (t) => t.map([1], () => {}, { cost: () => wrong(cost) }),
        Kind,
        `cost must be a finite number >= 0, received ${shown}`,
      ],
      [
        `wrap(fn, () => ${shown})`,
        (t) =>
          t.wrap(
            () => {},
            () => wrong(cost),
          )(),
        Kind,
        `cost must be a finite number >= 0, received ${shown}`,
      ],
    ]),
    ...(['acquire', 'tryAcquire', 'estimateWait'] as const).map((method): (typeof calls)[number] => [
      `${method}(11)`,
      (t) => t[method](11),
      RangeError,
      'cost must be at most 10, the burst of Throttle (10 per 1 s, any number at a time), received 11',
    ]),
    [
      'acquire(timeout: -1)',
      (t) => t.acquire(1, { timeout: -1 }),
      RangeError,
      'timeout must be a number >= 0, received -1',
    ],
    [
      'acquire(timeout: NaN)',
      (t) => t.acquire(1, { timeout: NaN }),
      RangeError,
      'timeout must be a number >= 0, received NaN',
    ],
    [
      'acquire(timeout: "1")',
      (t) => t.acquire(1, { timeout: wrong('1') }),
      TypeError,
      'timeout must be a number >= 0, received "1"',
    ],
    [
      'acquire(signal: {})',
      (t) => t.acquire(1, { signal: wrong({}) }),
      TypeError,
      'signal must be an AbortSignal, received object',
    ],
    [
      'acquire(signal: null)',
      (t) => t.acquire(1, { signal: wrong(null) }),
      TypeError,
      'signal must be an AbortSignal, received null',
    ],
    ['acquire(1, 5)', (t) => t.acquire(1, wrong(5)), TypeError, 'options must be an object, received 5'],
    ['acquire(1, null)', (t) => t.acquire(1, wrong(null)), TypeError, 'options must be an object, received null'],
    ['run(5)', (t) => t.run(wrong(5)), TypeError, 'fn must be a function, received 5'],
    ['map(null)', (t) => t.map(wrong(null), () => {}), TypeError, ''],
    ['map([], 5)', (t) => t.map([], wrong(5)), TypeError, 'fn must be a function, received 5'],
    [
      'map([], fn, { cost: -1 })',
      (t) => t.map([], () => {}, { cost: -1 }),
      RangeError,
      'cost must be a finite number >= 0, received -1',
    ],
    ['map([], fn, 5)', (t) => t.map([], () => {}, wrong(5)), TypeError, 'options must be an object, received 5'],
    ['wrap(5)', (t) => t.wrap(wrong(5)), TypeError, 'fn must be a function, received 5'],
    ['pause(-1)', (t) => t.pause(-1), RangeError, 'seconds must be a number >= 0, received -1'],
    ['pause(NaN)', (t) => t.pause(NaN), RangeError, 'seconds must be a number >= 0, received NaN'],
    ['pause("1")', (t) => t.pause(wrong('1')), TypeError, 'seconds must be a number >= 0, received "1"'],
    ['configure()', (t) => t.configure(wrong(undefined)), TypeError, 'limits must be an object, received undefined'],
    [
      'configure(capacity: 0)',
      (t) => t.configure({ concurrency: 1, capacity: 0 }),
      RangeError,
      'capacity must be a number > 0, received 0',
    ],
    [
      'configure(concurrency: 1.5)',
      (t) => t.configure({ capacity: 1, concurrency: 1.5 }),
      RangeError,
      'concurrency must be an integer >= 0, received 1.5',
    ],
    [
      'configure(period: 0)',
      (t) => t.configure({ capacity: 1, period: 0 }),
      RangeError,
      'period must be a finite number > 0, received 0',
    ],
    [
      'configure(burst: 0)',
      (t) => t.configure({ capacity: 1, burst: 0 }),
      RangeError,
      'burst must be a finite number > 0, received 0',
    ],
  ];

  test.each(calls)('%s', async (name, call, Kind, message) => {
    const { throttle, clock } = setUp();
    let thrown: unknown;
    let outcome: unknown;
    try {
      outcome = call(throttle);
    } catch (error) {
      thrown = error;
    }
    // acquire, run and map report by rejecting, never by throwing.
    if (/^(acquire|run|map)/.test(name)) expect(thrown).toBeUndefined();
    const error =
      thrown ??
      (await (outcome as Promise<unknown>).then(
        () => undefined,
        (reason: unknown) => reason,
      ));
    expect(error).toBeInstanceOf(Kind);
    expect((error as Error).message).toContain(message);
    expect([throttle.tokens, throttle.active, throttle.waiting, throttle.pausedFor, clock.pending]).toEqual([
      10, 0, 0, 0, 0,
    ]);
    expect([throttle.capacity, throttle.concurrency, throttle.period, throttle.burst]).toEqual([10, 0, 1, 10]);
  });

  test('a bad settlement changes nothing and does not count as the one', async () => {
    const { throttle } = setUp();
    const permit = await throttle.acquire(4);
    expect(() => permit.settle(-1)).toThrow(new RangeError('cost must be a finite number >= 0, received -1'));
    expect(() => permit.settle(wrong('2'))).toThrow(new TypeError('cost must be a finite number >= 0, received "2"'));
    expect(throttle.tokens).toBe(6);
    permit.settle(1);
    expect(throttle.tokens).toBe(9);
  });
});

describe('errors are for people and for programs', () => {
  test('a timeout that cannot be met is refused at once, with the time that it takes', async () => {
    const { throttle, clock } = setUp(10, 2, 1, { name: 'github' });
    take(throttle, 10).release();
    const error: unknown = await throttle.acquire(5, { timeout: 0.2 }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ThrottleTimeoutError);
    expect(error).toBeInstanceOf(ThrottleError);
    expect(error).toMatchObject({ name: 'ThrottleTimeoutError', code: 'ERR_THROTTLE_TIMEOUT', retryAfter: 0.5 });
    expect((error as Error).message).toBe(
      'Throttle "github" (10 per 1 s, 2 at a time) has no permit for a cost of 5 within the timeout of 0.2 s; retry in 0.5 s or later (0 running, 0 waiting)',
    );
    expect([throttle.waiting, clock.pending]).toEqual([0, 0]);
  });

  test.each([0, 0.1, 0.7, 1e3, 1e6])(
    'a timeout just as long as the wait is met, with the clock at %d',
    async (start) => {
      const clock = new ManualClock(start);
      const throttle = new Throttle(10, 0, 1, { clock });
      take(throttle, 10);
      const waits = [0.1, 0.2, 0.3].map(async (timeout) => (await throttle.acquire(1, { timeout })).waited);
      expect(throttle.waiting).toBe(3);
      await clock.advance(0.3);
      expect((await Promise.all(waits)).map((waited) => Number(waited.toFixed(6)))).toEqual([0.1, 0.2, 0.3]);
    },
  );

  test.each<[string, (throttle: Throttle) => void, string, number | undefined]>([
    ['a taken slot', () => {}, 'retry when a running job has ended (1 running, 0 waiting)', undefined],
    ['a pause with an end', (t) => t.pause(7), 'retry in 7 s or later (1 running, 0 waiting)', 7],
    ['a pause without', (t) => t.pause(), 'it is paused until resume() (1 running, 0 waiting)', undefined],
  ])('now or never, with %s', async (_name, prepare, hint, retryAfter) => {
    const { throttle } = setUp(Infinity, 1);
    take(throttle);
    prepare(throttle);
    const error = (await throttle.acquire(1, { timeout: 0 }).catch((reason: unknown) => reason)) as ThrottleError;
    expect(error).toBeInstanceOf(ThrottleTimeoutError);
    expect(error.message).toBe(
      `Throttle (any rate, 1 at a time) has no permit for a cost of 1 within the timeout of 0 s; ${hint}`,
    );
    expect(error.retryAfter).toBe(retryAfter);
    expect('retryAfter' in error).toBe(retryAfter !== undefined);
  });

  test('a deadline that comes', async () => {
    const { throttle, clock } = setUp(10, 1);
    take(throttle);
    const late = throttle.acquire(1, { timeout: 3 }).catch((reason: unknown) => reason);
    await clock.advance(3);
    expect(await late).toMatchObject({
      code: 'ERR_THROTTLE_TIMEOUT',
      message: expect.stringContaining(
        'within the timeout of 3 s; retry when a running job has ended (1 running, 0 waiting)',
      ) as string,
    });
  });

  test('a full queue', async () => {
    const { throttle } = setUp(10, 0, 1, { maxQueue: 2 });
    take(throttle, 10);
    const waiting = [throttle.acquire(), throttle.acquire()];
    const error: unknown = await throttle.acquire(3).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(QueueFullError);
    expect(error).toMatchObject({ name: 'QueueFullError', code: 'ERR_THROTTLE_QUEUE_FULL', retryAfter: 0.5 });
    expect((error as Error).message).toBe(
      'Throttle (10 per 1 s, any number at a time) has a full queue of 2; retry in 0.5 s or later (1 running, 2 waiting)',
    );
    expect(throttle.waiting).toBe(2);
    throttle.close();
    await Promise.allSettled(waiting);
  });

  test('maxQueue 0 never lets anybody wait', async () => {
    const { throttle } = setUp(10, 1, 1, { maxQueue: 0 });
    const first = await throttle.acquire();
    await expect(throttle.acquire()).rejects.toBeInstanceOf(QueueFullError);
    first.release();
    (await throttle.acquire()).release();
  });

  test('a closed throttle, with the reason as the cause', async () => {
    const { throttle } = setUp(10, 1);
    const running = await throttle.acquire();
    const waiting = throttle.acquire().catch((reason: unknown) => reason);
    const job = throttle.run(() => 1).catch((reason: unknown) => reason);
    const reason = new Error('shutting down');
    throttle.close(reason);
    throttle.close(new Error('too late'));
    const later = throttle.acquire().catch((error: unknown) => error);
    for (const error of await Promise.all([waiting, job, later])) {
      expect(error).toBeInstanceOf(ThrottleClosedError);
      expect(error).toMatchObject({
        name: 'ThrottleClosedError',
        code: 'ERR_THROTTLE_CLOSED',
        cause: reason,
        message: 'Throttle (10 per 1 s, 1 at a time) is closed',
      });
    }
    expect(throttle.tryAcquire()).toBeUndefined();
    expect([throttle.closed, throttle.waiting, throttle.active]).toEqual([true, 0, 1]);
    running.release();
    await throttle.idle();
  });

  test('a user can make them, for a gate of one’s own', () => {
    const cause = new Error('lost');
    expect(new ThrottleError('ERR_MINE', 'mine')).toMatchObject({
      name: 'ThrottleError',
      code: 'ERR_MINE',
      message: 'mine',
    });
    expect(new ThrottleTimeoutError('late', { cause, retryAfter: 2 })).toMatchObject({ cause, retryAfter: 2 });
    expect(new ThrottleError('ERR_MINE', 'mine').stack).toMatch(/^ThrottleError: mine/);
  });
});

describe('one signal for many throttles', () => {
  test('makes one listener, no warning, and every queue goes on', async () => {
    const warned = vi.fn();
    process.on('warning', warned);
    const controller = new AbortController();
    const throttles = Array.from({ length: 20 }, () => new Throttle(Infinity, 1));
    const holds = throttles.map((throttle) => take(throttle));
    const aborted = throttles.map((throttle) => throttle.acquire(1, { signal: controller.signal }));
    const patient = throttles.map((throttle) => throttle.acquire());
    expect(getEventListeners(controller.signal, 'abort').length).toBe(1);
    controller.abort();
    for (const { status } of await Promise.allSettled(aborted)) expect(status).toBe('rejected');
    expect(getEventListeners(controller.signal, 'abort').length).toBe(0);
    for (const hold of holds) hold.release();
    expect((await Promise.all(patient)).length).toBe(20);
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.off('warning', warned);
    expect(warned).not.toHaveBeenCalled();
  });

  test('nobody is granted whose signal has aborted, though the one before left first', async () => {
    const { throttle: heavy } = setUp(10, 0);
    take(heavy, 5);
    const second = new AbortController();
    const large = heavy.acquire(10, { signal: second.signal }).catch(() => 'aborted');
    const small = heavy.acquire(1, { signal: second.signal }).catch(() => 'aborted');
    const other = heavy.acquire(1);
    second.abort();
    expect(await Promise.all([large, small])).toEqual(['aborted', 'aborted']);
    expect([heavy.active, heavy.tokens]).toEqual([2, 4]);
    (await other).release();
  });
});

describe('permits', () => {
  test('using and await using release, also when the block throws', async () => {
    const { throttle } = setUp(10, 1);
    {
      using permit = await throttle.acquire(5);
      expect([throttle.active, permit.cost, permit.released]).toEqual([1, 5, false]);
    }
    expect(throttle.active).toBe(0);
    await expect(
      (async () => {
        await using _ = await throttle.acquire(5);
        throw new Error('boom');
      })(),
    ).rejects.toThrow('boom');
    expect([throttle.active, throttle.tokens]).toEqual([0, 0]);
  });

  test('any mix of releases counts once', async () => {
    const { throttle } = setUp(Infinity, 2);
    const other = await throttle.acquire();
    await throttle.run(async (permit) => {
      using _ = permit;
      permit.release();
      permit.release();
      expect(permit.released).toBe(true);
      await permit[Symbol.asyncDispose]();
    });
    expect(throttle.active).toBe(1);
    other.release();
    expect(throttle.active).toBe(0);
  });

  test('settling counts once, before or after the release, and shows in the cost', async () => {
    const { throttle, clock } = setUp(10);
    const permit = await throttle.acquire(6);
    permit.release();
    permit.settle(9);
    permit.refund();
    expect([throttle.tokens, permit.cost]).toEqual([1, 9]);
    const refunded = await throttle.acquire(1);
    refunded.refund();
    refunded.settle(1);
    expect([throttle.tokens, refunded.cost]).toEqual([1, 0]);
    await clock.advance(1);
    expect(throttle.tokens).toBe(10);
  });

  test('a debt delays whoever is timed already, a refund lets them in at once', async () => {
    const { throttle, clock } = setUp(10);
    const permit = await throttle.acquire(10);
    const order: [string, number][] = [];
    void throttle.acquire(5).then(() => order.push(['debtor', clock.now()]));
    await clock.advance(0.25);
    permit.settle(15);
    await clock.advance(0.74);
    expect(order).toEqual([]);
    await clock.advance(0.01);
    expect(order).toEqual([['debtor', 1]]);
    void throttle.acquire(3).then((held) => order.push(['refunded', held.waited]));
    const last = throttle.acquire(10);
    await clock.advance(1.3);
    (await last).refund();
    const next = throttle.acquire(10);
    await clock.advance(0);
    expect([throttle.waiting, order.length]).toEqual([0, 2]);
    (await next).release();
  });

  test('a debt and a refund that come late leave what the true costs would have left', async () => {
    const { throttle, clock } = setUp(10, 0, 10);
    const [first, second] = [take(throttle, 5), take(throttle, 1)];
    await clock.advance(10);
    // With the true cost of 9 the bucket would have held -4, and ten tokens have flowed in since.
    second.settle(9);
    expect(throttle.tokens).toBe(6);
    // As if the first had never been: 1 token was left, and the bucket is full again since.
    first.refund();
    expect(throttle.tokens).toBe(10);

    const { throttle: window, clock: time } = setUp(10, 0, 10, { window: 'sliding' });
    const older = take(window, 2);
    await time.advance(1);
    const younger = take(window, 1);
    await time.advance(1);
    younger.settle(3);
    await time.advance(1);
    older.settle(1);
    expect(window.tokens).toBe(6);
    await time.advance(7);
    // The older one has left; the younger counts for what it turned out to cost, until its own period is over.
    expect(window.tokens).toBe(7);
    await time.advance(1);
    expect(window.tokens).toBe(10);
  });

  test('settling where the rate is unlimited changes the cost and nothing else', async () => {
    const { throttle } = setUp(Infinity);
    const permit = await throttle.acquire(5);
    permit.settle(7);
    expect([permit.cost, throttle.tokens]).toEqual([7, Infinity]);
  });

  test('a permit is no thenable', async () => {
    const { throttle } = setUp();
    const permit = await throttle.acquire();
    expect(await Promise.resolve(permit)).toBe(permit);
    expect(typeof (permit as { then?: unknown }).then).toBe('undefined');
  });
});

describe('run', () => {
  test('starts asynchronously, also when the way is free', async () => {
    const { throttle } = setUp();
    let started = false;
    const done = throttle.run(() => {
      started = true;
    });
    expect([started, throttle.active]).toEqual([false, 1]);
    await done;
    expect([started, throttle.active]).toEqual([true, 0]);
  });

  test('passes values, errors and thenables through untouched', async () => {
    const { throttle } = setUp(100, 1);
    const value = { a: 1 };
    const error = new Error('mine');
    expect(await throttle.run(() => value)).toBe(value);
    expect(await throttle.run(async () => value)).toBe(value);
    expect(await throttle.run(() => undefined)).toBeUndefined();
    // oxlint-disable-next-line unicorn/no-thenable
    const thenable = { then: (resolve: (value: number) => void) => resolve(7) };
    expect(await throttle.run(() => thenable as PromiseLike<number>)).toBe(7);
    await expect(
      throttle.run(() => {
        throw error;
      }),
    ).rejects.toBe(error);
    await expect(throttle.run(() => Promise.reject(error))).rejects.toBe(error);
    await expect(throttle.run(() => Promise.reject(undefined))).rejects.toBeUndefined();
    expect(throttle.active).toBe(0);
    // A function that throws keeps its tokens spent.
    expect(throttle.tokens).toBe(93);
  });

  test('has released before its promise settles, whichever way', async () => {
    const { throttle } = setUp(Infinity, 1);
    for (const fn of [
      () => 1,
      async () => 1,
      () => Promise.reject(new Error('x')),
      () => {
        throw new Error('x');
      },
    ]) {
      const queued = throttle.run(fn).then(
        () => throttle.active,
        () => throttle.active,
      );
      expect(await queued).toBe(0);
    }
    // Queued ones, too.
    const hold = await throttle.acquire();
    let finish = (): void => {};
    const first = throttle.run(() => 1).then(() => throttle.waiting);
    const second = throttle.run(() => new Promise<void>((resolve) => (finish = resolve)));
    hold.release();
    expect(await first).toBe(0);
    finish();
    await second;
    expect(throttle.active).toBe(0);
  });

  test('hands the permit to its function, and the rest to the caller', async () => {
    const { throttle, clock } = setUp(10, 1);
    take(throttle, 10).release();
    const waited = throttle.run((permit) => {
      permit.settle(1);
      return [permit.cost, permit.waited];
    }, 4);
    await clock.advance(0.4);
    expect(await waited).toEqual([1, 0.4]);
    expect(throttle.tokens).toBeCloseTo(3, 9);
  });

  test('100,000 synchronous functions behind one another: no recursion', async () => {
    const { throttle } = setUp(Infinity, 1);
    let count = 0;
    const all = Array.from({ length: 100_000 }, () => throttle.run(() => ++count));
    expect(await all.at(-1)).toBe(100_000);
  });
});

describe('wrap', () => {
  test('keeps this, arguments and result, and charges by the arguments', async () => {
    const { throttle } = setUp(10, 1);
    const counter = {
      total: 5,
      add: throttle.wrap(
        function (this: { total: number }, a: number, b: number) {
          return (this.total += a + b);
        },
        (a, b) => a + b,
      ),
    };
    expect(await counter.add(1, 2)).toBe(8);
    expect(throttle.tokens).toBe(7);
    const constant = throttle.wrap(async (text: string) => text.length, 2);
    expect(await constant('four')).toBe(4);
    expect(throttle.tokens).toBe(5);
    expect(await throttle.wrap(() => 'one token')()).toBe('one token');
    expect(throttle.tokens).toBe(4);
  });

  test('a cost function that throws rejects the call', async () => {
    const { throttle } = setUp();
    const wrapped = throttle.wrap(
      () => 1,
      () => {
        throw new Error('no price');
      },
    );
    await expect(wrapped()).rejects.toThrow('no price');
    expect([throttle.active, throttle.tokens]).toEqual([0, 10]);
  });
});

describe('map', () => {
  test('results come in the order of the items, with the index, from any iterable', async () => {
    const { throttle } = setUp(Infinity, 2);
    async function* letters(): AsyncGenerator<string> {
      yield* ['a', 'b'];
    }
    const slowFirst = async (item: number): Promise<number> => {
      for (let n = 0; n < 10 - item; n++) await null;
      return item * 10;
    };
    expect(await throttle.map([1, 2, 3], slowFirst)).toEqual([10, 20, 30]);
    expect(await throttle.map(new Set(['x', 'y']), (item, index) => `${item}${index}`)).toEqual(['x0', 'y1']);
    expect(await throttle.map(letters(), (item, index) => `${item}${index}`)).toEqual(['a0', 'b1']);
    expect(await throttle.map([Promise.resolve(1), 2], (item) => item + 1)).toEqual([2, 3]);
    expect(await throttle.map([], () => 1)).toEqual([]);
    expect(throttle.active).toBe(0);
  });

  test('each item pays its own cost', async () => {
    const { throttle, clock } = setUp(10);
    const starts: number[] = [];
    const done = throttle.map([5, 5, 2, 3], () => starts.push(clock.now()), { cost: (item) => item });
    await clock.advance(1);
    await done;
    expect(starts.map((start) => Number(start.toFixed(9)))).toEqual([0, 0, 0.2, 0.5]);
    await clock.advance(10);
    await throttle.map(['a', 'b'], () => {}, { cost: 3 });
    expect(throttle.tokens).toBe(4);
  });

  test('the first failure rejects at once: nothing more starts, the iterator is closed, running work finishes', async () => {
    const { throttle } = setUp(Infinity, 2);
    let closed = false;
    let finished = false;
    let finish = (): void => {};
    const started: number[] = [];
    function* endless(): Generator<number> {
      try {
        for (let n = 0; ; n++) yield n;
      } finally {
        closed = true;
      }
    }
    const error = new Error('second');
    const result = throttle.map(endless(), async (item) => {
      started.push(item);
      if (item === 1) throw error;
      await new Promise<void>((resolve) => (finish = resolve));
      finished = true;
    });
    await expect(result).rejects.toBe(error);
    await new Promise(setImmediate);
    expect({ started, closed, finished, active: throttle.active, waiting: throttle.waiting }).toEqual({
      started: [0, 1],
      closed: true,
      finished: false,
      active: 1,
      waiting: 0,
    });
    finish();
    await throttle.idle();
    expect(finished).toBe(true);
  });

  test('what comes after the first failure is asked for no cost', async () => {
    const { throttle } = setUp(Infinity);
    let next: ((item: number) => void) | undefined;
    async function* items(): AsyncGenerator<number> {
      yield 1;
      yield await new Promise<number>((resolve) => (next = resolve));
    }
    const asked: number[] = [];
    const all = throttle.map(items(), () => Promise.reject(new Error('first')), { cost: (item) => asked.push(item) });
    await expect(all).rejects.toThrow('first');
    next?.(2);
    await new Promise((resolve) => void setTimeout(resolve, 1));
    expect(asked).toEqual([1]);
  });

  test('a second failure after the first is nobody’s unhandled rejection', async () => {
    const { throttle } = setUp(Infinity, 0);
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    await expect(
      throttle.map([1, 2, 3], async (item) => {
        await null;
        throw new Error(`${item}`);
      }),
    ).rejects.toThrow('1');
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
    expect(throttle.active).toBe(0);
  });

  test('leaves no listener on the signal, however it ends', async () => {
    const { throttle } = setUp(Infinity, 1);
    const { signal } = new AbortController();
    await throttle.map([1, 2], (item) => item, { signal });
    await throttle.map([1, 2], () => Promise.reject(new Error('x')), { signal }).catch(() => {});
    await throttle.map([], () => 1, { signal });
    expect(getEventListeners(signal, 'abort').length).toBe(0);
  });

  test('closes a synchronous source whose item rejects, and refuses what is no source', async () => {
    const { throttle } = setUp();
    let closed = false;
    const source = (function* (): Generator<Promise<number>> {
      try {
        yield Promise.reject(new Error('item'));
      } finally {
        closed = true;
      }
    })();
    await expect(throttle.map(source, () => 1)).rejects.toThrow('item');
    expect(closed).toBe(true);
    expect(await throttle.map('ab', (letter) => letter.toUpperCase())).toEqual(['A', 'B']);
    await expect(throttle.map(wrong(5), () => 1)).rejects.toThrow(TypeError);
  });

  test('a source that fails, a cost that cannot be had and a closed throttle reject', async () => {
    const { throttle } = setUp(10, 1);
    const broken = (function* (): Generator<number> {
      yield 1;
      throw new Error('no more');
    })();
    await expect(throttle.map(broken, () => 1)).rejects.toThrow('no more');
    await expect(throttle.map([1], () => 1, { cost: 11 })).rejects.toThrow(RangeError);
    throttle.close();
    await expect(throttle.map([1], () => 1)).rejects.toThrow(ThrottleClosedError);
    expect(throttle.active).toBe(0);
  });

  test('a signal ends it: before, while waiting for a permit, and in the tick of a grant', async () => {
    const { throttle } = setUp(Infinity, 1);
    const reason = new Error('enough');
    await expect(throttle.map([1], () => 1, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);

    const hold = await throttle.acquire();
    const controller = new AbortController();
    const fn = vi.fn();
    const waiting = throttle.map([1], fn, { signal: controller.signal }).catch((error: unknown) => error);
    await new Promise(setImmediate);
    expect(throttle.waiting).toBe(1);
    controller.abort(reason);
    expect([await waiting, throttle.waiting]).toEqual([reason, 0]);

    const second = new AbortController();
    const granted = throttle.map([1], fn, { signal: second.signal }).catch((error: unknown) => error);
    await new Promise(setImmediate);
    hold.release();
    second.abort(reason);
    expect(await granted).toBe(reason);
    await new Promise(setImmediate);
    expect([fn.mock.calls.length, throttle.active]).toEqual([0, 0]);
  });
});

describe('pause and resume', () => {
  test('the latest deadline counts, in whatever order the pauses come', async () => {
    const { throttle, clock } = setUp();
    throttle.pause(5);
    throttle.pause(3);
    throttle.pause(0);
    expect(throttle.pausedFor).toBe(5);
    await clock.advance(1);
    throttle.pause(4.5);
    expect(throttle.pausedFor).toBe(4.5);
    const waited = throttle.acquire().then((permit) => permit.waited);
    await clock.advance(4.5);
    expect(await waited).toBe(4.5);
    expect(throttle.pausedFor).toBe(0);
  });

  test('without an end: no timer, and only resume opens', async () => {
    const { throttle, clock } = setUp();
    throttle.pause();
    expect([throttle.pausedFor, throttle.estimateWait()]).toEqual([Infinity, Infinity]);
    const waiting = throttle.acquire();
    await clock.advance(1e9);
    expect([throttle.waiting, clock.pending]).toEqual([1, 0]);
    throttle.resume();
    expect([throttle.waiting, throttle.active]).toEqual([0, 1]);
    (await waiting).release();
  });

  test('whoever could not be granted in time is refused at once', async () => {
    const { throttle } = setUp();
    throttle.pause(30);
    await expect(throttle.acquire(1, { timeout: 29 })).rejects.toMatchObject({ retryAfter: 30 });
    expect(throttle.tryAcquire()).toBeUndefined();
  });
});

describe('estimateWait', () => {
  test('counts the pause, the tokens and all who wait, with the refill of the pause up to the burst', async () => {
    const { throttle, clock } = setUp(10);
    expect(throttle.estimateWait(10)).toBe(0);
    take(throttle, 10);
    expect(throttle.estimateWait(5)).toBe(0.5);
    const waiting = [throttle.acquire(10), throttle.acquire(10)];
    expect(throttle.estimateWait(5)).toBe(2.5);
    expect(throttle.estimateWait(0)).toBe(2);
    throttle.pause(10);
    expect(throttle.estimateWait(5)).toBe(11.5);
    await clock.advance(11);
    expect(throttle.waiting).toBe(0);
    await Promise.all(waiting);
  });

  test.each([
    [0, 0.9, 0.2],
    [0, 1.7, 0.4],
    [0, 3.6, 0.8],
  ])('whoever waits so long comes late enough: from %d, paused for %d, asked %d later', async (start, pause, later) => {
    const clock = new ManualClock(start);
    const throttle = new Throttle(10, 0, 1, { clock });
    throttle.pause(pause);
    await clock.advance(later);
    const wait = throttle.estimateWait();
    // The plain difference is a rounding error short of it.
    expect(later + (pause - later)).toBeLessThan(pause);
    await clock.advance(wait);
    expect(throttle.tryAcquire()).toBeDefined();
    expect(wait).toBeCloseTo(pause - later, 9);
  });
});

describe('a clock that steps back', () => {
  test('holds whoever is timed no longer than the timer', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(1, 0, 1, { clock });
    take(throttle);
    const outcomes = new Outcomes();
    outcomes.follow('waiter', throttle.acquire());
    await clock.passing.advance(0.5);
    clock.skew = -100;
    await clock.passing.advance(0.5);
    expect(outcomes.order).toEqual(['waiter']);
    expect(clock.delays).toEqual([1]);
  });

  test('takes back no instant that was seen, when a timer is late', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(1, 0, 1, { clock, burst: 10 });
    take(throttle, 10);
    clock.fires = (seconds) => seconds + 1;
    const waiter = throttle.acquire();
    await clock.passing.advance(1.875);
    expect(throttle.tokens).toBe(1.875);
    clock.skew = -100;
    await clock.passing.advance(0.125);
    await waiter;
    expect(throttle.tokens).toBe(0.875);
  });
});

describe('timers', () => {
  test('one is set for the head and stays, whoever joins, leaves or is served behind it', async () => {
    const clock = new ManualClock();
    const schedule = vi.spyOn(clock, 'schedule');
    const throttle = new Throttle(10, 3, 1, { clock });
    const held = take(throttle, 10);
    const head = throttle.acquire(5);
    expect(schedule).toHaveBeenCalledTimes(1);
    const controller = new AbortController();
    const gone = [
      throttle.acquire(1, { signal: controller.signal }),
      throttle.acquire(2, { signal: controller.signal }),
    ];
    controller.abort();
    await Promise.allSettled(gone);
    const behind = throttle.acquire(1);
    held.release();
    held.settle(10);
    throttle.resume();
    throttle.configure({});
    // Only new settings are a reason to look at the clock again.
    expect(schedule.mock.calls.length).toBeLessThanOrEqual(2);
    expect(clock.pending).toBe(1);
    await clock.advance(0.6);
    for (const permit of await Promise.all([head, behind])) permit.release();
    expect(clock.pending).toBe(0);
  });

  test('what rounding leaves of a queue’s cost is gone with the queue', async () => {
    const { throttle } = setUp(1, 1);
    for (let round = 0; round < 100; round++) {
      const hold = take(throttle, 0);
      const waiting = [0.1, 0.2, 0.3].map((cost) => throttle.acquire(cost));
      throttle.configure({ capacity: Infinity });
      hold.release();
      for (const one of waiting) (await one).release();
      throttle.configure({ capacity: 1 });
    }
    expect(throttle.estimateWait(1)).toBe(0);
    take(throttle, 1).release();
    expect(throttle.estimateWait(0)).toBe(0);
  });
});

describe('idle', () => {
  test('at once where nothing runs; else once the last permit is back and nobody waits', async () => {
    const { throttle } = setUp(Infinity, 1);
    await throttle.idle();
    const first = await throttle.acquire();
    const second = throttle.acquire();
    const idle = vi.fn();
    const both = [throttle.idle().then(idle), throttle.idle().then(idle)];
    first.release();
    await new Promise(setImmediate);
    expect(idle).not.toHaveBeenCalled();
    (await second).release();
    await Promise.all(both);
    expect(idle).toHaveBeenCalledTimes(2);
  });

  test('when the last one who waits leaves', async () => {
    const { throttle, clock } = setUp();
    const controller = new AbortController();
    throttle.pause();
    const waiting = throttle.acquire(1, { signal: controller.signal });
    const idle = throttle.idle();
    controller.abort();
    await expect(waiting).rejects.toBe(controller.signal.reason);
    await idle;
    expect(clock.pending).toBe(0);
  });

  test('await using closes and waits', async () => {
    const log: string[] = [];
    const work = async (): Promise<void> => {
      for (let n = 0; n < 5; n++) await null;
      log.push('done');
    };
    {
      await using throttle = new Throttle(10, 1);
      void throttle.run(work);
      throttle.run(work).catch((error: Error) => log.push(error.name));
    }
    log.push('disposed');
    expect(log).toEqual(['ThrottleClosedError', 'done', 'disposed']);
  });
});

describe('configure', () => {
  test('changes what is given and keeps the rest; the burst follows the capacity unless it was given', () => {
    const { throttle } = setUp(10, 2);
    throttle.configure({ capacity: 20 });
    expect([throttle.capacity, throttle.concurrency, throttle.period, throttle.burst, throttle.tokens]).toEqual([
      20, 2, 1, 20, 10,
    ]);
    throttle.configure({ burst: 5, period: 2 });
    expect([throttle.capacity, throttle.period, throttle.burst, throttle.tokens]).toEqual([20, 2, 5, 5]);
    throttle.configure({ capacity: 3, concurrency: 0 });
    expect([throttle.capacity, throttle.concurrency, throttle.burst, throttle.tokens]).toEqual([3, 0, 5, 5]);
    // Given explicitly as `undefined`, it follows the capacity again (FAULTS 18).
    throttle.configure({ burst: undefined });
    expect([throttle.burst, throttle.tokens]).toEqual([3, 3]);
    throttle.configure({ capacity: 7 });
    expect([throttle.burst, throttle.tokens]).toEqual([7, 3]);
  });

  test('whoever could never be granted any more is refused, whoever fits is granted, within the call', async () => {
    const { throttle } = setUp(10, 1);
    const hold = take(throttle, 4);
    const large = throttle.acquire(8).catch((error: unknown) => error);
    const small = throttle.acquire(1);
    const limits: Limits = { burst: 2, concurrency: 2 };
    throttle.configure(limits);
    expect([throttle.waiting, throttle.active]).toEqual([0, 2]);
    expect(await large).toMatchObject({
      name: 'RangeError',
      message: expect.stringContaining(
        'cost must be at most 2, the burst of Throttle (10 per 1 s, 2 at a time), received 8',
      ) as string,
    });
    (await small).release();
    hold.release();
  });

  test('from a rate to none and back', async () => {
    const { throttle, clock } = setUp(10);
    take(throttle, 10);
    const waiting = throttle.acquire(10);
    throttle.configure({ capacity: Infinity });
    expect([throttle.waiting, throttle.tokens, clock.pending]).toEqual([0, Infinity, 0]);
    (await waiting).release();
    throttle.configure({ capacity: 4 });
    expect([throttle.tokens, throttle.burst]).toEqual([4, 4]);
  });
});

describe('interleavings', () => {
  test('whatever order jobs end in: never more than the slots, always in order, all slots back', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 12 }),
        async (scheduler, concurrency, jobs) => {
          const throttle = new Throttle(Infinity, concurrency);
          const started: number[] = [];
          let inside = 0;
          let most = 0;
          const job = (index: number) => async (): Promise<number> => {
            started.push(index);
            most = Math.max(most, ++inside);
            await scheduler.schedule(Promise.resolve(), `job ${index}`);
            inside--;
            if (index % 3 === 2) throw new Error(`job ${index}`);
            return index;
          };
          const all = Promise.allSettled(Array.from({ length: jobs }, (_, index) => throttle.run(job(index))));
          await scheduler.waitFor(all);
          expect(started).toEqual(Array.from({ length: jobs }, (_, index) => index));
          expect(most).toBe(Math.min(concurrency, jobs));
          expect((await all).map(({ status }) => status)).toEqual(
            Array.from({ length: jobs }, (_, index) => (index % 3 === 2 ? 'rejected' : 'fulfilled')),
          );
          expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
        },
      ),
    );
  });

  test('aborts, releases and arrivals in any order: every call settles, nothing is lost', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(fc.constantFrom('plain', 'shared', 'own'), { minLength: 1, maxLength: 12 }),
        async (scheduler, kinds) => {
          const throttle = new Throttle(Infinity, 2);
          const shared = new AbortController();
          const calls = kinds.map(async (kind, index) => {
            await scheduler.schedule(Promise.resolve(), `arrive ${index}`);
            const controller = kind === 'shared' ? shared : new AbortController();
            const permit = throttle.acquire(1, { signal: controller.signal });
            if (kind === 'own')
              void scheduler.schedule(Promise.resolve(), `abort ${index}`).then(() => controller.abort());
            try {
              using _ = await permit;
              await scheduler.schedule(Promise.resolve(), `work ${index}`);
            } catch (error) {
              expect(error).toBe(controller.signal.reason);
            }
          });
          void scheduler.schedule(Promise.resolve(), 'abort shared').then(() => shared.abort());
          await scheduler.waitFor(Promise.all(calls));
          expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
          expect(throttle.tryAcquire()).toBeDefined();
        },
      ),
    );
  });

  test('the async context is the caller’s in run, not that of whoever releases', async () => {
    const context = new AsyncLocalStorage<string>();
    const { throttle } = setUp(Infinity, 1);
    const hold = await context.run('holder', () => throttle.acquire());
    const seen = context.run('caller', () => throttle.run(() => context.getStore()));
    context.run('releaser', () => hold.release());
    expect(await seen).toBe('caller');
  });
});
