/** The end of a permit: its slot is released when every holder of the permit has ended. */
import type { Permit } from '../core/permit.js';
import { warnOnce } from '../core/warning.js';
import { discardCopy, releaseWhenRead } from '../web/response-body.js';
import { splitBody } from '../web/split-body.js';
import type { Settings } from './options.js';
import { isSignal, untilAborted } from './until-aborted.js';

/** A response that is about to be returned, and its permit. */
export interface Delivery {
  readonly response: Response;
  readonly permit: Permit;
  readonly hold: Settings['hold'];
  /** Absent for a refusal. */
  readonly settle: Settings['settle'];
  /** An abort ends the wait for `settle`. */
  readonly signal: unknown;
  /** Whether the method of the request was HEAD, whose response has no body. */
  readonly isHead: boolean;
}

/**
 * Calls `settle`, and calls `release` once when `settle` has ended and, with `hold: 'body'`, the body has been read.
 *
 * @returns The response for the caller.
 */
export function deliver({ response, permit, hold, settle, signal, isHead }: Delivery, release: () => void): Response {
  let holders = 1;
  const endHolder = (): void => {
    if (--holders === 0) release();
  };
  let isCancelled = false;
  // The copy precedes `releaseWhenRead`, which takes the reader of the body.
  const split = settle && splitBody(response, () => (isCancelled = true));
  const copy = split?.copy ?? (settle && copyOf(response));
  const endCopy = (): void => {
    if (split !== undefined) split.endCopy();
    else if (copy !== undefined && copy !== response) void discardCopy(copy);
  };
  let delivered = split?.original ?? response;
  if (hold === 'body') {
    holders++;
    try {
      delivered = releaseWhenRead(delivered, endHolder, isHead);
    } catch (error) {
      endCopy();
      throw error;
    }
  }
  if (copy !== undefined) {
    holders++;
    const isIgnored = (): boolean => isCancelled || (isSignal(signal) && signal.aborted);
    void runSettle(
      () => settle?.(copy, permit),
      signal,
      isIgnored,
      () => {
        endCopy();
        endHolder();
      },
    );
  }
  endHolder();
  return delivered;
}

/** A clone, or the response itself if it cannot be cloned. Then its header fields can still be read. */
function copyOf(response: Response): Response {
  try {
    return response.clone();
  } catch {
    return response;
  }
}

/**
 * Calls `settle`, waits for its result, and calls `onEnd`. Never rejects.
 *
 * @param isIgnored Whether an error is only the effect of an abort or of a cancellation by the caller.
 */
export async function runSettle(
  settle: () => void | PromiseLike<void>,
  signal: unknown,
  isIgnored: () => boolean,
  onEnd: () => void,
): Promise<void> {
  try {
    await untilAborted(signal, settle);
  } catch (error) {
    if (isIgnored()) return;
    warnOnce(
      'HEADGATE_SETTLE_FAILED',
      `The settle function of a request failed, so a permit keeps the cost of the request: ${String(error)}`,
    );
  } finally {
    onEnd();
  }
}
