/** The log of grants by itself, compared with a replay of all grants (test/model/replay.ts). */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GrantLog } from '../../src/core/settlement-log.js';
import { BucketReplay, type LoggedGrant } from '../model/replay.js';

/** For long histories, also in the instrumented code of a mutation run on a busy machine. */
const options = { timeout: 60_000 };

const limits = { rate: 1, burst: 10 };

test('an empty log has no latest grant, and its bucket is full', () => {
  const log = new GrantLog(0);
  expect([log.beganAt, log.latestAt, log.replay(limits)]).toEqual([undefined, -Infinity, 10]);
});

test('a correction of a grant before the log began changes nothing', () => {
  const log = new GrantLog(5);
  log.add(1, 4, 6, limits);
  log.correct(3, 2);
  expect(log.replay(limits)).toBe(6);
});

test('the history begins at the first grant of a bucket that started full', () => {
  const log = new GrantLog(5);
  log.add(1, 4, 6, limits);
  log.add(2, 4, 7, limits);
  expect(log.beganAt).toBe(1);
  for (let serial = 8; serial <= 600; serial++) log.add(3, 0, serial, limits);
  expect(log.beganAt).toBe(1);
});

test('a correction of a recorded grant changes the level', () => {
  const log = new GrantLog(5);
  log.add(1, 4, 6, limits);
  log.correct(6, -3);
  expect(log.replay(limits)).toBe(9);
});

test.each([
  [512, 10],
  [513, 3],
])('an overflow before the latest of %d grants leaves %d of 10 tokens after a debt of 7', (count, level) => {
  const log = new GrantLog(0);
  log.add(0, 1, 1, limits);
  for (let serial = 2; serial <= count; serial++) log.add(100, 0, serial, limits);
  log.correct(1, 7);
  expect(log.replay(limits)).toBe(level);
});

test('the log of another bucket changes no refund', () => {
  const [idle, busy] = [new GrantLog(0), new GrantLog(0)];
  for (let serial = 1; serial <= 512; serial++) idle.add(serial, 0, serial, limits);
  for (let serial = 1; serial <= 512; serial++) busy.add(0, 1, serial, limits);
  idle.replay(limits);
  busy.add(0, 1, 513, limits);
  busy.correct(1, -1);
  expect(busy.replay(limits)).toBe(10 - 512);
});

test('a refund of a folded grant returns what the level before the next grant left room for', () => {
  const log = new GrantLog(0);
  const large = { rate: 1, burst: 1_000 };
  for (let serial = 1; serial <= 255; serial++) log.add(0, 0, serial, large);
  log.add(0, 200, 256, large);
  // At 150, the refill has replaced 150 of the 200 tokens.
  for (let serial = 257; serial <= 769; serial++) log.add(150, 1, serial, large);
  expect(log.replay(large)).toBe(950 - 513);
  log.correct(256, -200);
  expect(log.replay(large)).toBe(1_000 - 513);
});

test('refunds of folded grants are exact in a debt of many times the burst', () => {
  const log = new GrantLog(0);
  for (let serial = 1; serial <= 1_600; serial++) log.add(0, 1, serial, limits);
  // 1,280 grants are folded, in more steps down than the log keeps peaks.
  for (const serial of [1_000, 1_280, 1_281]) log.correct(serial, -1);
  expect(log.replay(limits)).toBe(10 - 1_597);
});

/** Grants at random instants, each followed by a refund of a random grant or by none. The numbers are sixteenths. */
const historyOf = (cost: fc.Arbitrary<number>, maxTicks: number, count: number) =>
  fc.array(fc.record({ ticks: fc.nat(maxTicks), cost, refunds: fc.nat(3), which: fc.nat() }), {
    minLength: count,
    maxLength: count,
    size: 'max',
  });
type History = ReturnType<typeof historyOf> extends fc.Arbitrary<infer Steps> ? Steps : never;

/** Plays a history on a log and on a replay of all grants. Calls `compare` with both levels at times. */
function play(burst: number, history: History, compare: (level: number, exact: number) => void): void {
  const [log, replay] = [new GrantLog(0), new BucketReplay({ capacity: 1, burst })];
  const grants: LoggedGrant[] = [];
  let now = 0;
  for (const { ticks, cost, refunds, which } of history) {
    now += ticks / 16;
    const grant = { at: now, cost: cost / 16 };
    grants.push(grant);
    replay.add(grant);
    log.add(now, grant.cost, grants.length, { rate: 1, burst });
    if (refunds === 0) {
      const index = which % grants.length;
      const refunded = grants[index] as LoggedGrant;
      log.correct(index + 1, -refunded.cost / 2);
      refunded.cost /= 2;
      replay.settled(refunded);
    }
    // A comparison after every step would take most of the time.
    if (grants.length % 16 === 0) compare(log.replay({ rate: 1, burst }), replay.level(now));
  }
}

test('refunds of folded grants are exact while the level rises and falls', options, () => {
  fc.assert(
    fc.property(fc.constantFrom(1, 4, 16), historyOf(fc.nat(16), 16, 1_500), (burst, history) => {
      play(burst, history, (level, exact) => assert.equal(level, exact));
    }),
    { numRuns: 6 },
  );
});

test(
  'with more peaks than the log keeps, a refund returns at most the exact tokens, and nearly as many',
  options,
  () => {
    const burst = 1_024;
    fc.assert(
      fc.property(historyOf(fc.integer({ min: 16, max: 32 }), 16, 2_500), (history) => {
        play(burst, history, (level, exact) =>
          assert(level <= exact && level > exact - burst / 64, `${level} tokens instead of ${exact}`),
        );
      }),
      { numRuns: 3 },
    );
  },
);
