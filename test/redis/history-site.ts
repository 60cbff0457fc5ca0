/** Two objects on one key, as in two processes, with one clock in whole microseconds that only the test moves. */
import { type Clock } from 'headgate';
import { type RedisCommands, type RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll } from 'vitest';
import { readLua } from '../support/lua-loader.js';
import INSPECT from '../../src/redis/scripts/inspect.lua';
import RESET from '../../src/redis/scripts/reset.lua';
import STEP from '../../src/redis/scripts/step.lua';
import { RedisThrottle as Gate } from '../../src/redis/throttle.js';
import { FIXED_LIFETIMES, scriptFile } from './scripts/support.js';
import { evalThrough, ioredis, subscribeThrough } from './support.js';

/** The microseconds in a second of a history. */
export const UNIT: number = 2 ** 20;
/** The clock of the server is ahead of the clock of the processes by this many microseconds. */
export const HEAD_START: number = 2 ** 40;
/** A ttl so long that no renewal is due within a history. */
export const LONG_TTL: number = 2_000_000;

/** A clock in whole microseconds that only the test moves. */
export class Microseconds implements Clock {
  ticks = 0;
  #fired = 0;
  #serial = 0;
  #timers: { readonly at: number; readonly serial: number; readonly callback: () => void }[] = [];

  /** Each timer adds a tiny span, as real time does: rounding could otherwise put a timer before its due time. */
  now(): number {
    return this.ticks / 1e6 + this.#fired * 1e-10;
  }

  schedule(seconds: number, callback: () => void): () => void {
    const timer = {
      at: Math.max(this.ticks, Math.round((this.now() + seconds) * 1e6)),
      serial: this.#serial++,
      callback,
    };
    this.#timers.push(timer);
    return () => void (this.#timers = this.#timers.filter((other) => other !== timer));
  }

  /** Advances the clock. Each timer fires at its instant, and `settle` completes its effects before the next timer. */
  async advance(ticks: number, settle: () => Promise<void>): Promise<void> {
    const end = this.ticks + ticks;
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at || a.serial - b.serial);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.ticks = Math.max(this.ticks, next.at);
      this.#fired++;
      next.callback();
      await settle();
    }
    this.ticks = end;
  }
}

export let client: Redis;
let subscriber: Redis;
const closing: (() => Promise<void>)[] = [];
beforeAll(() => {
  const [commands, messages] = [ioredis(), ioredis()];
  client = commands.client;
  subscriber = messages.client;
  subscriber.setMaxListeners(0);
  closing.push(commands.close, messages.close);
});
afterAll(async () => {
  for (const close of closing) await close();
});

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

const stepWithFixedLifetimes = readLua(scriptFile('step'), FIXED_LIFETIMES);

function withFixedLifetimes(script: string): string {
  if (script === STEP) return stepWithFixedLifetimes;
  if (script === INSPECT || script === RESET) return script;
  throw new Error('The throttle has run an unknown script, so the lifetime of its keys cannot be replaced.');
}

/** The client of one process. */
export class ProcessClient implements RedisCommands {
  calls = 0;
  /** The calls of the step. */
  batches = 0;
  dead = false;
  readonly #open = new Set<Promise<unknown>>();

  async eval(script: string, keys: string[], args: string[]): Promise<unknown> {
    if (this.dead) return new Promise(() => {});
    this.calls++;
    if (script === STEP) this.batches++;
    const answer = evalThrough(client)(withFixedLifetimes(script), keys, args);
    this.#open.add(answer);
    return answer.finally(() => this.#open.delete(answer));
  }

  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    await subscribeThrough(subscriber)(channel, (message) => void (this.dead || listener(message)));
  }

  async allReplied(): Promise<void> {
    await Promise.allSettled(this.#open);
  }
}

/** Waits until every call has its reply, every message has arrived, and neither has caused another call. */
export const settler =
  (processClients: readonly ProcessClient[]): (() => Promise<void>) =>
  async () => {
    const calls = (): number => processClients.reduce((sum, processClient) => sum + processClient.calls, 0);
    for (let seen = -1; seen !== calls();) {
      seen = calls();
      await turn();
      for (const processClient of processClients) await processClient.allReplied();
      // Messages arrive in order, so this reply comes after every message that was published before.
      if (seen !== calls() || seen > 0) await subscriber.ping();
      await turn();
    }
  };

export type Options = Partial<RedisThrottleOptions>;

export const openOn = (
  processClient: ProcessClient,
  key: string,
  clock: Microseconds,
  options: Options,
  serverTime = (): number => (clock.ticks + HEAD_START) / 1e6,
): RedisThrottle =>
  new Gate({ client: processClient, key, clock, ttl: LONG_TTL, commandTimeout: LONG_TTL, ...options }, { serverTime });
