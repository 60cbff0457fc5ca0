/**
 * Random histories against a reference that shares nothing with the throttle but the design: it walks through time
 * event by event with plain arrays. All numbers are sums of powers of two, so that both compute exactly the same and
 * every comparison is one of equality, down to the instant of each grant.
 */
import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { type Limits, type Permit, QueueFullError, Throttle, ThrottleClosedError, ThrottleTimeoutError } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { SkewedClock } from './support.js';

type Outcome = 'granted' | 'timeout' | 'full' | 'closed' | 'aborted' | 'oversize';

interface Waiting {
  id: number;
  cost: number;
  since: number;
  deadline: number;
  signal: number | undefined;
}

interface Held {
  id: number;
  at: number;
  /** The cost as settled. */
  cost: number;
  released: boolean;
  settled: boolean;
}

/** A span of time with the same limits. */
interface Era {
  from: number;
  burst: number;
  rate: number;
}

class Reference {
  time = 0;
  tokens: number;
  active = 0;
  pausedUntil = 0;
  closed = false;
  queue: Waiting[] = [];
  grants: Held[] = [];
  /** What became of each call, in the order in which it was decided. */
  log: [id: number, outcome: Outcome, waited: number][] = [];
  eras: Era[];
  capacity: number;
  concurrency: number;
  period: number;
  burst: number | undefined;
  readonly maxQueue: number;

  constructor(capacity: number, concurrency: number, period: number, burst: number | undefined, maxQueue: number) {
    this.capacity = capacity;
    this.concurrency = concurrency;
    this.period = period;
    this.burst = burst;
    this.maxQueue = maxQueue;
    this.tokens = this.size;
    this.eras = [{ from: 0, burst: this.size, rate: this.rate }];
  }

  get size(): number {
    return this.burst ?? Math.max(1, this.capacity);
  }

  get rate(): number {
    return this.capacity / this.period;
  }

  get slotFree(): boolean {
    return this.concurrency === 0 || this.active < this.concurrency;
  }

  /** How long until `cost` tokens could be there, counting from the end of the pause. */
  wait(cost: number): number {
    const pause = Math.max(0, this.pausedUntil - this.time);
    if (pause === Infinity) return Infinity;
    const level = this.capacity === Infinity ? Infinity : Math.min(this.size, this.tokens + this.rate * pause);
    return cost <= level ? pause : pause + (cost - level) / this.rate;
  }

  fits(cost: number): boolean {
    return this.slotFree && this.pausedUntil <= this.time && (this.capacity === Infinity || this.tokens >= cost);
  }

  take(id: number, cost: number, waited: number): void {
    this.active++;
    if (this.capacity !== Infinity) this.tokens -= cost;
    this.grants.push({ id, at: this.time, cost, released: false, settled: false });
    this.log.push([id, 'granted', waited]);
  }

  drain(): void {
    for (let head = this.queue[0]; head !== undefined && this.fits(head.cost); head = this.queue[0]) {
      this.queue.shift();
      this.take(head.id, head.cost, this.time - head.since);
    }
  }

  acquire(id: number, cost: number, timeout: number, signal: number | undefined): void {
    if (cost > this.size) this.log.push([id, 'oversize', 0]);
    else if (this.closed) this.log.push([id, 'closed', 0]);
    else if (this.queue.length === 0 && this.fits(cost)) this.take(id, cost, 0);
    else if (timeout === 0 || timeout < this.wait(this.queue.reduce((sum, one) => sum + one.cost, cost))) this.log.push([id, 'timeout', 0]);
    else if (this.queue.length >= this.maxQueue) this.log.push([id, 'full', 0]);
    else this.queue.push({ id, cost, since: this.time, deadline: this.time + timeout, signal });
  }

  tryAcquire(id: number, cost: number): void {
    if (!this.closed && this.queue.length === 0 && this.fits(cost)) this.take(id, cost, 0);
  }

  dismiss(leaves: (one: Waiting) => boolean, outcome: Outcome): void {
    const gone = this.queue.filter(leaves);
    this.queue = this.queue.filter((one) => !leaves(one));
    for (const one of gone) this.log.push([one.id, outcome, 0]);
    this.drain();
  }

  release(held: Held): void {
    if (held.released) return;
    held.released = true;
    this.active--;
    this.drain();
  }

  settle(held: Held, cost: number): void {
    if (held.settled) return;
    held.settled = true;
    const back = held.cost - cost;
    if (this.capacity !== Infinity && back < 0) this.tokens += back;
    if (this.capacity !== Infinity && back > 0) {
      const since = this.spentSince(held);
      this.tokens = Math.max(this.tokens, Math.min(this.tokens + back, this.size - since));
    }
    if (back < 0) this.debts.push({ after: this.grants.length, amount: -back });
    held.cost = cost;
    this.drain();
  }

  debts: { after: number; amount: number }[] = [];
  /** Costs as they were granted, by the order of the grants. */
  readonly asked = new Map<number, number>();

  spentSince(held: Held): number {
    const index = this.grants.indexOf(held);
    const later = this.grants.slice(index + 1).reduce((sum, one) => sum + (this.asked.get(one.id) ?? 0), 0);
    return later + this.debts.filter((debt) => debt.after > index).reduce((sum, debt) => sum + debt.amount, 0);
  }

  configure(limits: Limits): void {
    const unlimited = this.capacity === Infinity;
    Object.assign(this, Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined)));
    if (unlimited) this.tokens = this.size;
    this.tokens = Math.min(this.tokens, this.size);
    this.eras.push({ from: this.time, burst: this.size, rate: this.rate });
    this.dismiss((one) => one.cost > this.size, 'oversize');
  }

  /** Lets time pass, from one event to the next. */
  advance(seconds: number): void {
    const end = this.time + seconds;
    for (;;) {
      const head = this.queue[0];
      const ready = head !== undefined && this.slotFree ? this.time + this.wait(head.cost) : Infinity;
      const next = Math.min(end, ready, ...this.queue.map((one) => one.deadline));
      if (this.capacity !== Infinity) this.tokens = Math.min(this.size, this.tokens + this.rate * (next - this.time));
      this.time = next;
      this.drain();
      this.dismiss((one) => one.deadline <= this.time, 'timeout');
      if (next === end && !this.queue.some((one) => one.deadline <= end)) return;
    }
  }
}

const quarters = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: max * 4 }).map((n) => n / 4);
const capacities = fc.constantFrom(1, 2, 4, 8, 16, 0.5, Infinity);
const periods = fc.constantFrom(0.5, 1, 2, 4);
const concurrencies = fc.constantFrom(0, 1, 2, 3, 8);
const bursts = fc.constantFrom(undefined, 1, 2, 4, 8);

type Operation =
  | { do: 'acquire' | 'run'; cost: number; timeout: number; signal: number | undefined }
  | { do: 'tryAcquire'; cost: number }
  | { do: 'release'; which: number }
  | { do: 'settle'; which: number; cost: number }
  | { do: 'abort'; signal: number }
  | { do: 'pause'; seconds: number }
  | { do: 'resume' | 'close' }
  | { do: 'configure'; limits: Limits }
  | { do: 'advance'; seconds: number };

const which = fc.nat(1000);
const entry = fc.record({
  do: fc.constantFrom('acquire' as const, 'run' as const),
  cost: quarters(6),
  timeout: fc.oneof({ weight: 3, arbitrary: fc.constant(Infinity) }, quarters(8)),
  signal: fc.option(fc.nat(2), { nil: undefined, freq: 2 }),
});
const anyOperation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 12, arbitrary: entry },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tryAcquire' as const), cost: quarters(4) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('release' as const), which }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('settle' as const), which, cost: quarters(8) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('abort' as const), signal: fc.nat(2) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('pause' as const), seconds: fc.oneof(quarters(4), fc.constant(Infinity)) }) },
  { weight: 2, arbitrary: fc.constant({ do: 'resume' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'close' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('configure' as const),
      limits: fc.record({ capacity: capacities, concurrency: concurrencies, period: periods, burst: bursts }, { requiredKeys: [] }),
    }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('advance' as const), seconds: quarters(4).map((n) => n / 2) }) },
);

const history = fc.record({
  capacity: capacities,
  concurrency: concurrencies,
  period: periods,
  burst: bursts,
  maxQueue: fc.constantFrom(Infinity, Infinity, 0, 2, 5),
  operations: fc.array(anyOperation, { maxLength: 60, size: 'max' }),
});

const outcomeOf = (error: unknown, aborts: readonly unknown[]): Outcome => {
  if (aborts.includes(error)) return 'aborted';
  if (error instanceof ThrottleTimeoutError) return 'timeout';
  if (error instanceof QueueFullError) return 'full';
  if (error instanceof ThrottleClosedError) return 'closed';
  if (error instanceof RangeError) return 'oversize';
  throw error;
};

/** Promise 2, from the ledger of the grants alone: every pair of instants, each cost as settled. */
const expectWithinRate = (model: Reference): void => {
  for (let first = 0; first < model.grants.length; first++) {
    let sum = 0;
    for (let last = first; last < model.grants.length; last++) {
      const [from, to] = [model.grants[first] as Held, model.grants[last] as Held];
      sum += Math.min(to.cost, model.asked.get(to.id) as number);
      const eras = model.eras.filter((era, index) => era.from <= to.at && (model.eras[index + 1]?.from ?? Infinity) >= from.at);
      let bound = Math.max(...eras.map((era) => (era.rate === Infinity ? Infinity : era.burst)));
      eras.forEach((era, index) => {
        const span = Math.min(to.at, eras[index + 1]?.from ?? Infinity) - Math.max(from.at, era.from);
        if (span > 0) bound += era.rate * span;
      });
      expect(sum, `cost granted in [${from.at}, ${to.at}]`).toBeLessThanOrEqual(bound + 1e-9);
    }
  }
};

describe('a random history ends as the reference says, after every step', () => {
  test('acquire, run, tryAcquire, release, settle, abort, timeout, pause, resume, configure, close, clock steps', async () => {
    const seen = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(history, async ({ capacity, concurrency, period, burst, maxQueue, operations }) => {
        const clock = new ManualClock();
        const throttle = new Throttle(capacity, concurrency, period, { burst, maxQueue, clock });
        const model = new Reference(capacity, concurrency, period, burst, maxQueue);
        const signals = [0, 1, 2].map(() => new AbortController());
        const aborts: unknown[] = [];
        const log: [number, Outcome, number][] = [];
        const permits = new Map<number, Permit>();
        /** Ends the job of a `run`. */
        const finish = new Map<number, () => void>();
        let serial = 0;

        for (const operation of operations) {
          const id = serial++;
          const held = 'which' in operation && model.grants.length > 0 ? model.grants[operation.which % model.grants.length] : undefined;
          switch (operation.do) {
            case 'acquire':
            case 'run': {
              const { cost, timeout, signal } = operation;
              const controller = signal === undefined ? undefined : (signals[signal] as AbortController);
              const options = { timeout, signal: controller?.signal };
              model.asked.set(id, cost);
              model.acquire(id, cost, timeout, signal);
              const granted = (permit: Permit): void => {
                permits.set(id, permit);
                log.push([id, 'granted', permit.waited]);
              };
              const refused = (error: unknown): void => void log.push([id, outcomeOf(error, aborts), 0]);
              if (operation.do === 'acquire') throttle.acquire(cost, options).then(granted, refused);
              else {
                const job = (permit: Permit): Promise<void> => {
                  granted(permit);
                  return new Promise((resolve) => finish.set(id, resolve));
                };
                throttle.run(job, cost, options).catch(refused);
              }
              break;
            }
            case 'tryAcquire': {
              const { cost } = operation;
              if (cost > model.size) {
                expect(() => throttle.tryAcquire(cost)).toThrow(RangeError);
                break;
              }
              model.asked.set(id, cost);
              model.tryAcquire(id, cost);
              const permit = throttle.tryAcquire(cost);
              if (permit !== undefined) {
                permits.set(id, permit);
                log.push([id, 'granted', 0]);
              }
              break;
            }
            case 'release':
              if (held === undefined) break;
              model.release(held);
              if (finish.has(held.id)) finish.get(held.id)?.();
              else permits.get(held.id)?.release();
              break;
            case 'settle':
              if (held === undefined) break;
              model.settle(held, operation.cost);
              permits.get(held.id)?.settle(operation.cost);
              break;
            case 'abort': {
              const reason = new Error(`abort ${id}`);
              aborts.push(reason);
              signals[operation.signal]?.abort(reason);
              model.dismiss((one) => one.signal === operation.signal, 'aborted');
              signals[operation.signal] = new AbortController();
              break;
            }
            case 'pause':
              throttle.pause(operation.seconds);
              if (operation.seconds > 0) model.pausedUntil = Math.max(model.pausedUntil, model.time + operation.seconds);
              break;
            case 'resume':
              throttle.resume();
              model.pausedUntil = 0;
              model.drain();
              break;
            case 'configure':
              throttle.configure(operation.limits);
              model.configure(operation.limits);
              break;
            case 'close':
              throttle.close();
              model.closed = true;
              model.dismiss(() => true, 'closed');
              break;
            case 'advance':
              model.advance(operation.seconds);
              await clock.advance(operation.seconds);
              break;
          }
          await clock.advance(0);
          seen.set(operation.do, (seen.get(operation.do) ?? 0) + 1);

          // The same calls were decided the same way after the same wait, and the grants came in the same order.
          const grantsOf = (entries: typeof log): typeof log => entries.filter(([, outcome]) => outcome === 'granted');
          expect(grantsOf(log)).toEqual(grantsOf(model.log));
          expect(log.toSorted(([a], [b]) => a - b)).toEqual(model.log.toSorted(([a], [b]) => a - b));
          for (const [, outcome] of log) seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
          // FIFO: ids count the calls.
          const order = grantsOf(log).map(([grantee]) => grantee);
          expect(order).toEqual(order.toSorted((a, b) => a - b));

          expect(throttle.active).toBe(model.active);
          expect(throttle.waiting).toBe(model.queue.length);
          expect(throttle.closed).toBe(model.closed);
          expect(throttle.pausedFor).toBe(Math.max(0, model.pausedUntil - model.time));
          expect(throttle.tokens).toBe(model.capacity === Infinity ? model.size : model.tokens);
          expect(throttle.estimateWait(0)).toBe(model.wait(model.queue.reduce((sum, one) => sum + one.cost, 0)));
          // One timer for the head if time alone can free it, one for each deadline, none else.
          const head = model.queue[0];
          const timed = head !== undefined && model.slotFree && model.wait(head.cost) < Infinity ? 1 : 0;
          expect(clock.pending).toBe(timed + model.queue.filter((one) => one.deadline < Infinity).length);
          // One listener for each signal that somebody waits on.
          signals.forEach(({ signal }, index) => {
            expect(getEventListeners(signal, 'abort').length).toBe(model.queue.some((one) => one.signal === index) ? 1 : 0);
          });
        }
        expectWithinRate(model);

        // Whatever happened, it comes to rest: everyone leaves, and nothing is left behind.
        throttle.close();
        for (const end of finish.values()) end();
        for (const permit of permits.values()) permit.release();
        await throttle.idle();
        expect([throttle.active, throttle.waiting, clock.pending]).toEqual([0, 0, 0]);
      }),
      { numRuns: 1500 },
    );
    // A history that never grants, refuses or aborts proves nothing.
    for (const what of ['granted', 'timeout', 'full', 'closed', 'aborted', 'oversize', 'settle', 'configure', 'pause', 'tryAcquire']) {
      expect(seen.get(what), what).toBeGreaterThan(100);
    }
  });
});

describe('a clock that misbehaves grants nothing extra and holds nobody for ever', () => {
  const costs = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 30 });

  /** The bound, by true time. */
  const expectBound = (grants: readonly { at: number; cost: number }[], burst: number, rate: number): void => {
    grants.forEach((first, from) => {
      let sum = 0;
      for (const { at, cost } of grants.slice(from)) {
        sum += cost;
        expect(sum).toBeLessThanOrEqual(burst + rate * (at - first.at) + 1e-6);
      }
    });
  };

  test('stepping back, by any amount, at any time', async () => {
    await fc.assert(
      fc.asyncProperty(costs, fc.array(fc.record({ after: fc.double({ min: 0, max: 2, noNaN: true }), back: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 5000, noNaN: true })) }), { maxLength: 10 }), async (asked, steps) => {
        const clock = new SkewedClock();
        const throttle = new Throttle(4, 0, 1, { burst: 5, clock });
        const grants: { at: number; cost: number }[] = [];
        const jobs = asked.map((cost) => throttle.run(() => void grants.push({ at: clock.passing.now(), cost }), cost));
        for (const { after, back } of steps) {
          await clock.passing.advance(after);
          clock.skew -= back;
          if (throttle.tryAcquire(1) !== undefined) grants.push({ at: clock.passing.now(), cost: 1 });
        }
        // All that was asked for, at the rate of 4, and nothing later than that.
        await clock.passing.advance((asked.reduce((sum, cost) => sum + cost, 0) + steps.length) / 4);
        await Promise.all(jobs);
        expectBound(grants, 5, 4);
      }),
    );
  });

  test('timers that fire early: no grant before its time, a handful of timers, no spin', async () => {
    await fc.assert(
      fc.asyncProperty(costs, fc.double({ min: 0.5, max: 0.999, noNaN: true }), async (asked, haste) => {
        const clock = new SkewedClock();
        clock.fires = (seconds) => seconds * haste;
        const throttle = new Throttle(4, 0, 1, { burst: 5, clock });
        const grants: { at: number; cost: number }[] = [];
        const jobs = asked.map((cost) => throttle.run(() => void grants.push({ at: clock.passing.now(), cost }), cost));
        await clock.passing.advance(asked.reduce((sum, cost) => sum + cost, 0) / 4 + 1);
        await Promise.all(jobs);
        expectBound(grants, 5, 4);
        // Each attempt is half of what is left at the most, down to the grain of the numbers.
        expect(clock.delays.length).toBeLessThanOrEqual(asked.length * 64);
      }),
    );
  });

  test('standing still: nothing is granted, and the timer is set again for the whole delay', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(4, 0, 1, { clock });
    throttle.tryAcquire(4);
    const waiting = throttle.acquire(1);
    const frozen = vi.spyOn(clock, 'now').mockReturnValue(clock.now());
    await clock.passing.advance(10);
    expect(throttle.waiting).toBe(1);
    expect(clock.delays.length).toBe(41);
    frozen.mockRestore();
    await clock.passing.advance(0.25);
    expect(throttle.waiting).toBe(0);
    (await waiting).release();
  });
});
