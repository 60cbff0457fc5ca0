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
const EFFORT: Effort = { time: 300 };
const WORKERS = 64;
/** Permits that all workers share: first to warm up, then to measure. */
const WARM_UP = 6_400;
const PERMITS = 19_200;
const HANDOVERS = 300;

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

/** Nanoseconds for each acquire and release, one after the other. */
export const oneByOne = (library: Library): Promise<number> =>
  onServer((client) => {
    const turn = workersOf[library](client, 8)();
    return nanosecondsEach(BATCH, EFFORT, async () => {
      for (let i = 0; i < BATCH; i++) await turn();
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
