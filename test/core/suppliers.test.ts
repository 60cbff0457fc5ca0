/**
 * What a caller supplies (clock, signal, iterator, cost function, subscriber, function) may throw, answer late or answer
 * twice. A table of every supplier and every one of its calls, on every gate: in the end nothing waits, no slot is held, no
 * timer is armed, no listener is left, every promise has settled, and the gate works as before (FAULTS 10 to 13).
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type Clock, type Gate, KeyedThrottle, Limiter, type Permit, Resource, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';

type Way = 'throws' | 'answers twice' | 'answers garbage';

/** A supplier whose call number `at` of `method` misbehaves. */
interface Fault {
  readonly method: string;
  readonly at: number;
  readonly way: Way;
}

class Calls {
  readonly #counts = new Map<string, number>();
  fault: Fault | undefined;
  fired = false;
  #healed = false;

  constructor(fault: Fault | undefined) {
    this.fault = fault;
  }

  /** Counts a call. Returns how it misbehaves. */
  misbehaves(method: string): Way | undefined {
    if (this.#healed) return undefined;
    const count = (this.#counts.get(method) ?? 0) + 1;
    this.#counts.set(method, count);
    if (this.fault?.method !== method || this.fault.at !== count) return undefined;
    this.fired = true;
    if (this.fault.way === 'throws') throw new Error(`${method} failed`);
    return this.fault.way;
  }

  /** The supplier does what it should from now on, and its calls are not counted any more. */
  heal(): void {
    this.fault = undefined;
    this.#healed = true;
  }

  count(method: string): number {
    return this.#counts.get(method) ?? 0;
  }
}

/** A clock with a fault. Timers that were cancelled fire all the same where `cancel` misbehaves. */
class FaultyClock implements Clock {
  readonly passing = new ManualClock();
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  now(): number {
    return this.#calls.misbehaves('now') === undefined ? this.passing.now() : NaN;
  }

  schedule(seconds: number, callback: () => void): () => void {
    const way = this.#calls.misbehaves('schedule');
    const cancel = this.passing.schedule(seconds, () => {
      callback();
      if (way === 'answers twice') callback();
    });
    if (way === 'answers garbage') return undefined as never;
    return () => {
      // The timer is gone all the same: what is tested is the gate, not a clock that leaks.
      cancel();
      if (this.#calls.misbehaves('cancel') === 'answers twice') callback();
    };
  }
}

/** A signal with a fault, which counts its listeners. */
class FaultySignal {
  aborted = false;
  #reason: unknown;
  readonly listeners: Set<(event: Event) => void> = new Set();
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  get reason(): unknown {
    this.#calls.misbehaves('reason');
    return this.#reason;
  }

  addEventListener(_: string, listener: (event: Event) => void): void {
    const way = this.#calls.misbehaves('addEventListener');
    this.listeners.add(listener);
    if (way === 'answers twice') this.abort();
  }

  removeEventListener(_: string, listener: (event: Event) => void): void {
    this.listeners.delete(listener);
    this.#calls.misbehaves('removeEventListener');
  }

  abort(): void {
    this.aborted = true;
    this.#reason ??= new Error('aborted');
    // The target of the event is another object than the signal (FAULTS 12).
    for (const listener of this.listeners) listener(new Event('abort'));
    for (const listener of this.listeners) listener(new Event('abort'));
  }
}

interface Subject {
  readonly gate: Pick<Gate, 'acquire' | 'tryAcquire' | 'run' | 'pause' | 'resume'> &
    Partial<Pick<Throttle, 'wrap' | 'map' | 'configure'>>;
  /** How many permits are out, and how many callers wait. */
  counts(): [active: number, waiting: number];
}

const subjects: Record<string, (clock: Clock) => Subject> = {
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

/** What `fn` throws is for its caller, and for no other. */
async function tolerant<T>(fn: () => T | PromiseLike<T>): Promise<T | undefined> {
  try {
    return await fn();
  } catch {
    return undefined;
  }
}

/** Every method of the gate, with holders, waiters, deadlines and aborts. */
async function play(name: string, fault: Fault | undefined): Promise<Calls> {
  const calls = new Calls(fault);
  const clock = new FaultyClock(calls);
  const { gate, counts } = (subjects[name] as (clock: Clock) => Subject)(clock);
  const signals = [new FaultySignal(calls), new FaultySignal(calls), new FaultySignal(calls)];
  const [first, second, third] = signals.map((signal) => signal as unknown as AbortSignal);
  const permits: Permit[] = [];
  const settled: Promise<unknown>[] = [];
  const acquire = (...args: Parameters<Gate['acquire']>): void => {
    settled.push(tolerant(() => gate.acquire(...args)).then((permit) => permit && permits.push(permit)));
  };
  const job = async (): Promise<void> => void calls.misbehaves('fn');
  const cost = (): number => (calls.misbehaves('cost') === undefined ? 1 : NaN);
  async function* items(): AsyncGenerator<number> {
    for (let item = 0; item < 3; item++) {
      calls.misbehaves('next');
      yield item;
    }
  }

  acquire();
  const now = await tolerant(() => gate.tryAcquire());
  if (now) permits.push(now);
  acquire(1, { timeout: 3 });
  acquire(1, { signal: first });
  acquire(2, { signal: second, timeout: 20 });
  settled.push(
    tolerant(() => gate.run(job)),
    tolerant(() => gate.run(job, 1, { signal: third, timeout: 30 })),
    tolerant(() => gate.run(job, 1, { signal: second })),
  );
  if (gate.wrap !== undefined) settled.push(tolerant(() => gate.wrap?.(job, cost)()));
  if (gate.map !== undefined)
    settled.push(tolerant(() => gate.map?.(items(), job, { cost, signal: third as AbortSignal })));
  await clock.passing.advance(0.125);
  await tolerant(() => gate.pause(0.25));
  await clock.passing.advance(0.125);
  permits[0]?.settle(3);
  permits[0]?.release();
  await tolerant(() => gate.configure?.({ concurrency: 3 }));
  await clock.passing.advance(0.5);
  await tolerant(() => gate.pause(10));
  permits[1]?.refund();
  permits[1]?.release();
  signals[0]?.abort();
  await clock.passing.advance(4);
  await tolerant(() => gate.resume());
  await clock.passing.advance(0.25);
  signals[1]?.abort();
  for (let round = 0; round < 40; round++) {
    for (const permit of permits) permit.release();
    await clock.passing.advance(1);
  }

  // The fault is over. Nothing is left of it.
  calls.heal();
  await tolerant(() => gate.resume());
  await clock.passing.advance(60);
  for (const permit of permits) permit.release();
  await Promise.all(settled);
  expect(counts()).toEqual([0, 0]);
  expect(clock.passing.pending).toBe(0);
  // `removeEventListener` of this signal removes the listener before it throws, as a leak of the signal is not the gate's.
  expect(signals.map(({ listeners }) => listeners.size)).toEqual([0, 0, 0]);
  const again = gate.run(() => 'works');
  await clock.passing.advance(60);
  expect(await again).toBe('works');
  return calls;
}

const suppliers: Record<string, readonly Way[]> = {
  now: ['throws', 'answers garbage'],
  schedule: ['throws', 'answers twice', 'answers garbage'],
  cancel: ['throws', 'answers twice'],
  addEventListener: ['throws', 'answers twice'],
  removeEventListener: ['throws'],
  reason: ['throws'],
  cost: ['throws', 'answers garbage'],
  next: ['throws'],
  fn: ['throws'],
};

describe.each(Object.keys(subjects))('%s', (name) => {
  test.each(Object.entries(suppliers).flatMap(([method, ways]) => ways.map((way) => [method, way] as const)))(
    '%s %s, at each of its calls',
    async (method, way) => {
      const total = (await play(name, undefined)).count(method);
      for (let at = 1; at <= total; at++) {
        const calls = await play(name, { method, at, way }).catch((error: Error) => {
          throw new Error(`${method} ${way} at call ${at} of ${total}: ${error.message}`, { cause: error });
        });
        expect(calls.fired, `call ${at} of ${total}`).toBe(true);
      }
    },
  );

  test('subscribers of every event call the gate from within', async () => {
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
      await play(name, undefined);
    } finally {
      for (const event of names) unsubscribe(event, once);
    }
  });
});
