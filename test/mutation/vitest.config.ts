/**
 * The tests that run against mutants: every test of core, compose, web and fetch that is fast and needs no Redis and no
 * real server. The whole suite may kill mutants that survive these tests, so the score is a lower bound.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import base from '../../vitest.config.js';

/** Folders of `test`, cheap ones first: Stryker stops at the first failed test of a mutant. */
const ORDER = ['web', 'core', 'fetch', 'compose', 'regressions', 'conformance', 'model', 'mutation'];

/** Random histories without a minimum number for each case, in place of test/model/model.test.ts. */
const HISTORIES = 'test/mutation/histories.ts';

/** Tests with real servers, tests of the model itself and of this folder, and histories that are too many here. */
const EXCLUDED = ['test/fetch/clients*.test.ts', 'test/model/{model,recipe,wrong}*.test.ts', 'test/mutation/*.test.ts'];

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
    include: [...ORDER.map((folder) => `test/${folder}/**/*.test.ts`), HISTORIES],
    exclude: EXCLUDED,
    runner: fileURLToPath(new URL('runner.ts', import.meta.url)),
    // A mutant that never settles fails here, which is cheaper than a new Stryker process.
    testTimeout: 10_000,
    sequence: { sequencer: CheapFirst },
    // A second attempt would hide mutants that fail at random, and would double the time of all others.
    retry: 0,
  },
});

export default config;
