/**
 * Settlements in the script, with a server clock that the test moves. The expected level is a replay of the whole log
 * of grants with their true costs (model/replay.ts). The replay has no bounded memory, unlike the script (FAULTS 8).
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { client } from './shared-client.js';
import { BucketReplay, type LoggedGrant } from '../model/replay.js';
import { acquire, release, TestGate } from './scripts/support.js';

/** The microseconds in one unit of time: a power of two, so all levels are exact. */
const UNIT = 2 ** 20;
/** Redis keeps each owner, and so each state, for this time. No history is as long. */
const TTL = 2e12;
const OWNER = 'hub.a';

/** The rates are powers of two per unit. */
interface Limits {
  readonly capacity: number;
  readonly burst: number;
}

interface Grant extends LoggedGrant {
  readonly serial: string;
  readonly requested: number;
  /** The instant and the number that the script has assigned. */
  readonly granted: string;
  readonly number: string;
}

interface FlushOptions {
  /** Whether the limits replace those in Redis. */
  readonly configures?: boolean;
  readonly owner?: string;
  /** The number of the batch, if it is not the next one of its owner. */
  readonly number?: number;
}

interface BucketSettings {
  /** Whether the holder of a grant releases it with the next batch. Otherwise, all grants stay held. */
  readonly releases?: boolean;
}

/** A throttle, and the replay of its history. */
class Bucket {
  readonly gate: TestGate = new TestGate(client, { ttl: TTL });
  readonly replay: BucketReplay;
  readonly grants: Grant[] = [];
  now = 0;
  readonly #releases: boolean;
  #limits: Limits;
  #words: string[] = [];
  #requested: { serial: string; cost: number }[] = [];
  #serial = 0;
  #batches = 0;

  constructor(limits: Limits, { releases = false }: BucketSettings = {}) {
    this.#limits = limits;
    this.#releases = releases;
    this.replay = new BucketReplay({ ...limits, period: 1 });
  }

  get state(): string {
    return this.gate.keys[0] as string;
  }

  get log(): string {
    return this.gate.keys[1] as string;
  }

  /** Sends all commands since the last flush as one batch. */
  async flush({ configures = false, owner = OWNER, ...options }: FlushOptions = {}): Promise<void> {
    const { capacity, burst } = this.#limits;
    const rate = `${capacity} ${UNIT} ${burst}`;
    const { outcome, events } = await this.gate.send(
      owner,
      { at: this.now * UNIT, rate, flags: configures ? 'c' : '', ...options },
      ...this.#words.splice(0),
    );
    if (owner === OWNER && options.number === undefined) this.#batches++;
    expect(outcome).toBe('A');
    for (const { serial, cost } of this.#requested.splice(0)) {
      const event = events.find((line) => line.startsWith(`G ${serial} `));
      if (event === undefined) continue;
      const [, , , granted = '', , number = ''] = event.split(' ');
      const grant = { serial, requested: cost, cost, at: this.now, granted, number };
      this.grants.push(grant);
      this.replay.add(grant);
      if (this.#releases) this.#words.push(...release(serial));
    }
  }

  /** Requests a permit without a wait. */
  request(cost: number): void {
    const serial = (this.#serial++).toString(36);
    this.#words.push('A', serial, String(cost), '0');
    this.#requested.push({ serial, cost });
  }

  settle(grant: Grant, cost: number): void {
    this.#words.push('S', String(cost), String(grant.requested), grant.granted, grant.number);
    grant.cost = cost;
    this.replay.settled(grant);
  }

  /** Sends the batch, then the same batch again, as a client does after a broken connection. */
  async flushTwice(): Promise<void> {
    const words = [...this.#words];
    await this.flush();
    this.#words = words;
    await this.flush({ number: this.#batches - 1 });
  }

  /** Sends the batch, then its commands as another owner, as a process does that begins a new epoch. */
  async flushInTwoEpochs(): Promise<void> {
    const words = [...this.#words];
    await this.flush();
    this.#words = words;
    await this.flush({ owner: 'hub.b' });
  }

  async configure(limits: Limits): Promise<void> {
    this.#limits = limits;
    this.replay.configure(this.now, { ...limits, period: 1 });
    await this.flush({ configures: true });
  }

  async tokens(): Promise<number> {
    return (await this.gate.inspect(this.now * UNIT)).tokens;
  }

  async compare(): Promise<void> {
    expect(await this.tokens()).toBe(this.replay.level(this.now));
  }

  async drop(): Promise<void> {
    await client.del(...this.gate.keys);
  }
}

const limits = fc.record({ capacity: fc.constantFrom(0.5, 1, 2, 8), burst: fc.constantFrom(4, 8, 10) });
const costs = fc.constantFrom(0, 0.25, 1, 2, 3, 4);
const operation = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('request' as const), cost: costs }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      which: fc.nat(1_000),
      cost: fc.constantFrom(0, 0.5, 1, 3, 6, 12),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('wait' as const), time: fc.constantFrom(0.125, 0.25, 1, 2, 5) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('configure' as const), limits }) },
);

describe('settlements on Redis', () => {
  test('leave the tokens of a replay: late, in any order, in batches, across new limits (FAULTS 8)', async () => {
    const seen = { refunds: 0, debts: 0, changes: 0 };
    await fc.assert(
      fc.asyncProperty(
        limits,
        fc.boolean(),
        fc.array(operation, { minLength: 10, maxLength: 60, size: 'max' }),
        async (first, releases, operations) => {
          const bucket = new Bucket(first, { releases });
          bucket.request(0);
          await bucket.flush({ configures: true });
          const settled = new Set<Grant>();
          for (const step of operations) {
            if (step.do === 'request') bucket.request(step.cost);
            else if (step.do === 'settle') {
              const open = bucket.grants.filter((grant) => !settled.has(grant));
              const grant = open[step.which % Math.max(1, open.length)];
              if (grant === undefined) continue;
              settled.add(grant);
              if (step.cost < grant.cost) seen.refunds++;
              else seen.debts++;
              bucket.settle(grant, step.cost);
              // Settled before the grants of this batch.
              await bucket.flush();
            } else {
              await bucket.flush();
              if (step.do === 'configure') {
                seen.changes++;
                await bucket.configure(step.limits);
              } else bucket.now += step.time;
            }
            if (step.do !== 'request') await bucket.compare();
          }
          await bucket.flush();
          await bucket.compare();
          await bucket.drop();
        },
      ),
      { numRuns: 150 },
    );
    expect(Math.min(seen.refunds, seen.debts, seen.changes)).toBeGreaterThan(50);
  });

  test('a refund after 5 s of refill returns every token that no overflow has lost (FAULTS 8)', async () => {
    const bucket = new Bucket({ capacity: 1, burst: 10 });
    bucket.request(5);
    bucket.request(5);
    await bucket.flush();
    bucket.now = 5;
    bucket.settle(bucket.grants[0] as Grant, 0);
    await bucket.flush();
    expect(await bucket.tokens()).toBe(10);
    await bucket.drop();
  });

  test('settlements of two grants leave the same tokens in either order (FAULTS 8)', async () => {
    for (const order of [
      [0, 1],
      [1, 0],
    ] as const) {
      const bucket = new Bucket({ capacity: 1, burst: 10 });
      bucket.request(8);
      await bucket.flush();
      bucket.now = 4;
      bucket.request(4);
      await bucket.flush();
      bucket.now = 6;
      for (const index of order) bucket.settle(bucket.grants[index] as Grant, [12, 1][index] as number);
      await bucket.flush();
      await bucket.compare();
      await bucket.drop();
    }
  });

  test.each([
    ['in the same batch', 'flushTwice' as const],
    ['in another epoch', 'flushInTwoEpochs' as const],
  ])('a settlement that arrives twice, %s, counts once', async (_, flushTwice) => {
    const bucket = new Bucket({ capacity: 1, burst: 10 });
    for (const cost of [5, 3]) bucket.request(cost);
    await bucket.flush();
    bucket.now = 1;
    bucket.settle(bucket.grants[0] as Grant, 1);
    bucket.settle(bucket.grants[1] as Grant, 7);
    await bucket[flushTwice]();
    await bucket.compare();
    await bucket.drop();
  });

  test('a new process with the same limits does not change later settlements', async () => {
    const bucket = new Bucket({ capacity: 1, burst: 8 });
    bucket.request(1);
    await bucket.flush();
    bucket.now = 1;
    await bucket.flush({ configures: true, owner: 'hub.b' });
    bucket.now = 4;
    // The overflow since then has paid this debt.
    bucket.settle(bucket.grants[0] as Grant, 3);
    bucket.request(0);
    await bucket.flush();
    expect(await bucket.tokens()).toBe(8);
    await bucket.drop();
  });

  test('a cost of 0 is granted while there is a debt (FAULTS 15)', async () => {
    const bucket = new Bucket({ capacity: 1, burst: 8 });
    bucket.request(8);
    await bucket.flush();
    bucket.settle(bucket.grants[0] as Grant, 20);
    bucket.request(0.25);
    bucket.request(0);
    await bucket.flush();
    expect(bucket.grants.map(({ requested }) => requested)).toEqual([8, 0]);
    expect(await bucket.tokens()).toBe(-12);
    await bucket.drop();
  });
});

describe('the log of grants is bounded', () => {
  /** The number of later grants when a grant is settled. */
  const history = async (
    lag: number,
    trueCost: (requested: number, index: number) => number,
    check: (bucket: Bucket) => Promise<void>,
  ): Promise<Bucket> => {
    const bucket = new Bucket({ capacity: 64, burst: 16 }, { releases: true });
    const random = fc.sample(fc.tuple(fc.constantFrom(0.5, 1, 2), fc.constantFrom(1, 4, 8, 8)), {
      numRuns: 900,
      seed: 42,
    });
    let [settled, full] = [0, 0];
    for (const [index, [cost, ticks]] of random.entries()) {
      bucket.request(cost);
      // The refill slightly exceeds the cost, so the bucket overflows now and then.
      bucket.now += ticks / 256;
      if (bucket.replay.level(bucket.now) === 16) full++;
      await bucket.flush();
      if (index % 7 > 0) continue;
      for (; settled < bucket.grants.length - lag; settled++) {
        const grant = bucket.grants[settled] as Grant;
        bucket.settle(grant, trueCost(grant.requested, settled));
      }
      await bucket.flush();
      await check(bucket);
    }
    expect(settled).toBeGreaterThan(300);
    expect([full > 20, full < 800]).toEqual([true, true]);
    return bucket;
  };

  test.each([0, 20, 60, 120, 300])(
    'refunds of grants %i back are exact, the log being of 128 grants at most',
    async (lag) => {
      const bucket = await history(
        lag,
        (requested, index) => (index % 3 === 0 ? 0 : requested / 2),
        (one) => one.compare(),
      );
      const logged = await client.strlen(bucket.log);
      expect(logged).toBeGreaterThan(0);
      expect(logged).toBeLessThanOrEqual(128 * 16);
      expect(await client.strlen(bucket.state)).toBeLessThan(2_000);
      await bucket.drop();
    },
  );

  test('debts of logged grants are exact, and debts of older grants are charged in full', async () => {
    const debts = (requested: number, index: number): number => (index % 5 === 0 ? requested * 2 : requested);
    await (await history(60, debts, (bucket) => bucket.compare())).drop();
    let stricter = 0;
    const bucket = await history(300, debts, async (one) => {
      const [tokens, exact] = [await one.tokens(), one.replay.level(one.now)];
      expect(tokens).toBeLessThanOrEqual(exact);
      if (tokens < exact) stricter++;
    });
    expect(stricter).toBeGreaterThan(0);
    await bucket.drop();
  });

  test('a change of the limits that was folded out of the log still bounds refunds of earlier grants', async () => {
    const bucket = new Bucket({ capacity: 1, burst: 16 });
    bucket.request(8);
    await bucket.flush();
    await bucket.configure({ capacity: 1, burst: 10 });
    for (let index = 0; index < 300; index++) {
      bucket.request(1 / 64);
      bucket.now += 1 / 64;
      await bucket.flush();
    }
    bucket.settle(bucket.grants[0] as Grant, 0);
    await bucket.flush();
    await bucket.compare();
    expect(await bucket.tokens()).toBeLessThan(10);
    await bucket.drop();
  });

  test('a throttle without a rate has no log', async () => {
    const gate = new TestGate(client, { limit: 100 });
    const serials = Array.from({ length: 101 }, (_, index) => index);
    await gate.send(OWNER, {}, ...acquire(0));
    expect(await gate.present()).toEqual(['state']);
    const { events } = await gate.send(OWNER, {}, ...acquire(...serials.slice(1)));
    // Without a rate, a grant has no number in the log, and a settlement changes nothing.
    const [, , , granted = '', , number = ''] = (events[0] as string).split(' ');
    expect(number).toBe('0');
    await gate.send(OWNER, {}, 'S', '0', '1', granted, number);
    expect(await gate.present()).toEqual(['state', 'leases', 'slots']);
    await client.del(...gate.keys);
  });

  test('after a loss of the log alone, earlier grants get no refund, and debts are charged', async () => {
    const bucket = new Bucket({ capacity: 1, burst: 10 });
    for (const cost of [2, 2, 2]) bucket.request(cost);
    await bucket.flush();
    await client.del(bucket.log);
    const [first, second, third] = bucket.grants as [Grant, Grant, Grant];
    bucket.settle(first, 0);
    bucket.settle(second, 0);
    await bucket.flush();
    expect(await bucket.tokens()).toBe(4);
    bucket.settle(third, 3);
    bucket.request(1);
    await bucket.flush();
    expect(await bucket.tokens()).toBe(2);
    bucket.settle(bucket.grants[3] as Grant, 0);
    await bucket.flush();
    expect(await bucket.tokens()).toBe(3);
    await bucket.drop();
  });
});
