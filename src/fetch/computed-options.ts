/** The options that are functions of a request: `cost` and `skip`. A result that is no promise is used at once. */
import { type Cost, checkCostForm } from '../core/cost.js';
import { isPromiseLike } from '../core/promise-like.js';
import { invalid } from '../core/validation.js';
import { discardCopy } from '../web/response-body.js';
import type { Settings } from './options.js';
import { copyInput, type FetchInput, type SentRequest } from './request-copy.js';
import { rejectOnAbort } from './until-aborted.js';

/**
 * The cost of a request. A `Request` with a body is cloned for the function, so that it may read the body. The rest of
 * the clone is cancelled afterwards, because the clone would keep the body in memory.
 *
 * @returns The cost, or a promise that rejects with the reason of the signal as soon as the signal aborts.
 */
export function computeCost(
  cost: Settings['cost'],
  input: FetchInput,
  init: RequestInit | undefined,
  signal: unknown,
): Cost | Promise<Cost> {
  if (typeof cost !== 'function') return cost;
  const copy = copyInput(input);
  const end = (): void => {
    if (copy !== input) void discardCopy(copy as Request);
  };
  try {
    const result = readCost(cost(copy, init), signal);
    if (isPromiseLike(result)) return result.finally(end);
    end();
    return result;
  } catch (error) {
    end();
    throw error;
  }
}

/** Checks the result of a `cost` function. The promise rejects with the reason of the signal as soon as it aborts. */
export function readCost(result: unknown, signal: unknown): Cost | Promise<Cost> {
  return isPromiseLike(result) ? rejectOnAbort(signal, result).then(checkedCost) : checkedCost(result);
}

function checkedCost(cost: unknown): Cost {
  checkCostForm('cost', cost);
  return cost;
}

/** Whether a request needs no permit. The promise rejects as the promise of {@link computeCost} does. */
export function isSkipped(skip: Settings['skip'], request: SentRequest, signal: unknown): boolean | Promise<boolean> {
  const result: unknown = skip?.(request) ?? false;
  return isPromiseLike(result) ? rejectOnAbort(signal, result).then(checkedSkip) : checkedSkip(result);
}

/** The result of a `skip` function. @throws {TypeError} The result is not a boolean. */
export function checkedSkip(result: unknown): boolean {
  if (typeof result !== 'boolean') throw invalid('skip', 'a function that returns a boolean', result);
  return result;
}
