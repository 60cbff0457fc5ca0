/** The subscription of a process: it is pinged, bounded in time and replaced (FAULTS 56), and refusals are reported. */
import { Redis } from 'ioredis';
import type { RedisConnection } from 'headgate/redis';
import { createClient } from 'redis';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Receiver } from '../../src/redis/drivers/driver.js';
import { keepSubscribed, type Subscription } from '../../src/redis/drivers/subscription.js';
import { call, outcome, receive, retained } from './connection-support.js';
import { startHalfOpenProxy } from './half-open-proxy.js';
import { client as admin, server } from './own-server.js';
import { freshKey, readyIoredis, readyNodeRedis, sleep, until } from './support.js';

const kinds: [string, (url: string, user?: { username: string; password: string }) => Promise<RedisConnection>][] = [
  ['ioredis', (url, user) => readyIoredis(new Redis(url, { ...user }))],
  ['ioredis, RESP2', (url, user) => readyIoredis(new Redis(url, { protocol: 2, ...user }))],
  ['node-redis', (url, user) => readyNodeRedis(createClient({ url, ...user }) as never)],
  ['node-redis, RESP2', (url, user) => readyNodeRedis(createClient({ url, RESP: 2, ...user }) as never)],
  ['{ url }', async (url, user) => ({ url, name: freshKey(), ...user })],
];

/** Declares a test that runs with all kinds of clients at a time, since it waits most of the time. */
const withAll = (name: string, body: (connect: (typeof kinds)[number][1], kind: string) => Promise<void>): void =>
  test(name, async () => {
    const failures: unknown[] = [];
    await Promise.all(
      kinds.map(([kind, connect]) => body(connect, kind).catch((error: unknown) => failures.push(kind, error))),
    );
    expect(failures).toEqual([]);
  });

describe('for each kind of client', () => {
  withAll('a half-open subscription is found by a ping, and replaced (FAULTS 56)', async (connect) => {
    const proxy = await startHalfOpenProxy(server.port);
    const connection = retained(await connect(proxy.url));
    const received = receive(connection);
    await call(connection, 'first', { timeout: 0.5 });
    await until('the subscription', () => received.reconciled === 1);
    expect(proxy.freeze('SUBSCRIBE')).toBe(1);
    await admin.publish(received.channel, `${received.instance}\nlost`);
    // Five seconds until the ping, and half a second without its reply.
    await until('another subscription', () => received.reconciled === 2);
    await admin.publish(received.channel, `${received.instance}\none\ntwo`);
    await until('the message', () => received.events.length > 0);
    expect(received.events).toEqual(['one', 'two']);
  });

  withAll('distrustMessages replaces the subscription, at most once per second (FAULTS 56)', async (connect) => {
    const proxy = await startHalfOpenProxy(server.port);
    const connection = retained(await connect(proxy.url));
    connection.distrustMessages();
    const received = receive(connection);
    await call(connection, 'first');
    await until('the subscription', () => received.reconciled === 1);
    await sleep(1_000);
    expect(proxy.freeze('SUBSCRIBE')).toBe(1);
    const start = performance.now();
    for (let count = 0; count < 20; count++) {
      connection.distrustMessages();
      await sleep(10);
    }
    await until('another subscription', () => received.reconciled === 2);
    expect(performance.now() - start).toBeLessThan(1_000);
    await until('the end of the old subscription', async () => {
      const { length } = await admin.pubsub('NUMSUB', received.channel);
      return length === 2;
    });
    await admin.publish(received.channel, `${received.instance}\ndelivered`);
    await until('the message', () => received.events.length > 0);
    expect([received.events, received.reconciled]).toEqual([['delivered'], 2]);
  });

  withAll('a healthy subscription stays, though it is pinged (FAULTS 56)', async (connect) => {
    const connection = retained(await connect(server.url));
    const received = receive(connection);
    await call(connection, 'first', { timeout: 0.5 });
    await until('the subscription', () => received.reconciled === 1);
    await sleep(6_500);
    await admin.publish(received.channel, received.instance);
    await admin.publish(received.channel, `${received.instance}\nevent`);
    await until('the message', () => received.events.length > 0);
    expect([received.reconciled, received.events]).toEqual([1, ['event']]);
  });

  withAll('one call reports that the user has no permission for the channel (FAULTS 69)', async (connect) => {
    const username = freshKey();
    const setUser = (...rules: string[]): Promise<unknown> => admin.call('ACL', 'SETUSER', username, ...rules);
    await setUser('on', '>word', '~*', '+@all', 'resetchannels');
    onTestFinished(() => void admin.call('ACL', 'DELUSER', username));
    const connection = retained(await connect(server.url, { username, password: 'word' }));
    const received = receive(connection);
    const outcomes: string[] = [];
    await until('the report', async () => {
      outcomes.push(await outcome(call(connection, 'works')));
      return outcomes.at(-1) !== 'works';
    });
    expect(outcomes.at(-1)).toMatch(/may not subscribe.*Grant the permissions &headgate:\*.*NOPERM/);
    expect(await outcome(call(connection, 'works'))).toBe('works');
    await sleep(1_500);
    expect(await outcome(call(connection, 'works'))).toBe('works');
    // A grant of the permission is noticed by the next attempt, here an early one.
    await setUser('&headgate:*');
    connection.distrustMessages();
    await until('the subscription', () => received.reconciled === 1);
    expect(await outcome(call(connection, 'works'))).toBe('works');
  });
});

describe('keepSubscribed', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'performance'] }));
  afterEach(() => void vi.useRealTimers());

  const receiver = (changes: Partial<Receiver> = {}): Receiver & { started: number; failures: unknown[] } => {
    const noted = { started: 0, failures: [] as unknown[] };
    return Object.assign(noted, {
      onMessage() {},
      onStart: () => void noted.started++,
      onFailure: (error: unknown) => void noted.failures.push(error),
      preferredKey: () => 'key',
      replyWithin: () => 1,
      expectsMessages: () => true,
      ...changes,
    });
  };
  /** Subscribes as `start` does, and notes the keys and the ends of the attempts. */
  const keep = (
    start: (attempt: number) => Partial<Subscription>,
    to = receiver(),
  ): { keys: unknown[]; ended: number; lose: () => void; to: typeof to; renew(): void; stop(): void } => {
    const noted = { keys: [] as unknown[], ended: 0, lose: () => {}, to };
    const listening = keepSubscribed((onLost, key) => {
      noted.keys.push(key);
      noted.lose = onLost;
      return { started: Promise.resolve(), end: () => void noted.ended++, ...start(noted.keys.length) };
    }, to);
    onTestFinished(() => listening.stop());
    return Object.assign(noted, listening);
  };

  test('a subscription that never starts is replaced, each time with more patience', async () => {
    const kept = keep(() => ({ started: new Promise(() => {}) }));
    await vi.advanceTimersByTimeAsync(4_999);
    expect([kept.keys.length, kept.ended]).toEqual([1, 0]);
    await vi.advanceTimersByTimeAsync(500);
    expect([kept.keys.length, kept.ended]).toEqual([2, 1]);
    await vi.advanceTimersByTimeAsync(9_000);
    expect(kept.keys.length).toBe(2);
    await vi.advanceTimersByTimeAsync(1_500);
    expect(kept.keys.length).toBe(3);
  });

  test('a subscription whose confirmation is read in the last moment stays', async () => {
    const kept = keep(() => ({ started: sleep(5_000) }));
    await vi.advanceTimersByTimeAsync(6_000);
    expect([kept.keys.length, kept.to.started]).toEqual([1, 1]);
  });

  test('an attempt after a failure has no preferred node', async () => {
    const kept = keep((attempt) => (attempt < 3 ? { started: Promise.reject(new Error('no')) } : {}));
    await vi.advanceTimersByTimeAsync(1_000);
    expect(kept.keys).toEqual(['key', undefined, 'key']);
    expect([kept.to.started, kept.to.failures.length]).toEqual([1, 2]);
  });

  test('a refused permission is tried again after 30 seconds', async () => {
    const kept = keep((attempt) => (attempt === 1 ? { started: Promise.reject(new Error('NOPERM x')) } : {}));
    await vi.advanceTimersByTimeAsync(29_000);
    expect(kept.keys.length).toBe(1);
    await vi.advanceTimersByTimeAsync(1_000);
    expect([kept.keys.length, kept.to.started]).toEqual([2, 1]);
  });

  test('a permanent subscription is never replaced', async () => {
    const kept = keep(() => ({ started: new Promise(() => {}), permanent: true }));
    await vi.advanceTimersByTimeAsync(600_000);
    kept.renew();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(kept.keys.length).toBe(1);
  });

  test('a renewal is ignored during the first second, and after the end', async () => {
    const kept = keep(() => ({}));
    await vi.advanceTimersByTimeAsync(900);
    kept.renew();
    await vi.advanceTimersByTimeAsync(100);
    expect(kept.keys.length).toBe(1);
    kept.renew();
    kept.renew();
    await vi.advanceTimersByTimeAsync(10);
    expect([kept.keys.length, kept.ended, kept.to.started]).toEqual([2, 1, 2]);
    kept.stop();
    await vi.advanceTimersByTimeAsync(2_000);
    kept.renew();
    kept.lose();
    await vi.advanceTimersByTimeAsync(2_000);
    expect([kept.keys.length, kept.ended]).toEqual([2, 2]);
  });

  test('a loss before the subscription has started ends it', async () => {
    const kept = keep((attempt) => (attempt === 1 ? { started: sleep(100) } : {}));
    kept.lose();
    await vi.advanceTimersByTimeAsync(300);
    expect([kept.keys.length, kept.ended, kept.to.started]).toEqual([2, 1, 1]);
  });

  test('a loss while the client still connects ends the subscription as soon as it exists', async () => {
    const ended = vi.fn();
    let attempts = 0;
    const listening = keepSubscribed(async (onLost) => {
      if (attempts++ > 0) return { started: Promise.resolve(), end: () => {} };
      onLost();
      await sleep(10);
      return { started: Promise.reject(new Error('too late')), end: ended };
    }, receiver());
    onTestFinished(() => listening.stop());
    await vi.advanceTimersByTimeAsync(300);
    expect([attempts, ended.mock.calls.length]).toEqual([2, 1]);
  });

  test('a loss in the last moment before the start counts', async () => {
    const to = receiver();
    const kept = keep((attempt) => {
      const started = Promise.resolve().then(() => void (attempt === 1 && kept.lose()));
      return { started };
    }, to);
    await vi.advanceTimersByTimeAsync(300);
    expect([kept.keys.length, to.started]).toEqual([2, 1]);
  });

  test.each([
    ['a missing reply to a ping is a loss', () => new Promise(() => {}), 2],
    ['an error as the reply to a ping is none', () => Promise.reject(new Error('NOPERM')), 1],
    ['a reply in time is none', () => Promise.resolve(), 1],
    ['a reply that is read in the last moment is none', () => new Promise((done) => void setTimeout(done, 1_000)), 1],
  ])('%s', async (_, ping, attempts) => {
    const kept = keep((attempt) => (attempt === 1 ? { ping } : {}));
    await vi.advanceTimersByTimeAsync(5_990);
    expect(kept.keys.length).toBe(1);
    await vi.advanceTimersByTimeAsync(300);
    expect([kept.keys.length, kept.to.started]).toEqual([attempts, attempts]);
  });

  test('pings are sent every five seconds, while messages are expected', async () => {
    const ping = vi.fn(async () => {});
    let expecting = false;
    const kept = keep(() => ({ ping }), receiver({ expectsMessages: () => expecting }));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(ping).not.toHaveBeenCalled();
    expecting = true;
    await vi.advanceTimersByTimeAsync(20_000);
    expect(ping).toHaveBeenCalledTimes(4);
    kept.stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect([ping.mock.calls.length, vi.getTimerCount()]).toEqual([4, 0]);
  });

  test('the end of the subscription just before the verdict on a ping changes nothing', async () => {
    const kept = keep(() => ({ ping: () => new Promise(() => {}) }));
    await vi.advanceTimersByTimeAsync(5_990);
    setTimeout(() => setImmediate(() => kept.stop()), 9);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(kept.keys.length).toBe(1);
  });

  test('a ping under way at the end of the subscription changes nothing', async () => {
    const kept = keep(() => ({ ping: () => sleep(500) }));
    await vi.advanceTimersByTimeAsync(5_100);
    kept.stop();
    await vi.advanceTimersByTimeAsync(5_000);
    expect([kept.keys.length, vi.getTimerCount()]).toEqual([1, 0]);
  });
});
