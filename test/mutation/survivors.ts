/** Mutants that no test can or need notice, each with the reason. `run.ts` holds the list against the report. */

interface Survivor {
  /** Of `src`. */
  readonly file: string;
  /** The line that is changed, or the first of them. */
  readonly line: string;
  /** What becomes what. */
  readonly changes: readonly string[];
  readonly reason: string;
}

export const survivors: readonly Survivor[] = [];
