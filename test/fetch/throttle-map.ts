/** A keyed gate for tests. Unlike `KeyedThrottle`, it never evicts a key, so that a test can inspect every key. */
import { type AcquireOptions, type KeyedGate, type Permit, Throttle, type ThrottleOptions } from 'headgate';

/** A throttle for each key, created at the first use of the key. */
export class ThrottleMap<K> implements KeyedGate<K> {
  readonly keyed = true;
  readonly throttles: Map<K, Throttle> = new Map<K, Throttle>();
  readonly #options: ThrottleOptions;
  readonly #concurrency: number;

  constructor(options: ThrottleOptions, concurrency = 0) {
    this.#options = options;
    this.#concurrency = concurrency;
  }

  of(key: K): Throttle {
    const throttle = this.throttles.get(key) ?? new Throttle(100, this.#concurrency, 1, this.#options);
    this.throttles.set(key, throttle);
    return throttle;
  }

  acquire = (key: K, cost?: number, options?: AcquireOptions): Promise<Permit> => this.of(key).acquire(cost, options);
  tryAcquire = (key: K, cost?: number): Permit | undefined => this.of(key).tryAcquire(cost);
  run = <T>(key: K, fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T> =>
    this.of(key).run(fn, cost, options);
  pause = (key: K, seconds?: number): void => this.of(key).pause(seconds);
  resume = (key: K): void => this.of(key).resume();
  close = (reason?: unknown): void => this.throttles.forEach((throttle) => throttle.close(reason));
}
