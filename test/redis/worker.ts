/** A process that takes and gives back permits as it is told, and dies in the middle of what it is told to die in. */
import type { RedisPermit } from 'headgate/redis';
import {
  grantOf,
  now,
  obey,
  OPERATIONS,
  part,
  report,
  settings,
  throttleFor,
  type WorkerSettings,
} from './worker-client.js';

/**
 * Where a process ends: `connecting`, with its call not sent; `calling`, with the answer there and not heard; `queued`;
 * `granted`, told so and not heard; `holding`; `releasing`, before the release is sent; `released`, with it sent and the
 * answer not heard.
 */
export type Phase = 'connecting' | 'calling' | 'queued' | 'granted' | 'holding' | 'releasing' | 'released';

export interface ObeyingSettings extends WorkerSettings {
  dies?: Phase;
}

/** What a worker is told. Permits have names. */
export type Command =
  | { do: 'acquire'; name: string; cost?: number; timeout?: number }
  | { do: 'release'; name: string }
  /** Nothing else happens in the process for so many seconds, and then it looks at its permit at once. */
  | { do: 'block'; seconds: number; look?: string; release?: string }
  /** The same, as soon as its next call is on the way. */
  | { do: 'block when it calls'; seconds: number }
  /** Acquires, and hears nothing of it for so many seconds. */
  | { do: 'acquire and block'; name: string; seconds: number }
  /** Closes the client, not the throttle; and lives only for as long as anything else keeps it alive. */
  | { do: 'part'; end: boolean };

const { dies, ...own } = settings() as ObeyingSettings;

const die = (): never => {
  report({ event: 'dies', at: now() });
  process.kill(process.pid, 'SIGKILL');
  // The signal may take a moment.
  for (;;);
};
/** Sleeps without letting anything happen. */
const block = (seconds: number): void =>
  void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1_000);
/** For how long to do so when the next call is sent. */
let blocks = 0;

const has = (events: string[], kind: string): boolean => events.some((event) => event.startsWith(`${kind} `));
const asks = (args: string[], kind: string): boolean => args.includes(kind, OPERATIONS);

const { throttle, client } = throttleFor(own, {
  connected() {
    if (dies === 'connecting') die();
  },
  sends(args) {
    if (dies === 'releasing' && asks(args, 'R')) die();
  },
  sent() {
    const seconds = blocks;
    blocks = 0;
    // node-redis writes in an immediate of its own, and the answer cannot come before the next turn.
    if (seconds === 0) return;
    setImmediate(() => {
      block(seconds);
      report({ event: 'blocked', at: now() });
    });
  },
  answered(args, events) {
    if ((dies === 'calling' && asks(args, 'A')) || (dies === 'released' && asks(args, 'R'))) die();
    for (const event of events) if (event.startsWith('Q ')) report({ event: 'queued', at: now() });
    if (dies === 'queued' && has(events, 'Q')) die();
    // What was said before it listened, it hears by asking.
    if (dies === 'granted' && asks(args, 'W') && has(events, 'G')) die();
    if (asks(args, 'R')) report({ event: 'gave back', at: now() });
  },
  told(_, events) {
    if (dies === 'granted' && has(events, 'G')) die();
  },
});

const permits = new Map<string, RedisPermit>();

async function acquire(name: string, cost?: number, timeout?: number): Promise<void> {
  report({ event: 'asks', name, at: now() });
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

obey((message) => {
  const command = message as Command;
  switch (command.do) {
    case 'acquire':
      return void acquire(command.name, command.cost, command.timeout);
    case 'release':
      report({ event: 'releases', name: command.name, at: now() });
      return permits.get(command.name)?.release();
    case 'block': {
      block(command.seconds);
      const permit = permits.get(command.look ?? '');
      const signal = permit?.signal;
      report({
        event: 'looked',
        name: command.look,
        at: now(),
        lost: signal?.aborted,
        error: (signal?.reason as Error | undefined)?.name,
      });
      return permits.get(command.release ?? '')?.release();
    }
    case 'block when it calls':
      blocks = command.seconds;
      return undefined;
    case 'acquire and block':
      blocks = command.seconds;
      return void acquire(command.name);
    case 'part':
      if (command.end) client.end();
      return part();
  }
});
// Who is to die while it connects does not wait for that.
if (dies === 'connecting') void acquire('its');
else await throttle.inspect();
report({ event: 'ready', at: now() });
