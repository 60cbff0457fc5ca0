/**
 * Faulty clocks, signals and functions of callers. Each call of each method misbehaves once. Afterwards no permit is
 * held, no caller waits, in the process or in Redis, and the throttle still works (FAULTS 10 to 12).
 */
import { type Clock } from 'headgate';
import { RedisThrottle } from 'headgate/redis';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../src/core/clock.js';
import { freshKey, redisUrl } from './support.js';

let client: Redis;
beforeAll(() => {
  client = new Redis(redisUrl());
});
afterAll(() => client.disconnect());

type Way = 'throws' | 'answers twice' | 'answers garbage';

/** Counts the calls of each method, and makes one of them misbehave. */
class Calls {
  readonly counts = new Map<string, number>();
  fault: { method: string; at: number; way: Way } | undefined;

  misbehaves(method: string): Way | undefined {
    const count = (this.counts.get(method) ?? 0) + 1;
    this.counts.set(method, count);
    if (this.fault?.method !== method || this.fault.at !== count) return undefined;
    if (this.fault.way === 'throws') throw new Error(`${method} failed`);
    return this.fault.way;
  }
}

function clockOf(calls: Calls): Clock {
  return {
    now: () => (calls.misbehaves('now') === undefined ? systemClock.now() : NaN),
    schedule(seconds, callback) {
      const way = calls.misbehaves('schedule');
      const cancel = systemClock.schedule(seconds, () => {
        callback();
        if (way === 'answers twice') callback();
      });
      return () => {
        cancel();
        if (calls.misbehaves('cancel') === 'answers twice') callback();
      };
    },
  };
}

/** A signal whose methods may fail, and whose events have another target. */
function signalOf(calls: Calls): { signal: AbortSignal; abort: () => void; listeners: Set<() => void> } {
  const listeners = new Set<() => void>();
  const reason = new Error('aborted');
  let aborted = false;
  const signal = {
    get aborted() {
      return aborted;
    },
    get reason() {
      calls.misbehaves('reason');
      return reason;
    },
    addEventListener(_: string, listener: () => void) {
      calls.misbehaves('addEventListener');
      listeners.add(listener);
    },
    removeEventListener(_: string, listener: () => void) {
      listeners.delete(listener);
      calls.misbehaves('removeEventListener');
    },
  } as unknown as AbortSignal;
  const abort = (): void => {
    aborted = true;
    for (const listener of listeners) listener();
  };
  return { signal, abort, listeners };
}

async function play(fault: Calls['fault']): Promise<Calls> {
  const calls = new Calls();
  calls.fault = fault;
  const throttle = new RedisThrottle({
    client,
    key: freshKey(),
    capacity: 1_000,
    concurrency: 1,
    ttl: 3,
    clock: clockOf(calls),
  });
  const signals = [signalOf(calls), signalOf(calls)];
  const settled: Promise<unknown>[] = [];
  const startCall = <T>(fn: () => Promise<T>): void => void settled.push(fn().catch(() => undefined));
  const fn = async (): Promise<void> => void calls.misbehaves('fn');

  const held = await throttle.acquire().catch(() => undefined);
  startCall(() => throttle.acquire(1, { signal: signals[0]?.signal }).then((permit) => permit.release()));
  startCall(() => throttle.acquire(1, { timeout: 0.05 }).then((permit) => permit.release()));
  startCall(() => throttle.run(fn, 1, { signal: signals[1]?.signal, timeout: 2 }));
  startCall(() => throttle.run(fn));
  await new Promise((resolve) => void setTimeout(resolve, 15));
  signals[0]?.abort();
  await new Promise((resolve) => void setTimeout(resolve, 5));
  held?.settle(2);
  held?.release();
  await Promise.all(settled);
  calls.fault = undefined;
  await throttle.idle();
  expect(await throttle.inspect()).toMatchObject({ active: [], waiting: [] });
  expect([throttle.held, throttle.waiting, ...signals.map(({ listeners }) => listeners.size)]).toEqual([0, 0, 0, 0]);
  expect(await throttle.run(() => 'works')).toBe('works');
  await throttle.close();
  return calls;
}

test.each<[string, Way]>([
  ['now', 'throws'],
  ['now', 'answers garbage'],
  ['schedule', 'throws'],
  ['schedule', 'answers twice'],
  ['cancel', 'throws'],
  ['cancel', 'answers twice'],
  ['addEventListener', 'throws'],
  ['removeEventListener', 'throws'],
  ['reason', 'throws'],
  ['fn', 'throws'],
])('%s %s, at each of its calls', async (method, way) => {
  const total = (await play(undefined)).counts.get(method) ?? 0;
  expect(total).toBeGreaterThan(0);
  // The number of calls depends on timing; the first forty cover every call site.
  for (let at = 1; at <= Math.min(total, 40); at++) {
    await play({ method, at, way }).catch((error: Error) => {
      throw new Error(`${method} ${way} at call ${at}: ${error.message}`, { cause: error });
    });
  }
});

test('the key is escaped in messages (FAULTS 42)', async () => {
  const throttle = new RedisThrottle({ client, key: 'a\r\nb\u001B[31m', name: 'x\ny', capacity: 1 });
  await expect(throttle.acquire(2)).rejects.toThrow('RedisThrottle "x\\ny" (key "a\\r\\nb\\u001b[31m", ');
});

test('an abort before the function of run starts wins (FAULTS 3, whatwg/dom#946)', async () => {
  const throttle = new RedisThrottle({ client, key: freshKey(), capacity: 10, period: 3_600, concurrency: 1 });
  const stop = new AbortController();
  let ran = false;
  // Aborts in the tick in which the grant arrives: the permit exists, and the function has not started.
  const acquire = throttle.acquire.bind(throttle);
  throttle.acquire = async (...args) => {
    const permit = await acquire(...args);
    stop.abort(new Error('cancel'));
    return permit;
  };
  await expect(throttle.run(() => void (ran = true), 2, { signal: stop.signal })).rejects.toThrow('cancel');
  await throttle.idle();
  const { active, tokens } = await throttle.inspect();
  expect([ran, active, Math.round(tokens)]).toEqual([false, [], 10]);
  await throttle.close();
});
