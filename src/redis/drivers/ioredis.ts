/** The driver for clients of ioredis: `Redis` and `Cluster`. */
import type { IoredisClient } from '../client.js';
import { type Driver, type Emitter, ignore, listenTo } from './driver.js';
import { keepSubscribed } from './subscription.js';

interface IoredisNode extends Emitter {
  duplicate(options: object): IoredisNode;
  subscribe(channel: string): Promise<unknown>;
  disconnect(): void;
  readonly status: string;
  readonly stream?: { unref?(): void };
}

export function ioredisDriver(client: IoredisClient): Driver {
  let stop = ignore;
  return {
    run: (script, keys, args) =>
      script.evaluate(
        (sha) => client.evalsha(sha, keys.length, ...keys, ...args),
        () => client.eval(script.source, keys.length, ...keys, ...args),
      ),
    listen(channel, listener, onGap) {
      stop = keepSubscribed((onLost) => {
        // Every node of a cluster delivers the messages that are published on any node.
        const cluster =
          'nodes' in client ? (client as IoredisClient & Emitter & { nodes(): IoredisNode[] }) : undefined;
        const nodes = cluster?.nodes() ?? [client as IoredisClient & IoredisNode];
        const node = nodes[Math.floor(Math.random() * nodes.length)];
        if (node === undefined) throw new Error('the cluster has no nodes yet');
        const subscriber = node.duplicate({ retryStrategy: null, enableOfflineQueue: true });
        subscriber.on('error', ignore);
        subscriber.on('connect', () => subscriber.stream?.unref?.());
        subscriber.on('end', onLost);
        subscriber.on('message', (from, message) => {
          if (from === channel) listener(message as string);
        });
        const removeListeners = cluster === undefined ? ignore : listenTo(cluster, ['-node'], onLost);
        const end = (): void => {
          removeListeners();
          // `disconnect` on an ended client would connect it again, and keep the process alive.
          if (subscriber.status !== 'end') subscriber.disconnect();
        };
        return { started: subscriber.subscribe(channel), end };
      }, onGap);
    },
    close: () => stop(),
  };
}
