/**
 * The sliding window, compared with the simplest correct implementation: a list of all grants, summed on every call.
 */
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { FenwickTree } from '../../src/core/fenwick-tree.js';
import { SlidingWindow } from '../../src/core/sliding-window.js';
import { heap } from '../support/support.js';

/** All grants. A grant at `t` counts in `[t, t + span)`. */
class ListOfGrants {
  readonly grants: { at: number; cost: number }[] = [];
  readonly capacity: number;
  readonly span: number;

  constructor(capacity: number, span: number) {
    this.capacity = capacity;
    this.span = span;
  }

  level(now: number): number {
    return this.grants.filter(({ at }) => at + this.span > now).reduce((left, { cost }) => left - cost, this.capacity);
  }

  /** The level changes only at the instants at which a grant expires. */
  readyAt(from: number, cost: number): number {
    const instants = [from, ...this.grants.map(({ at }) => at + this.span).filter((at) => at > from)].toSorted(
      (a, b) => a - b,
    );
    return instants.find((at) => this.level(at) >= cost) ?? Infinity;
  }
}

type Step = { wait: number } & ({ do: 'take'; cost: number } | { do: 'settle'; grant: number; cost: number });

// Eighths add up without rounding, so the comparison is exact.
const eighths = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: max * 8 }).map((value) => value / 8);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      wait: fc.oneof(fc.constant(0), eighths(3)),
      do: fc.constant('take' as const),
      cost: eighths(4),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      wait: fc.oneof(fc.constant(0), eighths(1)),
      do: fc.constant('settle' as const),
      grant: fc.nat(10),
      cost: eighths(6),
    }),
  },
);

describe('a sliding window', () => {
  test.each([
    {
      title: 'starts with its capacity',
      at: 1e9,
      takes: [
        [0, 4, true],
        [0, 1, false],
      ],
    },
    {
      title: 'returns the tokens of each grant one period later, all at once',
      at: 0,
      takes: [
        [0, 3, true],
        [0.5, 1, true],
        [0.999, 1, false],
        [1, 3, true],
        [1.499, 1, false],
        [1.5, 1, true],
      ],
    },
    {
      title: 'accepts a cost of 0, also without tokens',
      at: 0,
      takes: [
        [0, 4, true],
        [0, 0, true],
        [1, 4, true],
      ],
    },
    {
      title: 'ignores an instant before the latest instant',
      at: 5,
      takes: [
        [0, 4, true],
        [-3, 1, false],
        [0.999, 1, false],
        [1, 1, true],
      ],
    },
    {
      title: 'never grants more than its capacity',
      at: 0,
      takes: [
        [0, 4.001, false],
        [100, 5, false],
        [100, 4, true],
      ],
    },
  ] as const)('$title', ({ at, takes }) => {
    const window = new SlidingWindow(4, 1);
    for (const [index, [t, cost, ok]] of takes.entries())
      expect({ t, ok: window.take(at + t, cost, index + 1) }).toEqual({ t, ok });
  });

  test('equals the list of all grants, with later corrections', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const [window, list] = [new SlidingWindow(4, 2), new ListOfGrants(4, 2)];
        const grants: { entry: { at: number; cost: number }; settled: boolean }[] = [];
        let now = 0;
        for (const action of steps) {
          now += action.wait;
          if (action.do === 'take') {
            const fits = action.cost === 0 || list.level(now) >= action.cost;
            expect(window.readyAt(now, action.cost) <= now).toBe(fits);
            expect(window.take(now, action.cost, grants.length + 1)).toBe(fits);
            if (fits) {
              const entry = { at: now, cost: action.cost };
              list.grants.push(entry);
              grants.push({ entry, settled: false });
            }
          } else {
            const grant = grants[action.grant];
            if (grant === undefined || grant.settled) continue;
            grant.settled = true;
            const difference = action.cost - grant.entry.cost;
            window.settle(now, difference, action.grant + 1);
            // The true cost, higher or lower, counts from the instant of the grant.
            grant.entry.cost += difference;
          }
          expect(window.level(now)).toBe(list.level(now));
          for (const cost of [0.125, 1, 3, 4]) expect(window.readyAt(now, cost)).toBe(list.readyAt(now, cost));
          // A cost of 0 takes no tokens, so a debt does not delay it (FAULTS 15).
          expect(window.readyAt(now, 0)).toBe(now);
          expect(window.readyAt(now + 0.5, 2)).toBe(list.readyAt(now + 0.5, 2));
          const full = list.grants.filter(({ cost }) => cost > 0).map(({ at }) => at + 2);
          if (window.fullAt() > now) expect(window.fullAt()).toBeGreaterThanOrEqual(Math.max(...full));
          else expect(window.level(now)).toBe(4);
        }
      }),
      { numRuns: 3_000 },
    );
  });

  test('readyAt of a queue larger than the capacity is a lower bound', () => {
    fc.assert(
      fc.property(
        fc.array(
          eighths(4).filter((cost) => cost > 0),
          { minLength: 1, maxLength: 30 },
        ),
        fc.array(eighths(1), { maxLength: 10 }),
        (queue, before) => {
          const window = new SlidingWindow(4, 2);
          let now = 0;
          let serial = 0;
          for (const cost of before) {
            now += 0.125;
            window.take(now, cost, ++serial);
          }
          const estimate = window.readyAt(
            now,
            queue.reduce((sum, cost) => sum + cost, 0),
          );
          for (const cost of queue) {
            now = window.readyAt(now, cost);
            expect(window.take(now, cost, ++serial)).toBe(true);
          }
          expect(estimate).toBeLessThanOrEqual(now);
        },
      ),
    );
    const window = new SlidingWindow(4, 2);
    window.take(0, 4, 1);
    expect([4, 8, 12].map((cost) => window.readyAt(1, cost))).toEqual([2, 4, 6]);
    // 0.1 + 0.2 exceeds three windows by a rounding error, which must not count as a fourth window.
    expect(new SlidingWindow(0.1, 1).readyAt(0, 0.1 + 0.2)).toBe(2);
  });

  test('a cost fits at its readyAt instant, despite rounding', () => {
    const positive = fc.double({ min: 1e-3, max: 1e6, noNaN: true });
    fc.assert(
      fc.property(
        positive,
        positive,
        fc.double({ min: 0, max: 1e9, noNaN: true }),
        fc.array(fc.double({ min: 1e-3, max: 1, noNaN: true }), { minLength: 1, maxLength: 60 }),
        (capacity, span, start, shares) => {
          const window = new SlidingWindow(capacity, span);
          const grants: [number, number][] = [];
          let now = start;
          for (const share of shares) {
            const cost = capacity * share;
            now = window.readyAt(now, cost);
            grants.push([now, cost]);
            expect(window.take(now, cost, grants.length)).toBe(true);
          }
          for (const [from] of grants) {
            const seen = grants
              .filter(([at]) => at >= from && at < from + span)
              .reduce((sum, [, cost]) => sum + cost, 0);
            expect(seen).toBeLessThanOrEqual(capacity * (1 + 1e-9));
          }
        },
      ),
    );
  });

  test('trap 20: ten costs of 0.1 fit into 1 token, and a million more keep the rate', () => {
    const window = new SlidingWindow(1, 1);
    for (let index = 0; index < 10; index++) expect(window.take(0, 0.1, index + 1)).toBe(true);
    expect(window.take(0, 1e-9, 11)).toBe(false);
    // The sum of three costs of 0.1 exceeds 0.3 by a rounding error.
    const third = new SlidingWindow(0.3, 1);
    for (let index = 0; index < 3; index++) expect(third.take(0, 0.1, index + 1)).toBe(true);
    expect(third.readyAt(0, 0.1)).toBe(1);
    let now = 0;
    let granted = 10;
    for (let index = 0; index < 1_000_000; index++) {
      now = window.readyAt(now + 0.01, 0.1);
      if (window.take(now, 0.1, granted + 1)) granted++;
    }
    expect(granted).toBe(1_000_010);
    // Ten costs start in every second: the window loses no throughput.
    expect(now).toBeGreaterThan(99_999);
    expect(now).toBeLessThan(100_001 * 1.01);
  });

  test('trap 33: a late refund adds no tokens to a later window', () => {
    const window = new SlidingWindow(4, 1);
    window.take(0, 4, 1);
    expect(window.take(1, 3, 2)).toBe(true);
    // The first four tokens have already expired. Their refund must not return them a second time.
    window.settle(1.5, -4, 1);
    expect(window.level(1.5)).toBe(1);
    window.settle(1.5, -3, 2);
    expect(window.level(1.5)).toBe(4);
  });

  test('a higher true cost counts from the instant of its grant, and not after its expiry', () => {
    const window = new SlidingWindow(4, 1);
    window.take(0, 1, 1);
    window.take(0.5, 1, 2);
    window.settle(0.75, 2, 1);
    expect([window.level(0.75), window.level(1), window.level(1.5)]).toEqual([0, 3, 4]);
    window.settle(1.5, 2, 2);
    expect(window.level(1.5)).toBe(4);
  });

  test('corrects the right grant, despite rounding errors in the sums', () => {
    const [window, list] = [new SlidingWindow(1_000, 1_000), new ListOfGrants(1_000, 1_000)];
    for (let index = 0; index < 900; index++) {
      const cost = 0.1 + (index % 7) / 3;
      window.take(index, cost, index + 1);
      list.grants.push({ at: index, cost });
    }
    for (let index = 0; index < 900; index += 2) {
      const grant = list.grants[index] as { cost: number };
      window.settle(900, -grant.cost, index + 1);
      grant.cost = 0;
    }
    for (let now = 1_000; now < 1_900; now++) expect(window.level(now)).toBeCloseTo(list.level(now), 9);
  });

  test('readyAt takes logarithmic time, also after corrections (FAULTS 16)', () => {
    // Counts steps instead of time: every access of an array is a step.
    const steps = (length: number): number => {
      const window = new SlidingWindow(length + 1, 1e9);
      for (let index = 0; index < length; index++) window.take(index, 1, index + 1);
      for (let index = 0; index < length; index += 3) window.settle(length, -0.5, index + 1);
      let stepCount = 0;
      const { sumBefore } = FenwickTree.prototype;
      const spy = vi.spyOn(FenwickTree.prototype, 'sumBefore').mockImplementation(function (this: FenwickTree, index) {
        stepCount += Math.log2(index + 2);
        return sumBefore.call(this, index);
      });
      window.readyAt(length, length);
      window.take(length, 1, length + 1);
      spy.mockRestore();
      return stepCount;
    };
    expect(steps(100_000)).toBeLessThan(4 * steps(1_000));
  });

  test('recomputes its sums before rounding errors accumulate', () => {
    const [window, list] = [new SlidingWindow(10, 1), new ListOfGrants(10, 1)];
    for (let index = 0; index < 300_000; index++) {
      const [now, cost] = [index / 30, 0.1 + Math.sin(index) ** 2 / 7];
      if (window.take(now, cost, index + 1)) list.grants.push({ at: now, cost });
      if (list.grants.length > 100) list.grants.splice(0, 50);
      if (index % 1_000 === 0) expect(Math.abs(window.level(now) - list.level(now))).toBeLessThan(2e-14);
    }
  });

  test('is full at its fullAt instant, and ignores costs of 0', () => {
    const window = new SlidingWindow(4, 1);
    expect(window.fullAt()).toBe(-Infinity);
    window.take(5, 0, 1);
    expect(window.fullAt()).toBe(-Infinity);
    window.take(5, 1, 2);
    window.take(5.5, 1, 3);
    expect(window.fullAt()).toBe(6.5);
  });

  test('fullAt ignores grants that are refunded in full', () => {
    const window = new SlidingWindow(4, 1);
    for (const [index, [now, cost]] of (
      [
        [0, 1],
        [0.25, 2],
        [0.5, 0.5],
        [0.5, 0.25],
      ] as const
    ).entries())
      window.take(now, cost, index + 1);
    window.settle(0.5, -2, 2);
    expect(window.fullAt()).toBe(1.5);
    window.settle(0.5, -0.25, 4);
    expect(window.fullAt()).toBe(1.5);
    window.settle(0.5, -0.5, 3);
    // The grant before the last live grant was refunded earlier.
    expect([window.fullAt(), window.level(0.5)]).toEqual([1, 3]);
    window.settle(0.5, -1, 1);
    expect([window.fullAt(), window.level(0.5)]).toEqual([-Infinity, 4]);
  });

  test('readyAt counts corrected grants at their true costs', () => {
    const window = new SlidingWindow(10, 10);
    for (const [index, [now, cost]] of (
      [
        [0, 1],
        [1, 1],
        [2, 1],
        [3, 7],
      ] as const
    ).entries())
      window.take(now, cost, index + 1);
    window.settle(4, -0.5, 2);
    expect([0.5, 1, 1.5, 2, 2.5, 3, 10].map((cost) => window.readyAt(4, cost))).toEqual([4, 10, 10, 11, 12, 12, 13]);
    window.settle(4, 0.5, 3);
    expect([0.5, 1, 1.5, 2, 2.5, 3, 10].map((cost) => window.readyAt(4, cost))).toEqual([10, 10, 11, 12, 12, 12, 13]);
  });

  test('a grant after refunds counts for a full period', () => {
    const window = new SlidingWindow(10, 10);
    for (const now of [0, 1, 2, 3]) window.take(now, 1, now + 1);
    window.settle(4, -1, 1);
    // The first grant, refunded in full, has expired. Now the other grants are refunded, too.
    expect(window.level(10)).toBe(7);
    for (const serial of [4, 3, 2]) window.settle(10, -1, serial);
    expect([window.level(10), window.fullAt()]).toEqual([10, -Infinity]);
    expect(window.take(10.5, 10, 5)).toBe(true);
    expect([window.level(20), window.fullAt(), window.level(20.5)]).toEqual([0, 20.5, 10]);
  });

  test('uses memory in proportion to the grants of one window', () => {
    const window = new SlidingWindow(1_000, 1);
    const before = heap();
    for (let index = 0; index < 200_000; index++) window.take(index / 1_000, 1, index + 1);
    // Four numbers per grant, and twice as many while half of the grants are expired.
    expect(heap() - before).toBeLessThan(1_000 * 4 * 8 * 4 + 50_000);
    expect(window.level(200)).toBe(1);
  });

  test('stores all grants of one instant as one entry', () => {
    const window = new SlidingWindow(1e9, 1);
    const before = heap();
    for (let index = 0; index < 100_000; index++) window.take(5, 1, index + 1);
    expect(heap() - before).toBeLessThan(100_000);
    expect(window.level(5)).toBe(1e9 - 1e5);
  });

  test('a window that replaces another window takes over its live grants', () => {
    const first = new SlidingWindow(4, 1);
    first.take(0, 3, 1);
    const wider = new SlidingWindow(10, 2, 0, 1, first);
    expect([wider.level(1.5), wider.level(2)]).toEqual([7, 10]);
    const narrower = new SlidingWindow(2, 1, 0, 1, first);
    expect([narrower.level(0.5), narrower.readyAt(0.5, 1)]).toEqual([-1, 1]);
    // The new window corrects taken-over grants, and ignores corrections of expired grants.
    const second = new SlidingWindow(4, 1);
    second.take(0, 4, 1);
    second.take(1, 2, 2);
    const third = new SlidingWindow(4, 1, 1, 2, second);
    third.settle(1, -4, 1);
    expect(third.level(1)).toBe(2);
    third.settle(1, -1, 2);
    expect(third.level(1)).toBe(3);
  });

  test('a longer period does not restore expired grants, whether or not the level was read before (FAULTS 14)', () => {
    for (const reads of [true, false]) {
      const window = new SlidingWindow(4, 1);
      window.take(0, 3, 1);
      window.take(0.5, 1, 2);
      if (reads) window.level(1.25);
      const longer = new SlidingWindow(4, 10, 1.25, 2, window);
      expect(longer.level(1.25)).toBe(3);
    }
  });

  test('a debt of a replaced full window counts from the instant of its grant', () => {
    const earlier = new SlidingWindow(4, 2);
    earlier.take(1, 0, 1);
    const window = earlier.fresh();
    window.take(1.5, 1, 1);
    window.settleEarlier(2, earlier, 3, 1);
    expect([window.level(2), window.readyAt(2, 3), window.level(3), window.level(3.5)]).toEqual([0, 3, 3, 4]);
    window.settleEarlier(4, earlier, 3, 1);
    expect(window.level(4)).toBe(4);
  });

  test('a debt of an evicted window from before a time without a limit has no effect', () => {
    const evicted = new SlidingWindow(4, 2);
    evicted.take(0, 0, 1);
    // The limits of the evicted window became infinite, and finite again at 1.
    const window = new SlidingWindow(4, 2, 1, 0);
    window.settleEarlier(1, evicted, 3, 1);
    expect(window.level(1)).toBe(4);
  });

  test('a debt from before a correction of an evicted window has no effect, and a later debt has', () => {
    const evicted = new SlidingWindow(4, 2);
    evicted.take(0, 0, 1);
    evicted.correct(0.5, 4, 1);
    evicted.take(0.5, 0, 2);
    const window = evicted.fresh();
    window.settleEarlier(1, evicted, 3, 1);
    expect(window.level(1)).toBe(4);
    window.settleEarlier(1, evicted, 3, 2);
    expect(window.level(1)).toBe(1);
  });

  test('debts of a replaced full window keep the order of their grants, before the grants of the new window', () => {
    const earlier = new SlidingWindow(8, 4);
    for (const now of [0, 1, 2]) earlier.take(now, 0, now + 1);
    const window = earlier.fresh();
    window.take(3, 1, 1);
    window.take(3.5, 1, 2);
    window.settleEarlier(3.75, earlier, 2, 2);
    window.settleEarlier(3.75, earlier, 1, 3);
    window.settleEarlier(3.75, earlier, 0.5, 1);
    window.settle(3.75, 1, 1);
    window.settle(3.75, 2, 2);
    // The true costs are 0.5 at 0, 2 at 1, 1 at 2, 2 at 3 and 3 at 3.5.
    expect([3.75, 4, 5, 6, 7, 7.5].map((now) => window.level(now))).toEqual([-0.5, 0, 2, 3, 5, 8]);
  });

  test('a correction to a full window forgets all grants, despite rounding errors in their sum', () => {
    const window = new SlidingWindow(1, 1);
    window.take(0, 0.1, 1);
    window.take(0.5, 0.2, 2);
    window.take(0.75, 0.3, 3);
    // Without the first grant, the total is 0.5000000000000001. The two costs add up to 0.5.
    window.level(1);
    window.correct(1, 1, 3);
    expect(window.level(1)).toBeCloseTo(1, 12);
    expect(window.take(1, 1, 4)).toBe(true);
  });
});
