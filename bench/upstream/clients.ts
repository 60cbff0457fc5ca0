/**
 * The clients, and the setting of each for each upstream. Trials found the setting that draws the fewest refusals among
 * those that the client's documentation offers, and among several such settings the one that gets the most done. Every
 * setting knows the upstream's limit, and that requests can be late by `JITTER`. The `plain` settings are the
 * exception: they are the first example of the documentation for so many requests per second.
 */
import type Bottleneck from 'bottleneck';
import { JITTER } from './jobs.js';
import { type Answer, type Limited, pQueue, type Setting, show } from './setting.js';
import { tokenClients } from './token-clients.js';
import { RATE, SLOTS, type UpstreamId } from './upstreams.js';

/** Milliseconds: the period and the jitter of the network. */
const PERIOD = 1000 * (1 + JITTER);
/** The part of a bucket that stays unused, because late requests arrive together with the requests behind them. */
const RESERVE = RATE * JITTER;
/**
 * A bucket for an upstream with a rolling window. In a period plus the jitter, burst and refill together must not
 * exceed `RATE`. So a larger burst leaves a smaller rate.
 */
const SMALL_BURST = 2;
const RATE_WITH_BURST = Math.floor((RATE - SMALL_BURST) / (1 + JITTER));

function headgate(
  capacity: number,
  concurrency: number,
  options?: { burst?: number; window?: 'sliding'; margin?: number },
): Setting {
  return {
    given: `new Throttle(${[capacity, concurrency, ...(options === undefined ? [] : [1, show(options)])].join(', ')})`,
    create: async () => {
      const { Throttle } = await import('headgate');
      const throttle = new Throttle(capacity, concurrency, 1, options);
      return (job) => throttle.run(job);
    },
  };
}

function bottleneck(options: NonNullable<ConstructorParameters<typeof Bottleneck>[0]>): Setting {
  return {
    given: `new Bottleneck(${show(options)})`,
    create: async () => {
      const { default: Library } = await import('bottleneck');
      const limiter = new Library(options);
      return (job) => limiter.schedule(job);
    },
  };
}

function pThrottle(options: { limit: number; interval: number; strict?: boolean; weight?: () => number }): Setting {
  return {
    given: `pThrottle(${show(options)})`,
    create: async () => {
      const { default: throttle } = await import('p-throttle');
      return throttle(options)((job: () => Promise<Answer>) => job());
    },
  };
}

function pLimit(concurrency: number): Setting {
  return {
    given: `pLimit(${concurrency})`,
    create: async () => {
      const { default: limit } = await import('p-limit');
      const limited = limit(concurrency);
      return (job) => limited(job);
    },
  };
}

/** Runs each job after one token of the package `limiter`. */
function paced(limiter: { removeTokens(count: number): Promise<number> }): Limited {
  return async (job) => {
    await limiter.removeTokens(1);
    return job();
  };
}

function tokenBucket(options: { bucketSize: number; tokensPerInterval: number; interval: 'second' }): Setting {
  return {
    given: `new TokenBucket(${show(options)})`,
    create: async () => {
      const { TokenBucket } = await import('limiter');
      return paced(new TokenBucket(options));
    },
  };
}

function rateLimiter(options: { tokensPerInterval: number; interval: 'second' }): Setting {
  return {
    given: `new RateLimiter(${show(options)})`,
    create: async () => {
      const { RateLimiter } = await import('limiter');
      return paced(new RateLimiter(options));
    },
  };
}

function asyncSema(slots: number): Setting {
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

/** By name. For a concurrency limit headgate needs no rate, so it is one client instead of two. */
const rateClients: Readonly<Record<string, Partial<Record<UpstreamId, Setting>>>> = {
  'headgate, sliding': {
    window: headgate(RATE, 0, { window: 'sliding', margin: JITTER }),
    plain: headgate(RATE, 0, { window: 'sliding' }),
    // The bursts are a second apart. Meanwhile the upstream's bucket refills, which compensates for late requests.
    bucket: headgate(RATE, 0, { window: 'sliding' }),
  },
  'headgate, bucket': {
    window: headgate(RATE_WITH_BURST, 0, { burst: SMALL_BURST }),
    plain: headgate(RATE, 0),
    bucket: headgate(RATE, 0, { burst: RATE - RESERVE }),
  },
  headgate: {
    concurrency: headgate(Infinity, SLOTS),
  },
  bottleneck: {
    // The reservoir refills at fixed times, so it cannot respect a rolling window.
    window: bottleneck({ minTime: PERIOD / RATE }),
    plain: bottleneck({ minTime: 1000 / RATE }),
    // Intervals must be multiples of 250 ms. A full reservoir and one increase can be spent at the same instant.
    bucket: bottleneck({
      reservoir: 36,
      reservoirIncreaseAmount: 12,
      reservoirIncreaseInterval: 250,
      reservoirIncreaseMaximum: 36,
    }),
    concurrency: bottleneck({ maxConcurrent: SLOTS }),
  },
  'p-throttle, p-limit': {
    // Without a weight, the strict mode spaces the calls after a burst evenly, and gets less done.
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
    // limiter has no window, and a small bucket respects one.
    window: tokenBucket({ bucketSize: SMALL_BURST, tokensPerInterval: RATE_WITH_BURST, interval: 'second' }),
    plain: rateLimiter({ tokensPerInterval: RATE, interval: 'second' }),
    bucket: tokenBucket({ bucketSize: RATE - RESERVE, tokensPerInterval: RATE, interval: 'second' }),
    concurrency: asyncSema(SLOTS),
  },
};

/** The clients of all upstreams, by name. */
export const clients: typeof rateClients = Object.fromEntries(
  [...new Set([...Object.keys(rateClients), ...Object.keys(tokenClients)])].map((name) => {
    const both = tokenClients[name];
    return [name, { ...rateClients[name], ...(both === undefined ? {} : { both }) }];
  }),
);
