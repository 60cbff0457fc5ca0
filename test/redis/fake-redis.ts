/**
 * A Redis for fast tests. It keeps gates without a rate and applies batches to them, see {@link FakeGate}. Each process
 * of a test has a client of its own, whose requests, replies and messages the test can lose.
 */
import type { RedisCommands } from 'headgate/redis';
import { headerOf, wordsOf } from './batch-words.js';
import { FakeGate, Step } from './fake-gate.js';

/** The connections of one process to a {@link FakeRedis}. */
export class FakeClient implements RedisCommands {
  /** The commands of each call, in the order of the calls. */
  readonly calls: string[] = [];
  /** Whether Redis receives no request, sends no reply, or sends no message. The client then reports an error. */
  losesRequests = false;
  losesReplies = false;
  losesMessages = false;
  readonly #redis: FakeRedis;

  constructor(redis: FakeRedis) {
    this.#redis = redis;
  }

  async eval(_script: string, keys: string[], args: string[]): Promise<string> {
    this.calls.push(wordsOf(args).join(' '));
    if (this.losesRequests) throw new Error('the connection is closed');
    const reply = this.#redis.step(keys[0] as string, args);
    if (this.losesReplies) throw new Error('the connection was closed');
    return reply;
  }

  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    this.#redis.subscribe(channel, (message) => {
      if (!this.losesMessages) listener(message);
    });
  }

  /** The process is gone: nothing reaches Redis or the process any more. */
  crash(): void {
    this.losesRequests = this.losesReplies = this.losesMessages = true;
  }
}

export class FakeRedis {
  readonly #clock: { now(): number };
  readonly #gates = new Map<string, FakeGate>();
  readonly #listeners = new Map<string, (message: string) => void>();

  /** @param clock The clock of the server, in seconds. */
  constructor(clock: { now(): number }) {
    this.#clock = clock;
  }

  /** The state of the only gate. */
  get gate(): FakeGate {
    const [gate] = this.#gates.values();
    if (gate === undefined) throw new Error('no gate has been used');
    return gate;
  }

  /** Applies a batch. */
  step(key: string, args: string[]): string {
    const { owner, number, ttl, limit, rate, flags, maxQueue } = headerOf(args);
    if (!rate.startsWith('-1 ')) throw new Error('ERR the fake has no rate');
    const now = Math.round(this.#clock.now() * 1e6);
    const gate = this.#gates.get(key) ?? new FakeGate(now);
    this.#gates.set(key, gate);
    const messages = new Map<string, string[]>();
    const step = new Step(gate, now, owner, Number(maxQueue), (receiver, event) => {
      const events = messages.get(receiver) ?? [];
      messages.set(receiver, events);
      if (event !== undefined) events.push(event);
    });
    const reply = step.run(Number(number), Number(ttl), Number(limit), flags, wordsOf(args));
    for (const [receiver, events] of messages) this.#send(receiver, events);
    return reply;
  }

  /** Resets all gates: every lease and every place is lost, and the owners are notified. */
  reset(): void {
    const owners: string[] = [];
    for (const gate of this.#gates.values()) owners.push(...gate.owners.keys());
    this.loseState();
    for (const owner of owners) this.#send(owner, ['Z']);
  }

  /** Loses the whole state without notice. */
  loseState(): void {
    this.#gates.clear();
  }

  subscribe(channel: string, listener: (message: string) => void): void {
    this.#listeners.set(channel, listener);
  }

  #send(owner: string, events: readonly string[]): void {
    const [connection, instance] = owner.split('.');
    const listener = this.#listeners.get(`headgate:${connection}`);
    queueMicrotask(() => listener?.([instance, ...events].join('\n')));
  }
}
