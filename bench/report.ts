/**
 * The results of a run: medians, ratios, and whether headgate reaches the figures that it promises.
 */
import Table from 'cli-table3';
import { median, type Run, thisRun } from './run.js';
import { HEADGATE } from './job-runners.js';
import { FEW_ABORTED, ITSELF, MANY_ABORTED, ON_REDIS, REFUSALS, type ScenarioId, scenarios } from './scenarios.js';

/** By scenario and candidate, one sample per round, with a hole for each round that the candidate sat out. */
export type Samples = Partial<Record<ScenarioId, Record<string, number[]>>>;

export interface Results extends Run {
  readonly scenarios: Readonly<Record<ScenarioId, Outcome>>;
  readonly figures: readonly Figure[];
}

export interface Outcome {
  readonly title: string;
  readonly unit: 'ns' | 'bytes' | 'times';
  /** By candidate: the median for one operation, job or waiter. */
  readonly medians: Readonly<Record<string, number>>;
  /** By candidate: the multiple of headgate's value, as the median of the ratios within each round. */
  readonly ratios: Readonly<Record<string, number>>;
}

/** A promised figure, and its measured value. */
interface Figure {
  readonly figure: string;
  readonly most: number;
  readonly measured: number;
  readonly reached: boolean;
}

export function evaluate(samples: Samples, rounds: number): Results {
  const of = (id: ScenarioId, name: string): number[] => {
    const values = samples[id]?.[name];
    if (values === undefined) throw new Error(`no samples for ${id} of ${name}`);
    return values;
  };
  /** The median of the ratios within each round in which both took part. */
  const ratio = (values: number[], base: number[]): number =>
    median(values.map((value, round) => value / (base[round] ?? NaN)));
  const compare = (id: ScenarioId, name: string): number => ratio(of(id, HEADGATE), of(id, name));
  /** The time to abort many waiters, as a multiple of the time to abort few. */
  const growth = (many: ScenarioId, few: ScenarioId): number =>
    (ratio(of(many, HEADGATE), of(few, HEADGATE)) * MANY_ABORTED) / FEW_ABORTED;
  const figure = (text: string, most: number, measured: number): Figure => ({
    figure: text,
    most,
    measured,
    reached: measured <= most,
  });

  return {
    ...thisRun(rounds),
    scenarios: Object.fromEntries(
      Object.entries(scenarios).map(([key, { title, unit, candidates }]) => {
        const id = key as ScenarioId;
        const each = (value: (name: string) => number): Record<string, number> =>
          Object.fromEntries(Object.keys(candidates).map((name) => [name, value(name)]));
        const medians = each((name) => median(of(id, name)));
        return [id, { title, unit, medians, ratios: each((name) => ratio(of(id, name), of(id, HEADGATE))) }];
      }),
    ) as Record<ScenarioId, Outcome>,
    figures: [
      figure('acquire + release, slots only / bare await', 2, compare('slots', ITSELF.slots)),
      figure('acquire + release, both limits / bare await and clock', 1.5, compare('bothLimits', ITSELF.bothLimits)),
      figure('acquire + release / limiter', 0.6, compare('acquire', 'limiter')),
      figure('run / p-limit', 0.7, compare('run', 'p-limit')),
      figure('20,000 jobs / p-limit', 0.45, compare('jobs20k', 'p-limit')),
      figure('200,000 jobs / p-limit', 0.45, compare('jobs200k', 'p-limit')),
      figure('20,000 jobs / async-sema', 0.9, compare('jobs20k', 'async-sema')),
      figure('200,000 jobs / async-sema', 0.9, compare('jobs200k', 'async-sema')),
      figure('heap per waiter, bytes', 280, median(of('heapAcquire', HEADGATE))),
      figure('abort 50,000 / 5,000, one signal', 15, growth('abortShared', 'abortSharedFew')),
      figure('abort 50,000 / 5,000, a signal each', 15, growth('abortEach', 'abortEachFew')),
      figure('acquire + release, no subscribers / without events', 1.02, compare('watched', ITSELF.watched)),
      figure('KeyedThrottle.run / Throttle.run', 1.5, compare('keyed', ITSELF.keyed)),
      figure('sliding window of 1,000 / bucket', 2, compare('window', ITSELF.window)),
      // At least 90 % of the throughput.
      figure('a request to Express, with / without', 1 / 0.9, compare('express', ITSELF.express)),
      figure('on Redis, acquire + release / redis-semaphore', 0.85, compare('redisPair', ON_REDIS.peer)),
      figure('on Redis, acquire + release / PING', 2, compare('redisPair', ON_REDIS.floor)),
      figure('on Redis, µs in Redis for that', 20, median(of('redisServerTime', HEADGATE)) / 1_000),
      figure('on Redis, commands in Redis for that', 7, median(of('redisCommands', HEADGATE))),
      figure('on Redis, the same with linger, µs', 10, median(of('redisLinger', HEADGATE)) / 1_000),
      figure('on Redis, 64 workers over 64 slots / redis-semaphore', 1 / 2.5, compare('redisFree', ON_REDIS.peer)),
      figure('on Redis, 64 workers over 8 slots / redis-semaphore', 1 / 3, compare('redisBusy', ON_REDIS.peer)),
      figure('on Redis, 64 over 8, longest wait / median', 3, median(of('redisFair', HEADGATE))),
      figure('on Redis, release to grant elsewhere / PING', 3, compare('redisHandover', ON_REDIS.floor)),
    ],
  };
}

export function print({ date, node, cpu, cpus, rounds, scenarios: outcomes, figures }: Results): void {
  console.log(
    `\n${date}, Node ${node}, ${cpus} x ${cpu}`,
    `\nMedians of up to ${rounds} rounds, and multiples of headgate's values\n`,
  );

  // The figures below show how headgate compares with itself. On Redis it has other peers.
  const others = Object.entries(outcomes).filter(([id]) => !(id in ITSELF) && !(id in REFUSALS));
  const onRedis = others.filter(([, { medians }]) => ON_REDIS.peer in medians || ON_REDIS.floor in medians);
  printTable(others.filter((entry) => !onRedis.includes(entry)).map(([, outcome]) => outcome));
  console.log(
    'n/a: the library lacks the operation, or (async-mutex) would take minutes.',
    '\nbottleneck gets fewer jobs, since each of its jobs takes the same time.\n',
  );
  printTable(onRedis.map(([, outcome]) => outcome));
  for (const id of Object.keys(REFUSALS) as (keyof typeof REFUSALS)[]) printTable([outcomes[id]]);

  const promises = new Table({
    head: ['figure', 'target', 'measured', ''],
    colAligns: ['left', 'right', 'right', 'left'],
    style,
  });
  for (const { figure, most, measured, reached } of figures) {
    promises.push([figure, `<= ${brief(most)}`, brief(measured), reached ? 'reached' : 'MISSED']);
  }
  console.log(promises.toString());
  const missed = figures.filter(({ reached }) => !reached);
  console.log(
    missed.length === 0
      ? 'All figures are reached.'
      : `${missed.length} of ${figures.length} figures are MISSED: ${missed.map(({ figure }) => figure).join('; ')}.`,
  );
}

const style = { head: [], border: [] };

function printTable(outcomes: readonly Outcome[]): void {
  const names = [...new Set(outcomes.flatMap(({ medians }) => Object.keys(medians)))];
  const table = new Table({
    head: ['for each operation, job or waiter', ...names],
    colAligns: ['left', ...names.map(() => 'right' as const)],
    style,
  });
  for (const { title, unit, medians, ratios } of outcomes) {
    const cell = (name: string): string => {
      const [value, times] = [medians[name], ratios[name]];
      return value === undefined || times === undefined ? 'n/a' : `${amount(value, unit)}\n${multiple(times)}`;
    };
    table.push([title, ...names.map(cell)]);
  }
  console.log(table.toString());
}

/** Three digits and a fitting unit. */
export function amount(value: number, unit: Outcome['unit']): string {
  if (unit === 'bytes') return `${brief(value)} B`;
  if (unit === 'times') return multiple(value);
  if (value < 1e3) return `${brief(value)} ns`;
  return value < 1e6 ? `${brief(value / 1e3)} µs` : `${brief(value / 1e6)} ms`;
}

export function multiple(times: number): string {
  return `${brief(times)}×`;
}

function brief(value: number): string {
  return value < 100 ? String(Number(value.toPrecision(3))) : Math.round(value).toLocaleString('en');
}
