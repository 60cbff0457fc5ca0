/** The release of permits in every adapter, on the real frameworks and over real sockets. */
import net from 'node:net';
import { type Gate, KeyedThrottle, type Permit, QueueFullError, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { sites } from '../support/framework-servers.js';
import { call, get, Latch, until } from '../support/http-client.js';

/** A gate with the given `acquire`. */
const gateWith = (acquire: () => Promise<never>): Gate => ({ acquire }) as unknown as Gate;
const outage = new Error('connect ECONNREFUSED');

describe.each(sites)('%s', (_name, serve) => {
  describe('a permit', () => {
    test('is held to the end of a streamed response', async () => {
      const gate = new Throttle(Infinity, 1);
      const latch = new Latch();
      const site = await serve(
        { gate },
        {
          async *handler() {
            yield 'first ';
            await latch.opened;
            yield 'last';
          },
        },
      );
      const streaming = call(site);
      expect(await streaming.started).toBe('first ');
      expect(gate.active).toBe(1);
      expect((await get(site)).status).toBe(429);
      latch.open();
      expect(await streaming.seen).toMatchObject({ status: 200, body: 'first last' });
      await until(() => gate.active === 0);
    });

    test('is released before the client can send another request', async () => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate, wait: 5 });
      for (let index = 0; index < 20; index++) expect((await get(site)).status).toBe(200);
      await until(() => gate.active === 0);
    });

    test('is held until the response to a HEAD is sent', async () => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate });
      expect((await get(site, '/', { method: 'HEAD' })).body).toBe('');
      await until(() => gate.active === 0);
    });

    test.each<[string, () => never | Promise<never>]>([
      [
        'throws',
        () => {
          throw outage;
        },
      ],
      [
        'rejects',
        async () => {
          await Promise.resolve();
          throw outage;
        },
      ],
    ])('is held until the error response is sent where a handler %s', async (_, handler) => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate }, { handler });
      expect(await get(site)).toMatchObject({ status: 500, body: 'failed' });
      expect(site.failures).toEqual([outage]);
      await until(() => gate.active === 0);
      expect((await get(site)).status).toBe(500);
    });

    test('is released when its `ttl` has passed', async () => {
      const gate = new Throttle(Infinity, 1);
      const latch = new Latch();
      const site = await serve(
        { gate, ttl: 0.05 },
        { handler: async (path) => (path === '/slow' && (await latch.opened), 'done') },
      );
      const slow = call(site, '/slow');
      await until(() => gate.active === 1);
      expect((await get(site)).status).toBe(429);
      await until(() => gate.active === 0);
      expect((await get(site)).status).toBe(200);
      latch.open();
      expect((await slow.seen).status).toBe(200);
      await until(() => gate.active === 0);
    });

    test('clears the timer of its `ttl` when it is released', async () => {
      const clear = vi.spyOn(globalThis, 'clearTimeout');
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate, ttl: 1_234 });
      const set = vi.spyOn(globalThis, 'setTimeout');
      expect((await get(site)).status).toBe(200);
      await until(() => gate.active === 0);
      const timers = set.mock.calls.flatMap(([, delay], index) =>
        delay === 1_234_000 ? [set.mock.results[index]?.value as NodeJS.Timeout] : [],
      );
      expect(timers).toHaveLength(1);
      expect(timers[0]?.hasRef()).toBe(false);
      expect(clear.mock.calls.flat()).toContain(timers[0]);
      set.mockRestore();
      clear.mockRestore();
    });
  });

  describe('trap 31: a client that disconnects', () => {
    test.each(['destroy', 'end', 'resetAndDestroy'] as const)(
      'with pipelined requests in progress frees all their slots (%s)',
      async (disconnect) => {
        const gate = new Throttle(Infinity, 3);
        const site = await serve({ gate }, { handler: () => new Promise(() => {}) });
        for (let round = 0; round < 3; round++) {
          const socket = net.connect(site.port, '127.0.0.1');
          socket.on('error', () => {});
          for (let index = 0; index < 3; index++) socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
          await until(() => gate.active > 0);
          await new Promise((resolve) => void setTimeout(resolve, 10));
          socket[disconnect]();
          if (disconnect === 'end') socket.destroySoon();
          await until(() => gate.active === 0, 'the release of all permits');
        }
      },
    );

    test('before a slow gate refuses or fails causes no call of the handler or onLimited', async () => {
      for (const [options, error] of [
        [{ block: false }, new QueueFullError('full')],
        [{}, new QueueFullError('full')],
        [{ failOpen: true }, outage],
      ] as const) {
        const latch = new Latch();
        const acquire = vi.fn(async () => {
          await latch.opened;
          throw error;
        });
        const [handler, onLimited] = [vi.fn(() => 'done'), vi.fn()];
        const site = await serve({ gate: gateWith(acquire), ...options, onLimited }, { handler });
        const disconnecting = call(site);
        await until(() => acquire.mock.calls.length === 1);
        disconnecting.hangUp();
        await new Promise((resolve) => void setTimeout(resolve, 50));
        latch.open();
        await new Promise((resolve) => void setTimeout(resolve, 10));
        expect([handler.mock.calls, onLimited.mock.calls, site.failures]).toEqual([[], [], []]);
      }
    });

    test('in the queue leaves the queue, and its handler never runs', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate, wait: 60 }, { handler });
      const disconnecting = call(site, '/disconnecting');
      await until(() => gate.waiting === 1);
      const staying = call(site, '/staying');
      await until(() => gate.waiting === 2);
      disconnecting.hangUp();
      await until(() => gate.waiting === 1);
      holder?.release();
      expect((await staying.seen).status).toBe(200);
      await until(() => gate.active === 0);
      expect(handler.mock.calls.map((given) => (given as unknown[])[0])).toEqual(['/staying']);
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test('during a streamed response frees its slot', async () => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve(
        { gate },
        {
          async *handler() {
            yield 'first ';
            await new Promise(() => {});
          },
        },
      );
      const streaming = call(site);
      await streaming.started;
      expect(gate.active).toBe(1);
      streaming.hangUp();
      await until(() => gate.active === 0);
    });

    test('while its handler runs frees its slot', async () => {
      const gate = new Throttle(Infinity, 1);
      const latch = new Latch();
      const site = await serve({ gate }, { handler: async () => (await latch.opened, 'done') });
      const running = call(site);
      await until(() => gate.active === 1);
      running.hangUp();
      await until(() => gate.active === 0);
      latch.open();
      await new Promise((resolve) => void setTimeout(resolve, 20));
      expect([gate.active, site.failures]).toEqual([0, []]);
    });

    test('during the lookup of its key never queues', async () => {
      const gate = new KeyedThrottle(Infinity, 1);
      const holder = gate.tryAcquire('me');
      const latch = new Latch();
      const key = vi.fn(async () => (await latch.opened, 'me'));
      const site = await serve({ keyed: gate, key, wait: 60 });
      const disconnecting = call(site);
      await until(() => key.mock.calls.length === 1);
      disconnecting.hangUp();
      await new Promise((resolve) => void setTimeout(resolve, 50));
      latch.open();
      await new Promise((resolve) => void setTimeout(resolve, 10));
      expect(gate.peek('me')?.waiting).toBe(0);
      holder?.release();
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test.each([0, 60])('before a slow gate grants (wait: %i) is refunded', async (wait) => {
      const inner = new Throttle(10, 1, 60, { clock: new ManualClock() });
      const latch = new Latch();
      const calls: unknown[] = [];
      const permits: Permit[] = [];
      const acquire = async (cost: number): Promise<Permit> => {
        calls.push(cost);
        await latch.opened;
        permits.push(await inner.acquire(cost));
        return permits[0]!;
      };
      const gate = { acquire } as unknown as Gate;
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate, wait }, { handler });
      const disconnecting = call(site);
      await until(() => calls.length === 1);
      disconnecting.hangUp();
      await new Promise((resolve) => void setTimeout(resolve, 50));
      latch.open();
      await until(() => permits[0]?.released === true);
      expect([inner.active, inner.tokens]).toEqual([0, 10]);
      expect(handler).not.toHaveBeenCalled();
      expect([site.failures, site.logged]).toEqual([[], []]);
    });
  });
});
