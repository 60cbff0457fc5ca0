/**
 * What the tests get for fast-check while they are run against mutants: the same, with fewer runs, always the same
 * ones, and nothing made smaller once it has failed.
 */
import fc from 'fast-check';

const MOST = 100;

const few: typeof fc = {
  ...fc,
  assert: ((property: fc.IRawProperty<unknown>, parameters: fc.Parameters<unknown> = {}) =>
    fc.assert(property, {
      seed: 1,
      ...parameters,
      numRuns: Math.min(parameters.numRuns ?? 100, MOST),
      endOnFailure: true,
    })) as typeof fc.assert,
};

export default few;
