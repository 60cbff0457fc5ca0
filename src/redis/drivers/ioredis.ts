/** The driver for clients of ioredis: `Redis` and `Cluster`. */
import type { IoredisClient } from '../client.js';
import { type Driver, type Emitter, ignore, type Listening, listenTo, type Receiver } from './driver.js';
import { hashSlot } from './hash-slot.js';
import { keepSubscribed, type Subscription } from './subscription.js';

interface IoredisNode extends Emitter {
  duplicate(options: object): IoredisNode;
  subscribe(channel: string): Promise<unknown>;
  ping(): Promise<unknown>;
  disconnect(): void;
  readonly status: string;
  readonly options?: { readonly host?: string; readonly port?: number };
  readonly stream?: { unref?(): void };
}

interface IoredisCluster extends IoredisClient, Emitter {
  nodes(): IoredisNode[];
  /** The addresses of the nodes of each hash slot, the master first. Not a documented property of ioredis. */
  readonly slots?: readonly (readonly string[] | undefined)[];
  readonly options?: { readonly keyPrefix?: string };
}

export function ioredisDriver(client: IoredisClient): Driver {
  let listening: Listening | undefined;
  const cluster = 'nodes' in client ? (client as IoredisCluster) : undefined;
  const driver: Driver = {
    prepare: (script) => script.prepare(),
    run: (script, keys, args, inFull) =>
      inFull || script.sha === ''
        ? client.eval(script.source, keys.length, ...keys, ...args)
        : client.evalsha(script.sha, keys.length, ...keys, ...args),
    listen(channel, receiver) {
      listening = keepSubscribed((onLost, key) => subscribe(client, channel, receiver, onLost, key), receiver);
      return listening;
    },
    close: () => listening?.stop(),
  };
  if (cluster !== undefined) driver.nodeOf = (key) => nodeOf(cluster, key);
  return driver;
}

const nodeOf = (cluster: IoredisCluster, key: string): string | undefined =>
  cluster.slots?.[hashSlot((cluster.options?.keyPrefix ?? '') + key)]?.[0];

/** Subscribes on a client of its own for the messages. */
function subscribe(
  client: IoredisClient,
  channel: string,
  receiver: Receiver,
  onLost: () => void,
  key: string | undefined,
): Subscription {
  const cluster = 'nodes' in client ? (client as IoredisCluster) : undefined;
  const node = cluster === undefined ? (client as IoredisClient & IoredisNode) : chooseNode(cluster, key);
  if (node === undefined) throw new Error('the cluster has no nodes yet');
  const subscriber = node.duplicate({ retryStrategy: null, enableOfflineQueue: true });
  subscriber.on('error', ignore);
  subscriber.on('connect', () => subscriber.stream?.unref?.());
  subscriber.on('end', onLost);
  subscriber.on('message', (from, message) => {
    if (from === channel) receiver.onMessage(message);
  });
  const removeListeners = cluster === undefined ? ignore : listenTo(cluster, ['-node'], onLost);
  const end = (): void => {
    removeListeners();
    // `disconnect` on an ended client would connect it again, and keep the process alive.
    if (subscriber.status !== 'end') subscriber.disconnect();
  };
  return { started: subscriber.subscribe(channel), end, ping: () => subscriber.ping() };
}

/**
 * Every node of a cluster delivers the messages that are published on any node. The node that runs the script of a key
 * is preferred: while this node fails, there are no messages of the key to miss.
 */
function chooseNode(cluster: IoredisCluster, key: string | undefined): IoredisNode | undefined {
  const nodes = cluster.nodes();
  const address = key === undefined ? undefined : nodeOf(cluster, key);
  return (
    nodes.find(({ options }) => address !== undefined && `${options?.host}:${options?.port}` === address) ??
    nodes[Math.floor(Math.random() * nodes.length)]
  );
}
