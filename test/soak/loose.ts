/**
 * Histories of a throttle whose numbers cannot be exact: awkward rates, several at a time, sliding windows with margins,
 * and clocks that stand still, step back, or fire early or late. What is checked is what is promised: never more at a
 * time, never more than the rate allows by the true time, first in first out, nobody held in vain, everybody answered.
 */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { type Limits, type Permit, type Rate, Throttle, type ThrottleOptions } from 'headgate';
import { type Outcome, outcomeOf } from '../model/reference.js';
import { SkewedClock } from '../support/support.js';
import { Account, type Entry, grain } from './ledger.js';
import { playSeed, type Tally, turn, within } from './part.js';

const capacity = fc.constantFrom(1 / 3, 0.1, 0.7, 1, 3, 7, 10 / 3, 100.1, 1e9, 1e-3, Infinity);
const period = fc.constantFrom(1, 0.3, 1 / 7, 60, 604_800, 1e-3);
const burst = fc.constantFrom(undefined, undefined, 0.1, 1, 1 / 3, 12.34, 1e6);
const margin = fc.constantFrom(undefined, 0, 0.05, 1 / 3);
const share = fc.oneof(fc.constantFrom(0, 0.1, 1 / 3, 0.5, 1), fc.double({ min: 0, max: 1, noNaN: true }));
const bucket = fc.record({ capacity, period, burst });
const sliding = fc.record({ capacity, period, margin, window: fc.constant('sliding' as const) });
const rate: fc.Arbitrary<Rate> = fc.oneof({ weight: 2, arbitrary: bucket }, sliding);

/** How a clock may misbehave: not at all, for the most part. */
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
  // The longest have more grants than a throttle keeps exactly.
  operations: fc.oneof(
    { weight: 4, arbitrary: fc.array(operation, { maxLength: 300, size: 'max' }) },
    fc.array(operation, { maxLength: 1_200, size: 'max' }),
  ),
});
type History = typeof history extends fc.Arbitrary<infer H> ? H : never;

/** A clock that can be stopped, while the time goes on. */
class StoppedClock extends SkewedClock {
  static readonly #MOST = 500;
  #stoppedAt: number | undefined;
  #timers = 0;

  stop(): void {
    this.#stoppedAt = this.now();
    this.#timers = 0;
  }

  goOn(): void {
    this.#stoppedAt = undefined;
  }

  override now(): number {
    return this.#stoppedAt ?? super.now();
  }

  /** Timers are set anew for as long as it stands still: not for ever. */
  override schedule(seconds: number, callback: () => void): () => void {
    if (++this.#timers > StoppedClock.#MOST) this.goOn();
    // A timer takes some time. By two clocks, of which one has stepped back, a rest may be too short for the other.
    return super.schedule(Math.max(seconds, grain(this.passing.now())), callback);
  }
}

/** One who waits. */
interface Caller {
  readonly id: number;
  readonly cost: number;
  readonly at: number;
  readonly deadline: number;
  readonly signal: number | undefined;
}

interface Given {
  readonly permit: Permit;
  readonly id: number;
  readonly cost: number;
  /** Its entry in each account. */
  readonly entries: readonly Entry[];
  settled: boolean;
}

/** A throttle, and what is known of it from outside. */
class Watched {
  readonly throttle: Throttle;
  readonly clock: StoppedClock = new StoppedClock();
  readonly given: Given[] = [];
  readonly waiting: Map<number, Caller> = new Map();
  readonly finish: Map<number, () => void> = new Map();
  readonly signals: AbortController[] = [0, 1, 2].map(() => new AbortController());
  readonly aborts: unknown[] = [];
  readonly #tally: Tally;
  /** The account of the throttle's own rate, then those of `also`. */
  readonly accounts: readonly [Account, ...Account[]];
  readonly #sliding: boolean;
  #limits: { capacity: number; concurrency: number; period: number; burst: number | undefined };
  #margin: number | undefined;
  #active = 0;
  #pausedUntil = -Infinity;
  #lastGrant = -1;
  #serial = 0;
  /** Whether work conservation can be told: the clock is true. */
  readonly #exactClock: boolean;
  failure: unknown;

  constructor({ first, also, concurrency, maxQueue, manner: how }: History, tally: Tally) {
    const { capacity: tokens, period: seconds = 1, burst: size }: Rate = first;
    const options: ThrottleOptions = { ...first, also: [...also], maxQueue, clock: this.clock };
    // The first rate is that of the throttle itself.
    for (const name of ['capacity', 'period']) delete (options as Record<string, unknown>)[name];
    this.throttle = new Throttle(tokens, concurrency, seconds, options);
    this.#tally = tally;
    this.#limits = { capacity: tokens, concurrency, period: seconds, burst: size };
    this.#sliding = first.window === 'sliding';
    this.#margin = first.margin;
    this.accounts = [new Account(first, this.now), ...also.map((each) => new Account(each, this.now))];
    this.#exactClock = how === 'true';
  }

  /** The true time. */
  get now(): number {
    return this.clock.passing.now();
  }

  get maxCost(): number {
    const most = Math.min(
      this.#sliding || this.#limits.burst === undefined ? Infinity : this.#limits.burst,
      ...this.accounts.map((account) => account.burst),
    );
    return most === Infinity ? 8 : most;
  }

  /** What a share of the time amounts to: in the whole of it, about one bucket flows in. */
  get unit(): number {
    const { capacity: tokens, period: seconds } = this.#limits;
    return tokens === Infinity ? 1 : Math.max(1e-6, this.maxCost / (tokens / seconds));
  }

  #slots(): number {
    return this.#limits.concurrency === 0 ? Infinity : this.#limits.concurrency;
  }

  /** Somebody has got a permit. By the true time, and all that is known, it may be so. */
  granted(id: number, cost: number, permit: Permit): void {
    try {
      const { now } = this;
      const caller = this.waiting.get(id);
      assert.equal(permit.cost, cost);
      assert.ok(id > this.#lastGrant, `call ${id} was granted after call ${this.#lastGrant}`);
      this.#lastGrant = id;
      this.#active++;
      assert.ok(this.#active <= this.#slots(), `${this.#active} at a time, where ${this.#slots()} are allowed`);
      assert.ok(now >= this.#pausedUntil - grain(now), `granted at ${now}, paused until ${this.#pausedUntil}`);
      for (const account of this.accounts)
        assert.ok(account.may(now, cost), `more than a rate allows was granted at ${now}: call ${id}, of cost ${cost}`);
      if (this.#exactClock && caller !== undefined) {
        assert.ok(
          Math.abs(permit.waited - (now - caller.at)) <= grain(now),
          `${permit.waited} s said to be waited, ${now - caller.at} s were`,
        );
        assert.ok(now <= caller.deadline + grain(now), `granted at ${now}, after its deadline ${caller.deadline}`);
      }
      this.given.push({
        permit,
        id,
        cost,
        settled: false,
        entries: this.accounts.map((account) => account.take(now, cost)),
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
      const caller = this.waiting.get(id);
      assert.ok(caller !== undefined, `call ${id} was answered twice`);
      assert.ok(outcome !== 'aborted' || caller.signal !== undefined);
      this.waiting.delete(id);
      this.#tally[outcome === 'aborted' ? 'aborts' : 'refusals']++;
    } catch (wrong) {
      this.failure ??= wrong;
    }
  }

  ask(how: 'acquire' | 'run', cost: number, timeout: number, signal: number | undefined): void {
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
    assert.equal(waiting, 0, 'tryAcquire barged');
    this.granted(id, cost, permit);
  }

  release(given: Given): void {
    if (!given.permit.released && !this.finish.has(given.id)) this.#active--;
    const finish = this.finish.get(given.id);
    this.finish.delete(given.id);
    if (finish !== undefined) {
      this.#active--;
      finish();
    } else given.permit.release();
  }

  settle(given: Given, cost: number): void {
    given.permit.settle(cost);
    if (given.settled) return;
    given.settled = true;
    for (const [index, account] of this.accounts.entries())
      account.settle(this.now, given.entries[index] as Entry, cost);
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
    // A window has no burst.
    this.#limits = { capacity: tokens, concurrency, period: seconds, burst: this.#sliding ? undefined : size };
    this.throttle.configure(this.#limits);
    const first: Rate = this.#sliding
      ? { capacity: tokens, period: seconds, window: 'sliding', margin: this.#margin }
      : { capacity: tokens, period: seconds, burst: size };
    this.accounts[0].configure(this.now, first);
  }

  /** What is so at every instant at which nothing happens. */
  check(): void {
    if (this.failure !== undefined) throw this.failure;
    const { throttle, now, waiting } = this;
    assert.equal(throttle.active, this.#active, 'active');
    assert.equal(throttle.waiting, waiting.size, 'waiting');
    this.signals.forEach(({ signal }, index) => {
      const waited = [...waiting.values()].some((caller) => caller.signal === index);
      assert.equal(getEventListeners(signal, 'abort').length, waited ? 1 : 0, `listeners on signal ${index}`);
    });
    const timed = [...waiting.values()].filter(({ deadline }) => deadline < Infinity).length;
    const { pending } = this.clock.passing;
    assert.ok(
      pending === timed || (pending === timed + 1 && waiting.size > 0),
      `${pending} timers for ${waiting.size} who wait, ${timed} of them with a deadline`,
    );
    if (!this.#exactClock) return;
    // The head of the queue does not wait for nothing.
    const [head] = waiting.values();
    if (head === undefined || this.#active >= this.#slots() || now < this.#pausedUntil + grain(now)) return;
    assert.ok(
      !this.accounts.every((account) => account.must(now, head.cost)),
      `at ${now} call ${head.id}, of cost ${head.cost}, is the first in line, fits, and waits`,
    );
  }

  /** Everyone is let go, and gives back what is granted: so all that wait are answered, as soon as the rate lets them. */
  async end(closes: boolean): Promise<void> {
    const { throttle, clock } = this;
    clock.fires = (seconds) => seconds;
    clock.goOn();
    if (closes) throttle.close();
    else {
      this.configure({ concurrency: 0 });
      this.resume();
      await turn();
      this.check();
    }
    for (const given of this.given) this.release(given);
    await turn();
    await clock.passing.runAll();
    this.check();
    for (const given of this.given) this.release(given);
    await within(5, throttle.idle(), 'idle');
    assert.deepEqual([throttle.active, throttle.waiting, clock.passing.pending], [0, 0, 0], 'what is left');
    await turn();
  }
}

export async function playLoose(seed: number, tally: Tally): Promise<void> {
  await playSeed(seed, history, async (plan) => {
    const watched = new Watched(plan, tally);
    const { clock, given } = watched;
    if (plan.manner === 'late') clock.fires = (seconds) => seconds * 1.1;
    if (plan.manner === 'early') clock.fires = (seconds) => seconds * 0.8;
    for (const step of plan.operations) {
      tally.operations++;
      const pick = 'which' in step ? given[step.which % Math.max(1, given.length)] : undefined;
      const { maxCost, unit } = watched;
      switch (step.do) {
        case 'acquire':
        case 'run':
          watched.ask(step.do, step.share * maxCost, step.timeout * unit, step.signal);
          break;
        case 'tryAcquire':
          watched.tryAcquire(step.share * maxCost);
          break;
        case 'release':
          if (pick !== undefined) watched.release(pick);
          break;
        case 'settle':
          // Time that a clock hides, and timers show later: what is settled meanwhile counts as of the instant that was seen last.
          if (pick !== undefined && plan.manner !== 'back') watched.settle(pick, step.share * pick.cost);
          break;
        case 'abort':
          watched.abort(step.signal);
          break;
        case 'pause':
          watched.pause(step.seconds * unit);
          break;
        case 'resume':
          watched.resume();
          break;
        case 'configure':
          // Time that a clock hides, and shows later, would pass by the wrong rate.
          if (plan.manner === 'still' || plan.manner === 'back')
            watched.configure(step.limits.concurrency === undefined ? {} : { concurrency: step.limits.concurrency });
          else watched.configure(step.limits);
          break;
        case 'advance':
          await clock.passing.advance(step.share * unit);
          clock.goOn();
          break;
        case 'skew':
          if (plan.manner === 'back') clock.skew -= step.share * unit;
          if (plan.manner === 'still') clock.stop();
          break;
      }
      await turn();
      watched.check();
    }
    await watched.end(plan.closes);
  });
}
