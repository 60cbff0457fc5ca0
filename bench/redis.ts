/**
 * headgate on Redis beside redis-semaphore, the one peer that is maintained: permits one after the other, many workers
 * at once, and the handover from one process to another. All measurements use ioredis and one server, which the bench
 * starts.
 */
// oxlint-disable no-await-in-loop -- one after the other is what is measured
import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { RedisThrottle } from 'headgate/redis';
import { Redis } from 'ioredis';
import { Semaphore } from 'redis-semaphore';
import { guarded } from '../test/support/processes.js';
import { type Effort, nanosecondsEach } from './measure.js';
import { REDIS_URL } from './scenarios.js';

const BATCH = 200;
/** Milliseconds. The compiler of V8 takes some 5,000 permits, half a second, until it has optimised all of their code. */
const EFFORT: Effort = { time: 1_500 };
const WORKERS = 64;
/**
 * Permits that all workers share: first to warm up, then to measure. V8 compiles the code of both libraries again for
 * many workers, and this takes more than half a second.
 */
const WARM_UP = 38_400;
const PERMITS = 19_200;
const HANDOVERS = 300;
/** Permits of each library while Redis counts its own time. */
const SERVER_PERMITS = 2_000;

/** Acquires a permit and releases it. */
type Turn = () => Promise<void>;
type Library = 'headgate' | 'redis-semaphore';

/** By library: creates a function that returns the `Turn` of a new worker. */
const workersOf: Readonly<Record<Library, (client: Redis, slots: number) => () => Turn>> = {
  headgate(client, slots) {
    const throttle = new RedisThrottle({ client, key: randomUUID(), concurrency: slots });
    return () => async () => (await throttle.acquire()).release();
  },
  'redis-semaphore'(client, slots) {
    const key = randomUUID();
    return () => {
      const semaphore = new Semaphore(client, key, slots, { acquireTimeout: 600_000 });
      return async () => {
        await semaphore.acquire();
        await semaphore.release();
      };
    };
  },
};

async function onServer<T>(use: (client: Redis) => Promise<T>): Promise<T> {
  const url = process.env[REDIS_URL];
  if (url === undefined) throw new Error(`${REDIS_URL} is not set: npm run bench starts a server and sets it`);
  const client = new Redis(url);
  await client.ping();
  return use(client);
}

/** Nanoseconds for a command that does nothing and its reply. */
export const roundTrip = (): Promise<number> =>
  onServer((client) =>
    nanosecondsEach(BATCH, EFFORT, async () => {
      for (let i = 0; i < BATCH; i++) await client.ping();
    }),
  );

/**
 * The median number of nanoseconds for a command that does nothing and its reply, each after a pause of about 1 ms. A
 * processor that has slept takes two to three times as long as in a loop without pauses. {@link handover} pauses too.
 */
export const roundTripAfterPause = (): Promise<number> =>
  onServer(async (client) => {
    const took: number[] = [];
    for (let i = 0; i < HANDOVERS; i++) {
      await new Promise((resolve) => void setTimeout(resolve, 1));
      const sent = process.hrtime.bigint();
      await client.ping();
      took.push(Number(process.hrtime.bigint() - sent));
    }
    return took.toSorted((a, b) => a - b)[took.length >> 1]!;
  });

/** Nanoseconds for each acquire and release, one after the other. */
export const oneByOne = (library: Library): Promise<number> =>
  onServer((client) => {
    const turn = workersOf[library](client, 8)();
    return nanosecondsEach(BATCH, EFFORT, async () => {
      for (let i = 0; i < BATCH; i++) await turn();
    });
  });

/** Two counters of Redis: the microseconds of all scripts, and the commands that the scripts have called. */
async function scriptStats(client: Redis): Promise<{ microseconds: number; commands: number }> {
  const stats = { microseconds: 0, commands: 0 };
  for (const [, name, calls, usec] of (await client.info('commandstats')).matchAll(
    /cmdstat_(\w+):calls=(\d+),usec=(\d+)/g,
  )) {
    if (name === 'evalsha' || name === 'eval') stats.microseconds += Number(usec);
    else if (!OUTSIDE_SCRIPTS.has(name as string)) stats.commands += Number(calls);
  }
  return stats;
}
/** The commands that the bench and the clients call themselves. */
const OUTSIDE_SCRIPTS: ReadonlySet<string> = new Set([
  'info',
  'ping',
  'subscribe',
  'select',
  'client',
  'hello',
  'quit',
]);

/** The work of Redis for each permit of `turns`: nanoseconds, and commands within the scripts. */
async function workOfRedis(
  client: Redis,
  permits: number,
  turns: () => Promise<void>,
): Promise<{ nanoseconds: number; commands: number }> {
  await turns();
  const before = await scriptStats(client);
  await turns();
  const after = await scriptStats(client);
  return {
    nanoseconds: ((after.microseconds - before.microseconds) * 1_000) / permits,
    commands: (after.commands - before.commands) / permits,
  };
}

const pairOnServer = (library: Library): Promise<{ nanoseconds: number; commands: number }> =>
  onServer((client) => {
    const turn = workersOf[library](client, 8)();
    return workOfRedis(client, SERVER_PERMITS, async () => {
      for (let i = 0; i < SERVER_PERMITS; i++) await turn();
      // The release of redis-semaphore is awaited, the last one of headgate is sent with the next call.
      await client.ping();
    });
  });

/** Nanoseconds in Redis for each acquire and release, one after the other. */
export const serverTime = async (library: Library): Promise<number> => (await pairOnServer(library)).nanoseconds;

/** Commands of Redis within the scripts for each acquire and release. */
export const serverCommands = async (library: Library): Promise<number> => (await pairOnServer(library)).commands;

/** Nanoseconds for each acquire and release of a slot that lingers in this process. */
export const lingering = (): Promise<number> =>
  onServer((client) => {
    const throttle = new RedisThrottle({ client, key: randomUUID(), concurrency: 8, linger: 5 });
    return nanosecondsEach(BATCH, EFFORT, async () => {
      for (let i = 0; i < BATCH; i++) (await throttle.acquire()).release();
    });
  });

/** The time for each permit, and the milliseconds of each turn, with many concurrent workers. */
async function contend(library: Library, slots: number): Promise<{ nanosecondsEach: number; waits: number[] }> {
  return onServer(async (client) => {
    const turns = Array.from({ length: WORKERS }, workersOf[library](client, slots));
    const waits: number[] = [];
    const share = async (permits: number): Promise<void> => {
      let left = permits;
      await Promise.all(
        turns.map(async (turn) => {
          while (left-- > 0) {
            const started = performance.now();
            await turn();
            waits.push(performance.now() - started);
          }
        }),
      );
    };
    await share(WARM_UP);
    waits.length = 0;
    const start = performance.now();
    await share(PERMITS);
    return { nanosecondsEach: ((performance.now() - start) * 1e6) / PERMITS, waits };
  });
}

/** Nanoseconds for each permit, with many workers. */
export const throughput = async (library: Library, slots: number): Promise<number> =>
  (await contend(library, slots)).nanosecondsEach;

/** The longest wait as a multiple of the median wait, with many workers. */
export const unfairness = async (library: Library, slots: number): Promise<number> => {
  const waits = (await contend(library, slots)).waits.toSorted((a, b) => a - b);
  return waits.at(-1)! / waits[waits.length >> 1]!;
};

/** The median number of nanoseconds from a release in this process to the grant in another process. */
export const handover = (): Promise<number> =>
  onServer(async (client) => {
    const key = randomUUID();
    const throttle = new RedisThrottle({ client, key, concurrency: 1 });
    // Starts the bench again, in the role of the waiter.
    const other = guarded(fork(fileURLToPath(import.meta.url.replace(/[^/]*$/, 'bench.js')), ['wait', key]));
    const took: number[] = [];
    await once(other, 'message');
    for (let i = 0; i < HANDOVERS; i++) {
      const permit = await throttle.acquire();
      const waiting = once(other, 'message');
      other.send('acquire');
      while ((await throttle.inspect()).waiting.length === 0)
        await new Promise((resolve) => void setTimeout(resolve, 1));
      const released = process.hrtime.bigint();
      permit.release();
      const [granted] = (await waiting) as [string];
      took.push(Number(BigInt(granted) - released));
    }
    other.kill();
    return took.toSorted((a, b) => a - b)[took.length >> 1]!;
  });

/** The other process of {@link handover}: acquires at each message, and sends the instant of the grant. */
export const waitElsewhere = (key: string): Promise<void> =>
  onServer(async (client) => {
    const throttle = new RedisThrottle({ client, key, concurrency: 1 });
    // Opens both connections before the first measurement.
    await throttle.pause(0);
    const wait = async (): Promise<void> => {
      using _ = await throttle.acquire();
      // All processes of the machine share this clock.
      process.send?.(String(process.hrtime.bigint()));
    };
    process.on('message', () => void wait());
    process.send?.('ready');
  });
