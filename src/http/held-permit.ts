/**
 * How long a request holds its permit. Two things must be over before it is released: the response (it was sent, or the
 * client has gone) and, with `hold: 'handler'`, the work of the handler. Otherwise a client that opens and drops
 * connections would start more handlers than the limit allows.
 */
import type { Permit } from '../core/permit.js';
import { isPending } from './callback-timeout.js';

/** Seconds. A handler that has not finished so long after its client has gone counts as leaked. */
export const LEAKED_AFTER = 60;

/** Calls what a gate supplies. Its failure goes to `report`: it must not break the response, nor end the process. */
function safely(action: () => unknown, report: (error: unknown) => void): void {
  try {
    const result = action();
    if (isPending(result)) Promise.resolve(result).then(undefined, report);
  } catch (error) {
    report(error);
  }
}

/** The permit of one request. */
export class Hold {
  readonly permit: Permit;
  /** Called once, when the permit is released. */
  onRelease: (() => void) | undefined;
  readonly #report: (error: unknown) => void;
  #finished: boolean;
  #over = false;
  #released = false;
  #ttlTimer: unknown;
  #leakTimer: unknown;

  /**
   * @param untilFinished Whether the handler has to finish, too.
   * @param ttl Seconds from now, after which the permit is released whatever happens.
   * @param report Receives what the permit throws.
   */
  constructor(permit: Permit, untilFinished: boolean, ttl: number | undefined, report: (error: unknown) => void) {
    this.permit = permit;
    this.#report = report;
    this.#finished = !untilFinished;
    if (ttl !== undefined) this.#ttlTimer = after(ttl, () => this.release());
  }

  /**
   * The response is over. Any further call does nothing.
   *
   * @param sent Whether all of it was sent; otherwise the client has gone.
   * @returns Whether the permit waits for the handler.
   */
  over(sent: boolean): boolean {
    if (this.#finished) this.release();
    if (this.#over || this.#released) return false;
    this.#over = true;
    if (!sent) this.#leakTimer = after(LEAKED_AFTER, () => this.release());
    return true;
  }

  /** The handler has finished. */
  finish(): void {
    this.#finished = true;
    if (this.#over) this.release();
  }

  /** Releases the permit now. Any further call does nothing. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    clearTimeout(this.#ttlTimer as number);
    clearTimeout(this.#leakTimer as number);
    safely(() => this.permit.release(), this.#report);
    this.onRelease?.();
  }

  /** Releases the permit and gives its tokens back: the work never happened. */
  refund(): void {
    safely(() => this.permit.refund(), this.#report);
    this.release();
  }
}

/** A timer that does not keep the process alive. */
function after(seconds: number, callback: () => void): unknown {
  const timer: unknown = setTimeout(callback, seconds * 1000);
  // A number in browsers and their like.
  (timer as { unref?: () => void }).unref?.();
  return timer;
}
