/**
 * The record that both benches keep of a run, and the median.
 */
import os from 'node:os';

/** When and where a run was made. */
export interface Run {
  readonly date: string;
  readonly node: string;
  readonly cpu: string;
  readonly cpus: number;
  /** How often each candidate was measured at most. */
  readonly rounds: number;
}

export function thisRun(rounds: number): Run {
  return {
    date: new Date().toISOString(),
    node: process.version,
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cpus: os.cpus().length,
    rounds,
  };
}

/** The median of the values that are numbers: a candidate that sat out a round has `NaN` or a hole there. */
export function median(values: readonly number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value)).toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.floor(middle)] ?? NaN) + (sorted[Math.ceil(middle) - 1] ?? NaN)) / 2;
}
