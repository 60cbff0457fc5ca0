/**
 * A process with many concurrent callers that use every method at random, and a record of the events that they receive.
 */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { RedisPermit } from 'headgate/redis';
import { headerOf, wordsOf } from './batch-words.js';
import {
  grantOf,
  now,
  onCommand,
  disconnectFromTest,
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

/** A held permit: the instants of its receipt and its release, in milliseconds of the shared clock. */
export interface Hold {
  slot: number;
  /** The grant as Redis stores it. */
  grant: string;
  receivedAt: number;
  released: number;
  /** The final cost. */
  cost: number;
}

/** A request, or an event of the script. Ids are the ids in Redis. `order` counts the events of one process. */
export type ScriptEvent =
  | { kind: 'requested'; id: string; cost: number }
  | { kind: 'queued'; id: string; ticket: string; order: number }
  | { kind: 'granted'; id: string; grant: string; order: number };

export interface Account {
  event: 'account';
  holds: Hold[];
  events: ScriptEvent[];
  /** The number of calls for each outcome. */
  outcomes: Record<string, number>;
}

const { seed, calls, callers, costs, ...own } = settings() as CrowdSettings;
const random = randomFrom(seed);
const account: Account = { event: 'account', holds: [], events: [], outcomes: {} };
let order = 0;

const record = (owner: string, events: string[]): void => {
  for (const event of events) {
    const [kind, serial, ...rest] = event.split(' ');
    const id = `${owner}.${serial}`;
    if (kind === 'Q') account.events.push({ kind: 'queued', id, ticket: rest[0] ?? '', order: order++ });
    if (kind === 'G' || kind === 'g')
      account.events.push({ kind: 'granted', id, grant: rest.join(' '), order: order++ });
  }
};

const { throttle, client } = throttleFor(own, {
  beforeSend(args) {
    const words = wordsOf(args);
    words.forEach((word, index) => {
      if (word === 'A')
        account.events.push({
          kind: 'requested',
          id: `${headerOf(args).owner}.${words[index + 1]}`,
          cost: Number(words[index + 2]),
        });
    });
  },
  onReply: (args, events) => record(headerOf(args).owner, events),
  onMessage: record,
});

const pick = <T>(values: T[]): T => values[Math.floor(random() * values.length)] as T;
const work = (): Promise<void> | undefined => pick([() => undefined, () => turn(), () => sleep(random() * 3)])();

/** Settles the cost of some permits. */
function correct(permit: RedisPermit): void {
  const chance = random();
  if (chance < 0.1) permit.refund();
  else if (chance < 0.2) permit.settle(permit.cost * random());
  else if (chance < 0.25) permit.settle(permit.cost + random());
}

function hold(permit: RedisPermit, receivedAt: number): Hold {
  const held: Hold = { slot: permit.slot, grant: grantOf(permit), receivedAt, released: Infinity, cost: permit.cost };
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
      // Some signals abort before the call is sent.
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
/** Milliseconds until the current lull ends. All processes share the clock, so their lulls coincide. */
const lull = (): number => Math.max(0, 200 - (now() % 600));

async function caller(number: number): Promise<void> {
  while (left-- > 0) {
    // In a lull, only every other process has one active caller, so the queue is mostly empty.
    if (number > 0 || seed % 4 > 1) await sleep(lull());
    const outcome = await call();
    account.outcomes[outcome] = (account.outcomes[outcome] ?? 0) + 1;
    if (random() < 0.1) await sleep(random() * 5);
  }
}

// All processes connect before the first call.
await throttle.inspect();
const begins = new Promise((resolve) => {
  onCommand(resolve);
});
report({ event: 'ready', at: now() });
await begins;
await Promise.all(Array.from({ length: callers }, (_, number) => caller(number)));
await throttle.close();
await throttle.idle();
// The account is too long for a synchronous write to a pipe.
process.stdout.write(`${JSON.stringify(account)}\n`, () => {
  client.end();
  disconnectFromTest();
});
