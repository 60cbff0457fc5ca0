/** Records the messages of the diagnostics channels. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { ThrottleMessages } from 'headgate';
import { onTestFinished } from 'vitest';

type Name = keyof ThrottleMessages;
export type RecordedEvent = {
  [N in Name]: { kind: N extends `headgate:${infer Kind}` ? Kind : never } & ThrottleMessages[N];
}[Name];

export const NAMES = [
  'headgate:queued',
  'headgate:granted',
  'headgate:released',
  'headgate:refused',
  'headgate:paused',
] as const;

/** Subscribes to all channels until the test ends. */
export function listen(on: (recorded: RecordedEvent) => void): void {
  for (const name of NAMES) {
    const listener = (message: unknown): void =>
      on({ kind: name.slice('headgate:'.length), ...(message as object) } as RecordedEvent);
    subscribe(name, listener);
    onTestFinished(() => void unsubscribe(name, listener));
  }
}

export function recordEvents(): RecordedEvent[] {
  const recorded: RecordedEvent[] = [];
  listen((message) => recorded.push(message));
  return recorded;
}

export const outcome = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (value) => value,
    (error: unknown) => error,
  );
