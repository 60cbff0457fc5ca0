/** An interceptor for the dispatchers of undici 7, and so for Node's own `fetch`. */
import type { Cost } from '../core/cost.js';
import type { Clock } from '../core/clock.js';
import type { Gate, KeyedGate } from '../core/gate.js';
import { checkOptionNames } from '../core/option-names.js';
import { isPromiseLike } from '../core/promise-like.js';
import { checkFunction, checkObject } from '../core/validation.js';
import { checkedSkip, readCost } from './computed-options.js';
import { createEngine, sendWithRetries } from './engine.js';
import { createKeyResolver } from './key.js';
import type { RateName } from './names.js';
import { type Refusal, resolveOptions, type ResponseLike } from './options.js';
import { canReplay } from './request-copy.js';
import { UndiciAttempt } from './undici-attempt.js';
import { type DispatchHandler, RequestController } from './undici-controller.js';

const NAMES: readonly (keyof UndiciThrottleOptions)[] = [
  'key',
  'cost',
  'refusal',
  'statuses',
  'wait',
  'retries',
  'maxPause',
  'refundRefused',
  'learn',
  'skip',
  'hold',
  'clock',
];

/** A request of undici: the first argument of `dispatch`. */
export interface UndiciRequest {
  /** The origin. A `Client` knows its own origin, and its requests may omit it. */
  readonly origin?: string | URL | undefined;
  /** The path and the query. */
  readonly path: string;
  /** The method. */
  readonly method: string;
  /** The header fields, in one of the forms that undici accepts. */
  readonly headers?: unknown;
  /** The body, in one of the forms that undici accepts. */
  readonly body?: unknown;
}

/** The options of `undiciThrottle`, for keys of type `K` and rates with the names `Name`. */
export interface UndiciThrottleOptions<K = string, Name extends string = string> {
  /**
   * For a keyed gate: the key, or a synchronous function of the request. Default: the origin, or `''` for a request of a
   * `Client` that does not state its origin.
   */
  key?: K | ((request: UndiciRequest) => K) | undefined;
  /** Tokens for each attempt: a cost, or a function of the request, which may be asynchronous. Default 1. */
  cost?: Cost<Name> | ((request: UndiciRequest) => Cost<Name> | PromiseLike<Cost<Name>>) | undefined;
  /**
   * Decides whether a response is a refusal if its status does not decide: `true`, `false`, the wait in seconds, or
   * `undefined` if `statuses` decides. The function may be asynchronous. The response has no body yet. An error of the
   * function fails the request.
   */
  refusal?: ((response: ResponseLike, request: UndiciRequest) => Refusal | PromiseLike<Refusal>) | undefined;
  /** The statuses of refusals: integers from 100 to 999. Default 429, 503 and 529. */
  statuses?: readonly number[] | undefined;
  /** The longest wait in the queue in seconds, for each attempt: >= 0. Default `Infinity`. */
  wait?: number | undefined;
  /**
   * The maximum number of times that a refused request is sent again: an integer >= 0, or `Infinity`. Default 2. A
   * request whose body is a stream is not sent again.
   */
  retries?: number | undefined;
  /** The longest pause in seconds, > 0. Default: 300 for each key of a keyed gate, and 60 for a gate without keys. */
  maxPause?: number | undefined;
  /** Whether a refused attempt is refunded. Default `true`. */
  refundRefused?: boolean | undefined;
  /**
   * Lowers the levels of the gate to the tokens that the upstream reports in each response, refusals included, as the
   * option of `throttledFetch` does: `true`, or a function that returns what remains of each rate. The response has no
   * body yet. Default: the gate does not learn.
   */
  learn?: true | ((response: ResponseLike) => Cost<Name> | undefined) | undefined;
  /**
   * Returns `true` for a request that needs no permit. It is dispatched unchanged. The function is synchronous. Its error
   * fails the request.
   */
  skip?: ((request: UndiciRequest) => boolean) | undefined;
  /**
   * The event that releases the slot: the headers of the response arrive (default), or its body has been received. An
   * upgraded connection counts as a body.
   */
  hold?: 'headers' | 'body' | undefined;
  /** The clock for the waits of a single request. Default: the monotonic clock of the platform. */
  clock?: Clock | undefined;
}

/** An interceptor for `dispatcher.compose`. */
export type UndiciInterceptor = <D extends (options: never, handler: never) => boolean>(dispatch: D) => D;

type Dispatch = (options: UndiciRequest, handler: DispatchHandler) => boolean;

/**
 * Creates an interceptor for `dispatcher.compose` of undici 7. Each request waits for a permit of `gate` before it is
 * dispatched. A refusal pauses the gate, and the request is sent again, as with `throttledFetch`. `setGlobalDispatcher`
 * of undici applies the interceptor to Node's own `fetch`, too.
 *
 * An abort takes a request out of the queue. Every error reaches the handler of the request, so `request`, `fetch` and
 * `stream` reject with it: the reason of the abort, a `ThrottleError` of the gate, an error of a function of the
 * options. A request whose permit is lost is aborted.
 *
 * `dispatch` returns `true`: the queue of the gate accepts every request. To refuse requests instead, use `maxQueue` of
 * the gate, or `wait`. The timeouts of undici begin after the grant.
 *
 * The interceptors in front of this one, which are composed later, run once for each request, and those behind it run
 * for each attempt. So compose undici's own `retry` after this one: each of its attempts then takes a permit.
 *
 * @throws {RangeError | TypeError} An option is out of range, or a key was given for a gate without keys.
 *
 * @example
 * import { KeyedThrottle } from 'headgate';
 * import { undiciThrottle } from 'headgate/fetch';
 * import { Agent, setGlobalDispatcher } from 'undici';
 *
 * const agent = new Agent().compose(undiciThrottle(new KeyedThrottle(10, 2))); // each origin: 10 per second, 2 at a time
 * setGlobalDispatcher(agent); // for `fetch` and undici's `request`
 */
export function undiciThrottle<G extends Gate | KeyedGate>(
  gate: G,
  options?: UndiciThrottleOptions<string, RateName<G>>,
): UndiciInterceptor;
/** The same for keys of any type. They need a `key` option, because an origin is a string. */
export function undiciThrottle<K, G extends KeyedGate<K>>(
  gate: G & KeyedGate<K>,
  options: UndiciThrottleOptions<K, RateName<G>> & { key: unknown },
): UndiciInterceptor;
export function undiciThrottle<K>(
  gate: Gate | KeyedGate<K>,
  options: UndiciThrottleOptions<K> = {},
): UndiciInterceptor {
  checkObject('options', options);
  checkOptionNames('undiciThrottle', options, NAMES);
  const { cost, refusal, statuses, wait, retries, maxPause, refundRefused, learn, skip, hold, clock } = options;
  for (const [name, value] of Object.entries({ refusal, skip })) if (value !== undefined) checkFunction(name, value);
  const common = {
    cost: cost as Cost | undefined,
    statuses,
    wait,
    retries,
    maxPause,
    refundRefused,
    learn,
    hold,
    clock,
  };
  const settings = resolveOptions(gate, common);
  const engine = createEngine(gate, settings);
  const keyOf = createKeyResolver(gate, options.key, originOf as (request: UndiciRequest) => K);

  async function send(dispatch: Dispatch, request: UndiciRequest, controller: RequestController): Promise<void> {
    const { signal } = controller;
    const key = keyOf(request);
    const computed = typeof cost === 'function' ? readCost(cost(request), signal) : (settings.cost as Cost);
    const tokens = isPromiseLike(computed) ? await computed : computed;
    const maxRetries = canReplay(request.body) ? settings.retries : 0;
    await sendWithRetries(engine, key, tokens, signal, (number) => (permit) => {
      const attempt = new UndiciAttempt(engine, { key, request, refusal, controller, number, maxRetries }, permit);
      return attempt.run((handler) => void dispatch(request, handler));
    });
  }

  const interceptor = (dispatch: Dispatch): Dispatch =>
    function headgate(request, handler) {
      const controller = new RequestController(handler);
      let isSkipped;
      try {
        isSkipped = checkedSkip(skip?.(request) ?? false);
      } catch (error) {
        controller.fail(error);
        return true;
      }
      if (isSkipped) return dispatch(request, handler);
      // Before the wait, so that the caller can abort it.
      controller.forward('onRequestStart', {});
      send(dispatch, request, controller).catch((error: unknown) => controller.fail(error));
      return true;
    };
  return interceptor as unknown as UndiciInterceptor;
}

/** The origin of a request; `''` for a request of a `Client` that does not state its origin. */
function originOf({ origin }: UndiciRequest): string {
  return origin === undefined ? '' : new URL(origin).origin;
}
