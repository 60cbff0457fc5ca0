/**
 * When a response is over where only its `Response` is at hand, and not the socket behind it.
 */
import { isUnread, passOn } from '../../web/response-body.js';
import type { Fields, Reply } from '../refusal.js';

/** For a client that has gone. Logs know 499 as that. */
export const NOBODY: Reply = { status: 499, headers: {}, body: '' };

/** The response to send in place of `response`: it calls `end`, and has `fields`, but for those that it had. */
export function deliver(
  { method }: Request,
  response: Response,
  fields: Fields,
  end: (() => void) | undefined,
): Response {
  const missing = Object.entries(fields).filter(([name]) => !response.headers.has(name));
  // Nobody reads the body of an answer to HEAD, and there are statuses of strangers that no Response can be made with.
  const watched = end !== undefined && method !== 'HEAD' && response.status < 600 && isUnread(response);
  if (!watched) end?.();
  if (!watched && missing.length === 0) return response;
  try {
    // A copy: the handler may send the same one to others, and what fetch() returns cannot be changed.
    const copy = new Response(watched ? passOn(response.body, end) : response.body, response);
    for (const [name, value] of missing) copy.headers.set(name, value);
    return copy;
  } catch {
    return response;
  }
}
