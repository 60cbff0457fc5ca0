/**
 * Random histories of two objects on one key, as in two processes, against the reference of the core (reference.ts).
 *
 * The server's clock and the timers of both are one clock that only the test moves, in whole microseconds. The second
 * of these histories is 2^20 of them, so that all rates are powers of two here, too, and every instant, slot and level
 * of tokens is compared for equality.
 */
import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { type Clock, type Limits } from 'headgate';
import { type RedisCommands, type RedisPermit, type RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { INSPECT } from '../../src/redis/scripts/inspect.js';
import { RESET } from '../../src/redis/scripts/reset.js';
import { createStep, STEP } from '../../src/redis/scripts/step.js';
import { RedisThrottle as Gate } from '../../src/redis/throttle.js';
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
import { evalThrough, freshKey, ioredis, subscribeThrough } from './support.js';

/** Microseconds of what the histories call a second. */
const UNIT = 2 ** 20;
/** The server's clock is ahead of the process' by this much. */
const HEAD_START = 2 ** 40;
/** So long that nothing has to be renewed within a history. */
const LONG_TTL = 2_000_000;

/** Whole microseconds, which only a test moves. */
class Microseconds implements Clock {
  ticks = 0;
  #fired = 0;
  #serial = 0;
  #timers: { readonly at: number; readonly serial: number; readonly callback: () => void }[] = [];

  /** A trifle later with each timer, as real time is: a sum of two floats may be less than the float of the sum. */
  now(): number {
    return this.ticks / 1e6 + this.#fired * 1e-10;
  }

  schedule(seconds: number, callback: () => void): () => void {
    const timer = {
      at: Math.max(this.ticks, Math.round((this.now() + seconds) * 1e6)),
      serial: this.#serial++,
      callback,
    };
    this.#timers.push(timer);
    return () => void (this.#timers = this.#timers.filter((other) => other !== timer));
  }

  /** Lets time pass, and what falls due fire, with all its consequences in between. */
  async advance(ticks: number, settle: () => Promise<void>): Promise<void> {
    const end = this.ticks + ticks;
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at || a.serial - b.serial);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.ticks = Math.max(this.ticks, next.at);
      this.#fired++;
      next.callback();
      await settle();
    }
    this.ticks = end;
  }
}

let client: Redis;
let subscriber: Redis;
const closing: (() => Promise<void>)[] = [];
beforeAll(() => {
  const [commands, messages] = [ioredis(), ioredis()];
  client = commands.client;
  subscriber = messages.client;
  subscriber.setMaxListeners(0);
  closing.push(commands.close, messages.close);
});
afterAll(async () => {
  for (const close of closing) await close();
});

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** The keys expire by the real time, but the histories have their own. So all keys live for one minute here. */
const stepWithFixedLifetime = createStep("'60000'");

function withFixedLifetime(script: string): string {
  if (script === STEP) return stepWithFixedLifetime;
  if (script === INSPECT || script === RESET) return script;
  throw new Error('The throttle has run an unknown script, so the lifetime of its keys cannot be replaced.');
}

/** The client of one process. */
class Wire implements RedisCommands {
  calls = 0;
  dead = false;
  readonly #open = new Set<Promise<unknown>>();

  async eval(script: string, keys: string[], args: string[]): Promise<unknown> {
    if (this.dead) return new Promise(() => {});
    this.calls++;
    const answer = evalThrough(client)(withFixedLifetime(script), keys, args);
    this.#open.add(answer);
    return answer.finally(() => this.#open.delete(answer));
  }

  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    await subscribeThrough(subscriber)(channel, (message) => void (this.dead || listener(message)));
  }

  async answered(): Promise<void> {
    await Promise.allSettled(this.#open);
  }
}

/** Resolves when everything that was said has been heard, and all that it brought about has, too. */
const settler = (wires: readonly Wire[]) => async (): Promise<void> => {
  const calls = (): number => wires.reduce((sum, wire) => sum + wire.calls, 0);
  for (let seen = -1; seen !== calls();) {
    seen = calls();
    await turn();
    for (const wire of wires) await wire.answered();
    // Messages come in order: what was published before the answers has come before this one.
    if (seen !== calls() || seen > 0) await subscriber.ping();
    await turn();
  }
};

type Options = Partial<RedisThrottleOptions>;

const openOn = (
  wire: Wire,
  key: string,
  clock: Microseconds,
  options: Options,
  serverTime = (): number => (clock.ticks + HEAD_START) / 1e6,
): RedisThrottle =>
  new Gate({ client: wire, key, clock, ttl: LONG_TTL, commandTimeout: LONG_TTL, ...options }, { serverTime });

/**
 * Redis forgets what cannot be told from new, the grants included. A refund of such a grant gives nothing back. A debt
 * counts as if it had been asked for first thing afterwards, since Redis cannot know how much of it an overflow has paid.
 */
class ForgetfulReplay extends BucketReplay {
  /** The costs of the forgotten grants as Redis knew them; those of an unlimited time never count. */
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

  override settled(grant: LoggedGrant): void {
    const known = this.#forgotten.get(grant);
    if (known === undefined) return super.settled(grant);
    this.#forgotten.set(grant, grant.cost);
    if (this.unlimited || grant.cost <= known) return;
    this.#debts.cost += grant.cost - known;
    super.settled(this.#debts);
  }
}

/** The reference, with two callers whose limits of concurrency differ, and instants that are whole microseconds. */
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

  /** All at once: Redis hears of the first too late to give its place to the next. */
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

  /** Whether it cannot be told from new, so that Redis has forgotten it. */
  get isNew(): boolean {
    return (
      this.active === 0 &&
      this.queue.length === 0 &&
      this.pausedUntil <= this.time &&
      (this.capacity === Infinity || this.tokens >= this.size)
    );
  }

  /** The rate is that of all, the concurrency that of one. What is new starts full. */
  configureOne(caller: 0 | 1, { concurrency = this.limits[caller], ...rate }: Limits): void {
    const { isNew } = this;
    this.limits[caller] = concurrency;
    this.configure(rate);
    if (isNew) this.forget();
  }

  close(caller: 0 | 1): void {
    this.shut[caller] = true;
    this.dismiss(({ id }) => this.callerOf[id] === caller, 'closed');
  }
}

const caller = fc.constantFrom(0 as const, 1 as const);
const history = fc.record({
  capacity: capacities,
  concurrency: fc.tuple(concurrencies, concurrencies),
  period: periods,
  burst: bursts,
  maxQueue: fc.constantFrom(Infinity, Infinity, 0, 2, 5),
  operations: fc.array(fc.tuple(caller, anyOperation), { maxLength: 40, size: 'max' }),
});

/** The limits of a history in true seconds. */
const inSeconds = ({ period, ...limits }: Limits): Limits =>
  period === undefined ? limits : { ...limits, period: (period * UNIT) / 1e6 };

/** Two objects, the model of both, and what became of the calls. */
class Pair {
  readonly clock: Microseconds = new Microseconds();
  readonly throttles: [RedisThrottle, RedisThrottle];
  readonly settle: () => Promise<void>;
  readonly model: SharedReference;
  readonly permits: Map<number, RedisPermit> = new Map();
  readonly log: [id: number, outcome: Outcome, waited: number][] = [];
  readonly #finish: Map<number, () => void> = new Map();
  readonly #signals: AbortController[] = [0, 1, 2].map(() => new AbortController());
  readonly #aborts: unknown[] = [];
  #serial = 0;

  constructor(
    wires: [Wire, Wire],
    {
      capacity,
      concurrency,
      period,
      burst,
      maxQueue,
    }: Omit<typeof history extends fc.Arbitrary<infer H> ? H : never, 'operations'>,
  ) {
    const key = freshKey();
    const [here, there] = concurrency;
    const limits = { capacity, period: (period * UNIT) / 1e6, burst, maxQueue };
    this.throttles = [
      openOn(wires[0], key, this.clock, { ...limits, concurrency: here }),
      openOn(wires[1], key, this.clock, { ...limits, concurrency: there }),
    ];
    this.settle = settler(wires);
    this.model = new SharedReference(capacity, [here, there], period, burst, maxQueue);
  }

  async play(who: 0 | 1, operation: Operation): Promise<void> {
    const { model, clock } = this;
    if (model.isNew) {
      // By the true time, the key would have expired, and no two scripts run in the same microsecond.
      await client.del(`{headgate:${this.throttles[0].key}}`);
      model.advance(1 / UNIT);
      model.forget();
      await clock.advance(1, this.settle);
    }
    const throttle = this.throttles[who];
    const id = this.#serial++;
    model.callerOf[id] = who;
    const held =
      'which' in operation && model.grants.length > 0 ? model.grants[operation.which % model.grants.length] : undefined;
    // What is closed says no more, once it holds nothing.
    const shut = model.shut[operation.do === 'settle' && held !== undefined ? (model.callerOf[held.id] as 0 | 1) : who];
    if (shut && ['settle', 'pause', 'resume', 'configure'].includes(operation.do)) return;
    switch (operation.do) {
      case 'acquire':
      case 'run': {
        const { cost, signal } = operation;
        // No two deadlines, and no deadline and turn, in the same instant: who comes first then is for the network to say.
        const timeout =
          operation.timeout === 0 || operation.timeout === Infinity
            ? operation.timeout
            : operation.timeout + (1_000 + 977 * id) / UNIT;
        model.asked.set(id, cost);
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
        model.asked.set(id, cost);
        model.tryAcquire(id, cost);
        void throttle.tryAcquire(cost).then((permit) => {
          if (permit === undefined) return undefined;
          this.permits.set(id, permit);
          return this.log.push([id, 'granted', Math.round(permit.waited * 1e6) / UNIT]);
        });
        break;
      }
      case 'release':
        if (held !== undefined) this.release(held);
        break;
      case 'settle':
        if (held === undefined) break;
        model.settle(held, operation.cost);
        this.permits.get(held.id)?.settle(operation.cost);
        break;
      case 'abort': {
        const reason = new Error(`abort ${id}`);
        this.#aborts.push(reason);
        this.#signals[operation.signal]?.abort(reason);
        model.dismiss((one) => one.signal === operation.signal, 'aborted');
        this.#signals[operation.signal] = new AbortController();
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
        model.configureOne(who, operation.limits);
        // Both know the same rate; else a key that Redis has forgotten would have that of whoever comes first.
        void throttle.configure(inSeconds(operation.limits));
        await this.settle();
        void this.throttles[(1 - who) as 0 | 1].configure(inSeconds(rate));
        break;
      }
      case 'close':
        void throttle.close();
        model.close(who);
        break;
      case 'advance':
        model.advance(operation.seconds);
        await clock.advance(operation.seconds * UNIT, this.settle);
        break;
    }
    await this.settle();
  }

  release(held: Held): void {
    this.model.release(held);
    const finish = this.#finish.get(held.id);
    if (finish !== undefined) finish();
    else this.permits.get(held.id)?.release();
  }

  /** Everything that can be seen is as the model says. */
  async compare(): Promise<void> {
    const { model, log, permits } = this;
    const now = this.clock.ticks + HEAD_START;
    expect(model.time * UNIT).toBe(this.clock.ticks);
    const byId = (entries: typeof log): typeof log => entries.toSorted(([a], [b]) => a - b);
    expect(byId(log)).toEqual(byId(model.log));
    for (const who of [0, 1] as const) {
      const grantsOf = (entries: typeof log): number[] =>
        entries.filter(([id, outcome]) => outcome === 'granted' && model.callerOf[id] === who).map(([id]) => id);
      const order = grantsOf(log);
      expect(order).toEqual(grantsOf(model.log));
      // FIFO: ids count the calls.
      expect(order).toEqual(order.toSorted((a, b) => a - b));
      const own = (one: Held | Waiting): boolean => model.callerOf[one.id] === who;
      expect(this.throttles[who].held).toBe(model.grants.filter((one) => !one.released && own(one)).length);
      expect(this.throttles[who].waiting).toBe(model.queue.filter(own).length);
      expect(this.throttles[who].closed).toBe(model.shut[who]);
    }
    const running = model.grants.filter(({ released }) => !released).toSorted((a, b) => a.slot - b.slot);
    for (const { id, slot } of model.grants) expect(permits.get(id)?.slot).toBe(slot);

    const { active, waiting, tokens, pausedFor } = await this.throttles[0].inspect();
    const instant = (age: number): number => (now - Math.round(age * 1e6) - HEAD_START) / UNIT;
    expect(active.toSorted((a, b) => a.slot - b.slot).map(({ slot, cost, age }) => [slot, cost, instant(age)])).toEqual(
      running.map(({ slot, id, at }) => [slot, model.asked.get(id), at]),
    );
    expect(waiting.map(({ cost }) => cost)).toEqual(model.queue.map(({ cost }) => cost));
    // Whose it is: each object is one owner.
    const owners = new Map<string, number | undefined>();
    const places = [
      ...active.toSorted((a, b) => a.slot - b.slot).map(({ owner }, index) => [owner, running[index]?.id] as const),
      ...waiting.map(({ owner }, index) => [owner, model.queue[index]?.id] as const),
    ];
    for (const [owner, id] of places) {
      const who = model.callerOf[id as number];
      expect(owners.get(owner) ?? who).toBe(who);
      owners.set(owner, who);
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

/** Two clients that are in use for longer than a history, so that each does not subscribe anew. */
const wires = (): [Wire, Wire] => {
  const pair: [Wire, Wire] = [new Wire(), new Wire()];
  for (const wire of pair) openOn(wire, freshKey(), new Microseconds(), {});
  return pair;
};

describe('a random history of two objects on one key', () => {
  test('equals the reference after every step: grants, order, instants, slots, tokens, pause, queue', async () => {
    const seen = new Map<string, number>();
    const both = wires();
    await fc.assert(
      fc.asyncProperty(history, async ({ operations, ...settings }) => {
        const pair = new Pair(both, settings);
        for (const [who, operation] of operations) {
          await pair.play(who, operation);
          await pair.compare();
          seen.set(operation.do, (seen.get(operation.do) ?? 0) + 1);
        }
        expectWithinRate(pair.model);
        for (const [, outcome] of pair.log) seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
        await pair.end();
      }),
      { numRuns: 300 },
    );
    // A history that never grants, refuses or aborts proves nothing.
    for (const what of [
      'granted',
      'timeout',
      'full',
      'closed',
      'aborted',
      'oversize',
      'settle',
      'configure',
      'pause',
      'tryAcquire',
    ]) {
      expect(seen.get(what), what).toBeGreaterThan(0);
    }
  });
});

describe('a clock of the server that steps back', () => {
  test('grants nothing extra by the true time, keeps the order, and grants every waiter', async () => {
    const both = wires();
    const jobs = fc.array(fc.tuple(caller, fc.integer({ min: 0, max: 5 })), { minLength: 1, maxLength: 20 });
    const steps = fc.array(
      fc.record({
        after: fc.integer({ min: 0, max: 2 * UNIT }),
        back: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: UNIT }), fc.integer({ min: 0, max: 5_000 * UNIT })),
      }),
      { maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(jobs, steps, async (asked, course) => {
        const clock = new Microseconds();
        const settle = settler(both);
        const key = freshKey();
        let back = 0;
        const throttles = both.map((wire) =>
          openOn(
            wire,
            key,
            clock,
            { capacity: 4, period: UNIT / 1e6, burst: 5 },
            () => (clock.ticks + HEAD_START - back) / 1e6,
          ),
        );
        const grants: { id: number; at: number; cost: number }[] = [];
        const order: number[] = [];
        const work = asked.map(async ([who, cost], id) => {
          const permit = await (throttles[who] as RedisThrottle).acquire(cost);
          // A cost of nothing is granted in the instant of the one before it, and by a message of its own.
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
        // Each step may cost as much as it hides: what it skipped of the wait was not seen to pass.
        await clock.advance(
          (asked.reduce((sum, [, cost]) => sum + cost, course.length) / 4 + 8 + 2 * course.length) * UNIT * 2,
          settle,
        );
        await Promise.all(work);
        for (const who of [0, 1]) {
          const own = order.filter((id) => asked[id]?.[0] === who);
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
        await client.del(
          ['', ':queue', ':leases', ':owners', ':items', ':slots'].map((part) => `{headgate:${key}}${part}`),
        );
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

  test('loses its permits between two thirds of ttl and ttl; the other object keeps its own, and its waiters get the freed slots in order', async () => {
    const seen = { lapsed: 0, inherited: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(caller, move), { minLength: 5, maxLength: 25 }),
        fc.integer({ min: 1, max: 4 }),
        async (moves, concurrency) => {
          const both: [Wire, Wire] = [new Wire(), new Wire()];
          const clock = new Microseconds();
          const settle = settler(both);
          const key = freshKey();
          const throttles = both.map((wire) => openOn(wire, key, clock, { concurrency, ttl: TTL, commandTimeout: 5 }));
          const [mine, theirs] = throttles as [RedisThrottle, RedisThrottle];
          const held: { id: number; who: 0 | 1; permit: RedisPermit }[] = [];
          const order: number[] = [];
          const failed: unknown[] = [];
          let serial = 0;
          for (const [who, what] of moves) {
            if (what.do === 'acquire') {
              const id = serial++;
              (who === 0 ? mine : theirs).acquire(what.cost).then(
                (permit) => {
                  if (who === 0) order.push(id);
                  return held.push({ id, who, permit });
                },
                (error: unknown) => failed.push(error),
              );
            } else if (what.do === 'release')
              held
                .filter((one) => one.who === who)
                .at(what.which % 5)
                ?.permit.release();
            else await clock.advance(what.seconds * 1e6, settle);
            await settle();
          }
          const living = (): RedisPermit[] =>
            held.filter(({ permit }) => !permit.released && !permit.signal.aborted).map(({ permit }) => permit);
          const before = { held: living().length, theirs: theirs.held, waiting: theirs.waiting, mine: mine.held };
          both[1].dead = true;

          // A living one renews every third of its ttl: so long Redis keeps to what it was told last.
          await clock.advance((TTL * 2 * 1e6) / 3 - 1e6, settle);
          expect((await mine.inspect()).active.length).toBe(before.held);
          // Nobody is let in as long as who has lost its place may not know.
          for (let second = 0; second <= TTL / 3 + 1; second++) {
            await clock.advance(1e6, settle);
            expect(living().length).toBeLessThanOrEqual(concurrency);
            expect(new Set(living().map(({ slot }) => slot)).size).toBe(living().length);
          }
          // Where nobody else is at stake, nobody looks: by the true time the keys would have expired.
          void mine.resume();
          await settle();
          const { active, waiting } = await mine.inspect();
          expect([active.length, waiting.length]).toEqual([mine.held, mine.waiting]);
          expect(theirs.held).toBe(0);
          expect(mine.held).toBeGreaterThanOrEqual(before.mine);
          expect(mine.waiting > 0 ? mine.held : concurrency).toBe(concurrency);
          for (const { who, permit } of held) expect(permit.signal.aborted).toBe(who === 1 && !permit.released);
          if (before.theirs > 0) seen.lapsed++;
          if (mine.held > before.mine) seen.inherited++;
          // The rest of the queue, in the order of the calls.
          for (let turns = 0; mine.waiting > 0 && turns < 50; turns++) {
            held.find(({ who, permit }) => who === 0 && !permit.released)?.permit.release();
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
