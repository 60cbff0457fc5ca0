/// <reference lib="esnext.disposable" preserve="true" />
/** One permit that holds the permits of several gates. */
import { addDisposal, dispose } from '../core/dispose.js';
import type { Permit } from '../core/permit.js';
import { checkCost } from '../core/validation.js';

/** Releases and settles the permits of several gates together. */
export class JointPermit implements Omit<Permit, keyof Disposable | keyof AsyncDisposable> {
  /** The last acquired permit comes first: it is released first. */
  readonly #permits: readonly Permit[];
  #cost: number;
  #settled = false;
  #released = false;
  readonly waited: number;

  /** @param permits In the order in which they were acquired. */
  constructor(permits: readonly Permit[], cost: number, waited: number) {
    addDisposal(JointPermit.prototype, 'dispose', function () {
      this.release();
    });
    addDisposal(JointPermit.prototype, 'asyncDispose', function () {
      return this.#dispose();
    });
    this.#permits = permits.toReversed();
    this.#cost = cost;
    this.waited = waited;
  }

  get cost(): number {
    return this.#cost;
  }

  get released(): boolean {
    return this.#released;
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    const failure = applyToEach(this.#permits, (permit) => permit.release());
    if (failure !== undefined) throw failure.error;
  }

  settle(cost: number): void {
    checkCost(cost);
    if (this.#settled) return;
    this.#settled = true;
    this.#cost = cost;
    const failure = applyToEach(this.#permits, (permit) => permit.settle(cost));
    if (failure !== undefined) throw failure.error;
  }

  refund(): void {
    this.settle(0);
  }

  /** Resolves when every gate has processed the release. */
  async #dispose(): Promise<void> {
    this.release();
    for (const permit of this.#permits) await dispose(permit);
  }
}

/** `using` and `await using` both release. {@link addDisposal} adds the two methods. */
export interface JointPermit extends Disposable, AsyncDisposable {}

/** Refunds and releases, the last acquired permit first. Ignores errors: the caller rejects with its own error. */
export function refundAndRelease(permits: readonly Permit[]): void {
  const reversed = permits.toReversed();
  applyToEach(reversed, (permit) => permit.refund());
  applyToEach(reversed, (permit) => permit.release());
}

/** Calls `action` with each permit, even after one of the calls throws. Returns the first error. */
export function applyToEach(
  permits: readonly Permit[],
  action: (permit: Permit) => void,
): { error: unknown } | undefined {
  let failure: { error: unknown } | undefined;
  for (const permit of permits) {
    try {
      action(permit);
    } catch (error) {
      failure ??= { error };
    }
  }
  return failure;
}
