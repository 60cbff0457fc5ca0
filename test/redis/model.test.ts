/**
 * Random histories of two objects on one key, as in two processes, compared with the reference model of the core
 * (reference.ts).
 *
 * The test moves one clock, in whole microseconds, for the server and for both processes. A second of a history is 2^20
 * microseconds. So all rates are powers of two, and every instant, slot and token level is compared for equality.
 */
import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { type Limits, type Rate } from 'headgate';
import { type RedisPermit, type RedisThrottle } from 'headgate/redis';
import { describe, expect, test } from 'vitest';
import { keyNames } from '../../src/redis/key-names.js';
import type { Lease } from '../../src/redis/lease.js';
import { BucketReplay, type LoggedGrant } from '../model/replay.js';
import {
  anyOperation,
  bursts,
  capacities,
  concurrencies,
  expectWithinRate,
  type Held,
  type Operation,
  type Outcome,
  outcomeOf,
  periods,
  Reference,
  type Waiting,
} from '../model/reference.js';
import { client, HEAD_START, Microseconds, openOn, ProcessClient, settler, UNIT } from './history-site.js';
import { freshKey } from './support.js';

/**
 * The replay with the bounded memory of Redis. Once the owners have expired, Redis deletes a state that equals a new
 * one, and its grants with it. A refund of a deleted grant returns nothing. A debt of a deleted grant counts in full,
 * from the deletion on: Redis cannot know how much of the debt an overflow, or a time without a rate, has paid.
 */
class ForgetfulReplay extends BucketReplay {
  /** The costs of the deleted grants when Redis deleted them. Grants of an unlimited rate never count. */
  readonly #forgotten: Map<LoggedGrant, number> = new Map();
  #grants: LoggedGrant[] = [];
  #debts: { readonly at: number; cost: number } = { at: 0, cost: 0 };

  override add(grant: LoggedGrant): void {
    super.add(grant);
    if (!this.unlimited) this.#grants.push(grant);
  }

  override forget(now: number): void {
    for (const grant of this.#grants) this.#forgotten.set(grant, grant.cost);
    super.forget(now);
    super.add((this.#debts = { at: now, cost: 0 }));
    this.#grants = [];
  }

  /** A bucket that gets a rate again is full at `now`. Only debts after that instant count. */
  override configure(now: number, rate: Rate): void {
    const wasUnlimited = this.unlimited;
    super.configure(now, rate);
    if (wasUnlimited) super.add((this.#debts = { at: now, cost: 0 }));
  }

  override settled(grant: LoggedGrant): void {
    const known = this.#forgotten.get(grant);
    if (known === undefined) return super.settled(grant);
    this.#forgotten.set(grant, grant.cost);
    if (this.unlimited || grant.cost <= known) return;
    this.#debts.cost += grant.cost - known;
    super.settled(this.#debts);
  }
}

/** The reference model with two callers, whose `concurrency` differs, and with instants in whole microseconds. */
class SharedReference extends Reference {
  readonly callerOf: number[] = [];
  readonly limits: [number, number];
  readonly shut: [boolean, boolean] = [false, false];

  constructor(
    capacity: number,
    concurrency: [number, number],
    period: number,
    burst: number | undefined,
    maxQueue: number,
  ) {
    super(capacity, 0, period, burst, maxQueue, { replay: (rate) => new ForgetfulReplay(rate) });
    this.limits = concurrency;
  }

  override limitOf(id: number): number {
    return this.limits[this.callerOf[id] as 0 | 1];
  }

  /** All expired waiters leave at once: Redis receives the first cancellation too late to grant the next waiter. */
  override expire(): void {
    this.dismiss((one) => one.deadline <= this.time, 'timeout');
  }

  override wait(cost: number): number {
    return Math.ceil(super.wait(cost) * UNIT) / UNIT;
  }

  override acquire(id: number, cost: number, timeout: number, signal: number | undefined): void {
    this.closed = this.shut[this.callerOf[id] as 0 | 1];
    super.acquire(id, cost, timeout, signal);
  }

  override tryAcquire(id: number, cost: number): void {
    this.closed = this.shut[this.callerOf[id] as 0 | 1];
    super.tryAcquire(id, cost);
  }

  /** Whether the state equals a new one, but for the owners. */
  get isNew(): boolean {
    return (
      this.active === 0 &&
      this.queue.length === 0 &&
      this.pausedUntil <= this.time &&
      (this.capacity === Infinity || this.tokens >= this.size)
    );
  }

  /**
   * The rate applies to both callers, the concurrency to one. A new state starts with a full bucket: `isAbsent` is
   * whether Redis has none yet.
   */
  configureOne(caller: 0 | 1, { concurrency = this.limits[caller], ...rate }: Limits, isAbsent: boolean): void {
    this.limits[caller] = concurrency;
    this.configure(rate);
    if (isAbsent) this.forget();
  }

  /**
   * A permit that its process hands on, without a call of Redis. The waiter at the head, of the same caller, gets the
   * released slot, even if a lower one is free.
   */
  handOn(held: Held, id: number): void {
    const [head] = this.queue;
    expect(head?.id, 'only the head of the queue may get a slot without a call of Redis').toBe(id);
    expect(this.callerOf[id]).toBe(this.callerOf[held.id]);
    expect([this.capacity, this.pausedUntil <= this.time]).toEqual([Infinity, true]);
    expect(this.limitOf(id) === 0 || this.active <= this.limitOf(id)).toBe(true);
    const before = this.grants.length;
    this.release(held);
    // The release has granted the head, and maybe waiters behind it, which get the lowest of the other free slots.
    const granted = this.grants.slice(before);
    expect([granted[0]?.id, granted[0]?.at]).toEqual([id, this.time]);
    const others = granted.map(({ slot }) => slot).filter((slot) => slot !== held.slot);
    for (const [index, one] of granted.entries()) one.slot = index === 0 ? held.slot : (others[index - 1] as number);
  }

  close(caller: 0 | 1): void {
    this.shut[caller] = true;
    this.dismiss(({ id }) => this.callerOf[id] === caller, 'closed');
  }
}

/** The index of a signal among the signals of both callers. */
const signalOf = (caller: 0 | 1, index: number): number => 3 * caller + index;

const anyCaller = fc.constantFrom(0 as const, 1 as const);
const parts = {
  capacity: capacities,
  concurrency: fc.tuple(concurrencies, concurrencies),
  period: periods,
  burst: bursts,
  maxQueue: fc.constantFrom(Infinity, Infinity, 0, 2, 5),
  /** Whether Redis forgets both owners as soon as the state equals a new one, as after a ttl without calls. */
  forgets: fc.boolean(),
  operations: fc.array(fc.tuple(anyCaller, anyOperation), { maxLength: 40, size: 'max' }),
};
const fewSlots = fc.constantFrom(1, 2);
const request = fc.record({
  do: fc.constant('acquire' as const),
  cost: fc.constantFrom(1, 0.25),
  timeout: fc.constant(Infinity),
  signal: fc.constant(undefined),
});
const release = fc.record({ do: fc.constant('release' as const), which: fc.nat(10) });
const history = fc.oneof(
  { weight: 4, arbitrary: fc.record(parts) },
  // Without a rate and with few slots, a process often hands a permit on.
  {
    weight: 1,
    arbitrary: fc.record({
      ...parts,
      capacity: fc.constant(Infinity),
      concurrency: fc.tuple(fewSlots, fewSlots),
      maxQueue: fc.constant(Infinity),
      operations: fc.array(
        fc.tuple(fc.constantFrom(0 as const, 0 as const, 1 as const), fc.oneof(anyOperation, request, release)),
        { maxLength: 40, size: 'max' },
      ),
    }),
  },
);

/** Converts the limits of a history to real seconds. */
const inSeconds = ({ period, ...limits }: Limits): Limits =>
  period === undefined ? limits : { ...limits, period: (period * UNIT) / 1e6 };

/** Two throttles, their common model, and the outcomes of all calls. */
class Pair {
  readonly clock: Microseconds = new Microseconds();
  readonly throttles: [RedisThrottle, RedisThrottle];
  readonly settle: () => Promise<void>;
  readonly model: SharedReference;
  readonly permits: Map<number, RedisPermit> = new Map();
  readonly log: [id: number, outcome: Outcome, waited: number][] = [];
  readonly #finish: Map<number, () => void> = new Map();
  /** Three signals of each caller: a signal never leaves its process. */
  readonly #signals: AbortController[] = [0, 1, 2, 3, 4, 5].map(() => new AbortController());
  readonly #aborts: unknown[] = [];
  /** The number of permits that a process has handed on. */
  handedOn = 0;
  /** The cost and the instant of the first permit of a lease that was handed on, by the call that has it now. */
  readonly #firstOf: Map<number, [cost: number | undefined, at: number]> = new Map();
  readonly #clients: [ProcessClient, ProcessClient];
  readonly #batchesBefore: [number, number];
  readonly #forgets: boolean;
  #serial = 0;

  constructor(
    processClients: [ProcessClient, ProcessClient],
    {
      capacity,
      concurrency,
      period,
      burst,
      maxQueue,
      forgets,
    }: Omit<typeof history extends fc.Arbitrary<infer H> ? H : never, 'operations'>,
  ) {
    const key = freshKey();
    const [here, there] = concurrency;
    const limits = { capacity, period: (period * UNIT) / 1e6, burst, maxQueue };
    this.throttles = [
      openOn(processClients[0], key, this.clock, { ...limits, concurrency: here }),
      openOn(processClients[1], key, this.clock, { ...limits, concurrency: there }),
    ];
    this.#clients = processClients;
    this.#batchesBefore = [processClients[0].batches, processClients[1].batches];
    this.#forgets = forgets;
    this.settle = settler(processClients);
    this.model = new SharedReference(capacity, [here, there], period, burst, maxQueue);
  }

  /** Whether Redis knows the throttle: from its first batch until it is closed and holds nothing. */
  #isKnown(caller: 0 | 1): boolean {
    const throttle = this.throttles[caller];
    const isGone = throttle.closed && throttle.held + throttle.waiting === 0;
    return this.#clients[caller].batches > this.#batchesBefore[caller] && !isGone;
  }

  async play(caller: 0 | 1, operation: Operation): Promise<void> {
    const { model, clock } = this;
    const isAbsent = model.isNew && (this.#forgets || !(this.#isKnown(0) || this.#isKnown(1)));
    if (isAbsent) {
      // By real time, the keys would have expired, and two scripts never run in the same microsecond.
      await client.del(keyNames('headgate', this.throttles[0].key));
      model.advance(1 / UNIT);
      model.forget();
      await clock.advance(1, this.settle);
    }
    const throttle = this.throttles[caller];
    const id = this.#serial++;
    model.callerOf[id] = caller;
    const held =
      'which' in operation && model.grants.length > 0 ? model.grants[operation.which % model.grants.length] : undefined;
    // A closed throttle without permits sends no commands.
    const shut =
      model.shut[operation.do === 'settle' && held !== undefined ? (model.callerOf[held.id] as 0 | 1) : caller];
    if (shut && ['settle', 'pause', 'resume', 'configure'].includes(operation.do)) return;
    switch (operation.do) {
      case 'acquire':
      case 'run': {
        const { cost } = operation;
        const signal = operation.signal === undefined ? undefined : signalOf(caller, operation.signal);
        // Deadlines never coincide with each other or with a grant: the network would decide their order.
        const timeout =
          operation.timeout === 0 || operation.timeout === Infinity
            ? operation.timeout
            : operation.timeout + (1_000 + 977 * id) / UNIT;
        model.requested.set(id, cost);
        model.acquire(id, cost, timeout, signal);
        const granted = (permit: RedisPermit): void => {
          this.permits.set(id, permit);
          this.log.push([id, 'granted', Math.round(permit.waited * 1e6) / UNIT]);
        };
        const refused = (error: unknown): void => void this.log.push([id, outcomeOf(error, this.#aborts), 0]);
        const options = {
          timeout: (timeout * UNIT) / 1e6,
          signal: signal === undefined ? undefined : (this.#signals[signal] as AbortController).signal,
        };
        if (operation.do === 'acquire') throttle.acquire(cost, options).then(granted, refused);
        else {
          throttle
            .run(
              (permit) => {
                granted(permit);
                return new Promise<void>((resolve) => this.#finish.set(id, resolve));
              },
              cost,
              options,
            )
            .catch(refused);
        }
        break;
      }
      case 'tryAcquire': {
        const { cost } = operation;
        if (cost > model.size) {
          await expect(throttle.tryAcquire(cost)).rejects.toThrow(RangeError);
          break;
        }
        model.requested.set(id, cost);
        model.tryAcquire(id, cost);
        void throttle.tryAcquire(cost).then((permit) => {
          if (permit === undefined) return undefined;
          this.permits.set(id, permit);
          return this.log.push([id, 'granted', Math.round(permit.waited * 1e6) / UNIT]);
        });
        break;
      }
      case 'release':
        if (held !== undefined) await this.release(held);
        break;
      case 'settle':
        if (held === undefined) break;
        model.settle(held, operation.cost);
        this.permits.get(held.id)?.settle(operation.cost);
        break;
      case 'abort': {
        const reason = new Error(`abort ${id}`);
        this.#aborts.push(reason);
        const signal = signalOf(caller, operation.signal);
        this.#signals[signal]?.abort(reason);
        model.dismiss((one) => one.signal === signal, 'aborted');
        this.#signals[signal] = new AbortController();
        break;
      }
      case 'pause':
        void throttle.pause((operation.seconds * UNIT) / 1e6);
        if (operation.seconds > 0) model.pausedUntil = Math.max(model.pausedUntil, model.time + operation.seconds);
        break;
      case 'resume':
        void throttle.resume();
        model.pausedUntil = 0;
        model.drain();
        break;
      case 'configure': {
        const { concurrency: _, ...rate } = operation.limits;
        model.configureOne(caller, operation.limits, isAbsent);
        // Both throttles get the same rate: a new state takes the rate of its first caller.
        void throttle.configure(inSeconds(operation.limits));
        await this.settle();
        void this.throttles[(1 - caller) as 0 | 1].configure(inSeconds(rate));
        break;
      }
      case 'clear':
        void throttle.clear();
        model.dismiss((one) => model.callerOf[one.id] === caller, 'cleared');
        break;
      case 'idle':
        break;
      case 'drain':
        void throttle.drain();
        model.shut[caller] = true;
        break;
      case 'close':
        void throttle.close();
        model.close(caller);
        break;
      case 'advance':
        model.advance(operation.seconds);
        await clock.advance(operation.seconds * UNIT, this.settle);
        break;
    }
    await this.settle();
  }

  async release(held: Held): Promise<void> {
    const isFirst = !held.released;
    const finish = this.#finish.get(held.id);
    if (finish !== undefined) finish();
    else this.permits.get(held.id)?.release();
    await this.settle();
    const heir = isFirst ? this.#heirOf(held) : undefined;
    if (heir === undefined) return this.model.release(held);
    this.handedOn++;
    this.#firstOf.set(heir, this.#recordOf(held));
    this.model.handOn(held, heir);
  }

  /** The call that has got the lease of a released permit from its process. */
  #heirOf(held: Held): number | undefined {
    const serialOf = (permit: RedisPermit | undefined): string | undefined =>
      (permit as Lease | undefined)?.grant.serial;
    const serial = serialOf(this.permits.get(held.id));
    for (const [id, permit] of this.permits)
      if (!permit.released && serialOf(permit) === serial && this.model.callerOf[id] === this.model.callerOf[held.id])
        return id;
    return undefined;
  }

  /** Compares everything visible with the model. */
  async compare(): Promise<void> {
    const { model, log, permits } = this;
    const now = this.clock.ticks + HEAD_START;
    expect(model.time * UNIT).toBe(this.clock.ticks);
    const byId = (entries: typeof log): typeof log => entries.toSorted(([a], [b]) => a - b);
    expect(byId(log)).toEqual(byId(model.log));
    for (const caller of [0, 1] as const) {
      const grantsOf = (entries: typeof log): number[] =>
        entries.filter(([id, outcome]) => outcome === 'granted' && model.callerOf[id] === caller).map(([id]) => id);
      const order = grantsOf(log);
      expect(order).toEqual(grantsOf(model.log));
      // FIFO: ids are in the order of the calls.
      expect(order).toEqual(order.toSorted((a, b) => a - b));
      const own = (one: Held | Waiting): boolean => model.callerOf[one.id] === caller;
      expect(this.throttles[caller].held).toBe(model.grants.filter((one) => !one.released && own(one)).length);
      expect(this.throttles[caller].waiting).toBe(model.queue.filter(own).length);
      expect(this.throttles[caller].closed).toBe(model.shut[caller]);
    }
    const running = model.grants.filter(({ released }) => !released).toSorted((a, b) => a.slot - b.slot);
    for (const { id, slot } of model.grants) expect(permits.get(id)?.slot).toBe(slot);

    const { active, waiting, tokens, pausedFor } = await this.throttles[0].inspect();
    const instant = (age: number): number => (now - Math.round(age * 1e6) - HEAD_START) / UNIT;
    expect(active.toSorted((a, b) => a.slot - b.slot).map(({ slot, cost, age }) => [slot, cost, instant(age)])).toEqual(
      running.map((held) => [held.slot, ...this.#recordOf(held)]),
    );
    expect(waiting.map(({ cost }) => cost)).toEqual(model.queue.map(({ cost }) => cost));
    // Each throttle has exactly one owner name.
    const owners = new Map<string, number | undefined>();
    const places = [
      ...active.toSorted((a, b) => a.slot - b.slot).map(({ owner }, index) => [owner, running[index]?.id] as const),
      ...waiting.map(({ owner }, index) => [owner, model.queue[index]?.id] as const),
    ];
    for (const [owner, id] of places) {
      const caller = model.callerOf[id as number];
      expect(owners.get(owner) ?? caller).toBe(caller);
      owners.set(owner, caller);
    }
    if (model.capacity === Infinity) expect(tokens).toBe(Infinity);
    else expect(tokens).toBeCloseTo(model.tokens, 9);
    const pause = Math.max(0, model.pausedUntil - model.time);
    if (pause === Infinity) expect(pausedFor).toBe(Infinity);
    else expect(pausedFor).toBeCloseTo((pause * UNIT) / 1e6, 9);
    this.#signals.forEach(({ signal }, index) => {
      expect(getEventListeners(signal, 'abort').length).toBe(model.queue.some((one) => one.signal === index) ? 1 : 0);
    });
  }

  /**
   * The cost and the instant of a grant. Redis does not know of a permit that was handed on: it shows the first one.
   */
  #recordOf({ id, at }: Held): [cost: number | undefined, at: number] {
    const first = this.#firstOf.get(id);
    return first ?? [this.model.requested.get(id), at];
  }

  async end(): Promise<void> {
    const ending = this.throttles.map((throttle) => throttle.close());
    for (const finish of this.#finish.values()) finish();
    for (const permit of this.permits.values()) permit.release();
    await this.settle();
    await Promise.all(ending);
    await Promise.all(this.throttles.map((throttle) => throttle.idle()));
    for (const throttle of this.throttles) expect([throttle.held, throttle.waiting]).toEqual([0, 0]);
    await this.throttles[0].reset();
  }
}

/** Two clients that stay in use across histories, so that no history needs a new subscription. */
const processClients = (): [ProcessClient, ProcessClient] => {
  const pair: [ProcessClient, ProcessClient] = [new ProcessClient(), new ProcessClient()];
  for (const processClient of pair) openOn(processClient, freshKey(), new Microseconds(), {});
  return pair;
};

describe('a random history of two objects on one key', () => {
  test('equals the reference after every step: grants, order, instants, slots, tokens, pause, queue', async () => {
    const seen = new Map<string, number>();
    const both = processClients();
    await fc.assert(
      fc.asyncProperty(history, async ({ operations, ...settings }) => {
        const pair = new Pair(both, settings);
        for (const [caller, operation] of operations) {
          await pair.play(caller, operation);
          await pair.compare();
          seen.set(operation.do, (seen.get(operation.do) ?? 0) + 1);
        }
        expectWithinRate(pair.model);
        for (const [, outcome] of pair.log) seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
        seen.set('handed on', (seen.get('handed on') ?? 0) + pair.handedOn);
        await pair.end();
      }),
      { numRuns: 300 },
    );
    // Histories without every kind of outcome would prove too little.
    for (const what of [
      'granted',
      'timeout',
      'full',
      'closed',
      'cleared',
      'aborted',
      'oversize',
      'settle',
      'configure',
      'pause',
      'tryAcquire',
      'handed on',
    ]) {
      expect(seen.get(what), what).toBeGreaterThan(0);
    }
  });
});

describe('a clock of the server that steps back', () => {
  test('grants nothing extra by the true time, keeps the order, and grants every waiter', async () => {
    const both = processClients();
    const jobs = fc.array(fc.tuple(anyCaller, fc.integer({ min: 0, max: 5 })), { minLength: 1, maxLength: 20 });
    const steps = fc.array(
      fc.record({
        after: fc.integer({ min: 0, max: 2 * UNIT }),
        back: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: UNIT }), fc.integer({ min: 0, max: 5_000 * UNIT })),
      }),
      { maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(jobs, steps, async (requested, course) => {
        const clock = new Microseconds();
        const settle = settler(both);
        const key = freshKey();
        let back = 0;
        const throttles = both.map((processClient) =>
          openOn(
            processClient,
            key,
            clock,
            { capacity: 4, period: UNIT / 1e6, burst: 5 },
            () => (clock.ticks + HEAD_START - back) / 1e6,
          ),
        );
        const grants: { id: number; at: number; cost: number }[] = [];
        const order: number[] = [];
        const work = requested.map(async ([caller, cost], id) => {
          const permit = await (throttles[caller] as RedisThrottle).acquire(cost);
          // A cost of 0 is granted at the same instant as the waiter before it, by a separate message.
          if (cost > 0) order.push(id);
          grants.push({ id, at: clock.ticks / UNIT, cost });
          permit.release();
        });
        await settle();
        for (const { after, back: step } of course) {
          await clock.advance(after, settle);
          back += step;
          const permit = throttles[0]?.tryAcquire(1);
          await settle();
          const taken = await permit;
          if (taken === undefined) continue;
          grants.push({ id: -1, at: clock.ticks / UNIT, cost: 1 });
          taken.release();
          await settle();
        }
        // Each step back can add a delay: the time that it hides does not count for the waiters.
        await clock.advance(
          (requested.reduce((sum, [, cost]) => sum + cost, course.length) / 4 + 8 + 2 * course.length) * UNIT * 2,
          settle,
        );
        await Promise.all(work);
        for (const caller of [0, 1]) {
          const own = order.filter((id) => requested[id]?.[0] === caller);
          expect(own).toEqual(own.toSorted((a, b) => a - b));
        }
        grants.forEach((first, from) => {
          let sum = 0;
          for (const { at, cost } of grants.slice(from)) {
            sum += cost;
            expect(sum).toBeLessThanOrEqual(5 + 4 * (at - first.at) + 1e-6);
          }
        });
        await settle();
        await Promise.all(throttles.map((throttle) => throttle.close()));
        await client.del(keyNames('headgate', key));
      }),
      { numRuns: 60 },
    );
  });
});

describe('an object that dies in the middle of its history', () => {
  const TTL = 60;
  const move = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('acquire' as const), cost: fc.constantFrom(0, 1, 2) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), which: fc.nat(100) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('advance' as const), seconds: fc.integer({ min: 0, max: 50 }) }),
    },
  );

  test('loses its permits within ttl, not before two thirds of it; the other gets them in order', async () => {
    const seen = { lapsed: 0, inherited: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(anyCaller, move), { minLength: 5, maxLength: 25 }),
        fc.integer({ min: 1, max: 4 }),
        async (moves, concurrency) => {
          const both: [ProcessClient, ProcessClient] = [new ProcessClient(), new ProcessClient()];
          const clock = new Microseconds();
          const settle = settler(both);
          const key = freshKey();
          const throttles = both.map((processClient) =>
            openOn(processClient, key, clock, { concurrency, ttl: TTL, commandTimeout: 5 }),
          );
          const [mine, theirs] = throttles as [RedisThrottle, RedisThrottle];
          const held: { id: number; caller: 0 | 1; permit: RedisPermit }[] = [];
          const order: number[] = [];
          const failed: unknown[] = [];
          let serial = 0;
          for (const [caller, what] of moves) {
            if (what.do === 'acquire') {
              const id = serial++;
              (caller === 0 ? mine : theirs).acquire(what.cost).then(
                (permit) => {
                  if (caller === 0) order.push(id);
                  return held.push({ id, caller, permit });
                },
                (error: unknown) => failed.push(error),
              );
            } else if (what.do === 'release')
              held
                .filter((one) => one.caller === caller)
                .at(what.which % 5)
                ?.permit.release();
            else await clock.advance(what.seconds * 1e6, settle);
            await settle();
          }
          const living = (): RedisPermit[] =>
            held.filter(({ permit }) => !permit.released && !permit.signal.aborted).map(({ permit }) => permit);
          const before = { held: living().length, theirs: theirs.held, waiting: theirs.waiting, mine: mine.held };
          both[1].dead = true;

          // A process renews every third of its ttl, so Redis keeps its leases for two thirds after its death at least.
          await clock.advance((TTL * 2 * 1e6) / 3 - 1e6, settle);
          expect((await mine.inspect()).active.length).toBe(before.held);
          // No slot is given again before the signal of its lost permit has aborted.
          for (let second = 0; second <= TTL / 3 + 1; second++) {
            await clock.advance(1e6, settle);
            expect(living().length).toBeLessThanOrEqual(concurrency);
            expect(new Set(living().map(({ slot }) => slot)).size).toBe(living().length);
          }
          // Without waiters, no process triggers the expiry of the leases; by real time, the keys would have expired.
          void mine.resume();
          await settle();
          const { active, waiting } = await mine.inspect();
          expect([active.length, waiting.length]).toEqual([mine.held, mine.waiting]);
          expect(theirs.held).toBe(0);
          expect(mine.held).toBeGreaterThanOrEqual(before.mine);
          expect(mine.waiting > 0 ? mine.held : concurrency).toBe(concurrency);
          for (const { caller, permit } of held) expect(permit.signal.aborted).toBe(caller === 1 && !permit.released);
          if (before.theirs > 0) seen.lapsed++;
          if (mine.held > before.mine) seen.inherited++;
          // The other waiters are granted in the order of the calls.
          for (let turns = 0; mine.waiting > 0 && turns < 50; turns++) {
            held.find(({ caller, permit }) => caller === 0 && !permit.released)?.permit.release();
            await settle();
          }
          expect(order).toEqual(order.toSorted((a, b) => a - b));
          for (const { permit } of held) permit.release();
          await settle();
          expect((await mine.inspect()).active).toEqual([]);
          for (const error of failed) expect((error as Error).name).toBe('ThrottleBackendError');
          await mine.close();
        },
      ),
      { numRuns: 40 },
    );
    expect(Math.min(seen.lapsed, seen.inherited)).toBeGreaterThan(3);
  });
});
