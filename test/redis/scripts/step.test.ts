/** The step by its commands: what each word does, and what it must not do. */
import { describe, expect, test } from 'vitest';
import { client } from '../shared-client.js';
import { ioredis } from '../support.js';
import { readLua } from '../../support/lua-loader.js';
import {
  acquire,
  type BatchOptions,
  LISTED_STEP,
  release,
  replaceLua,
  scriptFile,
  START,
  TestGate,
  TTL,
} from './support.js';

/** The place of `queue_length` in the state, see `state.lua`. */
const QUEUE_LENGTH_AT = 186;
const INSPECT = readLua(scriptFile('inspect'));
const open = (defaults: BatchOptions = {}): TestGate => new TestGate(client, defaults);
const range = (count: number, prefix = 's'): string[] => Array.from({ length: count }, (_, index) => prefix + index);
const short = (events: readonly string[]): string[] => events.map((event) => event.split(' ').slice(0, 3).join(' '));

describe('batches', () => {
  test('an unknown owner is answered U, and nothing is written', async () => {
    const gate = open();
    expect((await gate.send('hub.a', { number: 3 }, ...acquire('x'))).outcome).toBe('U');
    expect(await gate.present()).toEqual([]);
  });

  test('a batch whose predecessor is missing is refused, changes nothing and renews nothing', async () => {
    const gate = open();
    await gate.send('hub.a', {}, ...acquire('x'));
    expect(await gate.send('hub.a', { number: 2, at: TTL - 1 }, ...release('x'))).toMatchObject({
      outcome: 'R',
      events: [],
    });
    expect((await gate.inspect(TTL - 1)).active).toHaveLength(1);
    expect((await gate.inspect(TTL)).active).toEqual([]);
  });

  test('a duplicate renews its owner, and changes nothing else', async () => {
    const gate = open({ limit: 1 });
    const first = await gate.send('hub.a', {}, ...acquire('x', 'y'), 'A', 'z', '1', '0');
    expect(short(first.events)).toEqual(['G x 1', `Q y ${START}`, 'L z 0']);
    const again = await gate.send('hub.a', { number: 0, at: TTL - 1 }, ...acquire('x', 'y'), 'A', 'z', '1', '0');
    expect(short(again.events)).toEqual(['g x 1', `Q y ${START}`, 'N z']);
    expect(await gate.inspect(TTL)).toMatchObject({ active: [{ slot: 1 }], waiting: [{ owner: 'hub.a' }] });
  });

  test('a duplicate of a release does not release the next lease', async () => {
    const gate = open({ limit: 1 });
    await gate.send('hub.a', {}, ...acquire('x'));
    await gate.send('hub.a', {}, ...release('x'), ...acquire('y'));
    expect(await gate.send('hub.a', { number: 1 }, ...release('x', 'y'), ...acquire('y'))).toMatchObject({
      outcome: 'A',
      events: [`g y 1 ${START} 1 0`],
    });
  });

  test('an unknown command is an error, and changes nothing', async () => {
    const gate = open();
    await expect(gate.send('hub.a', {}, ...acquire('x'), 'Y', 'x')).rejects.toThrow('no such command: Y');
    expect(await gate.present()).toEqual([]);
  });

  test.each(['precious', 'headgate1q, a state of an earlier layout'])(
    'a key with the value %j is left alone',
    async (value) => {
      const gate = open();
      await client.set(gate.keys[0]!, value);
      await expect(gate.send('hub.a', {}, ...acquire('x'))).rejects.toThrow('WRONGTYPE');
      await expect(gate.inspect(0)).rejects.toThrow('WRONGTYPE');
      await expect(gate.reset(0)).rejects.toThrow('WRONGTYPE');
      expect(await client.get(gate.keys[0]!)).toBe(value);
      await client.del(gate.keys[0]!);
    },
  );

  test('flag e removes an owner that holds nothing, and keeps an owner that holds something', async () => {
    const gate = open();
    await gate.send('hub.a', { flags: 'e' }, ...acquire('x'));
    expect((await gate.send('hub.a', { flags: 'e' }, ...release('x'))).outcome).toBe('A');
    expect(await gate.present()).toEqual([]);
    expect((await gate.send('hub.a', {})).outcome).toBe('U');
  });
});

describe('epochs', () => {
  test('E removes the earlier owner, K restores a lease, and W joins at the tail', async () => {
    const gate = open({ limit: 2 });
    await gate.send('hub.a', {}, ...acquire('x', 'y', 'w'));
    await gate.send('hub.b', {}, ...acquire('other'));
    const restated = await gate.send(
      'hub.a2',
      { at: 1 },
      'E',
      'hub.a',
      'K',
      'x',
      `1 ${START} 1 0`,
      'W',
      'w',
      '1',
      String(START),
    );
    // The slot of y is free now, and the waiter of b has waited longer.
    expect(restated).toMatchObject({
      events: [`Q w ${START + 2} ${START + 1}`],
      messages: [`hub.b\nG other 2 ${START + 1} 1 0`],
    });
    const { active, waiting } = await gate.inspect(1);
    expect(active.map(({ owner, slot }) => `${owner} ${slot}`).toSorted()).toEqual(['hub.a2 1', 'hub.b 2']);
    expect(waiting.map(({ owner }) => owner)).toEqual(['hub.a2']);
  });

  test('a lease whose slot is taken is lost', async () => {
    const gate = open();
    await gate.send('hub.b', {}, ...acquire('x'));
    const { events } = await gate.send('hub.a', {}, 'K', 'mine', `1 ${START} 1 0`, 'K', 'other', `70 ${START} 1 0`);
    expect(events).toEqual(['X mine']);
    expect((await gate.inspect(0)).active.map(({ slot }) => slot).toSorted((one, other) => one - other)).toEqual([
      1, 70,
    ]);
  });

  test('waiters of an earlier life keep their order, and void all permissions', async () => {
    const gate = open({ limit: 1, flags: 'l' });
    const first = await gate.send('hub.b', {}, ...acquire('x', 'late'));
    expect(first.upTo).toBe(START);
    const restated = await gate.send(
      'hub.a',
      { at: 5 },
      'W',
      'one',
      '1',
      String(START - 10),
      'W',
      'two',
      '1',
      String(START - 5),
    );
    expect(restated.version).toBeGreaterThan(first.version);
    expect(restated.messages.join()).toContain(`V ${restated.version}`);
    expect((await gate.inspect(5)).waiting.map(({ owner }) => owner)).toEqual(['hub.a', 'hub.a', 'hub.b']);
    expect((await gate.send('hub.b', { at: 6 }, ...release('x'))).messages.join()).toContain('G one 1');
  });
});

describe('the queue', () => {
  test('a hand-over is FIFO over the owners, and publishes the grant', async () => {
    const gate = open({ limit: 1 });
    await gate.send('hub.a', {}, ...acquire('x'));
    await gate.send('hub.b', { at: 1 }, ...acquire('y'));
    await gate.send('hub.a', { at: 2 }, ...acquire('z'));
    expect(await gate.send('hub.a', { at: 3 }, ...release('x'))).toMatchObject({
      events: [],
      messages: [`hub.b\nG y 1 ${START + 3} 1 0`],
      upTo: START + 2,
    });
  });

  test('a cancelled waiter leaves, a cancelled grant frees its slot and returns its tokens', async () => {
    const gate = open({ rate: '1 1000000 4' });
    await gate.send('hub.a', {}, 'A', 'x', '4', '-1', 'A', 'y', '4', '-1');
    expect((await gate.send('hub.a', { at: 1 }, 'C', 'x', '4')).events).toEqual([`G y 1 ${START + 1} 4 2`]);
    await gate.send('hub.a', { at: 1 }, 'A', 'z', '1', '-1');
    await gate.send('hub.a', { at: 1 }, 'C', 'z', '1');
    expect((await gate.inspect(1)).waiting).toEqual([]);
  });

  test('a smaller burst refuses waiters that can never fit, also of other owners', async () => {
    const gate = open({ rate: '1 1000000 8' });
    await gate.send('hub.a', {}, 'A', 'x', '8', '-1', 'A', 'y', '6', '-1', 'A', 'z', '2', '-1');
    const { messages } = await gate.send('hub.b', { rate: '1 1000000 4', flags: 'c' });
    expect(messages.join()).toMatch(/^hub\.a\nO y 4/);
    expect((await gate.inspect(0)).waiting.map(({ cost }) => cost)).toEqual([2]);
  });

  test('a cost above the burst of a gate without a rate is refused, also while no caller waits', async () => {
    const gate = open({ rate: '-1 1 3' });
    await gate.send('hub.a', {}, ...acquire('x'));
    expect((await gate.send('hub.a', {}, 'A', 'y', '4', '-1')).events).toEqual(['O y 3']);
    expect(short((await gate.send('hub.a', {}, 'A', 'z', '3', '-1')).events)).toEqual(['G z 2']);
  });

  test('the wake-up time is sent to the owner of the head once, and named by later replies', async () => {
    const gate = open({ rate: '1 1000000 1' });
    await gate.send('hub.a', {}, ...acquire('x'));
    expect(await gate.send('hub.a', {}, ...acquire('y'))).toMatchObject({ wakeSpan: 1_000_000, wakeAt: START + 1e6 });
    const other = await gate.send('hub.b', { at: 10 });
    expect(other).toMatchObject({ wakeSpan: TTL - 10, wakeAt: START + TTL, messages: [] });
    expect(await gate.send('hub.a', { at: 20 })).toMatchObject({ wakeSpan: 999_980, wakeAt: START + 1e6 });
  });

  test('the owner of the waiters that a call could not grant any more is woken at once', async () => {
    const gate = open();
    await gate.send('hub.a', {}, 'P', '60000000');
    // One call grants at most 500 slots. The 34th waiter is also the last one that the script reads at once.
    await gate.send('hub.b', {}, ...range(40).flatMap((serial) => ['B', serial, '15/1', '-1']));
    const { messages } = await gate.send('hub.a', {}, 'U');
    const events = messages.flatMap((message) => message.split('\n').slice(1));
    expect(events.filter((event) => event.startsWith('G '))).toHaveLength(34);
    expect(events.at(-1)).toBe(`H 1 ${START + 1}`);
    expect((await gate.send('hub.b', { at: 1 })).events).toHaveLength(6);
  });

  test('the owner of the head is woken at once if a call has not refused all waiters that can never fit', async () => {
    const gate = open({ rate: '1 1000000 8' });
    await gate.send('hub.b', {}, ...range(300).flatMap((serial) => ['A', serial, '6', '-1']));
    const { messages } = await gate.send('hub.a', { rate: '1 1000000 4', flags: 'c' });
    const events = messages.flatMap((message) => message.split('\n').slice(1));
    expect(events.filter((event) => event.startsWith('O '))).toHaveLength(200);
    expect(events.at(-1)).toBe(`H 1 ${START + 1}`);
    expect((await gate.send('hub.b', { at: 1, rate: '1 1000000 4' })).events).toHaveLength(99);
  });

  test('a clock that steps back changes no wake-up time and grants nothing extra (FAULTS 60)', async () => {
    const gate = open({ rate: '1 1000000 1' });
    await gate.send('hub.a', { at: 1_000 }, ...acquire('x', 'y'));
    expect(await gate.send('hub.a', { at: -5e6 })).toMatchObject({ wakeAt: START + 1_001_000, events: [] });
    expect(await gate.send('hub.a', { at: -5e6, confirmed: START + 1_001_000 })).toMatchObject({
      events: [`G y 2 ${START + 1_001_000} 1 2`],
    });
  });
});

describe('permissions', () => {
  test('the row names the last own waiter before a waiter of another owner', async () => {
    const gate = open({ limit: 1 });
    await gate.send('hub.a', {}, ...acquire('x', 'p', 'q'));
    await gate.send('hub.b', {}, ...acquire('r'));
    await gate.send('hub.a', {}, ...acquire('s'));
    expect((await gate.send('hub.a', {})).upTo).toBe(START + 1);
    expect((await gate.send('hub.b', {})).upTo).toBe(0);
    await gate.send('hub.a', {}, 'C', 'p', '1', 'C', 'q', '1');
    expect((await gate.send('hub.b', {})).upTo).toBe(START + 2);
  });

  test('the row ends before a waiter of another owner whose cost is a fraction', async () => {
    const gate = open({ limit: 1 });
    await gate.send('hub.a', {}, ...acquire('x', 'p'));
    await gate.send('hub.b', {}, ...acquire('q'));
    await gate.send('hub.a', {}, 'A', 'r', '0.25', '-1');
    await gate.send('hub.b', {}, ...acquire('s'));
    await gate.send('hub.a', {}, 'C', 'p', '1');
    expect((await gate.send('hub.b', {})).upTo).toBe(START + 1);
  });

  test('no row is permitted during a pause, above the limit, or with a rate', async () => {
    const gate = open({ limit: 1 });
    await gate.send('hub.a', {}, ...acquire('x', 'y'));
    expect((await gate.send('hub.a', {}, 'P', '1000')).upTo).toBe(0);
    expect((await gate.send('hub.a', {}, 'U')).upTo).toBe(START);
    const lowered = open({ limit: 2 });
    await lowered.send('hub.a', {}, ...acquire('x', 'y', 'z'));
    expect((await lowered.send('hub.a', { limit: 1 })).upTo).toBe(0);
    const limited = open({ rate: '1 1000000 1', flags: 'l' });
    expect(await limited.send('hub.a', {}, ...acquire('x', 'y'))).toMatchObject({ outcome: 'A', upTo: 0 });
  });

  test('slots may linger until a waiter of another owner recalls them, once', async () => {
    const gate = open({ limit: 1 });
    const permitted = await gate.send('hub.a', { flags: 'l' }, ...acquire('x'));
    expect(permitted.outcome).toBe('L');
    expect((await gate.send('hub.a', {}, ...release('nothing'))).outcome).toBe('A');
    await gate.send('hub.a', { flags: 'l' });
    const recall = await gate.send('hub.b', { flags: 'l' }, ...acquire('y'));
    // All waiters are of the caller, so its own slots may linger.
    expect(recall.outcome).toBe('L');
    expect(recall.version).toBe(permitted.version + 1);
    expect(recall.messages).toEqual([`hub.a\nV ${recall.version}`]);
    expect((await gate.send('hub.b', { flags: 'l' })).messages).toEqual([]);
    expect((await gate.send('hub.a', { flags: 'l' })).outcome).toBe('A');
  });

  test('a pause and a new rate withdraw the permissions of other owners', async () => {
    const gate = open({ flags: 'l' });
    const { version } = await gate.send('hub.a', {}, ...acquire('x'));
    const paused = await gate.send('hub.b', {}, 'P', '1000');
    expect(paused.messages).toEqual([`hub.a\nV ${version + 1}`]);
    await gate.send('hub.a', { at: 2_000 });
    const limited = await gate.send('hub.b', { at: 2_000, flags: 'c', rate: '1 1000000 1' });
    expect(limited.messages).toEqual([`hub.a\nV ${version + 2}`]);
  });

  test('at most 64 owners are on record', async () => {
    const gate = open({ flags: 'l' });
    const outcomes = [];
    for (const name of range(66, 'hub.')) outcomes.push((await gate.send(name, {}, ...acquire('x'))).outcome);
    expect(outcomes.filter((outcome) => outcome === 'L')).toHaveLength(64);
    expect(outcomes.slice(64)).toEqual(['A', 'A']);
  });
});

describe('dead owners', () => {
  test('waiters of a dead owner do not count, and are skipped at the head', async () => {
    const gate = open({ limit: 1, maxQueue: 3 });
    await gate.send('hub.a', { ttl: 3 * TTL }, ...acquire('x'));
    await gate.send('hub.b', {}, ...acquire('p', 'q', 'r'));
    const { events } = await gate.send('hub.a', { at: TTL }, ...acquire('y'), ...release('x'));
    expect(short(events)).toEqual([`Q y ${START + TTL}`, 'G y 1']);
    expect(await gate.present()).toEqual(['state']);
  });

  test('a late copy of batch 0 revives the name of a dead owner, without its old waiters', async () => {
    const gate = open({ limit: 1 });
    await gate.send('hub.a', { ttl: 3 * TTL }, ...acquire('x', 'y'));
    await gate.send('hub.b', {}, ...acquire('gone'));
    await gate.send('hub.a', { at: TTL, ttl: 3 * TTL });
    await gate.send('hub.b', { at: TTL + 1, number: 0 });
    expect((await gate.inspect(TTL + 1)).waiting.map(({ owner }) => owner)).toEqual(['hub.a']);
    await gate.send('hub.a', { at: TTL + 2 }, ...release('x'));
    await gate.send('hub.a', { at: TTL + 2 }, ...release('y'));
    expect(await gate.inspect(TTL + 2)).toMatchObject({ active: [], waiting: [] });
  });

  test('a waiter of a dead owner does not conceal a waiter of the same name and serial', async () => {
    const gate = open({ limit: 1 });
    await gate.send('hub.a', { ttl: 9 * TTL }, ...acquire('x', 'y'));
    await gate.send('hub.b', {}, ...acquire('p', 'q'));
    await gate.send('hub.a', { at: TTL, ttl: 9 * TTL });
    await gate.send('hub.b', { at: TTL + 1, number: 0 }, ...acquire('p', 'q'));
    const { events } = await gate.send('hub.b', { at: TTL + 2, number: 0 }, ...acquire('p'));
    expect(short(events)).toEqual([`Q p ${START + TTL + 1}`]);
    await gate.send('hub.b', { at: TTL + 3, number: 1 }, 'C', 'p', '1');
    expect((await gate.inspect(TTL + 3)).waiting).toHaveLength(2);
  });

  test.each([
    ['the text', 5],
    ['the sorted set', 100],
  ])('in %s, a dead waiter whose name returns takes no other waiter along', async (_, others) => {
    const gate = open({ limit: 3, ttl: 9 * TTL });
    await gate.send('hub.a', {}, 'P', String(99 * TTL), ...acquire('y'));
    await gate.send('hub.b', { ttl: TTL }, ...acquire('p'));
    await gate.send('hub.a', {}, ...acquire(...range(others)));
    await gate.send('hub.a', { at: TTL });
    // The pause reads the first waiters. Then the dead one returns behind all.
    const { messages } = await gate.send('hub.b', { at: TTL, number: 0 }, 'P', '1', ...acquire('p'), 'U');
    const [, ...events] = messages.join().split('\n');
    expect(short(events)).toEqual(expect.arrayContaining(['G y 1', 'G s0 2', 'G s1 3']));
    const { waiting } = await gate.inspect(TTL);
    expect(waiting.map(({ owner }) => owner)).toEqual([...range(others - 2).map(() => 'hub.a'), 'hub.b']);
  });

  test('a dead waiter whose name returns counts once, also after the queue was empty in between', async () => {
    const gate = open({ ttl: 9 * TTL });
    await gate.send('hub.a', {}, 'P', String(99 * TTL), ...acquire(...range(71)));
    await gate.send('hub.b', { ttl: TTL }, ...acquire('p'));
    await gate.send('hub.a', { at: TTL });
    // The first pause grants all waiters that are alive. Then the dead one returns.
    const returned = ['W', 'p', '1', String(START)];
    await gate.send('hub.b', { at: TTL, number: 0, limit: 5 }, 'U', 'P', '1', ...returned, 'U');
    expect((await gate.inspect(TTL)).waiting.map(({ owner }) => owner)).toEqual(['hub.b']);
  });

  test('a dead waiter that returns and leaves in one batch is subtracted from the counts once', async () => {
    const gate = open({ limit: 1, ttl: 9 * TTL });
    await gate.send('hub.a', {}, ...acquire('x', ...range(70)));
    await gate.send('hub.b', { ttl: TTL }, ...acquire('p'));
    await gate.send('hub.a', { at: TTL });
    await gate.send('hub.b', { at: TTL, number: 0 }, ...acquire('p'), 'C', 'p', '1');
    const state = await client.getBuffer(gate.keys[0]!);
    expect(state!.readDoubleBE(QUEUE_LENGTH_AT)).toBe(70);
    expect(await client.zcard(gate.keys[2]!)).toBe(70);
  });

  test.each([
    ['the text', 1],
    ['the sorted set', 100],
  ])('in %s, a dead waiter of an earlier life whose name returns counts once', async (_, others) => {
    const gate = open({ limit: 1, ttl: 9 * TTL });
    const earlier = range(others).flatMap((serial, index) => ['W', serial, '1', String(START - 200 + index)]);
    await gate.send('hub.a', {}, ...acquire('x'), ...earlier);
    await gate.send('hub.b', { ttl: TTL }, 'W', 'p', '1', String(START - 5));
    await gate.send('hub.a', { at: TTL });
    await gate.send('hub.b', { at: TTL, number: 0 }, 'W', 'p', '1', String(START - 5));
    const calls = [];
    for (let index = -1; index < others; index++)
      calls.push(await gate.send('hub.a', { at: TTL }, ...release(index < 0 ? 'x' : `s${index}`)));
    expect(calls.flatMap(({ events }) => short(events))).toEqual(range(others).map((serial) => `G ${serial} 1`));
    expect((await gate.inspect(TTL)).active.map(({ owner }) => owner)).toEqual(['hub.b']);
  });

  test('a smaller burst does not refuse a dead waiter whose name returns', async () => {
    const gate = open({ limit: 1, ttl: 9 * TTL, rate: '-1 1 9' });
    const earlier = range(70).flatMap((serial, index) => ['W', serial, '1', String(START - 200 + index)]);
    await gate.send('hub.a', {}, ...acquire('x'), ...earlier);
    await gate.send('hub.b', { ttl: TTL }, 'W', 'p', '2', String(START - 5));
    await gate.send('hub.a', { at: TTL });
    const returned = ['W', 'p', '2', String(START - 5)];
    const { events } = await gate.send('hub.b', { at: TTL, number: 0, flags: 'c', rate: '-1 1 1' }, ...returned);
    expect(events).toEqual(['O p 1']);
    const state = await client.getBuffer(gate.keys[0]!);
    expect(state!.readDoubleBE(QUEUE_LENGTH_AT)).toBe(70);
    await gate.send('hub.a', { at: TTL }, 'C', 's0', '1');
    expect((await gate.inspect(TTL)).waiting).toHaveLength(69);
  });

  test('leases of a dead owner are freed in parts of 200, and the wake-up time is at once', async () => {
    const gate = open();
    await gate.send('hub.a', {}, ...acquire(...range(500)));
    await gate.send('hub.b', { at: 1 });
    const counts = [];
    for (const at of [TTL, TTL + 1, TTL + 2, TTL + 3]) {
      const { wakeSpan, events } = await gate.send('hub.b', { at }, 'A', `at${at}`, '1', '0', 'R', `at${at}`);
      counts.push([Number(events[0]!.split(' ')[2]) > 0, wakeSpan]);
    }
    expect(counts).toEqual([
      [true, 1],
      [true, 1],
      [true, 0],
      [true, 0],
    ]);
    expect(await gate.present()).toEqual(['state']);
  });

  test('an owner that is replaced while it holds very many leases is swept in parts', async () => {
    const gate = open({ limit: 500 });
    await gate.send('hub.a', {}, ...acquire(...range(500)));
    expect(await gate.send('hub.a2', {}, 'E', 'hub.a', ...acquire('x'))).toMatchObject({ wakeSpan: 1 });
    expect((await gate.send('hub.a', { number: 0 })).outcome).toBe('U');
    for (let round = 0; round < 3; round++) await gate.send('hub.a2', {});
    expect((await gate.inspect(0)).active).toHaveLength(1);
    expect((await gate.send('hub.a', { number: 0 })).outcome).toBe('A');
  });

  test('an owner without waiters costs nothing when it expires (FAULTS 64)', async () => {
    const gate = open({ limit: 1 });
    await gate.send('hub.a', { ttl: 10 * TTL }, ...acquire('x', ...range(100, 'w')));
    await gate.send('hub.b', {}, ...acquire('gone'));
    await gate.send('hub.b', {}, 'C', 'gone', '1');
    const commands = await commandsOf(gate, () => gate.send('hub.a', { at: TTL, ttl: 10 * TTL }));
    expect(commands).not.toHaveProperty('zrem');
  });
});

/** The commands of Redis that a call runs, without those of the test. */
async function commandsOf(gate: TestGate, run: () => Promise<unknown>): Promise<Record<string, number>> {
  await gate.client.config('RESETSTAT');
  await run();
  const stats = await gate.client.info('commandstats');
  const own = new Set(['config|resetstat', 'eval', 'exec', 'multi', 'lrange', 'del', 'info', 'evalsha']);
  return Object.fromEntries(
    [...stats.matchAll(/cmdstat_(\S+):calls=(\d+)/g)]
      .map(([, name = '', calls]): [string, number] => [name, Number(calls)])
      .filter(([name]) => !own.has(name)),
  );
}

describe('large states', () => {
  test('leases and owners move into structures of their own, and back', async () => {
    const gate = open();
    for (const name of range(20, 'hub.')) await gate.send(name, {}, ...acquire(...range(5)));
    expect(await gate.present()).toEqual(['state', 'leases', 'slots', 'owners', 'expiries']);
    const names = range(20, 'hub.');
    for (const name of names.slice(0, 14)) await gate.send(name, { flags: 'e' }, ...release(...range(5)));
    const { outcome, events } = await gate.send('hub.19', {}, ...acquire('x'));
    expect([outcome, short(events)]).toEqual(['A', ['G x 1']]);
    await gate.send('hub.19', {}, ...release('x'));
    expect((await gate.inspect(0)).active).toHaveLength(30);
    expect(await gate.present()).toEqual(['state', 'leases', 'slots']);
    for (const name of names.slice(14, 19)) await gate.send(name, { flags: 'e' }, ...release(...range(5)));
    await gate.send('hub.19', {}, ...release(...range(4)), ...acquire('y'));
    expect(await gate.present()).toEqual(['state', 'leases', 'slots']);
    await gate.send('hub.19', { flags: 'e' }, ...release('s4', 'y'));
    expect(await gate.present()).toEqual([]);
  });

  test('the key of the leases expires, also if it is created again right after a sweep', async () => {
    const gate = open({ ttl: 9 * TTL });
    await gate.send('hub.a', { ttl: TTL }, ...acquire(...range(250)));
    await gate.send('hub.b', {});
    await gate.send('hub.b', { at: TTL });
    await gate.send('hub.b', { at: TTL }, ...acquire(...range(70)));
    expect(await gate.present()).toEqual(['state', 'leases', 'slots']);
    expect(await client.pttl(gate.keys[3]!)).toBeGreaterThan(0);
  });

  test('a gate keeps its state after a sweep of exactly as many leases as one call frees', async () => {
    const gate = open();
    await gate.send('hub.a', {}, ...acquire(...range(400)));
    await gate.send('hub.b', {});
    await gate.send('hub.c', {}, 'E', 'hub.a');
    await gate.send('hub.b', {});
    expect(await gate.send('hub.b', {}, ...acquire('x'))).toMatchObject({ outcome: 'A' });
    expect((await gate.inspect(0)).active).toHaveLength(1);
  });

  test('the lowest free slot is taken, in the text and in the bitmap', async () => {
    const gate = open();
    await gate.send('hub.a', {}, ...acquire(...range(100)));
    const { events } = await gate.send('hub.a', {}, ...release('s70', 's3', 's40'), ...acquire('x', 'y', 'z', 'w'));
    expect(short(events)).toEqual(['G x 4', 'G y 41', 'G z 71', 'G w 101']);
  });

  test.each(['leases', 'slots', 'owners', 'expiries', 'queue'])(
    'without the evicted %s, all is lost at once, and owners state again what they hold (FAULTS 63)',
    async (part) => {
      const gate = open({ limit: 100 });
      for (const name of range(20, 'hub.')) await gate.send(name, {}, ...acquire(...range(9)));
      const { version } = await gate.send('hub.0', {});
      await client.del(gate.keys.find((key) => key.endsWith(`:${part}`))!);
      const lost = await gate.send('hub.1', { at: 1 });
      expect(lost.outcome).toBe('U');
      const restated = await gate.send('hub.1b', { at: 1 }, 'K', 's0', `7 ${START} 1 0`);
      expect(restated).toMatchObject({ outcome: 'A', events: [] });
      expect(restated.version).toBeGreaterThan(version);
      expect((await gate.send('hub.0', { at: 1 })).outcome).toBe('U');
      expect((await gate.inspect(1)).active.map(({ slot }) => slot)).toEqual([7]);
      expect(await gate.present()).toEqual(['state']);
    },
  );

  test('a log that begins again after its eviction expires', async () => {
    const gate = open({ limit: 1, rate: '100 1000000 100' });
    await gate.send('hub.a', {}, ...acquire('x', 'y'));
    await client.del(gate.keys[1]!);
    await gate.send('hub.a', {}, ...release('x'));
    expect(await client.pttl(gate.keys[1]!)).toBeGreaterThan(0);
  });

  test('the last ticket is read exactly, whatever bytes follow the queue in the state', async () => {
    // The first byte of a double of this size is a digit.
    const gate = open({ limit: 1, rate: '=t 1e-40 1000000 1e-40' });
    const words = ['B', 'x', '0;t=1e-41', '-1', 'B', 'y', '0;t=1e-41', '-1'];
    await gate.send('hub.a', {}, ...words);
    const { events } = await gate.send('hub.a', { number: 0 }, ...words);
    expect(events[1]).toBe(`Q y ${START}`);
  });

  test('a state that counts waiters and has no queue is taken for lost, and the script ends', async () => {
    const written = /created_at,waiting,queued,queue_length(?=,owner_count,due,row_end,purge_from,\n\()/;
    const broken = replaceLua(LISTED_STEP, written, 'created_at,1,1,1');
    const gate = open({ limit: 1 });
    await client.eval(broken, gate.keys.length, ...gate.keys, ...gate.args('hub.a', {}, acquire('x')));
    // A release alone would take the fast path, which reads no queue.
    expect((await gate.send('hub.a', {}, 'U', ...release('x'))).outcome).toBe('U');
    const { outcome, events } = await gate.send('hub.b', { number: 0 }, ...acquire('y'));
    expect([outcome, short(events)]).toEqual(['A', ['G y 1']]);
  });

  test('every key expires with the owners', async () => {
    const gate = open({ limit: 90 });
    for (const name of range(20, 'hub.')) await gate.send(name, {}, ...acquire(...range(6)));
    await gate.send('hub.0', { rate: '1 1000000 1000', flags: 'c' }, ...acquire('z'));
    const ages = await Promise.all(gate.keys.map((key) => client.pttl(key)));
    expect(ages.filter((age) => age === -1)).toEqual([]);
    const longest = Math.max(...ages);
    expect(longest).toBeLessThan((TTL / 1_000) * 1.2);
    expect(ages[0]).toBeLessThanOrEqual(longest);
  });
});

describe('inspect and reset', () => {
  test('inspect reads many leases and waiters in pages', async () => {
    const gate = open({ limit: 450 });
    await gate.send('hub.a', {}, ...acquire(...range(450), ...range(401, 'w')));
    const { active, waiting } = await gate.inspect(0);
    expect(active.map(({ slot }) => slot).toSorted((one, other) => one - other)).toEqual(
      Array.from({ length: 450 }, (_, index) => index + 1),
    );
    expect(waiting).toHaveLength(401);
  });

  test('inspect lists a waiter once, also if the queue becomes a text between two pages', async () => {
    const gate = open({ limit: 1 });
    await gate.send('hub.a', {}, ...acquire('x', ...range(210)));
    // The caller has received the waiters up to this ticket.
    const last = ['waiters', String(START + 190)];
    await gate.send('hub.a', {}, ...range(180).flatMap((serial) => ['C', serial, '1']));
    const page = await client.eval(INSPECT, gate.keys.length, ...gate.keys, String(START), ...last);
    const [, , ...lines] = String(page).split('\n');
    expect(lines.map((line) => Number(line.split(' ')[2]))).toEqual(range(19).map((_, index) => START + 191 + index));
  });

  test('reset deletes all keys but its own instant, and notifies every owner', async () => {
    const gate = open();
    const subscriber = ioredis();
    const received: string[] = [];
    await subscriber.client.subscribe(`headgate:${gate.keys[0]!}`);
    subscriber.client.on('message', (_, text: string) => void received.push(text));
    const channel = gate.keys[0]!;
    const names = range(700, `${channel}.`);
    for (const [index, name] of names.entries()) await gate.send(name, {}, ...(index < 100 ? acquire('x') : []));
    await gate.reset(0);
    expect(await gate.present()).toEqual(['reset']);
    await subscriber.client.ping();
    await subscriber.close();
    expect(received.toSorted()).toEqual(
      range(700, '')
        .map((name) => `${name}\nZ`)
        .toSorted(),
    );
    expect((await gate.send(names[0]!, {})).outcome).toBe('U');
  });

  test('reset of few owners notifies them in one call', async () => {
    const gate = open();
    await gate.send('hub.a', {});
    await gate.send('hub.b', {});
    await gate.reset(0);
    expect(await gate.present()).toEqual([]);
  });

  test('a lease from before the latest reset is lost when its owner states it, and a later lease is kept', async () => {
    const gate = open();
    for (const at of [0, 10]) {
      await gate.send(`hub.a${at}`, { at }, ...acquire('x'));
      await gate.reset(at + 5);
    }
    const state = (at: number): string[] => ['K', 'x', `1 ${START + at} 1 0`];
    for (const at of [0, 10, 15])
      expect((await gate.send(`hub.b${at}`, { at: 20 }, ...state(at))).events).toEqual(['X x']);
    expect((await gate.send('hub.c', { at: 20 }, ...state(16))).events).toEqual([]);
    // The owners of the lost leases could state them until their ttl has passed.
    expect(await gate.client.ttl(gate.keys[7]!)).toBe(TTL / 1e6);
  });

  test('an idle gate keeps the owners that are still to be notified of a reset', async () => {
    const gate = open();
    await gate.client.zadd(gate.keys[7]!, 1, 'hub.a');
    await gate.send('hub.b', { flags: 'e' });
    expect(await gate.present()).toEqual(['reset']);
  });
});
