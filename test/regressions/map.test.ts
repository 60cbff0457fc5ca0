/** `map` pulls its source lazily, closes the source and rejects with the right error. */
import { getEventListeners, on } from 'node:events';
import { Readable } from 'node:stream';
import { ThrottleClosedError } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { setUp } from '../support/support.js';
import { expectNothingHeld, HOUR } from './expectations.js';

describe('trap 26: map pulls lazily [p-queue#204]', () => {
  /** A source that counts the items that were pulled, and how often it was closed. */
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
    test('map pulls an endless source at most one item ahead of slots and tokens', async () => {
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

    test('map returns all results of a finite source in the order of the items', async () => {
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

    test('a failed function rejects map at once, closes the source and starts no further item', async () => {
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

    test('an invalid cost rejects map and closes the source', async () => {
      const { clock, throttle } = setUp(10, 2);
      const source = new Source();
      await expect(throttle.map(iterate(source), () => 1, { cost: (item) => (item === 3 ? 11 : 1) })).rejects.toThrow(
        RangeError,
      );
      await clock.advance(0);
      expect([source.pulled, source.closed, throttle.active]).toEqual([4, 1, 0]);
    });
  });

  test('an abort rejects map while the source is pending, and closes the source later', async () => {
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

  test('close rejects map and closes its source', async () => {
    const { clock, throttle } = setUp(10);
    const source = new Source();
    const end = throttle.map(source, () => 1);
    await clock.advance(0);
    throttle.close();
    await expect(end).rejects.toBeInstanceOf(ThrottleClosedError);
    expect(source.closed).toBe(1);
  });

  test('a failed source rejects map with its error, and running work finishes', async () => {
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

  test('an item that is a rejected promise rejects map with its error and closes the source', async () => {
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

describe('map', () => {
  test('an item that rejects before its turn rejects only the map (FAULTS 5, crystal-pre-merge#397)', async () => {
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    try {
      for (const collection of [<T>(items: T[]) => items, <T>(items: T[]) => new Set(items)]) {
        const { throttle } = setUp(Infinity, 1);
        const slow = new Promise<number>((resolve) => void setTimeout(resolve, 20, 1));
        const done = throttle.map(collection([slow, Promise.reject(new Error('early'))]), (item) => item);
        await expect(done).rejects.toThrow('early');
      }
      await new Promise((resolve) => void setTimeout(resolve, 10));
      expect(unhandled).not.toHaveBeenCalled();
    } finally {
      process.off('unhandledRejection', unhandled);
    }
  });

  test.each([
    [null, 'null'],
    [undefined, 'undefined'],
    [5, '5'],
    [{}, 'object'],
  ])('map of %o rejects with the name of the argument (FAULTS 6)', async (items, shown) => {
    const { throttle } = setUp();
    await expect(throttle.map(items as never, () => 1)).rejects.toThrow(
      new TypeError(`items must be an Iterable or an AsyncIterable, received ${shown}`),
    );
  });

  describe('an abort closes the source at once, even while the next item is pending (FAULTS 13)', () => {
    const fail = async <T>(items: AsyncIterable<T>): Promise<void> => {
      const { throttle } = setUp();
      const stop = new AbortController();
      const done = throttle.map(items, (item) => item, { signal: stop.signal });
      await new Promise(setImmediate);
      stop.abort(new Error('stop'));
      await expect(done).rejects.toThrow('stop');
    };

    test('the iterator of events.on loses its listener', async () => {
      const target = new EventTarget();
      const added = vi.spyOn(target, 'addEventListener');
      const removed = vi.spyOn(target, 'removeEventListener');
      await fail(on(target as unknown as NodeJS.EventEmitter, 'item'));
      expect(removed.mock.calls.length).toBe(added.mock.calls.length);
    });

    test('a Node stream is destroyed', async () => {
      const stream = new Readable({ objectMode: true, read() {} });
      await fail(stream);
      expect(stream.destroyed).toBe(true);
    });

    test('a web stream is cancelled with the reason and unlocked', async () => {
      const cancel = vi.fn();
      const stream = new ReadableStream<number>({ cancel });
      await fail(stream as unknown as AsyncIterable<number>);
      expect(cancel.mock.calls).toEqual([[new Error('stop')]]);
      expect(stream.locked).toBe(false);
    });

    test('a web stream that ends is read to its end and unlocked', async () => {
      const { throttle } = setUp();
      const stream = new ReadableStream<number>({
        start(controller) {
          for (const item of [1, 2, 3]) controller.enqueue(item);
          controller.close();
        },
      });
      const items = stream as unknown as AsyncIterable<number>;
      expect(await throttle.map(items, (item) => item * 10)).toEqual([10, 20, 30]);
      expect(stream.locked).toBe(false);
    });

    test('a generator that aborts the map itself is closed', async () => {
      const { throttle } = setUp();
      const stop = new AbortController();
      const ended = vi.fn();
      function* items(): Generator<number> {
        try {
          stop.abort(new Error('stop'));
          yield 1;
        } finally {
          ended();
        }
      }
      await expect(throttle.map(items(), (item) => item, { signal: stop.signal })).rejects.toThrow('stop');
      await new Promise(setImmediate);
      expect(ended).toHaveBeenCalledTimes(1);
    });
  });
});
