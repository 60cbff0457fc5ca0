/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A permit is the right to do one piece of work. A gate grants a permit; the holder releases the permit.
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
  /** Tokens: the requested cost; after `settle`, the true cost. */
  readonly cost: number;
  /** Seconds between the call of `acquire` and the grant. */
  readonly waited: number;
  /** Whether `release` has been called. */
  readonly released: boolean;
  /**
   * Returns the slot. Further calls have no effect. `using` and `await using` call `release` at the end of the block.
   */
  release(): void;
  /**
   * States the true cost of the work, if it differs from the requested cost. A lower cost returns tokens. A higher
   * cost leaves a debt, which delays later waiters. Only the first call has an effect, before or after `release`.
   *
   * Afterwards, the bucket holds the tokens that it would hold if the caller had requested the true cost. Tokens that
   * would have overflowed a full bucket in the meantime do not return.
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
   * }, 4_000);                                             // 2,800 tokens return to the bucket
   */
  settle(cost: number): void;
  /** Calls `settle(0)`: for work that never reached the upstream. */
  refund(): void;
}

/** The gate that issued a permit. */
export interface Issuer {
  onRelease(permit: Grant): void;
  onSettle(permit: Grant, difference: number): void;
}

/** Bits of `Grant.#state`. One field holds both bits, because a program creates millions of permits. */
const RELEASED = 1;
const SETTLED = 2;

/** The value of `Symbol.dispose` at the creation of the latest permit. A polyfill may define it later. */
let disposeKey: symbol | undefined;

/** The permit of a {@link Throttle}. */
export class Grant implements Omit<Permit, keyof Disposable | keyof AsyncDisposable> {
  readonly #issuer: Issuer;
  #state = 0;
  /**
   * A promise that resolves with an object looks up `then`. This property ends the lookup before `Object.prototype`,
   * which saves a tenth of the time of an uncontended `acquire`.
   */
  declare readonly then: undefined;

  cost: number;
  readonly waited: number;
  /** The serial number of the grant: the grants of a gate are numbered in order. */
  readonly serial: number;

  constructor(issuer: Issuer, cost: number, waited: number, serial: number) {
    this.#issuer = issuer;
    this.cost = cost;
    this.waited = waited;
    this.serial = serial;
    if (disposeKey !== Symbol.dispose || disposeKey === undefined) completePrototype();
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

/** `using` and `await using` release the permit. {@link addDisposal} adds both methods. */
export interface Grant extends Disposable, AsyncDisposable {}

/** Completes the prototype. The first permit calls it, because code that runs at import would prevent tree shaking. */
function completePrototype(): void {
  (Grant.prototype as { then: undefined }).then = undefined;
  disposeKey = Symbol.dispose;
  addDisposal(Grant.prototype, 'dispose', function () {
    this.release();
  });
  addDisposal(Grant.prototype, 'asyncDispose', async function () {
    this.release();
  });
}

/**
 * Calls `fn` and releases the permit before the returned promise settles. If `signal` has already aborted, `fn` is not
 * called, the permit is refunded and released, and the function throws the reason of the signal.
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
  // An async function with `finally` takes a third longer.
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
