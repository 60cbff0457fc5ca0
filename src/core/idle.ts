/** The callers that wait until a gate is idle, or until its queue is short. */
import { checkOptionNames } from './option-names.js';
import { checkInteger, checkObject } from './validation.js';

/** Settings of `idle`. */
export interface IdleOptions {
  /**
   * Resolve once fewer than this number of callers wait: an integer >= 1. Running work is then ignored. Default: resolve
   * once no caller waits and every permit is released.
   */
  below?: number | undefined;
}

/** Throws unless `options` are valid {@link IdleOptions}. Returns `below`, or 0 for a gate that must be idle. */
export function readBelow(options: IdleOptions): number {
  checkObject('options', options);
  checkOptionNames('idle', options, ['below']);
  const { below } = options;
  if (below !== undefined) checkInteger('below', 'an integer >= 1', below, 1, Number.MAX_VALUE);
  return below ?? 0;
}

export class IdleListeners {
  /** The listeners by their `below`. Usually all listeners share one value, so `notify` takes O(1) time. */
  readonly #resolvers = new Map<number, (() => void)[]>();

  get isEmpty(): boolean {
    return this.#resolvers.size === 0;
  }

  /** Resolves with the next call of `notify` that fulfils the condition. */
  add(below: number): Promise<void> {
    return new Promise((resolve) => {
      const resolvers = this.#resolvers.get(below);
      if (resolvers === undefined) this.#resolvers.set(below, [resolve]);
      else resolvers.push(resolve);
    });
  }

  /** Called when a caller has left the queue, and when a gate may have become idle. It runs no code of a user. */
  notify(isIdle: boolean, waiting: number): void {
    for (const [below, resolvers] of this.#resolvers) {
      if (below === 0 ? !isIdle : waiting >= below) continue;
      this.#resolvers.delete(below);
      for (const resolve of resolvers) resolve();
    }
  }
}
