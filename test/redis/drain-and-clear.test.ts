/** `drain`, `clear` and `idle({ below })` on Redis, also while Redis is away. */
import { inspect } from 'node:util';
import { QueueClearedError, ThrottleClosedError } from 'headgate';
import { RedisKeyedThrottle, ThrottleBackendError } from 'headgate/redis';
import { describe, expect } from 'vitest';
import { Outcomes } from '../support/support.js';
import { clients, scene, untilKnown, watch } from './server-scene.js';
import { freshKey, sleep, until } from './support.js';

const connect = clients[0]![1];

describe('clear', () => {
  scene('a grant that is on its way to a cleared waiter returns its slot', async (it) => {
    const [mine, other] = [await connect(it), await connect(it)];
    const throttle = it.throttle(mine, { concurrency: 1, ttl: 20 });
    const second = it.throttle(other, { key: throttle.key, concurrency: 1, ttl: 20 });
    const known = watch(it, throttle);
    for (let turn = 0; turn < 20; turn++) {
      const holder = await second.acquire();
      const waiting = throttle.acquire().then(
        (permit) => permit.release(),
        (error: unknown) => expect(error).toBeInstanceOf(QueueClearedError),
      );
      await untilKnown(known, [1], 1);
      holder.release();
      if (turn % 2 === 1) await new Promise(setImmediate);
      await throttle.clear();
      await waiting;
      await untilKnown(known, [], 0);
    }
  });

  scene('the waiters of other objects stay, and a tryAcquire under way is not a waiter', async (it) => {
    const throttle = it.throttle(await connect(it), { concurrency: 1, ttl: 20 });
    const other = it.throttle(await connect(it), { key: throttle.key, concurrency: 1, ttl: 20 });
    const trying = throttle.tryAcquire();
    await throttle.clear();
    const holder = await trying;
    const theirs = other.acquire();
    const mine = expect(throttle.acquire()).rejects.toMatchObject({ code: 'ERR_THROTTLE_CLEARED', cause: 'why' });
    await untilKnown(watch(it, throttle), [1], 2);
    await throttle.clear('why');
    await mine;
    await untilKnown(watch(it, throttle), [1], 1);
    holder?.release();
    (await theirs).release();
    expect(throttle.closed).toBe(false);
    (await throttle.acquire()).release();
  });

  scene('while Redis is away, a clear refuses the waiters at once and never rejects', async (it) => {
    const throttle = it.throttle(await connect(it), { concurrency: 1, ttl: 20, commandTimeout: 0.2 });
    const holder = await throttle.acquire();
    const waiting = expect(throttle.acquire()).rejects.toThrow(QueueClearedError);
    await untilKnown(watch(it, throttle), [1], 1);
    const goOn = await it.hang();
    const cleared = throttle.clear();
    expect(throttle.waiting).toBe(0);
    await waiting;
    await cleared;
    goOn();
    await untilKnown(watch(it, throttle), [1], 0);
    holder.release();
  });

  scene('with failOpen, the waiters of the fallback are cleared', async (it) => {
    const throttle = it.throttle(await connect(it), { concurrency: 1, failOpen: true, ttl: 20, commandTimeout: 0.2 });
    await throttle.run(() => {});
    await it.hang();
    const holder = await throttle.acquire();
    expect(holder.slot).toBe(0);
    const waiting = expect(throttle.acquire()).rejects.toThrow(QueueClearedError);
    await throttle.clear();
    await waiting;
    expect([throttle.waiting, throttle.held]).toEqual([0, 1]);
    holder.release();
  });
});

describe('drain', () => {
  scene('waiters that move to the fallback during the drain are granted before it resolves', async (it) => {
    const options = { concurrency: 1, failOpen: true, ttl: 20, commandTimeout: 0.2 };
    const throttle = it.throttle(await connect(it), options);
    const holder = await throttle.acquire();
    const outcomes = new Outcomes();
    for (const name of ['a', 'b']) outcomes.follow(name, throttle.acquire());
    await untilKnown(watch(it, throttle), [1], 2);
    outcomes.follow('drain', throttle.drain());
    await throttle.inspect();
    await it.hang();
    // After a second, the process may hand no permit on any more.
    await sleep(1_050);
    holder.release();
    await until('the first waiter is granted', () => outcomes.order.includes('a'));
    outcomes.permit('a').release();
    await until('the second waiter is granted', () => outcomes.order.includes('b'));
    await until('Redis is given up', () => !throttle.registered);
    await new Promise(setImmediate);
    expect(outcomes.order).toEqual(['a', 'b']);
    outcomes.permit('b').release();
    await until('the drain', () => outcomes.order.includes('drain'));
    await expect(throttle.acquire()).rejects.toThrow(ThrottleClosedError);
  });

  scene('without failOpen, a drain ends although Redis does not come back', async (it) => {
    const throttle = it.throttle(await connect(it), { concurrency: 1, ttl: 1, commandTimeout: 0.2 });
    const holder = await throttle.acquire();
    const waiting = expect(throttle.acquire()).rejects.toThrow(ThrottleBackendError);
    await untilKnown(watch(it, throttle), [1], 1);
    await it.hang();
    const drained = throttle.drain();
    holder.release();
    await waiting;
    await drained;
    expect([throttle.held, throttle.waiting]).toEqual([0, 0]);
  });

  scene('released slots do not linger during a drain', async (it) => {
    const throttle = it.throttle(await connect(it), { concurrency: 2, linger: 60, ttl: 200 });
    const holders = [await throttle.acquire(), await throttle.acquire()];
    const start = performance.now();
    const drained = throttle.drain();
    await throttle.inspect();
    // The reply to this release could permit the next slot to linger.
    holders[0]?.release();
    await untilKnown(watch(it, throttle), [2], 0);
    holders[1]?.release();
    await drained;
    expect(performance.now() - start).toBeLessThan(20_000);
    await untilKnown(watch(it, throttle), [], 0);
  });

  scene('a keyed throttle drains its keys, refuses new ones, and can be closed meanwhile', async (it) => {
    const client = await connect(it);
    const keyed = new RedisKeyedThrottle({ client, concurrency: 1, ttl: 20, prefix: freshKey() });
    const outcomes = new Outcomes();
    const holders = await Promise.all(['a', 'b'].map((key) => keyed.acquire(key)));
    for (const key of ['a', 'b']) outcomes.follow(key, keyed.acquire(key));
    expect([keyed.size, keyed.held, keyed.waiting]).toEqual([2, 2, 2]);
    outcomes.follow('below 2', keyed.idle({ below: 2 }));
    outcomes.follow('drain', keyed.drain());
    for (const key of ['a', 'new']) await expect(keyed.acquire(key)).rejects.toThrow(/draining/);
    holders[0]?.release();
    await until('a is granted', () => outcomes.order.length === 2);
    expect(outcomes.order.toSorted()).toEqual(['a', 'below 2']);
    await keyed.close();
    await until('b is refused', () => outcomes.order.includes('b!'));
    outcomes.permit('a').release();
    holders[1]?.release();
    await until('the drain', () => outcomes.order.includes('drain'));
    expect([keyed.size, keyed.held, keyed.waiting, keyed.closed]).toEqual([0, 0, 0, true]);
  });
});

scene('a permit shows its slot, and idle with below resolves when enough waiters are granted', async (it) => {
  const throttle = it.throttle(await connect(it), { concurrency: 1, ttl: 20 });
  const permit = await throttle.acquire();
  expect(inspect(permit, { breakLength: Infinity })).toMatch(
    /^RedisPermit \{ cost: 1, slot: 1, slots: \[ 1 \], age: [\d.]+, released: false \}$/,
  );
  const waiting = [throttle.acquire(), throttle.acquire()];
  const outcomes = new Outcomes();
  for (const below of [1, 2, 3]) outcomes.follow(`${below}`, throttle.idle({ below }));
  await until('3', () => outcomes.order.length === 1);
  permit.release();
  (await waiting[0])?.release();
  await until('1', () => outcomes.order.length === 3);
  expect(outcomes.order).toEqual(['3', '2', '1']);
  (await waiting[1])?.release();
});
