/**
 * The core: a throttle on a manual clock. The seed chooses one of four kinds of histories. Exact histories compare
 * every number with the reference model, for buckets, sliding windows and several rates. Histories with costs by name
 * have a model of their own, with weighted slots, corrections and expiring permits. Inexact histories use rates
 * that rounding affects and clocks that misbehave. Mass cancellations have 100,000 waiters.
 */
import fc from 'fast-check';
import type { Rate } from 'headgate';
import {
  backlogOperation,
  bursts,
  capacities,
  concurrencies,
  longHistory,
  periods,
  rates,
  slowBuckets,
} from '../model/reference.js';
import { playInexactRates } from './inexact-rates.js';
import {
  budgetHistory,
  type Counts,
  createThrottle,
  createThrottleOfKey,
  playBudgets,
} from '../model/budget-histories.js';
import { Dice, type Part, playSeed, type Tally } from './part.js';
import { playMassCancel } from './mass-cancel.js';
import { checkRate, playHistory } from './model-comparison.js';
import { print } from './watch.js';

const bucket = fc.record({ capacity: capacities, period: periods, burst: bursts });
const settings = {
  first: fc.oneof(bucket, slowBuckets, rates),
  also: fc.oneof({ weight: 2, arbitrary: fc.constant<Rate[]>([]) }, fc.array(rates, { maxLength: 2 })),
  concurrency: concurrencies,
  maxQueue: fc.constantFrom(Infinity, Infinity, Infinity, 0, 2, 5, 20),
};
const anyHistory = fc.record({ ...settings, operations: longHistory(400, (operation) => operation) });
/** Late settlements, while callers always wait for tokens. */
const backlog = fc.record({
  ...settings,
  concurrency: fc.constant(0),
  maxQueue: fc.constant(Infinity),
  operations: fc.array(backlogOperation, { maxLength: 500, size: 'max' }),
});
const history = fc.oneof({ weight: 2, arbitrary: anyHistory }, backlog);

/** The number of times that each case has occurred. */
const seen = new Map<string, number>();
const budgetCounts: Counts = new Map();

async function playExact(seed: number, tally: Tally): Promise<void> {
  await playSeed(seed, history, async ({ operations, ...limits }) => {
    const model = await playHistory(limits, operations, tally);
    for (const [what, times] of model.seen) seen.set(what, (seen.get(what) ?? 0) + times);
    checkRate(model);
  });
}

async function playCostsByName(seed: number, tally: Tally): Promise<void> {
  await playSeed(seed, budgetHistory, async (costsByName) => {
    const create = seed % 2 === 0 ? createThrottle : createThrottleOfKey;
    tally.operations += await playBudgets(create, costsByName, budgetCounts);
  });
}

export const core: Part = {
  name: 'core',
  exact: true,
  weight: 2,
  async play(seed, tally) {
    const dice = new Dice(seed);
    if (dice.oneIn(500)) await playMassCancel(dice, tally);
    else if (dice.oneIn(3)) await playCostsByName(seed, tally);
    else if (dice.oneIn(2)) await playExact(seed, tally);
    else await playInexactRates(seed, tally);
  },
  async close() {
    printCounts('core, exact histories', seen);
    printCounts('core, costs by name', budgetCounts);
  },
};

function printCounts(title: string, counts: ReadonlyMap<string, number>): void {
  if (counts.size === 0) return;
  const entries = [...counts].map(([what, times]) => `${what}: ${times}`);
  print(`${title}: ${entries.toSorted().join('; ')}`);
}
