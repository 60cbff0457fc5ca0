/**
 * Those who wait, in the order in which they came. Joining, leaving from either end and leaving from the middle are
 * O(1), amortized; whoever leaves takes the timer and the listener along. The queue does not decide who is granted.
 */
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
interface Exits {
  readonly signal: AbortSignal | undefined;
  /** Seconds; `Infinity` for no deadline. */
  readonly timeout: number;
  /** The error, should the deadline come. */
  readonly late: () => ThrottleTimeoutError;
}

/** The settling functions of the promise made last. One executor serves all promises: a closure each is garbage. */
const forget = (): void => {};
let resolveLast: (value: unknown) => void = forget;
let rejectLast: (reason: unknown) => void = forget;
const capture = (resolve: (value: unknown) => void, reject: (reason: unknown) => void): void => {
  resolveLast = resolve;
  rejectLast = reject;
};

/**
 * How those leave who wait on a signal, whatever their queue; each says how its queue is to be reviewed. One listener
 * serves all: 50,000 on one AbortSignal take seconds, and Node warns of a leak from the eleventh on.
 */
const leavers = new WeakMap<AbortSignal, Set<() => () => void>>();

/** Lets `leave` be called when `signal` aborts. What it returns is called once all have left who wait on that signal. */
export function listen(signal: AbortSignal, leave: () => () => void): void {
  const known = leavers.get(signal);
  if (known !== undefined) known.add(leave);
  else {
    leavers.set(signal, new Set([leave]));
    signal.addEventListener('abort', onAbort);
  }
}

export function unlisten(signal: AbortSignal, leave: () => () => void): void {
  const known = leavers.get(signal);
  if (known === undefined || !known.delete(leave) || known.size > 0) return;
  leavers.delete(signal);
  signal.removeEventListener('abort', onAbort);
}

/** All leave before any queue is reviewed: nobody is granted whose signal has aborted. */
function onAbort(event: Event): void {
  const reviews = new Set<() => void>();
  for (const leave of leavers.get(event.target as AbortSignal) ?? []) reviews.add(leave());
  for (const review of reviews) review();
}

export class WaitQueue<Permit> {
  /** With holes where somebody left: a list of links would weigh more, and its old nodes would hold young ones back. */
  #places: (Waiter<Permit> | undefined)[] = [];
  /** The index of the first waiter, where there is one. */
  #first = 0;
  #size = 0;
  #cost = 0;
  readonly #schedule: (seconds: number, callback: () => void) => () => void;
  readonly #review: () => void;
  readonly #lastLook: (timeout: number) => void;
  readonly #refused: (waiter: Waiter<Permit>, error: unknown, reason: 'aborted' | undefined) => void;

  /**
   * @param schedule Times the deadlines, as a clock does.
   * @param review Grants whoever can be granted. Called when a waiter left by itself, as another may now be first.
   * @param lastLook The same, before a deadline is enforced: a permit due at that very instant is still given.
   * @param refused Hears of everyone who has left without a permit, and why, which an error that is not ours does not say.
   */
  constructor(
    schedule: (seconds: number, callback: () => void) => () => void,
    review: () => void,
    lastLook: (timeout: number) => void,
    refused: (waiter: Waiter<Permit>, error: unknown, reason: 'aborted' | undefined) => void,
  ) {
    this.#schedule = schedule;
    this.#review = review;
    this.#lastLook = lastLook;
    this.#refused = refused;
  }

  get size(): number {
    return this.#size;
  }

  /** The sum of what all of them ask for. */
  get cost(): number {
    return this.#cost;
  }

  /** The first in line. */
  get head(): Waiter<Permit> | undefined {
    return this.#places[this.#first];
  }

  /** Whoever joined last, right after that. */
  get tail(): Waiter<Permit> | undefined {
    return this.#places.at(-1);
  }

  /** Takes the last place: for a permit or, with `fn`, as a {@link Job}. */
  join(cost: number, since: number, exits: Exits | undefined, fn: Job<Permit>['fn'] | undefined): Promise<unknown> {
    const promise = new Promise<unknown>(capture);
    const index = this.#places.length;
    const waiter: Waiter<Permit> =
      fn === undefined
        ? { cost, since, resolve: resolveLast, index, disconnect: undefined, fn, reject: rejectLast }
        : { cost, since, resolve: resolveLast, index, disconnect: undefined, fn, permit: undefined, error: undefined };
    // Held on to, they would keep alive whatever waits last.
    resolveLast = rejectLast = forget;
    this.#places.push(waiter);
    this.#size++;
    this.#cost += cost;
    if (exits !== undefined) this.#connect(waiter, exits);
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

  /** Lets a waiter go with an error, made once it has left: what it says of the queue is said without it. */
  refuse(waiter: Waiter<Permit>, errorOf: () => unknown, reason?: 'aborted'): void {
    this.#leave(waiter);
    const error = errorOf();
    this.#refused(waiter, error, reason);
    if (waiter.fn === undefined) waiter.reject(error);
    else {
      waiter.error = error;
      waiter.resolve(waiter);
    }
  }

  /** Refuses all for whom `refusal` has an error, in order. */
  refuseAll(refusal: (waiter: Waiter<Permit>) => Error | undefined): void {
    for (const waiter of this.#places.slice(this.#first)) {
      // Whoever heard of one refusal may have made another leave.
      const error = waiter && this.#places[waiter.index] === waiter ? refusal(waiter) : undefined;
      if (waiter && error) this.refuse(waiter, () => error);
    }
  }

  #leave(waiter: Waiter<Permit>): void {
    this.#places[waiter.index] = undefined;
    this.#size--;
    this.#cost -= waiter.cost;
    if (this.#size === 0) this.#restart([]);
    else if (this.#places.length > 2 * this.#size + 64) this.#restart(this.#places.filter((place) => place !== undefined));
    else while (this.#places[this.#first] === undefined) this.#first++;
    waiter.disconnect?.();
  }

  /** Closes the holes once they are the most: each who left pays for moving one who stays. */
  #restart(places: Waiter<Permit>[]): void {
    for (let index = 0; index < places.length; index++) (places[index] as Waiter<Permit>).index = index;
    this.#places = places;
    this.#first = 0;
    // An empty queue asks for nothing: what rounding left of the sum goes, too.
    if (places.length === 0) this.#cost = 0;
  }

  #connect(waiter: Waiter<Permit>, { signal, timeout, late }: Exits): void {
    let waiting = true;
    let cancel: (() => void) | undefined;
    const leave = (): (() => void) => {
      this.refuse(waiter, () => signal?.reason, 'aborted');
      return this.#review;
    };
    waiter.disconnect = () => {
      waiting = false;
      cancel?.();
      if (signal !== undefined) unlisten(signal, leave);
    };
    if (signal !== undefined) listen(signal, leave);
    if (timeout === Infinity) return;
    cancel = this.#schedule(timeout, () => {
      this.#lastLook(timeout);
      if (!waiting) return;
      this.refuse(waiter, late);
      this.#review();
    });
  }
}
