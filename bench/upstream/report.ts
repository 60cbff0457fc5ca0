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

/** What the clients got from one upstream. */
export interface Measured {
  readonly id: string;
  readonly title: string;
  readonly rule: string;
  /** By client. */
  readonly clients: Readonly<Record<string, Outcome>>;
}

/** A run against the upstreams with one limit. */
export interface RateResults extends Run {
  readonly jobs: number;
  readonly upstreams: readonly Measured[];
}

/** A run against the upstream with limits for requests and tokens. It has clients and jobs of its own. */
export interface TokenResults extends Run, Measured {
  readonly jobs: number;
}

export interface Results extends RateResults {
  readonly both: TokenResults;
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
  const { upstreams, both } = results;
  const head = ['share of the allowed, refused', ...upstreams.map(({ title }) => title)];
  const rates = table(head);
  for (const name of names(results)) rates.push([name, ...cells(results, name)]);
  console.log(`\n${source(results)}\n\n${rates.toString()}\n\n${BRACKETS}\n`);
  const tokens = table(['', 'share of the oracle', 'refused', 'requests sent']);
  for (const [name, each] of sorted(both)) tokens.push([name, ...tokenCells(both, each)]);
  console.log(`${both.title}: ${both.rule}\n${source(both)}\n\n${tokens.toString()}\n`);
}

function table(head: string[]): InstanceType<typeof Table> {
  const colAligns = head.map((_, index) => (index === 0 ? ('left' as const) : ('right' as const)));
  return new Table({ head, colAligns, style: { head: [], border: [] } });
}

const BRACKETS = 'The number in brackets is the most refusals in one round, if it differs.';

function source({ date, node, cpu, cpus, rounds, jobs }: Run & { readonly jobs: number }): string {
  return `Medians of ${rounds} rounds of ${jobs} jobs on Node ${node}, ${cpus} × ${cpu}, ${date.slice(0, 10)}.`;
}

const row = (cellsOfRow: readonly string[]): string => `| ${cellsOfRow.join(' | ')} |`;

/** The table of the upstreams with one limit. */
function rateTable(results: Results): string {
  const { upstreams } = results;
  return [
    row(['share of the allowed, requests refused', ...upstreams.map(({ title }) => title)]),
    row(['---', ...upstreams.map(() => '---:')]),
    ...names(results).map((name) => row([name, ...cells(results, name)])),
    '',
    source(results),
    BRACKETS,
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

/** The table of the upstream with two limits. */
function tokenTable({ both }: Results): string {
  return [
    row([`${both.title}: ${both.rule}`, 'share of the oracle', 'requests refused', 'requests sent']),
    row(['---', '---:', '---:', '---:']),
    ...sorted(both).map(([name, each]) => row([name, ...tokenCells(both, each)])),
    '',
    source(both),
    BRACKETS,
    '',
    '<details><summary>The settings of each client</summary>',
    '',
    row(['', 'setting']),
    row(['---', '---']),
    ...sorted(both).map(([name, { given }]) => row([name, `\`${given}\``])),
    '',
    '</details>',
  ].join('\n');
}

/** The clients from the fewest refusals to the most. */
export function sorted({ clients }: Measured): [string, Outcome][] {
  return Object.entries(clients).toSorted(([, a], [, b]) => a.refused - b.refused || b.share - a.share);
}

function tokenCells({ jobs }: TokenResults, measured: Outcome): string[] {
  // The upstream admits each job once, so every further request is a refused one.
  return [percent(measured.share), refusals(measured), String(jobs + measured.refused)];
}

const marks = (name: string): { start: string; end: string } => ({
  start: `<!-- ${name} -->`,
  end: `<!-- end of ${name} -->`,
});

/** Returns bench/README.md, which is `page`, with the results between the marks. */
export function fill(page: string, results: Results): string {
  const withRates = replace(page, 'bench/upstream.json', rateTable(results));
  return replace(withRates, 'bench/upstream.json, both', tokenTable(results));
}

function replace(page: string, name: string, text: string): string {
  const { start, end } = marks(name);
  const [from, to] = [page.indexOf(start), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`bench/README.md lacks the marks ${start} and ${end}`);
  return `${page.slice(0, from)}${start}\n\n${text}\n\n${page.slice(to)}`;
}

export function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

export function refusals({ refused, trials }: Outcome): string {
  const most = Math.max(...trials.map((trial) => trial.refused));
  return most === refused ? String(refused) : `${refused} (${most})`;
}

/** The names of all rows. The first upstream has a row for each of headgate's two kinds of rate limit. */
function names({ upstreams }: RateResults): string[] {
  return Object.keys(upstreams[0]?.clients ?? {});
}

/** The outcome for a row. Without a rate limit, headgate has one outcome, which both of its rows show. */
function find(clients: Readonly<Record<string, Outcome>>, name: string): Outcome {
  const found = clients[name] ?? clients[name.split(',')[0] ?? ''];
  if (found === undefined) throw new Error(`no results of ${name}`);
  return found;
}

function cells({ upstreams }: RateResults, name: string): string[] {
  return upstreams.map(({ clients }) => {
    const found = find(clients, name);
    return `${percent(found.share)}, ${refusals(found)}`;
  });
}
