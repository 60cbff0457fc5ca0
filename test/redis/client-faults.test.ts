/**
 * Custom clients that fail or reply late, twice or with garbage, and clocks that fire early or at once. Also the
 * features that RedisThrottle shares with the core: aborts, sources, disposal, errors, and two copies of the package
 * (FAULTS 3, 5, 6, 9 to 12, 17, 18).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runInNewContext } from 'node:vm';
import { build } from 'esbuild';
import { type Clock, Limiter, Resource } from 'headgate';
import { web } from 'headgate/http';
import type * as ours from 'headgate/redis';
import {
  LeaseLostError,
  type RedisCommands,
  RedisKeyedThrottle,
  type RedisPermit,
  RedisThrottle,
  type RedisThrottleOptions,
  ThrottleBackendError,
} from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import { afterEach, describe, expect, test } from 'vitest';
import { luaForEsbuild } from '../support/lua-loader.js';
import { systemClock } from '../../src/core/clock.js';
import { SteadyClock } from '../../src/redis/steady-clock.js';
import { client as commands } from './shared-client.js';
import { evalThrough, freshKey, sleep, until } from './support.js';

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const throttle of opened.splice(0)) await throttle.close();
});
const open = (options: Partial<RedisThrottleOptions> = {}): RedisThrottle => {
  const throttle = new RedisThrottle({ client: commands, key: freshKey(), ttl: 3, commandTimeout: 0.3, ...options });
  opened.push(throttle);
  return throttle;
};
const codeOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'granted',
    (error: { code?: string; name?: string }) => error.code ?? error.name,
  );

/** The faults of `eval`. Each fault runs the script first, unless it throws. */
const faults: Record<string, (answer: () => Promise<unknown>) => unknown> = {
  'throws at once': () => {
    throw new Error('no connection');
  },
  'rejects with nothing': () => Promise.reject(undefined),
  // oxlint-disable-next-line prefer-promise-reject-errors -- a faulty client does this
  'rejects with an object without a prototype': () => Promise.reject(Object.create(null)),
  'never answers': (answer) => answer().then(() => new Promise(() => {})),
  'answers late': (answer) => answer().then(async (reply) => (await sleep(400), reply)),
  ...Object.fromEntries(
    [
      undefined,
      null,
      7,
      'OK',
      [],
      [''],
      {},
      [Symbol('x')],
      [Object.create(null)],
      ['NaN NaN', 'G 0', 'Q'],
      [['nested']],
    ].map((value, index) => [`answers garbage ${index}`, (answer) => answer().then(() => value)]),
  ),
};
const harmless: Record<string, (answer: () => Promise<unknown>) => unknown> = {
  'answers twice': (answer) => ({
    then: (resolve: (value: unknown) => void, reject: (error: unknown) => void) =>
      void answer().then((reply) => (resolve(reply), resolve(reply), reject(new Error('again')))),
  }),
  'answers with more': (answer) =>
    answer().then((reply) => [...(reply as string[]), 'G unknown 1 1 1 1', 'X unknown', 'H NaN NaN', '', 'what']),
};

describe.each(Object.entries({ ...faults, ...harmless }))('a client whose eval %s', (name, fault) => {
  test.each([false, true])(
    'settles every call and leaves no lease, with failOpen: %s (FAULTS 10)',
    async (failOpen) => {
      const right = evalThrough(commands);
      let broken = true;
      const client: RedisCommands = {
        eval: ((...args) => (broken ? fault(() => right(...args)) : right(...args))) as RedisCommands['eval'],
        subscribe: async () => {},
      };
      const throttle = open({ client, capacity: 100, concurrency: 2, failOpen });
      const permits: RedisPermit[] = [];
      const keep = <T extends RedisPermit | undefined>(promise: Promise<T>): Promise<unknown> =>
        promise.then((permit) => permit && permits.push(permit));
      const stop = new AbortController();
      const calls = [
        codeOf(keep(throttle.acquire())),
        codeOf(keep(throttle.acquire(1, { timeout: 2 }))),
        codeOf(keep(throttle.tryAcquire())),
        codeOf(throttle.run(() => 1, 1, { timeout: 1 })),
        codeOf(throttle.pause(0.01)),
        codeOf(throttle.resume()),
        codeOf(throttle.configure({ concurrency: 3 })),
        codeOf(keep(throttle.acquire(1, { signal: stop.signal }))),
      ];
      void codeOf(throttle.inspect());
      await sleep(20);
      stop.abort(new Error('enough'));
      const outcomes = await Promise.all(calls);
      for (const permit of permits) permit.release();
      if (name in faults)
        for (const outcome of outcomes)
          expect(['ERR_THROTTLE_BACKEND', 'ERR_THROTTLE_TIMEOUT', 'granted', 'Error']).toContain(outcome);
      if (name in faults && !failOpen) expect(outcomes.slice(0, 4)).toEqual(Array(4).fill('ERR_THROTTLE_BACKEND'));
      broken = false;
      await until(
        'the throttle works again',
        async () => (await codeOf(throttle.run(() => 1, 1, { timeout: 2 }))) === 'granted',
      );
      await throttle.idle();
      await until('nothing is left in Redis', async () => {
        const { active, waiting } = await throttle.inspect();
        return active.length + waiting.length === 0;
      });
      expect([throttle.held, throttle.waiting]).toEqual([0, 0]);
    },
    20_000,
  );
});

describe.each<[string, RedisCommands['subscribe']]>([
  [
    'throws',
    () => {
      throw new Error('no channels');
    },
  ],
  ['never answers', () => new Promise(() => {})],
  ['answers garbage', (() => 7) as never],
])('a client whose subscribe %s', (_, subscribe) => {
  test('delivers no message, so waiters are granted by their timers', async () => {
    const throttle = open({ client: { eval: evalThrough(commands), subscribe }, capacity: 20, burst: 1 });
    const start = performance.now();
    await Promise.all([1, 2, 3].map(() => throttle.run(() => 1)));
    expect(performance.now() - start).toBeGreaterThan(95);
    await throttle.idle();
  });
});

test('a malformed message is ignored, and the listener never throws', async () => {
  let listener: ((message: never) => void) | undefined;
  const throttle = open({
    client: {
      eval: evalThrough(commands),
      subscribe: async (_: string, onMessage: (message: string) => void) =>
        void (listener = onMessage as typeof listener),
    },
    concurrency: 1,
  });
  const held = await throttle.acquire();
  await until('the subscription exists', () => listener);
  for (const message of [
    undefined,
    null,
    7,
    {},
    Symbol('x'),
    Buffer.from('0\nX 0'),
    '',
    '\n\n',
    '0',
    '0\nH NaN',
    '0\nG 0 NaN',
    '0\nwhat',
  ])
    listener?.(message as never);
  const waiting = throttle.acquire();
  held.release();
  (await waiting).release();
});

describe('timers', () => {
  test('a timeout whose timer fires early is rescheduled, and its waiter is granted in time (FAULTS 11)', async () => {
    const clock: Clock = {
      now: () => systemClock.now(),
      schedule: (seconds, callback) => systemClock.schedule(seconds / 2, callback),
    };
    const throttle = open({ clock, concurrency: 1 });
    const held = await throttle.acquire();
    const start = performance.now();
    const late = codeOf(throttle.acquire(1, { timeout: 0.4 }));
    const inTime = throttle.run(() => performance.now(), 1, { timeout: 0.8 });
    expect(await late).toBe('ERR_THROTTLE_TIMEOUT');
    expect(performance.now() - start).toBeGreaterThan(398);
    await sleep(100);
    held.release();
    expect((await inTime) - start).toBeGreaterThan(498);
  });

  test.each(['early', 'twice', 'after it was cancelled', 'at once'])(
    'each timer fires once and never early, on a clock that fires %s',
    async (how) => {
      const manual = new ManualClock();
      const fired: number[] = [];
      const clock = new SteadyClock({
        now: () => manual.now(),
        schedule(seconds, callback) {
          if (how === 'at once') callback();
          const cancel = manual.schedule(how === 'early' ? seconds / 2 : seconds, () => {
            callback();
            if (how === 'twice') callback();
          });
          return () => void (how === 'after it was cancelled' || cancel());
        },
      });
      clock.schedule(0.08, () => fired.push(clock.now()));
      clock.schedule(0.04, () => fired.push(-1))();
      await manual.advance(0.079);
      expect(fired).toEqual([]);
      await manual.advance(1);
      // If a timer fires at once, the timer of the platform replaces it.
      if (how === 'at once') await sleep(100);
      expect(fired).toHaveLength(1);
      expect(fired[0]).toBeGreaterThanOrEqual(0.08 - 1e-6);
    },
  );

  test('timers fire on a clock that stands still or steps back', async () => {
    const manual = new ManualClock();
    for (const shown of [() => 5, () => 5 - manual.now()]) {
      const clock = new SteadyClock({
        now: shown,
        schedule: (seconds, callback) => manual.schedule(seconds, callback),
      });
      const start = clock.now();
      let fired = false;
      clock.schedule(3, () => (fired = true));
      await manual.advance(3);
      expect([fired, clock.now() - start]).toEqual([true, 3]);
    }
  });

  test('a clock that throws rejects the current call only (FAULTS 10)', async () => {
    let broken: 'now' | 'schedule' | undefined;
    const fail = (method: string): void => {
      if (broken === method) throw new Error(`${method} failed`);
    };
    const clock: Clock = {
      now: () => (fail('now'), systemClock.now()),
      schedule: (seconds, callback) => (fail('schedule'), systemClock.schedule(seconds, callback)),
    };
    const throttle = open({ clock, concurrency: 1 });
    const held = await throttle.acquire();
    for (const method of ['now', 'schedule'] as const) {
      broken = method;
      await expect(throttle.acquire(1, { timeout: 5 })).rejects.toThrow(`${method} failed`);
      expect([throttle.held, throttle.waiting]).toEqual([1, 0]);
    }
    broken = undefined;
    held.release();
    expect(await throttle.run(() => 'works')).toBe('works');
  });

  test('a clock that has never returned a number rejects every call', async () => {
    const clock: Clock = { now: () => NaN, schedule: systemClock.schedule };
    const throttle = open({ clock });
    for (const call of [
      () => throttle.acquire(),
      () => throttle.tryAcquire(),
      () => throttle.run(() => 1),
      () => throttle.pause(1),
      () => throttle.inspect(),
    ]) {
      await expect(call()).rejects.toThrow('clock.now() must be a finite number, received NaN');
    }
  });
});

describe('aborts', () => {
  test.each([
    ['in the tick of the call', (stop: AbortController) => stop.abort(new Error('cancel'))],
    ['after it', (stop: AbortController) => void setTimeout(() => stop.abort(new Error('cancel')), 30)],
  ])(
    '%s prevent the function of run from starting, and return slot and tokens (FAULTS 3, whatwg/dom#946)',
    async (_, abort) => {
      const throttle = open({ capacity: 10, period: 3_600, concurrency: 1 });
      const held = await throttle.acquire(0);
      const stop = new AbortController();
      let ran = false;
      const run = throttle.run(() => void (ran = true), 4, { signal: stop.signal });
      abort(stop);
      held.release();
      const outcome = await run.then(
        () => 'ran',
        (error: Error) => error.message,
      );
      await throttle.idle();
      if (_ === 'in the tick of the call') expect([outcome, ran]).toEqual(['cancel', false]);
      expect(outcome === 'ran').toBe(ran);
      const { active, tokens } = await throttle.inspect();
      expect([active, Math.round(tokens)]).toEqual([[], ran ? 6 : 10]);
    },
  );

  test('a signal that aborts while a listener is added to it leaves no waiter in Redis', async () => {
    const throttle = open({ concurrency: 1 });
    const held = await throttle.acquire();
    const reason = new Error('at once');
    const signal = {
      aborted: false,
      reason,
      addEventListener: (_: string, listener: () => void) => listener(),
      removeEventListener() {},
    } as unknown as AbortSignal;
    await expect(throttle.acquire(1, { signal })).rejects.toBe(reason);
    held.release();
    await throttle.idle();
    expect(await throttle.inspect()).toMatchObject({ active: [], waiting: [] });
  });

  test('reject the waiter even if the target of the event is not the signal (FAULTS 12)', async () => {
    const throttle = open({ concurrency: 1 });
    const held = await throttle.acquire();
    const stop = new AbortController();
    const proxy = new Proxy(stop.signal, {
      get: (target, key) =>
        typeof target[key as 'aborted'] === 'function'
          ? (target[key as never] as () => void).bind(target)
          : target[key as 'aborted'],
    });
    const waiting = throttle.acquire(1, { signal: proxy });
    await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    stop.abort(new Error('stop'));
    await expect(waiting).rejects.toThrow('stop');
    held.release();
  });
});

describe('features that RedisThrottle shares with the core', () => {
  test('map names a bad items argument, and closes a source whose promise rejects early (FAULTS 5, 6)', async () => {
    const throttle = open({ concurrency: 1 });
    await expect(throttle.map(null as never, () => 1)).rejects.toThrow(/^items must be/);
    const held = await throttle.acquire();
    const early = throttle.map<unknown, unknown>([sleep(1), Promise.reject(new Error('early')), 3], (item) => item);
    held.release();
    await expect(early).rejects.toThrow('early');
    await throttle.idle();
    expect([throttle.held, throttle.waiting]).toEqual([0, 0]);
  });

  test('wrap keeps the name and the length of its function (FAULTS 18)', () => {
    function sendMail(to: string, text: string): string {
      return to + text;
    }
    const wrapped = open().wrap(sendMail);
    expect([wrapped.name, wrapped.length]).toEqual(['sendMail', 2]);
  });

  test.each([new ThrottleBackendError('down'), new LeaseLostError('lost')])(
    '%s: its name is writable, and JSON contains its plain data (FAULTS 18)',
    (error) => {
      const { name, code, message } = error;
      expect(error.stack?.startsWith(`${name}: `)).toBe(true);
      expect(JSON.parse(JSON.stringify(error))).toEqual({ name, code, message });
      error.name = 'Renamed';
      expect([String(error), Object.keys(error).includes('name')]).toEqual([`Renamed: ${message}`, false]);
    },
  );

  test('`using` disposes both gates if the symbol is missing or polyfilled after the import (FAULTS 17)', async () => {
    const { outputFiles } = await build({
      entryPoints: ['src/redis/index.ts'],
      bundle: true,
      format: 'iife',
      globalName: 'headgate',
      platform: 'neutral',
      external: ['redis'],
      plugins: [luaForEsbuild],
      write: false,
    });
    // A realm whose `Symbol` is a proxy without these symbols simulates an older platform.
    const found = runInNewContext(
      `const later = {};
       const isLater = (key) => key === 'dispose' || key === 'asyncDispose';
       const Old = new Proxy(Symbol, { get: (target, key) => (isLater(key) ? later : target)[key] });
       (function (Symbol) { ${outputFiles[0]?.text ?? ''}; out.headgate = headgate; })(Old);
       const { RedisThrottle, RedisKeyedThrottle } = out.headgate;
       const client = { eval: async () => [''], subscribe: async () => {} };
       const make = () => [new RedisThrottle({ client, key: 'a' }), new RedisKeyedThrottle({ client })];
       const check = (key) => make().map((gate) => [typeof gate[key], 'undefined' in gate]);
       const missing = check(Symbol.for('Symbol.asyncDispose'));
       later.asyncDispose = Symbol('asyncDispose');
       JSON.stringify([missing, check(later.asyncDispose)])`,
      { out: {}, performance, setTimeout, clearTimeout, queueMicrotask, AbortController, crypto, TextEncoder },
    ) as string;
    const both = [
      ['function', false],
      ['function', false],
    ];
    expect(JSON.parse(found)).toEqual([both, both]);
    const gate = open();
    await gate[Symbol.asyncDispose]();
    expect(gate.closed).toBe(true);
  });

  test('a line break in a key is escaped in messages of Redis (FAULTS 42)', async () => {
    const client: RedisCommands = {
      eval: async () => Promise.reject(new Error('NOPERM key "a\r\nb\u001b[31m\u202e"')),
      subscribe: async () => {},
    };
    const error = await open({ client, key: 'k\r\n\u001b' })
      .acquire()
      .catch((reason: unknown) => reason as Error);
    expect((error as Error).message).toMatch(/^[\x20-\x7e]*$/);
    expect((error as Error).message).toContain(String.raw`NOPERM key "a\u{d}\u{a}b\u{1b}[31m\u{202e}"`);
  });

  test('a keyed throttle has getters for its limits (FAULTS 49)', () => {
    const keyed = new RedisKeyedThrottle({ client: commands, capacity: 5, concurrency: 2, period: 3, burst: 7 });
    opened.push(keyed);
    expect([keyed.capacity, keyed.concurrency, keyed.period, keyed.burst]).toEqual([5, 2, 3, 7]);
  });

  test('a throttle of another copy works in a Limiter and an adapter, and sends 429s (FAULTS 9)', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'headgate-copy-'));
    try {
      const outfile = join(folder, 'copy.mjs');
      await build({
        entryPoints: ['src/redis/index.ts'],
        bundle: true,
        format: 'esm',
        platform: 'node',
        external: ['redis'],
        plugins: [luaForEsbuild],
        outfile,
      });
      const copy = (await import(/* @vite-ignore */ pathToFileURL(outfile).href)) as typeof ours;
      expect(copy.RedisThrottle).not.toBe(RedisThrottle);
      const gate = new copy.RedisThrottle({ client: commands, key: freshKey(), capacity: 1, period: 3_600 });
      const keyed = new copy.RedisKeyedThrottle({ client: commands, prefix: freshKey(), capacity: 1, period: 3_600 });
      opened.push(gate, keyed);
      for (const options of [
        { gate, failOpen: true },
        { keyed, key: () => 'ada', failOpen: true },
      ] as const) {
        const handler = web(() => new Response('served'), options);
        const statuses = [];
        for (let count = 0; count < 2; count++) statuses.push((await handler(new Request('http://localhost/'))).status);
        expect(statuses).toEqual([200, 429]);
      }
      const resource = new Resource(1);
      const limiter = new Limiter({ timeout: 0, resources: [resource, gate] });
      await expect(limiter.acquire([resource, gate])).rejects.toMatchObject({ name: 'ServerBusyError' });
      expect(resource.active).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
