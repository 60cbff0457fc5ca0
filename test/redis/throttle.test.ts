/** The features of a RedisThrottle beyond a gate: slots, leases, limits, refusals, closing, objects with one key. */
import { QueueFullError, ThrottleClosedError, ThrottleTimeoutError } from 'headgate';
import { LeaseLostError, type RedisPermit, RedisThrottle } from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { Outcomes } from '../support/support.js';
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
import { freshKey, sleep, until } from './support.js';

describe('permit.slot', () => {
  test('is the lowest free number, stays the same, and is given again after the release', async () => {
    const [here, there] = openTwo({ concurrency: 4 });
    const permits: RedisPermit[] = [];
    for (const throttle of [here, there, there, here]) permits.push(await take(throttle));
    expect(permits.map(({ slot }) => slot)).toEqual([1, 2, 3, 4]);
    permits[2]?.release();
    permits[0]?.release();
    const again = [await take(here), await take(here)];
    expect(again.map(({ slot }) => slot)).toEqual([1, 3]);
    expect(permits.map(({ slot }) => slot)).toEqual([1, 2, 3, 4]);
    const waiting = there.acquire();
    await until('one waiter is queued', async () => (await waitingIn(here)) === 1);
    permits[1]?.release();
    expect((await waiting).slot).toBe(2);
    releaseAll([...permits, ...again, await waiting]);
  });

  test('is unique among hundreds of holders without a limit, also after half of them have released', async () => {
    const throttle = open();
    const permits = await takeAll(throttle, 300);
    expect(permits.map(({ slot }) => slot)).toEqual(permits.map((_, index) => index + 1));
    releaseAll(permits.filter((_, index) => index % 2 === 0));
    const again = await takeAll(throttle, 150);
    expect(again.map(({ slot }) => slot)).toEqual(again.map((_, index) => 2 * index + 1));
    releaseAll([...permits, ...again]);
  });

  test('never exceeds the limit of its caller, even if other limits are larger', async () => {
    const [small, large] = openTwo({ concurrency: 2 }, { concurrency: 4 });
    const permits = await takeAll(large, 4);
    const waiting = small.acquire();
    await until('one waiter is queued', async () => (await waitingIn(large)) === 1);
    releaseAll(permits.slice(0, 2));
    await sleep(30);
    // Two jobs still run, and this limit is two.
    expect(await waitingIn(large)).toBe(1);
    permits[3]?.release();
    expect((await waiting).slot).toBeLessThanOrEqual(2);
    releaseAll([...permits, await waiting]);
  });
});

describe('different limits on one key', () => {
  test('each caller is subject to the concurrency of its own throttle', async () => {
    const [small, large] = openTwo({ concurrency: 1 }, { concurrency: 3 });
    const first = await take(small);
    expect(await small.tryAcquire()).toBeUndefined();
    const more = [await take(large), await take(large)];
    expect(await large.tryAcquire()).toBeUndefined();
    releaseAll(more);
    // One job still runs, which reaches the smaller limit.
    await large.idle();
    expect(await small.tryAcquire()).toBeUndefined();
    first.release();
    (await take(small)).release();
  });

  test('the most recently configured rate applies to all', async () => {
    const [first, second] = openTwo({ capacity: 10, period: 1_000 }, { capacity: 4, period: 1_000 });
    releaseAll([await take(first, 3)]);
    releaseAll([await take(second, 1)]);
    // 7 tokens were left, of which the smaller bucket holds 4.
    expect((await first.inspect()).tokens).toBeCloseTo(3, 1);
    const error = await errorOf(first.acquire(5));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toContain('cost must be at most 4, the burst of RedisThrottle');
    await first.configure({ capacity: 20 });
    // A larger bucket adds no tokens.
    expect((await second.inspect()).tokens).toBeCloseTo(3, 1);
  });
});

describe('permit.signal', () => {
  test('is the same signal at each read, and a release does not abort it', async () => {
    const throttle = open({ concurrency: 1 });
    const permit = await take(throttle);
    const { signal } = permit;
    expect(permit.signal).toBe(signal);
    permit.release();
    await throttle.idle();
    expect([signal.aborted, permit.signal.aborted]).toEqual([false, false]);
  });

  test('aborts without a renewal for 0.9 of the ttl, also if it is first read then', async () => {
    const clock = new ManualClock();
    const delayed = new DelayedClient();
    const throttle = open({ client: delayed, clock, ttl: 10, concurrency: 2, commandTimeout: 1_000 });
    const [permit, other] = [await take(throttle), await take(throttle)];
    const { signal } = permit;
    delayed.delayReplies();
    await clock.advance(8.9);
    expect(signal.aborted).toBe(false);
    await clock.advance(0.2);
    expect(signal.reason).toBeInstanceOf(LeaseLostError);
    expect((signal.reason as Error).message).toContain('is lost: its lease was not renewed for 0.9 of its ttl of 10 s');
    expect(other.signal.reason).toBe(signal.reason);
    expect(throttle.held).toBe(0);
    delayed.sendReplies();
    await until('both are back', async () => (await throttle.inspect()).active.length === 0);
  });
});

describe('configure', () => {
  test('a higher concurrency grants a waiter of this object', async () => {
    const throttle = open({ concurrency: 1 });
    const held = await take(throttle);
    const waiting = [throttle.acquire(), throttle.acquire()];
    await until('the waiters are queued', async () => (await waitingIn(throttle)) === 2);
    await throttle.configure({ concurrency: 3 });
    expect(throttle.concurrency).toBe(3);
    releaseAll([held, ...(await Promise.all(waiting))]);
  });

  test('a higher concurrency grants a request of the same tick', async () => {
    const throttle = open({ concurrency: 1, ttl: 60 });
    const held = await take(throttle);
    const inTick = throttle.acquire();
    await throttle.configure({ concurrency: 2 });
    const second = await inTick;
    const inFlight = throttle.acquire();
    await Promise.resolve();
    await throttle.configure({ concurrency: 3 });
    releaseAll([held, second, await inFlight]);
  });

  test('a lower concurrency grants no waiter, even with a higher rate', async () => {
    const throttle = open({ capacity: 1, period: 1_000, concurrency: 2 });
    const held = await take(throttle);
    const waiting = throttle.acquire();
    await until('one waiter is queued', async () => (await waitingIn(throttle)) === 1);
    await throttle.configure({ capacity: Infinity, concurrency: 1 });
    const { active, waiting: queue, tokens } = await throttle.inspect();
    expect([active.length, queue.length, tokens]).toEqual([1, 1, Infinity]);
    held.release();
    (await waiting).release();
  });

  test('a burst bounds the cost without a rate, also the cost of waiters', async () => {
    const [here, there] = openTwo({ concurrency: 1 });
    const held = await take(here);
    const large = errorOf(there.acquire(5));
    const small = there.acquire(2);
    await until('the waiters are queued', async () => (await waitingIn(here)) === 2);
    await here.configure({ burst: 3 });
    expect((await large).message).toContain('cost must be at most 3, the burst of RedisThrottle');
    expect((await errorOf(there.acquire(4))).message).toContain('cost must be at most 3, the burst of RedisThrottle');
    held.release();
    (await small).release();
  });

  test('a higher rate grants a waiter of another object', async () => {
    const [here, there] = openTwo({ capacity: 1, period: 1_000 });
    (await take(here)).release();
    const waiting = there.acquire();
    await until('one waiter is queued', async () => (await waitingIn(here)) === 1);
    await here.configure({ capacity: 1_000, period: 1 });
    (await waiting).release();
  });

  test('a waiter whose cost exceeds the new burst gets a RangeError, also in another object', async () => {
    const [here, there] = openTwo({ capacity: 8, period: 1_000 });
    (await take(here, 8)).release();
    const outcomes = new Outcomes();
    outcomes.follow('small', there.acquire(2));
    outcomes.follow('large', there.acquire(5));
    outcomes.follow('own', here.acquire(8));
    await until('the waiters are queued', async () => (await waitingIn(here)) === 3);
    await here.configure({ burst: 4 });
    await until('two have left', () => outcomes.order.length === 2);
    expect(outcomes.order.toSorted()).toEqual(['large!', 'own!']);
    for (const [name, cost] of [
      ['large', 5],
      ['own', 8],
    ] as const) {
      expect(outcomes.error(name)).toBeInstanceOf(RangeError);
      expect(outcomes.error(name).message).toContain(
        `cost must be at most 4, the burst of RedisThrottle (key "${here.key}"`,
      );
      expect(outcomes.error(name).message).toContain(`received ${cost}`);
    }
    expect(await waitingIn(there)).toBe(1);
    await here.configure({ period: 0.1 });
    await until('the last is in', () => outcomes.order.length === 3);
    (outcomes.permit('small') as RedisPermit).release();
  });

  test('a bad limit changes nothing', async () => {
    const throttle = open({ capacity: 4, concurrency: 2, period: 3, burst: 5 });
    const wrong: [object, string][] = [
      [{ capacity: 0 }, 'capacity must be a number > 0, received 0'],
      [{ concurrency: -1 }, 'concurrency must be an integer >= 0, received -1'],
      [{ capacity: 9, period: Infinity }, 'period must be a finite number > 0, received Infinity'],
      [{ capacity: 9, burst: Number.NaN }, 'burst must be a finite number > 0, received NaN'],
      [{ capacity: '9' }, 'capacity must be a number > 0, received "9"'],
    ];
    for (const [limits, message] of wrong) await expect(throttle.configure(limits)).rejects.toThrow(message);
    await expect(throttle.configure(5 as never)).rejects.toThrow('limits must be an object, received 5');
    expect([throttle.capacity, throttle.concurrency, throttle.period, throttle.burst]).toEqual([4, 2, 3, 5]);
    expect((await throttle.inspect()).tokens).toBe(5);
  });
});

describe('refusals', () => {
  test('maxQueue counts the waiters of all objects', async () => {
    const [here, there] = openTwo({ concurrency: 1, maxQueue: 2, name: 'mail' });
    const held = await take(here);
    const waiting = [here.acquire(), there.acquire()];
    await until('the waiters are queued', async () => (await waitingIn(here)) === 2);
    for (const throttle of [here, there]) {
      const error = await errorOf(throttle.acquire());
      expect(error).toBeInstanceOf(QueueFullError);
      expect(error.message).toBe(
        `RedisThrottle "mail" (key "${here.key}", any rate, 1 at a time) allows at most 2 waiters; ` +
          'retry when a running job has ended (1 running, 2 waiting)',
      );
    }
    held.release();
    for (const call of waiting) (await call).release();
  });

  test('a timeout that the tokens cannot meet is refused at once, with retryAfter', async () => {
    const [here, there] = openTwo({ capacity: 10, period: 100, concurrency: 5 });
    (await take(here, 10)).release();
    const waiting = there.acquire(2);
    await until('one waiter is queued', async () => (await waitingIn(here)) === 1);
    const error = (await errorOf(here.acquire(1, { timeout: 25 }))) as ThrottleTimeoutError;
    expect(error).toBeInstanceOf(ThrottleTimeoutError);
    // Twenty seconds for the waiter, ten for its own cost.
    expect(error.retryAfter).toBeGreaterThan(28);
    expect(error.retryAfter).toBeLessThanOrEqual(30);
    const [what, hint] = error.message.split('; ');
    expect(what).toBe(
      `RedisThrottle (key "${here.key}", 10 per 100 s, 5 at a time) ` +
        'has no permit for a cost of 1 within the timeout of 25 s',
    );
    expect(hint).toMatch(/^retry in [\d.]+ s or later \(0 running, 1 waiting\)$/);
    await here.configure({ capacity: 1e6 });
    (await waiting).release();
  });

  test('a cancelled waiter no longer counts for the timeout of others', async () => {
    const [here, there] = openTwo({ capacity: 10, period: 100 });
    (await take(here, 10)).release();
    const leaver = new AbortController();
    const left = errorOf(there.acquire(5, { signal: leaver.signal }));
    const waiting = there.acquire(2);
    await until('the waiters are queued', async () => (await waitingIn(here)) === 2);
    leaver.abort();
    await left;
    await until('one has left', async () => (await waitingIn(here)) === 1);
    const error = (await errorOf(here.acquire(1, { timeout: 15 }))) as ThrottleTimeoutError;
    expect(error.retryAfter).toBeGreaterThan(20);
    expect(error.retryAfter).toBeLessThanOrEqual(30);
    await here.configure({ capacity: 1e6 });
    (await waiting).release();
  });

  test('a timeout within a pause is refused at once; the error of an endless pause names resume()', async () => {
    const [here, there] = openTwo({ concurrency: 1 });
    await there.pause(60);
    const error = (await errorOf(here.acquire(1, { timeout: 30 }))) as ThrottleTimeoutError;
    expect(error.retryAfter).toBeGreaterThan(50);
    expect(error.retryAfter).toBeLessThanOrEqual(60);
    await there.pause();
    const endless = (await errorOf(here.acquire(1, { timeout: 30 }))) as ThrottleTimeoutError;
    expect(endless.message).toContain('it is paused until resume()');
    expect('retryAfter' in endless).toBe(false);
    await there.resume();
  });

  test('a refusal for a taken slot has no retryAfter', async () => {
    const throttle = open({ concurrency: 1 });
    const held = await take(throttle);
    for (const timeout of [0, 0.05]) {
      const error = (await errorOf(throttle.acquire(1, { timeout }))) as ThrottleTimeoutError;
      expect(error).toBeInstanceOf(ThrottleTimeoutError);
      expect(error.message).toContain(
        `within the timeout of ${timeout} s; retry when a running job has ended (1 running, 0 waiting)`,
      );
      expect('retryAfter' in error).toBe(false);
    }
    held.release();
  });
});

describe('close', () => {
  test('rejects the waiters and removes them in Redis; running work is renewed, and idle waits for it', async () => {
    const [here, there] = openTwo({ concurrency: 1, ttl: 0.6 });
    const held = await take(here);
    const waiting = [here.acquire(), here.run(() => 'never')];
    const other = there.acquire();
    await until('the waiters are queued', async () => (await waitingIn(there)) === 3);
    const reason = new Error('bye');
    const closed = here.close(reason);
    for (const call of waiting) {
      const error = await errorOf(call);
      expect(error).toBeInstanceOf(ThrottleClosedError);
      expect(error.cause).toBe(reason);
      expect(error.message).toContain(`RedisThrottle (key "${here.key}", any rate, 1 at a time) is closed`);
    }
    await closed;
    expect(await waitingIn(there)).toBe(1);
    await expect(here.acquire()).rejects.toThrow(ThrottleClosedError);
    expect(await here.tryAcquire()).toBeUndefined();
    await sleep(1_000);
    expect([here.held, held.signal.aborted, await waitingIn(there)]).toEqual([1, false, 1]);
    let idle = false;
    const ended = here.idle().then(() => (idle = true));
    await sleep(10);
    expect(idle).toBe(false);
    held.release();
    await ended;
    (await other).release();
    await there.idle();
  });

  test('of an unused throttle works, also twice and by await using', async () => {
    const throttle = open({ concurrency: 1 });
    {
      await using used = throttle;
      expect(used.closed).toBe(false);
      await using _ = await used.acquire();
    }
    expect([throttle.closed, throttle.held]).toEqual([true, 0]);
    await throttle.close(new Error('again'));
    expect((await errorOf(throttle.acquire())).cause).toBeUndefined();
    await using unused = open();
    await unused.idle();
  });

  test('a closed and idle throttle sends no command and has no subscription', async () => {
    const delayed = new DelayedClient();
    const listening = vi.spyOn(delayed, 'subscribe');
    const throttle = open({ client: delayed, capacity: 5 });
    await throttle.close();
    await throttle.configure({ capacity: 3 });
    await throttle.pause();
    await throttle.resume();
    await throttle.idle();
    expect([throttle.capacity, delayed.calls, listening.mock.calls.length]).toEqual([3, 0, 0]);
  });

  test('idle resolves at once on an idle throttle, and after all earlier calls', async () => {
    const throttle = open({ concurrency: 2 });
    await throttle.idle();
    const done: number[] = [];
    const jobs = [30, 10, 20].map((ms) =>
      throttle.run(async () => {
        await sleep(ms);
        done.push(ms);
      }),
    );
    await throttle.idle();
    expect(done.length).toBe(3);
    await Promise.all(jobs);
    expect((await throttle.inspect()).active).toEqual([]);
  });
});

describe('wrap and map', () => {
  test('a wrapped function keeps its this, arguments and result, and waits for the gate', async () => {
    const throttle = open({ capacity: 10, period: 1_000 });
    const account = {
      balance: 5,
      add: throttle.wrap(
        function add(this: { balance: number }, sum: number, factor: number) {
          return (this.balance += sum * factor);
        },
        (sum) => sum,
      ),
    };
    expect(await account.add(3, 2)).toBe(11);
    expect((await throttle.inspect()).tokens).toBeCloseTo(7, 1);
    await expect(throttle.wrap(() => Promise.reject(new Error('its own')))()).rejects.toThrow('its own');
  });

  test('map returns the results in order, reads items lazily and stops at the first failure', async () => {
    const throttle = open({ concurrency: 2 });
    let running = 0;
    let most = 0;
    const results = await throttle.map([3, 1, 2, 5, 4], async (item, index) => {
      most = Math.max(most, ++running);
      await sleep(item * 3);
      running--;
      return item * 10 + index;
    });
    expect([results, most]).toEqual([[30, 11, 22, 53, 44], 2]);
    let pulled = 0;
    const endless = function* (): Generator<number> {
      for (;;) yield pulled++;
    };
    await expect(
      throttle.map(endless(), (item) => (item === 5 ? Promise.reject(new Error('five')) : sleep(1))),
    ).rejects.toThrow('five');
    expect(pulled).toBeLessThan(10);
    await throttle.idle();
    expect([throttle.held, throttle.waiting]).toEqual([0, 0]);
  });
});

describe('settling', () => {
  test('a late refund of a forgotten grant allows no second burst', async () => {
    const throttle = open({ capacity: 20, burst: 2 });
    const first = await take(throttle, 2);
    first.release();
    await until('the key is removed', async () => (await client.exists(`{headgate:${throttle.key}}`)) === 0);
    const second = await take(throttle, 2);
    first.refund();
    expect(await throttle.tryAcquire(2)).toBeUndefined();
    second.release();
  });

  test('a late refund never fills a bucket beyond its burst', async () => {
    const throttle = open({ capacity: 20, burst: 2 });
    const first = await take(throttle, 2);
    first.release();
    await until('the key is removed', async () => (await client.exists(`{headgate:${throttle.key}}`)) === 0);
    first.refund();
    const permits = await Promise.all([throttle.tryAcquire(2), throttle.tryAcquire(2)]);
    expect(permits.map(Boolean)).toEqual([true, false]);
    releaseAll(permits);
  });

  test('a refund after a reset returns no tokens', async () => {
    const throttle = open({ capacity: 2, period: 1_000 });
    const first = await take(throttle, 2);
    await throttle.reset();
    const second = await take(throttle, 1);
    first.refund();
    expect((await throttle.inspect()).tokens).toBeCloseTo(1, 1);
    releaseAll([first, second]);
  });
});

describe('the object', () => {
  test('has getters for its limits, its permits and its waiters', async () => {
    const throttle = open({
      key: 'reports',
      prefix: freshKey(),
      capacity: 5,
      concurrency: 2,
      period: 1_000,
      burst: 8,
      name: 'paper',
    });
    expect([
      throttle.key,
      throttle.capacity,
      throttle.concurrency,
      throttle.period,
      throttle.burst,
      throttle.name,
    ]).toEqual(['reports', 5, 2, 1_000, 8, 'paper']);
    expect([throttle.held, throttle.waiting, throttle.closed]).toEqual([0, 0, false]);
    const held = await takeAll(throttle, 2);
    const waiting = throttle.acquire();
    await until('one waiter is queued', async () => (await waitingIn(throttle)) === 1);
    expect([throttle.held, throttle.waiting]).toEqual([2, 1]);
    releaseAll(held);
    (await waiting).release();
    await throttle.close();
    expect(throttle.closed).toBe(true);
  });

  test('has no limits by default', () => {
    const { capacity, concurrency, period, burst, name } = open();
    expect([capacity, concurrency, period, burst, name]).toEqual([Infinity, 0, 1, Infinity, undefined]);
  });

  test('an option that is undefined keeps its default', async () => {
    const throttle = open({
      capacity: undefined,
      concurrency: undefined,
      period: undefined,
      burst: undefined,
      ttl: undefined,
      prefix: undefined,
      failOpen: undefined,
      commandTimeout: undefined,
      maxQueue: undefined,
      name: undefined,
      clock: undefined,
    });
    (await take(throttle)).release();
    expect([throttle.capacity, throttle.period]).toEqual([Infinity, 1]);
  });

  const wrong: [string, unknown, ErrorConstructor, string][] = [
    ['client', undefined, TypeError, 'client must be a Redis client, or options for one, received undefined'],
    ['client', 'redis://host', TypeError, 'client must be a Redis client, or options for one, received "redis://host"'],
    ['client', {}, TypeError, 'client must be an ioredis or node-redis client'],
    ['key', 5, TypeError, 'key must be a string, received 5'],
    ['key', '', RangeError, 'key must be a string that is not empty, received ""'],
    ['prefix', 5, TypeError, 'prefix must be a string, received 5'],
    ['prefix', 'a{b', RangeError, 'prefix must be a string without braces, received "a{b"'],
    ['prefix', 'a}b', RangeError, 'prefix must be a string without braces, received "a}b"'],
    ['capacity', 0, RangeError, 'capacity must be a number > 0, received 0'],
    ['capacity', '5', TypeError, 'capacity must be a number > 0, received "5"'],
    ['concurrency', 1.5, RangeError, 'concurrency must be an integer >= 0, received 1.5'],
    ['period', Infinity, RangeError, 'period must be a finite number > 0, received Infinity'],
    ['burst', -1, RangeError, 'burst must be a finite number > 0, received -1'],
    ['ttl', 0.04, RangeError, 'ttl must be a number from 0.05 to 2000000, received 0.04'],
    ['ttl', 2_000_001, RangeError, 'ttl must be a number from 0.05 to 2000000, received 2000001'],
    ['ttl', Number.NaN, RangeError, 'ttl must be a number from 0.05 to 2000000, received NaN'],
    ['ttl', '60', TypeError, 'ttl must be a number from 0.05 to 2000000, received "60"'],
    ['commandTimeout', 0, RangeError, 'commandTimeout must be a finite number > 0, received 0'],
    ['commandTimeout', Infinity, RangeError, 'commandTimeout must be a finite number > 0, received Infinity'],
    ['failOpen', 1, TypeError, 'failOpen must be a boolean, received 1'],
    ['maxQueue', -1, RangeError, 'maxQueue must be an integer >= 0, received -1'],
    ['maxQueue', 0.5, RangeError, 'maxQueue must be an integer >= 0, received 0.5'],
    ['name', 5, TypeError, 'name must be a string, received 5'],
    ['clock', 5, TypeError, 'clock must be'],
  ];
  test.each(wrong)('%s: %j is refused', (option, value, Kind, message) => {
    const make = (): RedisThrottle => open({ [option]: value });
    expect(make).toThrow(Kind);
    expect(make).toThrow(message);
  });

  test('options that are not an object are refused', () => {
    expect(() => new RedisThrottle(5 as never)).toThrow('options must be an object, received 5');
  });
});
