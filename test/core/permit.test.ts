/** Permits: release, settlement, disposal, and the calls to the gate that issued the permit. */
import { inspect } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import { Terms } from '../../src/core/cost.js';
import { Grant } from '../../src/core/permit.js';
import { setUp, take } from '../support/support.js';

const setUpGrant = (): { permit: Grant; release: ReturnType<typeof vi.fn>; settle: ReturnType<typeof vi.fn> } => {
  const [release, settle] = [vi.fn(), vi.fn()];
  return { permit: new Grant({ onRelease: release, onSettle: settle }, 3, 0.5, 10), release, settle };
};

test.each<[string, number, number[]]>([
  ['a higher cost', 5, [2]],
  ['a lower cost', 1, [-2]],
  ['the requested cost', 3, []],
])('the first settle at %s reports the difference once', (_, cost, differences) => {
  const { permit, release, settle } = setUpGrant();
  permit.settle(cost);
  permit.settle(7);
  permit.refund();
  expect(settle.mock.calls).toEqual(differences.map((difference) => [permit, difference]));
  expect(permit).toMatchObject({ cost, waited: 0.5, serial: 10, released: false });
  expect(release).not.toHaveBeenCalled();
});

test('any of release, dispose and asyncDispose releases once', async () => {
  for (const way of [
    (permit: Grant) => permit.release(),
    (permit: Grant) => permit[Symbol.dispose](),
    (permit: Grant) => permit[Symbol.asyncDispose](),
  ]) {
    const { permit, release, settle } = setUpGrant();
    await way(permit);
    expect(permit.released).toBe(true);
    permit.release();
    permit[Symbol.dispose]();
    await permit[Symbol.asyncDispose]();
    expect(release.mock.calls).toEqual([[permit]]);
    expect(settle).not.toHaveBeenCalled();
  }
});

test('a permit has no age if its gate read no clock for the grant, or has no clock', () => {
  const issuer = { onRelease: vi.fn(), onSettle: vi.fn() };
  expect(new Grant({ ...issuer, now: () => 5 }, 1, 0, 1).toJSON()).toEqual({ cost: 1, slots: 1, released: false });
  expect(new Grant(issuer, 1, 0, 1, undefined, 3).age).toBeUndefined();
  expect(new Grant({ ...issuer, now: () => 5 }, 1, 0, 1, undefined, 3).age).toBe(2);
});

test('an expired permit creates no error if no holder has read its signal', () => {
  const issuer = { onRelease: vi.fn(), onSettle: vi.fn(), expiredError: vi.fn() };
  for (const terms of [undefined, new Terms([1], 2)]) {
    const permit = new Grant(issuer, 1, 0, 1, terms);
    permit.expire();
    permit.abortSignal();
    expect([permit.released, issuer.expiredError.mock.calls.length]).toEqual([true, 0]);
  }
});

test('the first permit of a process has the keys that compilers use on a platform without the symbols', async () => {
  vi.resetModules();
  const { Grant: Fresh } = await import('../../src/core/permit.js');
  vi.stubGlobal('Symbol', Object.create(Symbol, { dispose: {}, asyncDispose: {} }));
  const permit = new Fresh({ onRelease() {}, onSettle() {} }, 1, 0, 1);
  vi.unstubAllGlobals();
  const methods = permit as unknown as Record<symbol, unknown>;
  const keys = ['dispose', 'asyncDispose'].map((kind) => Symbol.for(`Symbol.${kind}`));
  expect(keys.map((key) => typeof methods[key])).toEqual(['function', 'function']);
});

test('the first permit of a process has both methods of `using`, and shows its class', async () => {
  vi.resetModules();
  const { Grant: Fresh } = await import('../../src/core/permit.js');
  const release = vi.fn();
  const [first, second] = [1, 2].map((serial) => new Fresh({ onRelease: release, onSettle() {} }, 1, 0, serial));
  expect(inspect(first)).toBe('Permit { cost: 1, slots: 1, released: false }');
  first?.[Symbol.dispose]();
  await second?.[Symbol.asyncDispose]();
  expect(release.mock.calls).toEqual([[first], [second]]);
});

describe('permits', () => {
  test('a settlement by name is refused if the gate has no named rates', async () => {
    vi.resetModules();
    const { Throttle: Fresh } = await import('headgate');
    const permit = take(new Fresh(10, 0, 60), 3);
    expect(() => permit.settle({ tokens: 1 })).toThrow(
      new TypeError('cost.tokens is not a rate of this throttle: it has no named rates'),
    );
    expect(permit.cost).toBe(3);
    permit.settle({ cost: 2 });
    expect(permit.cost).toBe(2);
  });

  test('using and await using release the permit, also when the block throws', async () => {
    const { throttle } = setUp(10, 1);
    {
      using permit = await throttle.acquire(5);
      expect([throttle.active, permit.cost, permit.released]).toEqual([1, 5, false]);
    }
    expect(throttle.active).toBe(0);
    await expect(
      (async () => {
        await using _ = await throttle.acquire(5);
        throw new Error('boom');
      })(),
    ).rejects.toThrow('boom');
    expect([throttle.active, throttle.tokens]).toEqual([0, 0]);
  });

  test('any mix of releases returns one slot', async () => {
    const { throttle } = setUp(Infinity, 2);
    const other = await throttle.acquire();
    await throttle.run(async (permit) => {
      using _ = permit;
      permit.release();
      permit.release();
      expect(permit.released).toBe(true);
      await permit[Symbol.asyncDispose]();
    });
    expect(throttle.active).toBe(1);
    other.release();
    expect(throttle.active).toBe(0);
  });

  test('only the first settle or refund counts, before or after release, and changes permit.cost', async () => {
    const { throttle, clock } = setUp(10);
    const permit = await throttle.acquire(6);
    permit.release();
    permit.settle(9);
    permit.refund();
    expect([throttle.tokens, permit.cost]).toEqual([1, 9]);
    const refunded = await throttle.acquire(1);
    refunded.refund();
    refunded.settle(1);
    expect([throttle.tokens, refunded.cost]).toEqual([1, 0]);
    await clock.advance(1);
    expect(throttle.tokens).toBe(10);
  });

  test('a debt delays the head and a refund grants the head at once', async () => {
    const { throttle, clock } = setUp(10);
    const permit = await throttle.acquire(10);
    const order: [string, number][] = [];
    void throttle.acquire(5).then(() => order.push(['debtor', clock.now()]));
    await clock.advance(0.25);
    permit.settle(15);
    await clock.advance(0.74);
    expect(order).toEqual([]);
    await clock.advance(0.01);
    expect(order).toEqual([['debtor', 1]]);
    void throttle.acquire(3).then((held) => order.push(['refunded', held.waited]));
    const last = throttle.acquire(10);
    await clock.advance(1.3);
    (await last).refund();
    const next = throttle.acquire(10);
    await clock.advance(0);
    expect([throttle.waiting, order.length]).toEqual([0, 2]);
    (await next).release();
  });

  test('a late debt and a late refund leave the level that the true costs would have left', async () => {
    const { throttle, clock } = setUp(10, 0, 10);
    const [first, second] = [take(throttle, 5), take(throttle, 1)];
    await clock.advance(10);
    // With the true cost of 9, the bucket would have held -4 tokens; since then, ten tokens have flowed in.
    second.settle(9);
    expect(throttle.tokens).toBe(6);
    // Without the first grant, 1 token would have been left, and the bucket would be full now.
    first.refund();
    expect(throttle.tokens).toBe(10);

    const { throttle: window, clock: time } = setUp(10, 0, 10, { window: 'sliding' });
    const older = take(window, 2);
    await time.advance(1);
    const younger = take(window, 1);
    await time.advance(1);
    younger.settle(3);
    await time.advance(1);
    older.settle(1);
    expect(window.tokens).toBe(6);
    await time.advance(7);
    // The older grant has expired. The younger grant counts at its true cost until its own period ends.
    expect(window.tokens).toBe(7);
    await time.advance(1);
    expect(window.tokens).toBe(10);
  });

  test('settle with an unlimited rate changes only permit.cost', async () => {
    const { throttle } = setUp(Infinity);
    const permit = await throttle.acquire(5);
    permit.settle(7);
    expect([permit.cost, throttle.tokens]).toEqual([7, Infinity]);
  });

  test('a permit of a throttle without named rates has no named costs', () => {
    expect(take(setUp().throttle).costs).toEqual({});
  });

  test('a permit is not a thenable', async () => {
    const { throttle } = setUp();
    const permit = await throttle.acquire();
    expect(await Promise.resolve(permit)).toBe(permit);
    expect(typeof (permit as { then?: unknown }).then).toBe('undefined');
  });
});
