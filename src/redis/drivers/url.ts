/** The driver for `{ url }` and other options of `createClient`: it creates a node-redis client on first use. */
import type { RedisClientOptions } from '../client.js';
import { type Driver, ignore, type Listening } from './driver.js';
import { createSubscribe, destroyer, nodeRedisDriver, type NodeRedisNode } from './node-redis.js';
import { keepSubscribed } from './subscription.js';

type CreateClient = (options: object) => unknown;

/** A client of headgate, the driver that uses it, and the function that destroys it. */
interface OwnClient {
  readonly client: NodeRedisNode;
  readonly driver: Driver;
  readonly destroy: () => void;
}

export function urlDriver(options: RedisClientOptions): Driver {
  let loading: Promise<void> | undefined;
  let createClient: CreateClient | undefined;
  let own: OwnClient | undefined;
  let connecting: Promise<void> | undefined;
  let listening: Listening | undefined;
  let closed = false;

  const load = async (): Promise<void> => {
    try {
      ({ createClient } = (await import('redis')) as { createClient: CreateClient });
    } catch (cause) {
      loading = undefined;
      throw new Error('client: { url } needs the package "redis": npm install redis, or pass an existing client', {
        cause,
      });
    }
  };
  /** Returns the present client, and creates one after `load` or `reconnect`. */
  const get = (): OwnClient => {
    if (closed) throw new Error('the connection is closed');
    return (own ??= createOwn(createClient as CreateClient, options));
  };
  const connect = async (client: NodeRedisNode): Promise<void> => {
    try {
      await client.connect();
    } finally {
      if (client === own?.client) connecting = undefined;
    }
  };
  return {
    prepare(script) {
      const hashing = script.prepare();
      if (createClient !== undefined) return hashing;
      return Promise.all([(loading ??= load()), hashing]);
    },
    connect() {
      const { client } = get();
      // With a reconnect strategy of the user, an open client connects again by itself.
      if (!client.isOpen) connecting ??= connect(client);
      return connecting;
    },
    run: (script, keys, args, inFull) => get().driver.run(script, keys, args, inFull),
    // The next call creates another client. The subscription has a connection of its own, which is checked by itself.
    reconnect() {
      own?.destroy();
      own = connecting = undefined;
    },
    listen(channel, receiver) {
      listening = keepSubscribed(async (onLost, key) => {
        await (loading ??= load());
        return createSubscribe(get().client, channel, receiver)(onLost, key);
      }, receiver);
      return listening;
    },
    close() {
      closed = true;
      listening?.stop();
      own?.destroy();
    },
  };
}

function createOwn(createClient: CreateClient, options: RedisClientOptions): OwnClient {
  // Without a reconnect strategy, the next call connects again, and rejects if that fails.
  const client = createClient({
    ...options,
    socket: { reconnectStrategy: false, ...(options['socket'] as object | undefined) },
  }) as NodeRedisNode;
  client.on('error', ignore);
  // Every pending call has a timer that keeps the process alive; the idle connection must not.
  client.unref();
  return { client, driver: nodeRedisDriver(client), destroy: destroyer(client) };
}
