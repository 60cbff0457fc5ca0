/**
 * The items of `map`, read one at a time from any iterable that `for await` accepts. Unlike with `for await`, a source
 * can be closed while a read of the next item is pending. An iterator of events then removes its listener, and a stream
 * is destroyed.
 */
import { isPromiseLike } from './promise-like.js';
import { invalid } from './validation.js';

/** A source of items. */
export interface Source<T> {
  /** Reads the next item. Rejects with the error of the iterator, or of a promise that the iterator returned. */
  next(): Promise<IteratorResult<T, unknown>>;
  /** Closes the source; has no effect after its end or its failure. Does not wait and never throws. */
  close(reason: unknown): void;
}

/** The methods of a `node:stream` or a web stream that this file uses. */
interface Stream {
  destroy?: (error?: unknown) => unknown;
  pipe?: unknown;
  getReader?: () => ReadableStreamDefaultReader<unknown>;
}

const noop = (): void => {};

/** @throws {TypeError} `items` is not iterable. Also throws the error of the iterator method. */
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
  let ended = false;
  return {
    async next() {
      try {
        const next = await iterator.next();
        ended ||= next.done === true;
        return next;
      } catch (error) {
        ended = true;
        throw error;
      }
    },
    close() {
      if (ended) return;
      ended = true;
      // The iterator of a Node stream is a generator. Its `return` waits for a pending read; `destroy` does not wait.
      const stream = items as Stream;
      if (typeof stream.pipe === 'function') attempt(() => stream.destroy?.());
      attempt(() => iterator.return?.());
    },
  };
}

function fromSync<T>(items: Iterable<T | PromiseLike<T>>): Source<T> {
  // An array or a set may hold promises. A promise that rejects before its turn would be an unhandled rejection.
  if (Array.isArray(items) || items instanceof Set)
    for (const item of items as Iterable<unknown>) ignoreRejection(item);
  const iterator = items[Symbol.iterator]();
  let ended = false;
  let closed = false;
  const close = (): void => {
    closed = true;
    if (!ended) attempt(() => iterator.return?.());
  };
  return {
    async next() {
      let next;
      try {
        next = iterator.next();
        ended ||= next.done === true;
      } catch (error) {
        ended = true;
        throw error;
      }
      // If `next` itself closed the source, a running generator could not return then. Close it now.
      if (closed) close();
      return next.done === true ? next : { done: false, value: await next.value };
    },
    close,
  };
}

/** Prevents an unhandled rejection if `item` is a promise. */
function ignoreRejection(item: unknown): void {
  if (isPromiseLike(item)) Promise.resolve(item).catch(noop);
}

/** Calls `fn`, and ignores what it throws or rejects with. */
function attempt(fn: () => unknown): void {
  try {
    ignoreRejection(fn());
  } catch {
    // The source is closed, so its errors have no receiver.
  }
}
