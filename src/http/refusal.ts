/** What a refused client receives: the header fields, the body, and the error for those who answer refusals by errors. */
import { isServerBusyError, type ThrottleError } from '../core/errors.js';
import { checkInteger } from '../core/validation.js';
import { writeRateLimit } from '../web/ratelimit-headers.js';
import type { Answer, Refusal } from './options.js';

/** Header fields, by name. */
export type Fields = Readonly<Record<string, string>>;

/** No header fields. */
export const NONE: Fields = {};

/** A response, whoever sends it. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: string | ArrayBuffer;
}

/** The numbers that a gate may show. */
export type Numbers = Partial<Record<'capacity' | 'period' | 'burst' | 'tokens' | 'concurrency' | 'active', number>> & {
  name?: string | undefined;
  estimateWait?(cost: number): number;
};

/** One limit in words: its member of `RateLimit-Policy`, and its member of `RateLimit`. */
export interface Shown {
  readonly policy: string;
  readonly state: string;
}

/**
 * What a gate shows of its numbers. A gate of another package may show something else under these names.
 *
 * @param unnamed The name of a gate without one.
 * @param retryAfter Seconds, where the gate has refused.
 */
export function show(gate: Numbers, unnamed: string, retryAfter: number | undefined): Shown | undefined {
  // A backend that reads its numbers elsewhere answers too late for this response.
  if (typeof (gate as Partial<Promise<unknown>>).then === 'function')
    void (gate as Promise<unknown>).then(undefined, () => {});
  const { capacity = 0, period = 0, burst = capacity, tokens, concurrency = 0, active, name = unnamed } = gate;
  const rated = capacity > 0 && capacity < Infinity && period > 0 && tokens !== undefined;
  if (!rated && !(concurrency > 0 && concurrency < Infinity && active !== undefined)) return undefined;
  const refused = retryAfter !== undefined;
  // All tokens are there again when the largest cost would fit.
  const full = rated && !refused ? (gate.estimateWait?.(burst) ?? ((burst - tokens) * period) / capacity) : undefined;
  return writeRateLimit({
    name,
    limit: rated ? capacity : concurrency,
    window: rated ? period : undefined,
    // The tokens that are left are too few for a refused request.
    remaining: refused ? 0 : rated ? tokens : concurrency - active!,
    reset: retryAfter ?? (full === Infinity ? undefined : full),
  });
}

/** The fields for all limits of a request, each of which is a list; `last` is one more. */
export function fieldsOf(limits: readonly { readonly shown: Shown | undefined }[], last?: Shown): Fields {
  let all = last;
  for (let index = limits.length - 1; index >= 0; index--) {
    const { shown } = limits[index]!;
    if (shown !== undefined)
      all =
        all === undefined ? shown : { policy: `${shown.policy}, ${all.policy}`, state: `${shown.state}, ${all.state}` };
  }
  return all === undefined ? NONE : { 'RateLimit-Policy': all.policy, RateLimit: all.state };
}

/** In words, for the client. It never holds a key. */
function titleOf(status: number): string {
  return status === 503 ? 'Service Unavailable' : 'Too Many Requests';
}

function detailOf({ status, retryAfter, error }: Refusal): string {
  return isServerBusyError(error) ? error.message : `${titleOf(status)}: retry in ${retryAfter} s.`;
}

/** The reply where `onLimited` has none. */
export function defaultReply(refusal: Refusal): Reply {
  const { status, error } = refusal;
  return isServerBusyError(error)
    ? json(status, 'application/json', { detail: detailOf(refusal) })
    : problem(status, titleOf(status), detailOf(refusal));
}

/** RFC 9457, section 3. */
export function problem(status: number, title: string, detail: string): Reply {
  return json(status, 'application/problem+json', { type: 'about:blank', title, status, detail });
}

function json(status: number, type: string, value: object): Reply {
  return { status, headers: { 'Content-Type': type }, body: JSON.stringify(value) };
}

/** The reply for what `onLimited` returned. */
export async function replyOf(answer: Answer, status: number): Promise<Reply | undefined> {
  if (answer === undefined || answer === null) return undefined;
  if (typeof answer === 'string')
    return { status, headers: { 'Content-Type': 'text/plain; charset=utf-8' }, body: answer };
  // Not by instanceof: there are runtimes with more than one class of that name.
  const response = answer as Partial<Response>;
  if (typeof response.arrayBuffer !== 'function' || response.headers === undefined)
    return json(status, 'application/json', answer);
  // That of Response.error() is 0, which nobody can send.
  checkInteger('status', 'an integer from 200 to 599', response.status, 200, 599);
  const cookies = response.headers.getSetCookie();
  const headers = { ...Object.fromEntries(response.headers), ...(cookies.length > 0 && { 'set-cookie': cookies }) };
  const body = await response.arrayBuffer();
  return { status: response.status!, headers, body: body.byteLength === 0 ? '' : body };
}

/** A reply as a `Response`. */
export function responseOf({ status, headers, body }: Reply, fields: Fields, isHead: boolean): Response {
  const all = new Headers(fields);
  for (const [name, values] of Object.entries(headers)) {
    all.delete(name);
    for (const value of [values].flat()) all.append(name, value);
  }
  return new Response(isHead ? null : body || null, { status, headers: all });
}

/**
 * A refusal as an error, where `onLimited` is `'throw'`: for the framework's error handler. It has the properties that
 * the errors of `http-errors` have, which the default error handlers of Express, Koa and Fastify read, and the
 * `getResponse` of Hono's `HTTPException`. Its message may be shown to the client. It has no stack trace: it is made
 * by the thousand under attack, and the trace would lead to this package.
 *
 * @example
 * import createApp, { type ErrorRequestHandler } from 'express';
 * import { Throttle } from 'headgate';
 * import { express, RefusalError } from 'headgate/http';
 *
 * const app = createApp();
 * app.use(express({ gate: new Throttle(100, 20), onLimited: 'throw' }));
 * const onError: ErrorRequestHandler = (error, _req, res, next) => {
 *   if (!(error instanceof RefusalError)) return next(error);
 *   res.status(error.status).set(error.headers).json({ error: error.message });
 * };
 * app.use(onError);
 */
export class RefusalError extends Error implements Refusal {
  /** The `code` of the gate's refusal, such as `ERR_THROTTLE_TIMEOUT`. */
  readonly code: string;
  /** The HTTP status. */
  readonly status: number;
  /** The same as `status`, under the name that Fastify reads. */
  readonly statusCode: number;
  /** `Retry-After` and the fields of all limits. */
  readonly headers: Readonly<Record<string, string>>;
  /** Whether the message may be shown to the client. */
  readonly expose = true;
  /** Whole seconds, >= 1, after which another try may succeed. */
  readonly retryAfter: number;
  /** The key whose limit refused. Absent where one gate serves all requests. */
  declare readonly key?: string;
  /** The refusal of the gate. */
  readonly error: ThrottleError;

  /**
   * @param refusal The refusal of the gate.
   * @param headers The header fields that belong to it.
   */
  constructor(refusal: Refusal, headers: Readonly<Record<string, string>>) {
    const { stackTraceLimit } = Error as { stackTraceLimit?: number };
    // Reflect, since nothing must throw where the realm's `Error` is frozen.
    if (stackTraceLimit !== undefined) Reflect.set(Error, 'stackTraceLimit', 0);
    super(detailOf(refusal), { cause: refusal.error });
    if (stackTraceLimit !== undefined) Reflect.set(Error, 'stackTraceLimit', stackTraceLimit);
    this.code = refusal.error.code;
    this.status = this.statusCode = refusal.status;
    this.headers = headers;
    this.retryAfter = refusal.retryAfter;
    if (refusal.key !== undefined) this.key = refusal.key;
    this.error = refusal.error;
  }

  /** The name of the class, whatever a minifier makes of it. */
  override get name(): string {
    return 'RefusalError';
  }

  /** The default response to the refusal: the default error handler of Hono sends it. */
  getResponse(): Response {
    return responseOf(defaultReply(this), this.headers, false);
  }
}
