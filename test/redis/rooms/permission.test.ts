/** When a process may hand slots on, and let them linger. */
import { describe, expect, test } from 'vitest';
import { Permission } from '../../../src/redis/permission.js';
import type { Reply } from '../../../src/redis/protocol.js';

const reply = (version: number, upTo: number, linger = false): Reply => {
  return { outcome: 'applied', linger, version, upTo, wakeSpan: Infinity, wakeAt: 0, events: [] };
};

/** A permission of version 5 up to ticket 7, given at the instant 10. */
function given(ttl = 60): Permission {
  const permission = new Permission(ttl);
  permission.take(reply(5, 7, true), 10);
  return permission;
}

const stateAt = (permission: Permission, now: number): [upTo: number, linger: boolean] => [
  permission.ticketLimit(now),
  permission.allowsLinger(now),
];

describe('validity', () => {
  test('a new process has no permission', () => {
    expect(stateAt(new Permission(60), 0)).toEqual([0, false]);
  });

  test.each([
    [60, 1],
    [0.3, 0.1],
  ])('with a ttl of %d s, a permission lasts %d s from the sending of its batch', (ttl, span) => {
    const permission = given(ttl);
    expect(stateAt(permission, 10 + span - 1e-6)).toEqual([7, true]);
    expect(stateAt(permission, 10 + span)).toEqual([0, false]);
  });

  test('the reply to a batch that was sent later replaces the permission, and an older one does not', () => {
    const permission = given();
    permission.take(reply(5, 9), 10.5);
    permission.take(reply(5, 8, true), 10.2);
    expect(stateAt(permission, 11.4)).toEqual([9, false]);
  });
});

describe('withdrawals', () => {
  test('a higher version ends the permission, once', () => {
    const permission = given();
    expect(permission.withdraw(6)).toBe(true);
    expect(stateAt(permission, 10)).toEqual([0, false]);
    expect(permission.withdraw(6)).toBe(false);
    expect(permission.withdraw(5)).toBe(false);
  });

  test('a reply from before a withdrawal gives no permission', () => {
    const permission = given();
    permission.withdraw(6);
    permission.take(reply(5, 9, true), 10.5);
    expect(stateAt(permission, 10.5)).toEqual([0, false]);
    permission.take(reply(6, 9), 10.6);
    expect(permission.ticketLimit(10.6)).toBe(9);
  });

  test('the message of a withdrawal that a reply has already shown leaves the newer permission', () => {
    const permission = given();
    permission.take(reply(6, 8), 10.1);
    expect(permission.withdraw(6)).toBe(false);
    expect(permission.ticketLimit(10.2)).toBe(8);
  });

  test('a higher version in the reply to an earlier sending ends the permission too', () => {
    const permission = given();
    permission.take(reply(6, 9, true), 9);
    expect(stateAt(permission, 10)).toEqual([0, false]);
  });
});

describe('own changes', () => {
  test('a change drops the permission, and blocks new ones until it is confirmed', () => {
    const permission = given();
    const [first, second] = [permission.block(), permission.block()];
    expect(stateAt(permission, 10)).toEqual([0, false]);
    first();
    first();
    permission.take(reply(5, 9, true), 10.1);
    expect(stateAt(permission, 10.1)).toEqual([0, false]);
    second();
    permission.take(reply(5, 9, true), 10.2);
    expect(stateAt(permission, 10.2)).toEqual([9, true]);
  });

  test('a withdrawal during a block still counts', () => {
    const permission = given();
    const unblock = permission.block();
    permission.take(reply(6, 9), 10.1);
    unblock();
    permission.take(reply(5, 9), 10.2);
    expect(permission.ticketLimit(10.2)).toBe(0);
  });

  test('a dropped permission is gone, and the next reply gives a new one', () => {
    const permission = given();
    permission.drop();
    expect(stateAt(permission, 10)).toEqual([0, false]);
    permission.take(reply(5, 3), 10.1);
    expect(permission.ticketLimit(10.1)).toBe(3);
  });
});

test('after a loss of all data, a process takes no permission for a second', () => {
  const permission = given();
  permission.suspend(11);
  expect(stateAt(permission, 11)).toEqual([0, false]);
  permission.take(reply(5, 9), 11.9);
  expect(stateAt(permission, 11.9)).toEqual([0, false]);
  permission.take(reply(5, 9), 12);
  expect(stateAt(permission, 12)).toEqual([9, false]);
});
