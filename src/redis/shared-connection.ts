/**
 * The state that all throttles on one client share in a process: the driver, the channel on which the process receives
 * messages, the calls in flight, and the outages of Redis.
 */
import { CallQueue, type ScriptCall } from './call-queue.js';
import type { RedisConnection } from './client.js';
import { findShared } from './connections.js';
import { createDriver } from './drivers/create-driver.js';
import type { Driver, Listening } from './drivers/driver.js';
import { channelError, isRefusal } from './errors.js';
import { Outages } from './outages.js';

/** The receiver of the events of one throttle. */
export interface EventSink {
  /** Applies the events of one message. Without an event, the message is the echo of a check. */
  applyEvents(events: string[]): void;
  /** Restores a consistent state after a gap, in which messages may have been lost. */
  reconcile(): void;
}

/** The name of the only connection among the outages. A key of a throttle starts with a brace. */
const ONLY = 'connection';
/** Seconds within which Redis must reply to a ping, before the first call has set a timeout. */
const FIRST_TIMEOUT = 2;

/**
 * Returns the shared connection of a client, and creates it for the first throttle on the client. Equal plain options
 * of a client that headgate creates share a connection, too.
 */
export const sharedConnection = (client: RedisConnection): SharedConnection =>
  findShared(client, (onClose) => new SharedConnection(createDriver(client), onClose));

export class SharedConnection {
  readonly #driver: Driver;
  readonly #onClose: () => void;
  /** Unique among all processes. Created on first use: some platforms forbid random numbers at import. */
  #id: string | undefined;
  #owners = 0;
  #users = 0;
  /** The throttles that hold a permit, wait for one, or have a call under way. */
  readonly #sinks = new Map<string, EventSink>();
  #listening: Listening | undefined;
  readonly #outages = new Outages();
  /** One queue for the connection; in a cluster, one for each node. */
  readonly #queues = new Map<string, CallQueue>();
  #latestKey: string | undefined;
  #latestTimeout = FIRST_TIMEOUT;
  /** Why Redis has refused the subscription, until a call has reported it. */
  #refusal: Error | undefined;
  #refusalReported = false;
  /** Whether the script has published on the channel of this process. Until then, each batch checks the permission. */
  mayPublish = false;

  constructor(driver: Driver, onClose: () => void) {
    this.#driver = driver;
    this.#onClose = onClose;
  }

  /** Counts one more throttle that uses the connection. */
  retain(): void {
    this.#users++;
  }

  /** Counts one throttle less. The last one closes the connections that headgate has opened. */
  release(): void {
    if (--this.#users > 0) return;
    this.#onClose();
    this.#driver.close();
  }

  /** Creates an owner name, `connection.instance`, which is unique among the throttles of all processes. */
  createOwner(): string {
    this.#id ??= Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => (byte % 36).toString(36)).join('');
    return `${this.#id}.${(this.#owners++).toString(36)}`;
  }

  /** Delivers the messages for `owner`, a name of {@link SharedConnection.createOwner}, to `sink` from now on. */
  register(owner: string, sink: EventSink): void {
    this.#sinks.set(owner.slice(owner.indexOf('.') + 1), sink);
  }

  unregister(owner: string): void {
    this.#sinks.delete(owner.slice(owner.indexOf('.') + 1));
  }

  /**
   * Returns whether Redis fails for the throttle whose state has the name `key`. At most once per second, it then calls
   * `probe` to try Redis again.
   */
  isDown(key: string, now: number, probe: () => void): boolean {
    return this.#outages.includes(this.#connectionOf(key), now, probe) || this.#outages.includes(key, now, probe);
  }

  /**
   * Runs a script. The promise rejects after the timeout of the call. Before it is sent, the call may wait in this
   * process until fewer calls are in flight.
   */
  call(request: ScriptCall): Promise<unknown> {
    const { timeout } = request;
    const key = request.keys[0] as string;
    this.#latestTimeout = timeout;
    if (this.#listening === undefined && this.#sinks.size > 0) this.#listen(key);
    if (this.#refusal !== undefined && !this.#refusalReported) {
      this.#refusalReported = true;
      return Promise.reject(this.#refusal);
    }
    const name = this.#connectionOf(key);
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = new CallQueue(this.#driver, this.#outages, name, (served) => (this.#latestKey = served));
      this.#queues.set(name, queue);
    }
    return queue.call(request);
  }

  /**
   * A reply contains a grant for the second time: its message was lost, or the connection delivers none. Replaces the
   * subscription, at most once per second. Then every throttle restores its state (FAULTS 56).
   */
  distrustMessages(): void {
    this.#listening?.renew();
  }

  #connectionOf(key: string): string {
    return this.#driver.nodeOf?.(key) ?? ONLY;
  }

  /** Subscribes to the channel of this process. After each gap, every throttle restores its state. */
  #listen(key: string): void {
    this.#latestKey = key;
    this.#listening = this.#driver.listen(`headgate:${this.#id}`, {
      onMessage: (message) => this.#dispatch(message),
      onStart: () => {
        this.#refusal = undefined;
        this.#refusalReported = false;
        for (const sink of this.#sinks.values()) sink.reconcile();
      },
      onFailure: (error) => {
        if (isRefusal(error)) this.#refusal ??= channelError(error);
      },
      preferredKey: () => this.#latestKey,
      replyWithin: () => this.#latestTimeout,
      expectsMessages: () => this.#sinks.size > 0,
    });
  }

  /** Passes the events of a message on: the first line names the throttle, each further line is an event. */
  #dispatch(message: unknown): void {
    // A custom client may deliver a value that is not a string: it counts as a lost message.
    if (typeof message !== 'string') return;
    const [instance = '', ...events] = message.split('\n');
    this.#sinks.get(instance)?.applyEvents(events);
  }
}
