/**
 * The hold on the permit of a request. The permit is released when the response is closed (it was sent, or the client
 * has disconnected). With `hold: 'handler'`, the handler must have finished, too. Otherwise a client that opens and
 * drops connections could start more handlers than the limit allows.
 */
import { scheduleInBackground } from '../core/clock.js';
import type { Permit } from '../core/permit.js';
import { isPromiseLike } from '../core/promise-like.js';

/** Seconds. A handler that has not finished this long after its client disconnected counts as leaked. */
const LEAK_TIMEOUT = 60;

/** Calls a function of the permit. An error goes to `logError`: it must not break the response or end the process. */
function callSafely(action: () => unknown, logError: (error: unknown) => void): void {
  try {
    const result = action();
    if (isPromiseLike(result)) Promise.resolve(result).then(undefined, logError);
  } catch (error) {
    logError(error);
  }
}

/** The permit of one request, with the conditions for its release. */
export class HeldPermit {
  readonly permit: Permit;
  /** Whether the permit is also held until the handler has finished. */
  readonly untilFinished: boolean;
  /** Called once, when the permit is released. */
  onRelease: (() => void) | undefined;
  readonly #logError: (error: unknown) => void;
  #handlerFinished: boolean;
  #responseClosed = false;
  #released = false;
  #cancelTtl: (() => void) | undefined;
  #cancelLeakTimeout: (() => void) | undefined;

  /**
   * @param ttl Seconds from now until the permit is released unconditionally.
   * @param logError Receives the errors that the permit throws.
   */
  constructor(permit: Permit, untilFinished: boolean, ttl: number | undefined, logError: (error: unknown) => void) {
    this.permit = permit;
    this.untilFinished = untilFinished;
    this.#logError = logError;
    this.#handlerFinished = !untilFinished;
    if (ttl !== undefined) this.#cancelTtl = scheduleInBackground(ttl * 1_000, () => this.release());
  }

  /**
   * Records that the response is closed. A second call does nothing.
   *
   * @param sent Whether the whole response was sent; otherwise the client has disconnected.
   * @returns Whether the permit is still held, until the handler has finished.
   */
  responseClosed(sent: boolean): boolean {
    if (this.#handlerFinished) this.release();
    if (this.#responseClosed || this.#released) return false;
    this.#responseClosed = true;
    if (!sent) this.#cancelLeakTimeout = scheduleInBackground(LEAK_TIMEOUT * 1_000, () => this.release());
    return true;
  }

  /** Records that the handler has finished. */
  handlerFinished(): void {
    this.#handlerFinished = true;
    if (this.#responseClosed) this.release();
  }

  /** Releases the permit now. A second call does nothing. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#cancelTtl?.();
    this.#cancelLeakTimeout?.();
    callSafely(() => this.permit.release(), this.#logError);
    this.onRelease?.();
  }

  /** Releases the permit and returns its tokens, because the request does no work. */
  refund(): void {
    callSafely(() => this.permit.refund(), this.#logError);
    this.release();
  }
}
