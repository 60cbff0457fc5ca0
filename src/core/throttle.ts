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
import { type Budget, CombinedBudget } from './budget.js';
import { EventPublisher } from './events.js';
import { type Clock, readClock } from './clock.js';
import { QueueFullError, ThrottleClosedError, type ThrottleErrorOptions, ThrottleTimeoutError } from './errors.js';
import { refusal, printable } from './refusals.js';
import { checkAcquireOptions, checkCost, checkFunction, checkNumber, checkObject, invalid } from './validation.js';
import type { AcquireOptions, Gate } from './gate.js';
import { mapItems, type MapOptions, wrapFunction } from './map.js';
import { addDisposal } from './dispose.js';
import { Grant, type Permit, runWithPermit } from './permit.js';
import { type Job, ignoreErrors, ROUNDING, type Waiter, WaitQueue } from './wait-queue.js';
import {
  type CheckedLimits,
  checkLimits,
  checkSettings,
  createBudget,
  describeLimits,
  type Rate,
  type Settings,
} from './limits.js';

/** Keeps a throttle for as long as it makes a difference. */
export interface ThrottleOwner {
  /** Nothing runs and nothing waits; from the instant `evictableAt` it equals a new throttle, if nothing happens until then. */
  onIdle(evictableAt: number): void;
  /** The throttle that has taken its place by now, which pays its debts. */
  currentThrottle(): Throttle;
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
  /** The bucket's size, > 0. A sliding window has none. `undefined`, given explicitly, lets it follow the capacity again. */
  burst?: number | undefined;
}

/** The queue of a throttle until the first caller waits: most never have a waiter. It stays empty. */
const NO_WAITERS: WaitQueue<Permit> = /* @__PURE__ */ new WaitQueue<Permit>(undefined as never);

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
  /** `close()`, then `idle()`: `await using` ends with nothing left running. The constructor adds it, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  readonly #settings: Settings;
  #limits: CheckedLimits;
  readonly #owner: ThrottleOwner | undefined;

  /** The budget of `capacity` per `period`; absent where that is unlimited. And those of `also`. */
  #ownBudget: Budget | undefined;
  readonly #alsoBudgets: readonly Budget[];
  /** All of them as one. */
  #budget: Budget | undefined;
  /** The largest cost that can be granted. */
  #maxCost = 0;
  /** `concurrency` as a bound; none once closed. */
  #slots = 0;
  #active = 0;
  #pausedUntil = -Infinity;
  /** How many grants there were: each has its number. */
  #serial = 0;
  /** The latest instant seen. */
  #latest = -Infinity;
  /** The instant that the timer is set for. */
  #timerAt = Infinity;
  #cancelTimer: (() => void) | undefined;
  #closed: { readonly reason: unknown } | undefined;
  #idleListeners: (() => void)[] | undefined;
  /** Whether an idle listener or an owner was ever there. */
  #hasIdleListeners: boolean;
  #queue = NO_WAITERS;
  readonly #publisher: EventPublisher;

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
  /** With the limits and the settings of `model`, which are checked already. @internal */
  constructor(model: Throttle, owner: ThrottleOwner);
  constructor(
    capacity: number | Throttle,
    concurrency: number | ThrottleOwner = 0,
    period = 1,
    options: ThrottleOptions = {},
  ) {
    addDisposal(Throttle.prototype, 'asyncDispose', disposeThrottle);
    if (Object(capacity) === capacity && #settings in (capacity as object)) {
      const model = capacity as Throttle;
      this.#settings = model.#settings;
      this.#limits = model.#limits;
      this.#owner = concurrency as ThrottleOwner;
      this.#ownBudget = model.#ownBudget?.fresh();
      this.#alsoBudgets =
        model.#alsoBudgets.length === 0 ? model.#alsoBudgets : model.#alsoBudgets.map((budget) => budget.fresh());
    } else {
      this.#settings = checkSettings(options);
      const { burst, window, margin } = options;
      this.#limits = checkLimits({
        capacity: capacity as number,
        concurrency: concurrency as number,
        period,
        burst,
        window,
        margin,
      });
      this.#alsoBudgets = this.#settings.also
        .map((rate) => createBudget(rate))
        .filter((budget) => budget !== undefined);
      this.#ownBudget = createBudget(this.#limits);
    }
    this.#hasIdleListeners = this.#owner !== undefined;
    this.#publisher = new EventPublisher(this.#settings.silent === true ? undefined : this, this.#settings.clock);
    this.#applyLimits();
  }

  /** Tokens per period. */
  get capacity(): number {
    return this.#limits.capacity;
  }

  /** How many run at a time, as it was set: `0` and `Infinity` mean any number. */
  get concurrency(): number {
    return this.#limits.concurrency;
  }

  /** Seconds. */
  get period(): number {
    return this.#limits.period;
  }

  /** What may start at once after silence, and the largest cost: the bucket's size, or the least of several. */
  get burst(): number {
    return Math.min(this.#budget?.burst ?? Infinity, this.#limits.burst ?? Infinity);
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
    return this.#settings.name;
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
      const now = this.#validateCall(cost, options);
      const permit = this.#queue.size === 0 ? this.#grant(now, cost) : undefined;
      return permit === undefined ? this.#enqueue(now, cost, options) : Promise.resolve(permit);
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
    if (permit === undefined) this.#publisher.refused({}, cost, undefined);
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
      const now = this.#validateCall(cost, options);
      const signal = options?.signal;
      const permit = this.#queue.size === 0 ? this.#grant(now, cost) : undefined;
      if (permit !== undefined) return Promise.resolve(permit).then((granted) => runWithPermit(fn, granted, signal));
      const job = this.#enqueue(now, cost, options, fn);
      return signal === undefined ? job.then(runJob<T>) : job.then((granted) => runJob(granted, signal));
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
    return wrapFunction(this, fn, cost);
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
    return mapItems(this, items, fn, options);
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
    this.#notifyIfIdle();
    this.#publisher.paused(this.#pausedUntil - now);
    // Set anew, from now: where the clock has stepped back meanwhile, the timer may come before the pause is over.
    this.#setTimer(now, Infinity);
    this.#reschedule(now);
  }

  /** Ends every pause now. Whoever fits is granted before it returns. */
  resume(): void {
    this.#pausedUntil = -Infinity;
    this.#publisher.paused(0);
    this.#reschedule();
  }

  /** Resolves once nobody waits and the last permit is back; at once where that is so already. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      (this.#idleListeners ??= []).push(resolve);
      this.#hasIdleListeners = true;
      this.#notifyIfIdle();
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
    this.#reschedule();
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
    const current = this.#limits;
    const { capacity = current.capacity, concurrency = current.concurrency, period = current.period } = limits;
    const burst = 'burst' in limits ? limits.burst : current.burst;
    // All limits are checked before any is set.
    const checked = checkLimits({ ...current, capacity, concurrency, period, burst });
    this.#ownBudget = createBudget(checked, this.#now(), this.#serial, this.#ownBudget);
    this.#limits = checked;
    this.#applyLimits();
    this.#queue.refuseAll((waiter) => (waiter.cost > this.#maxCost ? this.#oversize(waiter.cost) : undefined));
    this.#reschedule();
  }

  #applyLimits(): void {
    const budgets = this.#ownBudget === undefined ? this.#alsoBudgets : [this.#ownBudget, ...this.#alsoBudgets];
    this.#budget = budgets.length > 1 ? new CombinedBudget(budgets) : budgets[0];
    if (this.#closed === undefined) this.#slots = this.#limits.concurrency || Infinity;
    this.#maxCost = Math.min(this.burst, Number.MAX_VALUE);
  }

  /**
   * The present instant; never before one seen earlier, so a clock that steps back grants nothing.
   *
   * @throws Whatever the clock throws, and a TypeError while it has never shown a number.
   */
  #now(): number {
    const now = this.#settings.clock.now();
    if (now > this.#latest && now < Infinity) this.#latest = now;
    else if (this.#latest === -Infinity) throw invalid('clock.now()', 'a finite number', now);
    return this.#latest;
  }

  /** The present instant or, if the clock throws, the latest one seen: for what must not fail half-way. */
  #nowOrLatest(): number {
    try {
      return this.#now();
    } catch {
      return this.#latest;
    }
  }

  /** The one decision: a permit, if a slot is free, no pause holds and the tokens are there; and then it is taken. */
  #grant(now: number, cost: number, waiter?: Waiter<Permit>): Permit | undefined {
    if (this.#active >= this.#slots || now < this.#pausedUntil) return undefined;
    if (this.#budget !== undefined && !this.#budget.take(now, cost, this.#serial + 1)) return undefined;
    this.#active++;
    this.#serial++;
    if (waiter !== undefined) return this.#grantWaiter(now, waiter);
    const permit = new Grant(this, cost, 0, this.#serial);
    this.#publisher.granted(permit);
    return permit;
  }

  /** Gives a waiter its permit. Kept separate so that `#grant` stays small enough to inline. */
  #grantWaiter(now: number, waiter: Waiter<Permit>): Permit {
    // A subscriber may call `acquire` during a grant, so `since` can exceed `now`.
    const permit = new Grant(this, waiter.cost, Math.max(0, now - waiter.since), this.#serial);
    this.#queue.grant(waiter, permit);
    this.#publisher.handedOver(permit, waiter);
    return permit;
  }

  /** A permit came back. @internal */
  onRelease(permit: Grant): void {
    this.#active--;
    if (this.#hasIdleListeners) this.#notifyIfIdle();
    this.#publisher.released(permit);
    if (this.#queue.size > 0) this.#drain(this.#nowOrLatest());
  }

  /** The true cost of a permit is known. @internal */
  onSettle({ serial }: Grant, difference: number): void {
    // Where another throttle has taken this one's place, a debt is for that one to pay; nothing of a refund can be left.
    const payer = difference > 0 ? (this.#owner?.currentThrottle() ?? this) : this;
    const now = payer.#nowOrLatest();
    if (payer === this) this.#budget?.settle(now, difference, serial);
    else if (this.#budget !== undefined) payer.#budget?.settleEarlier(now, this.#budget, difference, serial);
    payer.#reschedule(now);
  }

  /** Grants the head for as long as it fits, then sets the timer for the instant from which it will. */
  #drain(now: number): void {
    for (let head = this.#queue.head; head !== undefined; head = this.#queue.head) {
      if (this.#grant(now, head.cost, head) === undefined && this.#timeHead(now, head)) return;
    }
    this.#setTimer(now, Infinity);
  }

  /** Sets the timer for the head. If the clock throws, the head is refused with that: without a timer it might wait for ever. */
  #timeHead(now: number, head: Waiter<Permit>): boolean {
    try {
      this.#setTimer(now, this.#active < this.#slots ? this.#opensAt(now, head.cost) : Infinity);
      return true;
    } catch (error) {
      this.#queue.refuse(head, () => error);
      return false;
    }
  }

  /** The instant from which pause and tokens let `cost` through. */
  #opensAt(now: number, cost: number): number {
    const opens = Math.max(now, this.#pausedUntil);
    return this.#budget?.readyAt(opens, cost) ?? opens;
  }

  /** Something changed that may let the head go, or leave the throttle idle. */
  #reschedule(now?: number): void {
    if (this.#queue.size > 0) this.#drain(now ?? this.#nowOrLatest());
    else this.#setTimer(0, Infinity);
    this.#notifyIfIdle();
  }

  /** Before a waiter is late: what rounding kept from the instant of the head by now has come. */
  #grantBeforeTimeout(timeout: number): void {
    if (this.#timerAt - this.#nowOrLatest() <= timeout * ROUNDING) this.#latest = Math.max(this.#latest, this.#timerAt);
    this.#reschedule();
  }

  /** Where nothing runs and nothing waits, notifies the idle listeners and the owner. */
  #notifyIfIdle(): void {
    if (this.#active > 0 || this.#queue.size > 0) return;
    const listeners = this.#idleListeners;
    this.#idleListeners = undefined;
    if (listeners !== undefined) for (const resolve of listeners) resolve();
    this.#owner?.onIdle(
      this.#closed === undefined ? Math.max(this.#pausedUntil, this.#budget?.fullAt() ?? -Infinity) : Infinity,
    );
  }

  /** Sets the timer for the instant `at`; `Infinity` for none. */
  #setTimer(now: number, at: number): void {
    if (at === this.#timerAt) return;
    ignoreErrors(this.#cancelTimer);
    this.#cancelTimer = undefined;
    this.#timerAt = Infinity;
    if (at < Infinity) this.#schedule(now, at);
  }

  #schedule(now: number, at: number): void {
    const { clock } = this.#settings;
    const set = clock.now();
    const delay = at - now;
    let cancelled = false;
    const cancel = clock.schedule(delay, () => {
      // A timer that was cancelled, or has fired before, may fire all the same.
      if (cancelled) return;
      cancelled = true;
      this.#cancelTimer = undefined;
      this.#timerAt = Infinity;
      // Timers fire up to a millisecond early: then it is set again, for the rest. Otherwise the timer's word is taken that
      // `at` has come, though rounding, or a clock that stepped back, may say "not quite": no waiter is held for ever.
      const elapsed = readClock(clock) - set;
      const reached = elapsed >= 0 && elapsed < delay ? now + elapsed : at;
      if (reached > this.#latest) this.#latest = reached;
      this.#reschedule();
    });
    if (cancelled) return;
    this.#timerAt = at;
    this.#cancelTimer = () => {
      cancelled = true;
      cancel();
    };
  }

  /** Checks a call. Returns the instant at which it came. */
  #validateCall(cost: number, options: AcquireOptions | undefined): number {
    this.#checkCost(cost);
    if (options !== undefined) checkAcquireOptions(options);
    return this.#now();
  }

  /** Takes a place in the queue, unless the queue is full or the deadline cannot be met. */
  #enqueue(now: number, cost: number, options: AcquireOptions | undefined): Promise<Permit>;
  #enqueue<T>(
    now: number,
    cost: number,
    options: AcquireOptions | undefined,
    fn: Job<Permit, T>['fn'],
  ): Promise<Job<Permit, T>>;
  #enqueue(
    now: number,
    cost: number,
    { signal, timeout = Infinity, stack }: AcquireOptions = {},
    fn?: Job<Permit>['fn'],
  ): Promise<unknown> {
    if (this.#closed !== undefined) throw this.#publishRefusal(cost, this.#closedError());
    const late = (at: number): ThrottleTimeoutError =>
      this.#refusal(
        ThrottleTimeoutError,
        at,
        cost,
        `has no permit for a cost of ${cost} within the timeout of ${timeout} s`,
        stack,
      );
    // A rounding error short of the estimate still makes it: the deadline is enforced after one more look.
    if (timeout === 0 || (timeout < Infinity && timeout * (1 + ROUNDING) < this.#estimate(now, cost)))
      throw this.#publishRefusal(cost, late(now));
    const { maxQueue } = this.#settings;
    if (this.#queue.size >= maxQueue)
      throw this.#publishRefusal(
        cost,
        this.#refusal(QueueFullError, now, cost, `lets ${maxQueue} wait, not more`, stack),
      );
    if (this.#queue === NO_WAITERS) this.#queue = this.#makeQueue();
    const cancel =
      signal === undefined && timeout === Infinity
        ? undefined
        : { signal, timeout, late: () => late(this.#nowOrLatest()) };
    const promise = this.#queue.join(cost, now, cancel, fn);
    const waiter = this.#queue.tail as object;
    // Only the first in line is timed.
    if (this.#queue.size === 1) this.#drain(now);
    this.#publisher.queued(waiter, cost);
    return promise;
  }

  #makeQueue(): WaitQueue<Permit> {
    const { clock } = this.#settings;
    return new WaitQueue({
      schedule: (seconds, callback) => clock.schedule(seconds, callback),
      now: () => readClock(clock),
      review: () => this.#reschedule(),
      grantBeforeTimeout: (timeout) => this.#grantBeforeTimeout(timeout),
      onRefused: (waiter, error, reason) => {
        this.#notifyIfIdle();
        this.#publisher.refused(waiter, waiter.cost, error, reason);
      },
    });
  }

  /** Publishes the refusal of a caller that gets no place. */
  #publishRefusal(cost: number, error: Error): Error {
    this.#publisher.refused({}, cost, error);
    return error;
  }

  /** The error for a caller that is refused, with what to do about it. */
  #refusal<E>(
    Kind: new (message: string, options: ThrottleErrorOptions) => E,
    now: number,
    cost: number,
    what: string,
    stack?: false,
  ): E {
    return refusal(Kind, `${this.#label()} ${what}`, this.#estimate(now, cost), this.#active, this.#queue.size, stack);
  }

  #estimate(now: number, cost: number): number {
    const opens = this.#opensAt(now, this.#queue.cost + cost);
    let wait = Math.max(0, opens - now);
    // A caller that waits so long comes late enough, rounding or not.
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

  /** The throttle's name and its limits, for messages. */
  #label(): string {
    const { name, also } = this.#settings;
    const limits = describeLimits([this.#limits, ...also], this.#limits.concurrency);
    return `Throttle${name === undefined ? '' : ` ${printable(name)}`} (${limits})`;
  }
}

function disposeThrottle(this: Throttle): Promise<void> {
  this.close();
  return this.idle();
}

/** What `run` does once its job has left the queue. */
function runJob<T>(job: Job<Permit, T>, signal?: AbortSignal): Promise<T> {
  const { permit } = job;
  if (permit === undefined) throw job.error;
  // The job is old by now: holding on to a new object, it would keep that from being collected young.
  job.permit = undefined;
  return runWithPermit(job.fn, permit, signal);
}
