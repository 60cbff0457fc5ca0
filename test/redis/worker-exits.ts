/** A process that runs one job, closes its client and then has no work left. It never closes its throttle. */
import { type RedisConnection, RedisThrottle } from 'headgate/redis';
import { Redis } from 'ioredis';
import { createClient, createClientPool } from 'redis';

const [kind = '', url = '', key = ''] = process.argv.slice(2);

interface Closable {
  connect?(): Promise<unknown>;
  disconnect?(): unknown;
  destroy?(): unknown;
}
const kinds: Record<string, () => RedisConnection & Closable> = {
  ioredis: () => new Redis(url),
  single: () => createClient({ url }),
  pool: () => createClientPool({ url }),
  ours: () => ({ url }),
};
const client = kinds[kind]?.();
if (client === undefined) throw new Error(`no such client: ${kind}`);
await client.connect?.().catch(() => {});
const throttle = new RedisThrottle({ client, key, concurrency: 1 });
// During this wait, only the pending call keeps the process alive.
await throttle.run(() => console.log('granted'));
await throttle.idle();
if (client.disconnect === undefined) client.destroy?.();
else client.disconnect();
