/** The bound on the keys of a keyed gate that has no `maxKeys`. */
import { QueueFullError } from '../core/errors.js';
import { withoutStack } from '../core/refusals.js';
import type { Cost } from '../core/cost.js';
import type { AcquireOptions, KeyedGate } from '../core/gate.js';
import type { Permit } from '../core/permit.js';
import { warnOnce } from '../core/warning.js';

/**
 * The maximum number of live keys without `maxKeys`. A live key takes less than 2 kB, so all live keys take less than
 * 200 MB: `test/http/hostile-memory.test.ts` measures it.
 */
export const DEFAULT_MAX_KEYS = 100_000;

/** The members of a `KeyedThrottle` that count its keys. */
interface CountedKeys {
  readonly maxKeys?: unknown;
  readonly size?: unknown;
  peek?(key: string): unknown;
}

/**
 * Calls `keyed.acquire`. If the gate has no bound on its keys and {@link DEFAULT_MAX_KEYS} keys are live, it refuses a
 * new key instead.
 *
 * @returns A promise that rejects as the promise of `acquire` does, or with a {@link QueueFullError} for a refused key.
 */
export function acquireForKey(keyed: KeyedGate, key: string, cost: Cost, options: AcquireOptions): Promise<Permit> {
  if (!isFull(keyed as CountedKeys, key)) return keyed.acquire(key, cost, options);
  warnOnce(
    'HEADGATE_MAX_KEYS',
    `A keyed gate without maxKeys has ${DEFAULT_MAX_KEYS} live keys, the default bound of HTTP adapters. ` +
      'Requests with new keys receive a 503. For more clients, set a larger maxKeys',
  );
  return Promise.reject(
    withoutStack(
      () =>
        new QueueFullError(
          `The keyed gate has ${DEFAULT_MAX_KEYS} live keys, the bound without maxKeys; retry later, or set maxKeys`,
        ),
    ),
  );
}

/** Whether a gate without a bound on its keys has {@link DEFAULT_MAX_KEYS} live keys, and `key` is a new one. */
function isFull(gate: CountedKeys, key: string): boolean {
  try {
    return (
      gate.maxKeys === Infinity &&
      typeof gate.size === 'number' &&
      gate.size >= DEFAULT_MAX_KEYS &&
      gate.peek?.(key) === undefined
    );
  } catch {
    // A gate from another package can use these names for other members.
    return false;
  }
}
