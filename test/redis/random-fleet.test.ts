/**
 * Random fleets without a rate on a fake Redis: requests, releases, aborts, pauses and faults in any order. Afterwards
 * all connections work again, and every call ends.
 */
import { type RedisPermit, RedisThrottle } from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FakeClient, FakeRedis } from './fake-redis.js';

const TTL = 3;
const SLOTS = 2;

const FAULTS = ['losesRequests', 'losesReplies', 'losesMessages'] as const;

const action = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('acquire' as const), process: fc.nat(2) }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('release' as const), index: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('abort' as const), index: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pause' as const), process: fc.nat(2) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('fault' as const),
      process: fc.nat(2),
      fault: fc.constantFrom(...FAULTS),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('heal' as const), process: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('reset' as const, 'lose state' as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('pass' as const), seconds: fc.constantFrom(0, 0, 0.05, 0.4, 1.1, 2.9) }),
  },
);

type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

class RandomFleet {
  readonly #clock = new ManualClock(1_000);
  readonly #redis = new FakeRedis(this.#clock);
  readonly #clients = [0, 1, 2].map(() => new FakeClient(this.#redis));
  readonly #throttles: RedisThrottle[];
  readonly #held: RedisPermit[] = [];
  readonly #waiting = new Set<AbortController>();
  /** Redis may have forgotten leases whose holders do not know it before their next renewal. */
  #unsafeUntil = 0;

  constructor(linger: number) {
    this.#throttles = this.#clients.map((client) => {
      const limits = { concurrency: SLOTS, ttl: TTL, linger };
      return new RedisThrottle({ client, key: 'k', clock: this.#clock, ...limits });
    });
  }

  async act(given: Action): Promise<void> {
    switch (given.kind) {
      case 'acquire':
        this.#acquire(given.process);
        break;
      case 'release':
        this.#held.splice(given.index, 1)[0]?.release();
        break;
      case 'abort':
        [...this.#waiting][given.index]?.abort(new Error('cancel'));
        break;
      case 'pause':
        this.#throttles[given.process]!.pause(0.3).catch(() => {});
        break;
      case 'fault':
        this.#clients[given.process]![given.fault] = true;
        break;
      case 'heal':
        this.#heal(given.process);
        break;
      case 'reset':
        this.#redis.reset();
        this.#unsafeUntil = this.#clock.now() + TTL;
        break;
      case 'lose state':
        this.#redis.loseState();
        this.#unsafeUntil = this.#clock.now() + TTL;
        break;
      default:
        await this.#clock.advance(given.seconds);
    }
    this.#check();
  }

  /** Heals all connections, and releases every permit until no call waits and Redis keeps no lease. */
  async end(): Promise<void> {
    for (const process of this.#clients.keys()) this.#heal(process);
    for (let round = 0; round < 40 && this.#waiting.size + this.#held.length > 0; round++) {
      await this.#clock.advance(TTL / 3);
      this.#check();
      for (const permit of this.#held.splice(0)) permit.release();
    }
    expect(this.#waiting.size).toBe(0);
    const closing = Promise.all(this.#throttles.map((throttle) => throttle.close()));
    await this.#clock.advance(3 * TTL);
    await closing;
    expect(this.#clock.pending).toBe(0);
  }

  #heal(process: number): void {
    for (const fault of FAULTS) this.#clients[process]![fault] = false;
  }

  #acquire(process: number): void {
    const controller = new AbortController();
    this.#waiting.add(controller);
    const end = (): boolean => this.#waiting.delete(controller);
    const throttle = this.#throttles[process]!;
    throttle
      .acquire(1, { signal: controller.signal })
      .then((permit) => this.#held.push(permit))
      .then(end, end);
  }

  /** The holders whose leases count, and their slots. */
  #check(): void {
    const slots = this.#held.filter(({ signal }) => !signal.aborted).map(({ slot }) => slot);
    if (this.#clock.now() < this.#unsafeUntil) return;
    expect(new Set(slots).size).toBe(slots.length);
    expect(slots.length).toBeLessThanOrEqual(SLOTS);
  }
}

test.each([0, 5])('random fleets with linger %d keep the limit, and every call ends', async (linger) => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      const fleet = new RandomFleet(linger);
      for (const given of actions) await fleet.act(given);
      await fleet.end();
    }),
    { numRuns: 60 },
  );
});
