/** What is known of a request that is being served: the limits that it has passed, and the end of its response. */
import type { Permit } from '../core/permit.js';
import type { Hold } from './held-permit.js';
import type { Shown } from './refusal.js';

/** A limit that a request has passed. */
export interface PassedLimit {
  /** The middleware that decided. */
  readonly decision: object;
  /** The gate or the keyed gate. */
  readonly gate: object;
  readonly key: string | undefined;
  /** The cost asked for. */
  readonly cost: number;
  readonly untilFinished: boolean;
  /** Absent where the request runs without a permit. */
  readonly hold: Hold | undefined;
  /** What the response shows of the limit. */
  shown: Shown | undefined;
  /** The same, by the present numbers of the gate. */
  readonly show: () => Shown | undefined;
}

export class ServedRequest {
  limits: PassedLimit[] = [];
  /** The middleware that has seen it first: every other one runs within, or after. */
  outermost: object | undefined;
  /** Whether its handler has finished. The same `Request` handed to a handler once more is another request. */
  finished = false;
  readonly #subscribe: (end: () => void) => (() => void) | undefined;
  readonly #ends: (() => void)[] = [];
  #subscribed = false;
  #unsubscribe: (() => void) | undefined;

  /** @param subscribe Calls back when the response was sent or the client has gone. What it returns takes that back, where it can be. */
  constructor(subscribe: (end: () => void) => (() => void) | undefined) {
    this.#subscribe = subscribe;
  }

  /** Calls `end` when the response was sent or the client has gone, until it is taken back. One listener of the framework serves all. */
  whenOver(end: () => void): () => void {
    this.#ends.push(end);
    if (!this.#subscribed) {
      this.#subscribed = true;
      this.#unsubscribe = this.#subscribe(() => this.#ends.slice().forEach((each) => each()));
    }
    return () => {
      const index = this.#ends.indexOf(end);
      if (index >= 0) this.#ends.splice(index, 1);
      if (this.#ends.length > 0 || this.#unsubscribe === undefined) return;
      this.#unsubscribe();
      this.#unsubscribe = undefined;
      this.#subscribed = false;
    };
  }

  /** The handler has finished. */
  finish(): void {
    this.finished = true;
    for (const { hold } of this.limits) hold?.finish();
  }

  /** Releases all permits: the handler will never run. */
  abandon(): void {
    for (const { hold } of this.limits) hold?.release();
  }

  /** A later limit has refused the request: it costs nothing at the earlier ones, and is no longer counted by them. */
  refund(): void {
    const { limits } = this;
    for (const { hold } of limits) hold?.refund();
    for (const limit of limits) limit.shown = limit.show();
    this.limits = [];
  }
}

/**
 * Where the objects that stand for a request keep what is known of it: Node's, the platform's and the framework's. A
 * hidden property, since a WeakMap with an entry for each request costs several times the rest of a grant in garbage
 * collection. A registered symbol, so that two copies of the package see the same request.
 */
const SERVED: unique symbol = Symbol.for('headgate.request') as never;

/** The same for objects that are frozen. */
const frozen = new WeakMap<object, ServedRequest>();

function lookUp(carrier: object | null | undefined): ServedRequest | undefined {
  return Object(carrier) === carrier
    ? ((carrier as { [SERVED]?: ServedRequest })[SERVED] ?? frozen.get(carrier as object))
    : undefined;
}

/** The request that one of `carriers` stands for, if it has been seen before. */
export function findRequest(carriers: readonly object[]): ServedRequest | undefined {
  for (const carrier of carriers) {
    const request = lookUp(carrier);
    // A framework within another one has objects of its own.
    if (request !== undefined && !request.finished) return remember(carriers, request);
  }
  return undefined;
}

/** Lets `carriers` stand for `request`. */
export function remember(carriers: readonly object[], request: ServedRequest): ServedRequest {
  for (const carrier of carriers) {
    if (!Reflect.defineProperty(carrier, SERVED, { value: request, configurable: true, writable: true }))
      frozen.set(carrier, request);
  }
  return request;
}

/**
 * The permit of a request that a limit has let through: to settle its true cost, to refund a success (so that only
 * failures count), or to read the `slot` and the `signal` of a lease. It may be settled after the response was sent.
 *
 * @param request What the framework hands to a handler: Express's `req`, Koa's `ctx`, Fastify's `request`, Hono's `c`, a
 *   `Request`; or the `IncomingMessage` of Node behind it.
 * @param gate Which one, where the request has passed several limits: the `gate` or the `keyed` of the options. Default:
 *   the limit that it passed last.
 * @returns `undefined` where the request holds none: it was skipped or refused, or runs without one by `failOpen` or
 *   `block: false`.
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
    (limit) => limit.hold !== undefined && (gate === undefined || limit.gate === gate),
  )?.hold?.permit as P | undefined;
}
