/**
 * The core: a throttle on a manual clock. Three kinds of histories, of which the seed chooses one: exact ones, where the
 * reference model gives every number, for buckets, sliding windows and several rates; loose ones, at rates that no number
 * holds exactly, on clocks that misbehave; and storms of 100,000 waiters.
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
import { playLoose } from './loose.js';
import { Dice, type Part, playSeed, type Tally } from './part.js';
import { playStorm } from './storm.js';
import { checkRate, playHistory } from './twin.js';
import { print } from './watch.js';

const bucket = fc.record({ capacity: capacities, period: periods, burst: bursts });
const settings = {
  first: fc.oneof(bucket, slowBuckets, rates),
  also: fc.oneof({ weight: 2, arbitrary: fc.constant<Rate[]>([]) }, fc.array(rates, { maxLength: 2 })),
  concurrency: concurrencies,
  maxQueue: fc.constantFrom(Infinity, Infinity, Infinity, 0, 2, 5, 20),
};
const anyHistory = fc.record({ ...settings, operations: longHistory(400, (operation) => operation) });
/** True costs that come late, while callers wait for tokens all the time. */
const backlog = fc.record({
  ...settings,
  concurrency: fc.constant(0),
  maxQueue: fc.constant(Infinity),
  operations: fc.array(backlogOperation, { maxLength: 500, size: 'max' }),
});
const history = fc.oneof({ weight: 2, arbitrary: anyHistory }, backlog);

/** How often each remarkable case has occurred. */
const seen = new Map<string, number>();

async function playExact(seed: number, tally: Tally): Promise<void> {
  await playSeed(seed, history, async ({ operations, ...limits }) => {
    const model = await playHistory(limits, operations, tally);
    for (const [what, times] of model.seen) seen.set(what, (seen.get(what) ?? 0) + times);
    checkRate(model);
  });
}

export const core: Part = {
  name: 'core',
  exact: true,
  weight: 2,
  async play(seed, tally) {
    const dice = new Dice(seed);
    if (dice.oneIn(500)) await playStorm(dice, tally);
    else if (dice.oneIn(2)) await playExact(seed, tally);
    else await playLoose(seed, tally);
  },
  async close() {
    if (seen.size > 0)
      print(
        `core, exact histories: ${[...seen]
          .map(([what, times]) => `${what}: ${times}`)
          .toSorted()
          .join('; ')}`,
      );
  },
};
