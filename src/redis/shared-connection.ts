/**
 * The state that all throttles on one client share in a process: the driver, the channel on which the process receives
 * messages, and whether Redis failed the last call.
 */
import type { RedisConnection } from './client.js';
import { createDriver } from './drivers/create-driver.js';
import type { Driver } from './drivers/driver.js';
import { messageOf } from './errors.js';
import type { Script } from './script.js';
import type { SteadyClock } from './steady-clock.js';

/** The receiver of the events of one throttle. */
export interface EventSink {
  /** Applies the events of one message. */
  applyEvents(events: string[]): void;
  /** Restores a consistent state after a gap, in which messages may have been lost. */
  reconcile(): void;
}

/** Seconds between two probes of a failed Redis, while no caller waits for its reply. */
const PROBE_SECONDS = 1;

const connections = new WeakMap<object, SharedConnection>();
/** Throttles that were given the same URL, and no other option, share a client. */
const connectionsByUrl = new Map<string, SharedConnection>();

/** Returns the shared connection of a client, and creates it for the first throttle on the client. */
export function sharedConnection(client: RedisConnection): SharedConnection {
  const url =
    typeof client === 'object' && client !== null && Object.keys(client).join() === 'url'
      ? (client as { url: string }).url
      : undefined;
  const known = url === undefined ? connections.get(client) : connectionsByUrl.get(url);
  if (known !== undefined) return known;
  const connection: SharedConnection = new SharedConnection(createDriver(client), () =>
    url === undefined ? connections.delete(client) : connectionsByUrl.delete(url),
  );
  if (url === undefined) connections.set(client, connection);
  else connectionsByUrl.set(url, connection);
  return connection;
}

export class SharedConnection {
  readonly #driver: Driver;
  readonly #onClose: () => void;
  /** Unique among all processes. Created on first use: some platforms forbid random numbers at import. */
  #id: string | undefined;
  #owners = 0;
  #users = 0;
  /** The throttles that hold a permit, wait for one, or have a call under way. */
  readonly #sinks = new Map<string, EventSink>();
  #listening = false;
  #downUntil: number | undefined;
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
    this.#listen();
  }

  unregister(owner: string): void {
    this.#sinks.delete(owner.slice(owner.indexOf('.') + 1));
  }

  distrustMessages(): void {}

  /** Returns whether Redis failed the last call. At most once per second, it then calls `probe` to try Redis again. */
  isDown(_key: string, now: number, probe: () => void): boolean {
    if (this.#downUntil === undefined) return false;
    if (now >= this.#downUntil) {
      this.#downUntil = now + PROBE_SECONDS;
      probe();
    }
    return true;
  }

  /**
   * Runs a script, and rejects after `timeout` seconds without a reply.
   *
   * @param onLateReply Called when the reply arrives after the timeout: Redis is back.
   */
  call(
    script: Script,
    keys: string[],
    args: string[],
    clock: SteadyClock,
    timeout: number,
    onLateReply: () => void,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let pending = true;
      const end = (): boolean => {
        const first = pending;
        pending = false;
        cancel();
        return first;
      };
      const fail = (error: unknown): void => {
        if (!end()) return;
        // WRONGTYPE concerns one key only, and proves that Redis replies.
        if (!messageOf(error).includes('WRONGTYPE')) this.#downUntil = clock.now() + PROBE_SECONDS;
        reject(error);
      };
      const cancel = clock.schedule(timeout, () => fail(new Error(`no reply within ${timeout} s`)));
      const succeed = (reply: unknown): void => {
        this.#downUntil = undefined;
        if (end()) resolve(reply);
        else onLateReply();
      };
      try {
        // A custom client may return a plain value, or a thenable that settles twice.
        Promise.resolve(this.#driver.run(script, keys, args)).then(succeed, fail);
      } catch (error) {
        fail(error);
      }
    });
  }

  /** Subscribes to the channel of this process. After each gap, every throttle restores its state. */
  #listen(): void {
    if (this.#listening) return;
    this.#listening = true;
    this.#driver.listen(
      `headgate:${this.#id}`,
      (message) => this.#dispatch(message),
      () => {
        for (const sink of this.#sinks.values()) sink.reconcile();
      },
    );
  }

  /** Passes the events of a message on: the first line names the throttle, each further line is an event. */
  #dispatch(message: unknown): void {
    // A custom client may deliver a value that is not a string: it counts as a lost message.
    if (typeof message !== 'string') return;
    const [instance = '', ...events] = message.split('\n');
    this.#sinks.get(instance)?.applyEvents(events);
  }
}
