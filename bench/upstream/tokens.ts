/**
 * The tokens of each job for the upstream with two limits: the true number, which the upstream and the answer state,
 * and the estimate, which the client has before it sends the request.
 */
import { fraction } from './jobs.js';

/** No job costs more. A real client states this number as `max_tokens`. */
export const MAX_TOKENS = 4_000;
/** Jobs with few tokens and jobs with many come in runs of this length, so each of the two limits binds at times. */
const RUN = 70;
/** The least tokens of a job in the runs. */
const LEAST = [60, 180] as const;
/** The exponent of the Pareto distribution within a run, which has a long tail. */
const TAIL = 1.5;
/** The estimate of a job is its true number of tokens times a factor between these two. */
const ERROR = { least: 0.5, most: 3 } as const;

export function tokensOf(job: number): number {
  const least = LEAST[Math.floor(job / RUN) % 2] ?? NaN;
  return Math.round(Math.min(least / (1 - fraction(job, 1)) ** (1 / TAIL), MAX_TOKENS));
}

/** Every factor is as likely as its inverse would be: the logarithms of the factors are evenly distributed. */
export function estimateOf(job: number): number {
  return Math.round(tokensOf(job) * ERROR.least * (ERROR.most / ERROR.least) ** fraction(job, 2));
}

/** The most tokens that a job with this estimate can cost. */
export function mostOf(estimate: number): number {
  // The estimate is rounded.
  return Math.min(Math.ceil((estimate + 0.5) / ERROR.least), MAX_TOKENS);
}
