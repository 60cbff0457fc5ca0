/** One view of both kinds of gates, and the order in which a request waits for two keys. */
import type { AcquireOptions, Gate, KeyedGate } from '../core/gate.js';
import type { Cost, Permit } from './names.js';

/** The methods that `throttledFetch` calls. */
export interface AcquireAndPause<K> {
  acquire(key: K, cost: Cost, options: AcquireOptions | undefined): Promise<Permit>;
  pause(key: K, seconds: number): void | Promise<void>;
  correct?(key: K, levels: Cost, options: { onlyLower: boolean }): unknown;
}

/** Whether a gate has a limit for each key. */
export function isKeyed<K>(gate: Gate | KeyedGate<K>): gate is KeyedGate<K> {
  return (gate as Partial<KeyedGate<K>>).keyed === true;
}

/** A keyed gate as it is. A gate without keys becomes a keyed gate that ignores the key. */
export function toKeyedGate<K>(gate: Gate | KeyedGate<K>): AcquireAndPause<K> {
  if (isKeyed(gate)) return gate as AcquireAndPause<K>;
  return {
    acquire: (_, cost, options) => gate.acquire(cost as number, options),
    pause: (_, seconds) => gate.pause(seconds),
    correct: (_, levels, options) =>
      (gate as unknown as { correct?(l: Cost, o: object): unknown }).correct?.(levels, options),
  };
}

/**
 * Acquires a permit of `key`, after a turn in the queue of `firstKey`, if given. The slot of `firstKey` is released
 * before the wait for `key` begins. Otherwise two requests that redirect to each other's origins would deadlock. The
 * `timeout` bounds both waits together.
 */
export async function acquireInOrder<K>(
  gate: AcquireAndPause<K>,
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
