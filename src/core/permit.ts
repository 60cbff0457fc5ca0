/// <reference lib="esnext.disposable" preserve="true" />
/**
 * What a gate gives out: the right to work now, until it is released.
 */
import { addDisposal } from './dispose.js';
import { checkCost } from './validation.js';

/**
 * The right to do one piece of work. It holds a slot until it is released; its tokens stay spent.
 *
 * @example
 * import { Throttle } from 'headgate';
 *
 * const throttle = new Throttle(10, 2);
 * const permit = await throttle.acquire(5);
 * try {
 *   console.log(`waited ${permit.waited} s for ${permit.cost} tokens`);
 * } finally {
 *   permit.release();
 * }
 */
export interface Permit extends Disposable, AsyncDisposable {
  /** The tokens it counts for: what was asked, or the true cost once it is settled. */
  readonly cost: number;
  /** Seconds between the call of `acquire` and the grant. */
  readonly waited: number;
  /** Whether the slot was given back. */
  readonly released: boolean;
  /** Gives the slot back. Any further call does nothing. `using` and `await using` call it when the block ends. */
  release(): void;
  /**
   * States the true cost, where it is known only afterwards: the difference is given back, or taken as a debt that
   * later waiters pay. It counts once, before or after `release`; any further call does nothing.
   *
   * What is given back never buys more than if the true cost had been asked for in the first place: tokens that
   * would have overflowed a full bucket in the meantime are gone.
   *
   * @param cost The true cost in tokens: finite and >= 0. It may exceed `burst`.
   * @throws {RangeError | TypeError} `cost` is out of range. Nothing changes then.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const tokens = new Throttle(100_000, 0, 60);          // 100,000 tokens of a model per minute
   * await tokens.run(async (permit) => {
   *   const answer = { text: 'hello', tokensUsed: 1_200 };
   *   permit.settle(answer.tokensUsed);
   * }, 4_000);                                             // 2,800 of them come back
   */
  settle(cost: number): void;
  /** `settle(0)`: for work that never reached the upstream. */
  refund(): void;
}

/** How a permit reports back to the gate that issued it. */
export interface Issuer {
  onRelease(permit: Grant): void;
  onSettle(permit: Grant, difference: number): void;
}

/** What has happened to a permit: one field for both, since permits are made by the million. */
const RELEASED = 1;
const SETTLED = 2;

/** `Symbol.dispose` when the last permit was made: a polyfill may come later. */
let disposeKey: symbol | undefined;

/** The permit of a {@link Throttle}. */
export class Grant implements Omit<Permit, keyof Disposable | keyof AsyncDisposable> {
  readonly #issuer: Issuer;
  #state = 0;
  /**
   * Resolving a promise with an object asks it for `then`. Found here, the search ends before Object.prototype:
   * a tenth of what an uncontended `acquire` takes.
   */
  declare readonly then: undefined;
  static {
    (Grant.prototype as { then: undefined }).then = undefined;
  }

  cost: number;
  readonly waited: number;
  /** The number of this grant: the grants of a gate are numbered in their order. */
  readonly serial: number;

  constructor(issuer: Issuer, cost: number, waited: number, serial: number) {
    this.#issuer = issuer;
    this.cost = cost;
    this.waited = waited;
    this.serial = serial;
    if (disposeKey !== Symbol.dispose || disposeKey === undefined) addDisposals();
  }

  get released(): boolean {
    return (this.#state & RELEASED) !== 0;
  }

  release(): void {
    const state = this.#state;
    if ((state & RELEASED) !== 0) return;
    this.#state = state | RELEASED;
    this.#issuer.onRelease(this);
  }

  settle(cost: number): void {
    checkCost(cost);
    if ((this.#state & SETTLED) !== 0) return;
    this.#state |= SETTLED;
    const difference = cost - this.cost;
    this.cost = cost;
    if (difference !== 0) this.#issuer.onSettle(this, difference);
  }

  refund(): void {
    this.settle(0);
  }
}

/** Both ways of `using` release; {@link addDisposal} adds them. */
export interface Grant extends Disposable, AsyncDisposable {}

function addDisposals(): void {
  disposeKey = Symbol.dispose;
  addDisposal(Grant.prototype, 'dispose', function () {
    this.release();
  });
  addDisposal(Grant.prototype, 'asyncDispose', async function () {
    this.release();
  });
}

/**
 * Calls `fn`, and releases before the caller can see that what it returned has settled. A `signal` that has aborted before
 * wins: `fn` is not called, and the permit is given back with its tokens.
 */
export function runWithPermit<P extends Permit, T>(
  fn: (permit: P) => T | PromiseLike<T>,
  permit: P,
  signal: AbortSignal | undefined,
): Promise<T> {
  let result: T | PromiseLike<T>;
  try {
    if (signal?.aborted) {
      permit.refund();
      throw signal.reason;
    }
    result = fn(permit);
  } catch (error) {
    permit.release();
    throw error;
  }
  // An async function with a `finally` would say the same and take a third longer.
  return Promise.resolve(result).then(
    (value) => {
      permit.release();
      return value;
    },
    (error: unknown) => {
      permit.release();
      throw error;
    },
  );
}
