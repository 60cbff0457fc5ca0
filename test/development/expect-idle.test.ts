/** `expectIdle` with the development aids. test/testing/expect-idle.test.ts has the cases without them. */
import { KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { configureDevelopment } from 'headgate/development';
import { RedisThrottle } from 'headgate/redis';
import { expectIdle } from 'headgate/testing';
import { expect, inject, test } from 'vitest';

const messageOf = (gate: Parameters<typeof expectIdle>[0]): string => {
  try {
    expectIdle(gate);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('the gate is idle');
};

configureDevelopment({ nested: 'reject' });

test('the message has the stack of each permit that is out and of each call that waits', async () => {
  const throttle = new Throttle(Infinity, 3, 1, { name: 'db' });
  async function leak(): Promise<void> {
    await throttle.acquire();
    const wide = await throttle.acquire(1, { slots: 2 });
    void throttle.run(() => 'waits').catch(() => {});
    void wide;
  }
  await leak();
  const here = String.raw`    at (async )?leak \(.*expect-idle\.test\.ts:\d+:\d+\)\n(    at .*\n?)+`;
  expect(messageOf(throttle)).toMatch(
    new RegExp(
      String.raw`^Throttle "db" \(any rate, 3 at a time\) is not idle: active 3, waiting 1\n` +
        String.raw`a permit was not released \(1 slot\), called\n${here}` +
        String.raw`a permit was not released \(2 slots\), called\n${here}` +
        String.raw`a call waits \(1 slot\), called\n${here}$`,
    ),
  );
  throttle.close();
});

test('a permit that was garbage collected is still listed, with its slots', async () => {
  const throttle = new Throttle(Infinity, 10);
  const lose = (): unknown => throttle.tryAcquire();
  for (let round = 0; round < 3; round++) lose();
  for (let round = 0; round < 6; round++) {
    globalThis.gc?.();
    await new Promise((resolve) => void setTimeout(resolve, 2));
  }
  const message = messageOf(throttle);
  expect(message).toMatch(/active 3, waiting 0\na permit was not released \(3 slots\), called\n {4}at lose \(/);
  expect(message).not.toContain('before headgate/development');
});

test('at most ten stacks are listed', () => {
  const throttle = new Throttle(Infinity);
  const permits = Array.from({ length: 14 }, () => throttle.tryAcquire());
  const message = messageOf(throttle);
  expect(message.match(/a permit was not released \(1 slot\)/g)).toHaveLength(10);
  expect(message).toContain('a permit was not released: 4 more calls');
  for (const permit of permits) permit?.release();
  expectIdle(throttle);
});

test('a job that runs is listed at its call', async () => {
  const resource = new Resource(1, { name: 'disk' });
  const job = resource.run(() => messageOf(resource));
  expect(await job).toMatch(
    /Throttle "disk".*active 1, waiting 0\na permit was not released \(1 slot\), called\n {4}at .*expect-idle/,
  );
  expectIdle(resource);
});

test('a keyed throttle lists the keys that are not idle, and a limiter its resources', async () => {
  const keyed = new KeyedThrottle<unknown>(Infinity, 2, 1, { name: 'users' });
  const permits = [await keyed.acquire('ada'), await keyed.acquire(7), await keyed.acquire('eve')];
  permits[2]?.release();
  const message = messageOf(keyed);
  expect(message).toMatch(/^the key "ada" of Throttle "users".* is not idle: active 1, waiting 0\n/);
  expect(message).toMatch(/\n\nthe key 7 of Throttle "users".* is not idle: active 1, waiting 0\n/);
  expect(message).not.toContain('"eve"');
  const [first, second] = [new Resource(1, { name: 'first' }), new Resource(1, { name: 'second' })];
  const limiter = new Limiter({ timeout: 1, resources: [first, second] });
  const both = await limiter.acquire([first, second]);
  expect(messageOf(limiter)).toMatch(/"first"[^]*"second"/);
  expect(messageOf(limiter.resources([second]))).toMatch(/^Throttle "second"/);
  for (const permit of [...permits, both]) permit.release();
  expectIdle(keyed);
  expectIdle(limiter);
});

test('a throttle on Redis: its own permits and waiters', async () => {
  const throttle = new RedisThrottle({
    client: { url: inject('redisUrl') },
    key: `idle ${Math.random()}`,
    concurrency: 1,
  });
  async function hold() {
    return throttle.acquire();
  }
  const permit = await hold();
  const waiting = throttle.acquire();
  const message = messageOf(throttle);
  expect(message).toMatch(
    /^RedisThrottle "idle 0\.\d+" is not idle: active 1, waiting 1\na permit was not released \(1 slot\), called\n {4}at hold/,
  );
  expect(message).toMatch(/\na call waits \(1 slot\), called\n {4}at .*expect-idle\.test\.ts/);
  permit.release();
  (await waiting).release();
  expectIdle(throttle);
  await throttle.close();
});
