/**
 * Reads the wait that a server demands from a refused client. Pure functions from strings to seconds, whose running
 * time is linear in the length of the strings. dialects.ts lists the names of the fields.
 */
import { QUOTA_FIELDS, WAIT_FIELDS } from './dialects.js';

/** Header fields by name: a `Headers`, or any object with a `get` that ignores case. */
export interface HeaderLookup {
  /** The value of a field. A value other than a string, a number or an array of strings counts as absent. */
  get(name: string): unknown;
}

/**
 * Header fields as HTTP clients present them: a `Headers` or another object with `get`; a record of strings or arrays
 * of strings, with names in any case; or a flat array of names and values, such as Node's `rawHeaders`.
 */
export type HeaderSource =
  HeaderLookup | Readonly<Record<string, string | number | readonly string[] | undefined>> | readonly string[];

/** The largest integer of a structured field. It is the largest wait that is returned, in seconds, too. */
const MAX_INTEGER = 999_999_999_999_999;

/**
 * The wait that the header fields of a refusal state.
 *
 * - A field that states a wait wins over a reset.
 * - A reset counts only if its quota is used up. Of several used-up quotas, the longest wait counts.
 * - If the server sends `Date`, instants are measured by the server's clock, so a wrong local clock does no harm.
 *
 * @param nowMs Milliseconds since 1970, for servers that send no `Date`.
 * @returns Seconds, finite and >= 0: `0` for an instant in the past, `undefined` if no field states a wait.
 */
export function readWait(headers: HeaderSource, nowMs: number): number | undefined {
  const field = createLookup(headers);
  const serverMs = readDate(field('date'), nowMs) ?? nowMs;
  let stated: number | undefined;
  for (const [name, unit] of WAIT_FIELDS) {
    const wait = readField(field(name), serverMs, unit);
    // After a 0, a less exact field may still state a wait.
    if (wait !== undefined && wait > 0) return wait;
    stated ??= wait;
  }
  if (stated !== undefined) return stated;
  let wait = readRateLimit(field('ratelimit'));
  for (const [remaining, ...resets] of QUOTA_FIELDS)
    wait = longest(wait, readQuota(field(remaining), resets.map(field), serverMs));
  return wait;
}

/** Finds fields by lower-case names, in every form of headers. Several values are joined with commas, as in `fetch`. */
export function createLookup(headers: HeaderSource): (name: string) => string | undefined {
  if (typeof (headers as HeaderLookup).get === 'function') return (name) => textOf((headers as HeaderLookup).get(name));
  const flat = headers as readonly string[];
  const entries = Array.isArray(headers)
    ? flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1]] as const] : []))
    : Object.entries(headers);
  const fields = new Map<string, string>();
  for (const [name, value] of entries) {
    const [key, text] = [name.toLowerCase(), textOf(value)];
    if (text !== undefined) fields.set(key, fields.has(key) ? `${fields.get(key)}, ${text}` : text);
  }
  return (name) => fields.get(name);
}

function textOf(value: unknown): string | undefined {
  if (Array.isArray(value)) return value.filter((item) => typeof item === 'string').join(', ');
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
}

function longest(first: number | undefined, second: number | undefined): number | undefined {
  return first === undefined || second === undefined ? (first ?? second) : Math.max(first, second);
}

/** The longest wait in a list of times. Unreadable items are skipped. */
export function readField(text: string | undefined, nowMs: number, unit: number = 1): number | undefined {
  let wait: number | undefined;
  for (const item of itemsOf(text)) wait = longest(wait, readTime(item, nowMs, unit));
  return wait;
}

/** The longest wait of the used-up quotas in a list. `resets` are fields with the same times, the most exact first. */
function readQuota(
  remaining: string | undefined,
  resets: readonly (string | undefined)[],
  nowMs: number,
): number | undefined {
  const units = itemsOf(remaining);
  for (const reset of resets) {
    let wait: number | undefined;
    for (const [index, item] of itemsOf(reset).entries()) {
      if (isUsedUp(units[Math.min(index, units.length - 1)])) wait = longest(wait, readTime(item, nowMs));
    }
    if (wait !== undefined) return wait;
  }
  return undefined;
}

/** Whether less than one unit remains. An absent or unreadable number counts as used up, because the server refused. */
function isUsedUp(remaining: string | undefined): boolean {
  return !((readNumber(remaining) ?? 0) >= 1);
}

/** The items of a list. A weekday and its date form one item, although a comma separates them. */
export function itemsOf(text: string | undefined): string[] {
  const items: string[] = [];
  let weekday = '';
  for (const part of text?.split(',') ?? []) {
    const item = weekday + part.trim();
    weekday = '';
    if (/^[A-Z][a-z]{2,8}$/.test(item)) weekday = `${item}, `;
    else if (item !== '') items.push(item);
  }
  return items;
}

/**
 * The `RateLimit` field of the IETF drafts: the longest wait of the used-up quotas. Draft 07 has one quota, such as
 * `limit=100, remaining=0, reset=5`. Later drafts have a list, such as `"default";r=0;t=5, "day";r=10;t=3600`.
 */
export function readRateLimit(text: string | undefined): number | undefined {
  let wait: number | undefined;
  for (const quota of quotasOf(text)) if (isUsedUp(quota.get('r'))) wait = longest(wait, readNumber(quota.get('t')));
  return wait;
}

/** The quotas of a `RateLimit` field: the remaining units `r` and the reset `t` of each. */
export function quotasOf(text: string | undefined): ReadonlyMap<string, string>[] {
  if (text === undefined) return [];
  let quota = new Map<string, string>();
  const quotas = [quota];
  // A quoted name may contain any character. A missing final quote counts as present, so no text is searched twice.
  for (const member of text.replaceAll(/"(?:[^"\\]|\\.?)*(?:"|$)/g, '').split(',')) {
    for (const [index, part] of member.split(';').entries()) {
      const [name = '', value = ''] = part.split('=', 2).map((side) => side.trim());
      const key = name === 'remaining' ? 'r' : name === 'reset' ? 't' : name;
      // Each item begins a quota. In draft 07, consecutive items form one quota until a key repeats.
      if (index === 0 && (!/^(?:limit|remaining|reset)$/.test(name) || quota.has(key)))
        quotas.push((quota = new Map<string, string>()));
      quota.set(key, value);
    }
  }
  return quotas;
}

/** A time, as seconds from now: a number, an instant since 1970, a duration, an HTTP date or an RFC 3339 date. */
function readTime(text: string, nowMs: number, unit: number = 1): number | undefined {
  const value = readNumber(text);
  if (value !== undefined && (unit !== 1 || value < 1e9)) return value * unit;
  // 10^9 seconds are 31 years, which is too long for a wait. As instants, 10^9 s and 10^12 ms are both in 2001.
  const instant =
    value === undefined ? (readDate(text, nowMs) ?? readTimestamp(text)) : value < 1e12 ? value * 1000 : value;
  return instant === undefined ? readDuration(text) : Math.max(0, instant - nowMs) / 1000;
}

const MONTHS = 'JanFebMarAprMayJunJulAugSepOctNovDec';
/** IMF-fixdate, and RFC 850 with its long weekday, hyphens and two-digit year. Some servers write GMT as `+0000`. */
const FIXDATE_OR_RFC850 =
  /^[A-Z][a-z]{2,8}, (\d\d)[ -]([A-Z][a-z]{2})[ -](\d{4}|\d\d) (\d\d:\d\d:\d\d) (?:GMT|UTC|[+-]0000)$/;
const ASCTIME = /^[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d\d:\d\d:\d\d) (\d{4})$/;

/**
 * An HTTP date as milliseconds since 1970, in the three formats of RFC 9110, section 5.6.7. `Date.parse` is unsuitable:
 * it reads an asctime date as local time, and accepts `foo 5` as a date.
 */
export function readDate(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  let [, day, month = '', year = '', time = ''] = FIXDATE_OR_RFC850.exec(text) ?? [];
  if (day === undefined) [, month = '', day, time = '', year = ''] = ASCTIME.exec(text) ?? [];
  return instantOf(
    year.length === 2 ? expandYear(Number(year), nowMs) : Number(year),
    MONTHS.indexOf(month) / 3,
    Number(day),
    time,
  );
}

/** Milliseconds since 1970, or `undefined` for an impossible date or time. A leap second counts as the next second. */
function instantOf(year: number, month: number, day: number, time: string): number | undefined {
  const [hours = 0, minutes = 0, seconds = 0] = time.split(':').map(Number);
  const midnight = Date.UTC(year, month, day);
  // Rejects impossible days such as 31 February, unknown months, and the NaN of a text without a date.
  if (new Date(midnight).getUTCMonth() !== month) return undefined;
  return hours > 23 || minutes > 59 || !(seconds < 61)
    ? undefined
    : midnight + ((hours * 60 + minutes) * 60 + seconds) * 1000;
}

/** The year that ends in `digits` and is at most 50 years ahead: the rule of RFC 9110. */
function expandYear(digits: number, nowMs: number): number {
  const now = new Date(nowMs).getUTCFullYear();
  const ahead = (digits - (now % 100) + 100) % 100;
  return now + ahead - (ahead > 50 ? 100 : 0);
}

const TIMESTAMP = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d:\d\d:\d\d(?:\.\d{1,9})?) ?(?:[Zz]|UTC|([+-]\d\d):?(\d\d))$/;

/** An RFC 3339 date as milliseconds since 1970. A date without a time zone is ambiguous, and counts as unreadable. */
function readTimestamp(text: string): number | undefined {
  const [, year, month, day, time = '', hours = '+00', minutes = '00'] = TIMESTAMP.exec(text) ?? [];
  const instant = instantOf(Number(year), Number(month) - 1, Number(day), time);
  return instant === undefined ? undefined : instant - (Number(hours) * 60 + Number(`${hours[0]}${minutes}`)) * 60_000;
}

/** The length of each unit in seconds. Clients read header fields as Latin-1, so `µ` in UTF-8 arrives as `Âµ`. */
const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-9,
  us: 1e-6,
  µs: 1e-6,
  Âµs: 1e-6,
  ms: 0.001,
  s: 1,
  m: 60,
  h: 3600,
  d: 86_400,
};

/** A duration in the format of Go, such as `6m0s`, `20ms` or `1h2m3.5s`, as seconds. */
function readDuration(text: string): number | undefined {
  // Go prints at most 24 characters for a positive duration.
  if (text.length > 64 || !/^\d/.test(text)) return undefined;
  let seconds = 0;
  const rest = text.replaceAll(/(\d+(?:\.\d+)?)(ns|us|Â?µs|ms|s|m|h|d)/g, (_, value: string, unit: string) => {
    seconds += Number(value) * (UNITS[unit] as number);
    return '';
  });
  return rest !== '' ? undefined : Math.min(MAX_INTEGER, seconds);
}

/** A number of digits with an optional fraction. Signs, exponents and spaces are unreadable. */
export function readNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+(?:\.\d+)?$/.test(text) ? Math.min(MAX_INTEGER, Number(text)) : undefined;
}
