/** The arithmetic of the token bucket, in tables. They drive the bucket of the core and the bucket in Lua. */

/** A cost that is taken at an instant: whether it fits, and the level afterwards. */
interface BucketStep {
  readonly t: number;
  readonly take: number;
  readonly ok: boolean;
  readonly left: number;
}

/** The capacity, the period and the burst of a bucket, and its steps. */
export const BUCKET_SCENARIOS: Readonly<
  Record<string, { readonly limits: readonly [number, number, number]; readonly steps: readonly BucketStep[] }>
> = {
  'starts full and refills evenly': {
    limits: [10, 1, 10],
    steps: [
      { t: 0, take: 10, ok: true, left: 0 },
      { t: 0, take: 1, ok: false, left: 0 },
      { t: 0.05, take: 1, ok: false, left: 0.5 },
      { t: 0.1, take: 1, ok: true, left: 0 },
      { t: 0.5, take: 4, ok: true, left: 0 },
      { t: 100, take: 10, ok: true, left: 0 },
    ],
  },
  'holds at most the burst after any idle time': {
    limits: [10, 1, 3],
    steps: [
      { t: 1e9, take: 4, ok: false, left: 3 },
      { t: 1e9, take: 3, ok: true, left: 0 },
      { t: 1e9 + 1, take: 3, ok: true, left: 0 },
    ],
  },
  'refills to a burst above the capacity': {
    limits: [1, 1, 3],
    steps: [
      { t: 0, take: 3, ok: true, left: 0 },
      { t: 1, take: 2, ok: false, left: 1 },
      { t: 2, take: 2, ok: true, left: 0 },
    ],
  },
  'a cost of 0 fits into an empty bucket': {
    limits: [1, 1, 1],
    steps: [
      { t: 0, take: 1, ok: true, left: 0 },
      { t: 0, take: 0, ok: true, left: 0 },
      { t: 1, take: 1, ok: true, left: 0 },
    ],
  },
  'an instant before the latest instant changes no level': {
    limits: [10, 1, 10],
    steps: [
      { t: 100, take: 10, ok: true, left: 0 },
      { t: 40, take: 1, ok: false, left: 0 },
      { t: 100.1, take: 1, ok: true, left: 0 },
      { t: 99, take: 1, ok: false, left: 0 },
      { t: 100.1, take: 1, ok: false, left: 0 },
      { t: 100.2, take: 1, ok: true, left: 0 },
    ],
  },
  'three costs of 0.1 fit into a burst of 0.3': {
    limits: [1e-9, 1, 0.3],
    steps: [
      { t: 0, take: 0.1, ok: true, left: 0.2 },
      { t: 0, take: 0.1, ok: true, left: 0.1 },
      { t: 0, take: 0.1, ok: true, left: 0 },
      { t: 0, take: 0.1, ok: false, left: 0 },
    ],
  },
};

/** Columns: capacity, period, burst, tokens spent at 0, from, cost, readyAt. */
export const READY_TABLE: readonly (readonly [number, number, number, number, number, number, number])[] = [
  [10, 1, 10, 10, 0, 1, 0.1],
  [10, 1, 10, 10, 0.05, 1, 0.1],
  [10, 1, 10, 4, 0, 6, 0],
  [10, 1, 10, 4, 0, 7, 0.1],
  [1, 60, 1, 1, 0, 1, 60],
  [10, 1, 10, 10, 0, 30, 3],
  [10, 1, 10, 0, 5, 30, 7],
  [10, 1, 10, 10, 5, 30, 7],
];

/**
 * Burst 10, 1 token per s. Columns: cost at 0, instant `t`, cost at `t`, true cost of the first grant, level at `t`.
 */
export const SETTLE_TABLE: readonly (readonly [string, number, number, number, number, number])[] = [
  ['a refund returns the unused tokens', 6, 0, 0, 2, 8],
  ['a debt takes tokens', 6, 0, 0, 9, 1],
  ['a debt can make the level negative', 10, 0, 0, 15, -5],
  ['a refund returns tokens that the refill has not replaced', 10, 2, 0, 4, 8],
  ['a refund adds no tokens to a full bucket', 10, 20, 0, 0, 10],
  ['a refund returns no tokens that would have overflowed', 10, 9, 9, 0, 1],
  ['a refund under load returns all tokens', 10, 5, 5, 6, 4],
  ['a refund returns the tokens that the refill since the grant left room for (FAULTS 8)', 5, 5, 5, 0, 5],
  ['the overflow since the grant pays a debt in full', 5, 100, 0, 8, 10],
  ['the overflow since the grant pays a debt in part', 5, 7, 0, 9, 8],
];
