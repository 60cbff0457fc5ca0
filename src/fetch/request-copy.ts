/**
 * The request that a caller of `fetch` asks for: what it is, and how it can be sent again.
 */

/** The platform's `fetch`. */
export type Fetch = typeof globalThis.fetch;
/** The first argument of `fetch`: a URL or a `Request`. */
export type Input = Parameters<Fetch>[0];

/** A request as it was sent. Its body is left out, since sending has used it up. */
export interface SentRequest {
  /** As it was given: absolute, or relative where there is a `location`. */
  readonly url: string;
  /** In upper case. */
  readonly method: string;
  /** A copy, made when it is read. */
  readonly headers: Headers;
}

/** Describes a request by the arguments of `fetch`. */
export function describe(input: Input, init: RequestInit | undefined): SentRequest {
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

/** The origin of a URL, `undefined` where there is none. */
export function originOf(input: Input): string | undefined {
  try {
    return new URL(asRequest(input)?.url ?? (input as string | URL), globalThis.location?.href).origin;
  } catch {
    return undefined;
  }
}

/** The `Request` of any client, `undefined` for a URL. */
export function asRequest(input: Input): Request | undefined {
  return (input as Request | null)?.url === undefined ? undefined : (input as Request);
}

/** Whether a body can be sent once more. A body of unknown kind cannot, and neither can a stream. */
export function canReplay(body: unknown): boolean {
  return (
    !body ||
    typeof body === 'string' ||
    ArrayBuffer.isView(body) ||
    [ArrayBuffer, Blob, FormData, URLSearchParams].some((Kind) => body instanceof Kind)
  );
}

/** A copy that later changes by the caller do not reach. */
export function copyOfInit(init: RequestInit | undefined): RequestInit | undefined {
  return init && { ...init, ...(init.headers && { headers: copyOfHeaders(init.headers) }) };
}

function copyOfHeaders(headers: HeadersInit): HeadersInit {
  if (headers instanceof Headers) return new Headers(headers);
  return Symbol.iterator in headers ? [...headers] : { ...headers };
}

/** The input for the next attempt: `fetch` uses up the body of a Request. */
export function copyOfInput(input: Input): Input {
  const request = asRequest(input);
  return request === undefined || request.body === null || request.bodyUsed ? input : request.clone();
}

/**
 * The init for a copy of a request. The signal of the copy follows the original's only until garbage is collected, where
 * `fetch` is undici's, so the signal is given again. Any init resets the referrer, so the referrer is given again as well.
 */
export function replayInit(
  { referrer, referrerPolicy }: Request,
  init: RequestInit | undefined,
  signal: AbortSignal | null = null,
): RequestInit {
  return { referrer, referrerPolicy, ...init, signal };
}
