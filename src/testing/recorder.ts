/// <reference lib="esnext.disposable" preserve="true" />
/**
 * What one throttle did, as plain data: what it tells on the channels (`channels.ts`), written down as it comes.
 */
import {
  type CallMessage,
  granted,
  type GrantedMessage,
  paused,
  type PausedMessage,
  queued,
  type QueuedMessage,
  type RefusalReason,
  refused,
  type RefusedMessage,
  released,
  type ReleasedMessage,
  type ThrottleMessage,
  type WatchedThrottle,
} from '../core/events.js';
import { addDisposal } from '../core/dispose.js';
import { invalid } from '../core/validation.js';
import type { Resource } from '../compose/resource.js';

/** The limits of a throttle, as a {@link Trace} has them: `null` stands for "none", since JSON has no `Infinity`. */
export interface TracedLimits {
  /** Tokens per period; `null` for no rate limit. */
  capacity: number | null;
  /** How many at a time; `null` for any number. */
  concurrency: number | null;
  /** Seconds. */
  period: number;
  /** What may start at once after silence; `null` for any amount. */
  burst: number | null;
}

/** What every event of a {@link Trace} tells. */
export interface TracedEvent {
  /** The instant, in seconds of the throttle's clock. */
  at: number;
  /** The tokens right after it. Absent where there is no rate limit, and on Redis, which does not tell them. */
  tokens?: number;
  /** The limits, where they are no longer those that the trace told last: `configure` was called since. */
  limits?: TracedLimits;
}

/** What every event about a call of `acquire`, `run` or `tryAcquire` tells. */
export interface TracedCall extends TracedEvent {
  /** The same in all events about one call and its permit; that of the messages on the channels. */
  id: number;
  /** Tokens: what was asked for; once it is settled, the true cost. */
  cost: number;
}

/** Somebody waits. */
export interface QueuedEvent extends TracedCall {
  /** What it is. */
  kind: 'queued';
}

/** A permit was given, to somebody who waited or at once. */
export interface GrantedEvent extends TracedCall {
  /** What it is. */
  kind: 'granted';
  /** Seconds between the call and the grant. */
  waited: number;
}

/** A permit came back. */
export interface ReleasedEvent extends TracedCall {
  /** What it is. */
  kind: 'released';
}

/** A call ended without a permit. */
export interface RefusedEvent extends TracedCall {
  /** What it is. */
  kind: 'refused';
  /** Why. */
  reason: RefusalReason;
}

/** `pause` or `resume` was called. */
export interface PausedEvent extends TracedEvent {
  /** What it is. */
  kind: 'paused';
  /** Seconds until the throttle opens: `null` for "not until `resume`", and `0` for "now", from `resume`. */
  seconds: number | null;
}

/** One of the things that happen at a throttle. */
export type TraceEvent = QueuedEvent | GrantedEvent | ReleasedEvent | RefusedEvent | PausedEvent;

/**
 * What happened at a throttle, in order: plain data, the same after `structuredClone` and through JSON. {@link toSVG}
 * draws it.
 */
export interface Trace {
  /** The name of the throttle. Absent where it has none. */
  readonly name?: string;
  /** The limits at the start. */
  readonly limits: TracedLimits;
  /** What happened. Who held a permit or waited before the start is seen from its first event on. */
  readonly events: readonly TraceEvent[];
}

/** A {@link Trace} that grows while something happens, until it is stopped. */
export interface Recording extends Trace {
  /** Ends the recording. The data stays; a second call does nothing. */
  stop(): void;
  /** The same as `stop`: `using trace = record(throttle)` ends with the block. */
  [Symbol.dispose](): void;
}

/** The methods are the prototype's, so that copies of the data have none. */
class Recorder implements Omit<Recording, keyof Disposable> {
  declare readonly name?: string;
  readonly limits: TracedLimits;
  readonly events: TraceEvent[];
  /** Holds the throttle: dropped once done, so that whoever keeps the data does not keep that. */
  #unsubscribe: (() => void) | undefined;

  constructor(throttle: WatchedThrottle) {
    addDisposal(Recorder.prototype, 'dispose', function () {
      this.stop();
    });
    if (throttle.name !== undefined) this.name = throttle.name;
    this.limits = limitsOf(throttle);
    this.events = [];

    let known = this.limits;
    const base = ({ at, throttle: { tokens = Infinity } }: ThrottleMessage): TracedEvent => {
      const event: TracedEvent = { at };
      if (tokens < Infinity) event.tokens = tokens;
      const limits = limitsOf(throttle);
      if (
        limits.capacity !== known.capacity ||
        limits.concurrency !== known.concurrency ||
        limits.period !== known.period ||
        limits.burst !== known.burst
      ) {
        event.limits = known = limits;
      }
      return event;
    };
    const call = (message: CallMessage): TracedCall => ({ id: message.id, cost: message.cost, ...base(message) });
    const ours = (message: ThrottleMessage): boolean => message.throttle === throttle;
    const onQueued = (message: QueuedMessage): void =>
      void (ours(message) && this.events.push({ kind: 'queued', ...call(message) }));
    const onGranted = (message: GrantedMessage): void =>
      void (ours(message) && this.events.push({ kind: 'granted', ...call(message), waited: message.waited }));
    const onReleased = (message: ReleasedMessage): void =>
      void (ours(message) && this.events.push({ kind: 'released', ...call(message) }));
    const onRefused = (message: RefusedMessage): void =>
      void (ours(message) && this.events.push({ kind: 'refused', ...call(message), reason: message.reason }));
    const onPaused = (message: PausedMessage): void =>
      void (ours(message) && this.events.push({ kind: 'paused', ...base(message), seconds: bounded(message.seconds) }));
    queued.subscribe(onQueued);
    granted.subscribe(onGranted);
    released.subscribe(onReleased);
    refused.subscribe(onRefused);
    paused.subscribe(onPaused);
    this.#unsubscribe = () => {
      queued.unsubscribe(onQueued);
      granted.unsubscribe(onGranted);
      released.unsubscribe(onReleased);
      refused.unsubscribe(onRefused);
      paused.unsubscribe(onPaused);
    };
  }

  stop(): void {
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }
}

interface Recorder extends Disposable {}

function bounded(value: number): number | null {
  return value < Infinity ? value : null;
}

function limitsOf({ capacity, concurrency, period, burst }: WatchedThrottle): TracedLimits {
  return { capacity: bounded(capacity), concurrency: bounded(concurrency || Infinity), period, burst: bounded(burst) };
}

/**
 * Writes down what a throttle does from now on: who waits, gets a permit, gives it back or gets none, and the pauses,
 * each with its instant and the tokens that were left. The throttle does nothing else for being watched.
 *
 * It remembers everything until `stop` is called, so it is for tests, demos and a close look at a few minutes. A
 * change of the limits is noted with the event that comes next. Of a throttle on Redis it is what this process sees.
 *
 * @param throttle A `Throttle`, one of the keys of a `KeyedThrottle` (`keyed.peek(key)`), a `Resource`, or a `RedisThrottle`.
 * @throws {TypeError} `throttle` is none.
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
export function record(throttle: WatchedThrottle | Resource): Recording {
  // The messages of a resource are about the throttle inside it.
  const watched = (throttle as Partial<Resource> | undefined)?.watched ?? (throttle as WatchedThrottle);
  if (typeof watched?.capacity !== 'number' || typeof watched.burst !== 'number' || 'keyed' in watched)
    throw invalid('throttle', 'a Throttle, a Resource or a RedisThrottle', throttle);
  return new Recorder(watched);
}
