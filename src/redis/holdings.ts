/**
 * The permits of one throttle object. A released slot goes to the next waiter of this process, stays with the process,
 * or goes back to Redis.
 */
import type { NamedRates } from '../core/cost.js';
import type { Grant } from '../core/permit.js';
import type { Call, PendingCalls } from './calls.js';
import { type Charge, decodeCharge, encodeCosts, hasOneSlot } from './charge.js';
import { LeaseLostError } from './errors.js';
import { HeldLeases } from './held-leases.js';
import { Lease, type LeaseIssuer, type RedisGrant } from './lease.js';
import { labelOf } from './options.js';
import type { Outbox } from './outbox.js';
import type { ParticipantParts } from './participant-parts.js';
import type { Permission } from './permission.js';
import { decodeItem, type Reply } from './protocol.js';
import type { Registration } from './registration.js';
import { type Renewal, SAFE_SHARE } from './renewal.js';

export class Holdings implements LeaseIssuer {
  readonly leases: HeldLeases = new HeldLeases();
  readonly #parts: ParticipantParts;
  readonly #calls: PendingCalls;
  readonly #outbox: Outbox;
  readonly #renewal: Renewal;
  readonly #permission: Permission;
  readonly #registration: Registration;
  /** A deadline has changed. */
  readonly #onChange: () => void;

  constructor(
    parts: ParticipantParts,
    { calls, outbox, renewal, permission, registration }: HoldingsParts,
    onChange: () => void,
  ) {
    this.#parts = parts;
    this.#calls = calls;
    this.#outbox = outbox;
    this.#renewal = renewal;
    this.#permission = permission;
    this.#registration = registration;
    this.#onChange = onChange;
  }

  /** The named rates; `undefined` without names. */
  get rates(): NamedRates | undefined {
    return this.#parts.rates;
  }

  /** The present instant, for the age of a permit. */
  now(): number {
    return this.#parts.clock.now();
  }

  /** Gives the caller a permit with a grant of Redis. */
  grant(call: Call, grant: RedisGrant, now: number): void {
    const lease = new Lease(this, call.cost, Math.max(0, now - call.since), grant, call.terms, now);
    this.leases.add(lease);
    this.#calls.remove(call);
    this.#parts.publisher.grantedWaiter(lease, call);
    call.resolve(lease);
  }

  onRelease(permit: Grant): void {
    const lease = permit as Lease;
    // A lost lease has sent its release before.
    if (!this.leases.remove(lease)) return;
    this.#parts.publisher.released(lease);
    const now = this.#parts.clock.now();
    if (now < this.#renewal.safeUntil && (this.#handOn(lease.grant, now) || this.#letLinger(lease.grant, now))) return;
    this.#release(lease.grant);
  }

  onSettle(permit: Grant, _difference: number, differences?: readonly number[]): void {
    const { cost, costs, grant } = permit as Lease;
    // The number 0 belongs to a grant without a rate.
    if (grant.item.endsWith(' 0') || this.#parts.isDisposed()) return;
    this.#registration.begin(this.now());
    const { rates } = this.#parts;
    let charge: Charge = cost;
    if (rates !== undefined) {
      // The rates that this call does not settle keep the cost of the grant, also if an earlier call has settled them.
      const granted = decodeCharge(decodeItem(grant.item).cost, rates.names);
      const after = [cost, ...rates.names.map((name) => costs[name])] as number[];
      const before = [granted.cost, ...rates.names.map((name) => granted.costs?.[name])] as number[];
      charge = encodeCosts(
        after.map((each, index) => (differences?.[index] === 0 ? (before[index] as number) : each)),
        rates.names,
      );
    }
    this.#outbox.enqueue({ kind: 'settle', cost: charge, item: grant.item });
  }

  /**
   * Whether Redis has lost a lease that came by message, and the reply is to a repeated first batch: this batch has
   * created the owner again and has requested the call again.
   */
  isForgotten({ version, events }: Reply): boolean {
    return events.some((event) => {
      const isRequested = event.kind === 'queued' || (event.kind === 'granted' && !event.isRepeated);
      const lease = isRequested ? this.leases.get(event.serial) : undefined;
      // The version begins as the instant of the new state, which is later than the lost grant.
      return lease !== undefined && Number(decodeItem(lease.grant.item).grantedAt) < version;
    });
  }

  checkExpiry(): void {
    if (this.leases.isEmpty || this.#parts.clock.now() < this.#renewal.safeUntil) return;
    const { ttl } = this.#renewal;
    this.returnLingering();
    this.loseLeases(this.leases.removeAll(), `its lease was not renewed for ${SAFE_SHARE} of its ttl of ${ttl} s`);
  }

  /**
   * Hands a released slot on to the first waiter of the row, without a round trip. The lease stays as it is. Redis
   * removes the waiter from the queue, and takes back the slot that it may have granted to the waiter meanwhile.
   */
  #handOn(grant: RedisGrant, now: number): boolean {
    const limit = this.#permission.ticketLimit(now);
    if (limit === 0 || !hasOneSlot(grant)) return false;
    const next = this.#calls.first();
    if (next === undefined || next.ticket === 0 || next.ticket > limit || !wantsOneSlot(next)) return false;
    this.#outbox.enqueue({ kind: 'cancel', serial: next.serial, cost: next.charge });
    this.grant(next, grant, now);
    return true;
  }

  /** Keeps a released slot for the next call of this process. */
  #letLinger(grant: RedisGrant, now: number): boolean {
    const { linger } = this.#parts;
    if (linger === 0 || this.#calls.size > 0 || !hasOneSlot(grant) || !this.#permission.allowsLinger(now)) return false;
    this.leases.linger(grant, now + linger);
    this.#onChange();
    return true;
  }

  /** Gives a call a lingering slot, if the permission holds. */
  reuseLingering(call: Call, now: number): boolean {
    if (!this.leases.hasLingering || this.#calls.size > 0 || now >= this.#renewal.safeUntil) return false;
    if (!wantsOneSlot(call)) return false;
    if (!this.#permission.allowsLinger(now)) return false;
    const grant = this.leases.takeLingering();
    if (grant !== undefined) this.grant(call, grant, now);
    return grant !== undefined;
  }

  /** Returns the lingering slots whose deadline has passed; without `now`, all of them. */
  returnLingering(now?: number): void {
    if (this.leases.hasLingering) for (const grant of this.leases.removeLingering(now)) this.#release(grant);
  }

  /** Aborts the signals of lost leases. */
  loseLeases(leases: readonly Lease[], why: string): void {
    const error = new LeaseLostError(`A permit of ${labelOf(this.#parts.face)} is lost: ${why}`);
    for (const lease of leases) {
      this.#parts.publisher.released(lease);
      // Redis may still have the lease: the release frees its slot.
      this.#release(lease.grant);
      lease.lose(error);
    }
  }

  #release({ serial }: RedisGrant): void {
    this.#outbox.enqueue({ kind: 'release', serial });
  }
}

/** Whether a call requests one slot: only such a call can receive the slot of another permit of this process. */
const wantsOneSlot = ({ terms }: Call): boolean => (terms?.slots ?? 1) === 1;

/** The parts of a participant that decide on a released slot. */
interface HoldingsParts {
  readonly calls: PendingCalls;
  readonly outbox: Outbox;
  readonly renewal: Renewal;
  readonly permission: Permission;
  readonly registration: Registration;
}
