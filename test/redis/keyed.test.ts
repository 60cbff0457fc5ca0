/** RedisKeyedThrottle: independent keys, the state that it shares with a RedisThrottle, and the keys in the process. */
import { ThrottleClosedError } from 'headgate';
import { type RedisCommands, RedisKeyedThrottle, type RedisKeyedThrottleOptions, RedisThrottle } from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import { afterEach, describe, expect, test } from 'vitest';
import { client } from './shared-client.js';
import { withoutMessages, freshKey, until } from './support.js';

const opened: RedisKeyedThrottle[] = [];
afterEach(async () => {
  for (const keyed of opened.splice(0)) await keyed.close();
});

const open = (options: Partial<RedisKeyedThrottleOptions> = {}): RedisKeyedThrottle => {
  const keyed = new RedisKeyedThrottle({ client, prefix: freshKey(), ttl: 5, ...options });
  opened.push(keyed);
  return keyed;
};

/** A client that rejects every call while `up` is false. */
const frail = (): RedisCommands & { up: boolean } => {
  const { eval: run, subscribe } = withoutMessages(client);
  const state: RedisCommands & { up: boolean } = {
    up: true,
    eval: (...call) => (state.up ? run(...call) : Promise.reject(new Error('gone'))),
    subscribe,
  };
  return state;
};

describe('keys are independent', () => {
  test('slots, tokens and pauses apply to one key', async () => {
    const keyed = open({ capacity: 2, period: 1_000, concurrency: 1 });
    const ada = await keyed.acquire('ada', 2);
    await keyed.pause('bob', 60);
    const eve = await keyed.tryAcquire('eve', 2);
    expect([ada.slot, eve?.slot]).toEqual([1, 1]);
    expect(await keyed.tryAcquire('ada', 0)).toBeUndefined();
    expect(await keyed.tryAcquire('bob', 0)).toBeUndefined();
    await keyed.resume('bob');
    const bob = await keyed.tryAcquire('bob', 2);
    expect((await keyed.inspect('bob')).active.length).toBe(1);
    for (const permit of [ada, bob, eve]) permit?.release();
    await keyed.idle();
    expect((await keyed.inspect('ada')).tokens).toBeLessThan(1);
    expect((await keyed.inspect('new')).tokens).toBe(2);
  });

  test('even if one contains the separator of another', async () => {
    const keyed = open({ concurrency: 1 });
    const keys = ['a', 'a}', 'a}:queue', '{a}', 'a:leases', ' ', 'ä\n€', '__proto__'];
    const permits = await Promise.all(keys.map((key) => keyed.acquire(key)));
    expect(permits.map(({ slot }) => slot)).toEqual(keys.map(() => 1));
    for (const key of keys) expect(await keyed.tryAcquire(key)).toBeUndefined();
    for (const permit of permits) permit.release();
    await keyed.idle();
  });

  test('a reset affects one key', async () => {
    const keyed = open({ capacity: 2, period: 1_000 });
    for (const key of ['ada', 'bob']) (await keyed.acquire(key, 2)).release();
    await keyed.reset('ada');
    expect((await keyed.inspect('ada')).tokens).toBe(2);
    expect((await keyed.inspect('bob')).tokens).toBeLessThan(1);
  });
});

describe('the keys in the process', () => {
  test('a key is kept while it has waiters or holders, and removed at the last release', async () => {
    const keyed = open({ concurrency: 1 });
    expect(keyed.size).toBe(0);
    const first = await keyed.acquire('ada');
    const second = keyed.acquire('ada');
    const other = await keyed.acquire('bob');
    expect(keyed.size).toBe(2);
    first.release();
    (await second).release();
    await until('the key ada is removed', () => keyed.size === 1);
    other.release();
    await until('bob is forgotten', () => keyed.size === 0);
  });

  test('a refused call, an inspect and a pause leave no key', async () => {
    const keyed = open({ capacity: 2, period: 1_000 });
    await expect(keyed.acquire('ada', 3)).rejects.toThrow(RangeError);
    await expect(keyed.acquire('ada', 1, { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
    await keyed.inspect('ada');
    await keyed.reset('ada');
    expect(keyed.size).toBe(0);
    await keyed.pause('ada', 60);
    await expect(keyed.acquire('ada', 1, { timeout: 1 })).rejects.toThrow('retry in');
    await until('the key ada is removed', () => keyed.size === 0);
    await keyed.resume('ada');
  });

  test('a thousand keys of one tick are removed after their release', async () => {
    const keyed = open({ concurrency: 1 });
    const keys = Array.from({ length: 1_000 }, (_, index) => `key ${index}`);
    const slots = await Promise.all(keys.map((key) => keyed.run(key, ({ slot }) => slot)));
    expect(new Set(slots)).toEqual(new Set([1]));
    await keyed.idle();
    expect(keyed.size).toBe(0);
  });
});

describe('shared state', () => {
  test('a RedisThrottle with the same prefix and key shares the state', async () => {
    const prefix = freshKey();
    const keyed = open({ prefix, concurrency: 1, capacity: 5, period: 1_000 });
    const throttle = new RedisThrottle({
      client,
      prefix,
      key: 'ada',
      concurrency: 1,
      capacity: 5,
      period: 1_000,
      ttl: 5,
    });
    const held = await keyed.acquire('ada', 2);
    expect(await throttle.tryAcquire()).toBeUndefined();
    const waiting = throttle.acquire(2);
    await until('one waiter is queued', async () => (await keyed.inspect('ada')).waiting.length === 1);
    const { active, tokens } = await throttle.inspect();
    expect(active).toMatchObject([{ slot: 1, cost: 2 }]);
    expect(tokens).toBeCloseTo(3, 1);
    held.release();
    (await waiting).release();
    await throttle.pause(60);
    expect((await keyed.inspect('ada')).pausedFor).toBeGreaterThan(50);
    await keyed.resume('ada');
    await throttle.close();
  });
});

describe('failOpen', () => {
  test('grants by key, with a quota that outlives the throttle of the key', async () => {
    const redis = frail();
    const keyed = open({ client: redis, capacity: 2, period: 1_000, failOpen: true });
    redis.up = false;
    const permits = [await keyed.acquire('ada'), await keyed.acquire('ada')];
    expect(permits.map(({ slot }) => slot)).toEqual([0, 0]);
    for (const permit of permits) permit.release();
    expect(await keyed.tryAcquire('ada')).toBeUndefined();
    // The failed commands are sent again once Redis replies; then the process removes the key.
    redis.up = true;
    await until('no key is left in the process', () => keyed.size === 0);
    redis.up = false;
    expect((await keyed.tryAcquire('bob'))?.slot).toBe(0);
    expect(await keyed.tryAcquire('ada')).toBeUndefined();
    redis.up = true;
    await until('Redis decides again', async () => {
      const permit = await keyed.tryAcquire('new');
      permit?.release();
      return permit?.slot === 1;
    });
  });

  test('a pause that Redis did not receive applies in this process', async () => {
    const redis = frail();
    const keyed = open({ client: redis, concurrency: 1, failOpen: true });
    redis.up = false;
    await keyed.pause('ada', 60);
    expect(await keyed.tryAcquire('ada')).toBeUndefined();
    const bob = await keyed.tryAcquire('bob');
    expect(bob?.slot).toBe(0);
    await keyed.resume('ada');
    const ada = await keyed.tryAcquire('ada');
    expect(ada?.slot).toBe(0);
    ada?.release();
    bob?.release();
    redis.up = true;
    await keyed.idle();
  });
});

describe('closing', () => {
  test('close rejects the waiters of all keys; running work continues, and idle waits for it', async () => {
    const keyed = open({ concurrency: 1 });
    const held = await keyed.acquire('ada');
    const waiting = keyed.acquire('ada');
    const reason = new Error('enough');
    const closing = keyed.close(reason);
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_THROTTLE_CLOSED', cause: reason });
    await closing;
    expect(keyed.closed).toBe(true);
    await expect(keyed.acquire('bob')).rejects.toThrow(ThrottleClosedError);
    await expect(keyed.run('bob', () => 1)).rejects.toThrow(ThrottleClosedError);
    expect(await keyed.tryAcquire('bob')).toBeUndefined();
    let idle = false;
    const ended = keyed.idle().then(() => (idle = true));
    expect(await keyed.inspect('ada')).toMatchObject({ active: [{ slot: 1 }], waiting: [] });
    expect(idle).toBe(false);
    held.release();
    await ended;
    expect((await keyed.inspect('ada')).active).toEqual([]);
    expect(keyed.size).toBe(0);
  });

  test('after close, inspect and reset still use the given key', async () => {
    const keyed = open({ capacity: 2, period: 1_000 });
    // The internal throttle that holds the options has this key.
    (await keyed.acquire('model', 2)).release();
    await keyed.idle();
    await keyed.close();
    expect((await keyed.inspect('ada')).tokens).toBe(2);
    await keyed.reset('ada');
    expect((await keyed.inspect('model')).tokens).toBeLessThan(1);
  });

  test('Symbol.asyncDispose closes it', async () => {
    const keyed = new RedisKeyedThrottle({ client, prefix: freshKey(), concurrency: 1, name: 'mine' });
    {
      await using used = keyed;
      await using _ = await used.acquire('ada');
    }
    expect([keyed.closed, keyed.name, keyed.size, keyed.keyed]).toEqual([true, 'mine', 0, true]);
  });
});

describe('bad arguments', () => {
  test.each([
    [undefined, TypeError, 'key must be a string, received undefined'],
    [null, TypeError, 'key must be a string, received null'],
    [5, TypeError, 'key must be a string, received 5'],
    ['', RangeError, 'key must be a string that is not empty, received ""'],
  ])('the key %s is rejected', async (key, Kind, message) => {
    const keyed = open();
    const wrong = key as string;
    const calls = [
      keyed.acquire(wrong),
      keyed.tryAcquire(wrong),
      keyed.run(wrong, () => 1),
      keyed.pause(wrong),
      keyed.resume(wrong),
      keyed.inspect(wrong),
      keyed.reset(wrong),
    ];
    for (const call of calls) {
      await expect(call).rejects.toThrow(Kind);
      await expect(call).rejects.toThrow(message);
    }
    expect(keyed.size).toBe(0);
  });

  test('bad options throw in the constructor', () => {
    expect(() => open({ concurrency: 1.5 })).toThrow('concurrency must be an integer >= 0, received 1.5');
    expect(() => open({ ttl: 0 })).toThrow('ttl must be');
    expect(() => open({ clock: new ManualClock(), prefix: '{' })).toThrow('prefix must be a string without braces');
  });
});

test('a late settlement leaves the new throttle of its key in place', async () => {
  const keyed = open({ concurrency: 1, capacity: 10, period: 1_000 });
  const early = await keyed.acquire('key');
  early.release();
  await keyed.idle();
  const held = await keyed.acquire('key');
  const waiting = keyed.acquire('key');
  early.settle(0);
  await until('the settlement is applied', async () => Math.round((await keyed.inspect('key')).tokens) === 9);
  expect(keyed.size).toBe(1);
  held.release();
  (await waiting).release();
  await keyed.idle();
  expect(keyed.size).toBe(0);
});
