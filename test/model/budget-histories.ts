/**
 * Random histories of calls with costs by name, weighted slots, settlements by name in any order, corrections and
 * expired permits, on a throttle and on a model (budgets.ts). Both must be equal after every step. The tests and the
 * soak play them.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type Cost, KeyedThrottle, type Permit, type Rate, Throttle, type ThrottlePermit } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { BudgetModel, type ModelPermit } from './budgets.js';
import { quarters } from './operations.js';

type Step =
  | { do: 'acquire'; cost: Cost; slots: number }
  | { do: 'tryAcquire'; cost: Cost }
  | { do: 'release'; which: number }
  | { do: 'settle'; which: number; cost: Cost }
  | { do: 'correct'; levels: Cost; onlyLower: boolean }
  | { do: 'concurrency'; value: number }
  | { do: 'advance'; seconds: number };

export interface BudgetHistory {
  readonly main: Rate;
  readonly also: readonly Rate[];
  readonly concurrency: number;
  readonly ttl: number;
  readonly steps: readonly Step[];
}

const rate = fc.oneof(
  fc.record({ capacity: fc.constantFrom(1, 2, 4), period: fc.constantFrom(1, 2, 4), burst: fc.constantFrom(2, 4, 8) }),
  fc.record({
    capacity: fc.constantFrom(2, 4, 8),
    period: fc.constantFrom(1, 2),
    window: fc.constant('sliding' as const),
  }),
);
/** The rates of `also`: two named rates, and sometimes a rate without a name. */
const also = fc.tuple(rate, rate, fc.option(rate, { nil: undefined })).map(([tokens, out, unnamed]): Rate[] => {
  const [first, last]: Rate[] = [
    Object.assign({}, tokens, { name: 'tokens' }),
    Object.assign({}, out, { name: 'out' }),
  ];
  return [first, unnamed, last].filter((each) => each !== undefined);
});
const entry = (max: number): fc.Arbitrary<number> => fc.oneof(quarters(1), quarters(max));
/** Costs up to `max`: numbers, and records of two rates with these names. */
export const costsOf =
  (first: string, second: string) =>
  (max: number): fc.Arbitrary<Cost> =>
    fc.oneof(
      { weight: 1, arbitrary: entry(max) },
      {
        weight: 4,
        arbitrary: fc.record({ cost: entry(max), [first]: entry(max), [second]: entry(max) }, { requiredKeys: [] }),
      },
    );
/** Levels between -2 and 6 tokens. */
export const levelsOf = (amounts: (max: number) => fc.Arbitrary<Cost>): fc.Arbitrary<Cost> =>
  amounts(8).map((cost): Cost => {
    if (typeof cost === 'number') return cost - 2;
    return Object.fromEntries(Object.entries(cost).map(([name, value]) => [name, (value as number) - 2]));
  });
const amounts = costsOf('tokens', 'out');
const levels = levelsOf(amounts);
const which = fc.nat(1_000);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('acquire' as const),
      cost: amounts(2),
      slots: fc.constantFrom(1, 1, 1, 0, 2, 3),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tryAcquire' as const), cost: amounts(2) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('release' as const), which }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('settle' as const), which, cost: amounts(4) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('correct' as const), levels, onlyLower: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('concurrency' as const), value: fc.constantFrom(1, 2, 3, 8) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('advance' as const), seconds: quarters(3) }) },
);
export const budgetHistory: fc.Arbitrary<BudgetHistory> = fc.record({
  main: rate,
  also,
  concurrency: fc.constantFrom(2, 3, 8),
  ttl: fc.constantFrom(Infinity, 1, 2, 4),
  steps: fc.array(step, { maxLength: 60, size: 'max' }),
});

/** Counts what the histories contain, so that a test cannot pass without the cases that it is about. */
export type Counts = Map<string, number>;
export const count = (counts: Counts, what: string, times = 1): void =>
  void counts.set(what, (counts.get(what) ?? 0) + times);

/** What a throttle shows of a permit. */
const show = (permit: ThrottlePermit): unknown => ({
  cost: permit.cost,
  costs: { ...permit.costs },
  slots: permit.slots,
  released: permit.released,
  aborted: permit.signal.aborted,
});
/** What a throttle should show of a permit. `tokens` and `out` are the first and the last rate of `also`. */
const expected = ({ entries, slots, released, expired }: ModelPermit): unknown => ({
  cost: entries[0]?.cost,
  costs: { tokens: entries[1]?.cost, out: entries.at(-1)?.cost },
  slots,
  released,
  aborted: expired,
});

/** Releases or settles a permit, in the model and in the gate. */
export function playOnPermit(
  action: { do: 'release' } | { do: 'settle'; cost: Cost },
  model: BudgetModel,
  permit: ModelPermit,
  permits: ReadonlyMap<number, Permit>,
  counts: Counts,
): void {
  const granted = permits.get(permit.id);
  if (action.do === 'release') {
    model.release(permit);
    granted?.release();
    return;
  }
  const before = permit.settled.filter(Boolean).length;
  model.settle(permit, action.cost);
  granted?.settle(action.cost);
  if (before > 0 && before < permit.entries.length) count(counts, 'settled in parts');
  if (permit.expired) count(counts, 'settled after the expiry');
}

const sorted = (ids: Iterable<number>): number[] => [...ids].toSorted((a, b) => a - b);

const ratesOf = ({ burst, window }: Rate): Pick<Rate, 'burst' | 'window'> => ({ burst, window });

export const createThrottle = (clock: ManualClock, settings: BudgetHistory): Throttle<string> => {
  const { main, also: others, concurrency, ttl } = settings;
  return new Throttle(main.capacity, concurrency, main.period, { ...ratesOf(main), also: others, ttl, clock });
};

/** Creates a keyed throttle, and returns the throttle of one of its keys. */
export const createThrottleOfKey = (clock: ManualClock, settings: BudgetHistory): Throttle<string> => {
  const { main, also: others, concurrency, ttl } = settings;
  const limits = { ...ratesOf(main), also: others, ttl, clock };
  const keyed = new KeyedThrottle<string, string>(main.capacity, concurrency, main.period, limits);
  const permit = keyed.tryAcquire('key', { cost: 0 });
  const throttle = keyed.peek('key') as Throttle<string>;
  permit?.release();
  return throttle;
};

/** Plays a history on a throttle and on the model, and compares both after every step. Returns the number of steps. */
export async function playBudgets(
  create: typeof createThrottle,
  settings: BudgetHistory,
  counts: Counts = new Map(),
): Promise<number> {
  const clock = new ManualClock();
  const gate = create(clock, settings);
  const { main, also: others, concurrency, ttl, steps } = settings;
  const model = new BudgetModel([main, ...others], concurrency, ttl);
  const permits = new Map<number, ThrottlePermit>();
  const refused: number[] = [];
  let id = 0;
  const keep = (own: number, permit: ThrottlePermit | undefined): void => {
    if (permit === undefined) refused.push(own);
    else permits.set(own, permit);
  };
  for (const one of steps) {
    const permit = 'which' in one ? model.permits[one.which % Math.max(1, model.permits.length)] : undefined;
    if ('which' in one && permit === undefined) continue;
    const own = id++;
    switch (one.do) {
      case 'acquire':
        model.acquire(own, one.cost, one.slots);
        gate.acquire(one.cost, { slots: one.slots }).then(
          (granted) => permits.set(own, granted),
          (error: unknown) => {
            assert(error instanceof RangeError, String(error));
            refused.push(own);
          },
        );
        break;
      case 'tryAcquire':
        model.tryAcquire(own, one.cost);
        try {
          keep(own, gate.tryAcquire(one.cost));
        } catch (error) {
          assert(error instanceof RangeError, String(error));
          keep(own, undefined);
        }
        break;
      case 'release':
      case 'settle':
        playOnPermit(one, model, permit as ModelPermit, permits, counts);
        break;
      case 'correct':
        model.correct(one.levels, one.onlyLower);
        gate.correct(one.levels, { onlyLower: one.onlyLower });
        count(counts, 'corrected');
        break;
      case 'concurrency':
        model.setConcurrency(one.value);
        gate.configure({ concurrency: one.value });
        break;
      case 'advance':
        model.advance(one.seconds);
        await clock.advance(one.seconds);
    }
    await clock.advance(0);
    assert.deepEqual(sorted(permits.keys()), sorted(model.permits.map((each) => each.id)));
    assert.deepEqual(sorted(refused), sorted(model.refused));
    for (const each of model.permits) assert.deepEqual(show(permits.get(each.id) as ThrottlePermit), expected(each));
    const { active, waiting, tokens, levels: byName } = gate;
    assert.deepEqual(
      { active, waiting, tokens, byName: { ...byName } },
      {
        active: model.active,
        waiting: model.queue.length,
        tokens: model.level(),
        byName: { tokens: model.level('tokens'), out: model.level('out') },
      },
    );
    // A window with a queue may need more periods than the model's one wait for the sum of the costs.
    if (model.queue.length === 0 || [main, ...others].every(({ window }) => window === undefined)) {
      const cost = { cost: 1, tokens: 0.5, out: 1 };
      assert.equal(gate.estimateWait(cost), model.estimate(model.costsOf(cost)));
    }
    const isHeld = model.permits.some(({ released }) => !released);
    assert(clock.pending <= (isHeld && ttl < Infinity ? 1 : 0) + (model.queue.length > 0 ? 1 : 0));
  }
  count(counts, 'expired', model.permits.filter((each) => each.expired).length);
  count(counts, 'with several slots', model.permits.filter((each) => each.slots > 1).length);
  count(counts, 'with no slot', model.permits.filter((each) => each.slots === 0).length);
  count(counts, 'granted later', model.permits.filter((each, index) => index > 0 && each.at > 0).length);
  return steps.length;
}
