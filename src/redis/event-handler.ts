/** Applies the events of replies and messages: the decisions of Redis on the calls and the leases of one process. */
import type { Call, PendingCalls } from './calls.js';
import type { Holdings } from './holdings.js';
import { tooLargeError } from '../core/cost.js';
import { readName } from './charge.js';
import { labelOf, queueFullError, timeoutError } from './options.js';
import type { Outbox } from './outbox.js';
import type { ParticipantParts } from './participant-parts.js';
import type { Permission } from './permission.js';
import { type Event, FOREVER } from './protocol.js';

const LOST_BY_RESET = 'its lease was reset, or given to another holder';

export class EventHandler {
  readonly #parts: ParticipantParts;
  readonly #calls: PendingCalls;
  readonly #holdings: Holdings;
  readonly #permission: Permission;
  readonly #outbox: Outbox;
  /** Ends a call whose place in the queue Redis must remove. */
  readonly #cancel: (call: Call) => void;

  constructor(
    parts: ParticipantParts,
    calls: PendingCalls,
    holdings: Holdings,
    permission: Permission,
    outbox: Outbox,
    cancel: (call: Call) => void,
  ) {
    this.#parts = parts;
    this.#calls = calls;
    this.#holdings = holdings;
    this.#permission = permission;
    this.#outbox = outbox;
    this.#cancel = cancel;
  }

  /**
   * Applies one event at the instant `now`. Events for a call that has ended meanwhile are ignored: the call has sent its
   * cancellation.
   */
  apply(event: Event, now: number): void {
    const { face, maxQueue } = this.#parts;
    switch (event.kind) {
      case 'granted': {
        const call = this.#calls.get(event.serial);
        // A grant that is older than the waiter's return to the queue is void, even if it arrives late.
        if (call !== undefined && event.grantedAt >= call.voidBefore) this.#holdings.grant(call, event, now);
        return;
      }
      case 'queued':
        return this.#onQueued(event.serial, event.ticket, event.returnedAt);
      case 'late':
        return this.#refuse(event.serial, (call) => timeoutError(face, call, event.wait, event.active, event.waiting));
      case 'queue full':
        return this.#refuse(event.serial, () =>
          queueFullError(face, maxQueue, event.wait, event.active, event.waiting),
        );
      case 'refused earlier':
        // Redis has lost a waiter. The next list of waiters states it again.
        if ((this.#calls.get(event.serial)?.ticket ?? 0) > 0) return;
        return this.#refuse(event.serial, (call) =>
          call.timeout < Infinity ? timeoutError(face, call, 0) : queueFullError(face, maxQueue, 0, 0, 0),
        );
      case 'oversize':
        return this.#refuse(event.serial, (call) => this.#oversizeError(call, event.burst, event.rate));
      case 'lease lost': {
        const lease = this.#holdings.leases.get(event.serial);
        this.#holdings.leases.dropLingering(event.serial);
        if (lease !== undefined && this.#holdings.leases.remove(lease))
          this.#holdings.loseLeases([lease], LOST_BY_RESET);
        return;
      }
      case 'withdrawn':
        if (this.#permission.withdraw(event.version)) this.#holdings.returnLingering();
        return;
      case 'wake':
        return this.#parts.wire.wakeup.setByMessage(now, event.span, event.at);
      case 'reset':
        this.#holdings.leases.removeLingering();
        this.#holdings.loseLeases(this.#holdings.leases.removeAll(), LOST_BY_RESET);
        this.#outbox.restart();
    }
  }

  /**
   * Does not take a grant whose lease may have expired. The list of waiters has the call from now on, behind all
   * others: Redis repeats the grant, or assigns a place.
   */
  postpone(serial: string): void {
    const call = this.#calls.get(serial);
    if (call?.ticket === 0) this.#onQueued(serial, FOREVER, 0);
  }

  #onQueued(serial: string, ticket: number, returnedAt: number): void {
    const call = this.#calls.get(serial);
    if (call === undefined) return;
    const isNew = call.ticket === 0;
    call.ticket = ticket;
    if (returnedAt > 0) call.voidBefore = returnedAt;
    if (call.overdue) {
      this.#cancel(call);
      this.#parts.settleWithoutPermit(call, timeoutError(this.#parts.face, call, 0));
    } else if (isNew) this.#parts.publisher.queued(call, call.cost, call.terms);
  }

  #oversizeError({ cost, terms }: Call, burst: number, tag: string): Error {
    const { face, rates } = this.#parts;
    if (tag === '') return tooLargeError('cost', cost, burst, labelOf(face));
    const rate = readName(tag);
    const index = rates?.names.indexOf(rate) ?? -1;
    return tooLargeError(`cost.${rate}`, terms?.costs[index + 1] ?? cost, burst, labelOf(face), rate);
  }

  #refuse(serial: string, createError: (call: Call) => Error): void {
    const call = this.#calls.get(serial);
    if (call === undefined) return;
    this.#calls.remove(call);
    this.#parts.settleWithoutPermit(call, call.tries ? undefined : createError(call));
  }
}
