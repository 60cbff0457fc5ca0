/**
 * `map` over anything that can be iterated: one loop that pulls, and as many workers as the gate lets in. And `wrap`.
 */
import { checkAcquireOptions, checkCost, checkFunction } from './validation.js';
import type { Gate } from './gate.js';
import { openSource, type Source } from './item-source.js';
import type { Permit } from './permit.js';

/** Settings of `map`. */
export interface MapOptions<T> {
  /** Tokens for each item, or a function that says how many. Default 1. */
  cost?: number | ((item: T) => number) | undefined;
  /** Ends it: nothing more is pulled or started, and the promise rejects with the signal's `reason`. */
  signal?: AbortSignal | undefined;
}

export function mapItems<T, R>(
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
    const source: Source<T> = openSource(items);

    const results: R[] = [];
    /** Aborts on the first failure: a waiter for a permit leaves the queue. */
    const end = new AbortController();
    /** The loop that pulls, and each worker. */
    let running = 1;

    const fail = (error: unknown): void => {
      if (end.signal.aborted) return;
      removeAbortListener();
      // At once, also while the next item is on its way: an iterator of events keeps its listener until it is closed.
      source.close(error);
      end.abort(error);
      reject(error);
    };
    const abort = (): void => fail(signal?.reason);
    const removeAbortListener = (): void => {
      try {
        signal?.removeEventListener('abort', abort);
      } catch {
        // A listener that stays does nothing any more.
      }
    };
    const done = (): void => {
      if (--running > 0) return;
      removeAbortListener();
      resolve(results);
    };

    const work = async (item: T, index: number, permit: Permit): Promise<void> => {
      running++;
      try {
        // An abort that comes before `fn` has started wins, also where the signal does not call its listeners.
        if (signal?.aborted) {
          permit.refund();
          throw signal.reason;
        }
        results[index] = await fn(item, index);
      } catch (error) {
        // Before the release, which would let the next one in.
        fail(error);
      } finally {
        permit.release();
      }
    };
    const pull = async (): Promise<void> => {
      for (let index = 0; ; index++) {
        const next = await source.next();
        if (next.done === true || end.signal.aborted) return;
        const item = next.value;
        const permit = await gate.acquire(typeof cost === 'function' ? cost(item) : cost, { signal: end.signal });
        if (end.signal.aborted) {
          // Granted in the very tick of the failure, and nothing was done with it.
          permit.refund();
          permit.release();
          return;
        }
        void work(item, index, permit).then(done);
      }
    };

    try {
      signal?.addEventListener('abort', abort);
    } catch (error) {
      fail(error);
    }
    pull().then(done, fail);
  });
}

/** A function with the parameters, the `this`, the name and the length of `fn` that runs each call through `gate`. */
export function wrapFunction<This, Args extends unknown[], R>(
  gate: Pick<Gate, 'run'>,
  fn: (this: This, ...args: Args) => R,
  cost: number | ((...args: Args) => number),
): (this: This, ...args: Args) => Promise<Awaited<R>> {
  checkFunction('fn', fn);
  if (typeof cost !== 'function') checkCost(cost);
  return copyMetadata(fn, async function (this: This, ...args: Args): Promise<Awaited<R>> {
    return gate.run<Awaited<R>>(
      () => fn.apply(this, args) as Awaited<R>,
      typeof cost === 'function' ? cost(...args) : cost,
    );
  });
}

/** `wrapper` with the name and the length of `fn`: frameworks look at both. */
export function copyMetadata<F>(fn: { readonly name: string; readonly length: number }, wrapper: F): F {
  Object.defineProperty(wrapper, 'name', { value: fn.name, configurable: true });
  return Object.defineProperty(wrapper, 'length', { value: fn.length, configurable: true });
}
