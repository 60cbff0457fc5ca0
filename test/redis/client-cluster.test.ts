/** A shared connection on a Redis Cluster: each node fails for its own keys only (FAULTS 56, 62). */
import { Cluster as IoredisCluster } from 'ioredis';
import { type RedisConnection, RedisThrottle } from 'headgate/redis';
import { createCluster } from 'redis';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { SharedConnection } from '../../src/redis/shared-connection.js';
import { type Cluster, sendCommand, startCluster } from '../support/redis-clusters.js';
import { call, clock, outcome, receive, retained } from './connection-support.js';
import { freshKey, readyIoredis, readyNodeRedis, sleep, until } from './support.js';

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster();
});
afterAll(() => cluster.stop());

const kinds: [string, () => Promise<RedisConnection>][] = [
  [
    'Cluster of ioredis',
    () => readyIoredis(new IoredisCluster(cluster.nodes.map(({ port }) => ({ host: '127.0.0.1', port })))),
  ],
  [
    'createCluster of node-redis',
    () =>
      readyNodeRedis(
        createCluster({ rootNodes: cluster.nodes.map(({ port }) => ({ url: `redis://127.0.0.1:${port}` })) }),
      ),
  ],
];

/** The indices of the nodes on which `channel` has subscribers. */
const subscribedNodes = async (channel: string): Promise<number[]> => {
  const counts = await Promise.all(
    cluster.nodes.map(async ({ port }) => (await sendCommand(port, 'PUBSUB', 'NUMSUB', channel)) as unknown[]),
  );
  return counts.flatMap(([, count], index) => (Number(count) > 0 ? [index] : []));
};

/** Suspends a node as an unreachable host, until the end of the test. Returns a function that resumes it. */
const hang = async (node: number): Promise<() => void> => {
  const { port } = cluster.nodes[node] as Cluster['nodes'][number];
  const pid = Number(/process_id:(\d+)/.exec(String(await sendCommand(port, 'INFO', 'server')))?.[1]);
  let hung: boolean = process.kill(pid, 'SIGSTOP');
  const resume = (): void => {
    if (hung) process.kill(pid, 'SIGCONT');
    hung = false;
  };
  onTestFinished(resume);
  return resume;
};

const isDown = (connection: SharedConnection, key: string): boolean => connection.isDown(key, clock.now(), () => {});

describe.each(kinds)('%s', (_, connect) => {
  test('the subscription prefers the node of the latest key (FAULTS 56)', async () => {
    const keys = await Promise.all([0, 1, 2].map(async (master) => `{headgate:${await cluster.keyOn(master)}}`));
    for (const [first, then] of [
      [0, 2],
      [1, 0],
      [2, 1],
    ] as const) {
      const connection = retained(await connect());
      const received = receive(connection);
      await call(connection, 'x', { key: keys[first] as string });
      await until('the subscription', () => received.reconciled === 1);
      expect(await subscribedNodes(received.channel)).toEqual([first]);
      // The node hangs, the waiters of another node learn of their grants by replies only.
      await call(connection, 'x', { key: keys[then] as string });
      await sleep(1_000);
      connection.distrustMessages();
      await until('another subscription', () => received.reconciled === 2);
      await until('the other node', async () => String(await subscribedNodes(received.channel)) === String(then));
    }
  });

  test('a frozen node concerns its own keys only, also under load (FAULTS 62, 67)', async () => {
    const [frozen, healthy] = (await Promise.all(
      [1, 2].map(async (master) => `{headgate:${await cluster.keyOn(master)}}`),
    )) as [string, string];
    const connection = retained(await connect());
    await Promise.all([frozen, healthy].map((key) => call(connection, 'x', { key })));
    const resume = await hang(1);
    const lost = Array.from({ length: 1_000 }, () => outcome(call(connection, 'x', { key: frozen, timeout: 0.3 })));
    const start = performance.now();
    expect(await call(connection, 'works', { key: healthy, timeout: 0.3 })).toBe('works');
    expect(performance.now() - start).toBeLessThan(250);
    expect(new Set(await Promise.all(lost))).toEqual(new Set(['Error: no reply within 0.3 s']));
    expect([isDown(connection, frozen), isDown(connection, healthy)]).toEqual([true, false]);
    resume();
    await until('it works again', async () => (await outcome(call(connection, 'back', { key: frozen }))) === 'back');
    expect(isDown(connection, frozen)).toBe(false);
  });

  test('failOpen: keys of the other nodes stay in Redis (FAULTS 62)', async () => {
    const client = await connect();
    const open = async (master: number): Promise<RedisThrottle> => {
      const key = await cluster.keyOn(master);
      const throttle = new RedisThrottle({ client, key, concurrency: 2, failOpen: true, commandTimeout: 0.3 });
      onTestFinished(() => throttle.close());
      return throttle;
    };
    const [stricken, spared] = await Promise.all([open(0), open(2)]);
    for (const throttle of [stricken, spared]) expect(await throttle.run(({ slot }) => slot)).toBe(1);
    const resume = await hang(0);
    for (let round = 0; round < 20; round++) {
      expect(await stricken.run(({ slot }) => slot)).toBe(0);
      expect(await spared.run(({ slot }) => slot)).toBe(1);
      await sleep(50);
    }
    resume();
    await until('Redis is used again', () => stricken.run(({ slot }) => slot > 0));
  });
});

test.each(kinds)('%s without the table of slots has one queue, and subscribes anywhere', async (_, connect) => {
  const client = new Proxy((await connect()) as RedisConnection & Record<PropertyKey, unknown>, {
    get(target, name) {
      const value = name === 'slots' ? undefined : target[name];
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const connection = retained(client);
  const received = receive(connection);
  expect(await call(connection, 'works', { key: `{${freshKey()}}` })).toBe('works');
  await until('the subscription', () => received.reconciled === 1);
});
