/**
 * Redis, as the gate sees it: a script to run and a channel to listen on. Whatever client the user has is brought to
 * that here. Clients are told apart by what they can do, never by the name of their class.
 */
import { invalid } from '../core/validation.js';

/** An ioredis client, or one of its kind: `Redis` (sentinels included) or `Cluster`. */
export interface IoredisClient {
  /** Runs a script that Redis has. */
  evalsha(sha: string, numberOfKeys: number, ...args: string[]): Promise<unknown>;
  /** Runs a script, sent in full. */
  eval(script: string, numberOfKeys: number, ...args: string[]): Promise<unknown>;
  /** Listens on channels. It is called on duplicates only. */
  subscribe(...channels: string[]): Promise<unknown>;
  /** Another client with the same settings. */
  duplicate(): unknown;
}

/** A client of node-redis, the package `redis`: from `createClient`, `createCluster` or `createSentinel`. */
export interface NodeRedisClient {
  /** Runs a script that Redis has, with its `keys` and `arguments`. */
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Runs a script, sent in full. */
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Calls `listener` with each message of the channel. It is called on duplicates, or on a sentinel's client itself. */
  subscribe(channel: string, listener: (message: string, channel: string) => void): Promise<unknown>;
  /** Another client with the same settings. */
  duplicate(): unknown;
  /** Tells of errors, connections and changes of the topology. */
  on(event: string, listener: (...args: unknown[]) => void): unknown;
}

/** A pool of such clients: from `createClientPool`. */
export interface NodeRedisPool {
  /** Runs a script that Redis has, with its `keys` and `arguments`. */
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Runs a script, sent in full. */
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Lends a client, of which a duplicate is made for the messages. */
  execute(fn: (client: NodeRedisClient) => unknown): Promise<unknown>;
}

/** Any other client, in the least words. */
export interface RedisCommands {
  /** Runs a Lua script. Numbers in the reply may come as numbers, all else as strings and arrays. */
  eval(script: string, keys: string[], args: string[]): Promise<unknown>;
  /** Calls `listener` with each message of the channel, until the end of the program. */
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
}

/** What `createClient` of the package `redis` takes: a `url`, or a `socket` with host and port or a path, and the rest. */
export interface RedisClientOptions {
  /** Where Redis is, such as `redis://localhost:6379`; also `rediss:` and `unix:`. */
  url?: string;
  /** Passed on as it is. */
  [option: string]: unknown;
}

/** The connection to Redis: a client that the user has, or the options for one of ours. */
export type RedisConnection = IoredisClient | NodeRedisClient | NodeRedisPool | RedisCommands | RedisClientOptions;

const ignore = (): void => {};

/** A script, and what Redis calls it. */
export class Script {
  readonly source: string;
  #sha: Promise<string | undefined> | undefined;

  constructor(source: string) {
    this.source = source;
  }

  /** Its SHA-1 in hexadecimal, as Redis names scripts; `undefined` where the platform cannot tell. */
  get sha(): Promise<string | undefined> {
    return (this.#sha ??= this.#hash().catch(() => undefined));
  }

  async #hash(): Promise<string> {
    const digest = await crypto.subtle.digest('SHA-1', new TextEncoder().encode(this.source));
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
  }
}

/** What the gate needs of a client. */
export interface Driver {
  run(script: Script, keys: string[], args: string[]): Promise<unknown>;
  /** Listens on `channel` until it is closed. Whenever that begins, messages may have been lost: `missed` is called. */
  listen(channel: string, listener: Listener, missed: () => void): void;
  /** Ends the connections that are ours, and leaves no trace on others. */
  close(): void;
}

type Listener = (message: string) => void;

/** Runs by name what Redis has seen before, and in full what it has not, or not since it was restarted. */
async function evaluate(
  script: Script,
  bySha: (sha: string) => Promise<unknown>,
  inFull: () => Promise<unknown>,
): Promise<unknown> {
  const sha = await script.sha;
  if (sha === undefined) return inFull();
  try {
    return await bySha(sha);
  } catch (error) {
    if ((error as { message?: string } | undefined)?.message?.startsWith('NOSCRIPT') !== true) throw error;
    return inFull();
  }
}

/** The driver for `connection`. Nothing is connected before it is used. @throws {TypeError} It is no client. */
export function driverFor(connection: RedisConnection): Driver {
  const client = connection as
    Partial<IoredisClient & NodeRedisClient & NodeRedisPool & RedisCommands> | null | undefined;
  if (typeof client !== 'object' || client === null)
    throw invalid('client', 'a Redis client, or options for one', client);
  const has = (...names: (keyof typeof client)[]): boolean => names.every((name) => typeof client[name] === 'function');
  if (has('evalSha', 'duplicate') || has('evalSha', 'execute'))
    return nodeRedis(client as NodeRedisClient | NodeRedisPool);
  if (has('evalsha', 'duplicate')) return ioredis(client as IoredisClient);
  if (has('eval', 'subscribe')) return custom(client as RedisCommands);
  if ('socket' in client) return fromOptions(client);
  if ('url' in client) {
    if (typeof client.url !== 'string' || !/^(rediss?|unix):/.test(client.url))
      throw invalid('client.url', 'a URL such as redis://localhost:6379', client.url);
    return fromOptions(client as RedisClientOptions);
  }
  throw new TypeError(
    'client must be an ioredis or node-redis client, { url }, or an object with eval(script, keys, args) and subscribe(channel, listener)',
  );
}

/** One subscription: whether it is there yet, and how to end it. */
interface Subscription {
  readonly begun: Promise<unknown>;
  readonly end: () => void;
}

/** Begins a subscription, and calls `lost` when it has ended by itself, or may have missed something. */
type Subscribe = (lost: () => void) => Subscription | Promise<Subscription>;

/** Milliseconds until a subscription that was lost is replaced: the first time, at most, and by chance on top of it. */
const FIRST_PAUSE = 50;
const LAST_PAUSE = 1_000;
const JITTER = 100;

/** Keeps a subscription: whenever one fails or is lost, another one takes its place. Returns how to stop that. */
function keep(subscribe: Subscribe, missed: () => void): () => void {
  let failures = 0;
  let stopped = false;
  let stop = ignore;
  const begin = async (): Promise<void> => {
    let over = false;
    let end = ignore;
    const lost = (): void => {
      if (over) return;
      over = true;
      end();
      if (stopped) return;
      const timer: unknown = setTimeout(
        () => void begin(),
        Math.min(LAST_PAUSE, FIRST_PAUSE * 2 ** failures++) + Math.random() * JITTER,
      );
      // It is no reason for the process to stay.
      (timer as { unref?(): void }).unref?.();
    };
    stop = lost;
    if (stopped) return;
    try {
      const subscription = await subscribe(lost);
      ({ end } = subscription);
      if (over) end();
      await subscription.begun;
      if (over) return;
      failures = 0;
      missed();
    } catch {
      lost();
    }
  };
  void begin();
  return () => {
    stopped = true;
    stop();
  };
}

/** As much of an emitter as is used here. */
interface Emitter {
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  off(event: string, listener: (...args: unknown[]) => void): unknown;
}

/** Calls `listener` on those events. Returns how to stop that. */
function on(emitter: Emitter, events: string[], listener: () => void): () => void {
  for (const event of events) emitter.on(event, listener);
  return () => {
    for (const event of events) emitter.off(event, listener);
  };
}

interface IoredisNode extends Emitter {
  duplicate(options: object): IoredisNode;
  subscribe(channel: string): Promise<unknown>;
  disconnect(): void;
  readonly status: string;
  readonly stream?: { unref?(): void };
}

function ioredis(client: IoredisClient): Driver {
  let stop = ignore;
  return {
    run: (script, keys, args) =>
      evaluate(
        script,
        (sha) => client.evalsha(sha, keys.length, ...keys, ...args),
        () => client.eval(script.source, keys.length, ...keys, ...args),
      ),
    listen(channel, listener, missed) {
      stop = keep((lost) => {
        // What is published in a cluster is heard at each of its nodes.
        const cluster =
          'nodes' in client ? (client as IoredisClient & Emitter & { nodes(): IoredisNode[] }) : undefined;
        const nodes = cluster?.nodes() ?? [client as IoredisClient & IoredisNode];
        const node = nodes[Math.floor(Math.random() * nodes.length)];
        if (node === undefined) throw new Error('the cluster has no nodes yet');
        const own = node.duplicate({ retryStrategy: null, enableOfflineQueue: true });
        own.on('error', ignore);
        own.on('connect', () => own.stream?.unref?.());
        own.on('end', lost);
        own.on('message', (from, message) => {
          if (from === channel) listener(message as string);
        });
        const forget = cluster === undefined ? ignore : on(cluster, ['-node'], lost);
        const end = (): void => {
          forget();
          // Told so once it has ended, it would begin anew, and hold the process.
          if (own.status !== 'end') own.disconnect();
        };
        return { begun: own.subscribe(channel), end };
      }, missed);
    },
    close: () => stop(),
  };
}

interface NodeRedisNode extends NodeRedisClient {
  duplicate(): NodeRedisNode;
  connect(): Promise<unknown>;
  unref(): void;
  destroy(): void;
  readonly isOpen: boolean;
}

interface NodeRedisCluster extends NodeRedisClient, Emitter {
  getRandomNode(): unknown;
  nodeClient(node: unknown): Promise<NodeRedisNode>;
}

interface NodeRedisSentinel extends NodeRedisClient, Emitter {
  unsubscribe(channel: string, listener: Listener): Promise<unknown>;
  readonly isOpen: boolean;
}

function nodeRedis(client: NodeRedisClient | NodeRedisPool): Driver {
  // The replies are to be strings, whatever the user has them mapped to.
  const plain = (client as { withTypeMapping?(mapping: object): NodeRedisClient }).withTypeMapping?.({}) ?? client;
  let stop = ignore;
  return {
    run: (script, keys, args) =>
      evaluate(
        script,
        (sha) => plain.evalSha(sha, { keys, arguments: args }),
        () => plain.eval(script.source, { keys, arguments: args }),
      ),
    listen(channel, listener, missed) {
      stop = keep(subscriptionOf(client, channel, listener, missed), missed);
    },
    close: () => stop(),
  };
}

/** How to subscribe through `client`. */
function subscriptionOf(
  client: NodeRedisClient | NodeRedisPool,
  channel: string,
  listener: Listener,
  missed: () => void,
): Subscribe {
  const through = (own: NodeRedisNode, forget: () => void, lost: () => void): Subscription => {
    let ended = false;
    const end = (): void => {
      ended = true;
      forget();
      try {
        own.destroy();
      } catch {
        // It has ended already.
      }
    };
    own.unref();
    own.on('error', lost);
    // One that was just connecting, or connecting anew, does so all the same.
    own.on('ready', () => {
      if (ended) end();
    });
    return { begun: own.connect().then(() => own.subscribe(channel, listener)), end };
  };
  if ('unref' in client) return (lost) => through((client as NodeRedisNode).duplicate(), ignore, lost);
  if ('execute' in client)
    return async (lost) => through((await client.execute((node) => node.duplicate())) as NodeRedisNode, ignore, lost);
  if ('nodeClient' in client) {
    // What is published in a cluster is heard at each of its nodes.
    const cluster = client as NodeRedisCluster;
    return async (lost) =>
      through(
        (await cluster.nodeClient(cluster.getRandomNode())).duplicate(),
        on(cluster, ['node-disconnect'], lost),
        lost,
      );
  }
  // A sentinel takes its subscriptions to each new master by itself. It does not say whether it has; asked again, it does.
  const sentinel = client as NodeRedisSentinel;
  return (lost) => {
    if (!sentinel.isOpen) throw new Error('the client is not connected');
    const forget = on(
      sentinel,
      ['topology-change', 'ready'],
      () => void sentinel.subscribe(channel, listener).then(missed, lost),
    );
    const end = (): void => {
      forget();
      // Closed, it would connect anew for that.
      if (sentinel.isOpen) sentinel.unsubscribe(channel, listener).catch(ignore);
    };
    return { begun: sentinel.subscribe(channel, listener), end };
  };
}

function custom(client: RedisCommands): Driver {
  let stop = ignore;
  return {
    run: (script, keys, args) => client.eval(script.source, keys, args),
    listen(channel, listener, missed) {
      stop = keep(() => ({ begun: client.subscribe(channel, listener), end: ignore }), missed);
    },
    close: () => stop(),
  };
}

/** A client of our own, made when it is first needed. */
function fromOptions(options: RedisClientOptions): Driver {
  let made: Promise<NodeRedisNode> | undefined;
  let connecting: Promise<unknown> | undefined;
  let closed = false;
  let stop = ignore;
  const make = async (): Promise<NodeRedisNode> => {
    const { createClient } = await import('redis').catch((cause: unknown) => {
      throw new Error('client: { url } needs the package "redis": npm install redis, or pass a client that you have', {
        cause,
      });
    });
    // Whoever needs it connects it, again if need be, and hears why that fails.
    const client = createClient({
      ...options,
      socket: { reconnectStrategy: false, ...(options['socket'] as object | undefined) } as {
        reconnectStrategy: false;
      },
    }) as unknown as NodeRedisNode;
    client.on('error', ignore);
    // Whoever waits for something has a timer for that: the process stays for those.
    client.unref();
    return client;
  };
  const get = (): Promise<NodeRedisNode> => {
    if (closed) return Promise.reject(new Error('the connection is closed'));
    made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
  return {
    async run(script, keys, args) {
      const client = await get();
      if (!client.isOpen && !closed) connecting = client.connect();
      await connecting;
      return nodeRedis(client).run(script, keys, args);
    },
    listen(channel, listener, missed) {
      stop = keep(async (lost) => subscriptionOf(await get(), channel, listener, missed)(lost), missed);
    },
    close() {
      closed = true;
      stop();
      made?.then((client) => client.destroy()).catch(ignore);
    },
  };
}
