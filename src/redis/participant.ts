/**
 * One throttle object as a participant of the fleet: its calls, its leases, and the decisions of this process. Redis
 * makes all other decisions (`scripts/step.lua`).
 *
 * A renewal (`schedule.ts`) also repairs. It lists the waiters, and Redis repeats the grants whose messages were lost.
 * If Redis does not know this participant any more, `restate` states all leases and waiters anew. So every loss of a
 * message, a connection or a server ends there, and needs no further handling.
 */
import type { Terms } from '../core/cost.js';
import { development } from '../core/development.js';
import type { AcquireOptions } from '../core/gate.js';
import { type Batch, type BatchTerms, type OutboxOwner, serialsOf } from './batch.js';
import type { Charge } from './charge.js';
import { abortReasonOf, type Call, type CallSink, PendingCalls } from './calls.js';
import type { ThrottleBackendError } from './errors.js';
import { EventHandler } from './event-handler.js';
import type { Fallback } from './fallback.js';
import { Holdings } from './holdings.js';
import type { Lease } from './lease.js';
import { timeoutError } from './options.js';
import { Outbox } from './outbox.js';
import type { ParticipantParts } from './participant-parts.js';
import { Permission } from './permission.js';
import { type Command, decodeEvent, Flag, type Reply } from './protocol.js';
import { Registration } from './registration.js';
import { Renewal, SAFE_SHARE } from './renewal.js';
import { Schedule } from './schedule.js';
import type { EventSink } from './shared-connection.js';
import { repeatFirst, stateAll, withoutEnded } from './statement.js';
import type { SteadyClock } from './steady-clock.js';

export class Participant implements CallSink, EventSink, OutboxOwner {
  readonly #parts: ParticipantParts;
  readonly #clock: SteadyClock;
  readonly #calls: PendingCalls;
  readonly #outbox: Outbox;
  readonly #renewal: Renewal;
  readonly #permission: Permission;
  readonly #registration: Registration;
  readonly #holdings: Holdings;
  readonly #events: EventHandler;
  readonly #schedule: Schedule;
  /** The error of the last call of the script, if it failed. */
  #failure: ThrottleBackendError | undefined;
  /** The number of gaps in the messages: starts of the subscription, before which messages may have been lost. */
  #gaps = 0;

  constructor(parts: ParticipantParts) {
    this.#parts = parts;
    this.#clock = parts.clock;
    this.#calls = new PendingCalls(parts.clock, this, parts.onResize);
    const outbox = (this.#outbox = new Outbox(this, parts.ttl));
    const renewal = (this.#renewal = new Renewal(parts.ttl));
    const permission = (this.#permission = new Permission(parts.ttl));
    const registration = new Registration(this, parts.wire.connection, outbox, renewal, permission);
    this.#registration = registration;
    const own = { calls: this.#calls, outbox, renewal, permission, registration };
    this.#holdings = new Holdings(parts, own, () => this.onChange());
    const cancel = (call: Call): void => this.#cancel(call);
    this.#events = new EventHandler(parts, this.#calls, this.#holdings, this.#permission, this.#outbox, cancel);
    this.#schedule = new Schedule(parts.clock, parts.wire.wakeup, this.#holdings, own, () => this.onChange());
  }

  get held(): number {
    return this.#holdings.leases.size;
  }

  get waiting(): number {
    return this.#calls.size;
  }

  /** Whether messages are received: while the participant has a lease, a pending call or an unanswered batch. */
  get isRegistered(): boolean {
    return this.#registration.isActive;
  }

  /** Whether Redis may still know the owner. */
  get isKnown(): boolean {
    return this.isRegistered || (this.#outbox.name !== '' && this.#clock.now() < this.#renewal.safeUntil);
  }

  /** Requests a permit. The promise of a refused `tryAcquire` resolves with `undefined`. */
  acquire(
    cost: number,
    options: AcquireOptions,
    tries: boolean,
    terms?: Terms,
    charge?: Charge,
  ): Promise<Lease | undefined> {
    return new Promise((resolve, reject) => {
      const now = this.#clock.nowOrThrow();
      const call = this.#calls.create(cost, now, options, tries, resolve, reject, terms, charge);
      const { fallback, wire } = this.#parts;
      if (fallback !== undefined && wire.isDown(now, () => this.#probe())) {
        // Another throttle on the connection may have failed first, while calls of this one still wait in Redis.
        this.#moveWaiters(fallback, now);
        development.aids?.queued(this.#parts.face, call, terms?.slots ?? 1);
        return fallback.acquire(call, now);
      }
      if (this.#holdings.reuseLingering(call, now)) return;
      if (options.timeout !== 0) development.aids?.checkNested(this.#parts.face, terms?.slots ?? 1);
      this.#registration.begin(now);
      if (this.#calls.size === 0) this.#renewal.listed(now);
      try {
        // The signal may abort inside its own `addEventListener`.
        if (!this.#calls.add(call)) return;
      } catch (error) {
        reject(error);
        return this.onChange();
      }
      development.aids?.queued(this.#parts.face, call, terms?.slots ?? 1);
      this.#holdings.returnLingering();
      const timeout = options.timeout ?? Infinity;
      this.#outbox.enqueue({ kind: 'acquire', serial: call.serial, cost: call.charge, timeout });
    });
  }

  /** Sends a command, or only the limits, and waits for the reply. The permission is void until then. */
  confirm(command: Command | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#registration.begin(this.#clock.now());
      const unblock = this.#permission.block();
      const onDone = (): void => {
        unblock();
        resolve();
      };
      const onFailed = (error: unknown): void => {
        unblock();
        reject(error);
      };
      this.#holdings.returnLingering();
      this.#outbox.enqueueAndConfirm({ command, onDone, onFailed });
    });
  }

  /** Refuses the waiters for which `errorOf` returns an error. Redis takes back a grant that is on its way to one. */
  refuse(errorOf: (call: Call) => Error | undefined): void {
    for (const call of this.#calls.list()) {
      const error = errorOf(call);
      // A subscriber of a refusal may abort other calls.
      if (error === undefined || !this.#calls.has(call)) continue;
      this.#cancel(call);
      this.#parts.settleWithoutPermit(call, call.tries ? undefined : error);
    }
  }

  /** Ends all calls, and hands nothing on from now on. */
  close(error: Error): void {
    this.#permission.block();
    this.#holdings.returnLingering();
    this.refuse(() => error);
  }

  /** Returns lingering slots, and calls `onIdle` as soon as nothing is left. */
  awaitIdle(): void {
    this.#schedule.isAwaited = true;
    this.#holdings.returnLingering();
    this.onChange();
  }

  /** Sends all commands that wait for the end of the tick. */
  flush(): void {
    this.#outbox.flush();
  }

  // The ends of calls, for `PendingCalls`.

  onAbort(call: Call): void {
    this.#cancel(call);
    this.#parts.settleWithoutPermit(call, abortReasonOf(call.signal), 'aborted');
  }

  onTimeout(call: Call): void {
    // Before the reply, the limits may or may not be the cause: the reply, or its failure, decides the error.
    if (call.ticket === 0) call.overdue = true;
    else {
      this.#cancel(call);
      this.#parts.settleWithoutPermit(call, this.#failure ?? timeoutError(this.#parts.face, call, 0));
    }
  }

  // The messages, for `SharedConnection`.

  applyEvents(lines: string[]): void {
    const now = this.#clock.now();
    // After such a delay, the lease of a grant may have expired. The renewal that is due finds out.
    const isLate = now >= this.#renewal.safeUntil;
    for (const line of lines) {
      const event = decodeEvent(line);
      if (event === undefined || (isLate && event.kind === 'granted')) continue;
      this.#events.apply(event, now);
    }
    this.onChange();
  }

  /** Messages may have been lost. */
  reconcile(): void {
    this.#gaps++;
    this.#listWaiters();
  }

  /** Lists the waiters: Redis repeats lost grants. Without a waiter, a call checks the leases. */
  #listWaiters(): void {
    if (this.#calls.list().some(({ ticket }) => ticket > 0)) this.#schedule.sendWaiters(this.#clock.now());
    // The reply shows whether Redis still knows the leases, and whether released slots may still linger.
    else if (!this.#holdings.leases.isEmpty || this.#outbox.isFailing) this.#outbox.sendNow([]);
  }

  // The batches, for `Outbox`.

  send(batch: Batch): Promise<Reply> {
    batch.gapsBefore = this.#gaps;
    return this.#parts.wire.send(batch, this.#clock.now(), this.#onLateReply);
  }

  beginEpoch(): string {
    return this.#registration.beginEpoch();
  }

  terms(): BatchTerms {
    const { linger, wire } = this.#parts;
    return { flags: linger > 0 ? wire.flags() + Flag.linger : wire.flags(), rate: wire.rate };
  }

  mayEnd(): boolean {
    return this.#calls.size === 0 && this.#holdings.leases.isEmpty && this.#parts.isLeaving();
  }

  restate(): Command[] {
    this.#holdings.checkExpiry();
    const commands = stateAll(this.#holdings.leases.grants(), this.#calls.list());
    const now = this.#clock.now();
    this.#renewal.listed(now);
    if (commands.some(({ kind }) => kind === 'wait')) this.#permission.suspend(now);
    return commands;
  }

  repeatFirst(commands: readonly Command[]): Command[] {
    return repeatFirst(commands, this.#holdings.leases.grants(), this.#calls);
  }

  onReply(batch: Batch, reply: Reply): void {
    this.#failure = undefined;
    const now = this.#clock.now();
    // A grant in such a late reply may have expired. The list of waiters repeats it, or puts the waiter back.
    const isLate = now >= batch.sentAt + SAFE_SHARE * this.#renewal.ttl;
    const isForgotten = batch.sequence === 0 && this.#holdings.isForgotten(reply);
    this.#renewal.confirm(batch.sentAt);
    this.#permission.take(reply, batch.sentAt);
    if (!reply.linger) this.#holdings.returnLingering();
    for (const event of reply.events) {
      if (event.kind === 'granted' && isLate) this.#events.postpone(event.serial);
      else {
        if (event.kind === 'granted' && event.isRepeated && (this.#calls.get(event.serial)?.ticket ?? 0) > 0)
          this.#parts.wire.connection.distrustMessages();
        this.#events.apply(event, now);
      }
    }
    if (isForgotten) this.#outbox.restart(true);
    // Redis may have queued and granted a call before the gap, so the message of the grant may be lost.
    else if (isLate || (batch.gapsBefore < this.#gaps && reply.events.some(({ kind }) => kind === 'queued')))
      this.#listWaiters();
  }

  /** Redis may or may not have applied the batch. */
  onFailure(batch: Batch, error: ThrottleBackendError): void {
    const now = this.#clock.now();
    const { fallback } = this.#parts;
    this.#renewal.failed();
    // A waiter stays in the queue of Redis until its owner has expired. For a blocked process, an unread reply looks
    // like a missing one, so only the failure of a retry proves that the owner has expired.
    const expired = this.#failure !== undefined && now >= this.#renewal.expiredAt;
    this.#failure = error;
    if (fallback !== undefined) this.#moveWaiters(fallback, now);
    const sent = serialsOf(batch.commands);
    for (const call of this.#calls.list()) {
      // A rejected caller may abort other calls.
      if (!this.#calls.has(call)) continue;
      const isUnsent = call.since <= batch.sentAt && this.#outbox.isUnsent(call.serial);
      const isHit = call.ticket === 0 ? sent.has(call.serial) || isUnsent : expired;
      if (!isHit) continue;
      this.#cancel(call);
      this.#parts.settleWithoutPermit(call, error);
    }
    batch.commands = withoutEnded(batch.commands, this.#calls);
    const isGone = this.#calls.size === 0 && this.#holdings.leases.isEmpty;
    if (isGone && (now >= this.#renewal.expiredAt || (this.#parts.isLeaving() && this.#outbox.isFailing)))
      this.#outbox.abandon(error);
  }

  now(): number {
    return this.#clock.now();
  }

  /** Something may be due at another instant, or everything may be done. */
  onChange(): void {
    if (this.#calls.size === 0 && this.#holdings.leases.isEmpty && this.#outbox.isEmpty) {
      this.#registration.end();
      this.#schedule.isAwaited = false;
      this.#parts.onIdle();
    }
    this.#schedule.update();
  }

  /** Retries at once: Redis has replied again, though too late for the call. */
  readonly #onLateReply = (): void => {
    if (!this.isRegistered) return;
    this.#outbox.retry();
    this.onChange();
  };

  /** Tries whether Redis replies again. */
  #probe(): void {
    this.#registration.begin(this.#clock.now());
    if (this.#outbox.isEmpty) this.#outbox.sendNow([]);
    else this.#outbox.retry();
  }

  /** Moves all calls to the fallback, in order. */
  #moveWaiters(fallback: Fallback, now: number): void {
    for (const call of this.#calls.list()) {
      // A subscriber of a grant may abort other calls.
      if (!this.#calls.has(call)) continue;
      this.#cancel(call);
      fallback.acquire(call, now);
    }
  }

  /** Removes a call. Redis removes its place in the queue, or takes back a grant that is on its way. */
  #cancel(call: Call): void {
    this.#calls.remove(call);
    if (!this.#outbox.withdraw(call.serial))
      this.#outbox.enqueue({ kind: 'cancel', serial: call.serial, cost: call.charge });
  }
}
