/** The leases of one throttle object: those of holders, and the released ones that linger. */
import { ChurnMap } from './churn-map.js';
import type { Lease, RedisGrant } from './lease.js';

/** A released lease that stays with the process, until its deadline or a recall. */
interface Lingering {
  readonly grant: RedisGrant;
  /** In seconds of the process. */
  readonly until: number;
}

export class HeldLeases {
  /** By the serial of the grant. */
  readonly #leases = new ChurnMap<string, Lease>();
  /** In the order of their deadlines. */
  #lingering: Lingering[] = [];

  /** The number of holders. */
  get size(): number {
    return this.#leases.size;
  }

  get isEmpty(): boolean {
    return this.#leases.size === 0 && this.#lingering.length === 0;
  }

  /** The deadline of the oldest lingering lease. */
  get lingersUntil(): number {
    return this.#lingering[0]?.until ?? Infinity;
  }

  get hasLingering(): boolean {
    return this.#lingering.length > 0;
  }

  get(serial: string): Lease | undefined {
    return this.#leases.get(serial);
  }

  add(lease: Lease): void {
    this.#leases.set(lease.grant.serial, lease);
  }

  /** Removes the lease of a holder. Returns `false` if it was lost before. */
  remove(lease: Lease): boolean {
    return this.#leases.get(lease.grant.serial) === lease && this.#leases.delete(lease.grant.serial);
  }

  /** Removes and returns the leases of all holders. */
  removeAll(): Lease[] {
    const leases = Array.from(this.#leases.values());
    this.#leases.clear();
    return leases;
  }

  /** Keeps a released grant until `until`. */
  linger(grant: RedisGrant, until: number): void {
    this.#lingering.push({ grant, until });
  }

  /** Removes and returns the grant that has been released last. */
  takeLingering(): RedisGrant | undefined {
    return this.#lingering.pop()?.grant;
  }

  /** Removes and returns the lingering grants whose deadline is not later than `now`; without `now`, all of them. */
  removeLingering(now: number = Infinity): RedisGrant[] {
    const expired = this.#lingering.filter(({ until }) => until <= now);
    if (expired.length > 0) this.#lingering = this.#lingering.filter(({ until }) => until > now);
    return expired.map(({ grant }) => grant);
  }

  /** Drops a lingering grant that Redis has given away. */
  dropLingering(serial: string): void {
    this.#lingering = this.#lingering.filter(({ grant }) => grant.serial !== serial);
  }

  /** The grants of all leases, for an epoch that begins. */
  grants(): RedisGrant[] {
    return [...Array.from(this.#leases.values(), ({ grant }) => grant), ...this.#lingering.map(({ grant }) => grant)];
  }
}
