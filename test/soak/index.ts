/**
 * `npm run test:soak -- --minutes N`: random histories with fresh seeds, for as long as one likes, over the core, keyed
 * throttles, HTTP servers and Redis. The parts take turns. After each turn the heap, and what the process holds open,
 * are looked at. The first thing that is wrong ends it: the seed is printed, and the command that plays it again.
 *
 * `--seed S` plays the history of one seed once. `--only core|keyed|http|redis` (or several, with commas) leaves the
 * others out.
 */
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { core } from './core.js';
import { overHttp } from './http.js';
import { keyed } from './keyed.js';
import { HistoryFailed, newTally, type Part, type Tally, within } from './part.js';
import { onRedis } from './redis.js';
import {
  complaints,
  Growth,
  holdings,
  LEAST_LOOKS,
  listenForComplaints,
  MOST_GROWTH,
  print,
  returned,
  Watchdog,
} from './watch.js';

const PARTS: readonly Part[] = [core, keyed, overHttp, onRedis];

/** The parts take turns of a few seconds; in a short run of less, so that there are enough looks at the heap. */
const LONGEST_ROUND = 10;
/** Seconds for one history. */
const MOST_SECONDS = 120;

interface Running {
  readonly part: Part;
  readonly index: number;
  readonly tally: Tally;
  growth: Growth | undefined;
  /** What the process held when the part had had its first turn. */
  before: ReadonlyMap<string, number> | undefined;
  seconds: number;
}

const { values } = parseArgs({
  options: { minutes: { type: 'string' }, seed: { type: 'string' }, only: { type: 'string' } },
});
const minutes = Number(values.minutes ?? 1);
const only = values.only?.split(',') ?? PARTS.map(({ name }) => name);
const seed = values.seed === undefined ? undefined : Number(values.seed);
const unknown = only.find((name) => !PARTS.some((part) => part.name === name));
if (unknown !== undefined || !(minutes > 0) || (seed !== undefined && !Number.isInteger(seed))) {
  print(`usage: npm run test:soak -- [--minutes N] [--only ${PARTS.map(({ name }) => name).join('|')}] [--seed S]`);
  process.exit(2);
}

const chosen: Running[] = PARTS.filter(({ name }) => only.includes(name)).map((part, index) => ({
  part,
  index,
  tally: newTally(),
  growth: undefined,
  before: undefined,
  seconds: 0,
}));
const watchdog = new Watchdog(chosen.map(({ part }) => part.name));
/** Aborts when somebody wants it to end. */
const stop = new AbortController();

/** Plays one history, and says how to play it again where it fails. */
async function play({ part, index, tally }: Running, historySeed: number): Promise<boolean> {
  watchdog.beat(index, historySeed);
  try {
    await within(MOST_SECONDS, part.play(historySeed, tally), 'the history');
    tally.histories++;
    if (complaints.length === 0) return true;
    throw new Error(complaints.join('\n'));
  } catch (error) {
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    print(`\nFAILED: ${part.name}, seed ${historySeed}: ${message}`);
    if (error instanceof HistoryFailed) print(error.history);
    else print(stack ?? '');
    for (const complaint of complaints) print(complaint);
    if (!part.exact)
      print('This part runs in real time: its seed repeats what is done, but not when, so it may take some tries.');
    print(`again: npm run test:soak -- --only ${part.name} --seed ${historySeed}`);
    return false;
  }
}

/** A turn of a part: histories with fresh seeds for so many seconds, and what they have left behind. */
async function turnOf(running: Running, seconds: number): Promise<boolean> {
  const { part, tally } = running;
  const before = await Growth.heap();
  const from = performance.now();
  let last = 0;
  do {
    last = randomBytes(4).readUInt32LE();
    if (!(await play(running, last))) return false;
  } while (!stop.signal.aborted && performance.now() - from < seconds * 1_000);
  const rest = running.before === undefined ? undefined : await returned(running.before);
  running.seconds += (performance.now() - from) / 1_000;
  const after = await Growth.heap();
  // The first turn is when everything is loaded that is kept.
  running.before ??= holdings();
  running.growth ??= Growth.from(before);
  running.growth.add(tally.operations, running.seconds, after - before);
  if (rest === undefined) return true;
  print(`\nFAILED: ${part.name}: ${rest}`);
  print(`It came with many histories; the last was that of seed ${last}.`);
  print(`again: npm run test:soak -- --only ${part.name} --minutes ${minutes}`);
  return false;
}

const mega = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;

function report(from: number): void {
  const parts = chosen.map(
    ({ part, tally }) => `${part.name} ${tally.histories} histories, ${tally.operations} operations`,
  );
  print(
    `${((performance.now() - from) / 60_000).toFixed(1)} min: ${parts.join('; ')}; heap ${mega(process.memoryUsage().heapUsed)}`,
  );
}

function summarize(from: number, total: Growth): void {
  print(`\nafter ${((performance.now() - from) / 60_000).toFixed(2)} minutes:`);
  const rows = chosen.map(({ part, tally, growth, seconds }) => {
    const [start, end] = growth?.ends ?? [NaN, NaN];
    return [
      part.name,
      tally.histories,
      tally.operations,
      tally.grants,
      tally.refusals,
      tally.aborts,
      seconds.toFixed(0),
      mega(start),
      mega(end),
      mega(growth?.bytes ?? 0),
      `${((growth?.slope ?? 0) / 1e3).toFixed(1)} kB/s`,
    ];
  });
  const table = [
    [
      'part',
      'histories',
      'operations',
      'grants',
      'refusals',
      'aborts',
      'seconds',
      'heap at start',
      'at end',
      'growth',
      'slope',
    ],
    ...rows,
  ].map((row) => row.map(String));
  const widths = table[0]?.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0))) ?? [];
  for (const row of table)
    print(
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  '),
    );
  const [first, last] = total.ends;
  print(
    `The heap of all: from ${mega(first)} to ${mega(last)}; from the second quarter of the rounds to the last, by the medians, it grew by ${mega(total.bytes)}, of`,
  );
  print(
    `${mega(MOST_GROWTH)} allowed; ${(total.slope / 1e3).toFixed(1)} kB/s by least squares. Of a part: what its turns have added, of which much goes in those of others.`,
  );
}

async function soak(): Promise<boolean> {
  const rounds = Math.max(LEAST_LOOKS, Math.round((minutes * 60) / LONGEST_ROUND));
  const weights = chosen.reduce((sum, { part }) => sum + part.weight, 0);
  const from = performance.now();
  const end = from + minutes * 60_000;
  print(`${minutes} minutes of ${chosen.map(({ part }) => part.name).join(', ')}; process ${process.pid}`);
  for (const { part } of chosen)
    if (!part.exact) print(`${part.name} runs in real time: its seeds repeat what is done, but not when`);
  const start = await Growth.heap();
  const total = Growth.from(start);
  let heap = start;
  let reported = 0;
  // A busy machine may have no time for so many; what they tell is worth waiting for a little.
  for (let round = 0; !stop.signal.aborted && (performance.now() < end || round < LEAST_LOOKS); round++) {
    for (const running of chosen) {
      if (stop.signal.aborted) break;
      if (!(await turnOf(running, ((minutes * 60) / rounds) * (running.part.weight / weights)))) return false;
    }
    // What one part leaves to be collected may be so in another's turn: what counts is what all of them leave.
    const now = await Growth.heap();
    const sum = (pick: (running: Running) => number): number => chosen.reduce((all, running) => all + pick(running), 0);
    total.add(
      sum(({ tally }) => tally.operations),
      sum(({ seconds }) => seconds),
      now - heap,
    );
    heap = now;
    if (total.verdict !== undefined) {
      print(`\nFAILED: ${total.verdict}`);
      print(
        `again, part by part: npm run test:soak -- --minutes ${minutes} --only ${chosen.map(({ part }) => part.name).join(', or ')}`,
      );
      return false;
    }
    const passed = Math.floor((performance.now() - from) / 60_000);
    if (passed > reported) report(from);
    reported = passed;
  }
  summarize(from, total);
  return true;
}

async function once(): Promise<boolean> {
  let good = true;
  for (const running of chosen) {
    good = (await play(running, seed as number)) && good;
    const { histories, ...counts } = running.tally;
    if (histories > 0)
      print(
        `${running.part.name}, seed ${seed}: good; ${Object.entries(counts)
          .map(([name, count]) => `${count} ${name}`)
          .join(', ')}`,
      );
  }
  return good;
}

async function closeAll(): Promise<void> {
  await Promise.all(chosen.map(({ part }) => part.close?.()));
  await watchdog.stop();
}

listenForComplaints();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // Whoever asks a second time does not want to wait for the history to end.
    if (stop.signal.aborted) void closeAll().finally(() => process.exit(1));
    else print(`\n${signal}: ends with this history`);
    stop.abort();
  });
}

let good = false;
try {
  for (const { part } of chosen) watchdog.guard((await part.open?.()) ?? []);
  good = seed === undefined ? await soak() : await once();
} catch (error) {
  print(
    `\nFAILED, before anything was played: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  );
} finally {
  await closeAll();
}
print(good ? 'nothing wrong was found' : 'FAILED');
process.exit(good && !stop.signal.aborted ? 0 : 1);
