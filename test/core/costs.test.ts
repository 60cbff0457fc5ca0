/** Costs by name, weighted slots and corrections of a Throttle: its messages, its names and its channels. */
import { channel } from 'node:diagnostics_channel';
import { KeyedThrottle, type Rate, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';

const llm = (clock = new ManualClock()): Throttle<'tokens'> =>
  new Throttle(4, 2, 100, { name: 'llm', clock, also: [{ name: 'tokens', capacity: 8, period: 100 }] });

/** A throttle with two named rates. The bursts are 4, 8 and 6. */
const model = (): Throttle<'input' | 'output'> =>
  new Throttle(4, 0, 100, {
    name: 'model',
    clock: new ManualClock(),
    also: [
      { name: 'input', capacity: 8, period: 100 },
      { name: 'output', capacity: 6, period: 100 },
    ],
  });
const MODEL = 'Throttle "model" (4 per 100 s and 8 per 100 s and 6 per 100 s, any number at a time)';

describe('the names of rates', () => {
  test.each([
    [[{ name: '', capacity: 1 }], RangeError, 'also[0].name must be a non-empty string other than "cost", received ""'],
    [
      [{ capacity: 1 }, { name: 'cost', capacity: 1 }],
      RangeError,
      'also[1].name must be a non-empty string other than',
    ],
    [[{ name: 1, capacity: 1 }], TypeError, 'also[0].name must be a string, received 1'],
    [
      [{ name: 'a', capacity: 1 }, { capacity: 1 }, { name: 'a', capacity: 2 }],
      RangeError,
      'also[2].name must be unique, received "a"',
    ],
  ])('%j is refused', (also, Kind, message) => {
    const create = (): unknown => new Throttle(1, 0, 1, { also: also as Rate[] });
    expect(create).toThrow(Kind);
    expect(create).toThrow(message);
  });

  test('a name may be any text, __proto__ included', () => {
    const name = '__proto__' as string;
    const clock = new ManualClock();
    const throttle = new Throttle(4, 0, 100, { clock, also: [{ name, capacity: 8, period: 100 }] });
    const cost = JSON.parse('{"__proto__": 3}') as Record<string, number>;
    const permit = throttle.tryAcquire(cost);
    expect(Object.entries(permit?.costs ?? {})).toEqual([['__proto__', 3]]);
    expect(Object.entries(throttle.levels)).toEqual([['__proto__', 5]]);
  });

  test('an unlimited rate keeps its name: any cost fits, and its level is Infinity', () => {
    const throttle = new Throttle(Infinity, 0, 1, { also: [{ name: 'tokens', capacity: Infinity }] });
    expect(throttle.tryAcquire({ tokens: 1e300 })?.costs).toEqual({ tokens: 1e300 });
    expect(throttle.levels).toEqual({ tokens: Infinity });
    throttle.correct({ tokens: 1 });
    expect(throttle.levels).toEqual({ tokens: Infinity });
  });

  test('a throttle without names accepts a record with cost, and refuses any name', () => {
    const throttle = new Throttle(4, 0, 100, { clock: new ManualClock() });
    const permit = throttle.tryAcquire({ cost: 3 });
    expect([permit?.cost, permit?.costs, throttle.tokens, throttle.levels]).toEqual([3, {}, 1, {}]);
    permit?.settle({});
    permit?.settle({ cost: 1 });
    permit?.settle({ cost: 2 });
    expect([permit?.cost, throttle.tokens]).toEqual([1, 3]);
    expect(() => throttle.tryAcquire({ tokens: 1 } as never)).toThrow(
      'cost.tokens is not a rate of Throttle (4 per 100 s, any number at a time): it has no named rates',
    );
  });

  test('the message of an unknown name shows the known names', () => {
    const throttle = llm();
    const message =
      'is not a rate of Throttle "llm" (4 per 100 s and 8 per 100 s, 2 at a time): its named rates are "tokens"';
    expect(() => throttle.tryAcquire({ tokns: 1 } as never)).toThrow(`cost.tokns ${message}`);
    expect(() => throttle.estimateWait({ tokns: 1 } as never)).toThrow(`cost.tokns ${message}`);
    expect(() => throttle.correct({ tokns: 1 } as never)).toThrow(`levels.tokns ${message}`);
    expect(() => throttle.tryAcquire({ 'a\nb': 1 } as never)).toThrow(String.raw`cost.a\u000ab`.replace('u000a', 'n'));
  });

  test('messages list several names in the order of the rates', async () => {
    const throttle = model();
    expect(() => throttle.tryAcquire({ outptu: 1 } as never)).toThrow(
      `cost.outptu is not a rate of ${MODEL}: its named rates are "input", "output"`,
    );
    throttle.tryAcquire({ output: 6 });
    await expect(throttle.acquire({ input: 2, output: 3 }, { timeout: 1 })).rejects.toThrow(
      'for a cost of 1 ("input": 2, "output": 3) within the timeout of 1 s',
    );
  });

  test('a record is read once, own enumerable string keys only', () => {
    let reads = 0;
    const cost = Object.create(
      { unknown: 1 },
      {
        tokens: { enumerable: true, get: () => ++reads },
        hidden: { enumerable: false, value: 1 },
        [Symbol('s')]: { enumerable: true, value: 1 },
      },
    ) as { tokens: number };
    expect(llm().tryAcquire(cost)?.costs).toEqual({ tokens: 1 });
    expect(reads).toBe(1);
  });

  test('a getter of a record that throws rejects the call and spends nothing', async () => {
    const throttle = llm();
    const cost = {
      cost: 1,
      get tokens(): number {
        throw new Error('a bad getter');
      },
    };
    await expect(throttle.acquire(cost)).rejects.toThrow('a bad getter');
    await expect(throttle.run(() => 1, cost)).rejects.toThrow('a bad getter');
    expect([throttle.tokens, throttle.levels, throttle.active]).toEqual([4, { tokens: 8 }, 0]);
  });
});

describe('a throttle with names', () => {
  test.each([4, { cost: 4 }, { input: 8 }, { output: 6 }, { cost: 0, input: 0, output: 0 }])(
    'a cost up to the burst of each rate is granted: %j',
    (cost) => {
      expect(model().tryAcquire(cost)).toBeDefined();
    },
  );

  test.each([
    [4.5, `cost must be at most 4, the burst of ${MODEL}, received 4.5`],
    [{ cost: 5 }, `cost.cost must be at most 4, the burst of ${MODEL}, received 5`],
    [{ input: 9 }, `cost.input must be at most 8, the burst of the rate "input" of ${MODEL}, received 9`],
    [{ input: 8, output: 7 }, `cost.output must be at most 6, the burst of the rate "output" of ${MODEL}, received 7`],
  ])('a cost above the burst of a rate is refused with the name of the rate: %j', (cost, message) => {
    const throttle = model();
    expect(() => throttle.tryAcquire(cost)).toThrow(new RangeError(message));
    expect([throttle.tokens, throttle.levels]).toEqual([4, { input: 8, output: 6 }]);
  });

  test('a number above the burst of a named rate is refused with the name of the rate', () => {
    const throttle = new Throttle(9, 0, 100, { also: [{ name: 'tokens', capacity: 3, period: 100 }] });
    expect(() => throttle.tryAcquire(4)).toThrow(/^cost must be at most 3, the burst of the rate "tokens" of Throttle/);
  });

  test.each([-Infinity, NaN])('a level of %d is refused', (level) => {
    const range = `must be a number above -Infinity, received ${level}`;
    expect(() => model().correct(level)).toThrow(new RangeError(`levels ${range}`));
    expect(() => model().correct({ output: level })).toThrow(new RangeError(`levels.output ${range}`));
  });

  test('tokens and burst exclude the named rates', () => {
    const throttle = llm();
    throttle.tryAcquire({ tokens: 8 });
    expect([throttle.tokens, throttle.burst, throttle.levels]).toEqual([3, 4, { tokens: 0 }]);
  });

  test('permit.costs and levels are frozen', () => {
    const throttle = llm();
    expect(Object.isFrozen(throttle.tryAcquire()?.costs)).toBe(true);
    expect(Object.isFrozen(throttle.levels)).toBe(true);
  });

  test('wrap and map take records, and functions that return records', async () => {
    const throttle = new Throttle(100, 0, 100, { clock: new ManualClock(), also: [{ name: 'tokens', capacity: 100 }] });
    await throttle.wrap((text: string) => text, { cost: 2, tokens: 3 })('a');
    await throttle.wrap(
      (text: string) => text,
      (text) => ({ tokens: text.length }),
    )('four');
    expect([throttle.tokens, throttle.levels]).toEqual([97, { tokens: 93 }]);
    expect(await throttle.map(['a', 'bb'], (text) => text.length, { cost: { tokens: 10 } })).toEqual([1, 2]);
    await throttle.map(['a', 'bb'], (text) => text.length, { cost: (text) => ({ cost: 0, tokens: text.length }) });
    expect([throttle.tokens, throttle.levels]).toEqual([95, { tokens: 70 }]);
    await expect(throttle.map(['a'], () => 1, { cost: { tokns: 1 } as never })).rejects.toThrow('cost.tokns');
  });

  test('a refused run refunds every rate', async () => {
    const throttle = llm();
    const controller = new AbortController();
    const job = throttle.run(() => 1, { cost: 2, tokens: 5 }, { signal: controller.signal });
    controller.abort(new Error('no longer needed'));
    await expect(job).rejects.toThrow('no longer needed');
    expect([throttle.tokens, throttle.levels]).toEqual([4, { tokens: 8 }]);
  });

  test('a timeout that a named rate makes impossible is refused at once, and the message shows the costs', async () => {
    const throttle = llm();
    throttle.tryAcquire({ tokens: 8 });
    await expect(throttle.acquire({ tokens: 4 }, { timeout: 10 })).rejects.toMatchObject({
      code: 'ERR_THROTTLE_TIMEOUT',
      retryAfter: 50,
      message: expect.stringContaining('for a cost of 1 ("tokens": 4) within the timeout of 10 s') as string,
    });
  });

  test('configure refuses the waiters that need more slots than the new concurrency', async () => {
    const throttle = new Throttle(Infinity, 3);
    const held = throttle.tryAcquire();
    const waiting = throttle.acquire(1, { slots: 3 });
    const next = throttle.acquire();
    throttle.configure({ concurrency: 2 });
    await expect(waiting).rejects.toThrow(
      'slots must be at most 2, the concurrency of Throttle (any rate, 2 at a time), received 3',
    );
    await next;
    held?.release();
    expect(throttle.active).toBe(1);
  });

  test('slots: 0 waits while more slots are active than a lower concurrency permits', async () => {
    const throttle = new Throttle(Infinity, 3);
    const held = [throttle.tryAcquire(), throttle.tryAcquire()];
    throttle.configure({ concurrency: 1 });
    let granted = false;
    const waiting = throttle.acquire(1, { slots: 0 }).then(() => (granted = true));
    await Promise.resolve();
    expect(granted).toBe(false);
    held[0]?.release();
    await waiting;
    expect(throttle.active).toBe(1);
  });

  test('a late debt of an evicted key is charged to the rate that it concerns, and a refund is not', async () => {
    const clock = new ManualClock();
    const keyed = new KeyedThrottle<string, 'tokens'>(4, 0, 1, {
      clock,
      also: [{ name: 'tokens', capacity: 8, window: 'sliding', period: 8 }],
    });
    const first = keyed.tryAcquire('ada', { cost: 2, tokens: 2 });
    first?.release();
    await clock.advance(8);
    expect(keyed.size).toBe(0);
    // The window of the grant is over, so the debt has no effect.
    first?.settle({ cost: 0, tokens: 9 });
    expect(keyed.peek('ada')?.levels ?? { tokens: 8 }).toEqual({ tokens: 8 });
    const second = keyed.tryAcquire('bob', { tokens: 0 });
    second?.release();
    await clock.advance(0.5);
    expect(keyed.size).toBe(0);
    second?.settle({ cost: 0, tokens: 5 });
    expect([keyed.peek('bob')?.tokens, keyed.peek('bob')?.levels]).toEqual([4, { tokens: 3 }]);
  });

  test.each([
    [{ cost: 0, tokens: 6 }, 1],
    [{ cost: 3, tokens: 6 }, 1],
    [{ cost: 0, tokens: 0 }, 5],
  ])(
    'a late settlement of %j charges only its debts to the throttle that has replaced an evicted one',
    async (cost, left) => {
      const clock = new ManualClock();
      const keyed = new KeyedThrottle<string, 'tokens'>(4, 0, 1, {
        clock,
        also: [{ name: 'tokens', capacity: 8, period: 8 }],
      });
      const first = keyed.tryAcquire('ada', { cost: 2, tokens: 2 });
      first?.release();
      await clock.advance(2);
      expect(keyed.size).toBe(0);
      keyed.tryAcquire('ada', { cost: 3, tokens: 3 });
      first?.settle(cost);
      // The main rate has refilled since. A debt of 4 tokens leaves 1 of 5.
      expect([keyed.peek('ada')?.tokens, keyed.peek('ada')?.levels]).toEqual([1, { tokens: left }]);
    },
  );

  test.each([
    ['an unlimited throttle', Infinity, 4],
    ['a limited throttle', 4, Infinity],
  ])('a late debt of %s has no effect after an eviction, where the limits differ now', async (_, capacity, later) => {
    const clock = new ManualClock();
    const keyed = new KeyedThrottle(capacity, 0, 1, { clock, window: 'sliding' });
    const first = keyed.tryAcquire('ada', 2);
    first?.release();
    await clock.advance(1);
    expect(keyed.size).toBe(0);
    keyed.tryAcquire('ada', 1);
    keyed.peek('ada')?.configure({ capacity: later });
    const before = keyed.peek('ada')?.tokens;
    first?.settle(9);
    expect([first?.cost, keyed.peek('ada')?.tokens]).toEqual([9, before]);
  });

  test('each key has a copy of an unlimited rate', () => {
    const also = [{ name: 'tokens', capacity: Infinity }, { capacity: 8 }] as const;
    const keyed = new KeyedThrottle<string, 'tokens'>(4, 0, 100, { clock: new ManualClock(), also });
    expect(keyed.tryAcquire('ada', { tokens: 1e9 })?.costs).toEqual({ tokens: 1e9 });
    expect(keyed.peek('ada')?.levels).toEqual({ tokens: Infinity });
  });

  test('a KeyedThrottle corrects the rates of one key', () => {
    const keyed = new KeyedThrottle<string, 'tokens'>(4, 0, 100, {
      also: [{ name: 'tokens', capacity: 8, period: 100 }],
      clock: new ManualClock(),
    });
    keyed.correct('bob', { tokens: 1 });
    expect([keyed.peek('bob')?.tokens, keyed.peek('bob')?.levels, keyed.peek('ada')]).toEqual([
      4,
      { tokens: 1 },
      undefined,
    ]);
    expect(() => keyed.correct('bob', { tokns: 1 } as never)).toThrow('levels.tokns');
  });

  test('corrections keep a bounded state', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(4, 0, 1, { clock, also: [{ name: 'tokens', capacity: 8, window: 'sliding' }] });
    for (let index = 0; index < 1_000; index++) {
      throttle.correct({ cost: index % 4, tokens: index % 8 });
      await clock.advance(0.25);
    }
    expect([throttle.tokens, throttle.levels]).toEqual([4, { tokens: 8 }]);
  });
});

test('messages contain costs and slots', async () => {
  const seen: unknown[] = [];
  const names = ['queued', 'granted', 'released', 'refused'];
  const listen = (message: unknown, name: string | symbol): void => {
    const { cost, costs, slots } = message as Record<string, unknown>;
    seen.push([String(name).slice('headgate:'.length), cost, costs, slots]);
  };
  for (const name of names) channel(`headgate:${name}`).subscribe(listen);
  try {
    const throttle = llm();
    const permit = await throttle.acquire({ tokens: 3 }, { slots: 2 });
    const waiting = throttle.acquire({ cost: 2, tokens: 1 });
    throttle.tryAcquire({ tokens: 2 });
    permit.settle({ tokens: 4 });
    permit.release();
    (await waiting).release();
    const plain = new Throttle(1);
    plain.tryAcquire()?.release();
  } finally {
    for (const name of names) channel(`headgate:${name}`).unsubscribe(listen);
  }
  expect(seen).toEqual([
    ['granted', 1, { tokens: 3 }, 2],
    ['queued', 2, { tokens: 1 }, 1],
    ['refused', 1, { tokens: 2 }, 1],
    ['released', 1, { tokens: 4 }, 2],
    ['granted', 2, { tokens: 1 }, 1],
    ['released', 2, { tokens: 1 }, 1],
    ['granted', 1, undefined, 1],
    ['released', 1, undefined, 1],
  ]);
});
