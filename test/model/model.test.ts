/**
 * Random histories of calls, on a throttle and on a model that follows the definition (reference.ts). Both must be
 * equal after every step, including the instant of each grant.
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

/** Counts the cases that occur in a set of histories. */
class CaseCounts {
  readonly seen: Map<string, number> = new Map();
  readonly tally: Tally = newTally();

  /** Plays a history and counts its cases. */
  async play({ operations: steps, ...settings }: History): Promise<Reference> {
    const model = await playHistory(settings, steps, this.tally);
    for (const { do: kind } of steps) this.#count(kind, 1);
    for (const [, outcome] of model.log) this.#count(outcome, 1);
    for (const [name, times] of model.seen) this.#count(name, times);
    if (!model.exact) this.#count('ended early', 1);
    return model;
  }

  /** Fails if a case is too rare: histories without a case prove nothing about that case. */
  expect(minimum: number, ...names: readonly string[]): void {
    for (const name of names) expect(this.seen.get(name) ?? 0, name).toBeGreaterThan(minimum);
  }

  #count(name: string, times: number): void {
    this.seen.set(name, (this.seen.get(name) ?? 0) + times);
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

describe('a throttle equals the model after every step of a random history', () => {
  test('one bucket: every operation, timeouts and aborts', async () => {
    const cases = new CaseCounts();
    await fc.assert(
      fc.asyncProperty(oneBucket, async (history) => expectWithinRate(await cases.play(history))),
      { numRuns: 1_800 },
    );
    cases.expect(
      100,
      'granted',
      'timeout',
      'full',
      'closed',
      'cleared',
      'drain',
      'idle',
      'aborted',
      'oversize',
      'settle',
      'configure',
      'pause',
      'tryAcquire',
      'run aborted before its function started',
      ...LATE,
    );
    cases.expect(10, ...REFUNDS, ...DEBTS, 'a cost of 0 granted in debt');
  });

  test('sliding windows and several rates', async () => {
    const cases = new CaseCounts();
    await fc.assert(
      fc.asyncProperty(severalRates, async (history) => void (await cases.play(history))),
      { numRuns: 900 },
    );
    cases.expect(
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
    cases.expect(30, ...WINDOW, 'a cost of 0 granted in debt');
  });

  test('late settlements under a steady backlog, in long histories (FAULTS 8)', async () => {
    const cases = new CaseCounts();
    await fc.assert(
      fc.asyncProperty(backlog, async (history) => void (await cases.play(history))),
      { numRuns: 450 },
    );
    cases.expect(200, ...LATE);
    cases.expect(30, ...REFUNDS, ...DEBTS, ...WINDOW);
  });

  test('a keyed throttle', async () => {
    const tally = newTally();
    for (const seed of fc.sample(fc.integer(), 60)) await keyed.play(seed, tally);
    expect(tally.grants).toBeGreaterThan(400);
  });
});

describe('a faulty clock causes no extra grant and no endless wait', () => {
  const costs = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 30 });

  /** Promise 2, measured in true time instead of the time of the faulty clock. */
  const expectBound = (grants: readonly { at: number; cost: number }[], burst: number, rate: number): void => {
    grants.forEach((first, from) => {
      let sum = 0;
      for (const { at, cost } of grants.slice(from)) {
        sum += cost;
        expect(sum).toBeLessThanOrEqual(burst + rate * (at - first.at) + 1e-6);
      }
    });
  };

  test('a clock that steps back by any amount at any time', async () => {
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
        async (costList, steps) => {
          const clock = new SkewedClock();
          const throttle = new Throttle(4, 0, 1, { burst: 5, clock });
          const grants: { at: number; cost: number }[] = [];
          const jobs = costList.map((cost) =>
            throttle.run(() => void grants.push({ at: clock.passing.now(), cost }), cost),
          );
          for (const { after, back } of steps) {
            await clock.passing.advance(after);
            clock.skew -= back;
            if (throttle.tryAcquire(1) !== undefined) grants.push({ at: clock.passing.now(), cost: 1 });
          }
          // Every job is granted by the time that the total cost takes at a rate of 4.
          await clock.passing.advance((costList.reduce((sum, cost) => sum + cost, 0) + steps.length) / 4);
          await Promise.all(jobs);
          expectBound(grants, 5, 4);
        },
      ),
    );
  });

  test('timers that fire early cause no early grant and few extra timers', async () => {
    await fc.assert(
      fc.asyncProperty(costs, fc.double({ min: 0.5, max: 0.999, noNaN: true }), async (costList, fraction) => {
        const clock = new SkewedClock();
        clock.fires = (seconds) => seconds * fraction;
        const throttle = new Throttle(4, 0, 1, { burst: 5, clock });
        const grants: { at: number; cost: number }[] = [];
        const jobs = costList.map((cost) =>
          throttle.run(() => void grants.push({ at: clock.passing.now(), cost }), cost),
        );
        await clock.passing.advance(costList.reduce((sum, cost) => sum + cost, 0) / 4 + 1);
        await Promise.all(jobs);
        expectBound(grants, 5, 4);
        // Each timer covers at least half of the remaining wait, down to the resolution of the numbers.
        expect(clock.delays.length).toBeLessThanOrEqual(costList.length * 64);
      }),
    );
  });

  test('a clock that stands still grants no waiter, and the timer restarts for the full delay', async () => {
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
