/**
 * What the parts of the soak have in common: histories that a seed determines, what is counted, and how one fails.
 */
import fc from 'fast-check';

/** What has happened, summed up. */
export interface Tally {
  histories: number;
  operations: number;
  grants: number;
  refusals: number;
  aborts: number;
}

export const newTally = (): Tally => ({ histories: 0, operations: 0, grants: 0, refusals: 0, aborts: 0 });

/** Something to play random histories with. */
export interface Part {
  readonly name: string;
  /** Whether a seed replays a history exactly: time is manual. Otherwise it replays what is done, not when. */
  readonly exact: boolean;
  /** Its share of the time. */
  readonly weight: number;
  /** Gets ready. Resolves with the processes that it has started. */
  open?(): Promise<number[]>;
  close?(): Promise<void>;
  /** Plays the history of a seed. Throws what was found wrong. */
  play(seed: number, tally: Tally): Promise<void>;
}

/** An invariant was broken. */
export class HistoryFailed extends Error {
  /** What was done, as short as it could be made, or the last of it. */
  readonly history: string;

  constructor(message: string, history: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'HistoryFailed';
    this.history = history;
  }
}

/** Longer than this, shrinking would keep everyone waiting. */
const SHRINK_MS = 20_000;

/** Plays the one history that `seed` makes of `histories`; if that fails, looks for a shorter one that does, too. */
export async function playSeed<H>(
  seed: number,
  histories: fc.Arbitrary<H>,
  play: (history: H) => Promise<void>,
): Promise<void> {
  let failedAt = Infinity;
  const property = fc.asyncProperty(histories, async (history) => {
    // What is not tried any more counts as good: so the shortest that failed so far is told.
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

/** An operation a line. */
function show(history: unknown): string {
  const flat = (value: unknown): string =>
    JSON.stringify(value, (_, inner: unknown) => (inner === Infinity ? 'Infinity' : inner));
  const { operations, ...settings } = history as { operations: unknown[] };
  return [flat(settings), ...operations.map((operation) => `  ${flat(operation)}`)].join('\n');
}

/** Random numbers that a seed determines: Steele's and Vigna's splitmix, of 32 bits. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** An integer of 32 bits, >= 0. */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let mixed = this.#state ^ (this.#state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }

  /** From 0 up to 1. */
  share(): number {
    return this.next() / 2 ** 32;
  }

  /** An integer from 0 up to `count`. */
  below(count: number): number {
    return Math.floor(this.share() * count);
  }

  /** Whether something happens that does so in one of `times` cases. */
  oneIn(times: number): boolean {
    return this.share() * times < 1;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }

  /** Dice of their own for somebody who acts at the same time: so what one does hangs on nobody's timing. */
  fork(): Dice {
    return new Dice(this.next());
  }
}

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** Lets all promise continuations run. */
export const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** What `promise` gives, or the error that it takes too long. */
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

/** Waits until something is so, and says what it waited for where it never is. */
export async function until(what: string, isSo: () => unknown, seconds: number): Promise<void> {
  for (const end = performance.now() + seconds * 1_000; !(await isSo()); await sleep(5)) {
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s`);
  }
}

/** The last things that were done, where there is nothing shorter to show. */
export class Trail {
  static readonly #MOST = 60;
  /** By what they are about. */
  readonly #steps: Map<string, string[]> = new Map();
  readonly #from = performance.now();

  note(step: string, about = ''): void {
    const steps = this.#steps.get(about) ?? [];
    this.#steps.set(about, steps);
    steps.push(`${((performance.now() - this.#from) / 1_000).toFixed(3)} ${about} ${step}`);
    if (steps.length > 4 * Trail.#MOST) steps.splice(0, 3 * Trail.#MOST);
  }

  /** What concerns all, and what is mentioned in `failure`. */
  toString(failure = ''): string {
    const steps = [...this.#steps].flatMap(([about, all]) =>
      about === '' || failure.includes(about) ? all.slice(-Trail.#MOST) : [],
    );
    return `the last of it, with seconds since the start:\n${steps.toSorted((a, b) => Number.parseFloat(a) - Number.parseFloat(b)).join('\n')}`;
  }
}
