/** The tools of the tests of each promise: a gate per test, outcomes with their instants, and checks of instants. */
import type { AcquireOptions, Gate, Permit } from 'headgate';
import { describe, expect, test } from 'vitest';
import { Outcomes } from '../support/support.js';
import type { Features, Fixture, Settings, Subject } from './subject.js';

/** A value of a type that the argument does not accept. */
export const invalid = (value: unknown): never => value as never;

export const show = (value: unknown): string => (typeof value === 'number' ? String(value) : JSON.stringify(value));

/** The error that the call throws or rejects with. */
export const errorOf = async (call: () => unknown): Promise<Error> => {
  try {
    await call();
  } catch (error) {
    return error as Error;
  }
  return expect.fail('the call succeeded');
};

/** A permit that is available now. */
export const take = async (gate: Gate, cost?: number): Promise<Permit> => {
  const permit = await gate.tryAcquire(cost);
  return permit ?? expect.fail(`there is no permit for a cost of ${cost ?? 1}`);
};

/** All permits that are available now, up to ten. */
export const takeAll = async (gate: Gate, cost?: number): Promise<Permit[]> => {
  const permits: Permit[] = [];
  for (let permit: Permit | undefined; permits.length < 10 && (permit = await gate.tryAcquire(cost)) !== undefined;)
    permits.push(permit);
  return permits;
};

/** The outcomes of calls, their order and their instants. */
export class TimedOutcomes extends Outcomes {
  readonly #now: () => number;
  readonly #instants = new Map<string, number>();

  constructor(now: () => number) {
    super();
    this.#now = now;
  }

  override follow(name: string, promise: Promise<unknown>): void {
    super.follow(
      name,
      promise.finally(() => this.#instants.set(name, this.#now())),
    );
  }

  /** The instant at which the call settled. */
  at(name: string): number {
    return this.#instants.get(name) ?? expect.fail(`"${name}" has not settled yet`);
  }
}

/** Measures how long this process was unable to run. */
class StallDetector {
  static readonly #INTERVAL_MILLISECONDS = 10;
  #last = performance.now();
  #longest = 0;
  readonly #timer = setInterval(() => this.#measure(), StallDetector.#INTERVAL_MILLISECONDS);

  longestStallSeconds(): number {
    this.#measure();
    return this.#longest / 1_000;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #measure(): void {
    const now = performance.now();
    this.#longest = Math.max(this.#longest, now - this.#last - StallDetector.#INTERVAL_MILLISECONDS);
    this.#last = now;
  }
}

/** The argument of a test's body. */
export interface TestContext extends Required<Omit<Fixture, 'dispose'>> {
  outcomes: TimedOutcomes;
  /** Calls `acquire`, and records its outcome under `name`. */
  acquireAs(name: string, cost?: number, options?: AcquireOptions): void;
}

type TestIf = Pick<typeof test, 'each'> & ((name: string, body: () => Promise<void>) => void);
type Section = (title: string, tests: () => void) => void;

export interface Suite {
  readonly features: Features;
  readonly tolerance: number;
  /** Seconds: one for a clock that the test moves, and otherwise as little real time as the tolerance permits. */
  readonly unit: number;
  /** Seconds: longer than any test runs. */
  readonly long: number;
  /** The time by which an instant may be observed too early. */
  readonly early: number;
  /** The time by which an instant may be observed too late. */
  readonly late: number;
  /** The body of a test, with a gate of its own. */
  withGate(settings: Settings, body: (context: TestContext) => Promise<void>): () => Promise<void>;
  section: Section;
  /** A section that exists only if the gate has the feature. */
  sectionIf(feature: boolean): Section;
  /** A test that exists only if the gate has the feature. */
  testIf(feature: boolean): TestIf;
  /** Expects `instant` between `from` and `to`, as exactly as the tolerance permits. */
  expectBetween(instant: number, from: number, to: number): void;
  /** Expects at most burst + rate x span as the cost in every span of `grants`: [instant, cost], in order. */
  expectWithinRate(grants: readonly (readonly [number, number])[], burst: number, rate: number): void;
}

const testIf = (feature: boolean): TestIf => (feature ? test : Object.assign(() => {}, { each: () => () => {} }));

export function createSuite({ create, tolerance, features }: Subject): Suite {
  const unit = tolerance === 0 ? 1 : 2 * tolerance;
  const early = tolerance / 20 + 1e-9;
  const late = tolerance + 1e-9;

  const runOnce = async (settings: Settings, body: (context: TestContext) => Promise<void>): Promise<void> => {
    const { gate, advance, settled, now, dispose } = await create(settings);
    const outcomes = new TimedOutcomes(now);
    const acquireAs: TestContext['acquireAs'] = (name, cost, options) =>
      outcomes.follow(name, gate.acquire(cost, options));
    try {
      await body({ gate, advance, settled, now, outcomes, acquireAs });
    } finally {
      await dispose?.();
    }
  };

  const withGate: Suite['withGate'] = (settings, body) => async () => {
    if (tolerance === 0) return runOnce(settings, body);
    // A failure during a stall of this process proves nothing about the gate, so the test runs up to three times.
    for (let attempt = 1; ; attempt++) {
      const stalls = new StallDetector();
      try {
        return await runOnce(settings, body);
      } catch (error) {
        if (attempt === 3 || stalls.longestStallSeconds() < tolerance / 4) throw error;
      } finally {
        stalls.stop();
      }
    }
  };

  // Tests in real time mostly sleep, so they run concurrently.
  const section: Section = tolerance === 0 ? describe : describe.concurrent;

  return {
    features,
    tolerance,
    unit,
    long: 1_000 * unit,
    early,
    late,
    withGate,
    section,
    sectionIf: (feature) => (feature ? section : () => {}),
    testIf,
    expectBetween(instant, from, to) {
      expect(instant).toBeGreaterThanOrEqual(from - early);
      expect(instant).toBeLessThanOrEqual(to + late);
    },
    expectWithinRate(grants, burst, rate) {
      for (let from = 0; from < grants.length; from++) {
        let cost = 0;
        for (let to = from; to < grants.length; to++) {
          cost += grants[to]![1];
          const bound = burst + rate * (grants[to]![0] - grants[from]![0] + tolerance);
          if (cost > bound * (1 + 1e-9))
            expect.fail(`granted ${cost} from ${grants[from]![0]} to ${grants[to]![0]}, above the bound of ${bound}`);
        }
      }
    },
  };
}
