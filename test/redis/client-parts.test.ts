/** The parts of a shared connection one by one: timeouts, the queue of calls, scripts and drivers. */
import type { Clock } from 'headgate';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { scheduleInBackground, systemClock } from '../../src/core/clock.js';
import { CallQueue } from '../../src/redis/call-queue.js';
import { DeadlineWatch, Timed } from '../../src/redis/deadline-watch.js';
import { type Driver, ignore, type Receiver } from '../../src/redis/drivers/driver.js';
import { ioredisDriver } from '../../src/redis/drivers/ioredis.js';
import { Outages } from '../../src/redis/outages.js';
import { Script } from '../../src/redis/script.js';
import { SteadyClock } from '../../src/redis/steady-clock.js';
import { clock, outcome } from './connection-support.js';
import { sleep, until } from './support.js';

afterEach(() => void vi.unstubAllGlobals());

class Item extends Timed {
  overdue = 0;
  onOverdue(): void {
    this.overdue++;
  }
}

/** A clock whose time and timers the test moves separately, as on a blocked event loop. */
class SplitClock implements Clock {
  time = 0;
  readonly timers: { at: number; callback: () => void }[] = [];
  now(): number {
    return this.time;
  }
  schedule(seconds: number, callback: () => void): () => void {
    const timer = { at: this.time + seconds, callback };
    this.timers.push(timer);
    return () => void this.timers.splice(this.timers.indexOf(timer) >>> 0, 1);
  }
  /** Moves the time, then fires the due timers. */
  jump(time: number): void {
    this.time = time;
    for (const timer of this.timers.filter(({ at }) => at <= time + 1e-9)) {
      this.timers.splice(this.timers.indexOf(timer), 1);
      timer.callback();
    }
  }
}

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
const turns = async (): Promise<void> => {
  for (let count = 0; count < 3; count++) await turn();
};

describe('the watch of the timeouts (FAULTS 59)', () => {
  test('one timer watches all calls, and an idle watch has none', async () => {
    const split = new SplitClock();
    const watch = new DeadlineWatch(new SteadyClock(split));
    const items = [2, 1, 4].map((timeout) => new Item(timeout));
    for (const item of items) watch.add(item);
    expect(split.timers.map(({ at }) => at)).toEqual([0.9]);
    const ends: number[] = [];
    for (let time = 0; time <= 5; time += 0.1) {
      split.jump(time);
      await turns();
      if (items.some(({ overdue }, index) => overdue === 1 && !ends.includes(index)))
        ends.push(items.findIndex(({ overdue }, index) => overdue === 1 && !ends.includes(index)));
    }
    expect([ends, items.map(({ overdue }) => overdue), split.timers]).toEqual([[1, 0, 2], [1, 1, 1], []]);
  });

  test('the first firing after a blocked event loop gives no verdict', async () => {
    const split = new SplitClock();
    const watch = new DeadlineWatch(new SteadyClock(split));
    const item = new Item(1);
    watch.add(item);
    split.jump(7);
    await turns();
    expect([item.overdue, watch.has(item)]).toEqual([0, true]);
    split.jump(7.05);
    await turns();
    expect(item.overdue).toBe(0);
    split.jump(7.1);
    await turns();
    expect([item.overdue, watch.has(item)]).toEqual([1, false]);
  });

  test('a reply that is read within two turns after the last firing counts', async () => {
    const split = new SplitClock();
    const watch = new DeadlineWatch(new SteadyClock(split));
    const [inTime, late] = [new Item(1), new Item(1)];
    for (const item of [inTime, late]) watch.add(item);
    split.jump(0.9);
    split.jump(1);
    await turn();
    expect([inTime.overdue, late.overdue]).toEqual([0, 0]);
    expect(watch.delete(inTime)).toBe(true);
    await turns();
    expect([inTime.overdue, late.overdue, watch.delete(late)]).toEqual([0, 1, false]);
  });

  test('a platform without setImmediate uses timers', async () => {
    vi.stubGlobal('setImmediate', undefined);
    const watch = new DeadlineWatch(new SteadyClock(systemClock));
    const item = new Item(0.05);
    watch.add(item);
    await until('the verdict', () => item.overdue === 1, 1);
  });

  test('a timer that was lost with the fake timers of a test is replaced', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const watch = new DeadlineWatch(new SteadyClock(systemClock));
    const item = new Item(0.05);
    watch.add(item);
    watch.delete(item);
    vi.useRealTimers();
    await sleep(1_100);
    watch.add(item);
    await until('the verdict', () => item.overdue === 1, 1);
  });
});

test('a background timer works on a platform whose timers are numbers', () => {
  const cleared = vi.fn();
  vi.stubGlobal('setTimeout', () => 7);
  vi.stubGlobal('clearTimeout', cleared);
  scheduleInBackground(5, ignore)();
  expect(cleared).toHaveBeenCalledWith(7);
});

describe('the queue of calls on a driver', () => {
  const script = new Script('return 1');
  const queueOn = (changes: Partial<Driver>): ((timeout?: number) => Promise<string>) => {
    const driver: Driver = {
      run: () => 'ok',
      listen: () => ({ renew: ignore, stop: ignore }),
      close: ignore,
      ...changes,
    };
    const queue = new CallQueue(driver, new Outages(), 'connection', ignore);
    return (timeout = 1) =>
      outcome(queue.call({ script, keys: ['{key}'], args: [], clock, timeout, onLateReply: ignore }));
  };

  test('a driver may return a plain value', async () => {
    expect(await queueOn({})()).toBe('ok');
  });

  test('a connection that succeeds after it was given up is ignored', async () => {
    const attempts: (() => void)[] = [];
    let connected = false;
    const reconnect = vi.fn();
    const call = queueOn({
      connect: () => (connected ? undefined : new Promise<void>((resolve) => void attempts.push(resolve))),
      reconnect,
    });
    expect(await call(0.05)).toBe('Error: no connection within 0.05 s');
    expect(reconnect).toHaveBeenCalledTimes(1);
    const second = call();
    attempts[0]?.();
    await sleep(10);
    expect(attempts.length).toBe(2);
    connected = true;
    attempts[1]?.();
    expect(await second).toBe('ok');
  });

  test('a driver that throws while it prepares or connects rejects the calls', async () => {
    const fail = (): never => {
      throw new Error('closed');
    };
    expect(await queueOn({ prepare: fail })()).toBe('Error: closed');
    expect(await queueOn({ connect: fail })()).toBe('Error: closed');
  });
});

test('a script has no hash before it is prepared', () => {
  expect(new Script('return 1').sha).toBe('');
});

test('a cluster of ioredis without nodes subscribes as soon as it has one', async () => {
  const subscriber = {
    status: 'ready',
    on() {},
    subscribe: async () => 1,
    ping: async () => 'PONG',
    disconnect: vi.fn(),
  };
  const nodes: unknown[] = [];
  const started = vi.fn();
  const failed = vi.fn();
  const client = { evalsha() {}, eval() {}, subscribe() {}, duplicate() {}, on() {}, off() {}, nodes: () => nodes };
  const driver = ioredisDriver(client as never);
  driver.listen('channel', {
    onStart: started,
    onFailure: failed,
    preferredKey: ignore,
    replyWithin: () => 1,
  } as unknown as Receiver);
  await until('a failed attempt', () => failed.mock.calls.length > 0);
  nodes.push({ duplicate: () => subscriber });
  await until('the subscription', () => started.mock.calls.length > 0);
  expect(driver.nodeOf?.('key')).toBeUndefined();
  subscriber.status = 'end';
  driver.close();
  expect(subscriber.disconnect).not.toHaveBeenCalled();
});
