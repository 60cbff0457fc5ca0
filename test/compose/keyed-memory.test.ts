/** The memory of a keyed throttle stays bounded while keys come and go. */
import type { KeyedThrottle } from 'headgate';
import { describe, expect, test } from 'vitest';
import { heap, setUpKeyed } from '../support/support.js';

const acquireAndRefund = (keyed: KeyedThrottle, name: string): void => {
  const permit = keyed.tryAcquire(name, 1_000);
  permit?.release();
  permit?.refund();
};

test('calls for other keys evict the keys that were used once', () => {
  const { keyed } = setUpKeyed(Infinity);
  const before = heap();
  for (let index = 0; index < 20_000; index++) keyed.tryAcquire(`key ${index}`)?.release();
  // 20,000 live keys would take twenty times as much.
  expect(heap() - before).toBeLessThan(1_000_000);
  expect(keyed.size).toBe(0);
});

describe('many calls', () => {
  test('a million calls for one key leave no memory', () => {
    const { keyed } = setUpKeyed(1e9, 0, 3600);
    const before = heap();
    for (let index = 0; index < 1_000_000; index++) keyed.tryAcquire('a')?.release();
    expect((heap() - before) / 1_000).toBeLessThan(1_000);
    expect(keyed.size).toBe(1);
  });

  test.each<{ title: string; use: (keyed: KeyedThrottle, index: number) => void }>([
    { title: 'refunds of one key', use: (keyed) => acquireAndRefund(keyed, 'a') },
    { title: 'refunds of many keys', use: (keyed, index) => acquireAndRefund(keyed, `${index}`) },
    {
      title: 'pauses that end early',
      use: (keyed) => {
        keyed.pause('a', 86_400);
        keyed.resume('a');
      },
    },
  ])('$title leave no memory, even with a refill time of a day', ({ use }) => {
    const { keyed } = setUpKeyed(100_000, 0, 86_400);
    const before = heap();
    for (let index = 0; index < 200_000; index++) use(keyed, index);
    expect((heap() - before) / 1_000).toBeLessThan(1_000);
    expect(keyed.size).toBe(0);
  });

  test.each<{ title: string; capacity: number; every: number }>([
    { title: 'with a concurrency limit only', capacity: Infinity, every: 0 },
    { title: 'with a rate limit, a thousand keys per second', capacity: 1, every: 1_000 },
  ])('of a million keys $title, at most a few thousand stay in memory', async ({ capacity, every }) => {
    const { clock, keyed } = setUpKeyed(capacity, 1, 1);
    const before = heap();
    for (let index = 0; index < 1_000_000; index++) {
      keyed.tryAcquire(`key ${index}`)?.release();
      if (every > 0 && index % every === 0) await clock.advance(1);
    }
    // The heap is measured first, since reading `size` evicts keys. A key takes one or two kilobytes.
    expect((heap() - before) / 1_000).toBeLessThan(4 * (every + 500));
    expect(keyed.size).toBeLessThanOrEqual(2 * every);
  });
});
