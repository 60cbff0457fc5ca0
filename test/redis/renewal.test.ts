/**
 * The reactions of a process to replies and messages, and the times of its own commands. The test plays Redis: a fake
 * client replies to each call and sends messages when the test decides, on a manual clock.
 */
import {
  type RedisCommands,
  type RedisPermit,
  RedisThrottle,
  type RedisThrottleOptions,
  ThrottleBackendError,
} from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import { afterEach, expect, test } from 'vitest';
import { Outcomes } from '../support/support.js';
import { headerOf, wordsOf } from './batch-words.js';
import { later } from './support.js';

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** A pending call of the script. */
interface Call {
  /** The number of the batch. */
  readonly sequence: string;
  /** The commands of the batch. */
  readonly commands: readonly string[];
  /** The instant of the server that the process confirms. */
  readonly confirmedTime: string;
  /** `wakeup`: when the head of the queue is due, as microseconds from now and as an instant. */
  reply(wakeup: string, ...events: string[]): Promise<void>;
  fail(): Promise<void>;
}

class FakeRedis implements RedisCommands {
  /** Whether each call fails at once. */
  down = false;
  readonly #calls: Call[] = [];
  #instance = '';
  #listener: (message: string) => void = () => {};

  eval(_: string, __: string[], args: string[]): Promise<unknown> {
    if (this.down) return Promise.reject(new Error('down'));
    const { owner, number: sequence, confirmed: confirmedTime } = headerOf(args);
    this.#instance = owner.slice(owner.indexOf('.') + 1);
    return new Promise((resolve, reject) => {
      this.#calls.push({
        sequence,
        commands: wordsOf(args),
        confirmedTime,
        reply(wakeup, ...events) {
          resolve([`A 1 0 ${wakeup}`.trimEnd(), ...events].join('\n'));
          return turn();
        },
        fail() {
          reject(new Error('failed'));
          return turn();
        },
      });
    });
  }

  /** The subscription never reports its start, which would cause one more call. */
  subscribe(_: string, listener: (message: string) => void): Promise<void> {
    this.#listener = listener;
    return new Promise(() => {});
  }

  async sendMessage(...events: string[]): Promise<void> {
    this.#listener([this.#instance, ...events].join('\n'));
    await turn();
  }

  /** Returns the calls since the last `calls` or `call`. */
  async calls(): Promise<Call[]> {
    await turn();
    return this.#calls.splice(0);
  }

  /** Returns the only call since the last `calls` or `call`. */
  async call(): Promise<Call> {
    const [call, ...more] = await this.calls();
    if (call === undefined) throw new Error('there was no call');
    expect(more.map(({ commands }) => commands)).toEqual([]);
    return call;
  }
}

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const open = (
  options: Partial<RedisThrottleOptions>,
): { throttle: RedisThrottle; redis: FakeRedis; clock: ManualClock } => {
  const [redis, clock] = [new FakeRedis(), new ManualClock()];
  const throttle = new RedisThrottle({ client: redis, clock, key: 'key', ...options });
  closing.push(async () => {
    redis.down = true;
    const closed = throttle.close();
    // The calls without a reply time out.
    await clock.advance(60);
    await closed;
  });
  return { throttle, redis, clock };
};

/** The event for a grant in `slot` at an instant. */
const grant = (serial: string, slot: number, at = 1): string => `G ${serial} ${slot} ${at} 1 0`;

test('a permit that the reply to a late renewal grants is not lost', async () => {
  const { throttle, redis, clock } = open({ ttl: 10, commandTimeout: 8 });
  // Reads the signal as early as possible.
  const lost = throttle.acquire().then(({ signal }) => signal.aborted);
  await (await redis.call()).reply('', 'Q 0 1000');
  await clock.advance(3.4);
  const renewal = await redis.call();
  expect(renewal.commands).toEqual(['W', '0', '1', '1000']);
  // More than 0.9 of the ttl after the call, but less after the renewal.
  await clock.advance(5.7);
  await renewal.reply('', grant('0', 1));
  expect(await lost).toBe(false);
  expect(throttle.held).toBe(1);
});

test('all leases count from the sending of the latest batch to which Redis has replied', async () => {
  const { throttle, redis, clock } = open({ ttl: 10, commandTimeout: 9 });
  const first = throttle.acquire();
  await (await redis.call()).reply('', grant('0', 1));
  await clock.advance(1);
  const second = throttle.acquire();
  const request = await redis.call();
  // A third of the ttl has passed since the first call.
  await clock.advance(2.4);
  const renewal = await redis.call();
  expect(renewal.commands).toEqual([]);
  await clock.advance(0.6);
  await request.reply('', grant('1', 2));
  await clock.advance(0.4);
  // A third of the ttl has passed since the second call. This renewal gets no reply, and neither does a later one.
  expect((await redis.call()).commands).toEqual([]);
  await clock.advance(0.6);
  await renewal.reply('');
  const permits = [await first, await second] as const;
  const lost = (): boolean[] => permits.map(({ signal }) => signal.aborted);
  // The renewal was sent at 3.33 s, and counts for 0.9 of the ttl.
  await clock.advance(7.3);
  expect([clock.now(), ...lost()]).toEqual([expect.closeTo(12.3), false, false]);
  await clock.advance(0.1);
  expect(lost()).toEqual([true, true]);
});

test('a waiter is rejected once its ttl has passed, even if other calls fail meanwhile', async () => {
  const { throttle, redis, clock } = open({ ttl: 3 });
  const outcomes = new Outcomes();
  outcomes.follow('it', throttle.acquire());
  await (await redis.call()).reply('', 'Q 0 1000');
  redis.down = true;
  const failWhile = async (seconds: number): Promise<void> => {
    for (const end = clock.now() + seconds; clock.now() < end; await clock.advance(0.05)) void later(throttle.pause(1));
  };
  await failWhile(2.9);
  expect(outcomes.order).toEqual([]);
  // Only a retry detects the expiry; retries happen at least once per third of the ttl.
  await failWhile(1.2);
  expect(outcomes.order).toEqual(['it!']);
  expect(outcomes.error('it')).toBeInstanceOf(ThrottleBackendError);
  expect(throttle.waiting).toBe(0);
});

test('a message can move the next call of the script forward, never back', async () => {
  const { throttle, redis, clock } = open({ ttl: 60 });
  void later(throttle.acquire());
  await (await redis.call()).reply('300000 1000', 'Q 0 1000');
  await clock.advance(0.1);
  // This message was sent before that reply, and arrives late.
  await redis.sendMessage('H 5000000 2000');
  await clock.advance(0.1);
  expect(await redis.calls()).toEqual([]);
  await clock.advance(0.11);
  const first = await redis.call();
  expect([first.commands, first.confirmedTime]).toEqual([[], '1000']);
  await first.reply('500000 3000');
  await redis.sendMessage('H 100000 2500');
  await clock.advance(0.11);
  expect(await redis.call()).toMatchObject({ commands: [], confirmedTime: '2500' });
});

test('a grant before the last return of its waiter to the queue is void, also if the clock is behind', async () => {
  const { throttle, redis, clock } = open({ ttl: 6 });
  let permit: RedisPermit | undefined;
  void throttle.acquire().then((granted) => (permit = granted));
  await (await redis.call()).reply('', 'Q 0 1000');
  /** Redis has lost its data, and the renewal puts the waiter back into the queue. */
  const comesBack = async (at: number): Promise<void> => {
    await clock.advance(2.01);
    const renewal = await redis.call();
    expect(renewal.commands).toEqual(['W', '0', '1', '1000']);
    await renewal.reply('', `Q 0 1000 ${at}`);
  };
  await comesBack(5_000);
  await redis.sendMessage(grant('0', 1, 4_999));
  expect(permit).toBeUndefined();
  await comesBack(9_000);
  // This grant is from between the two losses.
  await redis.sendMessage(grant('0', 1, 8_999));
  expect(permit).toBeUndefined();
  await comesBack(6_000);
  await redis.sendMessage(grant('0', 1, 5_999));
  expect(permit).toBeUndefined();
  await redis.sendMessage(grant('0', 2, 6_001));
  expect(permit?.slot).toBe(2);
});

test('a failed batch is sent again under its number, with each retry or request, before any other batch', async () => {
  const { throttle, redis, clock } = open({ ttl: 30 });
  const two = Promise.all([throttle.acquire(), throttle.acquire()]);
  await (await redis.call()).reply('', grant('0', 1), grant('1', 2));
  const [released] = await two;
  released.release();
  const release = await redis.call();
  expect(release).toMatchObject({ sequence: '1', commands: ['R', '0'] });
  /** The failed batch is the only call. */
  const again = async (): Promise<Call> => {
    const call = await redis.call();
    expect(call).toMatchObject({ sequence: '1', commands: ['R', '0'] });
    return call;
  };
  await release.fail();
  await clock.advance(0.05);
  const refused = later(throttle.acquire());
  await (await again()).fail();
  await expect(refused).rejects.toThrow(ThrottleBackendError);
  await clock.advance(0.19);
  expect(await redis.calls()).toEqual([]);
  await clock.advance(0.02);
  await (await again()).fail();
  const permit = throttle.acquire();
  await (await again()).reply('');
  // The refused request was never sent, so Redis receives no cancellation.
  const request = await redis.call();
  expect(request).toMatchObject({ sequence: '2', commands: ['A', '3', '1', '-1'] });
  await request.reply('', grant('3', 1));
  expect((await permit).slot).toBe(1);
  // No further command is sent.
  await clock.advance(1);
  expect(await redis.calls()).toEqual([]);
});
