/**
 * One suite for every gate: what a caller may rely on, whoever keeps the promise. It sees a gate from outside only,
 * through the `Gate` interface, so it fits one whose answers take a round trip as well as a `Throttle`.
 *
 * All spans are counted in the subject's unit: a second of a clock that a test moves, or as little real time as its
 * slack allows. A subject is seen to act late by up to its `grain`, which is half a unit, but never early: every
 * expectation tells right from wrong by a unit or so.
 *
 * A gate behind a round trip has to keep the order in which one caller called, a release included: whoever releases
 * and then asks has released by the time that it is heard.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { type AcquireOptions, type Gate, type Permit, ThrottleClosedError, ThrottleTimeoutError } from 'headgate';
import { describe, expect, test } from 'vitest';
import { Outcomes } from '../support/support.js';

/** The limits of a gate; what is left out does not limit. */
export interface Settings {
  capacity?: number;
  concurrency?: number;
  /** Seconds. Default 1. */
  period?: number;
  burst?: number;
}

/** A gate, and the time that it lives in. */
export interface Stage {
  gate: Gate;
  /** Lets time pass, and settles what that brings about. */
  elapse(seconds: number): Promise<void>;
  /** Resolves when everything that is due by now has been decided and its callers have heard of it. */
  settled(): Promise<void>;
  /** Seconds, monotonic. */
  now(): number;
  dispose?(): Promise<void>;
}

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** How late a timer or an answer may be seen to come on a machine that has other things to do. */
export const GRAIN_SECONDS = 0.1;

/** A gate in real time, of which everything is heard within `settleMilliseconds`. */
export const stageInRealTime = (gate: Gate, settleMilliseconds: number): Omit<Stage, 'dispose'> => {
  const settled = (): Promise<void> => sleep(settleMilliseconds);
  return {
    gate,
    settled,
    async elapse(seconds) {
      // A timer may fire a millisecond early.
      await sleep(seconds * 1_000 + 1);
      await settled();
    },
    now: () => performance.now() / 1_000,
  };
};

export interface Features {
  /** `capacity`, `period` and `burst` are kept; costs are tokens. */
  rate: boolean;
  /** `pause` and `resume` do what they say. */
  pause: boolean;
  /** A timeout that tokens or a pause make hopeless is refused at once, with `retryAfter`. */
  foresight: boolean;
}

/** What the suite is about. */
export interface Subject {
  make(settings: Settings): Promise<Stage>;
  /** Seconds by which an instant may be seen too late: 0 for a clock that a test moves. */
  grain: number;
  /** What it does not have it is not asked for. */
  features: Features;
}

/** `test`, or what takes its place where there is nothing to test. */
const testIf = (has: boolean): Pick<typeof test, 'each'> & ((name: string, body: () => Promise<void>) => void) =>
  has ? test : Object.assign(() => {}, { each: () => () => {} });

const wrong = (value: unknown): never => value as never;

const show = (value: unknown): string => (typeof value === 'number' ? String(value) : JSON.stringify(value));

/** What the call is refused with, be it thrown or rejected. */
const refusal = async (call: () => unknown): Promise<Error> => {
  try {
    await call();
  } catch (error) {
    return error as Error;
  }
  return expect.fail('it was not refused');
};

/** The permit, which has to be there now. */
const take = async (gate: Gate, cost?: number): Promise<Permit> => {
  const permit = await gate.tryAcquire(cost);
  return permit ?? expect.fail(`there is no permit for a cost of ${cost ?? 1}`);
};

/** All the permits that are there to be had now, up to ten. */
const takeAll = async (gate: Gate, cost?: number): Promise<Permit[]> => {
  const permits: Permit[] = [];
  for (let permit: Permit | undefined; permits.length < 10 && (permit = await gate.tryAcquire(cost)) !== undefined;)
    permits.push(permit);
  return permits;
};

/** What became of calls, in which order and when. */
class Trace extends Outcomes {
  readonly #now: () => number;
  readonly #instants = new Map<string, number>();

  constructor(now: () => number) {
    super();
    this.#now = now;
  }

  override follow(name: string, promise: Promise<unknown>): void {
    super.follow(
      name,
      promise.finally(() => this.#instants.set(name, this.#now())),
    );
  }

  /** When it was decided. */
  at(name: string): number {
    return this.#instants.get(name) ?? expect.fail(`nothing has become of "${name}" yet`);
  }
}

/** Notices when this process is kept from running. */
class Pulse {
  static readonly #BEAT_MILLISECONDS = 10;
  #last = performance.now();
  #longest = 0;
  readonly #timer = setInterval(() => this.#beat(), Pulse.#BEAT_MILLISECONDS);

  longestPauseSeconds(): number {
    this.#beat();
    return this.#longest / 1_000;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #beat(): void {
    const now = performance.now();
    this.#longest = Math.max(this.#longest, now - this.#last - Pulse.#BEAT_MILLISECONDS);
    this.#last = now;
  }
}

interface Scene extends Required<Omit<Stage, 'dispose'>> {
  trace: Trace;
  /** `acquire`, followed under a name. */
  ask(name: string, cost?: number, options?: AcquireOptions): void;
}

/** A call in a random history. */
interface Call {
  readonly id: number;
  readonly cost: number;
  /** The instant at which it gives up. */
  readonly deadline: number;
  readonly stop: AbortController;
  waits: boolean;
  /** Ends its work, once it is in. */
  end: () => void;
}

export function conformance(name: string, { make, grain, features }: Subject): void {
  const unit = grain === 0 ? 1 : 2 * grain;
  /** So long that nothing comes of it while a test runs. */
  const long = 1_000 * unit;
  const early = grain / 20 + 1e-9;
  const late = grain + 1e-9;

  const once = async (settings: Settings, body: (scene: Scene) => Promise<void>): Promise<void> => {
    const { gate, elapse, settled, now, dispose } = await make(settings);
    const trace = new Trace(now);
    const ask: Scene['ask'] = (call, cost, options) => trace.follow(call, gate.acquire(cost, options));
    try {
      await body({ gate, elapse, settled, now, trace, ask });
    } finally {
      await dispose?.();
    }
  };

  /** A test's body, with a gate of its own. */
  const on = (settings: Settings, body: (scene: Scene) => Promise<void>) => async (): Promise<void> => {
    if (grain === 0) return once(settings, body);
    // What fails while the machine had no time for us says nothing about the gate: then once more, twice at the most.
    for (let attempt = 1; ; attempt++) {
      const pulse = new Pulse();
      try {
        return await once(settings, body);
      } catch (error) {
        if (attempt === 3 || pulse.longestPauseSeconds() < grain / 4) throw error;
      } finally {
        pulse.stop();
      }
    }
  };

  /** `instant` lies between the two, as exactly as the subject can be seen to act. */
  const expectBetween = (instant: number, from: number, to: number): void => {
    expect(instant).toBeGreaterThanOrEqual(from - early);
    expect(instant).toBeLessThanOrEqual(to + late);
  };

  /** The cost granted in every span of `grants` ([instant, cost], in order) is at most burst + rate x span. */
  const expectWithinRate = (grants: readonly (readonly [number, number])[], burst: number, rate: number): void => {
    for (let from = 0; from < grants.length; from++) {
      let cost = 0;
      for (let to = from; to < grants.length; to++) {
        cost += grants[to]![1];
        const bound = burst + rate * (grants[to]![0] - grants[from]![0] + grain);
        if (cost > bound * (1 + 1e-9))
          expect.fail(`${cost} granted from ${grants[from]![0]} to ${grants[to]![0]}, at most ${bound} may be`);
      }
    }
  };

  // What takes real time mostly sleeps, and may do so side by side.
  const section = grain === 0 ? describe : describe.concurrent;
  const sectionIf = (feature: boolean): ((title: string, tests: () => void) => void) => (feature ? section : () => {});

  describe(`${name} is a gate`, () => {
    section('concurrency', () => {
      test(
        'never more at a time than there are slots, and never fewer while somebody waits',
        on({ concurrency: 3 }, async ({ gate, settled }) => {
          const finish: (() => void)[] = [];
          const seen: number[] = [];
          let running = 0;
          const all = Array.from({ length: 9 }, () =>
            gate.run(async () => {
              running++;
              await new Promise<void>((resolve) => void finish.push(resolve));
              running--;
            }),
          );
          for (let round = 0; round < 9; round++) {
            await settled();
            seen.push(running);
            finish.shift()!();
          }
          await Promise.all(all);
          expect(seen).toEqual([3, 3, 3, 3, 3, 3, 3, 2, 1]);
        }),
      );

      test(
        'tryAcquire, acquire and run share the slots',
        on({ concurrency: 3 }, async ({ gate, settled, trace, ask }) => {
          let finish: () => void = () => {};
          const job = gate.run(() => new Promise<void>((resolve) => (finish = resolve)));
          await settled();
          ask('acquired');
          await settled();
          expect(trace.order).toEqual(['acquired']);
          const tried = await take(gate);
          expect(await gate.tryAcquire()).toBeUndefined();
          finish();
          await job;
          trace.permit('acquired').release();
          tried.release();
          expect(await takeAll(gate)).toHaveLength(3);
        }),
      );

      test(
        '0 lets any number in',
        on({ concurrency: 0 }, async ({ gate }) => {
          expect(await takeAll(gate)).toHaveLength(10);
        }),
      );

      test(
        'a cost of 0 takes a slot',
        on({ concurrency: 1 }, async ({ gate }) => {
          const permit = await gate.acquire(0);
          expect(permit.cost).toBe(0);
          expect(await gate.tryAcquire(0)).toBeUndefined();
          permit.release();
          expect(await takeAll(gate, 0)).toHaveLength(1);
        }),
      );
    });

    sectionIf(features.rate)('rate', () => {
      test(
        'the bucket starts full: the burst at once, and not one more',
        on({ capacity: 3, period: long }, async ({ gate }) => {
          expect(await takeAll(gate)).toHaveLength(3);
        }),
      );

      test('a burst of its own is what counts, larger than the capacity or smaller', async () => {
        await on({ capacity: 3, period: long, burst: 5 }, async ({ gate }) =>
          expect(await takeAll(gate)).toHaveLength(5),
        )();
        await on({ capacity: 3, period: long, burst: 2 }, async ({ gate }) =>
          expect(await takeAll(gate)).toHaveLength(2),
        )();
      });

      test(
        'an idle bucket fills up to the burst, not beyond',
        on({ capacity: 1, period: unit, burst: 2 }, async ({ gate, elapse }) => {
          await take(gate, 2);
          await elapse(4 * unit);
          await take(gate, 2);
          expect(await gate.tryAcquire(1)).toBeUndefined();
        }),
      );

      test(
        'in any span at most burst + rate x span is granted, and no less while somebody waits',
        on({ capacity: 4, period: unit, burst: 4 }, async ({ gate, elapse, now, trace, ask }) => {
          const costs = [1, 3, 0.5, 2, 0.25, 4, 1.25, 0, 4];
          const from = now();
          costs.forEach((cost, index) => ask(`${index}`, cost));
          await elapse(3.5 * unit);
          const grants = costs.map((cost, index) => [trace.at(`${index}`), cost] as const);
          expectWithinRate(grants, 4, 4 / unit);
          let sum = -4;
          for (const [at, cost] of grants) {
            sum += cost;
            expectBetween(at, from + Math.max(0, sum) * (unit / 4), from + Math.max(0, sum) * (unit / 4));
          }
          expect(await gate.tryAcquire(4)).toBeUndefined();
        }),
      );

      test(
        'no double burst around the edge of a period',
        on({ capacity: 4, period: unit }, async ({ elapse, now, trace, ask }) => {
          const from = now();
          ask('first', 0.001);
          await elapse(0.9 * unit);
          for (let index = 0; index < 8; index++) ask(`${index}`, 1);
          await elapse(1.5 * unit);
          const grants = Array.from({ length: 8 }, (_, index) => [trace.at(`${index}`), 1] as const);
          expectWithinRate([[from, 0.001], ...grants], 4, 4 / unit);
          expect(grants[7]![0] - grants[0]![0]).toBeGreaterThanOrEqual(unit - late);
        }),
      );

      test(
        'slots that come back bring no tokens',
        on({ capacity: 2, concurrency: 1, period: long }, async ({ gate }) => {
          (await take(gate)).release();
          (await take(gate)).release();
          expect(await gate.tryAcquire()).toBeUndefined();
        }),
      );

      test(
        'ten times 0.1 make one',
        on({ capacity: 1, period: long }, async ({ gate }) => {
          for (let count = 0; count < 10; count++) await take(gate, 0.1);
          expect(await gate.tryAcquire(0.1)).toBeUndefined();
        }),
      );

      test(
        'rounding keeps nobody out: 0.9 and 0.1 make one, too',
        on({ capacity: 1, period: long }, async ({ gate }) => {
          await take(gate, 0.9);
          await take(gate, 0.1);
        }),
      );

      test(
        'a fraction of a token takes that fraction of the time',
        on({ capacity: 1, period: unit }, async ({ gate, elapse, now, trace, ask }) => {
          const from = now();
          await take(gate, 1);
          const to = now();
          ask('half', 0.5);
          ask('third', 1 / 3);
          await elapse(1.5 * unit);
          expectBetween(trace.at('half'), from + 0.5 * unit, to + 0.5 * unit);
          expectBetween(trace.at('third'), from + (5 / 6) * unit, to + (5 / 6) * unit);
        }),
      );

      test(
        'a cost of 0 takes no token and waits for none',
        on({ capacity: 2, period: long }, async ({ gate }) => {
          for (let count = 0; count < 5; count++) await gate.acquire(0);
          await take(gate, 2);
          await gate.run(() => {}, 0);
          await take(gate, 0);
        }),
      );

      test(
        'a cost beyond the burst is refused at once, and takes nothing',
        on({ capacity: 3, concurrency: 1, period: long }, async ({ gate }) => {
          for (const call of [
            () => gate.acquire(3.5),
            () => gate.run(() => {}, 4),
            () => gate.tryAcquire(1e9),
            () => gate.acquire(4, { timeout: 0 }),
          ]) {
            const error = await refusal(call);
            expect(error).toBeInstanceOf(RangeError);
            expect(error.message).toMatch(/^cost must be at most 3\b.*received /);
          }
          await take(gate, 3);
        }),
      );
    });

    section('first in, first out', () => {
      test(
        'grants come in the order of the calls, by acquire and run alike',
        on({ concurrency: 1 }, async ({ gate, settled }) => {
          const holder = await take(gate);
          const order: number[] = [];
          const all = Array.from({ length: 8 }, (_, index) => {
            if (index % 3 === 0) return gate.run(() => order.push(index));
            return gate.acquire(1, index % 3 === 1 ? { timeout: long } : undefined).then((permit) => {
              permit.release();
              return order.push(index);
            });
          });
          await settled();
          expect(order).toEqual([]);
          holder.release();
          await Promise.all(all);
          expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
        }),
      );

      test(
        'tryAcquire and a timeout of 0 fail while anyone waits, also in the tick of a release',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const holder = await take(gate);
          ask('first');
          ask('second');
          await settled();
          holder.release();
          const [tried, error] = await Promise.all([gate.tryAcquire(), refusal(() => gate.acquire(1, { timeout: 0 }))]);
          expect(tried).toBeUndefined();
          expect(error).toBeInstanceOf(ThrottleTimeoutError);
          await settled();
          expect(trace.order).toEqual(['first']);
          trace.permit('first').release();
          await settled();
          expect(trace.order).toEqual(['first', 'second']);
        }),
      );

      test(
        'who releases and asks again comes after all who wait',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const holder = await take(gate);
          ask('first');
          ask('second');
          await settled();
          holder.release();
          ask('again');
          for (const names of [['first'], ['first', 'second'], ['first', 'second', 'again']]) {
            await settled();
            expect(trace.order).toEqual(names);
            trace.permit(names.at(-1)!).release();
          }
        }),
      );

      test(
        'though most of a long queue leaves, from everywhere in it',
        on({ concurrency: 5 }, async ({ gate, settled }) => {
          const holders = [await take(gate), await take(gate), await take(gate), await take(gate), await take(gate)];
          const stop = new AbortController();
          const order: number[] = [];
          const stays = (index: number): boolean => index % 4 === 1;
          const all = Array.from({ length: 300 }, async (__, index) => {
            using _ = await gate.acquire(1, stays(index) ? undefined : { signal: stop.signal });
            order.push(index);
          });
          const ends = Promise.allSettled(all);
          await settled();
          stop.abort();
          await settled();
          for (const holder of holders) holder.release();
          await ends;
          expect(order).toEqual(Array.from(all.keys()).filter(stays));
          expect(await takeAll(gate)).toHaveLength(5);
        }),
      );

      testIf(features.rate)(
        'small costs do not starve a large one: nobody passes it, be the tokens there or not',
        on({ capacity: 4, period: unit }, async ({ gate, elapse, settled, now, trace, ask }) => {
          const from = now();
          await take(gate, 4);
          const to = now();
          ask('large', 4);
          await settled();
          for (let count = 0; count < 3; count++) {
            ask(`small ${count}`, 0.5);
            await elapse(0.2 * unit);
            if (now() < from + unit - early) {
              expect(await gate.tryAcquire(0.1)).toBeUndefined();
              expect(await refusal(() => gate.acquire(0.1, { timeout: 0 }))).toBeInstanceOf(ThrottleTimeoutError);
              expect(await refusal(() => gate.run(() => {}, 0.1, { timeout: 0 }))).toBeInstanceOf(ThrottleTimeoutError);
            }
          }
          await elapse(unit);
          expect(trace.order).toEqual(['large', 'small 0', 'small 1', 'small 2']);
          expectBetween(trace.at('large'), from + unit, to + unit);
        }),
      );
    });

    section('nobody waits without need', () => {
      test(
        'a release lets the next in, and only the next',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const holder = await take(gate);
          ask('first');
          ask('second');
          await settled();
          expect(trace.order).toEqual([]);
          holder.release();
          await settled();
          expect(trace.order).toEqual(['first']);
        }),
      );

      test(
        'several releases in one tick let several in, in order',
        on({ concurrency: 3 }, async ({ gate, settled, trace, ask }) => {
          const holders = [await take(gate), await take(gate), await take(gate)];
          for (const call of ['a', 'b', 'c', 'd', 'e']) ask(call);
          await settled();
          for (const holder of holders) holder.release();
          await settled();
          expect(trace.order).toEqual(['a', 'b', 'c']);
          trace.permit('b').release();
          trace.permit('a').release();
          await settled();
          expect(trace.order).toEqual(['a', 'b', 'c', 'd', 'e']);
        }),
      );

      sectionIf(features.rate)('where tokens are short', () => {
        test(
          'a head that aborts lets the next go at once, if its own cost is there',
          on({ capacity: 4, period: unit }, async ({ gate, elapse, settled, now, trace, ask }) => {
            await take(gate, 4);
            const stop = new AbortController();
            ask('heavy', 4, { signal: stop.signal });
            ask('light', 1);
            await elapse(0.5 * unit);
            expect(trace.order).toEqual([]);
            const from = now();
            stop.abort();
            await settled();
            expect(trace.order).toEqual(['heavy!', 'light']);
            expectBetween(trace.at('light'), from, from);
          }),
        );

        test(
          'a head that aborts leaves the next to its own time',
          on({ capacity: 1, period: unit, burst: 4 }, async ({ gate, elapse, settled, now, trace, ask }) => {
            const from = now();
            await take(gate, 4);
            const to = now();
            const stop = new AbortController();
            ask('heavy', 4, { signal: stop.signal });
            ask('light', 1);
            await settled();
            stop.abort();
            await elapse(1.5 * unit);
            expect(trace.order).toEqual(['heavy!', 'light']);
            expectBetween(trace.at('light'), from + unit, to + unit);
          }),
        );

        test(
          'a head whose time is up lets the next go at once',
          on({ capacity: 1, period: unit, burst: 4 }, async ({ gate, elapse, settled, now, trace, ask }) => {
            const owing = await take(gate, 4);
            ask('heavy', 1.5, { timeout: 2 * unit });
            ask('light', 0.5);
            await settled();
            const from = now();
            owing.settle(5.25);
            await elapse(2.5 * unit);
            expect(trace.order).toEqual(['heavy!', 'light']);
            expect(trace.error('heavy')).toBeInstanceOf(ThrottleTimeoutError);
            expectBetween(trace.at('light'), from + 1.75 * unit, from + 2 * unit);
          }),
        );

        test(
          'what is refunded or settled lets the head in at once',
          on({ capacity: 4, period: long }, async ({ gate, settled, trace, ask }) => {
            const [refunded, settledLower] = [await take(gate, 2), await take(gate, 2)];
            ask('first', 2);
            ask('second', 1);
            await settled();
            expect(trace.order).toEqual([]);
            refunded.refund();
            await settled();
            expect(trace.order).toEqual(['first']);
            settledLower.settle(1);
            await settled();
            expect(trace.order).toEqual(['first', 'second']);
          }),
        );
      });
    });

    section('whoever leaves', () => {
      test(
        'by an abort leaves at once, with the reason itself, and holds no slot',
        on({ concurrency: 2 }, async ({ gate, settled, trace, ask }) => {
          const holders = [await take(gate), await take(gate)];
          const stop = new AbortController();
          ask('gone', 1, { signal: stop.signal });
          ask('gone too', 1, { signal: stop.signal });
          await settled();
          const reason = new Error('changed my mind');
          stop.abort(reason);
          await settled();
          expect(trace.order.toSorted()).toEqual(['gone too!', 'gone!']);
          expect(trace.error('gone')).toBe(reason);
          expect(trace.error('gone too')).toBe(reason);
          for (const holder of holders) holder.release();
          expect(await takeAll(gate)).toHaveLength(2);
        }),
      );

      test(
        'by a timeout leaves when its time is up, and holds no slot',
        on({ concurrency: 1 }, async ({ gate, elapse, now, trace, ask }) => {
          const holder = await take(gate);
          const from = now();
          ask('gone', 1, { timeout: unit });
          trace.follow(
            'gone too',
            gate.run(() => 'done', 1, { timeout: 0.5 * unit }),
          );
          await elapse(0.25 * unit);
          const to = now();
          expect(trace.order).toEqual([]);
          await elapse(1.25 * unit);
          expect(trace.order).toEqual(['gone too!', 'gone!']);
          expect(trace.error('gone')).toMatchObject({ code: 'ERR_THROTTLE_TIMEOUT' });
          expect(trace.error('gone')).toBeInstanceOf(ThrottleTimeoutError);
          expectBetween(trace.at('gone too'), from + 0.5 * unit, to + 0.5 * unit);
          expectBetween(trace.at('gone'), from + unit, to + unit);
          holder.release();
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );

      testIf(features.rate)(
        'has spent no token, by whichever way it left',
        on({ capacity: 4, period: long }, async ({ gate, settled, trace, ask }) => {
          const all = await take(gate, 4);
          const stop = new AbortController();
          for (const call of ['a', 'b', 'c']) ask(call, 2, { signal: stop.signal });
          trace.follow(
            'd',
            gate.run(() => {}, 1, { signal: stop.signal }),
          );
          await settled();
          stop.abort();
          await settled();
          expect(trace.order.toSorted()).toEqual(['a!', 'b!', 'c!', 'd!']);
          await refusal(() => gate.acquire(1, { timeout: 0 }));
          all.refund();
          await settled();
          await take(gate, 4);
        }),
      );

      testIf(features.rate)(
        'has spent no token, though it was there while a slot was not',
        on({ capacity: 4, concurrency: 1, period: long }, async ({ gate, settled, trace, ask }) => {
          const holder = await take(gate, 0);
          const stop = new AbortController();
          ask('acquire', 4, { signal: stop.signal });
          trace.follow(
            'run',
            gate.run(() => {}, 1, { signal: stop.signal }),
          );
          await settled();
          stop.abort();
          holder.release();
          await settled();
          expect(trace.order.toSorted()).toEqual(['acquire!', 'run!']);
          await take(gate, 4);
        }),
      );

      test(
        'from the middle lets nobody skip ahead',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const holder = await take(gate);
          const stop = new AbortController();
          ask('a');
          ask('b', 1, { signal: stop.signal });
          ask('c');
          await settled();
          stop.abort();
          await settled();
          expect(trace.order).toEqual(['b!']);
          holder.release();
          await settled();
          expect(trace.order).toEqual(['b!', 'a']);
          trace.permit('a').release();
          await settled();
          expect(trace.order).toEqual(['b!', 'a', 'c']);
        }),
      );

      test(
        'together with all who share its signal lets none of them in on the way',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const holder = await take(gate);
          const stop = new AbortController();
          ask('head', 1, { signal: stop.signal });
          ask('stays');
          ask('tail', 1, { signal: stop.signal });
          await settled();
          stop.abort();
          holder.release();
          await settled();
          expect(trace.order.toSorted()).toEqual(['head!', 'stays', 'tail!']);
          trace.permit('stays').release();
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );

      testIf(features.rate)(
        'together with all who share its signal lets none of them in, though the tokens are there',
        on({ capacity: 4, period: long }, async ({ gate, settled, trace, ask }) => {
          await take(gate, 2);
          const stop = new AbortController();
          ask('heavy', 4, { signal: stop.signal });
          ask('light', 1, { signal: stop.signal });
          ask('stays', 2);
          await settled();
          stop.abort();
          await settled();
          expect(trace.order.toSorted()).toEqual(['heavy!', 'light!', 'stays']);
        }),
      );

      test(
        'never starts its work',
        on({ concurrency: 1 }, async ({ gate, settled, trace }) => {
          const holder = await take(gate);
          const stop = new AbortController();
          let started = false;
          trace.follow(
            'gone',
            gate.run(() => (started = true), 1, { signal: stop.signal }),
          );
          await settled();
          stop.abort();
          holder.release();
          await settled();
          expect([trace.order, started]).toEqual([['gone!'], false]);
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );

      test(
        'shares one listener with all who wait on its signal',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          await take(gate);
          const stop = new AbortController();
          for (let count = 0; count < 20; count++) ask(`${count}`, 1, { signal: stop.signal });
          await settled();
          expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
          stop.abort();
          await settled();
          expect(trace.order).toHaveLength(20);
        }),
      );

      test(
        'leaves no listener on the signal, nor does whoever is granted',
        on({ concurrency: 1 }, async ({ elapse, settled, trace, ask }) => {
          const stays = new AbortController();
          const stop = new AbortController();
          ask('free', 1, { signal: stays.signal });
          await settled();
          ask('granted', 1, { signal: stays.signal });
          ask('late', 1, { signal: stays.signal, timeout: 0.25 * unit });
          ask('aborted', 1, { signal: stop.signal });
          await settled();
          stop.abort();
          await elapse(0.5 * unit);
          trace.permit('free').release();
          await settled();
          expect(trace.order).toEqual(['free', 'aborted!', 'late!', 'granted']);
          expect(getEventListeners(stays.signal, 'abort')).toEqual([]);
          expect(getEventListeners(stop.signal, 'abort')).toEqual([]);
        }),
      );
    });

    section('grant and abort in one tick', () => {
      for (const first of ['release', 'abort'] as const) {
        test(
          `acquire, the ${first} first: a permit or a rejection, and no slot is lost`,
          on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
            const holder = await take(gate);
            const stop = new AbortController();
            const reason = new Error('changed my mind');
            ask('either', 1, { signal: stop.signal });
            await settled();
            if (first === 'abort') stop.abort(reason);
            holder.release();
            if (first === 'release') stop.abort(reason);
            await settled();
            if (trace.order[0] === 'either!') expect(trace.error('either')).toBe(reason);
            else {
              expect(trace.permit('either').released).toBe(false);
              expect(await gate.tryAcquire()).toBeUndefined();
              trace.permit('either').release();
            }
            expect(await takeAll(gate)).toHaveLength(1);
          }),
        );

        test(
          `run, the ${first} first: the work is done or never starts, and no slot is lost`,
          on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
            const holder = await take(gate);
            const stop = new AbortController();
            let started = 0;
            trace.follow(
              'either',
              gate.run(() => ++started, 1, { signal: stop.signal }),
            );
            ask('next');
            await settled();
            if (first === 'abort') stop.abort();
            holder.release();
            if (first === 'release') stop.abort();
            await settled();
            expect(trace.order.toSorted()).toEqual([started === 1 ? 'either' : 'either!', 'next']);
            trace.permit('next').release();
            expect(await takeAll(gate)).toHaveLength(1);
          }),
        );
      }

      test(
        'however far the grant is on its way when the abort comes, no slot is lost',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          let holder = await take(gate);
          for (let turn = 0; turn < 10; turn++) {
            const stop = new AbortController();
            ask(`${turn}`, 1, { signal: stop.signal });
            await settled();
            holder.release();
            for (let step = 0; step < turn; step++) await null;
            if (grain > 0) await new Promise((resolve) => void setTimeout(resolve, turn));
            stop.abort();
            await settled();
            expect(trace.order).toHaveLength(turn + 1);
            if (trace.order[turn] === `${turn}`) {
              holder = trace.permit(`${turn}`);
              expect(holder.released).toBe(false);
              expect(await gate.tryAcquire()).toBeUndefined();
            } else holder = await take(gate);
          }
        }),
      );

      test(
        'an abort after the grant changes nothing',
        on({ concurrency: 1 }, async ({ gate, elapse, settled, trace, ask }) => {
          const stop = new AbortController();
          const options = { signal: stop.signal, timeout: 0.25 * unit };
          ask('granted', 1, options);
          await settled();
          stop.abort();
          await elapse(0.5 * unit);
          expect(trace.order).toEqual(['granted']);
          expect(trace.permit('granted').released).toBe(false);
          expect(await gate.tryAcquire()).toBeUndefined();
        }),
      );
    });

    section('permits', () => {
      const ways: Record<string, (permit: Permit) => unknown> = {
        release: (permit) => permit.release(),
        using: (permit) => {
          using _ = permit;
        },
        'await using': async (permit) => {
          await using _ = permit;
        },
        'Symbol.dispose': (permit) => permit[Symbol.dispose](),
        'Symbol.asyncDispose': (permit) => permit[Symbol.asyncDispose](),
      };
      test.each(Object.entries(ways))('%s releases, once with whatever came before', (_, way) =>
        on({ concurrency: 2 }, async ({ gate }) => {
          const [permit] = [await take(gate), await take(gate)];
          expect(permit.released).toBe(false);
          await way(permit);
          expect(permit.released).toBe(true);
          expect(await takeAll(gate)).toHaveLength(1);
          for (const again of Object.values(ways)) await again(permit);
          expect(permit.released).toBe(true);
          expect(await gate.tryAcquire()).toBeUndefined();
        })(),
      );

      test(
        'a block that throws releases',
        on({ concurrency: 1 }, async ({ gate }) => {
          const block = async (): Promise<void> => {
            await using _ = await gate.acquire();
            throw new Error('boom');
          };
          await expect(block()).rejects.toThrow('boom');
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );

      test(
        'a permit tells its cost and how long it took',
        on({ concurrency: 1 }, async ({ gate, elapse, settled, now, trace, ask }) => {
          const holder = await gate.acquire();
          expect(holder.cost).toBe(1);
          expectBetween(holder.waited, 0, 0);
          const from = now();
          ask('later', 0.5);
          await settled();
          const joined = now();
          await elapse(unit);
          const to = now();
          holder.release();
          await settled();
          const later = trace.permit('later');
          expect([later.cost, later.released]).toEqual([0.5, false]);
          expectBetween(later.waited, to - joined, now() - from);
        }),
      );

      test.each([
        [-1, RangeError],
        [NaN, RangeError],
        [Infinity, RangeError],
        ['1', TypeError],
        [null, TypeError],
      ] as const)('settle(%s) is refused, changes nothing and does not count', (cost, Kind) =>
        on({ concurrency: 1 }, async ({ gate }) => {
          const permit = await take(gate, 1);
          const error = await refusal(() => permit.settle(wrong(cost)));
          expect(error).toBeInstanceOf(Kind);
          expect(error.message).toMatch(/^cost must be /);
          expect([permit.cost, permit.released]).toEqual([1, false]);
          permit.settle(0.5);
          expect(permit.cost).toBe(0.5);
        })(),
      );

      test(
        'settling leaves the slot alone, and shows in the cost, once',
        on({ concurrency: 1 }, async ({ gate, settled }) => {
          const permit = await take(gate);
          permit.settle(0.25);
          permit.settle(0.75);
          permit.refund();
          await settled();
          expect([permit.cost, permit.released]).toEqual([0.25, false]);
          expect(await gate.tryAcquire()).toBeUndefined();
          permit.release();
          permit.settle(0.5);
          expect(permit.cost).toBe(0.25);
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );

      sectionIf(features.rate)('and their tokens', () => {
        for (const when of ['before', 'after'] as const) {
          test(
            `what was settled lower ${when} the release is given back, once`,
            on({ capacity: 10, period: long }, async ({ gate, settled }) => {
              const permit = await take(gate, 10);
              if (when === 'after') permit.release();
              permit.settle(7);
              permit.settle(1);
              permit.refund();
              permit.release();
              await settled();
              expect(permit.cost).toBe(7);
              expect(await takeAll(gate)).toHaveLength(3);
            }),
          );

          test(
            `a refund ${when} the release gives all of it back, once`,
            on({ capacity: 3, period: long }, async ({ gate, settled }) => {
              const [permit] = [await take(gate, 2), await take(gate, 1)];
              if (when === 'after') permit.release();
              permit.refund();
              permit.refund();
              permit.release();
              await settled();
              expect(permit.cost).toBe(0);
              expect(await takeAll(gate)).toHaveLength(2);
            }),
          );

          test(
            `what was settled higher ${when} the release is a debt that later waiters pay`,
            on({ capacity: 2, period: unit }, async ({ gate, elapse, now, trace, ask }) => {
              const from = now();
              const permit = await take(gate, 2);
              if (when === 'after') permit.release();
              permit.settle(4);
              permit.release();
              ask('later', 1);
              const to = now();
              await elapse(2 * unit);
              expect(permit.cost).toBe(4);
              expectBetween(trace.at('later'), from + 1.5 * unit, to + 1.5 * unit);
            }),
          );
        }

        test(
          'a refund never fills the bucket beyond the burst',
          on({ capacity: 1, period: unit, burst: 2 }, async ({ gate, elapse, settled }) => {
            const permit = await take(gate, 2);
            await elapse(2.5 * unit);
            permit.refund();
            await settled();
            await take(gate, 2);
            expect(await gate.tryAcquire(1)).toBeUndefined();
          }),
        );

        test(
          'a late refund makes no second burst of what was refilled and spent meanwhile',
          on({ capacity: 1, period: unit, burst: 2 }, async ({ gate, elapse, settled }) => {
            const permit = await take(gate, 2);
            await elapse(2.5 * unit);
            await take(gate, 2);
            permit.refund();
            await settled();
            expect(await gate.tryAcquire(1)).toBeUndefined();
          }),
        );

        test(
          'a release, and a body that throws, leave the tokens spent',
          on({ capacity: 3, concurrency: 1, period: long }, async ({ gate }) => {
            (await take(gate)).release();
            await refusal(() => gate.run(() => Promise.reject(new Error('boom'))));
            await refusal(() =>
              gate.run(() => {
                throw new Error('boom');
              }),
            );
            expect(await takeAll(gate)).toHaveLength(0);
          }),
        );
      });
    });

    section('run', () => {
      test(
        'starts its function after it has returned, also when the way is free',
        on({}, async ({ gate }) => {
          let started = false;
          const done = gate.run(() => (started = true));
          expect(started).toBe(false);
          expect(await done).toBe(true);
        }),
      );

      test(
        'calls its function in its caller’s asynchronous context, whoever opens the gate',
        on({ concurrency: 1 }, async ({ gate, settled }) => {
          const context = new AsyncLocalStorage<string>();
          const here = (): string | undefined => context.getStore();
          expect(await context.run('free', () => gate.run(here))).toBe('free');
          const holder = await context.run('holder', () => take(gate));
          const seen = [
            context.run('a', () => gate.run(here)),
            context.run('b', () =>
              gate.run(async () => {
                await null;
                return here();
              }),
            ),
            context.run('c', () =>
              gate.acquire().then((permit) => {
                permit.release();
                return here();
              }),
            ),
          ];
          await settled();
          context.run('releaser', () => holder.release());
          expect(await Promise.all(seen)).toEqual(['a', 'b', 'c']);
        }),
      );

      test(
        'passes results and rejections through untouched',
        on({ concurrency: 1 }, async ({ gate }) => {
          const result = { some: 'object' };
          const error = new Error('boom');
          expect(await gate.run(() => result)).toBe(result);
          expect(await gate.run(async () => result)).toBe(result);
          expect(await gate.run(() => undefined)).toBeUndefined();
          expect(
            await refusal(() =>
              gate.run(() => {
                throw error;
              }),
            ),
          ).toBe(error);
          expect(await refusal(() => gate.run(() => Promise.reject(error)))).toBe(error);
          // oxlint-disable-next-line typescript/prefer-promise-reject-errors
          expect(await refusal(() => gate.run(() => Promise.reject('no error at all')))).toBe('no error at all');
          const another = new ThrottleTimeoutError('of another gate');
          expect(await refusal(() => gate.run(() => Promise.reject(another)))).toBe(another);
        }),
      );

      const endings: Record<string, () => unknown> = {
        returns: () => 1,
        resolves: async () => 1,
        throws: () => {
          throw new Error('boom');
        },
        rejects: async () => {
          throw new Error('boom');
        },
      };
      test.each(Object.entries(endings))('has released before its promise settles, when its function %s', (_, ending) =>
        on({ concurrency: 1 }, async ({ gate, settled }) => {
          const next = (): Permit | undefined | Promise<Permit | undefined> => gate.tryAcquire();
          const free = await gate.run(ending).then(next, next);
          expect(free).toBeDefined();
          const queued = gate.run(ending).then(next, next);
          await settled();
          free!.release();
          expect(await queued).toBeDefined();
        })(),
      );

      test(
        'hands its function the permit, whose release counts once',
        on({ concurrency: 2 }, async ({ gate }) => {
          await take(gate);
          const permit = await gate.run(async (own) => {
            expect([own.cost, own.released]).toEqual([0.5, false]);
            own.release();
            await using _ = own;
            return own;
          }, 0.5);
          expect(permit.released).toBe(true);
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );

      test(
        'lets thousands of synchronous functions through one slot, in order',
        on({ concurrency: 1 }, async ({ gate }) => {
          const order: number[] = [];
          const expected = Array.from({ length: grain === 0 ? 20_000 : 200 }, (_, index) => index);
          await Promise.all(expected.map((index) => gate.run(() => order.push(index))));
          expect(order).toEqual(expected);
        }),
      );

      test(
        'holds its slot until what its function returned has settled',
        on({ concurrency: 1 }, async ({ gate, elapse }) => {
          let finish: () => void = () => {};
          const done = gate.run(() => new Promise<void>((resolve) => (finish = resolve)));
          await elapse(unit);
          expect(await gate.tryAcquire()).toBeUndefined();
          finish();
          await done;
          await take(gate);
        }),
      );
    });

    sectionIf(features.pause)('pause', () => {
      test(
        'holds everyone queued and to come until its deadline; running work goes on',
        on({ concurrency: 2 }, async ({ gate, elapse, now, trace, ask }) => {
          const holders = [await take(gate), await take(gate)];
          const running = holders[1]!;
          ask('queued');
          const from = now();
          await gate.pause(unit);
          const to = now();
          holders[0]!.release();
          ask('to come', 1);
          await elapse(0.25 * unit);
          expect(trace.order).toEqual([]);
          expect(await gate.tryAcquire()).toBeUndefined();
          expect(running.released).toBe(false);
          running.release();
          await elapse(unit);
          expect(trace.order).toEqual(['queued', 'to come']);
          for (const call of ['queued', 'to come']) expectBetween(trace.at(call), from + unit, to + unit);
        }),
      );

      test(
        'tryAcquire and a timeout of 0 fail on a free gate that is paused',
        on({}, async ({ gate }) => {
          await gate.pause(long);
          expect(await gate.tryAcquire()).toBeUndefined();
          expect(await refusal(() => gate.acquire(1, { timeout: 0 }))).toBeInstanceOf(ThrottleTimeoutError);
        }),
      );

      test.each([[[1, 2]], [[2, 1]], [[2, 1, 0]]])('the latest deadline counts: %j', (spans) =>
        on({}, async ({ gate, elapse, now, trace, ask }) => {
          const from = now();
          for (const span of spans) await gate.pause(span * unit);
          const to = now();
          ask('held');
          await elapse(3.5 * unit);
          expectBetween(trace.at('held'), from + 2 * unit, to + 2 * unit);
        })(),
      );

      test(
        'pause(0) neither holds anybody nor opens the gate',
        on({}, async ({ gate, elapse, settled, trace, ask }) => {
          await gate.pause(0);
          await take(gate);
          await gate.pause(long);
          ask('held');
          await gate.pause(0);
          await elapse(0.25 * unit);
          expect(trace.order).toEqual([]);
          await gate.resume();
          await settled();
          expect(trace.order).toEqual(['held']);
        }),
      );

      test(
        'pause() has no end but resume, which lets in whoever fits, in order',
        on({ concurrency: 2 }, async ({ gate, elapse, settled, trace, ask }) => {
          await gate.pause();
          for (const call of ['a', 'b', 'c']) ask(call);
          await elapse(long / 500);
          expect(trace.order).toEqual([]);
          await gate.resume();
          await settled();
          expect(trace.order).toEqual(['a', 'b']);
          trace.permit('a').release();
          await settled();
          expect(trace.order).toEqual(['a', 'b', 'c']);
        }),
      );

      test(
        'resume ends every pause, and without one does nothing',
        on({ concurrency: 1 }, async ({ gate }) => {
          await gate.resume();
          await gate.pause(long);
          await gate.pause(2 * long);
          await gate.resume();
          const permit = await take(gate);
          await gate.resume();
          expect(await gate.tryAcquire()).toBeUndefined();
          permit.release();
          await take(gate);
        }),
      );

      test(
        'whoever leaves during a pause holds nothing',
        on({ concurrency: 1 }, async ({ gate, elapse, settled, trace, ask }) => {
          const stop = new AbortController();
          await gate.pause();
          ask('aborted', 1, { signal: stop.signal });
          ask('stays');
          await settled();
          const reason = new Error('enough');
          stop.abort(reason);
          await elapse(0.25 * unit);
          expect(trace.order).toEqual(['aborted!']);
          expect(trace.error('aborted')).toBe(reason);
          await gate.resume();
          await settled();
          expect(trace.order).toEqual(['aborted!', 'stays']);
          trace.permit('stays').release();
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );

      testIf(features.rate)(
        'tokens go on refilling, up to the burst',
        on({ capacity: 2, period: unit }, async ({ gate, elapse, now, trace, ask }) => {
          await take(gate, 2);
          const from = now();
          await gate.pause(2 * unit);
          const to = now();
          ask('first', 2);
          ask('second', 2);
          await elapse(3.5 * unit);
          expectBetween(trace.at('first'), from + 2 * unit, to + 2 * unit);
          expectBetween(trace.at('second'), from + 3 * unit, to + 3 * unit);
        }),
      );

      testIf(features.foresight)(
        'whoever could not be let in before its end is refused at once',
        on({}, async ({ gate, settled, trace, ask }) => {
          await gate.pause(long);
          ask('hopeless', 1, { timeout: long / 2 });
          await settled();
          expect(trace.error('hopeless')).toBeInstanceOf(ThrottleTimeoutError);
          expectBetween((trace.error('hopeless') as ThrottleTimeoutError).retryAfter ?? NaN, long - late, long);
        }),
      );
    });

    section('cancellation', () => {
      const gates: Record<string, { has: boolean; prepare: (gate: Gate) => unknown; then: (gate: Gate) => unknown }> = {
        free: { has: true, prepare: () => {}, then: () => {} },
        'out of slots': { has: true, prepare: (gate) => take(gate), then: () => {} },
        paused: { has: features.pause, prepare: (gate) => gate.pause(), then: (gate) => gate.resume() },
      };
      for (const [state, { has, prepare, then }] of Object.entries(gates)) {
        testIf(has)(
          `a signal aborted beforehand rejects with its reason and takes nothing, on a gate that is ${state}`,
          on({ concurrency: 2 }, async ({ gate, settled }) => {
            await take(gate);
            await prepare(gate);
            const reason = new Error('changed my mind');
            let started = false;
            const signal = AbortSignal.abort(reason);
            expect(await refusal(() => gate.acquire(1, { signal }))).toBe(reason);
            expect(await refusal(() => gate.acquire(1, { signal, timeout: 0 }))).toBe(reason);
            expect(await refusal(() => gate.run(() => (started = true), 1, { signal }))).toBe(reason);
            await settled();
            expect(started).toBe(false);
            expect(getEventListeners(signal, 'abort')).toEqual([]);
            await then(gate);
            expect(await takeAll(gate)).toHaveLength(state === 'out of slots' ? 0 : 1);
          }),
        );
      }

      testIf(features.rate)(
        'a signal aborted beforehand spends no token',
        on({ capacity: 3, period: long }, async ({ gate }) => {
          const signal = AbortSignal.abort();
          expect(await refusal(() => gate.acquire(3, { signal }))).toBe(signal.reason);
          expect(await refusal(() => gate.run(() => {}, 3, { signal }))).toBe(signal.reason);
          await take(gate, 3);
        }),
      );

      test.each<[string, unknown]>([
        ['an Error', new Error('enough')],
        ['a string', 'enough'],
        ['null', null],
        ['a TimeoutError', new DOMException('late', 'TimeoutError')],
      ])('an abort while waiting rejects with its reason itself: %s', (_, reason) =>
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          await take(gate);
          const stop = new AbortController();
          ask('acquire', 1, { signal: stop.signal });
          trace.follow(
            'run',
            gate.run(() => {}, 1, { signal: stop.signal }),
          );
          await settled();
          stop.abort(reason);
          await settled();
          expect(trace.order).toEqual(['acquire!', 'run!']);
          expect(trace.error('acquire')).toBe(reason);
          expect(trace.error('run')).toBe(reason);
        })(),
      );

      test(
        'an abort without a reason rejects with an AbortError',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          await take(gate);
          const stop = new AbortController();
          ask('waiting', 1, { signal: stop.signal });
          await settled();
          stop.abort();
          await settled();
          expect(trace.error('waiting')).toMatchObject({ name: 'AbortError' });
        }),
      );
    });

    section('timeouts', () => {
      test(
        '0 means now or never',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const permit = await gate.acquire(1, { timeout: 0 });
          ask('never', 1, { timeout: 0 });
          trace.follow(
            'nor run',
            gate.run(() => 1, 1, { timeout: 0 }),
          );
          await settled();
          expect(trace.order).toEqual(['never!', 'nor run!']);
          for (const call of ['never', 'nor run']) expect(trace.error(call)).toBeInstanceOf(ThrottleTimeoutError);
          permit.release();
          expect(await gate.run(() => 'now', 1, { timeout: 0 })).toBe('now');
        }),
      );

      test(
        'of undefined, and of Infinity, have no end; a signal of undefined is none',
        on({ concurrency: 1 }, async ({ gate, elapse, settled, trace, ask }) => {
          const holder = await take(gate);
          ask('undefined', undefined, { timeout: undefined, signal: undefined });
          ask('Infinity', 1, { timeout: Infinity });
          ask('empty', 1, {});
          await elapse(2 * unit);
          holder.release();
          for (const call of ['undefined', 'Infinity', 'empty']) {
            await settled();
            trace.permit(call).release();
          }
          expect(trace.order).toEqual(['undefined', 'Infinity', 'empty']);
        }),
      );

      test(
        'that have been met are over',
        on({ concurrency: 1 }, async ({ gate, elapse, settled, trace, ask }) => {
          const holder = await take(gate);
          ask('met', 1, { timeout: 0.5 * unit });
          await settled();
          holder.release();
          await elapse(unit);
          expect(trace.order).toEqual(['met']);
          expect(trace.permit('met').released).toBe(false);
          expect(await gate.tryAcquire()).toBeUndefined();
        }),
      );

      sectionIf(features.rate)('where tokens are short', () => {
        test(
          'that are long enough are met',
          on({ capacity: 1, period: unit }, async ({ gate, elapse, trace, ask }) => {
            await take(gate);
            ask('met', 1, { timeout: unit + late });
            await elapse(1.5 * unit + late);
            expect(trace.order).toEqual(['met']);
          }),
        );

        test(
          'of 0 tell when the tokens will be there, all who wait counted',
          on({ capacity: 1, period: unit, burst: 4 }, async ({ gate, settled, ask, now }) => {
            const from = now();
            await take(gate, 4);
            ask('ahead', 3);
            await settled();
            const error = await refusal(() => gate.acquire(2, { timeout: 0 }));
            const passed = now() - from;
            expect(error).toBeInstanceOf(ThrottleTimeoutError);
            const { retryAfter = NaN } = error as ThrottleTimeoutError;
            expect(retryAfter).toBeGreaterThanOrEqual(5 * unit - passed - early);
            expect(retryAfter).toBeLessThanOrEqual(5 * unit + early);
          }),
        );
      });

      testIf(features.rate && features.foresight)(
        'that cannot be met are refused at once, and cost nothing',
        on({ capacity: 1, period: long, burst: 4 }, async ({ gate, settled, trace, ask }) => {
          const all = await take(gate, 4);
          ask('hopeless', 2, { timeout: 1.5 * long });
          trace.follow(
            'hopeless run',
            gate.run(() => {}, 2, { timeout: 1.5 * long }),
          );
          await settled();
          expect(trace.order).toEqual(['hopeless!', 'hopeless run!']);
          for (const call of ['hopeless', 'hopeless run']) {
            const error = trace.error(call) as ThrottleTimeoutError;
            expect(error).toBeInstanceOf(ThrottleTimeoutError);
            expectBetween(error.retryAfter ?? NaN, 2 * long - late, 2 * long);
          }
          ask('ahead', 1, { timeout: 1.5 * long });
          ask('hopeless behind it', 1, { timeout: 1.5 * long });
          await settled();
          expect(trace.order.slice(2)).toEqual(['hopeless behind it!']);
          all.refund();
          await settled();
          await take(gate, 3);
        }),
      );
    });

    section('close', () => {
      test(
        'rejects everyone waiting and everyone later, with the first reason as the cause',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          await take(gate);
          ask('waiting');
          ask('with a timeout', 1, { timeout: long });
          trace.follow(
            'run',
            gate.run(() => {}),
          );
          await settled();
          const reason = new Error('shutting down');
          await gate.close(reason);
          await gate.close(new Error('too late'));
          ask('later');
          trace.follow(
            'later run',
            gate.run(() => {}),
          );
          await settled();
          const calls = ['waiting', 'with a timeout', 'run', 'later', 'later run'];
          expect(trace.order.toSorted()).toEqual(calls.map((call) => `${call}!`).toSorted());
          for (const call of calls) {
            expect(trace.error(call)).toBeInstanceOf(ThrottleClosedError);
            expect(trace.error(call)).toMatchObject({ code: 'ERR_THROTTLE_CLOSED', cause: reason });
          }
          expect(await gate.tryAcquire()).toBeUndefined();
        }),
      );

      test(
        'is final, though slots come back',
        on({ concurrency: 2 }, async ({ gate, settled, trace, ask }) => {
          const permit = await take(gate);
          await gate.close();
          expect(await gate.tryAcquire()).toBeUndefined();
          permit.release();
          permit.refund();
          permit.release();
          await gate.resume();
          await settled();
          expect(permit.released).toBe(true);
          expect(await gate.tryAcquire()).toBeUndefined();
          ask('later');
          await settled();
          expect(trace.error('later')).toBeInstanceOf(ThrottleClosedError);
        }),
      );

      test(
        'lets running work finish, and its result through',
        on({ concurrency: 1 }, async ({ gate, settled, trace }) => {
          let finish: (value: string) => void = () => {};
          trace.follow(
            'running',
            gate.run(() => new Promise<string>((resolve) => (finish = resolve))),
          );
          await settled();
          await gate.close();
          await settled();
          expect(trace.order).toEqual([]);
          finish('done');
          await settled();
          expect(trace.order).toEqual(['running']);
        }),
      );

      test(
        'leaves no listener behind',
        on({ concurrency: 1 }, async ({ gate, settled, ask }) => {
          const { signal } = new AbortController();
          await take(gate);
          ask('waiting', 1, { signal });
          await settled();
          await gate.close();
          await settled();
          expect(getEventListeners(signal, 'abort')).toEqual([]);
        }),
      );
    });

    section('bad arguments are refused by name, before anything is taken', () => {
      const options = (bad: object): AcquireOptions => bad;
      const numbers = [
        [-1, RangeError],
        [NaN, RangeError],
        ['1', TypeError],
        [null, TypeError],
        [true, TypeError],
      ] as const;
      const calls: [shown: string, argument: string, Kind: ErrorConstructor, call: (gate: Gate) => unknown][] = [
        ...[...numbers, [Infinity, RangeError] as const].flatMap(([bad, Kind]): typeof calls => [
          [`acquire(${show(bad)})`, 'cost', Kind, (gate) => gate.acquire(wrong(bad))],
          [`run(fn, ${show(bad)})`, 'cost', Kind, (gate) => gate.run(() => {}, wrong(bad))],
          [`tryAcquire(${show(bad)})`, 'cost', Kind, (gate) => gate.tryAcquire(wrong(bad))],
        ]),
        ...numbers.flatMap(([bad, Kind]): typeof calls => [
          [
            `acquire(1, { timeout: ${show(bad)} })`,
            'timeout',
            Kind,
            (gate) => gate.acquire(1, options({ timeout: bad })),
          ],
          [
            `run(fn, 1, { timeout: ${show(bad)} })`,
            'timeout',
            Kind,
            (gate) => gate.run(() => {}, 1, options({ timeout: bad })),
          ],
        ]),
        ...[null, 5, {}, 'stop'].flatMap((bad): typeof calls => [
          [
            `acquire(1, { signal: ${show(bad)} })`,
            'signal',
            TypeError,
            (gate) => gate.acquire(1, options({ signal: bad })),
          ],
          [
            `run(fn, 1, { signal: ${show(bad)} })`,
            'signal',
            TypeError,
            (gate) => gate.run(() => {}, 1, options({ signal: bad })),
          ],
        ]),
        ...[null, 5].flatMap((bad): typeof calls => [
          [`acquire(1, ${bad})`, 'options', TypeError, (gate) => gate.acquire(1, wrong(bad))],
          [`run(fn, 1, ${bad})`, 'options', TypeError, (gate) => gate.run(() => {}, 1, wrong(bad))],
        ]),
        ...[undefined, null, 'work'].map((bad): (typeof calls)[number] => [
          `run(${show(bad)})`,
          'fn',
          TypeError,
          (gate) => gate.run(wrong(bad)),
        ]),
      ];
      test.each(calls)('%s: %s', (shown, argument, Kind, call) =>
        on({ concurrency: 1 }, async ({ gate }) => {
          let answer: unknown;
          const error = await refusal(() => (answer = call(gate)));
          expect(error).toBeInstanceOf(Kind);
          expect(error.message).toMatch(new RegExp(`^${argument} must be .*, received `));
          // Whoever awaits acquire or run has one place for what goes wrong.
          if (!shown.startsWith('try')) expect(answer).toBeInstanceOf(Promise);
          await take(gate);
        })(),
      );

      testIf(features.pause).each(numbers)('pause(%s): seconds', (seconds, Kind) =>
        on({}, async ({ gate }) => {
          const error = await refusal(() => gate.pause(wrong(seconds)));
          expect(error).toBeInstanceOf(Kind);
          expect(error.message).toMatch(/^seconds must be .*, received /);
          await take(gate);
        })(),
      );

      testIf(features.rate)(
        'no token is spent on them',
        on({ capacity: 4, period: long }, async ({ gate }) => {
          await Promise.all(calls.map(async ([, , , call]) => refusal(() => call(gate))));
          await take(gate, 4);
        }),
      );
    });

    section('a random history', () => {
      test('keeps slots, rate, order, pauses and deadlines, and at the end everything is back', async () => {
        const pick = fc.nat();
        const cost = fc.constantFrom(0, 0.1, 0.5, 1, 2);
        const timeout = fc.constantFrom(undefined, undefined, 0, 0.25, 1);
        const command = fc.oneof(
          {
            weight: 8,
            arbitrary: fc.record({
              kind: fc.constant('ask' as const),
              verb: fc.constantFrom('acquire' as const, 'run' as const),
              cost,
              timeout,
            }),
          },
          { weight: 2, arbitrary: fc.record({ kind: fc.constant('try' as const), cost }) },
          {
            weight: 5,
            arbitrary: fc.record({
              kind: fc.constantFrom('release' as const, 'abort' as const),
              picks: fc.array(pick, { minLength: 1, maxLength: 3 }),
            }),
          },
          {
            weight: 3,
            arbitrary: fc.record({ kind: fc.constant('pass' as const), units: fc.constantFrom(0.1, 0.25, 0.7) }),
          },
          ...(features.pause
            ? [
                {
                  weight: 1,
                  arbitrary: fc.record({ kind: fc.constant('pause' as const), units: fc.constantFrom(0, 0.1, 0.5) }),
                },
                { weight: 1, arbitrary: fc.record({ kind: fc.constant('resume' as const) }) },
              ]
            : []),
        );
        const limits = fc.record({
          capacity: features.rate ? fc.constantFrom(Infinity, 4, 8) : fc.constant(Infinity),
          concurrency: fc.constantFrom(1, 2, 3),
          burst: fc.constantFrom(2, 4),
        });
        await fc.assert(
          fc.asyncProperty(
            limits,
            fc.array(command, { minLength: 10, maxLength: 30 }),
            async ({ capacity, concurrency, burst }, commands) =>
              on(
                { capacity, concurrency, period: unit, ...(capacity === Infinity ? {} : { burst }) },
                async ({ gate, elapse, settled, now }) => {
                  const calls: Call[] = [];
                  const running = new Set<Call>();
                  const grants: [number, number][] = [];
                  const faults: string[] = [];
                  let youngest = -1;
                  let heldUntil = -Infinity;

                  const call = (of: number, seconds = Infinity): Call => {
                    const made: Call = {
                      id: calls.length,
                      cost: of,
                      deadline: now() + seconds,
                      waits: true,
                      stop: new AbortController(),
                      end: () => {},
                    };
                    calls.push(made);
                    return made;
                  };
                  const granted = (to: Call, end: () => void): void => {
                    Object.assign(to, { waits: false, end });
                    running.add(to);
                    grants.push([now(), to.cost]);
                    if (running.size > concurrency)
                      faults.push(`${to.id} is in as number ${running.size} of ${concurrency}`);
                    if (to.id < youngest) faults.push(`${to.id} is in after ${youngest}`);
                    if (now() < heldUntil - early)
                      faults.push(`${to.id} is in at ${now()}, though paused until ${heldUntil}`);
                    youngest = Math.max(youngest, to.id);
                  };
                  const left = (who: Call, error: unknown): void => {
                    who.waits = false;
                    const { aborted, reason } = who.stop.signal;
                    const known =
                      (aborted && error === reason) ||
                      (who.deadline < Infinity && error instanceof ThrottleTimeoutError);
                    if (!known) faults.push(`${who.id} was refused: ${String(error)}`);
                  };
                  const end = (who: Call): void => {
                    if (running.delete(who)) who.end();
                  };
                  const check = async (): Promise<void> => {
                    await settled();
                    const waiting = calls.filter((one) => one.waits);
                    for (const { id, deadline } of waiting) {
                      if (id < youngest) faults.push(`${id} waits, though ${youngest} is in`);
                      if (now() > deadline + late)
                        faults.push(`${id} waits at ${now()}, though only until ${deadline}`);
                    }
                    const idle = waiting.length > 0 && running.size < concurrency && now() > heldUntil + late;
                    if (idle && capacity === Infinity)
                      faults.push(`${waiting.length} wait, though only ${running.size} run`);
                    expect(faults).toEqual([]);
                  };

                  for (const one of commands) {
                    if (one.kind === 'ask') {
                      const { verb, cost: of, timeout: units } = one;
                      const asked = call(of, units === undefined ? Infinity : units * unit);
                      const options = {
                        signal: asked.stop.signal,
                        timeout: units === undefined ? undefined : units * unit,
                      };
                      const refused = (error: unknown): void => left(asked, error);
                      if (verb === 'acquire')
                        gate.acquire(of, options).then((permit) => granted(asked, () => permit.release()), refused);
                      else
                        gate
                          .run(() => new Promise<void>((resolve) => granted(asked, resolve)), of, options)
                          .catch(refused);
                    } else if (one.kind === 'try') {
                      const tried = call(one.cost);
                      const permit = await gate.tryAcquire(one.cost);
                      if (permit === undefined) tried.waits = false;
                      else granted(tried, () => permit.release());
                    } else if (one.kind === 'release') {
                      for (const which of one.picks) if (running.size > 0) end([...running][which % running.size]!);
                    } else if (one.kind === 'abort') {
                      for (const which of one.picks) calls[which % calls.length]?.stop.abort(new Error('enough'));
                    } else if (one.kind === 'pass') {
                      await elapse(one.units * unit);
                    } else if (one.kind === 'pause') {
                      const until = now() + one.units * unit;
                      await gate.pause(one.units * unit);
                      await settled();
                      if (one.units > 0) heldUntil = Math.max(heldUntil, until);
                    } else {
                      heldUntil = -Infinity;
                      await gate.resume();
                    }
                    // Calls of one tick come in one batch: what they did is looked at once somebody else has a turn.
                    if (one.kind !== 'ask') await check();
                  }
                  for (let round = 0; round < 200 && (running.size > 0 || calls.some((one) => one.waits)); round++) {
                    for (const one of running) end(one);
                    await elapse(0.25 * unit);
                    await check();
                  }
                  expect(calls.filter((one) => one.waits)).toEqual([]);
                  expectWithinRate(grants, capacity === Infinity ? Infinity : burst, capacity / unit);
                  await elapse(unit);
                  const slots = await takeAll(gate, 0);
                  expect(slots).toHaveLength(concurrency);
                  slots[0]!.release();
                  await take(gate, capacity === Infinity ? 1 : burst);
                },
              )(),
          ),
          // A history in real time takes seconds: one that fails is told as it is.
          { numRuns: grain === 0 ? 200 : 5, endOnFailure: grain > 0 },
        );
      });
    });

    section('the cases of asyncio’s semaphore', () => {
      /** A gate of `slots`, all of them taken, as a semaphore that starts with none. */
      const taken = async (gate: Gate, slots: number): Promise<Permit[]> => {
        const holders: Permit[] = [];
        for (let count = 0; count < slots; count++) holders.push(await gate.acquire());
        return holders;
      };

      test(
        'acquire_cancel',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const [holder] = await taken(gate, 1);
          const stop = new AbortController();
          ask('cancelled', 1, { signal: stop.signal });
          queueMicrotask(() => stop.abort());
          await settled();
          expect(trace.order).toEqual(['cancelled!']);
          holder!.release();
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );

      test(
        'acquire_cancel_before_awoken',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const [holder] = await taken(gate, 1);
          const stops = [new AbortController(), new AbortController()];
          stops.forEach(({ signal }, index) => ask(`t${index + 1}`, 1, { signal }));
          ask('t3');
          ask('t4');
          await settled();
          for (const stop of stops) stop.abort();
          holder!.release();
          await settled();
          expect(trace.order.toSorted()).toEqual(['t1!', 't2!', 't3']);
        }),
      );

      test(
        'acquire_hang',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const [holder] = await taken(gate, 1);
          const stop = new AbortController();
          ask('t1', 1, { signal: stop.signal });
          ask('t2');
          await settled();
          stop.abort();
          holder!.release();
          await settled();
          expect(trace.order.toSorted()).toEqual(['t1!', 't2']);
          expect(await gate.tryAcquire()).toBeUndefined();
        }),
      );

      test(
        'acquire_no_hang',
        on({ concurrency: 1 }, async ({ gate, settled, trace, ask }) => {
          const stop = new AbortController();
          const first = async (): Promise<void> => {
            {
              await using _ = await gate.acquire();
              await settled();
            }
            stop.abort();
          };
          const second = async (): Promise<void> => {
            await using _ = await gate.acquire(1, { signal: stop.signal });
          };
          // Whether the second came in before it was cancelled or not: the slot is there for the next.
          await Promise.allSettled([first(), second()]);
          ask('next', 1, { timeout: unit });
          await settled();
          expect(trace.order).toEqual(['next']);
        }),
      );

      test(
        'acquire_fifo_order_1',
        on({ concurrency: 1 }, async ({ gate, settled }) => {
          const result: string[] = [];
          const twice = async (tag: string): Promise<void> => {
            for (const turn of [1, 2]) {
              const permit = await gate.acquire();
              result.push(`${tag}_${turn}`);
              await settled();
              permit.release();
            }
          };
          await Promise.all(['c1', 'c2', 'c3'].map(twice));
          expect(result).toEqual(['c1_1', 'c2_1', 'c3_1', 'c1_2', 'c2_2', 'c3_2']);
        }),
      );

      test(
        'acquire_fifo_order_2',
        on({ concurrency: 2 }, async ({ gate, settled }) => {
          const holders = await taken(gate, 2);
          const result: number[] = [];
          void gate.acquire().then(() => result.push(1));
          void gate.acquire().then((permit) => {
            result.push(2);
            permit.release();
            return gate.acquire().then(() => result.push(4));
          });
          const third = gate.acquire();
          void third.then(() => result.push(3));
          await settled();
          for (const holder of holders) holder.release();
          await settled();
          expect(result).toEqual([1, 2, 3]);
          (await third).release();
          await settled();
          expect(result).toEqual([1, 2, 3, 4]);
        }),
      );

      test(
        'acquire_fifo_order_3',
        on({ concurrency: 2 }, async ({ gate, settled, trace, ask }) => {
          const holders = await taken(gate, 2);
          const stop = new AbortController();
          ask('c1', 1, { signal: stop.signal });
          ask('c2');
          ask('c3');
          await settled();
          stop.abort();
          await settled();
          for (const holder of holders) holder.release();
          await settled();
          expect(trace.order).toEqual(['c1!', 'c2', 'c3']);
        }),
      );

      test(
        'acquire_fifo_order_4',
        on({ concurrency: 4 }, async ({ gate, settled }) => {
          const holders = await taken(gate, 4);
          const result: number[] = [];
          let fourth: Promise<unknown> = Promise.resolve();
          const first = gate.acquire().then(() => {
            // Called as soon as the first is in: it comes after the third, not after the first.
            fourth = gate.acquire().then(() => result.push(4));
            return result.push(1);
          });
          await settled();
          for (const holder of holders) holder.release();
          const second = gate.acquire().then(() => result.push(2));
          const third = gate.acquire().then(() => result.push(3));
          await Promise.all([first, second, third]);
          await fourth;
          expect(result).toEqual([1, 2, 3, 4]);
        }),
      );

      test(
        'release_not_acquired',
        on({ concurrency: 1 }, async ({ gate, settled }) => {
          const permit = await take(gate);
          permit.release();
          permit.release();
          await settled();
          const another = await take(gate);
          permit.release();
          await settled();
          expect(await gate.tryAcquire()).toBeUndefined();
          another.release();
          expect(await takeAll(gate)).toHaveLength(1);
        }),
      );
    });
  });
}
