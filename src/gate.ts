/**
 * What every gate can do, be it a {@link Throttle} in this process, one for a fleet, or one of your own. Whatever is
 * composed of gates takes these interfaces, never a class.
 */
import type { Permit } from './permit.js';

/** How long a caller is ready to wait. */
export interface AcquireOptions {
  /** Leaves the queue when it aborts; the promise rejects with its `reason`. */
  signal?: AbortSignal | undefined;
  /** Seconds, >= 0. `0` means now or never. Default `Infinity`. */
  timeout?: number | undefined;
}

/**
 * A gate: whoever wants to work asks it for a permit, and waits until there is one. What a method does is told at
 * {@link Throttle}. `acquire` and `run` report by rejecting; the others answer at once or, where that takes a round
 * trip, by a promise. Whoever composes gates relies on them: that `timeout` and `signal` are kept to, and that a
 * permit's `release` and `settle` do not throw.
 *
 * @example
 * import { type Gate, Throttle } from 'headgate';
 *
 * const twice = (gate: Gate, work: () => void) => gate.run(() => (work(), work()), 2);
 * await twice(new Throttle(10, 2), () => console.log('done')); // → done
 * // → done
 */
export interface Gate {
  acquire(cost?: number, options?: AcquireOptions): Promise<Permit>;
  tryAcquire(cost?: number): Permit | undefined | Promise<Permit | undefined>;
  run<T>(fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T>;
  pause(seconds?: number): void | Promise<void>;
  resume(): void | Promise<void>;
  close(reason?: unknown): void | Promise<void>;
}

/** A gate for each key: the same as {@link Gate}, with the key first. `close` closes them all. */
export interface KeyedGate<K = string> {
  /** Tells it from a {@link Gate}, where either will do. */
  readonly keyed: true;
  acquire(key: K, cost?: number, options?: AcquireOptions): Promise<Permit>;
  tryAcquire(key: K, cost?: number): Permit | undefined | Promise<Permit | undefined>;
  run<T>(key: K, fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T>;
  pause(key: K, seconds?: number): void | Promise<void>;
  resume(key: K): void | Promise<void>;
  close(reason?: unknown): void | Promise<void>;
}
