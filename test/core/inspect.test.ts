/** How gates and permits appear in `console.log`, `util.inspect` and JSON. */
import { format, inspect } from 'node:util';
import { KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { RedisKeyedThrottle, RedisThrottle } from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { addInspection } from '../../src/core/inspect.js';
import { setUp, setUpKeyed, take } from '../support/support.js';

const oneLine = { breakLength: Infinity } as const;
const also = [{ name: 'tokens', capacity: 100, period: 60 }] as const;

/** A clock that throws once `broken` is set. */
class BreakableClock extends ManualClock {
  broken = false;

  override now(): number {
    if (this.broken) throw new Error('no time');
    return super.now();
  }
}

test('fields of the normal case are left out, and numbers that change with the time are rounded', async () => {
  vi.resetModules();
  const { readFields } = await import('../../src/core/inspect.js');
  const normal = { burst: Infinity, tokens: Infinity, pausedFor: 0, closed: false };
  expect(readFields(normal, 'burst tokens pausedFor closed')).toStrictEqual({});
  expect(readFields({ burst: undefined, cost: undefined, costs: {} }, 'burst cost costs')).toStrictEqual({});
  const times = {
    tokens: 0.12345,
    levels: { a: 1.00049 },
    pausedFor: 2.9996,
    age: 7.0001,
    burst: 0.12345,
    closed: true,
  };
  expect(readFields(times, 'tokens levels pausedFor age burst closed')).toStrictEqual({
    tokens: 0.123,
    levels: { a: 1 },
    pausedFor: 3,
    age: 7,
    burst: 0.12345,
    closed: true,
  });
});

describe('the method for `console.log`', () => {
  const INSPECT = Symbol.for('nodejs.util.inspect.custom');

  test('returns the fields on a platform that passes no function', () => {
    const throttle = new Throttle(1, 0, 1, { clock: new ManualClock() });
    const show = (throttle as unknown as Record<symbol, (...args: unknown[]) => unknown>)[INSPECT];
    expect(show?.call(throttle, 2, { stylize: String })).toEqual(throttle.toJSON());
  });

  test('is a method of its class: replaceable, not enumerable, and kept if a program has replaced it', () => {
    const prototype = { toJSON: () => ({}) } as { toJSON(): object; [INSPECT]?: unknown };
    addInspection(prototype, 'Test');
    const { writable, configurable, enumerable } = Object.getOwnPropertyDescriptor(prototype, INSPECT) ?? {};
    expect([writable, configurable, enumerable]).toEqual([true, true, false]);
    const own = (): string => 'own';
    prototype[INSPECT] = own;
    addInspection(prototype, 'Test');
    expect(prototype[INSPECT]).toBe(own);
  });
});

describe('a throttle', () => {
  test('shows its name, limits, levels and callers, in this order', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(10, 2, 1, { name: 'github', also, clock });
    take(throttle, 0);
    const permit = throttle.tryAcquire({ cost: 5, tokens: 30 });
    throttle.acquire({ tokens: 1 }).catch(() => {});
    await clock.advance(0.1234567);
    const data = {
      name: 'github',
      capacity: 10,
      concurrency: 2,
      period: 1,
      burst: 10,
      tokens: 6.235,
      levels: { tokens: 70.206 },
      active: 2,
      waiting: 1,
    };
    expect(throttle.toJSON()).toEqual(data);
    expect(Object.keys(throttle.toJSON())).toEqual(Object.keys(data));
    expect(inspect(throttle, oneLine)).toBe(`Throttle ${inspect(data, oneLine)}`);
    expect(JSON.parse(JSON.stringify({ throttle, permit }))).toEqual({
      throttle: data,
      permit: { cost: 5, costs: { tokens: 30 }, slots: 1, age: 0.123, released: false },
    });
    throttle.pause(30);
    throttle.close();
    expect(throttle.toJSON()).toEqual({ ...data, waiting: 0, pausedFor: 30, closed: true });
    expect(Object.keys(throttle.toJSON()).slice(-2)).toEqual(['pausedFor', 'closed']);
  });

  test('shows the same fields in a copy of the package that is loaded later', async () => {
    vi.resetModules();
    const { Throttle: Copy } = await import('headgate');
    const [first, later] = [Throttle, Copy].map((Kind) => new Kind(10, 2, 1, { clock: new ManualClock(), also }));
    expect(later?.toJSON()).toEqual(first?.toJSON());
    expect(Object.keys(later?.toJSON() ?? {})).toContain('levels');
  });

  test('leaves out what it does not have, and keeps Infinity, which JSON writes as null', () => {
    const throttle = new Throttle(Infinity);
    expect(inspect(throttle, oneLine)).toBe(
      'Throttle { capacity: Infinity, concurrency: 0, period: 1, active: 0, waiting: 0 }',
    );
    expect(JSON.stringify(throttle)).toBe('{"capacity":null,"concurrency":0,"period":1,"active":0,"waiting":0}');
    throttle.pause();
    expect(throttle.toJSON().pausedFor).toBe(Infinity);
  });

  test('shows only its class below the depth, and its levels as an object at depth 0', () => {
    const throttle = new Throttle(10, 0, 1, { also });
    expect(inspect([[[throttle]]], { ...oneLine, depth: 2 })).toBe('[ [ [ [Throttle] ] ] ]');
    expect(inspect(throttle, { ...oneLine, depth: 0 })).toContain('levels: [Object]');
    expect(inspect([throttle], { ...oneLine, depth: null })).toContain('levels: { tokens: 100 }');
    expect(inspect([throttle], { ...oneLine, depth: 0, colors: true })).toBe('[ \u001B[36m[Throttle]\u001B[39m ]');
  });

  test('follows the colors and the line length of the output', () => {
    const throttle = new Throttle(10, 0, 1, { name: 'red' });
    expect(inspect(throttle, { colors: true })).toContain("name: \u001B[32m'red'\u001B[39m");
    expect(inspect({ nested: throttle })).toMatch(/^\{\n {2}nested: Throttle \{\n {4}name: 'red',\n/);
    expect(format('%j', throttle)).toBe(JSON.stringify(throttle));
  });

  test('escapes control characters of a name', () => {
    expect(inspect(new Throttle(1, 0, 1, { name: '\u001B[2J\n' }))).not.toContain('\u001B');
  });

  test('never throws while the clock does, and leaves out what needs the clock', () => {
    const clock = new BreakableClock();
    const throttle = new Throttle(10, 1, 1, { clock, also, ttl: 60 });
    const permit = throttle.tryAcquire();
    clock.broken = true;
    expect(inspect(throttle, oneLine)).toBe(
      'Throttle { capacity: 10, concurrency: 1, period: 1, burst: 10, active: 1, waiting: 0 }',
    );
    expect(inspect(permit, oneLine)).toBe('Permit { cost: 1, costs: { tokens: 1 }, slots: 1, released: false }');
    expect(JSON.stringify([throttle, permit])).toContain('"released":false');
  });

  test('a prototype and a proxy do not throw', () => {
    for (const object of [Throttle, KeyedThrottle, Resource, Limiter, RedisThrottle, RedisKeyedThrottle])
      expect(typeof inspect(object.prototype)).toBe('string');
    expect(inspect(new Proxy(new Throttle(1), {}), { showProxy: false })).toBeTypeOf('string');
  });
});

describe('a permit', () => {
  test('shows cost, slots, age and whether it is released', async () => {
    const { clock, throttle } = setUp(10, 3);
    const permit = await throttle.acquire(2, { slots: 3 });
    await clock.advance(1.5);
    expect(inspect(permit)).toBe('Permit { cost: 2, slots: 3, age: 1.5, released: false }');
    permit.settle(4);
    permit.release();
    expect(permit.toJSON()).toEqual({ cost: 4, slots: 3, age: 1.5, released: true });
  });

  test('has an age if it has waited, has a ttl or spends tokens; otherwise the gate reads no clock', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    const first = take(throttle);
    const waiting = throttle.acquire();
    await clock.advance(1);
    first.release();
    const second = await waiting;
    await clock.advance(2);
    expect([first.toJSON?.(), second.toJSON()]).toEqual([
      { cost: 1, slots: 1, released: true },
      { cost: 1, slots: 1, age: 2, released: false },
    ]);
    expect(take(setUp(Infinity, 1, 1, { ttl: 5 }).throttle).toJSON?.().age).toBe(0);
  });
});

describe('compositions', () => {
  test('a keyed throttle shows its limits and its sums, and never a key', async () => {
    const { keyed } = setUpKeyed(10, 1, 1, { name: 'users' });
    await keyed.acquire('secret');
    keyed.acquire('secret').catch(() => {});
    await keyed.acquire('other');
    const data = {
      name: 'users',
      capacity: 10,
      concurrency: 1,
      period: 1,
      burst: 10,
      size: 2,
      maxKeys: 100_000,
      active: 2,
      waiting: 1,
    };
    expect(keyed.toJSON()).toEqual(data);
    expect(inspect(keyed, oneLine)).toBe(`KeyedThrottle ${inspect(data, oneLine)}`);
    keyed.close();
    expect(keyed.toJSON()).toMatchObject({ waiting: 0, closed: true });
  });

  test('a limiter shows its timeout and the state of its resources', async () => {
    const clock = new ManualClock();
    const database = new Resource(3, { name: 'database', clock });
    const own = { acquire: async () => {}, name: 'own' };
    const limiter = new Limiter({ timeout: 5, resources: [database, own as never], clock });
    const permit = await limiter.acquire([database]);
    await clock.advance(2);
    expect(inspect(limiter, { ...oneLine, depth: 3 })).toMatch(
      /^Limiter \{ timeout: 5, resources: \[ Resource \{ name: 'database', capacity: 3, active: 1, waiting: 0 \}, \{/,
    );
    expect(limiter.toJSON()).toEqual({
      timeout: 5,
      resources: [{ name: 'database', capacity: 3, active: 1, waiting: 0 }, {}],
    });
    expect(inspect(permit, oneLine)).toBe(
      'ResourcesPermit { cost: 1, costs: { database: 1 }, slots: 1, age: 2, released: false }',
    );
    const throws = { acquire: async () => {}, toJSON: () => expect.fail('no state') };
    expect(new Limiter({ timeout: 1, resources: [throws as never] }).toJSON().resources).toEqual([{}]);
  });

  test('a throttle on Redis shows its key and what it holds, and no password', () => {
    const client = { url: 'redis://user:hunter2@localhost:1' };
    const throttle = new RedisThrottle({ client, key: 'payments', name: 'pay', capacity: 10, concurrency: 2 });
    expect(inspect(throttle, oneLine)).toBe(
      "RedisThrottle { name: 'pay', key: 'payments', capacity: 10, concurrency: 2, period: 1, burst: 10, held: 0, waiting: 0 }",
    );
    const keyed = new RedisKeyedThrottle({ client, concurrency: 2 });
    expect(inspect(keyed, oneLine)).toBe(
      'RedisKeyedThrottle { capacity: Infinity, concurrency: 2, period: 1, size: 0, held: 0, waiting: 0 }',
    );
    for (const gate of [throttle, keyed])
      expect(`${inspect(gate, { showHidden: true, depth: null })} ${JSON.stringify(gate)}`).not.toContain('hunter2');
  });
});
