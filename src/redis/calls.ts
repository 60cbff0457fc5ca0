/** The pending calls of one throttle object, in call order, with their abort listeners and their timeouts. */
import { addAbortListener, removeAbortListener } from '../core/abort-listeners.js';
import type { AcquireOptions } from '../core/gate.js';
import type { Terms } from '../core/cost.js';
import type { Charge } from './charge.js';
import { ChurnMap } from './churn-map.js';
import { ignore } from './drivers/driver.js';
import type { Lease } from './lease.js';
import type { SteadyClock } from './steady-clock.js';

/** A pending call of `acquire`, `run` or `tryAcquire`. */
export interface Call {
  /** Unique among the calls of the throttle object. */
  readonly serial: string;
  /** The cost of the rates without a name. */
  readonly cost: number;
  /** The costs by name and the slots; `undefined` for a number and one slot. */
  readonly terms: Terms | undefined;
  /** The cost as the script reads it. */
  readonly charge: Charge;
  /** The instant of the call. */
  readonly since: number;
  /** Seconds from `since`. */
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
  /** Whether the call is a `tryAcquire`, which resolves with `undefined` instead of a refusal. */
  readonly tries: boolean;
  /** Whether the timeout has elapsed before Redis has replied. */
  overdue: boolean;
  /** The place in the queue; 0 until Redis has assigned one. */
  ticket: number;
  /** Grants before this instant of the server, in microseconds, are void. */
  voidBefore: number;
  readonly resolve: (permit: Lease | undefined) => void;
  readonly reject: (reason: unknown) => void;
  /** Removes the abort listener and the timeout. */
  disconnect: (() => void) | undefined;
  /** The neighbours among the pending calls. */
  previous: Call | undefined;
  next: Call | undefined;
}

/** The receiver of the ends of calls. */
export interface CallSink {
  onAbort(call: Call): void;
  onTimeout(call: Call): void;
}

export class PendingCalls {
  readonly #clock: SteadyClock;
  readonly #sink: CallSink;
  /** Called with 1 for each added call, and with -1 for each removed call. */
  readonly #onResize: (change: 1 | -1) => void;
  readonly #calls = new ChurnMap<string, Call>();
  /** The ends of the list of calls. To find the first entry, a map passes all entries that were removed before it. */
  #first: Call | undefined;
  #last: Call | undefined;
  #nextSerial = 0;

  constructor(clock: SteadyClock, sink: CallSink, onResize: (change: 1 | -1) => void = ignore) {
    this.#clock = clock;
    this.#sink = sink;
    this.#onResize = onResize;
  }

  get size(): number {
    return this.#calls.size;
  }

  get(serial: string): Call | undefined {
    return this.#calls.get(serial);
  }

  has(call: Call): boolean {
    return this.#calls.has(call.serial);
  }

  /** The oldest call. */
  first(): Call | undefined {
    return this.#first;
  }

  /** The calls in order. A copy, because a rejected caller may call again at once. */
  list(): Call[] {
    return Array.from(this.#calls.values());
  }

  /** Creates a call that is not pending yet. */
  create(
    cost: number,
    since: number,
    { signal, timeout = Infinity }: AcquireOptions,
    tries: boolean,
    resolve: Call['resolve'],
    reject: Call['reject'],
    terms?: Terms,
    charge: Charge = cost,
  ): Call {
    const serial = (this.#nextSerial++).toString(36);
    return {
      serial,
      cost,
      terms,
      charge,
      since,
      timeout,
      signal,
      tries,
      overdue: false,
      ticket: 0,
      voidBefore: 0,
      resolve,
      reject,
      disconnect: undefined,
      previous: undefined,
      next: undefined,
    };
  }

  /**
   * Adds a call, with its abort listener and its timeout.
   *
   * @returns Whether the call is pending afterwards: its signal may abort inside `addEventListener`.
   * @throws The error of the clock or of the signal. Nothing is added then.
   */
  add(call: Call): boolean {
    this.#calls.set(call.serial, call);
    call.previous = this.#last;
    if (this.#last === undefined) this.#first = call;
    else this.#last.next = call;
    this.#last = call;
    this.#onResize(1);
    try {
      if (call.signal !== undefined || (call.timeout > 0 && call.timeout < Infinity)) this.#watch(call);
    } catch (error) {
      if (!this.#calls.has(call.serial)) return false;
      this.remove(call);
      throw error;
    }
    const pending = this.#calls.has(call.serial);
    // A method of the clock may have ended the call before its timer and its listener were set.
    if (!pending) call.disconnect?.();
    return pending;
  }

  /** Removes a call that is decided, with its abort listener and its timeout. Has no effect on other calls. */
  remove(call: Call): void {
    if (!this.#calls.delete(call.serial)) return;
    const { previous, next } = call;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    call.previous = call.next = undefined;
    this.#onResize(-1);
    call.disconnect?.();
  }

  #watch(call: Call): void {
    const { signal, timeout } = call;
    const onAbort = (): (() => void) => {
      this.#sink.onAbort(call);
      return ignore;
    };
    const cancel =
      timeout > 0 && timeout < Infinity
        ? this.#clock.scheduleOrThrow(timeout, () => this.#sink.onTimeout(call))
        : undefined;
    call.disconnect = () => {
      cancel?.();
      if (signal !== undefined) removeAbortListener(signal, onAbort);
    };
    if (signal === undefined) return;
    addAbortListener(signal, onAbort);
    // The signal may have aborted since it was checked: in a method of the clock or of the signal itself.
    if (this.#calls.has(call.serial) && signal.aborted) throw signal.reason;
  }
}

/** The abort reason of a signal. If the getter throws, the thrown error is the reason. */
export function abortReasonOf(signal: AbortSignal | undefined): unknown {
  try {
    return signal?.reason;
  } catch (error) {
    return error;
  }
}
