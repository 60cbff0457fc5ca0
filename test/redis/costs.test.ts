/** Costs by name, weighted slots and corrections of a RedisThrottle, beyond the conformance suite. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { GrantedMessage, RefusedMessage } from 'headgate';
import { RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { client } from './shared-client.js';
import { freshKey, later, until } from './support.js';

const opened: RedisThrottle<string>[] = [];
afterEach(async () => {
  for (const throttle of opened.splice(0)) await throttle.close();
});

const open = (options: Partial<RedisThrottleOptions> = {}): RedisThrottle<string> => {
  const throttle = new RedisThrottle<string>({ client, key: freshKey(), ttl: 5, ...options });
  opened.push(throttle);
  return throttle;
};
const tokens = [{ name: 'tokens', capacity: 100, period: 1_000 }];

describe('options', () => {
  test.each([
    [{ also: [{ name: 'cost', capacity: 1 }] }, /also\[0\]\.name/],
    [{ also: [...tokens, ...tokens] }, /also\[1\]\.name/],
    [{ also: [{ name: 'a', capacity: -1 }] }, /also\[0\]\.capacity/],
    [{ window: 'tumbling' as 'sliding' }, /window/],
    [{ window: 'sliding' as const, capacity: 1, burst: 2 }, /burst/],
    [{ margin: 1 }, /margin/],
  ])('%j is refused with the name of the argument', (options, message) => {
    expect(() => open(options)).toThrow(message);
  });
});

describe('messages and errors', () => {
  test('events have the costs by name and the number of slots', async () => {
    const throttle = open({ capacity: 10, period: 1_000, concurrency: 3, also: tokens });
    const granted: GrantedMessage[] = [];
    const refused: RefusedMessage[] = [];
    const onGranted = (message: unknown): void => void granted.push(message as GrantedMessage);
    const onRefused = (message: unknown): void => void refused.push(message as RefusedMessage);
    subscribe('headgate:granted', onGranted);
    subscribe('headgate:refused', onRefused);
    onTestFinished(() => {
      unsubscribe('headgate:granted', onGranted);
      unsubscribe('headgate:refused', onRefused);
    });
    const permit = await throttle.acquire({ tokens: 40 }, { slots: 2 });
    expect(granted).toMatchObject([{ cost: 1, costs: { tokens: 40 }, slots: 2 }]);
    const error = await throttle
      .acquire({ cost: 2, tokens: 70 }, { timeout: 0, slots: 1 })
      .catch((reason: unknown) => reason);
    expect(refused).toMatchObject([{ cost: 2, costs: { tokens: 70 }, slots: 1, reason: 'timeout' }]);
    expect((error as Error).message).toMatch(
      /10 per 1000 s and 100 per 1000 s, 3 at a time\) has no permit for a cost of 2 \("tokens": 70\)/,
    );
    permit.release();
  });

  test('a waiter that another process makes too expensive gets an error that names the rate', async () => {
    const key = freshKey();
    const here = open({ key, also: tokens });
    await here.acquire({ tokens: 100 });
    const waiter = later(here.acquire({ tokens: 50 }));
    await until('it waits', async () => (await here.inspect()).waiting.length === 1);
    const there = open({ key, also: [{ name: 'tokens', capacity: 20, period: 1_000 }] });
    await there.correct({ tokens: 0 });
    await expect(waiter).rejects.toThrow(
      /^cost\.tokens must be at most 20, the burst of the rate "tokens" of RedisThrottle/,
    );
  });
});

describe('the name of the only limited rate', () => {
  test.each([
    ['1m', undefined],
    ['24h', 'sliding'],
    ['-1', undefined],
    ['=1', 'sliding'],
    ['a b;c=d/e', undefined],
  ] as const)('%j is any text, also one that begins with a digit', async (name, window) => {
    const throttle = open({ also: [{ name, capacity: 3, period: 1_000, window }] });
    const permit = await throttle.acquire({ [name]: 2 });
    expect(await throttle.tryAcquire({ [name]: 2 })).toBeUndefined();
    permit.settle({ [name]: 1 });
    (await throttle.acquire({ [name]: 2 }, { timeout: 10 })).release();
    expect((await throttle.inspect()).levels[name]).toBeCloseTo(0, 1);
    permit.release();
  });
});

describe('weighted slots', () => {
  test('a lower concurrency refuses the waiters that need more slots, and no others', async () => {
    const throttle = open({ concurrency: 4 });
    const held = await throttle.acquire(1, { slots: 4 });
    const wide = later(throttle.acquire(1, { slots: 3 }));
    const narrow = throttle.acquire(1, { slots: 2 });
    await throttle.configure({ concurrency: 2 });
    await expect(wide).rejects.toThrow(/^slots must be at most 2, the concurrency of RedisThrottle/);
    held.release();
    expect((await narrow).slots).toHaveLength(2);
    (await narrow).release();
  });

  test('slots beyond the concurrency, and beyond 1,000, are refused', async () => {
    await expect(open({ concurrency: 2 }).acquire(1, { slots: 3 })).rejects.toThrow(/^slots must be at most 2, the/);
    await expect(open().acquire(1, { slots: 1_001 })).rejects.toThrow(/^slots must be at most 1000 /);
    const permit = await open().acquire(1, { slots: 1_000 });
    expect([permit.slots.length, permit.slot, new Set(permit.slots).size]).toEqual([1_000, 1, 1_000]);
    permit.release();
  });

  test('a slot is neither handed on to a waiter for two, nor kept for one', async () => {
    const throttle = open({ concurrency: 3, linger: 1 });
    const [first, second] = [await throttle.acquire(), await throttle.acquire(1, { slots: 2 })];
    const pair = throttle.acquire(1, { slots: 2 });
    await until('it waits', async () => (await throttle.inspect()).waiting.length === 1);
    first.release();
    second.release();
    const next = await pair;
    expect(next.slots).toHaveLength(2);
    // The single slot lingers, so a caller for two of the three slots takes it back first.
    const single = await throttle.acquire();
    expect(new Set([...next.slots, ...single.slots]).size).toBe(3);
    single.release();
    next.release();
    const all = await throttle.acquire(1, { slots: 3 });
    expect(all.slots.toSorted((a, b) => a - b)).toEqual([1, 2, 3]);
    all.release();
  });

  test('a reset takes all slots of a permit, also of one without a slot', async () => {
    const throttle = open({ concurrency: 3 });
    const [wide, none] = [await throttle.acquire(1, { slots: 3 }), await throttle.acquire(1, { slots: 0 })];
    await throttle.reset();
    await until('both are lost', () => wide.signal.aborted && none.signal.aborted);
    expect((await throttle.acquire(1, { slots: 3 })).slots).toEqual([1, 2, 3]);
  });
});

describe('while Redis fails', () => {
  test('with failOpen, the process grants by the same rates and slots', async () => {
    const dead = { eval: () => Promise.reject(new Error('down')), subscribe: async () => {} };
    const throttle = open({ client: dead, concurrency: 4, failOpen: true, also: tokens });
    const permit = await throttle.acquire({ tokens: 90 }, { slots: 3 });
    expect([permit.slot, permit.slots, permit.costs]).toEqual([0, [], { tokens: 90 }]);
    expect(await throttle.tryAcquire({ tokens: 20 })).toBeUndefined();
    permit.settle({ tokens: 70 });
    expect(permit.costs).toEqual({ tokens: 70 });
    (await throttle.tryAcquire({ tokens: 20 }))?.release();
    await throttle.correct({ tokens: 0 });
    expect(await throttle.tryAcquire({ tokens: 20 })).toBeUndefined();
    await expect(throttle.acquire(0, { slots: 2, timeout: 0 })).rejects.toThrow(/no permit/);
    permit.release();
    (await throttle.acquire(0, { slots: 4 })).release();
  });

  test('without failOpen, correct rejects', async () => {
    const dead = { eval: () => Promise.reject(new Error('down')), subscribe: async () => {} };
    await expect(open({ client: dead, also: tokens }).correct(5)).rejects.toMatchObject({
      code: 'ERR_THROTTLE_BACKEND',
    });
  });
});
