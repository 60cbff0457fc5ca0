/** The calls of the script for one throttle: their settings, their replies, and the wake-up time. */
import { headerOf } from '../batch-words.js';
import { Throttle } from '../../../src/core/throttle.js';
import type { Batch } from '../../../src/redis/batch.js';
import type { ScriptCall } from '../../../src/redis/call-queue.js';
import { encodeRate } from '../../../src/redis/protocol.js';
import { Script } from '../../../src/redis/script.js';
import type { SharedConnection } from '../../../src/redis/shared-connection.js';
import { SteadyClock } from '../../../src/redis/steady-clock.js';
import { Wire } from '../../../src/redis/wire.js';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';

interface Sent {
  readonly args: string[];
  readonly timeout: number;
  reply(text: unknown): void;
  fail(error: Error): void;
}

class Scene {
  readonly clock: ManualClock = new ManualClock(100);
  readonly limits: Throttle = new Throttle(10, 2, 1);
  readonly calls: Sent[] = [];
  readonly connection: { mayPublish: boolean; call: unknown } = {
    mayPublish: false,
    call: ({ args, timeout }: ScriptCall) =>
      new Promise((resolve, reject) => void this.calls.push({ args, timeout, reply: resolve, fail: reject })),
  };
  readonly wire: Wire;

  constructor(ttl = 60) {
    const face = { key: 'k', name: undefined, capacity: 10, concurrency: 2, period: 1, held: 0, waiting: 0 };
    const settings = { face, keys: ['k'], ttl, maxQueue: 5, commandTimeout: 2, serverTime: undefined };
    const connection = this.connection as unknown as SharedConnection;
    const { limits: of } = this;
    const limits = { concurrency: of.concurrency, encode: () => encodeRate(of.capacity, of.period, of.burst) };
    this.wire = new Wire(settings, connection, new Script(''), limits, new SteadyClock(this.clock));
  }

  /** A batch with the present settings, as the outbox creates it. */
  batch(sequence: number, endsNow = false): Batch {
    const settings = { flags: this.wire.flags(), rate: this.wire.rate };
    return {
      owner: 'c.0',
      sequence,
      settings,
      ends: endsNow,
      endsNow,
      commands: [],
      confirmations: [],
      sentAt: 0,
      gapsBefore: 0,
      wasFirst: true,
      inFlight: true,
    };
  }

  /** Sends a batch. The promise resolves with the outcome, or with the message of the error. */
  send(batch: Batch): Promise<string> {
    return this.wire
      .send(batch, this.clock.now(), () => {})
      .then(
        ({ outcome }) => outcome,
        (error: Error) => `${error.name}: ${error.message}`,
      );
  }

  async exchange(batch: Batch, reply = 'A 1'): Promise<string> {
    const outcome = this.send(batch);
    this.calls.at(-1)!.reply(reply);
    return outcome;
  }
}

describe('settings', () => {
  test('the first batch configures the rate and checks the permission to publish, and later ones do not', async () => {
    const scene = new Scene();
    const first = scene.batch(0);
    expect(await scene.exchange(first)).toBe('applied');
    expect([first.settings.flags, scene.wire.flags()]).toEqual(['cp', '']);
    expect(scene.calls[0]!.args).toEqual(['c.0 0 60000000 2 cp - 0 5 10 1000000 10\n']);
  });

  test('a new rate is sent until the reply to a batch with this rate', async () => {
    const scene = new Scene();
    const old = scene.batch(0);
    const sending = scene.send(old);
    scene.limits.configure({ capacity: 20 });
    scene.wire.configure();
    scene.calls[0]!.reply('A 1');
    await sending;
    expect(scene.wire.flags()).toBe('c');
    await scene.exchange(scene.batch(1));
    expect([scene.wire.flags(), headerOf(scene.calls[1]!.args).rate]).toEqual(['', '20 1000000 20']);
  });

  test('a batch that is sent again keeps its rate, and does not confirm a newer one', async () => {
    const scene = new Scene();
    const batch = scene.batch(0);
    const sending = scene.send(batch);
    scene.calls[0]!.fail(new Error('lost'));
    await sending;
    scene.limits.configure({ capacity: 20 });
    scene.wire.configure();
    await scene.exchange(batch);
    expect([headerOf(scene.calls[1]!.args).rate, scene.wire.flags()]).toEqual(['10 1000000 10', 'c']);
  });

  test('a refused batch configures nothing', async () => {
    const scene = new Scene();
    expect(await scene.exchange(scene.batch(1), 'U')).toBe('unknown owner');
    expect(scene.wire.flags()).toBe('c');
  });

  test('only a batch with which the owner ends has the end flag', async () => {
    const scene = new Scene();
    await scene.exchange(scene.batch(0, true));
    await scene.exchange(scene.batch(1, false));
    expect(scene.calls.map(({ args }) => headerOf(args).flags)).toEqual(['cpe', '']);
  });

  test('a call waits for its reply no longer than nine tenths of the ttl', () => {
    const scene = new Scene(1);
    void scene.send(scene.batch(0));
    expect(scene.calls[0]!.timeout).toBe(0.9);
  });
});

describe('replies', () => {
  test.each([
    ['a reply that is not from the script', 'nonsense'],
    ['an unknown owner for batch 0', 'U'],
  ])('%s is a failure of Redis', async (_, reply) => {
    const scene = new Scene();
    expect(await scene.exchange(scene.batch(0), reply)).toMatch(/^ThrottleBackendError: .*not from the script/);
    expect(scene.connection.mayPublish).toBe(false);
  });

  test('an error of the client is the cause of a ThrottleBackendError', async () => {
    const scene = new Scene();
    const cause = new Error('NOPERM no channel');
    const sending = scene.wire.send(scene.batch(0), 100, () => {});
    scene.calls[0]!.fail(cause);
    await expect(sending).rejects.toMatchObject({ code: 'ERR_THROTTLE_BACKEND', cause });
    const running = scene.wire.run(new Script(''), 'x');
    scene.calls[1]!.fail(cause);
    await expect(running).rejects.toMatchObject({ code: 'ERR_THROTTLE_BACKEND', cause });
    expect(scene.calls[1]!.args).toEqual(['', 'x']);
  });

  test('the latest reply sets the wake-up time', async () => {
    const scene = new Scene();
    await scene.exchange(scene.batch(0), 'A 1 0 5000000 9');
    expect(scene.wire.wakeup.at).toBe(105);
    await scene.exchange(scene.batch(1), 'A 1');
    expect(scene.wire.wakeup.at).toBe(Infinity);
  });

  test('a reply that a later one has overtaken cannot remove the wake-up time', async () => {
    const scene = new Scene();
    const [first, second] = [scene.send(scene.batch(0)), scene.send(scene.batch(1))];
    scene.calls[1]!.reply('A 1 0 5000000 9');
    await second;
    scene.calls[0]!.reply('A 1');
    await first;
    expect(scene.wire.wakeup.at).toBe(105);
  });
});
