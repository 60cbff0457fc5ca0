/** A gate under test: how to create one, how to let time pass, and which features the gate has. */
import type { Gate, Rate } from 'headgate';

/** The limits of a gate. A limit that is left out does not apply. */
export interface Settings {
  capacity?: number;
  concurrency?: number;
  /** Seconds. Default 1. */
  period?: number;
  burst?: number;
  /** Further rates, for gates with the feature `names`. */
  also?: readonly Rate[];
  /** Seconds, for gates with the feature `ttl`. */
  ttl?: number;
}

/** A gate together with its time. */
export interface Fixture {
  gate: Gate;
  /** Lets time pass, and resolves when everything due by then has settled. */
  advance(seconds: number): Promise<void>;
  /** Resolves when everything due by now is decided and the callers have received their results. */
  settled(): Promise<void>;
  /** Seconds, monotonic. */
  now(): number;
  dispose?(): Promise<void>;
}

export interface Features {
  /** The gate has `capacity`, `period` and `burst`, and costs are tokens. */
  rate: boolean;
  /** The gate implements `pause` and `resume`. */
  pause: boolean;
  /** The gate refuses a timeout at once, with `retryAfter`, if tokens or a pause come too late for it. */
  earlyRefusal: boolean;
  /** The gate has named rates, and its costs and settlements may be records. */
  names: boolean;
  /** The option `slots` of a call takes that number of slots. */
  slots: boolean;
  /** The gate implements `correct`. */
  correct: boolean;
  /** A permit that is held longer than `ttl` expires. */
  ttl: boolean;
}

export const ALL_FEATURES: Features = {
  rate: true,
  pause: true,
  earlyRefusal: true,
  names: true,
  slots: true,
  correct: true,
  ttl: true,
};

/** A kind of gate under test. */
export interface Subject {
  create(settings: Settings): Promise<Fixture>;
  /** Seconds by which a test may observe an instant too late: 0 for a clock that the test moves. */
  tolerance: number;
  /** The suite leaves out the tests of features that the gate lacks. */
  features: Features;
}

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** The delay of a timer or a reply that a busy machine may cause. */
export const TOLERANCE_SECONDS = 0.1;

/** The fixture of a gate in real time whose callers receive every result within `settleMilliseconds`. */
export const realTimeFixture = (gate: Gate, settleMilliseconds: number): Omit<Fixture, 'dispose'> => {
  const settled = (): Promise<void> => sleep(settleMilliseconds);
  return {
    gate,
    settled,
    async advance(seconds) {
      // A timer may fire a millisecond early.
      await sleep(seconds * 1_000 + 1);
      await settled();
    },
    now: () => performance.now() / 1_000,
  };
};
