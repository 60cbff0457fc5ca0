/** The sources of `map` by themselves: what closes an iterator, a stream or a reader. */
import { expect, type Mock, test, vi } from 'vitest';
import { openSource } from '../../src/core/item-source.js';

/** An iterator over 1 and 2 that fails in place of its end if `fails`, and counts the calls of `return`. */
function iteratorOf(fails: boolean): { next(): IteratorResult<number>; return: Mock<() => IteratorResult<number>> } {
  let value = 0;
  return {
    next() {
      value++;
      if (fails && value > 2) throw new Error('no more');
      return value > 2 ? { done: true, value: undefined } : { done: false, value };
    },
    return: vi.fn<() => IteratorResult<number>>(() => ({ done: true, value: undefined })),
  };
}

const kinds: Record<string, (iterator: ReturnType<typeof iteratorOf>) => Iterable<number> | AsyncIterable<number>> = {
  'a synchronous source': (iterator) => ({ [Symbol.iterator]: () => iterator }),
  'an asynchronous source': ({ next, return: close }) => ({
    [Symbol.asyncIterator]: () => ({ next: async () => next(), return: async () => close() }),
  }),
};

test.each(
  Object.keys(kinds).flatMap((kind) => [
    [kind, 'that is closed early', false, 1, 1],
    [kind, 'that has ended', false, 3, 0],
    [kind, 'that has failed', true, 3, 0],
  ]) as [string, string, boolean, number, number][],
)('%s %s', async (kind, _, fails, reads, closings) => {
  const iterator = iteratorOf(fails);
  const source = openSource((kinds[kind] as (typeof kinds)[string])(iterator));
  for (let read = 0; read < reads; read++) await source.next().catch(() => {});
  source.close(new Error('stop'));
  expect(iterator.return).toHaveBeenCalledTimes(closings);
});

test('an asynchronous source is closed once', async () => {
  const iterator = iteratorOf(false);
  const source = openSource((kinds['an asynchronous source'] as (typeof kinds)[string])(iterator));
  source.close(undefined);
  source.close(undefined);
  expect(iterator.return).toHaveBeenCalledOnce();
});

test.each([
  ['a Node stream', 1, { pipe() {} }],
  ['another object with a method `destroy`', 0, {}],
])('%s is destroyed %d times', (_, times, more) => {
  const destroy = vi.fn();
  const items = { [Symbol.asyncIterator]: () => ({ next: async () => ({ done: false, value: 1 }) }), destroy, ...more };
  openSource(items as AsyncIterable<number>).close(undefined);
  expect(destroy).toHaveBeenCalledTimes(times);
});

test('a web stream is cancelled and unlocked', async () => {
  const cancel = vi.fn();
  const stream = new ReadableStream<number>({ pull: (controller) => controller.enqueue(1), cancel });
  const source = openSource(stream as unknown as AsyncIterable<number>);
  expect(await source.next()).toMatchObject({ done: false, value: 1 });
  const reason = new Error('stop');
  source.close(reason);
  expect([cancel.mock.calls, stream.locked]).toEqual([[[reason]], false]);
});
