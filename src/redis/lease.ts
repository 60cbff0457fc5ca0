/// <reference lib="esnext.disposable" preserve="true" />
/** The permit of a gate on Redis: a lease, which the process of its holder renews until the release. */
import { Grant, type Issuer, type Permit } from '../core/permit.js';
import type { LeaseLostError } from './errors.js';

/** A {@link Permit} of a gate that processes share through Redis. A permit has one holder, in one process. */
export interface RedisPermit extends Permit {
  /**
   * A number from 1 to `concurrency` that no other holder has, in any process, while this permit is held. `0` for a
   * permit that this process granted by itself, because of `failOpen`, while Redis failed.
   */
  readonly slot: number;
  /**
   * Aborts with a {@link LeaseLostError} before another holder can get the slot: when the lease could not be renewed in
   * time, or when the throttle was reset. Work that must not run twice at a time should stop then.
   */
  readonly signal: AbortSignal;
}

/** The permit of a {@link RedisThrottle}. */
export class Lease extends Grant implements RedisPermit {
  readonly slot: number;
  /** The lease as Redis stores it: slot, instant of the grant, cost, and number of the grant. */
  readonly item: string;
  /** Checks whether the lease has expired: the alarm that checks it may be late. */
  readonly #checkExpiry: () => void;
  /** Created when `signal` is first read, since most callers never read it. */
  #controller: AbortController | undefined;
  #lost: LeaseLostError | undefined;

  constructor(issuer: Issuer, cost: number, waited: number, slot: number, item: string, checkExpiry: () => void) {
    super(issuer, cost, waited, 0);
    this.slot = slot;
    this.item = item;
    this.#checkExpiry = checkExpiry;
  }

  get signal(): AbortSignal {
    this.#checkExpiry();
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#lost !== undefined) this.#controller.abort(this.#lost);
    }
    return this.#controller.signal;
  }

  /** Aborts the signal: another holder has the slot, or may get it. */
  lose(error: LeaseLostError): void {
    this.#lost ??= error;
    this.#controller?.abort(this.#lost);
  }
}
