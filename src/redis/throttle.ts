/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The gate for many processes and hosts. What is decided, is decided in Redis, by one script (`scripts/step.ts`); this
 * is what a process has to do with it.
 *
 * One call a tick. Whatever is asked for or given back goes into the outbox, in the order of the calls, and leaves it when
 * the tick ends, as one call of the script (in parts, where it is very much). Its answer says what became of each at
 * once, and what others did since comes by message: both are the same events, heard in one place, `#hearOne`.
 *
 * Told, not polling. Nobody asks again and again whether it is its turn. The alarm of a throttle rings for four
 * reasons only: the head of the queue is ours and due, or another's, who shows no sign of life; a third of `ttl` has
 * passed and what is ours has to be renewed; a failed call is to be tried again; or too much time has passed since the
 * last renewal, and the leases are lost.
 *
 * Renewing is asking. For each lease it says "I hold this slot still", for each waiter "I wait here still, since then".
 * Whoever Redis knows no more, since it lost its data or gave up on this process, takes the slot or the place up again
 * by that; whoever was granted and has not heard of it, hears of it now. So no loss of a message, a connection or a
 * server needs a remedy of its own: all end in `#renew`.
 *
 * Giving back is certain in the end. A release or a cancellation that fails is sent again until it is heard, or until
 * the lease has lapsed by itself.
 */
import { addAbortListener, removeAbortListener } from '../core/abort-listeners.js';
import { EventPublisher } from '../core/events.js';
import { type Clock, systemClock } from '../core/clock.js';
import { addDisposal } from '../core/dispose.js';
import { QueueFullError, ThrottleClosedError, ThrottleTimeoutError } from '../core/errors.js';
import { printable, refusal } from '../core/refusals.js';
import {
  checkAcquireOptions,
  checkCost,
  checkFunction,
  checkNumber,
  checkObject,
  invalid,
} from '../core/validation.js';
import type { AcquireOptions, Gate } from '../core/gate.js';
import { mapItems, type MapOptions, wrapFunction } from '../core/map.js';
import { type Grant, type Permit, runWithPermit } from '../core/permit.js';
import { describeLimits } from '../core/limits.js';
import { type Limits, Throttle } from '../core/throttle.js';
import type { RedisConnection } from './client.js';
import { LeaseLostError, messageOf, ThrottleBackendError } from './errors.js';
import { type Hub, hubOf, type Member } from './shared-connection.js';
import { keyNames } from './key-names.js';
import { Lease, type RedisPermit } from './lease.js';
import { Script } from './script.js';
import { INSPECT } from './scripts/inspect.js';
import { RESET } from './scripts/reset.js';
import { STEP } from './scripts/step.js';
import { SteadyClock } from './steady-clock.js';

/** Settings of a {@link RedisKeyedThrottle}, and but for the key those of a {@link RedisThrottle}. */
export interface RedisKeyedThrottleOptions {
  /**
   * The client: one of ioredis or node-redis (single, pool, cluster or sentinel), which is used and never closed; `{ url }`,
   * or other options for `createClient` of the package `redis`, for one of our own, closed with the last throttle that
   * uses it; or any object with `eval(script, keys, args)` and `subscribe(channel, listener)`.
   */
  client: RedisConnection;
  /** Tokens per `period`: > 0; `Infinity`, the default, for no rate limit. */
  capacity?: number | undefined;
  /** How many at a time: an integer >= 0; `0` (the default) and `Infinity` for any number. */
  concurrency?: number | undefined;
  /** Seconds: > 0, finite. Default 1. */
  period?: number | undefined;
  /** The bucket's size: what may start at once after silence. > 0. Default `max(1, capacity)`. */
  burst?: number | undefined;
  /**
   * Seconds, from 0.05 to 2,000,000, after which the permits of a process that has died are given back. A living one
   * renews them every third of it, however long its work takes. Default 60.
   */
  ttl?: number | undefined;
  /** What the names of all keys in Redis begin with: a string without braces. Default `headgate`. */
  prefix?: string | undefined;
  /**
   * What happens while Redis fails. `false`, the default: callers get a {@link ThrottleBackendError}. `true`: a
   * `Throttle` of this process with the same limits decides, until Redis answers again.
   */
  failOpen?: boolean | undefined;
  /** Seconds, > 0, within which Redis has to answer: nine tenths of `ttl` at most, since a lease is lost by then. Default 2. */
  commandTimeout?: number | undefined;
  /** How many may wait, in all processes: an integer >= 0, or `Infinity`, the default. */
  maxQueue?: number | undefined;
  /** Named in every error message. */
  name?: string | undefined;
  /** Where this process' timers come from; the limits go by the server's clock. Default: the platform's monotonic clock. */
  clock?: Clock | undefined;
}

/** Settings of a {@link RedisThrottle}. */
export interface RedisThrottleOptions extends RedisKeyedThrottleOptions {
  /** What the limits are about. All throttles of one `key` and one `prefix` share them, in whatever process. */
  key: string;
}

/** What a throttle on Redis is at, at one instant. */
export interface RedisState {
  /** Who holds a permit, in no particular order. `age`: seconds since the grant. `owner`: tells holders' throttles apart. */
  active: { slot: number; owner: string; age: number; cost: number }[];
  /** Who waits, in order. `age`: seconds since the call. */
  waiting: { owner: string; age: number; cost: number }[];
  /** The tokens at hand: `Infinity` without a rate limit. Below zero while a settled cost has left a debt. */
  tokens: number;
  /** Seconds until the pause ends: `0` when not paused, `Infinity` until `resume` is called. */
  pausedFor: number;
}

/** What decides while Redis does not. */
export type Local = Pick<Throttle, 'acquire' | 'tryAcquire' | 'pause' | 'resume'>;

/** How a throttle is part of a keyed one, and how tests move the server's clock. */
export interface Inside {
  /** Nothing is at stake any more. */
  rested?(): void;
  readonly local?: Local;
  /** The server's clock, in seconds. */
  readonly serverTime?: (() => number) | undefined;
}

/** A call of `acquire`, `run` or `tryAcquire` whose answer is open. */
interface Call {
  readonly cost: number;
  /** The instant of the call, and seconds from then. */
  readonly since: number;
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
  /** `tryAcquire`: a refusal is no error. */
  readonly tries: boolean;
  /** Its time was up before Redis had answered. */
  overdue: boolean;
  /** Its place in the queue, once it has one. */
  ticket: string | undefined;
  /** The latest instant, in microseconds of the server, at which it is known to have waited. */
  waitedAt: number;
  /** Redis has forgotten it, before its answer was heard. */
  forgotten: boolean;
  readonly resolve: (permit: Lease | undefined) => void;
  readonly reject: (reason: unknown) => void;
  disconnect: (() => void) | undefined;
}

/** Something for the script to do. */
interface Op {
  readonly args: readonly string[];
  /** The call that it asks a permit for. */
  readonly asks?: string;
  /** Until when it is tried again, where it has failed. */
  readonly until?: number;
  readonly done?: () => void;
  readonly failed?: (error: ThrottleBackendError) => void;
}

const step = new Script(STEP);
const inspection = new Script(INSPECT);
const clearance = new Script(RESET);

/** What stands for Infinity among microseconds: the largest integer that a double holds exactly. */
const FOREVER = Number.MAX_SAFE_INTEGER;
/** A span of so many microseconds, some thirty years, is one until then. */
const ENDLESS = 1e15;
/** The share of `ttl` after the last renewal when leases count as lost: the rest is for timers that are late. */
const SAFE_SHARE = 0.9;
/** How much is said by one call, so that it does not keep others from theirs: of leases and waiters to renew, and of all else. */
const RENEWED_AT_ONCE = 500;
const SAID_AT_ONCE = 2_000;
/** Seconds until a failed call is tried again: the first time, and at most. */
const FIRST_RETRY = 0.1;
const LAST_RETRY = 2;

/** What Redis gives as name, value, name, value. */
const pairs = (flat: readonly string[]): [string, string][] =>
  flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] as string]] : []));
const micros = (seconds: number): string =>
  (seconds === Infinity ? FOREVER : Math.min(FOREVER, Math.round(seconds * 1e6))).toString();
const bound = (count: number): string => (count === Infinity ? '-1' : count.toString());
const ignore = (): void => {};

/** How many words there are in a grant, after the call that is granted. */
const GRANT_WORDS = 4;

/** Why a lease is lost that Redis has forgotten. */
const RESET_SINCE = 'its lease was reset, or given to another';

/** As the system's clock does it, but nothing is kept alive for it. */
function scheduleInBackground(seconds: number, callback: () => void): () => void {
  const timer: unknown = setTimeout(callback, Math.ceil(seconds * 1_000));
  (timer as { unref?: () => void }).unref?.();
  return () => clearTimeout(timer as number);
}

/** Why a signal has aborted; where that throws, what it throws. */
function reasonOf(signal: AbortSignal | undefined): unknown {
  try {
    return signal?.reason;
  } catch (error) {
    return error;
  }
}

/** What the script has answered: a line for itself, and one for each event. @throws {TypeError} It is no answer to `ops`. */
function answerTo(ops: readonly Op[], reply: unknown): string[] {
  const lines = Array.isArray(reply) ? reply.map(String) : [];
  const told = new Set(lines.slice(1).map((event) => event.split(' ', 2)[1]));
  // A caller about whom nothing is said would wait for ever.
  if (lines.length === 0 || ops.some(({ asks }) => asks !== undefined && !told.has(asks)))
    throw new TypeError('the client has answered something else than the script');
  return lines;
}

/** Calls `fn` when the present tick ends: when no promise continuation is left to run, where the platform can tell. */
function atEndOfTick(fn: () => void): void {
  const { nextTick } = (globalThis as { process?: { nextTick?: (fn: () => void) => void } }).process ?? {};
  queueMicrotask(nextTick === undefined ? fn : () => nextTick(fn));
}

/**
 * A throttle that any number of processes and hosts share through Redis 6.2 or later, Valkey, or a Redis Cluster: at
 * most `concurrency` jobs at a time and `capacity` tokens' worth started per `period` seconds, in the order in which
 * the calls arrive in Redis, whoever makes them. It does what {@link Throttle} does, and answers by promises.
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
  /** `close()`, then `idle()`: `await using` ends with nothing left running. The constructor adds it, see `dispose.ts`. */
  declare [Symbol.asyncDispose]: () => Promise<void>;
  readonly #key: string;
  readonly #keys: string[];
  readonly #ttl: number;
  readonly #failOpen: boolean;
  readonly #commandTimeout: number;
  readonly #maxQueue: number;
  readonly #clock: SteadyClock;
  readonly #inside: Inside;
  readonly #hub: Hub;
  /** Has checked the limits and shows them; decides while Redis fails. */
  readonly #local: Throttle;
  readonly #publisher: EventPublisher;
  /** How many permits of the local throttle are out, and how many calls wait for one. */
  #lent = 0;
  #moved = 0;

  /** What it is called in Redis: `hub.instance`. */
  #owner = '';
  #serial = 0;
  readonly #calls = new Map<string, Call>();
  readonly #leases = new Map<string, Lease>();
  #outbox: Op[] = [];
  /** What failed calls have left to be said: with the next try, or once Redis answers. */
  #leftovers: Op[] = [];
  #flushing = false;
  /** How many calls of the script are open. */
  #open = 0;
  /** Whether something is at stake, and so the hub knows this. */
  #live = false;
  /** Whether Redis has these limits. */
  #configured = false;

  /** The instant of the latest renewal that succeeded: until `ttl` after it, nothing of ours lapses. */
  #renewed = 0;
  #renewing = false;
  /** The oldest call that was first heard of while a renewal that does not speak of it was under way. */
  #unspoken = Infinity;
  /** Whether what a renewal has said may be forgotten again by the time it is answered. */
  #renewsAgain = false;
  /** How many times a message told when the script is to be called. */
  #timings = 0;
  /** The instant at which the script is to be called, as it has said, and what it calls that instant. */
  #dueAt = Infinity;
  #due = 0;
  /** The latest such instant that has come. */
  #reached = 0;
  /** The instant of the next try, and seconds to the one after it, after a failure. */
  #retryAt = Infinity;
  #pauseBeforeRetry = 0;
  /** Why Redis has not answered lately. */
  #failure: ThrottleBackendError | undefined;
  #ringsAt = Infinity;
  /** Whether somebody waits for what the alarm is set for. */
  #urgent = false;
  #cancelAlarm: (() => void) | undefined;

  #closed: { readonly reason: unknown } | undefined;
  #gone = false;
  #onIdle: (() => void)[] = [];
  readonly #member: Member = {
    hear: (events) => {
      // Whoever was kept from hearing for so long may have lost what it was granted: the renewal that is due tells.
      const late = this.#clock.now() >= this.#renewed + SAFE_SHARE * this.#ttl;
      const [dueAt, due] = [this.#dueAt, this.#due];
      for (const event of events) {
        if (late && event.startsWith('G')) continue;
        if (event.startsWith('H')) this.#timings++;
        this.#hearOne(event);
      }
      // It may be older than an answer that was heard before: to be early does no harm.
      if (dueAt < this.#dueAt) [this.#dueAt, this.#due] = [dueAt, due];
      this.#settleDown();
    },
    reconcile: () => this.#renewAnew(),
  };

  /**
   * Connects to nothing yet.
   *
   * @throws {RangeError | TypeError} An option is out of range; the message names it and the value received.
   */
  constructor(options: RedisThrottleOptions);
  /** @internal */
  constructor(options: RedisThrottleOptions, inside: Inside);
  constructor(options: RedisThrottleOptions, inside: Inside = {}) {
    addDisposal(RedisThrottle.prototype, 'asyncDispose', disposeRedisThrottle);
    checkObject('options', options);
    const {
      client,
      key,
      capacity = Infinity,
      concurrency,
      period,
      burst,
      ttl = 60,
      prefix = 'headgate',
      failOpen = false,
      commandTimeout = 2,
      maxQueue = Infinity,
      name,
      clock = systemClock,
    } = options;
    if (typeof key !== 'string') throw invalid('key', 'a string', key);
    if (key === '') throw invalid('key', 'a string that is not empty', key, RangeError);
    if (typeof prefix !== 'string') throw invalid('prefix', 'a string', prefix);
    if (/[{}]/.test(prefix)) throw invalid('prefix', 'a string without braces', prefix, RangeError);
    checkNumber('ttl', 'a number from 0.05 to 2000000', ttl, 0.05, 2_000_000);
    checkNumber('commandTimeout', 'a finite number > 0', commandTimeout, Number.MIN_VALUE, Number.MAX_VALUE);
    if (typeof failOpen !== 'boolean') throw invalid('failOpen', 'a boolean', failOpen);
    this.#local = new Throttle(capacity, concurrency, period, { burst, maxQueue, name, clock, silent: true });
    this.#clock = new SteadyClock(clock);
    this.#publisher = new EventPublisher(this, this.#clock);
    this.#key = key;
    this.#keys = keyNames(prefix, key);
    this.#ttl = ttl;
    this.#failOpen = failOpen;
    this.#commandTimeout = commandTimeout;
    this.#maxQueue = maxQueue;
    this.#inside = inside;
    this.#hub = hubOf(client);
    if (inside.rested === undefined) this.#hub.join();
  }

  /** What the limits are about. */
  get key(): string {
    return this.#key;
  }

  /** Tokens per period, as it was set here. */
  get capacity(): number {
    return this.#local.capacity;
  }

  /** How many run at a time, as it was set here: `0` and `Infinity` mean any number. */
  get concurrency(): number {
    return this.#local.concurrency;
  }

  /** Seconds. */
  get period(): number {
    return this.#local.period;
  }

  /** What may start at once after silence, and the largest cost. */
  get burst(): number {
    return this.#local.burst;
  }

  /** How many permits are held through this object; {@link RedisThrottle.inspect} counts those of all processes. */
  get held(): number {
    return this.#leases.size + this.#lent;
  }

  /** How many callers of this object wait. */
  get waiting(): number {
    return this.#calls.size + this.#moved;
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
   * Waits for a permit. Callers of all processes are granted in the order in which their calls arrive in Redis. Release
   * the permit when the work is done; `using`, or {@link RedisThrottle.run}, does that by itself.
   *
   * @param cost Tokens: finite, from 0 to `burst`. `0` takes a slot and no token. Default 1.
   * @returns A promise that rejects as that of {@link Throttle.acquire}, and with a {@link ThrottleBackendError} when
   *   Redis fails. It never throws.
   *
   * @example
   * import { RedisThrottle } from 'headgate/redis';
   *
   * const client = { url: process.env.REDIS_URL ?? 'redis://localhost:6379' };
   * const throttle = new RedisThrottle({ client, key: 'reports', concurrency: 3 });
   * {
   *   await using permit = await throttle.acquire(1, { timeout: 10 });
   *   console.log(permit.slot);                        // → 1
   * }
   * await throttle.close();
   */
  acquire(cost = 1, options?: AcquireOptions): Promise<RedisPermit> {
    try {
      this.#checkCost(cost);
      if (options !== undefined) checkAcquireOptions(options);
      if (this.#closed !== undefined) throw this.#turnedAway(cost, this.#closedError());
      return this.#ask(cost, options, false) as Promise<Lease>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Takes a permit if that is possible now and nobody waits in any process, else resolves with `undefined`; so it does
   * once closed.
   *
   * @param cost Tokens: finite, from 0 to `burst`. Default 1.
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a `cost` out of range, and with a
   *   {@link ThrottleBackendError} when Redis fails.
   */
  async tryAcquire(cost = 1): Promise<RedisPermit | undefined> {
    this.#checkCost(cost);
    if (this.#closed === undefined) return this.#ask(cost, { timeout: 0 }, true);
    this.#turnedAway(cost, undefined);
    return undefined;
  }

  /**
   * Waits for a permit, calls `fn` with it and releases it when what `fn` returned has settled.
   *
   * @returns A promise that rejects as that of {@link RedisThrottle.acquire}, or with what `fn` throws. It never throws.
   */
  run<T>(fn: (permit: RedisPermit) => T | PromiseLike<T>, cost = 1, options?: AcquireOptions): Promise<T> {
    try {
      checkFunction('fn', fn);
      return this.acquire(cost, options).then((permit) => runWithPermit(fn, permit, options?.signal));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** A function that runs each call of `fn` through the throttle, as {@link Throttle.wrap} makes it. */
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
   * Holds everyone who waits or comes, in all processes, for at least `seconds` from when it arrives. The latest
   * deadline asked for counts.
   *
   * @param seconds >= 0. Default `Infinity`: until `resume`.
   * @returns A promise that rejects with a `RangeError` or `TypeError` for `seconds` out of range, and with a
   *   {@link ThrottleBackendError} when Redis fails.
   */
  async pause(seconds: number = Infinity): Promise<void> {
    checkNumber('seconds', 'a number >= 0', seconds, 0, Infinity);
    if (seconds === 0) return;
    this.#publisher.paused(seconds);
    await this.#tell(['P', micros(seconds)], (local) => local.pause(seconds));
  }

  /** Ends every pause now, in all processes. */
  async resume(): Promise<void> {
    this.#publisher.paused(0);
    // Whoever waits here, since Redis failed, may do so longer than it fails.
    (this.#inside.local ?? this.#local).resume();
    await this.#tell(['U'], ignore);
  }

  /**
   * Changes limits while the throttle is in use. `concurrency` is that of callers of this object; the rate is that of
   * all, until another states its own. Whoever waits with a cost that could now never be granted gets a `RangeError`.
   *
   * @returns A promise that rejects with a `RangeError` or `TypeError` for a limit out of range, when nothing has
   *   changed, and with a {@link ThrottleBackendError} when Redis fails: then the limits change with the next call.
   */
  async configure(limits: Limits): Promise<void> {
    this.#local.configure(limits);
    if (this.#gone) return;
    this.#configured = false;
    this.#enter();
    await this.#tell([], ignore);
  }

  /** Resolves once nobody waits here, the last permit of this object is back, and Redis knows. */
  async idle(): Promise<void> {
    await Promise.all([
      this.#local.idle(),
      new Promise<void>((resolve) => {
        this.#onIdle.push(resolve);
        this.#settleDown();
      }),
    ]);
  }

  /**
   * Closes this object for good, in this process alone: everyone who waits and everyone who comes gets a
   * {@link ThrottleClosedError} with `reason` as its `cause`. Running work finishes, and is renewed until then. A client
   * of our own is closed when the last permit is back; one that was given never is. Only the first call counts.
   *
   * @returns A promise that resolves once Redis knows, or cannot be told. It never rejects.
   */
  async close(reason?: unknown): Promise<void> {
    if (this.#closed !== undefined) return;
    this.#closed = { reason };
    const error = this.#closedError();
    this.#local.close(reason);
    for (const [serial, call] of this.#calls) {
      this.#leave(serial, call);
      this.#deny(call, call.tries ? undefined : error);
    }
    if (this.#live) await this.#tell([], ignore).catch(ignore);
    else this.#rest();
  }

  /**
   * The state of all processes: who holds and who waits, the tokens and the pause. It takes as long as there are many.
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
    const [now, numbers, leases, queue, owners] = (await this.#query(inspection)) as [
      string,
      string[],
      string[],
      string[],
      string[],
    ];
    const [capacity, period, burst, tokens, since, paused] = (numbers.length > 0 ? numbers : [0, 1, 0, 0, 0, 0]).map(
      Number,
    ) as [number, number, number, number, number, number];
    const known = numbers.length > 0;
    // What has ended is there until somebody calls the script.
    const lives = (expiry: string | undefined): boolean => Number(expiry) > Number(now);
    const alive = new Set(pairs(owners).flatMap(([name, expiry]) => (lives(expiry) ? [name] : [])));
    const age = (from: string | number): number => Math.max(0, (Number(now) - Number(from)) / 1e6);
    const owner = (id: string): string => id.slice(0, id.lastIndexOf('.'));
    const rated = known ? capacity >= 0 : this.capacity < Infinity;
    const level = known ? Math.min(burst, tokens + age(since) * 1e6 * (capacity / period)) : this.burst;
    return {
      active: pairs(leases).flatMap(([id, lease]) => {
        const [expiry, slot, granted = 0, cost] = lease.split(' ');
        return lives(expiry) ? [{ slot: Number(slot), owner: owner(id), age: age(granted), cost: Number(cost) }] : [];
      }),
      waiting: pairs(queue).flatMap(([waiter, ticket]) => {
        const [id = '', cost] = waiter.split(' ');
        return alive.has(owner(id)) ? [{ owner: owner(id), age: age(ticket), cost: Number(cost) }] : [];
      }),
      tokens: rated ? level : Infinity,
      pausedFor: paused >= FOREVER ? Infinity : Math.max(0, (paused - Number(now)) / 1e6),
    };
  }

  /**
   * Forgets all of it, in all processes: a full bucket, no pause, nobody inside. Who holds a permit loses it, and its
   * `signal` aborts; who waits comes again, in the old order.
   *
   * @returns A promise that rejects with a {@link ThrottleBackendError} when Redis fails.
   */
  async reset(): Promise<void> {
    await this.#query(clearance);
  }

  /** Whether nothing is at stake, so that a keyed throttle need not keep it. @internal */
  get rests(): boolean {
    return !this.#live;
  }

  /** Asks Redis for a permit; `undefined` where somebody only tries. */
  #ask(cost: number, { signal, timeout = Infinity }: AcquireOptions = {}, tries: boolean): Promise<Lease | undefined> {
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
        forgotten: false,
        resolve,
        reject,
        disconnect: undefined,
      };
      if (this.#failOpen && this.#hub.isDown(since, () => void this.#call([]))) {
        if (this.#calls.size > 0) {
          this.#moveHere();
          this.#send({ args: [] });
        }
        return this.#decideHere(call);
      }
      this.#enter();
      if (this.#calls.size === 0 && this.#leases.size === 0) this.#renewed = since;
      const serial = (this.#serial++).toString(36);
      this.#calls.set(serial, call);
      try {
        if (signal !== undefined || (timeout > 0 && timeout < Infinity)) this.#connect(serial, call);
      } catch (error) {
        // A method of the clock or of the signal has thrown. Nothing was sent yet, so nothing is to be given back.
        if (this.#calls.has(serial)) this.#forget(serial, call);
        reject(error);
        return this.#settleDown();
      }
      // The signal has aborted meanwhile, in a method of its own.
      if (!this.#calls.has(serial)) return;
      this.#send({ args: ['A', serial, cost.toString(), timeout === Infinity ? '-1' : micros(timeout)], asks: serial });
    });
  }

  /** Something will be at stake. */
  #enter(): void {
    if (this.#live) return;
    this.#renewed = this.#clock.now();
    this.#live = true;
    if (this.#owner === '') this.#owner = this.#hub.name();
    this.#hub.enter(this.#owner, this.#member);
  }

  /** How a caller may leave before it is granted. */
  #connect(serial: string, call: Call): void {
    const { signal, timeout } = call;
    const aborted = (): (() => void) => {
      this.#leave(serial, call);
      this.#deny(call, reasonOf(signal), 'aborted');
      return ignore;
    };
    const expired = (): void => {
      // As long as Redis has not answered, nobody knows whether the limits were in the way: it says so, or it fails.
      if (call.ticket === undefined) call.overdue = true;
      else {
        this.#leave(serial, call);
        this.#deny(call, this.#failure ?? this.#late(call, 0));
      }
    };
    const cancel = timeout > 0 && timeout < Infinity ? this.#clock.scheduleOrThrow(timeout, expired) : undefined;
    call.disconnect = () => {
      cancel?.();
      if (signal !== undefined) removeAbortListener(signal, aborted);
    };
    if (signal === undefined) return;
    addAbortListener(signal, aborted);
    // It may have aborted since it was checked, in a method of the clock or the signal that the caller has written.
    if (this.#calls.has(serial) && signal.aborted) throw signal.reason;
  }

  /** A call is decided: it hears of its signal and its timeout no more. */
  #forget(serial: string, call: Call): void {
    this.#calls.delete(serial);
    call.disconnect?.();
  }

  /** Nobody gets a permit: there is an error for it, or for who only tries there is none. */
  #deny(call: Call, error: unknown, reason?: 'aborted'): void {
    this.#publisher.refused(call, call.cost, error, reason);
    if (call.tries && error === undefined) call.resolve(undefined);
    else call.reject(error);
  }

  /** Tells of a caller who is not even asked about. */
  #turnedAway<E>(cost: number, error: E): E {
    this.#publisher.refused({}, cost, error);
    return error;
  }

  /** Gives up a place, and whatever was granted on the way to it. */
  #leave(serial: string, call: Call): void {
    this.#forget(serial, call);
    this.#giveBack(['C', serial, call.cost.toString()]);
  }

  /** Says until it is heard, or of no use any more, that something is free. */
  #giveBack(args: readonly string[]): void {
    this.#send({ args, until: this.#clock.now() + this.#ttl });
  }

  /** Says something that concerns everyone, or nothing. While Redis fails, the local throttle is told instead. */
  async #tell(args: readonly string[], instead: (local: Local) => void): Promise<void> {
    if (this.#gone) return;
    this.#enter();
    await new Promise<void>((resolve, reject) => {
      const failed = (error: ThrottleBackendError): void => {
        if (!this.#failOpen) return reject(error);
        instead(this.#inside.local ?? this.#local);
        resolve();
      };
      this.#send({ args, done: resolve, failed });
    });
  }

  #send(op: Op): void {
    this.#outbox.push(op);
    if (this.#flushing) return;
    this.#flushing = true;
    atEndOfTick(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    const ops = this.#outbox;
    this.#outbox = [];
    // What an outage has left to be said can be much.
    for (let from = 0; from < ops.length; from += SAID_AT_ONCE) void this.#call(ops.slice(from, from + SAID_AT_ONCE));
  }

  #sayLeftovers(): void {
    for (const op of this.#leftovers.splice(0)) this.#send(op);
  }

  /** Calls the script. It resolves also where that fails. */
  async #call(ops: readonly Op[], answered: () => void = ignore): Promise<void> {
    const { capacity, period, burst, concurrency } = this.#local;
    const rated = capacity < Infinity;
    const configures = !this.#configured;
    const limits = rated
      ? [capacity.toString(), (period * 1e6).toString(), burst.toString()]
      : ['-1', '1', Math.min(burst, Number.MAX_VALUE).toString()];
    const args = [
      this.#owner,
      micros(this.#ttl),
      ...limits,
      configures ? '1' : '0',
      this.#reached.toString(),
      this.#serverTime(),
      bound(this.#maxQueue),
      bound(concurrency || Infinity),
    ];
    for (const op of ops) args.push(...op.args);
    if (configures) this.#configured = true;
    const timings = this.#timings;
    this.#open++;
    let reply: string[];
    try {
      // A lease that takes longer to be heard of may be lost already.
      const within = Math.min(this.#commandTimeout, SAFE_SHARE * this.#ttl);
      // What is no answer fails here.
      reply = answerTo(ops, await this.#hub.call(step, this.#keys, args, this.#clock, within, () => this.#again()));
    } catch (error) {
      this.#open--;
      if (configures) this.#configured = false;
      this.#fail(ops, this.#backendError(error));
      return;
    }
    this.#open--;
    answered();
    this.#retryAt = Infinity;
    this.#pauseBeforeRetry = 0;
    this.#failure = undefined;
    const [timing = '', ...events] = reply;
    const [dueAt, due] = [this.#dueAt, this.#due];
    this.#dueAt = Infinity;
    if (timing !== '') this.#hearOne(`H ${timing}`);
    // Whether a message that came meanwhile is older or newer than the answer cannot be told; to be early does no harm.
    if (timings !== this.#timings && dueAt < this.#dueAt) [this.#dueAt, this.#due] = [dueAt, due];
    for (const event of events) this.#hearOne(event);
    for (const op of ops) op.done?.();
    this.#sayLeftovers();
    this.#settleDown();
  }

  /** Runs a script that is no step, after all that was asked for before. */
  async #query(script: Script): Promise<unknown> {
    // Where the clock has never shown an instant, that is the caller's to know.
    this.#clock.now();
    this.#flush();
    try {
      return await this.#hub.call(script, this.#keys, [this.#serverTime()], this.#clock, this.#commandTimeout, ignore);
    } catch (error) {
      throw this.#backendError(error);
    }
  }

  /** What became of somebody. Whoever has left meanwhile is known no more, and has told so. */
  #hearOne(event: string): void {
    const [kind, serial = '', ...numbers] = event.split(' ');
    const call = this.#calls.get(serial);
    const number = (index: number): number => Number(numbers[index] ?? 0);
    // What was renewed before this was known here did not speak of it.
    if ((kind === 'G' || kind === 'Q') && call !== undefined && call.ticket === undefined) {
      this.#renewed = Math.min(this.#renewed, call.since);
      this.#unspoken = Math.min(this.#unspoken, call.since);
    }
    if (kind === 'H') {
      // Due so many microseconds from now, at an instant of the server's clock.
      if (!(Number(serial) < ENDLESS)) return;
      this.#dueAt = this.#clock.now() + Number(serial) / 1e6;
      this.#due = number(0);
    } else if (kind === 'G') {
      // A grant before it came back to the queue was lost, however late one hears of it.
      if (call === undefined || number(1) < call.waitedAt || numbers.length < GRANT_WORDS) return;
      const [slot = '', granted = '', cost = '', grant = ''] = numbers;
      const item = numbers.join(' ');
      const issuer = {
        onRelease: (permit: Grant) => this.#release(serial, permit, cost),
        onSettle: (permit: Grant) => this.#settle(permit.cost, cost, granted, grant),
      };
      const lease = new Lease(issuer, call.cost, this.#waitOf(call), Number(slot), item, () => this.#checkLeases());
      this.#leases.set(serial, lease);
      this.#forget(serial, call);
      this.#publisher.handedOver(lease, call);
      call.resolve(lease);
      if (call.forgotten) this.#lose([[serial, lease]], RESET_SINCE);
    } else if (kind === 'Q') {
      if (call === undefined) return;
      const comes = call.ticket === undefined;
      call.ticket = numbers[0];
      // Told where it has come back; answers come in order.
      if (number(1) > 0) call.waitedAt = number(1);
      if (call.overdue) {
        this.#leave(serial, call);
        return this.#deny(call, this.#late(call, 0));
      }
      if (comes) this.#publisher.queued(call, call.cost);
      if (call.forgotten) this.#send(this.#place(serial, call));
      call.forgotten = false;
    } else if (kind === 'L' || kind === 'F') {
      const [wait, running, waiting] = [number(0) >= ENDLESS ? Infinity : number(0) / 1e6, number(1), number(2)];
      const error = (refused: Call): Error =>
        kind === 'L'
          ? this.#late(refused, wait, running, waiting)
          : refusal(QueueFullError, `${this.#label()} lets ${this.#maxQueue} wait, not more`, wait, running, waiting);
      this.#refuse(serial, error);
    } else if (kind === 'O') {
      this.#refuse(serial, ({ cost }) => this.#oversize(cost, number(0)));
    } else if (kind === 'X' || kind === 'Z') {
      const lease = this.#leases.get(serial);
      if (lease !== undefined) this.#lose([[serial, lease]], RESET_SINCE);
      else if (call?.ticket !== undefined) this.#renewAnew();
      else if (call !== undefined) call.forgotten = true;
    }
  }

  #refuse(serial: string, reason: (call: Call) => Error): void {
    const call = this.#calls.get(serial);
    if (call === undefined) return;
    this.#forget(serial, call);
    this.#deny(call, call.tries ? undefined : reason(call));
  }

  /** What it said may be unknown, and what it asked for, too. */
  #fail(ops: readonly Op[], error: ThrottleBackendError): void {
    const now = this.#clock.now();
    const triedAgain = this.#failure !== undefined && this.#retryAt === Infinity;
    this.#failure = error;
    for (const { asks, until, failed, ...op } of ops) {
      failed?.(error);
      if (until !== undefined && now < until) this.#leftovers.push({ ...op, until });
      const call = asks === undefined ? undefined : this.#calls.get(asks);
      if (call === undefined || call.ticket !== undefined || this.#failOpen) continue;
      this.#drop(asks as string, call);
      this.#deny(call, error);
    }
    // Whoever waits in Redis goes on waiting there, until its place has lapsed and cannot be had back. A process that was
    // kept from hearing the answer takes it for none: so the first failure proves nothing.
    const lapsed = triedAgain && now >= this.#renewed + this.#ttl;
    if (this.#failOpen) this.#moveHere();
    else if (lapsed) {
      // Whoever hears of it may come again: with the next.
      for (const [serial, call] of Array.from(this.#calls)) {
        if (!this.#calls.has(serial)) continue;
        this.#drop(serial, call);
        this.#deny(call, error);
      }
    }
    // However many fail in the meantime.
    if (this.#retryAt === Infinity) {
      this.#pauseBeforeRetry = Math.min(LAST_RETRY, this.#ttl / 3, this.#pauseBeforeRetry * 2 || FIRST_RETRY);
      this.#retryAt = now + this.#pauseBeforeRetry;
    }
    this.#settleDown();
  }

  /** As `#leave`, but what is given back goes with the next try. */
  #drop(serial: string, call: Call): void {
    this.#forget(serial, call);
    this.#leftovers.push({ args: ['C', serial, call.cost.toString()], until: this.#clock.now() + this.#ttl });
  }

  /** The local throttle takes over all who wait, before anyone who comes later. */
  #moveHere(): void {
    for (const [serial, call] of Array.from(this.#calls)) {
      if (!this.#calls.has(serial)) continue;
      this.#drop(serial, call);
      this.#decideHere(call);
    }
  }

  /** The local throttle takes over a call, and says nothing: it is told of as a call of this one. */
  #decideHere(call: Call): void {
    const { cost, since, timeout, signal, tries, resolve } = call;
    const local = this.#inside.local ?? this.#local;
    const lend = (permit: Permit): void => {
      const issuer = {
        onRelease: () => {
          this.#lent--;
          this.#publisher.released(lease);
          permit.release();
        },
        onSettle: () => permit.settle(lease.cost),
      };
      const lease: Lease = new Lease(issuer, cost, this.#waitOf(call), 0, '', ignore);
      this.#lent++;
      this.#publisher.handedOver(lease, call);
      resolve(lease);
    };
    if (tries) {
      try {
        const permit = local.tryAcquire(cost);
        if (permit === undefined) this.#deny(call, undefined);
        else lend(permit);
      } catch (error) {
        this.#deny(call, error);
      }
      return;
    }
    const left = timeout === Infinity ? Infinity : Math.max(0, timeout - (this.#clock.now() - since));
    this.#moved++;
    local.acquire(cost, { signal, timeout: left }).then(
      (permit) => {
        this.#moved--;
        return lend(permit);
      },
      (error: unknown) => {
        this.#moved--;
        this.#deny(call, error, signal?.aborted === true && error === reasonOf(signal) ? 'aborted' : undefined);
      },
    );
  }

  /** Seconds since a call came. */
  #waitOf({ since }: Call): number {
    return Math.max(0, this.#clock.now() - since);
  }

  #release(serial: string, permit: Grant, cost: string): void {
    if (this.#leases.delete(serial)) this.#publisher.released(permit);
    this.#giveBack(['R', serial, cost]);
  }

  /** A cost was corrected. It is said once: said twice, it could count twice. */
  #settle(cost: number, asked: string, granted: string, grant: string): void {
    if (this.#gone) return;
    this.#enter();
    this.#send({ args: ['S', cost.toString(), asked, granted, grant] });
  }

  /** Tells Redis, and asks it, about all that is ours. */
  async #renew(): Promise<void> {
    if (this.#renewing || !this.#live) return;
    this.#renewing = true;
    const since = this.#clock.now();
    const ops: Op[] = [];
    for (const [serial, { item }] of this.#leases) ops.push({ args: ['K', serial, item] });
    for (const [serial, call] of this.#calls) if (call.ticket !== undefined) ops.push(this.#place(serial, call));
    this.#unspoken = Infinity;
    let left = Math.ceil(ops.length / RENEWED_AT_ONCE);
    /** Before anyone hears what the answer brings. */
    const answered = (): void => {
      if (--left <= 0) this.#renewed = Math.max(this.#renewed, Math.min(since, this.#unspoken));
    };
    const calls: Promise<void>[] = [];
    for (let from = 0; from < ops.length; from += RENEWED_AT_ONCE)
      calls.push(this.#call(ops.slice(from, from + RENEWED_AT_ONCE), answered));
    await Promise.all(calls);
    if (ops.length === 0) answered();
    this.#renewing = false;
    if (this.#renewsAgain) this.#renewAnew();
    this.#settleDown();
  }

  /** Renews once more, where one that is under way may have come too early. */
  #renewAnew(): void {
    this.#renewsAgain = this.#renewing;
    void this.#renew();
  }

  /** States that somebody waits, and since when. */
  #place(serial: string, { cost, ticket }: Call): Op {
    return { args: ['W', serial, cost.toString(), ticket as string] };
  }

  /** Redis answers again, though too late for the call. */
  #again(): void {
    if (!this.#live) return;
    this.#retryAt = this.#clock.now();
    this.#settleDown();
  }

  /** Where the last renewal was too long ago, others may have what was leased to us. */
  #checkLeases(): void {
    if (this.#leases.size === 0 || this.#clock.now() < this.#renewed + SAFE_SHARE * this.#ttl) return;
    this.#lose([...this.#leases], `its lease was not renewed for ${SAFE_SHARE} of its ttl of ${this.#ttl} s`);
  }

  #lose(leases: readonly (readonly [string, Lease])[], why: string): void {
    const error = new LeaseLostError(`A permit of ${this.#label()} is lost: ${why}`);
    for (const [serial, lease] of leases) {
      if (!this.#leases.delete(serial)) continue;
      this.#publisher.released(lease);
      // Where it lingers in Redis, it is free.
      this.#giveBack(['R', serial, lease.item.split(' ')[2] as string]);
      lease.lose(error);
    }
  }

  /** Sets the alarm anew, and ends what has ended. */
  #settleDown(): void {
    this.#rest();
    const failing = this.#retryAt < Infinity;
    const holds = this.#leases.size > 0;
    const next = !this.#live
      ? Infinity
      : Math.min(
          this.#calls.size > 0 && !failing ? this.#dueAt : Infinity,
          (holds || this.#calls.size > 0) && !failing && !this.#renewing ? this.#renewed + this.#ttl / 3 : Infinity,
          holds ? this.#renewed + SAFE_SHARE * this.#ttl : Infinity,
          this.#retryAt,
        );
    // What is only to be given back lapses by itself: no process has to stay for that.
    const urgent = holds || this.#calls.size > 0 || this.#onIdle.length > 0;
    if (next === this.#ringsAt && urgent === this.#urgent) return;
    this.#cancelAlarm?.();
    this.#cancelAlarm = undefined;
    this.#ringsAt = next;
    this.#urgent = urgent;
    if (next === Infinity) return;
    const schedule = urgent
      ? (seconds: number, ring: () => void) => this.#clock.schedule(seconds, ring)
      : scheduleInBackground;
    this.#cancelAlarm = schedule(Math.max(1e-6, next - this.#clock.now()), () => this.#ring());
  }

  #ring(): void {
    this.#ringsAt = Infinity;
    const now = this.#clock.now();
    this.#checkLeases();
    if (now >= this.#retryAt) {
      // Until that has failed, too.
      this.#retryAt = Infinity;
      this.#sayLeftovers();
      void this.#renew();
    } else if (now >= this.#renewed + this.#ttl / 3) void this.#renew();
    if (now >= this.#dueAt) {
      this.#dueAt = Infinity;
      this.#reached = this.#due;
      void this.#call([]);
    }
    this.#settleDown();
  }

  /** Where nothing is at stake, tells those who asked for it. */
  #rest(): void {
    if (
      this.#calls.size > 0 ||
      this.#leases.size > 0 ||
      this.#outbox.length > 0 ||
      this.#leftovers.length > 0 ||
      this.#open > 0
    )
      return;
    if (this.#live) {
      this.#live = false;
      this.#hub.leave(this.#owner);
      this.#inside.rested?.();
    }
    for (const resolve of this.#onIdle.splice(0)) resolve();
    if (this.#closed === undefined || this.#gone) return;
    this.#gone = true;
    if (this.#inside.rested === undefined) this.#hub.quit();
  }

  #serverTime(): string {
    const { serverTime } = this.#inside;
    return serverTime === undefined ? '' : micros(serverTime());
  }

  #late({ cost, timeout }: Call, wait: number, running?: number, waiting?: number): ThrottleTimeoutError {
    const what = `${this.#label()} has no permit for a cost of ${cost} within the timeout of ${timeout} s`;
    return refusal(ThrottleTimeoutError, what, wait, running ?? this.held, waiting ?? this.waiting);
  }

  #checkCost(cost: number): void {
    checkCost(cost);
    if (cost > this.burst) throw this.#oversize(cost, this.burst);
  }

  #oversize(cost: number, burst: number): Error {
    return invalid('cost', `at most ${burst}, the burst of ${this.#label()}`, cost, RangeError);
  }

  #backendError(cause: unknown): ThrottleBackendError {
    return new ThrottleBackendError(`${this.#label()} cannot be asked, Redis failed: ${messageOf(cause)}`, { cause });
  }

  #closedError(): ThrottleClosedError {
    return new ThrottleClosedError(`${this.#label()} is closed`, { cause: this.#closed?.reason });
  }

  /** Which throttle, and its limits, for messages. */
  #label(): string {
    const { name, capacity, period, concurrency } = this;
    return `RedisThrottle${name === undefined ? '' : ` ${printable(name)}`} (key ${printable(this.#key)}, ${describeLimits([{ capacity, period }], concurrency)})`;
  }
}

async function disposeRedisThrottle(this: RedisThrottle): Promise<void> {
  await this.close();
  await this.idle();
}
