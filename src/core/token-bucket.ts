/**
 * The token bucket: how much may start, and from when. Pure arithmetic over `(now, cost)`: no timer, no promise,
 * no clock. Instants and durations are seconds.
 *
 * The bucket is the "leaky bucket as a meter" of ITU-T I.371, the one that GCRA describes, kept as a level of
 * tokens and the instant at which that level was true.
 */

import type { Budget } from './budget.js';
import { type BucketLimits, GrantLog } from './grant-log.js';

/** How many replaced buckets a bucket remembers. */
const MOST_EARLIER = 8;

/** What rounding may swallow, as a share of the burst: ten costs of 0.1 make one, although their sum is not quite 1. */
const SLACK = 1e-12;

/** How a bucket that replaced another began. */
interface Origin {
  /** The number of the last grant before. */
  readonly serial: number;
  /** The bucket that was replaced; `undefined` if there was no limit, and `null` once it is forgotten. */
  earlier: TokenBucket | null | undefined;
  readonly depth: number;
}

export class TokenBucket implements Budget, BucketLimits {
  readonly burst: number;
  /** Tokens per second. */
  readonly rate: number;
  #tokens: number;
  /** The instant at which there were `#tokens`. At first, any: the bucket starts full. */
  #at: number;
  readonly #log: GrantLog;
  /** Absent for a throttle's first bucket. */
  readonly #origin: Origin | undefined;

  /**
   * `capacity` tokens flow in per `period` seconds, evenly, up to `burst`. It starts full, or with what `earlier` holds
   * at `now`, which it replaces after the grant `serial`.
   */
  constructor(capacity: number, period: number, burst: number, now?: number, serial?: number, earlier?: TokenBucket);
  /** A new one of the same limits as `model`. */
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
    this.#at = earlier === undefined ? -Infinity : now;
    this.#log = earlier === undefined ? new GrantLog(serial) : new GrantLog(serial, this.#tokens, now);
    if (serial === 0 && earlier === undefined) return;
    const depth = earlier === undefined ? 1 : (earlier.#origin?.depth ?? 0) + 1;
    this.#origin = { serial, earlier, depth };
    if (depth > MOST_EARLIER) this.#forget(MOST_EARLIER);
  }

  /** Forgets what lies more than `depth` replacements back. */
  #forget(depth: number): void {
    const origin = this.#origin;
    if (!origin?.earlier) return;
    if (depth > 0) origin.earlier.#forget(depth - 1);
    else origin.earlier = null;
  }

  level(now: number): number {
    // A `now` from before is no earlier than the last: a stale instant neither refills nor drains.
    return now > this.#at ? Math.min(this.burst, this.#tokens + (now - this.#at) * this.rate) : this.#tokens;
  }

  readyAt(from: number, cost: number): number {
    const level = this.level(from);
    const { rate, burst } = this;
    // A cost of 0 takes no token, so it does not wait for a debt to be paid either.
    if (cost - level <= burst * SLACK || cost === 0) return from;
    // From a fixed state, not from `from`: the same instant comes out however often it is asked for, so a timer
    // set for it is not set anew, and once that instant has come the cost fits, whatever rounding did to `level`.
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
    if (serial > (origin?.serial ?? 0)) this.#log.correct(serial, difference);
    else if (origin?.earlier) return this.settleEarlier(now, origin.earlier, difference, serial);
    // A grant from before there was a limit counts for nothing. One whose bucket is forgotten gives nothing back.
    else if (origin?.earlier === null && difference > 0) this.#log.correctBeginning(now, -difference, this);
    else return;
    this.#replay();
  }

  settleEarlier(now: number, earlier: TokenBucket, difference: number, serial: number): void {
    const at = this.#log.beganAt ?? now;
    const before = Math.min(this.burst, earlier.level(at));
    earlier.settle(at, difference, serial);
    this.#log.correctBeginning(at, Math.min(this.burst, earlier.level(at)) - before, this);
    this.#replay();
  }

  fresh(): TokenBucket {
    return new TokenBucket(this);
  }

  #replay(): void {
    this.#tokens = this.#log.replay(this);
    this.#at = this.#log.latestAt;
  }
}
