/** `inspect` and `reset` of a RedisThrottle. */
import { LeaseLostError, type RedisPermit } from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { Outcomes } from '../support/support.js';
import { client, DelayedClient, open, openTwo, releaseAll, take, takeAll, waitingIn } from './open-throttles.js';
import { sleep, until, withoutMessages } from './support.js';

describe('inspect', () => {
  test('an unused key has a full bucket, no pause, no holders and no waiters', async () => {
    expect(await open({ capacity: 3, burst: 5 }).inspect()).toEqual({
      active: [],
      waiting: [],
      tokens: 5,
      levels: {},
      pausedFor: 0,
    });
    expect(await open({ concurrency: 3 }).inspect()).toEqual({
      active: [],
      waiting: [],
      tokens: Infinity,
      levels: {},
      pausedFor: 0,
    });
  });

  test('returns the holders and the waiters of all objects, in order', async () => {
    const [here, there] = openTwo({ concurrency: 2, capacity: 10, period: 1_000 });
    const permits = [await take(here, 2), await take(there, 0.5)];
    const calls = [];
    for (const [throttle, cost] of [
      [there, 3],
      [here, 1],
      [there, 0],
    ] as const) {
      const place = calls.push(throttle.acquire(cost));
      await until('one waiter is queued', async () => (await waitingIn(here)) === place);
    }
    await sleep(20);
    const { active, waiting, tokens, pausedFor } = await there.inspect();
    const bySlot = active.toSorted((a, b) => a.slot - b.slot);
    expect(bySlot).toMatchObject([
      { slot: 1, cost: 2 },
      { slot: 2, cost: 0.5 },
    ]);
    const [own, other] = bySlot.map(({ owner }) => owner);
    expect(own).not.toBe(other);
    expect(waiting.map(({ owner, cost }) => [owner, cost])).toEqual([
      [other, 3],
      [own, 1],
      [other, 0],
    ]);
    for (const { age } of [...active, ...waiting]) expect(age).toBeGreaterThan(0.015);
    for (const { age } of [...active, ...waiting]) expect(age).toBeLessThan(10);
    expect(tokens).toBeCloseTo(7.5, 0);
    expect(pausedFor).toBe(0);
    releaseAll(permits);
    for (const call of calls) (await call).release();
  });

  test('returns a debt, a pause, and an endless pause', async () => {
    const throttle = open({ capacity: 4, period: 1_000 });
    const permit = await take(throttle, 1);
    permit.settle(9);
    permit.release();
    await throttle.pause(50);
    const { tokens, pausedFor } = await throttle.inspect();
    expect(tokens).toBeCloseTo(-5, 1);
    expect(pausedFor).toBeGreaterThan(40);
    expect(pausedFor).toBeLessThanOrEqual(50);
    await throttle.pause();
    expect((await throttle.inspect()).pausedFor).toBe(Infinity);
    await throttle.pause(1);
    expect((await throttle.inspect()).pausedFor).toBe(Infinity);
    await throttle.resume();
    expect((await throttle.inspect()).pausedFor).toBe(0);
  });

  test('includes the effects of earlier calls', async () => {
    const throttle = open({ concurrency: 2, capacity: 5, period: 1_000 });
    const held = await take(throttle, 2);
    const second = throttle.acquire();
    expect((await throttle.inspect()).active.length).toBe(2);
    held.refund();
    held.release();
    const { active, tokens } = await throttle.inspect();
    expect(active.length).toBe(1);
    expect(tokens).toBeCloseTo(4, 1);
    (await second).release();
    await throttle.run(() => {});
    expect((await throttle.inspect()).active).toEqual([]);
    const last = throttle.acquire();
    await throttle.reset();
    await until('the permit is lost', async () => (await last).signal.aborted);
  });

  test('changes no state, and creates no key', async () => {
    const throttle = open({ capacity: 1 });
    await throttle.inspect();
    expect(await client.keys(`*${throttle.key}*`)).toEqual([]);
  });
});

describe('reset', () => {
  test('aborts the signals of holders, returns waiters to the queue in order, and fills the bucket', async () => {
    const [here, there] = openTwo({ concurrency: 2, capacity: 10, period: 1_000 });
    const held = [await take(here, 5), await take(there, 5)];
    const signals = held.map(({ signal }) => signal);
    const outcomes = new Outcomes();
    let place = 0;
    for (const [name, throttle] of [
      ['a', there],
      ['b', here],
      ['c', there],
      ['d', here],
    ] as const) {
      outcomes.follow(name, throttle.acquire(2));
      place++;
      await until('one waiter is queued', async () => (await waitingIn(here)) === place);
    }
    await here.reset();
    await until('the first two are in', () => outcomes.order.length === 2);
    for (const signal of signals) {
      await until('the signal aborts', () => signal.aborted);
      expect(signal.reason).toBeInstanceOf(LeaseLostError);
      expect((signal.reason as Error).message).toContain('was reset');
    }
    // The release of a lost permit frees no slot.
    releaseAll(held);
    await sleep(30);
    const state = await here.inspect();
    expect([state.active.length, state.waiting.length]).toEqual([2, 2]);
    expect(new Set(state.active.map(({ slot }) => slot))).toEqual(new Set([1, 2]));
    expect(state.tokens).toBeCloseTo(6, 1);
    for (let index = 0; index < 4; index++) {
      await until(`${index + 1} are in`, () => outcomes.order.length > index);
      (outcomes.permit(outcomes.order[index] as string) as RedisPermit).release();
    }
    // The order within each object; the network decides which object returns first.
    expect(outcomes.order.filter((name) => 'ac'.includes(name))).toEqual(['a', 'c']);
    expect(outcomes.order.filter((name) => 'bd'.includes(name))).toEqual(['b', 'd']);
    await Promise.all([here.idle(), there.idle()]);
    expect((await here.inspect()).active).toEqual([]);
  });

  test('ends an endless pause', async () => {
    const throttle = open({ concurrency: 1 });
    await throttle.pause();
    const waiting = throttle.acquire();
    await until('one waiter is queued', async () => (await waitingIn(throttle)) === 1);
    await throttle.reset();
    (await waiting).release();
  });

  test('grants later calls of the same tick up to the limit', async () => {
    const [here, there] = openTwo({ concurrency: 3 });
    const held = await takeAll(here, 3);
    const calls = Array.from({ length: 6 }, (_, index) =>
      (index % 2 === 0 ? here : there).run(async ({ slot }) => {
        running.push(slot);
        most = Math.max(most, running.length);
        expect(new Set(running).size).toBe(running.length);
        await sleep(10);
        running.splice(running.indexOf(slot), 1);
      }),
    );
    const running: number[] = [];
    let most = 0;
    await until('the waiters are queued', async () => (await waitingIn(here)) === 6);
    const reset = here.reset();
    const late = [here, there, here].map((throttle) => throttle.run(() => sleep(10)));
    await reset;
    await Promise.all([...calls, ...late]);
    expect(most).toBeLessThanOrEqual(3);
    releaseAll(held);
  });

  test('a permit is lost with the next batch of its process, even if the message of the reset is lost', async () => {
    const [here, there] = openTwo({ concurrency: 1, client: withoutMessages(client) }, { concurrency: 1 });
    const held = await take(here);
    await there.reset();
    const permit = await here.acquire(1, { timeout: 3 });
    expect(held.signal.reason).toBeInstanceOf(LeaseLostError);
    const { active } = await there.inspect();
    expect([permit.signal.aborted, active.length, active[0]?.slot]).toEqual([false, 1, permit.slot]);
    permit.release();
  });

  test('grants a call again whose grant arrives after the reset', async () => {
    const delayed = new DelayedClient();
    const [here, there] = openTwo({ concurrency: 1, client: delayed }, { concurrency: 1 });
    (await take(here)).release();
    await here.idle();
    delayed.delayReplies();
    const call = here.acquire();
    await until('it is in', async () => (await there.inspect()).active.length === 1);
    await there.reset();
    await sleep(30);
    delayed.sendReplies();
    const permit = await call;
    const { active } = await there.inspect();
    expect([permit.signal.aborted, active.length, active[0]?.slot]).toEqual([false, 1, permit.slot]);
    permit.release();
    await here.idle();
    (await take(there)).release();
  });

  test('returns a waiter to the queue whose place arrives after the reset', async () => {
    const delayed = new DelayedClient();
    const [here, there] = openTwo({ concurrency: 1, client: delayed, ttl: 60 }, { concurrency: 1 });
    (await take(here)).release();
    await here.idle();
    const held = await take(there);
    delayed.delayReplies();
    const call = here.acquire();
    await until('one waiter is queued', async () => (await waitingIn(there)) === 1);
    await there.reset();
    await sleep(30);
    delayed.sendReplies();
    const permit = await call;
    expect([permit.slot, permit.signal.aborted, held.signal.aborted]).toEqual([1, false, true]);
    permit.release();
    await here.idle();
  });

  test('returns a waiter to the queue during a renewal', async () => {
    const clock = new ManualClock();
    const delayed = new DelayedClient();
    const [here, there] = openTwo(
      { concurrency: 1, client: delayed, clock, ttl: 60, commandTimeout: 1_000 },
      { concurrency: 1, ttl: 60 },
    );
    const held = await take(there);
    const call = here.acquire();
    await until('one waiter is queued', async () => (await waitingIn(there)) === 1);
    // The throttle has received the place of its waiter.
    await sleep(20);
    delayed.delayReplies();
    const before = delayed.calls;
    await clock.advance(20.1);
    expect(delayed.calls).toBe(before + 1);
    await there.inspect();
    await there.reset();
    await sleep(30);
    delayed.sendReplies();
    const permit = await call;
    expect(held.signal.aborted).toBe(true);
    permit.release();
    await here.idle();
  });
});
