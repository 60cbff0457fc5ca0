/** Promise 6. A permit is released once and settled once, and `run` releases before its promise settles. */
import type { Permit } from 'headgate';
import { expect, test } from 'vitest';
import { errorOf, invalid, take, takeAll, type Suite } from './suite.js';

export function permits({ section, sectionIf, withGate, unit, long, features, expectBetween }: Suite): void {
  section('promise 6: permits', () => {
    const ways: Record<string, (permit: Permit) => unknown> = {
      release: (permit) => permit.release(),
      using: (permit) => {
        using _ = permit;
      },
      'await using': async (permit) => {
        await using _ = permit;
      },
      'Symbol.dispose': (permit) => permit[Symbol.dispose](),
      'Symbol.asyncDispose': (permit) => permit[Symbol.asyncDispose](),
    };
    test.each(Object.entries(ways))('%s releases the permit, and any later release has no effect', (_, way) =>
      withGate({ concurrency: 2 }, async ({ gate }) => {
        const [permit] = [await take(gate), await take(gate)];
        expect(permit.released).toBe(false);
        await way(permit);
        expect(permit.released).toBe(true);
        expect(await takeAll(gate)).toHaveLength(1);
        for (const again of Object.values(ways)) await again(permit);
        expect(permit.released).toBe(true);
        expect(await gate.tryAcquire()).toBeUndefined();
      })(),
    );

    test(
      'a block that throws releases its permit',
      withGate({ concurrency: 1 }, async ({ gate }) => {
        const block = async (): Promise<void> => {
          await using _ = await gate.acquire();
          throw new Error('boom');
        };
        await expect(block()).rejects.toThrow('boom');
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    test(
      'a permit has its cost and the seconds that it waited',
      withGate({ concurrency: 1 }, async ({ gate, advance, settled, now, outcomes, acquireAs }) => {
        const holder = await gate.acquire();
        expect(holder.cost).toBe(1);
        expectBetween(holder.waited, 0, 0);
        const from = now();
        acquireAs('later', 0.5);
        await settled();
        const joined = now();
        await advance(unit);
        const to = now();
        holder.release();
        await settled();
        const later = outcomes.permit('later');
        expect([later.cost, later.released]).toEqual([0.5, false]);
        expectBetween(later.waited, to - joined, now() - from);
      }),
    );

    test.each([
      [-1, RangeError],
      [NaN, RangeError],
      [Infinity, RangeError],
      ['1', TypeError],
      [null, TypeError],
    ] as const)('settle(%s) is refused and leaves the permit unsettled', (cost, Kind) =>
      withGate({ concurrency: 1 }, async ({ gate }) => {
        const permit = await take(gate, 1);
        const error = await errorOf(() => permit.settle(invalid(cost)));
        expect(error).toBeInstanceOf(Kind);
        expect(error.message).toMatch(/^cost must be /);
        expect([permit.cost, permit.released]).toEqual([1, false]);
        permit.settle(0.5);
        expect(permit.cost).toBe(0.5);
      })(),
    );

    test(
      'the first settlement sets the cost, and no settlement releases the slot',
      withGate({ concurrency: 1 }, async ({ gate, settled }) => {
        const permit = await take(gate);
        permit.settle(0.25);
        permit.settle(0.75);
        permit.refund();
        await settled();
        expect([permit.cost, permit.released]).toEqual([0.25, false]);
        expect(await gate.tryAcquire()).toBeUndefined();
        permit.release();
        permit.settle(0.5);
        expect(permit.cost).toBe(0.25);
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    sectionIf(features.rate)('settlement of tokens', () => {
      for (const when of ['before', 'after'] as const) {
        test(
          `a lower cost settled ${when} the release returns the difference once`,
          withGate({ capacity: 10, period: long }, async ({ gate, settled }) => {
            const permit = await take(gate, 10);
            if (when === 'after') permit.release();
            permit.settle(7);
            permit.settle(1);
            permit.refund();
            permit.release();
            await settled();
            expect(permit.cost).toBe(7);
            expect(await takeAll(gate)).toHaveLength(3);
          }),
        );

        test(
          `a refund ${when} the release returns the whole cost once`,
          withGate({ capacity: 3, period: long }, async ({ gate, settled }) => {
            const [permit] = [await take(gate, 2), await take(gate, 1)];
            if (when === 'after') permit.release();
            permit.refund();
            permit.refund();
            permit.release();
            await settled();
            expect(permit.cost).toBe(0);
            expect(await takeAll(gate)).toHaveLength(2);
          }),
        );

        test(
          `a higher cost settled ${when} the release is a debt that later waiters pay`,
          withGate({ capacity: 2, period: unit }, async ({ gate, advance, now, outcomes, acquireAs }) => {
            const from = now();
            const permit = await take(gate, 2);
            if (when === 'after') permit.release();
            permit.settle(4);
            permit.release();
            acquireAs('later', 1);
            const to = now();
            await advance(2 * unit);
            expect(permit.cost).toBe(4);
            expectBetween(outcomes.at('later'), from + 1.5 * unit, to + 1.5 * unit);
          }),
        );
      }

      test(
        'a refund never fills the bucket above the burst',
        withGate({ capacity: 1, period: unit, burst: 2 }, async ({ gate, advance, settled }) => {
          const permit = await take(gate, 2);
          await advance(2.5 * unit);
          permit.refund();
          await settled();
          await take(gate, 2);
          expect(await gate.tryAcquire(1)).toBeUndefined();
        }),
      );

      test(
        'a late refund returns no tokens that were refilled and spent in the meantime',
        withGate({ capacity: 1, period: unit, burst: 2 }, async ({ gate, advance, settled }) => {
          const permit = await take(gate, 2);
          await advance(2.5 * unit);
          await take(gate, 2);
          permit.refund();
          await settled();
          expect(await gate.tryAcquire(1)).toBeUndefined();
        }),
      );

      test(
        'a release and a failed function leave the tokens spent',
        withGate({ capacity: 3, concurrency: 1, period: long }, async ({ gate }) => {
          (await take(gate)).release();
          await errorOf(() => gate.run(() => Promise.reject(new Error('boom'))));
          await errorOf(() =>
            gate.run(() => {
              throw new Error('boom');
            }),
          );
          expect(await takeAll(gate)).toHaveLength(0);
        }),
      );
    });
  });

  section('promise 6: the permit of run', () => {
    const endings: Record<string, () => unknown> = {
      returns: () => 1,
      resolves: async () => 1,
      throws: () => {
        throw new Error('boom');
      },
      rejects: async () => {
        throw new Error('boom');
      },
    };
    test.each(Object.entries(endings))('run releases before its promise settles, when its function %s', (_, ending) =>
      withGate({ concurrency: 1 }, async ({ gate, settled }) => {
        const next = (): Permit | undefined | Promise<Permit | undefined> => gate.tryAcquire();
        const free = await gate.run(ending).then(next, next);
        expect(free).toBeDefined();
        const queued = gate.run(ending).then(next, next);
        await settled();
        free!.release();
        expect(await queued).toBeDefined();
      })(),
    );

    test(
      'run passes the permit to its function, and its release counts once',
      withGate({ concurrency: 2 }, async ({ gate }) => {
        await take(gate);
        const permit = await gate.run(async (own) => {
          expect([own.cost, own.released]).toEqual([0.5, false]);
          own.release();
          await using _ = own;
          return own;
        }, 0.5);
        expect(permit.released).toBe(true);
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    test(
      'run holds its slot until the promise of its function settles',
      withGate({ concurrency: 1 }, async ({ gate, advance }) => {
        let finish: () => void = () => {};
        const done = gate.run(() => new Promise<void>((resolve) => (finish = resolve)));
        await advance(unit);
        expect(await gate.tryAcquire()).toBeUndefined();
        finish();
        await done;
        await take(gate);
      }),
    );
  });
}
