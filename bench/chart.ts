/**
 * The chart of the README: for each scenario, who takes how many times what headgate takes. It brings a background
 * of its own, so it reads the same on a dark page.
 */
import { amount, multiple, type Outcome, type Results } from './report.js';
import { FLOOR, HEADGATE, type ScenarioId } from './scenarios.js';

const SHOWN: readonly ScenarioId[] = [
  'acquire',
  'tryAcquire',
  'run',
  'jobs20k',
  'jobs200k',
  'abortShared',
  'abortEach',
];

const WIDTH = 880;
const MARGIN = 24;
const COLUMN = 404;
const HEADER = 72;
const FOOTER = 46;
const LABEL = 88;
const BAR = 190;
const ROW = 20;
const PANEL_TITLE = 26;
const PANEL_GAP = 18;
/** Longer bars are cut: on a scale that shows them whole, all the others would look the same. */
const LONGEST = 6;

export const COLOURS = {
  page: '#ffffff',
  border: '#d0d7de',
  text: '#1f2328',
  muted: '#59636e',
  peer: '#a9b6c6',
  headgate: '#1a7f37',
  floor: '#dfe4ea',
} as const;
export const FONT = `system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif`;

export function chart(results: Results): string {
  const panels = SHOWN.map((id) => results.scenarios[id]);
  const columns = balance(panels);
  const height = HEADER + Math.max(...columns.map(heightOf)) + FOOTER;
  const date = results.date.slice(0, 10);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="${FONT}" font-size="12" role="img" aria-labelledby="title">`,
    `<rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8" fill="${COLOURS.page}" stroke="${COLOURS.border}"/>`,
    `<text id="title" x="${MARGIN}" y="32" font-size="18" font-weight="600" fill="${COLOURS.text}">Time per operation, as a multiple of headgate's</text>`,
    label(
      MARGIN,
      52,
      `Shorter is faster; headgate = 1×. Medians of up to ${results.rounds} rounds on Node ${results.node}, ${results.cpus} × ${results.cpu}, ${date}.`,
    ),
    ...columns.flatMap((column, index) => drawColumn(column, MARGIN + index * (WIDTH - 2 * MARGIN - COLUMN))),
    label(
      MARGIN,
      height - 34,
      `Bars longer than ${LONGEST}× are cut. headgate has both its limits on, rate and concurrency. bottleneck gets fewer jobs.`,
    ),
    label(
      MARGIN,
      height - 16,
      `“${FLOOR}” is an async function that does nothing: the floor under everything that returns a promise.`,
    ),
    '</svg>\n',
  ].join('\n');
}

/** Two columns, in order, so that the taller one is as low as can be. */
function balance(panels: Outcome[]): [Outcome[], Outcome[]] {
  const splits = panels.map((_, at): [Outcome[], Outcome[]] => [panels.slice(0, at + 1), panels.slice(at + 1)]);
  const tallest = (columns: Outcome[][]): number => Math.max(...columns.map(heightOf));
  return splits.reduce((best, split) => (tallest(split) < tallest(best) ? split : best));
}

function heightOf(column: Outcome[]): number {
  return column.reduce((sum, { medians }) => sum + PANEL_TITLE + Object.keys(medians).length * ROW + PANEL_GAP, 0);
}

function drawColumn(column: Outcome[], x: number): string[] {
  let y = HEADER;
  return column.flatMap((panel) => {
    const drawn = drawPanel(panel, x, y);
    y += heightOf([panel]);
    return drawn;
  });
}

function drawPanel({ title, unit, medians, ratios }: Outcome, x: number, y: number): string[] {
  const rows = Object.entries(ratios).toSorted(([, a], [, b]) => a - b);
  const left = x + LABEL;
  const one = left + BAR / LONGEST;
  const top = y + PANEL_TITLE;
  return [
    `<text x="${x}" y="${y + 16}" font-size="13" font-weight="600" fill="${COLOURS.text}">${title}</text>`,
    ...rows.flatMap(([name, times], index) => {
      const middle = top + index * ROW + ROW / 2;
      const length = (Math.min(times, LONGEST) / LONGEST) * BAR;
      const colour = name === HEADGATE ? COLOURS.headgate : name === FLOOR ? COLOURS.floor : COLOURS.peer;
      const text = name === HEADGATE ? `font-weight="600" fill="${COLOURS.headgate}"` : `fill="${COLOURS.text}"`;
      return [
        `<text x="${left - 8}" y="${middle + 4}" text-anchor="end" ${text}>${name}</text>`,
        `<rect x="${left}" y="${middle - 7}" width="${length.toFixed(1)}" height="14" rx="2" fill="${colour}"/>`,
        times > LONGEST ? cut(left + BAR - 18, middle) : '',
        `<text x="${left + BAR + 60}" y="${middle + 4}" text-anchor="end" ${text}>${multiple(times)}</text>`,
        `<text x="${left + BAR + 122}" y="${middle + 4}" text-anchor="end" fill="${COLOURS.muted}">${amount(medians[name] ?? NaN, unit)}</text>`,
      ];
    }),
    `<line x1="${one}" x2="${one}" y1="${top}" y2="${top + rows.length * ROW}" stroke="${COLOURS.headgate}" stroke-dasharray="2 3"/>`,
  ];
}

/** Two slanted gaps in a bar that goes on. */
function cut(x: number, middle: number): string {
  return `<path d="M${x} ${middle + 9}l5 -18m3 0l-5 18" stroke="${COLOURS.page}" stroke-width="2"/>`;
}

function label(x: number, y: number, text: string): string {
  return `<text x="${x}" y="${y}" fill="${COLOURS.muted}">${text}</text>`;
}
