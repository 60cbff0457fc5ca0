/**
 * The scenarios of the bench, and the candidates of each scenario. A library that lacks an operation is missing from
 * its scenario.
 *
 * Each candidate is measured alone, in a new process that imports one library. So no candidate pays for a call site
 * that another candidate made polymorphic, or for a heap that another candidate has filled.
 */
// oxlint-disable no-await-in-loop -- one operation after the other is measured
import { type Clock, type Gate, KeyedThrottle, Throttle } from 'headgate';
import { bytesEach, type Effort, nanosecondsEach } from './measure.js';
import { bare, FLOOR, type Job, runners, SLOTS, TOKENS } from './job-runners.js';

export interface Scenario {
  readonly title: string;
  readonly unit: 'ns' | 'bytes' | 'times';
  /** By name. Each function resolves to what one operation takes, in the unit. */
  readonly candidates: Readonly<Record<string, () => Promise<number>>>;
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
  | 'slots'
  | 'bothLimits'
  | 'watched'
  | 'keyed'
  | 'window'
  | 'express'
  | 'expressRefusal'
  | 'webRefusal'
  | 'redisPair'
  | 'redisServerTime'
  | 'redisCommands'
  | 'redisLinger'
  | 'redisFree'
  | 'redisBusy'
  | 'redisFair'
  | 'redisHandover';

/**
 * The baselines of headgate's own parts: a bare await, a bare await with a reading of the clock, a build without events,
 * a single throttle, a bucket, Express alone.
 */
export const ITSELF = {
  slots: 'bare await',
  bothLimits: 'bare await and clock',
  watched: 'without events',
  keyed: 'one throttle',
  window: 'a bucket',
  express: 'Express alone',
} as const;
/** The baseline of a refusal by an HTTP adapter, by scenario. */
export const REFUSALS = {
  expressRefusal: 'with a key function',
  webRefusal: 'Request and Response alone',
} as const;
/** The environment variable that states the URL of the Redis server. */
export const REDIS_URL = 'HEADGATE_BENCH_REDIS';
/** The one peer on Redis, and the floor of every call to a server. */
export const ON_REDIS = { peer: 'redis-semaphore', floor: 'a bare PING' } as const;
export const MANY_ABORTED = 50_000;
export const FEW_ABORTED = 5_000;

/** Operations in each call that tinybench times: enough that tinybench's own cost does not show. */
const BATCH = 1_000;
const WAITERS = 100_000;
const BRIEF: Effort = { time: 100 };
/**
 * bottleneck sets a timer of about a millisecond between any two jobs, however many there are. A few jobs show the time
 * of each; many jobs would take minutes.
 */
const FEW_JOBS = 200;

const nothing: Job = async () => {};

/** A candidate for each library that runs jobs, except those in `leftOut`. */
function forRunners(
  measure: (run: (job: Job) => Promise<unknown>, name: string) => Promise<number>,
  leftOut: readonly string[] = [],
): Scenario['candidates'] {
  const entries = Object.entries(runners).filter(([name]) => !leftOut.includes(name));
  return Object.fromEntries(entries.map(([name, create]) => [name, async () => measure(await create(), name)]));
}

/** Starts all jobs at once, and then waits for all of them. */
function jobs(count: number, effort: Effort, leftOut?: readonly string[]): Scenario['candidates'] {
  return forRunners((run, name) => {
    const number = name === 'bottleneck' ? FEW_JOBS : count;
    return nanosecondsEach(number, effort, async () => {
      const promises: Promise<unknown>[] = [];
      for (let i = 0; i < number; i++) promises.push(run(nothing));
      for (const promise of promises) await promise;
    });
  }, leftOut);
}

/** The time from the first abort until the last rejection has settled. */
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
    title: 'acquire and release, empty queue',
    unit: 'ns',
    candidates: {
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
      // limiter counts tokens only, and has nothing to release.
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
    candidates: {
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
    title: 'run, empty queue',
    unit: 'ns',
    candidates: forRunners((run, name) => {
      const number = name === 'bottleneck' ? FEW_JOBS : BATCH;
      return nanosecondsEach(number, name === 'bottleneck' ? {} : BRIEF, async () => {
        for (let i = 0; i < number; i++) await run(nothing);
      });
    }),
  },
  // Twenty times, after twenty to warm up: the compiler optimises during the first six.
  jobs20k: { title: '20,000 jobs on 8 slots', unit: 'ns', candidates: jobs(20_000, { iterations: 20 }) },
  // The time of async-mutex grows with the square of the queue, and would be minutes here.
  jobs200k: {
    title: '200,000 jobs on 8 slots',
    unit: 'ns',
    candidates: jobs(200_000, { iterations: 3 }, ['async-mutex']),
  },
  abortShared: {
    title: 'abort 50,000 waiters, one signal',
    unit: 'ns',
    candidates: abort(MANY_ABORTED, 1, { iterations: 3 }),
  },
  abortSharedFew: {
    title: 'abort 5,000 waiters, one signal',
    unit: 'ns',
    candidates: { headgate: abort(FEW_ABORTED, 1, { iterations: 10 }).headgate },
  },
  abortEach: {
    title: 'abort 50,000 waiters, a signal each',
    unit: 'ns',
    candidates: abort(MANY_ABORTED, MANY_ABORTED, { iterations: 2 }),
  },
  abortEachFew: {
    title: 'abort 5,000 waiters, a signal each',
    unit: 'ns',
    candidates: { headgate: abort(FEW_ABORTED, FEW_ABORTED, { iterations: 6 }).headgate },
  },
  heapAcquire: {
    title: 'heap per waiter, acquire',
    unit: 'bytes',
    candidates: {
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
    candidates: forRunners(
      (run) => {
        for (let i = 0; i < SLOTS; i++) void run(never);
        return bytesEach(WAITERS, () => run(nothing));
      },
      [FLOOR],
    ),
  },
  slots: {
    title: 'acquire and release, 8 slots without a rate',
    unit: 'ns',
    candidates: {
      headgate: () => oneByOne(new Throttle(Infinity, SLOTS)),
      [ITSELF.slots]: () =>
        nanosecondsEach(BATCH, BRIEF, async () => {
          for (let i = 0; i < BATCH; i++) await bare();
        }),
    },
  },
  bothLimits: {
    title: 'acquire and release, 8 slots and a rate',
    unit: 'ns',
    candidates: {
      headgate: () => oneByOne(new Throttle(TOKENS, SLOTS)),
      [ITSELF.bothLimits]: () => {
        let latest = 0;
        return nanosecondsEach(BATCH, BRIEF, async () => {
          for (let i = 0; i < BATCH; i++) {
            latest = performance.now();
            await bare();
          }
          if (latest === 0) throw new Error('the clock stands still');
        });
      },
    },
  },
  watched: {
    title: 'acquire and release, no subscribers',
    unit: 'ns',
    candidates: {
      headgate: async () => {
        const Built = await (await import('./without-events.js')).throttleWithEvents();
        return oneByOne(new Built(TOKENS, SLOTS));
      },
      [ITSELF.watched]: async () => {
        const Built = await (await import('./without-events.js')).throttleWithoutEvents();
        return oneByOne(new Built(TOKENS, SLOTS));
      },
    },
  },
  keyed: {
    title: 'run, one of many keys',
    unit: 'ns',
    candidates: {
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
    candidates: {
      headgate: () => oneByOne(new Throttle(1_000, SLOTS, 1, { window: 'sliding', clock: pacer() })),
      [ITSELF.window]: () => oneByOne(new Throttle(1_000, SLOTS, 1, { clock: pacer() })),
    },
  },
  express: {
    title: 'a request to Express',
    unit: 'ns',
    candidates: {
      headgate: async () => (await import('./express-throughput.js')).withAdapter(),
      [ITSELF.express]: async () => (await import('./express-throughput.js')).withoutAdapter(),
    },
  },
  expressRefusal: {
    title: 'CPU time of a refusal by express, one shared gate',
    unit: 'ns',
    candidates: {
      headgate: async () => (await import('./refusals.js')).byExpressWithSharedGate(),
      [REFUSALS.expressRefusal]: async () => (await import('./refusals.js')).byExpressWithKeyFunction(),
    },
  },
  webRefusal: {
    title: 'CPU time of a refusal by web, one shared gate',
    unit: 'ns',
    candidates: {
      headgate: async () => (await import('./refusals.js')).byWeb(),
      [REFUSALS.webRefusal]: async () => (await import('./refusals.js')).requestAndResponse(),
    },
  },
  redisPair: {
    title: 'on Redis: acquire and release, one after the other',
    unit: 'ns',
    candidates: {
      headgate: async () => (await import('./redis.js')).oneByOne('headgate'),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).oneByOne('redis-semaphore'),
      [ON_REDIS.floor]: async () => (await import('./redis.js')).roundTrip(),
    },
  },
  redisServerTime: {
    title: 'on Redis: time in Redis for acquire and release, one after the other',
    unit: 'ns',
    candidates: {
      headgate: async () => (await import('./redis.js')).serverTime('headgate'),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).serverTime('redis-semaphore'),
    },
  },
  redisCommands: {
    title: 'on Redis: commands within the scripts for acquire and release',
    unit: 'times',
    candidates: {
      headgate: async () => (await import('./redis.js')).serverCommands('headgate'),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).serverCommands('redis-semaphore'),
    },
  },
  redisLinger: {
    title: 'on Redis: acquire and release of a slot that lingers',
    unit: 'ns',
    candidates: {
      headgate: async () => (await import('./redis.js')).lingering(),
      [ON_REDIS.floor]: async () => (await import('./redis.js')).roundTrip(),
    },
  },
  redisFree: {
    title: 'on Redis: 64 workers over 64 slots, each permit',
    unit: 'ns',
    candidates: {
      headgate: async () => (await import('./redis.js')).throughput('headgate', 64),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).throughput('redis-semaphore', 64),
    },
  },
  redisBusy: {
    title: 'on Redis: 64 workers over 8 slots, each permit',
    unit: 'ns',
    candidates: {
      headgate: async () => (await import('./redis.js')).throughput('headgate', 8),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).throughput('redis-semaphore', 8),
    },
  },
  redisFair: {
    title: 'on Redis: 64 workers over 8 slots, longest wait / median',
    unit: 'times',
    candidates: {
      headgate: async () => (await import('./redis.js')).unfairness('headgate', 8),
      [ON_REDIS.peer]: async () => (await import('./redis.js')).unfairness('redis-semaphore', 8),
    },
  },
  redisHandover: {
    title: 'on Redis: from a release in one process to the grant in another, both after pauses of 1 ms',
    unit: 'ns',
    candidates: {
      headgate: async () => (await import('./redis.js')).handover(),
      [ON_REDIS.floor]: async () => (await import('./redis.js')).roundTripAfterPause(),
    },
  },
};

/** A clock whose every reading is just late enough for one more grant, so that the window is always full. */
function pacer(): Clock {
  let now = 0;
  return { now: () => (now += 1.001e-3), schedule: () => () => {} };
}

function oneByOne(throttle: Gate): Promise<number> {
  return nanosecondsEach(BATCH, BRIEF, async () => {
    for (let i = 0; i < BATCH; i++) (await throttle.acquire()).release();
  });
}
