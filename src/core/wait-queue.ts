/**
 * The waiters of a gate, in the order of their calls. Adding a waiter and removing any waiter take O(1) amortized time.
 * Removing a waiter also removes its timer and its abort listener. The gate decides which waiter is granted; this queue
 * only stores waiters.
 */
import { addAbortListener, removeAbortListener } from './abort-listeners.js';
import type { Terms } from './cost.js';
import type { ThrottleTimeoutError } from './errors.js';

interface Entry {
  readonly cost: number;
  /** `undefined` for a waiter with a number as its cost and one slot. */
  readonly terms: Terms | undefined;
  /** The instant of the call. */
  readonly since: number;
  readonly resolve: (value: unknown) => void;
  /** The index of the waiter in the array of the queue. */
  index: number;
  /** Removes the timer and the abort listener; `undefined` for a waiter with neither, as most waiters are. */
  unwatch: (() => void) | undefined;
}

/** A waiting call of `acquire`. The queue resolves its promise with the permit. */
interface AcquireCall extends Entry {
  readonly fn: undefined;
  readonly reject: (reason: unknown) => void;
}

/**
 * A waiting call of `run`. The queue resolves its promise with this object, for a grant and for a refusal alike. So all
 * calls share one callback, and no call needs a `reject` function. That saves a fifth of the memory of a waiting call.
 */
export interface RunCall<Permit, T = unknown> extends Entry {
  readonly fn: (permit: Permit) => T | PromiseLike<T>;
  permit: Permit | undefined;
  error: unknown;
}

export type Waiter<Permit> = AcquireCall | RunCall<Permit>;

/** The conditions under which the queue refuses a waiter. */
interface CancelOptions {
  readonly signal: AbortSignal | undefined;
  /** Seconds from the call; `Infinity` for no deadline. */
  readonly timeout: number;
  /** Creates the error for the deadline. */
  readonly makeTimeoutError: () => ThrottleTimeoutError;
}

/** The gate that owns a queue. Only `schedule` may throw. */
export interface QueueOwner<Permit> {
  /** Sets a timer for a deadline, like {@link Clock.schedule}. */
  schedule(seconds: number, callback: () => void): () => void;
  /** The present instant; NaN if the clock throws. */
  now(): number;
  /**
   * Grants the head until the head does not fit. The queue calls `reschedule` after it has removed a waiter.
   */
  reschedule(): void;
  /** Grants every waiter that fits, before a deadline is enforced: a permit that is due at the deadline is granted. */
  grantBeforeTimeout(timeout: number): void;
  /** Called when a waiter has joined the queue (1) or has left it (-1). It runs no code of a user. */
  onResize(change: 1 | -1): void;
  /** Publishes a refusal. `reason` is given if `error` comes from the caller's signal and cannot show the reason. */
  onRefused(waiter: Waiter<Permit>, error: unknown, reason: 'aborted' | undefined): void;
}

/** The relative tolerance for rounding when a duration is compared with a timer: a smaller rest counts as elapsed. */
export const ROUNDING = 1e-9;

/** The functions of the latest promise. All promises share one executor, which saves one closure per promise. */
const noop = (): void => {};
let resolveLast: (value: unknown) => void = noop;
let rejectLast: (reason: unknown) => void = noop;
const captureResolvers = (resolve: (value: unknown) => void, reject: (reason: unknown) => void): void => {
  resolveLast = resolve;
  rejectLast = reject;
};

export class WaitQueue<Permit> {
  /**
   * The waiters, with `undefined` at the index of each removed waiter. A linked list would use more memory, and its old
   * nodes would keep young nodes from early garbage collection.
   */
  #entries: (Waiter<Permit> | undefined)[] = [];
  /** The index of the head, if the queue has one. */
  #first = 0;
  #size = 0;
  #cost = 0;
  /** The sums of the vectors of all waiters; empty without vectors. */
  #costs: number[] = [];
  readonly #owner: QueueOwner<Permit>;

  /** One function per queue, so that the abort of a signal with many waiters reschedules the queue once. */
  readonly #reschedule = (): void => this.#owner.reschedule();

  constructor(owner: QueueOwner<Permit>) {
    this.#owner = owner;
  }

  get size(): number {
    return this.#size;
  }

  /** The sum of the costs of all waiters. */
  get cost(): number {
    return this.#cost;
  }

  /** The sum of `costs` and of the vectors of all waiters. */
  sumWith(costs: readonly number[]): number[] {
    return costs.map((cost, index) => cost + (this.#costs[index] ?? 0));
  }

  #addCosts(costs: readonly number[], sign: 1 | -1): void {
    for (let index = 0; index < costs.length; index++)
      this.#costs[index] = (this.#costs[index] ?? 0) + sign * (costs[index] as number);
  }

  /** The waiter that is granted next. */
  get head(): Waiter<Permit> | undefined {
    return this.#entries[this.#first];
  }

  /** The waiter that `enqueue` has just added. Valid only directly after that call. */
  get tail(): Waiter<Permit> | undefined {
    return this.#entries.at(-1);
  }

  /**
   * Adds a waiter at the tail. With `fn`, the promise resolves with a {@link RunCall}; without `fn`, with the permit.
   *
   * @throws The error of the clock or of the signal, or the reason of a signal that has aborted. The queue then removes
   *   the waiter.
   */
  enqueue(
    cost: number,
    since: number,
    cancel: CancelOptions | undefined,
    fn: RunCall<Permit>['fn'] | undefined,
    terms?: Terms,
  ): Promise<unknown> {
    const promise = new Promise<unknown>(captureResolvers);
    const index = this.#entries.length;
    const waiter: Waiter<Permit> =
      fn === undefined
        ? { cost, terms, since, resolve: resolveLast, index, unwatch: undefined, fn, reject: rejectLast }
        : {
            cost,
            terms,
            since,
            resolve: resolveLast,
            index,
            unwatch: undefined,
            fn,
            permit: undefined,
            error: undefined,
          };
    // These references would keep the promise of the waiter in memory.
    resolveLast = rejectLast = noop;
    this.#entries.push(waiter);
    this.#size++;
    this.#cost += cost;
    if (terms !== undefined) this.#addCosts(terms.costs, 1);
    this.#owner.onResize(1);
    if (cancel !== undefined) {
      try {
        this.#watch(waiter, cancel);
      } catch (error) {
        // A method of the clock or of the signal, written by a user, may already have led to a grant or a refusal. The
        // promise then has its result.
        if (this.#entries[waiter.index] !== waiter) return promise;
        this.#remove(waiter);
        throw error;
      }
    }
    return promise;
  }

  /** Removes a waiter and resolves its promise with the permit. */
  grant(waiter: Waiter<Permit>, permit: Permit): void {
    this.#remove(waiter);
    if (waiter.fn === undefined) waiter.resolve(permit);
    else {
      waiter.permit = permit;
      waiter.resolve(waiter);
    }
  }

  /**
   * Removes a waiter, then creates the error and settles the promise: the queue length in the error excludes the
   * waiter.
   */
  refuse(waiter: Waiter<Permit>, makeError: () => unknown, reason?: 'aborted'): void {
    this.#remove(waiter);
    const error = resultOrError(makeError);
    this.#owner.onRefused(waiter, error, reason);
    if (waiter.fn === undefined) waiter.reject(error);
    else {
      waiter.error = error;
      waiter.resolve(waiter);
    }
  }

  /** Refuses, in order, every waiter for which `errorFor` returns an error. */
  refuseAll(errorFor: (waiter: Waiter<Permit>) => Error | undefined): void {
    for (const waiter of this.#entries.slice(this.#first)) {
      // A subscriber may abort another waiter when it receives a refusal.
      const error = waiter && this.#entries[waiter.index] === waiter ? errorFor(waiter) : undefined;
      if (waiter && error) this.refuse(waiter, () => error);
    }
  }

  #remove(waiter: Waiter<Permit>): void {
    this.#entries[waiter.index] = undefined;
    this.#size--;
    this.#cost -= waiter.cost;
    if (waiter.terms !== undefined) this.#addCosts(waiter.terms.costs, -1);
    if (this.#size === 0) this.#compact([]);
    else if (this.#entries.length > 2 * this.#size + 64)
      this.#compact(this.#entries.filter((entry) => entry !== undefined));
    else while (this.#entries[this.#first] === undefined) this.#first++;
    this.#owner.onResize(-1);
    waiter.unwatch?.();
  }

  /**
   * Replaces the array by `entries`, which has no holes. Called when holes outnumber waiters, so each removal costs
   * O(1).
   */
  #compact(entries: Waiter<Permit>[]): void {
    for (let index = 0; index < entries.length; index++) (entries[index] as Waiter<Permit>).index = index;
    this.#entries = entries;
    this.#first = 0;
    // Clear the rounding error of the sum.
    if (entries.length > 0) return;
    this.#cost = 0;
    if (this.#costs.length > 0) this.#costs = [];
  }

  /** Sets the timer and the abort listener of a waiter. */
  #watch(waiter: Waiter<Permit>, { signal, timeout, makeTimeoutError }: CancelOptions): void {
    const owner = this.#owner;
    let waiting = true;
    let cancel: (() => void) | undefined;
    const onAbort = (): (() => void) => {
      this.refuse(waiter, () => signal?.reason, 'aborted');
      return this.#reschedule;
    };
    waiter.unwatch = () => {
      waiting = false;
      ignoreErrors(cancel);
      if (signal !== undefined) removeAbortListener(signal, onAbort);
    };
    const startTimer = (seconds: number, startedAt: number): void => {
      let fired = false;
      cancel = owner.schedule(seconds, () => {
        if (!waiting || fired) return;
        fired = true;
        // A timer may fire early: set a timer for the rest. If the clock stands still or steps back, the timer counts
        // as due.
        const now = owner.now();
        const elapsed = now - startedAt;
        if (elapsed > 0 && elapsed < seconds - timeout * ROUNDING) {
          try {
            return startTimer(seconds - elapsed, now);
          } catch (error) {
            // Without a timer the waiter might wait forever.
            this.refuse(waiter, () => error);
          }
        } else {
          owner.grantBeforeTimeout(timeout);
          if (!waiting) return;
          this.refuse(waiter, makeTimeoutError);
        }
        owner.reschedule();
      });
    };
    if (timeout < Infinity) startTimer(timeout, waiter.since);
    if (signal === undefined) return;
    addAbortListener(signal, onAbort);
    // A method of the clock or of the signal, written by a user, may have aborted the signal since the first check.
    if (waiting && signal.aborted) throw signal.reason;
  }
}

/** The result of `fn`, or the error that `fn` throws. */
function resultOrError(fn: () => unknown): unknown {
  try {
    return fn();
  } catch (error) {
    return error;
  }
}

/** Calls `cancel` and ignores its errors. Code of a user may throw; the callback of a cancelled timer has no effect. */
export function ignoreErrors(cancel: (() => void) | undefined): void {
  try {
    cancel?.();
  } catch {
    // The gate works without the cancellation.
  }
}
