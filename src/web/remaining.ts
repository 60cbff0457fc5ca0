/**
 * Reads what remains of the quotas of an upstream. Pure functions from strings to tokens, whose running time is linear
 * in the length of the strings. dialects.ts lists the names of the fields.
 */
import { REMAINING_FIELDS } from './dialects.js';
import { createLookup, type HeaderSource, itemsOf, quotasOf, readNumber } from './retry-after.js';

/**
 * The units that the header fields of a response state as remaining, by the name of the rate. `cost` is the main rate,
 * which counts requests. Of several values for one rate, the lowest counts. Unreadable values are skipped.
 */
export function readRemaining(headers: HeaderSource): Record<string, number> {
  const field = createLookup(headers);
  const remaining = new Map<string, number>();
  const record = (rate: string, text: string | undefined): void => {
    const units = readNumber(text);
    if (units !== undefined) remaining.set(rate, Math.min(remaining.get(rate) ?? Infinity, units));
  };
  for (const quota of quotasOf(field('ratelimit'))) record('cost', quota.get('r'));
  for (const [name, rate, [resourceField, main] = ['', '']] of REMAINING_FIELDS) {
    const resource = resourceField === '' ? undefined : field(resourceField);
    for (const item of itemsOf(field(name)))
      record(resource === undefined || resource === main ? rate : resource, item);
  }
  return Object.fromEntries(remaining);
}
