/// <reference lib="esnext.disposable" preserve="true" />
/** The permit of a gate on Redis: a lease, which the process of its holder renews until the release. */
import type { Terms } from '../core/cost.js';
import { addInspection, type PermitData } from '../core/inspect.js';
import { Grant, type Issuer, type Permit } from '../core/permit.js';
import { slotsOf } from './charge.js';
import type { LeaseLostError } from './errors.js';

/** A {@link Permit} of a gate that processes share through Redis. A permit has one holder, in one process. */
export interface RedisPermit<Name extends string = string> extends Permit<Name> {
  /**
   * A number from 1 to `concurrency` that no other holder has, in any process, while this permit is held: the first of
   * `slots`. `0` for a permit without a slot, and for a permit that this process granted by itself, because of
   * `failOpen`, while Redis failed.
   */
  readonly slot: number;
  /**
   * The numbers of all slots of this permit, in no particular order. Empty for a permit without a slot, and for a permit
   * that this process granted by itself.
   */
  readonly slots: readonly number[];
  /**
   * Aborts with a {@link LeaseLostError} before another holder can get the slot: when the lease could not be renewed in
   * time, or when the throttle was reset. Work that must not run twice at a time should stop then.
   *
   * A process that was suspended continues before its timers run, and the signal aborts with the next timer. Each read
   * of `permit.signal` checks the lease. So read the property before each step, and do not keep the signal in a
   * variable.
   */
  readonly signal: AbortSignal;
  /** The permit as plain data, for logs. `console.log` shows the same. */
  toJSON(): PermitData;
}

/** The throttle object that issued a lease. */
export interface LeaseIssuer extends Issuer {
  /** Checks whether the leases have expired: the alarm that checks them may be late. */
  checkExpiry(): void;
}

/** The grant of Redis behind a lease. Several holders of a process may use it, one after the other. */
export interface RedisGrant {
  /** The call that Redis granted it to: the name of the lease in Redis. */
  readonly serial: string;
  readonly slot: number;
  /** The record of the grant: slots, instant, cost and number. */
  readonly item: string;
}

/** The permit of a {@link RedisThrottle}. */
export class Lease extends Grant implements RedisPermit {
  readonly #leaseIssuer: LeaseIssuer;
  /** The grant of Redis; slot 0 for a permit of the fallback. */
  readonly grant: RedisGrant;
  /** Created when `signal` is first read, since most callers never read it. */
  #controller: AbortController | undefined;
  #lost: LeaseLostError | undefined;
  /** Created when `slots` is first read. */
  #slots: readonly number[] | undefined;

  constructor(issuer: LeaseIssuer, cost: number, waited: number, grant: RedisGrant, terms?: Terms, grantedAt?: number) {
    super(issuer, cost, waited, 0, terms, grantedAt);
    addInspection(Lease.prototype, 'RedisPermit');
    this.#leaseIssuer = issuer;
    this.grant = grant;
  }

  get slot(): number {
    return this.grant.slot;
  }

  override get slots(): readonly number[] {
    return (this.#slots ??= Object.freeze(slotsOf(this.grant.item)));
  }

  override get signal(): AbortSignal {
    this.#leaseIssuer.checkExpiry();
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
