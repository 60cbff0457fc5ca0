/**
 * Writes the header fields in which a server describes its limits. Pure functions; durations are seconds.
 *
 * `Retry-After` is RFC 9110, section 10.2.3; `RateLimit` and `RateLimit-Policy` are the structured fields of the IETF
 * draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers). retry-after.ts reads them.
 */

/** The state of one limit, for the client. */
export interface Quota {
  /** The name of the policy. */
  readonly name: string;
  /** Units per `window`, or units at a time for a limit without a window. > 0. */
  readonly limit: number;
  /** Seconds. */
  readonly window?: number | undefined;
  /** Units that remain now. */
  readonly remaining: number;
  /** Seconds until more units are available. */
  readonly reset?: number | undefined;
}

/** The largest integer of a structured field. */
const MAX_INTEGER = 999_999_999_999_999;

/** `Retry-After`: whole seconds, rounded up and at least 1. A client that waits so long does not return too early. */
export function writeRetryAfter(seconds: number): string {
  return formatInteger(Math.max(1, Math.ceil(seconds)));
}

/**
 * The members of `RateLimit-Policy` and `RateLimit` for a limit. The fields hold integers. Units are rounded down and
 * times are rounded up, so that a client never expects too much.
 */
export function writeRateLimit({ name, limit, window, remaining, reset }: Quota): { policy: string; state: string } {
  // A string of a structured field holds printable ASCII, in the quotes and with the escapes of JSON.
  const label = JSON.stringify(name.replaceAll(/[^ -~]/g, '?'));
  // Both numbers must be whole: 0.5 per second is written as 1 per 2 s, and 10 per 0.5 s as 20 per 1 s.
  const wholeWindow = window && Math.ceil(Math.max(window, window / limit));
  const quota = wholeWindow
    ? `${formatInteger((limit * wholeWindow) / window + 1e-9)};w=${formatInteger(wholeWindow)}`
    : `${formatInteger(limit)};qu="concurrent-requests"`;
  const time = reset === undefined ? '' : `;t=${formatInteger(Math.ceil(Math.max(0, reset)))}`;
  return { policy: `${label};q=${quota}`, state: `${label};r=${formatInteger(Math.max(0, remaining))}${time}` };
}

function formatInteger(value: number): string {
  return String(Math.min(MAX_INTEGER, Math.floor(value)));
}
