/** The refusal of a request as an exception of Nest. */
import { HttpException } from '@nestjs/common';
import type { Refusal } from '../http/options.js';
import type { Fields } from '../http/ratelimit-fields.js';
import { problemReply, type Reply } from '../http/refusal.js';
import { CLIENT_CLOSED_REQUEST } from '../http/platform/web-response.js';

/**
 * A refused request. The guard throws it before the handler runs, so exception filters receive it. `getStatus()` is 429
 * for a client over its limit (or the `status` of the limit), and 503 if the server is busy. `getResponse()` is a
 * problem document (RFC 9457), or the answer of `onLimited`. The response already has `Retry-After` and the `RateLimit`
 * fields. The exception has no stack trace: an attack causes thousands of refusals.
 *
 * @example
 * import { type ArgumentsHost, Catch } from '@nestjs/common';
 * import { LimitException } from 'headgate/nest';
 *
 * export class LimitFilter {
 *   catch(exception: LimitException, host: ArgumentsHost) {
 *     const response = host.switchToHttp().getResponse(); // of Express
 *     response.status(exception.getStatus()).json({ error: `retry in ${exception.refusal.retryAfter} s` });
 *   }
 * }
 * Catch(LimitException)(LimitFilter); // as @Catch(LimitException) above the class
 */
export class LimitException extends HttpException {
  /** The refusal: `retryAfter` in seconds, the `key`, and the error of the gate. */
  readonly refusal: Refusal;
  /** `Retry-After`, and the `RateLimit` fields of all limits. The response has these fields. */
  readonly headers: Readonly<Record<string, string>>;

  /**
   * @param refusal The refusal of the gate.
   * @param headers The header fields of the refusal.
   * @param body The body of the response.
   * @param status The HTTP status. Default: the status of the refusal.
   */
  constructor(
    refusal: Refusal,
    headers: Readonly<Record<string, string>>,
    body: string | object,
    status: number = refusal.status,
  ) {
    super(body, status, { cause: refusal.error });
    this.refusal = refusal;
    this.headers = headers;
    const { detail } = body as { detail?: unknown };
    if (typeof detail === 'string') this.message = detail;
    // After minification, the class has another name.
    this.name = 'LimitException';
  }
}

/**
 * Creates the exception for a request whose handler must not run.
 *
 * @param reply The reply to the client. Absent if the client has disconnected.
 * @param refusal Absent if no gate has refused the request: the request has no key, or its client has disconnected.
 * @param setHeaders Sets header fields of the response.
 */
export function exceptionFor(
  reply: Reply | undefined,
  refusal: Refusal | undefined,
  fields: Fields,
  setHeaders: (fields: Readonly<Record<string, string | string[]>>) => void,
): HttpException {
  const { status, headers, body } =
    reply ?? problemReply(CLIENT_CLOSED_REQUEST.status, 'Client Closed Request', 'The client has disconnected.');
  // The names of a reply are in title case, and those of a `Response` in lower case.
  const { 'Content-Type': type, 'content-type': sameType, ...others } = headers;
  setHeaders(others);
  const content = bodyOf(
    typeof body === 'string' ? body : new TextDecoder().decode(body),
    String(type ?? sameType),
    setHeaders,
  );
  return refusal === undefined || reply === undefined
    ? new HttpException(content, status)
    : new LimitException(refusal, fields, content, status);
}

/**
 * The body of the exception: the value of a JSON document, or another text as it is.
 *
 * The body sets its media type when Nest serializes it. An exception filter may send another body instead, so the
 * response must not have the media type before.
 */
function bodyOf(text: string, type: string, setHeaders: (fields: Fields) => void): string | object {
  if (!/^application\/(?:[\w.-]+\+)?json\b/i.test(type)) return text;
  const value: unknown = JSON.parse(text);
  if (Object(value) !== value) return text;
  return Object.defineProperty(value as object, 'toJSON', {
    value(this: object) {
      setHeaders({ 'Content-Type': type });
      return this;
    },
  });
}
