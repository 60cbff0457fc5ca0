/**
 * The `map` and `wrap` methods of gates. `map` has one loop that reads items, and one worker per granted permit.
 */
import type { Cost } from './cost.js';
import { callFrom, runJob } from './development.js';
import { checkOptionNames } from './option-names.js';
import { checkCost, checkFunction, checkObject, checkSignal } from './validation.js';
import type { Gate } from './gate.js';
import { openSource, type Source } from './item-source.js';
import type { Permit } from './permit.js';

/** Settings of `map`. */
export interface MapOptions<T, Name extends string = string> {
  /** The cost of each item, or a function that computes the cost from the item. Default 1. */
  cost?: Cost<Name> | ((item: T) => Cost<Name>) | undefined;
  /** An abort stops `map`: no further item is read or started, and the promise rejects with the signal's `reason`. */
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
    checkObject('options', options);
    checkOptionNames('map', options, ['cost', 'signal']);
    const { cost = 1, signal } = options;
    checkSignal(signal);
    if (typeof cost !== 'function' && typeof cost !== 'object') checkCost(cost);
    const source: Source<T> = openSource(items);

    const results: R[] = [];
    /** Aborts on the first failure, which cancels the waiter of the loop. */
    const end = new AbortController();
    /** The number of running tasks: the loop, and each worker. */
    let running = 1;

    const fail = (error: unknown): void => {
      if (end.signal.aborted) return;
      removeAbortListener();
      // Close the source at once, also during a pending read: an iterator of events keeps its listener until then.
      source.close(error);
      end.abort(error);
      reject(error);
    };
    const abort = (): void => fail(signal?.reason);
    const removeAbortListener = (): void => {
      try {
        signal?.removeEventListener('abort', abort);
      } catch {
        // After the end of `map`, the remaining listener has no effect.
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
        // An abort before the start of `fn` wins, also if the signal does not call its listeners.
        if (signal?.aborted) {
          permit.refund();
          throw signal.reason;
        }
        results[index] = await runJob(() => fn(item, index), permit);
      } catch (error) {
        // Stop before the release: the release could grant the next item.
        fail(error);
      } finally {
        permit.release();
      }
    };
    const readItems = async (): Promise<void> => {
      for (let index = 0; ; index++) {
        const next = await source.next();
        if (next.done === true || end.signal.aborted) return;
        const item = next.value;
        const permit = await gate.acquire(typeof cost === 'function' ? cost(item) : cost, { signal: end.signal });
        if (end.signal.aborted) {
          // The gate granted this permit in the tick of the failure. Return the unused tokens.
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
    // The signal may have thrown, or called its new listener at once. No item is read then.
    if (!end.signal.aborted) callFrom(readItems).then(done, fail);
  });
}

/**
 * Returns a function with the parameters, `this`, name and length of `fn`. Each call runs `fn` with a permit of `gate`.
 */
export function wrapFunction<This, Args extends unknown[], R>(
  gate: Pick<Gate, 'run'>,
  fn: (this: This, ...args: Args) => R,
  cost: Cost | ((...args: Args) => Cost),
): (this: This, ...args: Args) => Promise<Awaited<R>> {
  checkFunction('fn', fn);
  if (typeof cost !== 'function' && typeof cost !== 'object') checkCost(cost);
  return copyMetadata(fn, async function (this: This, ...args: Args): Promise<Awaited<R>> {
    return gate.run<Awaited<R>>(
      () => fn.apply(this, args) as Awaited<R>,
      typeof cost === 'function' ? cost(...args) : cost,
    );
  });
}

/** Gives `wrapper` the name and the length of `fn`, and returns it. Frameworks read both properties. */
export function copyMetadata<F>(fn: { readonly name: string; readonly length: number }, wrapper: F): F {
  Object.defineProperty(wrapper, 'name', { value: fn.name, configurable: true });
  return Object.defineProperty(wrapper, 'length', { value: fn.length, configurable: true });
}
