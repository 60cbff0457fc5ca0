/**
 * The registration of one throttle object for the messages of Redis. It begins before the first command is sent, and
 * ends when nothing is held, no call waits and Redis has confirmed everything. Meanwhile the connection delivers the
 * messages for one owner name: the name of the present epoch.
 */
import type { Outbox } from './outbox.js';
import type { Permission } from './permission.js';
import type { Renewal } from './renewal.js';
import type { EventSink, SharedConnection } from './shared-connection.js';

export class Registration {
  readonly #sink: EventSink;
  readonly #connection: Pick<SharedConnection, 'createOwner' | 'register' | 'unregister'>;
  readonly #outbox: Pick<Outbox, 'name' | 'forget'>;
  readonly #renewal: Pick<Renewal, 'safeUntil' | 'begin'>;
  readonly #permission: Pick<Permission, 'drop'>;
  #isActive = false;
  /** The owner name whose messages are received; empty for none. */
  #owner = '';

  constructor(
    sink: EventSink,
    connection: Pick<SharedConnection, 'createOwner' | 'register' | 'unregister'>,
    outbox: Pick<Outbox, 'name' | 'forget'>,
    renewal: Pick<Renewal, 'safeUntil' | 'begin'>,
    permission: Pick<Permission, 'drop'>,
  ) {
    this.#sink = sink;
    this.#connection = connection;
    this.#outbox = outbox;
    this.#renewal = renewal;
    this.#permission = permission;
  }

  get isActive(): boolean {
    return this.#isActive;
  }

  /** Receives messages from now on, before the first command is sent. Has no effect on an active registration. */
  begin(now: number): void {
    if (this.#isActive) return;
    this.#isActive = true;
    // After a long silence, Redis has forgotten the owner, or is about to.
    if (now >= this.#renewal.safeUntil) this.#outbox.forget();
    this.#listenTo(this.#outbox.name);
    this.#renewal.begin(now);
  }

  /** Begins an epoch: creates an owner name, and receives the messages for this name only. */
  beginEpoch(): string {
    this.#listenTo(this.#connection.createOwner());
    this.#permission.drop();
    return this.#owner;
  }

  /** Receives no more messages. Redis could then withdraw a permission unnoticed, so the permission is dropped. */
  end(): void {
    this.#isActive = false;
    this.#permission.drop();
    this.#listenTo('');
  }

  /** @param owner Empty to receive no messages. */
  #listenTo(owner: string): void {
    if (this.#owner !== '') this.#connection.unregister(this.#owner);
    this.#owner = owner;
    if (owner !== '') this.#connection.register(owner, this.#sink);
  }
}
