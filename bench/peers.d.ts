/**
 * The parts that the bench uses of each peer that only `bench/package.json` lists. So the type check works without
 * `bench/node_modules`. Peers that the tests use too have their own types.
 */
declare module 'async-mutex' {
  export class Semaphore {
    constructor(slots: number);
    acquire(): Promise<[value: number, release: () => void]>;
    runExclusive<T>(fn: () => PromiseLike<T>): Promise<T>;
  }
}

declare module 'redis-semaphore' {
  import type { Redis } from 'ioredis';

  export class Semaphore {
    constructor(client: Redis, key: string, limit: number, options: { acquireTimeout: number });
    acquire(): Promise<void>;
    release(): Promise<void>;
  }
}
