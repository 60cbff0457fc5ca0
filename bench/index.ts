/**
 * `npm run bench`: headgate beside its peers. Writes results.json and chart.svg, and prints both as tables.
 *
 * Each measurement is a process of its own: this very file, started with the names of a scenario and a contestant,
 * which prints a number. One round measures everyone once, so that whatever slows the machine down for a while slows
 * all of them; what is reported are medians over the rounds.
 */
// oxlint-disable no-await-in-loop -- two measurements at a time would disturb each other
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import progress from 'cli-progress';
import { guarded } from '../test/support/processes.js';
import { startRedis } from '../test/support/redis-server.js';
import { chart } from './chart.js';
import { evaluate, print, type Samples } from './report.js';
import { REDIS_URL, type ScenarioId, scenarios, SLOW } from './scenarios.js';

const ROUNDS = 9;
/** What takes longer than a moment takes part in every other round. */
const OFTEN = 2;
/** The slow take part in the first round and in every sixth one after; so does the heap, which varies little. */
const RARELY = 6;
/** A matter of nanoseconds, measured within a moment: what disturbs the machine for as long is told by many rounds. */
const BRIEF: ReadonlySet<ScenarioId> = new Set([
  'acquire',
  'tryAcquire',
  'run',
  'watched',
  'keyed',
  'window',
  'express',
  'redisPair',
  'redisHandover',
]);

const [scenario, contestant] = process.argv.slice(2);
if (scenario === undefined || contestant === undefined) await measureAll();
else if (scenario === 'wait') await (await import('./redis.js')).waitElsewhere(contestant);
else {
  const value = await scenarios[scenario as ScenarioId].contestants[contestant]?.();
  // Some leave timers and jobs behind that would keep the process alive.
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
  await writeFile(new URL('../results.json', import.meta.url), `${JSON.stringify(results, undefined, 2)}\n`);
  await writeFile(new URL('../chart.svg', import.meta.url), chart(results));
  print(results);
}

/** Who is measured in a round, and in which order: that is turned round every time, so that nobody is always first. */
function measurements(round: number): (readonly [ScenarioId, string])[] {
  return (Object.keys(scenarios) as ScenarioId[]).flatMap((id) => {
    const { unit, contestants } = scenarios[id];
    const pace = (name: string): number => (unit === 'bytes' || SLOW.has(name) ? RARELY : BRIEF.has(id) ? 1 : OFTEN);
    const names = Object.keys(contestants).filter((name) => round % pace(name) === 0);
    return (round % 4 < 2 ? names : names.toReversed()).map((name) => [id, name] as const);
  });
}

async function measure(id: ScenarioId, name: string): Promise<number> {
  const running = promisify(execFile)(process.execPath, ['--expose-gc', fileURLToPath(import.meta.url), id, name]);
  guarded(running.child);
  const { stdout } = await running;
  const value: unknown = JSON.parse(stdout);
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new Error(`${id} of ${name} came out as ${stdout}`);
  return value;
}
