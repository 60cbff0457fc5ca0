/** One gate for many real processes, which work, die and hang. */
import { type ChildProcess, fork } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  LeaseLostError,
  type RedisCommands,
  type RedisPermit,
  RedisThrottle,
  type RedisThrottleOptions,
} from 'headgate/redis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { guarded } from '../support/processes.js';
import {
  bundle,
  evalThrough,
  freshKey,
  ioredis,
  makeFolder,
  redisUrl,
  sleep,
  subscribeThrough,
  until,
} from './support.js';
import type { Command, ObeyingSettings, Phase } from './worker.js';
import { grantOf, type Kind, now } from './worker-client.js';
import type { Account, CrowdSettings, Hold, ScriptEvent } from './worker-crowd.js';
import type { LoopSettings, LoopReport } from './worker-loop.js';

/** The largest delay of a process on a busy machine, in milliseconds. */
const SLACK = 1_200;

let folder = '';
const workers = new Set<Worker>();
/** Closes everything after all tests. Concurrent tests have no hooks of their own. */
const endings: (() => Promise<void>)[] = [];

beforeAll(async () => {
  folder = makeFolder();
  await bundle(folder, 'worker', 'worker-crowd', 'worker-loop');
});

afterAll(async () => {
  await Promise.all([...Array.from(workers, (worker) => worker.kill()), ...endings.map((end) => end())]);
  rmSync(folder, { recursive: true, force: true });
});

/** A line that a worker prints: an `event` at the instant `at`, in milliseconds. */
interface Line {
  event: string;
  at: number;
  name?: string;
  slot?: number;
  lost?: boolean;
  /** The grant as Redis stores it. */
  grant?: string;
  error?: string;
}

/** A child process. */
class Worker {
  readonly lines: Line[] = [];
  /** The exit code, or the signal that ended the process. */
  end: number | string | undefined;
  readonly #child: ChildProcess;

  constructor(script: string, settings: object) {
    this.#child = guarded(
      fork(join(folder, `${script}.mjs`), [JSON.stringify(settings)], {
        stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
        execArgv: [],
      }),
    );
    if (this.#child.stdout !== null)
      createInterface(this.#child.stdout).on('line', (line) => void this.lines.push(JSON.parse(line) as Line));
    this.#child.once('close', (code, signal) => {
      workers.delete(this);
      this.end = code ?? signal ?? '';
    });
    // Sending a command to a dead process emits an error.
    this.#child.on('error', () => {});
    workers.add(this);
  }

  /** Waits until the process has ended for any reason. */
  async ended(seconds = 30): Promise<number | string | undefined> {
    await until('a worker ends', () => this.end !== undefined, seconds);
    return this.end;
  }

  send(command: Command | { do: 'go' }): void {
    this.#child.send(command);
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended();
  }

  reported(event: string, name?: string): Line | undefined {
    return this.lines.find((line) => line.event === event && (name === undefined || line.name === name));
  }

  /** Waits until the worker has printed the event. */
  async waitFor(event: string, name?: string): Promise<Line> {
    try {
      await until(
        `a worker reports ${event}${name === undefined ? '' : ` ${name}`}`,
        () => this.reported(event, name),
        20,
      );
    } catch (error) {
      throw new Error(`It reported ${JSON.stringify(this.lines)}`, { cause: error });
    }
    return this.reported(event, name) as Line;
  }

  /** Waits until the worker has printed the event `count` times. */
  async waitForTimes(event: string, count: number): Promise<void> {
    await until(
      `a worker reports ${event} ${count} times`,
      () => this.lines.filter((line) => line.event === event).length >= count,
      20,
    );
  }
}

/** A valve that delays calls, in order, while it is closed. */
class Valve {
  opens: Promise<void> = Promise.resolve();
  open: () => void = () => {};

  close(): void {
    this.opens = new Promise((resolve) => {
      this.open = resolve;
    });
  }
}

type Settings = Omit<RedisThrottleOptions, 'client'>;

/** Starts a worker that waits for commands. */
async function startWorker(kind: Kind, throttle: Settings, dies?: Phase): Promise<Worker> {
  const settings: ObeyingSettings = { kind, url: redisUrl(), throttle, ...(dies && { dies }) };
  const worker = new Worker('worker', settings);
  await worker.waitFor('ready');
  return worker;
}

/** Opens a throttle of this process on a connected client. */
async function openThrottle(throttle: Settings): Promise<RedisThrottle> {
  const { client, close } = ioredis();
  await client.ping();
  const made = new RedisThrottle({ ...throttle, client });
  endings.push(async () => {
    await made.close();
    await close();
  });
  return made;
}

/** The keys of a throttle in Redis. */
async function keysOf(key: string): Promise<string[]> {
  const { client, close } = ioredis();
  const found: string[] = [];
  for await (const keys of client.scanStream({ match: `{headgate:${key}}*`, count: 1_000 }))
    found.push(...(keys as string[]));
  await close();
  return found;
}

/** Checks that all slots are free, and that no key is left once the ttl of the owners has passed. */
async function isAsNew(throttle: RedisThrottle): Promise<void> {
  const all = await Promise.all(Array.from({ length: throttle.concurrency }, () => throttle.tryAcquire(0)));
  const slots = all.map((permit) => permit?.slot ?? 0).toSorted((one, other) => one - other);
  expect(slots).toEqual(Array.from({ length: throttle.concurrency }, (_, index) => index + 1));
  for (const permit of all) permit?.release();
  await throttle.idle();
  expect(await throttle.inspect()).toMatchObject({ active: [], waiting: [], pausedFor: 0 });
  await until('no key is left', async () => (await keysOf(throttle.key)).length === 0, 20);
}

describe('eight processes and ten thousand calls', () => {
  const PROCESSES = 8;
  const CALLS = 1_250;
  const limits = { concurrency: 6, capacity: 2_000, period: 1, burst: 12 };
  const settings: Settings = { key: freshKey(), ttl: 10, ...limits };
  const accounts: Account[] = [];
  let throttle: RedisThrottle;
  /** Held during all tests: so Redis keeps the state, and the numbers of the grants continue. */
  let held: RedisPermit;
  let ended: (number | string | undefined)[] = [];

  /** A grant, as the process of its caller has seen it. */
  interface Grant {
    id: string;
    granted: number;
    number: number;
    requested: number;
    /** The place in the queue; undefined for a grant without a wait. */
    ticket: number | undefined;
    order: number;
    process: number;
    hold: Hold | undefined;
  }
  let grants: Grant[] = [];

  beforeAll(async () => {
    throttle = await openThrottle(settings);
    held = await throttle.acquire(0);
    const crowd = Array.from({ length: PROCESSES }, (_, index) => {
      const own: CrowdSettings = {
        kind: index % 2 === 0 ? 'ioredis' : 'node-redis',
        url: redisUrl(),
        throttle: settings,
        seed: index,
        calls: CALLS,
        callers: 6,
        costs: [0.25, 0.5, 1, 1, 2, 5],
      };
      return new Worker('worker-crowd', own);
    });
    await Promise.all(crowd.map((worker) => worker.waitFor('ready')));
    for (const worker of crowd) worker.send({ do: 'go' });
    ended = await Promise.all(crowd.map((worker) => worker.ended(80)));
    for (const worker of crowd) accounts.push(worker.reported('account') as unknown as Account);
    grants = accounts.flatMap(({ events, holds }, process) => {
      const requested = new Map<string, number>();
      const tickets = new Map<string, number>();
      const known = new Map(holds.map((hold) => [hold.grant, hold]));
      const found = new Map<string, Grant>();
      const add = (event: ScriptEvent): void => {
        if (event.kind === 'requested') requested.set(event.id, event.cost);
        else if (event.kind === 'queued') tickets.set(event.id, Number(event.ticket));
        else if (!found.has(event.id)) {
          const { id, grant, order } = event;
          const [, granted = 0, , number = 0] = grant.split(' ').map(Number);
          found.set(id, {
            id,
            granted,
            number,
            order,
            process,
            requested: requested.get(id) as number,
            ticket: tickets.get(id),
            hold: known.get(grant),
          });
        }
      };
      // A message may arrive before the reply with the place.
      for (const event of events) if (event.kind !== 'granted') add(event);
      for (const event of events) if (event.kind === 'granted') add(event);
      return [...found.values()];
    });
    // The order in which the script has numbered the grants.
    grants.sort((one, other) => one.granted - other.granted || one.number - other.number);
  }, 100_000);

  it('settle every call, and every kind of outcome occurs', () => {
    expect(ended).toEqual(Array.from({ length: PROCESSES }, () => 0));
    const outcomes: Record<string, number> = {};
    for (const account of accounts)
      for (const [name, count] of Object.entries(account.outcomes)) outcomes[name] = (outcomes[name] ?? 0) + count;
    expect(Object.keys(outcomes).toSorted()).toEqual(['AbortError', 'ThrottleTimeoutError', 'granted', 'tried']);
    expect(Object.values(outcomes).reduce((sum, count) => sum + count)).toBe(PROCESSES * CALLS);
    expect(outcomes['granted']).toBeGreaterThan(PROCESSES * CALLS * 0.6);
    // The trace is complete: it contains the grant of every held permit.
    expect(accounts.flatMap(({ holds }) => holds)).toHaveLength(outcomes['granted'] as number);
    expect(grants.filter(({ hold }) => hold !== undefined)).toHaveLength(outcomes['granted'] as number);
    expect(grants.filter(({ requested }) => requested === undefined)).toEqual([]);
  });

  it('never hold more permits than the limit, nor one slot twice', () => {
    const holds = accounts.flatMap((account) => account.holds);
    const edges = holds.flatMap(({ receivedAt, released, slot }) => [
      { at: receivedAt, slot, enters: true },
      { at: released, slot, enters: false },
    ]);
    edges.sort((one, other) => one.at - other.at || Number(one.enters) - Number(other.enters));
    const taken = new Set<number>();
    let most = 0;
    for (const { slot, enters } of edges) {
      if (enters) {
        if (taken.has(slot) || slot === held.slot || !(slot >= 1 && slot <= limits.concurrency))
          throw new Error(`slot ${slot} is given to two`);
        taken.add(slot);
        most = Math.max(most, taken.size);
      } else taken.delete(slot);
    }
    expect(taken.size).toBe(0);
    expect(most).toBe(limits.concurrency - 1);
  });

  it('never exceed the rate between any two grants, by the clock of Redis', () => {
    const rate = limits.capacity / limits.period / 1e6;
    let excess = 0;
    let highest = 0;
    let reserved = 0;
    let highestReserved = 0;
    let last: Grant | undefined;
    for (const grant of grants) {
      // A grant that was cancelled on its way costs nothing. A settled grant has its true cost from the start.
      const truly = Math.min(grant.requested, grant.hold?.cost ?? 0);
      // The numbers are consecutive in Redis. The trace lacks grants whose callers had cancelled before.
      expect(grant.number).toBeGreaterThan(last?.number ?? 1);
      // The largest excess of cost over refill, of all spans that end at this grant.
      excess = Math.max(excess + truly - rate * (grant.granted - (last?.granted ?? grant.granted)), truly);
      highest = Math.max(highest, excess);
      reserved = Math.max(
        reserved + grant.requested - rate * (grant.granted - (last?.granted ?? grant.granted)),
        grant.requested,
      );
      highestReserved = Math.max(highestReserved, reserved);
      last = grant;
    }
    // Instants are whole microseconds, so the refill of one microsecond is tolerated.
    expect(highest).toBeLessThanOrEqual(limits.burst * (1 + 1e-6) + rate);
    // At times the bucket was the limit, even on a slow machine: most of the burst was reserved at once.
    expect(highestReserved).toBeGreaterThan(limits.burst * 0.8);
  });

  it('grant in the order of tickets, and without a queue only while no caller waits', () => {
    const queued = grants.filter(({ ticket }) => ticket !== undefined);
    expect(queued.length).toBeGreaterThan(1_000);
    let latest = 0;
    for (const { ticket = 0 } of queued) {
      expect(ticket).toBeGreaterThan(latest);
      latest = ticket;
    }
    // From the end of the list: the oldest ticket of the later grants.
    let oldest: Grant | undefined;
    let atOnce = 0;
    const queuedAt = new Map(
      accounts.flatMap(({ events }) =>
        events.flatMap((event) => (event.kind === 'queued' ? [[event.id, event.order] as const] : [])),
      ),
    );
    for (const grant of grants.toReversed()) {
      if (grant.ticket !== undefined) {
        oldest = grant;
        continue;
      }
      atOnce++;
      if (oldest === undefined) continue;
      expect(oldest.ticket).toBeGreaterThanOrEqual(grant.granted);
      // Within one call of the script, the order of the events decides.
      if (oldest.ticket === grant.granted && oldest.process === grant.process)
        expect(queuedAt.get(oldest.id)).toBeGreaterThan(grant.order);
    }
    expect(atOnce).toBeGreaterThan(100);
  });

  it('leave no key behind', async () => {
    expect(held.signal.aborted).toBe(false);
    const { active, waiting } = await throttle.inspect();
    expect(active).toMatchObject([{ slot: held.slot }]);
    expect(waiting).toEqual([]);
    held.release();
    await until('the bucket is full again', async () => (await throttle.inspect()).tokens === limits.burst);
    await isAsNew(throttle);
  });
});

const KINDS = ['ioredis', 'node-redis'] as const;

/** The phases in which a dead process leaves a lease, which must expire. */
const LEASED: ReadonlySet<Phase> = new Set(['calling', 'granted', 'holding', 'releasing']);

describe.concurrent('kill -9', () => {
  const cases = KINDS.flatMap((kind) =>
    (['connecting', 'calling', 'queued', 'granted', 'holding', 'releasing', 'released'] as const).map(
      (phase) => [phase, kind] as const,
    ),
  );

  it.each(cases)(
    'in the middle of it, %s, by %s: what is lost comes back within ttl, and not before',
    async (phase, kind) => {
      const ttl = 0.9;
      const settings: Settings = { key: freshKey(), ttl, concurrency: 1 };
      const throttle = await openThrottle(settings);
      const awaited = phase === 'queued' || phase === 'granted';
      const first = awaited ? await throttle.acquire() : undefined;
      const worker = await startWorker(kind, settings, phase);
      // A process that dies while it connects acquires without a command.
      if (phase !== 'connecting') worker.send({ do: 'acquire', name: 'its' });
      if (awaited) await worker.waitFor('queued');
      else if (phase === 'releasing' || phase === 'released') {
        await worker.waitFor('granted');
        worker.send({ do: 'release', name: 'its' });
      }
      if (phase !== 'granted') expect(await worker.ended()).toBe('SIGKILL');
      const next = throttle.acquire();
      const after = throttle.acquire();
      first?.release();
      expect(await worker.ended()).toBe('SIGKILL');
      const permit = await next;
      const receivedAt = now();
      const { at: requested } = worker.reported('requested') as Line;
      const { at: died } = worker.reported('dies') as Line;
      if (LEASED.has(phase)) expect(receivedAt).toBeGreaterThan(requested + ttl * 1_000);
      if (phase === 'connecting' || phase === 'released') expect(receivedAt).toBeLessThan(died + SLACK);
      expect(receivedAt).toBeLessThan(died + ttl * 1_000 + SLACK);
      expect(permit.slot).toBe(1);
      permit.release();
      (await after).release();
      await throttle.idle();
      await isAsNew(throttle);
    },
  );

  it('of the head that waits for tokens: the waiters behind it are granted in order', async () => {
    const ttl = 0.9;
    const settings: Settings = { key: freshKey(), ttl, capacity: 10, burst: 10, period: 100 };
    const throttle = await openThrottle(settings);
    (await throttle.acquire(10)).release();
    const [head, behind] = await Promise.all([
      startWorker('ioredis', settings, 'queued'),
      startWorker('node-redis', settings),
    ]);
    head.send({ do: 'acquire', name: 'its', cost: 9 });
    expect(await head.ended()).toBe('SIGKILL');
    // The dead owner sets no timer. The next waiter needs the refill of 0.5 s.
    behind.send({ do: 'acquire', name: 'one', cost: 0.05 });
    await behind.waitFor('queued');
    const instant = (item = ''): number => Number(item.split(' ')[1]);
    const last = grantOf(await throttle.acquire(0));
    const { at, grant } = await behind.waitFor('granted', 'one');
    expect(instant(last)).toBeGreaterThanOrEqual(instant(grant));
    expect(at).toBeLessThan((head.reported('dies') as Line).at + ttl * 1_000 + SLACK);
    await behind.kill();
  });

  it('of other processes never takes a permit from a running holder', async () => {
    const ttl = 0.9;
    const settings: Settings = { key: freshKey(), ttl, concurrency: 2 };
    const [living, doomed] = await Promise.all([startWorker('node-redis', settings), startWorker('ioredis', settings)]);
    living.send({ do: 'acquire', name: 'its' });
    const { slot } = await living.waitFor('granted');
    doomed.send({ do: 'acquire', name: 'its' });
    await doomed.waitFor('granted');
    const throttle = await openThrottle(settings);
    const one = throttle.acquire();
    const two = throttle.acquire();
    await doomed.kill();
    const permit = await one;
    expect(permit.slot).not.toBe(slot);
    await sleep(3 * ttl * 1_000);
    expect(throttle.waiting).toBe(1);
    expect((await throttle.inspect()).active).toHaveLength(2);
    expect(living.reported('lost')).toBeUndefined();
    living.send({ do: 'release', name: 'its' });
    const { slot: freed } = await two;
    expect(freed).toBe(slot);
    expect(permit.signal.aborted).toBe(false);
    permit.release();
    (await two).release();
    await throttle.idle();
    await isAsNew(throttle);
    await living.kill();
  });
});

describe('fifteen processes killed at random', () => {
  it('leave a gate that keeps its limit and returns to a new state', async () => {
    const ttl = 0.6;
    const settings: Settings = { key: freshKey(), ttl, concurrency: 3, capacity: 400, burst: 20 };
    const everyone: Worker[] = [];
    const start = (seed: number): Worker => {
      const own: LoopSettings = {
        kind: KINDS[seed % 2] as Kind,
        url: redisUrl(),
        throttle: settings,
        seed,
        callers: 3,
      };
      const worker = new Worker('worker-loop', own);
      everyone.push(worker);
      return worker;
    };
    const living = Array.from({ length: 5 }, (_, seed) => start(seed));
    await Promise.all(living.map((worker) => worker.waitFor('acquired')));
    const killed = new Map<Worker, number>();
    for (let kill = 0; kill < 15; kill++) {
      await sleep(Math.random() * 250);
      const [victim] = living.splice(Math.floor(Math.random() * living.length), 1) as [Worker];
      await victim.kill();
      killed.set(victim, now());
      // Two of three are replaced, and a replacement may be killed before it is ready.
      if (kill % 3 !== 0 || living.length === 0) living.push(start(100 + kill));
    }
    if (living.length === 0) living.push(start(200));
    const since = now();
    const tookInAll = (): number =>
      everyone.reduce((sum, worker) => sum + worker.lines.filter(({ event }) => event === 'acquired').length, 0);
    await until('enough was granted for the checks below to mean something', () => tookInAll() > 100, 20);
    // The running workers continue once the leases of the dead have expired.
    await until(
      'all go on',
      () =>
        living.every(
          (worker) =>
            worker.lines.filter(({ event, at }) => event === 'acquired' && at > since + ttl * 1_000).length > 5,
        ),
      20,
    );
    for (const worker of living) worker.send({ do: 'go' });
    expect(await Promise.all(living.map((worker) => worker.ended()))).toEqual(living.map(() => 0));

    interface Span {
      slot: number;
      from: number;
      /** Another holder may get the slot from this instant on. */
      until: number;
    }
    const spans: Span[] = everyone.flatMap((worker) => {
      const lines = worker.lines as LoopReport[];
      const renewed = lines.filter(({ event }) => event === 'renewed').map(({ at }) => at);
      const ended = new Map(
        lines
          .flatMap((line) =>
            line.event === 'releasing' || line.event === 'lost' ? [[line.name, line.at] as const] : [],
          )
          .toReversed(),
      );
      return lines.flatMap((line) => {
        if (line.event !== 'acquired') return [];
        // The lease of a dead process expires `ttl` after its last renewal.
        const expiry = Math.max(line.requestedAt, ...renewed.filter((at) => at > line.at)) + ttl * 1_000;
        return [{ slot: line.slot, from: line.at, until: ended.get(line.name) ?? expiry }];
      });
    });
    expect(everyone.flatMap((worker) => worker.lines.filter(({ event }) => event === 'failed'))).toEqual([]);
    expect(spans.length).toBeGreaterThan(100);
    for (let slot = 1; slot <= 3; slot++) {
      const own = spans.filter((span) => span.slot === slot).toSorted((one, other) => one.from - other.from);
      for (const [index, { until: end }] of own.entries())
        expect(own[index + 1]?.from ?? Infinity).toBeGreaterThanOrEqual(end);
    }
    expect(spans.filter(({ slot }) => !(slot >= 1 && slot <= 3))).toEqual([]);

    const throttle = await openThrottle(settings);
    await isAsNew(throttle);
  });
});

describe.concurrent('a process whose event loop is blocked for longer than ttl', () => {
  const ttl = 0.8;

  /** Starts a worker that waits for a permit of this process. */
  const waiting = async (kind: Kind): Promise<{ throttle: RedisThrottle; first: RedisPermit; worker: Worker }> => {
    const settings: Settings = { key: freshKey(), ttl, concurrency: 1 };
    const throttle = await openThrottle(settings);
    const first = await throttle.acquire();
    const worker = await startWorker(kind, settings);
    worker.send({ do: 'acquire', name: 'its' });
    await worker.waitFor('queued');
    return { throttle, first, worker };
  };

  /** Adds a waiter behind the worker once the worker waits again. */
  const comesAfter = async (throttle: RedisThrottle): Promise<{ late: Promise<RedisPermit> }> => {
    await until('the waiter is queued again', async () => (await throttle.inspect()).waiting.length === 1);
    const late = throttle.acquire();
    await until('another waits behind it', async () => (await throttle.inspect()).waiting.length === 2);
    return { late };
  };

  it.each(KINDS)('loses its permit, and its signal is aborted at the first read, %s', async (kind) => {
    const settings: Settings = { key: freshKey(), ttl, concurrency: 1 };
    const throttle = await openThrottle(settings);
    const worker = await startWorker(kind, settings);
    worker.send({ do: 'acquire', name: 'its' });
    const { at: taken } = await worker.waitFor('granted');
    // The worker waits for two more permits, and this process waits behind them.
    worker.send({ do: 'acquire', name: 'second' });
    worker.send({ do: 'acquire', name: 'third' });
    await worker.waitForTimes('queued', 2);
    const mine = throttle.acquire();
    await until('all waiters are queued', async () => (await throttle.inspect()).waiting.length === 3);
    worker.send({ do: 'block', seconds: 2.5 * ttl, check: 'its', release: 'its' });
    const permit = await mine;
    const receivedAt = now();
    expect(receivedAt - taken).toBeGreaterThan(ttl * 1_000);
    expect(worker.reported('checked')).toBeUndefined();
    expect(await worker.waitFor('checked')).toMatchObject({ lost: true, error: 'LeaseLostError' });
    expect(await worker.waitFor('lost', 'its')).toMatchObject({ error: 'LeaseLostError' });
    // The waiters of the worker get their places back, ahead of later callers.
    await until('its waiters are back', async () => (await throttle.inspect()).waiting.length === 2);
    const late = throttle.acquire();
    await until('one more waits', async () => (await throttle.inspect()).waiting.length === 3);
    // The release of the lost permit has freed no slot.
    expect((await throttle.inspect()).active).toMatchObject([{ slot: permit.slot }]);
    expect(permit.signal.aborted).toBe(false);
    expect(worker.reported('granted', 'second')).toBeUndefined();
    permit.release();
    await worker.waitFor('granted', 'second');
    worker.send({ do: 'release', name: 'second' });
    await worker.waitFor('granted', 'third');
    worker.send({ do: 'release', name: 'third' });
    (await late).release();
    await throttle.idle();
    await until('the last release is applied', async () => (await throttle.inspect()).active.length === 0);
    await isAsNew(throttle);
    await worker.kill();
  });

  it.each(KINDS)('while it waits, and its grant expires: it keeps its place, %s', async (kind) => {
    const { throttle, first, worker } = await waiting(kind);
    const mine = throttle.acquire();
    await until('two waiters are queued', async () => (await throttle.inspect()).waiting.length === 2);
    worker.send({ do: 'block', seconds: 2.5 * ttl });
    await sleep(50);
    first.release();
    const permit = await mine;
    await worker.waitFor('checked');
    const { late } = await comesAfter(throttle);
    // By now the worker has received the expired grant, and has ignored it.
    await sleep(ttl * 1_000);
    expect(worker.reported('granted', 'its')).toBeUndefined();
    expect((await throttle.inspect()).active).toMatchObject([{ slot: permit.slot }]);
    permit.release();
    expect(await worker.waitFor('granted', 'its')).toMatchObject({ lost: false, slot: 1 });
    expect((await throttle.inspect()).active).toHaveLength(1);
    expect(throttle.waiting).toBe(1);
    worker.send({ do: 'release', name: 'its' });
    (await late).release();
    await throttle.idle();
    await isAsNew(throttle);
    await worker.kill();
  });

  it.each(KINDS)('while its renewal is under way: it keeps its place, %s', async (kind) => {
    const { throttle, first, worker } = await waiting(kind);
    worker.send({ do: 'block when it calls', seconds: 2.5 * ttl });
    await worker.waitFor('blocked');
    const { late } = await comesAfter(throttle);
    first.release();
    expect(await worker.waitFor('granted', 'its')).toMatchObject({ lost: false });
    expect(throttle.waiting).toBe(1);
    worker.send({ do: 'release', name: 'its' });
    (await late).release();
    await worker.kill();
  });

  it.each(KINDS)('before the reply with its grant: its caller waits again, %s (FAULTS 59)', async (kind) => {
    const settings: Settings = { key: freshKey(), ttl, concurrency: 1 };
    const throttle = await openThrottle(settings);
    const worker = await startWorker(kind, settings);
    // The worker is connected, so its next command is sent at once.
    worker.send({ do: 'acquire', name: 'before' });
    await worker.waitFor('granted');
    worker.send({ do: 'release', name: 'before' });
    await until('the slot is free', async () => (await throttle.inspect()).active.length === 0);
    worker.send({ do: 'acquire and block', name: 'its', seconds: 2.5 * ttl });
    await until('the permit is held', async () => (await throttle.inspect()).active.length === 1);
    const permit = await throttle.acquire();
    // The worker reads the late reply, and takes no permit from it: the lease has expired meanwhile.
    await until('the waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    await sleep(ttl * 1_000);
    expect(worker.reported('granted', 'its')).toBeUndefined();
    expect(worker.reported('refused')).toBeUndefined();
    expect(permit.signal.aborted).toBe(false);
    expect((await throttle.inspect()).active).toMatchObject([{ slot: permit.slot }]);
    permit.release();
    expect(await worker.waitFor('granted', 'its')).toMatchObject({ lost: false, slot: 1 });
    expect((await throttle.inspect()).active).toHaveLength(1);
    worker.send({ do: 'release', name: 'its' });
    await until('the slot is free', async () => (await throttle.inspect()).active.length === 0);
    await isAsNew(throttle);
    await worker.kill();
  });
});

describe.concurrent('a connection that stalls for longer than ttl, and then delivers everything', () => {
  /** Opens a throttle whose commands and messages pass through valves. */
  async function stalling(throttle: Settings): Promise<{ throttle: RedisThrottle; calls: Valve; messages: Valve }> {
    const commands = ioredis();
    const messages = ioredis();
    const [calling, delivering] = [new Valve(), new Valve()];
    const [run, listen] = [evalThrough(commands.client), subscribeThrough(messages.client)];
    const client: RedisCommands = {
      async eval(...call) {
        await calling.opens;
        return run(...call);
      },
      subscribe: (channel, listener) =>
        listen(channel, (message) => void delivering.opens.then(() => listener(message))),
    };
    const made = new RedisThrottle({ ...throttle, client });
    endings.push(async () => {
      await made.close();
      await Promise.all([commands.close(), messages.close()]);
    });
    // The first acquire starts the subscription, whose start triggers a renewal.
    const permit = await made.acquire();
    await until(
      'the subscription exists',
      async () =>
        (await commands.client.pubsub('CHANNELS', `headgate:${(await made.inspect()).active[0]?.owner.split('.')[0]}`))
          .length > 0,
    );
    permit.release();
    await made.idle();
    return { throttle: made, calls: calling, messages: delivering };
  }

  it('returns no caller to the queue whose lease was lost meanwhile', async () => {
    const settings: Settings = { key: freshKey(), ttl: 0.9, concurrency: 1 };
    const throttle = await openThrottle(settings);
    const slow = await stalling(settings);
    const first = await throttle.acquire();
    const waiting = slow.throttle.acquire();
    await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    slow.calls.close();
    // By now the throttle has sent a renewal of its waiter.
    await sleep(450);
    first.release();
    const lost = await waiting;
    expect(lost.signal.aborted).toBe(false);
    const permit = await throttle.acquire();
    expect(lost.signal.aborted).toBe(true);
    expect(lost.signal.reason).toBeInstanceOf(LeaseLostError);
    slow.calls.open();
    await slow.throttle.idle();
    expect((await throttle.inspect()).waiting).toEqual([]);
    expect((await throttle.inspect()).active).toMatchObject([{ slot: permit.slot }]);
    lost.release();
    permit.release();
    await throttle.idle();
    await isAsNew(throttle);
  });

  it('delivers an expired grant, which the waiter ignores', async () => {
    const settings: Settings = { key: freshKey(), ttl: 1.5, concurrency: 1 };
    const throttle = await openThrottle(settings);
    const slow = await stalling(settings);
    const first = await throttle.acquire();
    let granted = false;
    const waiting = slow.throttle.acquire().then((permit) => {
      granted = true;
      return permit;
    });
    await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    slow.calls.close();
    slow.messages.close();
    first.release();
    const second = await throttle.acquire();
    slow.calls.open();
    await until('the waiter is queued again', async () => (await throttle.inspect()).waiting.length === 1);
    slow.messages.open();
    await sleep(100);
    expect(granted).toBe(false);
    second.release();
    const permit = await waiting;
    expect(permit.signal.aborted).toBe(false);
    permit.release();
    await slow.throttle.idle();
    await isAsNew(throttle);
  });
});

describe.concurrent('a process without further work', () => {
  const ALL = [...KINDS, 'url'] as const;

  it.each(ALL)('ends by itself without close, %s', async (kind) => {
    const settings: Settings = { key: freshKey(), ttl: 30, concurrency: 1 };
    const throttle = await openThrottle(settings);
    const worker = await startWorker(kind, settings);
    worker.send({ do: 'acquire', name: 'its' });
    await worker.waitFor('granted');
    worker.send({ do: 'release', name: 'its' });
    await (kind === 'url'
      ? until('the slot is free', async () => (await throttle.inspect()).active.length === 0)
      : worker.waitFor('release confirmed'));
    worker.send({ do: 'part', end: true });
    expect(await worker.ended()).toBe(0);
  });

  it.each(ALL)('stays alive while a call waits, %s', async (kind) => {
    const settings: Settings = { key: freshKey(), ttl: 1, concurrency: 1 };
    const throttle = await openThrottle(settings);
    const permit = await throttle.acquire();
    const worker = await startWorker(kind, settings);
    worker.send({ do: 'acquire', name: 'its' });
    if (kind === 'url')
      await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    else await worker.waitFor('queued');
    worker.send({ do: 'part', end: false });
    await sleep(1_500);
    permit.release();
    await worker.waitFor('granted');
    await worker.kill();
  });
});
