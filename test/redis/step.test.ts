/** The script alone, with batches that only a broken connection or a long-suspended process sends. */
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { STEP } from '../../src/redis/scripts/step.js';
import { freshKey, ioredis } from './support.js';

let client: Redis;
let end: () => Promise<void>;
beforeAll(() => {
  ({ client, close: end } = ioredis());
});
afterAll(() => end());

const TTL = 1_000_000;

/** A throttle with two slots and no rate, whose owners send commands at given instants. */
const scene = (): {
  runCommands: (owner: string, at: number, ...words: string[]) => Promise<string[]>;
  leases: () => Promise<Record<string, string>>;
  slots: () => Promise<number>;
} => {
  const base = `{headgate:${freshKey()}}`;
  const keys = [base, ...['queue', 'leases', 'owners', 'slots'].map((part) => `${base}:${part}`)];
  return {
    async runCommands(owner, at, ...words) {
      const head = [owner, String(TTL), '-1', '1', '1e300', '0', '0', String(1e15 + at), '-1', '2'];
      const [, ...events] = (await client.eval(STEP, keys.length, ...keys, ...head, ...words)) as string[];
      return events;
    },
    leases: () => client.hgetall(`${base}:leases`),
    slots: () => client.bitcount(`${base}:slots`),
  };
};

test('an expired lease that is granted again in the same batch is held', async () => {
  const { runCommands, leases, slots } = scene();
  const [granted = ''] = await runCommands('hub.a', 0, 'A', 'x', '1', '-1');
  expect(granted).toMatch(/^G x 1 /);
  // The owner was suspended for longer than its ttl. It renews its place, since the grant never arrived.
  const events = await runCommands('hub.a', 2 * TTL, 'W', 'x', '1', String(1e15));
  expect(events.map((event) => event.slice(0, 5))).toEqual(['Q x 1', 'G x 1']);
  expect(Object.keys(await leases())).toEqual(['hub.a.x']);
  expect(await slots()).toBe(1);
  // The same holds for a request that a client sends again after such a time.
  expect((await runCommands('hub.a', 4 * TTL, 'A', 'x', '1', '-1')).at(-1)).toMatch(/^G x 1 /);
  expect(Object.keys(await leases())).toEqual(['hub.a.x']);
  expect([
    await slots(),
    (await runCommands('hub.b', 4 * TTL, 'A', 'y', '1', '0', 'A', 'z', '1', '0')).map((event) => event.slice(0, 5)),
  ]).toEqual([1, ['G y 2', 'L z 0']]);
});

test('a release frees the slot that Redis stores, and a renewal of another slot frees none', async () => {
  const { runCommands, leases, slots } = scene();
  const [first = ''] = await runCommands('hub.a', 0, 'A', 'x', '1', '-1', 'A', 'y', '1', '-1');
  const item = first.split(' ').slice(2).join(' ');
  expect(item).toMatch(/^1 /);
  // The request was granted twice: the holder has slot 2.
  expect(await runCommands('hub.a', 1, 'K', 'x', item.replace(/^1/, '2'))).toEqual(['X x']);
  expect([Object.keys(await leases()), await slots()]).toEqual([['hub.a.y'], 1]);
  await runCommands('hub.a', 2, 'R', 'x', '1', 'R', 'x', '1');
  expect(await slots()).toBe(1);
  expect(await runCommands('hub.b', 3, 'A', 'z', '1', '0', 'A', 'w', '1', '0')).toEqual([
    expect.stringMatching(/^G z 1 /),
    expect.stringMatching(/^L w /),
  ]);
});

test('a request that arrives twice is granted once, and keeps its place', async () => {
  const { runCommands, leases } = scene();
  const requested = ['a', 'b', 'c', 'd'].flatMap((serial) => ['A', serial, '1', '-1']);
  const once = await runCommands('hub.a', 0, ...requested);
  expect((await runCommands('hub.a', 1, ...requested)).map((event) => event.split(' ').slice(0, 3))).toEqual(
    once.map((event) => event.split(' ').slice(0, 3)),
  );
  expect(Object.keys(await leases())).toHaveLength(2);
  expect((await runCommands('hub.a', 2, 'R', 'a', '1', 'C', 'b', '1')).map((event) => event.slice(0, 3))).toEqual([
    'G c',
    'G d',
  ]);
});

test('a waiter that is released twice, or cancelled and released, leaves the queue once', async () => {
  const { runCommands } = scene();
  const requested = ['a', 'b', 'x', 'y'].flatMap((serial) => ['A', serial, '1', '-1']);
  await runCommands('hub.a', 0, ...requested);
  expect(await runCommands('hub.a', 1, 'R', 'x', '1', 'R', 'x', '1', 'A', 'z', '1', '0')).toEqual(['L z 0 2 1']);
  await runCommands('hub.a', 2, 'A', 'x', '1', '-1');
  expect(await runCommands('hub.a', 3, 'C', 'x', '1', 'R', 'x', '1', 'A', 'z', '1', '0')).toEqual(['L z 0 2 1']);
  expect(await runCommands('hub.a', 4, 'R', 'a', '1', 'R', 'b', '1')).toEqual([expect.stringMatching(/^G y /)]);
});

test('an unknown command changes nothing', async () => {
  const { runCommands, leases } = scene();
  await expect(runCommands('hub.a', 0, 'A', 'x', '1', '-1', 'Y', 'x')).rejects.toThrow('no such operation: Y');
  expect(await leases()).toEqual({});
});
