/** The calls of Redis: one call per tick, and commands and replies that cross. */
import type { RedisThrottle, RedisThrottleOptions } from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import {
  client,
  DelayedClient,
  errorOf,
  open,
  openTwo,
  releaseAll,
  take,
  takeAll,
  waitingIn,
} from './open-throttles.js';
import { sleep, until } from './support.js';

describe('one call per tick', () => {
  /** Opens a throttle that renews and repeats nothing, even if the machine stands still for seconds. */
  const openPatient = (options: Partial<RedisThrottleOptions>): RedisThrottle =>
    open({ ttl: 60, commandTimeout: 20, ...options });

  /** Counts the calls of Redis for `throttle` from now on. */
  const count = (throttle: RedisThrottle): { (): number; inFull(): number; names(): unknown[] } => {
    const key = `{headgate:${throttle.key}}`;
    const [inFull, byName] = [vi.spyOn(client, 'eval'), vi.spyOn(client, 'evalsha')];
    const of = (calls: unknown[][]): unknown[][] => calls.filter((call) => call.includes(key));
    const first = (): number => of(inFull.mock.calls).length;
    const names = (): unknown[] => of(byName.mock.calls).map(([sha]) => sha);
    return Object.assign(() => first() + names().length, { inFull: first, names });
  };

  test('acquires, releases, refunds, aborts and a pause of one tick travel together', async () => {
    const throttle = openPatient({ capacity: 100, period: 1_000, concurrency: 20 });
    const held = await takeAll(throttle, 20);
    const leaver = new AbortController();
    const left = Array.from({ length: 5 }, () => errorOf(throttle.acquire(1, { signal: leaver.signal })));
    await until('the waiters are queued', async () => (await waitingIn(throttle)) === 5);
    const calls = count(throttle);
    for (const permit of held) permit.refund();
    releaseAll(held);
    leaver.abort();
    const more = Array.from({ length: 10 }, () => throttle.acquire());
    const runs = Array.from({ length: 5 }, () => throttle.run(() => sleep(5)));
    const tries = [throttle.tryAcquire(), throttle.tryAcquire()];
    await throttle.pause(0.001);
    expect(calls()).toBe(1);
    await Promise.all(left);
    releaseAll(await Promise.all([...more, ...tries]));
    await Promise.all(runs);
  });

  test('a hundred acquires of one tick travel in one call, and so do their releases', async () => {
    const throttle = openPatient({ concurrency: 100 });
    const calls = count(throttle);
    const permits = await Promise.all(Array.from({ length: 100 }, () => throttle.acquire()));
    expect(calls()).toBe(1);
    releaseAll(permits);
    await throttle.idle();
    expect(calls()).toBe(2);
  });

  test('acquires from continuations of the same tick travel in the same call', async () => {
    const throttle = openPatient({ concurrency: 100 });
    const calls = count(throttle);
    const permits = await Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        for (let turn = 0; turn < index; turn++) await Promise.resolve();
        return throttle.acquire();
      }),
    );
    expect(calls()).toBe(1);
    releaseAll(permits);
  });

  test('the renewals of all leases and waiters travel in one call', async () => {
    const clock = new ManualClock();
    const throttle = openPatient({ clock, ttl: 30, concurrency: 50 });
    const held = await takeAll(throttle, 50);
    const waiting = Array.from({ length: 50 }, () => throttle.acquire());
    await until('the waiters are queued', async () => (await waitingIn(throttle)) === 50);
    await sleep(20);
    const calls = count(throttle);
    await clock.advance(10);
    expect(calls()).toBe(1);
    await sleep(20);
    expect(calls()).toBe(1);
    releaseAll(held);
    releaseAll(await Promise.all(waiting));
  });

  test('a release is sent by the end of the same tick', async () => {
    const throttle = openPatient({ concurrency: 1 });
    const held = await take(throttle);
    const calls = count(throttle);
    const sent = new Promise<number>((resolve) => void setImmediate(() => resolve(calls())));
    held.release();
    expect(await sent).toBe(1);
    await throttle.idle();
  });

  test('a tryAcquire after a release in the same tick gets the slot', async () => {
    const throttle = openPatient({ concurrency: 1, capacity: 1, period: 1_000 });
    const held = await take(throttle);
    const calls = count(throttle);
    held.refund();
    held.release();
    const again = await take(throttle);
    expect([again.slot, calls()]).toEqual([1, 1]);
    again.release();
  });

  test('the script is called by its SHA-1 once Redis has cached it', async () => {
    const throttle = openPatient({ concurrency: 1 });
    (await take(throttle)).release();
    await throttle.idle();
    const calls = count(throttle);
    (await take(throttle)).release();
    await throttle.idle();
    expect(calls.inFull()).toBe(0);
    expect(calls.names()).toEqual([expect.stringMatching(/^[0-9a-f]{40}$/), expect.stringMatching(/^[0-9a-f]{40}$/)]);
  });
});

describe('commands and replies that cross', () => {
  test('an abort while the reply is under way returns the slot and the tokens', async () => {
    const delayed = new DelayedClient();
    const [here, there] = openTwo(
      { client: delayed, concurrency: 1, capacity: 3, period: 1_000 },
      { concurrency: 1, capacity: 3, period: 1_000 },
    );
    delayed.delayReplies();
    const leaver = new AbortController();
    const reason = new Error('gone');
    const call = errorOf(here.acquire(3, { signal: leaver.signal }));
    await until('it is granted', async () => (await there.inspect()).active.length === 1);
    leaver.abort(reason);
    expect(await call).toBe(reason);
    delayed.sendReplies();
    await here.idle();
    const state = await there.inspect();
    expect([state.active, state.tokens]).toEqual([[], 3]);
  });

  test('an abort while the grant of a waiter is under way returns the slot and the tokens', async () => {
    const [here, there] = openTwo({ concurrency: 1, capacity: 4, period: 1_000 });
    for (let round = 0; round < 20; round++) {
      const held = await take(here, 0);
      const leaver = new AbortController();
      const call = there.acquire(4, { signal: leaver.signal }).then(
        (permit) => permit,
        () => undefined,
      );
      await until('one waiter is queued', async () => (await waitingIn(here)) === 1);
      held.release();
      await new Promise((resolve) => void setTimeout(resolve, (round % 5) / 4));
      leaver.abort();
      const permit = await call;
      permit?.refund();
      permit?.release();
      await Promise.all([here.idle(), there.idle()]);
      const state = await here.inspect();
      expect(state.active).toEqual([]);
      expect(state.tokens).toBeCloseTo(4, 2);
    }
  });

  test('a late reply does not delay the wake-up time of a message', async () => {
    const delayed = new DelayedClient();
    const limits = { capacity: 1, period: 0.3, burst: 1 };
    const [here, there] = openTwo({ ...limits, client: delayed, ttl: 60, commandTimeout: 10 }, { ...limits, ttl: 60 });
    // The subscription exists from here on.
    const listening = here.run(() => {});
    await listening;
    await here.idle();
    await sleep(350);
    const held = await take(there);
    const leaver = new AbortController();
    const ahead = errorOf(there.acquire(1, { signal: leaver.signal }));
    await until('one waiter is queued', async () => (await waitingIn(there)) === 1);
    delayed.delayReplies();
    const call = here.acquire();
    await until('two waiters are queued', async () => (await waitingIn(there)) === 2);
    leaver.abort();
    await ahead;
    await until('it is first', async () => (await waitingIn(there)) === 1);
    await sleep(20);
    delayed.sendReplies();
    const granted = await Promise.race([call, sleep(5_000)]);
    expect(granted).toBeDefined();
    releaseAll([held, await call]);
  });

  test.each(['mine', '[1,2,3]'.repeat(10_000), Buffer.from([0xc1, 0xff, 0x00])])(
    'a key with a foreign value rejects its own calls, and affects no other key: %#',
    async (value) => {
      const [careless, other] = [open({ concurrency: 1, failOpen: true, ttl: 60 }), open({ concurrency: 1, ttl: 0.3 })];
      await client.set(`{headgate:${other.key}}`, value, 'PX', 10_000);
      const held = await take(careless);
      expect(held.slot).toBe(1);
      expect((await errorOf(other.acquire())).message).toContain('WRONGTYPE');
      expect(await careless.tryAcquire()).toBeUndefined();
      held.release();
      await client.del(`{headgate:${other.key}}`);
      await other.idle();
    },
  );
});
