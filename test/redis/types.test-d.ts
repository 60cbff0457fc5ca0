/** Type tests of `headgate/redis`: the compiler checks this file, and no code of it runs. */
import type { Gate, KeyedGate, Permit } from 'headgate';
import {
  type LeaseLostError,
  RedisKeyedThrottle,
  type RedisCommands,
  type RedisPermit,
  type RedisState,
  RedisThrottle,
  type ThrottleBackendError,
} from 'headgate/redis';
import { Cluster, Redis } from 'ioredis';
import { createClient, createClientPool, createCluster, createSentinel } from 'redis';
import { expectTypeOf } from 'vitest';

const key = 'payments';

// Clients of both packages, with either protocol version
const ioredis = new RedisThrottle({ client: new Redis(), key });
void new RedisThrottle({
  client: new Redis({ sentinels: [{ host: 'a', port: 1 }], name: 'main', keyPrefix: 'mine:' }),
  key,
});
void new RedisThrottle({ client: new Redis({ protocol: 3, replyMapping: 'resp3' }), key });
void new RedisThrottle({ client: new Cluster([{ host: 'a', port: 1 }]), key });
void new RedisThrottle({ client: createClient(), key });
void new RedisThrottle({ client: createClient({ url: 'redis://a', RESP: 2 }), key });
void new RedisThrottle({ client: createClient({ url: 'redis://a', RESP: 3 }), key });
void new RedisThrottle({ client: await createClient().connect(), key });
void new RedisThrottle({ client: createCluster({ rootNodes: [] }), key });
void new RedisThrottle({ client: createCluster({ rootNodes: [], RESP: 2 }), key });
void new RedisThrottle({ client: createSentinel({ name: 'main', sentinelRootNodes: [] }), key });
void new RedisThrottle({ client: createSentinel({ name: 'main', sentinelRootNodes: [], RESP: 2 }), key });
void new RedisThrottle({ client: createClientPool(), key });
void new RedisThrottle({ client: createClientPool({ url: 'redis://a', RESP: 2 }), key });
// Clients without a type annotation
const [single, pool] = [createClient(), createClientPool()];
const [cluster, sentinel] = [createCluster({ rootNodes: [] }), createSentinel({ name: 'main', sentinelRootNodes: [] })];
for (const client of [single, pool, cluster, sentinel]) void new RedisThrottle({ client, key });
const keyed = new RedisKeyedThrottle({ client: createClient() });
void new RedisKeyedThrottle({ client: new Cluster([]) });

// Options with which headgate creates a client
void new RedisThrottle({ client: { url: 'redis://a' }, key });
void new RedisThrottle({
  client: { socket: { host: 'a', port: 1, tls: true }, username: 'a', password: 'b', database: 2 },
  key,
});
void new RedisThrottle({ client: { socket: { path: '/a' } }, key });

// A custom client
const custom: RedisCommands = {
  eval: async (script, keys, args) => [script, ...keys, ...args],
  subscribe: async (channel, listener) => listener(channel),
};
void new RedisThrottle({ client: custom, key });

// @ts-expect-error the client is required
void new RedisThrottle({ key });
// @ts-expect-error the key is required
void new RedisThrottle({ client: custom });
// @ts-expect-error a url must be a property of an object
void new RedisThrottle({ client: 'redis://a', key });
// @ts-expect-error a url must be a string
void new RedisThrottle({ client: { url: new URL('redis://a') }, key });
// @ts-expect-error a key must be a string
void new RedisThrottle({ client: custom, key: 5 });
// @ts-expect-error a misspelt option
void new RedisThrottle({ client: custom, key, concurency: 5 });
// @ts-expect-error a keyed throttle takes the key with each call
void new RedisKeyedThrottle({ client: custom, key });
// @ts-expect-error a custom client needs subscribe
((client: RedisCommands): unknown => client)({ eval: async () => [] });

// Options may be undefined
void new RedisThrottle({
  client: custom,
  key,
  capacity: undefined,
  concurrency: undefined,
  period: undefined,
  burst: undefined,
  ttl: undefined,
  prefix: undefined,
  failOpen: undefined,
  commandTimeout: undefined,
  maxQueue: undefined,
  name: undefined,
  clock: undefined,
});

// Gates
expectTypeOf<RedisThrottle>().toExtend<Gate>();
expectTypeOf<RedisKeyedThrottle>().toExtend<KeyedGate>();
// @ts-expect-error a KeyedGate is not a Gate
((gate: RedisKeyedThrottle): Gate => gate)(keyed);
// @ts-expect-error a Gate is not a KeyedGate
((gate: RedisThrottle): KeyedGate => gate)(ioredis);

// Permits
expectTypeOf<RedisPermit>().toExtend<Permit>();
expectTypeOf(ioredis.acquire()).toEqualTypeOf<Promise<RedisPermit<never>>>();
expectTypeOf(ioredis.tryAcquire()).toEqualTypeOf<Promise<RedisPermit<never> | undefined>>();
expectTypeOf(ioredis.run((permit) => permit.slot)).toEqualTypeOf<Promise<number>>();
expectTypeOf(ioredis.run(async ({ signal }) => signal)).toEqualTypeOf<Promise<AbortSignal>>();
expectTypeOf(keyed.acquire('a')).toEqualTypeOf<Promise<RedisPermit<never>>>();
expectTypeOf(keyed.run('a', (permit) => permit.slot, 2, { timeout: 1 })).toEqualTypeOf<Promise<number>>();
// @ts-expect-error the key is the first argument
void keyed.run(() => 1);
// @ts-expect-error the property is read-only
(await ioredis.acquire()).slot = 2;
// @ts-expect-error the permit may be undefined
(await ioredis.tryAcquire()).release();

// Names of rates
const named = new RedisThrottle({ client: { url: '' }, key: 'k', also: [{ name: 'tokens', capacity: 5 }] });
expectTypeOf(named).toExtend<Gate>();
expectTypeOf((await named.acquire({ tokens: 1 })).costs.tokens).toEqualTypeOf<number>();
expectTypeOf((await named.acquire()).slots).toEqualTypeOf<readonly number[]>();
// @ts-expect-error an unknown name
void named.acquire({ tokns: 1 });
// @ts-expect-error an unknown name
void named.tryAcquire({ tokns: 1 });
// @ts-expect-error an unknown name
void named.run(() => 1, { tokns: 1 });
// @ts-expect-error an unknown name
void named.correct({ tokns: 1 });
// @ts-expect-error an unknown name
(await named.acquire()).settle({ tokns: 1 });
// @ts-expect-error an unknown name
named.wrap(() => 1, { tokns: 1 });
// @ts-expect-error a throttle without names
void ioredis.acquire({ tokens: 1 });
const namedKeys = new RedisKeyedThrottle({ client: { url: '' }, also: [{ name: 'tokens', capacity: 5 }] });
void namedKeys.acquire('a', { cost: 1, tokens: 2 });
void namedKeys.correct('a', { tokens: 2 }, { onlyLower: true });
// @ts-expect-error an unknown name
void namedKeys.acquire('a', { tokns: 1 });
// @ts-expect-error an unknown name
void namedKeys.correct('a', { tokns: 1 });

expectTypeOf(ioredis.inspect()).toEqualTypeOf<Promise<RedisState>>();
expectTypeOf<RedisState['active'][number]['slot']>().toEqualTypeOf<number>();
expectTypeOf<ThrottleBackendError['code']>().toEqualTypeOf<'ERR_THROTTLE_BACKEND'>();
expectTypeOf<LeaseLostError['code']>().toEqualTypeOf<'ERR_THROTTLE_LEASE_LOST'>();
