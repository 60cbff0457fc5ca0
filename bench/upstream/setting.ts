/** A client's setting for an upstream, as a user would write it. */
import { inspect } from 'node:util';

/** The part of a response that a client uses. */
export interface Answer {
  readonly status: number | undefined;
  /** Seconds. */
  readonly retryAfter: number;
  /** The true number of tokens: 0 for a refused request. */
  readonly tokens: number;
}

/** Sends a request when the limits allow it. `estimate` is the number of its tokens, by estimate. */
export type Limited = (job: () => Promise<Answer>, estimate: number) => Promise<Answer>;

export interface Setting {
  /** The code that a user would write. */
  readonly given: string;
  readonly create: () => Promise<Limited>;
}

export const show = (options: object): string =>
  inspect(options, { breakLength: Infinity }).replace('[Function: weight]', '() => 1');

export function pQueue(options: {
  concurrency?: number;
  intervalCap?: number;
  interval?: number;
  strict?: boolean;
}): Setting {
  return {
    given: `new PQueue(${show(options)})`,
    create: async () => {
      const { default: PQueue } = await import('p-queue');
      const queue = new PQueue(options);
      // The types of p-queue 8, which the tests use, allow for a timeout that the bench does not set.
      return async (job) => (await queue.add(job)) as Awaited<ReturnType<typeof job>>;
    },
  };
}
