/**
 * Random histories against a model that is derived from the definition (reference.ts): every comparison is one of
 * equality, down to the instant of each grant.
 */
import fc from 'fast-check';
import { type Rate, Throttle } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import {
  backlogOperation,
  bursts,
  capacities,
  concurrencies,
  expectWithinRate,
  longHistory,
  type Operation,
  periods,
  rates,
  type Reference,
  slowBuckets,
} from './reference.js';
import { keyed } from '../soak/keyed.js';
import { newTally, type Tally } from '../soak/part.js';
import { playHistory, type Settings } from '../soak/model-comparison.js';
import { SkewedClock } from '../support/support.js';

const bucket = fc.record({ capacity: capacities, period: periods, burst: bursts });
const noFurtherRates = fc.constant<Rate[]>([]);
const maxQueue = fc.constantFrom(Infinity, Infinity, 0, 2, 5);
const operations = longHistory(40, (operation) => operation);
const oneBucket = fc.record({ first: bucket, also: noFurtherRates, concurrency: concurrencies, maxQueue, operations });
const severalRates = fc.record({
  first: rates,
  also: fc.array(rates, { maxLength: 2 }),
  concurrency: concurrencies,
  maxQueue,
  operations,
});
const backlog = fc.record({
  first: fc.oneof({ weight: 2, arbitrary: slowBuckets }, rates),
  also: fc.oneof({ weight: 3, arbitrary: noFurtherRates }, fc.array(rates, { maxLength: 2 })),
  concurrency: fc.constant(0),
  maxQueue: fc.constant(Infinity),
  operations: fc.array(backlogOperation, { maxLength: 350, size: 'max' }),
});

interface History extends Settings {
  readonly operations: readonly Operation[];
}

/** What a set of histories has shown. */
class Sightings {
  readonly seen: Map<string, number> = new Map();
  readonly tally: Tally = newTally();

  /** Plays a history and counts what has occurred. */
  async play({ operations: steps, ...settings }: History): Promise<Reference> {
    const model = await playHistory(settings, steps, this.tally);
    for (const { do: kind } of steps) this.#count(kind, 1);
    for (const [, outcome] of model.log) this.#count(outcome, 1);
    for (const [what, times] of model.seen) this.#count(what, times);
    if (!model.exact) this.#count('ended early', 1);
    return model;
  }

  /** A set of histories in which a case never occurs proves nothing about the case. */
  expect(least: number, ...cases: readonly string[]): void {
    for (const what of cases) expect(this.seen.get(what) ?? 0, what).toBeGreaterThan(least);
  }

  #count(what: string, times: number): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + times);
  }
}

const REFUNDS = ['refund in full', 'refund in part', 'refund without effect'] as const;
const DEBTS = ['debt in full', 'debt in part', 'debt without effect'] as const;
const WINDOW = [
  'window: refund in full',
  'window: refund without effect',
  'window: debt in full',
  'window: debt without effect',
] as const;
const LATE = ['settled after release', 'settled after configure', 'settled after a younger one'] as const;

describe('a random history ends as the definition says, after every step', () => {
  test('acquire, run, tryAcquire, release, settle, abort, timeout, pause, resume, configure, close, clock steps', async () => {
    const sightings = new Sightings();
    await fc.assert(
      fc.asyncProperty(oneBucket, async (history) => expectWithinRate(await sightings.play(history))),
      { numRuns: 1_200 },
    );
    sightings.expect(
      100,
      'granted',
      'timeout',
      'full',
      'closed',
      'aborted',
      'oversize',
      'settle',
      'configure',
      'pause',
      'tryAcquire',
      'run aborted before its function started',
      ...LATE,
    );
    sightings.expect(10, ...REFUNDS, ...DEBTS, 'a cost of 0 granted in debt');
  });

  test('sliding windows and several rates at a time', async () => {
    const sightings = new Sightings();
    await fc.assert(
      fc.asyncProperty(severalRates, async (history) => void (await sightings.play(history))),
      { numRuns: 900 },
    );
    sightings.expect(
      100,
      'granted',
      'timeout',
      'full',
      'closed',
      'aborted',
      'oversize',
      'settle',
      'configure',
      'run aborted before its function started',
      ...LATE,
    );
    sightings.expect(30, ...WINDOW, 'a cost of 0 granted in debt');
  });

  test('true costs that come late, under a steady backlog, in long histories (FAULTS 8)', async () => {
    const sightings = new Sightings();
    await fc.assert(
      fc.asyncProperty(backlog, async (history) => void (await sightings.play(history))),
      { numRuns: 300 },
    );
    sightings.expect(200, ...LATE);
    sightings.expect(30, ...REFUNDS, ...DEBTS, ...WINDOW);
  });

  test('a throttle for each key', async () => {
    const tally = newTally();
    for (const seed of fc.sample(fc.integer(), 60)) await keyed.play(seed, tally);
    expect(tally.grants).toBeGreaterThan(400);
  });
});

describe('a clock that misbehaves grants nothing extra and holds nobody for ever', () => {
  const costs = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 30 });

  /** The bound, by true time. */
  const expectBound = (grants: readonly { at: number; cost: number }[], burst: number, rate: number): void => {
    grants.forEach((first, from) => {
      let sum = 0;
      for (const { at, cost } of grants.slice(from)) {
        sum += cost;
        expect(sum).toBeLessThanOrEqual(burst + rate * (at - first.at) + 1e-6);
      }
    });
  };

  test('stepping back, by any amount, at any time', async () => {
    await fc.assert(
      fc.asyncProperty(
        costs,
        fc.array(
          fc.record({
            after: fc.double({ min: 0, max: 2, noNaN: true }),
            back: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 5000, noNaN: true })),
          }),
          { maxLength: 10 },
        ),
        async (asked, steps) => {
          const clock = new SkewedClock();
          const throttle = new Throttle(4, 0, 1, { burst: 5, clock });
          const grants: { at: number; cost: number }[] = [];
          const jobs = asked.map((cost) =>
            throttle.run(() => void grants.push({ at: clock.passing.now(), cost }), cost),
          );
          for (const { after, back } of steps) {
            await clock.passing.advance(after);
            clock.skew -= back;
            if (throttle.tryAcquire(1) !== undefined) grants.push({ at: clock.passing.now(), cost: 1 });
          }
          // All that was asked for, at the rate of 4, and nothing later than that.
          await clock.passing.advance((asked.reduce((sum, cost) => sum + cost, 0) + steps.length) / 4);
          await Promise.all(jobs);
          expectBound(grants, 5, 4);
        },
      ),
    );
  });

  test('timers that fire early: no grant before its time, a handful of timers, no spin', async () => {
    await fc.assert(
      fc.asyncProperty(costs, fc.double({ min: 0.5, max: 0.999, noNaN: true }), async (asked, haste) => {
        const clock = new SkewedClock();
        clock.fires = (seconds) => seconds * haste;
        const throttle = new Throttle(4, 0, 1, { burst: 5, clock });
        const grants: { at: number; cost: number }[] = [];
        const jobs = asked.map((cost) => throttle.run(() => void grants.push({ at: clock.passing.now(), cost }), cost));
        await clock.passing.advance(asked.reduce((sum, cost) => sum + cost, 0) / 4 + 1);
        await Promise.all(jobs);
        expectBound(grants, 5, 4);
        // Each attempt is half of what is left at the most, down to the grain of the numbers.
        expect(clock.delays.length).toBeLessThanOrEqual(asked.length * 64);
      }),
    );
  });

  test('standing still: nothing is granted, and the timer is set again for the whole delay', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(4, 0, 1, { clock });
    throttle.tryAcquire(4);
    const waiting = throttle.acquire(1);
    const frozen = vi.spyOn(clock, 'now').mockReturnValue(clock.now());
    await clock.passing.advance(10);
    expect(throttle.waiting).toBe(1);
    expect(clock.delays.length).toBe(41);
    frozen.mockRestore();
    await clock.passing.advance(0.25);
    expect(throttle.waiting).toBe(0);
    (await waiting).release();
  });
});
