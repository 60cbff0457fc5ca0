/** A time limit for the functions of the options. A function that never settles must not block its request forever. */

/**
 * Seconds. A lookup in a database or at an identity provider takes less. Proxies and clients give up after 30 s or
 * more. So the client receives the server's own response, and the log names the function.
 */
export const CALLBACK_TIMEOUT = 10;

/** The rejection of {@link withTimeout} when the client disconnects before the function settles. */
export const CLIENT_DISCONNECTED: unique symbol = Symbol('client disconnected');

const TIMEOUT_CODE = 'ERR_UNANSWERED';

/** Whether `error` reports that a function of the options did not settle in time. */
export function isCallbackTimeout(error: unknown): boolean {
  return Object(error) === error && (error as { code?: unknown }).code === TIMEOUT_CODE;
}

/**
 * Settles as `result` does, within {@link CALLBACK_TIMEOUT} seconds and while the client is connected. It removes its
 * timer and its listener when it settles, and ignores a rejection of `result` that comes later.
 *
 * @param option The name of the option that returned `result`.
 * @param response Its `onClose` registers a listener for the end of the response, and returns a function that removes
 *   the listener.
 * @returns A promise that rejects as `result` does, with an error that {@link isCallbackTimeout} recognizes, or with
 *   {@link CLIENT_DISCONNECTED}.
 */
export async function withTimeout<T>(
  option: string,
  result: PromiseLike<T>,
  response: { onClose(listener: () => void): () => void },
): Promise<T> {
  let timer: unknown;
  let removeListener: (() => void) | undefined;
  try {
    return await new Promise<T>((resolve, reject) => {
      timer = setTimeout(
        () =>
          reject(
            Object.assign(new Error(`${option} did not settle within ${CALLBACK_TIMEOUT} s`), { code: TIMEOUT_CODE }),
          ),
        CALLBACK_TIMEOUT * 1000,
      );
      removeListener = response.onClose(() => reject(CLIENT_DISCONNECTED));
      // `resolve(result)` would lock the promise to `result`: the timer and the listener could no longer reject it.
      Promise.resolve(result).then(resolve, reject);
    });
  } finally {
    clearTimeout(timer as number);
    removeListener?.();
  }
}
