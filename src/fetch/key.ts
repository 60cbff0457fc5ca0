/** The key of a request: the limit that the request counts for, behind a keyed gate. */
import { isPromiseLike } from '../core/promise-like.js';
import { invalid } from '../core/validation.js';
import type { Gate, KeyedGate } from '../core/gate.js';
import { isKeyed } from './keyed-gate.js';
import { asRequest, type FetchInput } from './request-copy.js';

/** Computes the key of a request from the arguments of `fetch`. `undefined`: the request needs no permit. */
export type KeyResolver<K> = (input: FetchInput, init?: RequestInit) => K | undefined;

/** The origin of a URL, or `undefined` for a URL without one. */
export function originOf(input: FetchInput): string | undefined {
  try {
    return new URL(asRequest(input)?.url ?? (input as string | URL), globalThis.location?.href).origin;
  } catch {
    return undefined;
  }
}

/**
 * The resolver for the `key` option. The default resolver is {@link originOf} itself, so callers can compare with it.
 *
 * A URL without an origin has no key: `fetch` reports its error.
 */
export function createKeyResolver<K>(
  gate: Gate | KeyedGate<K>,
  key: K | ((input: FetchInput, init?: RequestInit) => K) | undefined,
): KeyResolver<K> {
  if (!isKeyed(gate)) {
    if (key !== undefined) throw invalid('key', 'undefined for a gate without keys', key);
    return () => '' as K;
  }
  if (key === undefined) return originOf as KeyResolver<K>;
  if (typeof key !== 'function') return () => key;
  return (input, init) => {
    const resolved: K | undefined = (key as (input: FetchInput, init?: RequestInit) => K)(input, init);
    if (resolved === undefined) throw invalid('key', 'a key', resolved);
    // Each promise would be a different key with a limit of its own.
    if (isPromiseLike(resolved)) throw invalid('key', 'no promise', resolved);
    return resolved;
  };
}
