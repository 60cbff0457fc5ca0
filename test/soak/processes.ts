/**
 * Two processes on one Redis, with faults: a process is killed and replaced, blocked or suspended, connections are cut
 * or lose packets, and Redis is suspended or loses its scripts. The faults end before the history does. The traces of
 * the server and of the processes are judged: never more holders than the limit, no slot twice, grants in the order of
 * arrival, no lease and no waiter left, no process that starves, and no failure at all after the faults.
 */
import { join } from 'node:path';
import { RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import { Redis } from 'ioredis';
import { removePath, temporaryFolder } from '../support/processes.js';
import { type RedisServer, startRedis } from '../support/redis-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { Child } from './fleet/child.js';
import { FAULT_NAMES, type FaultName, type Fleet, injectFaults } from './fleet/faults.js';
import { judgeHolds, servedByProcess } from './fleet/holds-judge.js';
import { ServerJudge, violationsAtEnd } from './fleet/server-judge.js';
import { TraceReader } from './fleet/traced-client.js';
import type { WorkerSettings } from './fleet/worker.js';
import { Dice, HistoryFailed, type Part, sleep, StepLog, type Tally, until, within } from './part.js';

const PROCESSES = 2;
const FAULTY_SECONDS = 6;
const CALM_SECONDS = 2;
/** The time that a client needs to connect again. */
const RECONNECT_SECONDS = 2.5;
/** The longest waits, in seconds: with faults of up to two `ttl` one after the other, and without. */
const LONGEST_WAIT = 15;
const LONGEST_CALM_WAIT = 2;
const END_SECONDS = 30;
const START_SECONDS = 90;
/** Milliseconds. On a machine that stalls for longer, calls may fail without a fault, and are judged as with faults. */
const LONGEST_STALL = 250;
/** The most calls of one process. */
const CALLS_PER_PROCESS = 1e6;

let server: RedisServer | undefined;
let admin: Redis | undefined;
let serverPid = 0;

/** Over all histories. */
const totals = {
  stalled: 0,
  held: 0,
  lost: 0,
  failed: 0,
  aborted: 0,
  handedOn: 0,
  expired: 0,
  longestWait: 0,
  longestCalmWait: 0,
};
const faultCounts = new Map<FaultName, number>();

async function playProcesses(seed: number, tally: Tally): Promise<void> {
  const dice = new Dice(seed);
  const steps = new StepLog();
  const control = admin as Redis;
  const folder = temporaryFolder('headgate-soak-');
  await control.flushall();
  const limit = dice.pick([1, 2, 3]);
  const ttl = dice.pick([1.5, 2]);
  const throttle: Omit<RedisThrottleOptions, 'client'> = {
    key: `processes${seed}`,
    concurrency: limit,
    ttl,
    linger: dice.pick([0, 0, 0.2]),
    commandTimeout: dice.pick([1, 1.3]),
  };
  steps.note(JSON.stringify(throttle));
  const shape = { callers: dice.pick([2, 6, 12]), longestHold: dice.pick([2, 15]), longestRest: dice.pick([0, 5, 30]) };
  const proxies = await Promise.all(
    Array.from({ length: PROCESSES }, () => new TcpProxy((server as RedisServer).port).start()),
  );
  const all: Child[] = [];
  const children: Child[] = [];
  const start = (index: number): Child => {
    const number = all.length;
    const settings: WorkerSettings = {
      kind: (index + seed) % 2 === 0 ? 'ioredis' : 'node-redis',
      url: (proxies[index] as TcpProxy).url,
      throttle,
      reports: join(folder, `process${number}`),
      seed: dice.next(),
      firstCall: 1 + number * CALLS_PER_PROCESS,
      calls: 0,
      ...shape,
      abortOneIn: 12,
      longHoldOneIn: 300,
    };
    const child = new Child(`process ${index} (${number})`, settings);
    all.push(child);
    children[index] = child;
    void child.ready.then(() => child.send('go'));
    return child;
  };
  const fleet: Fleet = {
    admin: control,
    serverPid,
    ttl,
    children,
    proxies,
    async replace(index, milliseconds) {
      await children[index]?.kill();
      await sleep(milliseconds);
      start(index);
    },
    note: (step) => steps.note(step),
  };
  const judge = new ServerJudge(limit);
  const trace = new TraceReader(control, (entry) => judge.add(entry));
  try {
    for (let index = 0; index < PROCESSES; index++) start(index);
    await within(START_SECONDS, Promise.all(children.map(({ ready }) => ready)), 'the processes start');
    await injectFaults(fleet, dice.fork(), performance.now() + FAULTY_SECONDS * 1_000, faultCounts);
    await within(START_SECONDS, Promise.all(children.map(({ ready }) => ready)), 'the successors start');
    for (const child of children) child.send('calm');
    // The longest hold, the longest block, and the time to connect again.
    await sleep(1_000 * (2 * ttl + RECONNECT_SECONDS));
    const calmFrom = Number(process.hrtime.bigint()) / 1e6;
    steps.note('the faults have no effect any more');
    const stall = await longestStall(control, CALM_SECONDS * 1_000);
    for (const child of children) child.send('stop');
    await within(END_SECONDS, Promise.all(children.map((child) => child.finish())), 'all calls settle');
    await checkLeft(throttle);
    const lives = all.map((child) => child.life());
    await trace.end();
    const verdict = judge.verdict(servedByProcess(lives));
    const isStalled = stall > LONGEST_STALL;
    totals.stalled += Number(isStalled);
    const holds = judgeHolds(lives, {
      limit,
      calmFrom: isStalled ? Infinity : calmFrom,
      longestWait: LONGEST_WAIT * 1_000,
      longestCalmWait: LONGEST_CALM_WAIT * 1_000 + (shape.callers * PROCESSES * shape.longestHold) / limit,
      items: verdict.items,
    });
    const violations = [...violationsAtEnd(verdict), ...holds.violations];
    for (const { name, reports, wasKilled } of lives)
      if (!wasKilled && !reports.some(({ kind, at }) => kind === 'held' && at > calmFrom))
        violations.push(`${name} has held nothing after the faults`);
    if (violations.length > 0) throw new Error(violations.join('\n'));
    tally.operations += verdict.entries;
    tally.grants += holds.held;
    tally.refusals += holds.failed;
    tally.aborts += holds.aborted;
    totals.held += holds.held;
    totals.lost += holds.lost;
    totals.failed += holds.failed;
    totals.aborted += holds.aborted;
    totals.handedOn += verdict.handedOn;
    totals.expired += verdict.expiredOwners;
    totals.longestWait = Math.max(totals.longestWait, holds.longestWait);
    totals.longestCalmWait = Math.max(totals.longestCalmWait, holds.longestCalmWait);
  } catch (error) {
    throw new HistoryFailed((error as Error).message, steps.toString(), error);
  } finally {
    trace.stop();
    await Promise.all(all.map((child) => child.kill()));
    await Promise.all(proxies.map((proxy) => proxy.stop()));
    removePath(folder);
  }
}

/** The longest delay of a timer and a `PING`, within so many milliseconds. */
async function longestStall(control: Redis, milliseconds: number): Promise<number> {
  let longest = 0;
  for (const end = performance.now() + milliseconds; performance.now() < end;) {
    const from = performance.now();
    await Promise.all([sleep(20), control.ping()]);
    longest = Math.max(longest, performance.now() - from);
  }
  return longest;
}

/** No lease and no waiter is left, and the keys expire. */
async function checkLeft(options: Omit<RedisThrottleOptions, 'client'>): Promise<void> {
  const observer = new RedisThrottle({ ...options, client: admin as Redis });
  const { ttl = 60 } = options;
  try {
    // The slots of a killed process are free after `ttl`.
    await until(
      'no lease and no waiter is left',
      async () => {
        const { active, waiting } = await observer.inspect();
        return active.length + waiting.length === 0;
      },
      ttl + 3,
    );
  } finally {
    await observer.close();
  }
  const left = async (): Promise<string[]> => (admin as Redis).keys('{headgate:*');
  await until('no key is left', async () => (await left()).length === 0, ttl + 5);
}

function summary(): string {
  const faults = FAULT_NAMES.map((name) => `${name} ${faultCounts.get(name) ?? 0}`).join(', ');
  const total = [...faultCounts.values()].reduce((sum, count) => sum + count, 0);
  return (
    `processes: ${totals.held} acquisitions, of which ${totals.handedOn} handed on; ${totals.lost} leases lost, ` +
    `${totals.failed} calls failed, ${totals.aborted} aborted, ${totals.expired} owners expired; ` +
    `${total} faults (${faults}); longest wait ${(totals.longestWait / 1_000).toFixed(2)} s, ` +
    `after the faults ${(totals.longestCalmWait / 1_000).toFixed(2)} s; ${totals.stalled} histories on a stalled machine`
  );
}

export const processes: Part = {
  name: 'processes',
  exact: false,
  weight: 4,
  historySeconds: 300,
  async open() {
    server = await startRedis();
    admin = new Redis(server.url);
    admin.on('error', () => {});
    serverPid = Number(/process_id:(\d+)/.exec(await admin.info('server'))?.[1]);
    return [serverPid];
  },
  async close() {
    admin?.disconnect();
    await server?.stop();
  },
  play: playProcesses,
  summary,
};
