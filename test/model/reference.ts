/**
 * A model of a gate. It shares no code with the gates. It advances time from event to event and stores waiters and
 * grants in plain arrays. It computes every rate by a replay of all grants at their true costs (replay.ts). All numbers
 * are sums of powers of two, so that the model and a gate compute equal results.
 */
import {
  type Limits,
  QueueClearedError,
  QueueFullError,
  type Rate,
  ThrottleClosedError,
  ThrottleTimeoutError,
} from 'headgate';
import { expect } from 'vitest';
import type { Operation } from './operations.js';
import { type RateReplay, replayOf, WindowReplay } from './replay.js';

export {
  anyOperation,
  backlogOperation,
  bursts,
  capacities,
  concurrencies,
  longHistory,
  type Operation,
  periods,
  quarters,
  rates,
  slowBuckets,
} from './operations.js';

export type Outcome = 'granted' | 'timeout' | 'full' | 'closed' | 'cleared' | 'aborted' | 'oversize';

export interface Waiting {
  id: number;
  cost: number;
  since: number;
  deadline: number;
  signal: number | undefined;
  /** Whether the call is a `run`. */
  run: boolean;
}

export interface Held {
  id: number;
  readonly at: number;
  /** The cost as settled. */
  cost: number;
  released: boolean;
  /** The lowest number, from 1, that no active permit had at the grant. */
  slot: number;
  settled: boolean;
  readonly signal: number | undefined;
  readonly run: boolean;
}

/** A span of time in which the limits of the first rate stay the same. */
export interface Era {
  from: number;
  burst: number;
  rate: number;
}

export interface ReferenceOptions extends Pick<Rate, 'window' | 'margin'> {
  also?: readonly Rate[];
  /** Creates the accounting of a rate. Default: the accounting of the definition. */
  replay?: (rate: Rate) => RateReplay;
}

/** The number of the latest limit changes across which a gate settles exactly. */
export const KEPT_CHANGES = 6;

/** Sums of instants with a finer resolution have rounding errors, so the tests do not compare them. */
const GRAIN = 2 ** 32;

export class Reference {
  time = 0;
  active = 0;
  pausedUntil = 0;
  /** Whether new calls are refused: after `drain` or `close`. Only `close` also dismisses the waiters. */
  closed = false;
  queue: Waiting[] = [];
  grants: Held[] = [];
  /** The outcome of each call, in the order of the decisions. */
  log: [id: number, outcome: Outcome, waited: number][] = [];
  eras: Era[];
  capacity: number;
  concurrency: number;
  period: number;
  burst: number | undefined;
  readonly maxQueue: number;
  /** The rate that `configure` changes, then the rates of `also`. */
  readonly replays: readonly RateReplay[];
  readonly first: Rate;
  /** The number of occurrences of each special case. */
  readonly seen: Map<string, number> = new Map();
  /** The requested cost of each granted call. */
  readonly requested: Map<number, number> = new Map();
  /** Permits granted since the last turn of the event loop. The functions of their `run` calls have not started yet. */
  #grantedNow: Held[] = [];
  #youngestSettled = -1;
  #configuredAt = -Infinity;
  /** The number of limit changes before each grant. */
  readonly #configuredBefore: Map<Held, number> = new Map();

  constructor(
    capacity: number,
    concurrency: number,
    period: number,
    burst: number | undefined,
    maxQueue: number,
    { window, margin, also = [], replay = replayOf }: ReferenceOptions = {},
  ) {
    this.capacity = capacity;
    this.concurrency = concurrency;
    this.period = period;
    this.burst = burst;
    this.maxQueue = maxQueue;
    this.first = { capacity, period, burst, window, margin };
    this.replays = [this.first, ...also].map((rate) => replay(rate));
    this.eras = [this.#era];
  }

  /** The largest cost that every rate can grant. */
  get size(): number {
    return Math.min(...this.replays.map(({ size }) => size));
  }

  /** The present limits of the first rate. */
  get #era(): Era {
    return { from: this.time, burst: (this.replays[0] as RateReplay).size, rate: this.capacity / this.period };
  }

  /** The available tokens. With several rates: the smallest level. */
  get tokens(): number {
    const limited = this.replays.filter(({ unlimited }) => !unlimited);
    return limited.length === 0 ? this.size : Math.min(...limited.map((replay) => replay.level(this.time)));
  }

  /** Whether all instants so far are free of rounding errors. */
  get exact(): boolean {
    return Number.isInteger(this.time * GRAIN);
  }

  /** The concurrency that applies to a call. */
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

  /** Seconds until pause and tokens permit `cost`, if no other call is granted. */
  wait(cost: number): number {
    const from = Math.max(this.time, this.pausedUntil);
    return from === Infinity
      ? Infinity
      : Math.max(...this.replays.map((replay) => replay.opensAt(from, cost))) - this.time;
  }

  /** Seconds until pause and tokens permit all waiters and then `cost`, each as early as possible. */
  estimate(cost: number): number {
    const total = this.queue.reduce((sum, one) => sum + one.cost, cost);
    // A single bucket does not overflow while the head waits, so one wait for the total cost is equally long.
    if (this.replays.length === 1 && this.first.window === undefined) return this.wait(total);
    let at = Math.max(this.time, this.pausedUntil);
    if (at === Infinity) return Infinity;
    const costs = [...this.queue.map((one) => one.cost), cost];
    for (const next of costs) {
      at = Math.max(...this.replays.map((replay) => replay.opensAt(at, next)));
      for (const replay of this.replays) replay.add({ at, cost: next });
    }
    for (const replay of this.replays) for (const _ of costs) replay.removeLatest();
    return at - this.time;
  }

  /** Whether `estimateWait(cost)` must be exact. Otherwise it may be any lower bound. */
  estimateIsExact(cost: number): boolean {
    const one = this.replays.length === 1 && this.first.window === undefined;
    return one || this.queue.reduce((sum, waiting) => sum + waiting.cost, cost) <= this.size;
  }

  fits(id: number, cost: number): boolean {
    return this.slotFree(id) && this.pausedUntil <= this.time && this.wait(cost) === 0;
  }

  #take({ id, cost, signal, run }: Pick<Waiting, 'id' | 'cost' | 'signal' | 'run'>, waited: number): void {
    this.active++;
    const held: Held = { id, at: this.time, cost, released: false, slot: this.nextSlot, settled: false, signal, run };
    for (const replay of this.replays) replay.add(held);
    this.grants.push(held);
    this.#configuredBefore.set(held, this.eras.length);
    this.#grantedNow.push(held);
    this.requested.set(id, cost);
    if (cost === 0 && this.tokens < 0) this.#count('a cost of 0 granted in debt');
    this.log.push([id, 'granted', waited]);
  }

  drain(): void {
    for (let head = this.queue[0]; head !== undefined && this.fits(head.id, head.cost); head = this.queue[0]) {
      this.queue.shift();
      this.#take(head, this.time - head.since);
    }
  }

  /** @param estimate The estimate of the gate, in cases where any lower bound is correct. */
  acquire(id: number, cost: number, timeout: number, signal: number | undefined, run = false, estimate?: number): void {
    if (cost > this.size) this.log.push([id, 'oversize', 0]);
    else if (this.closed) this.log.push([id, 'closed', 0]);
    else if (this.queue.length === 0 && this.fits(id, cost)) this.#take({ id, cost, signal, run }, 0);
    else if (timeout === 0 || timeout < (estimate ?? this.estimate(cost))) this.log.push([id, 'timeout', 0]);
    else if (this.queue.length >= this.maxQueue) this.log.push([id, 'full', 0]);
    else this.queue.push({ id, cost, since: this.time, deadline: this.time + timeout, signal, run });
  }

  tryAcquire(id: number, cost: number): void {
    if (!this.closed && this.queue.length === 0 && this.fits(id, cost))
      this.#take({ id, cost, signal: undefined, run: false }, 0);
  }

  /** Refuses late waiters one by one. After each refusal, the next waiter may fit at its very deadline. */
  expire(): void {
    for (let late: Waiting | undefined; (late = this.queue.find((one) => one.deadline <= this.time)) !== undefined;)
      this.dismiss((one) => one === late, 'timeout');
  }

  dismiss(leaves: (one: Waiting) => boolean, outcome: Outcome): void {
    const gone = this.queue.filter(leaves);
    this.queue = this.queue.filter((one) => !leaves(one));
    for (const one of gone) this.log.push([one.id, outcome, 0]);
    this.drain();
  }

  /** Whether no permit is held and no call waits. */
  get isIdle(): boolean {
    return this.active === 0 && this.queue.length === 0;
  }

  /** Aborts a signal: refuses its waiters, and each granted `run` whose function has not started. */
  abort(signal: number): void {
    this.dismiss((one) => one.signal === signal, 'aborted');
    for (const held of this.#grantedNow.filter((one) => one.run && one.signal === signal && !one.released)) {
      this.log = this.log.filter(([id]) => id !== held.id);
      this.log.push([held.id, 'aborted', 0]);
      this.#count('run aborted before its function started');
      // The grant is undone: its true cost is 0.
      this.#replaceCost(held, 0);
      this.release(held);
    }
  }

  /** Turns the event loop: the functions of granted `run` calls start. */
  turn(): void {
    this.#grantedNow = [];
  }

  release(held: Held): void {
    if (held.released) return;
    held.released = true;
    this.active--;
    this.drain();
  }

  settle(held: Held, cost: number): void {
    if (held.settled) return;
    const levels = (): number[] => this.replays.map((replay) => replay.level(this.time));
    const [before, difference] = [levels(), held.cost - cost];
    this.#replaceCost(held, cost);
    this.#countSettlement(
      held,
      difference,
      levels().map((level, index) => level - (before[index] as number)),
    );
    this.drain();
  }

  #replaceCost(held: Held, cost: number): void {
    held.settled = true;
    held.cost = cost;
    for (const replay of this.replays) replay.settled(held, this.time);
  }

  #count(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }

  /** Counts the special cases of a settlement by `difference` that has raised the levels by `gains`. */
  #countSettlement(held: Held, difference: number, gains: readonly number[]): void {
    if (held.released) this.#count('settled after release');
    if (this.#configuredAt > held.at) this.#count('settled after configure');
    if (this.grants.indexOf(held) < this.#youngestSettled) this.#count('settled after a younger one');
    this.#youngestSettled = Math.max(this.#youngestSettled, this.grants.indexOf(held));
    if (difference === 0) return;
    for (const [index, replay] of this.replays.entries()) {
      if (replay.unlimited) continue;
      const share = (gains[index] as number) / difference;
      const extent = share === 0 ? 'without effect' : share === 1 ? 'in full' : 'in part';
      this.#count(`${replay instanceof WindowReplay ? 'window: ' : ''}${difference > 0 ? 'refund' : 'debt'} ${extent}`);
    }
  }

  configure(limits: Limits): void {
    const { capacity = this.capacity, concurrency = this.concurrency, period = this.period } = limits;
    Object.assign(this, { capacity, concurrency, period });
    // An explicit `undefined` makes the burst follow the capacity. A burst that is left out stays.
    if ('burst' in limits) this.burst = limits.burst;
    this.replays[0]?.configure(this.time, { ...this.first, capacity, period, burst: this.burst });
    this.#configuredAt = this.time;
    this.eras.push(this.#era);
    this.dismiss((one) => one.cost > this.size, 'oversize');
  }

  /** Resets all rates to full. Earlier grants no longer count. */
  forget(): void {
    for (const replay of this.replays) replay.forget(this.time);
  }

  /** Whether a gate may charge the debt of `held` in full, because of too many limit changes since the grant. */
  mayChargeInFull(held: Held, cost: number): boolean {
    return cost > held.cost && this.eras.length - (this.#configuredBefore.get(held) ?? 0) > KEPT_CHANGES;
  }

  /** The permit of an operation: usually an unsettled permit, so that settlements of old permits are common. */
  pick(operation: Operation): Held | undefined {
    if (!('which' in operation)) return undefined;
    const { do: kind, which } = operation;
    const open = kind === 'settle' && which % 4 > 0 ? this.grants.filter(({ settled }) => !settled) : [];
    const among = open.length > 0 ? open : this.grants;
    return among[which % Math.max(1, among.length)];
  }

  /** Advances time from event to event. */
  advance(seconds: number): void {
    const end = this.time + seconds;
    for (;;) {
      const head = this.queue[0];
      const ready = head !== undefined && this.slotFree(head.id) ? this.time + this.wait(head.cost) : Infinity;
      const next = Math.min(end, ready, ...this.queue.map((one) => one.deadline));
      this.time = next;
      this.drain();
      this.expire();
      if (next === end && !this.queue.some((one) => one.deadline <= end)) return;
    }
  }
}

export const outcomeOf = (error: unknown, aborts: readonly unknown[]): Outcome => {
  if (aborts.includes(error)) return 'aborted';
  if (error instanceof ThrottleTimeoutError) return 'timeout';
  if (error instanceof QueueFullError) return 'full';
  if (error instanceof ThrottleClosedError) return 'closed';
  if (error instanceof QueueClearedError) return 'cleared';
  if (error instanceof RangeError) return 'oversize';
  throw error;
};

/** Promise 2 for a bucket, computed from the grants alone: every pair of instants, with settled costs. */
export const expectWithinRate = (model: Reference): void => {
  for (let first = 0; first < model.grants.length; first++) {
    let sum = 0;
    for (let last = first; last < model.grants.length; last++) {
      const [from, to] = [model.grants[first] as Held, model.grants[last] as Held];
      sum += Math.min(to.cost, model.requested.get(to.id) as number);
      const eras = model.eras.filter(
        (era, index) => era.from <= to.at && (model.eras[index + 1]?.from ?? Infinity) >= from.at,
      );
      let bound = Math.max(...eras.map((era) => (era.rate === Infinity ? Infinity : era.burst)));
      eras.forEach((era, index) => {
        const span = Math.min(to.at, eras[index + 1]?.from ?? Infinity) - Math.max(from.at, era.from);
        if (span > 0) bound += era.rate * span;
      });
      if (sum > bound + 1e-9) expect.fail(`${sum} granted in [${from.at}, ${to.at}], where ${bound} is allowed`);
    }
  }
};
