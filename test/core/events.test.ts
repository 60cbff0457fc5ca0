/** The events of gates on `node:diagnostics_channel`, and on platforms without that module. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import fc from 'fast-check';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { Terms } from '../../src/core/cost.js';
import { EventPublisher } from '../../src/core/events.js';
import { KeyedThrottle, Limiter, type Permit, Resource, Throttle, ThrottleError } from '../../src/index.js';
import { ManualClock } from '../../src/testing/index.js';
import { recordEvents, type RecordedEvent, listen, NAMES, outcome } from '../support/record-events.js';

/** The messages as text, with call numbers that start at 1. */
const brief = (recorded: RecordedEvent[]): string[] => {
  const first = Math.min(...recorded.map((message) => ('id' in message ? message.id : Infinity)));
  return recorded.map((message) => {
    const { kind, at } = message;
    if (message.kind === 'paused') return `${at} ${kind} ${message.seconds}`;
    const more =
      message.kind === 'granted' ? ` waited ${message.waited}` : message.kind === 'refused' ? ` ${message.reason}` : '';
    return `${at} ${kind} ${message.id - first + 1} cost ${message.cost}${more}`;
  });
};

describe('the channels', () => {
  test('publish every step of a call, in order, with one id per call', async () => {
    const recorded = recordEvents();
    const clock = new ManualClock(100);
    const throttle = new Throttle(2, 1, 1, { clock, name: 'api', maxQueue: 2 });
    const first = await throttle.acquire(2);
    const second = throttle.acquire(1);
    const third = throttle.acquire(0.5, { timeout: 3 });
    const fourth = outcome(throttle.acquire());
    await clock.advance(1);
    first.release();
    (await second).release();
    (await third).settle(2);
    (await third).release();
    await fourth;
    expect(brief(recorded)).toEqual([
      '100 granted 1 cost 2 waited 0',
      '100 queued 2 cost 1',
      '100 queued 3 cost 0.5',
      '100 refused 4 cost 1 queue full',
      '101 released 1 cost 2',
      '101 granted 2 cost 1 waited 1',
      '101 released 2 cost 1',
      '101 granted 3 cost 0.5 waited 1',
      '101 released 3 cost 2',
    ]);
    for (const message of recorded) expect(message).toMatchObject({ throttle, name: 'api' });
  });

  test('show the state of the throttle after the event', async () => {
    const states: string[] = [];
    listen(({ kind, throttle }) =>
      states.push(`${kind}: ${throttle.active} active, ${throttle.waiting} waiting, ${throttle.tokens} tokens`),
    );
    const throttle = new Throttle(10, 1, 1, { clock: new ManualClock() });
    const first = await throttle.acquire(3);
    const second = throttle.acquire();
    first.release();
    (await second).release();
    expect(states).toEqual([
      'granted: 1 active, 0 waiting, 7 tokens',
      'queued: 1 active, 1 waiting, 7 tokens',
      'released: 0 active, 1 waiting, 7 tokens',
      'granted: 1 active, 0 waiting, 6 tokens',
      'released: 0 active, 0 waiting, 6 tokens',
    ]);
  });

  describe('publish every refusal with its reason and error', () => {
    const clock = new ManualClock();
    const busy = (): Throttle => {
      const throttle = new Throttle(1, 0, 10, { clock, maxQueue: 1 });
      throttle.tryAcquire();
      return throttle;
    };
    const rows: [reason: string, refuse: (throttle: Throttle) => unknown][] = [
      ['busy', (throttle) => throttle.tryAcquire()],
      ['timeout', (throttle) => throttle.acquire(1, { timeout: 0 })],
      ['timeout', (throttle) => throttle.run(() => {}, 1, { timeout: 5 })],
      [
        'timeout',
        async (throttle) => {
          throttle.configure({ concurrency: 1 });
          const refused = throttle.acquire(0, { timeout: 1 });
          await Promise.all([clock.advance(1), outcome(refused)]);
          return refused;
        },
      ],
      [
        'queue full',
        (throttle) => {
          void outcome(throttle.acquire());
          return throttle.acquire();
        },
      ],
      [
        'closed',
        (throttle) => {
          throttle.close();
          return throttle.acquire();
        },
      ],
      [
        'closed',
        (throttle) => {
          const refused = throttle.run(() => {});
          throttle.close(new Error('bye'));
          return refused;
        },
      ],
      [
        'aborted',
        (throttle) => {
          const controller = new AbortController();
          const refused = throttle.acquire(1, { signal: controller.signal });
          controller.abort('enough');
          return refused;
        },
      ],
      [
        'cost',
        (throttle) => {
          const refused = throttle.acquire(1);
          throttle.configure({ burst: 0.5 });
          return refused;
        },
      ],
    ];
    test.each(rows)('%s', async (reason, refuse) => {
      const recorded = recordEvents();
      const error = await outcome(Promise.resolve(refuse(busy())));
      const refused = recorded.filter(({ kind }) => kind === 'refused');
      expect(refused).toEqual([expect.objectContaining({ reason, error })]);
    });

    test('a call with an invalid argument or an aborted signal publishes no event', async () => {
      const recorded = recordEvents();
      const throttle = new Throttle(1, 1, 1, { clock });
      await outcome(throttle.acquire(2));
      await outcome(throttle.acquire(NaN));
      await outcome(throttle.acquire(1, { timeout: -1 }));
      await outcome(throttle.acquire(1, { signal: AbortSignal.abort() }));
      expect(() => throttle.tryAcquire(-1)).toThrow(RangeError);
      expect(recorded).toEqual([]);
    });

    test('a keyed throttle without a free key publishes queue full', async () => {
      const recorded = recordEvents();
      const keyed = new KeyedThrottle(1, 1, 1, { maxKeys: 1, name: 'users', clock });
      const permit = keyed.tryAcquire('ada');
      const error = await outcome(keyed.acquire('bob', 0.5));
      keyed.tryAcquire('bob');
      await outcome(keyed.run('bob', () => {}));
      expect(() => keyed.pause('bob')).toThrow('maxKeys');
      permit?.release();
      const refused = recorded.filter(({ kind }) => kind === 'refused');
      expect(refused).toMatchObject([0.5, 1, 1].map((cost) => ({ name: 'users', reason: 'queue full', cost })));
      expect(refused[0]).toMatchObject({ error });
    });
  });

  test('a call for one key too many publishes its costs by name, and nothing for an invalid cost', async () => {
    const recorded = recordEvents();
    const keyed = new KeyedThrottle(4, 0, 1, { maxKeys: 1, also: [{ name: 'tokens', capacity: 8 }] });
    keyed.tryAcquire('ada', { tokens: 5 });
    expect(keyed.tryAcquire('bob', { cost: 2, tokens: 3 })).toBeUndefined();
    await expect(keyed.acquire('bob', { tokens: 9 })).rejects.toThrow('maxKeys');
    expect(recorded.slice(1)).toMatchObject([{ kind: 'refused', cost: 2, costs: { tokens: 3 }, slots: 1 }]);
  });

  test('publish the remaining seconds of each pause, and 0 for resume', () => {
    const recorded = recordEvents();
    const throttle = new Throttle(1, 0, 1, { clock: new ManualClock(7) });
    throttle.pause(30);
    throttle.pause(10);
    throttle.pause(0);
    throttle.pause();
    throttle.resume();
    expect(brief(recorded)).toEqual(['7 paused 30', '7 paused 30', '7 paused Infinity', '7 paused 0']);
  });

  test('publish keyed throttles and resources of a limiter under their names', async () => {
    const recorded = recordEvents();
    const keyed = new KeyedThrottle(1, 1, 1, { name: 'users' });
    await keyed.run('ada', () => {});
    const database = new Resource(1, { name: 'database' });
    const limiter = new Limiter({ timeout: 1, resources: [database] });
    (await limiter.acquire([database])).release();
    expect(recorded.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      'granted users',
      'released users',
      'granted database',
      'released database',
    ]);
  });

  test('a new subscriber receives the events of calls that already wait', async () => {
    const throttle = new Throttle(Infinity, 1);
    const permit = await throttle.acquire();
    const waiting = throttle.acquire();
    const recorded = recordEvents();
    permit.release();
    (await waiting).release();
    expect(recorded.map(({ kind }) => kind)).toEqual(['released', 'granted', 'released']);
    const [before, granted, released] = recorded as { id: number }[];
    expect(granted?.id).toBe(released?.id);
    expect(before?.id).not.toBe(granted?.id);
  });

  test('the error of a subscriber is an uncaught exception and reaches no caller', async () => {
    const thrown: unknown[] = [];
    const usual = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => thrown.push(error));
    onTestFinished(() => {
      process.removeAllListeners('uncaughtException');
      for (const listener of usual) process.on('uncaughtException', listener);
    });
    const error = new Error('a faulty subscriber');
    listen(() => {
      throw error;
    });
    const throttle = new Throttle(Infinity, 1);
    await Promise.all([throttle.run(() => {}), throttle.run(() => {})]);
    await throttle.idle();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(thrown.length).toBe(5);
    expect(new Set(thrown)).toEqual(new Set([error]));
  });

  test('each waiter is refused once if a subscriber aborts another waiter during close', async () => {
    const throttle = new Throttle(Infinity, 1);
    const permit = await throttle.acquire();
    const controller = new AbortController();
    const calls = [throttle.acquire(), throttle.acquire(1, { signal: controller.signal }), throttle.acquire()].map(
      outcome,
    );
    const recorded: string[] = [];
    listen((message) => {
      if (message.kind !== 'refused') return;
      recorded.push(`${message.reason}, ${throttle.waiting} waiting`);
      controller.abort('enough');
    });
    throttle.close();
    expect(recorded).toEqual(['closed, 2 waiting', 'aborted, 1 waiting', 'closed, 0 waiting']);
    expect((await Promise.all(calls)).map((error) => (error as Error).message ?? error)).toEqual([
      expect.stringContaining('closed'),
      'enough',
      expect.stringContaining('closed'),
    ]);
    permit.release();
    await throttle.idle();
  });

  test('a call that a subscriber makes during a grant has not waited for a negative time', async () => {
    let now = 0;
    const throttle = new Throttle(Infinity, 2, 1, { clock: { now: () => (now += 0.001), schedule: () => () => {} } });
    const held = [await throttle.acquire(), await throttle.acquire()];
    const calls = [throttle.acquire(), throttle.acquire()];
    listen(({ kind }) => {
      if (kind === 'granted' && calls.length < 4) calls.push(throttle.acquire());
    });
    throttle.configure({ concurrency: 0 });
    const permits = await Promise.all(calls);
    expect(permits.map(({ waited }) => waited)).toEqual([expect.closeTo(0.005, 2), expect.closeTo(0.005, 2), 0, 0]);
    for (const permit of [...held, ...permits]) permit.release();
  });

  test('a call that a subscriber makes during a queued event is granted on time', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(1, 0, 1, { clock });
    throttle.tryAcquire();
    let second: Promise<Permit> | undefined;
    listen(({ kind, throttle: { waiting } }) => {
      if (kind === 'queued' && waiting === 1) second = throttle.acquire();
    });
    const first = throttle.acquire();
    expect(clock.pending).toBe(1);
    await clock.advance(2);
    expect((await Promise.all([first, second])).map((permit) => permit?.waited)).toEqual([1, 2]);
  });

  describe('a subscriber that reads a keyed throttle does not cause an eviction', () => {
    const rows: [what: string, act: (keyed: KeyedThrottle) => Promise<unknown> | void][] = [
      ['released', (keyed) => keyed.tryAcquire('ada', 10)?.release()],
      ['paused', (keyed) => keyed.pause('ada', 30)],
      [
        'refused',
        async (keyed) => {
          const permit = keyed.tryAcquire('ada', 10);
          const controller = new AbortController();
          const waiting = outcome(keyed.acquire('ada', 1, { signal: controller.signal }));
          permit?.release();
          controller.abort();
          await waiting;
        },
      ],
    ];
    test.each(rows)('%s', async (_, act) => {
      const clock = new ManualClock();
      const keyed = new KeyedThrottle(10, 0, 60, { clock });
      const seen: unknown[] = [];
      listen(() => seen.push(keyed.size, keyed.peek('ada') !== undefined));
      await act(keyed);
      expect(keyed.tryAcquire('ada', 10)).toBeUndefined();
      expect(seen).not.toContain(0);
      expect(seen).not.toContain(false);
    });
  });

  test('an abort is published as aborted, for every reason of the signal', async () => {
    const recorded = recordEvents();
    const throttle = new Throttle(Infinity, 1);
    const permit = throttle.tryAcquire();
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    const reasons = [
      new RangeError('mine'),
      Object.assign(new Error('mine'), { code: 'ERR_THROTTLE_TIMEOUT' }),
      { code: 'constructor' },
      proxy,
      null,
    ];
    const controllers = reasons.map(() => new AbortController());
    const waiting = controllers.map(({ signal }) =>
      throttle.acquire(1, { signal }).then(
        () => expect.fail(),
        () => {},
      ),
    );
    for (const [index, controller] of controllers.entries()) controller.abort(reasons[index]);
    await Promise.all(waiting);
    expect(recorded.flatMap((message) => (message.kind === 'refused' ? [message.reason] : []))).toEqual(
      reasons.map(() => 'aborted'),
    );
    permit?.release();
  });

  test('a call keeps its id when only some channels have subscribers', async () => {
    const ids: number[] = [];
    const note = (message: unknown): void => void ids.push((message as { id: number }).id);
    for (const name of ['headgate:queued', 'headgate:released']) {
      subscribe(name, note);
      onTestFinished(() => void unsubscribe(name, note));
    }
    const throttle = new Throttle(Infinity, 1);
    const first = await throttle.acquire();
    const second = throttle.acquire();
    first.release();
    (await second).release();
    const [queued, firstReleased, secondReleased] = ids;
    expect(secondReleased).toBe(queued);
    expect(firstReleased).not.toBe(queued);
  });

  test('a subscriber that calls the throttle during events breaks no promise', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(7), { minLength: 1, maxLength: 60 }),
        fc.nat(3),
        async (actions, concurrency) => {
          const clock = new ManualClock();
          const throttle = new Throttle(20, concurrency, 1, { clock });
          const controllers: AbortController[] = [];
          const out = new Set<object>();
          const calls: Promise<unknown>[] = [];
          let maxActive = 0;
          let granted = 0;
          const work = async (permit: Permit): Promise<void> => {
            out.add(permit);
            granted++;
            maxActive = Math.max(maxActive, out.size);
            await Promise.resolve();
            out.delete(permit);
            permit.release();
          };
          const act = (number: number): void => {
            if (number === 0) throttle.resume();
            else if (number === 1) controllers.pop()?.abort();
            else if (number === 2) throttle.tryAcquire()?.release();
            else if (number === 3) throttle.configure({ concurrency: concurrency + (actions.length % 2) });
            else if (number === 4) throttle.pause(0.5);
            else {
              const controller = new AbortController();
              controllers.push(controller);
              calls.push(throttle.acquire(number - 4, { signal: controller.signal }).then(work, () => {}));
            }
          };
          let depth = 0;
          const queue = [...actions];
          const callThrottle = (): void => {
            const next = depth < 5 ? queue.pop() : undefined;
            if (next === undefined) return;
            depth++;
            act(next);
            depth--;
          };
          for (const name of NAMES) subscribe(name, callThrottle);
          try {
            for (let round = 0; round < 10; round++) {
              act(5 + (round % 3));
              // A head that tokens or a pause delay has a timer.
              const free = throttle.concurrency === 0 || throttle.active < throttle.concurrency;
              if (throttle.waiting > 0 && free && throttle.pausedFor < Infinity) expect(clock.pending).toBe(1);
              await clock.advance(0.1);
            }
            throttle.resume();
            queue.length = 0;
            await clock.advance(60);
            await Promise.all(calls);
            await throttle.idle();
          } finally {
            for (const name of NAMES) unsubscribe(name, callThrottle);
          }
          expect(throttle).toMatchObject({ active: 0, waiting: 0 });
          expect(clock.pending).toBe(0);
          if (concurrency > 0) expect(maxActive).toBeLessThanOrEqual(concurrency + 1);
          expect(granted).toBeGreaterThan(0);
          expect(throttle.estimateWait(20)).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });
});

test('without a subscriber, the publisher reads no clock and creates no message', () => {
  const read = vi.fn(() => 0);
  const publisher = new EventPublisher(new Throttle(1), { now: read });
  publisher.queued({}, 1);
  publisher.granted({ cost: 1, waited: 0, costs: {}, slots: 1 });
  publisher.grantedWaiter({ cost: 1, waited: 0, costs: {}, slots: 1 }, {});
  publisher.released({ cost: 1, waited: 0, costs: {}, slots: 1 });
  publisher.refused({}, 1, undefined);
  publisher.paused(1);
  expect(read).not.toHaveBeenCalled();
  const recorded = recordEvents();
  publisher.paused(1);
  expect([recorded.length, read.mock.calls.length]).toEqual([1, 1]);
});

test('a message has costs only if the gate has named rates and the call has a vector', () => {
  const throttle = new Throttle(1);
  const clock = new ManualClock();
  const recorded = recordEvents();
  const permit = { cost: 1, waited: 0, costs: { tokens: 2 }, slots: 1 };
  new EventPublisher(throttle, clock).granted(permit);
  new EventPublisher(throttle, clock).queued({}, 1, new Terms([1, 2], 1));
  const publisher = new EventPublisher(throttle, clock, ['tokens']);
  publisher.granted(permit);
  publisher.queued({}, 1, new Terms([1, 2], 1));
  publisher.queued({}, 1);
  const costs = recorded.map((message) => ('costs' in message ? message.costs : undefined));
  expect(costs).toEqual([undefined, undefined, { tokens: 2 }, { tokens: 2 }, undefined]);
});

test('a message has the number of slots that the call requests, or that its permit has', () => {
  const recorded = recordEvents();
  const publisher = new EventPublisher(new Throttle(1), new ManualClock());
  const terms = new Terms([1], 3);
  publisher.queued({}, 1, terms);
  publisher.queued({}, 1);
  publisher.granted({ cost: 1, waited: 0, costs: {}, slots: 3 });
  // On Redis, a permit has the numbers of its slots.
  publisher.granted({ cost: 1, waited: 0, costs: {}, slots: [2, 5] });
  publisher.released({ cost: 1, waited: 0, costs: {}, slots: [2, 5] });
  publisher.refused({}, 1, undefined, 'busy', terms);
  publisher.refused({}, 1, undefined);
  const slots = recorded.map((message) => ('slots' in message ? message.slots : 0));
  expect(slots).toEqual([3, 1, 3, 2, 2, 3, 1]);
});

test.each([
  ['ERR_THROTTLE_TIMEOUT', 'timeout'],
  ['ERR_THROTTLE_QUEUE_FULL', 'queue full'],
  ['ERR_THROTTLE_CLOSED', 'closed'],
  ['ERR_THROTTLE_CLEARED', 'cleared'],
  ['ERR_THROTTLE_BACKEND', 'backend'],
])('an error with the code %s is the reason "%s"', (code, reason) => {
  const recorded = recordEvents();
  new EventPublisher(new Throttle(1), new ManualClock(), []).refused({}, 1, new ThrottleError(code, 'no'));
  expect(recorded).toMatchObject([{ kind: 'refused', reason }]);
});

describe('the number of a call', () => {
  const CALLS = Symbol.for('headgate.calls');
  const shared = globalThis as { [CALLS]?: unknown };

  test('is 1 for the first call of a process, and counts on over all copies of the package', async () => {
    const before = shared[CALLS];
    onTestFinished(() => void (shared[CALLS] = before));
    delete shared[CALLS];
    const recorded = recordEvents();
    for (let copy = 0; copy < 2; copy++) {
      vi.resetModules();
      const { Throttle: Copy } = await import('../../src/core/throttle.js');
      const throttle = new Copy(2, 0, 60, { clock: new ManualClock() });
      throttle.tryAcquire()?.release();
      throttle.tryAcquire();
    }
    expect(recorded.map((message) => ('id' in message ? message.id : 0))).toEqual([1, 1, 2, 3, 3, 4]);
  });
});

test('a gate with the option silent publishes no events', async () => {
  const recorded = recordEvents();
  const throttle = new Throttle(1, 1, 60, { silent: true });
  const keyed = new KeyedThrottle(1, 1, 60, { silent: true, maxKeys: 1 });
  for (const gate of [
    throttle,
    {
      acquire: () => keyed.acquire('a'),
      tryAcquire: () => keyed.tryAcquire('a'),
      pause: () => keyed.pause('a', 1),
      close: () => keyed.close(),
    },
  ]) {
    const permit = await gate.acquire();
    expect(gate.tryAcquire()).toBeUndefined();
    const waiter = outcome(gate.acquire());
    gate.pause(1);
    permit.release();
    if (gate !== throttle) await expect(keyed.acquire('b')).rejects.toThrow('raise maxKeys');
    gate.close();
    expect(await waiter).toMatchObject({ code: 'ERR_THROTTLE_CLOSED' });
  }
  expect(recorded).toEqual([]);
});

describe('without node:diagnostics_channel', () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.resetModules();
  });

  test.each([
    ['no process', undefined],
    ['a process object without getBuiltinModule', { env: {} }],
    ['no such module', { getBuiltinModule: () => undefined }],
    ['a module without channels', { getBuiltinModule: () => ({}) }],
  ])('%s: plain channels publish the same events', async (_, process) => {
    vi.resetModules();
    const platform = recordEvents();
    vi.stubGlobal('process', process);
    const channels = await import('../../src/core/events.js');
    const { Throttle: PlainThrottle } = await import('../../src/core/throttle.js');
    vi.unstubAllGlobals();
    const recorded: object[] = [];
    const listener = (message: object): void => void recorded.push(message);
    expect(channels.granted.hasSubscribers).toBe(false);
    channels.granted.subscribe(listener);
    channels.released.subscribe(listener);
    expect(channels.granted.hasSubscribers).toBe(true);
    const throttle = new PlainThrottle(1, 0, 60, { name: 'plain' });
    await throttle.run(() => {});
    channels.granted.unsubscribe(listener);
    channels.released.unsubscribe(listener);
    expect(channels.granted.hasSubscribers).toBe(false);
    throttle.tryAcquire(0)?.release();
    expect(recorded).toMatchObject([
      { name: 'plain', waited: 0 },
      { name: 'plain', cost: 1 },
    ]);
    expect(platform).toEqual([]);
  });

  test('other listeners receive a message if a listener throws or unsubscribes', async () => {
    vi.resetModules();
    vi.stubGlobal('process', undefined);
    const channels = await import('../../src/core/events.js');
    vi.unstubAllGlobals();
    const later: (() => void)[] = [];
    vi.stubGlobal('queueMicrotask', (fn: () => void) => later.push(fn));
    const error = new Error('a faulty listener');
    const recorded: string[] = [];
    const faulty = (): void => {
      channels.paused.unsubscribe(faulty);
      throw error;
    };
    channels.paused.subscribe(faulty);
    channels.paused.subscribe(() => recorded.push('second'));
    channels.paused.publish({ throttle: new Throttle(1), name: undefined, at: 0, seconds: 1 });
    channels.paused.publish({ throttle: new Throttle(1), name: undefined, at: 0, seconds: 1 });
    expect(recorded).toEqual(['second', 'second']);
    expect(later.length).toBe(1);
    expect(later[0]).toThrow(error);
  });
});
