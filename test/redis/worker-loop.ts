/** A process that takes permits and gives them back until it is told to stop, or killed; it says what it does before it does it. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  now,
  obey,
  OPERATIONS,
  part,
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

/** What it says. In milliseconds for all processes. */
export type Said =
  | { event: 'ready' | 'renewed'; at: number }
  | { event: 'took'; name: string; slot: number; asked: number; at: number }
  | { event: 'gives' | 'lost'; name: string; at: number }
  | { event: 'failed'; error: string; at: number };

const { seed, callers, ...own } = settings() as LoopSettings;
const random = randomFrom(seed);
const say = (said: Said): void => report(said);

const { throttle, client } = throttleFor(own, {
  answered(args, _, sent) {
    if (args.includes('K', OPERATIONS)) say({ event: 'renewed', at: sent });
  },
});

const stop = new AbortController();
async function caller(number: number): Promise<void> {
  for (let turn = 0; !stop.signal.aborted; turn++) {
    const name = `${process.pid}.${number}.${turn}`;
    const asked = now();
    try {
      const permit = await throttle.acquire(1 + random());
      say({ event: 'took', name, slot: permit.slot, asked, at: now() });
      permit.signal.addEventListener('abort', () => say({ event: 'lost', name, at: now() }));
      // Now and then longer than the ttl.
      await sleep(random() < 0.03 ? 700 : random() * 15);
      say({ event: 'gives', name, at: now() });
      permit.release();
    } catch (error) {
      say({ event: 'failed', error: (error as Error).name, at: now() });
    }
  }
}

obey(() => stop.abort());
say({ event: 'ready', at: now() });
await Promise.all(Array.from({ length: callers }, (_, number) => caller(number)));
await throttle.close();
await throttle.idle();
client.end();
part();
