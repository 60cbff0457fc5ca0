/** Chooses the driver for a connection by the methods of its client. */
import { invalid } from '../../core/validation.js';
import type {
  IoredisClient,
  NodeRedisClient,
  NodeRedisPool,
  RedisClientOptions,
  RedisCommands,
  RedisConnection,
} from '../client.js';
import { customDriver } from './custom.js';
import type { Driver } from './driver.js';
import { ioredisDriver } from './ioredis.js';
import { nodeRedisDriver } from './node-redis.js';
import { urlDriver } from './url.js';

/** Creates the driver for `connection`. It connects on first use. @throws {TypeError} `connection` is not a client. */
export function createDriver(connection: RedisConnection): Driver {
  const client = connection as
    Partial<IoredisClient & NodeRedisClient & NodeRedisPool & RedisCommands> | null | undefined;
  if (typeof client !== 'object' || client === null)
    throw invalid('client', 'a Redis client, or options for one', client);
  const has = (...names: (keyof typeof client)[]): boolean => names.every((name) => typeof client[name] === 'function');
  if (has('evalSha', 'duplicate') || has('evalSha', 'execute'))
    return nodeRedisDriver(client as NodeRedisClient | NodeRedisPool);
  if (has('evalsha', 'duplicate')) return ioredisDriver(client as IoredisClient);
  if (has('eval', 'subscribe')) return customDriver(client as RedisCommands);
  if ('socket' in client) return urlDriver(client);
  if ('url' in client) {
    if (typeof client.url !== 'string' || !/^(rediss?|unix):/.test(client.url))
      throw invalid('client.url', 'a URL such as redis://localhost:6379', client.url);
    return urlDriver(client as RedisClientOptions);
  }
  throw new TypeError(
    'client must be an ioredis or node-redis client, { url }, ' +
      'or an object with eval(script, keys, args) and subscribe(channel, listener)',
  );
}
