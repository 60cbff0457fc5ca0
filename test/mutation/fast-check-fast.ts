/**
 * Replaces fast-check while tests run against mutants: fewer runs, a fixed seed and no shrinking of a failed history,
 * since Stryker needs only the fact of a failure.
 */
import fc from 'fast-check';

const MAX_RUNS = 30;

const fast: typeof fc = {
  ...fc,
  assert: ((property: fc.IRawProperty<unknown>, parameters: fc.Parameters<unknown> = {}) =>
    fc.assert(property, {
      seed: 1,
      ...parameters,
      numRuns: Math.min(parameters.numRuns ?? 100, MAX_RUNS),
      endOnFailure: true,
    })) as typeof fc.assert,
};

export default fast;
