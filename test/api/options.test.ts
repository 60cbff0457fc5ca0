/**
 * Every call with options refuses an unknown option, and accepts every option of its type. The compiler lists the calls
 * and their options, so a new call without a check fails here, and so does a new option that the check does not know.
 */
import { KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { configureDevelopment } from 'headgate/development';
import { throttled, throttledFetch, undiciThrottle } from 'headgate/fetch';
import { concurrencyLimit, express, fastify, hono, koa, limitUpgrade, web } from 'headgate/http';
import { RedisKeyedThrottle, RedisThrottle } from 'headgate/redis';
import { ManualClock, record, toSVG } from 'headgate/testing';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type CallOptions, readCallOptions } from './option-types.js';

/** Calls whose options belong to code of others. */
const EXEMPT = [
  // Interfaces that a user implements. The classes that implement them are in the table.
  /^(Gate|KeyedGate|NodeRedis\w+)\./,
  // A subclass of an error may pass options of its own, and `Error` ignores them, too.
  /^new \w+Error\(/,
];

const clock = new ManualClock();
const work = vi.fn();
const client = { eval: vi.fn(), subscribe: vi.fn() };
const gate = new Throttle({ capacity: 1e9, clock });
const keyed = new KeyedThrottle({ capacity: 1e9, clock });
const resource = new Resource(1_000_000, { clock });
const limiter = new Limiter({ timeout: 1, resources: [resource], clock });
const joint = limiter.resources([resource]);
const redis = new RedisThrottle({ client, key: 'options' });
const redisKeyed = new RedisKeyedThrottle({ client });
const trace = record(gate);
trace.stop();

type Call = (options: never) => unknown;
const untyped = (value: unknown): never => value as never;
const rates =
  (call: (settings: { also: never[] }) => unknown): Call =>
  (rate) =>
    call({ also: [rate] });

/** Each call, with the options that it requires. */
const CALLS: Record<string, [call: Call, required?: object]> = {
  'new Throttle(settings)': [(settings) => new Throttle(settings)],
  'new Throttle(settings).also[0]': [rates((settings) => new Throttle(settings)), { capacity: 1 }],
  'new Throttle(options)': [(options) => new Throttle(1, 0, 1, options)],
  'new Throttle(options).also[0]': [rates((options) => new Throttle(1, 0, 1, options)), { capacity: 1 }],
  'Throttle.acquire(options)': [(options) => gate.acquire(1, options)],
  'Throttle.run(options)': [(options) => gate.run(work, 1, options)],
  'Throttle.map(options)': [(options) => gate.map([1], work, options)],
  'Throttle.correct(options)': [(options) => gate.correct(1e9, options)],
  'Throttle.configure(limits)': [(limits) => gate.configure(limits)],
  'Throttle.idle(options)': [(options) => gate.idle(options)],
  'new KeyedThrottle(settings)': [(settings) => new KeyedThrottle(settings)],
  'new KeyedThrottle(settings).also[0]': [rates((settings) => new KeyedThrottle(settings)), { capacity: 1 }],
  'new KeyedThrottle(options)': [(options) => new KeyedThrottle(1, 0, 1, options)],
  'new KeyedThrottle(options).also[0]': [rates((options) => new KeyedThrottle(1, 0, 1, options)), { capacity: 1 }],
  'KeyedThrottle.acquire(options)': [(options) => keyed.acquire('ada', 1, options)],
  'KeyedThrottle.run(options)': [(options) => keyed.run('ada', work, 1, options)],
  'KeyedThrottle.correct(options)': [(options) => keyed.correct('ada', 1e9, options)],
  'KeyedThrottle.idle(options)': [(options) => keyed.idle(options)],
  'new Resource(options)': [(options) => new Resource(1, options)],
  'Resource.acquire(options)': [(options) => resource.acquire(1, options)],
  'Resource.run(options)': [(options) => resource.run(work, 1, options)],
  'Resource.map(options)': [(options) => resource.map([1], work, options)],
  'Resource.idle(options)': [(options) => resource.idle(options)],
  'Resource.configure(limits)': [(limits) => resource.configure(limits)],
  'new Limiter(options)': [(options) => new Limiter(options), { timeout: 1, resources: [] }],
  'Limiter.acquire(options)': [(options) => limiter.acquire([resource], options)],
  'Resources.acquire(options)': [(options) => joint.acquire(1, options)],
  'Resources.run(options)': [(options) => joint.run(work, 1, options)],
  'throttledFetch(options)': [(options) => throttledFetch(keyed, options)],
  'throttled(options)': [(options) => throttled(keyed, work, options), { key: 'ada' }],
  'undiciThrottle(options)': [(options) => undiciThrottle(keyed, options)],
  'configureDevelopment(options)': [(options) => configureDevelopment(options)],
  'express(options)': [(options) => express(options), { gate }],
  'fastify(options)': [(options) => fastify(options), { gate }],
  'FastifyAdapter.route(options)': [(options) => fastify.route(options), { gate }],
  'limitUpgrade(options)': [(options) => limitUpgrade(options), { gate }],
  'hono(options)': [(options) => hono(options), { gate }],
  'koa(options)': [(options) => koa(options), { gate }],
  'web(options)': [(options) => web(untyped(work), options), { gate }],
  'concurrencyLimit(options)': [(options) => concurrencyLimit(options), { key: 'ip', maxConcurrent: 1 }],
  'new RedisThrottle(options)': [(options) => new RedisThrottle(options), { client, key: 'other' }],
  'new RedisThrottle(options).also[0]': [
    rates((options) => new RedisThrottle({ ...options, client, key: 'other' })),
    { capacity: 1 },
  ],
  'RedisThrottle.acquire(options)': [(options) => redis.acquire(1, options)],
  'RedisThrottle.run(options)': [(options) => redis.run(work, 1, options)],
  'RedisThrottle.map(options)': [(options) => redis.map([1], work, options)],
  'RedisThrottle.correct(options)': [(options) => redis.correct(5, options)],
  'RedisThrottle.configure(limits)': [(limits) => redis.configure(limits)],
  'RedisThrottle.idle(options)': [(options) => redis.idle(options)],
  'new RedisKeyedThrottle(options)': [(options) => new RedisKeyedThrottle(options), { client }],
  'new RedisKeyedThrottle(options).also[0]': [
    rates((options) => new RedisKeyedThrottle({ ...options, client })),
    { capacity: 1 },
  ],
  'RedisKeyedThrottle.acquire(options)': [(options) => redisKeyed.acquire('ada', 1, options)],
  'RedisKeyedThrottle.run(options)': [(options) => redisKeyed.run('ada', work, 1, options)],
  'RedisKeyedThrottle.correct(options)': [(options) => redisKeyed.correct('ada', 5, options)],
  'RedisKeyedThrottle.idle(options)': [(options) => redisKeyed.idle(options)],
  'toSVG(options)': [(options) => toSVG(trace, options)],
};

/** The error that a call throws or rejects with; `undefined` if the call succeeds. */
async function errorOf(call: () => unknown): Promise<Error | undefined> {
  try {
    const result = (await call()) as { release?(): void } | undefined;
    result?.release?.();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

const calls: readonly CallOptions[] = readCallOptions().filter(({ call }) => !EXEMPT.some((one) => one.test(call)));

test('the table has every call with options', () => {
  expect(Object.keys(CALLS).toSorted()).toEqual(calls.map(({ call }) => call).toSorted());
});

describe.each(calls)('$call', ({ call, names, internal }) => {
  const [invoke, required = {}] = CALLS[call] ?? [];
  const known = names.filter((name) => !internal.includes(name));
  const timer = vi.spyOn(globalThis, 'setTimeout');
  beforeEach(() => {
    timer.mockClear();
    work.mockClear();
  });
  afterEach(() => expect(client.subscribe).not.toHaveBeenCalled());

  test.each(known)('refuses a misspelt %s, and changes nothing', async (name) => {
    const swapped = `${name.slice(0, -2)}${name.at(-1)}${name.at(-2)}`;
    for (const misspelt of [`${name}s`, name.toUpperCase(), ...(swapped === name ? [] : [swapped])]) {
      if (known.includes(misspelt)) continue;
      const error = await errorOf(() => invoke?.({ ...required, [misspelt]: 1 } as never));
      expect(error).toBeInstanceOf(TypeError);
      expect(error?.message).toMatch(new RegExp(`^unknown option "${misspelt}" of .+; did you mean "${name}"\\?$`));
    }
    expect([gate.active, gate.waiting, gate.capacity, keyed.size, resource.active]).toEqual([0, 0, 1e9, 0, 0]);
    expect([clock.pending, redis.held, redis.waiting, redisKeyed.size]).toEqual([0, 0, 0, 0]);
    for (const never of [work, client.eval, client.subscribe, timer]) expect(never).not.toHaveBeenCalled();
  });

  test('refuses a name that resembles none, and lists the public options', async () => {
    const error = await errorOf(() => invoke?.({ ...required, somethingQuiteDifferent: undefined } as never));
    expect(error).toBeInstanceOf(TypeError);
    const [, list = ''] = /^unknown option "somethingQuiteDifferent" of .+; its options are (.+)$/.exec(
      error?.message ?? '',
    ) as string[];
    expect(list.split(', ').toSorted()).toEqual(known.toSorted());
  });
});

test.each(calls)('$call accepts each of its options', async ({ call, names }) => {
  const [invoke, required = {}] = CALLS[call] ?? [];
  // A closed gate checks the options, and does not connect.
  await redis.close();
  await redisKeyed.close();
  for (const name of names) {
    const error = await errorOf(() => invoke?.({ ...required, [name]: undefined } as never));
    expect(error?.message ?? '').not.toContain('unknown option');
  }
});
