/**
 * What came of the trials: for each client and upstream, the share of what the upstream allows and the refusals; as
 * a table for the terminal and for bench/README.md.
 */
import Table from 'cli-table3';
import { median, type Run } from '../run.js';

/** Of one trial. */
export interface Trial {
  /** The time in which the upstream would have let the list in, as a part of the time that the client took. */
  readonly share: number;
  /** Of all requests. */
  readonly refused: number;
}

export interface Outcome extends Trial {
  /** What the client was given for this upstream. */
  readonly given: string;
  /** `share` and `refused` are the medians of these. */
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
  console.log('In brackets, the most refusals in one round where that is another number.\n');
}

/** The part of bench/README.md that these results fill, between its marks. */
export function markdown(results: Results): string {
  const { date, node, cpu, cpus, rounds, jobs, upstreams } = results;
  const row = (cellsOfRow: readonly string[]): string => `| ${cellsOfRow.join(' | ')} |`;
  return [
    row(['share of the allowed, requests refused', ...upstreams.map(({ title }) => title)]),
    row(['---', ...upstreams.map(() => '---:')]),
    ...names(results).map((name) => row([name, ...cells(results, name)])),
    '',
    `Medians of ${rounds} rounds of ${jobs} jobs on Node ${node}, ${cpus} × ${cpu}, ${date.slice(0, 10)}. In brackets, the most refusals`,
    'in one round, where that is another number.',
    '',
    '<details><summary>What each was given</summary>',
    '',
    row(['', ...upstreams.map(({ title, rule }) => `${title}: ${rule}`)]),
    row(['---', ...upstreams.map(() => '---')]),
    ...names(results).map((name) => row([name, ...upstreams.map(({ clients }) => `\`${find(clients, name).given}\``)])),
    '',
    '</details>',
  ].join('\n');
}

const MARKS = { start: '<!-- bench/upstream.json -->', end: '<!-- end of bench/upstream.json -->' } as const;

/** bench/README.md with the results in their place. */
export function fill(readme: string, results: Results): string {
  const start = readme.indexOf(MARKS.start);
  const end = readme.indexOf(MARKS.end);
  if (start < 0 || end < start) throw new Error(`bench/README.md lacks the marks ${MARKS.start} and ${MARKS.end}`);
  return `${readme.slice(0, start)}${MARKS.start}\n\n${markdown(results)}\n\n${readme.slice(end)}`;
}

export function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

export function refusals({ refused, trials }: Outcome): string {
  const most = Math.max(...trials.map((trial) => trial.refused));
  return most === refused ? String(refused) : `${refused} (${most})`;
}

/** The first upstream is one that tells headgate's two ways to limit a rate apart. */
function names({ upstreams }: Results): string[] {
  return Object.keys(upstreams[0]?.clients ?? {});
}

/** What headgate gets where its two ways are one, it gets in both. */
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
