/**
 * The protocol of protocol.ts keeps its promises in every reachable state of each scenario, and the search finds each
 * planted fault. A scenario gives the process of each call, how many of the calls hold a slot at the start, the number
 * of slots, and how many faults may happen.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { explore, type Exploration } from './explorer.js';
import { type Fault, FAULTS } from './rules.js';
import type { Scenario } from './scenario.js';
import type { Budget } from './state.js';

/** More states than any scenario has. */
const MOST_STATES = 150_000;
/** Of all scenarios and faults together: some thirty seconds of one slow core. */
const MOST_STATES_TOGETHER = 500_000;

interface Setup {
  readonly owners: readonly number[];
  readonly holding: number;
  readonly concurrency: number;
  readonly pipeline?: number;
  readonly linger?: boolean;
  readonly budget?: Partial<Budget>;
}

function scenarioOf(setup: Setup, fault?: Fault): Scenario {
  const { owners, holding, concurrency, pipeline = 1, linger = false, budget } = setup;
  const { lose = 0, forward = 0, back = 0 } = budget ?? {};
  const [forgets, setsBack] = [lose + forward > 0, back > 0];
  const calls = [0, 1].map((process) => owners.flatMap((owner, call) => (owner === process ? [call] : [])));
  return {
    rules: { owners, calls, pipeline, linger, fault, forgets, setsBack },
    holding,
    concurrency,
    budget: { total: 1, ...budget },
  };
}

const threeWaiters: Setup = { owners: [0, 1, 0, 0, 1], holding: 2, concurrency: 2 };
const twoWaiters: Setup = { owners: [0, 1, 0, 1], holding: 2, concurrency: 2 };
const oneWaiter: Setup = { owners: [0, 1, 0], holding: 2, concurrency: 2 };
const oneSlot: Setup = { owners: [0, 0, 1], holding: 1, concurrency: 1 };
const lingering: Setup = { ...oneSlot, linger: true };

const scenarios = {
  'three waiters for two slots': threeWaiters,
  'a crash': { ...twoWaiters, budget: { crash: 1 } },
  'a cancellation': { ...twoWaiters, budget: { cancel: 1 } },
  'a pause and a lost message': { ...oneWaiter, budget: { pause: 1, loseMessage: 1, total: 2 } },
  'a lower limit': { ...oneWaiter, budget: { lower: 1 } },
  'late messages, replies and batches': { ...oneSlot, budget: { slow: 2 } },
  'late messages, and a crash': { ...oneWaiter, budget: { slow: 1, crash: 1 } },
  'a broken connection': { ...oneWaiter, budget: { break: 1 } },
  'a batch that Redis bounces, and a cancellation': { ...oneWaiter, pipeline: 2, budget: { bounce: 1, cancel: 1 } },
  'slots that linger': { owners: [0, 1, 0, 0], holding: 2, concurrency: 2, linger: true },
  'a slot that lingers, and a lost message': { ...lingering, budget: { loseMessage: 1 } },
  'a slot that lingers, and late messages': { ...lingering, budget: { slow: 1 } },
  'slots that linger, and a crash': { ...oneWaiter, linger: true, budget: { crash: 1 } },
  'a pause by one of the processes': { ...oneWaiter, budget: { ownPause: 1 } },
  'a loss of all data': { ...oneWaiter, budget: { lose: 1 } },
  'a loss of all data, and waiters for one slot': { ...oneSlot, budget: { lose: 1 } },
  'a clock that is set forwards': { ...oneWaiter, budget: { forward: 1 } },
  'a clock that is set back, and a late message': { ...oneWaiter, budget: { back: 1, slow: 1 } },
  'a clock that is set back, and a crash': { ...oneWaiter, budget: { back: 1, crash: 1, total: 2 } },
  'slots that linger, and a pause': { ...oneWaiter, linger: true, budget: { pause: 1 } },
} as const satisfies Record<string, Setup>;

/** Larger scenarios: two minutes, with `HEADGATE_DEEP_MODEL=1`. */
const deepScenarios: Record<string, Setup> = {
  'a crash and a lost message': { ...twoWaiters, budget: { crash: 1, loseMessage: 1, total: 2 } },
  'a lower limit and a lost message': { ...oneWaiter, budget: { lower: 1, loseMessage: 1, total: 2 } },
  'one slot, and a crash or a lost message': {
    owners: [0, 0, 1, 1],
    holding: 1,
    concurrency: 1,
    budget: { crash: 1, loseMessage: 1 },
  },
  'three waiters, and a crash': { ...threeWaiters, budget: { crash: 1 } },
  'two waiters, and late messages': { ...twoWaiters, budget: { slow: 2 } },
  'two waiters, and a broken connection': { ...twoWaiters, budget: { break: 1 } },
  'two waiters, and a pause': { ...twoWaiters, budget: { pause: 1 } },
  'a loss of all data, and two waiters for one slot': {
    owners: [0, 1, 0, 1],
    holding: 1,
    concurrency: 1,
    budget: { lose: 1 },
  },
  'two waiters, and a lower limit': { ...twoWaiters, budget: { lower: 1 } },
  'two connection faults, and a cancellation': {
    ...oneWaiter,
    pipeline: 2,
    budget: { bounce: 1, break: 1, cancel: 1, total: 2 },
  },
  'two faults of any kind, and a cancellation': {
    ...oneWaiter,
    budget: { pause: 1, lower: 1, loseMessage: 1, crash: 1, cancel: 1, total: 2 },
  },
  'a slot that lingers, a crash and late messages': { ...lingering, budget: { crash: 1, slow: 1 } },
  'slots that linger, any fault, and late messages': {
    ...oneWaiter,
    linger: true,
    budget: { pause: 1, loseMessage: 1, crash: 1, slow: 1 },
  },
};

const HANDED_ON_PAST = 'a process handed on past an earlier waiter';
const PAUSE_IGNORED = 'a process ignored a pause past the bound';
const WITHDRAWAL_IGNORED = 'a process acted against a withdrawal that it had received';
const SLOT_GIVEN_AWAY = 'Redis gave away the slot of a living holder';
const LEASE_LEFT = 'Redis keeps a lease that its process does not know';
const PLACE_LEFT = 'Redis keeps the place of a call that does not wait';
const OWN_PAUSE_IGNORED = 'a process acted against its own pause';
const PLACE_LOST = 'a waiter lost its place by a loss of all data';
const WAITER_FORGOTTEN = 'Redis forgot a waiter';
const STUCK = 'a waiter waits, or a slot is kept, for ever';
const LINGER_PAST_BOUND = 'a lingering slot was used past the bound while a waiter stood in Redis';
const OWN_WAITER_PASSED = 'a process passed over its own waiter';

/** Where each fault shows, and the sentence that it violates. */
const plantedFaults: Readonly<Record<Fault, readonly [setup: Setup, violation: string]>> = {
  rowWithoutNames: [threeWaiters, HANDED_ON_PAST],
  rowNotShortened: [threeWaiters, HANDED_ON_PAST],
  rowPastOthers: [threeWaiters, HANDED_ON_PAST],
  rowWhilePaused: [scenarios['a pause and a lost message'], PAUSE_IGNORED],
  ownPauseForgotten: [scenarios['a pause by one of the processes'], OWN_PAUSE_IGNORED],
  noBound: [scenarios['a pause and a lost message'], PAUSE_IGNORED],
  staleReply: [scenarios['a pause and a lost message'], WITHDRAWAL_IGNORED],
  transferToLapsed: [scenarios['late messages, replies and batches'], SLOT_GIVEN_AWAY],
  extraSlotKept: [threeWaiters, LEASE_LEFT],
  extraSlotUsed: [threeWaiters, SLOT_GIVEN_AWAY],
  cancelKeepsGrant: [scenarios['a cancellation'], LEASE_LEFT],
  renewalOutOfOrder: [scenarios['a broken connection'], LEASE_LEFT],
  gapAccepted: [scenarios['a batch that Redis bounces, and a cancellation'], LEASE_LEFT],
  cancelBeforeAcquire: [scenarios['a batch that Redis bounces, and a cancellation'], PLACE_LEFT],
  duplicateApplied: [scenarios['a broken connection'], LEASE_LEFT],
  ageFromReceipt: [scenarios['late messages, replies and batches'], SLOT_GIVEN_AWAY],
  lateLeaseKept: [scenarios['late messages, replies and batches'], SLOT_GIVEN_AWAY],
  lateGrantTaken: [scenarios['late messages, replies and batches'], SLOT_GIVEN_AWAY],
  oldGrantTaken: [{ owners: [1, 0, 1], holding: 1, concurrency: 1, budget: { slow: 2 } }, SLOT_GIVEN_AWAY],
  grantNotRepeated: [{ ...oneWaiter, budget: { loseMessage: 1 } }, STUCK],
  lingerNotRecalled: [lingering, LINGER_PAST_BOUND],
  recallByMessageOnly: [scenarios['a slot that lingers, and a lost message'], STUCK],
  lostLeaseKept: [scenarios['a loss of all data'], SLOT_GIVEN_AWAY],
  waitersNotStated: [scenarios['a loss of all data'], WAITER_FORGOTTEN],
  firstBatchUnchanged: [scenarios['a loss of all data, and waiters for one slot'], SLOT_GIVEN_AWAY],
  placesLost: [scenarios['a loss of all data, and waiters for one slot'], PLACE_LOST],
  permissionAfterLoss: [scenarios['a loss of all data, and waiters for one slot'], HANDED_ON_PAST],
  unknownOwnerServed: [scenarios['a clock that is set forwards'], SLOT_GIVEN_AWAY],
  clockStandsStill: [scenarios['a clock that is set back, and a crash'], STUCK],
  noGrace: [scenarios['a clock that is set back, and a late message'], SLOT_GIVEN_AWAY],
  lingerPastOwnWaiters: [scenarios['slots that linger'], OWN_WAITER_PASSED],
};

const totals = { states: 0, transitions: 0, seconds: 0 };

function search(setup: Setup, bound: number, fault?: Fault): Exploration {
  const { user } = process.cpuUsage();
  const exploration = explore(scenarioOf(setup, fault), bound);
  totals.states += exploration.states;
  totals.transitions += exploration.transitions;
  totals.seconds += process.cpuUsage({ user, system: 0 }).user / 1e6;
  return exploration;
}

describe('the protocol keeps every property with', () => {
  test.each(Object.entries(scenarios))('%s', (_, setup) => {
    const { finding, complete } = search(setup, MOST_STATES);
    expect(finding).toBeUndefined();
    expect(complete).toBe(true);
  });

  if (process.env['HEADGATE_DEEP_MODEL'] === '1')
    test.each(Object.entries(deepScenarios))('%s', (_, setup) => {
      const { finding, complete } = search(setup, 10 * MOST_STATES);
      expect(finding).toBeUndefined();
      expect(complete).toBe(true);
    });
});

describe('the search finds this fault:', () => {
  test.each(Object.entries(FAULTS) as [Fault, string][])('%s (%s)', (fault) => {
    const [setup, violation] = plantedFaults[fault];
    expect(search(setup, MOST_STATES, fault).finding?.violation).toBe(violation);
  });

  test('a trace of the fewest possible steps leads to a violation', () => {
    expect(search(threeWaiters, MOST_STATES, 'rowPastOthers').finding?.trace).toEqual([
      'a call begins in process 0 (call 2)',
      'Redis applies a batch of process 0',
      'a call begins in process 1 (call 4)',
      'Redis applies a batch of process 1',
      'a reply reaches process 1',
      'a holder releases in process 1 (call 1)',
    ]);
  });
});

afterAll(() => {
  const { states, transitions, seconds } = totals;
  console.log(`The model visited ${states} states by ${transitions} transitions in ${seconds.toFixed(1)} s.`);
  if (process.env['HEADGATE_DEEP_MODEL'] !== '1') expect(states).toBeLessThan(MOST_STATES_TOGETHER);
});
