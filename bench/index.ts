/**
 * `npm run bench`: measures headgate beside its peers. It writes results.json and chart.svg, and prints both as tables.
 * With `--again` it reads results.json instead of making a new run.
 *
 * Each measurement is a process of its own: this file, started with the names of a scenario and of a candidate. The
 * process prints one number. A round measures each candidate once, so that a slow phase of the machine slows all
 * candidates. The results are medians over the rounds.
 */
// oxlint-disable no-await-in-loop -- two measurements at a time would disturb each other
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import progress from 'cli-progress';
import { guarded } from '../test/support/processes.js';
import { startRedis } from '../test/support/redis-server.js';
import { chart } from './chart.js';
import { evaluate, print, type Results, type Samples } from './report.js';
import { SLOW } from './job-runners.js';
import { REDIS_URL, type ScenarioId, scenarios } from './scenarios.js';

const ROUNDS = 9;
/** Scenarios that are not brief take part in every other round. */
const OFTEN = 2;
/** Slow peers take part in every sixth round; so do the heap scenarios, which vary little. */
const RARELY = 6;
/** Scenarios of less than a second. A disturbance can last as long, so every round measures them. */
const BRIEF: ReadonlySet<ScenarioId> = new Set([
  'acquire',
  'tryAcquire',
  'run',
  'watched',
  'keyed',
  'window',
  'express',
  'expressRefusal',
  'webRefusal',
  'redisPair',
  'redisHandover',
]);

const RESULTS = new URL('../results.json', import.meta.url);

const [scenario, candidate] = process.argv.slice(2);
if (scenario === '--again') await write(JSON.parse(await readFile(RESULTS, 'utf8')) as Results);
else if (scenario === undefined || candidate === undefined) await measureAll();
else if (scenario === 'wait') await (await import('./redis.js')).waitElsewhere(candidate);
else {
  const measureCandidate = scenarios[scenario as ScenarioId]?.candidates[candidate];
  if (measureCandidate === undefined) throw new Error(`no candidate "${candidate}" in the scenario "${scenario}"`);
  const value = await measureCandidate();
  // Some libraries leave timers and jobs behind that would keep the process alive.
  process.stdout.write(JSON.stringify(value), () => process.exit());
}

async function measureAll(): Promise<void> {
  const plan = Array.from({ length: ROUNDS }, (_, round) => measurements(round));
  const bar = new progress.SingleBar(
    { format: '{bar} round {round}: {what}', hideCursor: true },
    progress.Presets.shades_classic,
  );
  bar.start(plan.flat().length, 0, { round: 0, what: '' });
  const redis = await startRedis();
  process.env[REDIS_URL] = redis.url;
  const samples: Samples = {};
  for (const [round, parts] of plan.entries()) {
    for (const [id, name] of parts) {
      bar.update({ round: round + 1, what: `${scenarios[id].title}: ${name}` });
      ((samples[id] ??= {})[name] ??= [])[round] = await measure(id, name);
      bar.increment();
    }
  }
  bar.stop();
  await redis.stop();

  const results = evaluate(samples, ROUNDS);
  await writeFile(RESULTS, `${JSON.stringify(results, undefined, 2)}\n`);
  await write(results);
}

async function write(results: Results): Promise<void> {
  await writeFile(new URL('../chart.svg', import.meta.url), chart(results));
  print(results);
}

/** The measurements of a round. Pairs of rounds alternate the order, so that no candidate is always first. */
function measurements(round: number): (readonly [ScenarioId, string])[] {
  return (Object.keys(scenarios) as ScenarioId[]).flatMap((id) => {
    const { unit, candidates } = scenarios[id];
    const pace = (name: string): number => (unit === 'bytes' || SLOW.has(name) ? RARELY : BRIEF.has(id) ? 1 : OFTEN);
    const names = Object.keys(candidates).filter((name) => round % pace(name) === 0);
    return (round % 4 < 2 ? names : names.toReversed()).map((name) => [id, name] as const);
  });
}

async function measure(id: ScenarioId, name: string): Promise<number> {
  const running = promisify(execFile)(process.execPath, ['--expose-gc', fileURLToPath(import.meta.url), id, name]);
  guarded(running.child);
  const { stdout } = await running;
  const value: unknown = JSON.parse(stdout);
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new Error(`${id} of ${name} printed ${stdout}`);
  return value;
}
