/**
 * The work that one throttle object does at certain instants. No polling: Redis notifies a waiter when it is granted.
 * The alarm has five reasons only: the head of the queue is due, leases and waiters must be renewed, a lingering slot
 * must be returned, a failed batch must be sent again, and the last renewal is so long ago that the leases are lost.
 */
import { Alarm } from './alarm.js';
import type { PendingCalls } from './calls.js';
import type { Holdings } from './holdings.js';
import type { Outbox } from './outbox.js';
import type { Registration } from './registration.js';
import type { Renewal } from './renewal.js';
import { listWaiters } from './statement.js';
import type { SteadyClock } from './steady-clock.js';
import type { Wakeup } from './wakeup.js';

/** The parts of a participant that have something due. */
interface ScheduleParts {
  readonly calls: Pick<PendingCalls, 'size' | 'list'>;
  readonly outbox: Pick<Outbox, 'isFailing' | 'retryAt' | 'retry' | 'sendNow'>;
  readonly renewal: Renewal;
  readonly registration: Pick<Registration, 'isActive'>;
}

export class Schedule {
  readonly #clock: SteadyClock;
  readonly #wakeup: Wakeup;
  readonly #holdings: Pick<Holdings, 'leases' | 'checkExpiry' | 'returnLingering'>;
  readonly #parts: ScheduleParts;
  readonly #alarm: Alarm;
  /** Whether a caller waits for the end of all work, so that the alarm must keep the process alive. */
  isAwaited = false;

  /** @param onDone Called after the work of an alarm. */
  constructor(
    clock: SteadyClock,
    wakeup: Wakeup,
    holdings: Pick<Holdings, 'leases' | 'checkExpiry' | 'returnLingering'>,
    parts: ScheduleParts,
    onDone: () => void,
  ) {
    this.#clock = clock;
    this.#wakeup = wakeup;
    this.#holdings = holdings;
    this.#parts = parts;
    this.#alarm = new Alarm(clock, () => {
      this.#work();
      onDone();
    });
  }

  /** Sets the alarm to the next instant at which something is due. */
  update(): void {
    const { calls, outbox, renewal, registration } = this.#parts;
    const { leases } = this.#holdings;
    const waits = calls.size > 0;
    const holds = !leases.isEmpty;
    const isBusy = waits || holds;
    const next = !registration.isActive
      ? Infinity
      : Math.min(
          waits && !outbox.isFailing ? this.#wakeup.at : Infinity,
          isBusy && !outbox.isFailing ? renewal.dueAt(waits) : Infinity,
          holds ? renewal.safeUntil : Infinity,
          leases.lingersUntil,
          outbox.retryAt,
        );
    this.#alarm.set(next, isBusy || this.isAwaited);
  }

  /** Sends the list of all waiters. Redis repeats the grants whose messages were lost. */
  sendWaiters(now: number): void {
    const { calls, outbox, renewal } = this.#parts;
    renewal.listed(now);
    for (const waiters of listWaiters(calls.list()))
      // The list is still due: it follows as soon as Redis replies again.
      if (!outbox.sendNow(waiters)) return renewal.listed(-Infinity);
  }

  #work(): void {
    const { calls, outbox, renewal } = this.#parts;
    const now = this.#clock.now();
    this.#holdings.checkExpiry();
    this.#holdings.returnLingering(now);
    const waits = calls.size > 0;
    if (now >= outbox.retryAt) outbox.retry();
    else if (now >= renewal.dueAt(waits)) {
      if (waits && renewal.isListDue(now)) this.sendWaiters(now);
      else outbox.sendNow([]);
      renewal.sent();
    }
    if (this.#wakeup.take(now)) outbox.sendNow([]);
  }
}
