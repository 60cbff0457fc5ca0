/**
 * The items of `map`, pulled one at a time from anything that `for await` takes. Unlike `for await`, a source can be closed
 * while the next item is on its way: an iterator of events then removes its listener, and a stream is destroyed.
 */
import { invalid } from './validation.js';

/** A source of items. */
export interface Source<T> {
  /** The next item. It rejects with what the iterator, or a promise in it, throws or rejects with. */
  next(): Promise<IteratorResult<T, unknown>>;
  /** Tells the source that no more items are wanted, and why. It does not wait, and never throws. A source that has ended or failed is left alone. */
  close(reason: unknown): void;
}

/** What a stream has beside its iterator: of `node:stream`, or of the web. */
interface Stream {
  destroy?: (error?: unknown) => unknown;
  pipe?: unknown;
  getReader?: () => ReadableStreamDefaultReader<unknown>;
}

const ignore = (): void => {};

/** @throws {TypeError} `items` cannot be iterated. And whatever its iterator method throws. */
export function openSource<T>(items: Iterable<T | PromiseLike<T>> | AsyncIterable<T>): Source<T> {
  const { getReader } = Object(items) as Stream;
  if (typeof getReader === 'function') return fromReader<T>(getReader.call(items));
  const iterable = Object(items) as Partial<Iterable<T | PromiseLike<T>> & AsyncIterable<T>>;
  if (typeof iterable[Symbol.asyncIterator] === 'function') return fromAsync(items as AsyncIterable<T>);
  if (typeof iterable[Symbol.iterator] === 'function') return fromSync(items as Iterable<T | PromiseLike<T>>);
  throw invalid('items', 'an Iterable or an AsyncIterable', items);
}

function fromReader<T>(reader: ReadableStreamDefaultReader<unknown>): Source<T> {
  return {
    async next() {
      const next = (await reader.read()) as IteratorResult<T, unknown>;
      if (next.done === true) reader.releaseLock();
      return next;
    },
    close(reason) {
      attempt(() => reader.cancel(reason));
      attempt(() => reader.releaseLock());
    },
  };
}

function fromAsync<T>(items: AsyncIterable<T>): Source<T> {
  const iterator = items[Symbol.asyncIterator]();
  let over = false;
  return {
    async next() {
      try {
        const next = await iterator.next();
        over ||= next.done === true;
        return next;
      } catch (error) {
        over = true;
        throw error;
      }
    },
    close() {
      if (over) return;
      over = true;
      // The iterator of a Node stream is a generator: while an item is on its way, `return` has to wait, and `destroy` does not.
      const stream = items as Stream;
      if (typeof stream.pipe === 'function') attempt(() => stream.destroy?.());
      attempt(() => iterator.return?.());
    },
  };
}

function fromSync<T>(items: Iterable<T | PromiseLike<T>>): Source<T> {
  // All promises of a collection are there already. One that rejects before its turn would be an unhandled rejection.
  if (Array.isArray(items) || items instanceof Set) for (const item of items as Iterable<unknown>) handle(item);
  const iterator = items[Symbol.iterator]();
  let over = false;
  let closed = false;
  const close = (): void => {
    closed = true;
    if (!over) attempt(() => iterator.return?.());
  };
  return {
    async next() {
      let next;
      try {
        next = iterator.next();
        over ||= next.done === true;
      } catch (error) {
        over = true;
        throw error;
      }
      // Closed from within `next`, a generator was running and could not end.
      if (closed) close();
      return next.done === true ? next : { done: false, value: await next.value };
    },
    close,
  };
}

/** Sees to it that a promise is not an unhandled rejection. */
function handle(item: unknown): void {
  if (typeof (item as { then?: unknown } | null | undefined)?.then === 'function') Promise.resolve(item).catch(ignore);
}

/** Calls `fn`, and ignores what it throws or rejects with. */
function attempt(fn: () => unknown): void {
  try {
    handle(fn());
  } catch {
    // The source is not wanted any more.
  }
}
