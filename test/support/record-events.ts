/** Records the messages of the diagnostics channels. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { ThrottleMessages } from 'headgate';
import { onTestFinished } from 'vitest';

type Name = keyof ThrottleMessages;
export type Heard = {
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
export function listen(on: (heard: Heard) => void): void {
  for (const name of NAMES) {
    const listener = (message: unknown): void =>
      on({ kind: name.slice('headgate:'.length), ...(message as object) } as Heard);
    subscribe(name, listener);
    onTestFinished(() => void unsubscribe(name, listener));
  }
}

export function hear(): Heard[] {
  const heard: Heard[] = [];
  listen((message) => heard.push(message));
  return heard;
}

export const outcome = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (value) => value,
    (error: unknown) => error,
  );
