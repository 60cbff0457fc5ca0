/**
 * The public form of the reader in src/web/retry-after.ts: it validates its arguments, which untyped callers may pass.
 */
import { checkNumber, checkObject } from '../core/validation.js';
import { type HeaderSource, readWait as readWaitUnchecked } from '../web/retry-after.js';

/**
 * Reads the wait that the header fields of a response state. Use it for requests that you send without
 * `throttledFetch`.
 *
 * These fields state a wait: `Retry-After`, `retry-after-ms`, `x-ms-retry-after-ms` and `x-ratelimit-retry-after`.
 * If none of them states a wait, the resets of used-up quotas count: `RateLimit` of every IETF draft,
 * `RateLimit-Reset`, `X-RateLimit-Reset`, `X-RateLimit-Reset-After`, `x-rate-limit-reset`, and the fields of OpenAI and
 * Anthropic.
 *
 * A value is a number of seconds, a duration such as `6m0s`, an instant since 1970, an HTTP date or an RFC 3339 date.
 * In a list of values the longest wait counts.
 *
 * @param headers A `Headers` or another object with `get`, a record of strings or arrays of strings, as Node and undici
 *   have it, or Node's `rawHeaders`.
 * @param nowMs Milliseconds since 1970. If the server sends `Date`, instants are measured from `Date` instead.
 *   Default `Date.now()`.
 * @returns Seconds, finite and >= 0: `0` for an instant in the past, `undefined` if no field states a wait.
 * @throws {TypeError} `headers` is not an object.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { readWait } from 'headgate/fetch';
 *
 * const throttle = new Throttle(10, 2);
 * const response = { status: 429, headers: { 'retry-after': ['30', '60'] } }; // from node:http, axios, undici.request
 * if (response.status === 429) throttle.pause(readWait(response.headers) ?? 1);
 * console.log(Math.round(throttle.pausedFor)); // → 60
 */
export function readWait(headers: HeaderSource, nowMs: number = Date.now()): number | undefined {
  checkObject('headers', headers);
  checkNumber('nowMs', 'a finite number', nowMs, -Number.MAX_VALUE, Number.MAX_VALUE);
  return readWaitUnchecked(headers, nowMs);
}
