/**
 * Plays the same script with another library and with headgate, on fake timers, and compares what happened. The
 * observation of the other library is the expectation. No outcome is written by hand.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Throttle, ThrottleMessage } from 'headgate';
import { expect, test, vi } from 'vitest';

/** What a script did. An instant is a number of milliseconds since the start. */
export interface Observation {
  /** The jobs in the order of their starts, each with its instant. */
  readonly starts: string[];
  /** The jobs in the order of their ends, each with its instant. */
  readonly ends: string[];
  /** The largest number of jobs that ran at once. */
  readonly peak: number;
  /** The notes in their order, each with its instant. */
  readonly notes: string[];
  /** The results of the promises that the script followed, by name, without their instants. */
  readonly results: Readonly<Record<string, string>>;
}

/** The tools of a script. */
export interface Scene {
  /** A job that runs for `ms` milliseconds, by default 20, and returns its name. It ends early with an error if `signal` aborts. */
  job(name: string, ms?: number, signal?: AbortSignal): Promise<string>;
  /** Waits for `ms` milliseconds. */
  sleep(ms: number): Promise<void>;
  /** Records a value at this instant. */
  note(text: string, value?: unknown): void;
  /** Follows a promise until it settles. An error counts by `describe`, which returns `rejected` by default. */
  follow(name: string, promise: PromiseLike<unknown>, describe?: (error: unknown) => string): Promise<void>;
  /** Follows the promise that `start` returns for each name. Waits for so many milliseconds after each start, if given. */
  followAll(
    names: readonly string[],
    start: (name: string) => PromiseLike<unknown>,
    options?: { pauses?: readonly number[]; describe?: (error: unknown) => string },
  ): Promise<void>;
}

/** The arguments of three calls of {@link failing}. The second call fails. */
export const CALLS: readonly [name: string, ms: number][] = [
  ['a', 20],
  ['b', 0],
  ['c', 40],
];

/** A function that runs a job for `ms` milliseconds, and fails at once for 0. */
export const failing =
  ({ job }: Scene) =>
  async (name: string, ms: number): Promise<string> => {
    if (ms === 0) throw new Error(name);
    return job(name, ms);
  };

/** Calls `listener` for each message of a gate on a channel. Returns the function that ends this. */
export function onMessages(gate: Throttle, channel: string, listener: () => void): () => void {
  const onMessage = (message: unknown): void => {
    if ((message as ThrottleMessage).throttle === gate) listener();
  };
  subscribe(channel, onMessage);
  return () => unsubscribe(channel, onMessage);
}

export type Script = (scene: Scene) => unknown;

/** Enough timers for every script. A script that needs more never ends. */
const MAX_TIMERS = 5_000;

/** Lets all promise continuations run. The fake timers leave `setImmediate` as it is. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Plays a script on fake timers to its end. Instants are rounded down to multiples of `grain` milliseconds. */
export async function observe(script: Script, grain = 1): Promise<Observation> {
  const toFake = ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'] as const;
  vi.useFakeTimers({ toFake: [...toFake] });
  try {
    const begin = Date.now();
    const at = (text: string): string => `${text} at ${Math.floor((Date.now() - begin) / grain) * grain}`;
    const [starts, ends, notes]: [string[], string[], string[]] = [[], [], []];
    const results: Record<string, string> = {};
    let [running, peak] = [0, 0];
    const scene: Scene = {
      async job(name, ms = 20, signal) {
        starts.push(at(name));
        peak = Math.max(peak, ++running);
        try {
          await new Promise<void>((resolve, reject) => {
            setTimeout(resolve, ms);
            signal?.addEventListener('abort', () => reject(signal.reason as Error));
          });
          return name;
        } finally {
          running--;
          ends.push(at(name));
        }
      },
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      note: (text, value) => void notes.push(at(value === undefined ? text : `${text} ${JSON.stringify(value)}`)),
      async follow(name, promise, describe = () => 'rejected') {
        try {
          results[name] = JSON.stringify(await promise) ?? 'undefined';
        } catch (error) {
          results[name] = describe(error);
        }
      },
      async followAll(names, start, { pauses, describe } = {}) {
        const all: Promise<void>[] = [];
        for (const [index, name] of names.entries()) {
          all.push(scene.follow(name, start(name), describe));
          if (pauses !== undefined) await scene.sleep(pauses[index] as number);
        }
        await Promise.all(all);
      },
    };
    const progress = { done: false };
    const finished = Promise.resolve(script(scene)).finally(() => (progress.done = true));
    finished.catch(() => {});
    await settle();
    for (let timers = 0; !progress.done; timers++) {
      if (timers > MAX_TIMERS) throw new Error(`the script did not end: ${JSON.stringify({ starts, ends, notes })}`);
      await vi.advanceTimersToNextTimerAsync();
      await settle();
    }
    await finished;
    return { starts, ends, peak, notes, results };
  } finally {
    vi.clearAllTimers();
    vi.useRealTimers();
  }
}

/** The parts of an observation that a row compares. */
export type Part = keyof Observation;
const PARTS: readonly Part[] = ['starts', 'ends', 'peak', 'notes', 'results'];

export interface RowOptions {
  /** The parts that are compared. Default: all. */
  readonly parts?: readonly Part[];
  /** The precision of instants in milliseconds. Default 1. */
  readonly grain?: number;
}

/**
 * Defines the test of a row of the chapter. `id` is the first cell of the row without its backticks. Both scripts must
 * make the same observation.
 */
export function row(id: string, theirs: Script, ours: Script, { parts = PARTS, grain = 1 }: RowOptions = {}): void {
  test(id, async () => {
    const play = async (script: Script): Promise<Partial<Observation>> => {
      const observation = await observe(script, grain);
      return Object.fromEntries(parts.map((part) => [part, observation[part]]));
    };
    const expected = await play(theirs);
    // A script without an observable effect compares nothing.
    expect(Object.values(expected).some((value) => Object.keys(value as object).length > 0)).toBe(true);
    expect(await play(ours)).toEqual(expected);
  });
}

/** A row whose instants are rounded to 20 ms, for a library that starts each job by a timer of up to a millisecond. */
export function coarseRow(id: string, theirs: Script, ours: Script, options: RowOptions = {}): void {
  row(id, theirs, ours, { grain: 20, ...options });
}
