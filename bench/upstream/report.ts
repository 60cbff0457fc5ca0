/**
 * The results of the trials: for each client and upstream, the used share of what the upstream allows, and the number
 * of refusals. A table for the terminal, and one for bench/README.md.
 */
import Table from 'cli-table3';
import { median, type Run } from '../run.js';

/** The result of one trial. */
export interface Trial {
  /** The time in which the upstream could have admitted all jobs, divided by the client's time. */
  readonly share: number;
  /** How many requests the upstream refused. */
  readonly refused: number;
}

export interface Outcome extends Trial {
  /** The client's setting for this upstream, as code. */
  readonly given: string;
  /** One result per round; `share` and `refused` are their medians. */
  readonly trials: readonly Trial[];
}

export interface Results extends Run {
  readonly jobs: number;
  readonly upstreams: readonly {
    readonly id: string;
    readonly title: string;
    readonly rule: string;
    /** By client. */
    readonly clients: Readonly<Record<string, Outcome>>;
  }[];
}

export function outcome(given: string, trials: readonly Trial[]): Outcome {
  return {
    given,
    share: median(trials.map(({ share }) => share)),
    refused: median(trials.map(({ refused }) => refused)),
    trials,
  };
}

export function print(results: Results): void {
  const { date, node, cpu, cpus, rounds, jobs, upstreams } = results;
  console.log(`\n${date}, Node ${node}, ${cpus} x ${cpu}: medians of ${rounds} rounds of ${jobs} jobs\n`);
  const head = ['share of the allowed, refused', ...upstreams.map(({ title }) => title)];
  const table = new Table({
    head,
    colAligns: ['left', ...upstreams.map(() => 'right' as const)],
    style: { head: [], border: [] },
  });
  for (const name of names(results)) table.push([name, ...cells(results, name)]);
  console.log(table.toString());
  console.log('The number in brackets is the most refusals in one round, if it differs.\n');
}

/** The part of bench/README.md between the marks. */
function markdown(results: Results): string {
  const { date, node, cpu, cpus, rounds, jobs, upstreams } = results;
  const row = (cellsOfRow: readonly string[]): string => `| ${cellsOfRow.join(' | ')} |`;
  return [
    row(['share of the allowed, requests refused', ...upstreams.map(({ title }) => title)]),
    row(['---', ...upstreams.map(() => '---:')]),
    ...names(results).map((name) => row([name, ...cells(results, name)])),
    '',
    `Medians of ${rounds} rounds of ${jobs} jobs on Node ${node}, ${cpus} × ${cpu}, ${date.slice(0, 10)}.`,
    'The number in brackets is the most refusals in one round, if it differs.',
    '',
    '<details><summary>The settings of each client</summary>',
    '',
    row(['', ...upstreams.map(({ title, rule }) => `${title}: ${rule}`)]),
    row(['---', ...upstreams.map(() => '---')]),
    ...names(results).map((name) => row([name, ...upstreams.map(({ clients }) => `\`${find(clients, name).given}\``)])),
    '',
    '</details>',
  ].join('\n');
}

const MARKS = { start: '<!-- bench/upstream.json -->', end: '<!-- end of bench/upstream.json -->' } as const;

/** Returns bench/README.md, which is `page`, with the results between the marks. */
export function fill(page: string, results: Results): string {
  const start = page.indexOf(MARKS.start);
  const end = page.indexOf(MARKS.end);
  if (start < 0 || end < start) throw new Error(`bench/README.md lacks the marks ${MARKS.start} and ${MARKS.end}`);
  return `${page.slice(0, start)}${MARKS.start}\n\n${markdown(results)}\n\n${page.slice(end)}`;
}

export function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

export function refusals({ refused, trials }: Outcome): string {
  const most = Math.max(...trials.map((trial) => trial.refused));
  return most === refused ? String(refused) : `${refused} (${most})`;
}

/** The names of all rows. The first upstream has a row for each of headgate's two kinds of rate limit. */
function names({ upstreams }: Results): string[] {
  return Object.keys(upstreams[0]?.clients ?? {});
}

/** The outcome for a row. Without a rate limit, headgate has one outcome, which both of its rows show. */
function find(clients: Readonly<Record<string, Outcome>>, name: string): Outcome {
  const found = clients[name] ?? clients[name.split(',')[0] ?? ''];
  if (found === undefined) throw new Error(`no results of ${name}`);
  return found;
}

function cells({ upstreams }: Results, name: string): string[] {
  return upstreams.map(({ clients }) => {
    const found = find(clients, name);
    return `${percent(found.share)}, ${refusals(found)}`;
  });
}
