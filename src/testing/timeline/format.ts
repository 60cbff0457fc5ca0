/** Numbers as text. */

/** A number with at most four significant digits after a fraction, so that rounding errors do not show. */
export function formatNumber(value: number): string {
  return String(Number.isInteger(value) ? value : +value.toPrecision(4));
}

/** A number of about five characters, for the margin. */
export function formatShort(value: number): string {
  const size = Math.abs(value);
  const [unit, letter] = size >= 1e9 ? [1e9, 'G'] : size >= 1e6 ? [1e6, 'M'] : size >= 1e4 ? [1e3, 'k'] : [1, ''];
  return `${+(value / unit).toPrecision(size < 1e4 ? 4 : 3)}${letter}`;
}

/** `1 call`, `2 calls`. */
export const formatCount = (count: number, noun: string): string =>
  `${formatNumber(count)} ${noun}${count === 1 ? '' : 's'}`;
