/**
 * The recipes of the chapter for what headgate lacks. Each exported declaration is in the chapter word for word: a test
 * compares them.
 */
import { type Gate, Resource, type Throttle } from 'headgate';

/** Starts the waiting job with the highest priority first. Jobs of one priority keep their order. */
export class PrioritizedGate {
  readonly jobs: { priority: number; start: () => Promise<unknown> }[] = [];
  readonly gate: Gate;

  constructor(gate: Gate) {
    this.gate = gate;
  }

  run<T>(fn: () => T | PromiseLike<T>, priority = 0): Promise<T> {
    return new Promise((resolve, reject) => {
      const start = async (): Promise<unknown> => {
        const result = (async () => fn())();
        resolve(result);
        return result;
      };
      const index = this.jobs.findLastIndex((job) => job.priority >= priority);
      this.jobs.splice(index + 1, 0, { priority, start });
      // A permit belongs to no job: it starts the best of the waiting jobs.
      this.gate.run(() => this.jobs.shift()?.start()).catch(reject);
    });
  }
}

/** Lends each job one of several items. */
export class Pool<Item> {
  readonly free: Item[];
  readonly gate: Gate;

  constructor(items: readonly Item[]) {
    this.free = [...items];
    this.gate = new Resource(items.length);
  }

  run<T>(fn: (item: Item) => T | PromiseLike<T>): Promise<T> {
    return this.gate.run(async () => {
      const item = this.free.pop() as Item;
      try {
        return await fn(item);
      } finally {
        this.free.push(item);
      }
    });
  }
}

/** At most `size` jobs wait. A new job replaces the job that has waited longest, which rejects. */
export class LeakyGate {
  readonly waiting: Set<AbortController> = new Set();
  readonly gate: Throttle;
  readonly size: number;

  constructor(gate: Throttle, size: number) {
    this.gate = gate;
    this.size = size;
  }

  run<T>(fn: () => T | PromiseLike<T>): Promise<T> {
    const [oldest] = this.waiting;
    if (this.gate.waiting >= this.size) oldest?.abort(new Error('a newer job has replaced this job'));
    const controller = new AbortController();
    const { signal } = controller;
    const leave = (): boolean => this.waiting.delete(controller);
    signal.addEventListener('abort', leave);
    const before = this.gate.waiting;
    const start = (): T | PromiseLike<T> => {
      leave();
      return fn();
    };
    const result = this.gate.run(start, 1, { signal });
    if (this.gate.waiting > before) this.waiting.add(controller);
    return result;
  }
}

/** Runs `fn` again after each failure: after `waits[0]` seconds, then after `waits[1]` seconds, and so on. */
export async function retry<T>(fn: () => T | PromiseLike<T>, waits: readonly number[]): Promise<T> {
  for (const wait of waits) {
    try {
      return await fn();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, wait * 1_000));
    }
  }
  return fn();
}

/** Sends items in batches of at most `size`: the items that have arrived when the gate grants a permit. */
export class Batcher<Item> {
  readonly gate: Gate;
  readonly size: number;
  readonly send: (items: Item[]) => unknown;
  /** The batch that takes new items. */
  open: { items: Item[]; sent: Promise<unknown> } | undefined;

  constructor(gate: Gate, size: number, send: (items: Item[]) => unknown) {
    this.gate = gate;
    this.size = size;
    this.send = send;
  }

  async add(item: Item): Promise<void> {
    if (this.open === undefined || this.open.items.length >= this.size) {
      const items: Item[] = [];
      const sent = this.gate.run(() => {
        if (this.open?.items === items) this.open = undefined;
        return this.send(items);
      });
      this.open = { items, sent };
    }
    this.open.items.push(item);
    await this.open.sent;
  }
}

/** Refuses all waiters when `size` jobs wait already, and then all calls until `seconds` have passed without a call. */
export class BlockingGate {
  readonly gate: Throttle;
  readonly size: number;
  readonly seconds: number;
  blockedUntil = 0;

  constructor(gate: Throttle, size: number, seconds: number) {
    this.gate = gate;
    this.size = size;
    this.seconds = seconds;
  }

  async run<T>(fn: () => T | PromiseLike<T>): Promise<T> {
    const now = performance.now() / 1_000;
    if (this.gate.waiting < this.size && now >= this.blockedUntil) return this.gate.run(fn);
    this.blockedUntil = now + this.seconds;
    const error = new Error('the gate is blocked');
    this.gate.clear(error);
    throw error;
  }
}
