/** When one throttle object receives messages, and for which owner name. The test plays the connection and the outbox. */
import { expect, test } from 'vitest';
import { Registration } from '../../../src/redis/registration.js';
import { Renewal } from '../../../src/redis/renewal.js';
import type { EventSink } from '../../../src/redis/shared-connection.js';

const TTL = 60;

class Scene {
  /** The registrations, the new names and the dropped permissions, in order. */
  readonly log: string[] = [];
  readonly sink: EventSink = { applyEvents() {}, reconcile() {} };
  readonly outbox: { name: string; forget(): void };
  readonly renewal: Renewal = new Renewal(TTL);
  readonly registration: Registration;
  #owners = 0;

  constructor(name = '') {
    const outbox = {
      name,
      forget: () => {
        this.log.push('forget');
        outbox.name = '';
      },
    };
    this.outbox = outbox;
    const connection = {
      createOwner: () => `c.${this.#owners++}`,
      register: (owner: string, sink: EventSink) => void this.log.push(`+${owner}${sink === this.sink ? '' : '?'}`),
      unregister: (owner: string) => void this.log.push(`-${owner}`),
    };
    const permission = { drop: () => void this.log.push('drop') };
    this.registration = new Registration(this.sink, connection, outbox, this.renewal, permission);
  }
}

test('a new throttle object has no name to receive messages for, and its first lease is safe from now on', () => {
  const { registration, renewal, log } = new Scene();
  expect(registration.isActive).toBe(false);
  registration.begin(100);
  expect([registration.isActive, log, renewal.safeUntil]).toEqual([true, ['forget'], 100 + 0.9 * TTL]);
});

test('an active registration begins once', () => {
  const { registration, renewal, log } = new Scene();
  registration.begin(100);
  registration.begin(150);
  expect([log, renewal.safeUntil]).toEqual([['forget'], 154]);
});

test('an epoch replaces the owner name and drops the permission', () => {
  const { registration, log } = new Scene();
  registration.begin(100);
  expect(registration.beginEpoch()).toBe('c.0');
  expect(registration.beginEpoch()).toBe('c.1');
  expect(log).toEqual(['forget', '+c.0', 'drop', '-c.0', '+c.1', 'drop']);
});

test('the end drops the permission and the messages, and may come twice', () => {
  const { registration, log } = new Scene();
  registration.begin(100);
  registration.beginEpoch();
  registration.end();
  registration.end();
  expect([registration.isActive, log]).toEqual([false, ['forget', '+c.0', 'drop', 'drop', '-c.0', 'drop']]);
});

test.each([
  ['a short rest', 153.9, ['+c.7']],
  ['a rest after which Redis may have forgotten it', 154, ['forget']],
])('after %s, the registration begins with the right name', (_, now, expected) => {
  const { registration, renewal, log } = new Scene('c.7');
  renewal.begin(100);
  registration.begin(now);
  expect([log, renewal.safeUntil]).toEqual([expected, now + 54]);
});
