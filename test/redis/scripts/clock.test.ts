/** The step while the clock of the server is behind, because it was set back. */
import { describe, expect, test } from 'vitest';
import { client } from '../shared-client.js';

import { acquire, type Answer, START, TestGate } from './support.js';

const TTL = 3_000_000;
const RENEWAL = TTL / 3;

/** A holder and a waiter. The instants are true ones; the clock of the server is `behind` by a span. */
class Scene {
  readonly gate: TestGate = new TestGate(client, { ttl: TTL, limit: 1 });
  behind = 0;

  async begin(): Promise<void> {
    await this.gate.send('holder.a', {}, ...acquire('x'));
    await this.gate.send('waiter.a', { at: 10 }, ...acquire('y'));
  }

  send(owner: 'holder.a' | 'waiter.a', at: number, confirmed = 0): Promise<Answer> {
    return this.gate.send(owner, { at: at - this.behind, confirmed });
  }

  /** The waiter calls whenever its wake-up time has come. Returns the true instant of its grant, at most `until`. */
  async watch(from: number, wakeAt: number, until: number): Promise<number> {
    for (let [at, confirmed, calls] = [from, wakeAt, 0]; at <= until; calls++) {
      // A wake-up time that does not move on would make the process call without end.
      expect(calls).toBeLessThan(10);
      const { events, wakeSpan, wakeAt: next } = await this.send('waiter.a', at, confirmed);
      if (events.some((event) => event.startsWith('G y '))) return at;
      [at, confirmed] = [at + wakeSpan, next];
    }
    return Infinity;
  }
}

describe.each([
  ['an hour', 3_600_000_000],
  ['less than a renewal', RENEWAL / 2],
  ['a millisecond', 1_000],
])('a clock that was set back by %s', (_, behind) => {
  test('a holder that renews keeps its slot, although timers confirm that its first ttl has passed', async () => {
    const scene = new Scene();
    await scene.begin();
    scene.behind = behind;
    // The timer of the waiter was set for the end of the holder's first ttl.
    let [wake, confirmed] = [TTL, START + TTL];
    for (let renewal = RENEWAL; renewal < 4 * TTL; renewal += RENEWAL) {
      for (let calls = 0; wake <= renewal; calls++) {
        expect(calls).toBeLessThan(10);
        const { events, wakeSpan, wakeAt } = await scene.send('waiter.a', wake, confirmed);
        expect(events).toEqual([]);
        [wake, confirmed] = [wake + wakeSpan, wakeAt];
      }
      await scene.send('holder.a', renewal);
      const { active } = await scene.gate.inspect(renewal + 1 - behind);
      expect(active.map(({ owner }) => owner)).toEqual(['holder.a']);
    }
  });

  test.each([
    ['with the first call after it', RENEWAL],
    ['after some renewals', 2 * RENEWAL],
  ])('a dead holder loses its slot after ttl, and within two renewals of it, %s', async (__, lastRenewal) => {
    const scene = new Scene();
    await scene.begin();
    scene.behind = behind;
    for (let at = RENEWAL; at <= lastRenewal; at += RENEWAL) await scene.send('holder.a', at);
    // The timer of the waiter was set for the end of the holder's first ttl.
    const granted = await scene.watch(TTL, START + TTL, 100 * TTL);
    expect(granted).toBeGreaterThanOrEqual(lastRenewal + TTL);
    expect(granted).toBeLessThanOrEqual(lastRenewal + TTL + 2 * RENEWAL);
  });

  test('a waiter that is never confirmed anything is granted, too', async () => {
    const scene = new Scene();
    await scene.begin();
    scene.behind = behind;
    let granted = Infinity;
    for (let at = RENEWAL; at < 4 * TTL && granted === Infinity; at += RENEWAL) {
      const { events } = await scene.send('waiter.a', at);
      if (events.length > 0) granted = at;
    }
    expect(granted).toBeGreaterThanOrEqual(TTL);
    expect(granted).toBeLessThanOrEqual(TTL + 2 * RENEWAL);
  });
});

test('a clock that jumps back and forth while it is behind grants nothing extra', async () => {
  const gate = new TestGate(client, { ttl: TTL, rate: `1 ${TTL} 1` });
  await gate.send('holder.a', {}, ...acquire('x'));
  for (const at of [-7_200e6, -1e6, -3_600e6, -10, -7_200e6]) {
    const { events } = await gate.send('holder.a', { at }, 'A', `try${at}`, '1', '0');
    expect(events).toEqual([expect.stringMatching(/^L /)]);
  }
  const { events } = await gate.send('holder.a', { at: -7_200e6 + TTL / 2 }, 'A', 'half', '0.5', '0');
  expect(events).toEqual([expect.stringMatching(/^G half /)]);
});

test('time goes on by the clock again once the clock has caught up', async () => {
  const scene = new Scene();
  await scene.begin();
  scene.behind = 3_600_000_000;
  await scene.send('holder.a', RENEWAL);
  scene.behind = 0;
  await scene.send('holder.a', 2 * RENEWAL);
  expect(await scene.send('waiter.a', 2 * RENEWAL)).toMatchObject({ events: [], wakeAt: START + TTL });
  expect(await scene.watch(TTL, START + TTL, 100 * TTL)).toBe(2 * RENEWAL + TTL);
});

test('a clock that has caught up and steps back a little adds no time', async () => {
  const gate = new TestGate(client, { rate: '1 10000000 1' });
  await gate.send('holder.a', {}, ...acquire('x'));
  await gate.send('holder.a', { at: -30e6 });
  await gate.send('holder.a', { at: 1e6 });
  const { events } = await gate.send('holder.a', { at: 1e6 - 1_000 }, 'A', 'y', '1', '0');
  expect(events).toEqual(['L y 9000000 1 0']);
});

test('once the clock has caught up, the keys live as long as they are needed', async () => {
  const gate = new TestGate(client, { ttl: 60_000_000 });
  await gate.send('holder.a', {}, ...acquire('x'));
  const behind = 30_000_000;
  await gate.send('holder.a', { at: -behind });
  // Until the next call, the clock catches up, and Redis has kept the key for that time.
  await client.pexpire(gate.keys[0]!, (await client.pttl(gate.keys[0]!)) - behind / 1_000);
  await gate.send('holder.a', {});
  expect(await client.pttl(gate.keys[0]!)).toBeGreaterThan(59_000);
});
