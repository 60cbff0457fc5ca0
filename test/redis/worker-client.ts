/** What worker processes share: a client with a tap on it, a clock that all of them agree on, and a voice. */
import { writeSync } from 'node:fs';
import {
  type NodeRedisClient,
  type RedisConnection,
  type RedisPermit,
  RedisThrottle,
  type RedisThrottleOptions,
} from 'headgate/redis';
import { Redis } from 'ioredis';
import { createClient } from 'redis';

/** The clients that a worker may have: `url` is one of the throttle's own. */
export type Kind = 'ioredis' | 'node-redis' | 'url';

/** What every worker is started with. */
export interface WorkerSettings {
  kind: Kind;
  url: string;
  throttle: Omit<RedisThrottleOptions, 'client'>;
}

/** What a throttle says to Redis and hears from it, seen before anybody else sees it. */
export interface Tap {
  /** A step is about to be sent. */
  sends?(args: string[]): void;
  /** It is sent, or is when the turn of the event loop ends. */
  sent?(): void;
  /** It was sent at `sent`, and this is its answer. */
  answered?(args: string[], events: string[], sent: number): void;
  /** A message: events for `owner`. */
  told?(owner: string, events: string[]): void;
  /** The connection is made, and nothing has been said yet. */
  connected?(): void;
}

export interface Client {
  connection: RedisConnection;
  /** Closes what the user of the throttle would close. */
  end(): void;
}

/** Milliseconds of CLOCK_MONOTONIC, which is one clock for all processes of a machine. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Says something to the test, for certain and at once: even a process that is killed next has said it. */
export const report = (line: object): void => void writeSync(1, `${JSON.stringify(line)}\n`);

/** Numbers from 0 to 1 that are the same for the same seed: mulberry32. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The first argument of a step's operations. Whatever has fewer arguments is no step. */
export const OPERATIONS = 10;

/** What the server said of a grant: slot, instant in microseconds, cost, and its number. It is not public. */
export const grantOf = (permit: RedisPermit): string => (permit as RedisPermit & { item: string }).item;

const hear = (tap: Tap, message: string, channel: string): void => {
  const [instance = '', ...events] = message.split('\n');
  tap.told?.(`${channel.slice('headgate:'.length)}.${instance}`, events);
};

const tapped = async (tap: Tap, args: string[], call: () => Promise<unknown>): Promise<unknown> => {
  if (args.length < OPERATIONS) return call();
  tap.sends?.(args);
  const sent = now();
  const answer = call();
  tap.sent?.();
  const reply = await answer;
  tap.answered?.(args, (reply as string[]).slice(1), sent);
  return reply;
};

function ioredisClient(url: string, tap: Tap): Client {
  const client = new Redis(url);
  client.on('error', () => {});
  client.on('connect', () => tap.connected?.());
  const run = (name: 'evalsha' | 'eval') => {
    const original = client[name].bind(client) as (script: string, keys: number, ...args: string[]) => Promise<unknown>;
    return (script: string, keys: number, ...args: string[]) =>
      tapped(tap, args.slice(keys), () => original(script, keys, ...args));
  };
  const original = client.duplicate.bind(client);
  const duplicate = (...options: Parameters<Redis['duplicate']>): Redis => {
    const copy = original(...options);
    copy.on('message', (channel: string, message: string) => hear(tap, message, channel));
    return copy;
  };
  Object.assign(client, { evalsha: run('evalsha'), eval: run('eval'), duplicate });
  return { connection: client, end: () => client.disconnect() };
}

type NodeRedis = NodeRedisClient & { connect(): Promise<unknown>; destroy(): void };

function nodeRedisClient(url: string, tap: Tap): Client {
  const client = createClient({ url }) as unknown as NodeRedis;
  client.on('error', () => {});
  client.on('connect', () => tap.connected?.());
  const run = (name: 'evalSha' | 'eval') => {
    const original = client[name].bind(client);
    return (script: string, options: { keys: string[]; arguments: string[] }) =>
      tapped(tap, options.arguments, () => original(script, options));
  };
  const original = client.duplicate.bind(client) as (...options: unknown[]) => NodeRedis;
  const duplicate = (...options: unknown[]): NodeRedis => {
    const copy = original(...options);
    const subscribe = copy.subscribe.bind(copy);
    const overheard: NodeRedis['subscribe'] = (channel, listener) =>
      subscribe(channel, (message, from) => {
        hear(tap, message, from);
        listener(message, from);
      });
    return Object.assign(copy, { subscribe: overheard });
  };
  // What it makes of types is another one, without a tap.
  Object.assign(client, { evalSha: run('evalSha'), eval: run('eval'), duplicate, withTypeMapping: () => client });
  // What is asked meanwhile waits for the connection.
  client.connect().catch(() => {});
  return { connection: client, end: () => client.destroy() };
}

/** A throttle as its settings say, and its client. */
export function throttleFor(
  { kind, url, throttle }: WorkerSettings,
  tap: Tap,
): { throttle: RedisThrottle; client: Client } {
  const client: Client =
    kind === 'ioredis'
      ? ioredisClient(url, tap)
      : kind === 'node-redis'
        ? nodeRedisClient(url, tap)
        : { connection: { url }, end: () => {} };
  return { throttle: new RedisThrottle({ commandTimeout: 10, ...throttle, client: client.connection }), client };
}

/** The settings that this process was started with. */
export const settings = (): unknown => JSON.parse(process.argv[2] ?? '');

/** Lets a process go when nobody is left to tell it what to do. */
export const obey = (command: (message: unknown) => void): void => {
  process.on('message', command);
  process.on('disconnect', leave);
};
const leave = (): void => process.exit(1);

/** From now on this process lives as long as it has something to do, though not for ever. */
export const part = (): void => {
  process.off('disconnect', leave);
  process.disconnect();
  setTimeout(() => process.exit(9), 20_000).unref();
};
