/**
 * The chart of the README: for each scenario, the time of each library as a multiple of headgate's time. The chart has
 * a background of its own, so that it is legible on a dark page.
 */
import { FLOOR, HEADGATE } from './job-runners.js';
import { amount, multiple, type Outcome, type Results } from './report.js';
import type { ScenarioId } from './scenarios.js';
import { COLOURS, element, picture, remark } from './svg.js';

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
/** Longer bars are cut: on a scale that shows a long bar whole, all other bars would look the same. */
const LONGEST = 6;

export function chart(results: Results): string {
  const { date, node, cpu, cpus, rounds } = results;
  const columns = balance(SHOWN.map((id) => results.scenarios[id]));
  const height = HEADER + Math.max(...columns.map(heightOf)) + FOOTER;
  const machine = `Node ${node}, ${cpus} × ${cpu}, ${date.slice(0, 10)}`;
  const title = { x: MARGIN, y: 32, text: "Time per operation, as a multiple of headgate's" };
  return picture({ width: WIDTH, height, fontSize: 12 }, title, [
    remark(MARGIN, 52, `Shorter is faster; headgate = 1×. Medians of up to ${rounds} rounds on ${machine}.`),
    ...columns.flatMap((column, index) => drawColumn(column, MARGIN + index * (WIDTH - 2 * MARGIN - COLUMN))),
    remark(
      MARGIN,
      height - 34,
      `Bars longer than ${LONGEST}× are cut. headgate has both its limits on, rate and concurrency. ` +
        'bottleneck gets fewer jobs.',
    ),
    remark(
      MARGIN,
      height - 16,
      `“${FLOOR}” is an async function that does nothing: the floor under everything that returns a promise.`,
    ),
  ]);
}

/** Splits the panels into two columns, in order, so that the taller column is as low as possible. */
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
    element('text', { x, y: y + 16, 'font-size': 13, 'font-weight': 600, fill: COLOURS.text }, title),
    ...rows.flatMap(([name, times], index) => {
      const middle = top + index * ROW + ROW / 2;
      const length = (Math.min(times, LONGEST) / LONGEST) * BAR;
      const fill = name === HEADGATE ? COLOURS.headgate : name === FLOOR ? COLOURS.floor : COLOURS.peer;
      const style = name === HEADGATE ? { 'font-weight': 600, fill: COLOURS.headgate } : { fill: COLOURS.text };
      const endsAt = (end: number): { x: number; y: number; 'text-anchor': 'end' } => ({
        x: end,
        y: middle + 4,
        'text-anchor': 'end',
      });
      return [
        element('text', { ...endsAt(left - 8), ...style }, name),
        element('rect', { x: left, y: middle - 7, width: length.toFixed(1), height: 14, rx: 2, fill }),
        times > LONGEST ? cut(left + BAR - 18, middle) : '',
        element('text', { ...endsAt(left + BAR + 60), ...style }, multiple(times)),
        element('text', { ...endsAt(left + BAR + 122), fill: COLOURS.muted }, amount(medians[name] ?? NaN, unit)),
      ];
    }),
    element('line', {
      x1: one,
      x2: one,
      y1: top,
      y2: top + rows.length * ROW,
      stroke: COLOURS.headgate,
      'stroke-dasharray': '2 3',
    }),
  ];
}

/** Two slanted gaps, which show that a bar is longer than drawn. */
function cut(x: number, middle: number): string {
  return element('path', {
    d: `M${x} ${middle + 9}l5 -18m3 0l-5 18`,
    stroke: COLOURS.page,
    'stroke-width': 2,
  });
}
