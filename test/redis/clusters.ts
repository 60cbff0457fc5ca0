/** Redis Clusters and sentinels of the tests' own, as small as they can be. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { freePort, type RedisServer, startRedis } from './server.js';
import { until } from './support.js';

/** Sends one command to one server. */
export async function ask(port: number, ...words: string[]): Promise<unknown> {
  const client = new Redis({ port, host: '127.0.0.1', lazyConnect: true, retryStrategy: () => null });
  client.on('error', () => {});
  try {
    return await client.call(words[0] as string, ...words.slice(1));
  } finally {
    client.disconnect();
  }
}

const LAST_SLOT = 16_383;

export interface Cluster {
  /** The masters; where a replica was asked for, it comes last. */
  readonly nodes: readonly RedisServer[];
  /** A key whose throttle is kept on the master of that index. */
  keyOn(master: number): Promise<string>;
  /** The slot of a key's throttle. */
  slotOf(key: string): Promise<number>;
  stop(): Promise<void>;
}

/** Starts a cluster of three masters, the first of them with a replica if that is wanted, and waits until all is well. */
export async function startCluster({ replica = false }: { replica?: boolean } = {}): Promise<Cluster> {
  const buses: string[] = [];
  const start = async (): Promise<RedisServer> => {
    const bus = String(await freePort());
    const server = await startRedis({
      'cluster-enabled': 'yes', 'cluster-node-timeout': '700', 'cluster-port': bus,
      // The death of a node is no concern of the others.
      'cluster-require-full-coverage': 'no', 'repl-diskless-sync-delay': '0', 'cluster-replica-validity-factor': '0',
    });
    buses[server.port] = bus;
    return server;
  };
  const nodes = await Promise.all(Array.from({ length: replica ? 4 : 3 }, start));
  const first = (nodes[0] as RedisServer).port;
  const edges = [0, 5_461, 10_923, LAST_SLOT + 1];
  await Promise.all(nodes.map(async ({ port }, index) => {
    await ask(port, 'CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
    if (index < 3) await ask(port, 'CLUSTER', 'ADDSLOTSRANGE', String(edges[index]), String((edges[index + 1] as number) - 1));
    if (index > 0) await ask(port, 'CLUSTER', 'MEET', '127.0.0.1', String(first), buses[first] as string);
  }));
  const says = async (port: number, ...words: string[]): Promise<boolean> => {
    const info = String(await ask(port, 'CLUSTER', 'INFO'));
    return words.every((word) => info.includes(`${word}\r`));
  };
  for (const { port } of nodes) await until('a cluster that is whole', () => says(port, 'cluster_state:ok', `cluster_known_nodes:${nodes.length}`, 'cluster_size:3'));
  const last = nodes[3];
  if (last !== undefined) {
    const id = String(await ask(first, 'CLUSTER', 'MYID'));
    await until('a replica', async () => (await ask(last.port, 'CLUSTER', 'REPLICATE', id).catch(() => '')) === 'OK');
    await until('a replica that is in step', async () => String(await ask(last.port, 'INFO', 'replication')).includes('master_link_status:up'));
    // All have to know of it, or else nobody votes for it.
    for (const { port } of nodes) await until('a replica that is known', async () => String(await ask(port, 'CLUSTER', 'NODES')).includes(`slave ${id}`));
  }
  const slotOf = async (key: string): Promise<number> => Number(await ask(first, 'CLUSTER', 'KEYSLOT', `{headgate:${key}}`));
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
    stop: async () => void (await Promise.all(nodes.map((node) => node.stop()))),
  };
}

export interface Sentinels {
  /** What they call the master. */
  readonly name: string;
  readonly sentinels: { host: string; port: number }[];
  readonly master: RedisServer;
  readonly replica: RedisServer;
  /** Resolves once the replica has become the master. */
  promoted(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a master, its replica and a sentinel that replaces the former by the latter within a few seconds. */
export async function startSentinels(): Promise<Sentinels> {
  const name = 'main';
  const settings = { 'repl-diskless-sync-delay': '0', 'repl-ping-replica-period': '1' };
  const master = await startRedis(settings);
  const replica = await startRedis({ ...settings, replicaof: `127.0.0.1 ${master.port}` });
  const replication = async (): Promise<string> => String(await ask(replica.port, 'INFO', 'replication'));
  await until('a replica that is in step', async () => (await replication()).includes('master_link_status:up'));
  const folder = mkdtempSync(join(tmpdir(), 'headgate-sentinel-'));
  const port = await freePort();
  const file = join(folder, 'sentinel.conf');
  writeFileSync(file, [
    `port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, `sentinel monitor ${name} 127.0.0.1 ${master.port} 1`,
    `sentinel down-after-milliseconds ${name} 300`, `sentinel failover-timeout ${name} 2000`, '',
  ].join('\n'));
  const child = spawn('redis-sentinel', [file], { stdio: 'ignore' });
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  await until('a sentinel that knows the replica', async () => ((await ask(port, 'SENTINEL', 'REPLICAS', name).catch(() => [])) as unknown[]).length === 1);
  return {
    name,
    sentinels: [{ host: '127.0.0.1', port }],
    master,
    replica,
    // Its connections are cut when it changes its role.
    promoted: () => until('a new master', async () => (await replication().catch(() => '')).includes('role:master')),
    async stop() {
      const ended = new Promise((resolve) => void child.once('exit', resolve));
      kill();
      await ended;
      process.off('exit', kill);
      rmSync(folder, { recursive: true, force: true });
      await Promise.all([master.stop(), replica.stop()]);
    },
  };
}
