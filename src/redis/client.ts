/**
 * Redis, as the gate sees it: a script to run and a channel to listen on. Whatever client the user has is brought to
 * that here. Clients are told apart by what they can do, never by the name of their class.
 */
import { invalid } from '../errors.js';

/** An ioredis client, or one of its kind: `Redis` (sentinels included) or `Cluster`. */
export interface IoredisClient {
  evalsha(sha: string, numberOfKeys: number, ...args: string[]): Promise<unknown>;
  eval(script: string, numberOfKeys: number, ...args: string[]): Promise<unknown>;
  subscribe(...channels: string[]): Promise<unknown>;
  duplicate(): unknown;
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  readonly isCluster: boolean;
}

/** A client of node-redis, the package `redis`: from `createClient`, `createCluster` or `createSentinel`. */
export interface NodeRedisClient {
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  subscribe(channel: string, listener: (message: string, channel: string) => void): Promise<unknown>;
  duplicate(): unknown;
  on(event: string, listener: (...args: unknown[]) => void): unknown;
}

/** Any other client, in the least words. */
export interface RedisCommands {
  /** Runs a Lua script. Numbers in the reply may come as numbers, all else as strings and arrays. */
  eval(script: string, keys: string[], args: string[]): Promise<unknown>;
  /** Calls `listener` with each message of the channel, until the end of the program. */
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
}

/** What `createClient` of the package `redis` takes: a `url`, or a `socket` with host and port or a path, and the rest. */
export interface RedisOptions {
  url?: string;
  [option: string]: unknown;
}

/** The connection to Redis: a client that the user has, or the options for one of ours. */
export type RedisConnection = IoredisClient | NodeRedisClient | RedisCommands | RedisOptions;

/** A script, and what Redis calls it. */
export class Script {
  readonly source: string;
  #sha: string | undefined;
  #hashing: Promise<void> | undefined;

  constructor(source: string) {
    this.source = source;
  }

  /** Its SHA-1 in hexadecimal, as Redis names scripts; `undefined` for a moment at first. */
  get sha(): string | undefined {
    this.#hashing ??= crypto.subtle.digest('SHA-1', new TextEncoder().encode(this.source)).then((digest) => {
      this.#sha = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
    });
    return this.#sha;
  }
}

/** What the gate needs of a client. */
export interface Driver {
  run(script: Script, keys: string[], args: string[]): Promise<unknown>;
  /** Listens on `channel`. `missed` is called after every interruption: messages may have been lost. */
  listen(channel: string, listener: (message: string) => void, missed: () => void): Promise<void>;
  /** Whether anything depends on it, and so the process should stay alive for it. */
  hold(needed: boolean): void;
  /** Ends the connections that are ours. */
  close(): void;
}

/** What both kinds of connections of our own have. */
interface Own {
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  disconnect?(): unknown;
  destroy?(): unknown;
}

/** Runs by name what Redis has seen before, and in full what it has not, or not since it was restarted. */
async function evaluate(script: Script, bySha: (sha: string) => Promise<unknown>, inFull: () => Promise<unknown>): Promise<unknown> {
  const { sha } = script;
  if (sha === undefined) return inFull();
  try {
    return await bySha(sha);
  } catch (error) {
    if (!/^NOSCRIPT/.test((error as Error)?.message)) throw error;
    return inFull();
  }
}

/** What ends with an error event is told by the calls that fail; without a listener, it would end the process. */
const ignore = (): void => {};

/** The driver for `connection`. Nothing is connected before it is used. @throws {TypeError} It is no client. */
export function driverFor(connection: RedisConnection): Driver {
  const client = connection as Partial<IoredisClient & NodeRedisClient> | null | undefined;
  if (typeof client !== 'object' || client === null) throw invalid('client', 'a Redis client, or options for one', client);
  if (typeof client.evalSha === 'function') return nodeRedis(client as NodeRedisClient);
  if (typeof client.evalsha === 'function') return ioredis(client as unknown as IoredisClient);
  if (typeof client.eval === 'function' && typeof client.subscribe === 'function') return custom(client as unknown as RedisCommands);
  if ('url' in client || 'socket' in client) return fromOptions(client as RedisOptions);
  throw new TypeError('client must be an ioredis or node-redis client, { url }, or an object with eval(script, keys, args) and subscribe(channel, listener)');
}

function ioredis(client: IoredisClient): Driver {
  let subscriber: IoredisClient | undefined;
  return {
    run: (script, keys, args) =>
      evaluate(script, (sha) => client.evalsha(sha, keys.length, ...keys, ...args), () => client.eval(script.source, keys.length, ...keys, ...args)),
    async listen(channel, listener, missed) {
      if (subscriber === undefined) {
        // A cluster has a connection for messages already.
        subscriber = client.isCluster ? client : (client.duplicate() as IoredisClient);
        const own = subscriber;
        own.on('message', (from, message) => {
          if (from === channel) listener(message as string);
        });
        if (!client.isCluster) {
          own.on('error', ignore);
          own.on('connect', () => (own as { stream?: { unref?(): void } }).stream?.unref?.());
        }
        // It subscribes again by itself, but says not when it has: asked once more, its answer says so.
        const again = (): void => void own.subscribe(channel).then(missed, ignore);
        for (const event of ['ready', '+node', '-node']) own.on(event, again);
      }
      await subscriber.subscribe(channel);
    },
    hold: ignore,
    close() {
      if (subscriber !== client) (subscriber as Own | undefined)?.disconnect?.();
    },
  };
}

function nodeRedis(client: NodeRedisClient): Driver {
  // A cluster and a sentinel have a connection for messages already.
  const single = 'unref' in client;
  let subscriber: NodeRedisClient | undefined;
  let connected: Promise<unknown> | undefined;
  return {
    run: (script, keys, args) =>
      evaluate(script, (sha) => client.evalSha(sha, { keys, arguments: args }), () => client.eval(script.source, { keys, arguments: args })),
    async listen(channel, listener, missed) {
      if (subscriber === undefined) {
        subscriber = single ? (client.duplicate() as NodeRedisClient) : client;
        for (const event of ['ready', 'node-ready', 'topology-change']) subscriber.on(event, missed);
        if (single) {
          const own = subscriber as NodeRedisClient & { connect(): Promise<unknown>; unref(): void };
          own.on('error', ignore);
          own.on('connect', () => own.unref());
          connected = own.connect();
        }
      }
      await connected;
      await subscriber.subscribe(channel, listener);
    },
    hold: ignore,
    close() {
      if (subscriber !== client) (subscriber as Own | undefined)?.destroy?.();
    },
  };
}

function custom(client: RedisCommands): Driver {
  return {
    run: (script, keys, args) => client.eval(script.source, keys, args),
    listen: async (channel, listener) => void (await client.subscribe(channel, listener)),
    hold: ignore,
    close: ignore,
  };
}

/** A client of our own, made when it is first needed. */
function fromOptions(options: RedisOptions): Driver {
  type Client = NodeRedisClient & Own & { connect(): Promise<unknown>; ref(): void; unref(): void; readonly isOpen: boolean };
  let driver: Promise<Driver> | undefined;
  let client: Client | undefined;
  let needed = false;
  let closed = false;
  const start = async (): Promise<Driver> => {
    const { createClient } = await import('redis').catch((cause: unknown) => {
      throw new Error('client: { url } needs the package "redis": npm install redis, or pass a client that you have', { cause });
    });
    const made = createClient(options) as unknown as Client;
    made.on('error', ignore);
    made.on('connect', () => (needed ? made.ref() : made.unref()));
    client = made;
    await made.connect();
    return nodeRedis(made);
  };
  const started = (): Promise<Driver> => {
    if (closed) return Promise.reject(new Error('the connection is closed'));
    driver ??= start().catch((error: unknown) => {
      driver = undefined;
      throw error;
    });
    return driver;
  };
  return {
    run: async (script, keys, args) => (await started()).run(script, keys, args),
    listen: async (channel, listener, missed) => (await started()).listen(channel, listener, missed),
    hold(wanted) {
      if (wanted === needed) return;
      needed = wanted;
      if (wanted) client?.ref();
      else client?.unref();
    },
    close() {
      closed = true;
      void driver?.then((open) => open.close(), ignore);
      client?.destroy?.();
    },
  };
}
