/** The commands with which a process states its leases and its waiters. A map plays the pending calls. */
import { describe, expect, test } from 'vitest';
import type { Call } from '../../../src/redis/calls.js';
import type { RedisGrant } from '../../../src/redis/lease.js';
import { type Command, FOREVER } from '../../../src/redis/protocol.js';
import { listWaiters, repeatFirst, stateAll, withoutEnded } from '../../../src/redis/statement.js';

const grantOf = (serial: string): RedisGrant => ({ serial, slot: 1, item: `1 5 1 ${serial}` });
const callOf = (serial: string, ticket: number, timeout = Infinity): Call =>
  ({ serial, charge: 2, ticket, timeout }) as Call;
const request = (serial: string): Command => ({ kind: 'acquire', serial, cost: 1, timeout: Infinity });
/** The pending calls with these serials. */
const pending = (...serials: string[]): Map<string, Call> =>
  new Map(serials.map((serial) => [serial, callOf(serial, 0)]));
const textOf = (command: Command): string => `${command.kind} ${'serial' in command ? command.serial : ''}`.trim();

describe('an epoch that begins', () => {
  test('states the leases with their records, then the calls in order', () => {
    const calls = [callOf('c', 7), callOf('d', 0, 3)];
    expect(stateAll([grantOf('a'), grantOf('b')], calls)).toEqual([
      { kind: 'hold', serial: 'a', item: '1 5 1 a' },
      { kind: 'hold', serial: 'b', item: '1 5 1 b' },
      { kind: 'wait', serial: 'c', cost: 2, ticket: 7 },
      { kind: 'acquire', serial: 'd', cost: 2, timeout: 3 },
    ]);
  });

  test('requests a call anew whose grant came too late, since its ticket is no place in the queue', () => {
    expect(stateAll([], [callOf('a', FOREVER)]).map(textOf)).toEqual(['acquire a']);
  });
});

describe('a first batch that is sent again', () => {
  test('states the present leases behind the replaced owner and ahead of all other commands', () => {
    const commands: Command[] = [
      { kind: 'hold', serial: 'old', item: '' },
      { kind: 'pause', seconds: 1 },
      { kind: 'replace', owner: 'c.0' },
      request('b'),
    ];
    expect(repeatFirst(commands, [grantOf('a')], pending('b')).map(textOf)).toEqual([
      'replace',
      'hold a',
      'pause',
      'acquire b',
    ]);
  });

  test('leaves the requests of ended calls out', () => {
    const commands: Command[] = [request('a'), { kind: 'release', serial: 'a' }, request('b')];
    expect(repeatFirst(commands, [], pending('b')).map(textOf)).toEqual(['release a', 'acquire b']);
    expect(withoutEnded(commands, pending('a')).map(textOf)).toEqual(['acquire a', 'release a']);
  });
});

describe('the list of waiters', () => {
  test('contains the waiters with a ticket, in order', () => {
    const calls = [callOf('a', 4), callOf('b', 0), callOf('c', FOREVER)];
    expect(listWaiters(calls)).toEqual([
      [
        { kind: 'wait', serial: 'a', cost: 2, ticket: 4 },
        { kind: 'wait', serial: 'c', cost: 2, ticket: FOREVER },
      ],
    ]);
  });

  test('has one empty part if no call waits, so that the renewal is still sent', () => {
    expect(listWaiters([])).toEqual([[]]);
    expect(listWaiters([callOf('a', 0)])).toEqual([[]]);
  });

  test.each([
    [500, [500]],
    [501, [500, 1]],
    [1_000, [500, 500]],
  ])('of %d waiters has parts of at most 500', (count, sizes) => {
    const parts = listWaiters(Array.from({ length: count }, (_, index) => callOf(String(index), index + 1)));
    expect(parts.map(({ length }) => length)).toEqual(sizes);
    expect(parts.flat().map((command) => ('ticket' in command ? command.ticket : 0))).toEqual(
      Array.from({ length: count }, (_, index) => index + 1),
    );
  });
});
