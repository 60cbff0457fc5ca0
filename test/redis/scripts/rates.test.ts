/** Several rates, sliding windows, weighted slots and corrections in the script, on a real server. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { client } from '../shared-client.js';
import { Terms } from '../../../src/core/cost.js';
import { type Charge, encodeCharge, encodeCosts, encodeLevels } from '../../../src/redis/charge.js';

import {
  costFor,
  type ReferenceBucket,
  type ReferenceCost,
  type ReferenceGrant,
  ReferenceRates,
} from './reference-rates.js';
import { type Answer, HISTORY_FULL_STEP, HISTORY_STEP, START, TestGate } from './support.js';

/** The microseconds in one unit of time: a power of two, so all levels are exact. */
const UNIT = 2 ** 20;
const TTL = 2e12;
const OWNERS = ['hub.a', 'hub.b'] as const;

const termsOf = (buckets: readonly ReferenceBucket[]): string =>
  buckets
    .map(({ name, capacity, burst }) => `${name === undefined ? '-' : `=${name}`} ${capacity} ${UNIT} ${burst}`)
    .join(';');

const namesOf = (buckets: readonly ReferenceBucket[]): string[] => buckets.flatMap(({ name }) => name ?? []);

const chargeOf = (cost: ReferenceCost, slots: number, names: readonly string[]): Charge => {
  const costs =
    typeof cost === 'number' ? [cost, ...names.map(() => cost)] : [cost.cost, ...names.map((name) => cost[name] ?? 0)];
  return encodeCharge(costs[0] as number, new Terms(costs, slots), names);
};

/** The events of all owners, by their serials. */
const allEvents = ({ events, messages }: Answer): string[] => [
  ...events,
  ...messages.flatMap((message) => message.split('\n').slice(1)),
];

const amount = fc.constantFrom(0, 0.25, 1, 2, 3, 4, 1, 2, 6);
const anyCost: fc.Arbitrary<ReferenceCost> = fc.oneof(
  amount,
  fc.record({ cost: amount, tokens: amount, bytes: amount }),
  fc.record({ cost: amount, tokens: amount }),
);
const caller = fc.constantFrom(0 as const, 1 as const);
const anyMove = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('request' as const),
      caller,
      cost: anyCost,
      slots: fc.constantFrom(0, 1, 1, 1, 2, 3),
      mayWait: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('release' as const), which: fc.nat(50) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      which: fc.nat(50),
      rates: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
      cost: fc.constantFrom(0, 0.5, 2, 6),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('correct' as const),
      levels: fc.array(fc.option(fc.constantFrom(-2, 0, 1, 3, 50), { nil: undefined }), { minLength: 3, maxLength: 3 }),
      onlyLower: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), which: fc.nat(50) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), units: fc.constantFrom(0.25, 0.5, 1, 3) }) },
);
const buckets = fc.constantFrom<ReferenceBucket[]>(
  [
    { capacity: 2, burst: 4 },
    { name: 'tokens', capacity: 4, burst: 8 },
  ],
  [
    { capacity: 1, burst: 4 },
    { capacity: 8, burst: 5 },
    { name: 'tokens', capacity: 2, burst: 4 },
    { name: 'bytes', capacity: 0.5, burst: 16 },
  ],
  [{ name: 'tokens', capacity: 2, burst: 4 }],
  [{ capacity: 2, burst: 4 }],
);

const seen: Record<string, number> = {};
const note = (name: string): void => void (seen[name] = (seen[name] ?? 0) + 1);

/** A gate and its model. */
class Scene {
  readonly gate: TestGate;
  readonly model: ReferenceRates;
  readonly names: string[];
  readonly items = new Map<string, string>();
  readonly #callers = new Map<string, 0 | 1>();
  readonly #charges = new Map<string, Charge>();
  readonly #rates: readonly ReferenceBucket[];
  #serial = 0;
  #sent = new Set<string>();

  constructor(script: string, rates: readonly ReferenceBucket[], limit: number) {
    const isSingle = rates.length === 1 && rates[0]?.name === undefined;
    const rate = isSingle ? termsOf(rates).slice(2) : termsOf(rates);
    this.gate = new TestGate(client, { ttl: TTL, limit, rate }, script);
    this.model = new ReferenceRates(rates, limit);
    this.names = namesOf(rates);
    this.#rates = rates;
  }

  async send(by: 0 | 1, ...words: string[]): Promise<string[]> {
    const answer = await this.gate.send(OWNERS[by], { at: this.model.now * UNIT }, ...words);
    expect(answer.outcome).toBe('A');
    const events = allEvents(answer);
    for (const event of events) {
      const [kind, serial = '', ...item] = event.split(' ');
      if (kind === 'G') this.items.set(serial, item.join(' '));
    }
    return events;
  }

  async play(move: typeof anyMove extends fc.Arbitrary<infer M> ? M : never): Promise<void> {
    const { model } = this;
    note(move.do);
    const held = 'which' in move ? model.grants[move.which % Math.max(1, model.grants.length)] : undefined;
    switch (move.do) {
      case 'request': {
        const serial = `s${this.#serial++}`;
        const charge = chargeOf(move.cost, move.slots, this.names);
        this.#callers.set(serial, move.caller);
        this.#charges.set(serial, charge);
        const wait = Math.ceil(model.wait(move.cost) * UNIT);
        const { active } = model;
        const { length } = model.queue;
        const expected = model.request(serial, move.cost, move.slots, move.mayWait);
        note(expected);
        const events = await this.send(
          move.caller,
          typeof charge === 'number' ? 'A' : 'B',
          serial,
          String(charge),
          move.mayWait ? '-1' : '0',
        );
        const event = events.find((each) => each.split(' ')[1] === serial) ?? '';
        const letters = { granted: 'G', queued: 'Q', refused: 'L', 'too large': 'O' };
        expect(event.slice(0, 1)).toBe(letters[expected]);
        if (expected === 'refused') expect(event).toBe(`L ${serial} ${wait} ${active} ${length}`);
        if (expected === 'too large') {
          const bucket = this.#rates.find((each) => costFor(move.cost, each) > each.burst);
          expect(event).toBe(
            `O ${serial} ${bucket?.burst} ${bucket?.name ?? ''}`.trimEnd() + (bucket?.name === undefined ? ' ' : ''),
          );
        }
        break;
      }
      case 'release':
        if (held === undefined || held.released) return;
        model.release(held);
        await this.send(this.#callers.get(held.serial) as 0 | 1, 'R', held.serial);
        break;
      case 'settle':
        if (held !== undefined) await this.#settle(held, move.rates, move.cost);
        break;
      case 'correct': {
        // The rates without a name share one level.
        const named = this.names.map((_, index) => move.levels[index + 1]);
        const { onlyLower } = move;
        this.#rates.forEach(({ name }, index) => {
          const level = name === undefined ? move.levels[0] : named[this.names.indexOf(name)];
          if (level !== undefined) model.correct(index, level, onlyLower);
        });
        model.drain();
        await this.send(0, 'T', encodeLevels([move.levels[0], ...named], this.names), onlyLower ? '1' : '0');
        break;
      }
      case 'leave': {
        const [waiter] = model.queue.splice(move.which % Math.max(1, model.queue.length), 1);
        if (waiter === undefined) return;
        model.drain();
        await this.send(
          this.#callers.get(waiter.serial) as 0 | 1,
          'C',
          waiter.serial,
          String(this.#charges.get(waiter.serial)),
        );
        break;
      }
      case 'advance':
        model.now += move.units;
        model.drain();
        await this.send(0);
        break;
    }
    await this.compare();
  }

  async #settle(grant: ReferenceGrant, rates: readonly boolean[], value: number): Promise<void> {
    const key = (index: number): string => `${grant.serial} ${index}`;
    const item = this.items.get(grant.serial) as string;
    const [, granted = '', requested = '', number = ''] = item.split(' ');
    // A rate settles once. The rates without a name settle together.
    const values = [undefined, ...this.names].map((name, index) => {
      const original =
        name === undefined && typeof grant.cost !== 'number'
          ? grant.cost.cost
          : costFor(grant.cost, { name: name ?? '', capacity: 1, burst: 1 });
      if (rates[index] !== true || this.#sent.has(key(index))) return original;
      this.#sent.add(key(index));
      this.#rates.forEach((bucket, place) => {
        if (bucket.name === name) this.model.settle(grant, place, value);
      });
      return value;
    });
    this.model.drain();
    await this.send(
      this.#callers.get(grant.serial) as 0 | 1,
      'S',
      String(encodeCosts(values, this.names)),
      requested,
      granted,
      number,
    );
  }

  async compare(): Promise<void> {
    const { model, gate } = this;
    expect(new Map(model.grants.map(({ serial, held }) => [serial, held.join(',') || '0']))).toEqual(
      new Map([...this.items].map(([serial, item]) => [serial, item.split(' ')[0]])),
    );
    const { active, waiting, tokens, levels } = await gate.inspect(model.now * UNIT);
    const found = model.levels();
    const unnamed = found.filter((_, index) => this.#rates[index]?.name === undefined);
    expect(tokens).toBe(Math.min(Infinity, ...unnamed));
    expect(levels).toEqual(
      Object.fromEntries(this.#rates.flatMap(({ name }, index) => (name === undefined ? [] : [[name, found[index]]]))),
    );
    expect(waiting.map(({ slots }) => slots)).toEqual(model.queue.map(({ slots }) => slots));
    expect(active.flatMap(({ slots }) => slots).toSorted((a, b) => a - b)).toEqual(
      model.grants.flatMap(({ released, held }) => (released ? [] : held)).toSorted((a, b) => a - b),
    );
  }
}

describe.each([
  ['with the fast path', HISTORY_STEP],
  ['by the full step alone', HISTORY_FULL_STEP],
])('several buckets and weighted slots, %s', (_name, script) => {
  test('random histories follow the reference: costs by name, slots, settlements in any order, corrections', async () => {
    await fc.assert(
      fc.asyncProperty(
        buckets,
        fc.constantFrom(3, 4, 6),
        fc.array(anyMove, { minLength: 10, maxLength: 45 }),
        async (rates, limit, moves) => {
          const scene = new Scene(script, rates, limit);
          await scene.send(0);
          for (const move of moves) await scene.play(move);
        },
      ),
      { numRuns: 120 },
    );
    for (const name of ['granted', 'queued', 'refused', 'too large', 'settle', 'correct', 'leave'])
      expect(seen[name] ?? 0, name).toBeGreaterThan(20);
  });
});

describe('sliding windows', () => {
  const PERIOD = 64_000;
  const OWNER = 'hub.a';
  const windowMove = fc.record({
    after: fc.oneof(fc.constantFrom(0, 1, 1_000, 1_016, 63_999, 64_000), fc.integer({ min: 0, max: 20_000 })),
    cost: fc.constantFrom(0, 1, 1, 2, 3, 5),
    settle: fc.option(fc.tuple(fc.nat(20), fc.constantFrom(0, 1, 4, 9)), { nil: undefined }),
  });

  test('no rolling period has more than the capacity, and a full window delays by 1/63 of the period at most', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(windowMove, { minLength: 15, maxLength: 40 }), async (moves) => {
        const capacity = 10;
        const gate = new TestGate(client, { ttl: TTL, rate: `- ${capacity} ${PERIOD} ${capacity} w` });
        const grants: { at: number; cost: number; item: string[]; settled: boolean }[] = [];
        const usedSince = (instant: number): number =>
          grants.reduce((sum, { at, cost: spent }) => sum + (at > instant ? spent : 0), 0);
        let now = 0;
        for (const [serial, move] of moves.entries()) {
          now += move.after;
          const grant = move.settle === undefined ? undefined : grants[move.settle[0] % Math.max(1, grants.length)];
          if (move.settle !== undefined && grant !== undefined && !grant.settled) {
            const [, granted = '', requested = '', number = ''] = grant.item;
            grant.settled = true;
            await gate.send(OWNER, { at: now }, 'S', String(move.settle[1]), requested, granted, number);
            // A grant counts for one period, and so does its settlement.
            if (now - grant.at < PERIOD) grant.cost = move.settle[1];
          }
          const { events } = await gate.send(OWNER, { at: now }, 'A', String(serial), String(move.cost), '0');
          const [kind, , ...item] = (events[0] ?? '').split(' ');
          if (kind === 'G') {
            // The strict window: a grant counts in [at, at + period).
            if (move.cost > 0) expect(usedSince(now - PERIOD) + move.cost).toBeLessThanOrEqual(capacity);
            grants.push({ at: now, cost: move.cost, item, settled: false });
          } else {
            // A refusal has a reason: the grants of one period, and of 1/63 of it before.
            expect(usedSince(now - PERIOD * (1 + 1 / 63)) + move.cost).toBeGreaterThan(capacity);
            const wait = Number(events[0]?.split(' ')[2]);
            expect(wait).toBeGreaterThan(0);
            expect(wait).toBeLessThanOrEqual(PERIOD * (1 + 1 / 63) + 1);
          }
          const { tokens } = await gate.inspect(now);
          expect(tokens).toBeLessThanOrEqual(capacity - usedSince(now - PERIOD));
          expect(tokens).toBeGreaterThanOrEqual(capacity - usedSince(now - PERIOD * (1 + 1 / 63) - 1));
        }
        // Once everything has left the window, it is full.
        expect((await gate.inspect(now + 2 * PERIOD)).tokens).toBe(capacity);
      }),
      { numRuns: 60 },
    );
  });

  test('a window that is always full loses 1/64 of its throughput at most', async () => {
    const gate = new TestGate(client, { ttl: TTL, rate: `- 640 ${PERIOD} 640 w` });
    let granted = 0;
    const starts: number[] = [];
    // One request for each hundredth of a period, during five periods after a burst that a period needs to spread.
    for (let step = 0; step < 600; step++) {
      const words = Array.from({ length: 8 }, (_, index) => ['A', `s${step}.${index}`, '1', '0']).flat();
      const { events } = await gate.send(OWNER, { at: step * 640 }, ...words);
      const count = events.filter((event) => event.startsWith('G ')).length;
      if (step >= 100) granted += count;
      starts.push(count);
    }
    for (let first = 0; first + 100 <= starts.length; first++)
      expect(starts.slice(first, first + 100).reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(640);
    expect(granted).toBeGreaterThanOrEqual(5 * 640 * (63 / 64));
  });

  test('a waiter is granted at the instant that the reply names', async () => {
    const gate = new TestGate(client, { ttl: TTL, rate: `- 4 ${PERIOD} 4 w` });
    await gate.send(OWNER, {}, 'A', 'a', '3', '-1');
    await gate.send(OWNER, { at: 500 }, 'A', 'b', '1', '-1');
    const { wakeSpan } = await gate.send(OWNER, { at: 600 }, 'A', 'c', '2', '-1');
    // Both grants share a counter, which counts until the period after the later one has passed.
    expect(wakeSpan).toBe(PERIOD - 100);
    expect((await gate.send(OWNER, { at: PERIOD + 499 })).events).toEqual([]);
    expect((await gate.send(OWNER, { at: PERIOD + 500 })).events[0]).toMatch(/^G c /);
  });

  test('corrections: a lower level counts for one period, a higher one forgets the oldest grants first', async () => {
    const gate = new TestGate(client, { ttl: TTL, rate: `- 8 ${PERIOD} 8 w` });
    const [event = ''] = (await gate.send(OWNER, {}, 'A', 'a', '3', '-1')).events;
    const tokens = async (at: number): Promise<number> => (await gate.inspect(at)).tokens;
    await gate.send(OWNER, { at: 32_000 }, 'T', '1', '0');
    expect([await tokens(32_000), await tokens(PERIOD), await tokens(PERIOD + 32_000)]).toEqual([1, 4, 8]);
    await gate.send(OWNER, { at: 32_000 }, 'T', '6', '1');
    expect(await tokens(32_000)).toBe(1);
    await gate.send(OWNER, { at: 32_000 }, 'T', '6', '0');
    expect([await tokens(32_000), await tokens(PERIOD), await tokens(PERIOD + 32_000)]).toEqual([6, 6, 8]);
    // The settlement of a grant from before a correction has no effect.
    const [, , , granted = '', cost = '', number = ''] = event.split(' ');
    await gate.send(OWNER, { at: 32_000 }, 'S', '0', cost, granted, number);
    expect(await tokens(32_000)).toBe(6);
  });
});

describe('rates that change', () => {
  const OWNER = 'hub.a';
  const open = (rate: string): TestGate => new TestGate(client, { ttl: TTL, rate });

  test('a rate keeps its level, also if other rates come and go', async () => {
    const gate = open(`- 8 ${UNIT} 8;=tokens 4 ${UNIT} 16`);
    const [event = ''] = (await gate.send(OWNER, {}, 'B', 'a', '2;tokens=10', '-1')).events;
    await gate.send(OWNER, { flags: 'c', rate: `=bytes 1 ${UNIT} 100;=tokens 4 ${UNIT} 12;- 8 ${UNIT} 8` });
    expect(await gate.inspect(0)).toMatchObject({ tokens: 6, levels: { tokens: 6, bytes: 100 } });
    // Refunds reach the rates that were charged, and no others.
    const [, , , granted = '', cost = '', number = ''] = event.split(' ');
    await gate.send(OWNER, {}, 'S', '0', cost, granted, number);
    expect(await gate.inspect(0)).toMatchObject({ tokens: 8, levels: { tokens: 12, bytes: 100 } });
    await gate.send(OWNER, { flags: 'c', rate: `8 ${UNIT} 8` });
    const single = await gate.inspect(0);
    expect([single.tokens, single.levels]).toEqual([8, {}]);
    await gate.send(OWNER, { flags: 'c', rate: `-1 1 1e300` });
    expect((await gate.inspect(0)).tokens).toBe(Infinity);
  });

  test('the same rates again change nothing', async () => {
    const rate = `- 8 ${UNIT} 8;=tokens 4 ${UNIT} 16`;
    const gate = open(rate);
    const [event = ''] = (await gate.send(OWNER, {}, 'B', 'a', '2;tokens=10', '-1')).events;
    await gate.send('hub.b', { flags: 'c' });
    const [, , , granted = '', cost = '', number = ''] = event.split(' ');
    await gate.send(OWNER, {}, 'S', '2;tokens=30', cost, granted, number);
    expect(await gate.inspect(0)).toMatchObject({ tokens: 6, levels: { tokens: -14 } });
  });

  test('a waiter that a new rate can never grant is refused with the name of the rate', async () => {
    const gate = open(`- 8 ${UNIT} 8;=tokens 4 ${UNIT} 16`);
    await gate.send(OWNER, {}, 'B', 'a', '8;tokens=16', '-1', 'B', 'b', '1;tokens=9', '-1', 'A', 'c', '1', '-1');
    const { events } = await gate.send(OWNER, { flags: 'c', rate: `- 8 ${UNIT} 8;=tokens 4 ${UNIT} 8` });
    expect(events).toEqual(['O b 8 tokens']);
    expect((await gate.inspect(0)).waiting.map(({ cost: main }) => main)).toEqual([1]);
  });

  test('a window keeps its grants, and a bucket of the same name begins full', async () => {
    const gate = open(`- 8 ${UNIT} 8 w`);
    await gate.send(OWNER, {}, 'A', 'a', '5', '-1');
    await gate.send(OWNER, { flags: 'c', rate: `- 9 ${2 * UNIT} 9 w` });
    expect((await gate.inspect(0)).tokens).toBe(4);
    await gate.send(OWNER, { flags: 'c', rate: `9 ${2 * UNIT} 9` });
    expect((await gate.inspect(0)).tokens).toBe(9);
  });

  test('a loss of the log gives no refund, for any rate, and a debt counts', async () => {
    const gate = open(`- 8 ${UNIT} 8;=tokens 4 ${UNIT} 16`);
    const [one = '', two = ''] = (
      await gate.send(OWNER, {}, 'B', 'a', '2;tokens=6', '-1', 'B', 'b', '2;tokens=6', '-1')
    ).events;
    await client.del(gate.keys[1] as string);
    for (const [event, paid] of [
      [one, '0'],
      [two, '3;tokens=10'],
    ] as const) {
      const [, , , granted = '', cost = '', number = ''] = event.split(' ');
      await gate.send(OWNER, {}, 'S', paid, cost, granted, number);
    }
    expect(await gate.inspect(0)).toMatchObject({ tokens: 3, levels: { tokens: 0 } });
  });

  test('after a correction of one rate, the log still serves the other rates', async () => {
    const gate = open(`- 1024 ${UNIT} 1024;=tokens 4096 ${UNIT} 4096`);
    const items: string[][] = [];
    const request = async (count: number): Promise<void> => {
      const words = Array.from({ length: count }, (_, index) => [
        'B',
        `s${items.length + index}`,
        '2;tokens=8',
        '-1',
      ]).flat();
      items.push(...(await gate.send(OWNER, {}, ...words)).events.map((event) => event.split(' ')));
    };
    await request(60);
    await gate.send(OWNER, {}, 'T', ';tokens=4000', '0');
    await request(100);
    for (const place of [5, 59, 60, 159]) {
      const [, , , granted = '', cost = '', number = ''] = items[place] as string[];
      await gate.send(OWNER, {}, 'S', '0', cost, granted, number);
    }
    // The corrected rate ignores the grants from before.
    expect(await gate.inspect(0)).toMatchObject({ tokens: 1_024 - 2 * 156, levels: { tokens: 4_000 - 8 * 98 } });
    // The log has been cut while the correction was in it.
    expect(await client.strlen(gate.keys[1] as string)).toBeLessThan(160 * 24);
  });

  test('refunds of grants that have left the log are exact, for each of several rates', async () => {
    const gate = open(`- 1024 ${UNIT} 1024;=tokens 4096 ${UNIT} 4096`);
    const events: string[] = [];
    for (let batch = 0; batch < 30; batch++) {
      const words = Array.from({ length: 10 }, (_, index) => ['B', `s${batch}.${index}`, '2;tokens=8', '-1']).flat();
      events.push(...(await gate.send(OWNER, {}, ...words)).events);
    }
    expect(await gate.inspect(0)).toMatchObject({ tokens: 424, levels: { tokens: 1_696 } });
    expect(await client.strlen(gate.keys[1] as string)).toBeLessThanOrEqual(128 * 24);
    for (const place of [3, 100, 200, 299]) {
      const [, , , granted = '', cost = '', number = ''] = (events[place] ?? '').split(' ');
      await gate.send(OWNER, {}, 'S', '1;tokens=0', cost, granted, number);
    }
    expect(await gate.inspect(0)).toMatchObject({ tokens: 428, levels: { tokens: 1_728 } });
  });
});

describe('weighted slots in structures of their own', () => {
  test('permits with several slots and with none move out of the text and back', async () => {
    const gate = new TestGate(client, { ttl: TTL, limit: 200 });
    await gate.send('hub.a', {}, 'B', 'none', '0/1', '-1', 'B', 'forty', '40/1', '-1');
    expect(await gate.present()).toEqual(['state', 'expiries', 'owners'].filter((name) => name === 'state'));
    const { events } = await gate.send('hub.a', {}, 'B', 'thirty', '30/1', '-1', 'A', 'one', '1', '-1');
    expect(events[0]?.split(' ')[2]?.split(',')).toHaveLength(30);
    expect(events[1]?.split(' ')[2]).toBe('71');
    expect((await gate.present()).toSorted()).toEqual(['leases', 'slots', 'state']);
    await gate.send('hub.a', {}, 'R', 'forty');
    const back = await gate.send('hub.a', {}, 'B', 'ten', '10/1', '-1', 'R', 'thirty', 'R', 'one', 'R', 'none');
    expect(back.events[0]?.split(' ')[2]).toBe('1,2,3,4,5,6,7,8,9,10');
    expect((await gate.inspect(0)).active.map(({ slots }) => slots.length)).toEqual([10]);
    await gate.send('hub.a', { flags: 'e' }, 'R', 'ten');
    expect(await gate.present()).toEqual([]);
  });

  test('many permits without a slot alone keep their leases apart, and a loss of them is noticed', async () => {
    const gate = new TestGate(client, { ttl: TTL, limit: 1 });
    const words = Array.from({ length: 70 }, (_, index) => ['B', `s${index}`, '0/1', '-1']).flat();
    await gate.send('hub.a', {}, ...words);
    expect((await gate.inspect(0)).active.map(({ slot, slots }) => [slot, slots.length])).toEqual(
      Array.from({ length: 70 }, () => [0, 0]),
    );
    expect(
      (await gate.send('hub.a', {}, 'A', 'one', '1', '-1', 'A', 'two', '1', '-1')).events.map((event) => event[0]),
    ).toEqual(['G', 'Q']);
    expect((await gate.send('hub.a', {}, 'R', 's3', 'R', 'one')).events[0]).toMatch(/^G two 1 /);
  });

  test('a permit without a slot waits while more slots are in use than its limit allows', async () => {
    const gate = new TestGate(client, { ttl: TTL, limit: 3 });
    await gate.send('hub.a', {}, 'B', 'a', '3/1', '-1');
    expect((await gate.send('hub.b', { limit: 2 }, 'B', 'b', '0/1', '0')).events[0]).toMatch(/^L b 0 3 0/);
    expect((await gate.send('hub.b', { limit: 3 }, 'B', 'c', '0/1', '0')).events[0]).toMatch(/^G c 0 /);
  });

  test('an epoch states permits with several slots: all of them come back, or the permit is lost', async () => {
    const gate = new TestGate(client, { ttl: TTL, limit: 9 });
    const item = (slots: string, requested: string): string => `${slots} ${START} ${requested} 0`;
    const { events } = await gate.send(
      'hub.a',
      { at: 1 },
      'K',
      'x',
      item('2,4', '2/1'),
      'K',
      'y',
      item('3,4', '2/1'),
      'K',
      'z',
      item('0', '0/1'),
      'B',
      'n',
      '3/1',
      '-1',
    );
    expect(events[0]).toBe('X y');
    expect(events[1]).toMatch(/^G n 1,3,5 /);
    const { active } = await gate.inspect(1);
    expect(active.map(({ slots }) => slots.join()).toSorted()).toEqual(['', '1,3,5', '2,4']);
  });

  test('an owner that has expired frees all slots of its permits', async () => {
    const gate = new TestGate(client, { ttl: 10_000_000, limit: 5 });
    await gate.send('hub.a', {}, 'B', 'x', '3/1', '-1', 'B', 'y', '2/1', '-1');
    await gate.send('hub.b', { at: 9_000_000 }, 'B', 'z', '4/1', '-1');
    expect((await gate.send('hub.b', { at: 10_000_000 })).events[0]).toMatch(/^G z 1,2,3,4 /);
  });
});
