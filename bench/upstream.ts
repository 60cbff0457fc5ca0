/**
 * `npm run bench:upstream`: what headgate and its peers get from an upstream that refuses, and how often it refuses.
 * The program writes upstream.json, upstream.svg and the tables in bench/README.md, and prints the tables. With
 * `--again` it reads upstream.json instead of making a new run. With `--both` only the upstream with two limits runs.
 *
 * Each trial has an upstream of its own in this process, and a client in a process of its own: this file, started with
 * the names of the upstream and the client. All clients of one kind of upstream run at the same time, because they
 * mostly sleep. They start one after the other, so that their bursts do not coincide. The results are medians over the
 * rounds.
 */
// oxlint-disable no-await-in-loop -- concurrent rounds would disturb each other
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import progress from 'cli-progress';
import { guarded } from '../test/support/processes.js';
import { thisRun } from './run.js';
import { clients } from './upstream/clients.js';
import { countJobs } from './upstream/jobs.js';
import { fill, type Measured, outcome, print, type RateResults, type Results, type Trial } from './upstream/report.js';
import { serve } from './upstream/server.js';
import { trial } from './upstream/trial.js';
import { type UpstreamId, upstreams } from './upstream/upstreams.js';

const ROUNDS = 3;
/** Seconds between the starts of two clients: a fraction that does not divide a second. */
const STAGGER = 0.17;

const RESULTS = new URL('../upstream.json', import.meta.url);
const PAGE = new URL('../README.md', import.meta.url);

/** The upstreams with one limit, which all have the same jobs. */
const RATE_IDS = ['window', 'plain', 'bucket', 'concurrency'] as const satisfies UpstreamId[];

const [upstream, client, port] = process.argv.slice(2);
if (upstream === '--again') await write(await readResults());
else if (upstream === '--both') await write({ ...(await readResults()), both: await runBoth() });
else if (upstream === undefined || client === undefined) await write({ ...(await runRates()), both: await runBoth() });
else {
  const startedAt = await trial(upstream as UpstreamId, client, Number(port));
  // Some libraries leave timers behind that would keep the process alive.
  process.stdout.write(JSON.stringify(startedAt), () => process.exit());
}

async function readResults(): Promise<Results> {
  return JSON.parse(await readFile(RESULTS, 'utf8')) as Results;
}

async function runRates(): Promise<RateResults> {
  return { ...thisRun(ROUNDS), jobs: countJobs(upstreams.window.waves), upstreams: await runAll(RATE_IDS) };
}

async function runBoth(): Promise<Results['both']> {
  const [measured] = await runAll(['both']);
  if (measured === undefined) throw new Error('the upstream with two limits has not run');
  return { ...thisRun(ROUNDS), jobs: countJobs(upstreams.both.waves), ...measured };
}

async function runAll(ids: readonly UpstreamId[]): Promise<Measured[]> {
  const bar = new progress.SingleBar(
    { format: '{bar} round {round}: {what}', hideCursor: true },
    progress.Presets.shades_classic,
  );
  bar.start(ROUNDS * ids.length, 0, { round: 0, what: '' });
  const trials: Partial<Record<UpstreamId, Record<string, Trial[]>>> = {};
  for (let round = 0; round < ROUNDS; round++) {
    for (const id of ids) {
      bar.update({ round: round + 1, what: upstreams[id].title });
      const names = Object.keys(clients).filter((name) => clients[name]?.[id] !== undefined);
      const order = round % 2 === 0 ? names : names.toReversed();
      await Promise.all(
        order.map(async (name, index) => {
          await sleep(index * STAGGER * 1000);
          const result = await runTrial(id, name);
          ((trials[id] ??= {})[name] ??= []).push(result);
        }),
      );
      bar.increment();
    }
  }
  bar.stop();
  return ids.map((id) => {
    const { title, rule } = upstreams[id];
    const outcomes = Object.entries(clients).flatMap(([name, settings]) => {
      const setting = settings[id];
      return setting === undefined ? [] : [[name, outcome(setting.given, trials[id]?.[name] ?? [])] as const];
    });
    return { id, title, rule, clients: Object.fromEntries(outcomes) };
  });
}

async function runTrial(id: UpstreamId, name: string): Promise<Trial> {
  const { waves } = upstreams[id];
  const served = await serve(id);
  try {
    const running = promisify(execFile)(process.execPath, [
      fileURLToPath(import.meta.url),
      id,
      name,
      String(served.port),
    ]);
    guarded(running.child);
    const { stdout } = await running;
    const startedAt = JSON.parse(stdout) as number[];
    let least = 0;
    let taken = 0;
    let from = 0;
    for (const [index, wave] of waves.entries()) {
      const to = from + wave.first + wave.rest;
      let last = -Infinity;
      for (let job = from; job < to; job++) last = Math.max(last, served.admitted.get(job) ?? Infinity);
      least += upstreams[id].least(wave, from);
      taken += last - (startedAt[index] ?? NaN);
      from = to;
    }
    if (!Number.isFinite(taken) || served.admitted.size !== countJobs(waves))
      throw new Error(`${name} got ${served.admitted.size} of ${countJobs(waves)} jobs done ${upstreams[id].title}`);
    return { share: least / taken, refused: served.refused() };
  } finally {
    served.close();
  }
}

async function write(results: Results): Promise<void> {
  if (upstream !== '--again') await writeFile(RESULTS, `${JSON.stringify(results, undefined, 2)}\n`);
  // A client process starts from this file too, and needs no chart.
  const { chart } = await import('./upstream/chart.js');
  await writeFile(new URL('../upstream.svg', import.meta.url), chart(results));
  await writeFile(PAGE, fill(await readFile(PAGE, 'utf8'), results));
  print(results);
}
