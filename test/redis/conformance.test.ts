/** Runs the conformance suite against gates on Redis, through each client. */
import { RedisKeyedThrottle, RedisThrottle, type RedisConnection } from 'headgate/redis';
import type { Gate, KeyedGate } from 'headgate';
import {
  ALL_FEATURES,
  conformance,
  realTimeFixture,
  type Settings,
  type Subject,
  TOLERANCE_SECONDS,
} from '../conformance/index.js';
import { freshKey, ioredis, nodeRedis, redisUrl, SETTLE_MILLISECONDS } from './support.js';

const onRedis = (
  connect: () => Promise<{ client: RedisConnection; close: () => Promise<void> }>,
  make: (client: RedisConnection, settings: Settings) => { gate: Gate; ready: () => Promise<unknown> },
): Subject => ({
  tolerance: TOLERANCE_SECONDS,
  // The features that gates on Redis lack are false here, and only here.
  // Processes renew the leases of their holders, so a permit that is held for long does not expire.
  features: { ...ALL_FEATURES, ttl: false },
  async create(settings) {
    const { client, close } = await connect();
    const { gate, ready } = make(client, settings);
    // Many begin at once, and it takes a while until all are connected.
    await ready();
    return {
      ...realTimeFixture(gate, SETTLE_MILLISECONDS),
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
      const callable: KeyedGate = keyed;
      const gate: Gate = {
        acquire: (...call) => callable.acquire('key', ...call),
        tryAcquire: (...call) => callable.tryAcquire('key', ...call),
        run: (...call) => callable.run('key', ...call),
        pause: (...call) => keyed.pause('key', ...call),
        resume: () => keyed.resume('key'),
        correct: (...call) => callable.correct?.('key', ...call),
        close: (...call) => keyed.close(...call),
        drain: () => keyed.drain(),
        clear: (...call) => keyed.clear(...call),
      };
      return { gate, ready: () => keyed.inspect('key') };
    },
  ),
);
