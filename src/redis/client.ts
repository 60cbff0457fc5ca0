/** The Redis clients that a gate accepts. Clients are recognised by their methods, never by the name of their class. */

/** A client of ioredis, or one with the same methods: `Redis` (sentinels included) or `Cluster`. */
export interface IoredisClient {
  /** Runs a script that Redis has cached. */
  evalsha(sha: string, numberOfKeys: number, ...args: string[]): Promise<unknown>;
  /** Runs a script whose full text is sent. */
  eval(script: string, numberOfKeys: number, ...args: string[]): Promise<unknown>;
  /** Subscribes to channels. A gate calls it on duplicates only. */
  subscribe(...channels: string[]): Promise<unknown>;
  /** Creates another client with the same settings. */
  duplicate(): unknown;
}

/** A client of node-redis, the package `redis`: from `createClient`, `createCluster` or `createSentinel`. */
export interface NodeRedisClient {
  /** Runs a script that Redis has cached, with its `keys` and `arguments`. */
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Runs a script whose full text is sent. */
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /**
   * Calls `listener` with each message of the channel. A gate calls it on duplicates; with a sentinel, on the client
   * itself.
   */
  subscribe(channel: string, listener: (message: string, channel: string) => void): Promise<unknown>;
  /** Creates another client with the same settings. */
  duplicate(): unknown;
  /** Adds a listener for errors, connections or changes of the topology. */
  on(event: string, listener: (...args: unknown[]) => void): unknown;
}

/** A pool of node-redis clients: from `createClientPool`. */
export interface NodeRedisPool {
  /** Runs a script that Redis has cached, with its `keys` and `arguments`. */
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Runs a script whose full text is sent. */
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Calls `fn` with a client of the pool. A gate duplicates this client to receive messages. */
  execute(fn: (client: NodeRedisClient) => unknown): Promise<unknown>;
}

/** Any other client: the two methods that a gate needs. */
export interface RedisCommands {
  /** Runs a Lua script. Numbers in the reply may be numbers or strings; all other values are strings and arrays. */
  eval(script: string, keys: string[], args: string[]): Promise<unknown>;
  /** Calls `listener` with each message of the channel, until the program ends. */
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
}

/**
 * The options of `createClient` of the package `redis`: a `url`, or a `socket` with host and port or a path. Gates
 * whose options are equal plain data share a client.
 */
export interface RedisClientOptions {
  /** The address of Redis, such as `redis://localhost:6379`; also `rediss:` and `unix:`. */
  url?: string;
  /** Any other option of `createClient`, passed on unchanged. */
  [option: string]: unknown;
}

/** The connection to Redis: an existing client, or the options with which a gate creates a client of its own. */
export type RedisConnection = IoredisClient | NodeRedisClient | NodeRedisPool | RedisCommands | RedisClientOptions;
