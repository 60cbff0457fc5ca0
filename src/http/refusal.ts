/** The result of a refusal: a response, or an error for the framework's error handler. */
import { isServerBusyError, type ThrottleError } from '../core/errors.js';
import { checkInteger } from '../core/validation.js';
import type { Answer, Refusal } from './options.js';
import type { Fields } from './ratelimit-fields.js';

/** A response, for any framework. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: string | ArrayBuffer;
}

/** The title for the client. */
function titleOf(status: number): string {
  return status === 503 ? 'Service Unavailable' : 'Too Many Requests';
}

/** The message for the client. It never contains the key. */
function detailOf({ status, retryAfter, error }: Refusal): string {
  return isServerBusyError(error) ? error.message : `${titleOf(status)}: retry in ${retryAfter} s.`;
}

/** The reply for a refusal that `onLimited` does not answer. */
export function defaultReply(refusal: Refusal): Reply {
  const { status, error } = refusal;
  return isServerBusyError(error)
    ? jsonReply(status, 'application/json', { detail: detailOf(refusal) })
    : problemReply(status, titleOf(status), detailOf(refusal));
}

/** A problem document: RFC 9457, section 3. */
export function problemReply(status: number, title: string, detail: string): Reply {
  return jsonReply(status, 'application/problem+json', { type: 'about:blank', title, status, detail });
}

function jsonReply(status: number, type: string, value: object): Reply {
  return { status, headers: { 'Content-Type': type }, body: JSON.stringify(value) };
}

/** The reply for the result of `onLimited`; `undefined` if the default reply is sent. */
export async function replyOf(answer: Answer, status: number): Promise<Reply | undefined> {
  if (answer === undefined || answer === null) return undefined;
  if (typeof answer === 'string')
    return { status, headers: { 'Content-Type': 'text/plain; charset=utf-8' }, body: answer };
  // Checked by its members: some runtimes have several classes named Response, so `instanceof` can fail.
  const response = answer as Partial<Response>;
  if (typeof response.arrayBuffer !== 'function' || response.headers === undefined)
    return jsonReply(status, 'application/json', answer);
  // The status of Response.error() is 0, which no server can send.
  checkInteger('status', 'an integer from 200 to 599', response.status, 200, 599);
  const cookies = response.headers.getSetCookie();
  const headers = { ...Object.fromEntries(response.headers), ...(cookies.length > 0 && { 'set-cookie': cookies }) };
  const body = await response.arrayBuffer();
  return { status: response.status!, headers, body: body.byteLength === 0 ? '' : body };
}

/** The header fields of a reply, and those of `fields` that the reply does not have. */
export function headersOf(reply: Reply, fields: Fields): Headers {
  const all = new Headers(fields);
  for (const [name, values] of Object.entries(reply.headers)) {
    all.delete(name);
    for (const value of [values].flat()) all.append(name, value);
  }
  return all;
}

/** A reply as a `Response`. */
export function responseOf(reply: Reply, fields: Fields, isHead: boolean): Response {
  const { status, body } = reply;
  return new Response(isHead ? null : body || null, { status, headers: headersOf(reply, fields) });
}

/**
 * A refusal as an error for the framework's error handler, if `onLimited` is `'throw'`. It has the properties of
 * `http-errors`, which the default error handlers of Express, Koa and Fastify read, and the `getResponse` of Hono's
 * `HTTPException`. Its message may be shown to the client. A limit throws it without a stack trace: an attack causes
 * thousands of these errors, and the trace would only show this package.
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
  /** The `code` of the gate's error, such as `ERR_THROTTLE_TIMEOUT`. */
  readonly code: string;
  /** The HTTP status. */
  readonly status: number;
  /** The same as `status`, under the name that Fastify reads. */
  readonly statusCode: number;
  /** `Retry-After`, and the `RateLimit` fields of all limits. */
  readonly headers: Readonly<Record<string, string>>;
  /** The message may be shown to the client. */
  readonly expose = true;
  /** Whole seconds, >= 1, after which another attempt may succeed. */
  readonly retryAfter: number;
  /** The key whose limit refused the request. Absent if one gate serves all requests. */
  declare readonly key?: string;
  /** The error of the gate. */
  readonly error: ThrottleError;

  /**
   * @param refusal The refusal of the gate.
   * @param headers The header fields of the response.
   */
  constructor(refusal: Refusal, headers: Readonly<Record<string, string>>) {
    super(detailOf(refusal), { cause: refusal.error });
    this.code = refusal.error.code;
    this.status = this.statusCode = refusal.status;
    this.headers = headers;
    this.retryAfter = refusal.retryAfter;
    if (refusal.key !== undefined) this.key = refusal.key;
    this.error = refusal.error;
  }

  /** The name of the class, also after minification. */
  override get name(): string {
    return 'RefusalError';
  }

  /** Returns the default response to the refusal. The default error handler of Hono sends it. */
  getResponse(): Response {
    return responseOf(defaultReply(this), this.headers, false);
  }
}
