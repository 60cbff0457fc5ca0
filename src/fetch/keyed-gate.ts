/** One view of both kinds of gates, and the order in which a request waits for two keys. */
import type { AcquireOptions, Gate, KeyedGate } from '../core/gate.js';
import type { Permit } from '../core/permit.js';

/** The methods that `throttledFetch` calls. */
export type AcquireAndPause<K> = Pick<KeyedGate<K>, 'acquire' | 'pause'>;

/** Whether a gate has a limit for each key. */
export function isKeyed<K>(gate: Gate | KeyedGate<K>): gate is KeyedGate<K> {
  return (gate as Partial<KeyedGate<K>>).keyed === true;
}

/** A keyed gate as it is. A gate without keys becomes a keyed gate that ignores the key. */
export function toKeyedGate<K>(gate: Gate | KeyedGate<K>): AcquireAndPause<K> {
  if (isKeyed(gate)) return gate;
  return { acquire: (_, cost, options) => gate.acquire(cost, options), pause: (_, seconds) => gate.pause(seconds) };
}

/**
 * Acquires a permit of `key`, after a turn in the queue of `firstKey`, if given. The slot of `firstKey` is released
 * before the wait for `key` begins. Otherwise two requests that redirect to each other's origins would deadlock.
 */
export async function acquireInOrder<K>(
  gate: AcquireAndPause<K>,
  firstKey: K | undefined,
  key: K,
  cost: number,
  options: AcquireOptions | undefined,
): Promise<Permit> {
  if (firstKey === undefined) return gate.acquire(key, cost, options);
  const turn = await gate.acquire(firstKey, cost, options);
  turn.release();
  try {
    return await gate.acquire(key, cost, options);
  } catch (error) {
    turn.refund();
    throw error;
  }
}
