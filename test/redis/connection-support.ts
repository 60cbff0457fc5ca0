/** Helpers for tests of a shared connection without a gate. */
import { onTestFinished } from 'vitest';
import { systemClock } from '../../src/core/clock.js';
import type { RedisConnection } from '../../src/redis/client.js';
import { Script } from '../../src/redis/script.js';
import { type SharedConnection, sharedConnection } from '../../src/redis/shared-connection.js';
import { SteadyClock } from '../../src/redis/steady-clock.js';

/** The clock of the calls. */
export const clock: SteadyClock = new SteadyClock(systemClock);
/** Replies with its first argument. */
const echo: Script = new Script('return ARGV[1]');
/** Keeps Redis busy for ARGV[2] microseconds, and replies with ARGV[1]. */
export const slowEcho: Script = new Script(`
  local function now() local time = redis.call('TIME') return time[1] * 1000000 + time[2] end
  local start = now()
  while now() < start + tonumber(ARGV[2]) do end
  return ARGV[1]`);

/** Retains the connection of `client` until the end of the test. */
export function retained(client: RedisConnection): SharedConnection {
  const connection = sharedConnection(client);
  connection.retain();
  onTestFinished(() => connection.release());
  return connection;
}

/** Calls a script with `text` and the `further` arguments. */
export const call = (
  connection: SharedConnection,
  text: string,
  { script = echo, further = [], key = '{test}', timeout = 1, onLateReply = () => {} }: CallOptions = {},
): Promise<unknown> => connection.call({ script, keys: [key], args: [text, ...further], clock, timeout, onLateReply });

interface CallOptions {
  script?: Script;
  further?: string[];
  key?: string;
  timeout?: number;
  onLateReply?: (reply: unknown) => void;
}

/** A registered sink that counts what it receives. */
export interface Received {
  readonly owner: string;
  readonly channel: string;
  readonly instance: string;
  readonly events: string[];
  reconciled: number;
}

/** Registers a sink until the end of the test. */
export function receive(connection: SharedConnection): Received {
  const owner = connection.createOwner();
  const [id = '', instance = ''] = owner.split('.');
  const received: Received = { owner, channel: `headgate:${id}`, instance, events: [], reconciled: 0 };
  connection.register(owner, {
    applyEvents: (events) => void received.events.push(...events),
    reconcile: () => void received.reconciled++,
  });
  onTestFinished(() => connection.unregister(owner));
  return received;
}

/** The outcome of a promise as a text. */
export const outcome = (promise: Promise<unknown>): Promise<string> =>
  promise.then(String, (error: Error) => `Error: ${error.message}`);
