/**
 * The header fields that speak of limits, written and read. Pure: strings in, numbers out. Durations are seconds.
 *
 * `Retry-After` is RFC 9110, section 10.2.3; `RateLimit` and `RateLimit-Policy` are the structured fields of the IETF
 * draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers).
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

/** Where header fields are looked up: a `Headers`, or anything like it. */
export interface Fields {
  get(name: string): string | null;
}

/**
 * How many seconds a server that refuses wants to be left alone: `Retry-After`, else `RateLimit`, else
 * `RateLimit-Reset`, else `X-RateLimit-Reset`; the first of them that can be read counts. Points in time are measured
 * by the server's own clock where it sends a `Date`, so it does not matter how wrong the one here is.
 *
 * @param wallNowMs Milliseconds since 1970, for servers that send no `Date`.
 * @returns Seconds, finite and >= 0: `0` for a point in time that has passed, `undefined` where no field can be read.
 */
export function readWait(headers: Fields, wallNowMs: number): number | undefined {
  const nowMs = readDate(headers.get('date'), wallNowMs) ?? wallNowMs;
  return (
    readRetryAfter(headers.get('retry-after'), nowMs) ??
    readRateLimit(headers.get('ratelimit')) ??
    readReset(headers.get('ratelimit-reset'), nowMs) ??
    readReset(headers.get('x-ratelimit-reset'), nowMs)
  );
}

/** `Retry-After`: seconds, or an HTTP date. */
export function readRetryAfter(text: string | null, nowMs: number): number | undefined {
  const date = readDate(text, nowMs);
  return date === undefined ? readNumber(text) : Math.max(0, date - nowMs) / 1000;
}

/**
 * `RateLimit`: of the limits that are used up, the one that takes longest; where none is, of all. Before its eighth
 * version the draft had one limit only: `limit=100, remaining=0, reset=5`.
 */
export function readRateLimit(text: string | null): number | undefined {
  if (text === null) return undefined;
  // Names may hold anything. A missing quote at the end is taken as there, so that no text is searched twice.
  const bare = text.replaceAll(/"(?:[^"\\]|\\.?)*(?:"|$)/g, '');
  const members = /(?:^|[\s,])reset=/.test(bare) ? [bare.replaceAll(',', ';')] : bare.split(',');
  const usedUp = members.filter((member) => readNumber(parameter(member, 'r|remaining')) === 0);
  let longest: number | undefined;
  for (const member of usedUp.length > 0 ? usedUp : members) {
    const wait = readNumber(parameter(member, 't|reset'));
    if (wait !== undefined && !(wait < (longest ?? 0))) longest = wait;
  }
  return longest;
}

/**
 * `RateLimit-Reset` and `X-RateLimit-Reset`: seconds, or a point in time in seconds or milliseconds since 1970. Nobody
 * is told to wait for the 31 years that 10^9 seconds are, and 10^9 and 10^12 both are a point in time in 2001.
 */
export function readReset(text: string | null, nowMs: number): number | undefined {
  const value = readNumber(text);
  if (value === undefined || value < 1e9) return value;
  return Math.max(0, (value < 1e12 ? value * 1000 : value) - nowMs) / 1000;
}

const MONTHS = 'JanFebMarAprMayJunJulAugSepOctNovDec';
const IMF_FIXDATE = /^[A-Z][a-z]{2}, (?<day>\d\d) (?<month>[A-Z][a-z]{2}) (?<year>\d{4}) (?<time>\d\d:\d\d:\d\d) GMT$/;
const RFC_850 = /^[A-Z][a-z]{5,8}, (?<day>\d\d)-(?<month>[A-Z][a-z]{2})-(?<year>\d\d) (?<time>\d\d:\d\d:\d\d) GMT$/;
const ASCTIME = /^[A-Z][a-z]{2} (?<month>[A-Z][a-z]{2}) (?<day>[ \d]\d) (?<time>\d\d:\d\d:\d\d) (?<year>\d{4})$/;

/**
 * An HTTP date, in each of the three forms of RFC 9110, section 5.6.7, as milliseconds since 1970. `Date.parse` would
 * take an asctime for local time, and `foo 5` for a date.
 */
export function readDate(text: string | null, nowMs: number): number | undefined {
  if (text === null) return undefined;
  const parts = (IMF_FIXDATE.exec(text) ?? RFC_850.exec(text) ?? ASCTIME.exec(text))?.groups;
  if (parts === undefined) return undefined;
  const { day = '', month = '', year = '', time = '' } = parts;
  const [hours = 0, minutes = 0, seconds = 0] = time.split(':').map(Number);
  const midnight = Date.UTC(year.length === 2 ? century(Number(year), nowMs) : Number(year), MONTHS.indexOf(month) / 3, Number(day));
  // Neither 31 February nor an unknown month; a leap second is as good as any.
  if (new Date(midnight).getUTCDate() !== Number(day) || !MONTHS.includes(month) || hours > 23 || minutes > 59 || seconds > 60) return undefined;
  return midnight + ((hours * 60 + minutes) * 60 + seconds) * 1000;
}

/** The year that ends in `digits` and is at most 50 ahead: the rule of RFC 9110. */
function century(digits: number, nowMs: number): number {
  const now = new Date(nowMs).getUTCFullYear();
  const ahead = (digits - (now % 100) + 100) % 100;
  return now + ahead - (ahead > 50 ? 100 : 0);
}

/** Digits, with a fraction if need be, and nothing else. */
function readNumber(text: string | null | undefined): number | undefined {
  return /^\d+(?:\.\d+)?$/.test(text ?? '') ? Math.min(MOST, Number(text)) : undefined;
}

/** The value of a parameter of a structured field's member. */
function parameter(member: string, names: string): string | undefined {
  return new RegExp(`(?:^|;)\\s*(?:${names})=([^;\\s]*)\\s*(?:;|$)`).exec(member)?.[1];
}
