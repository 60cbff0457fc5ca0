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
  /** `false`: a refusal has no stack trace. For callers that make thousands of them and show none. @internal */
  stack?: false | undefined;
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
  /**
   * Waits for a permit.
   *
   * @param cost Tokens: finite, >= 0. Default 1.
   * @returns A promise that rejects with a `ThrottleError` where the gate refuses, with the signal's `reason` once it
   *   aborts, with a `RangeError` or `TypeError` for a bad argument, and with whatever else the gate fails with.
   */
  acquire(cost?: number, options?: AcquireOptions): Promise<Permit>;
  /**
   * A permit, if there is one now and nobody waits; else `undefined`.
   *
   * @param cost Tokens: finite, >= 0. Default 1.
   */
  tryAcquire(cost?: number): Permit | undefined | Promise<Permit | undefined>;
  /**
   * Waits for a permit, calls `fn` with it, and releases it when what `fn` returned has settled.
   *
   * @param cost Tokens: finite, >= 0. Default 1.
   * @returns A promise that rejects as that of `acquire` does, or with what `fn` throws.
   */
  run<T>(fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T>;
  /**
   * Holds back whoever waits or comes later. A shorter pause never shortens a longer one.
   *
   * @param seconds >= 0. Default `Infinity`: until `resume` is called.
   */
  pause(seconds?: number): void | Promise<void>;
  /** Ends a pause now. */
  resume(): void | Promise<void>;
  /**
   * Refuses everyone waiting and everyone later with a `ThrottleClosedError`. Running work finishes.
   *
   * @param reason The `cause` of the error.
   */
  close(reason?: unknown): void | Promise<void>;
}

/** A gate for each key: the same as {@link Gate}, with the key first. `close` closes them all. */
export interface KeyedGate<K = string> {
  /** Tells it from a {@link Gate}, where either will do. */
  readonly keyed: true;
  /** Waits for a permit of the key: {@link Gate.acquire}. */
  acquire(key: K, cost?: number, options?: AcquireOptions): Promise<Permit>;
  /** A permit of the key, if there is one now and nobody waits for it: {@link Gate.tryAcquire}. */
  tryAcquire(key: K, cost?: number): Permit | undefined | Promise<Permit | undefined>;
  /** Waits for a permit of the key and calls `fn` with it: {@link Gate.run}. */
  run<T>(key: K, fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T>;
  /** Pauses the key, no other: {@link Gate.pause}. */
  pause(key: K, seconds?: number): void | Promise<void>;
  /** Ends the pause of the key now. */
  resume(key: K): void | Promise<void>;
  /** Closes the gates of all keys, those to come included: {@link Gate.close}. */
  close(reason?: unknown): void | Promise<void>;
}
