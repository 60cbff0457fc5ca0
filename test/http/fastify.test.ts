/** The behaviour of the plugin for Fastify. */
import createFastify from 'fastify';
import type net from 'node:net';
import { Throttle } from 'headgate';
import { fastify } from 'headgate/http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { fullGate, refusingGate } from '../support/fixed-gates.js';
import { call, Latch, until } from '../support/http-client.js';

describe('fastify', () => {
  test('the plugin limits the instance that registers it, and the instances inside it', async () => {
    const server = createFastify();
    onTestFinished(() => server.close());
    server.get('/outside', async () => 'done');
    await server.register(async (part) => {
      await part.register(fastify({ gate: fullGate() }));
      part.get('/inside', async () => 'done');
      await part.register(async (inner) => void inner.get('/within', async () => 'done'));
    });
    const statuses = await Promise.all(
      ['/outside', '/inside', '/within'].map(async (url) => (await server.inject(url)).statusCode),
    );
    expect(statuses).toEqual([200, 429, 429]);
  });

  test('with hook: preHandler, a key can use the authenticated user and the parameters of the route', async () => {
    const { keyed, keys } = refusingGate();
    const server = createFastify();
    onTestFinished(() => server.close());
    server.addHook('preValidation', async (request) => void Object.assign(request, { user: { id: 7 }, plan: 'free' }));
    await server.register(fastify({ keyed, key: '{user.id}:{params.project}:{plan}', hook: 'preHandler' }));
    server.get('/p/:project', async () => 'done');
    expect((await server.inject('/p/one')).statusCode).toBe(429);
    expect(keys).toEqual(['7:one:free']);
  });

  test.each(['onRequest', 'preValidation', 'preHandler'] as const)(
    'a refusal in %s prevents the call of the handler',
    async (hook) => {
      const handler = vi.fn(async () => 'done');
      const server = createFastify();
      onTestFinished(() => server.close());
      // This delay keeps the reply unsent when the hook has finished.
      server.addHook('onSend', async () => void (await new Promise((resolve) => void setTimeout(resolve, 10))));
      const own = vi.fn(
        (_refusal: unknown, _request: unknown, reply: { send(payload: unknown): unknown }) =>
          reply.send({ own: true }) as object,
      );
      await server.register(fastify({ gate: fullGate(), hook }));
      await server.register(async (part) => {
        part.get('/', handler);
      });
      const other = createFastify();
      onTestFinished(() => other.close());
      other.addHook('onSend', async () => void (await new Promise((resolve) => void setTimeout(resolve, 10))));
      await other.register(fastify({ gate: fullGate(), hook, onLimited: own }));
      other.get('/', handler);
      expect(await server.inject('/')).toMatchObject({ statusCode: 429, headers: { 'retry-after': '1' } });
      expect(await other.inject('/')).toMatchObject({
        statusCode: 429,
        headers: { 'retry-after': '1' },
        body: '{"own":true}',
      });
      expect([handler.mock.calls, own.mock.calls.length]).toEqual([[], 1]);
    },
  );

  test('onLimited can send the reply and return nothing', async () => {
    const warnings: string[] = [];
    const server = createFastify({
      logger: { level: 'warn', stream: { write: (line: string) => void warnings.push(line) } },
    });
    onTestFinished(() => server.close());
    await server.register(
      fastify({ gate: fullGate(), onLimited: (_refusal, _request, reply) => void reply.send({ own: true }) }),
    );
    server.get('/', async () => 'done');
    expect(await server.inject('/')).toMatchObject({ statusCode: 429, body: '{"own":true}' });
    expect(warnings).toEqual([]);
  });

  test('injected requests release their permits', async () => {
    const gate = new Throttle(Infinity, 1);
    const server = createFastify();
    onTestFinished(() => server.close());
    await server.register(fastify({ gate, wait: 5 }));
    server.get('/', async () => 'done');
    server.get('/none', async (_request, reply) => reply.code(204).send());
    for (const url of ['/', '/none', '/missing', '/']) expect((await server.inject(url)).statusCode).toBeLessThan(405);
    await until(() => gate.active === 0);
  });

  test('a hijacked reply holds its permit until it ends', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const server = createFastify();
    onTestFinished(() => server.close());
    await server.register(fastify({ gate }));
    server.get('/', (_request, reply) => {
      reply.hijack();
      reply.raw.write('data: 1\n\n');
      void latch.opened.then(() => reply.raw.end());
    });
    await server.listen({ port: 0, host: '127.0.0.1' });
    const site = { port: (server.server.address() as net.AddressInfo).port };
    const events = call(site);
    await events.started;
    expect(gate.active).toBe(1);
    latch.open();
    await events.seen;
    await until(() => gate.active === 0);
  });

  test('the plugin throws for an unknown hook', () => {
    expect(() => fastify({ gate: fullGate(), hook: 'onSend' as never })).toThrow(
      "hook must be 'onRequest', 'preValidation' or 'preHandler', received \"onSend\"",
    );
  });
});
