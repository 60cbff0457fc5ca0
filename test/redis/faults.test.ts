/**
 * A gate while Redis fails: the server is killed, hangs, loses its scripts or its data, or drops connections or
 * messages. Each test has a server of its own, since its faults would break every other test.
 */
import { ThrottleClosedError, ThrottleError } from 'headgate';
import { LeaseLostError, type RedisConnection, type RedisThrottle, ThrottleBackendError } from 'headgate/redis';
import { describe, expect } from 'vitest';
import { Outcomes } from '../support/support.js';
import { type Scene, scene, clients, all, slots, times, untilConnected, watch, untilKnown } from './server-scene.js';
import { SETTLE_MILLISECONDS, busyKeys, evalThrough, sleep, stopwatch, subscribeThrough, until } from './support.js';

describe('a call whose reply is lost', () => {
  scene('counts once when ioredis sends it twice', async (it) => {
    const net = await it.network();
    const throttle = it.throttle(it.ioredis({}, net.url), { concurrency: 2, commandTimeout: 2, ttl: 10 });
    const other = it.throttle(it.admin, { key: throttle.key, concurrency: 2, ttl: 10 });
    const first = await throttle.acquire();
    // A caller waits in Redis only once its process is subscribed, and the reply to SUBSCRIBE must not be lost.
    await until('it is subscribed', async () => (await it.admin.pubsub('CHANNELS', 'headgate:*')).length > 0);
    await sleep(100);
    net.dropsReplies = true;
    const second = throttle.acquire();
    await until('the server has applied the call', async () => (await other.inspect()).active.length === 2);
    // These callers wait, so ioredis sends their commands again too.
    const third = throttle.acquire();
    await until('the waiters are queued', async () => (await other.inspect()).waiting.length === 1);
    const last = other.acquire();
    await until('one waiter is queued', async () => (await other.inspect()).waiting.length === 2);
    net.dropsReplies = false;
    net.cut();
    expect(slots([first, await second])).toEqual([1, 2]);
    const outcomes = new Outcomes();
    outcomes.follow('third', third);
    outcomes.follow('last', last);
    first.release();
    await until('one of them has its turn', () => outcomes.order.length > 0);
    expect(outcomes.order).toEqual(['third']);
    outcomes.permit('third').release();
    expect((await last).slot).toBe(1);
    expect(new Set((await other.inspect()).active.map(({ slot }) => slot))).toEqual(new Set([1, 2]));
  });

  scene('rejects with node-redis, and its permit is released at once', async (it) => {
    const net = await it.network();
    const throttle = it.throttle(await it.nodeRedis(net.url), { concurrency: 1, commandTimeout: 2, ttl: 20 });
    const other = it.throttle(it.admin, { key: throttle.key, concurrency: 1, ttl: 20 });
    await throttle.run(() => {});
    net.dropsReplies = true;
    const lost = throttle.acquire();
    await until('the server has applied the call', async () => (await other.inspect()).active.length === 1);
    net.dropsReplies = false;
    net.cut();
    await expect(lost).rejects.toThrow(ThrottleBackendError);
    await until('nothing is held', async () => (await other.inspect()).active.length === 0, 2);
  });

  scene('is cancelled at once, even if another call was answered meanwhile', async (it) => {
    const answers: (() => void)[] = [];
    let prompt = true;
    const run = evalThrough(it.admin);
    const throttle = it.throttle(
      {
        async eval(script: string, keys: string[], args: string[]) {
          const answer = await run(script, keys, args);
          if (!prompt) await new Promise<void>((resolve) => void answers.push(resolve));
          return answer;
        },
        subscribe: async () => {},
      },
      { concurrency: 4, ttl: 20, commandTimeout: 0.3 },
    );
    const known = watch(it, throttle);
    prompt = false;
    const first = throttle.acquire();
    await sleep(200);
    const second = throttle.acquire();
    await expect(first).rejects.toThrow(ThrottleBackendError);
    prompt = true;
    for (const answer of answers) answer();
    const permit = await second;
    await untilKnown(known, [2], 0, 2);
    permit.release();
    await throttle.idle();
    expect(await busyKeys(it.admin)).toEqual([]);
  });

  scene('grants no permit if the reply takes longer than ttl', async (it) => {
    let delay = 0;
    const run = evalThrough(it.admin);
    const throttle = it.throttle(
      {
        async eval(script: string, keys: string[], args: string[]) {
          const answer = await run(script, keys, args);
          await sleep(delay);
          return answer;
        },
        subscribe: async () => {},
      },
      { concurrency: 1, ttl: 0.3, commandTimeout: 3 },
    );
    const other = it.throttle(await clients[0]![1](it), { key: throttle.key, concurrency: 1, ttl: 5 });
    delay = 700;
    const late = throttle.acquire().then(
      () => 'granted',
      (error: unknown) => error,
    );
    await until('granted there', async () => (await other.inspect()).active.length === 1);
    await other.acquire();
    expect(await late).toBeInstanceOf(ThrottleBackendError);
  });

  scene('a permit that is requested during a slow call is not lost at once', async (it) => {
    const throttle = it.throttle(await clients[0]![1](it), { concurrency: 4, ttl: 0.5, commandTimeout: 3 });
    await throttle.run(() => {});
    const goOn = await it.hang();
    const pausing = throttle.pause(0.01).catch((error: unknown) => error);
    await sleep(600);
    const acquiring = throttle.acquire();
    goOn();
    const permit = await acquiring;
    expect(permit.signal.aborted).toBe(false);
    await pausing;
    await sleep(SETTLE_MILLISECONDS);
    expect(permit.signal.aborted).toBe(false);
  });
});

describe('a server that is killed and started again', () => {
  for (const [name, connect] of all) {
    scene(`without its data, holders keep their slots and waiters their order: ${name}`, async (it) => {
      const net = await it.network();
      const here = it.throttle(await connect(it), { concurrency: 3, ttl: 3, commandTimeout: 2 });
      const there = it.throttle(await connect(it, net.url), {
        key: here.key,
        concurrency: 3,
        ttl: 3,
        commandTimeout: 2,
      });
      const known = watch(it, here);
      const permits = [await here.acquire(), await here.acquire(), await here.acquire()] as const;
      const outcomes = new Outcomes();
      for (const [index, waiter] of ['a', 'b', 'c', 'd', 'e'].entries()) {
        outcomes.follow(waiter, (index % 2 === 0 ? here : there).acquire());
        await untilKnown(known, [1, 2, 3], index + 1);
      }
      // The second client stays cut off, so the holders restore their leases before its waiters return.
      net.closed = true;
      net.cut();
      await it.server.kill();
      permits[1].release();
      await it.server.start();
      await until('the holders are back', () => outcomes.order.length > 0);
      expect(outcomes.order).toEqual(['a']);
      expect(outcomes.permit('a')).toMatchObject({ slot: 2 });
      await untilKnown(known, [1, 2, 3], 2);
      net.closed = false;
      await untilKnown(known, [1, 2, 3], 4);
      expect(permits.map(({ slot, signal }) => [slot, signal.aborted])).toEqual([
        [1, false],
        [2, false],
        [3, false],
      ]);
      for (const permit of permits) permit.release();
      await until('they go on', () => outcomes.order.length === 3);
      outcomes.permit('c').release();
      await until('and on', () => outcomes.order.length === 4);
      outcomes.permit('a').release();
      await until('and on', () => outcomes.order.length === 5);
      expect(new Set(outcomes.order.slice(1, 3))).toEqual(new Set(['b', 'c']));
      expect(outcomes.order.slice(3)).toEqual(['d', 'e']);
      for (const last of ['b', 'd', 'e']) outcomes.permit(last).release();
      await Promise.all([here.idle(), there.idle()]);
      expect(await busyKeys(it.admin)).toEqual([]);
    });

    scene(
      `with its data: every permit and waiter continues, and none is doubled: ${name}`,
      async (it) => {
        const throttles = [it.throttle(await connect(it), { concurrency: 3, ttl: 3, commandTimeout: 2 })];
        throttles.push(
          it.throttle(await connect(it), { key: throttles[0]!.key, concurrency: 3, ttl: 3, commandTimeout: 2 }),
        );
        const known = watch(it, throttles[0]!);
        const taken = new Set<number>();
        let done = 0;
        const job = async (throttle: RedisThrottle): Promise<void> => {
          try {
            await throttle.run(async ({ slot, signal }) => {
              if (taken.has(slot) || slot > 3) throw new Error(`slot ${slot} is given twice, or out of range`);
              taken.add(slot);
              await sleep(10);
              taken.delete(slot);
              if (signal.aborted) throw signal.reason;
              done++;
            });
          } catch (error) {
            // The call was under way when the connection broke, so the test calls again.
            if (!(error instanceof ThrottleBackendError)) throw error;
            await sleep(20);
            return job(throttle);
          }
        };
        const jobs = times(80, (index) => job(throttles[index % 2]!));
        await until('some are done', () => done > 10);
        await it.server.kill();
        await it.server.start();
        const more = times(20, (index) => job(throttles[index % 2]!));
        await Promise.all([...jobs, ...more]);
        expect(done).toBe(100);
        await untilKnown(known, [], 0);
        await Promise.all(throttles.map((throttle) => throttle.idle()));
        expect(await busyKeys(it.admin)).toEqual([]);
      },
      { appendonly: 'yes', appendfsync: 'always' },
    );

    scene(`down for longer than ttl: every call settles, and new calls start from a new state: ${name}`, async (it) => {
      const throttle = it.throttle(await connect(it), { concurrency: 2, ttl: 0.6, commandTimeout: 0.3 });
      await untilConnected(throttle);
      const permits = [await throttle.acquire(), await throttle.acquire()];
      const waiters = times(3, () =>
        throttle.acquire().then(
          () => 'granted',
          (error: unknown) => error,
        ),
      );
      await until('the waiters are queued', async () => (await throttle.inspect()).waiting.length === 3);
      const losses: unknown[] = [];
      for (const { signal } of permits) signal.addEventListener('abort', () => losses.push(signal.reason));
      const elapsed = stopwatch();
      await it.server.kill();
      await until('both are lost', () => losses.length === 2, 2);
      expect(elapsed()).toBeLessThan(600 + 150);
      expect(losses).toEqual([expect.any(LeaseLostError), expect.any(LeaseLostError)]);
      for (const error of await Promise.all(waiters)) expect(error).toBeInstanceOf(ThrottleBackendError);
      expect([throttle.held, throttle.waiting]).toEqual([0, 0]);
      await it.server.start();
      for (const permit of permits) permit.release();
      await until('the throttle works again', () => throttle.run(({ slot }) => slot === 1).catch(() => false));
      await throttle.idle();
      expect(losses).toHaveLength(2);
      await until('nothing is left', async () => (await busyKeys(it.admin)).length === 0);
    });
  }
});

describe('each call is bounded', () => {
  const calls: Record<string, (throttle: RedisThrottle) => Promise<unknown>> = {
    acquire: (throttle) => throttle.acquire(),
    'acquire with a wait of a second': (throttle) => throttle.acquire(1, { timeout: 5 }),
    tryAcquire: (throttle) => throttle.tryAcquire(),
    run: (throttle) => throttle.run(() => {}),
    pause: (throttle) => throttle.pause(0.01),
    resume: (throttle) => throttle.resume(),
    inspect: (throttle) => throttle.inspect(),
    reset: (throttle) => throttle.reset(),
    configure: (throttle) => throttle.configure({ concurrency: 5 }),
  };
  const failures: Record<string, (it: Scene) => Promise<() => unknown>> = {
    async down(it) {
      await it.server.kill();
      return () => it.server.start();
    },
    hung: (it) => it.hang(),
    async 'hung in a pause of its clients'(it) {
      await it.admin.client('PAUSE', 900, 'ALL');
      return () => {};
    },
  };
  for (const [name, connect] of all) {
    for (const [failure, fail] of Object.entries(failures)) {
      scene(`${name}, ${failure}`, async (it) => {
        const throttle = it.throttle(await connect(it), {
          concurrency: 10,
          ttl: 10,
          commandTimeout: 0.4,
          name: 'mails',
        });
        await untilConnected(throttle);
        await throttle.run(() => {});
        const recover = await fail(it);
        const elapsed = stopwatch();
        const errors = await Promise.all(
          Object.values(calls).map((call) =>
            call(throttle).then(
              () => 'done',
              (error: unknown) => error,
            ),
          ),
        );
        const closing = it.throttle(it.admin, { key: throttle.key, commandTimeout: 0.4 });
        const waiter = closing.acquire().catch((error: unknown) => error);
        expect(await closing.close(new Error('the end'))).toBeUndefined();
        expect(await waiter).toBeInstanceOf(ThrottleClosedError);
        expect(elapsed()).toBeLessThan(2 * 400 + 150);
        for (const [index, error] of errors.entries()) {
          expect(error, Object.keys(calls)[index]).toBeInstanceOf(ThrottleBackendError);
          expect(error).not.toBeInstanceOf(ThrottleError);
          expect(error).toMatchObject({
            code: 'ERR_THROTTLE_BACKEND',
            cause: expect.any(Error),
            message: expect.stringContaining('"mails"'),
          });
        }
        expect(throttle.concurrency).toBe(5);
        await recover();
        await until('the next works', () => throttle.run(({ slot }) => slot > 0).catch(() => false), 4);
        // A permit without a holder is released long before its lease would expire.
        await until('nothing is held', async () => (await throttle.inspect()).active.length === 0, 3);
        await throttle.idle();
        expect(await busyKeys(it.admin)).toEqual([]);
      });
    }
  }

  scene('a reply just before the timeout is used', async (it) => {
    const throttle = it.throttle(await clients[0]![1](it), { concurrency: 1, ttl: 10, commandTimeout: 0.6 });
    await throttle.run(() => {});
    const goOn = await it.hang();
    const acquiring = throttle.acquire();
    await sleep(300);
    goOn();
    expect((await acquiring).slot).toBe(1);
  });
});

describe('SCRIPT FLUSH', () => {
  for (const [name, connect] of all) {
    scene(`affects no call: ${name}`, async (it) => {
      const throttle = it.throttle(await connect(it), { concurrency: 2, ttl: 0.5 });
      const stop = new AbortController();
      const flush = (async () => {
        while (!stop.signal.aborted) await it.admin.script('FLUSH');
      })();
      const order: number[] = [];
      await Promise.all(times(50, (index) => throttle.run(() => void order.push(index))));
      expect(order).toEqual(times(50, (index) => index));
      const permit = await throttle.acquire();
      await sleep(700);
      expect(permit.signal.aborted).toBe(false);
      await throttle.inspect();
      await throttle.reset();
      stop.abort();
      await flush;
      await throttle.idle();
    });
  }
});

describe('CLIENT KILL', () => {
  for (const [name, connect] of all) {
    scene(`of all connections loses no permit and no waiter: ${name}`, async (it) => {
      const here = it.throttle(await connect(it), { concurrency: 1, ttl: 20, commandTimeout: 2 });
      const there = it.throttle(await connect(it), { key: here.key, concurrency: 1, ttl: 20, commandTimeout: 2 });
      const known = watch(it, here);
      const permit = await here.acquire();
      const outcomes = new Outcomes();
      outcomes.follow('first', there.acquire());
      await untilKnown(known, [1], 1);
      outcomes.follow('second', here.acquire());
      await untilKnown(known, [1], 2);
      await sleep(SETTLE_MILLISECONDS);
      // CLIENT KILL skips its own connection by default.
      for (const type of ['NORMAL', 'PUBSUB']) await it.admin.call('CLIENT', 'KILL', 'TYPE', type);
      // This message is published without a subscriber.
      permit.release();
      await until('the grant arrives after all', () => outcomes.order.length > 0, 4);
      expect(outcomes.order).toEqual(['first']);
      await it.admin.call('CLIENT', 'KILL', 'TYPE', 'NORMAL');
      outcomes.permit('first').release();
      await until('the queue goes on', () => outcomes.order.length > 1, 4);
      outcomes.permit('second').release();
      await Promise.all([here.idle(), there.idle()]);
      expect(await busyKeys(it.admin)).toEqual([]);
    });
  }
});

describe('lost messages', () => {
  const ttl = 1.5;
  /** A custom client on connections of the scene. It receives the messages for which `passes` returns true. */
  const partial = (
    it: Scene,
    passes: (message: string) => boolean,
    subscribed: () => Promise<void> = async () => {},
  ): RedisConnection => {
    const listen = subscribeThrough(it.ioredis());
    return {
      eval: evalThrough(it.ioredis()),
      async subscribe(channel: string, listener: (message: string) => void) {
        await subscribed();
        await listen(channel, (message) => void (passes(message) && listener(message)));
      },
    };
  };
  let rejections = 0;
  let dropped = 0;
  const lossy: [string, (it: Scene) => RedisConnection][] = [
    ['a grant', (it) => partial(it, (message) => !/\nG/.test(message) || dropped++ > 0)],
    ['all of them', (it) => partial(it, () => false)],
    [
      'for a subscription that is refused at first',
      (it) =>
        partial(
          it,
          () => true,
          async () => {
            if (rejections++ === 0) throw new Error('not now');
          },
        ),
    ],
    [
      'for a subscription that is never answered',
      (it) =>
        partial(
          it,
          () => true,
          () => new Promise(() => {}),
        ),
    ],
  ];
  for (const [what, make] of lossy) {
    scene(`${what}: a waiter receives its grant within ttl / 3`, async (it) => {
      const holder = it.throttle(await clients[0]![1](it), { concurrency: 1, ttl });
      const throttle = it.throttle(make(it), { key: holder.key, concurrency: 1, ttl });
      const known = watch(it, holder);
      const permit = await holder.acquire();
      const next = throttle.acquire();
      await untilKnown(known, [1], 1);
      await sleep(200);
      const elapsed = stopwatch();
      permit.release();
      expect((await next).slot).toBe(1);
      expect(elapsed()).toBeLessThan((ttl / 3) * 1_000 + 200);
    });
  }
});
