/**
 * The tests that run against mutants: for each folder of `src`, the tests of a few folders that are fast and need no
 * Redis and no real server. The whole suite may kill mutants that survive these tests, so the score is a lower bound.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import base from '../../vitest.config.js';
import { GROUP } from './group.js';

/**
 * The folders of `test` that run against a folder of `src`, cheap ones first: Stryker stops at the first failed test of
 * a mutant. Each further folder costs the time of its imports for each mutant. The folder `mutation` has random
 * histories, in place of test/model/{model,budgets}.test.ts.
 */
const FOLDERS: Readonly<Record<string, readonly string[]>> = {
  core: ['core', 'regressions', 'conformance', 'model', 'mutation'],
  compose: ['compose', 'regressions', 'conformance', 'mutation'],
  web: ['web', 'fetch'],
  fetch: ['fetch'],
};
const ORDER = FOLDERS[process.env[GROUP] ?? ''] ?? [...new Set(Object.values(FOLDERS).flat())];

/**
 * Tests with child processes or real servers, tests of the model itself and of this folder, and histories that are too
 * many here.
 */
const EXCLUDED = [
  'test/core/shutdown.test.ts',
  'test/fetch/clients*.test.ts',
  'test/model/{budgets,model,recipe,wrong}*.test.ts',
  'test/mutation/*.test.ts',
];

const position = ({ moduleId }: TestSpecification): number =>
  ORDER.findIndex((folder) => moduleId.includes(`/test/${folder}/`));

class CheapFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return files.toSorted((a, b) => position(a) - position(b));
  }
}

const fastCheckFast = fileURLToPath(new URL('fast-check-fast.ts', import.meta.url));

const config: ReturnType<typeof defineConfig> = defineConfig({
  plugins: [
    ...(base as { plugins: [] }).plugins,
    {
      name: 'fast-check-fast',
      enforce: 'pre',
      resolveId: (source, importer) =>
        source === 'fast-check' && importer !== fastCheckFast ? fastCheckFast : undefined,
    },
  ],
  resolve: (base as { resolve: object }).resolve,
  test: {
    include: ORDER.map((folder) =>
      folder === 'mutation' ? 'test/mutation/histories.ts' : `test/${folder}/**/*.test.ts`,
    ),
    exclude: EXCLUDED,
    runner: fileURLToPath(new URL('runner.ts', import.meta.url)),
    // All test files of a mutant share one worker: to import the package for each file takes longer than the tests.
    isolate: false,
    // A mutant that never settles fails here, which is cheaper than a new Stryker process.
    testTimeout: 5_000,
    sequence: { sequencer: CheapFirst },
    // A second attempt would hide mutants that fail at random, and would double the time of all others.
    retry: 0,
  },
});

export default config;
