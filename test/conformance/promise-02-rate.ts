/** Promise 2. The cost granted in any span is at most `burst + capacity / period * span`. */
import { expect, test } from 'vitest';
import { errorOf, take, takeAll, type Suite } from './suite.js';

export function rate({
  sectionIf,
  withGate,
  unit,
  long,
  late,
  features,
  expectBetween,
  expectWithinRate,
}: Suite): void {
  sectionIf(features.rate)('promise 2: rate', () => {
    test(
      'the bucket starts full: it grants the burst at once and then nothing',
      withGate({ capacity: 3, period: long }, async ({ gate }) => {
        expect(await takeAll(gate)).toHaveLength(3);
      }),
    );

    test('an explicit burst sets the size of the bucket, above or below the capacity', async () => {
      await withGate({ capacity: 3, period: long, burst: 5 }, async ({ gate }) =>
        expect(await takeAll(gate)).toHaveLength(5),
      )();
      await withGate({ capacity: 3, period: long, burst: 2 }, async ({ gate }) =>
        expect(await takeAll(gate)).toHaveLength(2),
      )();
    });

    test(
      'an idle bucket refills to the burst and no further',
      withGate({ capacity: 1, period: unit, burst: 2 }, async ({ gate, advance }) => {
        await take(gate, 2);
        await advance(4 * unit);
        await take(gate, 2);
        expect(await gate.tryAcquire(1)).toBeUndefined();
      }),
    );

    test(
      'every span grants at most burst + rate x span, and exactly that while a caller waits',
      withGate({ capacity: 4, period: unit, burst: 4 }, async ({ gate, advance, now, outcomes, acquireAs }) => {
        const costs = [1, 3, 0.5, 2, 0.25, 4, 1.25, 0, 4];
        const from = now();
        costs.forEach((cost, index) => acquireAs(`${index}`, cost));
        await advance(3.5 * unit);
        const grants = costs.map((cost, index) => [outcomes.at(`${index}`), cost] as const);
        expectWithinRate(grants, 4, 4 / unit);
        let sum = -4;
        for (const [at, cost] of grants) {
          sum += cost;
          expectBetween(at, from + Math.max(0, sum) * (unit / 4), from + Math.max(0, sum) * (unit / 4));
        }
        expect(await gate.tryAcquire(4)).toBeUndefined();
      }),
    );

    test(
      'two bursts never meet at the boundary of a period',
      withGate({ capacity: 4, period: unit }, async ({ advance, now, outcomes, acquireAs }) => {
        const from = now();
        acquireAs('first', 0.001);
        await advance(0.9 * unit);
        for (let index = 0; index < 8; index++) acquireAs(`${index}`, 1);
        await advance(1.5 * unit);
        const grants = Array.from({ length: 8 }, (_, index) => [outcomes.at(`${index}`), 1] as const);
        expectWithinRate([[from, 0.001], ...grants], 4, 4 / unit);
        expect(grants[7]![0] - grants[0]![0]).toBeGreaterThanOrEqual(unit - late);
      }),
    );

    test(
      'a release returns a slot and no tokens',
      withGate({ capacity: 2, concurrency: 1, period: long }, async ({ gate }) => {
        (await take(gate)).release();
        (await take(gate)).release();
        expect(await gate.tryAcquire()).toBeUndefined();
      }),
    );

    test(
      'a fraction of a token refills in that fraction of the time',
      withGate({ capacity: 1, period: unit }, async ({ gate, advance, now, outcomes, acquireAs }) => {
        const from = now();
        await take(gate, 1);
        const to = now();
        acquireAs('half', 0.5);
        acquireAs('third', 1 / 3);
        await advance(1.5 * unit);
        expectBetween(outcomes.at('half'), from + 0.5 * unit, to + 0.5 * unit);
        expectBetween(outcomes.at('third'), from + (5 / 6) * unit, to + (5 / 6) * unit);
      }),
    );

    test(
      'a cost of 0 spends no tokens and waits for none',
      withGate({ capacity: 2, period: long }, async ({ gate }) => {
        for (let count = 0; count < 5; count++) await gate.acquire(0);
        await take(gate, 2);
        await gate.run(() => {}, 0);
        await take(gate, 0);
      }),
    );

    test(
      'a cost above the burst is refused at once and takes nothing',
      withGate({ capacity: 3, concurrency: 1, period: long }, async ({ gate }) => {
        for (const call of [
          () => gate.acquire(3.5),
          () => gate.run(() => {}, 4),
          () => gate.tryAcquire(1e9),
          () => gate.acquire(4, { timeout: 0 }),
        ]) {
          const error = await errorOf(call);
          expect(error).toBeInstanceOf(RangeError);
          expect(error.message).toMatch(/^cost must be at most 3\b.*received /);
        }
        await take(gate, 3);
      }),
    );
  });
}
