/**
 * The tests of Python's concurrency-limit, under their names. It has a `limit` with a key, a `limit_timeout` (here the
 * `timeout` of a call), a `limit_interval` (its polling interval; headgate does not poll) and a `limit_expire` (here
 * `ttl`). Its scope yields a number from 1 to the limit. Where it drops a live holder or keeps a dead one, the test
 * here states the correct behaviour.
 */
import { ThrottleTimeoutError } from 'headgate';
import { type RedisPermit, RedisThrottle, type RedisThrottleOptions, ThrottleBackendError } from 'headgate/redis';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { killableClient, withoutMessages, freshKey, ioredis, sleep, until } from './support.js';

let client: Redis;
const closing: (() => Promise<void>)[] = [];
beforeAll(() => {
  const { client: made, close } = ioredis();
  client = made;
  closing.push(close);
});
afterAll(async () => {
  for (const close of closing) await close();
});

const opened: RedisThrottle[] = [];
afterEach(async () => {
  for (const throttle of opened.splice(0)) await throttle.close();
});

const open = (options: Partial<RedisThrottleOptions> = {}): RedisThrottle => {
  const throttle = new RedisThrottle({ client, key: freshKey(), ttl: 5, ...options });
  opened.push(throttle);
  return throttle;
};

/** Opens a throttle of a simulated process, which sends and receives nothing after `die`. */
const openKillable = (options: Partial<RedisThrottleOptions>): { throttle: RedisThrottle; die: () => void } => {
  const { client: living, die } = killableClient(withoutMessages(client));
  return { throttle: open({ ...options, client: living, commandTimeout: 0.2 }), die };
};

/** Holds a permit for some seconds, as a `limit` scope does. */
const enter = (throttle: RedisThrottle, milliseconds: number, timeout = 10): Promise<number> =>
  throttle.run(
    async ({ slot }) => {
      await sleep(milliseconds);
      return slot;
    },
    1,
    { timeout },
  );

const elapsed = (since: number): number => (performance.now() - since) / 1_000;

test('without_concurrency', async () => {
  const throttle = open({ concurrency: 5 });
  for (let turn = 0; turn < 3; turn++) expect(await enter(throttle, 1, 0)).toBe(1);
  await throttle.idle();
  expect((await throttle.inspect()).active).toEqual([]);
});

test('slot_ids', async () => {
  const key = freshKey();
  const processes = [open({ key, concurrency: 8 }), open({ key, concurrency: 8 })];
  const held = new Set<number>();
  const seen = new Set<number>();
  await Promise.all(
    Array.from({ length: 60 }, (_, index) =>
      (processes[index % 2] as RedisThrottle).run(async ({ slot }) => {
        expect(slot).toBeGreaterThanOrEqual(1);
        expect(slot).toBeLessThanOrEqual(8);
        // Two holders never have the same number; in concurrency-limit they can.
        expect(held).not.toContain(slot);
        held.add(slot);
        seen.add(slot);
        await sleep((index * 7) % 11);
        held.delete(slot);
      }),
    ),
  );
  expect(seen.size).toBe(8);
});

test('within_limit', async () => {
  const throttle = open({ concurrency: 4 });
  const slots = await Promise.all(Array.from({ length: 4 }, () => enter(throttle, 20, 0)));
  expect(slots.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4]);
});

test('exceeded_limit_without_timeout', async () => {
  const key = freshKey();
  const throttle = open({ key, concurrency: 2 });
  const held = [await throttle.acquire(), await throttle.acquire()];
  const start = performance.now();
  // A limit_timeout of 0 fails at once, and so does a smaller limit on the same key.
  for (const concurrency of [2, 1]) {
    const error = await open({ key, concurrency })
      .acquire(1, { timeout: 0 })
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ThrottleTimeoutError);
    expect((error as Error).message).toContain(
      `(key "${key}", any rate, ${concurrency} at a time) has no permit for a cost of 1 within the timeout of 0 s`,
    );
  }
  expect(elapsed(start)).toBeLessThan(1);
  // A refused caller leaves no state, and a larger limit on the same key still grants one permit.
  (await open({ key, concurrency: 3 }).acquire(1, { timeout: 0 })).release();
  expect((await throttle.inspect()).waiting).toEqual([]);
  for (const permit of held) permit.release();
});

test('exceeded_limit_within_timeout', async () => {
  const throttle = open({ concurrency: 2 });
  const start = performance.now();
  const slots = await Promise.all(Array.from({ length: 6 }, () => enter(throttle, 100, 5)));
  // Three rounds of two. Polling every 0.1 s would take longer.
  expect(elapsed(start)).toBeGreaterThanOrEqual(0.29);
  expect(elapsed(start)).toBeLessThan(2);
  expect(slots.toSorted((a, b) => a - b)).toEqual([1, 1, 1, 2, 2, 2]);
});

test('exceeded_limit_exceeded_timeout', async () => {
  const throttle = open({ concurrency: 1 });
  const held = await throttle.acquire();
  const start = performance.now();
  const error = (await enter(throttle, 1, 0.3).catch((reason: unknown) => reason)) as ThrottleTimeoutError;
  expect(elapsed(start)).toBeGreaterThanOrEqual(0.295);
  expect(elapsed(start)).toBeLessThan(2);
  expect(error).toBeInstanceOf(ThrottleTimeoutError);
  expect(error.message).toContain('1 at a time) has no permit for a cost of 1 within the timeout of 0.3 s');
  held.release();
  // The place of the refused caller is free, so the next caller is at the head.
  await enter(throttle, 1, 0.2);
});

test('within_limit_expire', async () => {
  const throttle = open({ concurrency: 2, ttl: 0.4 });
  const held = await throttle.acquire();
  await sleep(1_000);
  // After more than twice the ttl, the holder keeps its slot and its number, and still counts.
  expect(held.signal.aborted).toBe(false);
  expect(await enter(throttle, 1, 0)).toBe(2);
  expect((await throttle.inspect()).active).toMatchObject([{ slot: held.slot }]);
  held.release();
  await throttle.idle();
  await throttle.close();
  expect(await client.keys(`*${throttle.key}*`)).toEqual([]);
});

test('exceeded_limit_expire', async () => {
  const key = freshKey();
  const limits = { key, concurrency: 2, ttl: 0.5 };
  const alive = open(limits);
  const { throttle: killable, die } = openKillable(limits);
  const mine = await alive.acquire();
  const theirs = await killable.acquire();
  const lost = new Promise<void>((resolve) => theirs.signal.addEventListener('abort', () => resolve()));
  // While both holders live, no other caller is granted.
  await expect(enter(alive, 1, 1.2)).rejects.toThrow(ThrottleTimeoutError);
  expect([mine.signal.aborted, theirs.signal.aborted]).toEqual([false, false]);

  const start = performance.now();
  die();
  let lostFirst = false;
  void lost.then(() => (lostFirst = true));
  const next = await alive.acquire();
  // The slot of the dead holder is free within its ttl, not before its signal would have aborted. The live holder keeps
  // its slot.
  expect(elapsed(start)).toBeLessThan(0.5 + 1);
  expect(lostFirst).toBe(true);
  expect(next.slot).toBe(theirs.slot);
  expect(mine.signal.aborted).toBe(false);
  expect(await alive.tryAcquire()).toBeUndefined();
  mine.release();
  next.release();
});

test('with_high_load', async () => {
  const key = freshKey();
  const processes = Array.from({ length: 4 }, () => {
    const { client: own, close } = ioredis();
    closing.push(close);
    return open({ key, client: own, concurrency: 10, ttl: 2 });
  });
  const running = new Set<number>();
  let most = 0;
  let done = 0;
  await Promise.all(
    Array.from({ length: 1_000 }, (_, index) =>
      (processes[index % 4] as RedisThrottle).run(
        async ({ slot }: RedisPermit) => {
          expect(running).not.toContain(slot);
          running.add(slot);
          most = Math.max(most, running.size);
          await sleep(index % 3);
          running.delete(slot);
          done++;
        },
        1,
        { timeout: 30 },
      ),
    ),
  );
  expect([done, most]).toEqual([1_000, 10]);
  await Promise.all(processes.map((throttle) => throttle.idle()));
  await Promise.all(processes.map((throttle) => throttle.close()));
  expect(await client.keys(`*${key}*`)).toEqual([]);
});

test('wrong_type', async () => {
  const key = freshKey();
  const name = `{headgate:${key}}`;
  const other = open({ concurrency: 1 });
  const held = await other.acquire();
  const failure = (call: Promise<unknown>): Promise<Error> =>
    call.then(
      () => expect.fail('the foreign value was taken'),
      (reason: unknown) => reason as Error,
    );
  for (const write of [() => client.set(name, 'not ours'), () => client.rpush(name, 'not ours')]) {
    await write();
    const type = await client.type(name);
    const throttle = open({ key, concurrency: 1, capacity: 5, ttl: 0.2 });
    const calls = [throttle.acquire(), throttle.run(() => 1), throttle.tryAcquire(), throttle.pause(1)];
    for (const error of await Promise.all(calls.map(failure))) {
      expect(error).toBeInstanceOf(ThrottleBackendError);
      expect(error.message).toContain(`(key "${key}", 5 per 1 s, 1 at a time): Redis failed: `);
      expect((error.cause as Error).message).toContain('WRONGTYPE');
    }
    // The foreign value is unchanged, and other keys are not affected.
    expect(await client.type(name)).toBe(type);
    await throttle.close();
    await throttle.idle();
    await client.del(name);
  }
  // A new state never overwrites the value of another program.
  await client.set(`${name}:queue`, 'not ours');
  const full = open({ key, concurrency: 1, ttl: 0.2 });
  expect(((await failure(full.acquire())).cause as Error).message).toContain(`WRONGTYPE the key ${name}:queue`);
  expect(await client.getdel(`${name}:queue`)).toBe('not ours');
  const only = await full.acquire();
  // A key of its own for the queue exists only while many callers wait, so only they meet a foreign value there.
  const many = Array.from({ length: 64 }, () => full.acquire().then((permit) => permit.release()));
  await until('64 waiters', async () => (await full.inspect()).waiting.length === 64);
  await client.set(`${name}:queue`, 'not ours');
  expect(((await failure(full.acquire())).cause as Error).message).toContain('WRONGTYPE');
  expect(await client.get(`${name}:queue`)).toBe('not ours');
  await client.del(`${name}:queue`);
  only.release();
  await Promise.all(many);
  await full.close();
  const waiting = other.acquire();
  held.release();
  (await waiting).release();
  const recovered = open({ key, concurrency: 1 });
  expect(await enter(recovered, 1, 0)).toBe(1);
});

test('clean', async () => {
  const key = freshKey();
  const limits = { key, concurrency: 3, ttl: 0.5 };
  const alive = open(limits);
  const { throttle: killable, die } = openKillable(limits);
  const mine = await alive.acquire();
  await killable.acquire();
  await killable.acquire();
  const place = killable.acquire().catch((reason: unknown) => reason);
  await until('one waiter is queued', async () => (await alive.inspect()).waiting.length === 1);
  die();
  // Dead holders and waiters are removed without a further call; the live holder stays.
  await until(
    'the dead are gone',
    async () => {
      const { active, waiting } = await alive.inspect();
      return active.length === 1 && waiting.length === 0;
    },
    3,
  );
  expect((await alive.inspect()).active).toMatchObject([{ slot: mine.slot }]);
  expect(mine.signal.aborted).toBe(false);
  expect(await place).toBeInstanceOf(ThrottleBackendError);
  // reset() removes every holder and waiter.
  await alive.reset();
  await until('the signal aborts', () => mine.signal.aborted);
  await alive.idle();
  expect(await alive.inspect()).toEqual({ active: [], waiting: [], tokens: Infinity, levels: {}, pausedFor: 0 });
});
