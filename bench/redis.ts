/**
 * A gate on Redis beside the one peer that is kept up: permits one after the other, many workers at once, and the way
 * from one process to another. All of it on one server, started for the bench, through ioredis.
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
/** Permits in all, for the workers to share, and before those that count. */
const PERMITS = 19_200;
const WARM_UP = 6_400;
const HANDOVERS = 300;

/** Takes a permit and gives it back. */
type Turn = () => Promise<void>;
/** Makes what a worker of its own does. */
type Makers = Record<'headgate' | 'redis-semaphore', (client: Redis, slots: number) => () => Turn>;

const makers: Makers = {
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

/** Nanoseconds for a bare question and its answer. */
export const roundTrip = (): Promise<number> =>
  onServer((client) =>
    nanosecondsEach(BATCH, EFFORT, async () => {
      for (let i = 0; i < BATCH; i++) await client.ping();
    }),
  );

/** Nanoseconds for a permit, taken and given back, one after the other. */
export const oneByOne = (who: keyof Makers): Promise<number> =>
  onServer((client) => {
    const turn = makers[who](client, 8)();
    return nanosecondsEach(BATCH, EFFORT, async () => {
      for (let i = 0; i < BATCH; i++) await turn();
    });
  });

/** What many workers, all at it at once, wait for each permit. */
async function workers(who: keyof Makers, slots: number): Promise<{ nanosecondsEach: number; waits: number[] }> {
  return onServer(async (client) => {
    const make = makers[who](client, slots);
    const turns = Array.from({ length: WORKERS }, make);
    const waits: number[] = [];
    const share = async (permits: number): Promise<void> => {
      let left = permits;
      await Promise.all(
        turns.map(async (turn) => {
          while (left-- > 0) {
            const asked = performance.now();
            await turn();
            waits.push(performance.now() - asked);
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
export const throughput = async (who: keyof Makers, slots: number): Promise<number> =>
  (await workers(who, slots)).nanosecondsEach;

/** How many times the median the longest wait is, with many workers. */
export const unfairness = async (who: keyof Makers, slots: number): Promise<number> => {
  const waits = (await workers(who, slots)).waits.toSorted((a, b) => a - b);
  return waits.at(-1)! / waits[waits.length >> 1]!;
};

/** Nanoseconds from a release in this process to the grant in another: the median. */
export const handover = (): Promise<number> =>
  onServer(async (client) => {
    const key = randomUUID();
    const throttle = new RedisThrottle({ client, key, concurrency: 1 });
    // The same file, told to wait instead.
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

/** The other process of {@link handover}: waits when it is told to, and says when it was granted. */
export const waitElsewhere = (key: string): Promise<void> =>
  onServer(async (client) => {
    const throttle = new RedisThrottle({ client, key, concurrency: 1 });
    // So that all is connected.
    await throttle.pause(0);
    const wait = async (): Promise<void> => {
      using _ = await throttle.acquire();
      // The clock is the machine's, the same in all its processes.
      process.send?.(String(process.hrtime.bigint()));
    };
    process.on('message', () => void wait());
    process.send?.('ready');
  });
