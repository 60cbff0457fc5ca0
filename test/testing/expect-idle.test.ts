/** `expectIdle` without the development aids. test/development/expect-idle.test.ts has the stacks. */
import { type Gate, KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { RedisKeyedThrottle, RedisThrottle } from 'headgate/redis';
import { expectIdle, ManualClock } from 'headgate/testing';
import { expect, inject, test } from 'vitest';

const hint = 'Import headgate/development before the gates are used, to see the stack of each call';

test('idle gates of every kind pass', async () => {
  const clock = new ManualClock();
  const throttle = new Throttle(10, 2, 1, { clock });
  const keyed = new KeyedThrottle(10, 2);
  const resource = new Resource(1);
  const gate: Gate = { ...({} as Gate), acquire: (cost, options) => throttle.acquire(cost, options) };
  const limiter = new Limiter({ timeout: 1, resources: [resource, gate] });
  await Promise.all([throttle.run(() => 1), keyed.run('ada', () => 1), resource.run(() => 1)]);
  // A pause, an empty bucket and the end of a gate are no work.
  throttle.tryAcquire(9)?.release();
  throttle.pause();
  for (const each of [throttle, keyed, resource, limiter, limiter.resources([resource])]) expectIdle(each);
  throttle.close();
  expectIdle(throttle);
});

test('a permit that is out and a call that waits fail, and the message says how to see their stacks', async () => {
  const throttle = new Throttle(Infinity, 1, 1, { name: 'db' });
  const permit = await throttle.acquire();
  const waiting = throttle.acquire();
  expect(() => expectIdle(throttle)).toThrow(
    `Throttle "db" (any rate, 1 at a time) is not idle: active 1, waiting 1. ${hint}`,
  );
  permit.release();
  expect(() => expectIdle(throttle)).toThrow('active 1, waiting 0');
  (await waiting).release();
  expectIdle(throttle);
});

test('a call that waits for the end of a pause fails', async () => {
  const throttle = new Throttle(10);
  throttle.pause();
  const waiting = throttle.acquire();
  expect(() => expectIdle(throttle)).toThrow('active 0, waiting 1');
  throttle.resume();
  (await waiting).release();
});

test('each part that is not idle is listed', async () => {
  const keyed = new KeyedThrottle(Infinity, 1, 1, { name: 'users' });
  const [first, second] = [new Resource(1, { name: 'first' }), new Resource(1, { name: 'second' })];
  const limiter = new Limiter({ timeout: 1, resources: [first, second] });
  const permits = [await keyed.acquire('a\nb'), await keyed.acquire('eve'), await second.acquire()];
  permits[1]?.release();
  expect(() => expectIdle(keyed)).toThrow(
    `the key "a\\nb" of Throttle "users" (any rate, 1 at a time) is not idle: active 1, waiting 0. ${hint}`,
  );
  expect(() => expectIdle(limiter)).toThrow(/^Throttle "second".*active 1, waiting 0/);
  expectIdle(limiter.resources([first]));
  expect(() => expectIdle(limiter.resources([second]))).toThrow('second');
  for (const permit of permits) permit.release();
});

test('gates on Redis', async () => {
  const client = { url: inject('redisUrl') };
  const prefix = `idle-${Math.random()}`;
  const throttle = new RedisThrottle({ client, key: 'jobs', prefix, concurrency: 1 });
  const keyed = new RedisKeyedThrottle({ client, prefix, concurrency: 1 });
  expectIdle(throttle);
  expectIdle(keyed);
  const permits = [await throttle.acquire(), await keyed.acquire('ada')];
  expect(() => expectIdle(throttle)).toThrow(`RedisThrottle "jobs" is not idle: active 1, waiting 0. ${hint}`);
  expect(() => expectIdle(keyed)).toThrow('the key "ada" of RedisThrottle "ada" is not idle: active 1, waiting 0');
  for (const permit of permits) permit.release();
  expectIdle(throttle);
  expectIdle(keyed);
  await Promise.all([throttle.close(), keyed.close()]);
});

test('the stack of the error begins at the caller', () => {
  const throttle = new Throttle(Infinity, 1);
  throttle.tryAcquire();
  let stack = '';
  try {
    expectIdle(throttle);
  } catch (error) {
    stack = (error as Error).stack ?? '';
  }
  expect(/\n\s+at (.*)/.exec(stack)?.[1]).toContain('expect-idle.test.ts');
});

test.each([undefined, null, 1, 'throttle', {}, [], { active: 1 }, { waiting: 1 }, () => 1])('%s is refused', (gate) => {
  expect(() => expectIdle(gate as never)).toThrow(TypeError);
  expect(() => expectIdle(gate as never)).toThrow(/^gate must be a Throttle, a KeyedThrottle, a Resource, a Limiter/);
});
