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
import type { Account, CrowdSettings, Hold, Word } from './worker-crowd.js';
import type { LoopSettings, Said } from './worker-loop.js';

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
  async ends(): Promise<number | string | undefined> {
    await until('a worker ends', () => this.end !== undefined, 30);
    return this.end;
  }

  tell(command: Command | { do: 'go' }): void {
    this.#child.send(command);
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ends();
  }

  said(event: string, name?: string): Line | undefined {
    return this.lines.find((line) => line.event === event && (name === undefined || line.name === name));
  }

  /** Waits until the worker has printed the event. */
  async says(event: string, name?: string): Promise<Line> {
    try {
      await until(`a worker says ${event}${name === undefined ? '' : ` ${name}`}`, () => this.said(event, name), 20);
    } catch (error) {
      throw new Error(`It said ${JSON.stringify(this.lines)}`, { cause: error });
    }
    return this.said(event, name) as Line;
  }

  /** Waits until the worker has printed the event `count` times. */
  async saysTimes(event: string, count: number): Promise<void> {
    await until(
      `a worker says ${event} ${count} times`,
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
async function obeying(kind: Kind, throttle: Settings, dies?: Phase): Promise<Worker> {
  const settings: ObeyingSettings = { kind, url: redisUrl(), throttle, ...(dies && { dies }) };
  const worker = new Worker('worker', settings);
  await worker.says('ready');
  return worker;
}

/** Opens a throttle of this process on a connected client. */
async function taking(throttle: Settings): Promise<RedisThrottle> {
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

/** Checks that all slots are free, and that no key is left. */
async function isAsNew(throttle: RedisThrottle): Promise<void> {
  const all = await Promise.all(Array.from({ length: throttle.concurrency }, () => throttle.tryAcquire(0)));
  const slots = all.map((permit) => permit?.slot ?? 0).toSorted((one, other) => one - other);
  expect(slots).toEqual(Array.from({ length: throttle.concurrency }, (_, index) => index + 1));
  for (const permit of all) permit?.release();
  await throttle.idle();
  expect(await throttle.inspect()).toMatchObject({ active: [], waiting: [], pausedFor: 0 });
  await until('no key is left', async () => (await keysOf(throttle.key)).length === 0);
}

describe('eight processes and ten thousand calls', () => {
  const PROCESSES = 8;
  const CALLS = 1_250;
  const limits = { concurrency: 6, capacity: 2_000, period: 1, burst: 40 };
  const settings: Settings = { key: freshKey(), ttl: 10, ...limits };
  const accounts: Account[] = [];
  let throttle: RedisThrottle;
  /** Held during all tests: so Redis keeps the state, and the numbers of the grants continue. */
  let held: RedisPermit;
  let ends: (number | string | undefined)[] = [];

  /** A grant, as the process of its caller has seen it. */
  interface Grant {
    id: string;
    granted: number;
    number: number;
    asked: number;
    /** The place in the queue; undefined for a grant without a wait. */
    ticket: number | undefined;
    order: number;
    process: number;
    hold: Hold | undefined;
  }
  let grants: Grant[] = [];

  beforeAll(async () => {
    throttle = await taking(settings);
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
    await Promise.all(crowd.map((worker) => worker.says('ready')));
    for (const worker of crowd) worker.tell({ do: 'go' });
    ends = await Promise.all(crowd.map((worker) => worker.ends()));
    for (const worker of crowd) accounts.push(worker.said('account') as unknown as Account);
    grants = accounts.flatMap(({ words, holds }, process) => {
      const asked = new Map<string, number>();
      const tickets = new Map<string, number>();
      const known = new Map(holds.map((hold) => [hold.grant, hold]));
      const found = new Map<string, Grant>();
      const hear = (word: Word): void => {
        if (word.kind === 'asked') asked.set(word.id, word.cost);
        else if (word.kind === 'queued') tickets.set(word.id, Number(word.ticket));
        else if (!found.has(word.id)) {
          const { id, grant, order } = word;
          const [, granted = 0, , number = 0] = grant.split(' ').map(Number);
          found.set(id, {
            id,
            granted,
            number,
            order,
            process,
            asked: asked.get(id) as number,
            ticket: tickets.get(id),
            hold: known.get(grant),
          });
        }
      };
      // A message may arrive before the reply with the place.
      for (const word of words) if (word.kind !== 'granted') hear(word);
      for (const word of words) if (word.kind === 'granted') hear(word);
      return [...found.values()];
    });
    // The order in which the script has numbered the grants.
    grants.sort((one, other) => one.granted - other.granted || one.number - other.number);
  }, 60_000);

  it('settle every call, and every kind of outcome occurs', () => {
    expect(ends).toEqual(Array.from({ length: PROCESSES }, () => 0));
    const outcomes: Record<string, number> = {};
    for (const account of accounts)
      for (const [name, count] of Object.entries(account.outcomes)) outcomes[name] = (outcomes[name] ?? 0) + count;
    expect(Object.keys(outcomes).toSorted()).toEqual(['AbortError', 'ThrottleTimeoutError', 'granted', 'tried']);
    expect(Object.values(outcomes).reduce((sum, count) => sum + count)).toBe(PROCESSES * CALLS);
    expect(outcomes['granted']).toBeGreaterThan(PROCESSES * CALLS * 0.6);
    // The trace is complete: it contains the grant of every held permit.
    expect(accounts.flatMap(({ holds }) => holds)).toHaveLength(outcomes['granted'] as number);
    expect(grants.filter(({ hold }) => hold !== undefined)).toHaveLength(outcomes['granted'] as number);
    expect(grants.filter(({ asked }) => asked === undefined)).toEqual([]);
  });

  it('never hold more permits than the limit, nor one slot twice', () => {
    const holds = accounts.flatMap((account) => account.holds);
    const edges = holds.flatMap(({ heard, released, slot }) => [
      { at: heard, slot, enters: true },
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
      const truly = Math.min(grant.asked, grant.hold?.cost ?? 0);
      // The numbers are consecutive in Redis. The trace lacks grants whose callers had cancelled before.
      expect(grant.number).toBeGreaterThan(last?.number ?? 1);
      // The largest excess of cost over refill, of all spans that end at this grant.
      excess = Math.max(excess + truly - rate * (grant.granted - (last?.granted ?? grant.granted)), truly);
      highest = Math.max(highest, excess);
      reserved = Math.max(
        reserved + grant.asked - rate * (grant.granted - (last?.granted ?? grant.granted)),
        grant.asked,
      );
      highestReserved = Math.max(highestReserved, reserved);
      last = grant;
    }
    // Instants are whole microseconds, so the refill of one microsecond is tolerated.
    expect(highest).toBeLessThanOrEqual(limits.burst * (1 + 1e-6) + rate);
    // The bucket was the limit at times. The bucket must hold the reserved cost.
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
      accounts.flatMap(({ words }) =>
        words.flatMap((word) => (word.kind === 'queued' ? [[word.id, word.order] as const] : [])),
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
      const throttle = await taking(settings);
      const awaited = phase === 'queued' || phase === 'granted';
      const first = awaited ? await throttle.acquire() : undefined;
      const worker = await obeying(kind, settings, phase);
      // A process that dies while it connects acquires without a command.
      if (phase !== 'connecting') worker.tell({ do: 'acquire', name: 'its' });
      if (awaited) await worker.says('queued');
      else if (phase === 'releasing' || phase === 'released') {
        await worker.says('granted');
        worker.tell({ do: 'release', name: 'its' });
      }
      if (phase !== 'granted') expect(await worker.ends()).toBe('SIGKILL');
      const next = throttle.acquire();
      const after = throttle.acquire();
      first?.release();
      expect(await worker.ends()).toBe('SIGKILL');
      const permit = await next;
      const heard = now();
      const { at: asked } = worker.said('asks') as Line;
      const { at: died } = worker.said('dies') as Line;
      if (LEASED.has(phase)) expect(heard).toBeGreaterThan(asked + ttl * 1_000);
      if (phase === 'connecting' || phase === 'released') expect(heard).toBeLessThan(died + SLACK);
      expect(heard).toBeLessThan(died + ttl * 1_000 + SLACK);
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
    const throttle = await taking(settings);
    (await throttle.acquire(10)).release();
    const [head, behind] = await Promise.all([obeying('ioredis', settings, 'queued'), obeying('node-redis', settings)]);
    head.tell({ do: 'acquire', name: 'its', cost: 9 });
    expect(await head.ends()).toBe('SIGKILL');
    // The dead owner sets no timer. The next waiter needs the refill of 0.5 s.
    behind.tell({ do: 'acquire', name: 'one', cost: 0.05 });
    await behind.says('queued');
    const instant = (item = ''): number => Number(item.split(' ')[1]);
    const last = grantOf(await throttle.acquire(0));
    const { at, grant } = await behind.says('granted', 'one');
    expect(instant(last)).toBeGreaterThanOrEqual(instant(grant));
    expect(at).toBeLessThan((head.said('dies') as Line).at + ttl * 1_000 + SLACK);
    await behind.kill();
  });

  it('of other processes never takes a permit from a running holder', async () => {
    const ttl = 0.9;
    const settings: Settings = { key: freshKey(), ttl, concurrency: 2 };
    const [living, doomed] = await Promise.all([obeying('node-redis', settings), obeying('ioredis', settings)]);
    living.tell({ do: 'acquire', name: 'its' });
    const { slot } = await living.says('granted');
    doomed.tell({ do: 'acquire', name: 'its' });
    await doomed.says('granted');
    const throttle = await taking(settings);
    const one = throttle.acquire();
    const two = throttle.acquire();
    await doomed.kill();
    const permit = await one;
    expect(permit.slot).not.toBe(slot);
    await sleep(3 * ttl * 1_000);
    expect(throttle.waiting).toBe(1);
    expect((await throttle.inspect()).active).toHaveLength(2);
    expect(living.said('lost')).toBeUndefined();
    living.tell({ do: 'release', name: 'its' });
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
    await Promise.all(living.map((worker) => worker.says('took')));
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
      everyone.reduce((sum, worker) => sum + worker.lines.filter(({ event }) => event === 'took').length, 0);
    await until('enough was granted for the checks below to mean something', () => tookInAll() > 100, 20);
    // The running workers continue once the leases of the dead have expired.
    await until(
      'all go on',
      () =>
        living.every(
          (worker) => worker.lines.filter(({ event, at }) => event === 'took' && at > since + ttl * 1_000).length > 5,
        ),
      20,
    );
    for (const worker of living) worker.tell({ do: 'go' });
    expect(await Promise.all(living.map((worker) => worker.ends()))).toEqual(living.map(() => 0));

    interface Span {
      slot: number;
      from: number;
      /** Another holder may get the slot from this instant on. */
      until: number;
    }
    const spans: Span[] = everyone.flatMap((worker) => {
      const lines = worker.lines as Said[];
      const renewed = lines.filter(({ event }) => event === 'renewed').map(({ at }) => at);
      const ends = new Map(
        lines
          .flatMap((line) => (line.event === 'gives' || line.event === 'lost' ? [[line.name, line.at] as const] : []))
          .toReversed(),
      );
      return lines.flatMap((line) => {
        if (line.event !== 'took') return [];
        // The lease of a dead process expires `ttl` after its last renewal.
        const lapses = Math.max(line.asked, ...renewed.filter((at) => at > line.at)) + ttl * 1_000;
        return [{ slot: line.slot, from: line.at, until: ends.get(line.name) ?? lapses }];
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

    const throttle = await taking(settings);
    await isAsNew(throttle);
  });
});

describe.concurrent('a process whose event loop is blocked for longer than ttl', () => {
  const ttl = 0.8;

  /** Starts a worker that waits for a permit of this process. */
  const waiting = async (kind: Kind): Promise<{ throttle: RedisThrottle; first: RedisPermit; worker: Worker }> => {
    const settings: Settings = { key: freshKey(), ttl, concurrency: 1 };
    const throttle = await taking(settings);
    const first = await throttle.acquire();
    const worker = await obeying(kind, settings);
    worker.tell({ do: 'acquire', name: 'its' });
    await worker.says('queued');
    return { throttle, first, worker };
  };

  /** Adds a waiter behind the worker once the worker waits again. */
  const comesAfter = async (throttle: RedisThrottle): Promise<{ late: Promise<RedisPermit> }> => {
    await until('it waits again', async () => (await throttle.inspect()).waiting.length === 1);
    const late = throttle.acquire();
    await until('another waits behind it', async () => (await throttle.inspect()).waiting.length === 2);
    return { late };
  };

  it.each(KINDS)('loses its permit, and its signal is aborted at the first read, %s', async (kind) => {
    const settings: Settings = { key: freshKey(), ttl, concurrency: 1 };
    const throttle = await taking(settings);
    const worker = await obeying(kind, settings);
    worker.tell({ do: 'acquire', name: 'its' });
    const { at: taken } = await worker.says('granted');
    // The worker waits for two more permits, and this process waits behind them.
    worker.tell({ do: 'acquire', name: 'second' });
    worker.tell({ do: 'acquire', name: 'third' });
    await worker.saysTimes('queued', 2);
    const mine = throttle.acquire();
    await until('all wait', async () => (await throttle.inspect()).waiting.length === 3);
    worker.tell({ do: 'block', seconds: 2.5 * ttl, look: 'its', release: 'its' });
    const permit = await mine;
    const heard = now();
    expect(heard - taken).toBeGreaterThan(ttl * 1_000);
    expect(worker.said('looked')).toBeUndefined();
    expect(await worker.says('looked')).toMatchObject({ lost: true, error: 'LeaseLostError' });
    expect(await worker.says('lost', 'its')).toMatchObject({ error: 'LeaseLostError' });
    // The waiters of the worker get their places back, ahead of later callers.
    await until('its waiters are back', async () => (await throttle.inspect()).waiting.length === 2);
    const late = throttle.acquire();
    await until('one more waits', async () => (await throttle.inspect()).waiting.length === 3);
    // The release of the lost permit has freed no slot.
    expect((await throttle.inspect()).active).toMatchObject([{ slot: permit.slot }]);
    expect(permit.signal.aborted).toBe(false);
    expect(worker.said('granted', 'second')).toBeUndefined();
    permit.release();
    await worker.says('granted', 'second');
    worker.tell({ do: 'release', name: 'second' });
    await worker.says('granted', 'third');
    worker.tell({ do: 'release', name: 'third' });
    (await late).release();
    await throttle.idle();
    await until('the last release is heard', async () => (await throttle.inspect()).active.length === 0);
    await isAsNew(throttle);
    await worker.kill();
  });

  it.each(KINDS)('while it waits, and its grant expires: it keeps its place, %s', async (kind) => {
    const { throttle, first, worker } = await waiting(kind);
    const mine = throttle.acquire();
    await until('both wait', async () => (await throttle.inspect()).waiting.length === 2);
    worker.tell({ do: 'block', seconds: 2.5 * ttl });
    await sleep(50);
    first.release();
    const permit = await mine;
    await worker.says('looked');
    const { late } = await comesAfter(throttle);
    // By now the worker has received the expired grant, and has ignored it.
    await sleep(ttl * 1_000);
    expect(worker.said('granted', 'its')).toBeUndefined();
    expect((await throttle.inspect()).active).toMatchObject([{ slot: permit.slot }]);
    permit.release();
    expect(await worker.says('granted', 'its')).toMatchObject({ lost: false, slot: 1 });
    expect((await throttle.inspect()).active).toHaveLength(1);
    expect(throttle.waiting).toBe(1);
    worker.tell({ do: 'release', name: 'its' });
    (await late).release();
    await throttle.idle();
    await isAsNew(throttle);
    await worker.kill();
  });

  it.each(KINDS)('while its renewal is under way: it keeps its place, %s', async (kind) => {
    const { throttle, first, worker } = await waiting(kind);
    worker.tell({ do: 'block when it calls', seconds: 2.5 * ttl });
    await worker.says('blocked');
    const { late } = await comesAfter(throttle);
    first.release();
    expect(await worker.says('granted', 'its')).toMatchObject({ lost: false });
    expect(throttle.waiting).toBe(1);
    worker.tell({ do: 'release', name: 'its' });
    (await late).release();
    await worker.kill();
  });

  it.each(KINDS)('before the reply with its grant: the late reply grants no permit, %s', async (kind) => {
    const settings: Settings = { key: freshKey(), ttl, concurrency: 1 };
    const throttle = await taking(settings);
    const worker = await obeying(kind, settings);
    // The worker is connected, so its next command is sent at once.
    worker.tell({ do: 'acquire', name: 'before' });
    await worker.says('granted');
    worker.tell({ do: 'release', name: 'before' });
    await until('it is free', async () => (await throttle.inspect()).active.length === 0);
    worker.tell({ do: 'acquire and block', name: 'its', seconds: 2.5 * ttl });
    await until('it holds', async () => (await throttle.inspect()).active.length === 1);
    const permit = await throttle.acquire();
    expect(worker.said('refused')).toBeUndefined();
    expect(await worker.says('refused', 'its')).toMatchObject({ error: 'ThrottleBackendError' });
    // The worker releases the expired grant, which frees no slot.
    await sleep(ttl * 1_000);
    expect(worker.said('granted', 'its')).toBeUndefined();
    expect(permit.signal.aborted).toBe(false);
    expect((await throttle.inspect()).active).toMatchObject([{ slot: permit.slot }]);
    permit.release();
    await throttle.idle();
    await isAsNew(throttle);
    await worker.kill();
  });
});

describe.concurrent('a connection that stalls for longer than ttl, and then delivers everything', () => {
  /** Opens a throttle whose commands and messages pass through valves. */
  async function stalling(throttle: Settings): Promise<{ throttle: RedisThrottle; calls: Valve; messages: Valve }> {
    const commands = ioredis();
    const messages = ioredis();
    const [calling, telling] = [new Valve(), new Valve()];
    const [run, listen] = [evalThrough(commands.client), subscribeThrough(messages.client)];
    const client: RedisCommands = {
      async eval(...call) {
        await calling.opens;
        return run(...call);
      },
      subscribe: (channel, listener) => listen(channel, (message) => void telling.opens.then(() => listener(message))),
    };
    const made = new RedisThrottle({ ...throttle, client });
    endings.push(async () => {
      await made.close();
      await Promise.all([commands.close(), messages.close()]);
    });
    // The first acquire starts the subscription, whose start triggers a renewal.
    const permit = await made.acquire();
    await until(
      'it listens',
      async () =>
        (await commands.client.pubsub('CHANNELS', `headgate:${(await made.inspect()).active[0]?.owner.split('.')[0]}`))
          .length > 0,
    );
    permit.release();
    await made.idle();
    return { throttle: made, calls: calling, messages: telling };
  }

  it('returns no caller to the queue whose lease was lost meanwhile', async () => {
    const settings: Settings = { key: freshKey(), ttl: 0.9, concurrency: 1 };
    const throttle = await taking(settings);
    const slow = await stalling(settings);
    const first = await throttle.acquire();
    const waits = slow.throttle.acquire();
    await until('it waits', async () => (await throttle.inspect()).waiting.length === 1);
    slow.calls.close();
    // By now the throttle has sent a renewal of its waiter.
    await sleep(450);
    first.release();
    const lost = await waits;
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
    const throttle = await taking(settings);
    const slow = await stalling(settings);
    const first = await throttle.acquire();
    let granted = false;
    const waits = slow.throttle.acquire().then((permit) => {
      granted = true;
      return permit;
    });
    await until('it waits', async () => (await throttle.inspect()).waiting.length === 1);
    slow.calls.close();
    slow.messages.close();
    first.release();
    const second = await throttle.acquire();
    slow.calls.open();
    await until('it waits again', async () => (await throttle.inspect()).waiting.length === 1);
    slow.messages.open();
    await sleep(100);
    expect(granted).toBe(false);
    second.release();
    const permit = await waits;
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
    const throttle = await taking(settings);
    const worker = await obeying(kind, settings);
    worker.tell({ do: 'acquire', name: 'its' });
    await worker.says('granted');
    worker.tell({ do: 'release', name: 'its' });
    await (kind === 'url'
      ? until('it is free', async () => (await throttle.inspect()).active.length === 0)
      : worker.says('gave back'));
    worker.tell({ do: 'part', end: true });
    expect(await worker.ends()).toBe(0);
  });

  it.each(ALL)('stays alive while a call waits, %s', async (kind) => {
    const settings: Settings = { key: freshKey(), ttl: 1, concurrency: 1 };
    const throttle = await taking(settings);
    const permit = await throttle.acquire();
    const worker = await obeying(kind, settings);
    worker.tell({ do: 'acquire', name: 'its' });
    if (kind === 'url') await until('it waits', async () => (await throttle.inspect()).waiting.length === 1);
    else await worker.says('queued');
    worker.tell({ do: 'part', end: false });
    await sleep(1_500);
    permit.release();
    await worker.says('granted');
    await worker.kill();
  });
});
