/** The hook for single routes of Fastify (FAULTS 32). */
import createFastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import type net from 'node:net';
import { KeyedThrottle, Throttle } from 'headgate';
import { concurrencyLimit, fastify, permitOf, RefusalError } from 'headgate/http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { fullGate, refusingGate } from '../support/fixed-gates.js';
import { call, get, Latch, until } from '../support/http-client.js';
import { pause } from './hold-support.js';

const createServer = (): FastifyInstance => {
  const server = createFastify({ forceCloseConnections: true });
  onTestFinished(() => server.close());
  return server;
};
const listen = async (server: FastifyInstance): Promise<{ port: number }> => {
  await server.listen({ port: 0, host: '127.0.0.1' });
  return { port: (server.server.address() as net.AddressInfo).port };
};

/** The stages of a request before its handler. */
const STAGES = ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const;

describe('fastify.route', () => {
  test('limits the routes that list the hook, together, and no other route', async () => {
    const server = createServer();
    const limit = fastify.route({ gate: new Throttle(2, 0, 60) });
    server.get('/one', { preHandler: limit }, async () => 'one');
    server.get('/two', { onRequest: [limit] }, async () => 'two');
    server.get('/free', async () => 'free');
    const statuses: number[] = [];
    for (const url of ['/one', '/two', '/one', '/two', '/free', '/missing'])
      statuses.push((await server.inject(url)).statusCode);
    expect(statuses).toEqual([200, 200, 429, 429, 200, 404]);
  });

  test.each(STAGES)('as %s, a refusal is the reply, and the handler does not run', async (stage) => {
    const handler = vi.fn(async () => 'done');
    const server = createServer();
    server.post('/', { [stage]: fastify.route({ gate: fullGate() }) }, handler);
    const seen = await server.inject({ method: 'POST', url: '/', payload: { a: 1 } });
    expect(seen).toMatchObject({ statusCode: 429, headers: { 'retry-after': '1' } });
    expect(seen.json()).toMatchObject({ status: 429, title: 'Too Many Requests' });
    expect(handler).not.toHaveBeenCalled();
  });

  test.each(STAGES)('as %s, an admitted request has the body, the fields and a permit', async (stage) => {
    const gate = new Throttle(10, 1, 60);
    const server = createServer();
    const handler = async (request: FastifyRequest): Promise<object> => {
      const permit = permitOf(request);
      permit?.settle(3);
      return { body: request.body, cost: permit?.cost, active: gate.active, same: permitOf(request.raw) === permit };
    };
    server.route({ method: 'POST', url: '/', [stage]: fastify.route({ gate }), handler });
    const seen = await server.inject({ method: 'POST', url: '/', payload: { a: 1 } });
    expect(seen.json()).toEqual({ body: { a: 1 }, cost: 3, active: 1, same: true });
    expect(seen.headers['ratelimit-policy']).toBe('"default";q=10;w=60');
    await until(() => gate.active === 0);
    expect(Math.round(gate.tokens)).toBe(7);
  });

  test('as preHandler, a key can use the user, the parameters and a property of the request', async () => {
    const { keyed, keys } = refusingGate();
    const server = createServer();
    server.addHook('preValidation', async (request) => void Object.assign(request, { user: { id: 7 }, plan: 'free' }));
    const limit = fastify.route({ keyed, key: '{user.id}:{params.project}:{plan}' });
    server.get('/p/:project', { preHandler: limit }, async () => 'done');
    expect((await server.inject('/p/one')).statusCode).toBe(429);
    expect(keys).toEqual(['7:one:free']);
  });

  test('several hooks are several limits, and the fields list all of them', async () => {
    const [first, second] = [new Throttle(5, 0, 60, { name: 'a' }), new Throttle(1, 0, 60, { name: 'b' })];
    const server = createServer();
    server.get(
      '/',
      { preHandler: [fastify.route({ gate: first }), fastify.route({ gate: second })] },
      async () => 'done',
    );
    const seen = await server.inject('/');
    expect([seen.statusCode, seen.headers['ratelimit-policy']]).toEqual([200, '"a";q=5;w=60, "b";q=1;w=60']);
    expect((await server.inject('/')).statusCode).toBe(429);
    // The second limit has refused the second request, so the first limit has refunded it.
    expect(Math.round(first.tokens)).toBe(4);
  });

  test('the same limit counts once: in two stages, and in the plugin and the route', async () => {
    const [gate, other] = [new Throttle(5, 0, 60), new Throttle(5, 0, 60)];
    const server = createServer();
    await server.register(fastify({ gate: other }));
    const limit = fastify.route({ gate });
    server.get('/twice', { onRequest: limit, preHandler: limit }, async () => 'done');
    server.get('/both', { preHandler: fastify.route({ gate: other }) }, async () => 'done');
    await server.inject('/twice');
    expect([gate.tokens, other.tokens].map(Math.round)).toEqual([4, 4]);
    await server.inject('/both');
    expect([gate.tokens, other.tokens].map(Math.round)).toEqual([4, 3]);
  });

  test("onLimited: 'throw' reaches the error handler of the route's instance", async () => {
    const server = createServer();
    server.setErrorHandler((error, _request, reply) =>
      reply.code(420).send({ own: error instanceof RefusalError && error.retryAfter }),
    );
    server.get('/', { preHandler: fastify.route({ gate: fullGate(), onLimited: 'throw' }) }, async () => 'done');
    expect(await server.inject('/')).toMatchObject({ statusCode: 420, body: '{"own":1}' });
  });

  test('an error of the gate reaches the error handler', async () => {
    const server = createServer();
    const gate = { acquire: () => Promise.reject(new Error('down')) } as never;
    server.get('/', { preHandler: fastify.route({ gate }) }, async () => 'done');
    expect(await server.inject('/')).toMatchObject({ statusCode: 500 });
  });

  test('onLimited can send the reply itself', async () => {
    const server = createServer();
    const limit = fastify.route({
      gate: fullGate(),
      onLimited: (_refusal, _request, reply) => reply.send({ own: true }) as object,
    });
    server.get('/', { preHandler: limit }, async () => 'done');
    expect(await server.inject('/')).toMatchObject({ statusCode: 429, body: '{"own":true}' });
  });

  test.each([
    [undefined, 'TypeError: options must be an object, received undefined'],
    [{}, 'TypeError: options must have either gate or keyed'],
    [{ gate: fullGate(), wait: -1 }, 'RangeError: wait must be a number >= 0, received -1'],
  ])('throws for %j', (options, message) => {
    let thrown: unknown;
    try {
      fastify.route(options as never);
    } catch (error) {
      thrown = error;
    }
    expect(String(thrown)).toBe(message);
  });
});

describe.each(STAGES)('a permit that was granted as %s', (stage) => {
  test('is held until a streamed response has been sent', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const server = createServer();
    server.get('/', { [stage]: fastify.route({ gate }) }, (_request, reply) => {
      reply.hijack();
      reply.raw.write('1');
      void latch.opened.then(() => reply.raw.end('2'));
    });
    const pending = call(await listen(server));
    await pending.started;
    await pause(20);
    expect(gate.active).toBe(1);
    latch.open();
    expect((await pending.seen).body).toBe('12');
    await until(() => gate.active === 0);
  });

  test.each(['response', 'handler'] as const)(
    'with hold: %s, is released at the right time after the client has disconnected',
    async (hold) => {
      const gate = new Throttle(Infinity, 1);
      const [started, latch] = [new Latch(), new Latch()];
      const server = createServer();
      server.get('/', { [stage]: fastify.route({ gate, hold }) }, async () => {
        started.open();
        await latch.opened;
        return 'done';
      });
      const dropped = call(await listen(server));
      await started.opened;
      dropped.hangUp();
      if (hold === 'response') await until(() => gate.active === 0);
      else {
        await pause(50);
        expect(gate.active).toBe(1);
      }
      latch.open();
      await until(() => gate.active === 0);
    },
  );

  test('is released when a later hook fails, also with hold: handler', async () => {
    const gate = new Throttle(Infinity, 1);
    const server = createServer();
    const fail = async (): Promise<void> => {
      throw new Error('forbidden');
    };
    const limit = fastify.route({ gate, hold: 'handler' });
    // A stage that lists the limit runs it before the failing hook.
    server.get('/', { preHandler: fail, [stage]: stage === 'preHandler' ? [limit, fail] : limit }, async () => 'done');
    const site = await listen(server);
    expect((await get(site)).status).toBe(500);
    await until(() => gate.active === 0);
  });
});

describe('with hold: handler, a handler whose client has disconnected has finished', () => {
  test.each<[string, (latch: Promise<void>, reply: { send(body: unknown): unknown }) => unknown]>([
    ['when it returns', async (latch) => (await latch, 'done')],
    ['when it throws', (latch) => latch.then(() => Promise.reject(new Error('broken')))],
    ['when it sends the reply', (latch, reply) => void latch.then(() => reply.send('done'))],
    ['when it sends the reply and returns it', async (latch, reply) => (await latch, reply.send('done'))],
  ])('%s', async (_what, work) => {
    const gate = new Throttle(Infinity, 1);
    const [started, latch] = [new Latch(), new Latch()];
    const server = createServer();
    server.get('/', { preHandler: fastify.route({ gate, hold: 'handler' }) }, (_request, reply) => {
      started.open();
      return work(latch.opened, reply);
    });
    const dropped = call(await listen(server));
    await started.opened;
    dropped.hangUp();
    await pause(30);
    expect(gate.active).toBe(1);
    latch.open();
    await until(() => gate.active === 0);
  });

  test('when its promise has settled, also after the reply, if the plugin observes it', async () => {
    const gate = new Throttle(Infinity, 1);
    const [replied, latch] = [new Latch(), new Latch()];
    const server = createServer();
    await server.register(fastify({ gate: new Throttle(Infinity), hold: 'handler' }));
    server.get('/', { preHandler: fastify.route({ gate, hold: 'handler' }) }, async (_request, reply) => {
      void reply.send('done');
      replied.open();
      await latch.opened;
      return reply;
    });
    const site = await listen(server);
    expect((await get(site)).body).toBe('done');
    await pause(30);
    expect(gate.active).toBe(1);
    latch.open();
    await until(() => gate.active === 0);
  });
});

test('a client that disconnects while its request queues leaves the queue, and the handler does not run', async () => {
  const gate = new Throttle(Infinity, 1);
  const held = await gate.acquire();
  const handler = vi.fn(async () => 'done');
  const server = createServer();
  server.get('/', { preHandler: fastify.route({ gate, wait: 30 }) }, handler);
  const queued = call(await listen(server));
  await until(() => gate.waiting === 1);
  queued.hangUp();
  await until(() => gate.waiting === 0);
  held.release();
  expect([gate.active, handler.mock.calls]).toEqual([0, []]);
});

test('clients that open and drop connections run at most maxConcurrent handlers (FAULTS 26)', async () => {
  const latch = new Latch();
  let running = 0;
  const server = createServer();
  const keyed = new KeyedThrottle(Infinity, 2);
  const limit = fastify.route(concurrencyLimit({ key: () => 'me', maxConcurrent: 2, backend: keyed }));
  server.get('/', { preHandler: limit }, async () => {
    running++;
    await latch.opened;
    return 'done';
  });
  const site = await listen(server);
  for (let index = 0; index < 5; index++) {
    const dropped = call(site);
    await pause(20);
    dropped.hangUp();
    await pause(5);
  }
  expect(running).toBe(2);
  latch.open();
  await until(() => (keyed.peek('me')?.active ?? 0) === 0);
});
