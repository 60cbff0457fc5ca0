/**
 * Who takes part, and what each is given for each upstream: of what its documentation offers, that which draws the
 * fewest refusals, and of several such that which gets the most done, as trials of several ways told. Everyone knows the
 * upstream's limit and that requests may be late by `JITTER`. The `plain` ones are the exception: they are what the
 * documentation shows first for so many a second.
 */
import { inspect } from 'node:util';
import type Bottleneck from 'bottleneck';
import { JITTER } from './jobs.js';
import { RATE, SLOTS, type UpstreamId } from './judges.js';

type Limited = <T>(job: () => Promise<T>) => Promise<T>;

interface Given {
  /** As a user would write it. */
  readonly given: string;
  readonly create: () => Promise<Limited>;
}

/** Milliseconds: the period, and what the network may take from it. */
const PERIOD = 1000 * (1 + JITTER);
/** So much of a bucket stays unused: late requests catch up with those behind them. */
const RESERVE = RATE * JITTER;
/**
 * A bucket under a rolling window: in a period, and what the network may take from it, it must not give more than
 * `RATE`, its burst included. The larger the burst, the smaller the rate that this leaves.
 */
const SMALL = 2;
const RATE_BESIDE = Math.floor((RATE - SMALL) / (1 + JITTER));

const show = (options: object): string =>
  inspect(options, { breakLength: Infinity }).replace('[Function: weight]', '() => 1');

function headgate(
  capacity: number,
  concurrency: number,
  options?: { burst?: number; window?: 'sliding'; margin?: number },
): Given {
  return {
    given: `new Throttle(${[capacity, concurrency, ...(options === undefined ? [] : [1, show(options)])].join(', ')})`,
    create: async () => {
      const { Throttle } = await import('headgate');
      const throttle = new Throttle(capacity, concurrency, 1, options);
      return (job) => throttle.run(job);
    },
  };
}

function bottleneck(options: ConstructorParameters<typeof Bottleneck>[0]): Given {
  return {
    given: `new Bottleneck(${show(options)})`,
    create: async () => {
      const { default: Library } = await import('bottleneck');
      const limiter = new Library(options);
      return (job) => limiter.schedule(job);
    },
  };
}

function pThrottle(options: { limit: number; interval: number; strict?: boolean; weight?: () => number }): Given {
  return {
    given: `pThrottle(${show(options)})`,
    create: async () => {
      const { default: throttle } = await import('p-throttle');
      const throttled = throttle(options)((job: () => Promise<unknown>) => job());
      return throttled as Limited;
    },
  };
}

function pLimit(concurrency: number): Given {
  return {
    given: `pLimit(${concurrency})`,
    create: async () => {
      const { default: limit } = await import('p-limit');
      return limit(concurrency);
    },
  };
}

function pQueue(options: { concurrency?: number; intervalCap?: number; interval?: number; strict?: boolean }): Given {
  return {
    given: `new PQueue(${show(options)})`,
    create: async () => {
      const { default: PQueue } = await import('p-queue');
      const queue = new PQueue(options);
      return (job) => queue.add(job);
    },
  };
}

/** A job for each token of the package `limiter`. */
function paced(limiter: { removeTokens(count: number): Promise<number> }): Limited {
  return async (job) => {
    await limiter.removeTokens(1);
    return job();
  };
}

function tokenBucket(options: { bucketSize: number; tokensPerInterval: number; interval: 'second' }): Given {
  return {
    given: `new TokenBucket(${show(options)})`,
    create: async () => {
      const { TokenBucket } = await import('limiter');
      return paced(new TokenBucket(options));
    },
  };
}

function rateLimiter(options: { tokensPerInterval: number; interval: 'second' }): Given {
  return {
    given: `new RateLimiter(${show(options)})`,
    create: async () => {
      const { RateLimiter } = await import('limiter');
      return paced(new RateLimiter(options));
    },
  };
}

function asyncSema(slots: number): Given {
  return {
    given: `new Sema(${slots})`,
    create: async () => {
      const { Sema } = await import('async-sema');
      const sema = new Sema(slots);
      return async (job) => {
        await sema.acquire();
        try {
          return await job();
        } finally {
          sema.release();
        }
      };
    },
  };
}

const weight = (): number => 1;

/** By name. Against concurrency, headgate's window and bucket have no part: there it is one. */
export const clients: Readonly<Record<string, Partial<Record<UpstreamId, Given>>>> = {
  'headgate, sliding': {
    window: headgate(RATE, 0, { window: 'sliding', margin: JITTER }),
    plain: headgate(RATE, 0, { window: 'sliding' }),
    // Its bursts are a second apart: until then the upstream's bucket makes up for what is late.
    bucket: headgate(RATE, 0, { window: 'sliding' }),
  },
  'headgate, bucket': {
    window: headgate(RATE_BESIDE, 0, { burst: SMALL }),
    plain: headgate(RATE, 0),
    bucket: headgate(RATE, 0, { burst: RATE - RESERVE }),
  },
  headgate: {
    concurrency: headgate(Infinity, SLOTS),
  },
  bottleneck: {
    // Its reservoir is refilled at fixed times, whenever it was used: it cannot keep to a rolling window.
    window: bottleneck({ minTime: PERIOD / RATE }),
    plain: bottleneck({ minTime: 1000 / RATE }),
    // Intervals have to be multiples of 250 ms. A full reservoir and one increase may come in one instant.
    bucket: bottleneck({
      reservoir: 36,
      reservoirIncreaseAmount: 12,
      reservoirIncreaseInterval: 250,
      reservoirIncreaseMaximum: 36,
    }),
    concurrency: bottleneck({ maxConcurrent: SLOTS }),
  },
  'p-throttle, p-limit': {
    // Without a weight, its strict mode spaces out evenly whatever comes after a burst, and gets less done.
    window: pThrottle({ limit: RATE, interval: PERIOD, strict: true, weight }),
    plain: pThrottle({ limit: RATE, interval: 1000 }),
    bucket: pThrottle({ limit: RATE, interval: 1000, strict: true, weight }),
    concurrency: pLimit(SLOTS),
  },
  'p-queue': {
    window: pQueue({ intervalCap: RATE, interval: PERIOD, strict: true }),
    plain: pQueue({ intervalCap: RATE, interval: 1000 }),
    bucket: pQueue({ intervalCap: RATE, interval: 1000, strict: true }),
    concurrency: pQueue({ concurrency: SLOTS }),
  },
  'limiter, async-sema': {
    // It has no window, and a small bucket keeps to one.
    window: tokenBucket({ bucketSize: SMALL, tokensPerInterval: RATE_BESIDE, interval: 'second' }),
    plain: rateLimiter({ tokensPerInterval: RATE, interval: 'second' }),
    bucket: tokenBucket({ bucketSize: RATE - RESERVE, tokensPerInterval: RATE, interval: 'second' }),
    concurrency: asyncSema(SLOTS),
  },
};
