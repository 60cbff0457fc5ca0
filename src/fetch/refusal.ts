/** Whether a response is a refusal, and the wait that it states. */
import { checkNumber, invalid } from '../core/validation.js';
import { readWait } from '../web/retry-after.js';
import type { Refusal, ResponseLike, Settings } from './options.js';

/** The result of {@link readRefusal} for a response that is not a refusal. */
export const NOT_REFUSED = -1;

/**
 * Reads a refusal.
 *
 * @returns {@link NOT_REFUSED}; `undefined` for a refusal without a stated wait; else the wait in seconds. A wait of 0
 *   comes from the `refusal` option only: a field that states 0 counts as no stated wait.
 */
export async function readRefusal<Res extends ResponseLike, Req>(
  response: Res,
  request: Req,
  refusal: ((response: Res, request: Req) => Refusal | PromiseLike<Refusal>) | undefined,
  statuses: Settings['statuses'],
): Promise<number | undefined> {
  const result = checkRefusal(await refusal?.(response, request));
  if (typeof result === 'number') return result;
  if (!(result ?? statuses.has(response.status))) return NOT_REFUSED;
  return (response.headers && readWait(response.headers, Date.now())) || undefined;
}

/** Checks the result of a `refusal` function. */
export function checkRefusal(result: unknown): Refusal {
  const expected = 'a function that returns a boolean, a finite number >= 0 or undefined';
  if (typeof result === 'number') checkNumber('refusal', expected, result, 0, Number.MAX_VALUE);
  else if (result !== undefined && typeof result !== 'boolean') throw invalid('refusal', expected, result);
  return result;
}
