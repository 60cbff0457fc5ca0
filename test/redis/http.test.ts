/** The HTTP adapters and throttledFetch with gates on Redis: in several server processes, and while Redis fails. */
import { type ChildProcess, fork } from 'node:child_process';
import { rmSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { Limiter, Resource, ServerBusyError, ThrottleTimeoutError } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import {
  type RedisConnection,
  RedisKeyedThrottle,
  type RedisState,
  RedisThrottle,
  ThrottleBackendError,
} from 'headgate/redis';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type Call, call, get, Latch, listen, type Seen, stop } from '../support/http-client.js';
import { sites } from '../support/framework-servers.js';
import { guarded } from '../support/processes.js';
import { type RedisServer, startRedis } from '../support/redis-server.js';
import type { Order, Report, Setting, Variant } from './site.js';
import { bundle, freshKey, ioredis, makeFolder, nodeRedis, redisUrl, sleep, until } from './support.js';

const FRAMEWORKS = ['node:http', 'express', 'koa', 'fastify', 'hono', 'web'];
const LIMIT = 2;
const TTL_SECONDS = 0.9;
/** The largest delay on a busy machine. */
const LATE_SECONDS = 1.5;

/** Whether no process holds a permit or waits for one. */
const isEmpty = ({ active, waiting }: RedisState): boolean => active.length + waiting.length === 0;
const problem = {
  type: 'about:blank',
  title: 'Too Many Requests',
  status: 429,
  detail: 'Too Many Requests: retry in 1 s.',
};

/** Whether the response has no RateLimit headers. */
const silent = ({ headers }: Seen): boolean =>
  headers['ratelimit'] === undefined && headers['ratelimit-policy'] === undefined;

/** The content type without the charset, which Fastify adds. */
const typeOf = ({ headers }: Seen): string | undefined => headers['content-type']?.split(';')[0];

/** Expects a refusal with a Retry-After and no other information. */
const expectRefusal = (seen: Seen): void => {
  expect([seen.status, seen.headers['retry-after'], typeOf(seen), JSON.parse(seen.body)]).toEqual([
    429,
    '1',
    'application/problem+json',
    problem,
  ]);
  expect(silent(seen)).toBe(true);
};

describe('server processes that share a limit', () => {
  type Passage = Exclude<Report, { kind: 'ready' }>;

  /** The requests that have entered and left the handlers, in all processes. */
  const trace: Passage[] = [];
  const prefix = freshKey();
  let folder = '';
  const { client, close } = ioredis();
  const started: ChildProcess[] = [];

  class ServerProcess {
    readonly child: ChildProcess;
    readonly ports: Promise<Record<string, Record<Variant, number>>>;

    constructor(kind: Setting['client']) {
      const setting: Setting = { url: redisUrl(), prefix, client: kind, ttl: TTL_SECONDS, limit: LIMIT };
      const child = guarded(
        fork(join(folder, 'site.mjs'), { env: { ...process.env, SITE: JSON.stringify(setting) }, execArgv: [] }),
      );
      started.push(child);
      this.child = child;
      this.ports = new Promise((resolve, reject) => {
        child.on('exit', (code) => reject(new Error(`the server process has ended with ${code}`)));
        child.on('message', (report: Report) =>
          report.kind === 'ready' ? resolve(report.ports) : void trace.push(report),
        );
      });
      this.ports.catch(() => {});
    }

    async site(framework: string, variant: Variant): Promise<{ port: number }> {
      return { port: (await this.ports)[framework]![variant] };
    }

    /** Ends a request. */
    open(name: string): void {
      this.child.send({ open: name } satisfies Order);
    }
  }

  let first!: ServerProcess;
  let second!: ServerProcess;

  beforeAll(async () => {
    folder = makeFolder();
    await bundle(folder, 'site');
    first = new ServerProcess('ioredis');
    second = new ServerProcess('node-redis');
    await Promise.all([first.ports, second.ports]);
  });

  afterAll(async () => {
    await Promise.all(
      started.map(
        (child) =>
          child.exitCode !== null ||
          child.signalCode !== null ||
          new Promise((resolve) => void child.once('exit', resolve).kill('SIGKILL')),
      ),
    );
    rmSync(folder, { recursive: true, force: true });
    await close();
  });

  const was = (kind: 'enter' | 'exit', name: string): Promise<void> =>
    until(`${kind} of ${name}`, () => trace.some((report) => report.kind === kind && report.name === name));

  /** The largest number of requests inside a handler at any instant. */
  const peak = (names: (name: string) => boolean): number => {
    const passages = trace
      .filter(({ name }) => names(name))
      .toSorted((one, other) => Number(BigInt(one.at) - BigInt(other.at)));
    let inside = 0;
    return Math.max(...passages.map(({ kind }) => (inside += kind === 'enter' ? 1 : -1)));
  };

  describe.each(FRAMEWORKS)('%s', (framework) => {
    const gate = new RedisThrottle({ client, prefix: `${prefix}:${framework}`, key: 'shared', concurrency: LIMIT });
    const perUser = new RedisKeyedThrottle({ client, prefix: `${prefix}:${framework}`, concurrency: LIMIT });
    const both = async (variant: Variant): Promise<{ port: number }[]> =>
      Promise.all([first.site(framework, variant), second.site(framework, variant)]);
    const as = (user: string): { headers: Record<string, string> } => ({ headers: { 'x-user': user } });
    const enter = async (site: { port: number } | undefined, name: string, user = ''): Promise<Call> => {
      const entering = call(site!, `/${name}`, as(user));
      await was('enter', name);
      return entering;
    };

    test('refuse a request over the limit until a response of any process has ended', async () => {
      const name = (request: string): string => `${framework} refuses ${request}`.replaceAll(' ', '-');
      const [here, there] = await both('shared');
      const one = await enter(here, name('one'));
      const two = await enter(there, name('two'));
      (await Promise.all([get(here!), get(there!)])).forEach(expectRefusal);
      first.open(name('one'));
      const seen = await one.seen;
      expect([seen.status, seen.body, seen.headers['retry-after'], silent(seen)]).toEqual([
        200,
        'begun, done',
        undefined,
        true,
      ]);
      await until('a slot is free', async () => (await gate.inspect()).active.length === 1);
      expect((await get(there!, '/three?hold=1')).status).toBe(200);
      second.open(name('two'));
      expect((await two.seen).status).toBe(200);
      await until('all slots are free', async () => (await gate.inspect()).active.length === 0);
    });

    test('refuse each key separately', async () => {
      const name = (request: string): string => `${framework} keys ${request}`.replaceAll(' ', '-');
      const [here, there] = await both('keyed');
      const [one] = await Promise.all([enter(here, name('one'), 'ada'), enter(there, name('two'), 'ada')]);
      (await Promise.all([get(here!, '/', as('ada')), get(there!, '/', as('ada'))])).forEach(expectRefusal);
      expect(
        (await Promise.all([get(here!, '/?hold=1', as('bob')), get(there!, '/?hold=1', as('bob'))])).map(
          ({ status }) => status,
        ),
      ).toEqual([200, 200]);
      expect((await get(there!)).status).toBe(400);
      first.open(name('one'));
      expect((await one.seen).status).toBe(200);
      await until('a slot is free', async () => (await perUser.inspect('header:x-user:ada')).active.length === 1);
      expect((await get(here!, '/?hold=1', as('ada'))).status).toBe(200);
      second.open(name('two'));
      await until('all slots are free', async () => (await perUser.inspect('header:x-user:ada')).active.length === 0);
    });

    test('remove a client that hangs up from the queue at once, and admit the next', async () => {
      const name = (request: string): string => `${framework} queues ${request}`.replaceAll(' ', '-');
      const [here, there] = await both('shared, waiting');
      const [one, two] = await Promise.all([enter(here, name('one')), enter(here, name('two'))]);
      const waiting = async (): Promise<number> => (await gate.inspect()).waiting.length;
      const hasty = call(there!, `/${name('hasty')}`);
      await until('one waiter is queued', async () => (await waiting()) === 1);
      const patient = call(there!, `/${name('patient')}`);
      await until('two waiters are queued', async () => (await waiting()) === 2);
      hasty.hangUp();
      await until('it has left', async () => (await waiting()) === 1);
      // A client that hangs up during its response also frees the slot.
      one.hangUp();
      await was('enter', name('patient'));
      expect(trace.some((report) => report.name === name('hasty'))).toBe(false);
      first.open(name('two'));
      second.open(name('patient'));
      expect((await Promise.all([two.seen, patient.seen])).map(({ status }) => status)).toEqual([200, 200]);
      await until('no holder and no waiter is left', async () => isEmpty(await gate.inspect()));
    });

    test.each<['shared, waiting' | 'keyed, waiting']>([['shared, waiting'], ['keyed, waiting']])(
      '%s: never exceed the limit, even if clients hang up at random',
      async (variant) => {
        const of = `${framework}-${variant.slice(0, 5)}-load-`;
        const servers = await both(variant);
        const calls = Array.from({ length: 36 }, (_, index) => {
          const leaves = index % 6 === 5 ? 'streaming' : index % 6 === 2 ? 'whenever' : 'never';
          const made = call(
            servers[index % 2]!,
            `/${of}${index}${leaves === 'streaming' ? '' : `?hold=${5 + ((index * 7) % 11)}`}`,
            as('eve'),
          );
          if (leaves === 'streaming') void made.started.then(() => made.hangUp());
          if (leaves === 'whenever') setTimeout(() => made.hangUp(), index * 3);
          return { made, leaves };
        });
        const statuses = await Promise.all(
          calls.filter(({ leaves }) => leaves === 'never').map(async ({ made }) => (await made.seen).status),
        );
        expect(new Set(statuses)).toEqual(new Set([200]));
        await until('no holder and no waiter is left', async () =>
          isEmpty(await (variant === 'keyed, waiting' ? perUser.inspect('header:x-user:eve') : gate.inspect())),
        );
        await until('all have left', () =>
          trace
            .filter(({ kind, name }) => kind === 'enter' && name.startsWith(of))
            .every((entered) => trace.some(({ kind, name }) => kind === 'exit' && name === entered.name)),
        );
        expect(peak((name) => name.startsWith(of))).toBe(LIMIT);
      },
    );

    test('send 503 if the queue is full or a resource is taken', async () => {
      const name = (request: string): string => `${framework} is busy with ${request}`.replaceAll(' ', '-');
      const [full] = await both('no queue');
      const [, fullThere] = await both('no queue');
      const [short, shortThere] = await both('resources');
      const held = await Promise.all([enter(full, name('one')), enter(short, name('two'))]);
      const [noQueue, noResource] = await Promise.all([get(fullThere!), get(shortThere!)]);
      expect([noQueue.status, noQueue.headers['retry-after'], typeOf(noQueue), silent(noQueue)]).toEqual([
        503,
        '1',
        'application/problem+json',
        true,
      ]);
      expect([
        noResource.status,
        noResource.headers['retry-after'],
        JSON.parse(noResource.body),
        silent(noResource),
      ]).toEqual([503, '1', { detail: 'Server busy, please retry later' }, true]);
      first.open(name('one'));
      first.open(name('two'));
      expect((await Promise.all(held.map(({ seen }) => seen))).map(({ status }) => status)).toEqual([200, 200]);
    });
  });

  test('keep the slot of a request that takes longer than ttl', async () => {
    const headers = { 'x-user': 'max' };
    await Promise.all(
      FRAMEWORKS.map(async (framework) => {
        const [here, there] = await Promise.all([first.site(framework, 'keyed'), second.site(framework, 'keyed')]);
        const names = ['one', 'two'].map((request) => `${framework}-takes-long-${request}`);
        const calls = names.map((name) => call(here, `/${name}`, { headers }));
        await Promise.all(names.map((name) => was('enter', name)));
        await sleep(1.4 * TTL_SECONDS * 1_000);
        expectRefusal(await get(there, '/', { headers }));
        for (const name of names) first.open(name);
        for (const { seen } of calls) expect(await seen).toMatchObject({ status: 200, body: 'begun, done' });
      }),
    );
  });

  test('get the slots and places of a killed process within ttl, and not before its leases expire', async () => {
    const third = new ServerProcess('ioredis');
    await third.ports;
    const variants: Variant[] = ['shared, waiting', 'keyed, waiting'];
    const headers = { 'x-user': 'zoe' };
    const all = FRAMEWORKS.flatMap((framework) =>
      variants.map((variant) => ({ framework, variant, name: `${framework}-${variant.slice(0, 5)}-after-death` })),
    );
    const survivors = await Promise.all(
      all.map(async ({ framework, variant, name }) => {
        const [doomed, other] = await Promise.all([third.site(framework, variant), second.site(framework, variant)]);
        for (let index = 0; index < LIMIT; index++) {
          call(doomed, `/${name}-held-${index}`, { headers });
          await was('enter', `${name}-held-${index}`);
        }
        const common = { client, prefix: `${prefix}:${framework}` };
        const inspect = (): Promise<RedisState> =>
          variant === 'keyed, waiting'
            ? new RedisKeyedThrottle(common).inspect('header:x-user:zoe')
            : new RedisThrottle({ ...common, key: 'shared' }).inspect();
        // This process dies while it has the head of the queue.
        call(doomed, `/${name}-waiting`, { headers });
        await until('one waiter is queued', async () => (await inspect()).waiting.length === 1);
        const survivor = call(other, `/${name}?hold=1`, { headers });
        await until('two waiters are queued', async () => (await inspect()).waiting.length === 2);
        return { survivor, inspect, name };
      }),
    );
    const killed = process.hrtime.bigint();
    third.child.kill('SIGKILL');
    for (const { framework } of all) expectRefusal(await get(await second.site(framework, 'keyed'), '/', { headers }));
    for (const { survivor, inspect, name } of survivors) {
      expect((await survivor.seen).status).toBe(200);
      const after = Number(BigInt(trace.find((report) => report.name === name)!.at) - killed) / 1e9;
      expect(after).toBeGreaterThan(0.4 * TTL_SECONDS);
      expect(after).toBeLessThan(TTL_SECONDS + LATE_SECONDS);
      await until('no holder and no waiter is left', async () => isEmpty(await inspect()));
    }
    expect(trace.filter(({ name }) => name.endsWith('-waiting'))).toEqual([]);
  });
});

describe('while Redis fails', () => {
  /** The ways in which a server with connected clients fails. */
  const outages: Record<string, (server: RedisServer) => Promise<void>> = {
    'is gone': (server) => server.kill(),
    hangs: async ({ url }) => {
      const { client, close } = ioredis(url);
      await client.call('CLIENT', 'PAUSE', '100000', 'ALL');
      await close();
    },
  };
  const COMMAND_TIMEOUT_SECONDS = 0.12;

  describe.each(Object.entries(outages))('because it %s', (_, end) => {
    let server!: RedisServer;
    const ends: (() => Promise<void>)[] = [];
    /** Gates on each kind of client, after a first successful call. */
    let gates!: { gate: RedisThrottle; open: RedisThrottle; keyed: RedisKeyedThrottle }[];

    beforeAll(async () => {
      server = await startRedis();
      const clients = [ioredis(server.url), await nodeRedis(server.url)];
      ends.push(...clients.map(({ close }) => close));
      const common = { commandTimeout: COMMAND_TIMEOUT_SECONDS, concurrency: 1 };
      gates = clients.map(({ client }) => ({
        gate: new RedisThrottle({ ...common, client, key: 'gate' }),
        open: new RedisThrottle({ ...common, client, key: 'open', failOpen: true }),
        keyed: new RedisKeyedThrottle({ ...common, client, prefix: 'keyed' }),
      }));
      const answers = (): Promise<boolean> =>
        Promise.all(
          gates.flatMap(({ gate, open, keyed }) => [
            gate.run(() => {}),
            open.run(() => {}),
            keyed.run('key', () => {}),
          ]),
        ).then(
          () => true,
          () => false,
        );
      await until('Redis answers', answers);
      await end(server);
    });

    afterAll(async () => {
      await Promise.all(ends.map((each) => each()));
      await server.stop();
    });

    test.each(sites)('%s passes the failure to its error handler, without Retry-After', async (__, serve) => {
      await Promise.all(
        gates.flatMap(({ gate, keyed }) =>
          [
            { gate },
            { gate, wait: 10 },
            { gate, wait: 0.05 },
            { keyed, key: () => 'key' },
            { keyed, key: () => 'key', wait: 0.05 },
          ].map(async (options) => {
            const site = await serve(options);
            const seen = await get(site);
            expect([seen.status, seen.body, seen.headers['retry-after'], silent(seen)]).toEqual([
              500,
              'failed',
              undefined,
              true,
            ]);
            expect(site.failures).toEqual([expect.any(ThrottleBackendError)]);
          }),
        ),
      );
    });

    test.each(sites)('%s runs requests without a permit if the adapter has failOpen', async (__, serve) => {
      await Promise.all(
        gates.flatMap(({ gate }) =>
          [0, 0.05].map(async (wait) => {
            const site = await serve({ gate, failOpen: true, wait });
            const seen = await Promise.all([get(site), get(site)]);
            expect(seen.map(({ status, headers }) => [status, headers['retry-after']])).toEqual([
              [200, undefined],
              [200, undefined],
            ]);
            expect(site.failures).toEqual([]);
          }),
        ),
      );
    });

    test.each(sites)('%s keeps the limit of its process if the gate has failOpen', async (__, serve) => {
      await Promise.all(
        gates.map(async ({ open }) => {
          const latch = new Latch();
          let inside = 0;
          const site = await serve({ gate: open }, { handler: async () => (inside++, await latch.opened, 'done') });
          const slow = call(site);
          await until('it is inside', () => inside === 1);
          expectRefusal(await get(site));
          latch.open();
          expect((await slow.seen).status).toBe(200);
          await until('the local slot is free', () => open.held === 0);
        }),
      );
    });

    test('a Limiter rejects with the failure, and releases its other permits', async () => {
      await Promise.all(
        gates.map(async ({ gate }) => {
          const desk = new Resource(4);
          const limiter = new Limiter({ timeout: 0.05, resources: [desk, gate] });
          const calls = [
            ...[0, 0.05, 10].map((timeout) => limiter.acquire([desk, gate], { timeout })),
            limiter.resources([desk, gate]).tryAcquire(),
          ];
          await Promise.all(calls.map((each) => expect(each).rejects.toBeInstanceOf(ThrottleBackendError)));
          expect(desk.active).toBe(0);
        }),
      );
    });

    test('throttledFetch rejects with the failure, and sends no request', async () => {
      let sent = 0;
      const send = async (): Promise<Response> => (sent++, new Response('ok'));
      for (const { gate, keyed, open } of gates) {
        await Promise.all(
          [gate, keyed].map((shut) =>
            expect(throttledFetch(shut, { fetch: send })('http://upstream.example')).rejects.toBeInstanceOf(
              ThrottleBackendError,
            ),
          ),
        );
        expect(sent).toBe(0);
        expect(await (await throttledFetch(open, { fetch: send })('http://upstream.example')).text()).toBe('ok');
        expect(sent--).toBe(1);
      }
    });
  });
});

test('a timeout that ends while Redis is down rejects with the failure, also for a waiter in the queue', async () => {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const { client, close } = ioredis(server.url);
  onTestFinished(close);
  const gate = new RedisThrottle({ client, key: 'line', concurrency: 1, commandTimeout: 0.3, ttl: 1.5 });
  const held = await gate.acquire();
  const waiting = gate.acquire(1, { timeout: 1.1 });
  waiting.catch(() => {});
  await until('one waiter is queued', async () => (await gate.inspect()).waiting.length === 1);
  await server.kill();
  // The next renewal fails, and the place has not expired when the timeout ends.
  await expect(waiting).rejects.toBeInstanceOf(ThrottleBackendError);
  held.release();
});

describe('a Limiter with a gate on Redis', () => {
  const setUp = (
    order: 'redis first' | 'redis last',
  ): { desk: Resource; licences: RedisThrottle; limiter: Limiter; all: (Resource | RedisThrottle)[] } => {
    const { client, close } = ioredis();
    onTestFinished(close);
    const desk = new Resource(1);
    const licences = new RedisThrottle({ client, key: freshKey(), concurrency: 1, capacity: 10, period: 1_000_000 });
    const all = order === 'redis first' ? [licences, desk] : [desk, licences];
    return { desk, licences, limiter: new Limiter({ timeout: 0.05, resources: all }), all };
  };

  test('returns slot and tokens to Redis when another resource is taken', async () => {
    const { desk, licences, limiter, all } = setUp('redis first');
    const held = await desk.acquire();
    for (const timeout of [0, 0.05])
      await expect(limiter.acquire(all, { timeout })).rejects.toBeInstanceOf(ServerBusyError);
    const leaving = new AbortController();
    const aborted = limiter.acquire(all, { timeout: 10, signal: leaving.signal });
    await until('it waits for the desk', () => desk.waiting === 1);
    expect((await licences.inspect()).active).toHaveLength(1);
    leaving.abort('enough');
    await expect(aborted).rejects.toBe('enough');
    expect(await limiter.resources(all).tryAcquire()).toBeUndefined();
    await licences.idle();
    const { active, waiting, tokens } = await licences.inspect();
    expect([active, waiting, Math.round(tokens * 1_000)]).toEqual([[], [], 10_000]);
    held.release();
    await limiter
      .resources(all)
      .run(async () => expect([desk.active, (await licences.inspect()).active.length]).toEqual([1, 1]));
  });

  test('releases its other permits when the gate on Redis is taken, and leaves its queue', async () => {
    const { desk, licences, limiter, all } = setUp('redis last');
    const held = await licences.acquire();
    const busy: unknown = await limiter.acquire(all).catch((error: unknown) => error);
    expect(busy).toBeInstanceOf(ServerBusyError);
    expect((busy as ServerBusyError).cause).toBeInstanceOf(ThrottleTimeoutError);
    expect([desk.active, desk.waiting]).toEqual([0, 0]);
    await until('no caller waits', async () => (await licences.inspect()).waiting.length === 0);
    held.release();
    (await limiter.acquire(all)).release();
  });
});

describe('the headers of a response', () => {
  test.each(sites)('%s: no remaining quota, and a Retry-After by the clock of Redis', async (_, serve) => {
    const { client, close } = ioredis();
    onTestFinished(close);
    const limits = { client, capacity: 1, period: 2.5, burst: 1, concurrency: 5 };
    const gates = [
      { gate: new RedisThrottle({ ...limits, key: freshKey() }) },
      { keyed: new RedisKeyedThrottle({ ...limits, prefix: freshKey() }), key: () => 'key' },
    ];
    await Promise.all(
      gates.map(async (options) => {
        const site = await serve(options);
        const [passed, over] = [await get(site), await get(site)];
        expect([passed.status, passed.headers['retry-after'], silent(passed)]).toEqual([200, undefined, true]);
        expect([over.status, over.headers['retry-after'], silent(over)]).toEqual([429, '3', true]);
        const watching = await serve({ ...options, block: false });
        const watched = await get(watching);
        expect([watched.status, watched.headers['retry-after'], silent(watched)]).toEqual([200, undefined, true]);
      }),
    );
  });
});

describe('throttledFetch on gates that share a limit', () => {
  /** An upstream that records its requests, and refuses the first ones once `refuse` is called. */
  const upstream = async (
    refusals = 1,
  ): Promise<{ url: string; came: { path: string; at: number }[]; refuse: () => void; refusedAt: () => number }> => {
    const came: { path: string; at: number }[] = [];
    const latch = new Latch();
    let refusedAt = 0;
    const server = http.createServer((req, res) => {
      came.push({ path: req.url ?? '', at: performance.now() });
      const refuse = (): void => {
        refusedAt = performance.now();
        res.writeHead(429, { 'Retry-After': '1' }).end('slow down');
      };
      if (came.length > refusals) res.end('ok');
      else void latch.opened.then(refuse);
    });
    const port = await listen(server);
    onTestFinished(() => stop(server));
    return { url: `http://127.0.0.1:${port}`, came, refuse: () => latch.open(), refusedAt: () => refusedAt };
  };
  /** Two clients, as in two processes. */
  const clients = async (): Promise<RedisConnection[]> => {
    const both = [ioredis(), await nodeRedis()];
    for (const { close } of both) onTestFinished(close);
    return both.map(({ client }) => client);
  };
  const texts = (responses: Promise<Response>[]): Promise<string[]> =>
    Promise.all(responses.map(async (response) => (await response).text()));

  test('a refusal of one pauses the waiters and later calls of both', async () => {
    const { url, came, refuse, refusedAt } = await upstream();
    const key = freshKey();
    const gates = (await clients()).map((client) => new RedisThrottle({ client, key, concurrency: 1 }));
    const [here, there] = gates.map((gate) => throttledFetch(gate));
    const first = here!(`${url}/refused`);
    await until('the request has arrived', () => came.length === 1);
    const inLine = there!(`${url}/in-line`);
    await until('another waits', async () => (await gates[0]!.inspect()).waiting.length === 1);
    refuse();
    await until('the gate is paused, and the refused request waits again', async () => {
      const { pausedFor, waiting } = await gates[1]!.inspect();
      return pausedFor > 0 && waiting.length === 2;
    });
    const later = [there!(`${url}/later`), here!(`${url}/later`)];
    expect(await texts([first, inLine, ...later])).toEqual(['ok', 'ok', 'ok', 'ok']);
    // A timer may fire a fraction of a millisecond early, and the clock of Redis may differ by as much.
    for (const { at } of came.slice(1)) expect(at).toBeGreaterThan(refusedAt() + 995);
    // The refused request is retried behind the waiters.
    expect(came.slice(0, 3).map(({ path }) => path)).toEqual(['/refused', '/in-line', '/refused']);
    expect(came).toHaveLength(5);
    await Promise.all(gates.map((gate) => gate.idle()));
    expect(isEmpty(await gates[0]!.inspect())).toBe(true);
  });

  test('pauses only the refused origin, in both', async () => {
    const [paused, free] = await Promise.all([upstream(), upstream(0)]);
    const prefix = freshKey();
    const gates = (await clients()).map((client) => new RedisKeyedThrottle({ client, prefix, concurrency: 5 }));
    const [here, there] = gates.map((gate) => throttledFetch(gate));
    const first = here!(`${paused.url}/refused`);
    await until('the request has arrived', () => paused.came.length === 1);
    paused.refuse();
    await until('the origin is paused', async () => (await gates[1]!.inspect(paused.url)).pausedFor > 0);
    const held = [there!(`${paused.url}/held`), here!(`${paused.url}/held`)];
    expect(await texts([there!(free.url), here!(free.url)])).toEqual(['ok', 'ok']);
    expect(paused.came).toHaveLength(1);
    expect(await texts([first, ...held])).toEqual(['ok', 'ok', 'ok']);
    for (const { at } of paused.came.slice(1)) expect(at).toBeGreaterThan(paused.refusedAt() + 995);
    expect((await gates[0]!.inspect(free.url)).pausedFor).toBe(0);
  });

  test('rejects if Redis fails during the pause, and keeps no slot', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const { client, close } = ioredis(server.url);
    onTestFinished(close);
    const gate = new RedisThrottle({ client, key: 'gate', concurrency: 1, commandTimeout: 0.3 });
    const { url, came, refuse } = await upstream();
    const first = throttledFetch(gate)(url);
    await until('the request has arrived', () => came.length === 1);
    await server.kill();
    refuse();
    await expect(first).rejects.toBeInstanceOf(ThrottleBackendError);
    expect([gate.held, came.length]).toEqual([0, 1]);
  });
});
