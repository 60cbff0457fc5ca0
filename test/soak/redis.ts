/**
 * Redis: a separate server, and two throttles on each of several keys. One uses ioredis and the other node-redis, as
 * two processes would. In half of the histories, connections are killed, the server stops replying for some time, or
 * its scripts are flushed. The checks: live leases never exceed the limit and never share a slot, grants stay within
 * the rate by the clock of the server, every call settles, and finally no key remains.
 */
import assert from 'node:assert/strict';
import { QueueFullError, ThrottleClosedError, ThrottleTimeoutError } from 'headgate';
import { RedisKeyedThrottle, type RedisPermit, RedisThrottle, ThrottleBackendError } from 'headgate/redis';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import type { Lease } from '../../src/redis/lease.js';
import { type RedisServer, startRedis } from '../support/redis-server.js';
import { Dice, HistoryFailed, type Part, sleep, type Tally, StepLog, until, within } from './part.js';

/** The time for which the actors make calls. */
const ACTIVE_SECONDS = 1.2;
/** The limit of open calls per actor. */
const MAX_OPEN_CALLS = 8;
/** The time that calls may take to settle when nothing blocks them. */
const MAX_REPLY_SECONDS = 20;

/** The limits that both throttles of a key share. */
interface SharedLimits {
  readonly concurrency: number;
  readonly capacity: number;
  readonly burst: number | undefined;
  /** Whether the limits change during the history. */
  readonly varies: boolean;
}

/** One of the two throttles of a key, or that key of a keyed throttle. */
type KeyGate = Pick<RedisThrottle, 'acquire' | 'run' | 'tryAcquire' | 'pause' | 'resume'> &
  Partial<Pick<RedisThrottle, 'configure'>>;

interface Granted {
  readonly id: number;
  readonly side: number;
  readonly permit: RedisPermit;
  /** By the clock of the server, in seconds. */
  readonly at: number;
  readonly requestedCost: number;
  /** Whether the process has handed on the grant of an earlier call, without a call of Redis. */
  readonly handedOn: boolean;
}

/** A key with two throttles, and the permits that callers hold. */
class SharedKey {
  readonly key: string;
  readonly terms: SharedLimits;
  readonly sides: readonly [KeyGate, KeyGate];
  readonly grants: Granted[] = [];
  /** The largest concurrency that either throttle has had. */
  maxConcurrency: number;
  open = 0;
  failure: string | undefined;
  closed: readonly [boolean, boolean] | boolean[] = [false, false];
  readonly #held: Set<RedisPermit> = new Set();
  /** The sides and the records of all grants. */
  readonly #items: Set<string> = new Set();
  readonly #tally: Tally;
  readonly #steps: StepLog;
  readonly #faulty: boolean;
  #serial = 0;

  constructor(
    key: string,
    terms: SharedLimits,
    sides: readonly [KeyGate, KeyGate],
    tally: Tally,
    steps: StepLog,
    faulty: boolean,
  ) {
    this.key = key;
    this.terms = terms;
    this.sides = sides;
    this.#tally = tally;
    this.#steps = steps;
    this.#faulty = faulty;
    this.maxConcurrency = terms.concurrency === 0 ? Infinity : terms.concurrency;
  }

  fail(reason: string): void {
    this.failure ??= `${this.key}: ${reason}`;
  }

  note(step: string): void {
    this.#steps.note(step, this.key);
  }

  #granted(id: number, side: number, requestedCost: number, permit: RedisPermit): void {
    this.#tally.grants++;
    const { item } = (permit as Lease).grant;
    const [slot, at] = item.split(' ').map(Number) as [number, number];
    const handedOn = this.#items.has(`${side} ${item}`);
    this.#items.add(`${side} ${item}`);
    this.note(`call ${id} of ${side} is granted slot ${slot}`);
    this.grants.push({ id, side, permit, at: at / 1e6, requestedCost, handedOn });
    this.#held.add(permit);
    // A lost lease is not held, and its signal has aborted.
    const live = [...this.#held].filter((one) => !one.signal.aborted);
    if (live.length > this.maxConcurrency)
      this.fail(`${live.length} permits held at a time, of ${this.maxConcurrency} allowed`);
    if (new Set(live.map((one) => one.slot)).size < live.length)
      this.fail(`two permits share a slot: ${live.map((one) => one.slot).join()}`);
    if (permit.slot !== slot || slot < 1 || slot > Math.max(1, this.maxConcurrency)) this.fail(`slot ${slot}`);
    if (!this.#faulty && permit.signal.aborted) this.fail('a lease was lost without a fault');
  }

  #release(permit: RedisPermit): void {
    this.#held.delete(permit);
    if (!this.#faulty && permit.signal.aborted) this.fail('a lease was lost without a fault');
    permit.release();
  }

  #refused(id: number, side: number, error: unknown, aborted: unknown): void {
    this.note(`call ${id} of ${side} rejects with ${error instanceof Error ? error.name : String(error)}`);
    if (error === aborted && aborted !== undefined) this.#tally.aborts++;
    else if (error instanceof ThrottleTimeoutError || error instanceof QueueFullError) this.#tally.refusals++;
    else if (error instanceof ThrottleClosedError && this.closed[side] === true) this.#tally.refusals++;
    else if (error instanceof ThrottleBackendError && this.#faulty) this.#tally.refusals++;
    else
      this.fail(
        `call ${id} of ${side} rejected with ` +
          (error instanceof Error ? (error.stack ?? error.message) : String(error)),
      );
  }

  /** Acquires a permit on one side, holds the permit for some time, and releases it. */
  async #use(side: number, dice: Dice): Promise<void> {
    const id = this.#serial++;
    const gate = this.sides[side] as KeyGate;
    const most = Math.min(4, this.terms.burst ?? Infinity);
    const requestedCost = dice.pick([0, 0.1, 1, 1, 1, most]);
    const controller = dice.oneIn(4) ? new AbortController() : undefined;
    const reason = controller === undefined ? undefined : new Error('enough');
    const timeout = dice.pick([undefined, undefined, undefined, 0, 0.02, 0.5]);
    const milliseconds = dice.pick([0, 0, 1, 5, 15, 40]);
    const settled = dice.oneIn(4) ? dice.pick([0, 0.5, 1, 3]) : undefined;
    const late = dice.oneIn(2);
    const how = dice.pick(['acquire', 'acquire', 'run', 'tryAcquire'] as const);
    this.note(`call ${id} of ${side}: ${how}(${requestedCost}), timeout ${timeout}`);
    const timer = controller === undefined ? undefined : setTimeout(() => controller.abort(reason), dice.below(60));
    const hold = async (permit: RedisPermit): Promise<void> => {
      this.#granted(id, side, requestedCost, permit);
      if (milliseconds > 0) await sleep(milliseconds);
      if (settled !== undefined && !late) permit.settle(settled);
    };
    const options = { timeout, signal: controller?.signal };
    try {
      if (how === 'run') {
        let given: RedisPermit | undefined;
        await gate.run(
          async (permit) => {
            given = permit;
            await hold(permit);
            // The release starts here.
            this.#release(permit);
          },
          requestedCost,
          options,
        );
        if (settled !== undefined) given?.settle(settled);
        return;
      }
      const permit =
        how === 'acquire' ? await gate.acquire(requestedCost, options) : await gate.tryAcquire(requestedCost);
      if (permit === undefined) return void this.#tally.refusals++;
      await hold(permit);
      this.#release(permit);
      if (settled !== undefined) permit.settle(settled);
      // A second release has no effect.
      if (dice.oneIn(8)) permit.release();
    } catch (error) {
      this.#refused(id, side, error, reason);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Awaits a command, which may fail only in a history with faults. */
  async #send(what: string, sent: Promise<void>): Promise<void> {
    this.note(what);
    try {
      await sent;
    } catch (error) {
      if (!(error instanceof ThrottleBackendError && this.#faulty)) this.fail(`${what}: ${String(error)}`);
    }
  }

  async act(side: number, dice: Dice, end: number): Promise<void> {
    const gate = this.sides[side] as KeyGate;
    const mine = new Set<Promise<void>>();
    while (performance.now() < end && this.failure === undefined && this.closed[side] !== true) {
      if (mine.size < MAX_OPEN_CALLS) this.#tally.operations++;
      const what = dice.below(30);
      if (what === 0) await this.#send(`${side} pauses`, gate.pause(dice.pick([0.01, 0.05, 0.1])));
      else if (what === 1) await this.#send(`${side} resumes`, gate.resume());
      else if (this.terms.varies && what < 4 && gate.configure !== undefined) {
        const concurrency = dice.pick([1, 2, 4]);
        this.maxConcurrency = Math.max(this.maxConcurrency, concurrency);
        await this.#send(
          `${side} configures`,
          gate.configure({ concurrency, capacity: dice.pick([200, 1_000, Infinity]) }),
        );
      } else if (mine.size < MAX_OPEN_CALLS) {
        this.open++;
        const use = this.#use(side, dice.fork()).finally(() => {
          this.open--;
          mine.delete(use);
        });
        mine.add(use);
      }
      if (!dice.oneIn(3)) await sleep(dice.below(12));
    }
    await Promise.all(mine);
  }

  /** Checks the rate by the clock of the server, and the order of the calls. */
  checkGrants(): void {
    const { capacity, burst = Math.max(1, capacity), varies } = this.terms;
    if (!varies && capacity < Infinity) {
      let level = burst;
      let last = -Infinity;
      for (const { at, requestedCost, permit } of this.grants.toSorted((a, b) => a.at - b.at)) {
        level =
          (last === -Infinity ? burst : Math.min(burst, level + (at - last) * capacity)) -
          Math.min(requestedCost, permit.cost);
        last = at;
        if (level < -1e-3) this.fail(`granted ${-level} more than the rate allows at ${at}`);
      }
    }
    // Without faults, calls arrive at Redis in their order.
    if (this.#faulty) return;
    for (const side of [0, 1]) {
      const own = this.grants.filter((grant) => grant.side === side && !grant.handedOn).toSorted((a, b) => a.id - b.id);
      own.forEach(({ id, at }, index) => {
        const before = own[index - 1];
        if (before !== undefined && before.at > at)
          this.fail(`call ${id} of ${side} was granted before call ${before.id}`);
      });
    }
  }
}

let server: RedisServer | undefined;
let admin: Redis | undefined;

/** Repeatedly kills a connection, pauses the server, or flushes its scripts. */
async function disturb(dice: Dice, steps: StepLog, end: number): Promise<void> {
  const control = admin as Redis;
  while (performance.now() < end) {
    await sleep(40 + dice.below(200));
    const what = dice.pick(['kill', 'kill', 'pause', 'flush']);
    if (what === 'flush') {
      steps.note('the scripts are flushed');
      await control.script('FLUSH');
    } else if (what === 'pause') {
      const milliseconds = dice.pick([20, 100, 400]);
      steps.note(`the server pauses for ${milliseconds} ms`);
      await control.call('CLIENT', 'PAUSE', String(milliseconds), 'ALL');
    } else {
      const own = await control.client('ID');
      const list = (await control.client('LIST')) as string;
      const others = list
        .split('\n')
        .flatMap((line) => /^id=(\d+)/.exec(line)?.[1] ?? [])
        .filter((id) => Number(id) !== own);
      const id = dice.pick(others);
      steps.note(
        `connection ${id} is killed: ${list
          .split('\n')
          .find((line) => line.startsWith(`id=${id} `))
          ?.replace(/.*(name=\S*|flags=\S+) .*?(sub=\d+).*/, '$1 $2')}`,
      );
      await control.client('KILL', 'ID', id).catch(() => {});
    }
  }
}

async function playRedis(seed: number, tally: Tally): Promise<void> {
  const { url } = server as RedisServer;
  const dice = new Dice(seed);
  const steps = new StepLog();
  const faulty = dice.oneIn(2);
  const first = new Redis(url);
  const second = createClient({ url });
  for (const client of [first, second]) client.on('error', () => {});
  await second.connect();
  // Without faults, the limits of time are long enough for a busy machine.
  const shared = {
    prefix: 'soak',
    ...(faulty ? { ttl: dice.pick([1, 2]), commandTimeout: dice.pick([0.3, 0.8]) } : { ttl: 10, commandTimeout: 5 }),
  };
  const terms = (): SharedLimits => ({
    concurrency: dice.pick([1, 1, 2, 5, 0]),
    capacity: dice.pick([Infinity, Infinity, 100, 500]),
    burst: dice.pick([undefined, 5, 20]),
    varies: dice.oneIn(4),
  });
  steps.note(`${faulty ? 'with' : 'without'} faults, ttl ${shared.ttl}, commandTimeout ${shared.commandTimeout}`);

  const throttles: { close(): Promise<void>; idle(): Promise<void> }[] = [];
  const sharedKeys: SharedKey[] = [];
  const addKey = (key: string, own: SharedLimits, sides: readonly [KeyGate, KeyGate]): void => {
    steps.note(JSON.stringify(own), key);
    sharedKeys.push(new SharedKey(key, own, sides, tally, steps, faulty));
  };
  for (let index = 0; index < 4; index++) {
    const own = terms();
    const { concurrency, capacity, burst } = own;
    const options = {
      ...shared,
      key: `key${seed}-${index}`,
      concurrency,
      capacity,
      burst,
      maxQueue: dice.pick([Infinity, Infinity, 6]),
    };
    const pair = [
      new RedisThrottle({ ...options, client: first }),
      new RedisThrottle({ ...options, client: second }),
    ] as const;
    throttles.push(...pair);
    addKey(options.key, own, pair);
  }
  const own = { ...terms(), varies: false };
  const { concurrency, capacity, burst } = own;
  const keyed = [first, second].map(
    (client) => new RedisKeyedThrottle({ ...shared, client, concurrency, capacity, burst }),
  );
  throttles.push(...keyed);
  for (const name of ['ada', 'bob']) {
    const key = `${name}${seed}`;
    const sides = keyed.map((each): KeyGate => ({
      acquire: (cost, options) => each.acquire(key, cost, options),
      run: (fn, cost, options) => each.run(key, fn, cost, options),
      tryAcquire: (cost) => each.tryAcquire(key, cost),
      pause: (seconds) => each.pause(key, seconds),
      resume: () => each.resume(key),
    }));
    addKey(key, own, sides as [KeyGate, KeyGate]);
  }

  // A call before the script is loaded is sent twice, so a later call may overtake it. Load the script first.
  if (!faulty)
    for (const sharedKey of sharedKeys) for (const side of sharedKey.sides) (await side.acquire(0)).release();

  const end = performance.now() + ACTIVE_SECONDS * 1_000;
  const actors = sharedKeys.flatMap((sharedKey) =>
    [0, 1].flatMap((side) => [dice.fork(), dice.fork()].map((each) => sharedKey.act(side, each, end))),
  );
  const leaves = dice.oneIn(3) ? (ACTIVE_SECONDS * 1_000) / 2 : undefined;
  const disturbance = faulty ? disturb(dice.fork(), steps, end) : undefined;
  try {
    if (leaves !== undefined) {
      // One of the two throttles of the first key closes in the middle of the history.
      await sleep(leaves);
      const [sharedKey] = sharedKeys as [SharedKey];
      steps.note(`0 of ${sharedKey.key} closes`);
      sharedKey.closed = [true, false];
      await within(MAX_REPLY_SECONDS, (throttles[0] as RedisThrottle).close(), 'close');
    }
    await disturbance;
    const names = sharedKeys
      .filter((sharedKey) => sharedKey.open > 0)
      .map((sharedKey) => `${sharedKey.open} of ${sharedKey.key}`);
    await within(
      MAX_REPLY_SECONDS,
      Promise.all(actors),
      `all calls settle, of which ${names.join(' and ')} were open at the end,`,
    );
    steps.note('all calls have settled');
    for (const sharedKey of sharedKeys) sharedKey.checkGrants();
    assert.equal(sharedKeys.find((sharedKey) => sharedKey.failure !== undefined)?.failure, undefined);
    await within(MAX_REPLY_SECONDS, Promise.all(throttles.map((throttle) => throttle.idle())), 'idle');
    // Redis has received every release. A lease that was granted over a broken connection may have to expire.
    for (const { key } of sharedKeys) {
      const observer = new RedisThrottle({ client: admin as Redis, key, prefix: shared.prefix });
      throttles.push(observer);
      const left = async (): Promise<number> => {
        const { active, waiting } = await observer.inspect();
        return active.length + waiting.length;
      };
      if (faulty)
        await until(`${key}: no lease and no waiter remains`, async () => (await left()) === 0, shared.ttl + 5);
      else assert.equal(await left(), 0, `${key}: remaining leases and waiters`);
    }
    await within(MAX_REPLY_SECONDS, Promise.all(throttles.map((throttle) => throttle.close())), 'close');
    // Finally no key remains.
    const left = async (): Promise<string[]> =>
      (await (admin as Redis).keys('{soak:*')).filter((key) =>
        sharedKeys.some((sharedKey) => key.startsWith(`{soak:${sharedKey.key}}`)),
      );
    await until('no key remains', async () => (await left()).length === 0, shared.ttl + 5).catch(
      async (error: unknown) => {
        const ages = await Promise.all(
          (await left()).map(async (key) => `${key} (${await (admin as Redis).pttl(key)} ms)`),
        );
        throw new Error(`${(error as Error).message}: ${ages.join(', ')}`);
      },
    );
    assert.equal(sharedKeys.find((sharedKey) => sharedKey.failure !== undefined)?.failure, undefined);
  } catch (error) {
    throw new HistoryFailed((error as Error).message, steps.toString((error as Error).message), error);
  } finally {
    await disturbance?.catch(() => {});
    await Promise.all(throttles.map((throttle) => throttle.close()));
    first.disconnect();
    second.destroy();
  }
  // A leaked subscription keeps no process alive, so only the server can count it.
  const connections = async (): Promise<number> =>
    ((await (admin as Redis).client('LIST')) as string).trim().split('\n').length;
  await until('only the connection of the soak is open', async () => (await connections()) === 1, 5);
}

export const onRedis: Part = {
  name: 'redis',
  exact: false,
  weight: 4,
  async open() {
    server = await startRedis();
    admin = new Redis(server.url);
    admin.on('error', () => {});
    return [Number(/process_id:(\d+)/.exec(await admin.info('server'))?.[1])];
  },
  async close() {
    admin?.disconnect();
    await server?.stop();
  },
  play: playRedis,
};
