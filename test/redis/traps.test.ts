/**
 * Traps 34 to 39: faults that users of other limiters on Redis have reported. `../traps.test.ts` explains the numbers
 * and the brackets.
 */
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { type Clock, systemClock } from '../../src/core/clock.js';
import {
  LeaseLostError,
  type RedisCommands,
  type RedisConnection,
  RedisKeyedThrottle,
  type RedisPermit,
  RedisThrottle,
  type RedisThrottleOptions,
  ThrottleBackendError,
} from 'headgate/redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readLuaLines } from '../support/lua-loader.js';
import { Outcomes } from '../support/support.js';
import { wordsOf } from './batch-words.js';
import { type RedisServer, startRedis } from '../support/redis-server.js';
import {
  busyKeys,
  killableClient,
  connections,
  evalThrough,
  freshKey,
  ioredis,
  redisUrl,
  SETTLE_MILLISECONDS,
  sleep,
  subscribeThrough,
  stopwatch,
  until,
} from './support.js';

const [STEP, INSPECT, RESET] = ['step', 'inspect', 'reset'].map((name) =>
  readLuaLines(fileURLToPath(new URL(`../../src/redis/scripts/${name}.lua`, import.meta.url))),
) as [string, string, string];

const endings: (() => unknown)[] = [];
const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);
let own: RedisServer;
beforeAll(async () => {
  process.on('unhandledRejection', note);
  own = await startRedis();
});
afterAll(async () => {
  for (const end of endings.toReversed()) await end();
  await own.stop();
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
});

const connect = (url: string = redisUrl()): Redis => {
  const { client, close } = ioredis(url);
  endings.push(close);
  return client;
};

const open = (
  client: RedisConnection,
  options: Partial<RedisThrottleOptions> = {},
  serverTime?: () => number,
): RedisThrottle => {
  const all = { client, key: freshKey(), ttl: 5, ...options };
  const throttle = serverTime === undefined ? new RedisThrottle(all) : new RedisThrottle(all, { serverTime });
  endings.push(() => throttle.close());
  return throttle;
};

/** A client that records the calls of the scripts. */
const recorded = (client: Redis): { client: RedisCommands; calls: string[][] } => {
  const calls: string[][] = [];
  const subscriber = client.duplicate();
  endings.push(() => subscriber.disconnect());
  const run = evalThrough(client);
  return {
    calls,
    client: {
      eval(script, keys, args) {
        calls.push(args);
        return run(script, keys, args);
      },
      subscribe: subscribeThrough(subscriber),
    },
  };
};

const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));
const keysOf = (client: Redis, part: string): Promise<string[]> => client.keys(`*${part}*`);

describe('trap 34: missing scripts, keys on other nodes, leftover keys', () => {
  test('an uncached script is sent in full once, then called by its SHA-1 [bottleneck#118]', async () => {
    const client = connect(own.url);
    const throttle = open(client, { concurrency: 2 });
    const counts = async (): Promise<[number, number]> => {
      const stats = await client.info('commandstats');
      const count = (command: string): number =>
        Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
      return [count('eval'), count('evalsha')];
    };
    await throttle.run(() => {});
    await throttle.idle();
    await client.script('FLUSH');
    const before = await counts();
    await throttle.run(() => {});
    await throttle.idle();
    const [inFull, byName] = await counts();
    expect([inFull - before[0], byName - before[1]]).toEqual([1, 2]);
  });

  const strange = [
    'plain',
    'a b',
    '{braces}',
    '}{',
    'a}b{c',
    '{',
    '}',
    '日本語 🚦',
    'new\nline',
    '"quoted"',
    '\\',
    '*',
    ':queue',
  ];

  test.each(strange)('all keys of %j are on one node, and no other keys are used [bottleneck#180]', async (name) => {
    const client = connect();
    const touched: string[][] = [];
    const run = evalThrough(client);
    const throttle = open(
      {
        eval(script: string, keys: string[], args: string[]) {
          touched.push(keys);
          return run(script, keys, args);
        },
        subscribe: async () => {},
      },
      { key: `${name}${freshKey()}`, concurrency: 1, capacity: 5 },
    );
    const permit = await throttle.acquire();
    const next = throttle.acquire();
    await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    const slots = await Promise.all(
      touched.flat().map((key) => client.cluster('KEYSLOT', key).catch(() => tagOf(key))),
    );
    expect(new Set(slots).size).toBe(1);
    const mine = new Set(touched.flat());
    for (const key of (await client.keys('*')).filter((found) => found.includes(throttle.key)))
      expect(mine).toContain(key);
    permit.release();
    (await next).release();
    await throttle.idle();
  });

  /** The part of a key that a cluster hashes. */
  const tagOf = (key: string): string => /\{([^}]+)\}/s.exec(key)?.[1] ?? key;

  test('unusual keys are independent', async () => {
    const client = connect();
    const suffix = freshKey();
    const throttles = strange.map((name) => open(client, { key: `${suffix}${name}`, concurrency: 1 }));
    const permits = await Promise.all(throttles.map((throttle) => throttle.acquire(1, { timeout: 1 })));
    expect(permits.map(({ slot }) => slot)).toEqual(strange.map(() => 1));
    for (const permit of permits) permit.release();
  });

  test.each([
    ['step', STEP],
    ['inspect', INSPECT],
    ['reset', RESET],
  ])('each call in the script %s uses a key of KEYS', (_, script) => {
    const declaration = /^local ([A-Z, ]+) = unpack\(KEYS\)$|^local ([A-Z]+), \w+ = KEYS\[\d\], \S+$/m;
    const [, list, single] = declaration.exec(script) ?? [];
    const names = list?.split(', ') ?? [single as string];
    expect(names[0]).toBe(script === RESET ? 'RESET' : 'STATE');
    const calls = [
      ...script.matchAll(/(?<![\w.])(?:redis\.)?(?:p?call|call_in_parts)\('([A-Z]+)'(?:, ([^,)]+))?([^)\n]*)/g),
    ];
    expect(calls.length).toBeGreaterThan(2);
    const isKey = (word: string): boolean => names.includes(word) || /^KEYS\[[1-8]\]$/.test(word);
    for (const [text, command = '', first = '', others = ''] of calls) {
      if (command === 'TIME') expect(first).toBe('');
      else if (command === 'PUBLISH') expect(first).toMatch(/^'headgate:' \.\. connection$/);
      // The loop over all keys.
      else if (command === 'TYPE' && first === 'name') continue;
      else if (['UNLINK', 'EXISTS', 'RENAME'].includes(command)) {
        if (first === 'unpack(KEYS') continue;
        for (const word of [first, ...others.split(', ').slice(1)]) expect(isKey(word), text).toBe(true);
      } else expect(isKey(first), text).toBe(true);
    }
    // That loop takes its names from KEYS only.
    expect(script.match(/\blocal name = KEYS\[index \+ 1\]/g) ?? []).toHaveLength(script === STEP ? 1 : 0);
    // No other call hides its command.
    const hidden = [...script.matchAll(/(?<![\w.])(?:redis\.)?(?:p?call|call_in_parts)\((?!').*$/gm)];
    expect(hidden.map(([text]) => text)).toEqual(
      script === STEP
        ? [
            'call_in_parts(command, key, values)',
            'call(command, key, unpack(values, from, min(from + 3999, #values))) end',
          ]
        : [],
    );
    // The script never assigns another value to these names.
    const rest = script.replace(declaration, '');
    for (const name of names)
      expect(rest).not.toMatch(new RegExp(`\\b${name}\\s*=[^=]|local [A-Za-z, ]*\\b${name}\\b`));
  });

  test('every key always has a ttl, and no key is left after its use [upstash#95]', async () => {
    const client = connect();
    let state = 7;
    const random = (below: number): number => {
      state = (state * 48_271) % 2_147_483_647;
      return state % below;
    };
    const check = async (key: string, step: string): Promise<void> => {
      for (const found of await keysOf(client, key))
        expect(await client.pttl(found), `${found} after ${step}`).not.toBe(-1);
    };
    await Promise.all(
      times(6, async (run) => {
        const key = freshKey();
        const limits = [{ concurrency: 2 }, { capacity: 30, burst: 3 }, { capacity: 50, burst: 4, concurrency: 2 }][
          run % 3
        ]!;
        const two = times(2, () => open(connect(), { key, ttl: 0.6, ...limits }));
        const held: RedisPermit[] = [];
        for (let count = 0; count < 60; count++) {
          const throttle = two[random(2)]!;
          const stop = new AbortController();
          const steps: Record<string, () => unknown> = {
            acquire: () =>
              void throttle.acquire(1 + random(2)).then(
                (permit) => held.push(permit),
                () => {},
              ),
            'an abort': () => {
              void throttle.acquire(1, { signal: stop.signal }).then(
                (permit) => held.push(permit),
                () => {},
              );
              if (random(2) === 0) stop.abort();
              else setTimeout(() => stop.abort(), 5);
            },
            'a release': () => held.shift()?.release(),
            'acquire and release in one call': () => {
              void throttle.acquire().then(
                (permit) => held.push(permit),
                () => {},
              );
              held.shift()?.release();
            },
            'a settlement': () => held[0]?.settle(random(4)),
            'a pause': () => throttle.pause(0.01),
            'an endless pause': () => throttle.pause(),
            resume: () => throttle.resume(),
            configure: () => throttle.configure({ concurrency: 1 + random(3) }),
            reset: () => (random(4) === 0 ? throttle.reset() : undefined),
            tryAcquire: () => void throttle.tryAcquire().then((permit) => permit && held.push(permit)),
          };
          const step = Object.keys(steps)[random(Object.keys(steps).length)]!;
          await steps[step]!();
          if (random(3) > 0) await throttle.inspect();
          await check(key, step);
        }
        await two[0]!.resume();
        for (const throttle of two) await throttle.close();
        for (const permit of held.splice(0)) permit.release();
        await until(
          'no key is left',
          async () => {
            for (const permit of held.splice(0)) permit.release();
            // The instant of a reset stays for a minute.
            return (await keysOf(client, key)).every((name) => name.endsWith(':reset'));
          },
          5,
        );
      }),
    );
  });

  test('a waiter that returns to a server without its data leaves no key without a ttl', async () => {
    const client = connect();
    const key = freshKey();
    const holder = open(client, { key, concurrency: 1 });
    const throttle = open(connect(), { key, concurrency: 1 });
    await holder.acquire();
    const next = throttle.acquire();
    await until('one waiter is queued', async () => (await holder.inspect()).waiting.length === 1);
    await holder.reset();
    await next;
    for (const found of await keysOf(client, key)) expect(await client.pttl(found), found).toBeGreaterThan(0);
  });
});

/** A clock that differs from the clock of the server. */
const skewed = (seconds: number): Clock => ({
  now: () => systemClock.now() + seconds,
  schedule: (delay, callback) => systemClock.schedule(delay, callback),
});

describe.concurrent('trap 35: the clock of the server counts', () => {
  test('clients whose clocks differ by hours share one rate', async () => {
    const client = connect();
    const key = freshKey();
    const throttles = [-7_200, 0, 7_200].map((seconds) =>
      open(connect(), { key, capacity: 20, burst: 2, clock: skewed(seconds) }),
    );
    const since = performance.now();
    const outcomes = new Outcomes();
    for (let index = 0; index < 12; index++) {
      outcomes.follow(String(index), throttles[index % 3]!.acquire());
      await until(
        'it has arrived',
        async () => outcomes.order.length + (await throttles[0]!.inspect()).waiting.length > index,
      );
    }
    await until('all are granted', () => outcomes.order.length === 12);
    expect(outcomes.order).toEqual(times(12, String));
    const seconds = (performance.now() - since) / 1_000;
    // Ten of the calls wait for a token: 0.5 s.
    expect(seconds).toBeGreaterThan(0.5 - 0.005);
    expect(seconds).toBeLessThan(0.5 + 0.4);
    const { active } = await throttles[1]!.inspect();
    expect(Math.max(...active.map(({ age }) => age))).toBeLessThan(seconds + 0.1);
    expect(await client.exists(`{headgate:${key}}`)).toBe(1);
  });

  test('a server clock that steps back grants nothing extra, and timers still grant every waiter', async () => {
    const client = connect();
    let skew = 0;
    const serverTime = (): number => 1_700_000_000 + systemClock.now() + skew;
    const throttle = open(client, { capacity: 10, burst: 2, ttl: 30 }, serverTime);
    const granted: number[] = [];
    const since = performance.now();
    const waiters = times(8, () => throttle.acquire().then(() => granted.push((performance.now() - since) / 1_000)));
    await until('the first two', () => granted.length === 2);
    skew = -3_600;
    await Promise.all(waiters);
    for (const [index, instant] of granted.entries())
      expect(instant).toBeGreaterThan(Math.max(0, (index - 1) / 10) - 0.005);
    expect(granted[7]!).toBeLessThan(0.6 + 0.5);
    // The same holds for a clock that jumps back and forth.
    skew = -7_200;
    const more = times(3, () => throttle.acquire().then(() => granted.push((performance.now() - since) / 1_000)));
    for (const step of [-1, -3_600, -10, -7_200]) {
      skew = step;
      await throttle.tryAcquire();
      await sleep(20);
    }
    await Promise.all(more);
    for (const [index, instant] of granted.entries())
      expect(instant).toBeGreaterThan(Math.max(0, (index - 1) / 10) - 0.005);
  });

  test('a pause, a lease and the ttl of a crashed holder end in time while the clock is an hour behind', async () => {
    let skew = 0;
    const serverTime = (): number => 1_700_000_000 + systemClock.now() + skew;
    const key = freshKey();
    const holder = open(connect(), { key, concurrency: 1, ttl: 1.2 }, serverTime);
    const throttle = open(connect(), { key, concurrency: 1, ttl: 1.2 }, serverTime);
    const permit = await holder.acquire();
    skew = -3_600;
    const next = throttle.acquire();
    await sleep(1_500);
    expect(permit.signal.aborted).toBe(false);
    expect(throttle.waiting).toBe(1);
    const since = performance.now();
    // The pause is shorter than a third of ttl: a renewal would set the alarm again while the clock is behind.
    await holder.pause(0.2);
    permit.release();
    await next;
    expect(performance.now() - since).toBeGreaterThan(200 - 20);
    expect(performance.now() - since).toBeLessThan(200 + 700);
  });
});

describe.concurrent('trap 36: leases that expire, and leases that must not', () => {
  test('the lease of a crashed holder expires within its ttl, of a running one never [bottleneck#197]', async () => {
    const key = freshKey();
    const ttl = 0.6;
    const { client, die } = killableClient(recorded(connect()).client);
    const living = open(connect(), { key, concurrency: 2, ttl });
    const crashing = open(client, { key, concurrency: 2, ttl });
    const kept = await living.acquire();
    const lost = await crashing.acquire();
    const next = open(connect(), { key, concurrency: 2, ttl });
    const waiting = next.acquire();
    await sleep(ttl * 3_000);
    expect([kept.signal.aborted, lost.signal.aborted, next.waiting]).toEqual([false, false, 1]);
    die();
    const elapsed = stopwatch();
    expect((await waiting).slot).toBe(lost.slot);
    expect(elapsed()).toBeLessThan(ttl * 1_000 + 150);
    expect([kept.signal.aborted, lost.signal.aborted]).toEqual([false, true]);
  });

  test('a key in constant use still expires a dead holder [concurrency-limit]', async () => {
    const key = freshKey();
    const { client, die } = killableClient(recorded(connect()).client);
    const crashing = open(client, { key, concurrency: 2, ttl: 0.5 });
    await crashing.acquire();
    die();
    const busy = open(connect(), { key, concurrency: 2, ttl: 0.5 });
    const since = performance.now();
    const elapsed = stopwatch();
    const used: number[] = [];
    const use = async (): Promise<void> => {
      while (!used.includes(1) && performance.now() - since < 3_000)
        await busy.run(async ({ slot }) => {
          used.push(slot);
          await sleep(10);
        });
    };
    await Promise.all([use(), use(), use()]);
    expect(new Set(used)).toEqual(new Set([1, 2]));
    expect(elapsed()).toBeLessThan(500 + 150);
    await busy.idle();
  });

  test('simultaneous renewals and releases cause no error and lose no lease [redis-semaphore#206]', async () => {
    const key = freshKey();
    const throttles = times(3, () => open(connect(), { key, concurrency: 20, ttl: 1 }));
    const losses: unknown[] = [];
    const end = performance.now() + 2_000;
    let jobs = 0;
    await Promise.all(
      times(30, async (worker) => {
        const throttle = throttles[worker % 3]!;
        while (performance.now() < end) {
          const permit = await throttle.acquire();
          permit.signal.addEventListener('abort', () => losses.push(permit.signal.reason));
          await sleep(300 + ((worker * 37 + jobs++ * 11) % 60));
          permit.release();
        }
      }),
    );
    expect(jobs).toBeGreaterThan(60);
    expect(losses).toEqual([]);
    await Promise.all(throttles.map((throttle) => throttle.idle()));
    expect(await busyKeys(connect(), `*${key}*`)).toEqual([]);
  });

  test('a lost lease aborts its signal once, and causes no unhandled error [redis-semaphore#177, #24]', async () => {
    const key = freshKey();
    const { client, die } = killableClient(recorded(connect()).client);
    const throttle = open(client, { key, concurrency: 3, ttl: 0.5, commandTimeout: 0.2 });
    const [withSignal, late, withoutSignal] = [
      await throttle.acquire(),
      await throttle.acquire(),
      await throttle.acquire(),
    ];
    const events: Event[] = [];
    withSignal.signal.addEventListener('abort', (event) => events.push(event));
    die();
    await until('the permit is lost', () => events.length > 0, 2);
    await sleep(300);
    expect(events).toHaveLength(1);
    expect(withSignal.signal.reason).toBeInstanceOf(LeaseLostError);
    expect(withSignal.signal.reason).toMatchObject({
      code: 'ERR_THROTTLE_LEASE_LOST',
      message: expect.stringContaining(key),
    });
    expect(late.signal.reason).toBeInstanceOf(LeaseLostError);
    expect(late.signal).toBe(late.signal);
    for (const permit of [withSignal, late, withoutSignal]) permit.release();
    expect(throttle.held).toBe(0);
    expect(events).toHaveLength(1);
  });

  test('run resolves with the result of its function even after a lost lease', async () => {
    const admin = connect(own.url);
    const throttle = open(connect(own.url), { concurrency: 1 });
    await expect(
      throttle.run(async ({ signal }) => {
        await until('the subscription exists', async () => ((await admin.pubsub('CHANNELS')) as string[]).length > 0);
        await throttle.reset();
        await until('the permit is lost', () => signal.aborted);
        return 'done';
      }),
    ).resolves.toBe('done');
    expect(await throttle.run(({ slot }) => slot)).toBe(1);
  });
});

describe('trap 37: Redis hangs', () => {
  test('a call times out, then rejects or fails open [rate-limiter-flexible#315, #68]', async () => {
    const admin = connect(own.url);
    const strict = open(connect(own.url), { concurrency: 2, commandTimeout: 0.3 });
    const lax = open(connect(own.url), { concurrency: 2, commandTimeout: 0.3, failOpen: true });
    await Promise.all([strict, lax].map((throttle) => throttle.run(() => {})));
    await admin.client('PAUSE', 800, 'ALL');
    const elapsed = stopwatch();
    const [failure, permit] = await Promise.all([strict.acquire().catch((error: unknown) => error), lax.acquire()]);
    expect(elapsed()).toBeLessThan(300 + 150);
    expect(failure).toBeInstanceOf(ThrottleBackendError);
    expect(permit.slot).toBe(0);
    permit.release();
    await until(
      'both use it again',
      async () => {
        const used = await Promise.all(
          [strict, lax].map((throttle) => throttle.run(({ slot }) => slot > 0).catch(() => false)),
        );
        return used.every(Boolean);
      },
      5,
    );
    await Promise.all([strict.idle(), lax.idle()]);
    for (const { key } of [strict, lax]) expect(await busyKeys(admin, `*${key}*`)).toEqual([]);
  });
});

describe('trap 38: waiters are notified', () => {
  test('fifty waiters in five throttles send only renewals [redis-semaphore#266]', async () => {
    const key = freshKey();
    const ttl = 1.2;
    const records = times(5, () => recorded(connect()));
    const throttles = records.map(({ client }) => open(client, { key, concurrency: 1, ttl }));
    const holder = open(connect(), { key, concurrency: 1, ttl });
    const permit = await holder.acquire();
    const outcomes = new Outcomes();
    for (let index = 0; index < 50; index++) {
      outcomes.follow(String(index), throttles[index % 5]!.acquire());
      await until('one waiter is queued', async () => (await holder.inspect()).waiting.length > index);
    }
    await sleep(SETTLE_MILLISECONDS);
    for (const { calls } of records) calls.length = 0;
    await sleep(ttl * 1_000);
    for (const { calls } of records) {
      // One renewal per third of ttl.
      expect(calls.length).toBeGreaterThanOrEqual(2);
      expect(calls.length).toBeLessThanOrEqual(4);
      const renewals = calls.map(wordsOf).filter((words) => words.includes('W'));
      for (const words of renewals) expect(words.filter((word) => word === 'W')).toHaveLength(10);
      // Once per ttl, the owner of the head checks whether the holder's lease has expired.
      expect(calls.length - renewals.length).toBeLessThanOrEqual(1);
    }
    permit.release();
    for (let index = 0; index < 50; index++) {
      await until(`${index} has its turn`, () => outcomes.order.length > index);
      outcomes.permit(String(index)).release();
    }
    expect(outcomes.order).toEqual(times(50, String));
  });

  test('only the owner of the head sets a timer', async () => {
    const key = freshKey();
    const records = times(3, () => recorded(connect()));
    const throttles = records.map(({ client }) => open(client, { key, capacity: 1, burst: 1, period: 0.3, ttl: 30 }));
    await throttles[0]!.acquire();
    const outcomes = new Outcomes();
    for (let index = 0; index < 6; index++) {
      outcomes.follow(String(index), throttles[index % 3]!.acquire());
      await until(
        'one waiter is queued',
        async () => outcomes.order.length + (await throttles[0]!.inspect()).waiting.length > index,
      );
    }
    await sleep(SETTLE_MILLISECONDS);
    const since = outcomes.order.length;
    for (const { calls } of records) calls.length = 0;
    await until('all are granted', () => outcomes.order.length === 6);
    expect(outcomes.order).toEqual(times(6, String));
    const steps = records.reduce((sum, { calls }) => sum + calls.length, 0);
    // One call for each grant.
    expect(steps).toBeLessThanOrEqual(6 - since + 1);
    expect(steps).toBeGreaterThanOrEqual(6 - since - 1);
  });

  test.each([
    ['a client', () => connect(own.url) as RedisConnection],
    ['{ url }', () => ({ url: own.url })],
  ])('a thousand throttles use two connections of %s [bottleneck#74]', async (_, make) => {
    const admin = connect(own.url);
    await admin.ping();
    const before = await connections(own.url);
    const throttles: RedisThrottle[] = [];
    const client = make();
    const tag = freshKey();
    for (let index = 0; index < 1_000; index++)
      throttles.push(new RedisThrottle({ client, key: `${tag} ${index}`, concurrency: 1 }));
    const keyed = new RedisKeyedThrottle({ client, concurrency: 1 });
    const permits = await Promise.all(throttles.map((throttle) => throttle.acquire()));
    await Promise.all(times(50, (index) => keyed.run(`${tag} keyed ${index}`, () => sleep(20))));
    expect(permits.every(({ slot }) => slot === 1)).toBe(true);
    expect((await connections(own.url)) - before).toBe(2);
    for (const permit of permits) permit.release();
    await Promise.all([...throttles, keyed].map((throttle) => throttle.close()));
    await Promise.all(throttles.map((throttle) => throttle.idle()));
    // The connections of headgate end; the client of the user stays.
    await until(
      'the connections of headgate have ended',
      async () => (await connections(own.url)) - before === (client instanceof Redis ? 1 : 0),
    );
    expect(await keysOf(admin, tag)).toEqual([]);
  });
});

describe('trap 39: slot numbers', () => {
  test('no two holders have the same number, and no number exceeds the limit', async () => {
    const key = freshKey();
    const concurrency = 7;
    const throttles = times(4, () => open(connect(), { key, concurrency, ttl: 2 }));
    const taken = new Set<number>();
    const used = new Set<number>();
    await Promise.all(
      times(400, (index) =>
        throttles[index % 4]!.run(async ({ slot }) => {
          expect(taken).not.toContain(slot);
          expect(slot).toBeGreaterThanOrEqual(1);
          expect(slot).toBeLessThanOrEqual(concurrency);
          taken.add(slot);
          used.add(slot);
          await sleep((index * 7) % 5);
          taken.delete(slot);
        }),
      ),
    );
    expect(used.size).toBe(concurrency);
  });

  test('a number stays the same until the release, and the lowest free number is given', async () => {
    const throttle = open(connect(), { concurrency: 4, ttl: 0.4 });
    const permits = [
      await throttle.acquire(),
      await throttle.acquire(),
      await throttle.acquire(),
      await throttle.acquire(),
    ];
    expect(permits.map(({ slot }) => slot)).toEqual([1, 2, 3, 4]);
    permits[1]!.release();
    permits[2]!.release();
    await sleep(500);
    const [again, last] = [await throttle.acquire(), await throttle.acquire()];
    expect([again.slot, last.slot]).toEqual([2, 3]);
    const { active } = await throttle.inspect();
    expect(active.map(({ slot }) => slot).toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4]);
    expect(permits.map(({ slot }) => slot)).toEqual([1, 2, 3, 4]);
  });
});
