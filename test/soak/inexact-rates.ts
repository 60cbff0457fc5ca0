/**
 * Histories of a throttle with rounding errors: rates such as 1/3, several rates, sliding windows with margins, and
 * clocks that stand still, step back, or fire early or late. The checks are the promises: concurrency, rate by the
 * true time, order of the calls, work conservation, and an outcome for every call.
 */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { type Limits, type Permit, type Rate, Throttle, type ThrottleOptions } from 'headgate';
import { type Outcome, outcomeOf } from '../model/reference.js';
import { SkewedClock } from '../support/support.js';
import { RateOracle, type LoggedEntry, roundingError } from './rate-oracle.js';
import { playSeed, type Tally, turn, within } from './part.js';

const capacity = fc.constantFrom(1 / 3, 0.1, 0.7, 1, 3, 7, 10 / 3, 100.1, 1e9, 1e-3, Infinity);
const period = fc.constantFrom(1, 0.3, 1 / 7, 60, 604_800, 1e-3);
const burst = fc.constantFrom(undefined, undefined, 0.1, 1, 1 / 3, 12.34, 1e6);
const margin = fc.constantFrom(undefined, 0, 0.05, 1 / 3);
const share = fc.oneof(fc.constantFrom(0, 0.1, 1 / 3, 0.5, 1), fc.double({ min: 0, max: 1, noNaN: true }));
const bucket = fc.record({ capacity, period, burst });
const sliding = fc.record({ capacity, period, margin, window: fc.constant('sliding' as const) });
const rate: fc.Arbitrary<Rate> = fc.oneof({ weight: 2, arbitrary: bucket }, sliding);

/** The faults of the clock. Most histories have none. */
const manner = fc.constantFrom('true', 'true', 'true', 'true', 'late', 'early', 'still', 'back');

const which = fc.nat(1_000);
const operation = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constantFrom('acquire' as const, 'run' as const),
      share,
      timeout: fc.option(fc.double({ min: 0, max: 4, noNaN: true }), { nil: Infinity, freq: 2 }),
      signal: fc.option(fc.nat(2), { nil: undefined, freq: 2 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tryAcquire' as const), share }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('release' as const), which }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('settle' as const), which, share: fc.oneof(share, fc.constant(3)) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('abort' as const), signal: fc.nat(2) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('pause' as const), seconds: fc.oneof(share, fc.constant(Infinity)) }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'resume' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('configure' as const),
      limits: fc.record({ capacity, concurrency: fc.constantFrom(0, 1, 2, 5), period, burst }, { requiredKeys: [] }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('advance' as const),
      share: fc.oneof({ weight: 4, arbitrary: share }, fc.constant(5)),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('skew' as const), share }) },
);

const history = fc.record({
  first: rate,
  also: fc.oneof({ weight: 2, arbitrary: fc.constant<Rate[]>([]) }, fc.array(rate, { maxLength: 2 })),
  concurrency: fc.constantFrom(0, 0, 1, 2, 5),
  maxQueue: fc.constantFrom(Infinity, Infinity, 3),
  manner,
  closes: fc.boolean(),
  // The longest histories have more grants than a throttle keeps exactly.
  operations: fc.oneof(
    { weight: 4, arbitrary: fc.array(operation, { maxLength: 300, size: 'max' }) },
    fc.array(operation, { maxLength: 1_200, size: 'max' }),
  ),
});
type History = typeof history extends fc.Arbitrary<infer H> ? H : never;

/** A clock whose reading can be stopped while time passes. */
class StoppableClock extends SkewedClock {
  static readonly #MAX_TIMERS = 500;
  #stoppedAt: number | undefined;
  #timers = 0;

  stop(): void {
    this.#stoppedAt = this.now();
    this.#timers = 0;
  }

  restart(): void {
    this.#stoppedAt = undefined;
  }

  override now(): number {
    return this.#stoppedAt ?? super.now();
  }

  /** A stopped clock makes the throttle arm timers again and again, so the clock restarts after too many timers. */
  override schedule(seconds: number, callback: () => void): () => void {
    if (++this.#timers > StoppableClock.#MAX_TIMERS) this.restart();
    // A delay below the rounding error of the true time would never pass.
    return super.schedule(Math.max(seconds, roundingError(this.passing.now())), callback);
  }
}

/** A call that waits. */
interface Waiter {
  readonly id: number;
  readonly cost: number;
  readonly at: number;
  readonly deadline: number;
  readonly signal: number | undefined;
}

interface HeldPermit {
  readonly permit: Permit;
  readonly id: number;
  readonly cost: number;
  /** The entry of the grant in each oracle. */
  readonly entries: readonly LoggedEntry[];
  settled: boolean;
}

/** A throttle, and everything that a caller can know about it. */
class ObservedThrottle {
  readonly throttle: Throttle;
  readonly clock: StoppableClock = new StoppableClock();
  readonly permits: HeldPermit[] = [];
  readonly waiting: Map<number, Waiter> = new Map();
  readonly finish: Map<number, () => void> = new Map();
  readonly signals: AbortController[] = [0, 1, 2].map(() => new AbortController());
  readonly aborts: unknown[] = [];
  readonly #tally: Tally;
  /** The oracle of the main rate, and one for each rate of `also`. */
  readonly oracles: readonly [RateOracle, ...RateOracle[]];
  readonly #sliding: boolean;
  #limits: { capacity: number; concurrency: number; period: number; burst: number | undefined };
  #margin: number | undefined;
  #active = 0;
  #pausedUntil = -Infinity;
  #lastGrant = -1;
  #serial = 0;
  /** Whether the clock is true, so that work conservation can be checked. */
  readonly #exactClock: boolean;
  failure: unknown;

  constructor({ first, also, concurrency, maxQueue, manner: how }: History, tally: Tally) {
    const { capacity: tokens, period: seconds = 1, burst: size }: Rate = first;
    const options: ThrottleOptions = { ...first, also: [...also], maxQueue, clock: this.clock };
    // The first rate becomes the main rate of the throttle.
    for (const name of ['capacity', 'period']) delete (options as Record<string, unknown>)[name];
    this.throttle = new Throttle(tokens, concurrency, seconds, options);
    this.#tally = tally;
    this.#limits = { capacity: tokens, concurrency, period: seconds, burst: size };
    this.#sliding = first.window === 'sliding';
    this.#margin = first.margin;
    this.oracles = [new RateOracle(first, this.now), ...also.map((each) => new RateOracle(each, this.now))];
    this.#exactClock = how === 'true';
  }

  /** The true time, in seconds. */
  get now(): number {
    return this.clock.passing.now();
  }

  get maxCost(): number {
    const most = Math.min(
      this.#sliding || this.#limits.burst === undefined ? Infinity : this.#limits.burst,
      ...this.oracles.map((oracle) => oracle.burst),
    );
    return most === Infinity ? 8 : most;
  }

  /** The seconds in which about one bucket refills. */
  get unit(): number {
    const { capacity: tokens, period: seconds } = this.#limits;
    return tokens === Infinity ? 1 : Math.max(1e-6, this.maxCost / (tokens / seconds));
  }

  #slots(): number {
    return this.#limits.concurrency === 0 ? Infinity : this.#limits.concurrency;
  }

  /** Checks a grant against every promise, by the true time. */
  granted(id: number, cost: number, permit: Permit): void {
    try {
      const { now } = this;
      const waiter = this.waiting.get(id);
      assert.equal(permit.cost, cost);
      assert.ok(id > this.#lastGrant, `call ${id} was granted after call ${this.#lastGrant}`);
      this.#lastGrant = id;
      this.#active++;
      assert.ok(this.#active <= this.#slots(), `${this.#active} at a time, of ${this.#slots()} allowed`);
      assert.ok(now >= this.#pausedUntil - roundingError(now), `granted at ${now}, paused until ${this.#pausedUntil}`);
      for (const oracle of this.oracles)
        assert.ok(oracle.mayGrant(now, cost), `call ${id} of cost ${cost} exceeds a rate at ${now}`);
      if (this.#exactClock && waiter !== undefined) {
        assert.ok(
          Math.abs(permit.waited - (now - waiter.at)) <= roundingError(now),
          `waited is ${permit.waited} s, but ${now - waiter.at} s have passed`,
        );
        assert.ok(
          now <= waiter.deadline + roundingError(now),
          `granted at ${now}, after its deadline ${waiter.deadline}`,
        );
      }
      this.permits.push({
        permit,
        id,
        cost,
        settled: false,
        entries: this.oracles.map((oracle) => oracle.take(now, cost)),
      });
      this.waiting.delete(id);
      this.#tally.grants++;
    } catch (error) {
      this.failure ??= error;
    }
  }

  refused(id: number, error: unknown): void {
    try {
      const outcome: Outcome = outcomeOf(error, this.aborts);
      const waiter = this.waiting.get(id);
      assert.ok(waiter !== undefined, `call ${id} settled twice`);
      assert.ok(outcome !== 'aborted' || waiter.signal !== undefined);
      this.waiting.delete(id);
      this.#tally[outcome === 'aborted' ? 'aborts' : 'refusals']++;
    } catch (failure) {
      this.failure ??= failure;
    }
  }

  call(how: 'acquire' | 'run', cost: number, timeout: number, signal: number | undefined): void {
    const id = this.#serial++;
    this.waiting.set(id, { id, cost, at: this.now, deadline: this.now + timeout, signal });
    const options = { timeout, signal: signal === undefined ? undefined : this.signals[signal]?.signal };
    const refused = (error: unknown): void => this.refused(id, error);
    if (how === 'acquire')
      this.throttle.acquire(cost, options).then((permit) => this.granted(id, cost, permit), refused);
    else {
      const job = (permit: Permit): Promise<void> => {
        this.granted(id, cost, permit);
        return new Promise((resolve) => this.finish.set(id, resolve));
      };
      this.throttle.run(job, cost, options).catch(refused);
    }
  }

  tryAcquire(cost: number): void {
    const id = this.#serial++;
    const waiting = this.throttle.waiting;
    const permit = this.throttle.tryAcquire(cost);
    if (permit === undefined) return;
    assert.equal(waiting, 0, 'tryAcquire overtook a waiter');
    this.granted(id, cost, permit);
  }

  release(held: HeldPermit): void {
    if (!held.permit.released && !this.finish.has(held.id)) this.#active--;
    const finish = this.finish.get(held.id);
    this.finish.delete(held.id);
    if (finish !== undefined) {
      this.#active--;
      finish();
    } else held.permit.release();
  }

  settle(held: HeldPermit, cost: number): void {
    held.permit.settle(cost);
    if (held.settled) return;
    held.settled = true;
    for (const [index, oracle] of this.oracles.entries())
      oracle.settle(this.now, held.entries[index] as LoggedEntry, cost);
  }

  abort(index: number): void {
    const reason = new Error(`abort ${this.aborts.length}`);
    this.aborts.push(reason);
    this.signals[index]?.abort(reason);
    this.signals[index] = new AbortController();
  }

  pause(seconds: number): void {
    this.throttle.pause(seconds);
    if (seconds > 0) this.#pausedUntil = Math.max(this.#pausedUntil, this.now + seconds);
  }

  resume(): void {
    this.throttle.resume();
    this.#pausedUntil = -Infinity;
  }

  configure({
    capacity: tokens = this.#limits.capacity,
    concurrency = this.#limits.concurrency,
    period: seconds = this.#limits.period,
    burst: size = this.#limits.burst,
  }: Limits): void {
    // A sliding window has no burst.
    this.#limits = { capacity: tokens, concurrency, period: seconds, burst: this.#sliding ? undefined : size };
    this.throttle.configure(this.#limits);
    const first: Rate = this.#sliding
      ? { capacity: tokens, period: seconds, window: 'sliding', margin: this.#margin }
      : { capacity: tokens, period: seconds, burst: size };
    this.oracles[0].configure(this.now, first);
  }

  /** Checks everything that holds between two operations. */
  check(): void {
    if (this.failure !== undefined) throw this.failure;
    const { throttle, now, waiting } = this;
    assert.equal(throttle.active, this.#active, 'active');
    assert.equal(throttle.waiting, waiting.size, 'waiting');
    this.signals.forEach(({ signal }, index) => {
      const waited = [...waiting.values()].some((waiter) => waiter.signal === index);
      assert.equal(getEventListeners(signal, 'abort').length, waited ? 1 : 0, `listeners on signal ${index}`);
    });
    const timed = [...waiting.values()].filter(({ deadline }) => deadline < Infinity).length;
    const { pending } = this.clock.passing;
    assert.ok(
      pending === timed || (pending === timed + 1 && waiting.size > 0),
      `${pending} timers for ${waiting.size} waiters, ${timed} of them with a deadline`,
    );
    if (!this.#exactClock) return;
    // The head of the queue waits only while it does not fit.
    const [head] = waiting.values();
    if (head === undefined || this.#active >= this.#slots() || now < this.#pausedUntil + roundingError(now)) return;
    assert.ok(
      !this.oracles.every((oracle) => oracle.mustGrant(now, head.cost)),
      `at ${now} call ${head.id} of cost ${head.cost} is the head, fits, and waits`,
    );
  }

  /** Closes or opens the throttle and releases every permit, so that every waiter settles. */
  async end(closes: boolean): Promise<void> {
    const { throttle, clock } = this;
    clock.fires = (seconds) => seconds;
    clock.restart();
    if (closes) throttle.close();
    else {
      this.configure({ concurrency: 0 });
      this.resume();
      await turn();
      this.check();
    }
    for (const held of this.permits) this.release(held);
    await turn();
    await clock.passing.runAll();
    this.check();
    for (const held of this.permits) this.release(held);
    await within(5, throttle.idle(), 'idle');
    assert.deepEqual([throttle.active, throttle.waiting, clock.passing.pending], [0, 0, 0], 'remaining');
    await turn();
  }
}

export async function playInexactRates(seed: number, tally: Tally): Promise<void> {
  await playSeed(seed, history, async (plan) => {
    const observed = new ObservedThrottle(plan, tally);
    const { clock, permits: held } = observed;
    if (plan.manner === 'late') clock.fires = (seconds) => seconds * 1.1;
    if (plan.manner === 'early') clock.fires = (seconds) => seconds * 0.8;
    for (const step of plan.operations) {
      tally.operations++;
      const pick = 'which' in step ? held[step.which % Math.max(1, held.length)] : undefined;
      const { maxCost, unit } = observed;
      switch (step.do) {
        case 'acquire':
        case 'run':
          observed.call(step.do, step.share * maxCost, step.timeout * unit, step.signal);
          break;
        case 'tryAcquire':
          observed.tryAcquire(step.share * maxCost);
          break;
        case 'release':
          if (pick !== undefined) observed.release(pick);
          break;
        case 'settle':
          // After a step back, a settlement counts at the latest instant that the throttle knows, not at the true time.
          if (pick !== undefined && plan.manner !== 'back') observed.settle(pick, step.share * pick.cost);
          break;
        case 'abort':
          observed.abort(step.signal);
          break;
        case 'pause':
          observed.pause(step.seconds * unit);
          break;
        case 'resume':
          observed.resume();
          break;
        case 'configure':
          // The time that a stopped clock hides would refill at the new rate instead of the old rate.
          if (plan.manner === 'still' || plan.manner === 'back')
            observed.configure(step.limits.concurrency === undefined ? {} : { concurrency: step.limits.concurrency });
          else observed.configure(step.limits);
          break;
        case 'advance':
          await clock.passing.advance(step.share * unit);
          clock.restart();
          break;
        case 'skew':
          if (plan.manner === 'back') clock.skew -= step.share * unit;
          if (plan.manner === 'still') clock.stop();
          break;
      }
      await turn();
      observed.check();
    }
    await observed.end(plan.closes);
  });
}
