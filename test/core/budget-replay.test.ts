/**
 * Random histories of one rate, compared with a replay of the whole log of grants at their true costs
 * (test/model/replay.ts). Every step takes a cost, settles a grant, changes the level or the limits, or replaces a full
 * budget by a new one, as a keyed throttle does after an eviction. Every level and every instant equals the replay.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Rate } from 'headgate';
import { test } from 'vitest';
import type { Budget } from '../../src/core/budget.js';
import { checkLimits, createBudget } from '../../src/core/limits.js';
import { type BucketReplay, type LoggedGrant, replayOf, type WindowReplay } from '../model/replay.js';

type Step =
  | { do: 'take'; cost: number }
  | { do: 'settle'; which: number; cost: number }
  | { do: 'correct' | 'lower'; level: number | undefined }
  | { do: 'replace'; rate: Rate }
  | { do: 'evict'; idle: readonly number[] }
  | { do: 'wait'; seconds: number };

interface Grant {
  readonly serial: number;
  readonly entry: LoggedGrant;
}

/** A bucket keeps this number of replaced buckets, and is exact as long as these suffice. */
const MAX_REPLACEMENTS = 8;

// Eighths and powers of two add up without rounding, so the comparison is exact.
const eighths = (min: number, max: number): fc.Arbitrary<number> =>
  fc.integer({ min: 8 * min, max: 8 * max }).map((value) => value / 8);
const cost = fc.oneof(fc.constant(0), eighths(0, 2), eighths(0, 6));
const level = fc.oneof({ weight: 6, arbitrary: eighths(-2, 6) }, fc.constant(undefined), fc.constant(100));
const period = fc.constantFrom(1, 2, 4);

const historyOf = (rate: fc.Arbitrary<Rate>): fc.Arbitrary<{ rate: Rate; steps: Step[] }> => {
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 8, arbitrary: fc.record({ do: fc.constant('take' as const), cost }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constant('settle' as const), which: fc.nat(), cost }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('correct' as const, 'lower' as const), level }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('replace' as const), rate }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('evict' as const), idle: fc.array(eighths(0, 1), { maxLength: 3 }) }),
    },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: eighths(0, 1) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: eighths(0, 8) }) },
  );
  return fc.record({ rate, steps: fc.array(step, { minLength: 5, maxLength: 30, size: 'max' }) });
};

const bucket: fc.Arbitrary<Rate> = fc.record({
  capacity: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(1, 2, 4) }, fc.constant(Infinity)),
  period,
  burst: fc.constantFrom(1, 2, 4, 8),
});
const window: fc.Arbitrary<Rate> = fc.record({
  capacity: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(2, 4, 8) }, fc.constant(Infinity)),
  period,
  window: fc.constant('sliding'),
});

function play({ rate: first, steps }: { rate: Rate; steps: readonly Step[] }): void {
  const replay: BucketReplay | WindowReplay = replayOf(first);
  let rate = first;
  let budget = createBudget(checkLimits(rate));
  let evicted: Budget | undefined;
  let hasEvicted = false;
  /** The number of the first grants that belong to the evicted budget. */
  let evictedGrants = 0;
  const grants: Grant[] = [];
  let [now, serial, replacements] = [0, 0, 0];

  const takeStep = (step: Step): void => {
    switch (step.do) {
      case 'take': {
        const fits = step.cost === 0 || step.cost <= replay.level(now);
        assert.equal(budget?.take(now, step.cost, serial + 1) ?? true, fits);
        if (!fits) return;
        const entry = { at: now, cost: step.cost };
        replay.add(entry);
        grants.push({ serial: ++serial, entry });
        return;
      }
      case 'settle': {
        const index = step.which % grants.length;
        const grant = grants[index];
        if (grant === undefined) return;
        const difference = step.cost - grant.entry.cost;
        // An evicted budget was full, so a throttle passes only the debts of its grants to the new budget.
        if (difference === 0 || (index < evictedGrants && difference < 0)) return;
        if (index >= evictedGrants) budget?.settle(now, difference, grant.serial);
        else if (evicted !== undefined) budget?.settleEarlier(now, evicted, difference, grant.serial);
        grant.entry.cost = step.cost;
        replay.settled(grant.entry);
        return;
      }
      case 'correct':
        budget?.correct(now, step.level, serial);
        if (step.level !== undefined && !replay.unlimited) replay.setLevel(now, step.level);
        return;
      case 'lower': {
        budget?.lower(now, step.level, ++serial);
        const missing = replay.level(now) - (step.level ?? Infinity);
        if (missing > 0 && !replay.unlimited) replay.add({ at: now, cost: missing });
        return;
      }
      case 'replace':
        if (++replacements > MAX_REPLACEMENTS) return;
        // A window charges no debt of an evicted window whose own period has passed, so these windows keep their period.
        rate = hasEvicted && step.rate.window ? { ...step.rate, period: rate.period } : step.rate;
        budget = createBudget(checkLimits(rate), now, serial, budget);
        replay.configure(now, rate);
        return;
      case 'evict':
        if (hasEvicted || budget === undefined) return;
        now = replay.opensAt(now, replay.size);
        // A grant without a cost keeps a budget full.
        for (const seconds of step.idle) {
          now += seconds;
          takeStep({ do: 'take', cost: 0 });
        }
        hasEvicted = true;
        evicted = budget;
        budget = budget.fresh();
        evictedGrants = grants.length;
        serial = 0;
        return;
      case 'wait':
        now += step.seconds;
    }
  };

  for (const step of steps) {
    takeStep(step);
    if (budget === undefined) continue;
    assert.equal(budget.level(now), replay.level(now));
    for (const each of [0, 0.125, 1, replay.size])
      assert.equal(budget.readyAt(now, each), replay.opensAt(now, each), `readyAt of ${each}`);
    assert.equal(Math.max(now, budget.fullAt()), replay.opensAt(now, replay.size));
  }
}

test.each([
  ['a token bucket', bucket],
  ['a sliding window', window],
])('%s equals the replay of its log after every step', { timeout: 60_000 }, (_name, rates) => {
  // Several histories per run, because the mutation tests allow few runs.
  const histories = fc.array(historyOf(rates), { minLength: 1, maxLength: 25, size: 'max' });
  fc.assert(
    fc.property(histories, (each) => each.forEach(play)),
    { numRuns: 100 },
  );
});
