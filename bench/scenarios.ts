/**
 * What is measured, and of whom. A library is missing from a scenario where it has no such operation.
 *
 * Each entry is called in a fresh process, alone: it imports its library, sets it up and measures it. So nobody
 * pays for a call site that another one made polymorphic, or for a heap that another one has filled.
 */
// oxlint-disable no-await-in-loop -- one after the other is what is measured
import { type Clock, type Gate, KeyedThrottle, Throttle } from 'headgate';
import { bytesEach, type Effort, nanosecondsEach } from './measure.js';

export interface Scenario {
  readonly title: string;
  readonly unit: 'ns' | 'bytes' | 'times';
  /** By name: resolves to what one operation takes, in the unit. */
  readonly contestants: Readonly<Record<string, () => Promise<number>>>;
}

export type ScenarioId =
  | 'acquire'
  | 'tryAcquire'
  | 'run'
  | 'jobs20k'
  | 'jobs200k'
  | 'abortShared'
  | 'abortSharedFew'
  | 'abortEach'
  | 'abortEachFew'
  | 'heapAcquire'
  | 'heapRun'
  | 'watched'
  | 'keyed'
  | 'window'
  | 'express'
  | 'redisPair'
  | 'redisFree'
  | 'redisBusy'
  | 'redisFair'
  | 'redisHandover';

export const HEADGATE = 'headgate';
/** What headgate's own parts are measured against: a throttle that tells nothing, a single one, a bucket, Express alone. */
export const ITSELF = {
  watched: 'without channels',
  keyed: 'one throttle',
  window: 'a bucket',
  express: 'Express alone',
} as const;
/** The environment variable that tells where the server is. */
export const REDIS_URL = 'HEADGATE_BENCH_REDIS';
/** The one peer on Redis, and the floor under everything that asks a server. */
export const ON_REDIS = { peer: 'redis-semaphore', floor: 'a bare PING' } as const;
/** An async function that does nothing, awaited: the floor under everything that returns a promise. */
export const FLOOR = 'bare await';
/** Those on which everybody else would wait. They take part in some of the rounds only. */
export const SLOW: ReadonlySet<string> = new Set(['p-queue', 'async-mutex', 'bottleneck']);
export const MANY_ABORTED = 50_000;
export const FEW_ABORTED = 5_000;

const SLOTS = 8;
/** So many tokens a second that the rate is checked each time and never holds anybody. */
const TOKENS = 1e12;
/** Operations for each call that tinybench times: so many that its own cost does not show. */
const BATCH = 1_000;
const WAITERS = 100_000;
const BRIEF: Effort = { time: 100 };
/**
 * A timer of about a millisecond stands between any two jobs of bottleneck, however many there are. So a few say
 * what each of them takes, and many would take minutes.
 */
const FEW_JOBS = 200;

type Job = () => Promise<void>;
const nothing: Job = async () => {};
async function bare(): Promise<void> {}

/** How each library runs a job on one of its slots. */
const runners: Record<string, () => Promise<(job: Job) => Promise<unknown>>> = {
  [FLOOR]: async () => bare,
  headgate: async () => {
    const throttle = new Throttle(TOKENS, SLOTS);
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

/** An entry for everyone who runs jobs and is not left out. */
function forRunners(
  measure: (run: (job: Job) => Promise<unknown>, name: string) => Promise<number>,
  leftOut: readonly string[] = [],
): Scenario['contestants'] {
  const entries = Object.entries(runners).filter(([name]) => !leftOut.includes(name));
  return Object.fromEntries(entries.map(([name, create]) => [name, async () => measure(await create(), name)]));
}

/** All jobs are handed over at once, and then all are waited for. */
function jobs(count: number, effort: Effort, leftOut?: readonly string[]): Scenario['contestants'] {
  return forRunners((run, name) => {
    const number = name === 'bottleneck' ? FEW_JOBS : count;
    return nanosecondsEach(number, effort, async () => {
      const promises: Promise<unknown>[] = [];
      for (let i = 0; i < number; i++) promises.push(run(nothing));
      for (const promise of promises) await promise;
    });
  }, leftOut);
}

/** From the first abort until the last rejection has settled. */
function abort(count: number, signals: number, effort: Effort): Record<'headgate' | 'p-queue', () => Promise<number>> {
  const reason = new Error('aborted by the bench');
  const measure = (wait: (signal: AbortSignal) => Promise<unknown>): Promise<number> =>
    nanosecondsEach(count, effort, async () => {
      const controllers = Array.from({ length: signals }, () => new AbortController());
      const waiting = Array.from({ length: count / signals }, () =>
        controllers.map(({ signal }) => wait(signal)),
      ).flat();
      const settled = Promise.allSettled(waiting);
      const started = performance.now();
      for (const controller of controllers) controller.abort(reason);
      await settled;
      return { overriddenDuration: performance.now() - started };
    });
  return {
    headgate: async () => {
      const throttle = new Throttle(TOKENS, SLOTS);
      for (let i = 0; i < SLOTS; i++) throttle.tryAcquire();
      return measure((signal) => throttle.acquire(1, { signal }));
    },
    'p-queue': async () => {
      const { default: PQueue } = await import('p-queue');
      const queue = new PQueue({ concurrency: SLOTS });
      for (let i = 0; i < SLOTS; i++) void queue.add(never);
      return measure((signal) => queue.add(nothing, { signal }));
    },
  };
}

const never = (): Promise<never> => new Promise(() => {});

export const scenarios: Readonly<Record<ScenarioId, Scenario>> = {
  acquire: {
    title: 'acquire and release, nobody waiting',
    unit: 'ns',
    contestants: {
      [FLOOR]: () =>
        nanosecondsEach(BATCH, BRIEF, async () => {
          for (let i = 0; i < BATCH; i++) await bare();
        }),
      headgate: () => oneByOne(new Throttle(TOKENS, SLOTS)),
      'async-sema': async () => {
        const { Sema } = await import('async-sema');
        const sema = new Sema(SLOTS);
        return nanosecondsEach(BATCH, BRIEF, async () => {
          for (let i = 0; i < BATCH; i++) {
            await sema.acquire();
            sema.release();
          }
        });
      },
      'async-mutex': async () => {
        const { Semaphore } = await import('async-mutex');
        const semaphore = new Semaphore(SLOTS);
        return nanosecondsEach(BATCH, BRIEF, async () => {
          for (let i = 0; i < BATCH; i++) (await semaphore.acquire())[1]();
        });
      },
      // It only counts tokens: there is nothing to release.
      limiter: async () => {
        const { RateLimiter } = await import('limiter');
        const limiter = new RateLimiter({ tokensPerInterval: TOKENS, interval: 1000 });
        return nanosecondsEach(BATCH, BRIEF, async () => {
          for (let i = 0; i < BATCH; i++) await limiter.removeTokens(1);
        });
      },
    },
  },
  tryAcquire: {
    title: 'tryAcquire and release',
    unit: 'ns',
    contestants: {
      headgate: () => {
        const throttle = new Throttle(TOKENS, SLOTS);
        return nanosecondsEach(BATCH, BRIEF, () => {
          for (let i = 0; i < BATCH; i++) throttle.tryAcquire()?.release();
        });
      },
      'async-sema': async () => {
        const { Sema } = await import('async-sema');
        const sema = new Sema(SLOTS);
        return nanosecondsEach(BATCH, BRIEF, () => {
          for (let i = 0; i < BATCH; i++) if (sema.tryAcquire() !== undefined) sema.release();
        });
      },
      limiter: async () => {
        const { RateLimiter } = await import('limiter');
        const limiter = new RateLimiter({ tokensPerInterval: TOKENS, interval: 1000 });
        return nanosecondsEach(BATCH, BRIEF, () => {
          for (let i = 0; i < BATCH; i++) limiter.tryRemoveTokens(1);
        });
      },
    },
  },
  run: {
    title: 'run, nobody waiting',
    unit: 'ns',
    contestants: forRunners((run, name) => {
      const number = name === 'bottleneck' ? FEW_JOBS : BATCH;
      return nanosecondsEach(number, name === 'bottleneck' ? {} : BRIEF, async () => {
        for (let i = 0; i < number; i++) await run(nothing);
      });
    }),
  },
  // Twenty times, after as many to warm up: the compiler goes on for some six of them, and that is not what is asked.
  jobs20k: { title: '20,000 jobs on 8 slots', unit: 'ns', contestants: jobs(20_000, { iterations: 20 }) },
  // The time that async-mutex takes grows with the square of the queue: minutes here.
  jobs200k: {
    title: '200,000 jobs on 8 slots',
    unit: 'ns',
    contestants: jobs(200_000, { iterations: 3 }, ['async-mutex']),
  },
  abortShared: {
    title: 'abort 50,000 waiters, one signal',
    unit: 'ns',
    contestants: abort(MANY_ABORTED, 1, { iterations: 3 }),
  },
  abortSharedFew: {
    title: 'abort 5,000 waiters, one signal',
    unit: 'ns',
    contestants: { headgate: abort(FEW_ABORTED, 1, { iterations: 10 }).headgate },
  },
  abortEach: {
    title: 'abort 50,000 waiters, a signal each',
    unit: 'ns',
    contestants: abort(MANY_ABORTED, MANY_ABORTED, { iterations: 2 }),
  },
  abortEachFew: {
    title: 'abort 5,000 waiters, a signal each',
    unit: 'ns',
    contestants: { headgate: abort(FEW_ABORTED, FEW_ABORTED, { iterations: 6 }).headgate },
  },
  heapAcquire: {
    title: 'heap per waiter, acquire',
    unit: 'bytes',
    contestants: {
      headgate: () => {
        const throttle = new Throttle(TOKENS, SLOTS);
        for (let i = 0; i < SLOTS; i++) throttle.tryAcquire();
        return bytesEach(WAITERS, () => throttle.acquire());
      },
      'async-sema': async () => {
        const { Sema } = await import('async-sema');
        const sema = new Sema(SLOTS);
        for (let i = 0; i < SLOTS; i++) sema.tryAcquire();
        return bytesEach(WAITERS, () => sema.acquire());
      },
      'async-mutex': async () => {
        const { Semaphore } = await import('async-mutex');
        const semaphore = new Semaphore(SLOTS);
        for (let i = 0; i < SLOTS; i++) void semaphore.acquire();
        return bytesEach(WAITERS, () => semaphore.acquire());
      },
      limiter: async () => {
        const { RateLimiter } = await import('limiter');
        const aDay = 86_400_000;
        const limiter = new RateLimiter({ tokensPerInterval: SLOTS, interval: aDay });
        limiter.tryRemoveTokens(SLOTS);
        return bytesEach(WAITERS, () => limiter.removeTokens(1));
      },
    },
  },
  heapRun: {
    title: 'heap per waiting job, run',
    unit: 'bytes',
    contestants: forRunners(
      (run) => {
        for (let i = 0; i < SLOTS; i++) void run(never);
        return bytesEach(WAITERS, () => run(nothing));
      },
      [FLOOR],
    ),
  },
  watched: {
    title: 'acquire and release, nobody listening',
    unit: 'ns',
    contestants: {
      headgate: async () => oneByOne(new (await (await import('./silent.js')).buildThrottle(true))(TOKENS, SLOTS)),
      [ITSELF.watched]: async () =>
        oneByOne(new (await (await import('./silent.js')).buildThrottle(false))(TOKENS, SLOTS)),
    },
  },
  keyed: {
    title: 'run, one of many keys',
    unit: 'ns',
    contestants: {
      headgate: () => {
        const keyed = new KeyedThrottle(TOKENS, SLOTS);
        return nanosecondsEach(BATCH, BRIEF, async () => {
          for (let i = 0; i < BATCH; i++) await keyed.run('key', nothing);
        });
      },
      [ITSELF.keyed]: () => {
        const throttle = new Throttle(TOKENS, SLOTS);
        return nanosecondsEach(BATCH, BRIEF, async () => {
          for (let i = 0; i < BATCH; i++) await throttle.run(nothing);
        });
      },
    },
  },
  window: {
    title: 'acquire and release, a window of 1,000 grants',
    unit: 'ns',
    contestants: {
      headgate: () => oneByOne(new Throttle(1_000, SLOTS, 1, { window: 'sliding', clock: pacer() })),
      [ITSELF.window]: () => oneByOne(new Throttle(1_000, SLOTS, 1, { clock: pacer() })),
    },
  },
  express: {
    title: 'a request to Express',
    unit: 'ns',
    contestants: {
      headgate: async () => (await import('./server.js')).nanosecondsPerRequest(true),
      [ITSELF.express]: async () => (await import('./server.js')).nanosecondsPerRequest(false),
    },
  },
  redisPair: {
    title: 'on Redis: acquire and release, one after the other',
    unit: 'ns',
    contestants: {
      headgate: async () => (await import('./redis.js')).oneByOne('headgate'),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).oneByOne('redis-semaphore'),
      [ON_REDIS.floor]: async () => (await import('./redis.js')).roundTrip(),
    },
  },
  redisFree: {
    title: 'on Redis: 64 workers over 64 slots, each permit',
    unit: 'ns',
    contestants: {
      headgate: async () => (await import('./redis.js')).throughput('headgate', 64),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).throughput('redis-semaphore', 64),
    },
  },
  redisBusy: {
    title: 'on Redis: 64 workers over 8 slots, each permit',
    unit: 'ns',
    contestants: {
      headgate: async () => (await import('./redis.js')).throughput('headgate', 8),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).throughput('redis-semaphore', 8),
    },
  },
  redisFair: {
    title: 'on Redis: 64 workers over 8 slots, longest wait / median',
    unit: 'times',
    contestants: {
      headgate: async () => (await import('./redis.js')).unfairness('headgate', 8),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).unfairness('redis-semaphore', 8),
    },
  },
  redisHandover: {
    title: 'on Redis: from a release in one process to the grant in another',
    unit: 'ns',
    contestants: {
      headgate: async () => (await import('./redis.js')).handover(),
      [ON_REDIS.floor]: async () => (await import('./redis.js')).roundTrip(),
    },
  },
};

/** A clock on which each reading comes just late enough for another grant, so that the window is always full. */
function pacer(): Clock {
  let now = 0;
  return { now: () => (now += 1.001e-3), schedule: () => () => {} };
}

function oneByOne(throttle: Gate): Promise<number> {
  return nanosecondsEach(BATCH, BRIEF, async () => {
    for (let i = 0; i < BATCH; i++) (await throttle.acquire()).release();
  });
}
