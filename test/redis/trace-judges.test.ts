/**
 * The judges of the soak with processes accept what headgate does, and find each planted fault: in the script of a real
 * server, and in the reports of the holders.
 */
import { readFileSync } from 'node:fs';
import { RedisThrottle } from 'headgate/redis';
import { describe, expect, it, test } from 'vitest';
import { Callers } from '../soak/fleet/callers.js';
import { type HoldsVerdict, judgeHolds, type Life, servedByProcess } from '../soak/fleet/holds-judge.js';
import { type Report, writeReport } from '../soak/fleet/reports.js';
import { batchArgument } from './batch-words.js';
import { ServerJudge, type ServerVerdict } from '../soak/fleet/server-judge.js';
import { type TraceEntry, tracedClient, TraceReader } from '../soak/fleet/traced-client.js';
import { readLua, type Replacements } from '../support/lua-loader.js';
import { client as admin, server } from './own-server.js';
import { NO_FAST_PATH, replaceLua, scriptFile, STEP } from './scripts/support.js';
import { until } from './support.js';

const CALLS = 150;
const LIMIT = 2;
/** Seconds for all calls. */
const MOST_SECONDS = 20;

/** Two processes use a gate whose server runs `step`. The trace and the reports go to the judges. */
async function play(
  step: string,
  { ttl = 10, longestHold = 1, longestRest = 3 } = {},
): Promise<{ trace: ServerVerdict; holds: HoldsVerdict }> {
  await admin.flushall();
  const judge = new ServerJudge(LIMIT);
  const reader = new TraceReader(admin, (entry) => judge.add(entry));
  const lives = await Promise.all(
    (['ioredis', 'node-redis'] as const).map(async (kind, index): Promise<Life> => {
      const client = tracedClient(kind, server.url, step);
      const throttle = new RedisThrottle({ client: client.connection, key: 'judged', concurrency: LIMIT, ttl });
      const shape = { calls: CALLS, callers: 4, longestHold, longestRest, abortOneIn: 20, longHoldOneIn: 0 };
      const reports: Report[] = [];
      const settings = { ...shape, seed: index, firstCall: 1 + index * 1e6 };
      const callers = new Callers(throttle, ttl, settings, (report) => void reports.push(report));
      let isDone = false;
      const running = callers.run().finally(() => (isDone = true));
      // A planted fault can keep calls waiting. Their throttle rejects them.
      const failing = until('the judge has found a violation', () => judge.hasFailed || isDone, MOST_SECONDS);
      await Promise.race([running, failing]);
      callers.stop();
      await throttle.close();
      await running;
      await throttle.idle();
      client.end();
      return { name: kind, reports, wasKilled: false };
    }),
  );
  await reader.end();
  const trace = judge.verdict(servedByProcess(lives));
  const terms = { limit: LIMIT, calmFrom: 0, longestWait: 4_000, longestCalmWait: 4_000, items: trace.items };
  return { trace, holds: judgeHolds(lives, terms) };
}

test('the judges accept a history without a fault', async () => {
  const { trace, holds } = await play(STEP);
  expect([...trace.violations, ...holds.violations]).toEqual([]);
  expect(holds).toMatchObject({ lost: 0, failed: 0 });
  expect(holds.held + holds.aborted).toBe(2 * CALLS);
  expect(trace.left).toEqual({ leases: 0, waiters: 0 });
  expect(trace.handedOn).toBeGreaterThan(0);
  expect(trace.grants).toBeGreaterThan(CALLS);
});

/** The step with a part in which `from` is replaced by `to`. */
function planted(part: string, from: string, to: string, others: Replacements = {}): string {
  const changed = replaceLua(readFileSync(scriptFile(part), 'utf8'), from, to);
  return readLua(scriptFile('step'), { ...others, [part]: changed });
}

describe('the judge of the trace finds a script that', () => {
  const faults: [what: string, violation: RegExp, step: () => string, load?: Parameters<typeof play>[1]][] = [
    [
      'lets a call join the queue before earlier ones',
      /was passed by the grants/,
      () =>
        planted('queue', 'return ticket\nend', 'return ticket - (ticket % 3 == 0 and 5000 or 0)\nend', NO_FAST_PATH),
    ],
    [
      'grants one permit too many',
      /has slot 3/,
      () => planted('grants', 'active + costs.slots <= limit', 'active + costs.slots <= limit + 1', NO_FAST_PATH),
    ],
    [
      'gives a slot to two holders on its queue path',
      /slot 1 of \S+ was given to/,
      () =>
        planted(
          'queue-path',
          "item\n    slots = sub(slots, 1, slot - 1) .. '1'",
          "item\n    slots = sub(slots, 1, slot - 1) .. '0'",
        ),
    ],
    [
      'grants one permit too many on its fast path',
      /has slot 3/,
      () => planted('fast-path', 'active >= limit then', 'active > limit then'),
      { longestRest: 20 },
    ],
    [
      'gives a slot to two holders',
      /slot 1 of \S+ was given to/,
      () => planted('fast-path', "slots = sub(slots, 1, slot - 1) .. '1'", "slots = sub(slots, 1, slot - 1) .. '0'"),
      { longestRest: 20 },
    ],
    [
      'leaves the last waiter in the queue',
      /a slot is free while call \d+ waits/,
      () => planted('grants', 'while waiting > 0 do', 'while waiting > 1 do', NO_FAST_PATH),
      { longestRest: 20 },
    ],
    [
      'loses some releases',
      /a slot is free while call \d+ waits/,
      () =>
        planted(
          'commands',
          'local item = find_lease(id)\n    if item then',
          'local item = find_lease(id)\n    if item and now % 5 > 0 then',
          NO_FAST_PATH,
        ),
    ],
    [
      'lets a process hand on past the waiters of another one',
      /was handed a slot before call/,
      () =>
        planted(
          'permissions',
          'if not name or (name ~= owner and find_owner(name)) then break end',
          'if not name then break end',
          NO_FAST_PATH,
        ),
    ],
    [
      'lets a process hand on past the waiters of another one on its queue path',
      /was handed a slot before call/,
      () => planted('queue-path', 'if name ~= owner then break end', 'if not name then break end'),
    ],
    [
      'passes over a waiter whose cost is a fraction',
      /was handed a slot before call/,
      () => planted('permissions', "'^(%S+)%.'", "'^(.*)%.'", NO_FAST_PATH),
    ],
    [
      'forgets a process long before its ttl',
      /Redis has forgotten|was given to/,
      () =>
        planted(
          'admission',
          'self.expiry, self.is_changed = now + ttl, true',
          'self.expiry, self.is_changed = now + ttl / 100, true',
          NO_FAST_PATH,
        ),
      { ttl: 1, longestHold: 40 },
    ],
  ];
  it.each(faults)('%s', async (_, violation, step, load) => {
    const { trace } = await play(step(), load);
    expect(trace.violations.join('\n')).toMatch(violation);
  });
});

describe('the judge of the trace finds a server that', () => {
  const HEADER = { ttl: '1000', limit: '2', flags: '', clock: '', confirmed: '0', maxQueue: '-1', rate: '-1 1 1' };
  const entry = (at: number, batch: number, commands: string[], reply: string): TraceEntry => ({
    at,
    args: [batchArgument({ ...HEADER, owner: 'a.0', number: String(batch) }, commands)],
    reply,
    messages: [],
  });
  const first = entry(0, 0, ['A', '1', '7', '-1'], 'A 0\nG 1 1 0 7 0');
  it.each<[string, TraceEntry[], string]>([
    [
      'applies a batch whose predecessor is missing',
      [first, entry(1, 2, [], 'A 0')],
      'Redis has applied batch 2 of a.0',
    ],
    ['forgets a living owner', [first, entry(1, 1, [], 'U 0')], 'Redis has forgotten a.0'],
    ['repeats a grant that it has not given', [first, entry(1, 0, [], 'A 0\ng 1 2 0 7 0')], 'Redis repeats a grant'],
    [
      'grants a call that has left',
      [first, entry(1, 1, [], 'A 0\nG 2 2 0 8 0')],
      'a call that does not wait was granted',
    ],
    ['replies with an error', [{ ...first, reply: { err: 'ERR' } }], 'the reply is an error'],
    ['receives an unknown command', [entry(0, 0, ['?'], 'A 0')], 'the judge does not know the command ?'],
  ])('%s', (_, entries, violation) => {
    const judge = new ServerJudge(LIMIT);
    for (const each of entries) judge.add(each);
    expect(judge.verdict(new Set()).violations).toMatchObject([expect.stringContaining(violation)]);
  });

  it('renews an expired owner after a batch of another owner', () => {
    const late = entry(5_000, 1, [], 'A 0');
    const other = {
      ...entry(4_000, 0, [], 'A 0'),
      args: [batchArgument({ ...HEADER, owner: 'b.0', number: '0' }, [])],
    };
    const violationsOf = (entries: TraceEntry[]): number => {
      const judge = new ServerJudge(LIMIT);
      for (const each of entries) judge.add(each);
      return judge.verdict(new Set()).violations.length;
    };
    expect(violationsOf([first, late])).toBe(0);
    expect(violationsOf([first, other, late])).toBe(1);
  });
});

describe('the judge of the reports finds', () => {
  const called = (call: number, at: number): Report => ({ kind: 'called', call, at });
  const held = (call: number, at: number, slot = 1): Report => ({
    kind: 'held',
    call,
    at,
    slot,
    item: `1 7 ${call} 0`,
  });
  const ended = (kind: 'released' | 'lost' | 'aborted', call: number, at: number): Report => ({ kind, call, at });
  const items = new Set(['1 7 1 0', '1 7 2 0']);
  const judge = (reports: Report[], others: Report[] = [], wasKilled = false): readonly string[] =>
    judgeHolds(
      [
        { name: 'one', reports, wasKilled },
        { name: 'other', reports: others, wasKilled: false },
      ],
      { limit: 2, calmFrom: 1_000, longestWait: 500, longestCalmWait: 50, items },
    ).violations;

  it('no fault in correct reports', () => {
    const one = [called(1, 10), held(1, 20), ended('released', 1, 30)];
    expect(judge(one, [called(2, 11), held(2, 30), ended('released', 2, 30)])).toEqual([]);
    expect(judge([called(1, 10), ended('aborted', 1, 20)])).toEqual([]);
    expect(judge([called(1, 10), held(1, 20), called(2, 30)], [], true)).toEqual([]);
  });

  it.each<[string, Report[], Report[], string]>([
    [
      'two holders of a slot',
      [called(1, 10), held(1, 20), ended('released', 1, 30)],
      [called(2, 11), held(2, 29), ended('released', 2, 40)],
      'calls 1 and 2 hold slot 1 at the same time',
    ],
    ['a slot beyond the limit', [called(1, 10), held(1, 20, 3), ended('released', 1, 30)], [], 'call 1 holds slot 3'],
    [
      'a grant that Redis has not given',
      [called(3, 10), held(3, 20), ended('released', 3, 30)],
      [],
      'one: call 3 holds a grant that Redis has not given',
    ],
    [
      'a call that never settles',
      [called(1, 10), called(2, 20), ended('aborted', 2, 90)],
      [],
      'one: call 1 of 10 ms never settles, until 90',
    ],
    ['a hold that never ends', [called(1, 10), held(1, 20)], [], 'one: the hold of call 1 never ends'],
    [
      'a process that starves',
      [called(1, 10), held(1, 600), ended('released', 1, 601)],
      [],
      'one: call 1 has waited 590 ms',
    ],
    [
      'a slow grant after the faults',
      [called(1, 1_010), held(1, 1_090), ended('released', 1, 1_091)],
      [],
      'one: call 1 has waited 80 ms without a fault',
    ],
    [
      'a lease that is lost after the faults',
      [called(1, 10), held(1, 20), ended('lost', 1, 1_500)],
      [],
      'one: the lease of call 1 was lost without a fault',
    ],
    [
      'a failure after the faults',
      [called(1, 10), { kind: 'failed', call: 1, at: 1_400, error: 'ThrottleBackendError: x' }],
      [],
      'one: call 1 was rejected after 1390 ms: ThrottleBackendError: x',
    ],
    [
      'an error that is not of Redis',
      [called(1, 10), { kind: 'failed', call: 1, at: 20, error: 'TypeError: x' }],
      [],
      'one: call 1 was rejected after 10 ms: TypeError: x',
    ],
  ])('%s', (_, one, others, violation) => {
    expect(judge(one, others)).toEqual([violation]);
  });
});

test('a line of the file of reports has every field of its report', () => {
  const held: Report = { kind: 'held', call: 1, at: 20.5, slot: 1, item: '1 7 1 0' };
  expect(writeReport(held)).toBe('held 1 20.5000 1 1 7 1 0\n');
  expect(writeReport({ kind: 'called', call: 1, at: 2 })).toBe('called 1 2.0000\n');
});
