/**
 * The parts of each peer that the bench uses. So the type check works without bench/node_modules.
 */
declare module 'p-limit' {
  export default function pLimit(concurrency: number): <T>(fn: () => PromiseLike<T>) => Promise<T>;
}

declare module 'p-queue' {
  export default class PQueue {
    constructor(options: { concurrency?: number; intervalCap?: number; interval?: number; strict?: boolean });
    add<T>(fn: () => PromiseLike<T>, options?: { signal: AbortSignal }): Promise<T>;
  }
}

declare module 'p-throttle' {
  export default function pThrottle(options: {
    limit: number;
    interval: number;
    strict?: boolean;
    weight?: () => number;
  }): <F extends (...args: never[]) => unknown>(fn: F) => F;
}

declare module 'async-sema' {
  export class Sema {
    constructor(slots: number);
    acquire(): Promise<unknown>;
    tryAcquire(): unknown;
    release(): void;
  }
}

declare module 'async-mutex' {
  export class Semaphore {
    constructor(slots: number);
    acquire(): Promise<[value: number, release: () => void]>;
    runExclusive<T>(fn: () => PromiseLike<T>): Promise<T>;
  }
}

declare module 'limiter' {
  export class RateLimiter {
    constructor(options: { tokensPerInterval: number; interval: number | 'second' });
    removeTokens(count: number): Promise<number>;
    tryRemoveTokens(count: number): boolean;
  }

  export class TokenBucket {
    constructor(options: { bucketSize: number; tokensPerInterval: number; interval: 'second' });
    removeTokens(count: number): Promise<number>;
  }
}

declare module 'bottleneck' {
  export default class Bottleneck {
    constructor(options: {
      maxConcurrent?: number;
      minTime?: number;
      reservoir?: number;
      reservoirIncreaseAmount?: number;
      reservoirIncreaseInterval?: number;
      reservoirIncreaseMaximum?: number;
      reservoirRefreshAmount?: number;
      reservoirRefreshInterval?: number;
    });
    schedule<T>(fn: () => PromiseLike<T>): Promise<T>;
    schedule<T>(options: { weight: number }, fn: () => PromiseLike<T>): Promise<T>;
    incrementReservoir(amount: number): Promise<number>;
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
