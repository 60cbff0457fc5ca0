/** One view of both kinds of gates, and the order in which a request waits for two keys. */
import type { Cost } from '../core/cost.js';
import type { AcquireOptions, Gate, KeyedGate } from '../core/gate.js';
import type { Permit } from '../core/permit.js';

/** The methods that `throttledFetch` calls. */
export type CalledGate<K> = Pick<KeyedGate<K>, 'acquire' | 'pause' | 'correct'>;

/** Whether a gate has a limit for each key. */
export function isKeyed<K>(gate: Gate | KeyedGate<K>): gate is KeyedGate<K> {
  return (gate as Partial<KeyedGate<K>>).keyed === true;
}

/** Whether a permit may be lost before its release. The gates of this package state it by their `ttl`. */
export function canLosePermits<K>(gate: Gate | KeyedGate<K>): boolean {
  return (gate as { readonly ttl?: number }).ttl !== Infinity;
}

/** A keyed gate as it is. A gate without keys becomes a keyed gate that ignores the key. */
export function toKeyedGate<K>(gate: Gate | KeyedGate<K>): CalledGate<K> {
  if (isKeyed(gate)) return gate;
  return {
    acquire: (_, cost, options) => gate.acquire(cost, options),
    pause: (_, seconds) => gate.pause(seconds),
    correct: (_, levels, options) => gate.correct?.(levels, options),
  };
}

/**
 * Acquires a permit of `key`, after a turn in the queue of `firstKey`, if given. The slot of `firstKey` is released
 * before the wait for `key` begins. Otherwise two requests that redirect to each other's origins would deadlock. The
 * `timeout` bounds both waits together.
 */
export async function acquireInOrder<K>(
  gate: CalledGate<K>,
  firstKey: K | undefined,
  key: K,
  cost: Cost,
  options: AcquireOptions | undefined,
): Promise<Permit> {
  if (firstKey === undefined) return gate.acquire(key, cost, options);
  const turn = await gate.acquire(firstKey, cost, options);
  turn.release();
  try {
    const timeout = options?.timeout;
    return await gate.acquire(
      key,
      cost,
      timeout === undefined ? options : { ...options, timeout: Math.max(0, timeout - turn.waited) },
    );
  } catch (error) {
    turn.refund();
    throw error;
  }
}
