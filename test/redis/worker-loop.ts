/**
 * A process that acquires and releases permits until it is stopped or killed. It reports each action before the action.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  now,
  onCommand,
  disconnectFromTest,
  randomFrom,
  report,
  settings,
  throttleFor,
  type WorkerSettings,
} from './worker-client.js';

export interface LoopSettings extends WorkerSettings {
  seed: number;
  callers: number;
}

/** The reports of the process. Instants are milliseconds of the shared clock. */
export type LoopReport =
  | { event: 'ready' | 'renewed'; at: number }
  | { event: 'acquired'; name: string; slot: number; requestedAt: number; at: number }
  | { event: 'releasing' | 'lost'; name: string; at: number }
  | { event: 'failed'; error: string; at: number };

const { seed, callers, ...own } = settings() as LoopSettings;
const random = randomFrom(seed);
const reportEvent = (line: LoopReport): void => report(line);

const { throttle, client } = throttleFor(own, {
  // Every batch renews the leases.
  onReply: (_args, _events, sent) => reportEvent({ event: 'renewed', at: sent }),
});

const stop = new AbortController();
async function caller(number: number): Promise<void> {
  for (let turn = 0; !stop.signal.aborted; turn++) {
    const name = `${process.pid}.${number}.${turn}`;
    const requestedAt = now();
    try {
      const permit = await throttle.acquire(1 + random());
      reportEvent({ event: 'acquired', name, slot: permit.slot, requestedAt, at: now() });
      permit.signal.addEventListener('abort', () => reportEvent({ event: 'lost', name, at: now() }));
      // Some jobs take longer than the ttl.
      await sleep(random() < 0.03 ? 700 : random() * 15);
      reportEvent({ event: 'releasing', name, at: now() });
      permit.release();
    } catch (error) {
      reportEvent({ event: 'failed', error: (error as Error).name, at: now() });
    }
  }
}

onCommand(() => stop.abort());
reportEvent({ event: 'ready', at: now() });
await Promise.all(Array.from({ length: callers }, (_, number) => caller(number)));
await throttle.close();
await throttle.idle();
client.end();
disconnectFromTest();
