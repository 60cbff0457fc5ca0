/** Costs of a limiter's resources by the names of the gates, and the settlement of each gate by its name. */
import { type Gate, Limiter, Resource, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';

const setUp = (): {
  clock: ManualClock;
  slots: Resource;
  requests: Throttle;
  tokens: Throttle<'input' | 'output'>;
  limiter: Limiter;
  all: Gate[];
} => {
  const clock = new ManualClock();
  const slots = new Resource(4, { clock });
  const requests = new Throttle(10, 0, 1_000, { clock, name: 'requests' });
  const tokens = new Throttle(100, 0, 1_000, {
    clock,
    name: 'tokens',
    also: [
      { name: 'input', capacity: 50, period: 1_000 },
      { name: 'output', capacity: 50, period: 1_000 },
    ],
  });
  const all = [slots, requests, tokens];
  return { clock, slots, requests, tokens, limiter: new Limiter({ timeout: 5, resources: all, clock }), all };
};

describe('costs of a limiter', () => {
  test('a number charges every gate, and every named rate', async () => {
    const { limiter, all, requests, tokens } = setUp();
    const permit = await limiter.acquire(all, { cost: 3 });
    expect([permit.cost, permit.costs]).toEqual([3, { requests: 3, tokens: 3 }]);
    expect([requests.tokens, tokens.tokens, tokens.levels]).toEqual([7, 97, { input: 47, output: 47 }]);
  });

  test('a record charges each gate by its name, and 1 to every other gate', async () => {
    const { limiter, all, slots, requests, tokens } = setUp();
    const permit = await limiter.acquire(all, { cost: { tokens: { cost: 20, input: 5 } }, slots: 2 });
    expect([requests.tokens, tokens.tokens, tokens.levels]).toEqual([9, 80, { input: 45, output: 50 }]);
    expect([permit.cost, permit.costs, permit.slots, slots.active]).toEqual([1, { requests: 1, tokens: 20 }, 2, 2]);
  });

  test('a settlement by name settles that gate, and a number settles the rest', async () => {
    const { limiter, all, requests, tokens } = setUp();
    const permit = await limiter.resources(all).acquire({ requests: 5, tokens: { input: 10, output: 10 } });
    permit.settle({ tokens: { input: 4 } });
    permit.settle({ tokens: { input: 9 } });
    expect([requests.tokens, tokens.tokens, tokens.levels]).toEqual([5, 99, { input: 46, output: 40 }]);
    permit.settle({ requests: 1 });
    permit.refund();
    permit.refund();
    expect([requests.tokens, tokens.tokens, tokens.levels]).toEqual([9, 100, { input: 46, output: 50 }]);
  });

  test.each([
    [
      { tokns: 1 },
      TypeError,
      'cost.tokns is not the name of one of the resources: their names are "requests", "tokens"',
    ],
    [{ tokens: { inptu: 1 } }, TypeError, 'cost.inptu is not a rate of Throttle "tokens"'],
    [{ tokens: -1 }, RangeError, 'cost must be a finite number >= 0, received -1'],
    [{ requests: 11 }, RangeError, 'cost must be at most 10'],
  ])('a cost of %j is refused, and no gate keeps it', async (cost, Kind, message) => {
    const { limiter, all, slots, requests, tokens } = setUp();
    for (const call of [
      () => limiter.acquire(all, { cost: cost as never }),
      () => limiter.resources(all).tryAcquire(cost),
      () => limiter.resources(all).run(() => expect.fail('the function ran'), cost),
    ]) {
      const error = await call().catch((reason: unknown) => reason as Error);
      expect(error).toBeInstanceOf(Kind);
      expect((error as Error).message).toContain(message);
    }
    expect([slots.active, requests.tokens, tokens.tokens, tokens.levels]).toEqual([
      0,
      10,
      100,
      { input: 50, output: 50 },
    ]);
  });

  test.each([
    [{ requests: 1, tokns: 1 }, TypeError, 'cost.tokns is not the name'],
    [{ requests: 1, tokens: { inptu: 1 } }, TypeError, 'cost.tokens.inptu is not a rate of that resource'],
    [{ requests: 1, tokens: { input: NaN } }, RangeError, 'cost.tokens.input must be a finite number'],
    [{ requests: 1, tokens: -1 }, RangeError, 'cost.tokens must be a finite number'],
    [{ requests: 1, tokens: null }, TypeError, 'cost.tokens must be a finite number'],
  ])('a settlement of %j is refused, and settles no gate', async (cost, Kind, message) => {
    const { limiter, all, requests } = setUp();
    const permit = await limiter.acquire(all, { cost: { requests: 5 } });
    const settle = (): void => permit.settle(cost as never);
    expect(settle).toThrow(Kind);
    expect(settle).toThrow(message);
    expect(requests.tokens).toBe(5);
  });

  test('the signal of the joint permit aborts when one permit expires', async () => {
    const clock = new ManualClock();
    const [short, long] = [new Resource(1, { clock, ttl: 1 }), new Resource(1, { clock })];
    const limiter = new Limiter({ timeout: 5, resources: [short, long], clock });
    const permit = await limiter.acquire([short, long]);
    const { signal } = permit;
    expect([permit.signal === signal, signal.aborted, permit.released]).toEqual([true, false, false]);
    await clock.advance(1);
    expect([signal.aborted, permit.released, long.active]).toEqual([true, false, 1]);
    permit.release();
    expect([permit.released, long.active]).toEqual([true, 0]);
  });

  test('a gate that only knows numbers receives a number', async () => {
    const { clock, requests } = setUp();
    const costs: unknown[] = [];
    const gate: Gate = Object.assign(new Throttle(1), {
      acquire: (cost?: number) => (costs.push(cost), requests.acquire(cost)),
      tryAcquire: (cost?: number) => (costs.push(cost), requests.tryAcquire(cost)),
    });
    const both = new Limiter({ timeout: 1, resources: [gate], clock }).resources([gate]);
    await both.acquire();
    await both.acquire(2);
    await both.tryAcquire(3);
    expect(costs).toEqual([1, 2, 3]);
  });
});

describe('costs of gates without names, and of gates of a user', () => {
  test('a record is refused if no gate has a name', async () => {
    const gate = new Throttle(10);
    const limiter = new Limiter({ timeout: 1, resources: [gate] });
    await expect(limiter.acquire([gate], { cost: { api: 1 } })).rejects.toThrow(
      'cost.api is not the name of one of the resources: none of them has a name',
    );
    expect(gate.active).toBe(0);
  });

  test('an entry of undefined settles nothing, and a bad entry settles no gate', async () => {
    const { limiter, all, requests, tokens } = setUp();
    const permit = await limiter.acquire(all, { cost: { requests: undefined, tokens: 4 } });
    permit.settle({ requests: undefined, tokens: { input: undefined, cost: 2 } });
    expect([requests.tokens, tokens.tokens, tokens.levels.input]).toEqual([9, 98, 46]);
    expect(() => permit.settle({ requests: 0, tokens: { bytes: 1 } })).toThrow(
      'cost.tokens.bytes is not a rate of that resource',
    );
    expect(() => permit.settle({ requests: 0, tokens: { input: -1 } })).toThrow(RangeError);
    expect(() => permit.settle({ requests: '1' as never })).toThrow(TypeError);
    expect(requests.tokens).toBe(9);
  });

  test('a permit of a user may lack costs and a signal', async () => {
    const inner = new Throttle(10, 0, 1_000, { clock: new ManualClock() });
    const own = {
      name: 'own',
      acquire: async (cost: number) => {
        const permit = await inner.acquire(cost);
        return { cost, settle: (trueCost: number) => permit.settle(trueCost), release: () => permit.release() };
      },
    } as unknown as Gate;
    const limiter = new Limiter({ timeout: 1, resources: [own] });
    const permit = await limiter.acquire([own], { cost: { own: 3 } });
    expect([permit.signal.aborted, permit.costs]).toEqual([false, { own: 3 }]);
    expect(() => permit.settle({ own: { input: 1 } })).toThrow(TypeError);
    permit.settle({ own: 1 });
    permit.release();
    expect([inner.tokens, inner.active]).toEqual([9, 0]);
  });
});
