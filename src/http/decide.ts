/**
 * The decision that all adapters share: may this request run, and if not, what does its client receive? An adapter
 * shows the request, carries out the verdict, and knows when the response is over and when the handler has finished.
 *
 * A refusal says that the client, or every client, has to wait. Any other failure is an error, and belongs to the
 * framework's error handler: no client is told to come back later because a backend is down.
 */
import {
  isRangeError,
  isServerBusyError,
  isThrottleError,
  isTimeoutError,
  type ThrottleError,
} from '../core/errors.js';
import { checkCost } from '../core/validation.js';
import type { AcquireOptions } from '../core/gate.js';
import { writeRetryAfter } from '../web/ratelimit-headers.js';
import type { Permit } from '../core/permit.js';
import { bounded, CLIENT_CLOSED, isPending, isUnanswered } from './callback-timeout.js';
import { Hold } from './held-permit.js';
import { acquireKey } from './max-keys.js';
import { createKeyResolver, type View } from './key.js';
import { type Answer, checkOptions, type LimitOptions, type Refusal } from './options.js';
import {
  defaultReply,
  type Fields,
  fieldsOf,
  NONE,
  type Numbers,
  problem,
  RefusalError,
  type Reply,
  replyOf,
  show,
  type Shown,
} from './refusal.js';
import { findRequest, type PassedLimit, remember, ServedRequest } from './request-state.js';

export { checkKeyed, checkTtl, type CommonOptions, type GatePerKey, type LimitOptions } from './options.js';
export type { Fields, Reply } from './refusal.js';

/** What becomes of a request. */
export type Verdict =
  /**
   * It runs. `finished` is to be called when its handler has finished, if the adapter knows that; `over` when its
   * response was sent, if only the adapter knows that. Both may be called more than once.
   */
  | { readonly runs: true; readonly fields: Fields; readonly over?: () => void; readonly finished?: () => void }
  /** It does not. No reply: the client has gone, or `onLimited` has responded by itself. */
  | { readonly runs: false; readonly fields: Fields; readonly reply?: Reply };

/** What the decision needs of a framework. */
export interface FrameworkAdapter<A extends unknown[]> extends View<A> {
  /** The objects that stand for the request: {@link findRequest}. */
  carriers(...args: A): readonly object[];
  /** Waits until it is the response's turn on the connection. */
  turn?(...args: A): Promise<void> | undefined;
  /** Whether the response was sent, or the client has gone. */
  over(...args: A): boolean;
  /** Of a response that is over: whether all of it was sent. */
  sent(...args: A): boolean;
  /** Calls `end` when it is over: at least once, if it is not so yet. Where it can be taken back, what it returns does so. */
  whenOver(end: () => void, ...args: A): (() => void) | undefined;
  /** Calls `end` when the handler has finished, for a response that is over. Absent where the adapter calls `finished`. */
  whenFinished?(end: () => void, ...args: A): void;
  /** Sets header fields of the response. */
  announce(fields: Fields, ...args: A): void;
  /** Prepares the response for a refusal. The function that it returns says whether somebody has responded since. */
  refusing(status: number, ...args: A): () => boolean;
  /** Writes to the framework's log. */
  report(error: unknown, ...args: A): void;
}

/** A keyed gate that shows the gate of a key. */
interface Peekable {
  peek?(key: string): Numbers | undefined;
}

const GONE: Verdict = { runs: false, fields: NONE };
const UNLIMITED: Verdict = { runs: true, fields: NONE };

/** The decision for the requests of one middleware. @throws {RangeError | TypeError} An option is out of range. */
export function createDecision<A extends unknown[]>(
  options: LimitOptions<A>,
  port: FrameworkAdapter<A>,
): (...args: A) => Promise<Verdict> {
  const { gate, keyed, key, cost, wait, block, status, onLimited, headers, skip, failOpen, ipv6Prefix, hold, ttl } =
    checkOptions(options);
  const find = key === undefined ? undefined : createKeyResolver(key, port, ipv6Prefix);
  const untilFinished = hold === 'handler';
  /** Stands for this middleware. */
  const decision = {};

  return async function decide(...args) {
    const carriers = port.carriers(...args);
    let request = findRequest(carriers);
    // Mounted twice, the same middleware counts once.
    if (request?.limits.some((limit) => limit.decision === decision) === true) return UNLIMITED;
    const served = (): ServedRequest =>
      (request ??= remember(carriers, new ServedRequest((end) => port.whenOver(end, ...args))));
    /** What a function of the options answers. */
    const answerOf = <T>(what: string, answer: T | PromiseLike<T>): T | Promise<T> =>
      isPending(answer) ? bounded(what, answer, (end) => served().whenOver(end)) : answer;
    const gone = (): Verdict => {
      // Where no adapter waits for the handlers, nothing else says that they will not run.
      if (port.whenFinished !== undefined) request?.abandon();
      return GONE;
    };
    try {
      if (skip !== undefined && (await answerOf('skip', skip(...args)))) return UNLIMITED;
      const found = find === undefined ? undefined : await answerOf('key', find(...args));
      if (found !== undefined && found.key === undefined) {
        if (!block) return UNLIMITED;
        return {
          runs: false,
          fields: NONE,
          reply: problem(400, 'Bad Request', `The request has no ${found.missing}.`),
        };
      }
      const requestKey = found?.key;
      let units = typeof cost === 'function' ? await answerOf('cost', cost(...args)) : cost;
      checkCost(units);
      const turn = port.turn?.(...args);
      if (turn !== undefined) await turn;
      // The functions of the options may have taken their time.
      if (port.over(...args)) return gone();

      let isFinal = untilFinished;
      const same = request?.limits.find(
        (limit) => limit.hold !== undefined && limit.gate === (gate ?? keyed) && limit.key === requestKey,
      );
      if (same !== undefined) {
        if (units <= same.cost && (same.untilFinished || !untilFinished)) return UNLIMITED;
        // The same limit counts once: at the higher cost, and for the longer time.
        units = Math.max(units, same.cost);
        isFinal ||= same.untilFinished;
        request!.limits.splice(request!.limits.indexOf(same), 1);
        same.hold!.refund();
      }

      const left = wait > 0 ? new AbortController() : undefined;
      const stay = left && served().whenOver(() => left.abort('the client has gone'));
      let permit: Permit;
      try {
        const how: AcquireOptions = { timeout: wait, signal: left?.signal, stack: false };
        permit = await (keyed === undefined ? gate!.acquire(units, how) : acquireKey(keyed, requestKey!, units, how));
      } catch (error) {
        // The queue has let the request go. To abort the signal now would cost more than all the rest.
        stay?.();
        if (port.over(...args)) return gone();
        if (isThrottleError(error)) return refuse(error, requestKey, request, served, args);
        if (failOpen && !isRangeError(error))
          return pass(served(), requestKey, units, undefined, args, () => undefined);
        throw error;
      }
      const held = new Hold(permit, isFinal, ttl, (error) => report(error, args));
      if (port.over(...args)) {
        stay?.();
        // The work never happened.
        held.refund();
        return gone();
      }
      const verdict = pass(served(), requestKey, units, held, args);
      stay?.();
      return verdict;
    } catch (error) {
      if (error === CLIENT_CLOSED) return gone();
      // Koa takes an error that is nothing for no error, Express some strings for something else.
      throw Object(error) === error ? error : new Error(`${String(error)} was thrown`);
    }
  };

  /** The request has passed, with a permit or without. */
  function pass(
    request: ServedRequest,
    requestKey: string | undefined,
    units: number,
    held: Hold | undefined,
    args: A,
    showNow?: PassedLimit['show'],
  ): Verdict {
    const unnamed = nameOf(request.limits);
    const shows = showNow ?? ((): Shown | undefined => shownOf(requestKey, unnamed));
    request.limits.push({
      decision,
      gate: (gate ?? keyed)!,
      key: requestKey,
      cost: units,
      untilFinished,
      hold: held,
      shown: shows(),
      show: shows,
    });
    request.outermost ??= decision;
    const fields = fieldsOf(request.limits);
    const finished = (): void => {
      if (request.outermost === decision) request.finished = true;
      held?.finish();
    };
    if (held === undefined) return { runs: true, fields, finished };
    held.onRelease = request.whenOver(() => {
      if (held.over(port.sent(...args))) port.whenFinished?.(() => held.finish(), ...args);
    });
    return { runs: true, fields, over: () => void held.over(true), finished };
  }

  /** What the response shows of this limit. */
  function shownOf(requestKey: string | undefined, unnamed: string, retryAfter?: number): Shown | undefined {
    if (!headers) return undefined;
    try {
      return show(
        (keyed === undefined ? (gate as Numbers) : (keyed as Peekable).peek?.(requestKey!)) ?? {},
        unnamed,
        retryAfter,
      );
    } catch {
      // A gate of another package, with something else under these names. The response matters more.
      return undefined;
    }
  }

  function refuse(
    error: ThrottleError,
    requestKey: string | undefined,
    request: ServedRequest | undefined,
    served: () => ServedRequest,
    args: A,
  ): Verdict | Promise<Verdict> {
    const wanted = writeRetryAfter(error.retryAfter ?? 1);
    const retryAfter = Number(wanted);
    const earlier = request?.limits ?? [];
    const own = shownOf(requestKey, nameOf(earlier), retryAfter);
    if (!block) return pass(served(), requestKey, 0, undefined, args, () => own);
    request?.refund();
    const fields = { 'Retry-After': wanted, ...fieldsOf(earlier, own) };
    const busy = isServerBusyError(error) || !isTimeoutError(error);
    const refusal: Refusal = {
      status: busy ? 503 : status,
      retryAfter,
      ...(requestKey !== undefined && { key: requestKey }),
      error,
    };
    port.announce(fields, ...args);
    if (onLimited === 'throw') throw new RefusalError(refusal, fields);
    const hasResponded = port.refusing(refusal.status, ...args);
    return onLimited === undefined
      ? { runs: false, fields, reply: defaultReply(refusal) }
      : ask(onLimited, refusal, fields, hasResponded, served, args);
  }

  /** The verdict of `onLimited`. */
  async function ask(
    answerer: Exclude<typeof onLimited, 'throw' | undefined>,
    refusal: Refusal,
    fields: Fields,
    hasResponded: () => boolean,
    served: () => ServedRequest,
    args: A,
  ): Promise<Verdict> {
    let reply: Reply | undefined;
    try {
      const answer = answerer(refusal, ...args);
      const pending = replyFrom(answer, refusal.status, args);
      reply = await (isSlow(answer) ? bounded('onLimited', pending, (end) => served().whenOver(end)) : pending);
    } catch (failure) {
      if (failure === CLIENT_CLOSED) return GONE;
      // The reply of Fastify settles when all of it was sent: a slow client may take longer than the answer did.
      if (!(isUnanswered(failure) && hasResponded())) report(failure, args);
    }
    return hasResponded() ? { runs: false, fields } : { runs: false, fields, reply: reply ?? defaultReply(refusal) };
  }

  /** The reply for what `onLimited` returned. */
  async function replyFrom(answer: Answer | PromiseLike<Answer>, refused: number, args: A): Promise<Reply | undefined> {
    const value = await answer;
    // `return res.status(429).end()` returns the response, which is no body.
    return args.includes(value) ? undefined : replyOf(value, refused);
  }

  function report(error: unknown, args: A): void {
    try {
      port.report(error, ...args);
    } catch {
      // The log itself has failed.
    }
  }
}

/** The name of a limit whose gate has none: `RateLimit` tells limits apart by their names. */
function nameOf(earlier: readonly unknown[]): string {
  return earlier.length === 0 ? 'default' : `default-${earlier.length + 1}`;
}

/** Whether an answer, or its body, is still to come. */
function isSlow(answer: unknown): boolean {
  return (
    isPending(answer) || (Object(answer) === answer && typeof (answer as Partial<Response>).arrayBuffer === 'function')
  );
}
