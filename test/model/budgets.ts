/**
 * A model of a throttle with named rates, weighted slots, a `ttl` and corrections. It computes every rate by a replay
 * of its own log (replay.ts), and it advances time from event to event. All numbers are sums of powers of two, so that
 * the model and a throttle compute equal results.
 */
import type { Cost, Rate } from 'headgate';
import { type BucketReplay, type LoggedGrant, replayOf, type WindowReplay } from './replay.js';

/** The cost of each rate, the main rate first. */
type Costs = readonly number[];

export interface ModelWaiter {
  readonly id: number;
  readonly costs: Costs;
  readonly slots: number;
}

export interface ModelPermit extends ModelWaiter {
  readonly at: number;
  /** The entry of this permit in the log of each rate. */
  readonly entries: readonly LoggedGrant[];
  readonly settled: boolean[];
  released: boolean;
  expired: boolean;
}

export class BudgetModel {
  time = 0;
  queue: ModelWaiter[] = [];
  readonly permits: ModelPermit[] = [];
  readonly refused: number[] = [];
  concurrency: number;
  readonly #rates: readonly Rate[];
  readonly #replays: readonly (BucketReplay | WindowReplay)[];
  readonly #ttl: number;

  constructor(rates: readonly Rate[], concurrency: number, ttl: number) {
    this.#rates = rates;
    this.#replays = rates.map((rate) => replayOf(rate));
    this.concurrency = concurrency;
    this.#ttl = ttl;
  }

  get active(): number {
    return this.permits.reduce((sum, { released, slots }) => (released ? sum : sum + slots), 0);
  }

  /** The level of a rate; the main rate without a name. */
  level(name?: string): number {
    const levels = this.#replays.flatMap((replay, index) =>
      this.#rates[index]?.name === name ? [replay.level(this.time)] : [],
    );
    return Math.min(...levels);
  }

  /** What each rate is charged. `absent` stands for a rate that a record does not mention. */
  costsOf(cost: Cost, absent: { main: number; named: number } = { main: 1, named: 0 }): number[] {
    return this.#rates.map(({ name }) => {
      if (typeof cost === 'number') return cost;
      return name === undefined ? (cost['cost'] ?? absent.main) : (cost[name] ?? absent.named);
    });
  }

  /** Whether every rate can ever grant its cost, and the concurrency the slots. */
  isPossible(costs: Costs, slots: number): boolean {
    return (
      slots <= this.concurrency && costs.every((cost, index) => cost <= (this.#replays[index] as BucketReplay).size)
    );
  }

  /** Seconds until all rates permit the costs. */
  wait(costs: Costs): number {
    return (
      Math.max(...this.#replays.map((replay, index) => replay.opensAt(this.time, costs[index] as number))) - this.time
    );
  }

  /** Seconds until all rates permit the costs of all waiters and `costs`, or less. */
  estimate(costs: Costs): number {
    return this.wait(
      costs.map((cost, index) => this.queue.reduce((sum, waiter) => sum + (waiter.costs[index] as number), cost)),
    );
  }

  #fits({ costs, slots }: ModelWaiter): boolean {
    return this.active + slots <= this.concurrency && this.wait(costs) === 0;
  }

  /** Grants the call, or adds it to the queue. */
  acquire(id: number, cost: Cost, slots: number): void {
    const costs = this.costsOf(cost);
    if (!this.isPossible(costs, slots)) this.refused.push(id);
    else this.queue.push({ id, costs, slots });
    this.#drain();
  }

  tryAcquire(id: number, cost: Cost): void {
    const costs = this.costsOf(cost);
    if (this.queue.length === 0 && this.isPossible(costs, 1) && this.#fits({ id, costs, slots: 1 }))
      this.#grant({ id, costs, slots: 1 });
    else this.refused.push(id);
  }

  #grant(waiter: ModelWaiter): void {
    const entries = waiter.costs.map((cost) => ({ at: this.time, cost }));
    for (const [index, entry] of entries.entries()) this.#replays[index]?.add(entry);
    this.permits.push({ ...waiter, at: this.time, entries, settled: [], released: false, expired: false });
  }

  #drain(): void {
    for (let head = this.queue[0]; head !== undefined && this.#fits(head); head = this.queue[0]) {
      this.queue.shift();
      this.#grant(head);
    }
  }

  release(permit: ModelPermit): void {
    permit.released = true;
    this.#drain();
  }

  settle(permit: ModelPermit, cost: Cost): void {
    const costs = this.costsOf(cost, { main: NaN, named: NaN });
    for (const [index, value] of costs.entries()) {
      if (Number.isNaN(value) || permit.settled[index] === true) continue;
      permit.settled[index] = true;
      const entry = permit.entries[index] as LoggedGrant;
      entry.cost = value;
      this.#replays[index]?.settled(entry);
    }
    this.#drain();
  }

  correct(levels: Cost, onlyLower: boolean): void {
    for (const [index, { name }] of this.#rates.entries()) {
      const key = name ?? 'cost';
      const level = typeof levels === 'object' ? levels[key] : name === undefined ? levels : undefined;
      const replay = this.#replays[index] as BucketReplay;
      if (level === undefined || (onlyLower && level >= replay.level(this.time))) continue;
      replay.setLevel(this.time, level);
    }
    this.#drain();
  }

  setConcurrency(concurrency: number): void {
    this.concurrency = concurrency;
    for (const { id, slots } of this.queue) if (slots > concurrency) this.refused.push(id);
    this.queue = this.queue.filter(({ slots }) => slots <= concurrency);
    this.#drain();
  }

  advance(seconds: number): void {
    const end = this.time + seconds;
    for (;;) {
      const head = this.queue[0];
      const hasSlots = head !== undefined && this.active + head.slots <= this.concurrency;
      const held = this.permits.filter(({ released }) => !released);
      const next = Math.min(
        end,
        hasSlots ? this.time + this.wait(head.costs) : Infinity,
        ...held.map(({ at }) => at + this.#ttl),
      );
      this.time = next;
      for (const permit of held.filter(({ at }) => at + this.#ttl <= next)) permit.released = permit.expired = true;
      this.#drain();
      if (next === end && !this.permits.some(({ released, at }) => !released && at + this.#ttl <= end)) return;
    }
  }
}
