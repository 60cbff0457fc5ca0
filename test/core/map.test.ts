/** The `wrap` and `map` methods. */
import { getEventListeners } from 'node:events';
import { type Gate, type Permit, ThrottleClosedError } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { mapItems } from '../../src/core/map.js';
import { setUp } from '../support/support.js';

const untyped = (value: unknown): never => value as never;

describe('wrap', () => {
  test('passes `this`, arguments and result through, and computes the cost from the arguments', async () => {
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

test.each([-1, NaN, '1'])('wrap refuses the cost %j before the first call', (cost) => {
  expect(() => setUp().throttle.wrap(() => 1, untyped(cost))).toThrow(/^cost must be a finite number >= 0/);
});

test('a wrapper has the name and the length of its function, as configurable as on any function', () => {
  const wrapped = setUp().throttle.wrap(function send(to: string, text: string) {
    return to + text;
  });
  expect(Object.getOwnPropertyDescriptors(wrapped)).toMatchObject({
    name: { value: 'send', writable: false, configurable: true, enumerable: false },
    length: { value: 2, writable: false, configurable: true, enumerable: false },
  });
});

describe('map', () => {
  test('returns a permit that arrives after the first failure, and starts no function', async () => {
    const grants: ((permit: Permit) => void)[] = [];
    const gate = { acquire: () => new Promise<Permit>((resolve) => grants.push(resolve)) };
    const [first, second] = [1, 2].map(() => ({ refund: vi.fn(), release: vi.fn() }) as unknown as Permit);
    let failFirst: (error: Error) => void = () => {};
    const fn = vi.fn(() => new Promise<void>((_, reject) => (failFirst = reject)));
    const mapped = mapItems(gate as unknown as Gate, [1, 2], fn);
    await new Promise(setImmediate);
    grants[0]?.(first as Permit);
    await new Promise(setImmediate);
    failFirst(new Error('first'));
    await expect(mapped).rejects.toThrow('first');
    grants[1]?.(second as Permit);
    await new Promise(setImmediate);
    expect(fn.mock.calls).toEqual([[1, 0]]);
    expect(first?.refund).not.toHaveBeenCalled();
    expect(first?.release).toHaveBeenCalledOnce();
    expect(second?.refund).toHaveBeenCalledOnce();
    expect(second?.release).toHaveBeenCalledOnce();
  });

  const stop = new Error('stop');
  test.each([
    [
      'throws for its listener',
      () => {
        throw stop;
      },
    ],
    ['calls its listener at once', (listener: () => void) => listener()],
  ])('reads no item if the signal %s, and closes the source once', async (_, onListener) => {
    const signal = {
      aborted: false,
      reason: stop,
      addEventListener: (__: string, listener: () => void) => onListener(listener),
      removeEventListener() {},
    };
    const iterator = { next: vi.fn(() => ({ done: true })), return: vi.fn(() => ({})) };
    const { throttle } = setUp();
    const items = { [Symbol.iterator]: () => iterator };
    await expect(throttle.map(untyped(items), () => 1, { signal: untyped(signal) })).rejects.toBe(stop);
    await new Promise(setImmediate);
    expect([iterator.next.mock.calls.length, iterator.return.mock.calls.length]).toEqual([0, 1]);
  });

  test('names itself in the message of an unknown option', async () => {
    await expect(setUp().throttle.map([], () => 1, untyped({ limit: 1 }))).rejects.toThrow(
      'unknown option "limit" of map; its options are cost, signal',
    );
  });

  test('a signal that aborts without its listeners stops the next item before its function starts', async () => {
    const { throttle } = setUp(10, 1);
    const held = throttle.tryAcquire(0);
    const reason = new Error('stop');
    const signal = { aborted: false, reason, addEventListener() {}, removeEventListener() {} };
    const fn = vi.fn<() => void>();
    const mapped = throttle.map([1, 2], fn, { signal: signal as unknown as AbortSignal });
    await Promise.resolve();
    signal.aborted = true;
    held?.release();
    await expect(mapped).rejects.toBe(reason);
    expect(fn).not.toHaveBeenCalled();
    expect([throttle.active, throttle.tokens]).toEqual([0, 10]);
  });

  test('returns results in item order, passes the index, and accepts any iterable', async () => {
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

  test('takes the cost of each item', async () => {
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

  test('the first failure rejects at once, starts no further item and closes the iterator', async () => {
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

  test('calls the cost function for no item after the first failure', async () => {
    const { throttle } = setUp(Infinity);
    let next: ((item: number) => void) | undefined;
    async function* items(): AsyncGenerator<number> {
      yield 1;
      yield await new Promise<number>((resolve) => (next = resolve));
    }
    const pricedItems: number[] = [];
    const all = throttle.map(items(), () => Promise.reject(new Error('first')), {
      cost: (item) => pricedItems.push(item),
    });
    await expect(all).rejects.toThrow('first');
    next?.(2);
    await new Promise((resolve) => void setTimeout(resolve, 1));
    expect(pricedItems).toEqual([1]);
  });

  test('a second failure causes no unhandled rejection', async () => {
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

  test('the source is closed once, also after a second failure', async () => {
    const { throttle } = setUp(Infinity);
    let value = 0;
    const iterator = { next: () => ({ done: false, value: value++ }), return: vi.fn(() => ({})) };
    const fails: ((error: Error) => void)[] = [];
    const fn = (): Promise<never> => new Promise((_, reject) => fails.push(reject));
    const mapped = throttle.map(untyped({ [Symbol.iterator]: () => iterator }), fn);
    while (fails.length < 2) await Promise.resolve();
    for (const fail of fails) fail(new Error('failed'));
    await expect(mapped).rejects.toThrow('failed');
    await new Promise(setImmediate);
    expect(iterator.return).toHaveBeenCalledOnce();
  });

  test('removes its listener from the signal, after success and after failure', async () => {
    const { throttle } = setUp(Infinity, 1);
    const { signal } = new AbortController();
    await throttle.map([1, 2], (item) => item, { signal });
    await throttle.map([1, 2], () => Promise.reject(new Error('x')), { signal }).catch(() => {});
    await throttle.map([], () => 1, { signal });
    expect(getEventListeners(signal, 'abort').length).toBe(0);
  });

  test('closes a synchronous source whose item rejects, and rejects for a value that is not iterable', async () => {
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
    await expect(throttle.map(untyped(5), () => 1)).rejects.toThrow(TypeError);
  });

  test('rejects if the source fails, a cost exceeds the burst, or the throttle is closed', async () => {
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

  test('an abort stops it: before the call, during the wait, and in the tick of a grant', async () => {
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
