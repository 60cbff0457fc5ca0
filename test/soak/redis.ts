/**
 * Redis: a server of its own, and on each of several keys two throttles, one on a client of ioredis and one on a client
 * of node-redis, as in two processes. Now and then a connection is killed, the server answers nobody for a while, or
 * forgets its scripts. Seen from outside, never more hold live leases than may, no two the same slot; by the server's
 * time no more is granted than the rate allows; everybody is answered; and in the end no key is left.
 */
import assert from 'node:assert/strict';
import { QueueFullError, ThrottleClosedError, ThrottleTimeoutError } from 'headgate';
import { RedisKeyedThrottle, type RedisPermit, RedisThrottle, ThrottleBackendError } from 'headgate/redis';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import type { Lease } from '../../src/redis/lease.js';
import { type RedisServer, startRedis } from '../support/redis-server.js';
import { Dice, HistoryFailed, type Part, sleep, type Tally, Trail, until, within } from './part.js';

/** Seconds that the actors act. */
const SPAN = 1.2;
/** How many calls an actor has open at most. */
const MOST_OPEN = 8;
/** Seconds within which everybody is answered, once nothing holds them. */
const PATIENCE = 20;

/** What the two of a key share. */
interface Terms {
  readonly concurrency: number;
  readonly capacity: number;
  readonly burst: number | undefined;
  /** Whether they change while they are in use. */
  readonly varies: boolean;
}

/** One of the two, of a throttle or of a keyed one. */
type Asked = Pick<RedisThrottle, 'acquire' | 'run' | 'tryAcquire' | 'pause' | 'resume'> &
  Partial<Pick<RedisThrottle, 'configure'>>;

interface Granted {
  readonly id: number;
  readonly who: number;
  readonly permit: RedisPermit;
  /** By the server's clock, in seconds. */
  readonly at: number;
  readonly asked: number;
}

/** A key: who holds what there, as far as one can see who uses it. */
class Lane {
  readonly key: string;
  readonly terms: Terms;
  readonly sides: readonly [Asked, Asked];
  readonly grants: Granted[] = [];
  /** The largest bound that either of them has had. */
  mostAtOnce: number;
  open = 0;
  wrong: string | undefined;
  closed: readonly [boolean, boolean] | boolean[] = [false, false];
  readonly #held: Set<RedisPermit> = new Set();
  readonly #tally: Tally;
  readonly #trail: Trail;
  readonly #faulty: boolean;
  #serial = 0;

  constructor(key: string, terms: Terms, sides: readonly [Asked, Asked], tally: Tally, trail: Trail, faulty: boolean) {
    this.key = key;
    this.terms = terms;
    this.sides = sides;
    this.#tally = tally;
    this.#trail = trail;
    this.#faulty = faulty;
    this.mostAtOnce = terms.concurrency === 0 ? Infinity : terms.concurrency;
  }

  fail(what: string): void {
    this.wrong ??= `${this.key}: ${what}`;
  }

  note(step: string): void {
    this.#trail.note(step, this.key);
  }

  #granted(id: number, who: number, asked: number, permit: RedisPermit): void {
    this.#tally.grants++;
    const [slot, at] = (permit as Lease).item.split(' ').map(Number) as [number, number];
    this.note(`call ${id} of ${who} is granted slot ${slot}`);
    this.grants.push({ id, who, permit, at: at / 1e6, asked });
    this.#held.add(permit);
    // A lease that was lost is not held any more, and its signal says so.
    const live = [...this.#held].filter((one) => !one.signal.aborted);
    if (live.length > this.mostAtOnce) this.fail(`${live.length} hold it at a time, where ${this.mostAtOnce} may`);
    if (new Set(live.map((one) => one.slot)).size < live.length)
      this.fail(`two hold the same slot: ${live.map((one) => one.slot).join()}`);
    if (permit.slot !== slot || slot < 1 || slot > Math.max(1, this.mostAtOnce)) this.fail(`slot ${slot}`);
    if (!this.#faulty && permit.signal.aborted) this.fail('a lease was lost, though nothing had failed');
  }

  #release(permit: RedisPermit): void {
    this.#held.delete(permit);
    if (!this.#faulty && permit.signal.aborted) this.fail('a lease was lost, though nothing had failed');
    permit.release();
  }

  #refused(id: number, who: number, error: unknown, aborted: unknown): void {
    this.note(`call ${id} of ${who} gets ${error instanceof Error ? error.name : String(error)}`);
    if (error === aborted && aborted !== undefined) this.#tally.aborts++;
    else if (error instanceof ThrottleTimeoutError || error instanceof QueueFullError) this.#tally.refusals++;
    else if (error instanceof ThrottleClosedError && this.closed[who] === true) this.#tally.refusals++;
    else if (error instanceof ThrottleBackendError && this.#faulty) this.#tally.refusals++;
    else
      this.fail(
        `call ${id} of ${who} was refused by ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      );
  }

  /** What one side asks for, holds for a while, and gives back. */
  async #use(who: number, dice: Dice): Promise<void> {
    const id = this.#serial++;
    const side = this.sides[who] as Asked;
    const most = Math.min(4, this.terms.burst ?? Infinity);
    const asked = dice.pick([0, 0.1, 1, 1, 1, most]);
    const controller = dice.oneIn(4) ? new AbortController() : undefined;
    const reason = controller === undefined ? undefined : new Error('enough');
    const timeout = dice.pick([undefined, undefined, undefined, 0, 0.02, 0.5]);
    const milliseconds = dice.pick([0, 0, 1, 5, 15, 40]);
    const settled = dice.oneIn(4) ? dice.pick([0, 0.5, 1, 3]) : undefined;
    const late = dice.oneIn(2);
    const how = dice.pick(['acquire', 'acquire', 'run', 'tryAcquire'] as const);
    this.note(`call ${id} of ${who}: ${how}(${asked}), timeout ${timeout}`);
    const timer = controller === undefined ? undefined : setTimeout(() => controller.abort(reason), dice.below(60));
    const hold = async (permit: RedisPermit): Promise<void> => {
      this.#granted(id, who, asked, permit);
      if (milliseconds > 0) await sleep(milliseconds);
      if (settled !== undefined && !late) permit.settle(settled);
    };
    const options = { timeout, signal: controller?.signal };
    try {
      if (how === 'run') {
        let given: RedisPermit | undefined;
        await side.run(
          async (permit) => {
            given = permit;
            await hold(permit);
            // From here on it is on its way back.
            this.#release(permit);
          },
          asked,
          options,
        );
        if (settled !== undefined) given?.settle(settled);
        return;
      }
      const permit = how === 'acquire' ? await side.acquire(asked, options) : await side.tryAcquire(asked);
      if (permit === undefined) return void this.#tally.refusals++;
      await hold(permit);
      this.#release(permit);
      if (settled !== undefined) permit.settle(settled);
      // Once more counts for nothing.
      if (dice.oneIn(8)) permit.release();
    } catch (error) {
      this.#refused(id, who, error, reason);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Something that is said and fails only where Redis does. */
  async #say(what: string, said: Promise<void>): Promise<void> {
    this.note(what);
    try {
      await said;
    } catch (error) {
      if (!(error instanceof ThrottleBackendError && this.#faulty)) this.fail(`${what}: ${String(error)}`);
    }
  }

  async act(who: number, dice: Dice, end: number): Promise<void> {
    const side = this.sides[who] as Asked;
    const mine = new Set<Promise<void>>();
    while (performance.now() < end && this.wrong === undefined && this.closed[who] !== true) {
      if (mine.size < MOST_OPEN) this.#tally.operations++;
      const what = dice.below(30);
      if (what === 0) await this.#say(`${who} pauses`, side.pause(dice.pick([0.01, 0.05, 0.1])));
      else if (what === 1) await this.#say(`${who} resumes`, side.resume());
      else if (this.terms.varies && what < 4 && side.configure !== undefined) {
        const concurrency = dice.pick([1, 2, 4]);
        this.mostAtOnce = Math.max(this.mostAtOnce, concurrency);
        await this.#say(
          `${who} configures`,
          side.configure({ concurrency, capacity: dice.pick([200, 1_000, Infinity]) }),
        );
      } else if (mine.size < MOST_OPEN) {
        this.open++;
        const use = this.#use(who, dice.fork()).finally(() => {
          this.open--;
          mine.delete(use);
        });
        mine.add(use);
      }
      if (!dice.oneIn(3)) await sleep(dice.below(12));
    }
    await Promise.all(mine);
  }

  /** The rate by the server's clock, and the order of the calls. */
  checkGrants(): void {
    const { capacity, burst = Math.max(1, capacity), varies } = this.terms;
    if (!varies && capacity < Infinity) {
      let level = burst;
      let last = -Infinity;
      for (const { at, asked, permit } of this.grants.toSorted((a, b) => a.at - b.at)) {
        level =
          (last === -Infinity ? burst : Math.min(burst, level + (at - last) * capacity)) - Math.min(asked, permit.cost);
        last = at;
        if (level < -1e-3) this.fail(`more was granted than the rate allows, by ${-level}, at ${at}`);
      }
    }
    // Where nothing fails, calls arrive in Redis in their order.
    if (this.#faulty) return;
    for (const who of [0, 1]) {
      const own = this.grants.filter((grant) => grant.who === who).toSorted((a, b) => a.id - b.id);
      own.forEach(({ id, at }, index) => {
        const before = own[index - 1];
        if (before !== undefined && before.at > at)
          this.fail(`call ${id} of ${who} was granted before call ${before.id}`);
      });
    }
  }
}

let server: RedisServer | undefined;
let admin: Redis | undefined;

/** Kills a connection, stops the server for a moment, or makes it forget its scripts, again and again. */
async function disturb(dice: Dice, trail: Trail, end: number): Promise<void> {
  const control = admin as Redis;
  while (performance.now() < end) {
    await sleep(40 + dice.below(200));
    const what = dice.pick(['kill', 'kill', 'pause', 'flush']);
    if (what === 'flush') {
      trail.note('the server forgets its scripts');
      await control.script('FLUSH');
    } else if (what === 'pause') {
      const milliseconds = dice.pick([20, 100, 400]);
      trail.note(`the server stops for ${milliseconds} ms`);
      await control.call('CLIENT', 'PAUSE', String(milliseconds), 'ALL');
    } else {
      const own = await control.client('ID');
      const list = (await control.client('LIST')) as string;
      const others = list
        .split('\n')
        .flatMap((line) => /^id=(\d+)/.exec(line)?.[1] ?? [])
        .filter((id) => Number(id) !== own);
      const id = dice.pick(others);
      trail.note(
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
  const trail = new Trail();
  const faulty = dice.oneIn(2);
  const first = new Redis(url);
  const second = createClient({ url });
  for (const client of [first, second]) client.on('error', () => {});
  await second.connect();
  // Where nothing is to fail, not even a machine with too much to do may make it.
  const shared = {
    prefix: 'soak',
    ...(faulty ? { ttl: dice.pick([1, 2]), commandTimeout: dice.pick([0.3, 0.8]) } : { ttl: 10, commandTimeout: 5 }),
  };
  const terms = (): Terms => ({
    concurrency: dice.pick([1, 1, 2, 5, 0]),
    capacity: dice.pick([Infinity, Infinity, 100, 500]),
    burst: dice.pick([undefined, 5, 20]),
    varies: dice.oneIn(4),
  });
  trail.note(`${faulty ? 'with' : 'without'} faults, ttl ${shared.ttl}, commandTimeout ${shared.commandTimeout}`);

  const throttles: { close(): Promise<void>; idle(): Promise<void> }[] = [];
  const lanes: Lane[] = [];
  const addLane = (key: string, own: Terms, sides: readonly [Asked, Asked]): void => {
    trail.note(JSON.stringify(own), key);
    lanes.push(new Lane(key, own, sides, tally, trail, faulty));
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
    addLane(options.key, own, pair);
  }
  const own = { ...terms(), varies: false };
  const { concurrency, capacity, burst } = own;
  const keyed = [first, second].map(
    (client) => new RedisKeyedThrottle({ ...shared, client, concurrency, capacity, burst }),
  );
  throttles.push(...keyed);
  for (const name of ['ada', 'bob']) {
    const key = `${name}${seed}`;
    const sides = keyed.map((each): Asked => ({
      acquire: (cost, options) => each.acquire(key, cost, options),
      run: (fn, cost, options) => each.run(key, fn, cost, options),
      tryAcquire: (cost) => each.tryAcquire(key, cost),
      pause: (seconds) => each.pause(key, seconds),
      resume: () => each.resume(key),
    }));
    addLane(key, own, sides as [Asked, Asked]);
  }

  // A call that finds the script unknown is made again, and then another may come before it: not where order is looked at.
  if (!faulty) for (const lane of lanes) for (const side of lane.sides) (await side.acquire(0)).release();

  const end = performance.now() + SPAN * 1_000;
  const actors = lanes.flatMap((lane) =>
    [0, 1].flatMap((who) => [dice.fork(), dice.fork()].map((each) => lane.act(who, each, end))),
  );
  const leaves = dice.oneIn(3) ? (SPAN * 1_000) / 2 : undefined;
  const disturbance = faulty ? disturb(dice.fork(), trail, end) : undefined;
  try {
    if (leaves !== undefined) {
      // One of the first two goes in the middle of it; the other goes on.
      await sleep(leaves);
      const [lane] = lanes as [Lane];
      trail.note(`0 of ${lane.key} closes`);
      lane.closed = [true, false];
      await within(PATIENCE, (throttles[0] as RedisThrottle).close(), 'close');
    }
    await disturbance;
    const names = lanes.filter((lane) => lane.open > 0).map((lane) => `${lane.open} of ${lane.key}`);
    await within(
      PATIENCE,
      Promise.all(actors),
      `an answer to all calls, of which ${names.join(' and ')} were open in the end,`,
    );
    trail.note('all are answered');
    for (const lane of lanes) lane.checkGrants();
    assert.equal(lanes.find((lane) => lane.wrong !== undefined)?.wrong, undefined);
    await within(PATIENCE, Promise.all(throttles.map((throttle) => throttle.idle())), 'idle');
    // Redis knows by now of all that was given back. What was granted to a connection that broke in that moment may have to lapse.
    for (const { key } of lanes) {
      const left = async (): Promise<number> => {
        const [leases, waiters] = [
          await (admin as Redis).hlen(`{soak:${key}}:leases`),
          await (admin as Redis).zcard(`{soak:${key}}:queue`),
        ];
        return leases + waiters;
      };
      if (faulty)
        await until(`${key}: no lease and no waiter is left`, async () => (await left()) === 0, shared.ttl + 5);
      else assert.equal(await left(), 0, `${key}: leases and waiters that are left`);
    }
    await within(PATIENCE, Promise.all(throttles.map((throttle) => throttle.close())), 'close');
    // All is as if it had never been.
    const left = async (): Promise<string[]> =>
      (await (admin as Redis).keys('{soak:*')).filter((key) =>
        lanes.some((lane) => key.startsWith(`{soak:${lane.key}}`)),
      );
    await until('no key is left', async () => (await left()).length === 0, shared.ttl + 5).catch(
      async (error: unknown) => {
        const ages = await Promise.all(
          (await left()).map(async (key) => `${key} (${await (admin as Redis).pttl(key)} ms)`),
        );
        throw new Error(`${(error as Error).message}: ${ages.join(', ')}`);
      },
    );
    assert.equal(lanes.find((lane) => lane.wrong !== undefined)?.wrong, undefined);
  } catch (error) {
    throw new HistoryFailed((error as Error).message, trail.toString((error as Error).message), error);
  } finally {
    await disturbance?.catch(() => {});
    await Promise.all(throttles.map((throttle) => throttle.close()));
    first.disconnect();
    second.destroy();
  }
  // Those that listen keep no process alive, so that nobody else would miss them.
  const connections = async (): Promise<number> =>
    ((await (admin as Redis).client('LIST')) as string).trim().split('\n').length;
  await until('all connections but that of the soak are closed', async () => (await connections()) === 1, 5);
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
