/** Describes the request that a caller passes to `fetch`, and makes the copies that are needed to send it again. */

import { isSignal } from './until-aborted.js';

/** The platform's `fetch`. */
export type Fetch = typeof globalThis.fetch;
/** The first argument of `fetch`: a URL or a `Request`. */
export type FetchInput = Parameters<Fetch>[0];

/** A request as it was sent. The body is left out, because `fetch` has consumed it. */
export interface SentRequest {
  /** The URL as the caller gave it: absolute, or relative if the platform has a `location`. */
  readonly url: string;
  /** In upper case. */
  readonly method: string;
  /** A new copy at each access. */
  readonly headers: Headers;
}

/** Describes a request by the arguments of `fetch`. */
export function describeRequest(input: FetchInput, init: RequestInit | undefined): SentRequest {
  const request = asRequest(input);
  const [url, method]: unknown[] = [request?.url ?? input, init?.method ?? request?.method ?? 'GET'];
  return {
    url: String(url),
    method: String(method).toUpperCase(),
    get headers() {
      return new Headers(init?.headers ?? request?.headers);
    },
  };
}

/** The `Request` of any client, or `undefined` for a URL. */
export function asRequest(input: FetchInput): Request | undefined {
  return (input as Request | null)?.url === undefined ? undefined : (input as Request);
}

/** Whether a body can be sent twice. A stream cannot, and neither can a body of an unknown type. */
export function canReplay(body: unknown): boolean {
  return (
    !body ||
    typeof body === 'string' ||
    ArrayBuffer.isView(body) ||
    [ArrayBuffer, Blob, FormData, URLSearchParams].some((Kind) => body instanceof Kind)
  );
}

/** A copy of `init` and its headers, so that later changes by the caller do not affect the request. */
export function copyInit(init: RequestInit | undefined): RequestInit | undefined {
  return init && { ...init, ...(init.headers && { headers: copyHeaders(init.headers) }) };
}

function copyHeaders(headers: HeadersInit): HeadersInit {
  if (headers instanceof Headers) return new Headers(headers);
  return Symbol.iterator in headers ? [...headers] : { ...headers };
}

/** The input for the next attempt. A `Request` with a body is cloned, because `fetch` consumes the body. */
export function copyInput(input: FetchInput): FetchInput {
  const request = asRequest(input);
  return request === undefined || request.body === null || request.bodyUsed ? input : request.clone();
}

/**
 * The init for an attempt. If nothing needs to be added, it is the caller's init.
 *
 * - The signal of the attempt is added. A cloned request gets it in any case: in undici's `fetch`, garbage collection
 *   disconnects a clone from the original's signal. An invalid signal of the caller stays, because `fetch` reports it.
 * - The referrer of a `Request` is added, because any init resets it.
 *
 * @param callerSignal The signal of `init` or of the request.
 * @param isCopy Whether `input` may be a copy of the caller's input.
 */
export function initFor(
  input: FetchInput,
  init: RequestInit | undefined,
  callerSignal: unknown,
  attemptSignal: unknown,
  isCopy: boolean,
): RequestInit | undefined {
  const request = asRequest(input);
  const isAdded =
    attemptSignal !== callerSignal && (isSignal(callerSignal) || (callerSignal ?? undefined) === undefined);
  if (!isAdded && !(isCopy && request !== undefined)) return init;
  const signal = ((isAdded ? attemptSignal : callerSignal) ?? null) as AbortSignal | null;
  if (request === undefined) return { ...init, signal };
  const { referrer, referrerPolicy } = request;
  return { referrer, referrerPolicy, ...init, signal };
}
