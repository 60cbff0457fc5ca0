/** A process that acquires and releases permits on command, and kills itself in a given phase. */
import type { RedisPermit } from 'headgate/redis';
import { wordsOf } from './batch-words.js';
import {
  grantOf,
  now,
  onCommand,
  disconnectFromTest,
  report,
  settings,
  throttleFor,
  type WorkerSettings,
} from './worker-client.js';

/**
 * The phase in which the process dies:
 * - `connecting`: before its call is sent.
 * - `calling`: before it reads the reply with its grant.
 * - `queued`: while it waits.
 * - `granted`: before it reads the message with its grant.
 * - `holding`: while it holds the permit.
 * - `releasing`: before the release is sent.
 * - `released`: before it reads the reply to the release.
 */
export type Phase = 'connecting' | 'calling' | 'queued' | 'granted' | 'holding' | 'releasing' | 'released';

export interface ObeyingSettings extends WorkerSettings {
  dies?: Phase;
}

/** The commands of the test. Permits have names. */
export type Command =
  | { do: 'acquire'; name: string; cost?: number; timeout?: number }
  | { do: 'release'; name: string }
  /** Blocks the process for some seconds, then reads the signal of its permit at once. */
  | { do: 'block'; seconds: number; check?: string; release?: string }
  /** Blocks the process once its next call is sent. */
  | { do: 'block when it calls'; seconds: number }
  /** Acquires, and blockSeconds the process before it can read the reply. */
  | { do: 'acquire and block'; name: string; seconds: number }
  /**
   * Disconnects from the test, so that only other work keeps the process alive. With `end`, it also closes the client.
   */
  | { do: 'part'; end: boolean };

const { dies, ...own } = settings() as ObeyingSettings;

const die = (): never => {
  report({ event: 'dies', at: now() });
  process.kill(process.pid, 'SIGKILL');
  // The signal may arrive with a delay.
  for (;;);
};
/** Blocks the event loop. */
const block = (seconds: number): void =>
  void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1_000);
/** Seconds to block when the next call is sent. */
let blockSeconds = 0;

const hasEvent = (events: string[], kind: string): boolean => events.some((event) => event.startsWith(`${kind} `));
const hasCommand = (args: string[], kind: string): boolean => wordsOf(args).includes(kind);

const { throttle, client } = throttleFor(own, {
  onConnect() {
    if (dies === 'connecting') die();
  },
  beforeSend(args) {
    if (dies === 'releasing' && hasCommand(args, 'R')) die();
  },
  afterSend() {
    const seconds = blockSeconds;
    blockSeconds = 0;
    // node-redis writes in a setImmediate callback, and the reply cannot arrive before the next turn.
    if (seconds === 0) return;
    setImmediate(() => {
      block(seconds);
      report({ event: 'blocked', at: now() });
    });
  },
  onReply(args, events) {
    if ((dies === 'calling' && hasCommand(args, 'A')) || (dies === 'released' && hasCommand(args, 'R'))) die();
    for (const event of events) if (event.startsWith('Q ')) report({ event: 'queued', at: now() });
    if (dies === 'queued' && hasEvent(events, 'Q')) die();
    // If the message was published before the subscription, the reply to a renewal contains the grant.
    if (dies === 'granted' && hasCommand(args, 'W') && hasEvent(events, 'g')) die();
    if (hasCommand(args, 'R')) report({ event: 'release confirmed', at: now() });
  },
  onMessage(_, events) {
    if (dies === 'granted' && hasEvent(events, 'G')) die();
  },
});

const permits = new Map<string, RedisPermit>();

async function acquire(name: string, cost?: number, timeout?: number): Promise<void> {
  report({ event: 'requested', name, at: now() });
  try {
    const permit = await throttle.acquire(cost, { timeout });
    permits.set(name, permit);
    report({
      event: 'granted',
      name,
      at: now(),
      slot: permit.slot,
      grant: grantOf(permit),
      lost: permit.signal.aborted,
    });
    permit.signal.addEventListener('abort', () =>
      report({ event: 'lost', name, at: now(), error: (permit.signal.reason as Error).name }),
    );
    if (dies === 'holding') die();
  } catch (error) {
    report({ event: 'refused', name, at: now(), error: (error as Error).name });
  }
}

onCommand((message) => {
  const command = message as Command;
  switch (command.do) {
    case 'acquire':
      return void acquire(command.name, command.cost, command.timeout);
    case 'release':
      report({ event: 'releasing', name: command.name, at: now() });
      return permits.get(command.name)?.release();
    case 'block': {
      block(command.seconds);
      const permit = permits.get(command.check ?? '');
      const signal = permit?.signal;
      report({
        event: 'checked',
        name: command.check,
        at: now(),
        lost: signal?.aborted,
        error: (signal?.reason as Error | undefined)?.name,
      });
      return permits.get(command.release ?? '')?.release();
    }
    case 'block when it calls':
      blockSeconds = command.seconds;
      return undefined;
    case 'acquire and block':
      blockSeconds = command.seconds;
      return void acquire(command.name);
    case 'part':
      if (command.end) client.end();
      return disconnectFromTest();
  }
});
// A process that dies while it connects must not wait for the connection.
if (dies === 'connecting') void acquire('its');
else await throttle.inspect();
report({ event: 'ready', at: now() });
