/** The conformance suite of all gates, run on a RedisThrottle with each kind of client. */
import { RedisKeyedThrottle, RedisThrottle, type RedisConnection } from 'headgate/redis';
import type { Gate } from 'headgate';
import {
  conformance,
  GRAIN_SECONDS,
  type Settings,
  stageInRealTime,
  type Subject,
} from '../conformance/conformance.js';
import { freshKey, ioredis, nodeRedis, redisUrl, SETTLE_MILLISECONDS } from './support.js';

const onRedis = (
  connect: () => Promise<{ client: RedisConnection; close: () => Promise<void> }>,
  make: (client: RedisConnection, settings: Settings) => { gate: Gate; ready: () => Promise<unknown> },
): Subject => ({
  grain: GRAIN_SECONDS,
  features: { rate: true, pause: true, foresight: true },
  async make(settings) {
    const { client, close } = await connect();
    const { gate, ready } = make(client, settings);
    // Many clients connect at the same time, which takes a while.
    await ready();
    return {
      ...stageInRealTime(gate, SETTLE_MILLISECONDS),
      async dispose() {
        await gate.close();
        await close();
      },
    };
  },
});

const throttle = (client: RedisConnection, settings: Settings): { gate: Gate; ready: () => Promise<unknown> } => {
  const gate = new RedisThrottle({ client, key: freshKey(), ttl: 5, ...settings });
  return { gate, ready: () => gate.inspect() };
};

conformance(
  'a RedisThrottle through ioredis',
  onRedis(async () => ioredis(), throttle),
);

conformance(
  'a RedisThrottle through node-redis',
  onRedis(() => nodeRedis(), throttle),
);

conformance(
  'a key of a RedisKeyedThrottle',
  onRedis(
    async () => ({ client: { url: redisUrl() }, close: async () => {} }),
    (client, settings) => {
      const keyed = new RedisKeyedThrottle({ client, ttl: 5, prefix: freshKey(), ...settings });
      const gate: Gate = {
        acquire: (...call) => keyed.acquire('key', ...call),
        tryAcquire: (...call) => keyed.tryAcquire('key', ...call),
        run: (...call) => keyed.run('key', ...call),
        pause: (...call) => keyed.pause('key', ...call),
        resume: () => keyed.resume('key'),
        close: (...call) => keyed.close(...call),
      };
      return { gate, ready: () => keyed.inspect('key') };
    },
  ),
);
