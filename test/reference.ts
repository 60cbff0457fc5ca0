/**
 * A reference that shares nothing with the gates but the design: it walks through time event by event with plain
 * arrays. All numbers are sums of powers of two, so that both compute exactly the same. And the random histories that
 * are played to it and to a gate.
 */
import fc from 'fast-check';
import { type Limits, QueueFullError, ThrottleClosedError, ThrottleTimeoutError } from 'headgate';
import { expect } from 'vitest';

export type Outcome = 'granted' | 'timeout' | 'full' | 'closed' | 'aborted' | 'oversize';

export interface Waiting {
  id: number;
  cost: number;
  since: number;
  deadline: number;
  signal: number | undefined;
}

export interface Held {
  id: number;
  at: number;
  /** The cost as settled. */
  cost: number;
  released: boolean;
  /** The lowest number from 1 that nobody else held at the grant. */
  slot: number;
  settled: boolean;
}

/** A span of time with the same limits. */
export interface Era {
  from: number;
  burst: number;
  rate: number;
}

export class Reference {
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

  /** The concurrency by which a call goes. */
  limitOf(_id: number): number {
    return this.concurrency;
  }

  slotFree(id: number): boolean {
    const limit = this.limitOf(id);
    return limit === 0 || this.active < limit;
  }

  get nextSlot(): number {
    const taken = new Set(this.grants.filter(({ released }) => !released).map(({ slot }) => slot));
    let slot = 1;
    while (taken.has(slot)) slot++;
    return slot;
  }

  /** How long until `cost` tokens could be there, counting from the end of the pause. */
  wait(cost: number): number {
    const pause = Math.max(0, this.pausedUntil - this.time);
    if (pause === Infinity) return Infinity;
    const level = this.capacity === Infinity ? Infinity : Math.min(this.size, this.tokens + this.rate * pause);
    return cost <= level ? pause : pause + (cost - level) / this.rate;
  }

  fits(id: number, cost: number): boolean {
    return this.slotFree(id) && this.pausedUntil <= this.time && (this.capacity === Infinity || this.tokens >= cost);
  }

  take(id: number, cost: number, waited: number): void {
    this.active++;
    if (this.capacity !== Infinity) this.tokens -= cost;
    this.grants.push({ id, at: this.time, cost, released: false, slot: this.nextSlot, settled: false });
    this.log.push([id, 'granted', waited]);
  }

  drain(): void {
    for (let head = this.queue[0]; head !== undefined && this.fits(head.id, head.cost); head = this.queue[0]) {
      this.queue.shift();
      this.take(head.id, head.cost, this.time - head.since);
    }
  }

  acquire(id: number, cost: number, timeout: number, signal: number | undefined): void {
    if (cost > this.size) this.log.push([id, 'oversize', 0]);
    else if (this.closed) this.log.push([id, 'closed', 0]);
    else if (this.queue.length === 0 && this.fits(id, cost)) this.take(id, cost, 0);
    else if (timeout === 0 || timeout < this.wait(this.queue.reduce((sum, one) => sum + one.cost, cost))) this.log.push([id, 'timeout', 0]);
    else if (this.queue.length >= this.maxQueue) this.log.push([id, 'full', 0]);
    else this.queue.push({ id, cost, since: this.time, deadline: this.time + timeout, signal });
  }

  tryAcquire(id: number, cost: number): void {
    if (!this.closed && this.queue.length === 0 && this.fits(id, cost)) this.take(id, cost, 0);
  }

  /** One by one: whoever is late first may leave room for the next, whose last instant this is. */
  expire(): void {
    for (let late: Waiting | undefined; (late = this.queue.find((one) => one.deadline <= this.time)) !== undefined; ) this.dismiss((one) => one === late, 'timeout');
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
  readonly asked: Map<number, number> = new Map();

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
      const ready = head !== undefined && this.slotFree(head.id) ? this.time + this.wait(head.cost) : Infinity;
      const next = Math.min(end, ready, ...this.queue.map((one) => one.deadline));
      if (this.capacity !== Infinity) this.tokens = Math.min(this.size, this.tokens + this.rate * (next - this.time));
      this.time = next;
      this.drain();
      this.expire();
      if (next === end && !this.queue.some((one) => one.deadline <= end)) return;
    }
  }
}

export const quarters = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: max * 4 }).map((n) => n / 4);
export const capacities: fc.Arbitrary<number> = fc.constantFrom(1, 2, 4, 8, 16, 0.5, Infinity);
export const periods: fc.Arbitrary<number> = fc.constantFrom(0.5, 1, 2, 4);
export const concurrencies: fc.Arbitrary<number> = fc.constantFrom(0, 1, 2, 3, 8);
export const bursts: fc.Arbitrary<number | undefined> = fc.constantFrom(undefined, 1, 2, 4, 8);

export type Operation =
  | { do: 'acquire' | 'run'; cost: number; timeout: number; signal: number | undefined }
  | { do: 'tryAcquire'; cost: number }
  | { do: 'release'; which: number }
  | { do: 'settle'; which: number; cost: number }
  | { do: 'abort'; signal: number }
  | { do: 'pause'; seconds: number }
  | { do: 'resume' | 'close' }
  | { do: 'configure'; limits: Limits }
  | { do: 'advance'; seconds: number };

const which = fc.nat(1_000);
const entry = fc.record({
  do: fc.constantFrom('acquire' as const, 'run' as const),
  cost: quarters(6),
  timeout: fc.oneof({ weight: 3, arbitrary: fc.constant(Infinity) }, quarters(8)),
  signal: fc.option(fc.nat(2), { nil: undefined, freq: 2 }),
});
export const anyOperation: fc.Arbitrary<Operation> = fc.oneof(
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

export const outcomeOf = (error: unknown, aborts: readonly unknown[]): Outcome => {
  if (aborts.includes(error)) return 'aborted';
  if (error instanceof ThrottleTimeoutError) return 'timeout';
  if (error instanceof QueueFullError) return 'full';
  if (error instanceof ThrottleClosedError) return 'closed';
  if (error instanceof RangeError) return 'oversize';
  throw error;
};

/** Promise 2, from the ledger of the grants alone: every pair of instants, each cost as settled. */
export const expectWithinRate = (model: Reference): void => {
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
