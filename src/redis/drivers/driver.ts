/** The interface between a gate and the client of a user: run a script, and receive the messages of one channel. */
import type { Script } from '../script.js';

export interface Driver {
  /**
   * Prepares the driver for calls of `script`: computes its hash, loads a package. This time counts against no timeout.
   * Returns `undefined` when nothing is left to prepare.
   */
  prepare?(script: Script): Promise<unknown> | undefined;
  /** Connects, and returns `undefined` when connected. Without the method, the client connects by itself. */
  connect?(): Promise<unknown> | undefined;
  /** Runs `script` by its hash, or with its full text if `inFull` or without a hash. It may throw. */
  run(script: Script, keys: string[], args: string[], inFull: boolean): unknown;
  /** In a cluster: the address of the node that serves `key`, if it is known. */
  nodeOf?(key: string): string | undefined;
  /** Called when Redis has replied to no call for a whole timeout. Replaces a connection that headgate has opened. */
  reconnect?(): void;
  /** Subscribes to `channel` until `close`, and subscribes again after a failure. */
  listen(channel: string, receiver: Receiver): Listening;
  /** Closes the connections that the driver has opened, and removes its listeners from the client of the user. */
  close(): void;
}

/** The receiver of the messages of a channel. */
export interface Receiver {
  onMessage(message: unknown): void;
  /** A subscription has started. Messages may have been lost before. */
  onStart(): void;
  /** An attempt to subscribe has failed. */
  onFailure(error: unknown): void;
  /** The key of the latest call that Redis has replied to: in a cluster, its node is preferred. */
  preferredKey(): string | undefined;
  /** Seconds within which Redis must reply. */
  replyWithin(): number;
  /** Whether messages are expected. Otherwise, an idle connection is not checked. */
  expectsMessages(): boolean;
}

export interface Listening {
  /** Replaces the present subscription, which seems to deliver nothing. At most once per second. */
  renew(): void;
  stop(): void;
}

export const ignore = (): void => {};

/** The part of an event emitter that the drivers use. */
export interface Emitter {
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  off(event: string, listener: (...args: unknown[]) => void): unknown;
}

/** Adds `listener` to each of `events`. Returns a function that removes the listeners. */
export function listenTo(emitter: Emitter, events: string[], listener: () => void): () => void {
  for (const event of events) emitter.on(event, listener);
  return () => {
    for (const event of events) emitter.off(event, listener);
  };
}

/** Runs `callback` after the event loop has received what the network has delivered until now: after two turns. */
export function afterPendingInput(callback: () => void): void {
  const nextTurn = typeof setImmediate === 'function' ? setImmediate : (fn: () => void) => setTimeout(fn, 0);
  nextTurn(() => void nextTurn(callback));
}
