/** The driver for `{ url }` and other options of `createClient`: it creates a node-redis client on first use. */
import type { RedisClientOptions } from '../client.js';
import { type Driver, ignore } from './driver.js';
import { createSubscribe, nodeRedisDriver, type NodeRedisNode } from './node-redis.js';
import { keepSubscribed } from './subscription.js';

export function urlDriver(options: RedisClientOptions): Driver {
  let created: Promise<NodeRedisNode> | undefined;
  let connecting: Promise<unknown> | undefined;
  let closed = false;
  let stop = ignore;
  const create = async (): Promise<NodeRedisNode> => {
    const { createClient } = await import('redis').catch((cause: unknown) => {
      throw new Error('client: { url } needs the package "redis": npm install redis, or pass an existing client', {
        cause,
      });
    });
    // Without a reconnect strategy, each call of `run` connects when necessary, and rejects if that fails.
    const client = createClient({
      ...options,
      socket: { reconnectStrategy: false, ...(options['socket'] as object | undefined) } as {
        reconnectStrategy: false;
      },
    }) as unknown as NodeRedisNode;
    client.on('error', ignore);
    // Every pending call has a timer that keeps the process alive; the idle connection must not.
    client.unref();
    return client;
  };
  const get = (): Promise<NodeRedisNode> => {
    if (closed) return Promise.reject(new Error('the connection is closed'));
    created ??= create().catch((error: unknown) => {
      created = undefined;
      throw error;
    });
    return created;
  };
  return {
    async run(script, keys, args) {
      const client = await get();
      if (!client.isOpen && !closed) connecting = client.connect();
      await connecting;
      return nodeRedisDriver(client).run(script, keys, args);
    },
    listen(channel, listener, onGap) {
      stop = keepSubscribed(async (onLost) => createSubscribe(await get(), channel, listener, onGap)(onLost), onGap);
    },
    close() {
      closed = true;
      stop();
      created?.then((client) => client.destroy()).catch(ignore);
    },
  };
}
