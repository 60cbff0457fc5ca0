/** A test with a Redis server of its own, and helpers that observe the state in the server. */
import { Redis } from 'ioredis';
import { Throttle } from 'headgate';
import { type RedisConnection, type RedisPermit, RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RedisServer, startRedis } from '../support/redis-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { freshKey, nodeRedis, until } from './support.js';

const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);
beforeAll(() => void process.on('unhandledRejection', note));
afterAll(() => {
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
});

/** A server, its clients, its throttles and its network. All of them end with the test. */
export class Scene {
  readonly #endings: (() => unknown)[] = [];
  readonly server: RedisServer;
  /** A client for administration, separate from the clients under test. */
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

  ioredis(
    options: { keyPrefix?: string; lazyConnect?: boolean; retryStrategy?: (times: number) => number } = {},
    url: string = this.server.url,
  ): Redis {
    const client = new Redis(url, options);
    client.on('error', () => {});
    this.ending(() => client.disconnect());
    return client;
  }

  async nodeRedis(url: string = this.server.url): Promise<RedisConnection> {
    const { client, close } = await nodeRedis(url);
    this.ending(close);
    return client;
  }

  throttle(client: RedisConnection, options: Partial<RedisThrottleOptions> = {}): RedisThrottle {
    const throttle = new RedisThrottle({ client, key: freshKey(), ttl: 1, commandTimeout: 0.5, ...options });
    this.ending(() => throttle.close());
    return throttle;
  }

  /** Suspends the server without closing a connection, as an unreachable host. Returns a function that resumes it. */
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

  /** A proxy between a client and the server. */
  async network(): Promise<TcpProxy> {
    const proxy = await new TcpProxy(this.server.port).start();
    this.ending(() => proxy.stop());
    return proxy;
  }
}

/** The number of servers at a time. More servers would delay the timers of all tests. */
const turns = new Throttle(Infinity, 6);

/** Declares a test with a server of its own. */
export const scene = (name: string, body: (it: Scene) => Promise<void>, settings?: Record<string, string>): void =>
  test.concurrent(name, () =>
    turns.run(async () => {
      const made = new Scene(await startRedis(settings));
      try {
        await body(made);
      } finally {
        await made.end();
      }
    }),
  );

/** The kinds of clients. Each call creates a new connection. */
export const clients: [string, (it: Scene, url?: string) => Promise<RedisConnection>][] = [
  [
    'ioredis',
    async (it, url) => {
      const client = it.ioredis({}, url);
      await client.ping();
      return client;
    },
  ],
  ['node-redis', (it, url) => it.nodeRedis(url)],
];
/** The clients above, and options with which headgate creates the client. Equal options would share a client. */
export const all: typeof clients = [
  ...clients,
  ['{ url }', async (it, url = it.server.url) => ({ url, name: freshKey() })],
];

export const slots = (permits: readonly RedisPermit[]): number[] => permits.map(({ slot }) => slot);
export const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

/** A connection takes longer than `commandTimeout`. */
export const untilConnected = (throttle: RedisThrottle): Promise<void> =>
  until('it is connected', () =>
    throttle.inspect().then(
      () => true,
      () => false,
    ),
  );

/** Observes the state in the server through a separate connection. */
export const watch = (it: Scene, { key }: RedisThrottle): (() => Promise<{ slots: number[]; waiting: number }>) => {
  const observer = it.throttle(it.admin, { key });
  return async () => {
    const { active, waiting } = await observer.inspect();
    return { slots: active.map(({ slot }) => slot).toSorted((a, b) => a - b), waiting: waiting.length };
  };
};

/** Waits until the state in the server is as given. A server that is down has no state. */
export const untilKnown = (
  known: () => Promise<{ slots: number[]; waiting: number }>,
  slotsTaken: number[],
  waiting: number,
  seconds = 10,
): Promise<void> => {
  const wanted = JSON.stringify({ slots: slotsTaken, waiting });
  return until(wanted, async () => JSON.stringify(await known().catch(() => undefined)) === wanted, seconds);
};
