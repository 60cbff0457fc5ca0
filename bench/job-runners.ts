/**
 * The peers of headgate, each as a function that runs a job on one of its slots.
 */
import { Throttle } from 'headgate';

export type Job = () => Promise<void>;

export const HEADGATE = 'headgate';
/** The floor: an awaited async function that does nothing. Every function that returns a promise costs as much. */
export const FLOOR = 'bare await';
/** The peers that take longest. They take part in some rounds only. */
export const SLOW: ReadonlySet<string> = new Set(['p-queue', 'async-mutex', 'bottleneck']);

export const SLOTS = 8;
/** Tokens per second: headgate checks this rate at each call, and the rate never delays a call. */
export const TOKENS = 1e12;

export async function bare(): Promise<void> {}

/** Creates a job runner of each library, by the library's name. */
export const runners: Readonly<Record<string, () => Promise<(job: Job) => Promise<unknown>>>> = {
  [FLOOR]: async () => bare,
  // The peers limit the number of jobs at a time and no rate. So does headgate here.
  [HEADGATE]: async () => {
    const throttle = new Throttle(Infinity, SLOTS);
    return (job) => throttle.run(job);
  },
  'p-limit': async () => {
    const { default: pLimit } = await import('p-limit');
    const limit = pLimit(SLOTS);
    return (job) => limit(job);
  },
  'p-queue': async () => {
    const { default: PQueue } = await import('p-queue');
    const queue = new PQueue({ concurrency: SLOTS });
    return (job) => queue.add(job);
  },
  'async-sema': async () => {
    const { Sema } = await import('async-sema');
    const sema = new Sema(SLOTS);
    return async (job) => {
      await sema.acquire();
      try {
        return await job();
      } finally {
        sema.release();
      }
    };
  },
  'async-mutex': async () => {
    const { Semaphore } = await import('async-mutex');
    const semaphore = new Semaphore(SLOTS);
    return (job) => semaphore.runExclusive(job);
  },
  bottleneck: async () => {
    const { default: Bottleneck } = await import('bottleneck');
    const bottleneck = new Bottleneck({ maxConcurrent: SLOTS });
    return (job) => bottleneck.schedule(job);
  },
};
