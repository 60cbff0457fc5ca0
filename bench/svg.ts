/**
 * Parts that the charts of both benches share: elements of SVG, colours and the font. A chart has a background of its
 * own, so that it is legible on a dark page.
 */

export const COLOURS = {
  page: '#ffffff',
  border: '#d0d7de',
  text: '#1f2328',
  muted: '#59636e',
  peer: '#a9b6c6',
  headgate: '#1a7f37',
  floor: '#dfe4ea',
} as const;

const FONT = `system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif`;

type Attributes = Readonly<Record<string, string | number>>;

/** An element with its attributes in the order of the object. */
export function element(name: string, attributes: Attributes, content?: string): string {
  const text = Object.entries(attributes).map(([key, value]) => ` ${key}="${value}"`);
  return `<${name}${text.join('')}${content === undefined ? '/>' : `>${content}</${name}>`}`;
}

/** The size of a drawing: its own units, and the pixels that a page shows. */
export interface Size {
  readonly width: number;
  readonly height: number;
  readonly shownWidth?: number;
  readonly fontSize: number;
}

/** A picture with a frame and a title. The title's position is `x`, `y`. */
export function picture(
  { width, height, shownWidth = width, fontSize }: Size,
  title: { readonly x: number; readonly y: number; readonly text: string },
  content: readonly string[],
): string {
  const opened = element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      viewBox: `0 0 ${width} ${height}`,
      width: shownWidth,
      height: Math.round((height * shownWidth) / width),
      'font-family': FONT,
      'font-size': fontSize,
      role: 'img',
      'aria-labelledby': 'title',
    },
    '\n',
  ).replace('\n</svg>', '');
  const frame = { x: 0.5, y: 0.5, width: width - 1, height: height - 1, rx: 8, fill: COLOURS.page };
  return [
    opened,
    element('rect', { ...frame, stroke: COLOURS.border }),
    element(
      'text',
      { id: 'title', x: title.x, y: title.y, 'font-size': 18, 'font-weight': 600, fill: COLOURS.text },
      title.text,
    ),
    ...content,
    '</svg>\n',
  ].join('\n');
}

/** Text in the colour of remarks. */
export function remark(x: number, y: number, text: string): string {
  return element('text', { x, y, fill: COLOURS.muted }, text);
}
