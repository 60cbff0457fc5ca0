/** The development aids: the functions that gates call, see `core/development.ts`. */
import type { DevelopmentAids, OpenCall } from '../core/development.js';
import { labelOf } from '../core/gate-label.js';
import { warnOnce } from '../core/warning.js';
import {
  type ContextStorage,
  contextStorage,
  framesOf,
  type GateRecord,
  type Hold,
  holdsOf,
  type Job,
  pruneJobs,
} from './jobs.js';
import { leakMessage, nestedMessage, placeOf, stackText } from './messages.js';
import { NestedAcquireError } from './nested-acquire-error.js';
import { captureFrames } from './stack.js';

/** Settings of {@link configureDevelopment}. */
export interface DevelopmentOptions {
  /**
   * The effect of a call that waits for a slot of its own job: `'reject'`, the default, rejects the call with a
   * {@link NestedAcquireError}; `'warn'` emits one process warning for each place, and the call waits; `'ignore'` lets
   * the call wait.
   */
  nested?: 'reject' | 'warn' | 'ignore' | undefined;
  /** Whether a permit that is garbage collected without a release causes a process warning. Default `true`. */
  leaks?: boolean | undefined;
}

/** The most places of lost permits that are stored for one gate. */
const MAX_LOST_PLACES = 100;

export class Aids implements DevelopmentAids {
  readonly #records = new WeakMap<object, GateRecord>();
  /** The calls that wait, by the object that identifies the call. */
  readonly #calls = new WeakMap<object, Hold>();
  /** The permits, and the parts of permits that stand for several permits. */
  readonly #holds = new WeakMap<object, readonly Hold[]>();
  readonly #storage: ContextStorage | undefined = contextStorage();
  /** Absent on a platform without such registries. The hold is the token that ends the observation of its permit. */
  readonly #collected: FinalizationRegistry<Hold> | undefined =
    typeof FinalizationRegistry === 'function'
      ? new FinalizationRegistry((hold) => this.#onCollected(hold))
      : undefined;
  #nested: 'reject' | 'warn' | 'ignore' = 'reject';
  #warnsOfLeaks = true;

  configure({ nested = this.#nested, leaks = this.#warnsOfLeaks }: DevelopmentOptions): void {
    this.#nested = nested;
    this.#warnsOfLeaks = leaks;
  }

  queued(gate: object | undefined, call: object, slots: number): void {
    // A throttle without events belongs to another gate.
    if (gate === undefined) return;
    const known = this.#calls.get(call);
    if (known === undefined) {
      const hold = this.#createHold(gate, slots, this.#capture());
      const { waiting, waitingBySlots } = hold.gate;
      waiting.add(hold);
      waitingBySlots.set(slots, (waitingBySlots.get(slots) ?? 0) + 1);
      this.#calls.set(call, hold);
    } else if (known.frames.length === 0) known.frames = this.#capture();
  }

  refused(call: object): void {
    const hold = this.#calls.get(call);
    if (hold === undefined) return;
    stopWaiting(hold);
    this.#calls.delete(call);
  }

  granted(gate: object | undefined, permit: object, call: object | undefined): void {
    if (gate === undefined) return;
    let hold = call === undefined ? undefined : this.#calls.get(call);
    if (hold === undefined) {
      // The stack of a grant to a waiter belongs to the holder that has released its slot.
      hold = this.#createHold(gate, 0, call === undefined ? this.#capture() : []);
      if (call !== undefined) this.#calls.set(call, hold);
    }
    stopWaiting(hold);
    const { slots } = permit as { slots: number | readonly number[] };
    hold.slots = typeof slots === 'number' ? slots : slots.length;
    hold.isOut = true;
    hold.gate.held.add(hold);
    this.#holds.set(permit, [hold]);
    this.#collected?.register(permit, hold, hold);
  }

  released(permit: object): void {
    for (const hold of this.#holds.get(permit) ?? []) {
      hold.isOut = false;
      hold.gate.held.delete(hold);
      this.#collected?.unregister(hold);
    }
  }

  joined(permit: object, permits: readonly object[]): void {
    this.#holds.set(
      permit,
      permits.flatMap((each) => this.#holds.get(each) ?? []),
    );
  }

  checkNested(gate: object, slots: number): void {
    if (this.#nested === 'ignore') return;
    const record = this.#records.get(gate);
    const job = this.#storage?.getStore();
    if (record === undefined || job === undefined) return;
    const holds = holdsOf(record, job);
    if (holds.length === 0) return;
    const own = holds.reduce((sum, hold) => sum + hold.slots, 0);
    // A call waits for the calls ahead, too. If one of them cannot start before the job has ended, neither can the call.
    const needed = Math.max(slots, ...record.waitingBySlots.keys());
    const { concurrency } = gate as { concurrency: number };
    if (own + needed <= (concurrency || Infinity)) return;
    const frames = this.#capture();
    const message = nestedMessage(frames, slots, holds);
    if (this.#nested === 'reject') throw new NestedAcquireError(message);
    const code = 'HEADGATE_NESTED_ACQUIRE';
    warnOnce(code, message, { key: `${code} ${placeOf(frames)}`, detail: stackText(frames) });
  }

  runJob<P, T>(fn: (permit: P) => T, permit: P): T {
    const holds = this.#holds.get(permit as object) ?? [];
    for (const hold of holds) hold.isJob = true;
    if (this.#storage === undefined || holds.length === 0) return fn(permit);
    const job: Job = { holds, frames: [], isEnded: false, parent: pruneJobs(this.#storage.getStore()) };
    return this.#storage.run(job, () => fn(permit));
  }

  callFrom<T>(fn: () => T): T {
    if (this.#storage === undefined) return fn();
    const parent = pruneJobs(this.#storage.getStore());
    const job: Job = { holds: [], frames: this.#capture(), isEnded: false, parent };
    const end = (): void => void (job.isEnded = true);
    const result = this.#storage.run(job, fn);
    Promise.resolve(result).then(end, end);
    return result;
  }

  openCalls(gate: object): { permits: OpenCall[]; waiting: OpenCall[] } {
    const record = this.#records.get(gate);
    return {
      permits: record === undefined ? [] : [...record.held, ...record.lost.values()],
      waiting: [...(record?.waiting ?? [])],
    };
  }

  #createHold(gate: object, slots: number, frames: readonly string[]): Hold {
    let record = this.#records.get(gate);
    if (record === undefined) {
      record = {
        label: labelOf(gate),
        isLimited: isFinite((gate as { concurrency: number }).concurrency || Infinity),
        held: new Set(),
        waiting: new Set(),
        waitingBySlots: new Map(),
        lost: new Map(),
      };
      this.#records.set(gate, record);
    }
    return { gate: record, frames, slots, isOut: false, isJob: false };
  }

  #capture(): readonly string[] {
    const frames = captureFrames();
    return frames.length > 0 ? frames : framesOf(this.#storage?.getStore());
  }

  #onCollected(hold: Hold): void {
    const { gate, frames, slots } = hold;
    gate.held.delete(hold);
    const place = placeOf(frames);
    const earlier = gate.lost.get(place);
    if (earlier !== undefined) earlier.slots += slots;
    else if (gate.lost.size < MAX_LOST_PLACES) gate.lost.set(place, { ...hold });
    // A permit without a slot blocks no other call. A job that never ends is no mistake of the holder.
    if (!this.#warnsOfLeaks || hold.isJob || slots === 0) return;
    const code = 'HEADGATE_LEAKED_PERMIT';
    warnOnce(code, leakMessage(hold), { key: `${code} ${place}`, detail: stackText(frames) });
  }
}

function stopWaiting(hold: Hold): void {
  const { waiting, waitingBySlots } = hold.gate;
  if (!waiting.delete(hold)) return;
  const others = (waitingBySlots.get(hold.slots) ?? 0) - 1;
  if (others > 0) waitingBySlots.set(hold.slots, others);
  else waitingBySlots.delete(hold.slots);
}
