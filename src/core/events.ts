/**
 * What gates tell of themselves to those who watch, and the types of it: one channel of `node:diagnostics_channel` for
 * each kind of event. The channels are found without an import, so browsers and workers load the same code; where
 * there are none, simple ones take their place, for `record` of `headgate/testing`.
 *
 * Nothing is made for a message while nobody listens: who publishes looks at `hasSubscribers` first.
 */

/** A throttle, or one on Redis, as messages show it: to look at while a message is heard. */
export interface WatchedThrottle {
  /** The name given in the options. */
  readonly name: string | undefined;
  /** Tokens per period. */
  readonly capacity: number;
  /** How many run at a time, as it was set: `0` and `Infinity` mean any number. */
  readonly concurrency: number;
  /** Seconds. */
  readonly period: number;
  /** What may start at once after silence. */
  readonly burst: number;
  /** How many callers wait; of a throttle on Redis, those of this object. */
  readonly waiting: number;
  /** How many permits are out. A throttle on Redis tells `held` instead. */
  readonly active?: number;
  /** How many permits are out, of those that this object got. Only a throttle on Redis has it. */
  readonly held?: number;
  /** The tokens at hand now. A throttle on Redis does not know them. */
  readonly tokens?: number;
}

/** What every message tells. */
export interface ThrottleMessage {
  /** Who tells it, in the state that this event has led to. */
  readonly throttle: WatchedThrottle;
  /** The name of the throttle. */
  readonly name: string | undefined;
  /** The instant, in seconds of the throttle's clock. */
  readonly at: number;
}

/** What every message about a call of `acquire`, `run` or `tryAcquire` tells. */
export interface CallMessage extends ThrottleMessage {
  /** The same in all messages about one call and its permit, and no other call's of this copy of headgate. */
  readonly id: number;
  /** Tokens: what was asked for; once it is settled, the true cost. */
  readonly cost: number;
}

/** `headgate:queued`: somebody waits. */
export interface QueuedMessage extends CallMessage {}

/** `headgate:granted`: a permit was given, to somebody who waited or at once. */
export interface GrantedMessage extends CallMessage {
  /** Seconds between the call and the grant. */
  readonly waited: number;
}

/** `headgate:released`: a permit came back. On Redis, also one that was lost. */
export interface ReleasedMessage extends CallMessage {}

/**
 * Why there is no permit. `timeout`: it could not be had in time. `queue full`: too many wait, or too many keys are in
 * use. `closed`: by `close`. `aborted`: by the caller's signal. `cost`: a change of the limits made it more than could
 * ever be granted. `busy`: `tryAcquire` found that it is not possible now. `backend`: Redis failed.
 */
export type RefusalReason = 'timeout' | 'queue full' | 'closed' | 'aborted' | 'cost' | 'busy' | 'backend';

/**
 * `headgate:refused`: a call ended without a permit. A call that is none is not told: one with a bad argument, or with a
 * signal that had aborted before.
 */
export interface RefusedMessage extends CallMessage {
  /** Why. */
  readonly reason: RefusalReason;
  /** What the caller of `acquire` or `run` gets. */
  readonly error: unknown;
}

/** `headgate:paused`: `pause` or `resume` was called; of a throttle on Redis, in this process. */
export interface PausedMessage extends ThrottleMessage {
  /**
   * Seconds until the throttle opens: `Infinity` for "until `resume`", and `0` for "now", from `resume`. On Redis, where
   * another pause may last longer, those that were asked for.
   */
  readonly seconds: number;
}

/**
 * The messages by the names of their channels.
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
  /** Somebody waits. */
  'headgate:queued': QueuedMessage;
  /** A permit was given. */
  'headgate:granted': GrantedMessage;
  /** A permit came back. */
  'headgate:released': ReleasedMessage;
  /** A call ended without a permit. */
  'headgate:refused': RefusedMessage;
  /** `pause` or `resume` was called. */
  'headgate:paused': PausedMessage;
}

/** What is used of a channel of `node:diagnostics_channel`. It keeps what a subscriber throws from the publisher. */
export interface Channel<Message> {
  readonly hasSubscribers: boolean;
  publish(message: Message): void;
  subscribe(listener: (message: Message) => void): void;
  unsubscribe(listener: (message: Message) => void): void;
}

/** A channel where the platform has none. */
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
        // Uncaught, as on Node: it is a fault of the listener's, and no caller's.
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

// Marked as pure, so that a bundler leaves out what is not used.
export const queued: Channel<QueuedMessage> = /* @__PURE__ */ channel('headgate:queued');
export const granted: Channel<GrantedMessage> = /* @__PURE__ */ channel('headgate:granted');
export const released: Channel<ReleasedMessage> = /* @__PURE__ */ channel('headgate:released');
export const refused: Channel<RefusedMessage> = /* @__PURE__ */ channel('headgate:refused');
export const paused: Channel<PausedMessage> = /* @__PURE__ */ channel('headgate:paused');

/** Numbers of calls that were told about, by what stands for a call: its place in the queue, or its permit. */
const ids: WeakMap<object, number> = /* @__PURE__ */ new WeakMap();
let latest = 0;

function idOf(call: object, before: object = call): number {
  const id = ids.get(before) ?? ++latest;
  ids.set(call, id);
  return id;
}

const REASONS: Readonly<Record<string, RefusalReason>> = {
  ERR_THROTTLE_TIMEOUT: 'timeout',
  ERR_THROTTLE_QUEUE_FULL: 'queue full',
  ERR_THROTTLE_CLOSED: 'closed',
  ERR_THROTTLE_BACKEND: 'backend',
};

/** What an error of ours says. */
function reasonOf(error: unknown): RefusalReason {
  if (error === undefined) return 'busy';
  return REASONS[(error as { code?: string }).code ?? ''] ?? 'cost';
}

/** What is told of a permit. */
interface Granted {
  readonly cost: number;
  readonly waited: number;
}

/** How a throttle tells what happens, at the instant at which it does. Messages are written out: spreading costs ten times as much. */
export class EventPublisher {
  readonly #throttle: WatchedThrottle | undefined;
  readonly #clock: { now(): number };

  /** Without a `throttle` it tells nothing: somebody else does. */
  constructor(throttle: WatchedThrottle | undefined, clock: { now(): number }) {
    this.#throttle = throttle;
    this.#clock = clock;
  }

  /** `place` stands for the call. */
  queued(place: object, cost: number): void {
    const throttle = this.#throttle;
    if (queued.hasSubscribers && throttle !== undefined)
      queued.publish({ throttle, name: throttle.name, at: this.#clock.now(), id: idOf(place), cost });
  }

  /** `permit` stands for the call. */
  granted(permit: Granted): void {
    if (granted.hasSubscribers) this.#granted(permit);
  }

  /** `permit` stands for the call now; before that, `place` did. */
  handedOver(permit: Granted, place: object): void {
    if (granted.hasSubscribers || released.hasSubscribers) idOf(permit, place);
    this.granted(permit);
  }

  // These two are on the way of every call: apart, what is left there is small enough to be inlined.
  #granted(permit: Granted): void {
    const throttle = this.#throttle;
    if (throttle !== undefined)
      granted.publish({
        throttle,
        name: throttle.name,
        at: this.#clock.now(),
        id: idOf(permit),
        cost: permit.cost,
        waited: permit.waited,
      });
  }

  released(permit: Granted): void {
    if (released.hasSubscribers) this.#released(permit);
  }

  #released(permit: Granted): void {
    const throttle = this.#throttle;
    if (throttle !== undefined)
      released.publish({ throttle, name: throttle.name, at: this.#clock.now(), id: idOf(permit), cost: permit.cost });
  }

  /** `place` is new where the call had none; without an `error`, nobody gets one. Where it is none of ours, it comes with the `reason`. */
  refused(place: object, cost: number, error: unknown, reason: RefusalReason = reasonOf(error)): void {
    const throttle = this.#throttle;
    if (refused.hasSubscribers && throttle !== undefined)
      refused.publish({ throttle, name: throttle.name, at: this.#clock.now(), id: idOf(place), cost, reason, error });
  }

  paused(seconds: number): void {
    const throttle = this.#throttle;
    if (paused.hasSubscribers && throttle !== undefined)
      paused.publish({ throttle, name: throttle.name, at: this.#clock.now(), seconds });
  }
}
