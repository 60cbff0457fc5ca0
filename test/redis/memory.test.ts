/** The memory of a throttle in Redis: some bytes while it is in use, none afterwards. */
import { RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import { describe, expect, test } from 'vitest';
import { client } from './own-server.js';
import { killableClient, withoutMessages, freshKey, until } from './support.js';

const MANY = 5_000;
const MOST_BYTES = 250;

const open = (options: Partial<RedisThrottleOptions> = {}): RedisThrottle =>
  new RedisThrottle({ client, key: freshKey(), ttl: 60, commandTimeout: 10, ...options });

const used = async (): Promise<number> => Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1]);

/** The bytes of the keys, as `MEMORY USAGE` returns them. */
const weight = async (): Promise<number> => {
  let sum = 0;
  for (const key of await client.keys('*')) sum += (await client.memory('USAGE', key, 'SAMPLES', 0)) ?? 0;
  return sum;
};

/** All keys, and the keys without a TTL. */
const left = async (): Promise<{ keys: string[]; eternal: string[] }> => {
  const keys = await client.keys('*');
  const ages = await Promise.all(keys.map((key) => client.pttl(key)));
  return { keys, eternal: keys.filter((_, index) => ages[index] === -1) };
};

const gone = (): Promise<void> => until('no key is left', async () => (await client.dbsize()) === 0, 5);

describe('bytes', () => {
  test(`a lease and a waiter take at most ${MOST_BYTES} bytes, with ${MANY} of each on one key`, async () => {
    const throttle = open({ concurrency: MANY, capacity: 1e6 });
    // The scripts, the buffers of the connections and the state exist before the measurement.
    (await throttle.acquire()).release();
    await throttle.idle();
    const [before, nothing] = [await used(), await weight()];
    const permits = await Promise.all(Array.from({ length: MANY }, () => throttle.acquire()));
    const [middle, leases] = [await used(), await weight()];
    const waiting = Array.from({ length: MANY }, () => throttle.acquire());
    await until(
      'all waiters are queued',
      async () => (await client.zcard(`{headgate:${throttle.key}}:queue`)) === MANY,
    );
    const [after, both] = [await used(), await weight()];

    const { eternal } = await left();
    for (const permit of permits) permit.release();
    for (const call of waiting) void call.then((permit) => permit.release());
    await throttle.idle();
    await throttle.close();
    await gone();

    const perLease = Math.max(middle - before, leases - nothing) / MANY;
    const perWaiter = Math.max(after - middle, both - leases) / MANY;
    const figures = `${perLease.toFixed(0)} bytes a lease, ${perWaiter.toFixed(0)} bytes a waiter`;
    expect(perLease, figures).toBeLessThanOrEqual(MOST_BYTES);
    expect(perWaiter, figures).toBeLessThanOrEqual(MOST_BYTES);
    // Fewer bytes than an id and a score would mean a failed measurement.
    expect(Math.min(perLease, perWaiter), figures).toBeGreaterThan(40);
    expect(eternal).toEqual([]);
  });
});

describe('keys', () => {
  /** The operations. Each one leaves a state that must expire. */
  const uses: Record<string, (throttle: RedisThrottle) => Promise<void>> = {
    'a release, without a rate': async (throttle) => throttle.run(() => {}),
    'tokens that flow in again': async (throttle) => {
      await throttle.configure({ capacity: 10, burst: 5 });
      await throttle.run(() => {}, 5);
    },
    'a debt': async (throttle) => {
      await throttle.configure({ capacity: 20 });
      await throttle.run((permit) => permit.settle(25));
    },
    'a refund': async (throttle) => {
      await throttle.configure({ capacity: 1, period: 1_000 });
      await throttle.run((permit) => permit.refund());
    },
    'a refund after the release': async (throttle) => {
      await throttle.configure({ capacity: 1, period: 1_000 });
      const permit = await throttle.acquire();
      permit.release();
      permit.refund();
    },
    'a pause that ends': async (throttle) => throttle.pause(0.3),
    'an endless pause that was ended': async (throttle) => {
      await throttle.pause();
      await throttle.resume();
    },
    'an endless pause that was reset': async (throttle) => {
      await throttle.pause();
      await throttle.reset();
    },
    'a rate that was lifted': async (throttle) => {
      await throttle.configure({ capacity: 1, period: 1e6 });
      await throttle.run(() => {});
      await throttle.configure({ capacity: Infinity });
    },
    'waiters that left': async (throttle) => {
      await throttle.configure({ concurrency: 1 });
      await throttle.run(async () => {
        await throttle.acquire(1, { timeout: 0.05 }).catch(() => {});
        await throttle.acquire(1, { timeout: 0 }).catch(() => {});
        const leaver = new AbortController();
        const place = throttle.acquire(1, { signal: leaver.signal }).catch(() => {});
        await Promise.resolve();
        leaver.abort();
        await place;
      });
    },
    'waiters that were granted': async (throttle) => {
      await throttle.configure({ concurrency: 1 });
      await Promise.all([1, 2, 3].map(() => throttle.run(() => {})));
    },
    'leases that were renewed': async (throttle) =>
      throttle.run(() => new Promise((resolve) => void setTimeout(resolve, 700))),
    'a look, and a change of limits': async (throttle) => {
      await throttle.inspect();
      await throttle.configure({ capacity: 5 });
    },
  };

  test('each listed operation leaves only Redis keys with a TTL, and Redis removes all keys in the end', async () => {
    const eternal = new Set<string>();
    const over = new AbortController();
    const watch = (async () => {
      while (!over.signal.aborted) for (const key of (await left()).eternal) eternal.add(key);
    })();
    const throttles = Object.keys(uses).map((key) => open({ key, ttl: 0.6 }));
    await Promise.all(Object.values(uses).map((use, index) => use(throttles[index] as RedisThrottle)));
    await Promise.all(throttles.map((throttle) => throttle.close()));
    await gone();
    over.abort();
    await watch;
    expect([...eternal]).toEqual([]);
  });

  test('the keys of a killed process are gone when its ttl has passed', async () => {
    const { client: living, die } = killableClient(withoutMessages(client));
    const throttle = open({ client: living, ttl: 0.5, concurrency: 1, commandTimeout: 0.1 });
    await throttle.acquire();
    // The state contains the lease and up to 64 waiters.
    const places = Array.from({ length: 65 }, () => throttle.acquire().catch(() => {}));
    await until('65 waiters are queued', async () => (await client.zcard(`{headgate:${throttle.key}}:queue`)) === 65);
    die();
    expect((await left()).keys.length).toBe(2);
    expect((await left()).eternal).toEqual([]);
    await gone();
    await Promise.all(places);
  });

  test('a long pause and a slow rate are kept until they end', async () => {
    const ttl = 60;
    const [paused, slow] = [open({ key: 'paused', ttl }), open({ key: 'slow', capacity: 1, period: 1_000, ttl })];
    await paused.pause(100);
    await slow.run(() => {});
    await slow.idle();
    for (const [key, seconds] of [
      ['paused', 100],
      ['slow', 1_000],
    ] as const) {
      const milliseconds = await client.pttl(`{headgate:${key}}`);
      expect(milliseconds / 1_000, key).toBeGreaterThan(seconds - 10);
      // A key lives an eighth of the ttl longer, so that few calls must set its expiry again.
      expect(milliseconds / 1_000, key).toBeLessThan(seconds + ttl / 8 + 1);
    }
    await paused.pause();
    expect(await client.pttl('{headgate:paused}')).toBeGreaterThan(1e9);
    await paused.resume();
    await slow.reset();
    await Promise.all([paused.close(), slow.close()]);
    expect(await client.dbsize()).toBe(0);
  });
});
