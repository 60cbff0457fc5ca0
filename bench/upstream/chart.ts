/**
 * The picture of README.md: how much each client gets from each upstream, and how often it was refused. One narrow
 * column with large letters, so that a phone shows it legibly; and a background of its own, so it reads the same on a
 * dark page.
 */
import { COLOURS, FONT } from '../chart.js';
import { type Outcome, percent, refusals, type Results } from './report.js';

const WIDTH = 440;
const SHOWN_WIDTH = 560;
const MARGIN = 16;
const HEADER = 74;
const FOOTER = 54;
const LABEL = 146;
const BAR = 116;
const ROW = 24;
const PANEL_TITLE = 30;
const PANEL_GAP = 14;
const REFUSED = '#cf222e';

export function chart(results: Results): string {
  const heights = results.upstreams.map(({ clients }) => PANEL_TITLE + Object.keys(clients).length * ROW + PANEL_GAP);
  const height = HEADER + heights.reduce((sum, each) => sum + each, 0) + FOOTER;
  let y = HEADER;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${SHOWN_WIDTH}" height="${Math.round((height * SHOWN_WIDTH) / WIDTH)}" font-family="${FONT}" font-size="14" role="img" aria-labelledby="title">`,
    `<rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8" fill="${COLOURS.page}" stroke="${COLOURS.border}"/>`,
    `<text id="title" x="${MARGIN}" y="31" font-size="18" font-weight="600" fill="${COLOURS.text}">What a strict upstream lets through</text>`,
    muted(MARGIN, 54, 'Bar: share of what it allows. Right: requests refused.'),
    ...results.upstreams.flatMap((upstream, index) => {
      const drawn = panel(upstream, y);
      y += heights[index] ?? 0;
      return drawn;
    }),
    muted(MARGIN, height - 36, `${results.jobs} jobs; medians of ${results.rounds} rounds, the most in brackets.`),
    muted(MARGIN, height - 16, `Node ${results.node}, ${results.date.slice(0, 10)}`),
    '</svg>\n',
  ].join('\n');
}

function panel({ title, rule, clients }: Results['upstreams'][number], y: number): string[] {
  const rows = Object.entries(clients).toSorted(([, a], [, b]) => a.refused - b.refused || b.share - a.share);
  return [
    `<text x="${MARGIN}" y="${y + 18}" font-size="15" fill="${COLOURS.text}"><tspan font-weight="600">${title}</tspan><tspan fill="${COLOURS.muted}" font-size="13.5">: ${rule}</tspan></text>`,
    ...rows.flatMap(([name, outcome], index) => row(name, outcome, y + PANEL_TITLE + index * ROW + ROW / 2)),
  ];
}

function row(name: string, outcome: Outcome, middle: number): string[] {
  const left = MARGIN + LABEL;
  const ours = name.startsWith('headgate');
  const text = ours ? `font-weight="600" fill="${COLOURS.headgate}"` : `fill="${COLOURS.text}"`;
  const refused =
    Math.max(...outcome.trials.map((trial) => trial.refused)) > 0
      ? `font-weight="600" fill="${REFUSED}"`
      : `fill="${COLOURS.muted}"`;
  return [
    `<text x="${left - 8}" y="${middle + 5}" text-anchor="end" ${text}>${name}</text>`,
    `<rect x="${left}" y="${middle - 8}" width="${BAR}" height="16" rx="2" fill="${COLOURS.floor}" fill-opacity="0.6"/>`,
    `<rect x="${left}" y="${middle - 8}" width="${(Math.min(outcome.share, 1) * BAR).toFixed(1)}" height="16" rx="2" fill="${ours ? COLOURS.headgate : COLOURS.peer}"/>`,
    `<text x="${left + BAR + 52}" y="${middle + 5}" text-anchor="end" ${text}>${percent(outcome.share)}</text>`,
    `<text x="${WIDTH - MARGIN}" y="${middle + 5}" text-anchor="end" ${refused}>${refusals(outcome)}</text>`,
  ];
}

function muted(x: number, y: number, text: string): string {
  return `<text x="${x}" y="${y}" fill="${COLOURS.muted}">${text}</text>`;
}
