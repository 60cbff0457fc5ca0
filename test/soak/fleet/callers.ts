/** Callers that acquire and release permits, and report each event. */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { RedisPermit, RedisThrottle } from 'headgate/redis';
import { costOf, type Report } from './reports.js';

export interface CallerSettings {
  readonly seed: number;
  readonly firstCall: number;
  /** The number of calls in all; 0 for any number. */
  readonly calls: number;
  readonly callers: number;
  /** The longest usual hold and the longest rest between two calls, in milliseconds. A hold of 0 is one turn. */
  readonly longestHold: number;
  readonly longestRest: number;
  /** One call in so many is aborted, and one hold in so many is longer than `ttl`; 0 for none. */
  readonly abortOneIn: number;
  readonly longHoldOneIn: number;
}

/** Milliseconds of the monotonic clock. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6;

export class Callers {
  readonly #throttle: RedisThrottle;
  readonly #settings: CallerSettings;
  /** In milliseconds. */
  readonly #ttl: number;
  readonly #report: (report: Report) => void;
  #state: number;
  #next: number;
  #isStopped = false;
  #isCalm = false;

  constructor(throttle: RedisThrottle, ttl: number, settings: CallerSettings, report: (report: Report) => void) {
    this.#throttle = throttle;
    this.#ttl = ttl * 1_000;
    this.#settings = settings;
    this.#report = report;
    this.#state = settings.seed;
    this.#next = settings.firstCall;
  }

  /** Resolves when all calls have settled. */
  async run(): Promise<void> {
    await Promise.all(Array.from({ length: this.#settings.callers }, () => this.#call()));
  }

  /** No hold is longer than usual from now on. */
  calm(): void {
    this.#isCalm = true;
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** The generator mulberry32. */
  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  #oneIn(times: number): boolean {
    return times > 0 && this.#random() * times < 1;
  }

  async #call(): Promise<void> {
    const { firstCall, calls, abortOneIn, longestRest } = this.#settings;
    const end = calls === 0 ? Infinity : firstCall + calls;
    while (!this.#isStopped && this.#next < end) {
      const call = this.#next++;
      const leaving = this.#oneIn(abortOneIn) ? new AbortController() : undefined;
      this.#report({ kind: 'called', call, at: now() });
      try {
        const waiting = this.#throttle.acquire(costOf(call), { signal: leaving?.signal });
        if (leaving !== undefined) setTimeout(() => leaving.abort(), this.#random() * 50);
        await this.#use(call, await waiting);
      } catch (error) {
        const at = now();
        if (leaving?.signal.aborted && error === leaving.signal.reason) this.#report({ kind: 'aborted', call, at });
        else {
          this.#report({ kind: 'failed', call, at, error: `${(error as Error).name}: ${(error as Error).message}` });
          await sleep(20);
        }
      }
      if (longestRest > 0) await sleep(this.#random() * longestRest);
    }
  }

  /** Holds a permit for some time. Each step reads the signal, as long work does. */
  async #use(call: number, permit: RedisPermit): Promise<void> {
    let valid = now();
    if (permit.signal.aborted) return this.#report({ kind: 'lost', call, at: valid });
    const { item } = (permit as RedisPermit & { readonly grant: { readonly item: string } }).grant;
    this.#report({ kind: 'held', call, at: valid, slot: permit.slot, item });
    const { longestHold, longHoldOneIn } = this.#settings;
    const isLong = !this.#isCalm && this.#oneIn(longHoldOneIn);
    const until = valid + (isLong ? this.#ttl * (1 + this.#random()) : this.#random() * longestHold);
    for (let turns = 0; turns === 0 || valid < until; turns++) {
      // A timer takes a millisecond at least.
      await (longestHold === 0 ? turn() : sleep(Math.min(until - valid, this.#ttl / 10)));
      const at = now();
      if (permit.signal.aborted) {
        this.#report({ kind: 'lost', call, at: valid });
        return permit.release();
      }
      valid = at;
    }
    this.#report({ kind: 'released', call, at: valid });
    permit.release();
  }
}
