/**
 * Do the histories of the model tests tell the definition from the formulas that were wrong? Each wrong accounting plays
 * them in the place of the replay, and has to be found out. So a fault of that kind in a gate would be found as well.
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

/** A replay with a log of its own, so that it can account for settlements in a way of its own. */
class OwnLog<R extends RateReplay> implements RateReplay {
  readonly replay: R;
  readonly own: Map<LoggedGrant, LoggedGrant> = new Map();

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
    const own = { ...grant };
    this.own.set(grant, own);
    this.replay.add(own);
  }

  removeLatest(): void {
    this.replay.removeLatest();
  }

  settled(grant: LoggedGrant, now: number): void {
    const own = this.own.get(grant) as LoggedGrant;
    this.correct(own, grant.cost, now);
  }

  /** `grant` turns out to cost `cost`. */
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

/** A debt is charged in full at the settlement, although a part of it would have been paid by tokens that overflowed. */
class DebtInFull extends OwnLog<RateReplay> {
  override correct(grant: LoggedGrant, cost: number, now: number): void {
    if (cost > grant.cost) this.replay.add({ at: now, cost: cost - grant.cost });
    else super.correct(grant, cost, now);
  }
}

/** A refund is given back in full, although a part of it would have overflowed. */
class RefundInFull extends OwnLog<RateReplay> {
  override correct(grant: LoggedGrant, cost: number, now: number): void {
    if (cost < grant.cost)
      this.replay.add({ at: now, cost: Math.max(cost - grant.cost, this.replay.level(now) - this.replay.size) });
    else super.correct(grant, cost, now);
  }
}

/** The cap of 0.1.0: what was spent since counts, the refill since does not. */
class CapBySpending extends OwnLog<RateReplay> {
  #spent = 0;
  readonly #marks: Map<LoggedGrant, number> = new Map();

  override add(grant: LoggedGrant): void {
    super.add(grant);
    this.#spent += grant.cost;
    this.#marks.set(this.own.get(grant) as LoggedGrant, this.#spent);
  }

  override correct(grant: LoggedGrant, cost: number, now: number): void {
    const level = this.replay.level(now);
    const back = Math.max(
      0,
      Math.min(grant.cost - cost, this.size - (this.#spent - (this.#marks.get(grant) as number)) - level),
    );
    const debt = Math.max(0, cost - grant.cost);
    this.#spent += debt;
    this.replay.add({ at: now, cost: debt - back });
  }
}

/** Bursts and backlogs that end, so that buckets overflow and fill. */
const history = (sliding: boolean): fc.Arbitrary<{ first: Rate; operations: Operation[] }> =>
  fc.record({
    first: sliding
      ? fc.record({ capacity: capacities, period: periods, window: fc.constant('sliding' as const) })
      : fc.record({ capacity: capacities, period: periods, burst: bursts }),
    operations: fc.array(backlogOperation, { maxLength: 200, size: 'max' }),
  });

/** Does to a model what an operation says. */
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

/** Whether a history shows a difference between the definition and `replay`. */
function tellsApart(
  replay: (rate: Rate) => RateReplay,
  { first, operations }: { first: Rate; operations: readonly Operation[] },
): boolean {
  const { capacity, period = 1, burst, window } = first;
  const [exact, other] = [{}, { replay }].map(
    (options: ReferenceOptions) => new Reference(capacity, 0, period, burst, Infinity, { window, ...options }),
  ) as [Reference, Reference];
  for (const [id, operation] of operations.entries()) {
    if (!exact.exact) return false;
    for (const model of [exact, other]) apply(model, id, operation);
    if (
      exact.tokens !== other.tokens ||
      exact.log.length !== other.log.length ||
      exact.queue.length !== other.queue.length
    )
      return true;
  }
  return false;
}

describe('the histories find out', () => {
  test.each<[what: string, sliding: boolean, replay: (rate: Rate) => RateReplay]>([
    [
      'a bucket that caps a refund by what was spent since, without the refill (FAULTS 8)',
      false,
      (rate) => new CapBySpending(new BucketReplay(rate)),
    ],
    ['a bucket that charges a debt in full', false, (rate) => new DebtInFull(new BucketReplay(rate))],
    ['a bucket that gives a refund back in full', false, (rate) => new RefundInFull(new BucketReplay(rate))],
    [
      'a sliding window that counts a debt from the settlement on',
      true,
      (rate) => new DebtInFull(new WindowReplay(rate)),
    ],
    [
      'a sliding window that caps a refund by what was spent since',
      true,
      (rate) => new CapBySpending(new WindowReplay(rate)),
    ],
  ])('%s', (_what, sliding, replay) => {
    const histories = fc.sample(history(sliding), 200);
    expect(histories.filter((one) => tellsApart(replay, one)).length).toBeGreaterThan(20);
    // The definition itself is not found out, whether it keeps the log or a copy.
    expect(histories.some((one) => tellsApart((rate) => new OwnLog(replayOf(rate)), one))).toBe(false);
  });
});
