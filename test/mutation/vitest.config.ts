/**
 * The tests as mutants meet them: those of the core, keyed, limiter, headers and fetch, without what needs a Redis, a
 * process or a minute. A mutant that survives these may still die by the whole suite; so the score is a lower bound.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import base from '../../vitest.config.js';

/** Cheap ones first: the first failure ends a mutant. */
const ORDER = [
  'headers',
  'errors',
  'bucket',
  'queue',
  'permit',
  'clock',
  'window',
  'rate',
  'body',
  'fetch',
  'throttle',
  'map',
  'limiter',
  'channels',
  'keyed',
  'traps',
  'conformance',
  'model',
];
const place = ({ moduleId }: TestSpecification): number =>
  ORDER.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));

class CheapFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return files.toSorted((a, b) => place(a) - place(b));
  }
}

const few = fileURLToPath(new URL('few-runs.ts', import.meta.url));

const config: ReturnType<typeof defineConfig> = defineConfig({
  plugins: [
    ...(base as { plugins: [] }).plugins,
    {
      name: 'few-runs',
      enforce: 'pre',
      resolveId: (source, importer) => (source === 'fast-check' && importer !== few ? few : undefined),
    },
  ],
  resolve: (base as { resolve: object }).resolve,
  test: {
    include: ORDER.map((name) => `test/${name}.test.ts`),
    runner: fileURLToPath(new URL('runner.ts', import.meta.url)),
    // A mutant that waits for ever ends here, before Stryker has to start another process.
    testTimeout: 5_000,
    sequence: { sequencer: CheapFirst },
    // Once more would hide those that die now and then, and take twice the time for all others.
    retry: 0,
  },
});

export default config;
