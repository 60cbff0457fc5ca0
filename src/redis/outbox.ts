/**
 * The commands of one throttle object on their way to Redis. All commands of a tick travel in one batch. The batches
 * are numbered, and Redis applies each batch once, in order. A batch that failed is sent again with its old number
 * until Redis replies, since Redis may or may not have applied it. No new batch is sent before that, so a long failure
 * leaves only a few batches behind.
 */
import { Backoff } from './backoff.js';
import { type Batch, type Confirmation, isKept, type OutboxOwner, serialsOf } from './batch.js';
import type { ThrottleBackendError } from './errors.js';
import type { Command, Reply } from './protocol.js';

/** The most commands in one batch. A larger batch would delay other clients. */
const COMMANDS_PER_BATCH = 2_000;
/** The most batches without a reply, renewals apart. Further commands wait, and travel together. */
const MAX_IN_FLIGHT = 2;

export class Outbox {
  readonly #owner: OutboxOwner;
  readonly #backoff: Backoff;
  /** The batches without a reply, in order. */
  #unanswered: Batch[] = [];
  /** The calls of the script without a reply, those of earlier epochs included. */
  #inFlight = 0;
  /** The name in Redis and the number of the next batch. The name is empty before the first batch of an epoch. */
  #name = '';
  #sequence = 0;
  /** Whether the epoch had no failure. A late copy of a failed batch could revive an owner that has ended. */
  #isClean = true;
  #commands: Command[] = [];
  #confirmations: Confirmation[] = [];
  /** The serials of the requests in `#commands`. A withdrawn request leaves this set only. */
  #requests = new Set<string>();
  #hasWithdrawn = false;
  #flushScheduled = false;

  constructor(owner: OutboxOwner, ttl: number) {
    this.#owner = owner;
    this.#backoff = new Backoff(ttl);
  }

  /** The name of the throttle object in Redis in this epoch; empty before the first batch. */
  get name(): string {
    return this.#name;
  }

  get retryAt(): number {
    return this.#backoff.at;
  }

  /** Whether the last call failed. */
  get isFailing(): boolean {
    return this.#backoff.isFailing;
  }

  /** Whether everything was sent, and Redis has replied. */
  get isEmpty(): boolean {
    return this.#commands.length + this.#confirmations.length + this.#unanswered.length + this.#inFlight === 0;
  }

  /** Adds a command to the batch of this tick. */
  enqueue(command: Command): void {
    this.#commands.push(command);
    if (command.kind === 'acquire') this.#requests.add(command.serial);
    this.#scheduleFlush();
  }

  /** Adds a command, or nothing but the limits, and waits for the reply. */
  enqueueAndConfirm(confirmation: Confirmation): void {
    if (confirmation.command !== undefined) this.#commands.push(confirmation.command);
    this.#confirmations.push(confirmation);
    this.#scheduleFlush();
  }

  /** Withdraws the request of a call if it was not sent yet. */
  withdraw(serial: string): boolean {
    const found = this.#requests.delete(serial);
    this.#hasWithdrawn ||= found;
    return found;
  }

  /** Whether the request of a call was not sent yet. */
  isUnsent(serial: string): boolean {
    return this.#requests.has(serial);
  }

  /**
   * Sends commands in a batch of their own, now: a renewal or a wake-up.
   *
   * @returns Whether they were sent. After a failure, the failed batches are sent instead.
   */
  sendNow(commands: Command[]): boolean {
    if (this.#hasFailed()) {
      if (this.isFailing) this.retry();
      return false;
    }
    this.flush();
    // An owner that ends has nothing to renew.
    if (this.#isEnding()) return false;
    this.#send(this.#createBatch(commands, []));
    return true;
  }

  /** Sends the failed batches again, now. */
  retry(): void {
    this.#backoff.retried();
    for (const batch of this.#unanswered) {
      if (batch.inFlight) continue;
      // Redis may have applied the first copy and lost its state since. Then this copy creates the owner again.
      if (batch.sequence === 0) batch.commands = this.#owner.repeatFirst(batch.commands);
      this.#send(batch);
    }
  }

  /** Sends all commands now, instead of at the end of the tick. */
  flush(): void {
    this.#flushScheduled = false;
    this.#removeWithdrawn();
    if (this.#commands.length + this.#confirmations.length === 0) return;
    // Redis may have recovered, so a new request tries again at once. Other commands wait for the retry.
    if (this.#hasFailed()) {
      if (this.isFailing && this.#requests.size + this.#confirmations.length > 0) this.retry();
      return;
    }
    while (this.#unanswered.length < MAX_IN_FLIGHT && !this.#isEnding()) {
      // The first batch of an epoch has to state all leases.
      const stated = this.#name === '' ? this.#commands.findLastIndex(({ kind }) => kind === 'hold') + 1 : 0;
      const most = Math.max(COMMANDS_PER_BATCH, stated);
      const isLast = this.#commands.length <= most;
      const commands = isLast ? this.#commands : this.#commands.splice(0, most);
      if (isLast) {
        this.#commands = [];
        // A cleared set would keep its former tables, see `churn-map.ts`.
        this.#requests = new Set();
      } else for (const command of commands) if (command.kind === 'acquire') this.#requests.delete(command.serial);
      this.#send(this.#createBatch(commands, isLast ? this.#confirmations.splice(0) : []));
      if (isLast) return;
    }
  }

  /** Begins an epoch with the next batch: Redis has forgotten the owner by now, or is about to. */
  forget(): void {
    if (this.#unanswered.length === 0) this.#name = '';
  }

  /** Gives up all that Redis has not confirmed: its leases have expired, or will. */
  abandon(error: ThrottleBackendError): void {
    const failed = this.#takeConfirmations();
    this.#unanswered = [];
    this.#commands = [];
    this.#requests.clear();
    this.#backoff.succeeded();
    this.#name = '';
    for (const { onFailed } of failed) onFailed(error);
  }

  /**
   * Begins an epoch with a batch that states all that the throttle object still holds.
   *
   * @param isKnown Whether Redis still knows the owner, with leases that may have been released meanwhile.
   */
  restart(isKnown = false): void {
    // The holder of a lost lease may enqueue commands here.
    const stated = this.#owner.restate();
    const unconfirmed = [...this.#unanswered.flatMap(({ commands }) => commands), ...this.#commands];
    this.#confirmations = this.#takeConfirmations();
    const requested = serialsOf(stated);
    const repeated = serialsOf(unconfirmed);
    // Leases and waiters are stated again. Requests and commands that concern others keep their order.
    const commands = [
      ...stated.filter((command) => command.kind !== 'acquire' || !repeated.has(command.serial)),
      ...unconfirmed.filter((command) =>
        command.kind === 'acquire' ? requested.has(command.serial) : isKept(command),
      ),
    ];
    const old = this.#name;
    this.#unanswered = [];
    this.#name = '';
    this.#requests.clear();
    if (old !== '' && (isKnown || commands.length > 0)) commands.unshift({ kind: 'replace', owner: old });
    this.#commands = commands;
    for (const command of commands) if (command.kind === 'acquire') this.#requests.add(command.serial);
    this.#backoff.succeeded();
    this.flush();
  }

  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    afterMicrotasks(this.#onTickEnd);
  }

  readonly #onTickEnd = (): void => {
    if (!this.#flushScheduled) return;
    this.flush();
    this.#owner.onChange();
  };

  /** Whether the last batch of the epoch has been sent. */
  #isEnding(): boolean {
    return this.#unanswered.at(-1)?.ends === true;
  }

  /** Removes and returns all confirmations, in order. */
  #takeConfirmations(): Confirmation[] {
    const waiting = this.#confirmations.splice(0);
    return [...this.#unanswered.flatMap(({ confirmations }) => confirmations), ...waiting];
  }

  #hasFailed(): boolean {
    return this.#unanswered.some(({ inFlight }) => !inFlight) || (this.#unanswered.length > 0 && this.isFailing);
  }

  #removeWithdrawn(): void {
    if (!this.#hasWithdrawn) return;
    this.#hasWithdrawn = false;
    this.#commands = this.#commands.filter(
      (command) => command.kind !== 'acquire' || this.#requests.has(command.serial),
    );
  }

  #createBatch(commands: Command[], confirmations: Confirmation[]): Batch {
    if (this.#name === '') {
      this.#name = this.#owner.beginEpoch();
      this.#sequence = 0;
      this.#isClean = true;
    }
    const batch: Batch = {
      owner: this.#name,
      sequence: this.#sequence++,
      settings: this.#owner.terms(),
      ends: this.#isClean && this.#commands.length === 0 && this.#owner.mayEnd(),
      commands,
      confirmations,
      sentAt: 0,
      gapsBefore: 0,
      wasFirst: false,
      endsNow: false,
      inFlight: false,
    };
    this.#unanswered.push(batch);
    return batch;
  }

  #send(batch: Batch): void {
    batch.inFlight = true;
    batch.wasFirst = this.#unanswered[0] === batch;
    batch.endsNow = batch.ends && this.#isClean;
    this.#inFlight++;
    this.#owner.send(batch).then(
      (reply) => this.#onReply(batch, reply),
      (error: ThrottleBackendError) => this.#onFailure(batch, error),
    );
  }

  #onReply(batch: Batch, reply: Reply): void {
    batch.inFlight = false;
    this.#inFlight--;
    const index = this.#unanswered.indexOf(batch);
    // A batch may overtake earlier ones. Their replies decide: Redis then replies otherwise to the next copy.
    if (index <= 0 || reply.outcome === 'applied') {
      // A batch of an earlier epoch, or one that was given up, counts no more.
      if (index >= 0) this.#applyReply(batch, reply, index);
      this.flush();
    }
    this.#owner.onChange();
  }

  #applyReply(batch: Batch, reply: Reply, index: number): void {
    const isApplied = reply.outcome === 'applied';
    // Redis has forgotten an owner that has ended: it may have applied the batch before. Releases need no repetition.
    const isOver = batch.ends && batch.confirmations.length === 0 && !batch.commands.some(isKept);
    this.#backoff.succeeded();
    if (isApplied || (isOver && reply.outcome === 'unknown owner')) {
      this.#unanswered.splice(index, 1);
      if (batch.ends) this.#name = '';
      if (isApplied) this.#owner.onReply(batch, reply);
      for (const { onDone } of batch.confirmations) onDone();
    } else if (batch.wasFirst) return this.restart(reply.outcome === 'refused');
    // The batches behind a failed one were refused.
    this.retry();
  }

  #onFailure(batch: Batch, error: ThrottleBackendError): void {
    batch.inFlight = false;
    this.#inFlight--;
    this.#isClean = false;
    if (this.#unanswered.includes(batch)) {
      // A caller of `pause` learns of the failure, so the pause is not sent again.
      const failed = batch.confirmations.splice(0);
      if (this.isFailing) failed.push(...this.#confirmations.splice(0));
      const dropped = new Set(failed.map(({ command }) => command));
      batch.commands = batch.commands.filter((command) => !dropped.has(command));
      this.#commands = this.#commands.filter((command) => !dropped.has(command));
      this.#backoff.failed(this.#owner.now());
      for (const { onFailed } of failed) onFailed(error);
      this.#owner.onFailure(batch, error);
      this.flush();
    }
    this.#owner.onChange();
  }
}

/** Defers `fn`. On Node, all pending microtasks run before `fn`. On other platforms, `fn` runs as a microtask. */
function afterMicrotasks(fn: () => void): void {
  const { nextTick } = (globalThis as { process?: { nextTick?: (fn: () => void) => void } }).process ?? {};
  queueMicrotask(nextTick === undefined ? fn : () => nextTick(fn));
}
