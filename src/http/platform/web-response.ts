/** Observes the end of a response if only its `Response` is available, without the socket. */
import { isUnread, passOn } from '../../web/response-body.js';
import type { Fields } from '../ratelimit-fields.js';
import type { Reply } from '../refusal.js';

/** The reply for a client that has disconnected. Logs know the status 499 as "client closed request". */
export const CLIENT_CLOSED_REQUEST: Reply = { status: 499, headers: {}, body: '' };

/**
 * Returns the response to send instead of `response`. It calls `onEnd` when its body ends. It has `fields`, except for
 * those that `response` already has.
 */
export function watchResponse(
  { method }: Request,
  response: Response,
  fields: Fields,
  onEnd: (() => void) | undefined,
): Response {
  const missing = Object.entries(fields).filter(([name]) => !response.headers.has(name));
  // The server does not read the body of a response to HEAD. A status of 600 or more is not valid in a new Response.
  const hasBody = onEnd !== undefined && method !== 'HEAD' && response.status < 600 && isUnread(response);
  if (!hasBody) onEnd?.();
  if (!hasBody && missing.length === 0) return response;
  try {
    // A copy: the handler may return the same response for other requests, and a response of fetch() is immutable.
    const copy = new Response(hasBody ? passOn(response.body, onEnd) : response.body, response);
    for (const [name, value] of missing) copy.headers.set(name, value);
    return copy;
  } catch {
    return response;
  }
}
