/**
 * Random histories of two objects on one key, as in two processes, with costs by name, weighted slots, settlements by
 * name in any order, and corrections. The model is that of the core (model/budgets.ts): it replays every rate.
 */
import fc from 'fast-check';
import type { Rate } from 'headgate';
import type { RedisPermit } from 'headgate/redis';
import { describe, expect, test } from 'vitest';
import { keyNames } from '../../src/redis/key-names.js';
import { BudgetModel, type ModelPermit } from '../model/budgets.js';
import { type Counts, costsOf, count, levelsOf, playOnPermit } from '../model/budget-histories.js';
import { quarters } from '../model/operations.js';
import { client, Microseconds, openOn, ProcessClient, settler, UNIT } from './history-site.js';
import { freshKey } from './support.js';

const rate = fc.record({
  capacity: fc.constantFrom(1, 2, 4),
  period: fc.constantFrom(1, 2, 4),
  burst: fc.constantFrom(2, 4, 8),
});
/** Two named rates, and sometimes a rate without a name. */
const also = fc
  .tuple(rate, rate, fc.option(rate, { nil: undefined }))
  .map(([tokens, out, unnamed]): Rate[] =>
    [{ ...tokens, name: 'tokens' }, unnamed, { ...out, name: 'out=;/ é' }].filter((each) => each !== undefined),
  );
const amounts = costsOf('tokens', 'out=;/ é');
const levels = levelsOf(amounts);
const caller = fc.constantFrom(0 as const, 1 as const);
const which = fc.nat(1_000);
const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('acquire' as const),
      caller,
      cost: amounts(2.5),
      slots: fc.constantFrom(1, 1, 1, 0, 2, 3),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tryAcquire' as const), caller, cost: amounts(2) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('release' as const), which }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('settle' as const), which, cost: amounts(4) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('correct' as const), caller, levels, onlyLower: fc.boolean() }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('advance' as const), seconds: quarters(3) }) },
);
const history = fc.record({
  main: rate,
  also,
  concurrency: fc.constantFrom(2, 3, 8),
  steps: fc.array(step, { maxLength: 40, size: 'max' }),
});
type History = typeof history extends fc.Arbitrary<infer H> ? H : never;

const counts: Counts = new Map();

const inSeconds = <R extends Rate>(given: R): R => ({ ...given, period: ((given.period ?? 1) * UNIT) / 1e6 });

async function play({ main, also: others, concurrency, steps }: History): Promise<void> {
  const clock = new Microseconds();
  const processes = [new ProcessClient(), new ProcessClient()] as const;
  const settle = settler(processes);
  const key = freshKey();
  const limits = { ...inSeconds(main), also: others.map(inSeconds), concurrency };
  const gates = [openOn(processes[0], key, clock, limits), openOn(processes[1], key, clock, limits)] as const;
  const model = new BudgetModel([main, ...others], concurrency, Infinity);
  const permits = new Map<number, RedisPermit>();
  const refused: number[] = [];
  const lastName = others.at(-1)?.name as string;
  let id = 0;
  for (const one of steps) {
    const permit = 'which' in one ? model.permits[one.which % Math.max(1, model.permits.length)] : undefined;
    if ('which' in one && permit === undefined) continue;
    const own = id++;
    const refuse = (error: unknown): void => {
      // At the end, the waiters that are left are refused.
      if (gates[0].closed) return;
      expect(error).toBeInstanceOf(RangeError);
      refused.push(own);
    };
    switch (one.do) {
      case 'acquire':
        model.acquire(own, one.cost, one.slots);
        gates[one.caller]
          .acquire(one.cost as never, { slots: one.slots })
          .then((granted) => void permits.set(own, granted as RedisPermit), refuse);
        break;
      case 'tryAcquire':
        model.tryAcquire(own, one.cost);
        gates[one.caller].tryAcquire(one.cost as never).then((granted) => {
          if (granted === undefined) return void refused.push(own);
          return void permits.set(own, granted);
        }, refuse);
        break;
      case 'release':
      case 'settle':
        playOnPermit(one, model, permit as ModelPermit, permits, counts);
        break;
      case 'correct':
        model.correct(one.levels, one.onlyLower);
        void gates[one.caller].correct(one.levels, { onlyLower: one.onlyLower });
        count(counts, 'corrected');
        break;
      case 'advance':
        model.advance(one.seconds);
        await clock.advance(one.seconds * UNIT, settle);
    }
    await settle();
    const sorted = (ids: Iterable<number>): number[] => [...ids].toSorted((a, b) => a - b);
    expect(sorted(permits.keys())).toEqual(sorted(model.permits.map((each) => each.id)));
    expect(sorted(refused)).toEqual(sorted(model.refused));
    const taken: number[] = [];
    for (const each of model.permits) {
      const granted = permits.get(each.id) as RedisPermit;
      expect(granted.cost).toBe(each.entries[0]?.cost);
      expect(granted.costs).toEqual({ tokens: each.entries[1]?.cost, [lastName]: each.entries.at(-1)?.cost });
      expect(granted.slots).toHaveLength(each.slots);
      expect([granted.slot, granted.signal.aborted]).toEqual([granted.slots[0] ?? 0, false]);
      if (!each.released) taken.push(...granted.slots);
    }
    // No two permits have a slot in common, and the numbers are those of the limit.
    expect(new Set(taken).size).toBe(taken.length);
    for (const slot of taken) expect(slot >= 1 && slot <= concurrency).toBe(true);
    const state = await gates[0].inspect();
    expect(state.tokens).toBe(model.level());
    expect(state.levels).toEqual({ tokens: model.level('tokens'), [lastName]: model.level(lastName) });
    expect(state.waiting.map(({ slots, cost, costs }) => [slots, cost, costs?.['tokens']])).toEqual(
      model.queue.map(({ slots, costs }) => [slots, costs[0], costs[1]]),
    );
    expect(state.active.flatMap(({ slots }) => slots).length).toBe(model.active);
  }
  count(counts, 'with several slots', model.permits.filter((each) => each.slots > 1).length);
  count(counts, 'with no slot', model.permits.filter((each) => each.slots === 0).length);
  count(counts, 'granted later', model.permits.filter((each, index) => index > 0 && each.at > 0).length);
  await Promise.allSettled(gates.map((gate) => gate.close()));
  await client.del(keyNames('headgate', key));
}

describe('costs by name, weighted slots and corrections across processes', () => {
  test('two objects equal the model after every step', { timeout: 120_000 }, async () => {
    await fc.assert(fc.asyncProperty(history, play), { numRuns: 80 });
    for (const what of ['settled in parts', 'corrected', 'with several slots', 'with no slot', 'granted later'])
      expect([what, (counts.get(what) ?? 0) > 10]).toEqual([what, true]);
  });
});
