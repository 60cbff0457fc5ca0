/**
 * Writes the header fields that a server sends about its limits. Pure functions; durations are seconds.
 *
 * `Retry-After` is RFC 9110, section 10.2.3; `RateLimit` and `RateLimit-Policy` are the structured fields of the IETF
 * draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers). retry-after.ts reads them.
 */

/** What a server tells of one limit. */
export interface Quota {
  /** Names the policy. */
  readonly name: string;
  /** So many units per `window`, or at a time where there is no window. > 0. */
  readonly limit: number;
  /** Seconds. */
  readonly window?: number | undefined;
  /** Units left now. */
  readonly remaining: number;
  /** Seconds until there are more. */
  readonly reset?: number | undefined;
}

/** The most that an integer of a structured field can say. */
const MOST = 999_999_999_999_999;

/** `Retry-After`: whole seconds, rounded up and at least 1, so that whoever honours it comes late enough. */
export function writeRetryAfter(seconds: number): string {
  return whole(Math.max(1, Math.ceil(seconds)));
}

/** The `RateLimit-Policy` and `RateLimit` fields for a limit. Their numbers are integers, so nothing is promised too early. */
export function writeRateLimit({ name, limit, window, remaining, reset }: Quota): { policy: string; state: string } {
  // A string of a structured field is ASCII that can be printed, quoted as JSON does.
  const label = JSON.stringify(name.replaceAll(/[^ -~]/g, '?'));
  // Half a unit per second is one in two; ten in half a second are twenty in one.
  const span = window && Math.ceil(Math.max(window, window / limit));
  return {
    policy: `${label};q=${span ? `${whole((limit * span) / window + 1e-9)};w=${whole(span)}` : `${whole(limit)};qu="concurrent-requests"`}`,
    state: `${label};r=${whole(Math.max(0, remaining))}${reset === undefined ? '' : `;t=${whole(Math.ceil(Math.max(0, reset)))}`}`,
  };
}

function whole(value: number): string {
  return String(Math.min(MOST, Math.floor(value)));
}
