/** The contract between the decision and the adapter of a framework. */
import type { RequestView } from './key.js';
import type { Fields } from './ratelimit-fields.js';
import type { Reply } from './refusal.js';

/**
 * The operations that the decision needs from a framework. `A` is the list of arguments that the framework passes to a
 * handler.
 *
 * A response is *closed* when it was sent completely, or when its client has disconnected.
 */
export interface FrameworkAdapter<A extends unknown[]> extends RequestView<A> {
  /** The function of the public API that uses the adapter, for messages. */
  readonly name: string;
  /** Returns the objects that represent the request: see `findState`. */
  requestObjects(...args: A): readonly object[];
  /** Waits for the response's turn on the connection. `undefined` if it is already the response's turn. */
  waitForTurn?(...args: A): Promise<void> | undefined;
  /** Whether the closed response was sent completely. */
  isSent(...args: A): boolean;
  /**
   * Calls `listener` at least once when an open response is closed.
   *
   * @returns A function that removes the listener, if the framework supports it.
   */
  onClose(listener: () => void, ...args: A): (() => void) | undefined;
  /**
   * Calls `listener` when the handler has finished. It is called for a response that is already closed. Absent where
   * the adapter calls `handlerFinished` of the {@link Verdict} instead.
   */
  onHandlerFinish?(listener: () => void, ...args: A): void;
  /** Sets header fields of the response. */
  setHeaders(fields: Fields, ...args: A): void;
  /** Sets the status of a refusal. Returns a function that reports whether `onLimited` has responded since then. */
  prepareRefusal(status: number, ...args: A): () => boolean;
  /** Writes an error to the framework's log. */
  logError(error: unknown, ...args: A): void;
}

/** The result of the decision. */
export type Verdict =
  /**
   * The handler runs. The adapter calls `handlerFinished` when the handler has finished, if it can observe that. It
   * calls `responseClosed` when the response was sent, if only the adapter can observe that. Both may be called
   * repeatedly.
   */
  | {
      readonly allowed: true;
      readonly fields: Fields;
      readonly responseClosed?: () => void;
      readonly handlerFinished?: () => void;
    }
  /** The handler does not run. Without a `reply`, the client has disconnected, or `onLimited` has responded itself. */
  | { readonly allowed: false; readonly fields: Fields; readonly reply?: Reply };
