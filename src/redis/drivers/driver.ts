/** The interface between a gate and the client of a user: run a script, and receive the messages of one channel. */
import type { Script } from '../script.js';

export interface Driver {
  run(script: Script, keys: string[], args: string[]): Promise<unknown>;
  /**
   * Subscribes to `channel` until `close`, and subscribes again after a failure. Messages may be lost before a
   * subscription starts, so `onGap` is called each time that one has started.
   */
  listen(channel: string, listener: Listener, onGap: () => void): void;
  /** Closes the connections that the driver has opened, and removes its listeners from the client of the user. */
  close(): void;
}

export type Listener = (message: string) => void;

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
