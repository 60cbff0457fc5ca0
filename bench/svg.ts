/**
 * Parts that the charts of both benches share: elements of SVG, colours and the font. A chart has the colours of a
 * light page and of a dark page, and follows the reader's setting.
 */

/** The colour on a light page and on a dark page. */
const COLOURS = {
  page: ['#ffffff', '#0d1117'],
  border: ['#d0d7de', '#30363d'],
  text: ['#1f2328', '#f0f6fc'],
  muted: ['#59636e', '#a5adb8'],
  peer: ['#a9b6c6', '#6b7683'],
  headgate: ['#1a7f37', '#4ac26b'],
  floor: ['#dfe4ea', '#2f363f'],
  refused: ['#cf222e', '#ff7b72'],
} as const;

export type Colour = keyof typeof COLOURS;

const FONT = `system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif`;

type Attributes = Readonly<Record<string, string | number>>;

/** An element with its attributes in the order of the object. */
export function element(name: string, attributes: Attributes, content?: string): string {
  const text = Object.entries(attributes).map(([key, value]) => ` ${key}="${value}"`);
  return `<${name}${text.join('')}${content === undefined ? '/>' : `>${content}</${name}>`}`;
}

/** The attributes of a filled element. The light colour is an attribute too, for programs that ignore style sheets. */
export function fill(colour: Colour): Attributes {
  return { class: colour, fill: COLOURS[colour][0] };
}

/** The attributes of a drawn line. */
export function stroke(colour: Colour): Attributes {
  return { class: `${colour}-line`, stroke: COLOURS[colour][0] };
}

function rules(theme: 0 | 1): string {
  return Object.entries(COLOURS)
    .map(([name, colours]) => `.${name}{fill:${colours[theme]}}.${name}-line{stroke:${colours[theme]}}`)
    .join('');
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
  const frame = { x: 0.5, y: 0.5, width: width - 1, height: height - 1, rx: 8 };
  return [
    opened,
    `<style>${rules(0)}@media (prefers-color-scheme:dark){${rules(1)}}</style>`,
    element('rect', { ...frame, ...fill('page') }),
    element('rect', { ...frame, ...stroke('border'), fill: 'none' }),
    element(
      'text',
      { id: 'title', x: title.x, y: title.y, 'font-size': 18, 'font-weight': 600, ...fill('text') },
      title.text,
    ),
    ...content,
    '</svg>\n',
  ].join('\n');
}

/** Text in the colour of remarks. */
export function remark(x: number, y: number, text: string): string {
  return element('text', { x, y, ...fill('muted') }, text);
}
