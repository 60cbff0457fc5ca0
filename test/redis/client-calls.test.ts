/**
 * The calls of a shared connection: their timeouts (FAULTS 59, 67), the outages that they show (FAULTS 62), and the
 * client that headgate creates (FAULTS 68).
 */
import { Redis } from 'ioredis';
import { type RedisCommands, type RedisConnection, RedisThrottle } from 'headgate/redis';
import { createClient, createClientPool } from 'redis';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { stableText } from '../../src/redis/connections.js';
import { hashSlot } from '../../src/redis/drivers/hash-slot.js';
import { Script } from '../../src/redis/script.js';
import { type SharedConnection, sharedConnection } from '../../src/redis/shared-connection.js';
import { call, clock, outcome, receive, retained, slowEcho } from './connection-support.js';
import { startHalfOpenProxy } from './half-open-proxy.js';
import { client as admin, server } from './own-server.js';
import { connections, freshKey, readyIoredis, readyNodeRedis, sleep, stopwatch, until } from './support.js';

const kinds: [string, (url: string) => Promise<RedisConnection>][] = [
  ['ioredis', (url) => readyIoredis(new Redis(url))],
  ['node-redis', (url) => readyNodeRedis(createClient({ url }) as never)],
  ['a pool of node-redis', (url) => readyNodeRedis(createClientPool({ url }) as never)],
  ['{ url }', async (url) => ({ url, name: freshKey() })],
];

/** Blocks the event loop. */
const block = (milliseconds: number): void => {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
};
const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const isDown = (connection: SharedConnection, key: string): boolean => connection.isDown(key, clock.now(), () => {});

/** A custom client whose replies the test gives. */
class Manual implements RedisCommands {
  readonly calls: { key: string; resolve: (reply: unknown) => void; reject: (error: unknown) => void }[] = [];
  eval(_: string, keys: string[]): Promise<unknown> {
    return new Promise((resolve, reject) => void this.calls.push({ key: keys[0] as string, resolve, reject }));
  }
  async subscribe(): Promise<void> {}
}

describe.each(kinds)('%s', (_, connect) => {
  test('a blocked event loop is no failure of Redis (FAULTS 59)', async () => {
    const connection = retained(await connect(server.url));
    await call(connection, 'connected');
    // The call is sent after the event loop has been blocked,
    const before = outcome(call(connection, 'before', { timeout: 0.1 }));
    block(250);
    expect(await before).toBe('before');
    // or its reply arrives while the event loop is blocked.
    const during = outcome(call(connection, 'during', { script: slowEcho, further: ['50000'], timeout: 0.2 }));
    await sleep(20);
    block(400);
    expect(await during).toBe('during');
    expect(isDown(connection, '{test}')).toBe(false);
  });

  test('a script that Redis has not cached is sent in full', async () => {
    const connection = retained(await connect(server.url));
    const script = new Script(`return ARGV[1] -- ${freshKey()}`);
    const run = (text: string): Promise<unknown> => call(connection, text, { script });
    expect(await Promise.all(['one', 'two', 'three'].map(run))).toEqual(['one', 'two', 'three']);
    await admin.script('FLUSH');
    expect(await run('four')).toBe('four');
  });

  test('20,000 keys in one tick cause no false timeout on a busy Redis (FAULTS 67)', async () => {
    const connection = retained(await connect(server.url));
    await call(connection, 'connected');
    const done = new AbortController();
    const load = (async () => {
      while (!done.signal.aborted) await admin.eval(slowEcho.source, 0, 'x', 2_000);
    })();
    const start = performance.now();
    // Each call takes 75 µs of Redis, so all of them take longer than the timeout.
    const outcomes = await Promise.all(
      range(20_000).map((index) =>
        outcome(call(connection, `${index}`, { script: slowEcho, further: ['75'], key: `{key ${index}}` })),
      ),
    );
    done.abort();
    await load;
    expect(performance.now() - start).toBeGreaterThan(1_500);
    expect(outcomes.filter((text, index) => text !== `${index}`).length).toBe(0);
  }, 120_000);
});

describe('the queue of calls', () => {
  test('at most 256 calls are in flight, in the order of the calls (FAULTS 67)', async () => {
    const client = new Manual();
    const connection = retained(client);
    const replies = range(3_000).map((index) => call(connection, '', { key: `{${index}}` }));
    expect(client.calls.length).toBe(256);
    for (let next = 0; next < 3_000; next++) {
      client.calls[next]?.resolve(next);
      expect(await replies[next]).toBe(next);
      expect(client.calls.length).toBe(Math.min(3_000, 257 + next));
    }
    expect(client.calls.map(({ key }) => key)).toEqual(range(3_000).map((index) => `{${index}}`));
  });

  test('calls in the queue end when the connection is dead (FAULTS 67)', async () => {
    const connection = retained(new Manual());
    const elapsed = stopwatch();
    const outcomes = await Promise.all(range(1_000).map(() => outcome(call(connection, '', { timeout: 0.2 }))));
    expect(elapsed()).toBeLessThan(600);
    expect(new Set(outcomes)).toEqual(new Set(['Error: no reply within 0.2 s']));
    expect(isDown(connection, '{another}')).toBe(true);
  });

  test('a call that fails at once makes room for the next one', async () => {
    let calls = 0;
    const connection = retained({
      eval: () => {
        if (++calls % 2 === 0) throw new Error('no');
        return new Promise((resolve) => void setTimeout(resolve, 1, 'ok'));
      },
      subscribe: async () => {},
    });
    const outcomes = await Promise.all(range(1_000).map(() => outcome(call(connection, ''))));
    expect(outcomes.filter((text) => text === 'ok').length).toBe(500);
    expect(outcomes.filter((text) => text === 'Error: no').length).toBe(500);
  });

  test('a timer watches each clock, and timeouts of different lengths end in time', async () => {
    const connection = retained(new Manual());
    const ends: number[] = [];
    const start = performance.now();
    await Promise.all(
      [0.3, 0.1, 0.2].map(async (timeout) => {
        await outcome(call(connection, '', { timeout }));
        ends.push(Math.round((performance.now() - start) / 100));
      }),
    );
    expect(ends).toEqual([1, 2, 3]);
  });

  test('a late reply is passed on, and ends the outage', async () => {
    const client = new Manual();
    const connection = retained(client);
    const late: unknown[] = [];
    const options = { timeout: 0.05, onLateReply: (reply: unknown) => void late.push(reply) };
    const outcomes = [call(connection, '', options), call(connection, '', options)].map(outcome);
    expect(await Promise.all(outcomes)).toEqual(Array(2).fill('Error: no reply within 0.05 s'));
    expect(isDown(connection, '{test}')).toBe(true);
    client.calls[0]?.resolve('late');
    client.calls[1]?.reject(new Error('NOSCRIPT late'));
    await sleep(0);
    // The caller has got an error, so the script is not sent again.
    expect([late, isDown(connection, '{test}'), client.calls.length]).toEqual([['late'], false, 2]);
  });
});

describe('outages (FAULTS 62)', () => {
  test('an error reply concerns the key only, and a success ends it', async () => {
    const client = new Manual();
    const connection = retained(client);
    const failing = call(connection, '', { key: '{a}' });
    client.calls[0]?.reject(new Error('NOPERM this user has no permissions to access one of the keys'));
    expect(await outcome(failing)).toMatch(/NOPERM/);
    expect([isDown(connection, '{a}'), isDown(connection, '{b}')]).toEqual([true, false]);
    const again = call(connection, '', { key: '{a}' });
    client.calls[1]?.resolve('ok');
    await again;
    expect(isDown(connection, '{a}')).toBe(false);
  });

  test('WRONGTYPE is no outage', async () => {
    const client = new Manual();
    const connection = retained(client);
    const failing = outcome(call(connection, ''));
    client.calls[0]?.reject(new Error('WRONGTYPE Operation against a key'));
    await failing;
    expect(isDown(connection, '{test}')).toBe(false);
  });

  test('a timeout concerns the key only, if other calls succeed meanwhile', async () => {
    const client = new Manual();
    const connection = retained(client);
    const failing = outcome(call(connection, '', { key: '{a}', timeout: 0.05 }));
    const working = call(connection, '', { key: '{b}', timeout: 0.05 });
    client.calls[1]?.resolve('ok');
    await working;
    await failing;
    expect([isDown(connection, '{a}'), isDown(connection, '{b}')]).toEqual([true, false]);
  });

  test.each([new Error('Connection is closed.'), Object.assign(new Error('ECONNREFUSED x'), { code: 'ECONNREFUSED' })])(
    'an error of the connection concerns all keys, until a call succeeds: %s',
    async (error) => {
      const client = new Manual();
      const connection = retained(client);
      const failing = outcome(call(connection, '', { key: '{a}' }));
      client.calls[0]?.reject(error);
      await failing;
      expect([isDown(connection, '{a}'), isDown(connection, '{b}')]).toEqual([true, true]);
      const working = call(connection, '', { key: '{b}' });
      client.calls[1]?.resolve('ok');
      await working;
      expect([isDown(connection, '{a}'), isDown(connection, '{b}')]).toEqual([false, false]);
    },
  );

  test('a probe is due once per second, also for a throttle with another clock', async () => {
    const client = new Manual();
    const connection = retained(client);
    const failing = outcome(call(connection, ''));
    client.calls[0]?.reject(new Error('OOM command not allowed'));
    await failing;
    const probe = vi.fn();
    const now = clock.now();
    for (const seconds of [0.5, 0.9, 1.1, 1.5, 2.2, -100, -99.5])
      expect(connection.isDown('{test}', now + seconds, probe)).toBe(true);
    expect(probe).toHaveBeenCalledTimes(3);
  });

  test('at most 10,000 outages are kept', async () => {
    const connection = retained({
      eval: async () => Promise.reject(new Error('OOM command not allowed')),
      subscribe: async () => {},
    });
    await Promise.all(range(10_001).map((index) => outcome(call(connection, '', { key: `{${index}}` }))));
    expect([0, 1, 10_000].map((index) => isDown(connection, `{${index}}`))).toEqual([false, true, true]);
  });

  test('failOpen: a key that the rules forbid leaves the other keys in Redis', async () => {
    const username = freshKey();
    await admin.call('ACL', 'SETUSER', username, 'on', '>word', '~{headgate:good*', '&*', '+@all');
    onTestFinished(() => void admin.call('ACL', 'DELUSER', username));
    const client = await readyIoredis(new Redis({ port: server.port, username, password: 'word' }));
    const open = (key: string): RedisThrottle => {
      const throttle = new RedisThrottle({ client, key, concurrency: 2, failOpen: true });
      onTestFinished(() => throttle.close());
      return throttle;
    };
    const [good, bad] = [open('good'), open('bad')];
    for (let round = 0; round < 20; round++) {
      expect(await bad.run(({ slot }) => slot)).toBe(0);
      expect(await good.run(({ slot }) => slot)).toBe(1);
    }
  });
});

describe('the client that headgate creates (FAULTS 68)', () => {
  const own = (url: string): SharedConnection => retained({ url, name: freshKey() });

  test('a half-open connection is replaced', async () => {
    const proxy = await startHalfOpenProxy(server.port);
    const connection = own(proxy.url);
    expect(await call(connection, 'works')).toBe('works');
    proxy.freeze();
    expect(await outcome(call(connection, 'lost', { timeout: 0.2 }))).toBe('Error: no reply within 0.2 s');
    expect(await call(connection, 'works again')).toBe('works again');
    await until('the end of the old connection', () => proxy.open === 1);
  });

  test('a connection that does not start ends in time, and the next one works', async () => {
    const proxy = await startHalfOpenProxy(server.port);
    proxy.silent = true;
    const connection = own(proxy.url);
    const elapsed = stopwatch();
    const outcomes = await Promise.all(range(10).map(() => outcome(call(connection, 'lost', { timeout: 0.2 }))));
    expect(outcomes).toEqual(Array(10).fill('Error: no connection within 0.2 s'));
    expect(elapsed()).toBeLessThan(500);
    expect(isDown(connection, '{test}')).toBe(true);
    proxy.silent = false;
    expect(await call(connection, 'works')).toBe('works');
  });

  test('a connection that is being opened is closed with the last throttle', async () => {
    const proxy = await startHalfOpenProxy(server.port);
    // Redis never answers, so the connection is still being opened when the last throttle closes.
    proxy.silent = true;
    const connection = sharedConnection({ url: proxy.url, name: freshKey() });
    connection.retain();
    receive(connection);
    const ended = outcome(call(connection, 'lost'));
    await until('a connection', () => proxy.open > 0);
    connection.release();
    expect(await ended).toMatch(/^Error: /);
    expect(await outcome(call(connection, 'lost'))).toBe('Error: the connection is closed');
    await until('no connection', () => proxy.open === 0);
  });

  test('a lost connection is opened again by the next call', async () => {
    const connection = own(server.url);
    expect(await call(connection, 'works')).toBe('works');
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await until('it works again', async () => (await outcome(call(connection, 'works'))) === 'works', 2);
  });

  test('equal plain options share a client, whatever the order of their properties', async () => {
    const before = await connections(server.url);
    const shared = range(400).map((index) =>
      index % 2 === 0
        ? retained({ url: server.url, database: 1, socket: { connectTimeout: 500, keepAlive: true }, name: undefined })
        : retained({ socket: { keepAlive: true, connectTimeout: 500 }, database: 1, url: server.url }),
    );
    await Promise.all(shared.map((connection) => call(connection, 'x')));
    expect([new Set(shared).size, await connections(server.url)]).toEqual([1, before + 1]);
    expect(sharedConnection({ url: server.url, database: 2 })).not.toBe(shared[0]);
  });

  test('options with functions or instances are shared by identity', () => {
    const cyclic: { url: string; self?: unknown } = { url: 'redis://localhost' };
    cyclic.self = cyclic;
    for (const value of [{ url: 'x', socket: { reconnectStrategy: () => 1 } }, { url: 'x', ca: new Map() }, cyclic])
      expect(stableText(value)).toBeUndefined();
    expect(stableText({ a: [1, null, { c: true }], b: 'x' })).toBe(stableText({ b: 'x', a: [1, null, { c: true }] }));
    expect(stableText({ a: [1] })).not.toBe(stableText({ a: { 0: 1 } }));
    const options = { url: 'redis://localhost', socket: { reconnectStrategy: () => 1 } };
    expect(sharedConnection(options)).toBe(sharedConnection(options));
    expect(sharedConnection(options)).not.toBe(sharedConnection({ ...options }));
  });

  test('a hundred clients of one address cause one warning, without the password', async () => {
    const warnings: (Error & { code?: string })[] = [];
    const note = (warning: Error): void => void warnings.push(warning);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    for (const index of range(99)) retained({ url: 'redis://ada:secret@nowhere:1?x=1', database: index });
    for (const index of range(90)) retained({ socket: { host: 'nowhere', port: 1 }, database: index });
    // A closed client does not count.
    const one = sharedConnection({ url: 'redis://ada:secret@nowhere:1?x=1', name: 'short' });
    expect(warnings).toEqual([]);
    one.retain();
    one.release();
    await sleep(10);
    const count = warnings.length;
    for (const index of range(110)) retained({ url: 'redis://ada:secret@nowhere:1?x=1', name: `${index}` });
    await sleep(10);
    expect([count, warnings.map(({ code }) => code)]).toEqual([1, ['HEADGATE_MANY_CLIENTS']]);
    expect(warnings[0]?.message).toContain('100 clients of redis://nowhere:1 open');
  });
});

describe('loading', () => {
  afterEach(() => {
    vi.doUnmock('redis');
    vi.resetModules();
  });

  test('the time to load the package redis counts against no timeout (FAULTS 59)', async () => {
    vi.resetModules();
    vi.doMock('redis', async (original) => {
      await sleep(600);
      return original();
    });
    const fresh = (await import('../../src/redis/shared-connection.js')).sharedConnection({ url: server.url });
    fresh.retain();
    onTestFinished(() => fresh.release());
    const start = performance.now();
    expect(await outcome(call(fresh as never, 'works', { timeout: 0.3 }))).toBe('works');
    expect(performance.now() - start).toBeGreaterThan(590);
  });

  test('without WebCrypto, the full text of a script is sent', async () => {
    vi.stubGlobal('crypto', {});
    const script = new Script('return ARGV[1]');
    await script.prepare();
    vi.unstubAllGlobals();
    expect([script.sha, script.prepare()]).toEqual(['', undefined]);
    for (const [, connect] of kinds) {
      const connection = retained(await connect(server.url));
      expect(await call(connection, 'works', { script })).toBe('works');
    }
  });
});

test('hash slots are those of Redis', () => {
  expect(
    ['123456789', 'foo', '{user1000}.following', 'user1000', 'foo{}{bar}', '{headgate:ü}:x'].map(hashSlot),
  ).toEqual([12_739, 12_182, 3_443, 3_443, 8_363, hashSlot('headgate:ü')]);
});
