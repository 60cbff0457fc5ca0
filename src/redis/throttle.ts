/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The gate for many processes and hosts. One script in Redis (`scripts/step.ts`) makes every decision; this file is the
 * part of each process.
 *
 * One call per tick. Every command goes into the outbox, in the order of the calls. At the end of the tick, one call of
 * the script sends the outbox (very many commands go in parts). The reply contains an event for each request. The
 * events that other processes cause later arrive as messages. `#applyEvent` handles the events of replies and messages.
 *
 * No polling: Redis notifies a waiter when it is granted. The alarm of a throttle has four reasons only:
 * - The head of the queue belongs to this throttle and is due, or its owner may be dead.
 * - A third of `ttl` has passed, so leases and waiters must be renewed.
 * - A failed call must be retried.
 * - The last renewal is too long ago, so the leases are lost.
 *
 * A renewal also repairs. For each lease it sends "I still hold this slot", and for each waiter "I still wait, since
 * then". If Redis has lost the lease or the place in the queue, the renewal restores it. If the grant of a waiter was
 * lost on the way, the reply contains the grant again. So every loss of a message, a connection or a server ends in
 * `#renew`, and needs no further handling.
 *
 * A failed release or cancellation is sent again until Redis replies, or until the lease has expired.
 */
import { addAbortListener, removeAbortListener } from '../core/abort-listeners.js';
import { addDisposal } from '../core/dispose.js';
import { EventPublisher } from '../core/events.js';
import type { AcquireOptions, Gate } from '../core/gate.js';
import { mapItems, type MapOptions, wrapFunction } from '../core/map.js';
import { type Grant, type Permit, runWithPermit } from '../core/permit.js';
import { type Limits, Throttle } from '../core/throttle.js';
import { checkAcquireOptions, checkCost, checkFunction, checkNumber } from '../core/validation.js';
import { LeaseLostError, type ThrottleBackendError } from './errors.js';
import { parseState, type RedisState } from './inspect.js';
import { keyNames } from './key-names.js';
import { Lease, type RedisPermit } from './lease.js';
import {
  backendError,
  checkOptions,
  closedError,
  labelOf,
  oversizeError,
  queueFullError,
  type RedisThrottleOptions,
  timeoutError,
} from './options.js';
import { checkReply, type Command, encodeLimit, ENDLESS, GRANT_FIELDS, micros } from './protocol.js';
import { Script } from './script.js';
import { INSPECT } from './scripts/inspect.js';
import { RESET } from './scripts/reset.js';
import { STEP } from './scripts/step.js';
import { type EventSink, type SharedConnection, sharedConnection } from './shared-connection.js';
import { SteadyClock } from './steady-clock.js';

/** The gate that grants permits while Redis fails. */
export type Fallback = Pick<Throttle, 'acquire' | 'tryAcquire' | 'pause' | 'resume'>;

/** Options for a keyed throttle and for tests. */
export interface InternalOptions {
  /** Called when the throttle is idle. A keyed throttle sets it, and retains the shared connection by itself. */
  onUnregistered?(): void;
  readonly fallback?: Fallback;
  /** Replaces the clock of the server, in seconds. */
  readonly serverTime?: (() => number) | undefined;
}

/** A pending call of `acquire`, `run` or `tryAcquire`. */
interface Call {
  readonly cost: number;
  /** The instant of the call. */
  readonly since: number;
  /** Seconds from `since`. */
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
  /** Whether the call is a `tryAcquire`, which resolves with `undefined` instead of a refusal. */
  readonly tries: boolean;
  /** Whether the timeout has elapsed before Redis has replied. */
  overdue: boolean;
  /** The place in the queue, once Redis has assigned one. */
  ticket: string | undefined;
  /** The latest instant, in microseconds of the server, at which Redis has put the waiter back into the queue. */
  waitedAt: number;
  /** Whether a reset has removed the waiter before the reply arrived. */
  resetBeforeReply: boolean;
  readonly resolve: (permit: Lease | undefined) => void;
  readonly reject: (reason: unknown) => void;
  /** Removes the abort listener and the timeout. */
  disconnect: (() => void) | undefined;
}

const stepScript = new Script(STEP);
const inspectScript = new Script(INSPECT);
const resetScript = new Script(RESET);

/** The share of `ttl` after the last renewal when leases count as lost. The rest allows for late timers. */
const SAFE_SHARE = 0.9;
/** The most renewals, and the most commands, in one call of the script. A larger call would delay other clients. */
const RENEWALS_PER_CALL = 500;
const COMMANDS_PER_CALL = 2_000;
/** Seconds until a failed call is retried: the first time, and at most. */
const FIRST_RETRY = 0.1;
const LONGEST_RETRY = 2;

const ignore = (): void => {};

const LOST_BY_RESET = 'its lease was reset, or given to another holder';

/** As the `schedule` of the system clock, but the timer does not keep the process alive. */
function scheduleInBackground(seconds: number, callback: () => void): () => void {
  const timer: unknown = setTimeout(callback, Math.ceil(seconds * 1_000));
  (timer as { unref?: () => void }).unref?.();
  return () => clearTimeout(timer as number);
}

/** The abort reason of a signal. If the getter throws, the thrown error is the reason. */
function reasonOf(signal: AbortSignal | undefined): unknown {
  try {
    return signal?.reason;
  } catch (error) {
    return error;
  }
}

/** Defers `fn`. On Node, all pending microtasks run before `fn`. On other platforms, `fn` runs as a microtask. */
function afterMicrotasks(fn: () => void): void {
  const { nextTick } = (globalThis as { process?: { nextTick?: (fn: () => void) => void } }).process ?? {};
  queueMicrotask(nextTick === undefined ? fn : () => nextTick(fn));
}

/**
 * A throttle that any number of processes and hosts share through Redis 6.2 or later, Valkey, or a Redis Cluster. At
 * most `concurrency` jobs run at a time, and jobs of `capacity` tokens start per `period` seconds. Permits are granted
 * in the order in which the calls of all processes arrive in Redis. It has the methods of a {@link Throttle}, most of
 * which return promises here.
 *
 * @example
 * import { RedisThrottle } from 'headgate/redis';
 * import { createClient } from 'redis';
 *
 * const client = createClient({ url: process.env.REDIS_URL ?? 'redis://localhost:6379' });
 * client.on('error', (error) => console.error(error.message));
 * await client.connect();
 * const throttle = new RedisThrottle({ client, key: 'payments', capacity: 10, concurrency: 2 });
 * const answer = await throttle.run(async (permit) => `done in slot ${permit.slot}`);
 * console.log(answer);                              // → done in slot 1
 * await throttle.close();
 * client.destroy();
 */
export class RedisThrottle implements Gate {
  /** Calls `close()`, then `idle()`. The constructor adds the method, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  readonly #key: string;
  readonly #keys: string[];
  readonly #ttl: number;
  readonly #failOpen: boolean;
  readonly #commandTimeout: number;
  readonly #maxQueue: number;
  readonly #clock: SteadyClock;
  readonly #internal: InternalOptions;
  readonly #connection: SharedConnection;
  /** Holds the checked limits. Without another fallback, it grants permits while Redis fails. */
  readonly #local: Throttle;
  readonly #publisher: EventPublisher;
  /** The permits of the fallback that are held, and the calls that wait for one. */
  #fallbackPermits = 0;
  #fallbackWaiters = 0;

  /** The name of this throttle in Redis: `connection.instance`. Empty before the first call. */
  #owner = '';
  #nextSerial = 0;
  /** The pending calls, by serial. */
  readonly #calls = new Map<string, Call>();
  readonly #leases = new Map<string, Lease>();
  #outbox: Command[] = [];
  /** The commands of failed calls that must still arrive: sent with the next retry, or once Redis replies. */
  #retryQueue: Command[] = [];
  #flushScheduled = false;
  /** The calls of the script without a reply. */
  #callsInFlight = 0;
  /** Whether the shared connection delivers events to this throttle, which needs them unless it is idle. */
  #registered = false;
  /** Whether the current limits were sent to Redis. */
  #configured = false;

  /** The instant of the latest successful renewal. No lease or place expires before `ttl` has passed since then. */
  #renewedAt = 0;
  #renewing = false;
  /** The instant of the oldest call whose grant or place arrived during a renewal that does not include the call. */
  #oldestUnrenewed = Infinity;
  /** Whether another renewal must follow the renewal under way. */
  #renewalRequested = false;
  /** The number of messages that have set `#wakeAt`. */
  #wakeupCount = 0;
  /** The instant at which the script must be called, and the same instant by the clock of the server. */
  #wakeAt = Infinity;
  #wakeAtServerTime = 0;
  /** The latest `#wakeAtServerTime` that has passed by the local clock. */
  #confirmedServerTime = 0;
  /** The instant of the next retry after a failure, and seconds until the retry after that. */
  #retryAt = Infinity;
  #retryDelay = 0;
  /** The error of the last call of the script, if it failed. */
  #failure: ThrottleBackendError | undefined;
  #alarmAt = Infinity;
  /** Whether the alarm keeps the process alive. */
  #alarmIsUrgent = false;
  #cancelAlarm: (() => void) | undefined;

  #closed: { readonly reason: unknown } | undefined;
  /** Whether the throttle is closed and idle. */
  #disposed = false;
  #idleListeners: (() => void)[] = [];
  readonly #sink: EventSink = {
    applyEvents: (events) => {
      // After such a delay, the lease of a grant may have expired. The renewal that is due finds out.
      const isLate = this.#clock.now() >= this.#renewedAt + SAFE_SHARE * this.#ttl;
      const [wakeAt, serverTime] = [this.#wakeAt, this.#wakeAtServerTime];
      for (const event of events) {
        if (isLate && event.startsWith('G')) continue;
        if (event.startsWith('H')) this.#wakeupCount++;
        this.#applyEvent(event);
      }
      // The message may be older than a reply that was applied before. The earlier instant is safe.
      if (wakeAt < this.#wakeAt) [this.#wakeAt, this.#wakeAtServerTime] = [wakeAt, serverTime];
      this.#rearmAlarm();
    },
    reconcile: () => this.#requestRenewal(),
  };

  /**
   * Checks the options. The first call connects to Redis.
   *
   * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
   */
  constructor(options: RedisThrottleOptions);
  /** @internal */
  constructor(options: RedisThrottleOptions, internal: InternalOptions);
  constructor(options: RedisThrottleOptions, internal: InternalOptions = {}) {
    addDisposal(RedisThrottle.prototype, 'asyncDispose', disposeRedisThrottle);
    const { key, ttl, prefix, failOpen, commandTimeout, maxQueue, clock } = checkOptions(options);
    const { capacity = Infinity, concurrency, period, burst, name } = options;
    this.#local = new Throttle(capacity, concurrency, period, { burst, maxQueue, name, clock, silent: true });
    this.#clock = new SteadyClock(clock);
    this.#publisher = new EventPublisher(this, this.#clock);
    this.#key = key;
    this.#keys = keyNames(prefix, key);
    this.#ttl = ttl;
    this.#failOpen = failOpen;
    this.#commandTimeout = commandTimeout;
    this.#maxQueue = maxQueue;
    this.#internal = internal;
    this.#connection = sharedConnection(options.client);
    if (internal.onUnregistered === undefined) this.#connection.retain();
  }

  /** The name of the shared limits. */
  get key(): string {
    return this.#key;
  }

  /** Tokens per period, as configured in this object. */
  get capacity(): number {
    return this.#local.capacity;
  }

  /** The number of jobs at a time, as configured in this object: `0` and `Infinity` mean any number. */
  get concurrency(): number {
    return this.#local.concurrency;
  }

  /** Seconds. */
  get period(): number {
    return this.#local.period;
  }

  /** The size of the bucket: the cost that can start at once after idle time, and the largest cost. */
  get burst(): number {
    return this.#local.burst;
  }

  /** The number of permits held through this object. {@link RedisThrottle.inspect} counts those of all processes. */
  get held(): number {
    return this.#leases.size + this.#fallbackPermits;
  }

  /** The number of callers of this object that wait. */
  get waiting(): number {
    return this.#calls.size + this.#fallbackWaiters;
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** The name given in the options. */
  get name(): string | undefined {
    return this.#local.name;
  }

  /**
   * Waits for a permit. The calls of all processes are granted in the order in which they arrive in Redis. Release the
   * permit when the work is done; `using` and {@link RedisThrottle.run} release it by themselves.
   *
   * @param cost Tokens: finite, from 0 to `burst`. `0` takes a slot and no token. Default 1.
   * @returns A promise that rejects as the promise of {@link Throttle.acquire} does, and with a
   *   {@link ThrottleBackendError} when Redis fails. The method never throws.
   *
   * @example
   * import { RedisThrottle } from 'headgate/redis';
   *
   * const client = { url: process.env.REDIS_URL ?? 'redis://localhost:6379' };
   * const throttle = new RedisThrottle({ client, key: 'reports', concurrency: 3 });
   * const permit = await throttle.acquire(1, { timeout: 10 });
   * try {
   *   console.log(permit.slot);                        // → 1
   * } finally {
   *   permit.release();
   * }
   * await throttle.close();
   */
  acquire(cost = 1, options?: AcquireOptions): Promise<RedisPermit> {
    try {
      this.#checkCost(cost);
      if (options !== undefined) checkAcquireOptions(options);
      if (this.#closed !== undefined) throw this.#publishRefusal(cost, this.#closedError());
      return this.#request(cost, options, false) as Promise<Lease>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Takes a permit if one is free now and no caller waits in any process. Otherwise, and on a closed throttle, it
   * resolves with `undefined`.
   *
   * @param cost Tokens: finite, from 0 to `burst`. Default 1.
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a `cost` out of range, and with a
   *   {@link ThrottleBackendError} when Redis fails.
   */
  async tryAcquire(cost = 1): Promise<RedisPermit | undefined> {
    this.#checkCost(cost);
    if (this.#closed === undefined) return this.#request(cost, { timeout: 0 }, true);
    this.#publishRefusal(cost, undefined);
    return undefined;
  }

  /**
   * Waits for a permit, calls `fn` with it and releases it when the result of `fn` has settled.
   *
   * @returns A promise that rejects as the promise of {@link RedisThrottle.acquire} does, or with the error of `fn`.
   *   The method never throws.
   */
  run<T>(fn: (permit: RedisPermit) => T | PromiseLike<T>, cost = 1, options?: AcquireOptions): Promise<T> {
    try {
      checkFunction('fn', fn);
      return this.acquire(cost, options).then((permit) => runWithPermit(fn, permit, options?.signal));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Returns a function that runs each call of `fn` through the throttle, as {@link Throttle.wrap} does. */
  wrap<This, Args extends unknown[], R>(
    fn: (this: This, ...args: Args) => R,
    cost: number | ((...args: Args) => number) = 1,
  ): (this: This, ...args: Args) => Promise<Awaited<R>> {
    return wrapFunction(this, fn, cost);
  }

  /** Calls `fn` for each item through the throttle, as {@link Throttle.map} does. */
  map<T, R>(
    items: Iterable<T | PromiseLike<T>> | AsyncIterable<T>,
    fn: (item: T, index: number) => R | PromiseLike<R>,
    options?: MapOptions<T>,
  ): Promise<R[]> {
    return mapItems(this, items, fn, options);
  }

  /**
   * Pauses the throttle in all processes, for at least `seconds` from the arrival of the call in Redis. Of several
   * pauses, the latest end counts.
   *
   * @param seconds >= 0. Default `Infinity`: until `resume`.
   * @returns A promise that rejects with a `RangeError` or `TypeError` for `seconds` out of range, and with a
   *   {@link ThrottleBackendError} when Redis fails.
   */
  async pause(seconds: number = Infinity): Promise<void> {
    checkNumber('seconds', 'a number >= 0', seconds, 0, Infinity);
    if (seconds === 0) return;
    this.#publisher.paused(seconds);
    await this.#sendAndWait(['P', micros(seconds)], (fallback) => fallback.pause(seconds));
  }

  /** Ends every pause now, in all processes. */
  async resume(): Promise<void> {
    this.#publisher.paused(0);
    // Callers may still wait in the fallback after Redis has recovered, so `resume` always resumes it.
    this.#fallback.resume();
    await this.#sendAndWait(['U'], ignore);
  }

  /**
   * Changes limits while the throttle is in use. The new `concurrency` applies to callers of this object. The new rate
   * applies to all processes, until another throttle configures its own rate. A waiter whose cost can now never be
   * granted gets a `RangeError`.
   *
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a limit out of range; nothing has changed
   *   then. It rejects with a {@link ThrottleBackendError} when Redis fails; the limits change with the next call then.
   */
  async configure(limits: Limits): Promise<void> {
    this.#local.configure(limits);
    if (this.#disposed) return;
    this.#configured = false;
    this.#register();
    await this.#sendAndWait([], ignore);
  }

  /**
   * Resolves when no caller of this object waits, the last permit of this object is released, and Redis has confirmed
   * the release.
   */
  async idle(): Promise<void> {
    await Promise.all([
      this.#local.idle(),
      new Promise<void>((resolve) => {
        this.#idleListeners.push(resolve);
        this.#rearmAlarm();
      }),
    ]);
  }

  /**
   * Closes this object for good; other processes go on. Every waiter, and every later call, gets a
   * {@link ThrottleClosedError} with `reason` as its `cause`. Running work finishes, and its leases are renewed until
   * then. A client that headgate created is closed after the last release; a client of the user never is. Only the
   * first call counts.
   *
   * @returns A promise that resolves when Redis has replied or failed. It never rejects.
   */
  async close(reason?: unknown): Promise<void> {
    if (this.#closed !== undefined) return;
    this.#closed = { reason };
    const error = this.#closedError();
    this.#local.close(reason);
    for (const [serial, call] of this.#calls) {
      this.#cancelCall(serial, call);
      this.#settleWithoutPermit(call, call.tries ? undefined : error);
    }
    if (this.#registered) await this.#sendAndWait([], ignore).catch(ignore);
    else this.#unregisterIfIdle();
  }

  /**
   * Returns the state in all processes: holders, waiters, tokens and pause. Redis runs the script in time proportional
   * to the number of holders and waiters.
   *
   * @returns A promise that rejects with a {@link ThrottleBackendError} when Redis fails.
   *
   * @example
   * import { RedisThrottle } from 'headgate/redis';
   *
   * const client = { url: process.env.REDIS_URL ?? 'redis://localhost:6379' };
   * const throttle = new RedisThrottle({ client, key: 'exports', concurrency: 3 });
   * await throttle.run(async () => {
   *   const { active, waiting } = await throttle.inspect();
   *   console.log(active.length, waiting.length);      // → 1 0
   * });
   * await throttle.close();
   */
  async inspect(): Promise<RedisState> {
    return parseState(await this.#runScript(inspectScript), this);
  }

  /**
   * Resets the state in all processes: the bucket is full, the pause ends, and every permit is lost. The `signal` of
   * each lost permit aborts. Waiters enter the queue again, in the old order.
   *
   * @returns A promise that rejects with a {@link ThrottleBackendError} when Redis fails.
   */
  async reset(): Promise<void> {
    await this.#runScript(resetScript);
  }

  /** Whether the throttle holds a permit, waits for one or has a call under way. @internal */
  get registered(): boolean {
    return this.#registered;
  }

  get #fallback(): Fallback {
    return this.#internal.fallback ?? this.#local;
  }

  /** Requests a permit from Redis. The promise of a refused `tryAcquire` resolves with `undefined`. */
  #request(
    cost: number,
    { signal, timeout = Infinity }: AcquireOptions = {},
    tries: boolean,
  ): Promise<Lease | undefined> {
    return new Promise((resolve, reject) => {
      const since = this.#clock.nowOrThrow();
      const call: Call = {
        cost,
        since,
        timeout,
        signal,
        tries,
        overdue: false,
        ticket: undefined,
        waitedAt: 0,
        resetBeforeReply: false,
        resolve,
        reject,
        disconnect: undefined,
      };
      if (this.#failOpen && this.#connection.isDown(this.#keys[0] as string, since, () => void this.#callScript([]))) {
        if (this.#calls.size > 0) {
          this.#moveCallsToFallback();
          this.#enqueue({ args: [] });
        }
        return this.#acquireLocally(call);
      }
      this.#register();
      if (this.#calls.size === 0 && this.#leases.size === 0) this.#renewedAt = since;
      const serial = (this.#nextSerial++).toString(36);
      this.#calls.set(serial, call);
      try {
        if (signal !== undefined || (timeout > 0 && timeout < Infinity)) this.#watchCancellation(serial, call);
      } catch (error) {
        // The clock or the signal has thrown. Nothing was sent to Redis yet, so there is nothing to cancel there.
        if (this.#calls.has(serial)) this.#removeCall(serial, call);
        reject(error);
        return this.#rearmAlarm();
      }
      // The signal has aborted inside its own `addEventListener`.
      if (!this.#calls.has(serial)) return;
      this.#enqueue({
        args: ['A', serial, cost.toString(), timeout === Infinity ? '-1' : micros(timeout)],
        requestedBy: serial,
      });
    });
  }

  /** Registers for events, before the throttle sends a command. */
  #register(): void {
    if (this.#registered) return;
    this.#renewedAt = this.#clock.now();
    this.#registered = true;
    if (this.#owner === '') this.#owner = this.#connection.createOwner();
    this.#connection.register(this.#owner, this.#sink);
  }

  /** Adds the abort listener and the timeout of a call. */
  #watchCancellation(serial: string, call: Call): void {
    const { signal, timeout } = call;
    const onAbort = (): (() => void) => {
      this.#cancelCall(serial, call);
      this.#settleWithoutPermit(call, reasonOf(signal), 'aborted');
      return ignore;
    };
    const onTimeout = (): void => {
      // Before the reply, the limits may or may not be the cause: the reply, or its failure, decides the error.
      if (call.ticket === undefined) call.overdue = true;
      else {
        this.#cancelCall(serial, call);
        this.#settleWithoutPermit(call, this.#failure ?? timeoutError(this, call, 0));
      }
    };
    const cancel = timeout > 0 && timeout < Infinity ? this.#clock.scheduleOrThrow(timeout, onTimeout) : undefined;
    call.disconnect = () => {
      cancel?.();
      if (signal !== undefined) removeAbortListener(signal, onAbort);
    };
    if (signal === undefined) return;
    addAbortListener(signal, onAbort);
    // The signal may have aborted since it was checked: in a method of the clock or of the signal itself.
    if (this.#calls.has(serial) && signal.aborted) throw signal.reason;
  }

  /** Removes a call that is decided, its abort listener and its timeout. */
  #removeCall(serial: string, call: Call): void {
    this.#calls.delete(serial);
    call.disconnect?.();
  }

  /** Rejects a call with `error`. Without an error, it resolves a `tryAcquire` with `undefined`. */
  #settleWithoutPermit(call: Call, error: unknown, reason?: 'aborted'): void {
    this.#publisher.refused(call, call.cost, error, reason);
    if (call.tries && error === undefined) call.resolve(undefined);
    else call.reject(error);
  }

  /** Publishes the refusal of a call that is never sent to Redis. Returns the error. */
  #publishRefusal<E>(cost: number, error: E): E {
    this.#publisher.refused({}, cost, error);
    return error;
  }

  /** Cancels a call: Redis removes the waiter, or takes back a grant that is on its way. */
  #cancelCall(serial: string, call: Call): void {
    this.#removeCall(serial, call);
    this.#sendUntilExpiry(['C', serial, call.cost.toString()]);
  }

  /** Sends a release or a cancellation, and retries until Redis replies or the lease has expired. */
  #sendUntilExpiry(args: readonly string[]): void {
    this.#enqueue({ args, retryUntil: this.#clock.now() + this.#ttl });
  }

  /** Sends a command, or only the limits, and waits for the reply. With `failOpen`, a failure calls `onFailOpen`. */
  async #sendAndWait(args: readonly string[], onFailOpen: (fallback: Fallback) => void): Promise<void> {
    if (this.#disposed) return;
    this.#register();
    await new Promise<void>((resolve, reject) => {
      const onFailed = (error: ThrottleBackendError): void => {
        if (!this.#failOpen) return reject(error);
        onFailOpen(this.#fallback);
        resolve();
      };
      this.#enqueue({ args, onDone: resolve, onFailed });
    });
  }

  #enqueue(command: Command): void {
    this.#outbox.push(command);
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    afterMicrotasks(() => this.#flush());
  }

  #flush(): void {
    this.#flushScheduled = false;
    const commands = this.#outbox;
    this.#outbox = [];
    // After an outage, there can be many commands.
    for (let from = 0; from < commands.length; from += COMMANDS_PER_CALL)
      void this.#callScript(commands.slice(from, from + COMMANDS_PER_CALL));
  }

  #sendRetryQueue(): void {
    for (const command of this.#retryQueue.splice(0)) this.#enqueue(command);
  }

  /** Calls the script, and applies its reply. The promise resolves even if the call fails. */
  async #callScript(commands: readonly Command[], onReply: () => void = ignore): Promise<void> {
    const { capacity, period, burst, concurrency } = this.#local;
    const configures = !this.#configured;
    const rate =
      capacity < Infinity
        ? [capacity.toString(), (period * 1e6).toString(), burst.toString()]
        : ['-1', '1', Math.min(burst, Number.MAX_VALUE).toString()];
    const args = [
      this.#owner,
      micros(this.#ttl),
      ...rate,
      configures ? '1' : '0',
      this.#confirmedServerTime.toString(),
      this.#serverTime(),
      encodeLimit(this.#maxQueue),
      encodeLimit(concurrency || Infinity),
    ];
    for (const command of commands) args.push(...command.args);
    if (configures) this.#configured = true;
    const wakeupCount = this.#wakeupCount;
    this.#callsInFlight++;
    let lines: string[];
    try {
      // A later reply may bring a lease that has expired.
      const timeout = Math.min(this.#commandTimeout, SAFE_SHARE * this.#ttl);
      const onLateReply = (): void => this.#onLateReply();
      const reply = await this.#connection.call(stepScript, this.#keys, args, this.#clock, timeout, onLateReply);
      lines = checkReply(commands, reply);
    } catch (error) {
      this.#callsInFlight--;
      if (configures) this.#configured = false;
      this.#onFailure(commands, backendError(this, error));
      return;
    }
    this.#callsInFlight--;
    onReply();
    this.#retryAt = Infinity;
    this.#retryDelay = 0;
    this.#failure = undefined;
    const [wakeup = '', ...events] = lines;
    const [wakeAt, serverTime] = [this.#wakeAt, this.#wakeAtServerTime];
    this.#wakeAt = Infinity;
    if (wakeup !== '') this.#applyEvent(`H ${wakeup}`);
    // A message that arrived during the call may be older or newer than the reply. The earlier instant is safe.
    if (wakeupCount !== this.#wakeupCount && wakeAt < this.#wakeAt)
      [this.#wakeAt, this.#wakeAtServerTime] = [wakeAt, serverTime];
    for (const event of events) this.#applyEvent(event);
    for (const command of commands) command.onDone?.();
    this.#sendRetryQueue();
    this.#rearmAlarm();
  }

  /** Runs the inspect or reset script, after all commands that were issued before. */
  async #runScript(script: Script): Promise<unknown> {
    // A clock that has never returned a number throws here, before the flush.
    this.#clock.now();
    this.#flush();
    const args = [this.#serverTime()];
    try {
      return await this.#connection.call(script, this.#keys, args, this.#clock, this.#commandTimeout, ignore);
    } catch (error) {
      throw backendError(this, error);
    }
  }

  /** Applies one event. Events for a call that has ended meanwhile are ignored: the call has sent its cancellation. */
  #applyEvent(event: string): void {
    const [kind, serial = '', ...fields] = event.split(' ');
    const call = this.#calls.get(serial);
    const number = (index: number): number => Number(fields[index] ?? 0);
    // A renewal that started before this event does not include the call.
    if ((kind === 'G' || kind === 'Q') && call !== undefined && call.ticket === undefined) {
      this.#renewedAt = Math.min(this.#renewedAt, call.since);
      this.#oldestUnrenewed = Math.min(this.#oldestUnrenewed, call.since);
    }
    if (kind === 'H') {
      // The fields: microseconds from now, and the same instant by the clock of the server.
      if (!(Number(serial) < ENDLESS)) return;
      this.#wakeAt = this.#clock.now() + Number(serial) / 1e6;
      this.#wakeAtServerTime = number(0);
    } else if (kind === 'G') {
      // A grant that is older than the waiter's return to the queue is void, even if it arrives late.
      if (call === undefined || number(1) < call.waitedAt || fields.length < GRANT_FIELDS) return;
      const [slot = '', granted = '', cost = '', grant = ''] = fields;
      const item = fields.join(' ');
      const issuer = {
        onRelease: (permit: Grant) => this.#onRelease(serial, permit, cost),
        onSettle: (permit: Grant) => this.#onSettle(permit.cost, cost, granted, grant),
      };
      const waited = this.#secondsSince(call);
      const lease = new Lease(issuer, call.cost, waited, Number(slot), item, () => this.#expireLeases());
      this.#leases.set(serial, lease);
      this.#removeCall(serial, call);
      this.#publisher.grantedWaiter(lease, call);
      call.resolve(lease);
      if (call.resetBeforeReply) this.#loseLeases([[serial, lease]], LOST_BY_RESET);
    } else if (kind === 'Q') {
      if (call === undefined) return;
      const isNew = call.ticket === undefined;
      call.ticket = fields[0];
      // Present if the waiter has returned to the queue. Replies arrive in order.
      if (number(1) > 0) call.waitedAt = number(1);
      if (call.overdue) {
        this.#cancelCall(serial, call);
        return this.#settleWithoutPermit(call, timeoutError(this, call, 0));
      }
      if (isNew) this.#publisher.queued(call, call.cost);
      if (call.resetBeforeReply) this.#enqueue(this.#waiterCommand(serial, call));
      call.resetBeforeReply = false;
    } else if (kind === 'L' || kind === 'F') {
      const [wait, running, waiting] = [number(0) >= ENDLESS ? Infinity : number(0) / 1e6, number(1), number(2)];
      this.#refuse(serial, (refused) =>
        kind === 'L'
          ? timeoutError(this, refused, wait, running, waiting)
          : queueFullError(this, this.#maxQueue, wait, running, waiting),
      );
    } else if (kind === 'O') {
      this.#refuse(serial, ({ cost }) => oversizeError(this, cost, number(0)));
    } else if (kind === 'X' || kind === 'Z') {
      const lease = this.#leases.get(serial);
      if (lease !== undefined) this.#loseLeases([[serial, lease]], LOST_BY_RESET);
      else if (call?.ticket !== undefined) this.#requestRenewal();
      else if (call !== undefined) call.resetBeforeReply = true;
    }
  }

  #refuse(serial: string, createError: (call: Call) => Error): void {
    const call = this.#calls.get(serial);
    if (call === undefined) return;
    this.#removeCall(serial, call);
    this.#settleWithoutPermit(call, call.tries ? undefined : createError(call));
  }

  /** Handles the failure of a call of the script. Redis may or may not have applied its commands. */
  #onFailure(commands: readonly Command[], error: ThrottleBackendError): void {
    const now = this.#clock.now();
    const retryFailed = this.#failure !== undefined && this.#retryAt === Infinity;
    this.#failure = error;
    for (const { requestedBy, retryUntil, onFailed, ...command } of commands) {
      onFailed?.(error);
      if (retryUntil !== undefined && now < retryUntil) this.#retryQueue.push({ ...command, retryUntil });
      const call = requestedBy === undefined ? undefined : this.#calls.get(requestedBy);
      if (call === undefined || call.ticket !== undefined || this.#failOpen) continue;
      this.#cancelOnRetry(requestedBy as string, call);
      this.#settleWithoutPermit(call, error);
    }
    // A waiter stays in the queue of Redis until its place has expired. For a blocked process,
    // an unread reply looks like a missing one, so only the failure of a retry proves that the place has expired.
    const expired = retryFailed && now >= this.#renewedAt + this.#ttl;
    if (this.#failOpen) this.#moveCallsToFallback();
    else if (expired) {
      // A rejected caller may call again at once: the copy excludes the new calls.
      for (const [serial, call] of Array.from(this.#calls)) {
        if (!this.#calls.has(serial)) continue;
        this.#cancelOnRetry(serial, call);
        this.#settleWithoutPermit(call, error);
      }
    }
    // Several calls may fail before the retry; only the first failure sets its time.
    if (this.#retryAt === Infinity) {
      this.#retryDelay = Math.min(LONGEST_RETRY, this.#ttl / 3, this.#retryDelay * 2 || FIRST_RETRY);
      this.#retryAt = now + this.#retryDelay;
    }
    this.#rearmAlarm();
  }

  /** As `#cancelCall`, but the cancellation is sent with the next retry. */
  #cancelOnRetry(serial: string, call: Call): void {
    this.#removeCall(serial, call);
    this.#retryQueue.push({ args: ['C', serial, call.cost.toString()], retryUntil: this.#clock.now() + this.#ttl });
  }

  /** Moves all waiters to the fallback, ahead of every later caller. */
  #moveCallsToFallback(): void {
    for (const [serial, call] of Array.from(this.#calls)) {
      if (!this.#calls.has(serial)) continue;
      this.#cancelOnRetry(serial, call);
      this.#acquireLocally(call);
    }
  }

  /**
   * Requests the permit of a call from the fallback. The fallback publishes nothing; this throttle publishes the
   * events.
   */
  #acquireLocally(call: Call): void {
    const { cost, since, timeout, signal, tries, resolve } = call;
    const fallback = this.#fallback;
    const grant = (permit: Permit): void => {
      const issuer = {
        onRelease: () => {
          this.#fallbackPermits--;
          this.#publisher.released(lease);
          permit.release();
        },
        onSettle: () => permit.settle(lease.cost),
      };
      const lease: Lease = new Lease(issuer, cost, this.#secondsSince(call), 0, '', ignore);
      this.#fallbackPermits++;
      this.#publisher.grantedWaiter(lease, call);
      resolve(lease);
    };
    if (tries) {
      try {
        const permit = fallback.tryAcquire(cost);
        if (permit === undefined) this.#settleWithoutPermit(call, undefined);
        else grant(permit);
      } catch (error) {
        this.#settleWithoutPermit(call, error);
      }
      return;
    }
    const left = timeout === Infinity ? Infinity : Math.max(0, timeout - (this.#clock.now() - since));
    this.#fallbackWaiters++;
    fallback.acquire(cost, { signal, timeout: left }).then(
      (permit) => {
        this.#fallbackWaiters--;
        return grant(permit);
      },
      (error: unknown) => {
        this.#fallbackWaiters--;
        const aborted = signal?.aborted === true && error === reasonOf(signal);
        this.#settleWithoutPermit(call, error, aborted ? 'aborted' : undefined);
      },
    );
  }

  /** Seconds since the start of a call. */
  #secondsSince({ since }: Call): number {
    return Math.max(0, this.#clock.now() - since);
  }

  #onRelease(serial: string, permit: Grant, cost: string): void {
    if (this.#leases.delete(serial)) this.#publisher.released(permit);
    this.#sendUntilExpiry(['R', serial, cost]);
  }

  /** Sends a settlement once, without a retry: a settlement that arrives twice could count twice. */
  #onSettle(cost: number, requested: string, granted: string, grant: string): void {
    if (this.#disposed) return;
    this.#register();
    this.#enqueue({ args: ['S', cost.toString(), requested, granted, grant] });
  }

  /** Renews all leases and all places in the queue. */
  async #renew(): Promise<void> {
    if (this.#renewing || !this.#registered) return;
    this.#renewing = true;
    const since = this.#clock.now();
    const commands: Command[] = [];
    for (const [serial, { item }] of this.#leases) commands.push({ args: ['K', serial, item] });
    for (const [serial, call] of this.#calls)
      if (call.ticket !== undefined) commands.push(this.#waiterCommand(serial, call));
    this.#oldestUnrenewed = Infinity;
    let left = Math.ceil(commands.length / RENEWALS_PER_CALL);
    /** Runs before the events of the reply are applied. */
    const onReply = (): void => {
      if (--left <= 0) this.#renewedAt = Math.max(this.#renewedAt, Math.min(since, this.#oldestUnrenewed));
    };
    const calls: Promise<void>[] = [];
    for (let from = 0; from < commands.length; from += RENEWALS_PER_CALL)
      calls.push(this.#callScript(commands.slice(from, from + RENEWALS_PER_CALL), onReply));
    await Promise.all(calls);
    if (commands.length === 0) onReply();
    this.#renewing = false;
    if (this.#renewalRequested) this.#requestRenewal();
    this.#rearmAlarm();
  }

  /** Renews now. During a renewal, another one follows: the one under way may have been sent too early. */
  #requestRenewal(): void {
    this.#renewalRequested = this.#renewing;
    void this.#renew();
  }

  /** Creates the command that renews the place of a waiter. */
  #waiterCommand(serial: string, { cost, ticket }: Call): Command {
    return { args: ['W', serial, cost.toString(), ticket as string] };
  }

  /** Retries at once: Redis has replied again, though too late for the call. */
  #onLateReply(): void {
    if (!this.#registered) return;
    this.#retryAt = this.#clock.now();
    this.#rearmAlarm();
  }

  /** Loses all leases if the last renewal is too long ago: another holder may get their slots. */
  #expireLeases(): void {
    if (this.#leases.size === 0 || this.#clock.now() < this.#renewedAt + SAFE_SHARE * this.#ttl) return;
    this.#loseLeases([...this.#leases], `its lease was not renewed for ${SAFE_SHARE} of its ttl of ${this.#ttl} s`);
  }

  #loseLeases(leases: readonly (readonly [string, Lease])[], why: string): void {
    const error = new LeaseLostError(`A permit of ${labelOf(this)} is lost: ${why}`);
    for (const [serial, lease] of leases) {
      if (!this.#leases.delete(serial)) continue;
      this.#publisher.released(lease);
      // Redis may still have the lease: the release frees its slot.
      this.#sendUntilExpiry(['R', serial, lease.item.split(' ')[2] as string]);
      lease.lose(error);
    }
  }

  /** Sets the alarm to the next instant at which something is due. An idle throttle unregisters. */
  #rearmAlarm(): void {
    this.#unregisterIfIdle();
    const failing = this.#retryAt < Infinity;
    const holds = this.#leases.size > 0;
    const waits = this.#calls.size > 0;
    const next = !this.#registered
      ? Infinity
      : Math.min(
          waits && !failing ? this.#wakeAt : Infinity,
          (holds || waits) && !failing && !this.#renewing ? this.#renewedAt + this.#ttl / 3 : Infinity,
          holds ? this.#renewedAt + SAFE_SHARE * this.#ttl : Infinity,
          this.#retryAt,
        );
    // A release that is retried must not keep the process alive: its lease expires anyway.
    const urgent = holds || waits || this.#idleListeners.length > 0;
    if (next === this.#alarmAt && urgent === this.#alarmIsUrgent) return;
    this.#cancelAlarm?.();
    this.#cancelAlarm = undefined;
    this.#alarmAt = next;
    this.#alarmIsUrgent = urgent;
    if (next === Infinity) return;
    const schedule = urgent
      ? (seconds: number, onAlarm: () => void) => this.#clock.schedule(seconds, onAlarm)
      : scheduleInBackground;
    this.#cancelAlarm = schedule(Math.max(1e-6, next - this.#clock.now()), () => this.#onAlarm());
  }

  #onAlarm(): void {
    this.#alarmAt = Infinity;
    const now = this.#clock.now();
    this.#expireLeases();
    if (now >= this.#retryAt) {
      // If the retry fails, `#onFailure` sets the time of the next one.
      this.#retryAt = Infinity;
      this.#sendRetryQueue();
      void this.#renew();
    } else if (now >= this.#renewedAt + this.#ttl / 3) void this.#renew();
    if (now >= this.#wakeAt) {
      this.#wakeAt = Infinity;
      this.#confirmedServerTime = this.#wakeAtServerTime;
      void this.#callScript([]);
    }
    this.#rearmAlarm();
  }

  /** If the throttle is idle, unregisters it and resolves the promises of `idle`. */
  #unregisterIfIdle(): void {
    if (
      this.#calls.size > 0 ||
      this.#leases.size > 0 ||
      this.#outbox.length > 0 ||
      this.#retryQueue.length > 0 ||
      this.#callsInFlight > 0
    )
      return;
    if (this.#registered) {
      this.#registered = false;
      this.#connection.unregister(this.#owner);
      this.#internal.onUnregistered?.();
    }
    for (const resolve of this.#idleListeners.splice(0)) resolve();
    if (this.#closed === undefined || this.#disposed) return;
    this.#disposed = true;
    if (this.#internal.onUnregistered === undefined) this.#connection.release();
  }

  #serverTime(): string {
    const { serverTime } = this.#internal;
    return serverTime === undefined ? '' : micros(serverTime());
  }

  #checkCost(cost: number): void {
    checkCost(cost);
    if (cost > this.burst) throw oversizeError(this, cost, this.burst);
  }

  #closedError(): Error {
    return closedError(this, this.#closed?.reason);
  }
}

async function disposeRedisThrottle(this: RedisThrottle): Promise<void> {
  await this.close();
  await this.idle();
}
