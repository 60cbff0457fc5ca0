/** Unknown options, the form with one settings object, and durations that look like milliseconds. */
import fc from 'fast-check';
import { KeyedThrottle, Resource, Throttle, type ThrottleSettings } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { express } from 'headgate/http';
import { RedisThrottle } from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { checkOptionNames, pickOptions } from '../../src/core/option-names.js';
import { expectNoWarning, recordWarnings } from '../fetch/warnings.js';

const untyped = (value: unknown): never => value as never;

/** The message of the error of `call`. */
function messageOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError);
    return (error as Error).message;
  }
  throw new Error('no error');
}

/**
 * The distance of optimal string alignment, from its definition: the least number of insertions, removals, replacements
 * and swaps of neighbours, as a table over all prefixes.
 */
function distance(a: string, b: string): number {
  const table: number[][] = [];
  for (let i = 0; i <= a.length; i++) {
    const row: number[] = (table[i] = []);
    for (let j = 0; j <= b.length; j++) {
      const at = (x: number, y: number): number => table[x]?.[y] ?? Infinity;
      const isSwap = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] && i > 1 && j > 1;
      row[j] =
        i + j === 0
          ? 0
          : Math.min(
              at(i - 1, j) + 1,
              at(i, j - 1) + 1,
              at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1),
              isSwap ? at(i - 2, j - 2) + 1 : Infinity,
            );
    }
  }
  return table[a.length]?.[b.length] as number;
}

describe('an unknown option', () => {
  const names = ['capacity', 'concurrency', 'period', 'burst', 'margin', 'ttl', 'name'];

  test.each([
    ['bursts', 'burst'],
    ['capactiy', 'capacity'],
    ['concurency', 'concurrency'],
    ['Period', 'period'],
    ['TTL', 'ttl'],
    ['namme', 'name'],
    ['period_s', 'period'],
  ])('%s: the message suggests %s', (option, nearest) => {
    expect(messageOf(() => checkOptionNames('new Throttle', { [option]: 1 }, names))).toBe(
      `unknown option "${option}" of new Throttle; did you mean "${nearest}"?`,
    );
  });

  test.each(['max', 'rate', 'timeout', '', 'x'.repeat(1_000_000)])(
    'that resembles none: the message lists the names, without those for internal use',
    (option) => {
      const message = messageOf(() => checkOptionNames('map', { [option]: 1 }, ['silent', ...names, 'stack']));
      expect(message).toContain(`of map; its options are ${names.join(', ')}`);
      expect(message.length).toBeLessThan(250);
    },
  );

  test.each([
    ['tlt', 'ttl'],
    ['anme', 'name'],
    ['xnme', undefined],
    ['axme', undefined],
  ])('%s: a swap of neighbours is one edit, which leads to %s', (option, nearest) => {
    expect(messageOf(() => checkOptionNames('it', { [option]: 1 }, ['ttl', 'name']))).toBe(
      `unknown option "${option}" of it; ` +
        (nearest === undefined ? 'its options are ttl, name' : `did you mean "${nearest}"?`),
    );
  });

  test.each<[string, (throttle: Throttle) => unknown]>([
    ['acquire or run; its options are signal, timeout, slots', (t) => t.acquire(1, untyped({ limit: 1 }))],
    ['acquire or run; its options are signal, timeout, slots', (t) => t.run(() => 1, 1, untyped({ limit: 1 }))],
    ['configure; did you mean "capacity"?', (t) => t.configure(untyped({ capcity: 1 }))],
    ['idle; its options are below', (t) => t.idle(untyped({ limit: 1 }))],
    ['new Throttle; did you mean "ttl"?', () => new Throttle(1, 0, 1, untyped({ tlt: 1 }))],
    [
      'new Throttle; its options are burst, window, margin, also, maxQueue, ttl, clock, name',
      () => new Throttle(1, 0, 1, untyped({ capacity: 1 })),
    ],
  ])('the message names the call and its options: %s', async (end, call) => {
    const attempt = async (): Promise<unknown> => call(new Throttle(1));
    await expect(attempt()).rejects.toThrow(new RegExp(`^unknown option "\\w+" of ${end.replaceAll('?', '[?]')}$`));
  });

  test('the suggestion has the fewest edits, and at most one for each four letters of the name', () => {
    const letters = fc.constantFrom('a', 'b', 'c', 'd', 'e');
    const word = fc.array(letters, { minLength: 1, maxLength: 9 }).map((all) => all.join(''));
    fc.assert(
      fc.property(fc.uniqueArray(word, { minLength: 1, maxLength: 5 }), word, (known, option) => {
        fc.pre(!known.includes(option));
        const near = known.filter((name) => distance(option, name) <= Math.ceil(name.length / 4));
        const fewest = Math.min(...near.map((name) => distance(option, name)));
        const nearest = near.find((name) => distance(option, name) === fewest);
        const advice = nearest === undefined ? `its options are ${known.join(', ')}` : `did you mean "${nearest}"?`;
        expect(messageOf(() => checkOptionNames('it', { [option]: 1 }, known))).toBe(
          `unknown option "${option}" of it; ${advice}`,
        );
      }),
      { numRuns: 2_000 },
    );
  });

  test('names of properties of Object.prototype are unknown, too', () => {
    expect(messageOf(() => new Throttle(untyped({ toString: 1 })))).toContain('unknown option "toString"');
  });

  test('an undefined value is refused: the name is wrong whatever the value', () => {
    expect(messageOf(() => new Throttle(untyped({ bursts: undefined })))).toContain('did you mean "burst"?');
  });

  test('a line break in a name is escaped', () => {
    expect(messageOf(() => new Throttle(untyped({ 'a\nb': 1 })))).toContain(String.raw`unknown option "a\nb"`);
  });
});

describe('objects with options of any kind', () => {
  test('the check of names calls no getter', () => {
    const options = {
      get bursts(): number {
        throw new Error('read');
      },
    };
    expect(messageOf(() => new Throttle(untyped(options)))).toContain('unknown option "bursts"');
  });

  test('each value is read once', () => {
    const reads: string[] = [];
    const settings = new Proxy<ThrottleSettings>(
      { capacity: 5, name: 'a', also: [] },
      {
        get(target, name, receiver) {
          reads.push(String(name));
          return Reflect.get(target, name, receiver) as unknown;
        },
      },
    );
    expect(new Throttle(settings).capacity).toBe(5);
    expect(reads.toSorted()).toEqual([...new Set(reads)].toSorted());
    reads.length = 0;
    expect(new KeyedThrottle(settings).name).toBe('a');
    expect(reads.toSorted()).toEqual([...new Set(reads)].toSorted());
  });

  test('frozen objects, and objects without a prototype', () => {
    const bare = Object.assign(Object.create(null) as object, { capacity: 3, concurrency: 2 });
    expect(new Throttle(Object.freeze(bare)).capacity).toBe(3);
    expect(new KeyedThrottle(Object.freeze(bare)).concurrency).toBe(2);
  });

  test('inherited settings count, also as getters of a class, and other inherited names are ignored', () => {
    class Settings {
      get capacity(): number {
        return 7;
      }
      get unrelated(): number {
        return 1;
      }
    }
    expect(new Throttle(new Settings()).capacity).toBe(7);
    expect(new KeyedThrottle(new Settings()).capacity).toBe(7);
    expect(new Throttle(untyped(Object.create({ capacity: 7, unrelated: 1 }))).capacity).toBe(7);
    expect(pickOptions(new Settings(), ['capacity'])).toEqual({ capacity: 7 });
  });

  test('an error of a getter or a Proxy passes through, and rejects a call', async () => {
    const fault = new Error('fault');
    const hostile = new Proxy(
      {},
      {
        ownKeys() {
          throw fault;
        },
      },
    );
    expect(() => new Throttle(hostile)).toThrow(fault);
    const throttle = new Throttle({ concurrency: 1 });
    await expect(throttle.acquire(1, hostile)).rejects.toBe(fault);
    expect(throttle.active).toBe(0);
  });

  test('a symbol is no option', () => {
    expect(new Throttle(untyped({ concurrency: 2, [Symbol('own')]: 1 })).concurrency).toBe(2);
  });
});

describe('the form with one object', () => {
  const numbersOf = (gate: Throttle<string> | KeyedThrottle<string, string>): unknown[] => [
    gate.capacity,
    gate.concurrency,
    gate.period,
    gate.burst,
    gate.name,
  ];
  const optional = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(value, { nil: undefined });

  test('equals the form with numbers, for every gate', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          capacity: fc.constantFrom(Infinity, 1, 3),
          concurrency: optional(fc.constantFrom(0, 1, 2)),
          period: optional(fc.constantFrom(1, 5)),
          burst: optional(fc.constantFrom(1, 2)),
          maxQueue: optional(fc.constantFrom(0, 1)),
          ttl: optional(fc.constantFrom(3)),
          name: optional(fc.constantFrom('api')),
          also: optional(fc.constantFrom([{ name: 'tokens', capacity: 2 }])),
        }),
        fc.array(fc.constantFrom(0, 1), { maxLength: 6 }),
        async ({ capacity, concurrency, period, ...options }, costs) => {
          const clocks = [new ManualClock(), new ManualClock()] as const;
          const named = new Throttle<string>({ capacity, concurrency, period, ...options, clock: clocks[0] });
          const positional = new Throttle<string>(capacity, concurrency, period, { ...options, clock: clocks[1] });
          expect(numbersOf(named)).toEqual(numbersOf(positional));
          expect(
            numbersOf(new KeyedThrottle<string, string>({ capacity, concurrency, period, ...options, maxKeys: 2 })),
          ).toEqual(numbersOf(named));
          const results = [named, positional].map(async (throttle) =>
            Promise.allSettled(costs.map(async (cost) => throttle.acquire(cost).then(({ waited }) => waited))),
          );
          for (const clock of clocks) await clock.advance(20);
          for (const throttle of [named, positional]) throttle.close('end');
          const [first, second] = await Promise.all(results);
          const comparable = (all: PromiseSettledResult<number>[] = []): unknown[] =>
            all.map((one) => (one.status === 'fulfilled' ? one.value : String(one.reason)));
          expect(comparable(first)).toEqual(comparable(second));
          expect(named.active).toBe(positional.active);
        },
      ),
      { numRuns: 200 },
    );
  });

  test('without settings, any number of jobs starts at any rate', () => {
    expect(numbersOf(new Throttle({}))).toEqual([Infinity, 0, 1, Infinity, undefined]);
    expect(numbersOf(new Throttle({ capacity: undefined, concurrency: undefined, period: undefined }))).toEqual([
      Infinity,
      0,
      1,
      Infinity,
      undefined,
    ]);
    expect(new KeyedThrottle({ maxKeys: 5 }).maxKeys).toBe(5);
  });

  test('further arguments that are undefined are as if left out', () => {
    expect(new Throttle(...([{ concurrency: 2 }, undefined, undefined, undefined] as never as [5])).concurrency).toBe(
      2,
    );
  });

  test.each(['Throttle', 'KeyedThrottle'] as const)('a wrong call of %s shows both forms', (kind) => {
    const Kind = { Throttle, KeyedThrottle }[kind] as new (...args: unknown[]) => unknown;
    const forms = `; write new ${kind}(10, 2, 1, { burst: 5 }) or new ${kind}({ capacity: 10, concurrency: 2, burst: 5 })`;
    const calls: [args: unknown[], message: string][] = [
      [[], 'capacity must be a number, received undefined'],
      [['10'], 'capacity must be a number, received "10"'],
      [[null], 'capacity must be a number, received null'],
      [[[10, 2]], 'capacity must be a number, received object'],
      [[() => {}], 'capacity must be a number, received function'],
      [[new Throttle(5)], 'capacity must be a number, received object'],
      [[new KeyedThrottle(5)], 'capacity must be a number, received object'],
      [[{ capacity: 10 }, 2], `new ${kind} takes numbers, or one object with all settings`],
      [[{ capacity: 10 }, undefined, undefined, {}], `new ${kind} takes numbers, or one object with all settings`],
      [[10, { concurrency: 2 }], 'concurrency must be a number, received object'],
      [[10, null], 'concurrency must be a number, received null'],
      [[10, 2, { burst: 5 }], 'period must be a number, received object'],
    ];
    for (const [args, message] of calls) expect(messageOf(() => new Kind(...args))).toBe(message + forms);
  });

  test('a wrong setting is named', () => {
    expect(messageOf(() => new Throttle({ capacity: untyped('10') }))).toBe(
      'capacity must be a number > 0, received "10"',
    );
    expect(messageOf(() => new Throttle({ also: [untyped({ period: 2 })] }))).toBe(
      'also[0].capacity must be a number > 0, received undefined',
    );
    expect(() => new KeyedThrottle({ maxKeys: 0 })).toThrow('maxKeys must be an integer >= 1, received 0');
  });
});

describe('a call with arguments in the wrong place', () => {
  const throttle = new Throttle({ concurrency: 1 });

  test('options in place of the cost: the message shows the call', async () => {
    const advice = 'the options follow the cost: acquire(1, { timeout }) or run(fn, 1, { timeout })';
    await expect(throttle.acquire(untyped({ timeout: 5 }))).rejects.toThrow(advice);
    await expect(throttle.run(() => {}, untyped({ timeout: 5 }))).rejects.toThrow(advice);
    await expect(throttle.acquire(untyped({ tokens: 5 }))).rejects.not.toThrow('the options follow');
    await expect(new RedisThrottle({ client: redisClient, key: 'a' }).acquire(untyped({ timeout: 5 }))).rejects.toThrow(
      advice,
    );
    expect(() => throttle.correct(untyped({ timeout: 5 }))).toThrow(/: it has no named rates$/);
  });

  test('a promise in place of a function: the message shows the function', async () => {
    await expect(throttle.run(untyped(Promise.resolve()))).rejects.toThrow(
      'fn must be a function that returns the promise: () => work(), received object',
    );
    await expect(throttle.run(untyped({}))).rejects.toThrow('fn must be a function, received object');
  });
});

const redisClient = { eval: async () => [], subscribe: async () => {} };

describe('a duration that looks like milliseconds', () => {
  const warnings = recordWarnings();
  const calls: [string, (seconds: number) => unknown][] = [
    ['period', (period) => new Throttle({ period })],
    ['period', (period) => new Throttle(1, 0, period)],
    ['period', (period) => new Throttle(1).configure({ period })],
    ['also[0].period', (period) => new Throttle({ also: [{ capacity: 1, period }] })],
    ['margin', (margin) => new Throttle({ capacity: 1, window: 'sliding', margin })],
    ['ttl', (ttl) => new Throttle({ ttl })],
    ['ttl', (ttl) => new Resource(1, { ttl })],
    ['timeout', async (timeout) => new Throttle(1).acquire(1, { timeout })],
    ['timeout', async (timeout) => new KeyedThrottle(1).run('ada', () => {}, 1, { timeout })],
    ['timeout', (timeout) => throttledFetch(new Throttle(1), { timeout })],
    ['wait', (wait) => throttledFetch(new Throttle(1), { wait })],
    ['maxPause', (maxPause) => throttledFetch(new Throttle(1), { maxPause })],
    ['wait', (wait) => express({ gate: new Throttle(1), wait })],
    ['ttl', (ttl) => express({ gate: new Throttle(1), ttl })],
    ['period', (period) => new RedisThrottle({ client: redisClient, key: 'a', period })],
    ['ttl', (ttl) => new RedisThrottle({ client: redisClient, key: 'a', ttl })],
    ['linger', (linger) => new RedisThrottle({ client: redisClient, key: 'a', linger })],
    ['commandTimeout', (commandTimeout) => new RedisThrottle({ client: redisClient, key: 'a', commandTimeout })],
  ];

  test.each(calls)('%s causes one warning of the process, which says how to silence it', async (name, call) => {
    await call(60_000);
    await call(61_000);
    expect(warnings.codes()).toEqual(['HEADGATE_MILLISECONDS']);
    expect(warnings.messages()[0]).toBe(
      `${name} is 60000 seconds, but looks like milliseconds: all durations are seconds, so write 60 for 60000 ms. ` +
        'If 60000 s is meant, node --disable-warning=HEADGATE_MILLISECONDS silences this',
    );
  });

  test.each([11_000, 20_000, 35_000, 37_000, 100_000, 31_537_000, 86_400_000])('%d warns', (period) => {
    void new Throttle({ period });
    expect(warnings.codes()).toHaveLength(1);
  });

  // Hours and days up to a year, and numbers that are no thousands
  test.each([1, 60, 900, 3_600, 10_000, 10_001, 20_000.5, 36_000, 86_400, 604_800, 2_592_000, 31_536_000])(
    '%d does not warn',
    (period) => {
      void new Throttle({ period });
      expectNoWarning(warnings);
    },
  );

  test('no limit does not warn', async () => {
    const permit = await new Throttle({ ttl: Infinity }).acquire(1, { timeout: Infinity });
    permit.release();
    expectNoWarning(warnings);
  });

  test('a refused duration does not warn', () => {
    expect(() => new Throttle(NaN, 0, 60_000)).toThrow(RangeError);
    expectNoWarning(warnings);
  });
});
