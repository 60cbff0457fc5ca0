/** A gate on Redis keeps the promises of conformance.ts, by whichever client. */
import { RedisKeyedThrottle, RedisThrottle, type RedisConnection } from 'headgate/redis';
import type { Gate } from 'headgate';
import { conformance, type Settings, type Subject } from '../conformance.js';
import { freshKey, ioredis, nodeRedis, redisUrl, sleep } from './support.js';

/** How late a timer or an answer may be seen to come on a machine that has other things to do. */
const GRAIN_SECONDS = 0.1;
/** As many round trips as anything takes, and some. */
const SETTLE_MILLISECONDS = 40;

const onRedis = (connect: () => Promise<{ client: RedisConnection; close: () => Promise<void> }>, make: (client: RedisConnection, settings: Settings) => Gate): Subject => ({
  grain: GRAIN_SECONDS,
  features: { rate: true, pause: true, foresight: true },
  async make(settings) {
    const { client, close } = await connect();
    const gate = make(client, settings);
    const settled = (): Promise<void> => sleep(SETTLE_MILLISECONDS);
    return {
      gate,
      settled,
      async elapse(seconds) {
        await sleep(seconds * 1_000 + 1);
        await settled();
      },
      now: () => performance.now() / 1_000,
      async dispose() {
        await gate.close();
        await close();
      },
    };
  },
});

const throttle = (client: RedisConnection, settings: Settings): Gate => new RedisThrottle({ client, key: freshKey(), ttl: 5, ...settings });

conformance('a RedisThrottle through ioredis', onRedis(async () => ioredis(), throttle));

conformance('a RedisThrottle through node-redis', onRedis(() => nodeRedis(), throttle));

conformance(
  'a key of a RedisKeyedThrottle',
  onRedis(async () => ({ client: { url: redisUrl() }, close: async () => {} }), (client, settings) => {
    const keyed = new RedisKeyedThrottle({ client, ttl: 5, prefix: freshKey(), ...settings });
    return {
      acquire: (...call) => keyed.acquire('key', ...call),
      tryAcquire: (...call) => keyed.tryAcquire('key', ...call),
      run: (...call) => keyed.run('key', ...call),
      pause: (...call) => keyed.pause('key', ...call),
      resume: () => keyed.resume('key'),
      close: (...call) => keyed.close(...call),
    };
  }),
);
