/**
 * When a response is over where only its `Response` is at hand, and not the socket behind it.
 */
import { releaseWhenRead } from '../body.js';
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

/** The response to send in place of `response`: it calls `end`. */
export function deliver({ method }: Request, response: Response, end: (() => void) | undefined): Response {
  if (end === undefined) return response;
  if (method !== 'HEAD') return releaseWhenRead(response, end);
  // Nobody reads the body of an answer to HEAD.
  end();
  return response;
}

/** The response with `fields`, but for those it has. Never fails for their sake. */
export function announce(response: Response, fields: Fields): Response {
  const missing = Object.entries(fields).filter(([name]) => !response.headers.has(name));
  try {
    for (const [name, value] of missing) response.headers.set(name, value);
    return response;
  } catch {
    // What fetch() and Response.redirect() return cannot be changed.
    return copy(response, missing);
  }
}

function copy(response: Response, fields: [name: string, value: string][]): Response {
  try {
    const changed = new Response(response.body, response);
    for (const [name, value] of fields) changed.headers.set(name, value);
    return changed;
  } catch {
    return response;
  }
}
