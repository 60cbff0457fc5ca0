/** The driver for clients of node-redis, the package `redis`: single, pool, cluster and sentinel. */
import type { NodeRedisClient, NodeRedisPool } from '../client.js';
import { type Driver, type Emitter, ignore, type Listening, listenTo, type Receiver } from './driver.js';
import { hashSlot } from './hash-slot.js';
import { keepSubscribed, type Subscribe, type Subscription } from './subscription.js';

export interface NodeRedisNode extends NodeRedisClient {
  duplicate(): NodeRedisNode;
  connect(): Promise<unknown>;
  ping(): Promise<unknown>;
  unref(): void;
  destroy(): void;
  readonly isOpen: boolean;
}

interface NodeRedisCluster extends NodeRedisClient, Emitter {
  getRandomNode(): unknown;
  nodeClient(node: unknown): Promise<NodeRedisNode>;
  readonly slots?: readonly ({ readonly master?: { readonly address?: string } } | undefined)[];
}

interface NodeRedisSentinel extends NodeRedisClient, Emitter {
  unsubscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
  readonly isOpen: boolean;
}

export function nodeRedisDriver(client: NodeRedisClient | NodeRedisPool): Driver {
  const run = runWith(client);
  let listening: Listening | undefined;
  const driver: Driver = {
    prepare: (script) => script.prepare(),
    run,
    listen(channel, receiver) {
      listening = keepSubscribed(createSubscribe(client, channel, receiver), receiver);
      return listening;
    },
    close: () => listening?.stop(),
  };
  if ('nodeClient' in client) driver.nodeOf = (key) => masterOf(client as NodeRedisCluster, key)?.address;
  return driver;
}

/** Creates the function that runs scripts through `client`. */
function runWith(client: NodeRedisClient | NodeRedisPool): Driver['run'] {
  // An empty type mapping makes replies plain strings, even if the user has chosen another mapping.
  const plain = (client as { withTypeMapping?(mapping: object): NodeRedisClient }).withTypeMapping?.({}) ?? client;
  return (script, keys, args, inFull) =>
    inFull || script.sha === ''
      ? plain.eval(script.source, { keys, arguments: args })
      : plain.evalSha(script.sha, { keys, arguments: args });
}

const masterOf = (cluster: NodeRedisCluster, key: string): { readonly address?: string } | undefined =>
  cluster.slots?.[hashSlot(key)]?.master;

/** Creates the function that subscribes through `client`: each kind of client has its own way. */
export function createSubscribe(
  client: NodeRedisClient | NodeRedisPool,
  channel: string,
  receiver: Receiver,
): Subscribe {
  if ('unref' in client)
    return (onLost) => subscribeOn((client as NodeRedisNode).duplicate(), channel, receiver, ignore, onLost);
  if ('execute' in client)
    return async (onLost) => {
      const subscriber = (await client.execute((node) => node.duplicate())) as NodeRedisNode;
      return subscribeOn(subscriber, channel, receiver, ignore, onLost);
    };
  if ('nodeClient' in client) {
    // Every node of a cluster delivers the messages that are published on any node. The node that runs the script of a
    // key is preferred: while this node fails, there are no messages of the key to miss.
    const cluster = client as NodeRedisCluster;
    return async (onLost, key) => {
      const node = (key === undefined ? undefined : masterOf(cluster, key)) ?? cluster.getRandomNode();
      const subscriber = (await cluster.nodeClient(node)).duplicate();
      const removeListeners = listenTo(cluster, ['node-disconnect'], onLost);
      return subscribeOn(subscriber, channel, receiver, removeListeners, onLost);
    };
  }
  return subscribeOnSentinel(client as NodeRedisSentinel, channel, receiver);
}

/** Subscribes on `subscriber`, a client of its own for the messages. */
function subscribeOn(
  subscriber: NodeRedisNode,
  channel: string,
  receiver: Receiver,
  removeListeners: () => void,
  onLost: () => void,
): Subscription {
  const destroy = destroyer(subscriber);
  const end = (): void => {
    removeListeners();
    destroy();
  };
  subscriber.unref();
  subscriber.on('error', onLost);
  return {
    started: subscriber.connect().then(() => subscriber.subscribe(channel, (message) => receiver.onMessage(message))),
    end,
    ping: () => subscriber.ping(),
  };
}

/**
 * Creates a function that destroys `client`. `destroy` does not stop a client that is connecting, so the client is
 * destroyed again when it is ready.
 */
export function destroyer(client: NodeRedisNode): () => void {
  let ended = false;
  const destroy = (): void => {
    ended = true;
    try {
      client.destroy();
    } catch {
      // The client has been destroyed before.
    }
  };
  client.on('ready', () => {
    if (ended) destroy();
  });
  return destroy;
}

/**
 * A sentinel client moves its subscriptions to each new master by itself, without an event. Another call of `subscribe`
 * resolves when the subscription exists.
 */
function subscribeOnSentinel(sentinel: NodeRedisSentinel, channel: string, receiver: Receiver): Subscribe {
  const listener = (message: string): void => receiver.onMessage(message);
  return (onLost) => {
    if (!sentinel.isOpen) throw new Error('the client is not connected');
    const removeListeners = listenTo(
      sentinel,
      ['topology-change', 'ready'],
      () => void sentinel.subscribe(channel, listener).then(() => receiver.onStart(), onLost),
    );
    const end = (): void => {
      removeListeners();
      // `unsubscribe` on a closed client would connect it again.
      if (sentinel.isOpen) sentinel.unsubscribe(channel, listener).catch(ignore);
    };
    return { started: sentinel.subscribe(channel, listener), end };
  };
}
