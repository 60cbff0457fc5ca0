/** Helpers of the worker processes: an observed client, a clock that all processes share, and reports to the test. */
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
import { isBatch } from './batch-words.js';

/** The kinds of clients of a worker. With `url`, the throttle creates the client. */
export type Kind = 'ioredis' | 'node-redis' | 'url';

/** The settings of every worker. */
export interface WorkerSettings {
  kind: Kind;
  url: string;
  throttle: Omit<RedisThrottleOptions, 'client'>;
}

/** Callbacks for the traffic between a throttle and Redis. Each runs before the throttle sees the event. */
export interface Observer {
  /** Before a call of the step script is sent. */
  beforeSend?(args: string[]): void;
  /** After the call is sent; with some clients, at the end of the turn of the event loop. */
  afterSend?(): void;
  /** After the reply to a call that was sent at `sentAt`. An event `g` repeats a grant. */
  onReply?(args: string[], events: string[], sentAt: number): void;
  /** A message with events for `owner`. */
  onMessage?(owner: string, events: string[]): void;
  /** After the connection is established, before the first command. */
  onConnect?(): void;
}

export interface Client {
  connection: RedisConnection;
  /** Closes the client, as the user of the throttle does. */
  end(): void;
}

/** Milliseconds of CLOCK_MONOTONIC, which all processes of a machine share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Prints a line for the test synchronously, so that the line arrives even if the process is killed next. */
export const report = (line: object): void => void writeSync(1, `${JSON.stringify(line)}\n`);

/** A random number generator with a seed: mulberry32. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The grant as Redis stores it: slot, instant in microseconds, cost and number. The property is not public. */
export const grantOf = (permit: RedisPermit): string =>
  (permit as RedisPermit & { grant: { item: string } }).grant.item;

const observeMessage = (observer: Observer, message: string, channel: string): void => {
  const [instance = '', ...events] = message.split('\n');
  observer.onMessage?.(`${channel.slice('headgate:'.length)}.${instance}`, events);
};

const observeCall = async (observer: Observer, args: string[], call: () => Promise<unknown>): Promise<unknown> => {
  if (!isBatch(args)) return call();
  observer.beforeSend?.(args);
  const sentAt = now();
  const answer = call();
  observer.afterSend?.();
  const reply = await answer;
  observer.onReply?.(args, String(reply).split('\n').slice(1), sentAt);
  return reply;
};

function ioredisClient(url: string, observer: Observer): Client {
  const client = new Redis(url);
  client.on('error', () => {});
  client.on('connect', () => observer.onConnect?.());
  const run = (name: 'evalsha' | 'eval') => {
    const original = client[name].bind(client) as (script: string, keys: number, ...args: string[]) => Promise<unknown>;
    return (script: string, keys: number, ...args: string[]) =>
      observeCall(observer, args.slice(keys), () => original(script, keys, ...args));
  };
  const original = client.duplicate.bind(client);
  const duplicate = (...options: Parameters<Redis['duplicate']>): Redis => {
    const copy = original(...options);
    copy.on('message', (channel: string, message: string) => observeMessage(observer, message, channel));
    return copy;
  };
  Object.assign(client, { evalsha: run('evalsha'), eval: run('eval'), duplicate });
  return { connection: client, end: () => client.disconnect() };
}

type NodeRedis = NodeRedisClient & { connect(): Promise<unknown>; destroy(): void };

function nodeRedisClient(url: string, observer: Observer): Client {
  const client = createClient({ url }) as unknown as NodeRedis;
  client.on('error', () => {});
  client.on('connect', () => observer.onConnect?.());
  const run = (name: 'evalSha' | 'eval') => {
    const original = client[name].bind(client);
    return (script: string, options: { keys: string[]; arguments: string[] }) =>
      observeCall(observer, options.arguments, () => original(script, options));
  };
  const original = client.duplicate.bind(client) as (...options: unknown[]) => NodeRedis;
  const duplicate = (...options: unknown[]): NodeRedis => {
    const copy = original(...options);
    const subscribe = copy.subscribe.bind(copy);
    const observedSubscribe: NodeRedis['subscribe'] = (channel, listener) =>
      subscribe(channel, (message, from) => {
        observeMessage(observer, message, from);
        listener(message, from);
      });
    return Object.assign(copy, { subscribe: observedSubscribe });
  };
  // The client of withTypeMapping would not be observed.
  Object.assign(client, { evalSha: run('evalSha'), eval: run('eval'), duplicate, withTypeMapping: () => client });
  // Commands before the connection wait in the queue of the client.
  client.connect().catch(() => {});
  return { connection: client, end: () => client.destroy() };
}

/** Creates a throttle and its client. */
export function throttleFor(
  { kind, url, throttle }: WorkerSettings,
  observer: Observer,
): { throttle: RedisThrottle; client: Client } {
  const client: Client =
    kind === 'ioredis'
      ? ioredisClient(url, observer)
      : kind === 'node-redis'
        ? nodeRedisClient(url, observer)
        : { connection: { url }, end: () => {} };
  return { throttle: new RedisThrottle({ commandTimeout: 10, ...throttle, client: client.connection }), client };
}

/** The settings of this process. */
export const settings = (): unknown => JSON.parse(process.argv[2] ?? '');

/** Passes the commands of the parent to `command`. The process exits when the parent disconnects. */
export const onCommand = (command: (message: unknown) => void): void => {
  process.on('message', command);
  process.on('disconnect', leave);
};
const leave = (): void => process.exit(1);

/** Disconnects from the parent. The process now lives while it has work, for 20 s at most. */
export const disconnectFromTest = (): void => {
  process.off('disconnect', leave);
  process.disconnect();
  setTimeout(() => process.exit(9), 20_000).unref();
};
