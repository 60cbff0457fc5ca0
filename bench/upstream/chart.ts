/**
 * The picture of bench/README.md: how much each client gets from each upstream, and how often the upstream refuses. One
 * narrow column with large letters is legible on a phone.
 */
import { element, fill, picture, remark } from '../svg.js';
import { type Measured, type Outcome, percent, refusals, type Results, sorted } from './report.js';

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

export function chart(results: Results): string {
  const panels = [...results.upstreams, results.both];
  const dates = new Set([results, results.both].map(({ date }) => date.slice(0, 10)));
  const heights = panels.map(({ clients }) => PANEL_TITLE + Object.keys(clients).length * ROW + PANEL_GAP);
  const height = HEADER + heights.reduce((sum, each) => sum + each, 0) + FOOTER;
  const title = { x: MARGIN, y: 31, text: 'What a strict upstream lets through' };
  let y = HEADER;
  return picture({ width: WIDTH, height, shownWidth: SHOWN_WIDTH, fontSize: 14 }, title, [
    remark(MARGIN, 54, 'Bar: share of what it allows. Right: requests refused.'),
    ...panels.flatMap((upstream, index) => {
      const drawn = panel(upstream, y);
      y += heights[index] ?? 0;
      return drawn;
    }),
    remark(MARGIN, height - 36, `Medians of ${results.rounds} rounds, the most in brackets.`),
    remark(MARGIN, height - 16, `Node ${results.node}, ${[...dates].join(' and ')}`),
  ]);
}

function panel(measured: Measured, y: number): string[] {
  const { title, rule } = measured;
  const heading =
    element('tspan', { 'font-weight': 600 }, title) +
    element('tspan', { ...fill('muted'), 'font-size': 13.5 }, `: ${rule}`);
  return [
    element('text', { x: MARGIN, y: y + 18, 'font-size': 15, ...fill('text') }, heading),
    ...sorted(measured).flatMap(([name, outcome], index) =>
      row(name, outcome, y + PANEL_TITLE + index * ROW + ROW / 2),
    ),
  ];
}

function row(name: string, outcome: Outcome, middle: number): string[] {
  const left = MARGIN + LABEL;
  const ours = name.startsWith('headgate');
  const style = ours ? { 'font-weight': 600, ...fill('headgate') } : fill('text');
  const wasRefused = outcome.trials.some((trial) => trial.refused > 0);
  const refusedStyle = wasRefused ? { 'font-weight': 600, ...fill('refused') } : fill('muted');
  const bar = { x: left, y: middle - 8 };
  const size = { height: 16, rx: 2 };
  const share = (Math.min(outcome.share, 1) * BAR).toFixed(1);
  const text = { y: middle + 5, 'text-anchor': 'end' };
  return [
    element('text', { x: left - 8, ...text, ...style }, name),
    element('rect', { ...bar, width: BAR, ...size, ...fill('floor') }),
    element('rect', { ...bar, width: share, ...size, ...fill(ours ? 'headgate' : 'peer') }),
    element('text', { x: left + BAR + 52, ...text, ...style }, percent(outcome.share)),
    element('text', { x: WIDTH - MARGIN, ...text, ...refusedStyle }, shortRefusals(outcome)),
  ];
}

/** Thousands of refusals leave no room for the most in brackets. */
function shortRefusals(outcome: Outcome): string {
  return outcome.refused < 1000 ? refusals(outcome) : String(outcome.refused);
}
