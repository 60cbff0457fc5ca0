/** The two sides of a request of undici: the handler of the caller, and the connection that serves the request now. */

/** The controller that a dispatcher of undici 7 passes to a handler. */
export interface DispatchController {
  readonly aborted: boolean;
  readonly paused: boolean;
  readonly reason: unknown;
  readonly rawHeaders?: unknown;
  readonly rawTrailers?: unknown;
  abort(reason: unknown): void;
  pause(): void;
  resume(): void;
}

/** Header fields as undici passes them to a handler. */
export type DispatchHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** A handler of undici 7. */
export interface DispatchHandler {
  onRequestStart?(controller: DispatchController, context: unknown): void;
  onRequestUpgrade?(controller: DispatchController, status: number, headers: DispatchHeaders, socket: unknown): void;
  onResponseStart?(controller: DispatchController, status: number, headers: DispatchHeaders, message?: string): void;
  onResponseData?(controller: DispatchController, chunk: { readonly length: number }): void;
  onResponseEnd?(controller: DispatchController, trailers: unknown): void;
  onResponseError?(controller: DispatchController, error: unknown): void;
}

/** The controller that the caller's handler keeps, while the attempts of its request come and go. */
export class RequestController implements DispatchController {
  readonly #handler: DispatchHandler;
  readonly #waits = new AbortController();
  /** The controller of the present attempt. */
  #target: DispatchController | undefined;
  #paused = false;
  #finished = false;

  constructor(handler: DispatchHandler) {
    this.#handler = handler;
  }

  /** Aborts together with the request. */
  get signal(): AbortSignal {
    return this.#waits.signal;
  }

  get aborted(): boolean {
    return this.signal.aborted;
  }

  get reason(): unknown {
    return this.aborted ? this.signal.reason : null;
  }

  get paused(): boolean {
    return this.#paused;
  }

  get rawHeaders(): unknown {
    return this.#target?.rawHeaders ?? null;
  }

  get rawTrailers(): unknown {
    return this.#target?.rawTrailers ?? null;
  }

  pause(): void {
    this.#paused = true;
    this.#target?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#target?.resume();
  }

  /** Ends the request: its wait, or its present attempt. The handler receives the reason as its error. */
  abort(reason: unknown): void {
    if (this.aborted || this.#finished) return;
    this.#waits.abort(reason);
    this.#target?.abort(this.reason);
  }

  /** Connects the controller of an attempt, or of no attempt. */
  connect(target: DispatchController | undefined): void {
    this.#target = target;
    if (target === undefined) return;
    if (this.aborted) target.abort(this.reason);
    else if (this.#paused) target.pause();
  }

  /**
   * Calls a method of the handler. An error of the handler ends the request. After the end of the request, nothing is
   * called. As in undici, an error of `onResponseEnd` does not abort: undici's `retry` throws it to send a request again.
   */
  forward(name: Exclude<keyof DispatchHandler, 'onResponseError'>, ...args: readonly unknown[]): void {
    if (this.#finished) return;
    if (name === 'onResponseEnd') this.#finished = true;
    try {
      (this.#handler[name] as ((...all: unknown[]) => void) | undefined)?.call(this.#handler, this, ...args);
    } catch (error) {
      this.#finished = false;
      if (name !== 'onResponseEnd') this.abort(error);
      this.fail(error);
    }
  }

  /** Reports the end of the request by an error, once. */
  fail(error: unknown): void {
    if (this.#finished) return;
    this.#finished = true;
    try {
      this.#handler.onResponseError?.(this, error);
    } catch {
      // The handler is the only recipient of errors.
    }
  }
}
