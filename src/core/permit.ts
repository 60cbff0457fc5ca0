/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A permit is the right to do one piece of work. A gate grants a permit; the holder releases the permit.
 */
import { addDisposal } from './dispose.js';
import { type Cost, costsByName, type NamedRates, readSettlement, Terms } from './cost.js';
import { runJob } from './development.js';
import type { PermitExpiredError } from './errors.js';
import { addInspection, type PermitData, readFields } from './inspect.js';
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
export interface Permit<Name extends string = string> extends Disposable, AsyncDisposable {
  /**
   * Tokens that the permit cost the main rate and every rate without a name: as requested; after `settle`, the true
   * cost.
   */
  readonly cost: number;
  /** Tokens that the permit cost each named rate: as requested; after `settle`, the true cost. Frozen. */
  readonly costs: Readonly<Record<Name, number>>;
  /** The number of slots that the permit took of the concurrency limit. On Redis: the numbers of these slots. */
  readonly slots: number | readonly number[];
  /**
   * Aborts when the permit is lost, with a {@link PermitExpiredError} after the `ttl` of the throttle. Pass the signal
   * to the work, so that the work stops when its slot is free for another caller.
   */
  readonly signal: AbortSignal;
  /** Seconds between the call of `acquire` and the grant. */
  readonly waited: number;
  /** Whether the permit no longer holds its slots: `release` has been called, or the permit is lost. */
  readonly released: boolean;
  /**
   * Returns the slot. Further calls have no effect. `using` and `await using` call `release` at the end of the block.
   */
  release(): void;
  /**
   * States the true cost of the work, if it differs from the requested cost. A lower cost returns tokens. A higher
   * cost leaves a debt, which delays later waiters. A number settles every rate. A record settles the rates that it
   * names, where `cost` names the main rate and every rate without a name. Each rate settles once, before or after
   * `release`: a later cost of a settled rate has no effect.
   *
   * Afterwards, the bucket holds the tokens that it would hold if the caller had requested the true cost. Tokens that
   * would have overflowed a full bucket in the meantime do not return.
   *
   * @param cost The true cost in tokens, or a record of true costs: each finite and >= 0. It may exceed `burst`.
   * @throws {RangeError | TypeError} `cost` is out of range, or names an unknown rate. Nothing changes then.
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
  settle(cost: Cost<Name>): void;
  /** Calls `settle(0)`: for work that never reached the upstream. */
  refund(): void;
  /** The permit as plain data, for logs. A permit of a gate that a user wrote may lack this method. */
  toJSON?(): PermitData;
}

/** The permit of a {@link Throttle}: a {@link Permit} with a number of slots. */
export interface ThrottlePermit<Name extends string = string> extends Permit<Name> {
  /** The number of slots that the permit took of the concurrency limit. */
  readonly slots: number;
  /** The permit as plain data, for logs. `console.log` shows the same. */
  toJSON(): PermitData;
}

/** The gate that issued a permit. */
export interface Issuer {
  /** The named rates of the gate; absent if a gate has none. */
  readonly rates?: NamedRates | undefined;
  onRelease(permit: Grant): void;
  /** `difference` is the difference of `cost`; `differences`, for named rates, the vector of all differences. */
  onSettle(permit: Grant, difference: number, differences?: readonly number[]): void;
  /** The present instant. It may throw the error of a clock. */
  now?: (() => number) | undefined;
  /** The error of a permit that has been held for too long. Absent if the permits of the gate do not expire. */
  expiredError?(): PermitExpiredError;
}

/** Bits of `Grant.#state`. One field holds all bits, because a program creates millions of permits. */
const RELEASED = 1;
const SETTLED = 2;
const EXPIRED = 4;

/** The rates of a gate without names. */
const NO_RATES: NamedRates = { names: [], maxCosts: [], describe: () => 'this throttle' };

/** The value of `Symbol.dispose` at the creation of the latest permit. A polyfill may define it later. */
let disposeKey: symbol | undefined;

/** The permit of a {@link Throttle}. */
export class Grant implements Omit<Permit, keyof Disposable | keyof AsyncDisposable> {
  readonly #issuer: Issuer;
  /** The instant of the grant; `-Infinity` if the gate did not read its clock. */
  readonly #grantedAt: number;
  #state = 0;
  /** `undefined` for a permit with a number as its cost and one slot, until its signal is read. */
  #terms: Terms | undefined;
  /**
   * A promise that resolves with an object looks up `then`. This property ends the lookup before `Object.prototype`,
   * which saves a tenth of the time of an uncontended `acquire`.
   */
  declare readonly then: undefined;

  cost: number;
  readonly waited: number;
  /** The serial number of the grant: the grants of a gate are numbered in order. */
  readonly serial: number;

  constructor(
    issuer: Issuer,
    cost: number,
    waited: number,
    serial: number,
    terms?: Terms,
    grantedAt: number = -Infinity,
  ) {
    this.#issuer = issuer;
    this.#grantedAt = grantedAt;
    this.#terms = terms;
    this.cost = cost;
    this.waited = waited;
    this.serial = serial;
    if (disposeKey !== Symbol.dispose || disposeKey === undefined) completePrototype();
  }

  get costs(): Readonly<Record<string, number>> {
    return costsByName(this.#issuer.rates?.names ?? [], this.#terms?.costs ?? []);
  }

  get slots(): number | readonly number[] {
    return this.#terms === undefined ? 1 : this.#terms.slots;
  }

  get signal(): AbortSignal {
    const { controller } = (this.#terms ??= new Terms([this.cost], 1));
    if ((this.#state & EXPIRED) !== 0) this.abortSignal();
    return controller.signal;
  }

  get released(): boolean {
    return (this.#state & RELEASED) !== 0;
  }

  /** Seconds since the grant; `undefined` if the gate did not read its clock. */
  get age(): number | undefined {
    const now = this.#grantedAt > -Infinity ? this.#issuer.now?.() : undefined;
    return now === undefined ? undefined : Math.max(0, now - this.#grantedAt);
  }

  toJSON(): PermitData {
    return readFields(this, 'cost costs slot slots age released') as PermitData;
  }

  release(): void {
    const state = this.#state;
    if ((state & RELEASED) !== 0) return;
    this.#state = state | RELEASED;
    this.#issuer.onRelease(this);
  }

  settle(cost: Cost): void {
    const { rates } = this.#issuer;
    if (rates !== undefined) return this.#settleByName(cost, rates);
    if (typeof cost === 'object') {
      const [trueCost] = readSettlement(cost, NO_RATES);
      if (trueCost !== undefined) this.settle(trueCost);
      return;
    }
    checkCost(cost);
    if ((this.#state & SETTLED) !== 0) return;
    this.#state |= SETTLED;
    const difference = cost - this.cost;
    this.cost = cost;
    if (difference !== 0) this.#issuer.onSettle(this, difference);
  }

  #settleByName(cost: Cost, rates: NamedRates): void {
    const differences = (this.#terms as Terms).settle(readSettlement(cost, rates));
    const [difference] = differences as [number];
    this.cost += difference;
    if (differences.some((each) => each !== 0)) this.#issuer.onSettle(this, difference, differences);
  }

  /** Ends the permit without its holder. The issuer has already counted its slots as free. */
  expire(): void {
    this.#state |= RELEASED | EXPIRED;
  }

  /** Notifies the holder of the expiry, if the holder has read the signal. */
  abortSignal(): void {
    const controller = this.#terms?.extra?.controller;
    if (controller?.signal.aborted === false) controller.abort(this.#issuer.expiredError?.());
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
  addInspection(Grant.prototype, 'Permit');
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
    result = runJob(fn, permit);
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
