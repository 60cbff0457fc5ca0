/**
 * The events of gates, and their types. Each kind of event has one channel of `node:diagnostics_channel`. The code
 * finds these channels without an import, so browsers and workers load the same code. On a platform without these
 * channels, plain channels replace them, for `record` of `headgate/testing`.
 *
 * A publisher checks `hasSubscribers` first. Without a subscriber, no message object is created.
 */
import { costsByName, type Terms } from './cost.js';
import { development } from './development.js';
import type { Rate } from './limits.js';

/** The public state of a `Throttle` or a `RedisThrottle`. Read it while a subscriber handles a message. */
export interface WatchedThrottle {
  /** The name given in the options. */
  readonly name: string | undefined;
  /** Tokens per period. */
  readonly capacity: number;
  /** The largest number of jobs at a time, as configured: `0` and `Infinity` mean no limit. */
  readonly concurrency: number;
  /** The period of the capacity, in seconds. */
  readonly period: number;
  /** The tokens that an idle throttle can grant at once. */
  readonly burst: number;
  /** The number of waiters. A `RedisThrottle` counts only the waiters of this object. */
  readonly waiting: number;
  /** The number of permits that are not released yet. A `RedisThrottle` has `held` instead. */
  readonly active?: number;
  /** The number of permits that this object has received and not released yet. Only a `RedisThrottle` has it. */
  readonly held?: number;
  /** The tokens available now. A `RedisThrottle` does not have this property. */
  readonly tokens?: number;
  /** The tokens of each named rate that are available now. A `RedisThrottle` does not have this property. */
  readonly levels?: Readonly<Record<string, number>>;
  /** The further rates. */
  readonly also?: readonly Readonly<Rate>[];
}

/** The properties of every message. */
export interface ThrottleMessage {
  /** The throttle that publishes the message, in the state after the event. */
  readonly throttle: WatchedThrottle;
  /** The name of the throttle. */
  readonly name: string | undefined;
  /** The instant of the event, in seconds of the throttle's clock. */
  readonly at: number;
}

/** The properties of every message about a call of `acquire`, `run` or `tryAcquire`. */
export interface CallMessage extends ThrottleMessage {
  /** The number of the call, shared by all messages about the call and its permit. Unique in this process. */
  readonly id: number;
  /** Tokens of the main rate: the requested cost; after `settle`, the true cost. */
  readonly cost: number;
  /** The cost of each named rate, like `cost`; `undefined` if the throttle has no named rates. */
  readonly costs: Readonly<Record<string, number>> | undefined;
  /** The number of slots that the call requests, or that its permit took. */
  readonly slots: number;
}

/** `headgate:queued`: a caller has joined the queue. */
export interface QueuedMessage extends CallMessage {}

/** `headgate:granted`: a caller has received a permit, at once or after a wait. */
export interface GrantedMessage extends CallMessage {
  /** Seconds between the call and the grant. */
  readonly waited: number;
}

/** `headgate:released`: a holder has released a permit. Also: a permit was lost, by its `ttl` or on Redis. */
export interface ReleasedMessage extends CallMessage {}

/**
 * The reason of a refusal. `timeout`: no permit was available in time. `queue full`: too many callers wait, or too many
 * keys are in use. `closed`: the throttle is closed, or it drains. `cleared`: `clear` was called. `aborted`: the signal
 * of the caller has aborted. `cost`: after a change of the limits, the cost exceeds the burst. `busy`: `tryAcquire`
 * found no permit. `backend`: Redis failed.
 */
export type RefusalReason = 'timeout' | 'queue full' | 'closed' | 'cleared' | 'aborted' | 'cost' | 'busy' | 'backend';

/**
 * `headgate:refused`: a call has ended without a permit. A call with an invalid argument, or with a signal that has
 * already aborted, publishes no message.
 */
export interface RefusedMessage extends CallMessage {
  /** The reason of the refusal. */
  readonly reason: RefusalReason;
  /** The error that `acquire` or `run` rejects with; `undefined` for `tryAcquire`. */
  readonly error: unknown;
}

/** `headgate:paused`: `pause` or `resume` was called. A `RedisThrottle` publishes only the calls of this process. */
export interface PausedMessage extends ThrottleMessage {
  /**
   * Seconds until the pause ends: `Infinity` for a pause without an end, `0` after `resume`. A `RedisThrottle`
   * publishes the argument of `pause`, because a pause of another process may last longer.
   */
  readonly seconds: number;
}

/**
 * The message type of each channel, by channel name.
 *
 * @example
 * import { subscribe } from 'node:diagnostics_channel';
 * import { Throttle, type ThrottleMessages } from 'headgate';
 *
 * const refused: string[] = [];
 * subscribe('headgate:refused', (message) => {
 *   const { name, reason } = message as ThrottleMessages['headgate:refused'];
 *   refused.push(`${name}: ${reason}`);
 * });
 * new Throttle(1, 0, 60, { name: 'mail' }).tryAcquire()?.release();
 * const throttle = new Throttle(1, 0, 60, { name: 'api' });
 * throttle.tryAcquire();
 * throttle.tryAcquire();
 * console.log(refused); // → [ 'api: busy' ]
 */
export interface ThrottleMessages {
  /** A caller has joined the queue. */
  'headgate:queued': QueuedMessage;
  /** A caller has received a permit. */
  'headgate:granted': GrantedMessage;
  /** A holder has released a permit. */
  'headgate:released': ReleasedMessage;
  /** A call has ended without a permit. */
  'headgate:refused': RefusedMessage;
  /** `pause` or `resume` was called. */
  'headgate:paused': PausedMessage;
}

/**
 * The part of a `node:diagnostics_channel` channel that headgate uses. `publish` never throws an error of a subscriber.
 */
export interface Channel<Message> {
  readonly hasSubscribers: boolean;
  publish(message: Message): void;
  subscribe(listener: (message: Message) => void): void;
  unsubscribe(listener: (message: Message) => void): void;
}

/** A channel for platforms without `node:diagnostics_channel`. */
class PlainChannel<Message> implements Channel<Message> {
  #listeners: readonly ((message: Message) => void)[] = [];

  get hasSubscribers(): boolean {
    return this.#listeners.length > 0;
  }

  publish(message: Message): void {
    for (const listener of this.#listeners) {
      try {
        listener(message);
      } catch (error) {
        // As on Node, the error becomes an uncaught exception, because no caller of the gate can handle it.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  subscribe(listener: (message: Message) => void): void {
    this.#listeners = [...this.#listeners, listener];
  }

  unsubscribe(listener: (message: Message) => void): void {
    this.#listeners = this.#listeners.filter((other) => other !== listener);
  }
}

interface Platform {
  process?: {
    getBuiltinModule?: (name: string) => { channel?: <Message>(name: string) => Channel<Message> } | undefined;
  };
}

function channel<Name extends keyof ThrottleMessages>(name: Name): Channel<ThrottleMessages[Name]> {
  const platform = (globalThis as Platform).process?.getBuiltinModule?.('node:diagnostics_channel');
  return platform?.channel?.(name) ?? new PlainChannel<ThrottleMessages[Name]>();
}

// The pure annotation lets a bundler remove unused channels.
export const queued: Channel<QueuedMessage> = /* @__PURE__ */ channel('headgate:queued');
export const granted: Channel<GrantedMessage> = /* @__PURE__ */ channel('headgate:granted');
export const released: Channel<ReleasedMessage> = /* @__PURE__ */ channel('headgate:released');
export const refused: Channel<RefusedMessage> = /* @__PURE__ */ channel('headgate:refused');
export const paused: Channel<PausedMessage> = /* @__PURE__ */ channel('headgate:paused');

/** A constant of this module: a compiler loads an import more slowly. */
const hooks = development;

/** The number of each published call. The key is the waiter of the call, or its permit. */
const ids: WeakMap<object, number> = /* @__PURE__ */ new WeakMap();

/** The key of the latest number. All copies of the package in a process count together, because channels are shared. */
const CALLS: unique symbol = Symbol.for('headgate.calls') as never;
let calls: { latest: number } | undefined;

/** The number of a call. A call that `previousKey` has identified so far keeps its number under `key`. */
function idOf(key: object, previousKey: object = key): number {
  calls ??= (globalThis as { [CALLS]?: { latest: number } })[CALLS] ??= { latest: 0 };
  const id = ids.get(previousKey) ?? ++calls.latest;
  ids.set(key, id);
  return id;
}

const REASONS: Readonly<Record<string, RefusalReason>> = {
  ERR_THROTTLE_TIMEOUT: 'timeout',
  ERR_THROTTLE_QUEUE_FULL: 'queue full',
  ERR_THROTTLE_CLOSED: 'closed',
  ERR_THROTTLE_CLEARED: 'cleared',
  ERR_THROTTLE_BACKEND: 'backend',
};

/** The reason that an error of headgate stands for. */
function reasonOf(error: unknown): RefusalReason {
  if (error === undefined) return 'busy';
  return REASONS[(error as { code?: string }).code ?? ''] ?? 'cost';
}

/** The properties of a permit that messages contain. */
interface GrantedPermit {
  readonly cost: number;
  readonly waited: number;
  readonly costs: Readonly<Record<string, number>>;
  readonly slots: number | readonly number[];
}

/** The number of slots of a permit. On Redis, a permit has a list of slots. */
function countSlots({ slots }: GrantedPermit): number {
  return typeof slots === 'number' ? slots : slots.length;
}

/**
 * Publishes the events of one throttle, synchronously. Each message is an object literal: object spread takes ten times
 * as long.
 */
export class EventPublisher {
  readonly #throttle: WatchedThrottle | undefined;
  readonly #clock: { now(): number };
  readonly #names: readonly string[];

  /** With `throttle` undefined, the publisher publishes nothing, because another gate publishes the events. */
  constructor(throttle: WatchedThrottle | undefined, clock: { now(): number }, names: readonly string[] = []) {
    this.#throttle = throttle;
    this.#clock = clock;
    this.#names = names;
  }

  /** `waiter` identifies the call. */
  queued(waiter: object, cost: number, terms?: Terms): void {
    const throttle = this.#throttle;
    hooks.aids?.queued(throttle, waiter, terms?.slots ?? 1);
    if (queued.hasSubscribers && throttle !== undefined)
      queued.publish({
        throttle,
        name: throttle.name,
        at: this.#clock.now(),
        id: idOf(waiter),
        cost,
        costs: this.#costsByName(terms?.costs),
        slots: terms?.slots ?? 1,
      });
  }

  /** The cost of each named rate; `undefined` without named rates. */
  #costsByName(costs: readonly number[] | undefined): Readonly<Record<string, number>> | undefined {
    return this.#names.length === 0 || costs === undefined ? undefined : costsByName(this.#names, costs);
  }

  /** `permit` identifies the call. */
  granted(permit: GrantedPermit, waiter?: object): void {
    if (granted.hasSubscribers || hooks.aids !== undefined) this.#granted(permit, waiter);
  }

  /** `waiter` has identified the call so far; `permit` identifies the call from now on. */
  grantedWaiter(permit: GrantedPermit, waiter: object): void {
    if (granted.hasSubscribers || released.hasSubscribers) idOf(permit, waiter);
    this.granted(permit, waiter);
  }

  // Every call runs `granted` and `released`. The message is built in a separate method, so that both stay inlinable.
  #granted(permit: GrantedPermit, waiter: object | undefined): void {
    const throttle = this.#throttle;
    // Before a subscriber, because a subscriber may release the permit.
    hooks.aids?.granted(throttle, permit, waiter);
    if (granted.hasSubscribers && throttle !== undefined)
      granted.publish({
        throttle,
        name: throttle.name,
        at: this.#clock.now(),
        id: idOf(permit),
        cost: permit.cost,
        costs: this.#names.length === 0 ? undefined : permit.costs,
        slots: countSlots(permit),
        waited: permit.waited,
      });
  }

  released(permit: GrantedPermit): void {
    if (released.hasSubscribers || hooks.aids !== undefined) this.#released(permit);
  }

  #released(permit: GrantedPermit): void {
    const throttle = this.#throttle;
    hooks.aids?.released(permit);
    if (released.hasSubscribers && throttle !== undefined)
      released.publish({
        throttle,
        name: throttle.name,
        at: this.#clock.now(),
        id: idOf(permit),
        cost: permit.cost,
        costs: this.#names.length === 0 ? undefined : permit.costs,
        slots: countSlots(permit),
      });
  }

  /**
   * `key` identifies the call: its waiter, or a new object. `error` is undefined for `tryAcquire`. An error of other
   * code than headgate's needs a `reason`.
   */
  refused(key: object, cost: number, error: unknown, reason: RefusalReason = reasonOf(error), terms?: Terms): void {
    const throttle = this.#throttle;
    hooks.aids?.refused(key);
    if (refused.hasSubscribers && throttle !== undefined)
      refused.publish({
        throttle,
        name: throttle.name,
        at: this.#clock.now(),
        id: idOf(key),
        cost,
        costs: this.#costsByName(terms?.costs),
        slots: terms?.slots ?? 1,
        reason,
        error,
      });
  }

  paused(seconds: number): void {
    const throttle = this.#throttle;
    if (paused.hasSubscribers && throttle !== undefined)
      paused.publish({ throttle, name: throttle.name, at: this.#clock.now(), seconds });
  }
}
