/**
 * When a response is over where only its `Response` is at hand, and not the socket behind it.
 */
import { isUnread, passOn } from '../body.js';
import type { Fields, Reply } from './decide.js';

/** For a client that has gone. Logs know 499 as that. */
export const NOBODY: Reply = { status: 499, headers: {}, body: '' };

/** The end of a request: to be called when its response is over. The client's leaving calls it, too. */
export function endWith({ signal }: Request, release: () => void): () => void {
  const end = (): void => {
    signal.removeEventListener('abort', end);
    release();
  };
  signal.addEventListener('abort', end);
  return end;
}

/** The response to send in place of `response`: it calls `end`, and has `fields`, but for those that it had. */
export function deliver({ method }: Request, response: Response, fields: Fields, end: (() => void) | undefined): Response {
  const missing = Object.entries(fields).filter(([name]) => !response.headers.has(name));
  // Nobody reads the body of an answer to HEAD, and there are statuses of strangers that no Response can be made with.
  if (end !== undefined && method !== 'HEAD' && response.status < 600 && isUnread(response)) {
    return announce(new Response(passOn(response.body, end), response), missing);
  }
  end?.();
  try {
    return announce(response, missing);
  } catch {
    // What fetch() and Response.redirect() return cannot be changed.
  }
  try {
    return announce(new Response(response.body, response), missing);
  } catch {
    return response;
  }
}

function announce(response: Response, fields: [name: string, value: string][]): Response {
  for (const [name, value] of fields) response.headers.set(name, value);
  return response;
}
