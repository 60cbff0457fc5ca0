/**
 * Eight processes with eight callers each, and a hundred thousand calls of one gate without a rate. One trace of the
 * server decides: grants in the order in which the calls arrive in Redis, never more leases than the limit, no slot
 * twice, and no free slot while a call waits. The reports of the processes confirm it from the side of the holders.
 */
import { join } from 'node:path';
import type { RedisThrottleOptions } from 'headgate/redis';
import { Redis } from 'ioredis';
import { removePath, temporaryFolder } from '../support/processes.js';
import { startRedis } from '../support/redis-server.js';
import { Child } from './fleet/child.js';
import { judgeHolds, servedByProcess } from './fleet/holds-judge.js';
import { ServerJudge, violationsAtEnd } from './fleet/server-judge.js';
import { TraceReader } from './fleet/traced-client.js';
import { Dice, type Part, type Tally, within } from './part.js';

const PROCESSES = 8;
const CALLERS = 8;
const CALLS = 100_000;
const LIMIT = 8;
/** Seconds for all calls, on a busy machine. */
const MOST_SECONDS = 600;
/** Seconds. Without a fault, a call waits for the calls ahead of it only. */
const LONGEST_WAIT = 5;

let result = '';

async function playCrowd(seed: number, tally: Tally): Promise<void> {
  const dice = new Dice(seed);
  const server = await startRedis();
  const admin = new Redis(server.url);
  const folder = temporaryFolder('headgate-soak-');
  const throttle: Omit<RedisThrottleOptions, 'client'> = { key: 'crowd', concurrency: LIMIT, commandTimeout: 20 };
  const judge = new ServerJudge(LIMIT);
  const trace = new TraceReader(admin, (entry) => judge.add(entry));
  const children = Array.from(
    { length: PROCESSES },
    (_, index) =>
      new Child(`process ${index}`, {
        kind: index % 2 === 0 ? 'ioredis' : 'node-redis',
        url: server.url,
        throttle,
        reports: join(folder, `process${index}`),
        seed: dice.next(),
        firstCall: 1 + index * CALLS,
        calls: CALLS / PROCESSES,
        callers: CALLERS,
        longestHold: 0,
        longestRest: 0,
        abortOneIn: 0,
        longHoldOneIn: 0,
      }),
  );
  try {
    await within(60, Promise.all(children.map(({ ready }) => ready)), 'the processes start');
    const from = performance.now();
    for (const child of children) child.send('go');
    await within(MOST_SECONDS, Promise.all(children.map((child) => child.finish())), 'all calls settle');
    const seconds = (performance.now() - from) / 1_000;
    await trace.end();
    const lives = children.map((child) => child.life());
    const verdict = judge.verdict(servedByProcess(lives));
    const longest = LONGEST_WAIT * 1_000;
    const terms = { limit: LIMIT, calmFrom: 0, longestWait: longest, longestCalmWait: longest, items: verdict.items };
    const holds = judgeHolds(lives, terms);
    const violations = [...violationsAtEnd(verdict), ...holds.violations];
    if (holds.held !== CALLS) violations.push(`${holds.held} calls were granted, of ${CALLS}`);
    if (verdict.grants + verdict.handedOn < CALLS)
      violations.push(`the trace has ${verdict.grants} grants and ${verdict.handedOn} that were handed on`);
    if (violations.length > 0) throw new Error(violations.join('\n'));
    tally.operations += CALLS;
    tally.grants += holds.held;
    result =
      `crowd: ${holds.held} acquisitions by ${PROCESSES} processes in ${seconds.toFixed(1)} s, ` +
      `${verdict.handedOn} handed on; ${verdict.entries} calls of the script; ` +
      `longest wait ${(holds.longestCalmWait / 1_000).toFixed(2)} s`;
  } finally {
    trace.stop();
    await Promise.all(children.map((child) => child.kill()));
    admin.disconnect();
    await server.stop();
    removePath(folder);
  }
}

export const crowd: Part = {
  name: 'crowd',
  exact: false,
  weight: 1,
  once: true,
  historySeconds: MOST_SECONDS + 60,
  play: playCrowd,
  summary: () => result,
};
