/** A process with many callers at once, who do all that callers do, at random; and what they saw of it. */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { RedisPermit } from 'headgate/redis';
import {
  grantOf,
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

export interface CrowdSettings extends WorkerSettings {
  seed: number;
  calls: number;
  callers: number;
  costs: number[];
}

/** A permit, from when its caller had it until it gave it back; in milliseconds for all processes. */
export interface Hold {
  slot: number;
  /** What the server said of it. */
  grant: string;
  heard: number;
  released: number;
  /** What it cost in the end. */
  cost: number;
}

/** What the script said: ids are those of Redis. `order` counts what one process heard. */
export type Word =
  | { kind: 'asked'; id: string; cost: number }
  | { kind: 'queued'; id: string; ticket: string; order: number }
  | { kind: 'granted'; id: string; grant: string; order: number };

export interface Account {
  event: 'account';
  holds: Hold[];
  words: Word[];
  /** How often a call ended in which way. */
  outcomes: Record<string, number>;
}

const { seed, calls, callers, costs, ...own } = settings() as CrowdSettings;
const random = randomFrom(seed);
const account: Account = { event: 'account', holds: [], words: [], outcomes: {} };
let order = 0;

const note = (owner: string, events: string[]): void => {
  for (const event of events) {
    const [kind, serial, ...rest] = event.split(' ');
    const id = `${owner}.${serial}`;
    if (kind === 'Q') account.words.push({ kind: 'queued', id, ticket: rest[0] ?? '', order: order++ });
    if (kind === 'G') account.words.push({ kind: 'granted', id, grant: rest.join(' '), order: order++ });
  }
};

const { throttle, client } = throttleFor(own, {
  sends(args) {
    args.forEach((arg, index) => {
      if (arg === 'A' && index >= OPERATIONS)
        account.words.push({ kind: 'asked', id: `${args[0]}.${args[index + 1]}`, cost: Number(args[index + 2]) });
    });
  },
  answered: (args, events) => note(args[0] ?? '', events),
  told: note,
});

const pick = <T>(values: T[]): T => values[Math.floor(random() * values.length)] as T;
const work = (): Promise<void> | undefined => pick([() => undefined, () => turn(), () => sleep(random() * 3)])();

/** Corrects the cost of some. */
function correct(permit: RedisPermit): void {
  const chance = random();
  if (chance < 0.1) permit.refund();
  else if (chance < 0.2) permit.settle(permit.cost * random());
  else if (chance < 0.25) permit.settle(permit.cost + random());
}

function hold(permit: RedisPermit, heard: number): Hold {
  const held: Hold = { slot: permit.slot, grant: grantOf(permit), heard, released: Infinity, cost: permit.cost };
  account.holds.push(held);
  return held;
}

async function use(permit: RedisPermit): Promise<void> {
  const held = hold(permit, now());
  const early = random() < 0.5;
  if (early) correct(permit);
  await work();
  held.released = now();
  permit.release();
  if (random() < 0.1) permit.release();
  if (!early) correct(permit);
  held.cost = permit.cost;
}

async function call(): Promise<string> {
  const cost = pick(costs);
  const chance = random();
  try {
    if (chance < 0.1) {
      const permit = await throttle.tryAcquire(cost);
      if (permit === undefined) return 'tried';
      await use(permit);
    } else if (chance < 0.2) await use(await throttle.acquire(cost, { timeout: pick([0, 0.005, 0.02, 0.1]) }));
    else if (chance < 0.3) {
      const leaving = new AbortController();
      const permit = throttle.acquire(cost, { signal: leaving.signal });
      const wait = random() * 30;
      // Some leave before the call is sent.
      if (wait < 3) leaving.abort();
      else setTimeout(() => leaving.abort(), wait);
      await use(await permit);
    } else if (chance < 0.4) {
      await throttle.run(async (permit) => {
        const held = hold(permit, now());
        await work();
        held.released = now();
      }, cost);
    } else await use(await throttle.acquire(cost));
    return 'granted';
  } catch (error) {
    return (error as Error).name;
  }
}

let left = calls;
/** Milliseconds until the present lull is over. Lulls come in all processes at once, since all have one clock. */
const lull = (): number => Math.max(0, 200 - (now() % 600));

async function caller(number: number): Promise<void> {
  while (left-- > 0) {
    // Then only one in two processes goes on, and nobody waits for most of the time.
    if (number > 0 || seed % 4 > 1) await sleep(lull());
    const outcome = await call();
    account.outcomes[outcome] = (account.outcomes[outcome] ?? 0) + 1;
    if (random() < 0.1) await sleep(random() * 5);
  }
}

// Everybody is connected before anybody begins.
await throttle.inspect();
const begins = new Promise((resolve) => {
  obey(resolve);
});
report({ event: 'ready', at: now() });
await begins;
await Promise.all(Array.from({ length: callers }, (_, number) => caller(number)));
await throttle.close();
await throttle.idle();
// Too long for a write that would have to be finished at once.
process.stdout.write(`${JSON.stringify(account)}\n`, () => {
  client.end();
  part();
});
