/** The options that all adapters share, and their validation. */
import type { ThrottleError } from '../core/errors.js';
import { checkOptionNames } from '../core/option-names.js';
import { checkFunction, checkInteger, checkObject, checkSeconds, invalid } from '../core/validation.js';
import { type Cost, checkCostForm } from '../core/cost.js';
import type { Gate, KeyedGate } from '../core/gate.js';
import type { Key } from './key.js';

/** A refused request. */
export interface Refusal {
  /** The HTTP status: `status` of the options for a client over its limit, 503 if the server is busy. */
  readonly status: number;
  /** Whole seconds, >= 1, after which another attempt may succeed: the value of `Retry-After`. */
  readonly retryAfter: number;
  /**
   * The key whose limit refused the request. Absent if one gate serves all requests. A client may have written it.
   */
  readonly key?: string;
  /** `true` with `block: false`: the request runs, and the refusal is only reported. Absent otherwise. */
  readonly dryRun?: true;
  /** The error of the gate. */
  readonly error: ThrottleError;
}

/** The result of `onLimited`; `undefined` and `null` select the default body. */
export type Answer = Response | string | object | null | undefined | void;

/**
 * The options of every adapter, except the gate. `A` is the list of arguments that the framework passes to a handler.
 */
export interface CommonOptions<A extends unknown[]> {
  /**
   * The tokens for a request, finite and >= 0, or a function that returns them. Default 1. A gate with named rates also
   * takes a record: `{ tokens: 4_000 }`. The functions `cost`, `key` and `skip` have 10 s to settle. After that, the
   * framework's error handler receives an error.
   */
  cost?: Cost | ((...args: A) => Cost | PromiseLike<Cost>) | undefined;
  /**
   * The longest time in the queue, in seconds, >= 0; `0` refuses at once. Default: the `timeout` of the gate, else 0.
   */
  wait?: number | undefined;
  /**
   * With `false`, a request over the limit or without a key runs without a permit, and `onLimited` reports the refusals
   * of a dry run. Default `true`.
   */
  block?: boolean | undefined;
  /** The HTTP status for a client over its limit: an integer from 400 to 599. Default 429. */
  status?: number | undefined;
  /**
   * Answers a refusal. The function may return a `Response`, a string (sent as plain text), or another object (sent as
   * JSON). With `undefined`, the default body is sent. It may also respond by the framework's own means before it
   * settles. `Retry-After` and `RateLimit` are set before the call, and the function may replace them. If it throws, or
   * does not settle within 10 s, the error goes to the framework's log and the default body is sent. It is not called
   * for a request without a key.
   *
   * With `block: false`, the function only reports: `dryRun` of the refusal is `true`, and the handler runs. The handler
   * does not wait for the function. The result of the function is ignored, and an error goes to the framework's log. The
   * function must not respond itself. `'throw'` has no effect then.
   *
   * `'throw'` passes the refusal to the framework's error handler, as a {@link RefusalError}.
   */
  onLimited?: 'throw' | ((refusal: Refusal, ...args: A) => Answer | PromiseLike<Answer>) | undefined;
  /** Whether responses have `RateLimit` and `RateLimit-Policy`, if the gate shows its numbers. Default `true`. */
  headers?: boolean | undefined;
  /** Returns whether a request passes without being counted. */
  skip?: ((...args: A) => boolean | PromiseLike<boolean>) | undefined;
  /**
   * Whether requests run without a permit while the gate itself fails. Default `false`: the framework's error handler
   * receives the error. A `RangeError` (a cost that can never be granted) always goes to the error handler.
   */
  failOpen?: boolean | undefined;
  /** The number of leading bits of an IPv6 address that identify a client: an integer from 1 to 128. Default 56. */
  ipv6Prefix?: number | undefined;
  /**
   * The end of the hold on a permit. Default `'response'`: until the response has been sent or the client has
   * disconnected. `'handler'`: until the response has been sent and the handler has finished. A client that opens and
   * drops connections then cannot start more handlers than the limit allows. A handler that has not finished 60 s after
   * its client disconnected counts as leaked, and its permit is released. Koa, Hono, Fastify and `web` observe the
   * promise of the handler. Express and bare Node use the end of the response instead: `res.end`, `res.destroy`, or the
   * end of a stream that is piped into it.
   */
  hold?: 'response' | 'handler' | undefined;
  /** Seconds from the grant, > 0, at most 2,147,483. A permit that is held longer counts as leaked, and is released. */
  ttl?: number | undefined;
}

/** One gate for all requests. */
export interface SharedGate {
  /** The gate: a `Throttle`, a `Resource`, the resources of a `Limiter`, or another `Gate`. */
  gate: Gate;
  /** Not with `gate`. */
  keyed?: undefined;
  /** Not with `gate`. */
  key?: undefined;
}

/** A gate for each key. */
export interface GatePerKey<A extends unknown[]> {
  /** Not with `keyed`. */
  gate?: undefined;
  /** The gates, such as a `KeyedThrottle`. */
  keyed: KeyedGate;
  /** The key of a request: {@link Key}. */
  key: Key<A>;
}

/** The options of an adapter: one gate for all requests or one for each key, and {@link CommonOptions}. */
export type LimitOptions<A extends unknown[]> = CommonOptions<A> & (SharedGate | GatePerKey<A>);

/** The options with their defaults. */
export type CheckedOptions<A extends unknown[]> = Pick<
  LimitOptions<A>,
  'gate' | 'keyed' | 'key' | 'skip' | 'ttl' | 'hold' | 'onLimited'
> &
  Required<{
    [K in 'cost' | 'wait' | 'block' | 'status' | 'headers' | 'failOpen' | 'ipv6Prefix']: Exclude<
      LimitOptions<A>[K],
      undefined
    >;
  }>;

/** The names of {@link CommonOptions}. */
export const COMMON_OPTIONS: readonly (keyof CommonOptions<never>)[] = [
  'cost',
  'wait',
  'block',
  'status',
  'onLimited',
  'headers',
  'skip',
  'failOpen',
  'ipv6Prefix',
  'hold',
  'ttl',
];

/**
 * Checks the options and adds the defaults.
 *
 * @param where The function that received the options.
 * @param ownOptions The names of its options beside {@link LimitOptions}.
 * @throws {RangeError | TypeError} An option is out of range or unknown.
 */
export function checkOptions<A extends unknown[]>(
  where: string,
  options: LimitOptions<A>,
  ownOptions: readonly string[] = [],
): CheckedOptions<A> {
  checkObject('options', options);
  checkOptionNames(where, options, ['gate', 'keyed', 'key', ...COMMON_OPTIONS, ...ownOptions]);
  const {
    gate,
    keyed,
    key,
    cost = 1,
    block = true,
    status = 429,
    onLimited,
    headers = true,
    skip,
    failOpen = false,
    ipv6Prefix = 56,
    hold,
    ttl,
  } = options;
  if ((gate === undefined) === (keyed === undefined)) throw new TypeError('options must have either gate or keyed');
  if (keyed !== undefined) checkKeyed('keyed', keyed);
  else if (typeof gate?.acquire !== 'function' || 'keyed' in gate)
    throw invalid('gate', 'a Gate, not a KeyedGate', gate);
  if ((key === undefined) !== (keyed === undefined)) throw invalid('key', 'set if and only if keyed is set', key);
  const { wait = (gate as { timeout?: number } | undefined)?.timeout ?? 0 } = options;
  if (typeof cost !== 'function') checkCostForm('cost', cost);
  checkSeconds('wait', 'a number >= 0', wait, 0, Infinity);
  checkInteger('status', 'an integer from 400 to 599', status, 400, 599);
  checkInteger('ipv6Prefix', 'an integer from 1 to 128', ipv6Prefix, 1, 128);
  checkTtl(ttl);
  for (const [name, value] of Object.entries({ block, headers, failOpen }))
    if (typeof value !== 'boolean') throw invalid(name, 'a boolean', value);
  if (hold !== undefined && hold !== 'response' && hold !== 'handler')
    throw invalid('hold', "'response' or 'handler'", hold);
  if (onLimited !== undefined && onLimited !== 'throw' && typeof onLimited !== 'function')
    throw invalid('onLimited', "a function or 'throw'", onLimited);
  if (skip !== undefined) checkFunction('skip', skip);
  return { gate, keyed, key, cost, wait, block, status, onLimited, headers, skip, failOpen, ipv6Prefix, hold, ttl };
}

/** Throws if `value` is not a {@link KeyedGate}. */
export function checkKeyed(name: string, value: unknown): asserts value is KeyedGate {
  const keyed = value as KeyedGate | null | undefined;
  if (keyed?.keyed !== true || typeof keyed.acquire !== 'function') throw invalid(name, 'a KeyedGate', value);
}

/** Throws if `ttl` is out of range. The upper bound is the longest delay of a timer: 2^31 milliseconds. */
export function checkTtl(ttl: unknown): void {
  if (ttl !== undefined) checkSeconds('ttl', 'a number > 0, up to 2147483', ttl, Number.MIN_VALUE, 2_147_483);
}
