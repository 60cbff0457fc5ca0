/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The gate. It answers one question, "may this work start now, and if not, when?", for two limits at once: how many
 * jobs run at a time (a semaphore) and how much work starts per period (a token bucket).
 *
 * Why first in, first out. A gate that lets whoever fits go first starves the large: with 10 tokens a second and a
 * steady stream of jobs that cost 1, a job that costs 10 never sees 10 tokens at once. Here it waits a second at the
 * most once it is first, and nobody passes it meanwhile, not even a `tryAcquire` that would fit. The price is
 * head-of-line blocking: the jobs of 1 behind it wait for that second too, and the tokens that they could have used
 * lie idle until the large one takes them. No token is lost by that (the bucket keeps them up to `burst`); what is
 * lost is latency, at most `cost / rate` seconds for each large job ahead. Who minds gives large jobs a gate of
 * their own.
 *
 * Why a bucket. Counting the calls of each period lets 2 x capacity through around its edge: 10 at 0.99 s, 10 more
 * at 1.00 s. A bucket of `burst` tokens that refills evenly allows at most burst + rate x w in any span of w
 * seconds: from a full bucket, 10 at once and one every 0.1 s from then on, 20 in the first second and 10 in each
 * one after. An idle bucket is a full one, so a burst after silence costs no delay. Who may never see more than 10
 * in any second has two ways: `burst: 1` makes it one every 0.1 s, and 11 in a closed second; `window: 'sliding'`
 * remembers each grant for a second, lets 10 go at once and the next when the first of them is a second old.
 *
 * What waiting costs. A waiter is a place in a queue. It holds no slot while it waits for tokens, and no tokens while
 * it waits for a slot; so nobody holds what another could use, and leaving is free. Only the head is ever timed: the
 * instant at which it may start is a formula, so one timer is set for that instant and none while nobody waits. A
 * burst that is smaller than what flows in during one tick of the platform's timers (about 2 ms) cannot use the full
 * rate, since the bucket runs over before the timer fires: with `burst: 1`, count on 400 a second at the most.
 *
 * How it decides. `#grant` is the one place: a permit, if a slot is free, no pause holds and the tokens are there; it
 * takes them in the same breath. `#drain` grants the head for as long as it gets one, and sets the timer for the
 * instant from which it will. Whatever changes a limit (a release, a settlement, a pause, an abort, new settings, the
 * timer) ends in `#drain`. A caller who finds nobody waiting asks `#grant` at once; whoever comes later joins the queue.
 *
 * Grants run no code of the caller's: they resolve a promise. So nothing re-enters the gate in the middle of a
 * decision, nothing recurses, and what runs after a grant runs in the caller's own asynchronous context. Only those who
 * watch (`channels.ts`) are told at once, each time when a decision is complete and known to whom it concerns.
 */
import { type Budget, CombinedBudget } from './bucket.js';
import { Teller } from './channels.js';
import { type Clock, systemClock } from './clock.js';
import {
  checkAcquireOptions, checkCost, checkCount, checkFunction, checkNumber, checkObject, invalid, QueueFullError, refusal, ThrottleClosedError,
  type ThrottleErrorOptions, ThrottleTimeoutError,
} from './errors.js';
import type { AcquireOptions, Gate } from './gate.js';
import { mapThrough, type MapOptions, wrapThrough } from './map.js';
import { Grant, type Issuer, type Permit, work } from './permit.js';
import { type Job, type Waiter, WaitQueue } from './queue.js';
import { budgetFor, describeLimits, type Rate } from './rate.js';

/** Keeps a throttle for as long as it makes a difference. */
export interface Keeper {
  /** Nothing runs, nobody waits; from the instant `freshFrom` it cannot be told from a new one, if nothing happens until then. */
  rested(freshFrom: number): void;
  /** Who has to pay its debts by now. */
  heir(): Throttle;
}

/** Settings of a {@link Throttle} beside its three numbers: in what sense the rate is meant, and these. */
export interface ThrottleOptions extends Pick<Rate, 'burst' | 'window' | 'margin'> {
  /** Further rates. A job starts once all of them let it, and spends from each at that instant, or from none. */
  also?: readonly Rate[] | undefined;
  /** How many may wait: an integer >= 0, or `Infinity`, the default. The next one gets a {@link QueueFullError}. */
  maxQueue?: number | undefined;
  /** Where time comes from. Default: the platform's monotonic clock. */
  clock?: Clock | undefined;
  /** Named in every error message. */
  name?: string | undefined;
  /** Tells nothing on the channels: whoever uses it tells for it. @internal */
  silent?: boolean | undefined;
}

/** The limits that {@link Throttle.configure} can change. What is left out stays. */
export interface Limits {
  /** Tokens per period, > 0; `Infinity` for no rate limit. */
  capacity?: number | undefined;
  /** How many at a time: an integer >= 0; `0` and `Infinity` for any number. */
  concurrency?: number | undefined;
  /** Seconds, > 0 and finite. */
  period?: number | undefined;
  /** The bucket's size, > 0. A sliding window has none. */
  burst?: number | undefined;
}

/** By how much of a timeout rounding may be off. */
const ROUNDING = 1e-9;

/**
 * A throttle: at most `concurrency` jobs at a time, and at most `capacity` tokens' worth of them started per
 * `period` seconds, strictly in the order of the calls.
 *
 * A job that asks for a permit of the same throttle while it holds one can wait for itself: with `concurrency: 1`
 * it always does, and with more it does when every running job waits for its second permit. Give the outer and the
 * inner work a throttle each, or a `timeout`.
 *
 * @example
 * import { Throttle } from 'headgate';
 *
 * const throttle = new Throttle(10, 2);             // 10 per second, 2 at a time
 * const answers = await Promise.all(['a', 'b', 'c'].map((name) => throttle.run(async () => name.toUpperCase())));
 */
export class Throttle implements Gate {
  #capacity = 0;
  #concurrency = 0;
  #period = 0;
  /** As it was given: left out, it follows `capacity`. */
  #burst: number | undefined;
  readonly #maxQueue: number;
  readonly #clock: Clock;
  readonly #name: string | undefined;
  readonly #keeper: Keeper | undefined;

  readonly #window: Rate['window'];
  readonly #margin: number | undefined;
  readonly #also: readonly { readonly rate: Rate; readonly budget: Budget | undefined }[];

  /** What keeps `capacity` per `period`; absent where that is unlimited. */
  #own: Budget | undefined;
  /** What keeps that and all others. */
  #budget: Budget | undefined;
  /** What all budgets can hold, which may be Infinity, and the largest cost that can be granted, which is finite. */
  #size = 0;
  #maxCost = 0;
  /** `concurrency` as a bound; none once closed. */
  #slots = 0;
  #active = 0;
  #pausedUntil = -Infinity;
  /** All cost ever granted, and every debt: it only grows, so the difference of two readings is what came between. */
  #spent = 0;
  /** The latest instant seen. */
  #latest = -Infinity;
  /** The instant that the timer is set for. */
  #wakesAt = Infinity;
  #cancelTimer: (() => void) | undefined;
  #closed: { readonly reason: unknown } | undefined;
  #onIdle: (() => void)[] = [];
  /** Whether anybody ever asked to be told when nothing runs and nobody waits. */
  #restMatters: boolean;
  readonly #queue: WaitQueue<Permit>;
  readonly #issuer: Issuer;
  readonly #teller: Teller;

  /**
   * @param capacity Tokens per `period`: > 0; `Infinity` for no rate limit.
   * @param concurrency How many at a time: an integer >= 0; `0` (the default) and `Infinity` for any number.
   * @param period Seconds: > 0, finite. Default 1.
   * @param options {@link ThrottleOptions}
   * @throws {RangeError | TypeError} An argument is out of range; the message names it and the value received.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const api = new Throttle(5_000, 10, 3_600, { burst: 100, name: 'github' });
   */
  constructor(capacity: number, concurrency?: number, period?: number, options?: ThrottleOptions);
  /** @internal */
  constructor(capacity: number, concurrency: number, period: number, options: ThrottleOptions, keeper: Keeper);
  constructor(capacity: number, concurrency = 0, period = 1, options: ThrottleOptions = {}, keeper?: Keeper) {
    checkObject('options', options);
    const { burst, window, margin, also = [], maxQueue = Infinity, clock = systemClock, name, silent } = options;
    checkCount('maxQueue', maxQueue);
    if (typeof clock?.now !== 'function' || typeof clock.schedule !== 'function') throw invalid('clock', 'a Clock', clock);
    if (name !== undefined && typeof name !== 'string') throw invalid('name', 'a string', name);
    if (!Array.isArray(also)) throw invalid('also', 'an array of rates', also);
    this.#window = window;
    this.#margin = margin;
    this.#also = also.map((rate: Rate, index) => ({ rate: { ...rate }, budget: budgetFor(rate, `also[${index}].`) }));
    this.#keeper = keeper;
    this.#restMatters = keeper !== undefined;
    this.#maxQueue = maxQueue;
    this.#clock = clock;
    this.#name = name;
    this.#queue = new WaitQueue(clock.schedule.bind(clock), () => this.#review(), (timeout) => this.#lastLook(timeout), (waiter, error, reason) => {
      this.#rest();
      this.#teller.refused(waiter, waiter.cost, error, reason);
    });
    this.#teller = new Teller(silent === true ? undefined : this, clock);
    this.#issuer = {
      release: (permit) => {
        this.#active--;
        if (this.#restMatters) this.#rest();
        this.#teller.released(permit);
        if (this.#queue.size > 0) this.#drain(this.#now());
      },
      settle: (permit, difference) => (difference > 0 ? (keeper?.heir() ?? this) : this).#settle(permit, difference),
    };
    this.#limit(capacity, concurrency, period, burst);
  }

  /** Tokens per period. */
  get capacity(): number {
    return this.#capacity;
  }

  /** How many run at a time, as it was set: `0` and `Infinity` mean any number. */
  get concurrency(): number {
    return this.#concurrency;
  }

  /** Seconds. */
  get period(): number {
    return this.#period;
  }

  /** What may start at once after silence, and the largest cost: the bucket's size, or the least of several. */
  get burst(): number {
    return this.#size;
  }

  /** The tokens at hand now, of several rates the fewest. Below zero while a settled cost has left a debt. */
  get tokens(): number {
    return this.#budget?.level(this.#now()) ?? this.burst;
  }

  /** How many permits are out. */
  get active(): number {
    return this.#active;
  }

  /** How many callers wait. */
  get waiting(): number {
    return this.#queue.size;
  }

  /** Seconds until the pause ends: `0` when not paused, `Infinity` until `resume` is called. */
  get pausedFor(): number {
    return Math.max(0, this.#pausedUntil - this.#now());
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** The name given in the options. */
  get name(): string | undefined {
    return this.#name;
  }

  /**
   * Waits for a permit. Callers are granted in the order of their calls. Release the permit when the work is done;
   * `using`, or {@link Throttle.run}, does that by itself.
   *
   * @param cost Tokens: finite, from 0 to `burst`. `0` takes a slot and no token. Default 1.
   * @returns A promise that rejects with
   *   a `RangeError` or `TypeError` for an argument out of range;
   *   the signal's `reason` once it aborts;
   *   a {@link ThrottleTimeoutError} when `timeout` has passed, or at once when it is shorter than `estimateWait(cost)`;
   *   a {@link QueueFullError} when `maxQueue` callers wait already;
   *   a {@link ThrottleClosedError} when the throttle is closed, before or while waiting.
   *   It never throws.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * {
   *   await using _ = await throttle.acquire(5, { timeout: 3 });
   *   console.log('working');
   * }                                                 // released here, however the block ends
   */
  acquire(cost = 1, options?: AcquireOptions): Promise<Permit> {
    try {
      const now = this.#enter(cost, options);
      const permit = this.#queue.size === 0 ? this.#grant(now, cost) : undefined;
      return permit === undefined ? this.#join(now, cost, options) : Promise.resolve(permit);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Takes a permit if that is possible now and nobody waits, else returns `undefined`; so it does once closed.
   *
   * @param cost Tokens: finite, from 0 to `burst`. Default 1.
   * @throws {RangeError | TypeError} `cost` is out of range.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10);
   * const permit = throttle.tryAcquire();
   * console.log(permit ? 'in' : 'not now');
   * permit?.release();
   */
  tryAcquire(cost = 1): Permit | undefined {
    this.#checkCost(cost);
    const permit = this.#queue.size === 0 ? this.#grant(this.#now(), cost) : undefined;
    if (permit === undefined) this.#teller.refused({}, cost, undefined);
    return permit;
  }

  /**
   * Waits for a permit, calls `fn` with it and releases it when what `fn` returned has settled. `fn` always starts
   * asynchronously, in the asynchronous context of this call.
   *
   * @param fn The work. What it returns or throws is passed through untouched.
   * @param cost Tokens, as for {@link Throttle.acquire}.
   * @returns A promise that rejects as {@link Throttle.acquire} does, or with what `fn` throws. It never throws.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * const sum = await throttle.run(() => 1 + 1);
   */
  run<T>(fn: (permit: Permit) => T | PromiseLike<T>, cost = 1, options?: AcquireOptions): Promise<T> {
    try {
      checkFunction('fn', fn);
      const now = this.#enter(cost, options);
      const permit = this.#queue.size === 0 ? this.#grant(now, cost) : undefined;
      if (permit !== undefined) return Promise.resolve(permit).then((granted) => work(fn, granted));
      return this.#join(now, cost, options, fn).then(workOf<T>);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * A function with the parameters and the `this` of `fn` that runs each call through the throttle.
   *
   * @param cost Tokens for each call, or a function of the call's arguments that says how many. Default 1.
   * @throws {TypeError} `fn` is not a function.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(1_000, 4);
   * const send = throttle.wrap(async (text: string) => text.length, (text) => text.length);
   * console.log(await send('hello'));
   */
  wrap<This, Args extends unknown[], R>(
    fn: (this: This, ...args: Args) => R,
    cost: number | ((...args: Args) => number) = 1,
  ): (this: This, ...args: Args) => Promise<Awaited<R>> {
    return wrapThrough(this, fn, cost);
  }

  /**
   * Calls `fn` for each item through the throttle and collects the results in the order of the items. Items are
   * pulled lazily, one ahead of the work at the most, so `items` may be endless, or produce as slowly as it likes.
   * On the first failure, of `fn` or of `items`, or when `signal` aborts, the promise rejects at once, nothing more
   * is pulled or started, the iterator is closed, and running work is left to finish.
   *
   * @param items Anything for `for await`.
   * @param options `cost`: tokens for each item, or a function of the item that says how many. `signal`: ends it.
   * @returns A promise that rejects as {@link Throttle.acquire} does, or with what failed. It never throws.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(100, 4);
   * const lengths = await throttle.map(['a', 'bb', 'ccc'], async (word) => word.length);
   */
  map<T, R>(
    items: Iterable<T | PromiseLike<T>> | AsyncIterable<T>,
    fn: (item: T, index: number) => R | PromiseLike<R>,
    options?: MapOptions<T>,
  ): Promise<R[]> {
    return mapThrough(this, items, fn, options);
  }

  /**
   * Holds everyone who waits or comes, for at least `seconds` from now. The latest deadline asked for counts: a
   * shorter pause never shortens a longer one, and `pause(0)` changes nothing. Running work goes on, and so does the
   * refill, up to `burst`.
   *
   * @param seconds >= 0. Default `Infinity`: until `resume`.
   * @throws {RangeError | TypeError} `seconds` is out of range.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * const response = await throttle.run(async () => new Response('slow down', { status: 429 }));
   * if (response.status === 429) throttle.pause(30);  // everyone still waiting waits at least 30 s more
   */
  pause(seconds: number = Infinity): void {
    checkNumber('seconds', 'a number >= 0', seconds, 0, Infinity);
    if (seconds === 0) return;
    const now = this.#now();
    this.#pausedUntil = Math.max(this.#pausedUntil, now + seconds);
    this.#rest();
    this.#teller.paused(this.#pausedUntil - now);
    // Set anew, from now: where the clock has stepped back meanwhile, the timer may come before the pause is over.
    this.#wakeAt(now, Infinity);
    this.#review(now);
  }

  /** Ends every pause now. Whoever fits is granted before it returns. */
  resume(): void {
    this.#pausedUntil = -Infinity;
    this.#teller.paused(0);
    this.#review();
  }

  /** Resolves once nobody waits and the last permit is back; at once where that is so already. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#onIdle.push(resolve);
      this.#restMatters = true;
      this.#rest();
    });
  }

  /**
   * Closes the throttle for good: everyone who waits and everyone who comes gets a {@link ThrottleClosedError} with
   * `reason` as its `cause`. Running work finishes; await {@link Throttle.idle} for that. Only the first call counts.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * throttle.close(new Error('shutting down'));
   * await throttle.idle();
   */
  close(reason?: unknown): void {
    if (this.#closed !== undefined) return;
    this.#closed = { reason };
    this.#slots = 0;
    // One error for all of them: a stack trace for each of 100,000 would take a second and say the same.
    const error = this.#closedError();
    this.#queue.refuseAll(() => error);
    this.#review();
  }

  /** `close()`, then `idle()`: `await using throttle = new Throttle(10)` ends with nothing left running. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return this.idle();
  }

  /**
   * Seconds that a call of `acquire(cost)` would wait at least: what pause and tokens alone demand, for all who wait
   * and `cost` behind them. Slots come back when they come back, so nobody can say how much longer it takes.
   * `Infinity` while paused without an end.
   *
   * @throws {RangeError | TypeError} `cost` is out of range.
   */
  estimateWait(cost = 1): number {
    this.#checkCost(cost);
    return this.#estimate(this.#now(), cost);
  }

  /**
   * Changes limits while the throttle is in use. What is left out stays, and a `burst` that was never given follows
   * `capacity`. The tokens at hand stay as they are, but for what a smaller `burst` cannot hold; in a sliding window
   * the grants that still count do. Only an unlimited rate forgets. A lower `concurrency` revokes nothing: nothing
   * starts until enough permits are back. Whoever waits with a cost that could now never be granted gets a
   * `RangeError`; whoever fits is granted before it returns.
   *
   * @throws {RangeError | TypeError} A limit is out of range. Nothing changes then.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * throttle.configure({ capacity: 100, period: 60 });
   */
  configure(limits: Limits): void {
    checkObject('limits', limits);
    const { capacity = this.#capacity, concurrency = this.#concurrency, period = this.#period, burst = this.#burst } = limits;
    this.#limit(capacity, concurrency, period, burst);
    this.#queue.refuseAll((waiter) => (waiter.cost > this.#maxCost ? this.#oversize(waiter.cost) : undefined));
    this.#review();
  }

  /** Checks the limits, all of them before any is set. */
  #limit(capacity: number, concurrency: number, period: number, burst: number | undefined): void {
    checkCount('concurrency', concurrency);
    // A new throttle reads no clock: its budget is full, whenever that is.
    const now = this.#own === undefined ? -Infinity : this.#now();
    this.#own = budgetFor({ capacity, period, burst, window: this.#window, margin: this.#margin }, '', now, this.#own);
    const budgets = [this.#own, ...this.#also.map(({ budget }) => budget)].filter((budget) => budget !== undefined);
    this.#budget = budgets.length > 1 ? new CombinedBudget(budgets) : budgets[0];
    this.#capacity = capacity;
    this.#concurrency = concurrency;
    if (this.#closed === undefined) this.#slots = concurrency === 0 ? Infinity : concurrency;
    this.#period = period;
    this.#burst = burst;
    this.#size = Math.min(this.#budget?.burst ?? Infinity, burst ?? Infinity);
    this.#maxCost = Math.min(this.#size, Number.MAX_VALUE);
  }

  /** The present instant; never before one seen earlier, so a clock that steps back grants nothing. */
  #now(): number {
    const now = this.#clock.now();
    return now > this.#latest ? (this.#latest = now) : this.#latest;
  }

  /** The one decision: a permit, if a slot is free, no pause holds and the tokens are there; and then it is taken. */
  #grant(now: number, cost: number, waiter?: Waiter<Permit>): Permit | undefined {
    if (this.#active >= this.#slots || now < this.#pausedUntil) return undefined;
    if (this.#budget !== undefined && !this.#budget.take(now, cost)) return undefined;
    this.#active++;
    this.#spent += cost;
    if (waiter !== undefined) return this.#handOver(now, waiter);
    const permit = new Grant(this.#issuer, cost, 0, this.#spent);
    this.#teller.granted(permit);
    return permit;
  }

  /** What was granted goes to who waits for it. Apart, so that the rest is small enough to be inlined by whoever calls. */
  #handOver(now: number, waiter: Waiter<Permit>): Permit {
    // Whoever heard of another grant, and came because of it, may have come after `now`.
    const permit = new Grant(this.#issuer, waiter.cost, Math.max(0, now - waiter.since), this.#spent);
    this.#queue.grant(waiter, permit);
    this.#teller.handedOver(permit, waiter);
    return permit;
  }

  /** Grants the head for as long as it fits, then sets the timer for the instant from which it will. */
  #drain(now: number): void {
    for (let head = this.#queue.head; head !== undefined; head = this.#queue.head) {
      if (this.#grant(now, head.cost, head) !== undefined) continue;
      return this.#wakeAt(now, this.#active < this.#slots ? this.#opensAt(now, head.cost) : Infinity);
    }
    this.#wakeAt(now, Infinity);
  }

  /** The instant from which pause and tokens let `cost` through. */
  #opensAt(now: number, cost: number): number {
    const opens = Math.max(now, this.#pausedUntil);
    return this.#budget?.readyAt(opens, cost) ?? opens;
  }

  /** Something changed that may let the head go, or leave nobody. */
  #review(now?: number): void {
    if (this.#queue.size > 0) this.#drain(now ?? this.#now());
    else this.#wakeAt(0, Infinity);
    this.#rest();
  }

  /** Before somebody is late: what rounding kept from the instant of the head by now has come. */
  #lastLook(timeout: number): void {
    if (this.#wakesAt - this.#now() <= timeout * ROUNDING) this.#latest = Math.max(this.#latest, this.#wakesAt);
    this.#review();
  }

  /** Where nothing runs and nobody waits, tells those who asked for it. */
  #rest(): void {
    if (this.#active > 0 || this.#queue.size > 0) return;
    if (this.#onIdle.length > 0) for (const resolve of this.#onIdle.splice(0)) resolve();
    this.#keeper?.rested(this.#closed === undefined ? Math.max(this.#pausedUntil, this.#budget?.fullAt() ?? -Infinity) : Infinity);
  }

  /** The true cost of a permit is known. */
  #settle(permit: Grant, difference: number): void {
    const now = this.#now();
    this.#budget?.settle(now, difference, this.#spent - permit.mark);
    if (difference > 0) this.#spent += difference;
    this.#review(now);
  }

  /** Sets the timer for the instant `at`; `Infinity` for none. */
  #wakeAt(now: number, at: number): void {
    if (at === this.#wakesAt) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#wakesAt = at;
    if (at === Infinity) return;
    const set = this.#clock.now();
    const delay = at - now;
    this.#cancelTimer = this.#clock.schedule(delay, () => {
      this.#wakesAt = Infinity;
      // Timers fire up to a millisecond early: then it is set again, for the rest. Otherwise its word is taken that `at`
      // has come, though rounding, or a clock that stepped back, may say "not quite": nobody is held for ever.
      const elapsed = this.#clock.now() - set;
      const reached = elapsed >= 0 && elapsed < delay ? now + elapsed : at;
      if (reached > this.#latest) this.#latest = reached;
      this.#review();
    });
  }

  /** Checks a call, and says when it came. */
  #enter(cost: number, options: AcquireOptions | undefined): number {
    this.#checkCost(cost);
    if (options !== undefined) checkAcquireOptions(options);
    return this.#now();
  }

  /** A place in the queue, unless it is full or the deadline hopeless. */
  #join(now: number, cost: number, options: AcquireOptions | undefined): Promise<Permit>;
  #join<T>(now: number, cost: number, options: AcquireOptions | undefined, fn: Job<Permit, T>['fn']): Promise<Job<Permit, T>>;
  #join(now: number, cost: number, { signal, timeout = Infinity }: AcquireOptions = {}, fn?: Job<Permit>['fn']): Promise<unknown> {
    if (this.#closed !== undefined) throw this.#turnedAway(cost, this.#closedError());
    const late = (at: number): ThrottleTimeoutError =>
      this.#refusal(ThrottleTimeoutError, at, cost, `has no permit for a cost of ${cost} within the timeout of ${timeout} s`);
    // A rounding error short of the estimate still makes it: the deadline is enforced after one more look.
    if (timeout === 0 || (timeout < Infinity && timeout * (1 + ROUNDING) < this.#estimate(now, cost))) throw this.#turnedAway(cost, late(now));
    if (this.#queue.size >= this.#maxQueue) {
      throw this.#turnedAway(cost, this.#refusal(QueueFullError, now, cost, `lets ${this.#maxQueue} wait, not more`));
    }
    const exits = signal === undefined && timeout === Infinity ? undefined : { signal, timeout, late: () => late(this.#now()) };
    const promise = this.#queue.join(cost, now, exits, fn);
    const place = this.#queue.tail as object;
    // Only the first in line is timed.
    if (this.#queue.size === 1) this.#drain(now);
    this.#teller.queued(place, cost);
    return promise;
  }

  /** Tells of a caller who gets no place. */
  #turnedAway(cost: number, error: Error): Error {
    this.#teller.refused({}, cost, error);
    return error;
  }

  /** The error for a caller who is turned away, with what to do about it. */
  #refusal<E>(Kind: new (message: string, options: ThrottleErrorOptions) => E, now: number, cost: number, what: string): E {
    return refusal(Kind, `${this.#label()} ${what}`, this.#estimate(now, cost), this.#active, this.#queue.size);
  }

  #estimate(now: number, cost: number): number {
    const opens = this.#opensAt(now, this.#queue.cost + cost);
    let wait = Math.max(0, opens - now);
    // Whoever waits so long comes late enough, rounding or not.
    while (now + wait < opens) wait *= 1 + Number.EPSILON;
    return wait;
  }

  #checkCost(cost: number): void {
    if (!(cost >= 0 && cost <= this.#maxCost && typeof cost === 'number')) throw this.#oversize(cost);
  }

  #oversize(cost: number): Error {
    checkCost(cost);
    return invalid('cost', `at most ${this.burst}, the burst of ${this.#label()}`, cost, RangeError);
  }

  #closedError(): ThrottleClosedError {
    return new ThrottleClosedError(`${this.#label()} is closed`, { cause: this.#closed?.reason });
  }

  /** Which throttle, and its limits, for messages. */
  #label(): string {
    const own = { capacity: this.#capacity, period: this.#period, window: this.#window };
    return `Throttle${this.#name === undefined ? '' : ` "${this.#name}"`} (${describeLimits([own, ...this.#also.map((also) => also.rate)], this.#concurrency)})`;
  }
}

/** What `run` does once the queue has let it go. */
function workOf<T>(job: Job<Permit, T>): Promise<T> {
  const { permit } = job;
  if (permit === undefined) throw job.error;
  // The job is old by now: holding on to a new object, it would keep that from being collected young.
  job.permit = undefined;
  return work(job.fn, permit);
}
