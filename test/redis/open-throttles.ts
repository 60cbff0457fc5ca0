/** Opens throttles on shared clients for a test file, and closes them after each test. */
import { type RedisCommands, type RedisPermit, RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, vi } from 'vitest';
import { evalThrough, freshKey, ioredis, subscribeThrough } from './support.js';

export let client: Redis;
/** The client of another simulated process. */
export let otherClient: Redis;
const closing: (() => Promise<void>)[] = [];
beforeAll(() => {
  const [here, there] = [ioredis(), ioredis()];
  client = here.client;
  otherClient = there.client;
  closing.push(here.close, there.close);
});
afterAll(async () => {
  for (const close of closing) await close();
});

const opened: RedisThrottle[] = [];
const delayedClients: DelayedClient[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  for (const delayed of delayedClients.splice(0)) delayed.sendReplies();
  for (const throttle of opened.splice(0)) await throttle.close();
});

export const open = (options: Partial<RedisThrottleOptions> = {}): RedisThrottle => {
  const throttle = new RedisThrottle({ client, key: freshKey(), ttl: 5, ...options });
  opened.push(throttle);
  return throttle;
};

/** Opens two throttles on one key, as in two processes. */
export const openTwo = (
  here: Partial<RedisThrottleOptions>,
  there: Partial<RedisThrottleOptions> = here,
): [RedisThrottle, RedisThrottle] => {
  const key = freshKey();
  return [open({ key, ...here }), open({ key, client: otherClient, ...there })];
};

export const take = async (throttle: RedisThrottle, cost?: number): Promise<RedisPermit> =>
  (await throttle.tryAcquire(cost)) ?? expect.fail('there is no permit');

export const takeAll = async (throttle: RedisThrottle, count: number): Promise<RedisPermit[]> =>
  Promise.all(Array.from({ length: count }, () => take(throttle)));

export const releaseAll = (permits: readonly (RedisPermit | undefined)[]): void =>
  permits.forEach((permit) => permit?.release());

export const waitingIn = async (throttle: RedisThrottle): Promise<number> => (await throttle.inspect()).waiting.length;

export const errorOf = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => expect.fail('it was not refused'),
    (error: unknown) => error as Error,
  );

/** A client whose replies can be delayed after Redis has sent them. Its messages arrive at once. */
export class DelayedClient implements RedisCommands {
  #delay: Promise<void> | undefined;
  #sendReplies = (): void => {};
  calls = 0;

  constructor() {
    delayedClients.push(this);
  }

  async eval(script: string, keys: string[], args: string[]): Promise<unknown> {
    this.calls++;
    const answer = await evalThrough(client)(script, keys, args);
    await this.#delay;
    return answer;
  }

  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    const subscriber = client.duplicate();
    onTestFinished(() => subscriber.disconnect());
    await subscribeThrough(subscriber)(channel, listener);
  }

  delayReplies(): void {
    this.#delay = new Promise((resolve) => (this.#sendReplies = resolve));
  }

  sendReplies(): void {
    this.#delay = undefined;
    this.#sendReplies();
  }
}
