/**
 * The job list, the same for every client: what has to be done, when the client hears of it, how long the upstream
 * works on it, and how long a request and its answer travel.
 */

/**
 * Jobs come in waves: a few, and `gap` seconds later so many that the client is behind from then on. A list that is
 * all there at once would flatter those who count in fixed periods: theirs would start with the first job, and no
 * burst would ever straddle the end of one.
 */
export interface Wave {
  readonly first: number;
  readonly gap: number;
  readonly rest: number;
}

export const WAVES: readonly Wave[] = [
  { first: 10, gap: 0.9, rest: 190 },
  { first: 30, gap: 0.5, rest: 170 },
];
export const JOBS: number = WAVES.reduce((sum, { first, rest }) => sum + first + rest, 0);

/** Seconds of rest before each wave. The upstream forgets in one second all that it remembers. */
export const REST = 1.3;

/**
 * Loopback has no jitter worth the name, and a real network has: without any, those would look best who cut it so
 * fine that no real upstream would bear them. So each way takes between these two, in seconds, evenly spread.
 */
export const JOURNEY = { least: 0.01, most: 0.04 } as const;
/** What every client was told to allow for, in seconds: the spread of the journeys, and some for its own timers. */
export const JITTER = 0.05;

/** Seconds: how long the upstream works on a job. */
export function work(job: number): number {
  return 0.05 + ((job * 37) % 101) / 1000;
}

/** Seconds. The same for every client, and another one for each attempt. */
export function journey(job: number, attempt: number, way: 'there' | 'back'): number {
  let mixed = Math.imul(job * 64 + attempt * 2 + (way === 'there' ? 0 : 1) + 1, 0x9e3779b1);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  const fraction = ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
  return JOURNEY.least + (JOURNEY.most - JOURNEY.least) * fraction;
}

/** Seconds on a clock that all processes of the machine share. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e9;
}
