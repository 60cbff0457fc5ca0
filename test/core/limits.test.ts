/** Limits of a throttle: checks, several rates, and sliding windows. */
import fc from 'fast-check';
import { type Rate, Throttle, type ThrottleOptions } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import type { Budget } from '../../src/core/budget.js';
import { checkLimits, createBudget, describeLimits } from '../../src/core/limits.js';
import { Outcomes, setUp, take } from '../support/support.js';

/** The largest sum of costs in any half-open span of `width` seconds. */
const largestSum = (grants: { at: number; cost: number }[], width: number): number =>
  Math.max(
    0,
    ...grants.map(({ at: from }) =>
      grants.filter(({ at }) => at >= from && at < from + width).reduce((sum, { cost }) => sum + cost, 0),
    ),
  );

describe('checks of limits', () => {
  test.each<[string, ThrottleOptions, Error]>([
    ['window', { window: 'fixed' as never }, new TypeError('window must be "sliding" or left out, received "fixed"')],
    ['margin', { window: 'sliding', margin: -1 }, new RangeError('margin must be a finite number >= 0, received -1')],
    [
      'margin',
      { window: 'sliding', margin: Infinity },
      new RangeError('margin must be a finite number >= 0, received Infinity'),
    ],
    ['margin', { margin: 1 }, new RangeError('margin must be left out without window: "sliding", received 1')],
    [
      'burst',
      { window: 'sliding', burst: 5 },
      new RangeError('burst must be left out with window: "sliding", received 5'),
    ],
    ['also', { also: { capacity: 1 } as never }, new TypeError('also must be an array of rates, received object')],
    ['also', { also: [5 as never] }, new TypeError('also[0] must be an object, received 5')],
    [
      'also',
      { also: [{ capacity: 1 }, { capacity: NaN }] },
      new RangeError('also[1].capacity must be a number > 0, received NaN'),
    ],
    [
      'also',
      { also: [{ capacity: 1, period: 0 }] },
      new RangeError('also[0].period must be a finite number > 0, received 0'),
    ],
    [
      'also',
      { also: [{ capacity: 1, burst: -1 }] },
      new RangeError('also[0].burst must be a finite number > 0, received -1'),
    ],
    [
      'also',
      { also: [{ capacity: 1, margin: 1 }] },
      new RangeError('also[0].margin must be left out without window: "sliding", received 1'),
    ],
    [
      'margin',
      { also: [{ capacity: 1, period: 1e308, window: 'sliding', margin: 1e308 }] },
      new RangeError('also[0].margin must be a finite number >= 0, received 1e+308'),
    ],
    [
      'also',
      { also: [{ capacity: 1e300, period: 1e-300 }] },
      new RangeError('also[0].capacity / also[0].period must fill the burst in finite time, received 1e+300 / 1e-300'),
    ],
  ])('an invalid %s throws in the constructor: %o', (_, options, error) => {
    expect(() => new Throttle(10, 0, 1, options)).toThrow(error);
  });

  test('an unlimited rate may have an infinite burst, and is described as any rate', () => {
    expect(createBudget(checkLimits({ capacity: Infinity, burst: Infinity }))).toBeUndefined();
    expect(describeLimits([{ capacity: Infinity }], Infinity)).toBe('any rate, any number at a time');
    expect(describeLimits([{ capacity: Infinity }, { capacity: 2 }], 3)).toBe('2 per 1 s, 3 at a time');
  });

  test.each([undefined, 5])(
    'a named rate without a limit grants every finite cost, also with a burst of %s',
    (burst) => {
      const throttle = new Throttle(10, 0, 1, { also: [{ name: 'tokens', capacity: Infinity, burst }] });
      expect(throttle.tryAcquire({ tokens: Number.MAX_VALUE })?.costs).toEqual({ tokens: Number.MAX_VALUE });
      expect(() => throttle.tryAcquire({ tokens: Infinity })).toThrow(
        new RangeError('cost.tokens must be a finite number >= 0, received Infinity'),
      );
    },
  );

  test('an undefined option keeps its default, and later changes of the `also` array have no effect', async () => {
    const also = [{ capacity: 2, period: undefined as number | undefined }];
    const { throttle } = setUp(10, 0, 1, { also, window: undefined, margin: undefined, burst: undefined });
    (also[0] as { capacity: number }).capacity = 100;
    also.pop();
    take(throttle, 2);
    expect(throttle.tryAcquire()).toBeUndefined();
    await expect(throttle.acquire(1, { timeout: 0 })).rejects.toThrow(
      'Throttle (10 per 1 s and 2 per 1 s, any number at a time)',
    );
  });

  test('a cost above the smallest burst is refused, and the message contains that burst', async () => {
    const { throttle } = setUp(10, 0, 1, { also: [{ capacity: 4, period: 60 }], name: 'both' });
    await expect(throttle.acquire(5)).rejects.toThrow(
      new RangeError(
        'cost must be at most 4, the burst of ' +
          'Throttle "both" (10 per 1 s and 4 per 60 s, any number at a time), received 5',
      ),
    );
    expect(throttle.burst).toBe(4);
  });

  test('a window with a capacity below 1 starts one token in any period / capacity seconds (FAULTS 18)', async () => {
    const { clock, throttle } = setUp(0.5, 0, 1, { window: 'sliding', name: 'half' });
    expect(throttle.burst).toBe(1);
    expect(throttle.tryAcquire()).toBeDefined();
    await clock.advance(1.75);
    expect(throttle.tryAcquire()).toBeUndefined();
    await clock.advance(0.25);
    expect(throttle.tryAcquire()).toBeDefined();
    await expect(throttle.acquire(2)).rejects.toThrow(
      'cost must be at most 1, the burst of Throttle "half" (0.5 in any 1 s, any number at a time), received 2',
    );
  });
});

describe('several rates', () => {
  test('take a cost from all rates or from none', async () => {
    const { clock, throttle } = setUp(10, 0, 1, { also: [{ capacity: 3, period: 60 }] });
    take(throttle, 3);
    for (let index = 0; index < 100; index++) expect(throttle.tryAcquire(1)).toBeUndefined();
    const waiting = throttle.acquire(3);
    await clock.advance(59.9);
    // The bucket of the first rate is full: the refused calls above have taken no tokens.
    expect([throttle.waiting, throttle.estimateWait(0)]).toEqual([1, expect.closeTo(0.1)]);
    await clock.advance(0.1);
    expect((await waiting).waited).toBe(60);
    expect(clock.pending).toBe(0);
  });

  test('10 per second and 15 per minute apply together', async () => {
    const { clock, throttle } = setUp(10, 0, 1, { also: [{ capacity: 15, period: 60 }] });
    const at: number[] = [];
    const all = Array.from({ length: 17 }, () => throttle.run(() => at.push(clock.now())));
    await clock.runAll();
    await Promise.all(all);
    expect(at.slice(0, 10)).toEqual(Array.from({ length: 10 }, () => 0));
    expect(at.slice(10, 15).map((instant) => Number(instant.toFixed(6)))).toEqual([0.1, 0.2, 0.3, 0.4, 0.5]);
    expect(at.slice(15).map((instant) => Number(instant.toFixed(6)))).toEqual([4, 8]);
  });

  test('an unlimited first rate leaves the rates of `also` in force', () => {
    const { throttle } = setUp(Infinity, 0, 1, { also: [{ capacity: 2, period: 60 }, { capacity: Infinity }] });
    expect([throttle.burst, throttle.tokens]).toEqual([2, 2]);
    take(throttle, 2);
    expect(throttle.tryAcquire()).toBeUndefined();
    const { throttle: open } = setUp(Infinity, 0, 1, { also: [{ capacity: Infinity }] });
    expect([open.burst, open.tokens, open.tryAcquire(1e300) !== undefined]).toEqual([Infinity, Infinity, true]);
  });

  test('settle corrects every rate', async () => {
    const { clock, throttle } = setUp(10, 0, 1, { also: [{ capacity: 20, period: 60 }] });
    const permit = take(throttle, 10);
    permit.settle(4);
    expect(throttle.tokens).toBe(6);
    await clock.advance(10);
    // Of the 20 tokens per minute, 4 are spent, minus the refill since then.
    expect(throttle.estimateWait(10)).toBe(0);
    take(throttle, 10).settle(40);
    expect(throttle.tokens).toBeCloseTo(-30);
    await clock.advance(4);
    expect(throttle.tokens).toBeCloseTo(20 - 4 + 14 / 3 - 40, 0);
  });

  test('configure changes only the first rate, and spent tokens stay spent', async () => {
    const { clock, throttle } = setUp(10, 0, 1, { also: [{ capacity: 12, period: 60 }] });
    take(throttle, 10);
    throttle.configure({ capacity: 100 });
    expect(throttle.tokens).toBe(0);
    await clock.advance(1);
    expect(throttle.burst).toBe(12);
    expect(throttle.tokens).toBeCloseTo(2.2);
    throttle.configure({ capacity: Infinity });
    expect(throttle.tokens).toBeCloseTo(2.2);
    throttle.configure({ capacity: 1 });
    expect(throttle.tokens).toBeCloseTo(1);
  });
});

describe('a sliding window', () => {
  test('trap 18: starts at most the capacity in any period, where a bucket starts up to twice as much', async () => {
    for (const [options, expected] of [
      [{ window: 'sliding' }, 10],
      [{}, 19],
    ] as const) {
      const { clock, throttle } = setUp(10, 0, 1, options);
      const grants: { at: number; cost: number }[] = [];
      await clock.advance(0.95);
      const all = Array.from({ length: 100 }, () => throttle.run(() => grants.push({ at: clock.now(), cost: 1 })));
      await clock.runAll();
      await Promise.all(all);
      expect(largestSum(grants, 1 - 1e-9)).toBe(expected);
    }
  });

  test('grants a waiter one period after each grant, with one timer at a time', async () => {
    const { clock, throttle } = setUp(2, 0, 10, { window: 'sliding' });
    const outcomes = new Outcomes();
    take(throttle);
    await clock.advance(4);
    take(throttle);
    for (const name of ['a', 'b', 'c']) outcomes.follow(name, throttle.acquire());
    expect([clock.pending, throttle.estimateWait()]).toEqual([1, 10 + 10]);
    await clock.advance(5.875);
    expect(outcomes.order).toEqual([]);
    await clock.advance(0.125);
    expect(outcomes.order).toEqual(['a']);
    await clock.advance(4);
    expect(outcomes.order).toEqual(['a', 'b']);
    await clock.advance(6);
    expect([outcomes.order, clock.pending]).toEqual([['a', 'b', 'c'], 0]);
  });

  test('margin lengthens the window', async () => {
    const { clock, throttle } = setUp(2, 0, 1, { window: 'sliding', margin: 0.25 });
    take(throttle, 2);
    await clock.advance(1.249);
    expect(throttle.tryAcquire()).toBeUndefined();
    await clock.advance(0.001);
    expect(throttle.tryAcquire(2)).toBeDefined();
  });

  test('configure keeps the live grants and re-times the head', async () => {
    const { clock, throttle } = setUp(2, 0, 10, { window: 'sliding' });
    take(throttle, 2);
    const waiting = throttle.acquire(2);
    throttle.configure({ period: 3 });
    await clock.advance(2.999);
    expect(throttle.waiting).toBe(1);
    await clock.advance(0.001);
    await waiting;
    throttle.configure({ capacity: 5 });
    expect(throttle.tokens).toBe(3);
    expect(() => throttle.configure({ burst: 3 })).toThrow(RangeError);
    expect(throttle.tokens).toBe(3);
    throttle.configure({ capacity: Infinity });
    expect(throttle.tokens).toBe(Infinity);
  });

  test('a refund returns tokens of a live grant and none of an expired grant', async () => {
    const { clock, throttle } = setUp(4, 0, 1, { window: 'sliding' });
    const [first, second] = [take(throttle, 3), take(throttle, 1)];
    second.refund();
    expect(throttle.tokens).toBe(1);
    await clock.advance(1);
    take(throttle, 4);
    first.refund();
    expect(throttle.tokens).toBe(0);
    await clock.advance(1);
    take(throttle, 1).settle(6);
    expect(throttle.tokens).toBe(-2);
    await clock.advance(1);
    expect(throttle.tokens).toBe(4);
  });
});

test('a timeout equal to estimateWait is granted, and a call after that wait is granted at once', async () => {
  // Small instants, for which a sum has a larger rounding error than its parts.
  const seconds = (max: number): fc.Arbitrary<number> =>
    fc.integer({ min: 1, max: max * 1_000 }).map((milliseconds) => milliseconds / 1_000);
  await fc.assert(
    fc.asyncProperty(
      seconds(0.1),
      seconds(0.2),
      seconds(6),
      fc.integer({ min: 1, max: 9 }),
      seconds(9),
      fc.constantFrom<ThrottleOptions>({}, { window: 'sliding' }, { also: [{ capacity: 3, period: 7 }] }),
      fc.constantFrom(1, 1 - 5e-10),
      async (start, rest, pause, capacity, period, options, factor) => {
        const used = async (): Promise<{ clock: ManualClock; throttle: Throttle; estimate: number }> => {
          const clock = new ManualClock(start);
          const throttle = new Throttle(capacity, 0, period, { ...options, clock });
          take(throttle, throttle.burst);
          await clock.advance(rest);
          if (pause > 3) throttle.pause(pause);
          return { clock, throttle, estimate: throttle.estimateWait() };
        };
        const [waits, returns] = [await used(), await used()];
        const outcomes = new Outcomes();
        // The queue also accepts a timeout that is shorter by a rounding error.
        outcomes.follow('permit', waits.throttle.acquire(1, { timeout: waits.estimate * factor }));
        await waits.clock.advance(waits.estimate);
        expect(outcomes.order).toEqual(['permit']);
        await returns.clock.advance(returns.estimate);
        expect(returns.throttle.tryAcquire()).toBeDefined();
      },
    ),
    { numRuns: 3_000 },
  );
});

test('every span keeps each rate, in call order, and the head starts once all rates permit its cost', async () => {
  const quarter = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: max * 4 }).map((value) => value / 4);
  const rates: {
    capacity: number;
    period: number;
    options: ThrottleOptions;
    windows: [width: number, atMost: (width: number) => number][];
  }[] = [
    { capacity: 4, period: 1, options: { window: 'sliding' }, windows: [[1, () => 4]] },
    {
      capacity: 4,
      period: 1,
      options: { window: 'sliding', also: [{ capacity: 8, period: 4, burst: 6 }] },
      windows: [
        [1, () => 4],
        [2, (width) => 6 + 2 * width],
      ],
    },
    {
      capacity: 8,
      period: 2,
      options: {
        burst: 4,
        also: [
          { capacity: 6, period: 3, window: 'sliding', margin: 0.5 },
          { capacity: 16, period: 16 },
        ],
      },
      windows: [
        [1, (width) => 4 + 4 * width],
        [3.5, () => 6],
        [10, (width) => 16 + width],
      ],
    },
  ];
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...rates),
      fc.array(fc.record({ wait: quarter(2), cost: quarter(4), abort: fc.nat(5) }), { maxLength: 40 }),
      async ({ capacity, period, options, windows }, jobs) => {
        const clock = new ManualClock();
        const throttle = new Throttle(capacity, 0, period, { ...options, clock });
        const started: number[] = [];
        const grants: { at: number; cost: number; requestedAt: number }[] = [];
        const all: Promise<unknown>[] = [];
        for (const [index, { wait, cost, abort }] of jobs.entries()) {
          await clock.advance(wait);
          const requestedAt = clock.now();
          const controller = new AbortController();
          const run = throttle.run(
            () => {
              started.push(index);
              grants.push({ at: clock.now(), cost, requestedAt });
            },
            cost,
            { signal: controller.signal },
          );
          all.push(run.catch(() => {}));
          if (abort === 0) controller.abort();
        }
        await clock.runAll();
        await Promise.all(all);
        expect(started).toEqual(started.toSorted((a, b) => a - b));
        for (const [width, atMost] of windows)
          expect(largestSum(grants, width - 1e-9)).toBeLessThanOrEqual(atMost(width) + 1e-9);
        // Each job starts once it was requested, the previous job has started, and every budget permits its cost.
        const budgets = [
          { capacity, period, burst: options.burst, window: options.window },
          ...(options.also ?? []),
        ].map((rate) => createBudget(checkLimits(rate)) as Budget);
        let last = 0;
        let serial = 0;
        for (const { at, cost, requestedAt } of grants) {
          last = Math.max(
            requestedAt,
            last,
            ...budgets.map((budget) => budget.readyAt(Math.max(requestedAt, last), cost)),
          );
          expect(at).toBeCloseTo(last, 9);
          serial++;
          for (const budget of budgets) budget.take(last, cost, serial);
        }
        expect([throttle.active, throttle.waiting, clock.pending]).toEqual([0, 0, 0]);
      },
    ),
    { numRuns: 300 },
  );
});

test('the type Rate accepts every option of a rate', () => {
  const rate: Rate = { capacity: 500, period: 60, window: 'sliding', margin: 0.1 };
  expect(new Throttle(10, 2, 1, { also: [rate] }).burst).toBe(10);
});
