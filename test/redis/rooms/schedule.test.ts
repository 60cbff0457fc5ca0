/** The work that is due by time. The test plays the calls, the permits and the outbox of one throttle object. */
import { ManualClock } from 'headgate/testing';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Call } from '../../../src/redis/calls.js';
import { HeldLeases } from '../../../src/redis/held-leases.js';
import { Lease } from '../../../src/redis/lease.js';
import type { Command } from '../../../src/redis/protocol.js';
import { Renewal } from '../../../src/redis/renewal.js';
import { Schedule } from '../../../src/redis/schedule.js';
import { SteadyClock } from '../../../src/redis/steady-clock.js';
import { Wakeup } from '../../../src/redis/wakeup.js';

const TTL = 6;
const issuer = { onRelease() {}, onSettle() {}, checkExpiry() {} };
const grantOf = (serial: string): Lease['grant'] => ({ serial, slot: 1, item: '1 1 1 0' });

class Scene {
  readonly clock: ManualClock = new ManualClock(100);
  /** What the schedule has done, with its instants. */
  readonly log: string[] = [];
  readonly waiters: Call[] = [];
  readonly leases: HeldLeases = new HeldLeases();
  readonly renewal: Renewal = new Renewal(TTL);
  readonly wakeup: Wakeup = new Wakeup();
  readonly registration: { isActive: boolean } = { isActive: true };
  readonly outbox: { isFailing: boolean; retryAt: number; accepts: boolean } = {
    isFailing: false,
    retryAt: Infinity,
    accepts: true,
  };
  readonly schedule: Schedule;

  constructor() {
    const { waiters, outbox } = this;
    const note = (text: string): void => void this.log.push(`${text} at ${Math.round(this.clock.now() * 1e3) / 1e3}`);
    this.renewal.begin(100);
    const holdings = {
      leases: this.leases,
      checkExpiry: () => {
        if (this.clock.now() >= this.renewal.safeUntil && this.leases.removeAll().length > 0) note('expired');
      },
      returnLingering: (now?: number) => {
        for (const { serial } of this.leases.removeLingering(now)) note(`returned ${serial}`);
      },
    };
    const parts = {
      calls: {
        get size() {
          return waiters.length;
        },
        list: () => waiters,
      },
      outbox: Object.assign(outbox, {
        retry: () => {
          outbox.retryAt = Infinity;
          note('retry');
        },
        sendNow: (commands: Command[]) => {
          note(['send', ...commands.map((command) => ('serial' in command ? command.serial : '?'))].join(' '));
          return outbox.accepts;
        },
      }),
      renewal: this.renewal,
      registration: this.registration,
    };
    this.schedule = new Schedule(new SteadyClock(this.clock), this.wakeup, holdings, parts, () =>
      this.schedule.update(),
    );
  }

  hold(): void {
    this.leases.add(new Lease(issuer, 1, 0, grantOf('h')));
  }

  wait(...serials: string[]): void {
    for (const serial of serials) this.waiters.push({ serial, charge: 1, ticket: this.waiters.length + 1 } as Call);
  }

  async play(seconds: number): Promise<string[]> {
    this.schedule.update();
    await this.clock.advance(seconds);
    return this.log;
  }
}

/** The number of timers of the manual clock, which keep the process alive, and of background timers. */
const timersOf = (scene: Scene): [alive: number, background: number] => {
  const background = vi.spyOn(globalThis, 'setTimeout');
  scene.schedule.update();
  const counts: [number, number] = [scene.clock.pending, background.mock.calls.length];
  scene.outbox.retryAt = Infinity;
  scene.schedule.isAwaited = false;
  scene.schedule.update();
  return counts;
};

afterEach(() => void vi.restoreAllMocks());

describe('the reasons of the alarm', () => {
  test('a throttle object without a reason has no timer', () => {
    expect(timersOf(new Scene())).toEqual([0, 0]);
  });

  test('holders renew once, until the reply to the renewal', async () => {
    const scene = new Scene();
    scene.hold();
    expect(await scene.play(3)).toEqual(['send at 102']);
    scene.renewal.confirm(102);
    expect(await scene.play(1.5)).toEqual(['send at 102', 'send at 104']);
  });

  test('waiters renew with their list', async () => {
    const scene = new Scene();
    scene.wait('a', 'b');
    expect(await scene.play(3)).toEqual(['send a b at 102']);
  });

  test('a list that is older than the last renewal is due by itself', async () => {
    const scene = new Scene();
    scene.wait('a');
    scene.renewal.confirm(101);
    expect(await scene.play(2)).toEqual(['send a at 102']);
  });

  test('a list that is younger than the last renewal is not repeated', async () => {
    const scene = new Scene();
    scene.wait('a');
    scene.renewal.listed(101);
    expect(await scene.play(2)).toEqual(['send at 102']);
  });

  test('leases that were not renewed in time have expired', async () => {
    const scene = new Scene();
    scene.hold();
    scene.renewal.sent();
    expect(await scene.play(6)).toEqual(['expired at 105.4']);
    expect(scene.clock.pending).toBe(0);
  });

  test('lingering slots go back at their deadlines', async () => {
    const scene = new Scene();
    scene.renewal.sent();
    scene.leases.linger(grantOf('a'), 100.5);
    scene.leases.linger(grantOf('b'), 101);
    expect(await scene.play(2)).toEqual(['returned a at 100.5', 'returned b at 101']);
  });

  test('a wake-up calls the script once, while a call waits', async () => {
    const scene = new Scene();
    scene.wait('a');
    scene.wakeup.setByReply(100, 0.5, 0, 0);
    expect(await scene.play(1)).toEqual(['send at 100.5']);
  });

  test('a wake-up without a waiter sets no timer', () => {
    const scene = new Scene();
    scene.wakeup.setByReply(100, 0.5, 0, 0);
    expect(timersOf(scene)).toEqual([0, 0]);
  });

  test('while Redis fails, only the retry, the expiry and the lingering slots are due', async () => {
    const scene = new Scene();
    scene.hold();
    scene.wait('a');
    Object.assign(scene.outbox, { isFailing: true, retryAt: 102.5 });
    scene.wakeup.setByReply(100, 1, 0, 0);
    scene.leases.linger(grantOf('b'), 104);
    scene.schedule.update();
    await scene.clock.advance(2.4);
    expect(scene.log).toEqual([]);
    await scene.clock.advance(0.2);
    // The wake-up is overdue by then, and leads to a call that the outbox may refuse.
    expect(scene.log).toEqual(['retry at 102.5', 'send at 102.5']);
  });

  test('an inactive registration has no timer, since the next call begins anew', () => {
    const scene = new Scene();
    scene.hold();
    scene.registration.isActive = false;
    scene.schedule.update();
    expect(scene.clock.pending).toBe(0);
  });
});

describe('the list of waiters', () => {
  test('counts as sent at its instant', () => {
    const scene = new Scene();
    scene.wait('a');
    scene.schedule.sendWaiters(101);
    expect([scene.log, scene.renewal.isListDue(102.9)]).toEqual([['send a at 100'], false]);
  });

  test('stays due if the outbox refuses a part, and the later parts are not sent', () => {
    const scene = new Scene();
    scene.wait(...Array.from({ length: 501 }, (_, index) => String(index)));
    scene.outbox.accepts = false;
    scene.schedule.sendWaiters(101);
    expect([scene.log.length, scene.renewal.isListDue(101)]).toEqual([1, true]);
  });
});

describe('the process', () => {
  test('exits though a release is to be sent again, since its lease expires anyway', () => {
    const scene = new Scene();
    scene.outbox.retryAt = 101;
    expect(timersOf(scene)).toEqual([0, 1]);
  });

  test('stays alive for the retry while a caller waits for the end of all work', () => {
    const scene = new Scene();
    scene.outbox.retryAt = 101;
    scene.schedule.isAwaited = true;
    expect(timersOf(scene)).toEqual([1, 0]);
  });

  test('stays alive for a waiter', () => {
    const scene = new Scene();
    scene.wait('a');
    expect(timersOf(scene)).toEqual([1, 0]);
  });
});
