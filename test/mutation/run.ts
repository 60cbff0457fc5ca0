/**
 * `npm run test:mutation` changes the code in one place at a time and checks that a test fails. The run itself fails if
 * too many mutants survive, or if one survives without a reason in survivors.ts.
 *
 *   npm run test:mutation                              all files; results of unchanged code are reused
 *   npm run test:mutation -- src/core/wait-queue.ts    these files only
 *   npm run test:mutation -- --force                   reuse nothing
 *
 * The score is Stryker's: the share of valid mutants that fail a test or time out. Mutants that no test reaches count
 * as survivors, and so do the mutants of survivors.ts. Two kinds of mutants are left out: those that break the run
 * itself, and those in code that runs once while a module loads, because they would need every test to run again. The
 * files of `LOAD_TIME_FILES` keep the second kind: their regular expressions, names and limits are evaluated at load
 * time. Reports for readers are in test/mutation/.out.
 */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { Stryker } from '@stryker-mutator/core';
import { GROUP } from './group.js';
import { declarationsOf, type Position } from './declarations.js';
import { survivors } from './survivors.js';

/** The folders of `src` with a score of their own, and the minimum score in percent, where one applies. */
const GROUPS: Record<string, { minimum?: number }> = { core: { minimum: 92 }, compose: {}, web: {}, fetch: {} };
const OVERALL_MINIMUM = 85;

const FOLDER = 'test/mutation';
/** The files in which code that runs at load time is mutated too. */
const LOAD_TIME_FILES = new Set([
  'src/web/retry-after.ts',
  'src/web/dialects.ts',
  'src/web/ratelimit-headers.ts',
  'src/core/events.ts',
  'src/core/clock.ts',
]);

interface Mutant {
  status: 'Killed' | 'Timeout' | 'Survived' | 'NoCoverage' | 'RuntimeError' | 'CompileError' | 'Ignored' | 'Pending';
  replacement?: string;
  location: { start: Position; end: Position };
}
interface Report {
  files: Record<string, { source: string; mutants: Mutant[] }>;
}

const isKilled = ({ status }: Mutant): boolean => status === 'Killed' || status === 'Timeout';
const isSurvivor = ({ status }: Mutant): boolean => status === 'Survived' || status === 'NoCoverage';

/** The replaced code and its replacement, each shortened: `count > 0 → count >= 0`. */
function changeOf(source: string, { location: { start, end }, replacement = '' }: Mutant): string {
  const lines = source.split('\n').slice(start.line - 1, end.line);
  const last = lines.length - 1;
  lines[last] = (lines[last] as string).slice(0, end.column - 1);
  const before = lines.join('\n').slice(start.column - 1);
  return `${shorten(before)} → ${shorten(replacement)}`;
}

const shorten = (code: string): string => {
  const flat = code.replaceAll(/\s+/g, ' ').trim();
  return flat.length > 60 ? `${flat.slice(0, 40)} … ${flat.slice(-15)}` : flat;
};

const args = process.argv.slice(2);
const filesOf = (group: string): string[] =>
  readdirSync(`src/${group}`)
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `src/${group}/${name}`)
    .toSorted();
const files = args.filter((arg) => !arg.startsWith('-'));
if (files.length === 0) files.push(...Object.keys(GROUPS).flatMap(filesOf));

mkdirSync(`${FOLDER}/.out`, { recursive: true });
const started = performance.now();
const report: Report = { files: {} };
for (const group of Object.keys(GROUPS)) {
  process.env[GROUP] = group;
  const own = files.filter((file) => file.startsWith(`src/${group}/`));
  await mutate(
    group,
    own.filter((file) => !LOAD_TIME_FILES.has(file)),
    true,
  );
  await mutate(
    `${group}-at-load-time`,
    own.filter((file) => LOAD_TIME_FILES.has(file)),
    false,
  );
}

async function mutate(name: string, mutated: string[], ignoreStatic: boolean): Promise<void> {
  if (mutated.length === 0) return;
  const fileName = `${FOLDER}/.out/${name}.json`;
  await new Stryker({
    configFile: `${FOLDER}/stryker.json`,
    mutate: mutated,
    ignoreStatic,
    force: args.includes('--force'),
    incrementalFile: `${FOLDER}/.cache/${name}.json`,
    jsonReporter: { fileName },
    htmlReporter: { fileName: `${FOLDER}/.out/${name}.html` },
  }).runMutationTest();
  // The report keeps the results of earlier runs for other files, which may be out of date.
  const { files: all } = JSON.parse(readFileSync(fileName, 'utf8')) as Report;
  for (const file of mutated) if (all[file] !== undefined) report.files[file] = all[file];
}

const failures: string[] = [];

/** Prints the score of `paths`, and records a failure if the score is below `minimum`. */
function printScore(title: string, paths: readonly string[], minimum = 0): void {
  const mutants = paths.flatMap((path) => report.files[path]?.mutants ?? []);
  const killed = mutants.filter(isKilled).length;
  const all = killed + mutants.filter(isSurvivor).length;
  if (all === 0) return;
  const percent = (100 * killed) / all;
  const leftOut = mutants.length - all;
  console.log(
    `${title.padEnd(36)}${percent.toFixed(1).padStart(6)} %${String(killed).padStart(7)} of ${all}` +
      `${minimum > 0 ? `, at least ${minimum} %` : ''}${leftOut > 0 ? ` (${leftOut} left out)` : ''}`,
  );
  if (percent < minimum) failures.push(`${title}: ${percent.toFixed(1)} % is less than ${minimum} %`);
}

console.log(`\nMutants that the tests killed, after ${((performance.now() - started) / 60_000).toFixed(1)} minutes:`);
for (const [group, { minimum }] of Object.entries(GROUPS)) {
  const paths = files.filter((path) => path.startsWith(`src/${group}/`));
  printScore(group, paths, minimum);
  for (const path of paths) printScore(`  ${path}`, [path]);
}
printScore('overall', files, OVERALL_MINIMUM);

/** Identifies a change: equal for a mutant and for its entry in survivors.ts. */
const keyOf = (file: string, within: string, change: string): string => JSON.stringify({ file, within, change });

/** The number of mutants with one key that survivors.ts explains. An entry that lists a change twice explains two. */
const explained = new Map<string, number>();
for (const { file, within, changes } of survivors)
  for (const change of changes) {
    const key = keyOf(file, within, change);
    explained.set(key, (explained.get(key) ?? 0) + 1);
  }
for (const [path, { source, mutants }] of Object.entries(report.files)) {
  const declarationAt = declarationsOf(source);
  for (const mutant of mutants.filter(isSurvivor)) {
    const { start } = mutant.location;
    const key = keyOf(path.slice('src/'.length, -'.ts'.length), declarationAt(start), changeOf(source, mutant));
    const left = explained.get(key) ?? 0;
    if (left > 0) explained.set(key, left - 1);
    else failures.push(`survived without a reason in survivors.ts: ${path}:${start.line}\n    ${key}`);
  }
}
for (const [key, left] of explained) {
  const { file } = JSON.parse(key) as { file: string };
  if (left > 0 && report.files[`src/${file}.ts`] !== undefined)
    console.warn(`no longer a survivor, remove ${left === 1 ? 'it' : `${left} of it`} from survivors.ts: ${key}`);
}
for (const failure of failures) console.error(failure);
process.exitCode = failures.length > 0 ? 1 : 0;
