/** Gates on a Redis Cluster, and on a master that sentinels replace, while nodes start, stop and change roles. */
import type { EventEmitter } from 'node:events';
import { Cluster as IoredisCluster, Redis } from 'ioredis';
import {
  RedisKeyedThrottle,
  type RedisConnection,
  type RedisPermit,
  RedisThrottle,
  type RedisThrottleOptions,
  ThrottleBackendError,
} from 'headgate/redis';
import { createCluster, createSentinel } from 'redis';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { sendCommand, type Cluster, type Sentinels, startCluster, startSentinels } from '../support/redis-clusters.js';
import { freshKey, later, readyIoredis, readyNodeRedis, sleep, until } from './support.js';

/**
 * Seconds within which a dead node is replaced, its clients reconnect, and all waiters are notified; with a reserve.
 */
const RECOVERY = 15;

interface Kind {
  readonly name: string;
  /** Connects a client, which is closed when the test has finished. */
  connect(): Promise<RedisConnection>;
}

/** Opens a throttle, which is closed when the test has finished. Its leases last longer than a failover. */
const open = (client: RedisConnection, key: string, options: Partial<RedisThrottleOptions> = {}): RedisThrottle => {
  const throttle = new RedisThrottle({ client, key, concurrency: 1, ttl: 60, commandTimeout: 1, ...options });
  onTestFinished(() => throttle.close());
  return throttle;
};

/** Acquires a permit, and retries until Redis grants one. */
const persist = async (throttle: RedisThrottle): Promise<RedisPermit> => {
  const end = performance.now() + RECOVERY * 1_000;
  for (;;) {
    try {
      return await throttle.acquire();
    } catch (error) {
      if (!(error instanceof ThrottleBackendError) || performance.now() > end) throw error;
      await sleep(20);
    }
  }
};

/** Returns the milliseconds that `work` takes. */
const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now();
  await work();
  return performance.now() - start;
};

describe('a Redis Cluster', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster({ replica: true });
  });
  afterAll(() => cluster.stop());

  const kinds: Kind[] = [
    {
      name: 'Cluster of ioredis',
      connect: () => readyIoredis(new IoredisCluster(cluster.nodes.map(({ port }) => ({ host: '127.0.0.1', port })))),
    },
    {
      name: 'createCluster of node-redis',
      connect: () =>
        readyNodeRedis(
          createCluster({ rootNodes: cluster.nodes.map(({ port }) => ({ url: `redis://127.0.0.1:${port}` })) }),
        ),
    },
  ];

  describe.each(kinds)('$name', ({ connect }) => {
    it('distributes keys over all nodes, and keeps each key on one', async () => {
      const [here, there] = await Promise.all([connect(), connect()]);
      const prefix = freshKey();
      const settings = { concurrency: 1, capacity: 1_000, period: 3_600, prefix, ttl: 60 };
      const gates = [here, there].map((client) => new RedisKeyedThrottle({ client, ...settings }));
      onTestFinished(async () => void (await Promise.all(gates.map((gate) => gate.close()))));
      const running = new Map<string, number>();
      const order: string[] = [];
      await Promise.all(
        Array.from({ length: 300 }, (_, index) => {
          const key = `key ${index % 60}`;
          return (gates[index % 2] as RedisKeyedThrottle).run(key, async () => {
            running.set(key, (running.get(key) ?? 0) + 1);
            expect(running.get(key)).toBe(1);
            await sleep(1);
            order.push(key);
            running.set(key, 0);
          });
        }),
      );
      expect(order).toHaveLength(300);
      const sizes = await Promise.all(
        cluster.nodes
          .slice(0, 3)
          .map(async ({ port }) => ((await sendCommand(port, 'KEYS', `{${prefix}:*`)) as string[]).length),
      );
      expect(Math.min(...sizes)).toBeGreaterThan(0);
    });

    it('grants in order between two clients, and notifies them by message', async () => {
      const clients = await Promise.all([connect(), connect()]);
      const key = freshKey();
      const throttles = clients.map((client) => open(client, key));
      const held = await (throttles[0] as RedisThrottle).acquire();
      const order: number[] = [];
      const all: Promise<void>[] = [];
      for (let index = 0; index < 20; index++) {
        const throttle = throttles[index % 2] as RedisThrottle;
        all.push(later(throttle.run(() => void order.push(index))));
        await until('the place of the waiter', async () => (await throttle.inspect()).waiting.length === index + 1);
      }
      await held.release();
      // A renewal, after a third of the ttl, would take 20 s: so the grant came by message.
      expect(await timed(() => Promise.all(all))).toBeLessThan(3_000);
      expect(order).toEqual(Array.from({ length: 20 }, (_, index) => index));
    });

    it('sends the script to each node that has not cached it', async () => {
      const client = await connect();
      const keys = await Promise.all([0, 1, 2].map((master) => cluster.keyOn(master)));
      const throttles = keys.map((key) => open(client, key));
      await Promise.all(throttles.map((throttle) => throttle.run(() => {})));
      await Promise.all(cluster.nodes.slice(0, 3).map(({ port }) => sendCommand(port, 'SCRIPT', 'FLUSH')));
      expect(await Promise.all(throttles.map((throttle) => throttle.run(() => 'done')))).toEqual([
        'done',
        'done',
        'done',
      ]);
    });

    it('renews after its subscriber was lost', async () => {
      const [here, there] = await Promise.all([connect(), connect()]);
      const key = await cluster.keyOn(2);
      const held = await open(here, key).acquire();
      const waiting = later(open(there, key).acquire());
      await until(
        'both in Redis and both subscribed',
        async () => (await subscribers()) >= 2 && (await open(here, key).inspect()).waiting.length === 1,
      );
      await Promise.all(cluster.nodes.map(({ port }) => sendCommand(port, 'CLIENT', 'KILL', 'TYPE', 'pubsub')));
      // No subscriber receives this message.
      await held.release();
      expect(await timed(() => waiting)).toBeLessThan(3_000);
      (await waiting).release();
    });
  });

  it.each(kinds)('$name: subscriptions of the user stay, and those of headgate end', async ({ connect }) => {
    const client = await connect();
    const emitter = client as unknown as EventEmitter;
    const listeners = (): string[] =>
      emitter
        .eventNames()
        .map((event) => `${String(event)} ${emitter.listenerCount(event)}`)
        .toSorted();
    await until('no other subscriber', async () => (await subscribers()) === 0);
    const before = listeners();
    const throttle = new RedisThrottle({ client, key: await cluster.keyOn(2), concurrency: 1 });
    const held = await throttle.acquire();
    await until('the subscriber', async () => (await subscribers()) === 1);
    held.release();
    await throttle.close();
    await until('no subscriber', async () => (await subscribers()) === 0);
    expect(listeners()).toEqual(before);
  });

  /** The number of subscribers of channels of headgate, on all nodes. */
  const subscribers = async (): Promise<number> => {
    const channels = await Promise.all(
      cluster.nodes.map(async ({ port }) => (await sendCommand(port, 'PUBSUB', 'CHANNELS', 'headgate:*')) as string[]),
    );
    return channels.flat().length;
  };

  it('keeps working while a slot moves to another node', async () => {
    const clients = await Promise.all(kinds.map((kind) => kind.connect()));
    const key = await cluster.keyOn(1);
    const slot = String(await cluster.slotOf(key));
    // A rate has a key of its own, beside the state.
    const throttles = clients.map((client) => open(client, key, { capacity: 1e6 }));
    const held = await (throttles[0] as RedisThrottle).acquire();
    const waiting = later((throttles[1] as RedisThrottle).acquire());
    await until('a waiter', async () => (await (throttles[0] as RedisThrottle).inspect()).waiting.length === 1);
    const [, from, to] = cluster.nodes.map(({ port }) => port) as [number, number, number];
    const [fromId, toId] = (await Promise.all([from, to].map((port) => sendCommand(port, 'CLUSTER', 'MYID')))) as [
      string,
      string,
    ];
    await sendCommand(to, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId);
    await sendCommand(from, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId);
    const keys = (await sendCommand(from, 'CLUSTER', 'GETKEYSINSLOT', slot, '100')) as string[];
    expect(keys.length).toBeGreaterThan(1);
    await sendCommand(from, 'MIGRATE', '127.0.0.1', String(to), '', '0', '5000', 'KEYS', ...keys);
    for (const port of [to, from]) await sendCommand(port, 'CLUSTER', 'SETSLOT', slot, 'NODE', toId);
    expect(held.signal.aborted).toBe(false);
    await held.release();
    const next = await waiting;
    expect(next.slot).toBe(1);
    expect(await (throttles[0] as RedisThrottle).tryAcquire()).toBeUndefined();
    next.release();
    // A closed throttle leaves no owner behind.
    await Promise.all(throttles.map((throttle) => throttle.close()));
    await until('nothing left', async () => (await sendCommand(to, 'CLUSTER', 'COUNTKEYSINSLOT', slot)) === 0);
  });

  it('rejects calls for keys of a dead node in time, serves the other keys, and recovers with the node', async () => {
    const [dead, alive] = await Promise.all([cluster.keyOn(1), cluster.keyOn(2)]);
    const node = cluster.nodes[1] as Cluster['nodes'][number];
    const setups = await Promise.all(
      kinds.map(async ({ connect }) => {
        const [here, there] = await Promise.all([connect(), connect()]);
        const stricken = open(here, dead, { concurrency: 4 });

        return { stricken, holder: await stricken.acquire(), spared: open(there, alive, { concurrency: 4 }) };
      }),
    );
    await node.kill();
    await Promise.all(
      setups.map(async ({ stricken, spared }) => {
        expect(await timed(() => expect(stricken.acquire()).rejects.toThrow(ThrottleBackendError))).toBeLessThan(2_500);
        expect(await spared.run(() => 'done')).toBe('done');
      }),
    );
    await node.start();
    // The node has lost its data. A call before the holders have restored their leases could get one of their slots.
    const [{ stricken: observer }] = setups as [(typeof setups)[0]];
    const restored = async (): Promise<boolean> =>
      observer.inspect().then(
        ({ active }) => active.length === setups.length,
        () => false,
      );
    await until('the leases are restored', restored, RECOVERY);
    await Promise.all(
      setups.map(async ({ stricken, holder }) => {
        const again = await persist(stricken);
        expect(holder.signal.aborted).toBe(false);
        again.release();
        holder.release();
      }),
    );
  });

  it('continues after a replica takes over: holders keep their permits, waiters their order', async () => {
    const master = cluster.nodes[0] as Cluster['nodes'][number];
    const successor = cluster.nodes[3] as Cluster['nodes'][number];
    const setups = await Promise.all(
      kinds.map(async ({ connect }) => {
        const [here, there] = await Promise.all([connect(), connect()]);
        return queueUp(await cluster.keyOn(0), here, there);
      }),
    );
    await until('a replica that has it all', async () => (await sendCommand(master.port, 'WAIT', '1', '1000')) === 1);
    await master.kill();
    await until('a successor', async () => String(await sendCommand(successor.port, 'ROLE')).startsWith('master'));
    await Promise.all(setups.map((setup) => setup.verify()));
  });
});

/** Starts one holder and several waiters in a known order, on two clients. Returns the checks after a failover. */
async function queueUp(
  key: string,
  here: RedisConnection,
  there: RedisConnection,
): Promise<{ verify(): Promise<void> }> {
  const throttles = [
    open(here, key, { concurrency: 2, ttl: 20 }),
    open(there, key, { concurrency: 2, ttl: 20 }),
  ] as const;
  const held = await Promise.all([throttles[0].acquire(), throttles[1].acquire()]);
  expect(new Set(held.map(({ slot }) => slot))).toEqual(new Set([1, 2]));
  const order: number[] = [];
  let running = 2;
  let most = 0;
  const waiting: Promise<void>[] = [];
  for (let index = 0; index < 6; index++) {
    const throttle = throttles[index % 2] as RedisThrottle;
    waiting.push(
      later(
        throttle.run(async () => {
          order.push(index);
          most = Math.max(most, ++running);
          await sleep(30);
          running--;
        }),
      ),
    );
    await until('the place of the waiter', async () => (await throttle.inspect()).waiting.length === index + 1);
  }
  return {
    async verify() {
      // The failover has granted no permit.
      await sleep(300);
      expect(order).toEqual([]);
      expect(held.map(({ signal }) => signal.aborted)).toEqual([false, false]);
      await until(
        'the same object sends the command again',
        () =>
          throttles[0].inspect().then(
            ({ active }) => active.length === 2,
            () => false,
          ),
        RECOVERY,
      );
      // One free slot grants the waiters one by one.
      running--;
      await held[1].release();
      expect(await timed(() => Promise.all(waiting))).toBeLessThan(RECOVERY * 1_000);
      expect(order).toEqual([0, 1, 2, 3, 4, 5]);
      expect(most).toBe(2);
      await held[0].release();
      await Promise.all(throttles.map((throttle) => throttle.idle()));
      const { active, waiting: left } = await throttles[1].inspect();
      expect([active, left]).toEqual([[], []]);
    },
  };
}

describe('sentinels', () => {
  let sentinels: Sentinels;
  beforeAll(async () => {
    sentinels = await startSentinels();
  });
  afterAll(() => sentinels.stop());

  const kinds: Kind[] = [
    {
      name: 'ioredis',
      connect: () => readyIoredis(new Redis({ sentinels: sentinels.sentinels, name: sentinels.name })),
    },
    {
      name: 'createSentinel of node-redis',
      connect: () => readyNodeRedis(createSentinel({ name: sentinels.name, sentinelRootNodes: sentinels.sentinels })),
    },
  ];

  it.each(kinds)('$name: a release on one client grants a waiter on the other by message', async ({ connect }) => {
    const [here, there] = await Promise.all([connect(), connect()]);
    const key = freshKey();
    const held = await open(here, key).acquire();
    const throttle = open(there, key);
    const waiting = later(throttle.acquire());
    await until('a waiter', async () => (await throttle.inspect()).waiting.length === 1);
    await held.release();
    expect(await timed(() => waiting)).toBeLessThan(2_000);
    (await waiting).release();
  });

  it('createSentinel of node-redis: subscriptions of the user stay, and those of headgate end', async () => {
    const client = createSentinel({ name: sentinels.name, sentinelRootNodes: sentinels.sentinels });
    onTestFinished(() => client.destroy());
    await client.connect();
    const received: string[] = [];
    await client.subscribe('mine', (message) => void received.push(message));
    const { port } = sentinels.master;
    const ours = async (): Promise<number> =>
      ((await sendCommand(port, 'PUBSUB', 'CHANNELS', 'headgate:*')) as string[]).length;
    await until('no other subscriber', async () => (await ours()) === 0);
    const throttle = new RedisThrottle({ client, key: freshKey(), concurrency: 1 });
    const held = await throttle.acquire();
    await until('the subscription', async () => (await ours()) === 1);
    held.release();
    await throttle.close();
    await until('the end of it', async () => (await ours()) === 0);
    await sendCommand(port, 'PUBLISH', 'mine', 'still here');
    await until('a message', () => received.length === 1);
    expect(client.eventNames()).toEqual([]);
  });

  it('after a failover, holders keep their permits and waiters their order', async () => {
    const { master } = sentinels;
    const setups = await Promise.all(
      kinds.map(async ({ connect }) => {
        const [here, there] = await Promise.all([connect(), connect()]);
        return { queue: await queueUp(freshKey(), here, there), here, there };
      }),
    );
    await until('a replica that has it all', async () => (await sendCommand(master.port, 'WAIT', '1', '1000')) === 1);
    await master.kill();
    await sentinels.promoted();
    // The new master has not cached the script.
    await Promise.all(setups.map(({ queue }) => queue.verify()));
    // Messages of the new master arrive.
    await Promise.all(
      setups.map(async ({ here, there }) => {
        const key = freshKey();
        const held = await persist(open(here, key));
        const throttle = open(there, key);
        const waiting = later(throttle.acquire());
        await until('a waiter', async () => (await throttle.inspect()).waiting.length === 1);
        await held.release();
        expect(await timed(() => waiting)).toBeLessThan(2_000);
        (await waiting).release();
      }),
    );
  });
});
