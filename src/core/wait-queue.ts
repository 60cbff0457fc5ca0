/**
 * The waiters, in the order in which they came. Joining, leaving from either end and leaving from the middle are O(1),
 * amortized; a waiter that leaves takes its timer and its listener along. The queue does not decide which waiter is granted.
 */
import { addAbortListener, removeAbortListener } from './abort-listeners.js';
import type { ThrottleTimeoutError } from './errors.js';

interface Place {
  readonly cost: number;
  /** The instant at which it joined. */
  readonly since: number;
  readonly resolve: (value: unknown) => void;
  /** Where it stands in the array. */
  index: number;
  /** Undoes the deadline and the abort wiring; most waiters have neither. */
  disconnect: (() => void) | undefined;
}

/** A call of `acquire`. Its promise is settled with the permit. */
interface Caller extends Place {
  readonly fn: undefined;
  readonly reject: (reason: unknown) => void;
}

/**
 * A call of `run`. Its promise is fulfilled with this very object, whatever the outcome: so one callback serves all
 * jobs, and none needs a rejecting function. Both would be a fifth of what a waiting job weighs.
 */
export interface Job<Permit, T = unknown> extends Place {
  readonly fn: (permit: Permit) => T | PromiseLike<T>;
  permit: Permit | undefined;
  error: unknown;
}

export type Waiter<Permit> = Caller | Job<Permit>;

/** How a waiter may leave before it is granted. */
interface CancelOptions {
  readonly signal: AbortSignal | undefined;
  /** Seconds; `Infinity` for no deadline. */
  readonly timeout: number;
  /** Makes the error for a deadline that has come. */
  readonly late: () => ThrottleTimeoutError;
}

/** What the queue needs of the gate that it belongs to. Only `schedule` may throw. */
export interface QueueOwner<Permit> {
  /** Times the deadlines, as a clock does. */
  schedule(seconds: number, callback: () => void): () => void;
  /** What the clock shows now; NaN if it throws. */
  now(): number;
  /** Grants every waiter that can be granted. Called when a waiter left by itself, as another may now be first. */
  review(): void;
  /** The same, before a deadline is enforced: a permit due at that very instant is still given. */
  grantBeforeTimeout(timeout: number): void;
  /** Publishes that a waiter has left without a permit, and why, which an error that is not ours does not say. */
  onRefused(waiter: Waiter<Permit>, error: unknown, reason: 'aborted' | undefined): void;
}

/** By how much of a timeout rounding may be off. */
export const ROUNDING = 1e-9;

/** The settling functions of the promise made last. One executor serves all promises: a closure each is garbage. */
const forget = (): void => {};
let resolveLast: (value: unknown) => void = forget;
let rejectLast: (reason: unknown) => void = forget;
const capture = (resolve: (value: unknown) => void, reject: (reason: unknown) => void): void => {
  resolveLast = resolve;
  rejectLast = reject;
};

export class WaitQueue<Permit> {
  /** With holes where a waiter left: a list of links would weigh more, and its old nodes would hold young ones back. */
  #places: (Waiter<Permit> | undefined)[] = [];
  /** The index of the first waiter, where there is one. */
  #first = 0;
  #size = 0;
  #cost = 0;
  readonly #owner: QueueOwner<Permit>;

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

  /** The first in line. */
  get head(): Waiter<Permit> | undefined {
    return this.#places[this.#first];
  }

  /** The waiter that joined last, right after that. */
  get tail(): Waiter<Permit> | undefined {
    return this.#places.at(-1);
  }

  /**
   * Takes the last place: for a permit or, with `fn`, as a {@link Job}.
   *
   * @throws Whatever the clock and the signal throw, and the reason of a signal that has aborted. The place is given up then.
   */
  join(
    cost: number,
    since: number,
    cancel: CancelOptions | undefined,
    fn: Job<Permit>['fn'] | undefined,
  ): Promise<unknown> {
    const promise = new Promise<unknown>(capture);
    const index = this.#places.length;
    const waiter: Waiter<Permit> =
      fn === undefined
        ? { cost, since, resolve: resolveLast, index, disconnect: undefined, fn, reject: rejectLast }
        : { cost, since, resolve: resolveLast, index, disconnect: undefined, fn, permit: undefined, error: undefined };
    // Held on to, they would keep alive the last waiter.
    resolveLast = rejectLast = forget;
    this.#places.push(waiter);
    this.#size++;
    this.#cost += cost;
    if (cancel !== undefined) {
      try {
        this.#connect(waiter, cancel);
      } catch (error) {
        // An abort during `addEventListener` may have taken it out.
        if (this.#places[waiter.index] === waiter) this.#leave(waiter);
        throw error;
      }
    }
    return promise;
  }

  /** Lets a waiter go with a permit. */
  grant(waiter: Waiter<Permit>, permit: Permit): void {
    this.#leave(waiter);
    if (waiter.fn === undefined) waiter.resolve(permit);
    else {
      waiter.permit = permit;
      waiter.resolve(waiter);
    }
  }

  /** Lets a waiter go with an error, made once it has left: what the error says of the queue is said without the waiter. */
  refuse(waiter: Waiter<Permit>, errorOf: () => unknown, reason?: 'aborted'): void {
    this.#leave(waiter);
    const error = resultOf(errorOf);
    this.#owner.onRefused(waiter, error, reason);
    if (waiter.fn === undefined) waiter.reject(error);
    else {
      waiter.error = error;
      waiter.resolve(waiter);
    }
  }

  /** Refuses all for whom `refusal` has an error, in order. */
  refuseAll(refusal: (waiter: Waiter<Permit>) => Error | undefined): void {
    for (const waiter of this.#places.slice(this.#first)) {
      // A subscriber that saw one refusal may have made another waiter leave.
      const error = waiter && this.#places[waiter.index] === waiter ? refusal(waiter) : undefined;
      if (waiter && error) this.refuse(waiter, () => error);
    }
  }

  #leave(waiter: Waiter<Permit>): void {
    this.#places[waiter.index] = undefined;
    this.#size--;
    this.#cost -= waiter.cost;
    if (this.#size === 0) this.#restart([]);
    else if (this.#places.length > 2 * this.#size + 64)
      this.#restart(this.#places.filter((place) => place !== undefined));
    else while (this.#places[this.#first] === undefined) this.#first++;
    waiter.disconnect?.();
  }

  /** Closes the holes once they are the most: each waiter that left pays for moving one that stays. */
  #restart(places: Waiter<Permit>[]): void {
    for (let index = 0; index < places.length; index++) (places[index] as Waiter<Permit>).index = index;
    this.#places = places;
    this.#first = 0;
    // An empty queue asks for nothing: what rounding left of the sum goes, too.
    if (places.length === 0) this.#cost = 0;
  }

  #connect(waiter: Waiter<Permit>, { signal, timeout, late }: CancelOptions): void {
    const owner = this.#owner;
    let waiting = true;
    let cancel: (() => void) | undefined;
    const leave = (): (() => void) => {
      this.refuse(waiter, () => signal?.reason, 'aborted');
      return review;
    };
    const review = (): void => owner.review();
    waiter.disconnect = () => {
      waiting = false;
      ignoreErrors(cancel);
      if (signal !== undefined) removeAbortListener(signal, leave);
    };
    const time = (seconds: number, set: number): void => {
      let fired = false;
      cancel = owner.schedule(seconds, () => {
        if (!waiting || fired) return;
        fired = true;
        // A timer may fire early: then it is set again, for the rest. On a clock that stands still or stepped back, the timer counts.
        const now = owner.now();
        const elapsed = now - set;
        if (elapsed > 0 && elapsed < seconds - timeout * ROUNDING) {
          try {
            return time(seconds - elapsed, now);
          } catch (error) {
            // Without a timer it might wait for ever.
            this.refuse(waiter, () => error);
          }
        } else {
          owner.grantBeforeTimeout(timeout);
          if (!waiting) return;
          this.refuse(waiter, late);
        }
        owner.review();
      });
    };
    if (timeout < Infinity) time(timeout, waiter.since);
    if (signal === undefined) return;
    addAbortListener(signal, leave);
    // It may have aborted since it was checked, in a method of the clock or the signal that the caller has written.
    if (waiting && signal.aborted) throw signal.reason;
  }
}

/** What `fn` returns, or throws. */
function resultOf(fn: () => unknown): unknown {
  try {
    return fn();
  } catch (error) {
    return error;
  }
}

/** Calls `cancel`, which a caller has written, and lets nothing out of it: the timer that it cancels does nothing any more. */
export function ignoreErrors(cancel: (() => void) | undefined): void {
  try {
    cancel?.();
  } catch {
    // As said.
  }
}
