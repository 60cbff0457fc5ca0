/** The leases of one throttle object: those of holders, and those that linger. */
import { expect, test } from 'vitest';
import { HeldLeases } from '../../../src/redis/held-leases.js';
import { Lease, type RedisGrant } from '../../../src/redis/lease.js';

const issuer = { onRelease() {}, onSettle() {}, checkExpiry() {} };
const grantOf = (serial: string): RedisGrant => ({ serial, slot: 1, item: '1 1 1 0' });
const leaseOf = (serial: string): Lease => new Lease(issuer, 1, 0, grantOf(serial));
const serials = (grants: readonly RedisGrant[]): string => grants.map(({ serial }) => serial).join('');

test('a lease is removed once, and only by its own holder', () => {
  const leases = new HeldLeases();
  const [first, second] = [leaseOf('a'), leaseOf('a')];
  leases.add(first);
  leases.remove(first);
  leases.add(second);
  expect([leases.remove(first), leases.size, leases.get('a')]).toEqual([false, 1, second]);
  expect([leases.remove(second), leases.remove(second), leases.isEmpty]).toEqual([true, false, true]);
});

test('a lost lease leaves with all others', () => {
  const leases = new HeldLeases();
  const lease = leaseOf('a');
  leases.add(lease);
  expect(leases.removeAll()).toEqual([lease]);
  expect([leases.remove(lease), leases.size]).toEqual([false, 0]);
});

test('the slot that was released last is used first, and deadlines return the others', () => {
  const leases = new HeldLeases();
  for (const [index, serial] of ['a', 'b', 'c', 'd'].entries()) leases.linger(grantOf(serial), 10 + index);
  expect([leases.size, leases.isEmpty, leases.hasLingering, leases.lingersUntil]).toEqual([0, false, true, 10]);
  expect(leases.takeLingering()?.serial).toBe('d');
  expect(serials(leases.removeLingering(9))).toBe('');
  expect(serials(leases.removeLingering(10))).toBe('a');
  leases.dropLingering('b');
  expect([serials(leases.grants()), leases.lingersUntil]).toEqual(['c', 12]);
  expect(serials(leases.removeLingering())).toBe('c');
  expect([leases.lingersUntil, leases.takeLingering(), leases.isEmpty]).toEqual([Infinity, undefined, true]);
});

test('an epoch states holders and lingering slots', () => {
  const leases = new HeldLeases();
  leases.linger(grantOf('b'), 5);
  leases.add(leaseOf('a'));
  expect(serials(leases.grants())).toBe('ab');
});
