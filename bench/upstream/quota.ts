/** What each kind of upstream is made of. */
import type { Wave } from './jobs.js';

/** The state of an upstream's limit. */
export interface Quota {
  /** Admits the request of a job and returns 0, or returns the seconds after which a retry can succeed. */
  admit(now: number, job: number): number;
  /** Records that the work on an admitted request is done. */
  leave(): void;
}

export interface Upstream {
  readonly title: string;
  readonly rule: string;
  readonly waves: readonly Wave[];
  /** Seconds of rest before each wave, after which the limits are unused again. */
  readonly rest: number;
  readonly createQuota: () => Quota;
  /**
   * The least number of seconds from the start of a wave's rest until the last job is admitted.
   * @param from The number of the wave's first job.
   */
  readonly least: (wave: Wave, from: number) => number;
}
