/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The permit of a gate on Redis: a lease, which its holder's process renews for as long as it lives.
 */
import { Grant, type Issuer, type Permit } from '../core/permit.js';
import type { LeaseLostError } from './errors.js';

/** The right to do one piece of work, as {@link Permit}, and as one among many processes. */
export interface RedisPermit extends Permit {
  /**
   * A number from 1 to `concurrency` that no other holder has, in any process, for as long as this is held. `0` where
   * Redis was not asked: with `failOpen`, while it is down.
   */
  readonly slot: number;
  /**
   * Aborts with a {@link LeaseLostError} before the permit can become somebody else's: when Redis could not be told in
   * time that its holder lives, or has been reset. Work that must not run twice at a time should end then.
   */
  readonly signal: AbortSignal;
}

/** The permit of a {@link RedisThrottle}. */
export class Lease extends Grant implements RedisPermit {
  readonly slot: number;
  /** What Redis knows of it: slot, instant of the grant, cost, and what was spent by then. */
  readonly item: string;
  /** Finds out whether it was lost, though nobody had the time to say so. */
  readonly #check: () => void;
  /** Most are never asked for it, so it is made when it is. */
  #controller: AbortController | undefined;
  #lost: LeaseLostError | undefined;

  constructor(issuer: Issuer, cost: number, waited: number, slot: number, item: string, check: () => void) {
    super(issuer, cost, waited, 0);
    this.slot = slot;
    this.item = item;
    this.#check = check;
  }

  get signal(): AbortSignal {
    this.#check();
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#lost !== undefined) this.#controller.abort(this.#lost);
    }
    return this.#controller.signal;
  }

  /** It is somebody else's, or may be. */
  lose(error: LeaseLostError): void {
    this.#lost ??= error;
    this.#controller?.abort(this.#lost);
  }
}
