/** SVG elements as text: colours, labels and shapes. */

export const TITLE_SIZE = 19;
/** On a phone, 560 CSS pixels shrink to about 360, and this size to 10. */
export const TEXT_SIZE = 16;
/** The distance from the middle of a line of text to its baseline. */
const BASELINE = 5.5;

/** The name of a colour, and of its CSS class. */
export type Colour =
  'page' | 'text' | 'muted' | 'grid' | 'axis' | 'bound' | 'wait' | 'run' | 'no' | 'why' | 'pause' | 'level' | 'area';

/**
 * The property, and the colour on light and on dark pages. The colours are from Okabe and Ito's palette, which is safe
 * for colour-blind readers. Shape or position also distinguishes any two things.
 */
const COLOURS: Record<Colour, readonly [property: 'fill' | 'stroke', light: string, dark: string]> = {
  page: ['fill', '#ffffff', '#0d1117'],
  text: ['fill', '#1f2328', '#f0f6fc'],
  muted: ['fill', '#59636e', '#a5adb8'],
  grid: ['stroke', '#e2e6ea', '#2a3038'],
  axis: ['stroke', '#8c959f', '#7d8590'],
  bound: ['stroke', '#1f2328', '#f0f6fc'],
  wait: ['fill', '#9aa5b1', '#6b7683'],
  run: ['fill', '#0072b2', '#56b4e9'],
  no: ['stroke', '#d55e00', '#ff8a3d'],
  why: ['fill', '#b34700', '#ff9d5c'],
  pause: ['fill', '#fdeeb5', '#453a12'],
  level: ['stroke', '#007a5a', '#2fc79a'],
  area: ['fill', '#c9ebdf', '#123f33'],
};

const themeRules = (theme: 1 | 2): string =>
  Object.entries(COLOURS)
    .map(([name, colour]) => `.headgate .${name}{${colour[0]}:${colour[theme]}}`)
    .join('');

/** The style sheet for light and dark pages. Its selectors are scoped, since the picture may be inlined in a page. */
export function styleElement(): string {
  return `<style>${themeRules(1)}@media (prefers-color-scheme:dark){${themeRules(2)}}</style>`;
}

/** Escapes text for XML. Replaces the characters that XML does not allow. */
export function escapeXml(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, '\u{fffd}')
    .replaceAll(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** The approximate width of a text in CSS pixels. */
export function textWidth(text: string, size: number = TEXT_SIZE): number {
  let width = 0;
  for (const character of text) width += character > '\u{10ff}' ? 1 : 0.53;
  return width * size;
}

/** Cuts a text to a width. An ellipsis marks the cut. */
export function truncate(text: string, size: number, maxWidth: number): string {
  if (textWidth(text, size) <= maxWidth) return text;
  let kept = '';
  for (const character of text) {
    if (textWidth(`${kept}${character}…`, size) > maxWidth) break;
    kept += character;
  }
  return `${kept}…`;
}

/** A coordinate, rounded to a tenth of a pixel. */
export function px(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** The attributes of a colour. The light colour is also an attribute, for programs that ignore the style sheet. */
function paint(colour: Colour): string {
  const [property, light] = COLOURS[colour];
  return `class="${colour}" ${property === 'stroke' ? 'fill="none" ' : ''}${property}="${light}"`;
}

/** A text that begins at `x`, with its middle at `y`. */
export function label(x: number, y: number, content: string, colour: Colour = 'muted', attributes = ''): string {
  return `<text x="${px(x)}" y="${px(y + BASELINE)}" ${paint(colour)}${attributes}>${escapeXml(content)}</text>`;
}

/** A text that ends at `x`. */
export function labelBefore(x: number, y: number, content: string, colour?: Colour): string {
  return label(x, y, content, colour, ' text-anchor="end"');
}

export function rect(x: number, y: number, width: number, height: number, colour: Colour, attributes = ''): string {
  return `<rect x="${px(x)}" y="${px(y)}" width="${px(width)}" height="${px(height)}" ${paint(colour)}${attributes}/>`;
}

/** A horizontal bar with its middle at `y`. */
export function bar(x: number, y: number, length: number, height: number, colour: Colour, attributes = ''): string {
  return rect(x, y - height / 2, length, height, colour, attributes);
}

/** A path; the empty string for an empty path. */
export function path(d: string, colour: Colour, attributes = ''): string {
  return d && `<path d="${d}" ${paint(colour)}${attributes}/>`;
}

/** The dashed outline of a bar with its middle at `y`: the wait of a refused call. */
export function outline(x: number, y: number, length: number, height: number): string {
  return path(
    `M${px(x)} ${px(y - height / 2)}h${px(length)}v${px(height)}h${px(-length)}z`,
    'no',
    ' stroke-width="1.5" stroke-dasharray="4 2"',
  );
}

/** A cross: a refusal. */
export function cross(x: number, y: number, arm: number): string {
  const side = px(2 * arm);
  return path(
    `M${px(x - arm)} ${px(y - arm)}l${side} ${side}m0 -${side}l-${side} ${side}`,
    'no',
    ' stroke-width="2.5"',
  );
}

/** A dot: no tokens left. */
export function dot(x: number, y: number): string {
  return `<circle cx="${px(x)}" cy="${px(y)}" r="3.5" ${paint('why')}/>`;
}
