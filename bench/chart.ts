/**
 * The chart of the README: for each scenario, the time of each library as a multiple of headgate's time. Bars and
 * numbers show the same statistic, the median of the ratios within each round. The letters are legible if a page shows
 * the chart 400 pixels wide.
 */
import { FLOOR, HEADGATE } from './job-runners.js';
import { multiple, type Outcome, type Results } from './report.js';
import type { ScenarioId } from './scenarios.js';
import { element, fill, picture, remark, stroke } from './svg.js';

const SHOWN: readonly ScenarioId[] = [
  'acquire',
  'tryAcquire',
  'run',
  'jobs20k',
  'jobs200k',
  'abortShared',
  'abortEach',
];

const WIDTH = 640;
const MARGIN = 20;
const COLUMN = 286;
const HEADER = 92;
const FOOTER = 80;
const LABEL = 108;
const BAR = 104;
const ROW = 23;
const PANEL_TITLE = 30;
const PANEL_GAP = 18;
/** Longer bars are cut: on a scale that shows a long bar whole, all other bars would look the same. */
const LONGEST = 5;

export function chart(results: Results): string {
  const { date, node, cpu, cpus, rounds } = results;
  const columns = balance(SHOWN.map((id) => results.scenarios[id]));
  const height = HEADER + Math.max(...columns.map(heightOf)) + FOOTER;
  const title = { x: MARGIN, y: 34, text: "Time per operation, as a multiple of headgate's" };
  return picture({ width: WIDTH, height, fontSize: 15 }, title, [
    remark(MARGIN, 58, 'Shorter is faster; headgate is 1×. Each number is a median of the ratios'),
    remark(MARGIN, 78, `in up to ${rounds} rounds. Node ${node}, ${cpus} × ${cpu}, ${date.slice(0, 10)}.`),
    ...columns.flatMap((column, index) => drawColumn(column, MARGIN + index * (WIDTH - 2 * MARGIN - COLUMN))),
    remark(MARGIN, height - 58, `Bars longer than ${LONGEST}× are cut. bottleneck gets fewer jobs.`),
    remark(MARGIN, height - 38, `“${FLOOR}” is an async function that does nothing: the floor under`),
    remark(MARGIN, height - 18, 'everything that returns a promise.'),
  ]);
}

/** Splits the panels into two columns, in order, so that the taller column is as low as possible. */
function balance(panels: Outcome[]): [Outcome[], Outcome[]] {
  const splits = panels.map((_, at): [Outcome[], Outcome[]] => [panels.slice(0, at + 1), panels.slice(at + 1)]);
  const tallest = (columns: Outcome[][]): number => Math.max(...columns.map(heightOf));
  return splits.reduce((best, split) => (tallest(split) < tallest(best) ? split : best));
}

function heightOf(column: Outcome[]): number {
  return column.reduce((sum, { ratios }) => sum + PANEL_TITLE + Object.keys(ratios).length * ROW + PANEL_GAP, 0);
}

function drawColumn(column: Outcome[], x: number): string[] {
  let y = HEADER;
  return column.flatMap((panel) => {
    const drawn = drawPanel(panel, x, y);
    y += heightOf([panel]);
    return drawn;
  });
}

function drawPanel({ title, ratios }: Outcome, x: number, y: number): string[] {
  const rows = Object.entries(ratios).toSorted(([, a], [, b]) => a - b);
  const left = x + LABEL;
  const one = left + BAR / LONGEST;
  const top = y + PANEL_TITLE;
  return [
    element('text', { x, y: y + 20, 'font-size': 14.5, 'font-weight': 600, ...fill('text') }, title),
    ...rows.flatMap(([name, times], index) => {
      const middle = top + index * ROW + ROW / 2;
      const length = (Math.min(times, LONGEST) / LONGEST) * BAR;
      const colour = name === HEADGATE ? 'headgate' : name === FLOOR ? 'floor' : 'peer';
      const style = name === HEADGATE ? { 'font-weight': 600, ...fill('headgate') } : fill('text');
      const endsAt = (end: number): { x: number; y: number; 'text-anchor': 'end' } => ({
        x: end,
        y: middle + 5,
        'text-anchor': 'end',
      });
      return [
        element('text', { ...endsAt(left - 8), ...style }, name),
        element('rect', { x: left, y: middle - 8, width: length.toFixed(1), height: 16, rx: 2, ...fill(colour) }),
        times > LONGEST ? cut(left + BAR - 20, middle) : '',
        element('text', { ...endsAt(x + COLUMN), ...style }, multiple(times)),
      ];
    }),
    element('line', {
      x1: one,
      x2: one,
      y1: top,
      y2: top + rows.length * ROW,
      ...stroke('headgate'),
      'stroke-dasharray': '2 3',
    }),
  ];
}

/** Two slanted gaps, which show that a bar is longer than drawn. */
function cut(x: number, middle: number): string {
  return element('path', {
    d: `M${x} ${middle + 10}l5 -20m3 0l-5 20`,
    fill: 'none',
    ...stroke('page'),
    'stroke-width': 2,
  });
}
