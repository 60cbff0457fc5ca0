/** Clients with unusual settings, and objects that are not clients. */
import {
  LeaseLostError,
  type RedisConnection,
  RedisKeyedThrottle,
  RedisThrottle,
  ThrottleBackendError,
} from 'headgate/redis';
import { createClient, RESP_TYPES } from 'redis';
import { describe, expect, test } from 'vitest';
import { scene, clients, all, untilConnected } from './server-scene.js';
import { SETTLE_MILLISECONDS, sleep, until } from './support.js';

describe('unusual clients', () => {
  for (const [name, connect] of all) {
    scene(`a throttle whose first call is inspect receives a later grant: ${name}`, async (it) => {
      const holder = it.throttle(await connect(it), { concurrency: 1, ttl: 20 });
      const throttle = it.throttle(await connect(it), { key: holder.key, concurrency: 1, ttl: 20 });
      await untilConnected(holder);
      await untilConnected(throttle);
      await sleep(SETTLE_MILLISECONDS);
      const permit = await holder.acquire();
      const next = throttle.acquire();
      await until('one waiter is queued', async () => (await holder.inspect()).waiting.length === 1);
      await sleep(200);
      permit.release();
      expect(await Promise.race([next, sleep(1_000)])).toBeDefined();
    });
  }

  scene('a client whose replies are Buffers works', async (it) => {
    const client = createClient({
      url: it.server.url,
      commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
    });
    await client.connect();
    it.ending(() => client.destroy());
    const throttle = it.throttle(client, { concurrency: 2 });
    expect((await throttle.acquire()).slot).toBe(1);
    expect((await throttle.inspect()).active).toMatchObject([{ slot: 1, cost: 1 }]);
  });

  scene('a client with a prefix for all keys works', async (it) => {
    const client = it.ioredis({ keyPrefix: 'app:' });
    const throttle = it.throttle(client, { concurrency: 1, ttl: 20 });
    const second = it.throttle(client, { key: throttle.key, concurrency: 1, ttl: 20 });
    const permit = await throttle.acquire();
    const next = second.acquire();
    await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    await sleep(200);
    permit.release();
    expect(await Promise.race([next, sleep(1_000)])).toBeDefined();
  });

  test('a client that replies with undefined rejects the call', async () => {
    const throttle = new RedisThrottle({
      client: { eval: async () => undefined, subscribe: async () => {} },
      key: 'key',
      ttl: 0.2,
    });
    await expect(throttle.acquire()).rejects.toThrow(ThrottleBackendError);
    await expect(throttle.pause()).rejects.toThrow(ThrottleBackendError);
    await throttle.close();
  });
});

describe('unusable clients', () => {
  for (const [what, value] of [
    ['nothing', undefined],
    ['null', null],
    ['a URL', 'redis://localhost'],
    ['a number', 6379],
    ['a function', () => {}],
  ] as const) {
    test(`${what}: a TypeError names the argument and the received value`, () => {
      const client = value as unknown as RedisConnection;
      for (const create of [
        () => new RedisThrottle({ client, key: 'key' }),
        () => new RedisKeyedThrottle({ client }),
      ]) {
        expect(create).toThrow(TypeError);
        expect(create).toThrow(/client must be .*received/);
      }
    });
  }

  for (const [what, value] of [
    ['an empty object', {}],
    ['only eval', { eval() {} }],
    ['only subscribe', { subscribe() {} }],
  ] as const) {
    test(`${what}: a TypeError lists the accepted clients`, () => {
      expect(() => new RedisThrottle({ client: value, key: 'key' })).toThrow(
        /client must be an ioredis or node-redis client/,
      );
    });
  }

  scene('an ioredis client with lazyConnect is connected on first use', async (it) => {
    const throttle = it.throttle(it.ioredis({ lazyConnect: true }), { concurrency: 1 });
    expect(await throttle.run(({ slot }) => slot)).toBe(1);
  });

  scene('an unconnected node-redis client rejects at once, and works once connected', async (it) => {
    const client = createClient({ url: it.server.url });
    const throttle = it.throttle(client, { concurrency: 1 });
    await expect(throttle.acquire()).rejects.toThrow(ThrottleBackendError);
    await expect(throttle.inspect()).rejects.toThrow(ThrottleBackendError);
    await client.connect();
    it.ending(() => client.destroy());
    expect(await throttle.run(({ slot }) => slot)).toBe(1);
  });

  for (const [name, connect] of clients) {
    scene(
      `a client that the user closes: the permit is lost, the waiter rejects, all timers end: ${name}`,
      async (it) => {
        const client = await connect(it);
        const throttle = it.throttle(client, { concurrency: 1, ttl: 0.6, commandTimeout: 0.3 });
        const { signal } = await throttle.acquire();
        const waiting = throttle.acquire().catch((error: unknown) => error);
        await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
        const closable = client as unknown as { disconnect?(): void; destroy?(): void };
        if (closable.destroy === undefined) closable.disconnect?.();
        else closable.destroy();
        await until('the permit is lost', () => signal.aborted, 2);
        expect(signal.reason).toBeInstanceOf(LeaseLostError);
        expect(await waiting).toBeInstanceOf(ThrottleBackendError);
        await expect(throttle.acquire()).rejects.toThrow(ThrottleBackendError);
        await throttle.close();
        await throttle.idle();
      },
    );
  }

  scene('a client of headgate whose reconnect strategy stops ends without an unhandled error', async (it) => {
    const client = { url: it.server.url, socket: { reconnectStrategy: false } };
    const throttle = it.throttle(client, { concurrency: 1, ttl: 0.3, commandTimeout: 0.2 });
    await it.server.kill();
    await expect(throttle.acquire()).rejects.toThrow(ThrottleBackendError);
    await throttle.close();
    await throttle.idle();
  });
});
