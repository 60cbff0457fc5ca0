/** Costs by name, weighted slots, corrections of a level, and permits that expire. */
import type { Cost, Permit, Rate } from 'headgate';
import { expect, test } from 'vitest';
import { errorOf, invalid, take, takeAll, type Suite } from './suite.js';

export function budgets({ sectionIf, withGate, features, unit, long, expectBetween }: Suite): void {
  const tokens = (capacity: number, period = long): Rate[] => [{ name: 'tokens', capacity, period }];
  const spent = { capacity: 4, period: long, also: tokens(8) };
  /** What fits now, up to ten times. */
  const countOf = async (gate: { tryAcquire(cost?: Cost): unknown }, cost: Cost): Promise<number> => {
    let count = 0;
    while (count < 10 && (await gate.tryAcquire(cost)) !== undefined) count++;
    return count;
  };

  sectionIf(features.names)('costs by name', () => {
    test.each([
      ['a record', { tokens: 8 }, { main: 3, tokens: 0 }],
      ['a record with a cost of the main rate', { cost: 3, tokens: 2 }, { main: 1, tokens: 6 }],
      ['an empty record', {}, { main: 3, tokens: 8 }],
      ['a record of undefined entries', { cost: undefined, tokens: undefined }, { main: 3, tokens: 8 }],
      ['a number', 3, { main: 1, tokens: 5 }],
    ] as const)('%s charges each rate its entry', (_, cost, left) =>
      withGate(spent, async ({ gate }) => {
        await take(gate, cost as never);
        expect(await countOf(gate, { cost: 0, tokens: 1 })).toBe(left.tokens);
        expect(await countOf(gate, { cost: 1 })).toBe(left.main);
      })(),
    );

    test.each([
      [{ tokns: 1 }, TypeError, 'tokns'],
      [{ tokens: -1 }, RangeError, 'cost.tokens'],
      [{ tokens: NaN }, RangeError, 'cost.tokens'],
      [{ tokens: 9 }, RangeError, 'cost.tokens'],
      [{ cost: 5 }, RangeError, 'cost'],
      [{ tokens: '1' }, TypeError, 'cost.tokens'],
      [5, RangeError, 'cost'],
      [null, TypeError, 'cost'],
    ] as const)('a cost of %j is refused and spends nothing', (cost, Kind, name) =>
      withGate(spent, async ({ gate }) => {
        const calls: (() => unknown)[] = [
          () => gate.acquire(invalid(cost)),
          () => gate.tryAcquire(invalid(cost)),
          () => gate.run(() => expect.fail('the function ran'), invalid(cost)),
        ];
        for (const call of calls) {
          const error = await errorOf(call);
          expect(error).toBeInstanceOf(Kind);
          expect(error.message).toContain(name);
        }
        expect(await countOf(gate, { cost: 0, tokens: 1 })).toBe(8);
        expect(await countOf(gate, { cost: 1 })).toBe(4);
      })(),
    );

    test(
      'a waiter takes all of its rates together, in the order of the calls',
      withGate({ capacity: 4, period: long, also: tokens(4, 4 * unit) }, async (context) => {
        const { gate, advance, settled, now, outcomes, acquireAs } = context;
        const before = now();
        await take(gate, { tokens: 4 } as never);
        const from = now();
        acquireAs('large', invalid({ cost: 2, tokens: 2 }));
        acquireAs('small', invalid({ cost: 1, tokens: 0 }));
        await settled();
        expect(outcomes.order).toEqual([]);
        await advance(3 * unit);
        expect(outcomes.order).toEqual(['large', 'small']);
        expectBetween(outcomes.at('large'), before + 2 * unit, from + 2 * unit);
        expect(await gate.tryAcquire({ tokens: 0 })).toBeUndefined();
      }),
    );

    test(
      'a settlement by name settles each rate once, and a number settles the rest',
      withGate({ capacity: 4, period: long, also: tokens(8) }, async ({ gate, settled }) => {
        const permit = await take(gate, { cost: 4, tokens: 8 } as never);
        permit.settle({ tokens: 3 });
        permit.settle({ tokens: 8 });
        expect([permit.cost, permit.costs]).toEqual([4, { tokens: 3 }]);
        permit.settle(2);
        permit.refund();
        expect([permit.cost, permit.costs]).toEqual([2, { tokens: 3 }]);
        await settled();
        expect(await countOf(gate, { cost: 0, tokens: 1 })).toBe(5);
        expect(await countOf(gate, { cost: 1 })).toBe(2);
      }),
    );

    test(
      'a settlement with an unknown name or a bad entry changes nothing',
      withGate({ capacity: 4, period: long, also: tokens(8) }, async ({ gate }) => {
        const permit = await take(gate, { cost: 4, tokens: 8 } as never);
        for (const [cost, Kind] of [
          [{ cost: 1, tokns: 1 }, TypeError],
          [{ cost: 1, tokens: -1 }, RangeError],
          [{ cost: 1, tokens: Infinity }, RangeError],
        ] as const)
          expect(await errorOf(() => permit.settle(invalid(cost)))).toBeInstanceOf(Kind);
        expect([permit.cost, permit.costs]).toEqual([4, { tokens: 8 }]);
        permit.settle({ cost: 1, tokens: 1 });
        expect([permit.cost, permit.costs]).toEqual([1, { tokens: 1 }]);
      }),
    );
  });

  sectionIf(features.slots)('weighted slots', () => {
    const slotsOf = ({ slots }: Permit): number => (typeof slots === 'number' ? slots : slots.length);

    test(
      'a permit takes and returns its number of slots',
      withGate({ concurrency: 4 }, async ({ gate, settled }) => {
        const permit = await gate.acquire(1, { slots: 3 });
        expect(slotsOf(permit)).toBe(3);
        const none = await gate.acquire(1, { slots: 0 });
        expect(slotsOf(none)).toBe(0);
        expect(await takeAll(gate)).toHaveLength(1);
        none.release();
        permit.release();
        permit.release();
        await settled();
        expect(await takeAll(gate)).toHaveLength(3);
      }),
    );

    test(
      'a waiter for several slots is not passed by a waiter for one slot',
      withGate({ concurrency: 3 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const [first, second] = [await take(gate), await take(gate)];
        acquireAs('three', 1, { slots: 3 });
        acquireAs('one', 1, { slots: 1 });
        acquireAs('none', 1, { slots: 0 });
        await settled();
        first.release();
        await settled();
        expect(outcomes.order).toEqual([]);
        second.release();
        await settled();
        expect(outcomes.order).toEqual(['three']);
        outcomes.permit('three').release();
        await settled();
        expect(outcomes.order).toEqual(['three', 'one', 'none']);
      }),
    );

    test.each([
      [4, RangeError],
      [-1, RangeError],
      [0.5, RangeError],
      [NaN, RangeError],
      ['1', TypeError],
      [null, TypeError],
    ] as const)('slots: %s is refused and takes nothing', (slots, Kind) =>
      withGate({ concurrency: 3 }, async ({ gate }) => {
        for (const call of [
          () => gate.acquire(1, { slots: invalid(slots) }),
          () => gate.run(() => expect.fail('the function ran'), 1, { slots: invalid(slots) }),
        ]) {
          const error = await errorOf(call);
          expect(error).toBeInstanceOf(Kind);
          expect(error.message).toMatch(/^slots must be /);
        }
        expect(await takeAll(gate)).toHaveLength(3);
      })(),
    );
  });

  sectionIf(features.correct)('correct', () => {
    test(
      'a lower level delays later callers, and a higher level grants waiters',
      withGate({ capacity: 4, period: long }, async ({ gate, settled, outcomes, acquireAs }) => {
        await gate.correct?.(1);
        acquireAs('first');
        acquireAs('second', 2);
        await settled();
        expect(outcomes.order).toEqual(['first']);
        await gate.correct?.(3);
        await settled();
        expect(outcomes.order).toEqual(['first', 'second']);
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    test(
      'a level is limited to the burst, and onlyLower never raises a level',
      withGate({ capacity: 4, period: long }, async ({ gate }) => {
        await take(gate, 2);
        await gate.correct?.(4, { onlyLower: true });
        expect(await takeAll(gate)).toHaveLength(2);
        await gate.correct?.(100);
        await gate.correct?.(3, { onlyLower: true });
        await expect((async () => gate.correct?.(1, { onlyLower: 1 as never }))()).rejects.toThrow(
          'onlyLower must be a boolean, received 1',
        );
        expect(await takeAll(gate)).toHaveLength(3);
      }),
    );

    test(
      'a settlement of an earlier permit counts after onlyLower, and has no effect after another correction',
      withGate({ capacity: 8, period: long }, async ({ gate }) => {
        const [first, second] = [await gate.acquire(3), await gate.acquire(2)];
        await gate.correct?.(1, { onlyLower: true });
        first.settle(1);
        await take(gate, 3);
        expect(await takeAll(gate)).toHaveLength(0);
        await gate.correct?.(1);
        second.settle(0);
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    test(
      'a negative level is a debt',
      withGate({ capacity: 4, period: 4 * unit }, async ({ gate, advance, now, outcomes, acquireAs }) => {
        await gate.correct?.(-1);
        const from = now();
        acquireAs('after the debt');
        await advance(4 * unit);
        expectBetween(outcomes.at('after the debt'), from + 2 * unit, from + 2 * unit);
      }),
    );

    test(
      'a settlement of an earlier permit does not change a corrected rate',
      withGate({ capacity: 4, period: long }, async ({ gate, settled }) => {
        const [earlier, other] = [await take(gate, 2), await take(gate, 1)];
        await gate.correct?.(2);
        earlier.settle(0);
        other.settle(3);
        expect([earlier.cost, other.cost]).toEqual([0, 3]);
        await settled();
        const [later] = await takeAll(gate, 2);
        later?.settle(1);
        await settled();
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    test.each([
      [NaN, RangeError],
      [-Infinity, RangeError],
      ['1', TypeError],
      [null, TypeError],
      [{ tokns: 1 }, TypeError],
    ] as const)('a level of %j is refused and changes nothing', (levels, Kind) =>
      withGate({ capacity: 4, period: long }, async ({ gate }) => {
        const error = await errorOf(() => gate.correct?.(invalid(levels)));
        expect(error).toBeInstanceOf(Kind);
        expect(error.message).toMatch(/^levels/);
        expect(await takeAll(gate)).toHaveLength(4);
      })(),
    );
  });

  sectionIf(features.correct && features.names)('correct by name', () => {
    test.each([
      ['a number', 1, { main: 1, tokens: 8 }],
      ['a record', { tokens: 2 }, { main: 4, tokens: 2 }],
      ['a record with all rates', { cost: 2, tokens: 0 }, { main: 2, tokens: 0 }],
    ] as const)('%s corrects the rates that it mentions', (_, levels, left) =>
      withGate(spent, async ({ gate }) => {
        await gate.correct?.(levels);
        expect(await countOf(gate, { cost: 0, tokens: 1 })).toBe(left.tokens);
        expect(await countOf(gate, { cost: 1 })).toBe(left.main);
      })(),
    );
  });

  sectionIf(features.ttl)('permits that expire', () => {
    test(
      'the slot of an expired permit is free, its signal is aborted, and its release has no effect',
      withGate({ concurrency: 1, ttl: unit }, async ({ gate, advance, now, outcomes, acquireAs }) => {
        const from = now();
        const leaked = await take(gate);
        expect(leaked.signal.aborted).toBe(false);
        acquireAs('next');
        await advance(1.5 * unit);
        expect(outcomes.order).toEqual(['next']);
        expectBetween(outcomes.at('next'), from + unit, from + unit);
        expect([leaked.released, leaked.signal.aborted, leaked.signal.reason]).toMatchObject([
          true,
          true,
          { code: 'ERR_THROTTLE_PERMIT_EXPIRED' },
        ]);
        leaked.release();
        expect(await gate.tryAcquire()).toBeUndefined();
      }),
    );

    test(
      'the result of a function that outlives its permit passes through',
      withGate({ concurrency: 1, ttl: unit }, async ({ gate, advance }) => {
        let end: (result: string) => void = () => {};
        const result = gate.run(() => new Promise<string>((resolve) => (end = resolve)));
        await advance(1.5 * unit);
        const next = await take(gate);
        end('late');
        expect(await result).toBe('late');
        expect([next.released, await gate.tryAcquire()]).toEqual([false, undefined]);
      }),
    );
  });
}
