/**
 * The common tools of all parts of the soak: histories from a seed, counters, random numbers, waits and failures.
 */
import fc from 'fast-check';

/** Counters of what has happened. */
export interface Tally {
  histories: number;
  operations: number;
  grants: number;
  refusals: number;
  aborts: number;
}

export const newTally = (): Tally => ({ histories: 0, operations: 0, grants: 0, refusals: 0, aborts: 0 });

/** A part of the soak: one kind of gate, under random histories. */
export interface Part {
  readonly name: string;
  /** Whether a seed repeats a history exactly, on a manual clock. Otherwise it repeats the calls only. */
  readonly exact: boolean;
  /** The relative share of the time. */
  readonly weight: number;
  /** Whether a soak plays one history of the part only, since it takes long. */
  readonly once?: boolean;
  /** The limit for one history, in seconds. The default is 120. */
  readonly historySeconds?: number;
  /** Prepares the part. Resolves with the ids of the processes that it started. */
  open?(): Promise<number[]>;
  close?(): Promise<void>;
  /** Plays the history of a seed. Rejects if an invariant is broken. */
  play(seed: number, tally: Tally): Promise<void>;
  /** Further figures of all histories so far. */
  summary?(): string;
}

/** A history broke an invariant. */
export class HistoryFailed extends Error {
  /** The shortest history found that fails, or the last steps of the history. */
  readonly history: string;

  constructor(message: string, history: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'HistoryFailed';
    this.history = history;
  }
}

/** The time limit for shrinking a failed history. */
const SHRINK_MS = 20_000;

/** Plays the history that `seed` draws from `histories`. If the history fails, searches for a shorter one. */
export async function playSeed<H>(
  seed: number,
  histories: fc.Arbitrary<H>,
  play: (history: H) => Promise<void>,
): Promise<void> {
  let failedAt = Infinity;
  const property = fc.asyncProperty(histories, async (history) => {
    // After the time limit every candidate passes, so the shortest failed history so far is reported.
    if (performance.now() > failedAt + SHRINK_MS) return;
    try {
      await play(history);
    } catch (error) {
      failedAt = Math.min(failedAt, performance.now());
      throw error;
    }
  });
  const details = await fc.check(property, { seed, numRuns: 1 });
  if (!details.failed) return;
  const error = details.errorInstance;
  const message = error instanceof Error ? error.message : String(error);
  throw new HistoryFailed(message, `shrunk ${details.numShrinks} times:\n${show(details.counterexample?.[0])}`, error);
}

/** One line per operation. */
function show(history: unknown): string {
  const flat = (value: unknown): string =>
    JSON.stringify(value, (_, inner: unknown) => (inner === Infinity ? 'Infinity' : inner));
  const { operations, ...settings } = history as { operations: unknown[] };
  return [flat(settings), ...operations.map((operation) => `  ${flat(operation)}`)].join('\n');
}

/** Random numbers from a seed, by the 32-bit splitmix generator of Steele and Vigna. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** An unsigned integer of 32 bits. */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let mixed = this.#state ^ (this.#state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }

  /** A number >= 0 and < 1. */
  share(): number {
    return this.next() / 2 ** 32;
  }

  /** An integer >= 0 and < `count`. */
  below(count: number): number {
    return Math.floor(this.share() * count);
  }

  /** True in one of `times` cases. */
  oneIn(times: number): boolean {
    return this.share() * times < 1;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }

  /** Separate dice for a concurrent actor, so that its choices do not depend on the timing of other actors. */
  fork(): Dice {
    return new Dice(this.next());
  }
}

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** Lets all promise continuations run. */
export const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** The result of `promise`. Rejects if the promise takes longer than `seconds`. */
export async function within<T>(seconds: number, promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1_000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until `isSo` returns true. Rejects with the description `what` after `seconds`. */
export async function until(what: string, isSo: () => unknown, seconds: number): Promise<void> {
  for (const end = performance.now() + seconds * 1_000; !(await isSo()); await sleep(5)) {
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s`);
  }
}

/** The last steps of a history that cannot be shrunk. */
export class StepLog {
  static readonly #MAX_STEPS = 60;
  /** By the key that a step concerns. */
  readonly #steps: Map<string, string[]> = new Map();
  readonly #from = performance.now();

  note(step: string, about = ''): void {
    const steps = this.#steps.get(about) ?? [];
    this.#steps.set(about, steps);
    steps.push(`${((performance.now() - this.#from) / 1_000).toFixed(3)} ${about} ${step}`);
    if (steps.length > 4 * StepLog.#MAX_STEPS) steps.splice(0, 3 * StepLog.#MAX_STEPS);
  }

  /** The steps that concern no single key, and those of the keys that `failure` mentions. */
  toString(failure = ''): string {
    const steps = [...this.#steps].flatMap(([about, all]) =>
      about === '' || failure.includes(about) ? all.slice(-StepLog.#MAX_STEPS) : [],
    );
    const byTime = steps.toSorted((a, b) => Number.parseFloat(a) - Number.parseFloat(b));
    return `the last steps, with seconds since the start:\n${byTime.join('\n')}`;
  }
}
