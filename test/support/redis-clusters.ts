/** Starts minimal Redis Clusters and sentinels for tests. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { endProcess, removePath, temporaryFolder } from './processes.js';
import { launch, onFreePort, type RedisServer, startRedis } from './redis-server.js';
import { until } from '../redis/support.js';

/** Sends one command to a server. */
export async function sendCommand(port: number, ...words: string[]): Promise<unknown> {
  const client = new Redis({ port, host: '127.0.0.1', lazyConnect: true, retryStrategy: () => null });
  client.on('error', () => {});
  try {
    return await client.call(words[0] as string, ...words.slice(1));
  } finally {
    client.disconnect();
  }
}

const LAST_SLOT = 16_383;

/** Seconds within which servers must find each other and agree, on a busy machine. */
const AGREE_SECONDS = 60;

/** The servers and folders of a start. A failed start ends all of them, and so does `stop`. */
class Started {
  readonly #ends: (() => unknown)[] = [];

  add<T>(thing: T, end: (thing: T) => unknown): T {
    this.#ends.push(() => end(thing));
    return thing;
  }

  /** Starts several servers in parallel. */
  async servers(starts: readonly (() => Promise<RedisServer>)[]): Promise<RedisServer[]> {
    // Every start must settle first: a later server would be left running.
    const results = await Promise.allSettled(
      starts.map((start) => start().then((server) => this.add(server, () => server.stop()))),
    );
    return results.map((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    });
  }

  async end(): Promise<void> {
    for (const end of this.#ends.splice(0).toReversed()) await end();
  }
}

async function allOrNothing<T>(start: (started: Started) => Promise<T>): Promise<T> {
  const started = new Started();
  try {
    return await start(started);
  } catch (error) {
    await started.end();
    throw error;
  }
}

export interface Cluster {
  /** The masters, and then the replica, if any. */
  readonly nodes: readonly RedisServer[];
  /** Returns a key whose throttle is on the master with this index. */
  keyOn(master: number): Promise<string>;
  /** Returns the hash slot of the throttle with a key. */
  slotOf(key: string): Promise<number>;
  stop(): Promise<void>;
}

/** Starts a cluster of three masters and waits until it is ready. With `replica`, the first master gets a replica. */
export const startCluster = ({ replica = false }: { replica?: boolean } = {}): Promise<Cluster> =>
  allOrNothing((started) => formCluster(started, replica));

async function formCluster(started: Started, replica: boolean): Promise<Cluster> {
  const buses: string[] = [];
  const start = (): Promise<RedisServer> =>
    onFreePort(async (bus) => {
      const server = await startRedis({
        'cluster-enabled': 'yes',
        'cluster-node-timeout': '700',
        'cluster-port': String(bus),
        // The other nodes keep working without a dead node.
        'cluster-require-full-coverage': 'no',
        'repl-diskless-sync-delay': '0',
        'cluster-replica-validity-factor': '0',
      });
      buses[server.port] = String(bus);
      return server;
    });
  const nodes = await started.servers(Array.from({ length: replica ? 4 : 3 }, () => start));
  const first = (nodes[0] as RedisServer).port;
  const edges = [0, 5_461, 10_923, LAST_SLOT + 1];
  await Promise.all(
    nodes.map(async ({ port }, index) => {
      await sendCommand(port, 'CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
      if (index < 3)
        await sendCommand(
          port,
          'CLUSTER',
          'ADDSLOTSRANGE',
          String(edges[index]),
          String((edges[index + 1] as number) - 1),
        );
      if (index > 0) await sendCommand(port, 'CLUSTER', 'MEET', '127.0.0.1', String(first), buses[first] as string);
    }),
  );
  const infoHas = async (port: number, ...words: string[]): Promise<boolean> => {
    const info = String(await sendCommand(port, 'CLUSTER', 'INFO'));
    return words.every((word) => info.includes(`${word}\r`));
  };
  for (const { port } of nodes)
    await until(
      'a cluster that is whole',
      () => infoHas(port, 'cluster_state:ok', `cluster_known_nodes:${nodes.length}`, 'cluster_size:3'),
      AGREE_SECONDS,
    );
  const last = nodes[3];
  if (last !== undefined) {
    const id = String(await sendCommand(first, 'CLUSTER', 'MYID'));
    await until(
      'a replica',
      async () => (await sendCommand(last.port, 'CLUSTER', 'REPLICATE', id).catch(() => '')) === 'OK',
      AGREE_SECONDS,
    );
    await until(
      'a replica that is in step',
      async () => String(await sendCommand(last.port, 'INFO', 'replication')).includes('master_link_status:up'),
      AGREE_SECONDS,
    );
    // All masters must know the replica before they can vote for it.
    for (const { port } of nodes)
      await until(
        'a replica that is known',
        async () => String(await sendCommand(port, 'CLUSTER', 'NODES')).includes(`slave ${id}`),
        AGREE_SECONDS,
      );
  }
  const slotOf = async (key: string): Promise<number> =>
    Number(await sendCommand(first, 'CLUSTER', 'KEYSLOT', `{headgate:${key}}`));
  return {
    nodes,
    slotOf,
    async keyOn(master) {
      for (;;) {
        const key = crypto.randomUUID();
        const slot = await slotOf(key);
        if (slot >= (edges[master] as number) && slot < (edges[master + 1] as number)) return key;
      }
    },
    stop: () => started.end(),
  };
}

export interface Sentinels {
  /** The name of the master in the sentinels. */
  readonly name: string;
  readonly sentinels: { host: string; port: number }[];
  readonly master: RedisServer;
  readonly replica: RedisServer;
  /** Resolves when the replica has become the master. */
  promoted(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a master, its replica and a sentinel. The sentinel replaces a dead master by the replica within seconds. */
export const startSentinels = (): Promise<Sentinels> =>
  allOrNothing(async (started) => {
    const name = 'main';
    const settings = { 'repl-diskless-sync-delay': '0', 'repl-ping-replica-period': '1' };
    const start = async (more: Record<string, string>): Promise<RedisServer> =>
      (await started.servers([() => startRedis({ ...settings, ...more })]))[0] as RedisServer;
    const master = await start({});
    const replica = await start({ replicaof: `127.0.0.1 ${master.port}` });
    const replication = async (): Promise<string> => String(await sendCommand(replica.port, 'INFO', 'replication'));
    await until(
      'a replica that is in step',
      async () => (await replication()).includes('master_link_status:up'),
      AGREE_SECONDS,
    );
    const folder = started.add(temporaryFolder('headgate-sentinel-'), removePath);
    const port = await onFreePort(async (free) => {
      const file = join(folder, 'sentinel.conf');
      writeFileSync(
        file,
        [
          `port ${free}`,
          'bind 127.0.0.1',
          `dir ${folder}`,
          `sentinel monitor ${name} 127.0.0.1 ${master.port} 1`,
          `sentinel down-after-milliseconds ${name} 300`,
          `sentinel failover-timeout ${name} 2000`,
          '',
        ].join('\n'),
      );
      // `redis-sentinel` is a separate package on Debian, so `redis-server --sentinel` runs instead.
      started.add(await launch([file, '--sentinel'], 'Sentinel ID is'), endProcess);
      return free;
    });
    await until(
      'a sentinel that knows the replica',
      async () => ((await sendCommand(port, 'SENTINEL', 'REPLICAS', name).catch(() => [])) as unknown[]).length === 1,
      AGREE_SECONDS,
    );
    return {
      name,
      sentinels: [{ host: '127.0.0.1', port }],
      master,
      replica,
      // The server closes its connections when its role changes, so a failed command is ignored.
      promoted: () => until('a new master', async () => (await replication().catch(() => '')).includes('role:master')),
      stop: () => started.end(),
    };
  });
