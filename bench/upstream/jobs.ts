/**
 * The jobs, which are the same for every client: when the client receives a job, how long the upstream works on it, and
 * how long its request and its response travel.
 */

/**
 * Jobs come in waves: a few jobs, and `gap` seconds later more jobs than the upstream admits at once. A list that
 * starts all jobs at once would favour clients that count in fixed periods: their first period would start with the
 * first job, so no burst would cross the end of a period.
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

export function countJobs(waves: readonly Wave[]): number {
  return waves.reduce((sum, { first, rest }) => sum + first + rest, 0);
}

/** Seconds of rest before each wave. After one second, the upstream's limits are unused again. */
export const REST = 1.3;

/**
 * The least and the most seconds of each way, evenly distributed. Loopback has almost no jitter, and a real network
 * has: without jitter, clients without a reserve would look best, although a real upstream would refuse them.
 */
const JOURNEY = { least: 0.01, most: 0.04 } as const;
/** Seconds that every client's setting allows for: the spread of the journeys, and the error of its own timers. */
export const JITTER = 0.05;

/** Seconds: how long the upstream works on a job. */
export function work(job: number): number {
  return 0.05 + ((job * 37) % 101) / 1000;
}

/** The seconds that one way takes. They are the same for every client, and differ between attempts. */
export function journey(job: number, attempt: number, way: 'there' | 'back'): number {
  const part = mix(job * 64 + attempt * 2 + (way === 'there' ? 0 : 1) + 1);
  return JOURNEY.least + (JOURNEY.most - JOURNEY.least) * part;
}

/** A number from 0 up to 1 that looks random and is the same for every client. Each purpose has numbers of its own. */
export function fraction(job: number, purpose: number): number {
  return mix(-(job * 64 + purpose));
}

function mix(seed: number): number {
  let mixed = Math.imul(seed, 0x9e3779b1);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
}

/** The seconds of a clock that all processes of the machine share. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e9;
}
