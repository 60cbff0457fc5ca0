/**
 * Operations of random histories. All numbers are sums of powers of two, so that a gate and its model compute equal
 * results.
 */
import fc from 'fast-check';
import type { Limits, Rate } from 'headgate';

export const quarters = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: max * 4 }).map((n) => n / 4);
export const capacities: fc.Arbitrary<number> = fc.constantFrom(1, 2, 4, 8, 16, 0.5, Infinity);
export const periods: fc.Arbitrary<number> = fc.constantFrom(0.5, 1, 2, 4);
export const concurrencies: fc.Arbitrary<number> = fc.constantFrom(0, 1, 2, 3, 8);
export const bursts: fc.Arbitrary<number | undefined> = fc.constantFrom(undefined, 1, 2, 4, 8);
const margins = fc.constantFrom(undefined, 0, 0.25, 1);

const bucket = fc.record({ capacity: capacities, period: periods, burst: bursts });
/** Buckets that take several seconds to fill, so that levels between empty and full are common. */
export const slowBuckets: fc.Arbitrary<Rate> = fc.record({
  capacity: fc.constantFrom(0.5, 1, 2),
  period: fc.constantFrom(1, 2, 4),
  burst: fc.constantFrom(4, 8, 16),
});
const slidingWindow = fc.record({
  capacity: capacities,
  period: periods,
  margin: margins,
  window: fc.constant('sliding' as const),
});
/** A bucket or a sliding window. An unlimited rate has no burst, because its burst would have no effect. */
export const rates: fc.Arbitrary<Rate> = fc.oneof(
  bucket.map((rate): Rate => (rate.capacity === Infinity ? { capacity: Infinity, period: rate.period } : rate)),
  slidingWindow,
);

export type Operation = (
  | { do: 'acquire' | 'run'; cost: number; timeout: number; signal: number | undefined }
  | { do: 'tryAcquire'; cost: number }
  | { do: 'release'; which: number }
  | { do: 'settle'; which: number; cost: number }
  | { do: 'abort'; signal: number }
  | { do: 'pause'; seconds: number }
  | { do: 'resume' | 'clear' | 'drain' | 'close' }
  | { do: 'idle'; below: number }
  | { do: 'configure'; limits: Limits }
  | { do: 'advance'; seconds: number }
) & {
  /** A signal that aborts in the same tick, before the function of a granted `run` can start. */
  thenAbort?: number | undefined;
};

const which = fc.nat(1_000);
/** Mostly small costs, so that a bucket of any size grants many of them. */
const cost = fc.oneof({ weight: 5, arbitrary: quarters(1) }, { weight: 2, arbitrary: quarters(6) }, fc.constant(0));
const trueCost = fc.oneof({ weight: 5, arbitrary: quarters(2) }, quarters(8));
const entry = fc.record({
  do: fc.constantFrom('acquire' as const, 'run' as const),
  cost,
  timeout: fc.oneof({ weight: 3, arbitrary: fc.constant(Infinity) }, quarters(8)),
  signal: fc.option(fc.nat(2), { nil: undefined, freq: 2 }),
});
const release = fc.record({ do: fc.constant('release' as const), which });
const settle = fc.record({ do: fc.constant('settle' as const), which, cost: trueCost });
const configure = fc.record({
  do: fc.constant('configure' as const),
  limits: fc.record(
    { capacity: capacities, concurrency: concurrencies, period: periods, burst: bursts },
    { requiredKeys: [] },
  ),
});
const advance = fc.record({ do: fc.constant('advance' as const), seconds: quarters(4).map((n) => n / 2) });

/** The operation, sometimes followed by an abort in the same tick. */
const sometimesAborted = (operation: fc.Arbitrary<Operation>): fc.Arbitrary<Operation> =>
  fc
    .tuple(operation, fc.option(fc.nat(2), { nil: undefined, freq: 6 }))
    .map(([one, thenAbort]) => (thenAbort === undefined ? one : Object.assign({ thenAbort }, one)));

export const anyOperation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 14, arbitrary: sometimesAborted(entry) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tryAcquire' as const), cost }) },
  { weight: 6, arbitrary: sometimesAborted(release) },
  { weight: 4, arbitrary: sometimesAborted(settle) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('abort' as const), signal: fc.nat(2) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('pause' as const), seconds: fc.oneof(quarters(4), fc.constant(Infinity)) }),
  },
  { weight: 2, arbitrary: sometimesAborted(fc.constant({ do: 'resume' as const })) },
  { weight: 2, arbitrary: fc.constant({ do: 'clear' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('idle' as const), below: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.constant({ do: 'drain' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'close' as const }) },
  { weight: 2, arbitrary: configure },
  { weight: 10, arbitrary: advance },
);

/** A steady backlog: callers always wait for tokens, many permits are active, and settlements are late. */
export const backlogOperation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 24,
    arbitrary: fc.record({
      do: fc.constantFrom('acquire' as const, 'run' as const),
      cost,
      timeout: fc.constant(Infinity),
      signal: fc.constant(undefined),
    }),
  },
  { weight: 16, arbitrary: settle },
  { weight: 8, arbitrary: release },
  { weight: 20, arbitrary: fc.record({ do: fc.constant('advance' as const), seconds: quarters(2).map((n) => n / 2) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('advance' as const), seconds: quarters(16) }) },
  { weight: 1, arbitrary: configure },
);

/** Histories that drain or close the gate late or never, because it then refuses all calls. */
export const longHistory = <O>(
  maxLength: number,
  of: (operation: fc.Arbitrary<Operation>) => fc.Arbitrary<O>,
): fc.Arbitrary<O[]> =>
  fc
    .tuple(
      fc.array(of(anyOperation.filter((operation) => operation.do !== 'close' && operation.do !== 'drain')), {
        maxLength,
        size: 'max',
      }),
      fc.array(of(anyOperation), { maxLength: 40, size: 'max' }),
    )
    .map(([first, last]) => first.concat(last));
