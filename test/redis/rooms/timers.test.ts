/** The instants at which a process has to act: wake-ups, renewals, retries, and the timer for all of them. */
import { ManualClock } from 'headgate/testing';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Alarm } from '../../../src/redis/alarm.js';
import { Backoff } from '../../../src/redis/backoff.js';
import { Renewal } from '../../../src/redis/renewal.js';
import { SteadyClock } from '../../../src/redis/steady-clock.js';
import { Wakeup } from '../../../src/redis/wakeup.js';

describe('the wake-up time', () => {
  test('a reply replaces it', () => {
    const wakeup = new Wakeup();
    wakeup.setByReply(0, 5, 5e6, 0);
    wakeup.setByReply(1, 8, 9e6, 0);
    expect(wakeup.at).toBe(9);
    wakeup.setByReply(2, Infinity, 0, 0);
    expect(wakeup.at).toBe(Infinity);
  });

  test('a message brings it forward, and never puts it off', () => {
    const wakeup = new Wakeup();
    wakeup.setByReply(0, 5, 5e6, 0);
    wakeup.setByMessage(1, 8, 9e6);
    expect(wakeup.at).toBe(5);
    wakeup.setByMessage(1, 2, 3e6);
    expect(wakeup.at).toBe(3);
  });

  test.each([
    ['the message', 2, 8, 3],
    ['the reply', 8, 2, 3],
  ])('of a reply and a message that arrived during the call, the earlier counts: %s', (_, byMessage, byReply, at) => {
    const wakeup = new Wakeup();
    const { messages } = wakeup;
    wakeup.setByMessage(1, byMessage, (1 + byMessage) * 1e6);
    wakeup.setByReply(1, byReply, (1 + byReply) * 1e6, messages);
    expect(wakeup.at).toBe(at);
    wakeup.take(at);
    expect(wakeup.confirmed).toBe(at * 1e6);
  });

  test('the same server instant keeps its timer, though the clock of the server was set back (FAULTS 60)', () => {
    const wakeup = new Wakeup();
    wakeup.setByReply(0, 5, 5e6, 0);
    wakeup.setByReply(2, 100, 5e6, 0);
    expect(wakeup.at).toBe(5);
    wakeup.setByReply(3, 1, 5e6, 0);
    expect(wakeup.at).toBe(4);
  });

  test('it counts once, and confirms the server instant, which never falls', () => {
    const wakeup = new Wakeup();
    wakeup.setByReply(0, 5, 5e6, 0);
    expect([wakeup.take(4.9), wakeup.confirmed]).toEqual([false, 0]);
    expect([wakeup.take(5), wakeup.confirmed, wakeup.at]).toEqual([true, 5e6, Infinity]);
    expect(wakeup.take(6)).toBe(false);
    wakeup.setByReply(6, 1, 4e6, 0);
    expect([wakeup.take(7), wakeup.confirmed]).toEqual([true, 5e6]);
  });
});

describe('renewal', () => {
  /** A participant that registered at the instant 100. */
  const begun = (): Renewal => {
    const renewal = new Renewal(60);
    renewal.begin(100);
    return renewal;
  };

  test('a process renews after a third of the ttl, and its leases are lost after nine tenths', () => {
    const renewal = begun();
    expect([renewal.dueAt(false), renewal.safeUntil, renewal.expiredAt]).toEqual([120, 154, 160]);
  });

  test('the age counts from the sending of the latest applied batch, in whatever order the replies arrive', () => {
    const renewal = begun();
    renewal.confirm(110);
    renewal.confirm(105);
    expect([renewal.dueAt(false), renewal.safeUntil]).toEqual([130, 164]);
  });

  test('with waiters, the list of waiters is due by itself', () => {
    const renewal = begun();
    renewal.confirm(115);
    expect([renewal.dueAt(false), renewal.dueAt(true)]).toEqual([135, 120]);
    expect([renewal.isListDue(119), renewal.isListDue(120)]).toEqual([false, true]);
    renewal.listed(120);
    expect(renewal.dueAt(true)).toBe(135);
  });

  test('a renewal on its way is not repeated before its reply or its failure', () => {
    const renewal = begun();
    renewal.sent();
    expect(renewal.dueAt(true)).toBe(Infinity);
    renewal.failed();
    expect(renewal.dueAt(true)).toBe(120);
    renewal.sent();
    renewal.confirm(121);
    expect(renewal.dueAt(false)).toBe(141);
  });

  test('a process that begins again later does not count the silence', () => {
    const renewal = begun();
    renewal.begin(500);
    renewal.begin(400);
    expect([renewal.dueAt(true), renewal.safeUntil]).toEqual([520, 554]);
  });
});

describe('backoff', () => {
  test('of several failures before a retry, the first sets its time, and a success ends the failure', () => {
    const backoff = new Backoff(60);
    expect([backoff.isFailing, backoff.at]).toEqual([false, Infinity]);
    backoff.failed(10);
    backoff.failed(10.05);
    expect([backoff.isFailing, backoff.at]).toEqual([true, 10.1]);
    backoff.retried();
    expect([backoff.isFailing, backoff.at]).toEqual([true, Infinity]);
    backoff.failed(11);
    expect(backoff.at).toBeCloseTo(11.2);
    backoff.succeeded();
    backoff.failed(12);
    expect(backoff.at).toBeCloseTo(12.1);
  });

  test('a short ttl shortens the pauses', () => {
    const backoff = new Backoff(0.15);
    backoff.failed(0);
    expect(backoff.at).toBeCloseTo(0.05);
  });
});

describe('the alarm', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const setUp = (): { clock: ManualClock; alarm: Alarm; fired: number[] } => {
    const clock = new ManualClock(100);
    const fired: number[] = [];
    return { clock, fired, alarm: new Alarm(new SteadyClock(clock), () => void fired.push(clock.now())) };
  };

  test('there is one timer, which an earlier instant replaces', async () => {
    const { clock, alarm, fired } = setUp();
    alarm.set(110, true);
    alarm.set(105, true);
    alarm.set(105, true);
    expect(clock.pending).toBe(1);
    await clock.advance(20);
    expect(fired).toEqual([105]);
  });

  test('a later instant keeps the timer, which then finds nothing due', async () => {
    const { clock, alarm, fired } = setUp();
    alarm.set(105, true);
    alarm.set(110, true);
    await clock.advance(5);
    alarm.set(110, true);
    await clock.advance(20);
    expect(fired).toEqual([105, 110]);
  });

  test('the instant Infinity removes the timer, and an instant in the past fires next', async () => {
    const { clock, alarm, fired } = setUp();
    alarm.set(105, true);
    alarm.set(Infinity, true);
    expect(clock.pending).toBe(0);
    alarm.set(-Infinity, true);
    await clock.advance(0.001);
    expect(fired).toHaveLength(1);
    expect(clock.pending).toBe(0);
  });

  test('a timer in the background does not keep the process alive', () => {
    const { clock, alarm, fired } = setUp();
    vi.useRealTimers();
    const real = setTimeout(() => {}, 1_000);
    const unref = vi.spyOn(Object.getPrototypeOf(real) as NodeJS.Timeout, 'unref');
    clearTimeout(real);
    alarm.set(105, false);
    expect(unref).toHaveBeenCalledTimes(1);
    expect(clock.pending).toBe(0);
    alarm.set(105, true);
    expect(clock.pending).toBe(1);
    alarm.set(Infinity, false);
    expect(clock.pending).toBe(0);
    unref.mockRestore();
    expect(fired).toEqual([]);
  });

  test('a timer in the background fires, and takes any delay', () => {
    const { alarm, fired } = setUp();
    alarm.set(1e300, false);
    vi.advanceTimersByTime(1_000);
    expect(fired).toEqual([]);
    alarm.set(100.5, false);
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(500);
    expect(fired).toHaveLength(1);
  });
});
