/** The options of the gates on Redis: their types, their checks, and the error messages that name a gate. */
import { type Clock, systemClock } from '../core/clock.js';
import { describeCost, type Terms } from '../core/cost.js';
import { QueueClearedError, QueueFullError, ThrottleClosedError, ThrottleTimeoutError } from '../core/errors.js';
import { describeLimits, type Rate } from '../core/limits.js';
import { clearedMessage, DRAINS, printable, refusal } from '../core/refusals.js';
import { checkOptionNames } from '../core/option-names.js';
import { checkObject, checkSeconds, invalid } from '../core/validation.js';
import type { RedisConnection } from './client.js';
import { messageOf, ThrottleBackendError } from './errors.js';

/** Options of a {@link RedisKeyedThrottle}. A {@link RedisThrottle} has the same options and a `key`. */
export interface RedisKeyedThrottleOptions<Name extends string = string> {
  /**
   * The client, one of:
   * - a client of ioredis or node-redis (single, pool, cluster or sentinel). A gate never closes it.
   * - `{ url }`, or other options for `createClient` of the package `redis`: the gate creates a client, and the last
   *   throttle that uses the client closes it.
   * - any object with `eval(script, keys, args)` and `subscribe(channel, listener)`.
   */
  client: RedisConnection;
  /** Tokens per `period`: > 0; `Infinity`, the default, for no rate limit. */
  capacity?: number | undefined;
  /** The number of jobs at a time: an integer >= 0; `0` (the default) and `Infinity` for any number. */
  concurrency?: number | undefined;
  /** Seconds: > 0, finite. Default 1. */
  period?: number | undefined;
  /** The size of the bucket: the cost that can start at once after idle time. > 0. Default `max(1, capacity)`. */
  burst?: number | undefined;
  /**
   * `'sliding'`: any rolling `period` starts at most `capacity`, while a bucket can start `burst` and the refill of the
   * period. Redis counts the grants in parts of the period, at most 64, so a window that is always full loses at most
   * 1/64 of its throughput. Not together with `burst`.
   */
  window?: 'sliding' | undefined;
  /** Seconds that lengthen a sliding window, to allow for variable network delays: >= 0. Default 0. */
  margin?: number | undefined;
  /**
   * Further rates. A job starts once every rate permits its cost. It then spends its cost from every rate at once. A
   * call can state a cost for each rate that has a `name`.
   */
  also?: readonly Rate<Name>[] | undefined;
  /**
   * Seconds, from 0.05 to 2,000,000, after which the permits of a dead process are free again. A running process
   * renews its permits every third of `ttl`, however long its work takes. Default 60.
   */
  ttl?: number | undefined;
  /** The start of all key names in Redis: a string without braces. Default `headgate`. */
  prefix?: string | undefined;
  /**
   * The behaviour of a call while Redis fails. `false`, the default: it rejects with a {@link ThrottleBackendError}.
   * `true`: a `Throttle` of this process with the same limits grants permits until Redis replies again.
   */
  failOpen?: boolean | undefined;
  /**
   * Seconds for which a released slot stays with this process: >= 0. The next call of this process takes the slot
   * without a round trip. If another process waits, Redis recalls the slot by a message. So the wait of another process
   * can begin with the delay of that message, and after a crash the slot is free again within `ttl`. Only for a
   * throttle without a rate limit. Default 0.
   */
  linger?: number | undefined;
  /**
   * Seconds, > 0, within which Redis must reply. Default 2. At most nine tenths of `ttl` count, since a lease that is
   * not renewed is lost by then.
   */
  commandTimeout?: number | undefined;
  /** The largest number of waiters in all processes: an integer >= 0, or `Infinity`, the default. */
  maxQueue?: number | undefined;
  /** A name that every error message contains. */
  name?: string | undefined;
  /**
   * The source of the timers of this process. The limits follow the clock of the Redis server. Default: the monotonic
   * clock of the platform.
   */
  clock?: Clock | undefined;
}

/** Options of a {@link RedisThrottle}. */
export interface RedisThrottleOptions<Name extends string = string> extends RedisKeyedThrottleOptions<Name> {
  /** The name of the shared limits. All throttles with the same `key` and `prefix` share them, in all processes. */
  key: string;
}

/** The checked options, with their defaults. A {@link Throttle} checks the limits. */
interface CheckedOptions {
  readonly key: string;
  readonly ttl: number;
  readonly prefix: string;
  readonly failOpen: boolean;
  readonly linger: number;
  readonly commandTimeout: number;
  readonly maxQueue: number;
  readonly clock: Clock;
}

/** The names of {@link RedisKeyedThrottleOptions}. */
export const KEYED_OPTIONS: readonly (keyof RedisKeyedThrottleOptions)[] = [
  'client',
  'capacity',
  'concurrency',
  'period',
  'burst',
  'window',
  'margin',
  'also',
  'ttl',
  'prefix',
  'failOpen',
  'linger',
  'commandTimeout',
  'maxQueue',
  'name',
  'clock',
];

/** @throws {RangeError | TypeError} An option is out of range or unknown. */
export function checkOptions(options: RedisThrottleOptions): CheckedOptions {
  checkObject('options', options);
  checkOptionNames('new RedisThrottle', options, ['key', ...KEYED_OPTIONS]);
  const {
    key,
    ttl = 60,
    prefix = 'headgate',
    failOpen = false,
    linger = 0,
    commandTimeout = 2,
    maxQueue = Infinity,
    clock = systemClock,
  } = options;
  if (typeof key !== 'string') throw invalid('key', 'a string', key);
  if (key === '') throw invalid('key', 'a string that is not empty', key, RangeError);
  if (typeof prefix !== 'string') throw invalid('prefix', 'a string', prefix);
  if (/[{}]/.test(prefix)) throw invalid('prefix', 'a string without braces', prefix, RangeError);
  checkSeconds('ttl', 'a number from 0.05 to 2000000', ttl, 0.05, 2_000_000);
  checkSeconds('commandTimeout', 'a finite number > 0', commandTimeout, Number.MIN_VALUE, Number.MAX_VALUE);
  checkSeconds('linger', 'a finite number >= 0', linger, 0, Number.MAX_VALUE);
  if (typeof failOpen !== 'boolean') throw invalid('failOpen', 'a boolean', failOpen);
  return { key, ttl, prefix, failOpen, linger, commandTimeout, maxQueue, clock };
}

/** The names of the options that a throttle of this process has, too. */
type LocalOptionName =
  'capacity' | 'concurrency' | 'period' | 'burst' | 'window' | 'margin' | 'also' | 'maxQueue' | 'name' | 'clock';

/** The options of the throttle of this process. It publishes no events, since the gate on Redis does. */
export function localOptions(
  options: RedisKeyedThrottleOptions,
): Pick<RedisKeyedThrottleOptions, LocalOptionName> & { silent: true } {
  const { capacity, concurrency, period, burst, window, margin, also, maxQueue, name, clock } = options;
  return { capacity, concurrency, period, burst, window, margin, also, maxQueue, name, clock, silent: true };
}

/** The properties of a throttle that error messages show. */
export interface Labelled {
  readonly key: string;
  readonly name: string | undefined;
  readonly capacity: number;
  readonly concurrency: number;
  readonly period: number;
  readonly held: number;
  readonly waiting: number;
  /** All rates; absent if there is one only. */
  readonly rates?: readonly Rate[] | undefined;
}

/** The throttle and its limits, for messages. */
export function labelOf({ key, name, capacity, period, concurrency, rates }: Labelled): string {
  const shownName = name === undefined ? '' : ` ${printable(name)}`;
  const limits = describeLimits(rates ?? [{ capacity, period }], concurrency);
  return `RedisThrottle${shownName} (key ${printable(key)}, ${limits})`;
}

/** The error of a call that cannot get, or did not get, a permit within its timeout. */
export function timeoutError(
  throttle: Labelled,
  { cost, terms, timeout }: { readonly cost: number; readonly terms?: Terms | undefined; readonly timeout: number },
  wait: number,
  running: number = throttle.held,
  waiting: number = throttle.waiting,
): ThrottleTimeoutError {
  const names = (throttle.rates ?? []).flatMap((rate) => rate.name ?? []);
  const shown = describeCost(cost, names, terms);
  const what = `${labelOf(throttle)} has no permit for a cost of ${shown} within the timeout of ${timeout} s`;
  return refusal(ThrottleTimeoutError, what, wait, running, waiting);
}

/** The error of a call that finds `maxQueue` waiters in the queue. */
export function queueFullError(
  throttle: Labelled,
  maxQueue: number,
  wait: number,
  running: number,
  waiting: number,
): QueueFullError {
  const what = `${labelOf(throttle)} allows at most ${maxQueue} waiters`;
  return refusal(QueueFullError, what, wait, running, waiting);
}

/** The error of a call that Redis, or its client, failed. */
export function backendError(throttle: Labelled, cause: unknown): ThrottleBackendError {
  return new ThrottleBackendError(`${labelOf(throttle)}: Redis failed: ${messageOf(cause)}`, { cause });
}

/** The error of a call on a throttle that is closed, or that drains. */
export function closedError(throttle: Labelled, reason: unknown, drains: boolean): ThrottleClosedError {
  return new ThrottleClosedError(`${labelOf(throttle)} is ${drains ? DRAINS : 'closed'}`, { cause: reason });
}

/** The error of a waiter that `clear` has removed from the queue. */
export function clearedError(throttle: Labelled, reason: unknown): QueueClearedError {
  return new QueueClearedError(clearedMessage(labelOf(throttle)), { cause: reason });
}
