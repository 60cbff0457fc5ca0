/** How many keys a gate may hold where its owner has not said so. */
import { QueueFullError } from '../core/errors.js';
import { withoutStack } from '../core/refusals.js';
import type { AcquireOptions, KeyedGate } from '../core/gate.js';
import type { Permit } from '../core/permit.js';
import { warnOnce } from './platform/warning.js';

/**
 * How many keys may be live unless `maxKeys` says otherwise. A live key takes less than 2 kB, so all of them take
 * less than 200 MB: `test/http/hostile-memory.test.ts` measures it.
 */
export const MAX_KEYS = 100_000;

/** What a `KeyedThrottle` shows of its keys. */
interface Counted {
  readonly maxKeys?: unknown;
  readonly size?: unknown;
  peek?(key: string): unknown;
}

/**
 * `keyed.acquire(…)`, for a gate without a bound on its keys only while fewer than {@link MAX_KEYS} are live, or if `key` is.
 *
 * @returns A promise that rejects as that of `acquire`, and with a {@link QueueFullError} where the bound is reached.
 */
export function acquireKey(keyed: KeyedGate, key: string, cost: number, options: AcquireOptions): Promise<Permit> {
  if (!isFull(keyed as Counted, key)) return keyed.acquire(key, cost, options);
  warnOnce(
    'HEADGATE_MAX_KEYS',
    `A keyed gate without maxKeys has ${MAX_KEYS} live keys, as many as an HTTP adapter allows it. Requests with other keys are refused with 503. If there are so many clients, give the gate a larger maxKeys`,
  );
  return Promise.reject(
    withoutStack(
      () =>
        new QueueFullError(
          `The keyed gate has ${MAX_KEYS} keys in use, as many as are allowed without maxKeys; retry later, or give it a maxKeys`,
        ),
    ),
  );
}

/** Whether a gate without a bound on its keys has {@link MAX_KEYS} live ones, and `key` is none of them. */
function isFull(counted: Counted, key: string): boolean {
  try {
    return (
      counted.maxKeys === Infinity &&
      typeof counted.size === 'number' &&
      counted.size >= MAX_KEYS &&
      counted.peek?.(key) === undefined
    );
  } catch {
    // A gate of somebody else's, with something else by these names.
    return false;
  }
}
