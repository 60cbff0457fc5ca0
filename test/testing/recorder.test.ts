/** `record`: the recorded events, and that recording does not change a throttle. */
import { channel } from 'node:diagnostics_channel';
import fc from 'fast-check';
import { KeyedThrottle, type Permit, Throttle, type WatchedThrottle } from 'headgate';
import { ManualClock, record, type Recording, type Trace, type TraceEvent } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { NAMES, outcome } from '../support/record-events.js';
import {
  anyOperation,
  bursts,
  capacities,
  concurrencies,
  type Operation,
  outcomeOf,
  periods,
} from '../model/reference.js';
import { setUp, take } from '../support/support.js';

/** The events with ids renumbered from 1. */
const renumber = (events: readonly TraceEvent[]): TraceEvent[] => {
  const ids = [...new Set(events.flatMap((event) => ('id' in event ? [event.id] : [])))].toSorted((a, b) => a - b);
  return events.map((event) => ('id' in event ? { ...event, id: ids.indexOf(event.id) + 1 } : event));
};

const kinds = (trace: Trace): string => trace.events.map(({ kind }) => kind).join(' ');

describe('record', () => {
  test('record records every event of each call, with the remaining tokens', async () => {
    const clock = new ManualClock(100);
    const throttle = new Throttle(2, 1, 1, { clock, name: 'api', maxQueue: 2 });
    const trace = record(throttle);
    const first = await throttle.acquire(2);
    const second = throttle.acquire(1);
    const third = throttle.acquire(0.5);
    await outcome(throttle.acquire());
    await clock.advance(0.5);
    first.release();
    (await second).release();
    throttle.pause(3);
    await clock.advance(3);
    (await third).settle(2);
    (await third).release();
    throttle.pause();
    throttle.resume();
    trace.stop();

    expect(trace.name).toBe('api');
    expect(trace.limits).toEqual({ capacity: 2, concurrency: 1, period: 1, burst: 2 });
    expect(renumber(trace.events)).toEqual([
      { kind: 'granted', at: 100, id: 1, cost: 2, waited: 0, tokens: 0 },
      { kind: 'queued', at: 100, id: 2, cost: 1, tokens: 0 },
      { kind: 'queued', at: 100, id: 3, cost: 0.5, tokens: 0 },
      { kind: 'refused', at: 100, id: 4, cost: 1, reason: 'queue full', tokens: 0 },
      { kind: 'released', at: 100.5, id: 1, cost: 2, tokens: 1 },
      { kind: 'granted', at: 100.5, id: 2, cost: 1, waited: 0.5, tokens: 0 },
      { kind: 'released', at: 100.5, id: 2, cost: 1, tokens: 0 },
      { kind: 'paused', at: 100.5, seconds: 3, tokens: 0 },
      { kind: 'granted', at: 103.5, id: 3, cost: 0.5, waited: 3.5, tokens: 1.5 },
      { kind: 'released', at: 103.5, id: 3, cost: 2, tokens: 0 },
      { kind: 'paused', at: 103.5, seconds: null, tokens: 0 },
      { kind: 'paused', at: 103.5, seconds: 0, tokens: 0 },
    ]);
  });

  test('a trace has the named rates, their levels, the costs by name and the slots of each call', async () => {
    const clock = new ManualClock(100);
    const throttle = new Throttle(2, 4, 1, {
      clock,
      also: [
        { name: 'tokens', capacity: 100, period: 10 },
        { name: 'free', capacity: Infinity },
        { capacity: 50, period: 60 },
      ],
    });
    using trace = record(throttle);
    const permit = throttle.tryAcquire({ tokens: 30 });
    const second = throttle.acquire({ cost: 0, tokens: 80, free: 7 }, { slots: 3 });
    permit?.settle({ tokens: 20 });
    permit?.release();
    (await second).release();
    const rate = { capacity: 100, period: 10, burst: 100 };
    expect(trace.rates).toEqual({ tokens: rate, free: { capacity: null, period: 1, burst: null } });
    const light = { at: 100, id: 1, cost: 1, tokens: 1 };
    const heavy = { at: 100, id: 2, cost: 0, tokens: 1, costs: { tokens: 80, free: 7 }, slots: 3 };
    expect(renumber(trace.events)).toEqual([
      { kind: 'granted', ...light, costs: { tokens: 30, free: 0 }, waited: 0, levels: { tokens: 70 } },
      { kind: 'queued', ...heavy, levels: { tokens: 70 } },
      { kind: 'granted', ...heavy, waited: 0, levels: { tokens: 0 } },
      { kind: 'released', ...light, costs: { tokens: 20, free: 0 }, levels: { tokens: 0 } },
      { kind: 'released', ...heavy, levels: { tokens: 0 } },
    ]);
    expect(structuredClone({ ...trace })).toEqual({ ...trace });
    using plain = record(new Throttle(2, 4, 1, { also: [{ capacity: 50 }] }));
    expect(plain).not.toHaveProperty('rates');
  });

  test('a trace has no Infinity: an unlimited value is null or absent', () => {
    const throttle = new Throttle(Infinity);
    using trace = record(throttle);
    take(throttle);
    expect(trace).toEqual({
      limits: { capacity: null, concurrency: null, period: 1, burst: null },
      events: [{ kind: 'granted', at: expect.any(Number), id: expect.any(Number), cost: 1, waited: 0 }],
    });
    using other = record(new Throttle(Infinity, Infinity, 1, { burst: 3 }));
    expect(other.limits).toEqual({ capacity: null, concurrency: null, period: 1, burst: 3 });
  });

  test('a trace has the events of one throttle only, even if others have the same name or keyed throttle', () => {
    const { throttle, clock } = setUp(10, 0, 1, { name: 'shared' });
    const keyed = new KeyedThrottle(10, 0, 1, { name: 'shared', clock });
    keyed.tryAcquire('ada');
    const trace = record(throttle);
    const ada = record(keyed.peek('ada') as Throttle);
    take(new Throttle(10, 0, 1, { name: 'shared', clock }));
    keyed.tryAcquire('bob');
    expect([trace.events.length, ada.events.length]).toEqual([0, 0]);
    take(throttle);
    keyed.tryAcquire('ada', 2);
    expect(trace.events).toMatchObject([{ kind: 'granted', cost: 1 }]);
    expect(ada.events).toMatchObject([{ kind: 'granted', cost: 2 }]);
    trace.stop();
    ada.stop();
  });

  test('a call from before the recording appears with its next event, and later events are not recorded', async () => {
    const { throttle, clock } = setUp(10, 1);
    const first = take(throttle);
    const second = throttle.acquire();
    await clock.advance(2);
    const trace = record(throttle);
    first.release();
    const held = await second;
    trace.stop();
    held.release();
    expect(trace.events).toMatchObject([
      { kind: 'released', at: 2 },
      { kind: 'granted', at: 2, waited: 2 },
    ]);
  });

  test('stop or the end of a using block ends a recording, and another recording continues', () => {
    const { throttle } = setUp();
    const outer = record(throttle);
    let inner: Recording;
    {
      using trace = record(throttle);
      inner = trace;
      take(throttle).release();
    }
    take(throttle);
    inner.stop();
    inner.stop();
    inner[Symbol.dispose]();
    take(throttle);
    expect(kinds(inner)).toBe('granted released');
    expect(kinds(outer)).toBe('granted released granted granted');
    expect(inner.events).toEqual(outer.events.slice(0, 2));
    outer.stop();
    expect(NAMES.filter((name) => channel(name).hasSubscribers)).toEqual([]);
  });

  test('a stopped recording keeps its data and releases the throttle to the garbage collector', async () => {
    const recordAndDrop = (): { trace: Recording; throttle: WeakRef<Throttle> } => {
      const throttle = new Throttle(10);
      const trace = record(throttle);
      throttle.tryAcquire()?.release();
      return { trace, throttle: new WeakRef(throttle) };
    };
    const { trace, throttle } = recordAndDrop();
    const collected = async (): Promise<boolean> => {
      for (let tries = 0; tries < 5 && throttle.deref() !== undefined; tries++) {
        await new Promise((resolve) => setTimeout(resolve));
        globalThis.gc?.();
      }
      return throttle.deref() === undefined;
    };
    expect(await collected()).toBe(false);
    trace.stop();
    expect(await collected()).toBe(true);
    expect(trace.events.length).toBe(2);
  });

  test('a change of the limits appears once, in the next event', () => {
    const { throttle } = setUp(10, 2);
    const trace = record(throttle);
    take(throttle);
    throttle.configure({ capacity: 4, concurrency: 0 });
    take(throttle);
    take(throttle);
    throttle.configure({ period: 2 });
    throttle.pause(1);
    throttle.configure({ burst: 1 });
    throttle.pause(2);
    trace.stop();
    expect(trace.limits).toEqual({ capacity: 10, concurrency: 2, period: 1, burst: 10 });
    expect(trace.events.map(({ limits }) => limits)).toEqual([
      undefined,
      { capacity: 4, concurrency: null, period: 1, burst: 4 },
      undefined,
      { capacity: 4, concurrency: null, period: 2, burst: 4 },
      { capacity: 4, concurrency: null, period: 2, burst: 1 },
    ]);
  });

  test('record accepts a throttle without tokens, such as one on Redis', () => {
    const throttle: WatchedThrottle = {
      name: 'fleet',
      capacity: 5,
      concurrency: 2,
      period: 1,
      burst: 5,
      waiting: 0,
      held: 1,
    };
    const trace = record(throttle);
    channel('headgate:granted').publish({ throttle, name: 'fleet', at: 1, id: -1, cost: 1, waited: 0.25 });
    trace.stop();
    expect(trace).toEqual({
      name: 'fleet',
      limits: { capacity: 5, concurrency: 2, period: 1, burst: 5 },
      events: [{ kind: 'granted', at: 1, id: -1, cost: 1, waited: 0.25 }],
    });
  });

  test('record works on a platform without diagnostics_channel', async () => {
    vi.stubGlobal('process', { ...process, getBuiltinModule: undefined });
    vi.resetModules();
    try {
      const [core, testing] = await Promise.all([import('../../src/index.js'), import('../../src/testing/index.js')]);
      const throttle = new core.Throttle(10);
      const trace = testing.record(throttle);
      throttle.tryAcquire()?.release();
      trace.stop();
      throttle.tryAcquire();
      expect(kinds(trace)).toBe('granted released');
    } finally {
      vi.unstubAllGlobals();
      vi.resetModules();
    }
  });

  test.each([
    [undefined, 'undefined'],
    [null, 'null'],
    [{}, 'object'],
    ['api', '"api"'],
    [new KeyedThrottle(1), 'object'],
  ])('record rejects %o', (value, shown) => {
    expect(() => record(value as unknown as Throttle)).toThrow(
      new TypeError(`throttle must be a Throttle, a Resource or a RedisThrottle, received ${shown}`),
    );
    expect(NAMES.filter((name) => channel(name).hasSubscribers)).toEqual([]);
  });
});

const history = fc.record({
  capacity: capacities,
  concurrency: concurrencies,
  period: periods,
  burst: bursts,
  window: fc.constantFrom(undefined, undefined, 'sliding' as const),
  maxQueue: fc.constantFrom(Infinity, 0, 3),
  operations: fc.array(anyOperation, { maxLength: 50, size: 'max' }),
});
type History = typeof history extends fc.Arbitrary<infer T> ? T : never;

/** Executes a history and returns everything that its callers can observe. */
async function execute(
  { capacity, concurrency, period, burst, window, maxQueue, operations }: History,
  onCreated?: (throttle: Throttle) => void,
): Promise<unknown[]> {
  const clock = new ManualClock();
  const throttle = new Throttle(capacity, concurrency, period, {
    clock,
    maxQueue,
    ...(window === undefined ? { burst } : { window }),
  });
  onCreated?.(throttle);
  const observed: unknown[] = [];
  const permits: Permit[] = [];
  const finish: (() => void)[] = [];
  const aborts: unknown[] = [];
  let signals = [0, 1, 2].map(() => new AbortController());
  const granted =
    (id: number) =>
    (permit: Permit): void => {
      permits.push(permit);
      observed.push([id, 'granted', permit.waited]);
    };
  const act = (operation: Operation, id: number): void => {
    const refused = (error: unknown): void => void observed.push([id, outcomeOf(error, aborts)]);
    switch (operation.do) {
      case 'acquire':
      case 'run': {
        const { cost, timeout, signal } = operation;
        const options = { timeout, signal: signal === undefined ? undefined : signals[signal]?.signal };
        if (operation.do === 'acquire') throttle.acquire(cost, options).then(granted(id), refused);
        else
          throttle
            .run((permit) => new Promise<void>((resolve) => (granted(id)(permit), finish.push(resolve))), cost, options)
            .catch(refused);
        break;
      }
      case 'tryAcquire':
        if (operation.cost <= throttle.burst) observed.push(throttle.tryAcquire(operation.cost)?.cost);
        break;
      case 'release':
        permits[operation.which % permits.length]?.release();
        finish[operation.which % finish.length]?.();
        break;
      case 'settle':
        permits[operation.which % permits.length]?.settle(operation.cost);
        break;
      case 'abort':
        aborts.push(new Error(`abort ${id}`));
        signals[operation.signal]?.abort(aborts.at(-1));
        signals = signals.with(operation.signal, new AbortController());
        break;
      case 'pause':
        throttle.pause(operation.seconds);
        break;
      case 'configure':
        throttle.configure(window === undefined ? operation.limits : { ...operation.limits, burst: undefined });
        break;
      case 'advance':
      case 'idle':
        break;
      default:
        void throttle[operation.do]();
    }
  };
  for (const [id, operation] of operations.entries()) {
    act(operation, id);
    await clock.advance(operation.do === 'advance' ? operation.seconds : 0);
    const { active, waiting, tokens, pausedFor, closed } = throttle;
    observed.push({
      active,
      waiting,
      tokens,
      pausedFor,
      closed,
      wait: throttle.estimateWait(0),
      pending: clock.pending,
      now: clock.now(),
    });
  }
  return observed;
}

describe('random histories', () => {
  test('a recorded throttle behaves like an unrecorded throttle', async () => {
    await fc.assert(
      fc.asyncProperty(history, async (one) => {
        const recordings: Recording[] = [];
        const recorded = await execute(one, (throttle) => recordings.push(record(throttle), record(throttle)));
        for (const recording of recordings) recording.stop();
        expect(recorded).toEqual(await execute(one));
        expect(recordings[0]).toEqual(recordings[1]);
      }),
      { numRuns: 300 },
    );
  });

  test('the events of a call are in order, grants are FIFO, and the data is plain', async () => {
    const counts = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(history, async (one) => {
        let trace: Recording | undefined;
        await execute(one, (throttle) => {
          trace = record(throttle);
        });
        if (trace === undefined) throw new Error('not executed');
        trace.stop();
        const { events } = trace;
        for (const { kind } of events) counts.set(kind, (counts.get(kind) ?? 0) + 1);

        expect(structuredClone(trace)).toEqual(trace);
        expect(JSON.parse(JSON.stringify(trace))).toEqual(structuredClone(trace));
        expect(Object.keys(trace)).toEqual(['limits', 'events']);

        expect(events.map(({ at }) => at)).toEqual(events.map(({ at }) => at).toSorted((a, b) => a - b));
        const calls = new Map<number, TraceEvent[]>();
        for (const event of events) if ('id' in event) calls.set(event.id, [...(calls.get(event.id) ?? []), event]);
        for (const call of calls.values()) {
          expect(call.map(({ kind }) => kind).join(' ')).toMatch(/^(?:queued ?)?(?:granted(?: released)?|refused)?$/);
          const [queued, granted] = [
            call.find(({ kind }) => kind === 'queued'),
            call.find(({ kind }) => kind === 'granted'),
          ];
          if (granted?.kind === 'granted') expect(granted.waited).toBe(granted.at - (queued ?? granted).at);
        }
        const grants = events.flatMap((event) => (event.kind === 'granted' ? [event.id] : []));
        expect(grants).toEqual(grants.toSorted((a, b) => a - b));
      }),
      { numRuns: 300 },
    );
    for (const kind of ['queued', 'granted', 'released', 'refused', 'paused'])
      expect(counts.get(kind), kind).toBeGreaterThan(100);
  });
});
