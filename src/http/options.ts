/** The options that all adapters share, and their checks. */
import type { ThrottleError } from '../core/errors.js';
import { checkCost, checkFunction, checkInteger, checkNumber, checkObject, invalid } from '../core/validation.js';
import type { Gate, KeyedGate } from '../core/gate.js';
import type { Key } from './key.js';

/** A refused request. */
export interface Refusal {
  /** The HTTP status: `status` of the options for a limit of the client's own, 503 where the server is busy. */
  readonly status: number;
  /** Whole seconds, >= 1, after which another try may succeed: the value of `Retry-After`. */
  readonly retryAfter: number;
  /** The key whose limit refused. Absent where one gate serves all requests. It is data: escape it before it is logged. */
  readonly key?: string;
  /** The refusal of the gate. */
  readonly error: ThrottleError;
}

/** What `onLimited` may return; `undefined` stands for the default body. */
export type Answer = Response | string | object | null | undefined | void;

/** Settings of every adapter, beside the gate. `A` is what the framework hands to a handler. */
export interface CommonOptions<A extends unknown[]> {
  /**
   * Tokens for a request, or a function that says how many: finite, >= 0. Default 1. Like `key` and `skip`, a function
   * that has not answered within 10 s fails, and the framework's error handler gets the error.
   */
  cost?: number | ((...args: A) => number | PromiseLike<number>) | undefined;
  /** Seconds that a request may queue, >= 0; `0` refuses at once. Default: the gate's own `timeout`, else 0. */
  wait?: number | undefined;
  /** `false` only watches: a request over the limit, or without a key, runs without a permit. Default `true`. */
  block?: boolean | undefined;
  /** The status for a client over its limit: an integer from 400 to 599. Default 429. */
  status?: number | undefined;
  /**
   * Answers a refusal. It may return a `Response`, a string (sent as plain text), any other object (sent as JSON), or
   * respond by the framework's own means before it is done (what goes on after that has to be awaited); with
   * `undefined`, the default is sent. `Retry-After` and `RateLimit` are set before, and may be set anew. If it throws,
   * or has not answered within 10 s, the error goes to the framework's log, and the default is sent. It is not called
   * for a request without a key, nor with `block: false`.
   *
   * `'throw'` passes the refusal to the framework's error handler, as a {@link RefusalError}.
   */
  onLimited?: 'throw' | ((refusal: Refusal, ...args: A) => Answer | PromiseLike<Answer>) | undefined;
  /** Whether to send `RateLimit` and `RateLimit-Policy`, where the gate shows its numbers. Default `true`. */
  headers?: boolean | undefined;
  /** Which requests pass without being counted. */
  skip?: ((...args: A) => boolean | PromiseLike<boolean>) | undefined;
  /**
   * Whether requests run without a permit while the gate itself fails. Default `false`: the framework's error
   * handler gets the failure. A `RangeError` (a cost that is never granted) always goes there.
   */
  failOpen?: boolean | undefined;
  /** How many bits of an IPv6 address tell a client: an integer from 1 to 128. Default 56. */
  ipv6Prefix?: number | undefined;
  /**
   * How long a request holds its permit. `'response'`, the default: until the response has been sent or the client has
   * gone. `'handler'`: until the response has been sent and the handler has finished, so that a client which opens and
   * drops connections cannot start more work than the limit allows. A handler that has not finished 60 s after its
   * client has gone counts as leaked, and its permit is released. Koa, Hono, Fastify and `web` know when a handler has
   * finished; Express and bare Node take the end of the response (`res.end`, `res.destroy`, or the end of a stream that
   * is piped into it) for it.
   */
  hold?: 'response' | 'handler' | undefined;
  /** Seconds from the grant, > 0, up to 2,147,483: a permit that is still held after so long counts as leaked, and is released. */
  ttl?: number | undefined;
}

/** One gate for all requests. */
export interface SharedGate {
  /** The gate, be it a `Throttle`, a `Resource` or the resources of a `Limiter`. */
  gate: Gate;
  /** Not beside `gate`. */
  keyed?: undefined;
  /** Not beside `gate`. */
  key?: undefined;
}

/** A gate for each key. */
export interface GatePerKey<A extends unknown[]> {
  /** Not beside `keyed`. */
  gate?: undefined;
  /** The gates, such as a `KeyedThrottle`. */
  keyed: KeyedGate;
  /** Whose limit counts: {@link Key}. */
  key: Key<A>;
}

/** What an adapter is made with: one gate for all requests, or one for each key; and {@link CommonOptions}. */
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

/** Checks the options and fills in the defaults. @throws {RangeError | TypeError} An option is out of range. */
export function checkOptions<A extends unknown[]>(options: LimitOptions<A>): CheckedOptions<A> {
  checkObject('options', options);
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
  if ((gate === undefined) === (keyed === undefined)) throw new TypeError('options need either gate or keyed');
  if (keyed !== undefined) checkKeyed('keyed', keyed);
  else if (typeof gate?.acquire !== 'function' || 'keyed' in gate)
    throw invalid('gate', 'a Gate, not a KeyedGate', gate);
  if ((key === undefined) !== (keyed === undefined)) throw invalid('key', 'given with keyed, and only there', key);
  const { wait = (gate as { timeout?: number } | undefined)?.timeout ?? 0 } = options;
  if (typeof cost !== 'function') checkCost(cost);
  checkNumber('wait', 'a number >= 0', wait, 0, Infinity);
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

/** Refuses what is no {@link KeyedGate}. */
export function checkKeyed(name: string, value: unknown): asserts value is KeyedGate {
  const keyed = value as KeyedGate | null | undefined;
  if (keyed?.keyed !== true || typeof keyed.acquire !== 'function') throw invalid(name, 'a KeyedGate', value);
}

/** Refuses what is no `ttl`: no timer is set for longer than 2^31 milliseconds. */
export function checkTtl(ttl: unknown): void {
  if (ttl !== undefined) checkNumber('ttl', 'a number > 0, up to 2147483', ttl, Number.MIN_VALUE, 2_147_483);
}
