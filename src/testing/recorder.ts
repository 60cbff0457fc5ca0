/// <reference lib="esnext.disposable" preserve="true" />
/** Records the events that one throttle publishes (`core/events.ts`), as plain data. */
import {
  type CallMessage,
  type Channel,
  granted,
  paused,
  queued,
  type RefusalReason,
  refused,
  released,
  type ThrottleMessage,
  type WatchedThrottle,
} from '../core/events.js';
import { type Rate, sizeOf } from '../core/limits.js';
import { addDisposal } from '../core/dispose.js';
import { invalid } from '../core/validation.js';
import type { Resource } from '../compose/resource.js';

/** The limits of a throttle in a {@link Trace}. `null` means no limit, since JSON has no `Infinity`. */
export interface TracedLimits {
  /** Tokens per period; `null` for no rate limit. */
  capacity: number | null;
  /** Jobs at a time; `null` for no limit. */
  concurrency: number | null;
  /** The period in seconds. */
  period: number;
  /** The bucket size in tokens; `null` for no limit. */
  burst: number | null;
}

/** A named rate of a throttle in a {@link Trace}. `null` means no limit. */
export type TracedRate = Omit<TracedLimits, 'concurrency'>;

/** The fields of every event of a {@link Trace}. */
export interface TracedEvent {
  /** The instant, in seconds of the throttle's clock. */
  at: number;
  /** The tokens right after the event. Absent without a rate limit, and for a throttle on Redis. */
  tokens?: number;
  /** The level of each named rate with a limit, right after the event. Absent without such rates, and on Redis. */
  levels?: Record<string, number>;
  /** The new limits, if `configure` has changed them since the previous event. Absent otherwise. */
  limits?: TracedLimits;
}

/** The fields of every event about a call of `acquire`, `run` or `tryAcquire`. */
export interface TracedCall extends TracedEvent {
  /** The same number in all events about one call and its permit. It equals the `id` of the published messages. */
  id: number;
  /** Tokens of the main rate: the requested cost; after `settle`, the true cost. */
  cost: number;
  /** Tokens of each named rate. Absent without named rates. */
  costs?: Record<string, number>;
  /** The slots of the call, if they differ from 1. */
  slots?: number;
}

/** A call waits in the queue. */
export interface QueuedEvent extends TracedCall {
  /** The type of the event. */
  kind: 'queued';
}

/** A permit was granted, after a wait or at once. */
export interface GrantedEvent extends TracedCall {
  /** The type of the event. */
  kind: 'granted';
  /** Seconds between the call and the grant. */
  waited: number;
}

/** A permit was released. */
export interface ReleasedEvent extends TracedCall {
  /** The type of the event. */
  kind: 'released';
}

/** A call ended without a permit. */
export interface RefusedEvent extends TracedCall {
  /** The type of the event. */
  kind: 'refused';
  /** The reason of the refusal. */
  reason: RefusalReason;
}

/** `pause` or `resume` was called. */
export interface PausedEvent extends TracedEvent {
  /** The type of the event. */
  kind: 'paused';
  /** Seconds until the throttle opens: `null` for a pause until `resume`, and `0` for `resume` itself. */
  seconds: number | null;
}

/** An event of a throttle. */
export type TraceEvent = QueuedEvent | GrantedEvent | ReleasedEvent | RefusedEvent | PausedEvent;

/**
 * The events of a throttle, in order. The data is plain: `structuredClone` and JSON keep it unchanged. {@link toSVG}
 * draws it.
 */
export interface Trace {
  /** The name of the throttle, if it has one. */
  readonly name?: string;
  /** The limits at the start. */
  readonly limits: TracedLimits;
  /** The named rates. Absent without such rates. */
  readonly rates?: Readonly<Record<string, TracedRate>>;
  /** The events, oldest first. A call from before the start of the recording appears with its next event. */
  readonly events: readonly TraceEvent[];
}

/** A {@link Trace} that grows with every event until it is stopped. */
export interface Recording extends Trace {
  /** Ends the recording. The data stays. A second call does nothing. */
  stop(): void;
  /** The same as `stop`, for `using trace = record(throttle)`. */
  [Symbol.dispose](): void;
}

/** The methods are on the prototype, so `structuredClone` and JSON copy only the data. */
class Recorder implements Omit<Recording, keyof Disposable> {
  declare readonly name?: string;
  readonly limits: TracedLimits;
  declare readonly rates?: Readonly<Record<string, TracedRate>>;
  readonly events: TraceEvent[];
  /** References the throttle. `stop` clears it, so that a stopped recording does not keep the throttle in memory. */
  #unsubscribe: (() => void) | undefined;

  constructor(throttle: WatchedThrottle) {
    addDisposal(Recorder.prototype, 'dispose', function () {
      this.stop();
    });
    if (throttle.name !== undefined) this.name = throttle.name;
    this.limits = limitsOf(throttle);
    const rates = (throttle.also ?? []).filter(({ name }) => name !== undefined);
    if (rates.length > 0) this.rates = Object.fromEntries(rates.map((rate) => [rate.name, tracedRate(rate)]));
    this.events = [];

    let latestLimits = this.limits;
    const toEvent = ({ at, throttle: { tokens = Infinity, levels = {} } }: ThrottleMessage): TracedEvent => {
      const event: TracedEvent = { at };
      if (tokens < Infinity) event.tokens = tokens;
      const finite = Object.entries(levels).filter(([, level]) => level < Infinity);
      if (finite.length > 0) event.levels = Object.fromEntries(finite);
      const limits = limitsOf(throttle);
      if (LIMITS.some((name) => limits[name] !== latestLimits[name])) event.limits = latestLimits = limits;
      return event;
    };
    const toCall = (message: CallMessage): TracedCall => {
      const { id, cost, costs, slots } = message;
      return {
        id,
        cost,
        ...(costs !== undefined && { costs: { ...costs } }),
        ...(slots !== 1 && { slots }),
        ...toEvent(message),
      };
    };
    const follow = <Message extends ThrottleMessage>(
      channel: Channel<Message>,
      toTraceEvent: (message: Message) => TraceEvent,
    ): (() => void) => {
      const listener = (message: Message): void => {
        if (message.throttle === throttle) this.events.push(toTraceEvent(message));
      };
      channel.subscribe(listener);
      return () => channel.unsubscribe(listener);
    };
    const unsubscribers = [
      follow(queued, (message) => ({ kind: 'queued', ...toCall(message) })),
      follow(granted, (message) => ({ kind: 'granted', ...toCall(message), waited: message.waited })),
      follow(released, (message) => ({ kind: 'released', ...toCall(message) })),
      follow(refused, (message) => ({ kind: 'refused', ...toCall(message), reason: message.reason })),
      follow(paused, (message) => ({ kind: 'paused', ...toEvent(message), seconds: finiteOrNull(message.seconds) })),
    ];
    this.#unsubscribe = () => {
      for (const unsubscribe of unsubscribers) unsubscribe();
    };
  }

  stop(): void {
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }
}

interface Recorder extends Disposable {}

const LIMITS = ['capacity', 'concurrency', 'period', 'burst'] as const;

/** The value, or `null` for `Infinity`. */
function finiteOrNull(value: number): number | null {
  return value < Infinity ? value : null;
}

function tracedRate(rate: Rate): TracedRate {
  const { capacity, period = 1 } = rate;
  return { capacity: finiteOrNull(capacity), period, burst: finiteOrNull(sizeOf(rate)) };
}

function limitsOf({ capacity, concurrency, period, burst }: WatchedThrottle): TracedLimits {
  return {
    capacity: finiteOrNull(capacity),
    concurrency: finiteOrNull(concurrency || Infinity),
    period,
    burst: finiteOrNull(burst),
  };
}

/**
 * Records all later events of a throttle: calls that wait, grants, releases, refusals and pauses. Each event has its
 * instant and the remaining tokens. Recording does not change the behaviour of the throttle.
 *
 * The recording grows until `stop` is called, so it is meant for tests, demos and observations of a few minutes. A
 * change of the limits appears in the next event. For a throttle on Redis, it has the events of this process.
 *
 * @param throttle A `Throttle`, the throttle of a key (`keyed.peek(key)`), a `Resource`, or a `RedisThrottle`.
 * @throws {TypeError} `throttle` is not one of these.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { record } from 'headgate/testing';
 *
 * const throttle = new Throttle(10, 2);
 * const trace = record(throttle);
 * await throttle.run(() => 'done', 5);
 * trace.stop();
 * console.log(trace.events.map(({ kind }) => kind).join(', ')); // → granted, released
 */
export function record(
  // A `Resource` of any copy of the package: the private members of a class differ between copies.
  throttle: WatchedThrottle | Pick<Resource, 'acquire' | 'active' | 'capacity' | 'closed' | 'waiting'>,
): Recording {
  // The messages of a resource name the throttle inside it.
  const watched = (throttle as Partial<Resource> | undefined)?.watched ?? (throttle as WatchedThrottle);
  if (typeof watched?.capacity !== 'number' || typeof watched.burst !== 'number' || 'keyed' in watched)
    throw invalid('throttle', 'a Throttle, a Resource or a RedisThrottle', throttle);
  return new Recorder(watched);
}
