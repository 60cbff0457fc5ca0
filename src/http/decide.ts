/**
 * The decision that all adapters share: may the handler run for this request, and if not, what does the client receive?
 * An adapter describes the request and carries out the verdict. It reports when the response is closed and when the
 * handler has finished.
 *
 * A refusal means that the client must wait. Every other failure of a gate is an error for the framework's error
 * handler: a client must not be sent away to retry because a backend is down.
 */
import {
  isRangeError,
  isServerBusyError,
  isThrottleError,
  isTimeoutError,
  type ThrottleError,
} from '../core/errors.js';
import { withoutStack } from '../core/refusals.js';
import { type Cost, checkCostForm } from '../core/cost.js';
import type { AcquireOptions } from '../core/gate.js';
import type { Permit } from '../core/permit.js';
import { isPromiseLike } from '../core/promise-like.js';
import { writeRetryAfter } from '../web/ratelimit-headers.js';
import { CLIENT_DISCONNECTED, withTimeout } from './callback-timeout.js';
import type { FrameworkAdapter, Verdict } from './framework-adapter.js';
import { HeldPermit } from './held-permit.js';
import { createKeyResolver } from './key.js';
import { acquireForKey } from './max-keys.js';
import { answerRefusal, reportRefusal } from './on-limited.js';
import { checkOptions, type LimitOptions, type Refusal } from './options.js';
import {
  type GateNumbers,
  joinLimitFields,
  type LimitFields,
  NO_FIELDS,
  writeLimitFields,
} from './ratelimit-fields.js';
import { defaultReply, problemReply, RefusalError } from './refusal.js';
import { covers, highestCost } from './request-cost.js';
import { attachState, findState, type PassedLimit, RequestState } from './request-state.js';

/** A keyed gate that shows the gate of a key. */
interface PeekableGate {
  peek?(key: string): GateNumbers | undefined;
}

/** The handler runs, and this limit does not count the request. */
const ALLOW_UNCOUNTED: Verdict = { allowed: true, fields: NO_FIELDS };
/** The handler does not run, and no reply is sent. */
const DROP: Verdict = { allowed: false, fields: NO_FIELDS };

/**
 * Creates the decision function of one middleware.
 *
 * @param ownOptions The names of the options that the caller itself reads.
 * @throws {RangeError | TypeError} An option is out of range.
 */
export function createDecision<A extends unknown[]>(
  options: LimitOptions<A>,
  adapter: FrameworkAdapter<A>,
  ownOptions: readonly string[] = [],
): (...args: A) => Promise<Verdict> {
  const { gate, keyed, key, cost, wait, block, status, onLimited, headers, skip, failOpen, ipv6Prefix, hold, ttl } =
    checkOptions(adapter.name, options, ownOptions);
  const resolveKey = key === undefined ? undefined : createKeyResolver(key, adapter, ipv6Prefix);
  const holdUntilFinished = hold === 'handler';
  /** The identity of this middleware. */
  const decision = {};

  return async function decide(...args) {
    const requestObjects = adapter.requestObjects(...args);
    const state =
      findState(requestObjects) ??
      attachState(requestObjects, new RequestState((listener) => adapter.onClose(listener, ...args)));
    // A middleware that is mounted twice counts the request once.
    if (state.limits.some((limit) => limit.decision === decision)) return ALLOW_UNCOUNTED;

    try {
      if (skip !== undefined && (await inTime('skip', skip(...args), state))) return ALLOW_UNCOUNTED;

      const resolved = resolveKey === undefined ? undefined : await inTime('key', resolveKey(...args), state);
      if (resolved !== undefined && resolved.key === undefined) {
        if (!block) return ALLOW_UNCOUNTED;
        const reply = problemReply(400, 'Bad Request', `The request has no ${resolved.missing}.`);
        return { allowed: false, fields: NO_FIELDS, reply };
      }
      const requestKey = resolved?.key;

      let requestCost = typeof cost === 'function' ? await inTime('cost', cost(...args), state) : cost;
      checkCostForm('cost', requestCost);

      const turn = adapter.waitForTurn?.(...args);
      if (turn !== undefined) await turn;
      // The client may have disconnected during the steps above.
      if (adapter.isClosed(...args)) return drop(state);

      let untilFinished = holdUntilFinished;
      const sameLimit = state.limits.find(
        (limit) => limit.heldPermit !== undefined && limit.gate === (gate ?? keyed) && limit.key === requestKey,
      );
      if (sameLimit !== undefined) {
        if (covers(sameLimit.cost, requestCost) && (sameLimit.heldPermit!.untilFinished || !untilFinished))
          return ALLOW_UNCOUNTED;
        // Another middleware has the same gate and key: the limit counts once, at the higher cost, for the longer time.
        requestCost = highestCost(requestCost, sameLimit.cost);
        untilFinished ||= sameLimit.heldPermit!.untilFinished;
        state.limits.splice(state.limits.indexOf(sameLimit), 1);
        sameLimit.heldPermit!.refund();
      }

      const disconnected = wait > 0 ? new AbortController() : undefined;
      const removeListener = disconnected && state.onClose(() => disconnected.abort('the client has disconnected'));
      let permit: Permit;
      try {
        const acquireOptions: AcquireOptions = { timeout: wait, signal: disconnected?.signal, stack: false };
        permit = await (keyed === undefined
          ? gate!.acquire(requestCost, acquireOptions)
          : acquireForKey(keyed, requestKey!, requestCost, acquireOptions));
      } catch (error) {
        // The request has left the queue. Without the listener, no late abort of the signal costs time.
        removeListener?.();
        if (adapter.isClosed(...args)) return drop(state);
        if (isThrottleError(error)) return await refuse(error, requestKey, state, args);
        if (failOpen && !isRangeError(error))
          return allow(state, args, requestKey, requestCost, undefined, () => undefined);
        throw error;
      }

      const heldPermit = new HeldPermit(permit, untilFinished, ttl, (error) => logError(error, args));
      if (adapter.isClosed(...args)) {
        removeListener?.();
        heldPermit.refund();
        return drop(state);
      }
      const verdict = allow(state, args, requestKey, requestCost, heldPermit);
      removeListener?.();
      return verdict;
    } catch (error) {
      if (error === CLIENT_DISCONNECTED) return drop(state);
      // Koa ignores an error of `undefined`, and Express gives some strings a meaning of their own.
      throw Object(error) === error ? error : new Error(`${String(error)} was thrown`);
    }
  };

  /** Bounds the time of a function of the options, if its result is asynchronous. */
  function inTime<T>(option: string, result: T | PromiseLike<T>, state: RequestState): T | Promise<T> {
    return isPromiseLike(result) ? withTimeout(option, result, state) : result;
  }

  /** The client has disconnected. */
  function drop(state: RequestState): Verdict {
    // An adapter that does not report finished handlers cannot report either that a handler will never run.
    if (adapter.onHandlerFinish !== undefined) state.releasePermits();
    return DROP;
  }

  /** Admits the request, with a permit or without one. */
  function allow(
    state: RequestState,
    args: A,
    requestKey: string | undefined,
    requestCost: Cost,
    heldPermit: HeldPermit | undefined,
    fieldsReader?: PassedLimit['readFields'],
  ): Verdict {
    const defaultName = defaultNameAfter(state.limits);
    const readFields = fieldsReader ?? ((): LimitFields | undefined => limitFields(requestKey, defaultName));
    state.limits.push({
      decision,
      gate: (gate ?? keyed)!,
      key: requestKey,
      cost: requestCost,
      heldPermit,
      fields: readFields(),
      readFields,
    });
    state.outermost ??= decision;
    const fields = joinLimitFields(state.limits);
    const handlerFinished = (): void => {
      if (state.outermost === decision) state.finished = true;
      heldPermit?.handlerFinished();
    };
    if (heldPermit === undefined) return { allowed: true, fields, handlerFinished };
    heldPermit.onRelease = state.onClose(() => {
      if (heldPermit.responseClosed(adapter.isSent(...args)))
        adapter.onHandlerFinish?.(() => heldPermit.handlerFinished(), ...args);
    });
    return { allowed: true, fields, responseClosed: () => void heldPermit.responseClosed(true), handlerFinished };
  }

  /** The gate has refused the request. */
  function refuse(
    error: ThrottleError,
    requestKey: string | undefined,
    state: RequestState,
    args: A,
  ): Verdict | Promise<Verdict> {
    const retryAfter = writeRetryAfter(error.retryAfter ?? 1);
    const earlier = state.limits;
    const ownFields = limitFields(requestKey, defaultNameAfter(earlier), Number(retryAfter));
    const isBusy = isServerBusyError(error) || !isTimeoutError(error);
    const refusal: Refusal = {
      status: isBusy ? 503 : status,
      retryAfter: Number(retryAfter),
      ...(requestKey !== undefined && { key: requestKey }),
      ...(!block && { dryRun: true }),
      error,
    };
    if (!block) {
      const verdict = allow(state, args, requestKey, 0, undefined, () => ownFields);
      reportRefusal(onLimited, refusal, args, (failure) => logError(failure, args));
      return verdict;
    }
    state.refundPermits();
    const fields = { 'Retry-After': retryAfter, ...joinLimitFields(earlier, ownFields) };
    adapter.setHeaders(fields, ...args);
    if (onLimited === 'throw') throw withoutStack(() => new RefusalError(refusal, fields));
    const hasResponded = adapter.prepareRefusal(refusal.status, ...args);
    if (onLimited === undefined) return { allowed: false, fields, reply: defaultReply(refusal) };
    return answerRefusal(onLimited, refusal, args, state, hasResponded, (failure) => logError(failure, args)).then(
      (reply) => ({ allowed: false, fields, ...(reply && { reply }) }),
    );
  }

  /** This limit's part of the `RateLimit` fields. */
  function limitFields(
    requestKey: string | undefined,
    defaultName: string,
    retryAfter?: number,
  ): LimitFields | undefined {
    if (!headers) return undefined;
    try {
      const numbers = keyed === undefined ? (gate as GateNumbers) : (keyed as PeekableGate).peek?.(requestKey!);
      return writeLimitFields(numbers ?? {}, defaultName, retryAfter);
    } catch {
      // A gate from another package can use these names for other members. The response is sent without the fields.
      return undefined;
    }
  }

  function logError(error: unknown, args: A): void {
    try {
      adapter.logError(error, ...args);
    } catch {
      // The log itself has failed.
    }
  }
}

/** The name of a limit whose gate has no name. The limits in a `RateLimit` field need different names. */
function defaultNameAfter(earlier: readonly unknown[]): string {
  return earlier.length === 0 ? 'default' : `default-${earlier.length + 1}`;
}
