/// <reference lib="esnext.disposable" preserve="true" />
/** The gate for many processes and hosts: the public class. `participant.ts` has the part of this process. */
import { addDisposal } from '../core/dispose.js';
import type { Cost, Terms } from '../core/cost.js';
import { EventPublisher } from '../core/events.js';
import type { AcquireOptions, CorrectOptions, Gate } from '../core/gate.js';
import { IdleListeners, type IdleOptions, readBelow } from '../core/idle.js';
import { addInspection, readFields, type ThrottleData } from '../core/inspect.js';
import type { Rate } from '../core/limits.js';
import { mapItems, type MapOptions, wrapFunction } from '../core/map.js';
import { runWithPermit } from '../core/permit.js';
import { Throttle } from '../core/throttle.js';
import type { Limits } from '../core/throttle-options.js';
import { checkAcquireOptions, checkFunction, checkNumber, readOnlyLower } from '../core/validation.js';
import type { Call } from './calls.js';
import { encodeCharge } from './charge.js';
import { ignore } from './drivers/driver.js';
import { Fallback, type LocalGate } from './fallback.js';
import { readState, type RedisState, resetState, type RunScript } from './inspect.js';
import { keyNames } from './key-names.js';
import type { Lease, RedisPermit } from './lease.js';
import {
  checkOptions,
  clearedError,
  closedError,
  labelOf,
  localOptions,
  type RedisThrottleOptions,
} from './options.js';
import { Participant } from './participant.js';
import type { Command } from './protocol.js';
import { FleetRates } from './rates.js';
import { Script } from './script.js';
import STEP from './scripts/step.lua';
import { type SharedConnection, sharedConnection } from './shared-connection.js';
import { SteadyClock } from './steady-clock.js';
import { Wire } from './wire.js';

/** Options for a keyed throttle and for tests. */
export interface InternalOptions {
  /** Called when the throttle is idle. A keyed throttle sets it, and retains the shared connection by itself. */
  onUnregistered?(): void;
  /** Called with 1 when a caller waits, and with -1 when it does not wait any more. */
  onResize?(change: 1 | -1): void;
  readonly fallback?: LocalGate;
  /** Replaces the clock of the server, in seconds. */
  readonly serverTime?: (() => number) | undefined;
}

const stepScript = new Script(STEP);

/** The state of a {@link RedisThrottle} in this process. Redis knows the tokens and the pause: see `inspect`. */
export interface RedisThrottleData extends Omit<ThrottleData, 'tokens' | 'levels' | 'active' | 'pausedFor'> {
  /** The name of the shared limits. */
  key: string;
  /** The number of permits held through this object. */
  held: number;
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
export class RedisThrottle<Name extends string = never> implements Gate {
  /** Calls `close()`, then `idle()`. The constructor adds the method, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  readonly #key: string;
  readonly #internal: InternalOptions;
  readonly #connection: SharedConnection;
  /** Holds the checked limits. Without another fallback, it grants permits while Redis fails. */
  readonly #local: Throttle<string>;
  readonly #rates: FleetRates;
  readonly #publisher: EventPublisher;
  readonly #fallback: Fallback;
  readonly #failOpen: boolean;
  readonly #wire: Wire;
  readonly #participant: Participant;
  #closed: { readonly reason: unknown; readonly drains: boolean } | undefined;
  /** Whether the throttle is closed and idle. */
  #disposed = false;
  readonly #idleListeners = new IdleListeners();

  /**
   * Checks the options. The first call connects to Redis.
   *
   * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
   */
  constructor(options: RedisThrottleOptions<Name>);
  /** @internal */
  constructor(options: RedisThrottleOptions<Name>, internal: InternalOptions);
  constructor(options: RedisThrottleOptions<Name>, internal: InternalOptions = {}) {
    addDisposal(RedisThrottle.prototype, 'asyncDispose', disposeRedisThrottle);
    addInspection(RedisThrottle.prototype, 'RedisThrottle');
    const { key, ttl, prefix, failOpen, linger, commandTimeout, maxQueue, clock: source } = checkOptions(options);
    const settings = localOptions(options);
    this.#local = new Throttle<string>(settings);
    this.#rates = new FleetRates(this.#local, settings, () => labelOf(this));
    const rates = this.#rates.names.length === 0 ? undefined : this.#rates;
    const clock = new SteadyClock(source);
    const publisher = new EventPublisher(this, clock, this.#rates.names);
    this.#publisher = publisher;
    this.#key = key;
    this.#internal = internal;
    this.#failOpen = failOpen;
    this.#connection = sharedConnection(options.client);
    const settleWithoutPermit = (call: Call, error: unknown, reason?: 'aborted'): void => {
      publisher.refused(call, call.cost, error, reason, call.terms);
      if (call.tries && error === undefined) call.resolve(undefined);
      else call.reject(error);
    };
    const onResize = (change: 1 | -1): void => this.#onResize(change);
    const hooks = { onResize, now: () => clock.now() };
    this.#fallback = new Fallback(internal.fallback ?? this.#local, publisher, settleWithoutPermit, rates, hooks);
    const isClosed = (): boolean => this.#closed !== undefined;
    const { serverTime } = internal;
    const wireSettings = { face: this, keys: keyNames(prefix, key), ttl, maxQueue, commandTimeout, serverTime };
    this.#wire = new Wire(wireSettings, this.#connection, stepScript, this.#rates, clock);
    this.#participant = new Participant({
      face: this,
      clock,
      wire: this.#wire,
      publisher,
      fallback: failOpen ? this.#fallback : undefined,
      rates,
      ttl,
      get linger() {
        return isClosed() ? 0 : linger;
      },
      maxQueue,
      onResize,
      onIdle: () => this.#onIdle(),
      isLeaving: () => internal.onUnregistered !== undefined || isClosed(),
      isDisposed: () => this.#disposed,
      settleWithoutPermit,
    });
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

  /**
   * The size of the bucket: the cost that can start at once after idle time, and the largest cost. With several rates:
   * the smallest burst of the rates without a name.
   */
  get burst(): number {
    return this.#local.burst;
  }

  /** All rates, for messages: `undefined` for a throttle with one bucket. @internal */
  get rates(): readonly Rate[] | undefined {
    return this.#rates.isSimple ? undefined : this.#rates.list;
  }

  /** The number of permits held through this object. {@link RedisThrottle.inspect} counts those of all processes. */
  get held(): number {
    return this.#participant.held + this.#fallback.held;
  }

  /** The number of callers of this object that wait. */
  get waiting(): number {
    return this.#participant.waiting + this.#fallback.waiting;
  }

  /** Whether `close` or `drain` was called. */
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
   * @param cost Tokens: finite, from 0 to `burst`, or a record with the tokens of each named rate. `0` takes a slot and
   *   no token. Default 1.
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
  acquire(cost: Cost<Name> = 1, options?: AcquireOptions): Promise<RedisPermit<Name>> {
    try {
      const terms = this.#rates.read(cost, options?.slots);
      if (options !== undefined) checkAcquireOptions(options);
      if (this.#closed !== undefined) throw this.#publishRefusal(cost, terms, this.#closedError());
      return this.#request(cost, terms, options ?? {}, false) as Promise<RedisPermit<Name>>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Takes a permit if one is free now and no caller waits in any process. Otherwise, and on a closed throttle, it
   * resolves with `undefined`.
   *
   * @param cost Tokens: finite, from 0 to `burst`, or a record with the tokens of each named rate. Default 1.
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a `cost` out of range, and with a
   *   {@link ThrottleBackendError} when Redis fails.
   */
  async tryAcquire(cost: Cost<Name> = 1): Promise<RedisPermit<Name> | undefined> {
    const terms = this.#rates.read(cost);
    if (this.#closed === undefined) return this.#request(cost, terms, { timeout: 0 }, true);
    this.#publishRefusal(cost, terms, undefined);
    return undefined;
  }

  #request(
    given: Cost<Name>,
    terms: Terms | undefined,
    options: AcquireOptions,
    tries: boolean,
  ): Promise<Lease | undefined> {
    const cost = terms === undefined ? (given as number) : (terms.costs[0] as number);
    return this.#participant.acquire(cost, options, tries, terms, encodeCharge(cost, terms, this.#rates.names));
  }

  /**
   * Waits for a permit, calls `fn` with it and releases it when the result of `fn` has settled.
   *
   * @returns A promise that rejects as the promise of {@link RedisThrottle.acquire} does, or with the error of `fn`.
   *   The method never throws.
   */
  run<T>(
    fn: (permit: RedisPermit<Name>) => T | PromiseLike<T>,
    cost: Cost<Name> = 1,
    options?: AcquireOptions,
  ): Promise<T> {
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
    cost: Cost<Name> | ((...args: Args) => Cost<Name>) = 1,
  ): (this: This, ...args: Args) => Promise<Awaited<R>> {
    return wrapFunction(this as Gate, fn, cost);
  }

  /** Calls `fn` for each item through the throttle, as {@link Throttle.map} does. */
  map<T, R>(
    items: Iterable<T | PromiseLike<T>> | AsyncIterable<T>,
    fn: (item: T, index: number) => R | PromiseLike<R>,
    options?: MapOptions<T, Name>,
  ): Promise<R[]> {
    return mapItems(this as Gate, items, fn, options);
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
    await this.#confirm({ kind: 'pause', seconds }, () => this.#fallback.pause(seconds));
  }

  /**
   * Sets the tokens at hand in all processes, up or down, for a quota that the upstream reports or an operator resets,
   * as {@link Throttle.correct} does. Waiters that fit are granted.
   *
   * @param levels A number, or `cost` in a record, sets the rates without a name. Another entry of a record sets a named
   *   rate. A rate that a record does not mention stays as it is.
   * @param options `onlyLower: true` never raises a level: missing tokens count as spent by another client.
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a level that is not a number above
   *   `-Infinity` and for an unknown name, and with a {@link ThrottleBackendError} when Redis fails.
   *
   * @example
   * import { RedisThrottle } from 'headgate/redis';
   *
   * const client = { url: process.env.REDIS_URL ?? 'redis://localhost:6379' };
   * const also = [{ name: 'tokens', capacity: 200_000, period: 60 }] as const;
   * const llm = new RedisThrottle({ client, key: 'llm', capacity: 500, period: 60, also });
   * await llm.correct({ tokens: 150_000 }, { onlyLower: true }); // the upstream reports 150,000 remaining tokens
   * const { levels } = await llm.inspect();
   * console.log((levels['tokens'] ?? 0) < 151_000);            // → true
   * await llm.close();
   */
  async correct(levels: Cost<Name>, options: CorrectOptions = {}): Promise<void> {
    const onlyLower = readOnlyLower(options);
    const text = this.#rates.readLevels(levels);
    const command: Command = { kind: 'correct', levels: text, onlyLower };
    await this.#confirm(command, () => this.#fallback.correct(levels, options));
  }

  /** Ends every pause now, in all processes. */
  async resume(): Promise<void> {
    this.#publisher.paused(0);
    // Callers may still wait in the fallback after Redis has recovered, so `resume` always resumes it.
    this.#fallback.resume();
    await this.#confirm({ kind: 'resume' }, ignore);
  }

  /**
   * Changes limits while the throttle is in use. The new `concurrency` applies to callers of this object. The new main
   * rate applies to all processes, until another throttle configures its own rates. A waiter whose cost or whose slots
   * can now never be granted gets a `RangeError`.
   *
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a limit out of range; nothing has changed
   *   then. It rejects with a {@link ThrottleBackendError} when Redis fails; the limits change with the next call then.
   */
  async configure(limits: Limits): Promise<void> {
    this.#rates.configure(limits);
    this.#wire.configure();
    this.#participant.refuse(({ terms }) => this.#rates.tooManySlots(terms?.slots ?? 1));
    await this.#confirm(undefined, ignore);
  }

  /**
   * Resolves when no caller of this object waits, the last permit of this object is released, and Redis has confirmed
   * the release. With `below`, resolves once fewer than `below` callers of this object wait.
   *
   * @param options {@link IdleOptions}
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a `below` that is not an integer >= 1.
   */
  async idle(options: IdleOptions = {}): Promise<void> {
    const below = readBelow(options);
    if (below > 0) return this.waiting < below ? undefined : this.#idleListeners.add(below);
    do {
      await this.#fallback.idle();
      const idle = this.#idleListeners.add(0);
      this.#participant.awaitIdle();
      await idle;
      // While Redis fails, waiters move to the fallback.
    } while (!this.#fallback.isIdle);
  }

  /**
   * Refuses later calls of this object with a {@link ThrottleClosedError}, and finishes the calls that it has accepted,
   * as {@link Throttle.drain} does. Other processes go on.
   *
   * @returns A promise that resolves when the last permit of this object is released, and Redis has confirmed the
   *   release or failed. It never rejects.
   */
  async drain(): Promise<void> {
    if (this.#closed === undefined) {
      this.#closed = { reason: undefined, drains: true };
      await this.#leave();
    }
    await this.idle();
  }

  /**
   * Refuses every waiter of this object with a {@link QueueClearedError} whose `cause` is `reason`, and stays open. Redis
   * takes back a permit that is on its way to a waiter.
   *
   * @returns A promise that resolves when Redis has replied or failed. It never rejects.
   */
  async clear(reason?: unknown): Promise<void> {
    const wasWaiting = this.#participant.waiting > 0;
    this.#local.clear(reason);
    const error = clearedError(this, reason);
    this.#participant.refuse(({ tries }) => (tries ? undefined : error));
    if (wasWaiting) await this.#confirm(undefined, ignore).catch(ignore);
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
    if (this.#closed?.drains === false) return;
    this.#closed = { reason, drains: false };
    this.#local.close(reason);
    this.#participant.close(this.#closedError());
    await this.#leave();
  }

  /** Informs Redis that this object accepts no more calls: its last release then ends it. */
  async #leave(): Promise<void> {
    if (this.#participant.isKnown) await this.#confirm(undefined, ignore).catch(ignore);
    else this.#onIdle();
  }

  /**
   * Returns the state in all processes: holders, waiters, tokens and pause. Redis reads 200 holders or waiters at a
   * time, so a long list may combine several instants.
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
    return readState(this.#afterCommands(), this.#rates);
  }

  /**
   * Resets the state in all processes: the bucket is full, the pause ends, and every permit is lost. The `signal` of
   * each lost permit aborts. Waiters enter the queue again, in the old order.
   *
   * @returns A promise that rejects with a {@link ThrottleBackendError} when Redis fails.
   */
  async reset(): Promise<void> {
    await resetState(this.#afterCommands());
  }

  /** Whether the throttle holds a permit, waits for one or has a call under way. @internal */
  get registered(): boolean {
    return this.#participant.isRegistered;
  }

  /** Sends all commands that were issued before, and returns the function that runs another script. */
  #afterCommands(): RunScript {
    // A clock that has never returned a number throws here, before the flush.
    this.#participant.now();
    this.#participant.flush();
    return (script, ...args) => this.#wire.run(script, ...args);
  }

  /** Sends a command, or only the limits, and waits for the reply. With `failOpen`, a failure calls `onFailOpen`. */
  async #confirm(command: Command | undefined, onFailOpen: () => void): Promise<void> {
    if (this.#disposed) return;
    try {
      await this.#participant.confirm(command);
    } catch (error) {
      if (!this.#failOpen) throw error;
      onFailOpen();
    }
  }

  #onResize(change: 1 | -1): void {
    this.#internal.onResize?.(change);
    if (this.#idleListeners.isEmpty) return;
    // Calls may be on their way from Redis to the fallback.
    queueMicrotask(() => this.#idleListeners.notify(false, this.waiting));
  }

  #onIdle(): void {
    this.#internal.onUnregistered?.();
    this.#idleListeners.notify(true, this.waiting);
    if (this.#closed === undefined || this.#disposed) return;
    this.#disposed = true;
    if (this.#internal.onUnregistered === undefined) this.#connection.release();
  }

  /** Publishes the refusal of a call that is never sent to Redis. Returns the error. */
  #publishRefusal<E>(cost: Cost<Name>, terms: Terms | undefined, error: E): E {
    this.#publisher.refused(
      {},
      terms === undefined ? (cost as number) : (terms.costs[0] as number),
      error,
      undefined,
      terms,
    );
    return error;
  }

  #closedError(): Error {
    return closedError(this, this.#closed?.reason, this.#closed?.drains === true);
  }

  /** The state in this process as plain data, for logs. `console.log` shows the same. */
  toJSON(): RedisThrottleData {
    return readFields(this, 'name key capacity concurrency period burst held waiting closed') as RedisThrottleData;
  }
}

async function disposeRedisThrottle(this: RedisThrottle<string>): Promise<void> {
  await this.close();
  await this.idle();
}
