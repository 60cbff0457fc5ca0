/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A throttle decides whether work may start now and, if not, when. It enforces two limits together: how many jobs run
 * at a time (a semaphore), and how much work starts per period (a token bucket, or a sliding window).
 *
 * Terms. A caller requests a permit for a cost, in tokens. A granted permit occupies a slot until its holder releases
 * the permit; the tokens stay spent. A caller without a permit becomes a waiter in a queue. The first waiter is the
 * head.
 *
 * Order. The throttle grants permits strictly in the order of the calls. Any other order starves large jobs: with 10
 * tokens per second and a steady stream of jobs of cost 1, a job of cost 10 never finds 10 tokens. With FIFO order,
 * that job waits at most 1 s as the head. No other call passes the head, not even a `tryAcquire` that would fit. The
 * price is head-of-line blocking: the small jobs behind the head wait too. The bucket keeps the unused tokens, up to
 * `burst`. So the price is latency: at most `cost / rate` seconds for each large job ahead. If this latency matters,
 * give large jobs a throttle of their own.
 *
 * Rate. A counter that restarts every period permits 2 x capacity around a restart: 10 calls at 0.99 s and 10 more at
 * 1.00 s. A bucket of `burst` tokens refills evenly, so any span of w seconds starts at most burst + rate x w. A full
 * bucket of 10 tokens, at 10 per second, starts 10 jobs at once and one more every 0.1 s: 20 jobs in the first second,
 * 10 in each later second. An idle bucket is full, so a burst after an idle time has no delay. Two settings enforce at
 * most 10 per second more strictly. `burst: 1` starts one job every 0.1 s, which makes 11 in a second with both ends
 * included. `window: 'sliding'` records each grant for a second. It starts 10 jobs at once, and the next job when the
 * first grant is one second old.
 *
 * Names. A rate of `also` may have a name, and a call may state a cost for each name, see `cost.ts`. All rates and the
 * slots of a call are taken in one step, or none of them.
 *
 * Waiting. A waiter holds no slot while it waits for tokens, and no tokens while it waits for a slot. So a waiter
 * blocks no resource, and cancelling a waiter returns none. A formula gives the instant at which pause and tokens
 * permit the head, and one timer is set for that instant. Without waiters there is no timer. Timers of a platform have
 * a resolution of about 2 ms. A bucket overflows before the timer fires if its burst is smaller than the refill of 2
 * ms. Such a throttle cannot reach its full rate: with `burst: 1`, expect at most 400 grants per second.
 *
 * Decision. `#grant` is the only function that decides. It returns a permit if a slot is free, no pause is in force and
 * the budget has the tokens; it takes the slot and the tokens in the same step. `#drainQueue` calls `#grant` for the
 * head until `#grant` returns no permit, and then sets the timer. Every change of a limit ends in `#drainQueue`: a
 * release, a settlement, a pause, an abort, new limits, the timer. With an empty queue, a call of `acquire` calls
 * `#grant` directly. Otherwise the call joins the queue.
 *
 * Re-entrancy. A grant resolves a promise, so it runs no code of the caller. No caller re-enters the throttle in the
 * middle of a decision, nothing recurses, and work starts in the asynchronous context of its own caller. Only the
 * subscribers of `events.ts` run synchronously. They run after a decision is complete.
 */
import { EventPublisher } from './events.js';
import { readClock } from './clock.js';
import { development } from './development.js';
import { type Cost, describeCost, mainCost, type NamedRates, readLevels, type Terms } from './cost.js';
import {
  PermitExpiredError,
  QueueClearedError,
  QueueFullError,
  ThrottleClosedError,
  type ThrottleErrorOptions,
  ThrottleTimeoutError,
} from './errors.js';
import { Expiry } from './expiry.js';
import { IdleListeners, type IdleOptions, readBelow } from './idle.js';
import { addInspection, readFields, type ThrottleData } from './inspect.js';
import { checkLimits, checkSettings, type Rate, type Settings } from './limits.js';
import { clearedMessage, DRAINS, refusal } from './refusals.js';
import { checkFunction, checkNumber, invalid, readOnlyLower } from './validation.js';
import type { AcquireOptions, CorrectOptions, Gate } from './gate.js';
import { mapItems, type MapOptions, wrapFunction } from './map.js';
import { addDisposal } from './dispose.js';
import { Grant, runWithPermit, type ThrottlePermit } from './permit.js';
import { readSettings, THROTTLE_SETTINGS } from './settings.js';
import { ThrottleLimits } from './throttle-limits.js';
import type { Limits, ThrottleOptions, ThrottleSettings } from './throttle-options.js';
import { Timer } from './timer.js';
import { type RunCall, ignoreErrors, ROUNDING, type Waiter, WaitQueue } from './wait-queue.js';

/** The collection that a throttle belongs to. It evicts the throttle when a new throttle would behave the same. */
export interface ThrottleOwner {
  /**
   * Called when no job runs and no caller waits. Without further calls, the throttle equals a new throttle from the
   * instant `evictableAt` on.
   */
  onIdle(evictableAt: number): void;
  /** The throttle that has replaced this throttle after an eviction. It takes over the debts of this throttle. */
  currentThrottle(): Throttle<string>;
  /** Called when a caller has joined the queue (1) or has left it (-1). It runs no code of a user. */
  onResize(change: 1 | -1): void;
}

/**
 * The queue of every throttle that has had no waiter yet. It stays empty. Most throttles never need their own queue.
 */
const NO_WAITERS: WaitQueue<Grant> = /* @__PURE__ */ new WaitQueue<Grant>(undefined as never);

/** The value of `#closed` between `drain` and `close`: the waiters are still granted. */
const DRAINING = { reason: undefined };

/** The fields that `toJSON` shows. */
const FIELDS = 'name capacity concurrency period burst tokens levels active waiting pausedFor closed';

/**
 * A throttle runs at most `concurrency` jobs at a time, and starts at most `capacity` tokens of work per `period`
 * seconds. It grants permits strictly in the order of the calls.
 *
 * A job that acquires a second permit of the same throttle can deadlock. With `concurrency: 1` it always deadlocks.
 * With a higher `concurrency` it deadlocks when every running job waits for its second permit. Use one throttle for the
 * outer work and one for the inner work, or a `timeout`.
 *
 * @example
 * import { Throttle } from 'headgate';
 *
 * const throttle = new Throttle(10, 2);             // 10 per second, 2 at a time
 * const answers = await Promise.all(['a', 'b', 'c'].map((name) => throttle.run(async () => name.toUpperCase())));
 */
export class Throttle<Name extends string = never> implements Gate {
  /** Calls `close()`, then waits for `idle()`. The constructor adds this method, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  readonly #limits: ThrottleLimits;
  readonly #settings: Settings;
  readonly #owner: ThrottleOwner | undefined;
  /** The upper bound of `#active`: `Infinity` without a limit, -1 once the throttle is closed. */
  #maxActive = 0;
  /** The number of occupied slots. */
  #active = 0;
  #pausedUntil = -Infinity;
  /** The serial number of the latest grant. */
  #serial = 0;
  /** The latest instant that the clock has returned or a timer has confirmed. */
  #latestNow = -Infinity;
  /** The timer of the head. */
  #timer: Timer | undefined;
  /** The permits that expire; `undefined` without a `ttl`. */
  readonly #expiry: Expiry | undefined;
  #closed: { readonly reason: unknown } | undefined;
  #idleListeners: IdleListeners | undefined;
  /** Whether the throttle has an owner or has ever had an idle listener. */
  #hasIdleListeners: boolean;
  #queue = NO_WAITERS;
  readonly #publisher: EventPublisher;

  /**
   * @param settings {@link ThrottleSettings}: the limits and the options by name. The object may be frozen or inherit
   *   its settings, and is read once.
   * @throws {RangeError | TypeError} A setting is out of range, or has an unknown name. The message contains its name
   *   and the received value, or the nearest known name.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const pool = new Throttle({ concurrency: 5 });    // any rate, 5 at a time
   */
  constructor(settings: ThrottleSettings<Name>);
  /**
   * @param capacity Tokens per `period`: > 0; `Infinity` for no rate limit.
   * @param concurrency The largest number of jobs at a time: an integer >= 0; `0` (the default) and `Infinity` for no
   *   limit.
   * @param period Seconds: > 0, finite. Default 1.
   * @param options {@link ThrottleOptions}
   * @throws {RangeError | TypeError} An argument is out of range, or an option has an unknown name. The message contains
   *   its name and the received value, or the nearest known name.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const api = new Throttle(5_000, 10, 3_600, { burst: 100, name: 'github' });
   */
  constructor(capacity: number, concurrency?: number, period?: number, options?: ThrottleOptions<Name>);
  /** Creates a full throttle with the limits and the settings of `model`, without a new check. @internal */
  constructor(model: Throttle<Name>, owner: ThrottleOwner);
  constructor(...args: readonly unknown[]) {
    addDisposal(Throttle.prototype, 'asyncDispose', disposeThrottle);
    addInspection(Throttle.prototype, 'Throttle');
    if (Object(args[1]) === args[1] && Object(args[0]) === args[0] && #settings in (args[0] as object)) {
      this.#limits = (args[0] as Throttle<Name>).#limits.fresh();
      this.#owner = args[1] as ThrottleOwner;
    } else {
      const settings = readSettings('Throttle', THROTTLE_SETTINGS, args) as ThrottleSettings<Name>;
      this.#limits = new ThrottleLimits(checkSettings(settings), checkLimits(settings));
    }
    this.#settings = this.#limits.settings;
    this.#maxActive = this.concurrency || Infinity;
    this.#hasIdleListeners = this.#owner !== undefined;
    const { clock, names, silent, ttl } = this.#settings;
    this.#publisher = new EventPublisher(silent === true ? undefined : this, clock, names);
    if (ttl < Infinity) this.#expiry = new Expiry(clock, ttl, (now) => this.#onExpiryTimer(now));
  }

  /** Tokens per period. */
  get capacity(): number {
    return this.#limits.current.capacity;
  }

  /** The largest number of jobs at a time, as configured: `0` and `Infinity` mean no limit. */
  get concurrency(): number {
    return this.#limits.current.concurrency;
  }

  /** The period of the capacity, in seconds. */
  get period(): number {
    return this.#limits.current.period;
  }

  /**
   * The largest cost, and the tokens that an idle throttle can grant at once. With several rates: the smallest burst of
   * the rates without a name.
   */
  get burst(): number {
    return this.#limits.burst;
  }

  /**
   * The tokens available now. With several rates: the smallest level of the rates without a name. Negative while a
   * settled cost has left a debt.
   */
  get tokens(): number {
    return this.#limits.budget?.level(this.#now()) ?? this.burst;
  }

  /** The tokens of each named rate that are available now. Empty without named rates. */
  get levels(): Readonly<Record<Name, number>> {
    return this.#limits.levelsByName(this.#limits.isNamed ? this.#now() : 0);
  }

  /** The further rates, as checked: with their `period`, and without a `burst` that follows `capacity`. */
  get also(): readonly Readonly<Rate>[] {
    return this.#settings.also;
  }

  /** The number of slots that are occupied: one per permit, unless `slots` says otherwise. */
  get active(): number {
    return this.#active;
  }

  /** The number of waiters. */
  get waiting(): number {
    return this.#queue.size;
  }

  /** Seconds until the pause ends: `0` without a pause, `Infinity` for a pause without an end. */
  get pausedFor(): number {
    return Math.max(0, this.#pausedUntil - this.#now());
  }

  /** Whether `close` or `drain` has been called. */
  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** The name given in the options. */
  get name(): string | undefined {
    return this.#settings.name;
  }

  /**
   * Waits for a permit. The throttle grants permits in the order of the calls. The caller must release the permit when
   * the work is done; `using` and {@link Throttle.run} release the permit automatically.
   *
   * @param cost Tokens: finite, from 0 to `burst`. `0` takes a slot and no tokens. Default 1. A record
   *   charges each named rate its entry, and the other rates `cost`, see {@link CostRecord}.
   * @param options {@link AcquireOptions}
   * @returns A promise for the permit. It rejects with
   *   a `RangeError` or `TypeError` for an argument out of range;
   *   the `reason` of the signal once the signal aborts;
   *   a {@link ThrottleTimeoutError} after `timeout` seconds, or at once if `timeout` is shorter than
   *   `estimateWait(cost)`;
   *   a {@link QueueFullError} if `maxQueue` callers already wait;
   *   a {@link ThrottleClosedError} if the throttle is closed before the grant.
   *   The method itself never throws.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * {
   *   await using _ = await throttle.acquire(5, { timeout: 3 });
   *   console.log('working');
   * }                                                 // the permit is released here, also after an error
   */
  acquire(cost: Cost<Name> = 1, options?: AcquireOptions): Promise<ThrottlePermit<Name>> {
    try {
      const terms = this.#limits.readCall(cost, options);
      const tokens = mainCost(cost, terms);
      const permit = this.#grantAtOnce(tokens, terms);
      const granted = permit === undefined ? this.#enqueue(tokens, terms, options) : Promise.resolve(permit);
      return granted as Promise<ThrottlePermit<Name>>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Returns a permit if one is available now and the queue is empty. Otherwise, and once closed, returns `undefined`.
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
  tryAcquire(cost: Cost<Name> = 1): ThrottlePermit<Name> | undefined {
    const terms = this.#limits.readCall(cost);
    const tokens = mainCost(cost, terms);
    const permit = this.#grantAtOnce(tokens, terms);
    if (permit === undefined) this.#publisher.refused({}, tokens, undefined, undefined, terms);
    return permit as ThrottlePermit<Name> | undefined;
  }

  /**
   * Waits for a permit, calls `fn` with the permit, and releases the permit when the result of `fn` has settled. `fn`
   * always starts asynchronously, in the asynchronous context of this call.
   *
   * @param fn The work. Its result or its error passes through unchanged.
   * @param cost Tokens, as for {@link Throttle.acquire}.
   * @returns A promise for the result of `fn`. It rejects with the errors of {@link Throttle.acquire} or of `fn`. The
   *   method itself never throws.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * const sum = await throttle.run(() => 1 + 1);
   */
  run<T>(
    fn: (permit: ThrottlePermit<Name>) => T | PromiseLike<T>,
    cost: Cost<Name> = 1,
    options?: AcquireOptions,
  ): Promise<T> {
    try {
      checkFunction('fn', fn);
      const terms = this.#limits.readCall(cost, options);
      const tokens = mainCost(cost, terms);
      const signal = options?.signal;
      const permit = this.#grantAtOnce(tokens, terms);
      const work = fn as RunCall<Grant, T>['fn'];
      if (permit !== undefined) return Promise.resolve(permit).then((granted) => runWithPermit(work, granted, signal));
      const job = this.#enqueue(tokens, terms, options, work);
      return signal === undefined ? job.then(continueRun<T>) : job.then((granted) => continueRun(granted, signal));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Returns a function with the parameters and the `this` of `fn`. Every call of that function runs `fn` with a permit.
   *
   * @param cost Tokens per call, or a function that computes the tokens from the arguments of the call. Default 1.
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
    cost: Cost<Name> | ((...args: Args) => Cost<Name>) = 1,
  ): (this: This, ...args: Args) => Promise<Awaited<R>> {
    return wrapFunction(this as Gate, fn, cost);
  }

  /**
   * Calls `fn` with a permit for each item, and collects the results in the order of the items. `map` reads at most one
   * item ahead of the running work, so `items` may be infinite or slow. `map` stops when `fn` or `items` fails, or when
   * `signal` aborts. Then the promise rejects at once, no further item is read or started, and the iterator is closed.
   * Work that is already running continues to its end.
   *
   * @param items Any iterable that `for await` accepts.
   * @param options `cost`: tokens per item, or a function that computes the tokens from the item. `signal`: stops
   *   `map`.
   * @returns A promise for the results. It rejects with the errors of {@link Throttle.acquire}, or with the error that
   *   stopped `map`. The method itself never throws.
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
    options?: MapOptions<T, Name>,
  ): Promise<R[]> {
    return mapItems(this as Gate, items, fn, options);
  }

  /**
   * Grants no permit for at least `seconds` from now. The latest end of all pauses counts: a shorter pause never
   * shortens a longer one, and `pause(0)` changes nothing. Running work continues. Tokens continue to refill, up to
   * `burst`.
   *
   * @param seconds >= 0. Default `Infinity`: until `resume` is called.
   * @throws {RangeError | TypeError} `seconds` is out of range.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * const response = await throttle.run(async () => new Response('slow down', { status: 429 }));
   * if (response.status === 429) throttle.pause(30);  // no waiter starts within the next 30 s
   */
  pause(seconds: number = Infinity): void {
    checkNumber('seconds', 'a number >= 0', seconds, 0, Infinity);
    if (seconds === 0) return;
    const now = this.#now();
    this.#pausedUntil = Math.max(this.#pausedUntil, now + seconds);
    this.#notifyIfIdle();
    this.#publisher.paused(this.#pausedUntil - now);
    // Restart the timer from `now`: if the clock has stepped back, the present timer may fire before the pause ends.
    this.#timer?.set(now, Infinity);
    this.#reschedule(now);
  }

  /** Ends every pause now. Waiters that fit are granted before `resume` returns. */
  resume(): void {
    this.#pausedUntil = -Infinity;
    this.#publisher.paused(0);
    this.#reschedule();
  }

  /**
   * Sets the tokens at hand, up or down, for a quota that the upstream reports or an operator resets. This is the one
   * way to start more than the rate permits. Waiters that fit are granted before `correct` returns. A later settlement
   * of a permit from before the correction does not change a corrected rate.
   *
   * With `onlyLower: true`, `correct` never raises a level. Another client may share the quota: tokens that are missing
   * at the upstream count as spent by that client. So a later settlement of an earlier permit still has its effect.
   *
   * @param levels A number, or `cost` in a record, sets the main rate and every rate without a name. Another entry of
   *   a record sets a named rate. A rate that a record does not mention stays as it is. Each level is limited to the
   *   burst of its rate. A negative level is a debt.
   * @throws {RangeError | TypeError} A level is not a number above `-Infinity`, or a name is unknown. Nothing changes
   *   then.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const llm = new Throttle(500, 20, 60, { also: [{ name: 'tokens', capacity: 200_000, period: 60 }] });
   * llm.correct({ tokens: 150_000 }, { onlyLower: true });  // the upstream reports 150,000 remaining tokens
   * console.log(Math.round(llm.levels.tokens));             // → 150000
   */
  correct(levels: Cost<Name>, options: CorrectOptions = {}): void {
    const onlyLower = readOnlyLower(options);
    const vector = readLevels(levels, this.#limits);
    const now = this.#now();
    if (onlyLower) this.#limits.budget?.lower(now, vector[0], ++this.#serial, vector);
    else this.#limits.budget?.correct(now, vector[0], this.#serial, vector);
    this.#reschedule(now);
  }

  /**
   * Resolves once the queue is empty and every permit is released. With `below`, resolves once fewer than `below` callers
   * wait, so that a producer can stop before the queue grows long. A later call may have joined the queue by the time
   * the caller continues.
   *
   * @param options {@link IdleOptions}
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a `below` that is not an integer >= 1. The
   *   method itself never throws.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(1_000, 2);
   * for (let page = 1; page <= 10; page++) {
   *   await throttle.idle({ below: 4 });              // at most 4 calls wait
   *   void throttle.run(async () => `page ${page}`);
   * }
   * await throttle.idle();
   */
  idle(options: IdleOptions = {}): Promise<void> {
    try {
      const promise = (this.#idleListeners ??= new IdleListeners()).add(readBelow(options));
      this.#hasIdleListeners = true;
      this.#notifyIfIdle();
      return promise;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Refuses every later call with a {@link ThrottleClosedError}, and finishes the work that it has accepted: waiters are
   * granted as before, and running work continues. `closed` is `true` from now on. A pause also holds the waiters of a
   * throttle that drains. To give up before the end, call {@link Throttle.close}, which refuses the remaining waiters.
   *
   * @returns A promise that resolves once the queue is empty and every permit is released. It never rejects.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(1_000, 1);
   * const jobs = ['a', 'b'].map((name) => throttle.run(async () => console.log(name)));
   * await throttle.drain();                           // → a
   *                                                   // → b
   */
  drain(): Promise<void> {
    this.#closed ??= DRAINING;
    return this.idle();
  }

  /**
   * Refuses every waiter with a {@link QueueClearedError}, whose `cause` is `reason`. Running work continues, and later
   * calls are accepted. A cleared waiter spends no tokens.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(Infinity, 1);
   * const permit = await throttle.acquire();
   * const waiting = throttle.acquire().catch((error: Error) => error.name);
   * throttle.clear('the user has left');
   * console.log(await waiting);                       // → QueueClearedError
   * permit.release();
   */
  clear(reason?: unknown): void {
    const queue = this.#queue;
    if (queue.size === 0) return;
    const error = new QueueClearedError(clearedMessage(this.describe()), { cause: reason });
    // A subscriber may release a permit or call again before the last waiter is refused.
    this.#queue = NO_WAITERS;
    queue.refuseAll(() => error);
    this.#reschedule();
  }

  /**
   * Closes the throttle permanently. Every waiter and every later call is refused with a {@link ThrottleClosedError},
   * with `reason` as its `cause`. Running work continues; await {@link Throttle.idle} to wait for its end. Only the
   * first call has an effect, also after {@link Throttle.drain}.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * throttle.close(new Error('shutting down'));
   * await throttle.idle();
   */
  close(reason?: unknown): void {
    if (this.#isShut) return;
    this.#closed = { reason };
    this.#maxActive = -1;
    // All waiters share one error: 100,000 identical stack traces would take a second.
    const error = this.#closedError();
    this.#queue.refuseAll(() => error);
    this.#reschedule();
  }

  /**
   * Returns a lower bound, in seconds, of the wait of a call `acquire(cost)` now. The bound covers the pause and the
   * tokens for all waiters and for `cost`. It excludes slots, because the end of a running job is unknown. `Infinity`
   * while a pause has no end.
   *
   * @throws {RangeError | TypeError} `cost` is out of range.
   */
  estimateWait(cost: Cost<Name> = 1): number {
    const terms = this.#limits.readCall(cost);
    return this.#estimateWait(this.#now(), mainCost(cost, terms), terms);
  }

  /**
   * Changes limits while the throttle is in use. A limit that is left out stays as it is. A `burst` that was never
   * given follows `capacity`. The bucket keeps its tokens, up to the new `burst`; a sliding window keeps its live
   * grants. A change to an unlimited rate drops both. A lower `concurrency` revokes no permit: the throttle grants none
   * until enough permits are released. A waiter whose cost exceeds the new `burst` is refused with a `RangeError`.
   * Waiters that fit are granted before `configure` returns.
   *
   * @throws {RangeError | TypeError} A limit is out of range. No limit changes then.
   *
   * @example
   * import { Throttle } from 'headgate';
   *
   * const throttle = new Throttle(10, 2);
   * throttle.configure({ capacity: 100, period: 60 });
   */
  configure(limits: Limits): void {
    const checked = this.#limits.check(limits);
    this.#limits.replace(checked, this.#now(), this.#serial);
    if (!this.#isShut) this.#maxActive = checked.concurrency || Infinity;
    this.#queue.refuseAll((waiter) => this.#limits.refusalOf(waiter));
    this.#reschedule();
  }

  /** Whether waiters are refused, too: not while the throttle drains. */
  get #isShut(): boolean {
    return this.#closed !== undefined && this.#closed !== DRAINING;
  }

  /**
   * The present instant. It never decreases, so a clock that steps back grants no extra tokens.
   *
   * @throws The error of the clock. A TypeError if the clock has not returned a finite number yet.
   */
  #now(): number {
    const now = this.#settings.clock.now();
    if (now > this.#latestNow && now < Infinity) this.#latestNow = now;
    else if (this.#latestNow === -Infinity) throw invalid('clock.now()', 'a finite number', now);
    return this.#latestNow;
  }

  /**
   * The present instant or, if the clock throws, the latest known instant. For operations that must not fail half-way.
   */
  #nowOrLatest(): number {
    try {
      return this.#now();
    } catch {
      return this.#latestNow;
    }
  }

  /** A permit for a caller that has just called, if no caller waits and the permit can be granted now. */
  #grantAtOnce(cost: number, terms: Terms | undefined): Grant | undefined {
    if (this.#queue.size > 0 || this.#closed !== undefined) return undefined;
    if (this.#expiry !== undefined) return this.#grantWithExpiry(this.#expiry, cost, terms);
    // Without a rate and without a pause, the decision needs no instant. Reading the clock takes as long as the rest.
    const isTimed = this.#limits.budget !== undefined || this.#pausedUntil > -Infinity;
    return this.#grant(isTimed ? this.#now() : -Infinity, cost, terms);
  }

  /** The timer is set before the grant. A clock that throws then changes nothing. */
  #grantWithExpiry(expiry: Expiry, cost: number, terms: Terms | undefined): Grant | undefined {
    const now = this.#now();
    expiry.prepare(now);
    // A clock of the user may have called the throttle.
    const permit = this.#queue.size > 0 ? undefined : this.#grant(now, cost, terms);
    if (permit === undefined) expiry.cancelIfUnused();
    return permit;
  }

  /**
   * The only decision. Returns a permit if a slot is free, no pause is in force and the budget has the tokens. It then
   * takes the slot and the tokens. Otherwise it changes nothing.
   */
  #grant(now: number, cost: number, terms: Terms | undefined, waiter?: Waiter<Grant>): Grant | undefined {
    const slots = terms === undefined ? 1 : terms.slots;
    if (this.#active + slots > this.#maxActive || now < this.#pausedUntil) return undefined;
    if (this.#limits.budget !== undefined && !this.#limits.budget.take(now, cost, this.#serial + 1, terms?.costs))
      return undefined;
    this.#active += slots;
    this.#serial++;
    if (waiter !== undefined) return this.#grantWaiter(now, waiter);
    const permit = new Grant(this, cost, 0, this.#serial, terms, now);
    if (this.#expiry !== undefined) this.#expiry.add(now, permit);
    this.#publisher.granted(permit);
    return permit;
  }

  /** Resolves the promise of a waiter with a permit. Kept separate so that `#grant` stays small enough to inline. */
  #grantWaiter(now: number, waiter: Waiter<Grant>): Grant {
    // A subscriber may call `acquire` during a grant, so `since` can exceed `now`.
    const permit = new Grant(this, waiter.cost, Math.max(0, now - waiter.since), this.#serial, waiter.terms, now);
    if (this.#expiry !== undefined) this.#expiry.add(now, permit);
    this.#queue.grant(waiter, permit);
    this.#publisher.grantedWaiter(permit, waiter);
    return permit;
  }

  /** Called once per permit, when its holder releases the permit. @internal */
  onRelease(permit: Grant): void {
    this.#active -= permit.slots as number;
    if (this.#expiry !== undefined) this.#expiry.remove(permit);
    if (this.#hasIdleListeners) this.#notifyIfIdle();
    this.#publisher.released(permit);
    if (this.#queue.size > 0) this.#drainQueue(this.#nowOrLatest());
  }

  /** Called at most once per permit, when its holder states a different cost. @internal */
  onSettle({ serial }: Grant, difference: number, differences?: readonly number[]): void {
    // After an eviction, the replacement takes over a debt. A refund has no effect, because an evicted bucket was full.
    const hasDebt = differences === undefined ? difference > 0 : differences.some((each) => each > 0);
    const payer: Throttle<string> = hasDebt ? (this.#owner?.currentThrottle() ?? this) : this;
    const now = payer.#nowOrLatest();
    if (payer === this) this.#limits.budget?.settle(now, difference, serial, differences);
    else if (this.#limits.budget !== undefined) {
      const debts = differences?.map((each) => Math.max(0, each));
      payer.#limits.budget?.settleEarlier(now, this.#limits.budget, Math.max(0, difference), serial, debts);
    }
    payer.#reschedule(now);
  }

  /** Publishes the refusal of a call that the gate of this throttle has refused. @internal */
  publishRefusal(cost: unknown, error: Error): void {
    let terms: Terms | undefined;
    try {
      terms = this.#limits.readCall(cost);
    } catch {
      // A call with an invalid argument publishes no message.
      return;
    }
    this.#publishRefusal(mainCost(cost, terms), terms, error);
  }

  /** The named rates, for permits; `undefined` without named rates. @internal */
  get rates(): NamedRates | undefined {
    return this.#limits.isNamed ? this.#limits : undefined;
  }

  /** The largest cost that can be granted, as a vector. @internal */
  get maxCosts(): readonly number[] {
    return this.#limits.maxCosts;
  }

  /** Seconds after which a permit expires; `Infinity` if permits do not expire. @internal */
  get ttl(): number {
    return this.#settings.ttl;
  }

  /** The names of the named rates. @internal */
  get names(): readonly string[] {
    return this.#settings.names;
  }

  /** The present instant, for the age of a permit. @internal */
  now(): number {
    return this.#now();
  }

  /** The error of a permit that has expired. @internal */
  expiredError(): PermitExpiredError {
    return new PermitExpiredError(
      `a permit of ${this.describe()} was held for more than ${this.#settings.ttl} s (ttl), so its slots were freed; ` +
        'stop the work when permit.signal aborts, or raise ttl',
    );
  }

  /**
   * Frees the slots of the permits that have expired. Grants the waiters, then notifies the holders. Called only with a
   * `ttl`.
   */
  #expirePermits(now: number): void {
    const expiry = this.#expiry as Expiry;
    const expired = expiry.takeExpired(now);
    for (const permit of expired) {
      permit.expire();
      this.#active -= permit.slots as number;
    }
    for (const permit of expired) ignoreErrors(() => this.#publisher.released(permit));
    this.#reschedule();
    // Sets the timer for the oldest permit. If the clock throws, the next call tries again.
    ignoreErrors(() => {
      expiry.prepare(this.#nowOrLatest());
      expiry.cancelIfUnused();
    });
    // A listener of the user may call the throttle, so the state is complete before the first one runs.
    for (const permit of expired) ignoreErrors(() => permit.abortSignal());
  }

  #onExpiryTimer(now: number): void {
    if (now > this.#latestNow) this.#latestNow = now;
    this.#expirePermits(now);
  }

  /** Grants the head until the head does not fit. Then sets the timer for the instant at which the head can fit. */
  #drainQueue(now: number): void {
    for (let head = this.#queue.head; head !== undefined; head = this.#queue.head) {
      if (this.#expiry !== undefined && !this.#prepareExpiry(this.#expiry, now, head)) continue;
      if (this.#grant(now, head.cost, head.terms, head) === undefined && this.#setHeadTimer(now, head)) {
        this.#expiry?.cancelIfUnused();
        return;
      }
    }
    this.#timer?.set(now, Infinity);
    this.#expiry?.cancelIfUnused();
  }

  /**
   * Sets the timer for the head. Returns `true` if that worked. If the clock throws, refuses the head with the error of
   * the clock: without a timer the head might wait forever.
   */
  #setHeadTimer(now: number, head: Waiter<Grant>): boolean {
    try {
      const hasSlots = this.#active + (head.terms?.slots ?? 1) <= this.#maxActive;
      this.#setTimer(now, hasSlots ? this.#earliestGrant(now, head.cost, head.terms?.costs) : Infinity);
      return true;
    } catch (error) {
      // A clock of the user may have called the throttle.
      if (this.#queue.head === head) this.#queue.refuse(head, () => error);
      return false;
    }
  }

  /** Sets the timer of the oldest permit, like {@link #setHeadTimer}: the head may wait for the slot of that permit. */
  #prepareExpiry(expiry: Expiry, now: number, head: Waiter<Grant>): boolean {
    try {
      expiry.prepare(now);
    } catch (error) {
      if (this.#queue.head === head) this.#queue.refuse(head, () => error);
    }
    // A clock of the user may have called the throttle.
    return this.#queue.head === head;
  }

  /** Sets the timer for the instant `at`; `Infinity` cancels the timer. */
  #setTimer(now: number, at: number): void {
    if (this.#timer === undefined) {
      if (at === Infinity) return;
      this.#timer = new Timer(this.#settings.clock, (reached) => {
        if (reached > this.#latestNow) this.#latestNow = reached;
        this.#reschedule();
      });
    }
    this.#timer.set(now, at);
  }

  /** The earliest instant at which pause and tokens permit `cost`. */
  #earliestGrant(now: number, cost: number, costs: readonly number[] | undefined): number {
    const opens = Math.max(now, this.#pausedUntil);
    return this.#limits.budget?.readyAt(opens, cost, costs) ?? opens;
  }

  /** Called after every change that may let the head start or leave the throttle idle. */
  #reschedule(now?: number): void {
    if (this.#queue.size > 0) this.#drainQueue(now ?? this.#nowOrLatest());
    else this.#timer?.set(0, Infinity);
    this.#notifyIfIdle();
  }

  /**
   * Grants every waiter that fits, before a waiter is refused for its timeout. If only a rounding error separates the
   * timer from the present instant, the timer counts as due.
   */
  #grantBeforeTimeout(timeout: number): void {
    const now = this.#nowOrLatest();
    const grantAt = this.#timer?.at ?? Infinity;
    const expiryAt = this.#expiry?.timerAt ?? Infinity;
    for (const at of [grantAt, expiryAt])
      if (at - now <= timeout * ROUNDING) this.#latestNow = Math.max(this.#latestNow, at);
    if (expiryAt <= this.#latestNow) this.#expirePermits(this.#latestNow);
    else this.#reschedule();
  }

  /** Notifies the idle listeners and the owner if no job runs and no caller waits. */
  #notifyIfIdle(): void {
    const isIdle = this.#active <= 0 && this.#queue.size === 0;
    this.#idleListeners?.notify(isIdle, this.#queue.size);
    if (!isIdle) return;
    this.#owner?.onIdle(
      this.#closed === undefined ? Math.max(this.#pausedUntil, this.#limits.budget?.fullAt() ?? -Infinity) : Infinity,
    );
  }

  /** Adds a waiter to the queue. Throws the refusal if the queue is full or the deadline cannot be met. */
  #enqueue(cost: number, terms: Terms | undefined, options: AcquireOptions | undefined): Promise<Grant>;
  #enqueue<T>(
    cost: number,
    terms: Terms | undefined,
    options: AcquireOptions | undefined,
    fn: RunCall<Grant, T>['fn'],
  ): Promise<RunCall<Grant, T>>;
  #enqueue(
    cost: number,
    terms: Terms | undefined,
    { signal, timeout = Infinity, stack }: AcquireOptions = {},
    fn?: RunCall<Grant>['fn'],
  ): Promise<unknown> {
    if (this.#closed !== undefined) throw this.#publishRefusal(cost, terms, this.#closedError());
    const now = this.#now();
    const timeoutError = (at: number): ThrottleTimeoutError =>
      this.#refusal(
        ThrottleTimeoutError,
        at,
        cost,
        terms,
        `has no permit for a cost of ${describeCost(cost, this.names, terms)} within the timeout of ${timeout} s`,
        stack,
      );
    // The estimate may be too long by a rounding error. The queue tries a grant before it enforces the deadline.
    if (timeout === 0 || (timeout < Infinity && timeout * (1 + ROUNDING) < this.#estimateWait(now, cost, terms)))
      throw this.#publishRefusal(cost, terms, timeoutError(now));
    development.aids?.checkNested(this, terms?.slots ?? 1);
    const { maxQueue } = this.#settings;
    if (this.#queue.size >= maxQueue)
      throw this.#publishRefusal(
        cost,
        terms,
        this.#refusal(QueueFullError, now, cost, terms, `allows at most ${maxQueue} waiters`, stack),
      );
    if (this.#queue === NO_WAITERS) this.#queue = this.#makeQueue();
    const cancel =
      signal === undefined && timeout === Infinity
        ? undefined
        : { signal, timeout, makeTimeoutError: () => timeoutError(this.#nowOrLatest()) };
    const promise = this.#queue.enqueue(cost, now, cancel, fn, terms);
    // Absent if a method of the clock or of the signal, written by a user, has already led to a grant or a refusal.
    const waiter = this.#queue.tail;
    // Only the head has a timer.
    if (this.#queue.size === 1) this.#drainQueue(now);
    if (waiter !== undefined) this.#publisher.queued(waiter, cost, terms);
    return promise;
  }

  #makeQueue(): WaitQueue<Grant> {
    const { clock } = this.#settings;
    return new WaitQueue({
      schedule: (seconds, callback) => clock.schedule(seconds, callback),
      now: () => readClock(clock),
      reschedule: () => this.#reschedule(),
      grantBeforeTimeout: (timeout) => this.#grantBeforeTimeout(timeout),
      onResize: (change) => {
        this.#owner?.onResize(change);
        this.#idleListeners?.notify(false, this.#queue.size);
      },
      onRefused: (waiter, error, reason) => {
        this.#notifyIfIdle();
        this.#publisher.refused(waiter, waiter.cost, error, reason, waiter.terms);
      },
    });
  }

  /** Publishes the refusal of a call that never joined the queue. Returns `error`. */
  #publishRefusal(cost: number, terms: Terms | undefined, error: Error): Error {
    this.#publisher.refused({}, cost, error, undefined, terms);
    return error;
  }

  /** Creates the error of a refused call, with advice on when to retry. */
  #refusal<E>(
    Kind: new (message: string, options: ThrottleErrorOptions) => E,
    now: number,
    cost: number,
    terms: Terms | undefined,
    what: string,
    stack?: false,
  ): E {
    return refusal(
      Kind,
      `${this.describe()} ${what}`,
      this.#estimateWait(now, cost, terms),
      this.#active,
      this.#queue.size,
      stack,
    );
  }

  #estimateWait(now: number, cost: number, terms: Terms | undefined): number {
    const costs = this.#limits.isNamed && terms !== undefined ? this.#queue.sumWith(terms.costs) : undefined;
    const opens = this.#earliestGrant(now, this.#queue.cost + cost, costs);
    let wait = Math.max(0, opens - now);
    // Correct for rounding: `now + wait` must not be earlier than the instant of the grant.
    while (now + wait < opens) wait *= 1 + Number.EPSILON;
    return wait;
  }

  #closedError(): ThrottleClosedError {
    return new ThrottleClosedError(`${this.describe()} is ${this.#isShut ? 'closed' : DRAINS}`, {
      cause: this.#closed?.reason,
    });
  }

  /** The state as plain data, for logs. `console.log` shows the same. A field whose clock throws is left out. */
  toJSON(): ThrottleData {
    return readFields(this, FIELDS) as ThrottleData;
  }

  /** The name and the limits of the throttle, for error messages. @internal */
  describe(): string {
    return this.#limits.describe();
  }
}

function disposeThrottle(this: Throttle<string>): Promise<void> {
  this.close();
  return this.idle();
}

/** Continues a call of `run` after its grant or its refusal. */
function continueRun<T>(job: RunCall<Grant, T>, signal?: AbortSignal): Promise<T> {
  const { permit } = job;
  if (permit === undefined) throw job.error;
  // The job is an old object. Its reference would move the young permit to the old generation of the garbage collector.
  job.permit = undefined;
  return runWithPermit(job.fn, permit, signal);
}
