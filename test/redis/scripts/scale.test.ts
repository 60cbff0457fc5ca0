/** The number of commands that a call runs, and that its time does not grow with waiters, leases or owners. */
import { describe, expect, test } from 'vitest';
import { client } from '../own-server.js';
import { acquire, release, STEP, TestGate } from './support.js';

const range = (count: number, from = 0): string[] => Array.from({ length: count }, (_, index) => `s${from + index}`);
const LONG_TTL = 3_600_000_000;
const NO_RATE = '-1 1 1e300';
const RATE = '1000000 1000000 1000000';

/** Sends a batch by the clock of the server, without the commands of the test around it. */
function send(
  gate: TestGate,
  owner: string,
  limit: number,
  words: readonly string[],
  rate = NO_RATE,
): Promise<unknown> {
  const args = gate.args(owner, { limit, ttl: LONG_TTL, rate, at: 'server' }, words);
  return client.eval(gate.script, gate.keys.length, ...gate.keys, ...args);
}

const open = (): TestGate => new TestGate(client, {}, STEP);

/** The number of commands within the script, and its microseconds, for one call of `run`. */
async function measure(run: () => Promise<unknown>): Promise<{ commands: number; time: number }> {
  await client.config('RESETSTAT');
  await run();
  const stats = [...(await client.info('commandstats')).matchAll(/cmdstat_(\S+):calls=(\d+),usec=(\d+)/g)];
  const inner = stats.filter(([, name = '']) => !/^(eval|config|info)/.test(name));
  return {
    commands: inner.reduce((sum, [, , calls]) => sum + Number(calls), 0),
    time: Number(stats.find(([, name]) => name === 'eval')?.[3] ?? NaN),
  };
}

describe('commands within the script', () => {
  const count = async (
    rate: string | undefined,
    limit: number,
    before: readonly string[],
    words: readonly string[],
  ): Promise<number> => {
    const gate = open();
    await send(gate, 'hub.b', limit, [], rate);
    await send(gate, 'hub.a', limit, before, rate);
    return (await measure(() => send(gate, 'hub.a', limit, words, rate))).commands;
  };

  test('without a rate, a request that fits runs three, a release three, and both in one call three', async () => {
    expect(await count(undefined, 8, [], acquire('x'))).toBe(3);
    expect(await count(undefined, 8, acquire('x'), release('x'))).toBe(3);
    expect(await count(undefined, 8, acquire('x'), [...release('x'), ...acquire('y')])).toBe(3);
    expect(await count(undefined, 8, acquire('x'), [])).toBe(3);
    expect(
      await count(undefined, 64, acquire(...range(64)), [...release(...range(64)), ...acquire(...range(64, 64))]),
    ).toBe(3);
  });

  test('with a rate, a request that fits runs four, and a release three', async () => {
    expect(await count(RATE, 8, acquire('w'), acquire('x'))).toBe(4);
    expect(await count(RATE, 8, acquire('x'), release('x'))).toBe(3);
    expect(await count(RATE, 8, acquire('x'), [...release('x'), ...acquire('y')])).toBe(4);
  });

  test('a hand-over to a waiter of another process runs four', async () => {
    const gate = open();
    await send(gate, 'hub.a', 1, acquire('x'));
    await send(gate, 'hub.b', 1, acquire('y', 'z'));
    expect((await measure(() => send(gate, 'hub.a', 1, release('x')))).commands).toBe(4);
  });

  test('a request that waits runs three', async () => {
    const gate = open();
    await send(gate, 'hub.a', 1, acquire('x', 'y'));
    expect((await measure(() => send(gate, 'hub.a', 1, acquire('z')))).commands).toBe(3);
  });
});

const SIZES = [1_000, 100_000];
const CALLS = 60;

/** A state of `size` waiters or leases of `owners` owners. */
async function build(kind: 'waiters' | 'leases', size: number, owners: number): Promise<TestGate> {
  const gate = open();
  const limit = kind === 'waiters' ? 1 : -1;
  const each = Math.ceil(size / owners);
  for (let owner = 0; owner < owners; owner++)
    for (let from = 0; from < each; from += 2_000) {
      const serials = range(Math.min(2_000, each - from), owner * each + from);
      await send(gate, `hub.${owner}`, limit, acquire(...serials));
    }
  return gate;
}

/** The commands and the median time of calls that come and go in a state. */
async function callsIn(gate: TestGate, kind: 'waiters' | 'leases'): Promise<{ commands: number[]; times: number[] }> {
  const limit = kind === 'waiters' ? 1 : -1;
  const uses: ((index: number) => string[])[] =
    kind === 'waiters'
      ? [
          (index) => acquire(`t${index}`),
          (index) => ['C', `t${index}`, '1'],
          // The holder of the only slot hands over to the head of the queue.
          (index) => release(`s${index}`),
          () => [],
        ]
      : [(index) => acquire(`t${index}`), (index) => release(`t${index}`), () => []];
  const commands: number[] = [];
  const times: number[] = [];
  for (const use of uses) {
    const found: number[] = [];
    let most = 0;
    for (let index = 0; index < CALLS; index++) {
      const { commands: count, time } = await measure(() => send(gate, 'hub.0', limit, use(index)));
      found.push(time);
      most = Math.max(most, count);
    }
    commands.push(most);
    times.push(found.toSorted((one, other) => one - other)[CALLS / 2]!);
  }
  return { commands, times };
}

describe('a call does not grow with the state', () => {
  test.each([
    ['waiters' as const, 1],
    ['waiters' as const, 2_000],
    ['leases' as const, 1],
    ['leases' as const, 2_000],
  ])('%s of %d owners: as many commands, and at most twice the time, at 100,000 as at 1,000', async (kind, owners) => {
    const gates = [];
    for (const size of SIZES) gates.push(await build(kind, size, Math.min(owners, size / 10)));
    // A busy machine disturbs one measurement: the least of three counts.
    const rounds = [];
    for (let round = 0; round < 3; round++) {
      const [few, many] = [await callsIn(gates[0]!, kind), await callsIn(gates[1]!, kind)];
      expect(many.commands).toEqual(few.commands);
      rounds.push(Math.max(...many.times.map((time, index) => time / few.times[index]!)));
    }
    await Promise.all(gates.map((gate) => client.unlink(...gate.keys)));
    expect(Math.min(...rounds)).toBeLessThan(2);
  });
});

describe('memory', () => {
  test('a lease and a waiter take no more bytes than a hash entry and a queue entry have taken', async () => {
    const bytes = async (gate: TestGate): Promise<number> => {
      let sum = 0;
      for (const key of gate.keys) sum += (await client.memory('USAGE', key, 'SAMPLES', 0)) ?? 0;
      return sum;
    };
    const owner = 'abcdefghij.0';
    for (const limit of [-1, 0]) {
      const gate = open();
      for (let from = 0; from < 10_000; from += 2_000) await send(gate, owner, limit, acquire(...range(2_000, from)));
      const each = (await bytes(gate)) / 10_000;
      // A hash entry of a lease took 172 bytes, and an entry of the queue 129 bytes.
      expect(each).toBeLessThan(limit === 0 ? 135 : 172);
      await client.unlink(...gate.keys);
    }
  });
});
