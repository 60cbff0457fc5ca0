/**
 * `npm run test:mutation`: changes the code in one place at a time, and sees whether a test fails. It fails itself where
 * too many changes went unnoticed, or one that survivors.ts gives no reason for.
 *
 *   npm run test:mutation                     all files; whatever has not changed since the last run counts as then
 *   npm run test:mutation -- src/core/wait-queue.ts     these files only
 *   npm run test:mutation -- --force          all anew
 *
 * The score is Stryker's: of all changes that could be tried, the share that failed a test or never came to an end.
 * Changes that no test reaches count as unnoticed, and so do those of survivors.ts. Left out are those that break the
 * run itself, and those to what runs while a module is loaded and never again, which every test would have to be run
 * for; but not those in retry-after.ts, dialects.ts, ratelimit-headers.ts, channels.ts and clock.ts, where they are expressions, names and a limit. What people
 * can read is in test/mutation/.out.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { Stryker } from '@stryker-mutator/core';
import { survivors } from './survivors.js';

/** What scores are printed for: files of `src`, and the least score in percent, where there is one. */
const groups: Record<string, { files: string[]; least?: number }> = {
  core: {
    files: [
      'core/throttle',
      'core/wait-queue',
      'core/abort-listeners',
      'core/token-bucket',
      'core/grant-log',
      'core/sliding-window',
      'core/fenwick-tree',
      'core/permit',
      'core/dispose',
      'core/clock',
      'core/limits',
      'core/map',
      'core/item-source',
      'core/errors',
      'core/events',
    ],
    least: 92,
  },
  keyed: { files: ['compose/keyed-throttle'] },
  limiter: { files: ['compose/limiter'] },
  headers: { files: ['web/retry-after', 'web/dialects', 'web/ratelimit-headers'] },
  fetch: {
    files: ['fetch/index', 'web/response-body', 'fetch/request-copy', 'fetch/until-aborted', 'fetch/pause-log'],
  },
};
const LEAST_OVERALL = 85;

const FOLDER = 'test/mutation';
/** The files for which what runs at load time is changed, too. */
const AT_LOAD_TIME = new Set([
  'src/web/retry-after.ts',
  'src/web/dialects.ts',
  'src/web/ratelimit-headers.ts',
  'src/core/events.ts',
  'src/core/clock.ts',
]);

interface Place {
  line: number;
  column: number;
}
interface Mutant {
  status: 'Killed' | 'Timeout' | 'Survived' | 'NoCoverage' | 'RuntimeError' | 'CompileError' | 'Ignored' | 'Pending';
  replacement?: string;
  location: { start: Place; end: Place };
}
interface Report {
  files: Record<string, { source: string; mutants: Mutant[] }>;
}

const detected = ({ status }: Mutant): boolean => status === 'Killed' || status === 'Timeout';
const undetected = ({ status }: Mutant): boolean => status === 'Survived' || status === 'NoCoverage';

/** The line that was changed, and what in it became what: this stays the same when lines move. */
function describe(
  source: string,
  { location: { start, end }, replacement = '' }: Mutant,
): { line: string; change: string } {
  const lines = source.split('\n').slice(start.line - 1, end.line);
  const line = (lines[0] as string).trim();
  const last = lines.length - 1;
  lines[last] = (lines[last] as string).slice(0, end.column - 1);
  const before = lines.join('\n').slice(start.column - 1);
  return { line, change: `${brief(before)} → ${brief(replacement)}` };
}

const brief = (code: string): string => {
  const flat = code.replaceAll(/\s+/g, ' ').trim();
  return flat.length > 60 ? `${flat.slice(0, 40)} … ${flat.slice(-15)}` : flat;
};

const args = process.argv.slice(2);
const files = args.filter((arg) => !arg.startsWith('-'));
if (files.length === 0)
  for (const { files: names } of Object.values(groups)) files.push(...names.map((name) => `src/${name}.ts`));
mkdirSync(`${FOLDER}/.out`, { recursive: true });
const started = performance.now();
const report: Report = { files: {} };
await mutate(
  'report',
  files.filter((file) => !AT_LOAD_TIME.has(file)),
  true,
);
await mutate(
  'report-at-load-time',
  files.filter((file) => AT_LOAD_TIME.has(file)),
  false,
);

async function mutate(name: string, some: string[], ignoreStatic: boolean): Promise<void> {
  if (some.length === 0) return;
  const fileName = `${FOLDER}/.out/${name}.json`;
  await new Stryker({
    configFile: `${FOLDER}/stryker.json`,
    mutate: some,
    ignoreStatic,
    force: args.includes('--force'),
    incrementalFile: `${FOLDER}/.cache/${name}.json`,
    jsonReporter: { fileName },
    htmlReporter: { fileName: `${FOLDER}/.out/${name}.html` },
  }).runMutationTest();
  // What is left of earlier runs, for other files, may be out of date.
  const { files: all } = JSON.parse(readFileSync(fileName, 'utf8')) as Report;
  for (const file of some) if (all[file] !== undefined) report.files[file] = all[file];
}

const faults: string[] = [];

/** Prints the score of `names`. */
function score(title: string, names: readonly string[], least = 0): void {
  const mutants = names.flatMap((name) => report.files[`src/${name}.ts`]?.mutants ?? []);
  const killed = mutants.filter(detected).length;
  const all = killed + mutants.filter(undetected).length;
  if (all === 0) return;
  const percent = (100 * killed) / all;
  const untried = mutants.length - all;
  console.log(
    `${title.padEnd(12)}${percent.toFixed(1).padStart(6)} %${String(killed).padStart(7)} of ${all}${least > 0 ? `, at least ${least} %` : ''}${untried > 0 ? ` (${untried} left out)` : ''}`,
  );
  if (percent < least) faults.push(`${title}: ${percent.toFixed(1)} % is less than ${least} %`);
}

console.log(`\nMutants that the tests noticed, after ${((performance.now() - started) / 60_000).toFixed(1)} minutes:`);
for (const [title, { files: names, least }] of Object.entries(groups)) {
  score(title, names, least);
  if (names.length > 1) for (const name of names) score(`  ${name}`, [name]);
}
score(
  'overall',
  Object.values(groups).flatMap(({ files: names }) => names),
  LEAST_OVERALL,
);

const unused = new Set(survivors);
for (const [path, { source, mutants }] of Object.entries(report.files)) {
  for (const mutant of mutants) {
    const { line, change } = describe(source, mutant);
    const listed = survivors.filter(
      (one) => `src/${one.file}.ts` === path && one.line === line && one.changes.includes(change),
    );
    if (undetected(mutant) && listed.length === 0)
      faults.push(
        `survived without a reason: ${path}:${mutant.location.start.line}\n    line: ${JSON.stringify(line)}\n    change: ${JSON.stringify(change)}`,
      );
    if (undetected(mutant)) for (const one of listed) unused.delete(one);
  }
}
for (const { file, line } of unused) {
  if (report.files[`src/${file}.ts`] !== undefined)
    console.warn(`no longer a survivor, take it off the list: src/${file}.ts, ${line}`);
}
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
