/** The state that all adapters share for one request: the limits that it has passed, and the end of its response. */
import type { Cost } from '../core/cost.js';
import type { Permit } from '../core/permit.js';
import type { HeldPermit } from './held-permit.js';
import type { LimitFields } from './ratelimit-fields.js';

/** A limit that a request has passed. */
export interface PassedLimit {
  /** The identity of the middleware that decided. */
  readonly decision: object;
  /** The gate or the keyed gate. */
  readonly gate: object;
  readonly key: string | undefined;
  readonly cost: Cost;
  /** Absent if the request runs without a permit. */
  readonly heldPermit: HeldPermit | undefined;
  /** The limit's part of the `RateLimit` fields. */
  fields: LimitFields | undefined;
  /** The same part, from the present numbers of the gate. */
  readonly readFields: () => LimitFields | undefined;
}

export class RequestState {
  limits: PassedLimit[] = [];
  /** The identity of the first middleware that has counted the request: each later one runs inside or after it. */
  outermost: object | undefined;
  /** Whether the handler has finished. A `Request` that a handler receives again afterwards is a new request. */
  finished = false;
  readonly #subscribe: (listener: () => void) => (() => void) | undefined;
  #closeListeners: (() => void)[] = [];
  #subscribed = false;
  #unsubscribe: (() => void) | undefined;

  /**
   * @param subscribe Registers a listener for the close of the response. Returns a function that removes the listener,
   *   if the framework supports it.
   */
  constructor(subscribe: (listener: () => void) => (() => void) | undefined) {
    this.#subscribe = subscribe;
  }

  /**
   * Calls `listener` when the response was sent or the client has disconnected. All listeners share one listener of the
   * framework.
   *
   * @returns A function that removes `listener`.
   */
  onClose(listener: () => void): () => void {
    this.#closeListeners.push(listener);
    if (!this.#subscribed) {
      this.#subscribed = true;
      this.#unsubscribe = this.#subscribe(() => this.#closeListeners.forEach((each) => each()));
    }
    return () => {
      // A new array: the listeners of a closed response are called one after another, and may remove each other.
      this.#closeListeners = this.#closeListeners.filter((each) => each !== listener);
      if (this.#closeListeners.length > 0 || this.#unsubscribe === undefined) return;
      this.#unsubscribe();
      this.#unsubscribe = undefined;
      this.#subscribed = false;
    };
  }

  /** Records that the handler has finished. */
  handlerFinished(): void {
    this.finished = true;
    for (const { heldPermit } of this.limits) heldPermit?.handlerFinished();
  }

  /** Releases all permits, because the handler will never run. */
  releasePermits(): void {
    for (const { heldPermit } of this.limits) heldPermit?.release();
  }

  /** Refunds all permits, because a later limit has refused the request. The earlier limits no longer count it. */
  refundPermits(): void {
    const { limits } = this;
    for (const { heldPermit } of limits) heldPermit?.refund();
    for (const limit of limits) limit.fields = limit.readFields();
    this.limits = [];
  }
}

/**
 * The property of a request object that holds the state. It is a hidden property: a WeakMap with an entry for each
 * request costs several times the rest of a grant in garbage collection. The symbol is registered, so two copies of the
 * package share the state of a request.
 */
const STATE: unique symbol = Symbol.for('headgate.request') as never;

/** The states of request objects that are frozen. */
const frozenStates = new WeakMap<object, RequestState>();

function lookUp(requestObject: object | null | undefined): RequestState | undefined {
  return Object(requestObject) === requestObject
    ? ((requestObject as { [STATE]?: RequestState })[STATE] ?? frozenStates.get(requestObject as object))
    : undefined;
}

/**
 * Returns the state of a request that an adapter has seen before.
 *
 * @param requestObjects The objects that represent the request: Node's, the platform's, the framework's.
 */
export function findState(requestObjects: readonly object[]): RequestState | undefined {
  for (const requestObject of requestObjects) {
    const state = lookUp(requestObject);
    // A framework inside another one has request objects of its own: they get the same state.
    if (state !== undefined && !state.finished) return attachState(requestObjects, state);
  }
  return undefined;
}

/** Stores `state` in all objects that represent its request. */
export function attachState(requestObjects: readonly object[], state: RequestState): RequestState {
  for (const requestObject of requestObjects) {
    if (!Reflect.defineProperty(requestObject, STATE, { value: state, configurable: true, writable: true }))
      frozenStates.set(requestObject, state);
  }
  return state;
}

/**
 * Returns the permit of a request that a limit has admitted. The permit settles a cost that is known later, also after
 * the response was sent. It refunds a success, so that only failures count. A lease also has a `slot` and a `signal`.
 *
 * @param request The object that the framework passes to a handler: Express's `req`, Koa's `ctx`, Fastify's `request`,
 *   Hono's `c`, or a `Request`. Node's `IncomingMessage` works with every framework on Node.
 * @param gate The `gate` or the `keyed` of the options. It selects a permit of a request that has passed several
 *   limits. Default: the last limit that the request has passed.
 * @returns `undefined` if the request holds no permit: the limit skipped or refused it, or it runs without a permit
 *   by `failOpen` or `block: false`.
 *
 * @example
 * import createApp from 'express';
 * import { KeyedThrottle } from 'headgate';
 * import { express, permitOf } from 'headgate/http';
 *
 * const app = createApp();
 * // Five failed attempts in 15 minutes for each address. A success costs nothing.
 * app.post('/login', express({ keyed: new KeyedThrottle(5, 0, 900), key: 'ip' }), (req, res) => {
 *   const ok = req.get('x-password') === 'correct horse battery staple';
 *   if (ok) permitOf(req)?.refund();
 *   res.sendStatus(ok ? 204 : 401);
 * });
 */
export function permitOf<P extends Permit = Permit>(
  request: object,
  gate?: { acquire(...args: never[]): Promise<P> },
): P | undefined {
  return lookUp(request)?.limits.findLast(
    (limit) => limit.heldPermit !== undefined && (gate === undefined || limit.gate === gate),
  )?.heldPermit?.permit as P | undefined;
}
