/** A bound on the time that the functions of the options may take: a request must not hang because one of them does. */

/**
 * Seconds. Longer than a look-up in a database or at an identity provider takes, and shorter than the 30 s and more
 * after which proxies and clients give up: the client gets the server's own answer, and the log names the function.
 */
export const ANSWER_WITHIN = 10;

/** The client has gone while a function of the options was at work. */
export const CLIENT_CLOSED: unique symbol = Symbol('client closed');

const UNANSWERED = 'ERR_UNANSWERED';

/** Whether it says that a function of the options has not answered in time. */
export function isUnanswered(error: unknown): boolean {
  return Object(error) === error && (error as { code?: unknown }).code === UNANSWERED;
}

/** Whether `value` settles later. */
export function isPending(value: unknown): value is PromiseLike<unknown> {
  return Object(value) === value && typeof (value as Partial<PromiseLike<unknown>>).then === 'function';
}

/**
 * What `answer` settles with, within {@link ANSWER_WITHIN} seconds and for as long as the client is there. Neither a
 * timer nor a listener is left behind, and a late rejection is ignored.
 *
 * @param what The name of the option.
 * @param whenOver Calls back when the client has gone. What it returns takes that back.
 * @returns A promise that rejects as `answer` does, with an error for which {@link isUnanswered} holds, or with {@link CLIENT_CLOSED}.
 */
export async function bounded<T>(
  what: string,
  answer: PromiseLike<T>,
  whenOver: (end: () => void) => () => void,
): Promise<T> {
  let timer: unknown;
  let forget: (() => void) | undefined;
  try {
    return await new Promise<T>((resolve, reject) => {
      timer = setTimeout(
        () =>
          reject(Object.assign(new Error(`${what} has not answered within ${ANSWER_WITHIN} s`), { code: UNANSWERED })),
        ANSWER_WITHIN * 1000,
      );
      forget = whenOver(() => reject(CLIENT_CLOSED));
      // `resolve(answer)` would make the promise deaf to the other two.
      Promise.resolve(answer).then(resolve, reject);
    });
  } finally {
    clearTimeout(timer as number);
    forget?.();
  }
}
