/** The driver for clients of node-redis, the package `redis`: single, pool, cluster and sentinel. */
import type { NodeRedisClient, NodeRedisPool } from '../client.js';
import { type Driver, type Emitter, ignore, type Listener, listenTo } from './driver.js';
import { keepSubscribed, type Subscribe, type Subscription } from './subscription.js';

export interface NodeRedisNode extends NodeRedisClient {
  duplicate(): NodeRedisNode;
  connect(): Promise<unknown>;
  unref(): void;
  destroy(): void;
  readonly isOpen: boolean;
}

interface NodeRedisCluster extends NodeRedisClient, Emitter {
  getRandomNode(): unknown;
  nodeClient(node: unknown): Promise<NodeRedisNode>;
}

interface NodeRedisSentinel extends NodeRedisClient, Emitter {
  unsubscribe(channel: string, listener: Listener): Promise<unknown>;
  readonly isOpen: boolean;
}

export function nodeRedisDriver(client: NodeRedisClient | NodeRedisPool): Driver {
  // An empty type mapping makes replies plain strings, even if the user has chosen another mapping.
  const plain = (client as { withTypeMapping?(mapping: object): NodeRedisClient }).withTypeMapping?.({}) ?? client;
  let stop = ignore;
  return {
    run: (script, keys, args) =>
      script.evaluate(
        (sha) => plain.evalSha(sha, { keys, arguments: args }),
        () => plain.eval(script.source, { keys, arguments: args }),
      ),
    listen(channel, listener, onGap) {
      stop = keepSubscribed(createSubscribe(client, channel, listener, onGap), onGap);
    },
    close: () => stop(),
  };
}

/** Creates the function that subscribes through `client`: each kind of client has its own way. */
export function createSubscribe(
  client: NodeRedisClient | NodeRedisPool,
  channel: string,
  listener: Listener,
  onGap: () => void,
): Subscribe {
  if ('unref' in client)
    return (onLost) => subscribeOn((client as NodeRedisNode).duplicate(), channel, listener, ignore, onLost);
  if ('execute' in client)
    return async (onLost) => {
      const subscriber = (await client.execute((node) => node.duplicate())) as NodeRedisNode;
      return subscribeOn(subscriber, channel, listener, ignore, onLost);
    };
  if ('nodeClient' in client) {
    // Every node of a cluster delivers the messages that are published on any node.
    const cluster = client as NodeRedisCluster;
    return async (onLost) => {
      const subscriber = (await cluster.nodeClient(cluster.getRandomNode())).duplicate();
      const removeListeners = listenTo(cluster, ['node-disconnect'], onLost);
      return subscribeOn(subscriber, channel, listener, removeListeners, onLost);
    };
  }
  return subscribeOnSentinel(client as NodeRedisSentinel, channel, listener, onGap);
}

/** Subscribes on `subscriber`, a client of its own for the messages. */
function subscribeOn(
  subscriber: NodeRedisNode,
  channel: string,
  listener: Listener,
  removeListeners: () => void,
  onLost: () => void,
): Subscription {
  let ended = false;
  const end = (): void => {
    ended = true;
    removeListeners();
    try {
      subscriber.destroy();
    } catch {
      // The client has been destroyed before.
    }
  };
  subscriber.unref();
  subscriber.on('error', onLost);
  // `destroy` does not stop a client that is connecting, so it is destroyed again when it is ready.
  subscriber.on('ready', () => {
    if (ended) end();
  });
  return { started: subscriber.connect().then(() => subscriber.subscribe(channel, listener)), end };
}

/**
 * A sentinel client moves its subscriptions to each new master by itself, without an event. Another call of `subscribe`
 * resolves when the subscription exists.
 */
function subscribeOnSentinel(
  sentinel: NodeRedisSentinel,
  channel: string,
  listener: Listener,
  onGap: () => void,
): Subscribe {
  return (onLost) => {
    if (!sentinel.isOpen) throw new Error('the client is not connected');
    const removeListeners = listenTo(
      sentinel,
      ['topology-change', 'ready'],
      () => void sentinel.subscribe(channel, listener).then(onGap, onLost),
    );
    const end = (): void => {
      removeListeners();
      // `unsubscribe` on a closed client would connect it again.
      if (sentinel.isOpen) sentinel.unsubscribe(channel, listener).catch(ignore);
    };
    return { started: sentinel.subscribe(channel, listener), end };
  };
}
