/** Expectations that the tests of several promises share. */
import type { Permit, Throttle } from 'headgate';
import { expect } from 'vitest';

export const HOUR: number = 3_600;
export const DAY: number = 24 * HOUR;

/** Releases `permits`, and expects that no permit is active and no caller waits. */
export function expectNothingHeld(throttle: Throttle, ...permits: Permit[]): void {
  for (const permit of permits) permit.release();
  expect({ active: throttle.active, waiting: throttle.waiting }).toEqual({ active: 0, waiting: 0 });
}

/** Expects at most burst + rate x span as the cost in every span of `grants`: [instant, cost], in order. */
export function expectWithinRate(grants: readonly (readonly [number, number])[], burst: number, rate: number): void {
  for (let from = 0; from < grants.length; from++) {
    let cost = 0;
    for (let to = from; to < grants.length; to++) {
      cost += grants[to]![1];
      const bound = burst + rate * (grants[to]![0] - grants[from]![0]);
      if (cost > bound * (1 + 1e-9))
        expect.fail(`granted ${cost} from ${grants[from]![0]} to ${grants[to]![0]}, above the bound of ${bound}`);
    }
  }
}
