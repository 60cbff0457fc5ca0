/** The contrast of two colours, as WCAG 2.2 defines it. */

/** The relative luminance of a colour `#rrggbb`, `rgb(…)` or `rgba(…)`. */
function luminance(colour: string): number {
  const [red = NaN, green = NaN, blue = NaN] = channels(colour).map((channel) =>
    channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Red, green and blue, each from 0 to 1. */
function channels(colour: string): number[] {
  const hex = /^#([\da-f]{2})([\da-f]{2})([\da-f]{2})$/i.exec(colour);
  const values = hex === null ? [...colour.matchAll(/[\d.]+/g)].map(([part]) => Number(part)) : [];
  return (hex === null ? values.slice(0, 3) : hex.slice(1).map((part) => Number.parseInt(part, 16))).map(
    (value) => value / 255,
  );
}

/** The contrast of two opaque colours: from 1 for equal colours to 21 for black on white. */
export function contrast(one: string, other: string): number {
  const [darker = NaN, lighter = NaN] = [luminance(one), luminance(other)].toSorted((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
}
