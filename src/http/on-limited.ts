/** Calls the `onLimited` function of the options. */
import { isPromiseLike } from '../core/promise-like.js';
import { CLIENT_DISCONNECTED, isCallbackTimeout, withTimeout } from './callback-timeout.js';
import type { Answer, Refusal } from './options.js';
import { defaultReply, type Reply, replyOf } from './refusal.js';
import type { RequestState } from './request-state.js';

/**
 * Returns the reply for a refused request: the result of `onLimited`, or the default reply if `onLimited` returns
 * nothing or fails.
 *
 * @param hasResponded Reports whether `onLimited` has responded by the framework's own means.
 * @returns A promise of `undefined` if `onLimited` has responded itself. It rejects with {@link CLIENT_DISCONNECTED}
 *   if the client disconnects before `onLimited` settles.
 */
export async function answerRefusal<A extends unknown[]>(
  onLimited: (refusal: Refusal, ...args: A) => Answer | PromiseLike<Answer>,
  refusal: Refusal,
  args: A,
  state: RequestState,
  hasResponded: () => boolean,
  logError: (error: unknown) => void,
): Promise<Reply | undefined> {
  let reply: Reply | undefined;
  try {
    const answer = onLimited(refusal, ...args);
    const pending = replyFrom(answer, refusal.status, args);
    reply = await (isAsynchronous(answer) ? withTimeout('onLimited', pending, state) : pending);
  } catch (failure) {
    if (failure === CLIENT_DISCONNECTED) throw failure;
    // The reply of Fastify settles when all of it was sent: for a slow client, this can take longer than the time
    // limit.
    if (!(isCallbackTimeout(failure) && hasResponded())) logError(failure);
  }
  return hasResponded() ? undefined : (reply ?? defaultReply(refusal));
}

/**
 * Reports a refusal that has no effect, because `block` is `false`. The request does not wait for `onLimited`, and the
 * result of `onLimited` is ignored. An error goes to the framework's log.
 */
export function reportRefusal<A extends unknown[]>(
  onLimited: 'throw' | ((refusal: Refusal, ...args: A) => Answer | PromiseLike<Answer>) | undefined,
  refusal: Refusal,
  args: A,
  logError: (error: unknown) => void,
): void {
  if (typeof onLimited !== 'function') return;
  try {
    const result: unknown = onLimited(refusal, ...args);
    // The reply of Fastify is thenable, and its `then` has effects.
    if (!args.includes(result) && isPromiseLike(result)) Promise.resolve(result).then(undefined, logError);
  } catch (error) {
    logError(error);
  }
}

async function replyFrom(
  answer: Answer | PromiseLike<Answer>,
  status: number,
  args: unknown[],
): Promise<Reply | undefined> {
  const value = await answer;
  // `return res.status(429).end()` returns the framework's response, which is no body.
  return args.includes(value) ? undefined : replyOf(value, status);
}

/** Whether an answer, or its body, arrives later. */
function isAsynchronous(answer: unknown): boolean {
  return (
    isPromiseLike(answer) ||
    (Object(answer) === answer && typeof (answer as Partial<Response>).arrayBuffer === 'function')
  );
}
