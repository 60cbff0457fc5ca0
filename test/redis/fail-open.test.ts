/** `failOpen`: the fallback of the process grants permits while Redis fails. */
import { ThrottleTimeoutError } from 'headgate';
import { describe, expect } from 'vitest';
import { Outcomes } from '../support/support.js';
import { scene, clients, times, watch, untilKnown } from './server-scene.js';
import { busyKeys, stopwatch, until } from './support.js';

describe('failOpen', () => {
  scene('a cost above the new burst is refused by the fallback, and the waiters behind it are granted', async (it) => {
    const throttle = it.throttle(await clients[0]![1](it), { capacity: 10, failOpen: true, commandTimeout: 0.2 });
    await throttle.run(() => {});
    await it.hang();
    const trying = throttle.tryAcquire(5);
    const next = throttle.acquire(1);
    const configuring = throttle.configure({ capacity: 2, burst: 2 });
    await expect(trying).rejects.toThrow(RangeError);
    expect((await next).slot).toBe(0);
    await configuring;
  });

  scene('a waiter of the paused fallback is granted by a resume that Redis receives', async (it) => {
    const throttle = it.throttle(await clients[0]![1](it), { concurrency: 10, failOpen: true, commandTimeout: 0.2 });
    await throttle.run(() => {});
    const goOn = await it.hang();
    await throttle.pause();
    const next = throttle.acquire();
    goOn();
    await until('it answers', () =>
      throttle.inspect().then(
        () => true,
        () => false,
      ),
    );
    await throttle.resume();
    expect((await next).slot).toBe(0);
  });

  scene('waiters in Redis move to the fallback first, even if another throttle has failed', async (it) => {
    const client = await clients[0]![1](it);
    const options = { concurrency: 1, failOpen: true, commandTimeout: 0.2, ttl: 20 };
    const throttle = it.throttle(client, options);
    await throttle.acquire();
    const outcomes = new Outcomes();
    outcomes.follow('first', throttle.acquire());
    await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    await it.hang();
    await it.throttle(client, options).acquire();
    outcomes.follow('second', throttle.acquire());
    await until('one waiter is granted', () => outcomes.order.length > 0);
    expect(outcomes.order).toEqual(['first']);
    outcomes.permit('first').release();
    await until('the other, too', () => outcomes.order.length > 1);
  });
});

describe('failOpen: the fallback grants permits', () => {
  for (const [name, connect] of clients) {
    for (const failure of ['down', 'hung']) {
      scene(`${name}, ${failure}`, async (it) => {
        const options = { concurrency: 2, failOpen: true, ttl: 10, commandTimeout: 0.3 };
        const throttle = it.throttle(await connect(it), options);
        const known = watch(it, throttle);
        const held = [await throttle.acquire(), await throttle.acquire()];
        const outcomes = new Outcomes();
        const stop = new AbortController();
        for (const waiter of ['a', 'b', 'c']) outcomes.follow(waiter, throttle.acquire());
        outcomes.follow('aborted', throttle.acquire(1, { signal: stop.signal }));
        outcomes.follow('late', throttle.acquire(1, { timeout: 1 }));
        await untilKnown(known, [1, 2], 5);
        const goOn = failure === 'hung' ? await it.hang() : (await it.server.kill(), () => it.server.start());
        outcomes.follow('d', throttle.acquire());
        await until('it is decided here', () => outcomes.order.length > 0, 2);
        await until('for two', () => outcomes.order.length > 1, 2);
        const elapsed = stopwatch();
        outcomes.follow('e', throttle.acquire());
        expect(await throttle.tryAcquire()).toBeUndefined();
        expect(elapsed()).toBeLessThan(150);
        stop.abort(new Error('enough'));
        await until('it is late', () => outcomes.order.includes('late!'), 3);
        expect(outcomes.order).toEqual(['a', 'b', 'aborted!', 'late!']);
        expect(outcomes.error('late')).toBeInstanceOf(ThrottleTimeoutError);
        for (const next of ['a', 'b', 'c', 'd', 'e']) {
          await until(`${next} has its turn`, () => outcomes.order.includes(next));
          expect(outcomes.permit(next)).toMatchObject({ slot: 0 });
          outcomes.permit(next).release();
        }
        expect(outcomes.order.slice(4)).toEqual(['c', 'd', 'e']);
        await goOn();
        for (const permit of held) permit.release();
        await until('Redis is used again', () => throttle.run(({ slot }) => slot > 0), 5);
        await throttle.idle();
        await until('nothing is left', async () => (await busyKeys(it.admin)).length === 0);
      });
    }
  }

  scene('the fallback keeps the rate', async (it) => {
    const throttle = it.throttle(await clients[0]![1](it), {
      capacity: 10,
      burst: 5,
      failOpen: true,
      commandTimeout: 0.2,
    });
    await it.server.kill();
    const waits = await Promise.all(times(10, () => throttle.run(({ waited }) => waited)));
    expect(waits[9]! - waits[4]!).toBeGreaterThan(0.5 - 0.005);
    expect(waits[4]! - waits[0]!).toBeLessThan(0.1);
  });
});
