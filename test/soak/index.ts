/**
 * `npm run test:soak -- --minutes N` plays random histories with fresh seeds for N minutes: over the core, keyed
 * throttles, HTTP servers and Redis, in this process and in several. The parts take turns. After each turn, the soak
 * measures the heap and counts the open resources of the process. The first failure ends the run, and prints its seed
 * and the command that repeats it.
 *
 * `--seed S` plays the history of one seed once. `--only core|keyed|http|redis|processes|crowd` selects parts,
 * separated by commas.
 */
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { core } from './core.js';
import { crowd } from './crowd.js';
import { overHttp } from './http.js';
import { keyed } from './keyed.js';
import { HistoryFailed, newTally, type Part, type Tally, within } from './part.js';
import { processes } from './processes.js';
import { onRedis } from './redis.js';
import {
  processErrors,
  Growth,
  openResources,
  MIN_SAMPLES,
  recordProcessErrors,
  MAX_GROWTH,
  print,
  unreleased,
  Watchdog,
} from './watch.js';

const PARTS: readonly Part[] = [core, keyed, overHttp, onRedis, processes, crowd];

/** A round gives every part a turn. A short run has shorter rounds, so that it takes enough samples of the heap. */
const MAX_ROUND_SECONDS = 10;
/** The usual limit for one history. */
const MAX_HISTORY_SECONDS = 120;

interface Running {
  readonly part: Part;
  readonly index: number;
  readonly tally: Tally;
  growth: Growth | undefined;
  /** The open resources of the process after the first turn of the part. */
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
/** Aborts when the process receives a signal to end. */
const stop = new AbortController();

/** Plays one history. If the history fails, prints the command that repeats it. */
async function play({ part, index, tally }: Running, historySeed: number): Promise<boolean> {
  const beat = (): void => watchdog.beat(index, historySeed);
  beat();
  // A history may last longer than the watchdog waits, so a timer reports that the event loop is alive.
  const beating = setInterval(beat, 1_000);
  try {
    await within(part.historySeconds ?? MAX_HISTORY_SECONDS, part.play(historySeed, tally), 'the history');
    tally.histories++;
    if (processErrors.length === 0) return true;
    throw new Error(processErrors.join('\n'));
  } catch (error) {
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    print(`\nFAILED: ${part.name}, seed ${historySeed}: ${message}`);
    if (error instanceof HistoryFailed) print(error.history);
    else print(stack ?? '');
    for (const processError of processErrors) print(processError);
    if (!part.exact)
      print(
        'This part runs in real time: its seed repeats the calls but not their timing, so several runs may be needed.',
      );
    print(`repeat: npm run test:soak -- --only ${part.name} --seed ${historySeed}`);
    return false;
  } finally {
    clearInterval(beating);
  }
}

/** Plays histories with fresh seeds for so many seconds, and checks what they leave behind. */
async function turnOf(running: Running, seconds: number): Promise<boolean> {
  const { part, tally } = running;
  const before = await Growth.heap();
  const from = performance.now();
  let last = 0;
  do {
    last = randomBytes(4).readUInt32LE();
    if (!(await play(running, last))) return false;
  } while (part.once !== true && !stop.signal.aborted && performance.now() - from < seconds * 1_000);
  const rest = running.before === undefined ? undefined : await unreleased(running.before);
  running.seconds += (performance.now() - from) / 1_000;
  const after = await Growth.heap();
  // The first turn loads everything that stays loaded.
  running.before ??= openResources();
  running.growth ??= Growth.from(before);
  running.growth.add(tally.operations, running.seconds, after - before);
  if (rest === undefined) return true;
  print(`\nFAILED: ${part.name}: ${rest}`);
  print(`Many histories ran before the check; the last one had seed ${last}.`);
  print(`repeat: npm run test:soak -- --only ${part.name} --minutes ${minutes}`);
  return false;
}

const mega = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;

function report(from: number): void {
  const parts = chosen.map(
    ({ part, tally }) => `${part.name} ${tally.histories} histories, ${tally.operations} operations`,
  );
  print(
    `${((performance.now() - from) / 60_000).toFixed(1)} min: ${parts.join('; ')}; ` +
      `heap ${mega(process.memoryUsage().heapUsed)}`,
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
  for (const { part } of chosen) if (part.summary !== undefined) print(part.summary());
  const [first, last] = total.ends;
  print(`The heap of all: from ${mega(first)} to ${mega(last)}; the median grew by ${mega(total.bytes)} from the`);
  print(
    `second quarter of the rounds to the last, of ${mega(MAX_GROWTH)} allowed; ` +
      `${(total.slope / 1e3).toFixed(1)} kB/s by least squares. ` +
      'The growth of a part is that of its own turns; turns of other parts may collect it.',
  );
}

async function soak(): Promise<boolean> {
  const rounds = Math.max(MIN_SAMPLES, Math.round((minutes * 60) / MAX_ROUND_SECONDS));
  const weights = chosen.reduce((sum, { part }) => sum + part.weight, 0);
  const from = performance.now();
  const end = from + minutes * 60_000;
  print(`${minutes} minutes of ${chosen.map(({ part }) => part.name).join(', ')}; process ${process.pid}`);
  for (const { part } of chosen)
    if (!part.exact) print(`${part.name} runs in real time: its seeds repeat the calls but not their timing`);
  const start = await Growth.heap();
  const total = Growth.from(start);
  let heap = start;
  let reported = 0;
  // On a busy machine the run continues until it has the minimum number of samples.
  for (let round = 0; !stop.signal.aborted && (performance.now() < end || round < MIN_SAMPLES); round++) {
    for (const running of chosen) {
      if (stop.signal.aborted) break;
      if (running.part.once === true && round > 0) continue;
      if (!(await turnOf(running, ((minutes * 60) / rounds) * (running.part.weight / weights)))) return false;
    }
    // The garbage of one part may be collected in the turn of another, so only the sum over all parts counts.
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
        `repeat, part by part: npm run test:soak -- --minutes ${minutes} ` +
          `--only ${chosen.map(({ part }) => part.name).join(', or ')}`,
      );
      return false;
    }
    if (chosen.every(({ part }) => part.once)) break;
    const passed = Math.floor((performance.now() - from) / 60_000);
    if (passed > reported) report(from);
    reported = passed;
  }
  summarize(from, total);
  return true;
}

async function once(): Promise<boolean> {
  let passed = true;
  for (const running of chosen) {
    passed = (await play(running, seed as number)) && passed;
    const { part } = running;
    const { histories, ...counts } = running.tally;
    if (histories > 0)
      print(
        `${part.name}, seed ${seed}: passed; ${Object.entries(counts)
          .map(([name, count]) => `${count} ${name}`)
          .join(', ')}`,
      );
    if (part.summary !== undefined) print(part.summary());
  }
  return passed;
}

async function closeAll(): Promise<void> {
  await Promise.all(chosen.map(({ part }) => part.close?.()));
  await watchdog.stop();
}

recordProcessErrors();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // A second signal ends the process at once.
    if (stop.signal.aborted) void closeAll().finally(() => process.exit(1));
    else print(`\n${signal}: the run ends after this history`);
    stop.abort();
  });
}

let passed = false;
try {
  for (const { part } of chosen) watchdog.guard((await part.open?.()) ?? []);
  passed = seed === undefined ? await soak() : await once();
} catch (error) {
  print(
    `\nFAILED before the first history: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  );
} finally {
  await closeAll();
}
print(passed ? 'PASSED' : 'FAILED');
process.exit(passed && !stop.signal.aborted ? 0 : 1);
