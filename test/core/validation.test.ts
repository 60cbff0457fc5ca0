/** Invalid arguments of the constructor and of each method. */
import { Throttle } from 'headgate';
import { describe, expect, test } from 'vitest';
import { setUp } from '../support/support.js';

const untyped = (value: unknown): never => value as never;

test.each([NaN, Infinity, -Infinity, undefined])('a clock that returns %s rejects the first call', async (instant) => {
  const throttle = new Throttle(1, 0, 1, { clock: { now: () => untyped(instant), schedule: () => () => {} } });
  await expect(throttle.acquire()).rejects.toThrow(`clock.now() must be a finite number, received ${instant}`);
  expect(throttle.waiting).toBe(0);
});

test.each([-1, 1.5, '1'])('slots of %j are refused', async (slots) => {
  await expect(setUp().throttle.acquire(1, { slots: untyped(slots) })).rejects.toThrow(
    `slots must be an integer >= 0, received ${JSON.stringify(slots)}`,
  );
});

describe('correct', () => {
  test.each([
    [null, 'options must be an object, received null'],
    [{ onlyLowr: true }, 'unknown option "onlyLowr" of correct; did you mean "onlyLower"?'],
    [{ onlyLower: 1 }, 'onlyLower must be a boolean, received 1'],
  ])('refuses the options %j', (options, message) => {
    expect(() => setUp().throttle.correct(1, untyped(options))).toThrow(new TypeError(message));
  });

  test.each([undefined, { onlyLower: true }])('changes nothing without a rate, with the options %j', (options) => {
    const { throttle } = setUp(Infinity);
    throttle.correct(1, options);
    expect(throttle.tokens).toBe(Infinity);
  });
});

const FORMS =
  '; write new Throttle(10, 2, 1, { burst: 5 }) or new Throttle({ capacity: 10, concurrency: 2, burst: 5 })';

describe('constructor', () => {
  test.each<[string, () => unknown, typeof RangeError | typeof TypeError, string]>([
    ['capacity', () => new Throttle(0), RangeError, 'capacity must be a number > 0, received 0'],
    ['capacity', () => new Throttle(-1), RangeError, 'capacity must be a number > 0, received -1'],
    ['capacity', () => new Throttle(NaN), RangeError, 'capacity must be a number > 0, received NaN'],
    ['capacity', () => new Throttle(untyped('5')), TypeError, `capacity must be a number, received "5"${FORMS}`],
    ['capacity', () => new Throttle(untyped(5n)), TypeError, `capacity must be a number, received 5n${FORMS}`],
    ['capacity', () => new Throttle(untyped(null)), TypeError, `capacity must be a number, received null${FORMS}`],
    [
      'capacity',
      () => new Throttle(untyped(undefined)),
      TypeError,
      `capacity must be a number, received undefined${FORMS}`,
    ],
    ['capacity', () => new Throttle(untyped([])), TypeError, `capacity must be a number, received object${FORMS}`],
    [
      'capacity',
      () => new Throttle(untyped(Symbol('s'))),
      TypeError,
      `capacity must be a number, received Symbol(s)${FORMS}`,
    ],
    ['concurrency', () => new Throttle(1, 1.5), RangeError, 'concurrency must be an integer >= 0, received 1.5'],
    ['concurrency', () => new Throttle(1, -1), RangeError, 'concurrency must be an integer >= 0, received -1'],
    ['concurrency', () => new Throttle(1, NaN), RangeError, 'concurrency must be an integer >= 0, received NaN'],
    [
      'concurrency',
      () => new Throttle(1, untyped('2')),
      TypeError,
      `concurrency must be a number, received "2"${FORMS}`,
    ],
    [
      'concurrency',
      () => new Throttle(1, untyped(null)),
      TypeError,
      `concurrency must be a number, received null${FORMS}`,
    ],
    ['period', () => new Throttle(1, 0, 0), RangeError, 'period must be a finite number > 0, received 0'],
    ['period', () => new Throttle(1, 0, Infinity), RangeError, 'period must be a finite number > 0, received Infinity'],
    ['period', () => new Throttle(1, 0, NaN), RangeError, 'period must be a finite number > 0, received NaN'],
    ['period', () => new Throttle(1, 0, untyped('1')), TypeError, `period must be a number, received "1"${FORMS}`],
    ['burst', () => new Throttle(1, 0, 1, { burst: 0 }), RangeError, 'burst must be a finite number > 0, received 0'],
    [
      'burst',
      () => new Throttle(1, 0, 1, { burst: Infinity }),
      RangeError,
      'burst must be a finite number > 0, received Infinity',
    ],
    [
      'burst',
      () => new Throttle(1, 0, 1, { burst: untyped('9') }),
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
      () => new Throttle(1, 0, 1, { clock: untyped({ now: () => 0 }) }),
      TypeError,
      'clock must be a Clock, received object',
    ],
    ['clock', () => new Throttle(1, 0, 1, { clock: untyped(null) }), TypeError, 'clock must be a Clock, received null'],
    [
      'clock',
      () => new Throttle(1, 0, 1, { clock: untyped(() => 0) }),
      TypeError,
      'clock must be a Clock, received function',
    ],
    ['name', () => new Throttle(1, 0, 1, { name: untyped(7) }), TypeError, 'name must be a string, received 7'],
    ['options', () => new Throttle(1, 0, 1, untyped(5)), TypeError, 'options must be an object, received 5'],
    ['options', () => new Throttle(1, 0, 1, untyped(null)), TypeError, 'options must be an object, received null'],
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
  ])('an invalid %s throws an error with its name and value', (_name, make, Kind, message) => {
    expect(make).toThrow(new Kind(message));
  });
});

describe('a method call with an invalid argument queues no waiter and spends no tokens', () => {
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
    ).flatMap(([cost, text, Kind]): typeof calls => [
      [
        `acquire(${text})`,
        (t) => t.acquire(untyped(cost)),
        Kind,
        `cost must be a finite number >= 0, received ${text}`,
      ],
      [
        `run(fn, ${text})`,
        (t) => t.run(() => {}, untyped(cost)),
        Kind,
        `cost must be a finite number >= 0, received ${text}`,
      ],
      [
        `tryAcquire(${text})`,
        (t) => t.tryAcquire(untyped(cost)),
        Kind,
        `cost must be a finite number >= 0, received ${text}`,
      ],
      [
        `estimateWait(${text})`,
        (t) => t.estimateWait(untyped(cost)),
        Kind,
        `cost must be a finite number >= 0, received ${text}`,
      ],
      [
        `map(cost: ${text})`,
        (t) => t.map([1], () => {}, { cost: untyped(cost) }),
        Kind,
        `cost must be a finite number >= 0, received ${text}`,
      ],
      [
        `map(cost: () => ${text})`,
        (t) => t.map([1], () => {}, { cost: () => untyped(cost) }),
        Kind,
        `cost must be a finite number >= 0, received ${text}`,
      ],
      [
        `wrap(fn, () => ${text})`,
        (t) =>
          t.wrap(
            () => {},
            () => untyped(cost),
          )(),
        Kind,
        `cost must be a finite number >= 0, received ${text}`,
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
      (t) => t.acquire(1, { timeout: untyped('1') }),
      TypeError,
      'timeout must be a number >= 0, received "1"',
    ],
    [
      'acquire(signal: {})',
      (t) => t.acquire(1, { signal: untyped({}) }),
      TypeError,
      'signal must be an AbortSignal, received object',
    ],
    [
      'acquire(signal: null)',
      (t) => t.acquire(1, { signal: untyped(null) }),
      TypeError,
      'signal must be an AbortSignal, received null',
    ],
    ['acquire(1, 5)', (t) => t.acquire(1, untyped(5)), TypeError, 'options must be an object, received 5'],
    ['acquire(1, null)', (t) => t.acquire(1, untyped(null)), TypeError, 'options must be an object, received null'],
    ['run(5)', (t) => t.run(untyped(5)), TypeError, 'fn must be a function, received 5'],
    ['map(null)', (t) => t.map(untyped(null), () => {}), TypeError, ''],
    ['map([], 5)', (t) => t.map([], untyped(5)), TypeError, 'fn must be a function, received 5'],
    [
      'map([], fn, { cost: -1 })',
      (t) => t.map([], () => {}, { cost: -1 }),
      RangeError,
      'cost must be a finite number >= 0, received -1',
    ],
    ['map([], fn, 5)', (t) => t.map([], () => {}, untyped(5)), TypeError, 'options must be an object, received 5'],
    ['wrap(5)', (t) => t.wrap(untyped(5)), TypeError, 'fn must be a function, received 5'],
    ['pause(-1)', (t) => t.pause(-1), RangeError, 'seconds must be a number >= 0, received -1'],
    ['pause(NaN)', (t) => t.pause(NaN), RangeError, 'seconds must be a number >= 0, received NaN'],
    ['pause("1")', (t) => t.pause(untyped('1')), TypeError, 'seconds must be a number >= 0, received "1"'],
    ['configure()', (t) => t.configure(untyped(undefined)), TypeError, 'limits must be an object, received undefined'],
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
    // acquire, run and map reject; they never throw.
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

  test('settle with an invalid cost changes nothing, and a later settle still counts', async () => {
    const { throttle } = setUp();
    const permit = await throttle.acquire(4);
    expect(() => permit.settle(-1)).toThrow(new RangeError('cost must be a finite number >= 0, received -1'));
    expect(() => permit.settle(untyped('2'))).toThrow(new TypeError('cost must be a finite number >= 0, received "2"'));
    expect(throttle.tokens).toBe(6);
    permit.settle(1);
    expect(throttle.tokens).toBe(9);
  });
});
