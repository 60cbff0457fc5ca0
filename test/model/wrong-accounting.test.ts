/**
 * Tests of the model tests: their random histories must distinguish the definition from wrong formulas. Each wrong
 * accounting replaces the replay of the model, and the histories must reveal a difference. So the model tests would
 * also detect such a formula in a gate.
 */
import fc from 'fast-check';
import type { Rate } from 'headgate';
import { describe, expect, test } from 'vitest';
import {
  backlogOperation,
  bursts,
  capacities,
  type Operation,
  periods,
  Reference,
  type ReferenceOptions,
} from './reference.js';
import { BucketReplay, type LoggedGrant, type RateReplay, replayOf, WindowReplay } from './replay.js';

/** A replay with a copy of each grant, so that a subclass can apply settlements in another way. */
class CopiedLog<R extends RateReplay> implements RateReplay {
  readonly replay: R;
  readonly copies: Map<LoggedGrant, LoggedGrant> = new Map();

  constructor(replay: R) {
    this.replay = replay;
  }

  get size(): number {
    return this.replay.size;
  }

  get unlimited(): boolean {
    return this.replay.unlimited;
  }

  level(now: number): number {
    return this.replay.level(now);
  }

  opensAt(from: number, cost: number): number {
    return this.replay.opensAt(from, cost);
  }

  add(grant: LoggedGrant): void {
    const copy = { ...grant };
    this.copies.set(grant, copy);
    this.replay.add(copy);
  }

  removeLatest(): void {
    this.replay.removeLatest();
  }

  settled(grant: LoggedGrant, now: number): void {
    const copy = this.copies.get(grant) as LoggedGrant;
    this.correct(copy, grant.cost, now);
  }

  /** Applies a settlement of `grant` at `cost`. */
  correct(grant: LoggedGrant, cost: number, now: number): void {
    grant.cost = cost;
    this.replay.settled(grant, now);
  }

  configure(now: number, limits: Rate): void {
    this.replay.configure(now, limits);
  }

  forget(now: number): void {
    this.replay.forget(now);
  }
}

/** Charges a debt in full at the settlement, although overflowed tokens would have paid a part. */
class DebtInFull extends CopiedLog<RateReplay> {
  override correct(grant: LoggedGrant, cost: number, now: number): void {
    if (cost > grant.cost) this.replay.add({ at: now, cost: cost - grant.cost });
    else super.correct(grant, cost, now);
  }
}

/** Returns a refund in full, although a part would have overflowed. */
class RefundInFull extends CopiedLog<RateReplay> {
  override correct(grant: LoggedGrant, cost: number, now: number): void {
    if (cost < grant.cost)
      this.replay.add({ at: now, cost: Math.max(cost - grant.cost, this.replay.level(now) - this.replay.size) });
    else super.correct(grant, cost, now);
  }
}

/** The formula of 0.1.0: limits a refund by the tokens spent since the grant, and ignores the refill. */
class CapBySpending extends CopiedLog<RateReplay> {
  #spent = 0;
  readonly #spentAtGrant: Map<LoggedGrant, number> = new Map();

  override add(grant: LoggedGrant): void {
    super.add(grant);
    this.#spent += grant.cost;
    this.#spentAtGrant.set(this.copies.get(grant) as LoggedGrant, this.#spent);
  }

  override correct(grant: LoggedGrant, cost: number, now: number): void {
    const level = this.replay.level(now);
    const back = Math.max(
      0,
      Math.min(grant.cost - cost, this.size - (this.#spent - (this.#spentAtGrant.get(grant) as number)) - level),
    );
    const debt = Math.max(0, cost - grant.cost);
    this.#spent += debt;
    this.replay.add({ at: now, cost: debt - back });
  }
}

/** Histories with bursts and ending backlogs, so that buckets overflow and become empty. */
const history = (sliding: boolean): fc.Arbitrary<{ first: Rate; operations: Operation[] }> =>
  fc.record({
    first: sliding
      ? fc.record({ capacity: capacities, period: periods, window: fc.constant('sliding' as const) })
      : fc.record({ capacity: capacities, period: periods, burst: bursts }),
    operations: fc.array(backlogOperation, { maxLength: 200, size: 'max' }),
  });

/** Applies an operation to a model. */
function apply(model: Reference, id: number, operation: Operation): void {
  const held = model.pick(operation);
  switch (operation.do) {
    case 'acquire':
    case 'run':
      return model.acquire(id, operation.cost, operation.timeout, operation.signal);
    case 'release':
      return held && model.release(held);
    case 'settle':
      return held && model.settle(held, operation.cost);
    case 'configure': {
      const { burst, ...limits } = operation.limits;
      return model.configure(
        model.first.window === undefined ? { ...limits, ...(burst === undefined ? {} : { burst }) } : limits,
      );
    }
    case 'advance':
      return model.advance(operation.seconds);
    default:
      throw new Error(`no ${operation.do} in a backlog`);
  }
}

/** Whether a history reveals a difference between the definition and `replay`. */
function revealsDifference(
  replay: (rate: Rate) => RateReplay,
  { first, operations }: { first: Rate; operations: readonly Operation[] },
): boolean {
  const { capacity, period = 1, burst, window } = first;
  const [exact, wrong] = [{}, { replay }].map(
    (options: ReferenceOptions) => new Reference(capacity, 0, period, burst, Infinity, { window, ...options }),
  ) as [Reference, Reference];
  for (const [id, operation] of operations.entries()) {
    if (!exact.exact) return false;
    for (const model of [exact, wrong]) apply(model, id, operation);
    if (
      exact.tokens !== wrong.tokens ||
      exact.log.length !== wrong.log.length ||
      exact.queue.length !== wrong.queue.length
    )
      return true;
  }
  return false;
}

describe('random histories reveal', () => {
  test.each<[what: string, sliding: boolean, replay: (rate: Rate) => RateReplay]>([
    [
      'a bucket that limits a refund by later spending, without the refill (FAULTS 8)',
      false,
      (rate) => new CapBySpending(new BucketReplay(rate)),
    ],
    ['a bucket that charges a debt in full', false, (rate) => new DebtInFull(new BucketReplay(rate))],
    ['a bucket that returns a refund in full', false, (rate) => new RefundInFull(new BucketReplay(rate))],
    [
      'a sliding window that counts a debt from the settlement on',
      true,
      (rate) => new DebtInFull(new WindowReplay(rate)),
    ],
    [
      'a sliding window that limits a refund by later spending',
      true,
      (rate) => new CapBySpending(new WindowReplay(rate)),
    ],
  ])('%s', (_what, sliding, replay) => {
    const histories = fc.sample(history(sliding), 200);
    expect(histories.filter((steps) => revealsDifference(replay, steps)).length).toBeGreaterThan(20);
    // The definition itself shows no difference, with the log or with a copy of the log.
    expect(histories.some((steps) => revealsDifference((rate) => new CopiedLog(replayOf(rate)), steps))).toBe(false);
  });
});
