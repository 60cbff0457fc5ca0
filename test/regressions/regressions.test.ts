/** Faults that were seen in version 0.1.0, each by its number and, where a public issue shows the same situation, its source. */
import { on } from 'node:events';
import { Readable } from 'node:stream';
import { type Clock as FakeClock, install } from '@sinonjs/fake-timers';
import {
  type Clock,
  KeyedThrottle,
  Limiter,
  type Permit,
  Resource,
  ServerBusyError,
  Throttle,
  ThrottleClosedError,
  ThrottleError,
  ThrottleTimeoutError,
  QueueFullError,
} from 'headgate';
import { ManualClock, record } from 'headgate/testing';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { setUp, SkewedClock, take } from '../support/support.js';

describe('an abort that comes before the function has started wins: the function does not run, slot and tokens come back (FAULTS 3, whatwg/dom#946)', () => {
  type Start = (options: { signal: AbortSignal }, fn: () => void) => Promise<unknown>;
  interface Site {
    start: Start;
    hold(): Permit;
    counts(): [active: number, tokens: number];
  }
  const throttles: Record<string, () => Site> = {
    'Throttle.run': () => {
      const { throttle } = setUp(10, 1);
      return {
        start: (options, fn) => throttle.run(fn, 2, options),
        hold: () => take(throttle),
        counts: () => [throttle.active, throttle.tokens],
      };
    },
    'KeyedThrottle.run': () => {
      const keyed = new KeyedThrottle(10, 1, 1, { clock: new ManualClock() });
      return {
        start: (options, fn) => keyed.run('a', fn, 2, options),
        hold: () => keyed.tryAcquire('a') as Permit,
        counts: () => [keyed.peek('a')?.active ?? 0, keyed.peek('a')?.tokens ?? 10],
      };
    },
    'Limiter.run': () => {
      const clock = new ManualClock();
      const [resource, throttle] = [new Resource(1, { clock }), new Throttle(10, 0, 1, { clock })];
      const limiter = new Limiter({ timeout: 60, resources: [resource, throttle], clock });
      return {
        start: (options, fn) => limiter.resources([resource, throttle]).run(fn, 2, options),
        hold: () => resource.tryAcquire() as Permit,
        counts: () => [resource.active, throttle.tokens],
      };
    },
    'Throttle.map': () => {
      const { throttle } = setUp(10, 1);
      return {
        start: (options, fn) => throttle.map([1], fn, { ...options, cost: 2 }),
        hold: () => take(throttle),
        counts: () => [throttle.active, throttle.tokens],
      };
    },
  };

  test.each(Object.keys(throttles))('%s, waiting: released and aborted in one tick', async (name) => {
    const { start, hold, counts } = (throttles[name] as () => Site)();
    const stop = new AbortController();
    const fn = vi.fn();
    const held = hold();
    const before = counts()[1];
    const done = start({ signal: stop.signal }, fn);
    await new Promise(setImmediate);
    held.release();
    stop.abort(new Error('cancel'));
    await expect(done).rejects.toThrow('cancel');
    expect(fn).not.toHaveBeenCalled();
    expect(counts()).toEqual([0, before]);
  });

  test.each(Object.keys(throttles))('%s, on a free gate: aborted in the tick of the call', async (name) => {
    const { start, counts } = (throttles[name] as () => Site)();
    const stop = new AbortController();
    const fn = vi.fn();
    const done = start({ signal: stop.signal }, fn);
    stop.abort(new Error('cancel'));
    await expect(done).rejects.toThrow('cancel');
    expect(fn).not.toHaveBeenCalled();
    expect(counts()).toEqual([0, 10]);
  });

  test('an abort after the function has started is for the function to notice', async () => {
    const { throttle } = setUp(10, 1);
    const stop = new AbortController();
    const done = throttle.run(
      async () => {
        stop.abort();
        return 'done';
      },
      1,
      { signal: stop.signal },
    );
    expect(await done).toBe('done');
  });
});

describe('fake timers that fake one clock of two (FAULTS 4, p-limit#92, p-queue#193)', () => {
  let clock: (FakeClock & { uninstall(): void }) | undefined;
  afterEach(() => clock?.uninstall());

  test.each([
    ['setTimeout and Date', ['setTimeout', 'clearTimeout', 'Date']],
    ['setTimeout alone', ['setTimeout', 'clearTimeout']],
    ['everything', undefined],
  ] as const)('%s: a job that waits for its timer gets on', async (_, toFake) => {
    clock = install(toFake === undefined ? {} : { toFake: [...toFake] });
    const throttle = new Throttle(1, 0, 60);
    const done: number[] = [];
    const jobs = [1, 2, 3].map((job) => throttle.run(() => void done.push(job)));
    for (let minute = 0; minute < 3; minute++) await clock.tickAsync(60_000);
    await Promise.all(jobs);
    expect(done).toEqual([1, 2, 3]);
  });

  test.each([
    ['setTimeout and Date', ['setTimeout', 'clearTimeout', 'Date']],
    ['everything', undefined],
  ] as const)('%s: a job is not started before its time', async (_, toFake) => {
    clock = install(toFake === undefined ? {} : { toFake: [...toFake] });
    const throttle = new Throttle(1, 0, 60);
    const fn = vi.fn();
    const jobs = [throttle.run(fn), throttle.run(fn), throttle.run(fn)];
    await clock.tickAsync(59_000);
    expect(fn).toHaveBeenCalledTimes(1);
    await clock.tickAsync(1_000);
    expect(fn).toHaveBeenCalledTimes(2);
    await clock.tickAsync(59_000);
    expect(fn).toHaveBeenCalledTimes(2);
    await clock.tickAsync(1_000);
    await Promise.all(jobs);
  });

  test('performance alone: a job that waits for a real timer gets on', async () => {
    clock = install({ toFake: ['performance'] });
    const throttle = new Throttle(1, 0, 0.05);
    expect(await Promise.all([throttle.run(() => 1), throttle.run(() => 2), throttle.run(() => 3)])).toEqual([1, 2, 3]);
  });

  test('a short wait under timers that are faked before the package is loaded', async () => {
    clock = install({ toFake: ['setTimeout', 'clearTimeout'] });
    vi.resetModules();
    const { Throttle: Fresh } = await import('headgate');
    const throttle = new Fresh(1, 0, 60, { burst: 1 });
    const jobs = Promise.all([throttle.run(() => 1), throttle.run(() => 2)]);
    await clock.tickAsync(60_000);
    expect(await jobs).toEqual([1, 2]);
  });
});

describe('map', () => {
  test('an array with a promise that rejects before its turn rejects the map, and nothing else (FAULTS 5, crystal-pre-merge#397)', async () => {
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    try {
      for (const collection of [<T>(items: T[]) => items, <T>(items: T[]) => new Set(items)]) {
        const { throttle } = setUp(Infinity, 1);
        const slow = new Promise<number>((resolve) => void setTimeout(resolve, 20, 1));
        const done = throttle.map(collection([slow, Promise.reject(new Error('early'))]), (item) => item);
        await expect(done).rejects.toThrow('early');
      }
      await new Promise((resolve) => void setTimeout(resolve, 10));
      expect(unhandled).not.toHaveBeenCalled();
    } finally {
      process.off('unhandledRejection', unhandled);
    }
  });

  test.each([
    [null, 'null'],
    [undefined, 'undefined'],
    [5, '5'],
    [{}, 'object'],
  ])('of %o names the argument (FAULTS 6)', async (items, shown) => {
    const { throttle } = setUp();
    await expect(throttle.map(items as never, () => 1)).rejects.toThrow(
      new TypeError(`items must be an Iterable or an AsyncIterable, received ${shown}`),
    );
  });

  describe('closes its source at once, also while the next item is on its way (FAULTS 13)', () => {
    const fail = async <T>(items: AsyncIterable<T>): Promise<void> => {
      const { throttle } = setUp();
      const stop = new AbortController();
      const done = throttle.map(items, (item) => item, { signal: stop.signal });
      await new Promise(setImmediate);
      stop.abort(new Error('stop'));
      await expect(done).rejects.toThrow('stop');
    };

    test('an iterator of events loses its listener', async () => {
      const target = new EventTarget();
      const added = vi.spyOn(target, 'addEventListener');
      const removed = vi.spyOn(target, 'removeEventListener');
      await fail(on(target as unknown as NodeJS.EventEmitter, 'item'));
      expect(removed.mock.calls.length).toBe(added.mock.calls.length);
    });

    test('a stream of Node is destroyed', async () => {
      const stream = new Readable({ objectMode: true, read() {} });
      await fail(stream);
      expect(stream.destroyed).toBe(true);
    });

    test('a stream of the web is cancelled, with the reason, and is not locked any more', async () => {
      const cancel = vi.fn();
      const stream = new ReadableStream<number>({ cancel });
      await fail(stream as unknown as AsyncIterable<number>);
      expect(cancel.mock.calls).toEqual([[new Error('stop')]]);
      expect(stream.locked).toBe(false);
    });

    test('a generator whose own code aborts the map ends', async () => {
      const { throttle } = setUp();
      const stop = new AbortController();
      const ended = vi.fn();
      function* items(): Generator<number> {
        try {
          stop.abort(new Error('stop'));
          yield 1;
        } finally {
          ended();
        }
      }
      await expect(throttle.map(items(), (item) => item, { signal: stop.signal })).rejects.toThrow('stop');
      await new Promise(setImmediate);
      expect(ended).toHaveBeenCalledTimes(1);
    });
  });
});

describe('settlements (FAULTS 8)', () => {
  test('a refund gives back all that never overflowed', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const first = take(throttle, 5);
    take(throttle, 5);
    await clock.advance(5);
    first.refund();
    expect(throttle.tokens).toBe(10);
  });

  test('a refund gives back nothing that would have overflowed', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const first = take(throttle, 5);
    await clock.advance(3);
    // At 8; with the refund it would have been full since the beginning.
    take(throttle, 8);
    first.refund();
    expect(throttle.tokens).toBe(2);
  });

  test('a debt that an overflow has paid is not charged again', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const first = take(throttle, 5);
    await clock.advance(100);
    first.settle(50);
    expect(throttle.tokens).toBe(10);
  });

  test('each of several rates is settled by itself', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10, also: [{ capacity: 20, period: 100, window: 'sliding' }] });
    const first = take(throttle, 8);
    await clock.advance(10);
    // The bucket is full again, so nothing of the refund fits; in the window, all of it comes back.
    first.refund();
    for (let index = 0; index < 2; index++) {
      take(throttle, 10);
      await clock.advance(10);
    }
    expect(throttle.tryAcquire(1)).toBeUndefined();
  });

  test('after limits were changed, a settlement goes through the old limits first (FAULTS 14)', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const first = take(throttle, 5);
    await clock.advance(5);
    throttle.configure({ burst: 100 });
    // The bucket of 10 was full at that instant, with or without the refund.
    first.refund();
    expect(throttle.tokens).toBe(10);
  });

  test('a limit that was lifted and set again knows nothing of the grants before', async () => {
    const { throttle } = setUp(10);
    const first = take(throttle, 5);
    throttle.configure({ capacity: Infinity });
    throttle.configure({ capacity: 10 });
    take(throttle, 5);
    first.refund();
    expect(throttle.tokens).toBe(5);
    first.settle(10);
    expect(throttle.tokens).toBe(5);
  });

  test('a long history keeps refunds exact, and never gives back too much', async () => {
    const { clock, throttle } = setUp(1, 0, 1, { burst: 10 });
    const early = take(throttle, 5);
    take(throttle, 5);
    // A steady backlog: each token is spent as it comes, 5,000 grants long.
    for (let index = 0; index < 5_000; index++) {
      await throttle.acquire(1, { timeout: 0 }).catch(() => clock.advance(1));
    }
    early.refund();
    expect(throttle.tokens).toBe(throttle.tokens > 5 ? 6 : 5);
    const spent = take(throttle, Math.floor(throttle.tokens));
    spent.settle(spent.cost + 3);
    expect(throttle.tokens).toBeLessThan(0);
  });
});

describe('deadlines and timers', () => {
  test('a deadline timer that fires early is set again (FAULTS 11)', async () => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => seconds / 2;
    const throttle = new Throttle(Infinity, 1, 1, { clock });
    throttle.tryAcquire();
    const start = clock.passing.now();
    const refused = throttle
      .acquire(1, { timeout: 10 })
      .catch((error: unknown) => [error, clock.passing.now() - start] as const);
    await clock.passing.advance(9.5);
    expect(throttle.waiting).toBe(1);
    await clock.passing.advance(0.5);
    const [error, waited] = (await refused) as [unknown, number];
    expect(error).toBeInstanceOf(ThrottleTimeoutError);
    expect(waited).toBeCloseTo(10, 6);
    expect(clock.passing.pending).toBe(0);
  });

  test('a deadline holds no caller on a clock that stands still or has stepped back', async () => {
    for (const skew of [(now: number) => -now, () => -50]) {
      const clock = new SkewedClock();
      const throttle = new Throttle(Infinity, 1, 1, { clock });
      throttle.tryAcquire();
      const refused = throttle.acquire(1, { timeout: 10 }).catch((error: unknown) => error);
      clock.skew = skew(clock.passing.now());
      await clock.passing.advance(10);
      expect(await refused).toBeInstanceOf(ThrottleTimeoutError);
    }
  });

  test('on the real clock, a timeout of estimateWait() is met (FAULTS 11)', async () => {
    const results = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const throttle = new Throttle(1, 0, 0.05);
        throttle.tryAcquire();
        return throttle.acquire(1, { timeout: throttle.estimateWait() }).then(
          () => 'granted',
          () => 'refused',
        );
      }),
    );
    expect(results.filter((result) => result === 'refused')).toEqual([]);
  });

  test('a scheduler that throws refuses the caller, and no other (FAULTS 10)', async () => {
    const passing = new ManualClock();
    let broken = false;
    const clock: Clock = {
      now: () => passing.now(),
      schedule: (seconds, callback) => {
        if (broken) throw new Error('no timers left');
        return passing.schedule(seconds, callback);
      },
    };
    const throttle = new Throttle(1, 1, 1, { clock });
    const held = take(throttle);
    broken = true;
    await expect(throttle.acquire(1, { timeout: 5 })).rejects.toThrow('no timers left');
    broken = false;
    expect(throttle.waiting).toBe(0);
    const waiting = throttle.acquire();
    held.release();
    await passing.advance(1);
    (await waiting).release();
    expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
  });

  test('a timer that was cancelled, or fires twice, changes nothing', async () => {
    const passing = new ManualClock();
    const callbacks: (() => void)[] = [];
    const clock: Clock = {
      now: () => passing.now(),
      schedule: (seconds, callback) => {
        callbacks.push(callback);
        return passing.schedule(seconds, callback);
      },
    };
    const throttle = new Throttle(1, 0, 1, { clock });
    take(throttle);
    const waiting = throttle.acquire();
    throttle.pause(10);
    callbacks.slice().forEach((callback) => callback());
    await passing.advance(9);
    expect(throttle.waiting).toBe(1);
    await passing.advance(1);
    await waiting;
    callbacks.slice().forEach((callback) => callback());
    expect([throttle.waiting, passing.pending]).toEqual([0, 0]);
  });
});

test.each([
  [
    'a proxy',
    (signal: AbortSignal) =>
      new Proxy(signal, {
        get: (target, key) =>
          typeof target[key as 'aborted'] === 'function'
            ? (target[key as never] as () => void).bind(target)
            : target[key as 'aborted'],
      }),
  ],
  [
    'a delegate',
    (signal: AbortSignal) =>
      ({
        get aborted() {
          return signal.aborted;
        },
        get reason(): unknown {
          return signal.reason;
        },
        addEventListener: signal.addEventListener.bind(signal),
        removeEventListener: signal.removeEventListener.bind(signal),
      }) as unknown as AbortSignal,
  ],
])(
  'an abort is noticed where the signal is %s, and the target of its event another object (FAULTS 12)',
  async (_, wrap) => {
    const { throttle } = setUp(Infinity, 1);
    take(throttle);
    const stop = new AbortController();
    const waiting = throttle.acquire(1, { signal: wrap(stop.signal) });
    stop.abort(new Error('stop'));
    await expect(waiting).rejects.toThrow('stop');
    expect(throttle.waiting).toBe(0);
  },
);

test('a cost of 0 takes a slot at once, also while there is a debt (FAULTS 15)', async () => {
  for (const options of [{}, { window: 'sliding' }, { also: [{ capacity: 10, period: 60 }] }] as const) {
    const { throttle } = setUp(10, 2, 1, options);
    take(throttle, 10).settle(50);
    expect(throttle.tokens).toBe(-40);
    expect([throttle.estimateWait(0), throttle.tryAcquire(0)?.cost]).toEqual([0, 0]);
    await expect(throttle.acquire(0, { timeout: 0 })).rejects.toThrow(ThrottleTimeoutError);
  }
});

describe('a platform without Symbol.dispose, or with a polyfill that comes later (FAULTS 17)', () => {
  test('the disposal methods have the keys that `using` looks up', async () => {
    // This platform has the symbols: a realm of its own, whose `Symbol` is a proxy without them, stands for an older one.
    const { runInNewContext } = await import('node:vm');
    const { build } = await import('esbuild');
    const { outputFiles } = await build({
      entryPoints: ['src/index.ts'],
      bundle: true,
      format: 'iife',
      globalName: 'headgate',
      platform: 'neutral',
      write: false,
    });
    const code = outputFiles[0]?.text ?? '';
    const result: Record<string, unknown> = {};
    const results = runInNewContext(
      `const Old = new Proxy(Symbol, { get: (target, key) => (key === 'dispose' || key === 'asyncDispose' ? later[key] : target[key]) });
       const later = {};
       const keys = [Symbol.for('Symbol.dispose'), Symbol.for('Symbol.asyncDispose')];
       (function (Symbol) { ${code}; out.headgate = headgate; })(Old);
       const { Throttle, KeyedThrottle, Resource, Limiter } = out.headgate;
       const check = (value, both) => (both ? keys : keys.slice(1)).every((key) => typeof value[key] === 'function') && !('undefined' in value);
       const throttle = new Throttle(10, 2), resource = new Resource(3);
       const limiter = new Limiter({ timeout: 1, resources: [resource, throttle] });
       const permits = [throttle.tryAcquire(), new KeyedThrottle(1).tryAcquire('a')];
       const missing = [check(throttle), check(resource), check(new KeyedThrottle(1)), ...permits.map((permit) => check(permit, true))];
       permits[0][keys[0]]();
       const released = throttle.active;
       // A polyfill with symbols of its own comes now.
       later.dispose = Symbol('dispose'); later.asyncDispose = Symbol('asyncDispose');
       const permit = new Throttle(10).tryAcquire();
       permit[later.dispose]();
       limiter.acquire([resource, throttle]).then((joint) => { joint[later.dispose](); out.joint = [resource.active, throttle.active]; });
       [missing, released, permit.released, typeof new Throttle(1)[later.asyncDispose]]`,
      { out: result, performance, setTimeout, clearTimeout, queueMicrotask, AbortController },
    ) as unknown;
    await new Promise((resolve) => void setTimeout(resolve, 20));
    expect(JSON.parse(JSON.stringify(results))).toEqual([[true, true, true, true, true], 0, true, 'function']);
    expect([...(result['joint'] as number[])]).toEqual([0, 0]);
  });
});

describe('errors and small things (FAULTS 18)', () => {
  const errors = [
    new ThrottleError('ERR_CUSTOM', 'no'),
    new ThrottleTimeoutError('late', { retryAfter: 2 }),
    new QueueFullError('full'),
    new ThrottleClosedError('closed'),
    new ServerBusyError({ retryAfter: 3 }),
  ];
  test.each(errors.map((error) => [error.name, error] as const))(
    'the name of a %s can be assigned, and its stack begins with the name of the class',
    (name, error) => {
      expect(error.stack?.startsWith(`${name}: `)).toBe(true);
      error.name = 'Renamed';
      expect([error.name, String(error).startsWith('Renamed: ')]).toEqual(['Renamed', true]);
      expect(Object.keys(error)).not.toContain('name');
    },
  );

  test('an error is plain data in JSON; of what structuredClone keeps, only the stack shows its name', () => {
    const error = new ThrottleTimeoutError('late', { retryAfter: 2 });
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      name: 'ThrottleTimeoutError',
      code: 'ERR_THROTTLE_TIMEOUT',
      message: 'late',
      retryAfter: 2,
    });
    expect(structuredClone(error.toJSON())).toEqual(error.toJSON());
    // The algorithm itself drops every property of an error but these, and every name but those of the language.
    const clone = structuredClone(error);
    expect([clone.name, clone.message, 'code' in clone, clone.stack?.split('\n')[0]]).toEqual([
      'Error',
      'late',
      false,
      'ThrottleTimeoutError: late',
    ]);
  });

  test('wrap keeps the name and the length of its function', () => {
    function sendMail(to: string, text: string): string {
      return to + text;
    }
    const { throttle } = setUp();
    for (const wrapped of [throttle.wrap(sendMail), new Resource(1).wrap(sendMail)])
      expect([wrapped.name, wrapped.length]).toEqual(['sendMail', 2]);
  });

  test('a resource has wrap, map, pausedFor and estimateWait, and can be recorded', async () => {
    const clock = new ManualClock();
    const resource = new Resource(2, { clock, name: 'disk' });
    const trace = record(resource);
    expect(await resource.wrap(async (text: string) => text.length)('four')).toBe(4);
    expect(await resource.map([1, 2, 3], (item) => item * 2)).toEqual([2, 4, 6]);
    resource.pause(5);
    expect([resource.pausedFor, resource.estimateWait()]).toEqual([5, 5]);
    trace.stop();
    expect(trace.name).toBe('disk');
    expect(trace.events.filter(({ kind }) => kind === 'granted').length).toBe(4);
  });

  test('configure({ burst: undefined }) gives the burst back to the capacity', () => {
    const { throttle } = setUp(10, 0, 1, { burst: 3 });
    throttle.configure({ burst: undefined });
    expect(throttle.burst).toBe(10);
  });
});
