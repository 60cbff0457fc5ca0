/**
 * The token bucket, a budget with continuous refill. It is pure arithmetic over `(now, cost)`: no timer, no promise, no
 * clock. Instants and durations are in seconds.
 *
 * The algorithm is the "leaky bucket as a meter" of ITU-T I.371, which GCRA describes. The state is a level of tokens
 * and the instant of that level.
 */

import type { Budget } from './budget.js';
import { type BucketLimits, GrantLog } from './settlement-log.js';

/** The number of replaced buckets that a bucket keeps, so that it can settle their grants. */
const MAX_EARLIER = 8;

/**
 * The tolerated rounding error, relative to the burst: ten costs of 0.1 fit into 1 token, although their sum differs.
 */
const SLACK = 1e-12;

/** The start of a bucket that replaced another limit, or whose level was corrected. */
interface Origin {
  /** The serial number of the last grant before the replacement. */
  readonly serial: number;
  /**
   * The replaced bucket; `undefined` if the grants before do not count: the rate was unlimited, or the level was
   * corrected; `null` once the replaced bucket is dropped.
   */
  earlier: TokenBucket | null | undefined;
}

export class TokenBucket implements Budget, BucketLimits {
  readonly burst: number;
  /** Tokens per second. */
  readonly rate: number;
  #tokens: number;
  /** The instant of `#tokens`; `-Infinity` for a new bucket. */
  #at: number;
  #log: GrantLog;
  /** `undefined` for the first bucket of a throttle, unless its level has been corrected. */
  #origin: Origin | undefined;

  /**
   * `capacity` tokens per `period` seconds flow in evenly, up to `burst`. Without `earlier`, the bucket starts full.
   * With `earlier`, it starts with the level of `earlier` at `now`, and replaces `earlier` after the grant `serial`.
   */
  constructor(capacity: number, period: number, burst: number, now?: number, serial?: number, earlier?: TokenBucket);
  /** A full bucket with the limits of `model`. */
  constructor(model: TokenBucket);
  constructor(
    capacity: number | TokenBucket,
    period = 1,
    burst = 1,
    now = -Infinity,
    serial = 0,
    earlier?: TokenBucket,
  ) {
    this.burst = typeof capacity === 'number' ? burst : capacity.burst;
    this.rate = typeof capacity === 'number' ? capacity / period : capacity.rate;
    this.#tokens = Math.min(this.burst, earlier?.level(now) ?? Infinity);
    this.#at = now;
    this.#log = earlier === undefined ? new GrantLog(serial) : new GrantLog(serial, this.#tokens, now);
    if (now === -Infinity) return;
    this.#origin = { serial, earlier };
    this.#dropEarlier(MAX_EARLIER);
  }

  /** Drops the buckets that lie more than `depth` replacements back. */
  #dropEarlier(depth: number): void {
    const origin = this.#origin;
    if (!origin?.earlier) return;
    if (depth > 0) origin.earlier.#dropEarlier(depth - 1);
    else origin.earlier = null;
  }

  level(now: number): number {
    // An instant before the latest one does not change the level.
    return now > this.#at ? Math.min(this.burst, this.#tokens + (now - this.#at) * this.rate) : this.#tokens;
  }

  readyAt(from: number, cost: number): number {
    const level = this.level(from);
    const { rate, burst } = this;
    // A cost of 0 takes no tokens, so a debt does not delay it.
    if (cost - level <= burst * SLACK || cost === 0) return from;
    // Computed from the stored state instead of `from`, so that every call returns the same instant. The timer for that
    // instant then stays valid, and `cost` fits at that instant in spite of rounding errors in `level`.
    if (level < burst) return this.#at + (cost - this.#tokens) / rate;
    return from + (cost - burst) / rate;
  }

  fullAt(): number {
    return this.#at + (this.burst - this.#tokens) / this.rate;
  }

  take(now: number, cost: number, serial: number): boolean {
    const level = this.level(now);
    if (cost > level && this.readyAt(now, cost) > now) return false;
    this.#tokens = level - cost;
    if (now > this.#at) this.#at = now;
    this.#log.add(this.#at, cost, serial, this);
    return true;
  }

  settle(now: number, difference: number, serial: number): void {
    const origin = this.#origin;
    if (serial <= (origin?.serial ?? 0)) return this.#settleBefore(now, difference, serial, origin?.earlier);
    // The log of grants computes the new level, see settlement-log.ts.
    this.#log.correct(serial, difference);
    this.#replay();
  }

  settleEarlier(now: number, evicted: TokenBucket, difference: number, serial: number): void {
    const origin = this.#origin;
    // After a change of the limits, the bucket before the change starts where the evicted bucket ended.
    if (origin === undefined) this.#settleBefore(now, difference, serial, evicted);
    else this.#settleBefore(now, difference, serial, origin.earlier, evicted);
  }

  /** Settles a grant of `earlier`, or of the bucket that `earlier` replaced after an eviction. */
  #settleBefore(
    now: number,
    difference: number,
    serial: number,
    earlier: TokenBucket | null | undefined,
    evicted?: TokenBucket,
  ): void {
    if (earlier) {
      const at = this.#log.beganAt ?? now;
      const before = Math.min(this.burst, earlier.level(at));
      if (evicted) earlier.settleEarlier(at, evicted, difference, serial);
      else earlier.settle(at, difference, serial);
      this.#log.correctBeginning(at, Math.min(this.burst, earlier.level(at)) - before, this);
    }
    // A grant from a time without a limit, or from before a correction, is ignored. For a grant of a dropped bucket, only a debt counts.
    else if (earlier === null && difference > 0) this.#log.correctBeginning(now, -difference, this);
    else return;
    this.#replay();
  }

  lower(now: number, level: number | undefined, serial: number): void {
    const present = this.level(now);
    this.#tokens = Math.min(present, level ?? present);
    this.#at = Math.max(this.#at, now);
    this.#log.add(this.#at, present - this.#tokens, serial, this);
  }

  correct(now: number, level: number | undefined, serial: number): void {
    if (level === undefined) return;
    this.#tokens = Math.min(this.burst, level);
    this.#at = Math.max(this.#at, now);
    // The history begins again.
    this.#log = new GrantLog(serial, this.#tokens, this.#at);
    this.#origin = { serial, earlier: undefined };
  }

  fresh(): TokenBucket {
    return new TokenBucket(this);
  }

  #replay(): void {
    this.#tokens = this.#log.replay(this);
    this.#at = this.#log.latestAt;
  }
}
