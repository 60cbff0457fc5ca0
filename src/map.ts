/**
 * `map` over anything that can be iterated: one loop that pulls, and as many workers as the gate lets in. And `wrap`.
 */
import { checkAcquireOptions, checkCost, checkFunction } from './errors.js';
import type { Gate } from './gate.js';
import type { Permit } from './permit.js';

/** Settings of `map`. */
export interface MapOptions<T> {
  /** Tokens for each item, or a function that says how many. Default 1. */
  cost?: number | ((item: T) => number) | undefined;
  /** Ends it: nothing more is pulled or started, and the promise rejects with the signal's `reason`. */
  signal?: AbortSignal | undefined;
}

export function mapThrough<T, R>(
  gate: Pick<Gate, 'acquire'>,
  items: Iterable<T | PromiseLike<T>> | AsyncIterable<T>,
  fn: (item: T, index: number) => R | PromiseLike<R>,
  options: MapOptions<T> = {},
): Promise<R[]> {
  return new Promise((resolve, reject) => {
    checkFunction('fn', fn);
    checkAcquireOptions(options);
    const { cost = 1, signal } = options;
    if (typeof cost !== 'function') checkCost(cost);

    const results: R[] = [];
    /** Aborts on the first failure: whatever waits for a permit leaves the queue. */
    const end = new AbortController();
    /** The loop that pulls, and each worker. */
    let running = 1;

    const fail = (error: unknown): void => {
      signal?.removeEventListener('abort', abort);
      end.abort(error);
      reject(error);
    };
    const abort = (): void => fail(signal?.reason);
    const done = (): void => {
      if (--running > 0) return;
      signal?.removeEventListener('abort', abort);
      resolve(results);
    };

    const work = async (item: T, index: number, permit: Permit): Promise<void> => {
      running++;
      try {
        results[index] = await fn(item, index);
      } catch (error) {
        // Before the release, which would let the next one in.
        fail(error);
      } finally {
        permit.release();
      }
    };
    const pull = async (): Promise<void> => {
      const stream = items as AsyncIterable<T>;
      let index = 0;
      for await (const item of stream[Symbol.asyncIterator] ? stream : awaited(items as Iterable<T>)) {
        if (end.signal.aborted) return;
        const permit = await gate.acquire(typeof cost === 'function' ? cost(item) : cost, { signal: end.signal });
        if (end.signal.aborted) {
          // Granted in the very tick of the failure, and nothing was done with it.
          permit.refund();
          permit.release();
          return;
        }
        void work(item, index++, permit).then(done);
      }
    };

    signal?.addEventListener('abort', abort);
    pull().then(done, fail);
  });
}

/** `for await` does as much, but for one thing: where a value rejects, some engines leave a synchronous source open. */
async function* awaited<T>(items: Iterable<T | PromiseLike<T>>): AsyncGenerator<T> {
  for (const item of items) yield await item;
}

/** A function with the parameters and the `this` of `fn` that runs each call through `gate`. */
export function wrapThrough<This, Args extends unknown[], R>(
  gate: Pick<Gate, 'run'>,
  fn: (this: This, ...args: Args) => R,
  cost: number | ((...args: Args) => number),
): (this: This, ...args: Args) => Promise<Awaited<R>> {
  checkFunction('fn', fn);
  return async function (this: This, ...args: Args): Promise<Awaited<R>> {
    return gate.run<Awaited<R>>(() => fn.apply(this, args) as Awaited<R>, typeof cost === 'function' ? cost(...args) : cost);
  };
}
