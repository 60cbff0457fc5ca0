/**
 * What a process makes of what Redis says, and when it says what itself. Redis is the test's own hand: it answers each
 * call when it likes, and sends what messages it likes, by a clock that only the test moves.
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
import { later } from './support.js';

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** A call of the script, which waits for what becomes of it. */
interface Call {
  /** What is asked for, in the words of the script. */
  readonly words: readonly string[];
  /** The instant that the process says has come. */
  readonly reached: string;
  /** `timing`: when whoever is first is due, in how many microseconds and at which instant. */
  answer(timing: string, ...events: string[]): Promise<void>;
  fail(): Promise<void>;
}

class Hand implements RedisCommands {
  /** Fails each call at once. */
  down = false;
  readonly #calls: Call[] = [];
  #instance = '';
  #listener: (message: string) => void = () => {};

  eval(_: string, __: string[], args: string[]): Promise<unknown> {
    if (this.down) return Promise.reject(new Error('down'));
    const [owner = '', , , , , , reached = ''] = args;
    this.#instance = owner.slice(owner.indexOf('.') + 1);
    return new Promise((resolve, reject) => {
      this.#calls.push({
        words: args.slice(10),
        reached,
        answer(...reply) {
          resolve(reply);
          return turn();
        },
        fail() {
          reject(new Error('failed'));
          return turn();
        },
      });
    });
  }

  async subscribe(_: string, listener: (message: string) => void): Promise<void> {
    this.#listener = listener;
  }

  async tell(...events: string[]): Promise<void> {
    this.#listener([this.#instance, ...events].join('\n'));
    await turn();
  }

  /** The calls that have come since it was asked last. */
  async calls(): Promise<Call[]> {
    await turn();
    return this.#calls.splice(0);
  }

  /** The one that has. */
  async call(): Promise<Call> {
    const [call, ...more] = await this.calls();
    if (call === undefined) throw new Error('nothing is said');
    expect(more.map(({ words }) => words)).toEqual([]);
    return call;
  }
}

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const open = (options: Partial<RedisThrottleOptions>): { throttle: RedisThrottle; redis: Hand; clock: ManualClock } => {
  const [redis, clock] = [new Hand(), new ManualClock()];
  const throttle = new RedisThrottle({ client: redis, clock, key: 'key', ...options });
  closing.push(() => {
    redis.down = true;
    return throttle.close();
  });
  return { throttle, redis, clock };
};

/** What the script says of a grant in `slot` at an instant. */
const grant = (serial: string, slot: number, at = 1): string => `G ${serial} ${slot} ${at} 1 0`;

test('a permit that the reply to a late renewal grants is not lost', async () => {
  const { throttle, redis, clock } = open({ ttl: 10, commandTimeout: 8 });
  // Whoever looks as soon as it can.
  const lost = throttle.acquire().then(({ signal }) => signal.aborted);
  await (await redis.call()).answer('', 'Q 0 1000');
  await clock.advance(3.4);
  const renewal = await redis.call();
  expect(renewal.words).toEqual(['W', '0', '1', '1000']);
  // 0.9 of the ttl after the call, though not after the renewal.
  await clock.advance(5.7);
  await renewal.answer('', grant('0', 1));
  expect(await lost).toBe(false);
  expect(throttle.held).toBe(1);
});

test('the lease of a permit counts from its call if the renewal under way does not include it', async () => {
  const { throttle, redis, clock } = open({ ttl: 10, commandTimeout: 9 });
  const first = throttle.acquire();
  await (await redis.call()).answer('', grant('0', 1));
  await clock.advance(1);
  const second = throttle.acquire();
  const asking = await redis.call();
  await clock.advance(2.4);
  const renewal = await redis.call();
  expect(renewal.words).toEqual(['K', '0', '1 1 1 0']);
  await clock.advance(0.6);
  await asking.answer('', grant('1', 2));
  await clock.advance(1);
  await renewal.answer('');
  await clock.advance(0.01);
  // A third of the ttl after its call has passed: so both are renewed at once, and this time in vain.
  expect((await redis.call()).words).toEqual(['K', '0', '1 1 1 0', 'K', '1', '2 1 1 0']);
  const permits = [await first, await second] as const;
  const lost = (): boolean[] => permits.map(({ signal }) => signal.aborted);
  await clock.advance(4.89);
  expect(lost()).toEqual([false, false]);
  await clock.advance(0.2);
  expect([clock.now(), ...lost()]).toEqual([expect.closeTo(10.1), true, true]);
});

test('a waiter is rejected once its ttl has passed, even if other calls fail meanwhile', async () => {
  const { throttle, redis, clock } = open({ ttl: 3 });
  const outcomes = new Outcomes();
  outcomes.follow('it', throttle.acquire());
  await (await redis.call()).answer('', 'Q 0 1000');
  redis.down = true;
  const failWhile = async (seconds: number): Promise<void> => {
    for (const end = clock.now() + seconds; clock.now() < end; await clock.advance(0.05)) void later(throttle.pause(1));
  };
  await failWhile(2.9);
  expect(outcomes.order).toEqual([]);
  // It is found out by a try, of which there is one in a third of the ttl.
  await failWhile(1.2);
  expect(outcomes.order).toEqual(['it!']);
  expect(outcomes.error('it')).toBeInstanceOf(ThrottleBackendError);
  expect(throttle.waiting).toBe(0);
});

test('a message can move the next call of the script forward, never back', async () => {
  const { throttle, redis, clock } = open({ ttl: 60 });
  void later(throttle.acquire());
  await (await redis.call()).answer('300000 1000', 'Q 0 1000');
  await clock.advance(0.1);
  // Sent before that answer, and late.
  await redis.tell('H 5000000 2000');
  await clock.advance(0.1);
  expect(await redis.calls()).toEqual([]);
  await clock.advance(0.11);
  const first = await redis.call();
  expect([first.words, first.reached]).toEqual([[], '1000']);
  await first.answer('500000 3000');
  await redis.tell('H 100000 2500');
  await clock.advance(0.11);
  expect(await redis.call()).toMatchObject({ words: [], reached: '2500' });
});

test("a grant from before its waiter's last return to the queue is void, also on a server whose clock is behind", async () => {
  const { throttle, redis, clock } = open({ ttl: 6 });
  let permit: RedisPermit | undefined;
  void throttle.acquire().then((granted) => (permit = granted));
  await (await redis.call()).answer('', 'Q 0 1000');
  /** Redis has lost its data, and takes the waiter in again. */
  const comesBack = async (at: number): Promise<void> => {
    await clock.advance(2.01);
    const renewal = await redis.call();
    expect(renewal.words).toEqual(['W', '0', '1', '1000']);
    await renewal.answer('', `Q 0 1000 ${at}`);
  };
  await comesBack(5_000);
  await redis.tell(grant('0', 1, 4_999));
  expect(permit).toBeUndefined();
  await comesBack(9_000);
  // Between the two losses.
  await redis.tell(grant('0', 1, 8_999));
  expect(permit).toBeUndefined();
  await comesBack(6_000);
  await redis.tell(grant('0', 1, 5_999));
  expect(permit).toBeUndefined();
  await redis.tell(grant('0', 2, 6_001));
  expect(permit?.slot).toBe(2);
});

test('commands of a failed call are sent with the next retry or after the next reply, not with each call', async () => {
  const { throttle, redis, clock } = open({ ttl: 30 });
  const two = Promise.all([throttle.acquire(), throttle.acquire()]);
  await (await redis.call()).answer('', grant('0', 1), grant('1', 2));
  const [released] = await two;
  released.release();
  const release = await redis.call();
  expect(release.words).toEqual(['R', '0', '1']);
  await release.fail();
  await clock.advance(0.05);
  const refused = later(throttle.acquire());
  const asking = await redis.call();
  expect(asking.words).toEqual(['A', '2', '1', '-1']);
  await asking.fail();
  await expect(refused).rejects.toThrow(ThrottleBackendError);
  await clock.advance(0.06);
  const tries = await redis.calls();
  const said = ['R', '0', '1', 'C', '2', '1'];
  expect(tries.map(({ words }) => words)).toEqual([['K', '1', '2 1 1 0'], said]);
  for (const one of tries) await one.fail();
  void later(throttle.acquire());
  const next = await redis.call();
  expect(next.words).toEqual(['A', '3', '1', '-1']);
  await next.answer('', grant('3', 1));
  const last = await redis.call();
  expect(last.words).toEqual(said);
  await last.answer('');
  // That is all.
  await clock.advance(1);
  expect(await redis.calls()).toEqual([]);
});
