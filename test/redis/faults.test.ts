/**
 * What becomes of a gate when Redis fails: it is killed, hangs, forgets its scripts or its data, drops connections or
 * messages. Each test has a server of its own, since it does to it what nobody else would survive.
 */
import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net';
import { Redis } from 'ioredis';
import { Throttle, ThrottleClosedError, ThrottleError, ThrottleTimeoutError } from 'headgate';
import {
  LeaseLostError, type RedisConnection, RedisKeyedThrottle, type RedisPermit, RedisThrottle, type RedisThrottleOptions, ThrottleBackendError,
} from 'headgate/redis';
import { createClient, RESP_TYPES } from 'redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Outcomes } from '../support.js';
import { type RedisServer, startRedis } from './server.js';
import { freshKey, nodeRedis, sleep, until } from './support.js';

/** As many round trips as anything takes, and some. */
const SETTLE_MILLISECONDS = 40;

const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);
beforeAll(() => void process.on('unhandledRejection', note));
afterAll(() => {
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
});

/** A server, and whatever a test does with it; all of it ends with the test. */
class Scene {
  readonly #endings: (() => unknown)[] = [];
  readonly server: RedisServer;
  /** Something to ask the server with beside the clients that are tested. */
  readonly admin: Redis;

  constructor(server: RedisServer) {
    this.server = server;
    this.admin = this.ioredis();
  }

  ending(end: () => unknown): void {
    this.#endings.push(end);
  }

  async end(): Promise<void> {
    for (const end of this.#endings.toReversed()) await end();
    await this.server.stop();
  }

  ioredis(options: { keyPrefix?: string; lazyConnect?: boolean; retryStrategy?: (times: number) => number } = {}, url = this.server.url): Redis {
    const client = new Redis(url, options);
    client.on('error', () => {});
    this.ending(() => client.disconnect());
    return client;
  }

  async nodeRedis(url = this.server.url): Promise<RedisConnection> {
    const { client, close } = await nodeRedis(url);
    this.ending(close);
    return client;
  }

  throttle(client: RedisConnection, options: Partial<RedisThrottleOptions> = {}): RedisThrottle {
    const throttle = new RedisThrottle({ client, key: freshKey(), ttl: 1, commandTimeout: 0.5, ...options });
    this.ending(() => throttle.close());
    return throttle;
  }

  /** Stops the server as if its host were out of reach, without ending a connection; returns how to let it go on. */
  async hang(): Promise<() => void> {
    const pid = Number(/process_id:(\d+)/.exec(await this.admin.info('server'))?.[1]);
    let hung: boolean = process.kill(pid, 'SIGSTOP');
    const goOn = (): void => {
      if (hung) process.kill(pid, 'SIGCONT');
      hung = false;
    };
    this.ending(goOn);
    return goOn;
  }

  /** A network between a client and the server, that can lose what the server says and cut connections. */
  async network(): Promise<{ url: string; deaf: boolean; cut(): void }> {
    const sockets = new Set<Socket>();
    const state = { url: '', deaf: false, cut: () => sockets.forEach((socket) => socket.destroy()) };
    const proxy = createServer((near) => {
      const far = createConnection({ host: '127.0.0.1', port: this.server.port });
      sockets.add(near);
      near.on('data', (data) => void far.write(data));
      far.on('data', (data) => void (state.deaf || near.write(data)));
      for (const [socket, other] of [[near, far], [far, near]] as const) {
        socket.on('error', () => {});
        socket.on('close', () => {
          sockets.delete(socket);
          other.destroy();
        });
      }
    });
    await new Promise<void>((resolve) => void proxy.listen(0, '127.0.0.1', resolve));
    state.url = `redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    this.ending(() => {
      state.cut();
      proxy.close();
    });
    return state;
  }
}

/** How many servers run at a time: with more, the timers of all tests would be late. */
const turns = new Throttle(Infinity, 8);

/** A test with a server of its own. */
const scene = (name: string, body: (it: Scene) => Promise<void>, settings?: Record<string, string>): void =>
  test.concurrent(name, () => turns.run(async () => {
    const made = new Scene(await startRedis(settings));
    try {
      await body(made);
    } finally {
      await made.end();
    }
  }));

/** The clients, each a way to connect. Each call makes a connection of its own. */
const clients: [string, (it: Scene, url?: string) => Promise<RedisConnection>][] = [
  ['ioredis', async (it, url) => it.ioredis({}, url)],
  ['node-redis', (it, url) => it.nodeRedis(url)],
];
/** What is given makes the connection. */
const all: typeof clients = [...clients, ['{ url }', async (it, url = it.server.url) => ({ url, database: 0 })]];

const slots = (permits: readonly RedisPermit[]): number[] => permits.map(({ slot }) => slot);
const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index));


describe('a call whose answer is lost', () => {
  scene('is sent again by ioredis, and counts once', async (it) => {
    const net = await it.network();
    const throttle = it.throttle(it.ioredis({}, net.url), { concurrency: 2, commandTimeout: 2, ttl: 10 });
    const other = it.throttle(it.admin, { key: throttle.key, concurrency: 2, ttl: 10 });
    const first = await throttle.acquire();
    net.deaf = true;
    const second = throttle.acquire();
    await until('the server has heard it', async () => (await other.inspect()).active.length === 2);
    // These wait: so will they be sent again, too.
    const third = throttle.acquire();
    await until('they wait', async () => (await other.inspect()).waiting.length === 1);
    const last = other.acquire();
    await until('it waits', async () => (await other.inspect()).waiting.length === 2);
    net.deaf = false;
    net.cut();
    expect(slots([first, await second])).toEqual([1, 2]);
    const outcomes = new Outcomes();
    outcomes.follow('third', third);
    outcomes.follow('last', last);
    first.release();
    await until('one of them has its turn', () => outcomes.order.length > 0);
    expect(outcomes.order).toEqual(['third']);
    outcomes.permit('third').release();
    expect((await last).slot).toBe(1);
    expect(new Set((await other.inspect()).active.map(({ slot }) => slot))).toEqual(new Set([1, 2]));
  });

  scene('fails with node-redis, and what it took is back at once', async (it) => {
    const net = await it.network();
    const throttle = it.throttle(await it.nodeRedis(net.url), { concurrency: 1, commandTimeout: 2, ttl: 20 });
    const other = it.throttle(it.admin, { key: throttle.key, concurrency: 1, ttl: 20 });
    await throttle.run(() => {});
    net.deaf = true;
    const lost = throttle.acquire();
    await until('the server has heard it', async () => (await other.inspect()).active.length === 1);
    net.deaf = false;
    net.cut();
    await expect(lost).rejects.toThrow(ThrottleBackendError);
    await until('nothing is held', async () => (await other.inspect()).active.length === 0, 2);
  });

  scene('is given back at once, though another call has been answered meanwhile', async (it) => {
    const throttle = it.throttle(it.ioredis(), { concurrency: 4, ttl: 20, commandTimeout: 0.3 });
    await throttle.run(() => {});
    const goOn = await it.hang();
    const first = throttle.acquire();
    await sleep(200);
    const second = throttle.acquire();
    await expect(first).rejects.toThrow(ThrottleBackendError);
    goOn();
    const permit = await second;
    await until('one is held', async () => (await throttle.inspect()).active.length === 1, 2);
    permit.release();
    await throttle.idle();
    expect(await it.admin.dbsize()).toBe(0);
  });

  scene('is no permit, if it took longer than the permit lasts', async (it) => {
    let delay = 0;
    const throttle = it.throttle({
      async eval(script: string, keys: string[], args: string[]) {
        const answer = await it.admin.eval(script, keys.length, ...keys, ...args);
        await sleep(delay);
        return answer;
      },
      subscribe: async () => {},
    }, { concurrency: 1, ttl: 0.3, commandTimeout: 3 });
    const other = it.throttle(it.ioredis(), { key: throttle.key, concurrency: 1, ttl: 5 });
    delay = 700;
    const late = throttle.acquire().then(() => 'granted', (error: unknown) => error);
    await until('granted there', async () => (await other.inspect()).active.length === 1);
    await other.acquire();
    expect(await late).toBeInstanceOf(ThrottleBackendError);
  });

  scene('a permit that is asked for while another answer is long in coming is not lost at once', async (it) => {
    const throttle = it.throttle(it.ioredis(), { concurrency: 4, ttl: 0.5, commandTimeout: 3 });
    await throttle.run(() => {});
    const goOn = await it.hang();
    const pausing = throttle.pause(0.01).catch((error: unknown) => error);
    await sleep(600);
    const acquiring = throttle.acquire();
    goOn();
    const permit = await acquiring;
    expect(permit.signal.aborted).toBe(false);
    await pausing;
    await sleep(SETTLE_MILLISECONDS);
    expect(permit.signal.aborted).toBe(false);
  });
});

describe('failOpen', () => {
  scene('a cost that can be granted no more is refused by the local throttle, and nobody behind it is lost', async (it) => {
    const throttle = it.throttle(it.ioredis(), { capacity: 10, failOpen: true, commandTimeout: 0.2 });
    await throttle.run(() => {});
    await it.hang();
    const trying = throttle.tryAcquire(5);
    const next = throttle.acquire(1);
    const configuring = throttle.configure({ capacity: 2, burst: 2 });
    await expect(trying).rejects.toThrow(RangeError);
    expect((await next).slot).toBe(0);
    await configuring;
  });

  scene('whoever waits in the local throttle, since it is paused, goes on by a resume that Redis hears', async (it) => {
    const throttle = it.throttle(it.ioredis(), { concurrency: 10, failOpen: true, commandTimeout: 0.2 });
    await throttle.run(() => {});
    const goOn = await it.hang();
    await throttle.pause();
    const next = throttle.acquire();
    goOn();
    await until('it answers', () => throttle.inspect().then(() => true, () => false));
    await throttle.resume();
    expect((await next).slot).toBe(0);
  });

  scene('nobody passes those who wait in Redis, though it was another throttle that failed', async (it) => {
    const client = it.ioredis();
    const options = { concurrency: 1, failOpen: true, commandTimeout: 0.2, ttl: 20 };
    const throttle = it.throttle(client, options);
    await throttle.acquire();
    const outcomes = new Outcomes();
    outcomes.follow('first', throttle.acquire());
    await until('it waits', async () => (await throttle.inspect()).waiting.length === 1);
    await it.hang();
    await it.throttle(client, options).acquire();
    outcomes.follow('second', throttle.acquire());
    await until('somebody is granted', () => outcomes.order.length > 0);
    expect(outcomes.order).toEqual(['first']);
    outcomes.permit('first').release();
    await until('the other, too', () => outcomes.order.length > 1);
  });
});

describe('clients that are odd', () => {
  for (const [name, connect] of all) {
    scene(`whoever has only looked at first, hears of a grant all the same: ${name}`, async (it) => {
      const holder = it.throttle(await connect(it), { concurrency: 1, ttl: 20 });
      const throttle = it.throttle(await connect(it), { key: holder.key, concurrency: 1, ttl: 20 });
      await throttle.inspect();
      await sleep(SETTLE_MILLISECONDS);
      const permit = await holder.acquire();
      const next = throttle.acquire();
      await until('it waits', async () => (await holder.inspect()).waiting.length === 1);
      await sleep(200);
      permit.release();
      expect(await Promise.race([next, sleep(1_000)])).toBeDefined();
    });
  }

  scene('one whose replies are Buffers', async (it) => {
    const client = createClient({ url: it.server.url, commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } } });
    await client.connect();
    it.ending(() => client.destroy());
    const throttle = it.throttle(client, { concurrency: 2 });
    expect((await throttle.acquire()).slot).toBe(1);
    expect((await throttle.inspect()).active).toMatchObject([{ slot: 1, cost: 1 }]);
  });

  scene('one with a prefix for all keys', async (it) => {
    const client = it.ioredis({ keyPrefix: 'app:' });
    const throttle = it.throttle(client, { concurrency: 1, ttl: 20 });
    const second = it.throttle(client, { key: throttle.key, concurrency: 1, ttl: 20 });
    const permit = await throttle.acquire();
    const next = second.acquire();
    await until('it waits', async () => (await throttle.inspect()).waiting.length === 1);
    await sleep(200);
    permit.release();
    expect(await Promise.race([next, sleep(1_000)])).toBeDefined();
  });

  test('one that answers with nothing', async () => {
    const throttle = new RedisThrottle({ client: { eval: async () => undefined, subscribe: async () => {} }, key: 'key', ttl: 0.2 });
    await expect(throttle.acquire()).rejects.toThrow(ThrottleBackendError);
    await expect(throttle.pause()).rejects.toThrow(ThrottleBackendError);
    await throttle.close();
  });
});
void ThrottleClosedError; void ThrottleError; void ThrottleTimeoutError; void LeaseLostError; void RedisKeyedThrottle; void times; void clients;
