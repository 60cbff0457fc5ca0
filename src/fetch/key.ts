/** The key of a request: the limit that the request counts for, behind a keyed gate. */
import { isPromiseLike } from '../core/promise-like.js';
import { invalid } from '../core/validation.js';
import type { Gate, KeyedGate } from '../core/gate.js';
import { isKeyed } from './keyed-gate.js';
import { asRequest, type FetchInput } from './request-copy.js';

/** The origin of a URL, or `undefined` for a URL without one: `fetch` rejects it, so the request needs no permit. */
export function originOf(input: FetchInput): string | undefined {
  try {
    return new URL(asRequest(input)?.url ?? (input as string | URL), globalThis.location?.href).origin;
  } catch {
    return undefined;
  }
}

/**
 * The resolver for the `key` option of a sender: it computes the key of a call from the arguments of the call.
 *
 * @param defaultKey The resolver without the option, returned as it is. Absent if a keyed gate requires the option.
 * @throws {TypeError} A keyed gate requires a key, or another gate has one.
 */
export function createKeyResolver<K, A extends unknown[], D = K>(
  gate: Gate | KeyedGate<K>,
  key: K | ((...args: A) => K) | undefined,
  defaultKey?: (...args: A) => D,
): (...args: A) => K | D {
  if (!isKeyed(gate)) {
    if (key !== undefined) throw invalid('key', 'undefined for a gate without keys', key);
    return () => '' as K;
  }
  if (key === undefined && defaultKey !== undefined) return defaultKey;
  if (key === undefined) throw invalid('key', 'a key or a function for a keyed gate', key);
  if (typeof key !== 'function') return () => key;
  return (...args) => {
    const resolved: K | undefined = (key as (...values: A) => K)(...args);
    if (resolved === undefined) throw invalid('key', 'a key', resolved);
    // Each promise would be a different key with a limit of its own.
    if (isPromiseLike(resolved)) throw invalid('key', 'no promise', resolved);
    return resolved;
  };
}
