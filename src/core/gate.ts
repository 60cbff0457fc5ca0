/**
 * The interfaces that all gates implement: {@link Throttle}, the gates on Redis, and gates of a user. Functions that
 * compose gates accept these interfaces instead of classes.
 */
import type { Cost } from './cost.js';
import type { Permit } from './permit.js';

/** The conditions under which a caller stops waiting. */
export interface AcquireOptions {
  /** An abort of this signal cancels the waiter. The promise rejects with the `reason` of the signal. */
  signal?: AbortSignal | undefined;
  /** The longest wait, in seconds: >= 0. With `0`, the caller never waits. Default `Infinity`. */
  timeout?: number | undefined;
  /**
   * The slots that the permit takes of the concurrency limit: an integer >= 0, at most the concurrency. Default 1. With
   * `0`, the caller waits for its turn and its tokens, but takes no slot.
   */
  slots?: number | undefined;
  /** `false`: the error of a refusal has no stack trace, for callers that create thousands of refusals. @internal */
  stack?: false | undefined;
}

/** Settings of `correct`. */
export interface CorrectOptions {
  /**
   * `true`: a level is never raised. Missing tokens count as spent by another client of the quota, and a later
   * settlement of an earlier permit still has its effect. Default `false`.
   */
  onlyLower?: boolean | undefined;
}

/**
 * A gate grants permits to callers. A caller waits until the gate grants its permit. {@link Throttle} documents each
 * method in detail. `acquire` and `run` report errors by rejecting. The other methods return their result directly or,
 * if they need a round trip, as a promise. An implementation must respect `timeout` and `signal`. The `release` and
 * `settle` methods of its permits must not throw for valid arguments.
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
   * @param cost Tokens: finite, >= 0, or a record with the tokens of each named rate. Default 1.
   * @returns A promise for the permit. It rejects with a `ThrottleError` if the gate refuses the call, with the
   *   `reason` of the signal after an abort, with a `RangeError` or `TypeError` for an invalid argument, and with any
   *   other error of the gate.
   */
  acquire(cost?: Cost, options?: AcquireOptions): Promise<Permit>;
  /**
   * Returns a permit if one is available now and the queue is empty. Otherwise returns `undefined`.
   *
   * @param cost Tokens: finite, >= 0. Default 1.
   */
  tryAcquire(cost?: Cost): Permit | undefined | Promise<Permit | undefined>;
  /**
   * Waits for a permit, calls `fn` with the permit, and releases the permit when the result of `fn` has settled.
   *
   * @param cost Tokens: finite, >= 0. Default 1.
   * @returns A promise for the result of `fn`. It rejects with the errors of `acquire` or of `fn`.
   */
  run<T>(fn: (permit: Permit) => T | PromiseLike<T>, cost?: Cost, options?: AcquireOptions): Promise<T>;
  /**
   * Grants no permit for at least `seconds`. A shorter pause never shortens a longer one.
   *
   * @param seconds >= 0. Default `Infinity`: until `resume` is called.
   */
  pause(seconds?: number): void | Promise<void>;
  /** Ends a pause now. */
  resume(): void | Promise<void>;
  /**
   * Sets the tokens at hand, for a quota that the upstream reports or an operator resets. Optional: a gate without a
   * rate needs no correction.
   *
   * @param levels Tokens: a number for all rates without a name, or a record with the tokens of each named rate.
   */
  correct?(levels: Cost, options?: CorrectOptions): void | Promise<void>;
  /**
   * Refuses every waiter and every later call with a `ThrottleClosedError`. Running work continues.
   *
   * @param reason The `cause` of the error.
   */
  close(reason?: unknown): void | Promise<void>;
  /**
   * Refuses every later call with a `ThrottleClosedError`. Resolves when the queue is empty and every permit is
   * released. Optional.
   */
  drain?(): Promise<void>;
  /**
   * Refuses every waiter with a `QueueClearedError`, and stays open. Optional.
   *
   * @param reason The `cause` of the error.
   */
  clear?(reason?: unknown): void | Promise<void>;
}

/** A gate for each key. The methods of {@link Gate} take the key as their first parameter. `close` closes all gates. */
export interface KeyedGate<K = string> {
  /** Distinguishes a keyed gate from a {@link Gate}. */
  readonly keyed: true;
  /** Waits for a permit of the key: {@link Gate.acquire}. */
  acquire(key: K, cost?: Cost, options?: AcquireOptions): Promise<Permit>;
  /** Returns a permit of the key if one is available now and no caller waits: {@link Gate.tryAcquire}. */
  tryAcquire(key: K, cost?: Cost): Permit | undefined | Promise<Permit | undefined>;
  /** Waits for a permit of the key and calls `fn` with the permit: {@link Gate.run}. */
  run<T>(key: K, fn: (permit: Permit) => T | PromiseLike<T>, cost?: Cost, options?: AcquireOptions): Promise<T>;
  /** Pauses only this key: {@link Gate.pause}. */
  pause(key: K, seconds?: number): void | Promise<void>;
  /** Ends the pause of the key now. */
  resume(key: K): void | Promise<void>;
  /** Sets the tokens at hand of the key: {@link Gate.correct}. */
  correct?(key: K, levels: Cost, options?: CorrectOptions): void | Promise<void>;
  /** Closes the gates of all present and future keys: {@link Gate.close}. */
  close(reason?: unknown): void | Promise<void>;
  /** Drains the gates of all keys: {@link Gate.drain}. */
  drain?(): Promise<void>;
  /** Refuses the waiters of all keys: {@link Gate.clear}. */
  clear?(reason?: unknown): void | Promise<void>;
}
