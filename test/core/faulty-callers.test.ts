/**
 * Faults in objects of the caller: clock, signal, iterator, cost function, subscriber, job. Each method may throw,
 * return an invalid value, or call its callback twice. The tests inject each fault into each call of each method, on
 * every gate. Afterwards, every promise has settled and the gate works as before (FAULTS 10 to 13). No waiter, slot,
 * timer or listener remains.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type Clock, type Gate, KeyedThrottle, Limiter, type Permit, Resource, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';

type FaultKind = 'throws' | 'calls back twice' | 'returns an invalid value';

/** A fault in the call number `at` of `method`. */
interface Fault {
  readonly method: string;
  readonly at: number;
  readonly kind: FaultKind;
}

class Calls {
  readonly #counts = new Map<string, number>();
  fault: Fault | undefined;
  fired = false;
  #healed = false;

  constructor(fault: Fault | undefined) {
    this.fault = fault;
  }

  /** Counts a call. Returns its fault, or throws it. */
  faultOf(method: string): FaultKind | undefined {
    if (this.#healed) return undefined;
    const count = (this.#counts.get(method) ?? 0) + 1;
    this.#counts.set(method, count);
    if (this.fault?.method !== method || this.fault.at !== count) return undefined;
    this.fired = true;
    if (this.fault.kind === 'throws') throw new Error(`${method} failed`);
    return this.fault.kind;
  }

  /** Ends the fault and the count of calls. */
  heal(): void {
    this.fault = undefined;
    this.#healed = true;
  }

  count(method: string): number {
    return this.#counts.get(method) ?? 0;
  }
}

/** A clock with a fault. A fault of `cancel` makes a cancelled timer fire. */
class FaultyClock implements Clock {
  readonly passing = new ManualClock();
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  now(): number {
    return this.#calls.faultOf('now') === undefined ? this.passing.now() : NaN;
  }

  schedule(seconds: number, callback: () => void): () => void {
    const kind = this.#calls.faultOf('schedule');
    const cancel = this.passing.schedule(seconds, () => {
      callback();
      if (kind === 'calls back twice') callback();
    });
    if (kind === 'returns an invalid value') return undefined as never;
    return () => {
      // The timer itself is always cancelled, because a leak in the clock is not a fault of the gate.
      cancel();
      if (this.#calls.faultOf('cancel') === 'calls back twice') callback();
    };
  }
}

/** A signal with a fault. It counts its listeners. */
class FaultySignal {
  aborted = false;
  #reason: unknown;
  readonly listeners: Set<(event: Event) => void> = new Set();
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  get reason(): unknown {
    this.#calls.faultOf('reason');
    return this.#reason;
  }

  addEventListener(_: string, listener: (event: Event) => void): void {
    const kind = this.#calls.faultOf('addEventListener');
    this.listeners.add(listener);
    if (kind === 'calls back twice') this.abort();
  }

  removeEventListener(_: string, listener: (event: Event) => void): void {
    this.listeners.delete(listener);
    this.#calls.faultOf('removeEventListener');
  }

  abort(): void {
    this.aborted = true;
    this.#reason ??= new Error('aborted');
    // The target of the event is not the signal (FAULTS 12).
    for (const listener of this.listeners) listener(new Event('abort'));
    for (const listener of this.listeners) listener(new Event('abort'));
  }
}

interface GateUnderTest {
  readonly gate: Pick<Gate, 'acquire' | 'tryAcquire' | 'run' | 'pause' | 'resume'> &
    Partial<Pick<Throttle, 'wrap' | 'map' | 'configure'>>;
  /** The numbers of active permits and of waiters. */
  counts(): [active: number, waiting: number];
}

const gates: Record<string, (clock: Clock) => GateUnderTest> = {
  Throttle(clock) {
    const gate = new Throttle(4, 2, 1, { clock });
    return { gate, counts: () => [gate.active, gate.waiting] };
  },
  'Throttle with a sliding window and a second rate': (clock) => {
    const gate = new Throttle(4, 2, 1, { clock, window: 'sliding', also: [{ capacity: 100, period: 10 }] });
    return { gate, counts: () => [gate.active, gate.waiting] };
  },
  Resource(clock) {
    const gate = new Resource(2, { clock });
    return { gate, counts: () => [gate.active, gate.waiting] };
  },
  KeyedThrottle(clock) {
    const keyed = new KeyedThrottle(4, 2, 1, { clock });
    return {
      gate: {
        acquire: (...args) => keyed.acquire('ada', ...args),
        tryAcquire: (...args) => keyed.tryAcquire('ada', ...args),
        run: (...args) => keyed.run('ada', ...args),
        pause: (...args) => keyed.pause('ada', ...args),
        resume: () => keyed.resume('ada'),
      },
      counts: () => [keyed.peek('ada')?.active ?? 0, keyed.peek('ada')?.waiting ?? 0],
    };
  },
  Limiter(clock) {
    const [first, second] = [new Resource(2, { clock }), new Throttle(4, 2, 1, { clock })];
    const limiter = new Limiter({ timeout: 50, resources: [first, second], clock });
    return {
      gate: limiter.resources([first, second]),
      counts: () => [first.active + second.active, first.waiting + second.waiting],
    };
  },
};

/** The result of `fn`; `undefined` if `fn` fails. */
async function resultOf<T>(fn: () => T | PromiseLike<T>): Promise<T | undefined> {
  try {
    return await fn();
  } catch {
    return undefined;
  }
}

/** Calls every method of the gate, with holders, waiters, timeouts and aborts. */
async function useGate(name: string, fault: Fault | undefined): Promise<Calls> {
  const calls = new Calls(fault);
  const clock = new FaultyClock(calls);
  const { gate, counts } = (gates[name] as (clock: Clock) => GateUnderTest)(clock);
  const signals = [new FaultySignal(calls), new FaultySignal(calls), new FaultySignal(calls)];
  const [first, second, third] = signals.map((signal) => signal as unknown as AbortSignal);
  const permits: Permit[] = [];
  const settled: Promise<unknown>[] = [];
  const acquire = (...args: Parameters<Gate['acquire']>): void => {
    settled.push(resultOf(() => gate.acquire(...args)).then((permit) => permit && permits.push(permit)));
  };
  const job = async (): Promise<void> => void calls.faultOf('fn');
  const cost = (): number => (calls.faultOf('cost') === undefined ? 1 : NaN);
  async function* items(): AsyncGenerator<number> {
    for (let item = 0; item < 3; item++) {
      calls.faultOf('next');
      yield item;
    }
  }

  acquire();
  const now = await resultOf(() => gate.tryAcquire());
  if (now) permits.push(now);
  acquire(1, { timeout: 3 });
  acquire(1, { signal: first });
  acquire(2, { signal: second, timeout: 20 });
  settled.push(
    resultOf(() => gate.run(job)),
    resultOf(() => gate.run(job, 1, { signal: third, timeout: 30 })),
    resultOf(() => gate.run(job, 1, { signal: second })),
  );
  if (gate.wrap !== undefined) settled.push(resultOf(() => gate.wrap?.(job, cost)()));
  if (gate.map !== undefined)
    settled.push(resultOf(() => gate.map?.(items(), job, { cost, signal: third as AbortSignal })));
  await clock.passing.advance(0.125);
  await resultOf(() => gate.pause(0.25));
  await clock.passing.advance(0.125);
  permits[0]?.settle(3);
  permits[0]?.release();
  await resultOf(() => gate.configure?.({ concurrency: 3 }));
  await clock.passing.advance(0.5);
  await resultOf(() => gate.pause(10));
  permits[1]?.refund();
  permits[1]?.release();
  signals[0]?.abort();
  await clock.passing.advance(4);
  await resultOf(() => gate.resume());
  await clock.passing.advance(0.25);
  signals[1]?.abort();
  for (let round = 0; round < 40; round++) {
    for (const permit of permits) permit.release();
    await clock.passing.advance(1);
  }

  // After the end of the fault, the gate is idle and works.
  calls.heal();
  await resultOf(() => gate.resume());
  await clock.passing.advance(60);
  for (const permit of permits) permit.release();
  await Promise.all(settled);
  expect(counts()).toEqual([0, 0]);
  expect(clock.passing.pending).toBe(0);
  // `removeEventListener` of this signal removes the listener before it throws: a leak in the signal is not a fault of
  // the gate.
  expect(signals.map(({ listeners }) => listeners.size)).toEqual([0, 0, 0]);
  const again = gate.run(() => 'works');
  await clock.passing.advance(60);
  expect(await again).toBe('works');
  return calls;
}

const faults: Record<string, readonly FaultKind[]> = {
  now: ['throws', 'returns an invalid value'],
  schedule: ['throws', 'calls back twice', 'returns an invalid value'],
  cancel: ['throws', 'calls back twice'],
  addEventListener: ['throws', 'calls back twice'],
  removeEventListener: ['throws'],
  reason: ['throws'],
  cost: ['throws', 'returns an invalid value'],
  next: ['throws'],
  fn: ['throws'],
};

describe.each(Object.keys(gates))('%s', (name) => {
  test.each(Object.entries(faults).flatMap(([method, kinds]) => kinds.map((kind) => [method, kind] as const)))(
    'recovers when %s %s, at each call',
    async (method, kind) => {
      const total = (await useGate(name, undefined)).count(method);
      for (let at = 1; at <= total; at++) {
        const calls = await useGate(name, { method, at, kind }).catch((error: Error) => {
          throw new Error(`${method} ${kind} at call ${at} of ${total}: ${error.message}`, { cause: error });
        });
        expect(calls.fired, `call ${at} of ${total}`).toBe(true);
      }
    },
  );

  test('subscribers of every event may call the gate during the event', async () => {
    const names = ['queued', 'granted', 'released', 'refused', 'paused'].map((event) => `headgate:${event}`);
    const onMessage = (message: unknown): void => {
      const { throttle } = message as { throttle: Partial<Throttle> };
      throttle.tryAcquire?.(0)?.release();
    };
    let depth = 0;
    const once = (message: unknown): void => {
      if (depth++ === 0) onMessage(message);
      depth--;
    };
    for (const event of names) subscribe(event, once);
    try {
      await useGate(name, undefined);
    } finally {
      for (const event of names) unsubscribe(event, once);
    }
  });
});
