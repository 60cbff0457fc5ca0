/**
 * What a throttle is called in Redis. All its keys begin with `{PREFIX:KEY}`, one hash tag, so that a cluster keeps them on
 * one node: the bare name, then `…:queue`, `…:leases`, `…:owners`, `…:slots` and `…:log`.
 *
 * Distinct pairs of prefix and key have distinct names. A character that could blur them is written as `%` and its code
 * unit in hexadecimal: `%` itself; the braces, which would end the hash tag; a lone surrogate, which UTF-8 cannot carry;
 * and a colon of the prefix, since the first colon ends the prefix. So `api:v2` and `ada` make `{api%3Av2:ada}`, and `api`
 * and `v2:ada` make `{api:v2:ada}`.
 */

const PARTS = ['', ':queue', ':leases', ':owners', ':slots', ':log'];

function escape(text: string): string {
  return text.replaceAll(/[%{}\p{Surrogate}]/gu, (unit) => `%${unit.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** The names of all keys of a throttle, in the order in which the scripts take them. */
export function namesOf(prefix: string, key: string): string[] {
  const base = `{${escape(prefix).replaceAll(':', '%3A')}:${escape(key)}}`;
  return PARTS.map((part) => base + part);
}
