/**
 * The core: a throttle on a manual clock. Three kinds of histories, of which the seed chooses one: exact ones, where the
 * reference model says every number; loose ones, at rates that no number holds exactly, several at a time, in sliding
 * windows, on clocks that misbehave; and storms of 100,000 waiters.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Throttle } from 'headgate';
import { anyOperation, bursts, capacities, concurrencies, type Operation, periods, Reference } from '../reference.js';
import { playLoose } from './loose.js';
import { Dice, type Part, playSeed, type Tally, turn } from './part.js';
import { playStorm } from './storm.js';
import { checkRate, Twin, World } from './twin.js';

/** Closed throttles show little: most histories never close theirs, or late. */
export const longHistory = <O>(most: number, of: (operation: fc.Arbitrary<Operation>) => fc.Arbitrary<O>): fc.Arbitrary<O[]> =>
  fc.tuple(
    fc.array(of(anyOperation.filter((operation) => operation.do !== 'close')), { maxLength: most, size: 'max' }),
    fc.array(of(anyOperation), { maxLength: 40, size: 'max' }),
  ).map(([first, last]) => first.concat(last));

const history = fc.record({
  capacity: capacities,
  concurrency: concurrencies,
  period: periods,
  burst: bursts,
  maxQueue: fc.constantFrom(Infinity, Infinity, Infinity, 0, 2, 5, 20),
  operations: longHistory(400, (operation) => operation),
});

async function playExact(seed: number, tally: Tally): Promise<void> {
  await playSeed(seed, history, async ({ capacity, concurrency, period, burst, maxQueue, operations }) => {
    const world = new World(tally);
    const { clock } = world;
    const throttle = new Throttle(capacity, concurrency, period, { burst, maxQueue, clock });
    const twin = new Twin(new Reference(capacity, concurrency, period, burst, maxQueue), throttle, world);
    const { model } = twin;
    for (const operation of operations) {
      tally.operations++;
      switch (operation.do) {
        case 'abort':
          world.abort(operation.signal);
          model.dismiss((one) => one.signal === operation.signal, 'aborted');
          await turn();
          break;
        case 'close':
          throttle.close();
          model.closed = true;
          model.dismiss(() => true, 'closed');
          await turn();
          break;
        case 'advance':
          model.advance(operation.seconds);
          await clock.advance(operation.seconds);
          break;
        default:
          await twin.play(operation);
      }
      twin.compareOutcomes();
      twin.compareNumbers(throttle);
      world.compareTimers([twin]);
      world.compareListeners([twin]);
    }
    checkRate(model);
    // Whatever happened, it comes to rest: everyone leaves, and nothing is left behind.
    throttle.close();
    twin.end();
    await throttle.idle();
    assert.deepEqual([throttle.active, throttle.waiting, clock.pending], [0, 0, 0], 'what is left');
    await turn();
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
};
