/** Every accepted kind of client: headgate recognises it by its methods, uses it, and leaves no trace on it. */
import { readFileSync, rmSync } from 'node:fs';
import { EventEmitter } from 'node:events';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import {
  type NodeRedisClient,
  type RedisCommands,
  type RedisConnection,
  RedisThrottle,
  type RedisThrottleOptions,
  ThrottleBackendError,
} from 'headgate/redis';
import { createClient, createClientPool, RESP_TYPES } from 'redis';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { readLua } from '../support/lua-loader.js';
import { sendCommand } from '../support/redis-clusters.js';
import { guarded } from '../support/processes.js';
import { type RedisServer, startRedis } from '../support/redis-server.js';
import { wordsOf } from './batch-words.js';
import { scriptFile } from './scripts/support.js';
import { bundle, connections, evalThrough, freshKey, later, makeFolder, subscribeThrough, until } from './support.js';

type NodeRedis = NodeRedisClient & { withTypeMapping(mapping: object): NodeRedisClient };

const PASSWORD = 'open sesame';

/** The clients, with the names of their packages. Each test connects a kind of client twice, with one throttle each. */
interface Kind {
  readonly name: string;
  connect(): Promise<{ client: RedisConnection; ping?: () => Promise<unknown>; close: () => void }>;
}

let server: RedisServer;
let socket = '';
let folder = '';

beforeAll(async () => {
  folder = makeFolder();
  socket = join(folder, 'redis.sock');
  server = await startRedis({ unixsocket: socket });
});

afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

const open = (client: RedisConnection, options: Partial<RedisThrottleOptions> = {}): RedisThrottle => {
  const throttle = new RedisThrottle({ client, key: freshKey(), concurrency: 1, ttl: 60, ...options });
  onTestFinished(() => throttle.close());
  return throttle;
};

const viaIoredis = (name: string, options: object, ready = true): Kind => ({
  name: `ioredis, ${name}`,
  async connect() {
    const client = new Redis({ port: server.port, host: '127.0.0.1', ...options });
    client.on('error', () => {});
    if (ready) await until('a client', () => client.status === 'ready');
    return { client, ping: () => client.ping(), close: () => client.disconnect() };
  },
});

const viaNodeRedis = (name: string, options: object, adapt = (client: NodeRedis): RedisConnection => client): Kind => ({
  name: `node-redis, ${name}`,
  async connect() {
    const client = createClient({ url: server.url, ...options });
    client.on('error', () => {});
    await client.connect();
    return { client: adapt(client), ping: () => client.ping(), close: () => client.destroy() };
  },
});

/** Equal options share a client (FAULTS 68), so each connection has a name of its own. */
const viaOptions = (name: string, options: () => RedisConnection): Kind => ({
  name: `options, ${name}`,
  connect: async () => ({ client: options(), close: () => {} }),
});

/** A custom client with only the two required methods, each on its own connection. */
const custom = (): { client: RedisCommands; close: () => void } => {
  const commands = new Redis(server.port, '127.0.0.1', { lazyConnect: true });
  const messages = new Redis(server.port, '127.0.0.1', { lazyConnect: true });
  return {
    client: { eval: evalThrough(commands), subscribe: subscribeThrough(messages) },
    close() {
      commands.disconnect();
      messages.disconnect();
    },
  };
};

const kinds: Kind[] = [
  viaIoredis('as it comes', {}),
  viaIoredis('not connected yet', {}, false),
  viaIoredis('lazyConnect', { lazyConnect: true }, false),
  viaIoredis('without an offline queue', { enableOfflineQueue: false }),
  viaIoredis('keyPrefix, db, RESP2', { keyPrefix: 'mine:', db: 3, protocol: 2 }),
  viaIoredis('enableAutoPipelining, resp3', { enableAutoPipelining: true, replyMapping: 'resp3' }),
  viaIoredis('that never connects again', { retryStrategy: () => null }),
  viaNodeRedis('as it comes', {}),
  viaNodeRedis('RESP2, database', { RESP: 2, database: 4 }),
  viaNodeRedis('without an offline queue', { disableOfflineQueue: true }),
  viaNodeRedis('that never connects again', { socket: { reconnectStrategy: false } }),
  viaNodeRedis('replies mapped to buffers', {}, (client) =>
    client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }),
  ),
  {
    name: 'node-redis, a pool',
    async connect() {
      const client = createClientPool({ url: server.url }, { minimum: 1, maximum: 3 });
      client.on('error', () => {});
      await client.connect();
      return { client, ping: () => client.ping(), close: () => client.destroy() };
    },
  },
  viaOptions('a url and more', () => ({ url: server.url, name: freshKey() })),
  viaOptions('a url of a unix socket', () => ({ url: `unix://${socket}`, name: freshKey() })),
  viaOptions('host, port and database', () => ({
    socket: { host: '127.0.0.1', port: server.port },
    database: 5,
    name: freshKey(),
  })),
  viaOptions('a path', () => ({ socket: { path: socket }, name: freshKey() })),
  { name: 'custom', connect: async () => custom() },
];

/** The channels of headgate that have subscribers. */
const channels = async (): Promise<string[]> =>
  (await sendCommand(server.port, 'PUBSUB', 'CHANNELS', 'headgate:*')) as string[];

describe.each(kinds)('$name', ({ name, connect }) => {
  it('receives grants by message, also after a lost subscription; the client stays usable', async () => {
    const [here, there] = await Promise.all([connect(), connect()]);
    for (const { close } of [here, there]) onTestFinished(close);
    for (let round = 0; round < 2; round++) {
      const key = freshKey();
      const [first, second] = [here, there].map(({ client }) => open(client, { key })) as [
        RedisThrottle,
        RedisThrottle,
      ];
      for (const kill of name === 'custom' ? [false] : [false, true]) {
        const held = await first.acquire();
        const start = performance.now();
        const waiting = later(second.run((permit) => permit.slot));
        await until(
          'a waiter with a subscription',
          async () => (await first.inspect()).waiting.length === 1 && (await channels()).length === 2,
        );
        if (kill) await sendCommand(server.port, 'CLIENT', 'KILL', 'TYPE', 'pubsub');
        held.release();
        expect(await waiting).toBe(1);
        // A renewal, after a third of the ttl, would take 20 s.
        expect(performance.now() - start).toBeLessThan(3_000);
      }
      await Promise.all([first.close(), second.close()]);
      await Promise.all([here.ping?.(), there.ping?.()]);
      if (name === 'custom') return;
      await until('no channel of headgate is left', async () => (await channels()).length === 0);
    }
  });
});

it('hundreds of throttles on one client add one connection and no listener', async () => {
  const warned = vi.fn();
  process.on('warning', warned);
  onTestFinished(() => void process.off('warning', warned));
  const url = server.url;
  const nodeRedis = createClient({ url });
  const ioredis = new Redis(url);
  onTestFinished(() => {
    nodeRedis.destroy();
    ioredis.disconnect();
  });
  await nodeRedis.connect();
  const listeners = (client: EventEmitter): number =>
    client.eventNames().reduce((sum, event) => sum + client.listenerCount(event), 0);
  for (const client of [nodeRedis, ioredis] as const) {
    const [before, connected] = [listeners(client), await connections(server.url)];
    const throttles = Array.from({ length: 300 }, () => new RedisThrottle({ client, key: freshKey(), concurrency: 1 }));
    const permits = await Promise.all(throttles.map((throttle) => throttle.acquire()));
    await until('the subscriber', async () => (await channels()).length === 1);
    expect(await connections(server.url)).toBe(connected + 1);
    expect(listeners(client)).toBe(before);
    for (const permit of permits) permit.release();
    await Promise.all(throttles.map((throttle) => throttle.close()));
    await until('no channel of headgate is left', async () => (await channels()).length === 0);
    expect(await connections(server.url)).toBe(connected);
  }
  expect(warned).not.toHaveBeenCalled();
});

it('throttles with the same url share one client, which the last of them closes', async () => {
  const before = await connections(server.url);
  const [one, other] = [open({ url: server.url }), open({ url: server.url })];
  const permits = await Promise.all([one.acquire(), other.acquire()]);
  await until('the subscriber', async () => (await channels()).length === 1);
  expect(await connections(server.url)).toBe(before + 2);
  await one.close();
  permits[0].release();
  await one.idle();
  expect(await connections(server.url)).toBe(before + 2);
  await other.close();
  // A closed throttle with a held permit still renews its lease.
  expect(await connections(server.url)).toBe(before + 2);
  permits[1].release();
  await until('no connection of headgate', async () => (await connections(server.url)) === before);
});

it('calls fail in time while the server is down, and succeed once it has started', async () => {
  const errors = vi.fn();
  process.on('unhandledRejection', errors);
  onTestFinished(() => void process.off('unhandledRejection', errors));
  const late = await startRedis();
  await late.kill();
  onTestFinished(() => late.stop());
  const { port } = late;
  const ioredis = new Redis({ port, host: '127.0.0.1' });
  ioredis.on('error', () => {});
  const nodeRedis = createClient({ url: late.url });
  nodeRedis.on('error', () => {});
  onTestFinished(() => {
    ioredis.disconnect();
    nodeRedis.destroy();
  });
  const connecting = nodeRedis.connect();
  const key = freshKey();
  const throttles = [ioredis, nodeRedis, { url: late.url }].map((client) =>
    open(client as RedisConnection, { key, commandTimeout: 0.2, ttl: 3 }),
  );
  await Promise.all(throttles.map((throttle) => expect(throttle.acquire()).rejects.toThrow(ThrottleBackendError)));
  await late.start();
  await connecting;
  await until('all are served', () =>
    Promise.all(throttles.map((throttle) => throttle.run(() => true))).catch(() => false),
  );
  expect(errors).not.toHaveBeenCalled();
});

describe('a server with passwords and rules', () => {
  const CHANNEL_RULES = ['resetkeys', '~{headgate:*', 'resetchannels', '&headgate:*', '-@all'];
  /** The commands that the chapter on Redis lists. */
  const README = readFileSync(new URL('../../src/redis/README.md', import.meta.url), 'utf8');
  const COMMANDS = /^eval evalsha [a-z\s]+(?=```)/m.exec(README)?.[0].trim().split(/\s+/) ?? [];
  let strict: RedisServer;
  beforeAll(async () => {
    strict = await startRedis();
    const admin = new Redis(strict.port, '127.0.0.1');
    await admin.call(
      'ACL',
      'SETUSER',
      'limits',
      'on',
      `>${PASSWORD}`,
      ...CHANNEL_RULES,
      ...COMMANDS.map((command) => `+${command}`),
    );
    await admin.config('SET', 'requirepass', PASSWORD);
    admin.disconnect();
  });
  afterAll(() => strict.stop());

  const through = async (client: RedisConnection, other: RedisConnection): Promise<void> => {
    const key = freshKey();
    const [first, second] = [client, other].map((one) => open(one, { key, capacity: 100, commandTimeout: 1 })) as [
      RedisThrottle,
      RedisThrottle,
    ];
    const held = await first.acquire();
    const waiting = later(second.acquire());
    await until('a waiter', async () => (await first.inspect()).waiting.length === 1);
    await first.pause(0.05);
    held.settle(0.5);
    held.release();
    const start = performance.now();
    (await waiting).release();
    expect(performance.now() - start).toBeLessThan(3_000);
    await second.reset();
  };

  it('the chapter on Redis lists every command of the scripts, and no other', () => {
    const used = new Set(['eval', 'evalsha', 'subscribe', 'unsubscribe', 'ping']);
    for (const name of ['step', 'inspect', 'reset'])
      for (const [, command = ''] of readLua(scriptFile(name)).matchAll(/call(?:_in_parts)?\('([A-Z]+)'/g))
        used.add(command.toLowerCase());
    expect(COMMANDS.toSorted()).toEqual([...used].toSorted());
  });

  it.each(['default', 'limits'])('every operation succeeds for the user %s', async (username) => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    onTestFinished(() => warn.mockRestore());
    const clients = Array.from({ length: 2 }, () => {
      const client = new Redis({ port: strict.port, host: '127.0.0.1', username, password: PASSWORD });
      client.on('error', () => {});
      onTestFinished(() => client.disconnect());
      return client;
    }) as [Redis, Redis];
    await through(...clients);
    const { port } = strict;
    await through(
      { url: `redis://${username}:${encodeURIComponent(PASSWORD)}@127.0.0.1:${port}` },
      { socket: { host: '127.0.0.1', port }, username, password: PASSWORD },
    );
  });

  it('a wrong password rejects with the error of the server', async () => {
    const throttle = open({
      socket: { host: '127.0.0.1', port: strict.port, reconnectStrategy: false },
      username: 'limits',
      password: 'wrong',
    });
    await expect(throttle.acquire()).rejects.toThrow(/WRONGPASS/);
    // The next call tries to connect again.
    await expect(throttle.acquire()).rejects.toThrow(/WRONGPASS/);
  });
});

it('an idle client of headgate, and the subscriber of a closed client, keep no process alive', async () => {
  await bundle(folder, 'worker-exits');
  await Promise.all(
    ['ioredis', 'single', 'pool', 'ours'].map(async (kind) => {
      const key = freshKey();
      const throttle = open({ url: server.url }, { key });
      const held = await throttle.acquire();
      const child = guarded(
        spawn(process.execPath, [join(folder, 'worker-exits.mjs'), kind, server.url, key], {
          stdio: ['ignore', 'pipe', 'inherit'],
        }),
      );
      onTestFinished(() => void child.kill('SIGKILL'));
      let printed = '';
      child.stdout.on('data', (data: Buffer) => (printed += data.toString()));
      const ended = new Promise((resolve) => void child.once('exit', resolve));
      await until('a waiter', async () => (await throttle.inspect()).waiting.length === 1);
      held.release();
      expect([
        kind,
        await Promise.race([ended, until('its end', () => false, 8).catch(() => 'still there')]),
        printed,
      ]).toEqual([kind, 0, 'granted\n']);
    }),
  );
});

it('a missing package redis rejects with installation instructions', async () => {
  vi.resetModules();
  vi.doMock('redis', () => {
    throw new Error('not found');
  });
  onTestFinished(() => {
    vi.doUnmock('redis');
    vi.resetModules();
  });
  const fresh = await import('headgate/redis');
  const throttle = new fresh.RedisThrottle({ client: { url: server.url }, key: freshKey() });
  onTestFinished(() => throttle.close());
  await expect(throttle.acquire()).rejects.toThrow(
    /client: { url } needs the package "redis": npm install redis, or pass an existing client/,
  );
});

it.each([
  ['null', null],
  ['a string', 'redis://localhost'],
  ['an empty object', {}],
  ['half a client', { eval: () => {} }],
  ['scripts without a way to listen', { evalSha: () => {}, eval: () => {} }],
])('refuses %s', (_, client) => {
  expect(() => new RedisThrottle({ client: client as unknown as RedisConnection, key: 'a' })).toThrow(TypeError);
});

it('a reply that is not from the script rejects the call', async () => {
  const throttle = open({ eval: async () => undefined, subscribe: async () => {} });
  await expect(throttle.acquire()).rejects.toThrow(ThrottleBackendError);
});

/** A fake sentinel client of node-redis: it has one connection for messages, and emits an event for a new master. */
class Sentinel extends EventEmitter {
  isOpen = true;
  fails = false;
  readonly subscribe = vi.fn(async (_channel: string, _listener: (message: string) => void) => {
    if (this.fails) throw new Error('no connection');
  });
  readonly unsubscribe = vi.fn(async (_channel: string, _listener: (message: string) => void) => {});
  /** The reply puts every caller into the queue: a reply without an event for a request would be rejected. */
  readonly evalSha = vi.fn(async (_: string, { arguments: args }: { arguments: string[] }): Promise<unknown> => {
    const words = wordsOf(args);
    return ['A', ...words.flatMap((word, index) => (word === 'A' ? [`Q ${words[index + 1]} 1`] : []))].join('\n');
  });
  readonly eval = this.evalSha;
  duplicate(): unknown {
    throw new Error('a second sentinel is not needed');
  }
}

describe('a sentinel of node-redis', () => {
  it('subscribes again at each new master, and all waiters renew then', async () => {
    const client = new Sentinel();
    const throttle = open(client, { commandTimeout: 1 });
    const waiting = later(throttle.acquire());
    await until('the subscription', () => client.subscribe.mock.calls.length === 1);
    const calls = (): number => client.evalSha.mock.calls.length;
    await until('the first call', () => calls() >= 1);
    const [channel, listener] = client.subscribe.mock.calls[0] as [string, (message: string) => void];
    const before = calls();
    client.emit('topology-change', { type: 'MASTER_CHANGE' });
    await until('a subscription', () => client.subscribe.mock.calls.length === 2);
    expect(client.subscribe.mock.lastCall).toEqual([channel, listener]);
    // A failed subscription is retried.
    client.fails = true;
    client.emit('ready');
    await until('several attempts', () => client.subscribe.mock.calls.length >= 5);
    client.fails = false;
    const tries = client.subscribe.mock.calls.length;
    await until('a successful attempt', () => client.subscribe.mock.calls.length > tries);
    await until('a call of the waiter', () => calls() > before);
    await throttle.close();
    await expect(waiting).rejects.toThrow(/closed/);
    expect(client.eventNames()).toEqual([]);
    expect(client.unsubscribe).toHaveBeenLastCalledWith(channel, listener);
  });

  it('is not used after it was closed', async () => {
    const client = new Sentinel();
    const throttle = open(client);
    const waiting = later(throttle.acquire());
    await until('the subscription', () => client.subscribe.mock.calls.length === 1);
    client.isOpen = false;
    await throttle.close();
    await expect(waiting).rejects.toThrow(/closed/);
    expect(client.unsubscribe).not.toHaveBeenCalled();
    expect(client.eventNames()).toEqual([]);
  });
});
