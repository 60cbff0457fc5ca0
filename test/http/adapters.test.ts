/** The admission of requests in every adapter, on the real frameworks and over real sockets. */
import { type Gate, KeyedThrottle, QueueFullError, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { sites } from '../support/framework-servers.js';
import { call, get, Latch, until } from '../support/http-client.js';

/** A gate with the given `acquire`. */
const gateWith = (acquire: () => Promise<never>): Gate => ({ acquire }) as unknown as Gate;
const failingGate = (error: unknown): Gate =>
  gateWith(async () => {
    throw error;
  });
const outage = new Error('connect ECONNREFUSED');
/** A keyed gate with one slot for each key. */
const onePerKey = (): KeyedThrottle => new KeyedThrottle(Infinity, 1);

describe.each(sites)('%s', (_name, serve) => {
  describe('a request', () => {
    test('within the limit reaches the handler unchanged', async () => {
      const gate = new Throttle(Infinity, 2);
      const site = await serve({ gate }, { handler: (path) => `path: ${path}` });
      const seen = await get(site, '/some/path?q=1');
      expect([seen.status, seen.body]).toEqual([200, 'path: /some/path?q=1']);
      await until(() => gate.active === 0);
      expect([site.failures, site.logged]).toEqual([[], []]);
    });

    test('over the concurrency of the gate is refused', async () => {
      const gate = new Throttle(Infinity, 2);
      const latch = new Latch();
      let running = 0;
      const site = await serve({ gate }, { handler: async () => (running++, await latch.opened, 'done') });
      const calls = [call(site), call(site)];
      await until(() => running === 2);
      expect(await Promise.all([get(site), get(site)])).toMatchObject([{ status: 429 }, { status: 429 }]);
      latch.open();
      expect(await Promise.all(calls.map(({ seen }) => seen))).toMatchObject([{ status: 200 }, { status: 200 }]);
      expect(running).toBe(2);
      await until(() => gate.active === 0);
    });

    test('in the queue is admitted in order of arrival', async () => {
      const gate = new Throttle(Infinity, 1);
      const first = new Latch();
      const order: string[] = [];
      const site = await serve(
        { gate, wait: 10 },
        {
          handler: async (path) => {
            order.push(path);
            if (path === '/0') await first.opened;
            return path;
          },
        },
      );
      const calls = [call(site, '/0')];
      await until(() => gate.active === 1);
      for (let index = 1; index <= 5; index++) {
        calls.push(call(site, `/${index}`));
        await until(() => gate.waiting === index);
      }
      first.open();
      const seen = await Promise.all(calls.map((each) => each.seen));
      expect(seen.map(({ status, body }) => `${status} ${body}`)).toEqual([
        '200 /0',
        '200 /1',
        '200 /2',
        '200 /3',
        '200 /4',
        '200 /5',
      ]);
      expect(order).toEqual(['/0', '/1', '/2', '/3', '/4', '/5']);
      await until(() => gate.active === 0);
    });

    test('that has queued for `wait` seconds is refused', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const site = await serve({ gate, wait: 0.05 });
      const pending = get(site);
      await until(() => gate.waiting === 1);
      expect(await pending).toMatchObject({ status: 429, headers: { 'retry-after': '1' } });
      expect(gate.waiting).toBe(0);
      holder?.release();
    });

    test('that `skip` selects is admitted and not counted', async () => {
      const gate = new Throttle(Infinity, 1);
      const holder = gate.tryAcquire();
      const site = await serve({ gate, skip: async () => true });
      const seen = await get(site);
      expect([seen.status, seen.headers['ratelimit']]).toEqual([200, undefined]);
      const counted = await serve({ gate, skip: () => false });
      expect((await get(counted)).status).toBe(429);
      holder?.release();
    });

    test('spends its cost in tokens', async () => {
      const clock = new ManualClock();
      const gate = new Throttle(10, 0, 10, { clock });
      const costs = [4, 5];
      const site = await serve({ gate, cost: async () => costs.shift() ?? 3 });
      expect([(await get(site)).status, (await get(site)).status]).toEqual([200, 200]);
      expect(gate.tokens).toBe(1);
      expect(await get(site)).toMatchObject({ status: 429, headers: { 'retry-after': '2' } });
      const fixed = await serve({ gate, cost: 1 });
      expect((await get(fixed)).status).toBe(200);
      expect(gate.tokens).toBe(0);
    });
  });

  describe('block: false', () => {
    test('runs requests over the limit without a permit', async () => {
      const gate = new Throttle(Infinity, 1);
      const latch = new Latch();
      const site = await serve(
        { gate, block: false },
        { handler: async (path) => (path === '/slow' && (await latch.opened), path) },
      );
      const slow = call(site, '/slow');
      await until(() => gate.active === 1);
      const seen = await get(site, '/over');
      expect([seen.status, seen.body, seen.headers['retry-after'], seen.headers['ratelimit']]).toEqual([
        200,
        '/over',
        undefined,
        '"default";r=0;t=1',
      ]);
      expect(gate.active).toBe(1);
      latch.open();
      await slow.seen;
      await until(() => gate.active === 0);
    });
  });

  describe('trap 33: a gate that fails', () => {
    test('causes an error for the error handler, and no refusal', async () => {
      const onLimited = vi.fn();
      const handler = vi.fn(() => 'done');
      const site = await serve({ gate: failingGate(outage), onLimited, block: false }, { handler });
      const seen = await get(site);
      expect([seen.status, seen.body, seen.headers['retry-after']]).toEqual([500, 'failed', undefined]);
      expect([site.failures, onLimited.mock.calls, handler.mock.calls]).toEqual([[outage], [], []]);
    });

    test('admits requests with failOpen', async () => {
      const site = await serve({ gate: failingGate(outage), failOpen: true });
      expect(await get(site)).toMatchObject({ status: 200, body: 'done' });
      const thrown = await serve({
        gate: gateWith(() => {
          throw outage;
        }),
        failOpen: true,
      });
      expect((await get(thrown)).status).toBe(200);
      expect(site.failures).toEqual([]);
    });

    test('refuses requests with failOpen, too', async () => {
      const site = await serve({ gate: failingGate(new QueueFullError('full')), failOpen: true });
      expect((await get(site)).status).toBe(503);
    });

    const mistake = new TypeError('a mistake');
    const thrower = (): never => {
      throw mistake;
    };
    test.each<[string, object, string]>([
      ['a cost of NaN', { cost: () => Number.NaN }, 'RangeError: cost must be a finite number >= 0, received NaN'],
      [
        'a cost of another type',
        { cost: async () => '1' },
        'TypeError: cost must be a finite number >= 0, received "1"',
      ],
      ['a cost over the burst', { cost: 11 }, 'RangeError: cost must be at most 10'],
      ['a cost function that throws', { cost: thrower }, 'TypeError: a mistake'],
      ['a skip function that throws', { skip: thrower }, 'TypeError: a mistake'],
      ['a skip function that rejects', { skip: async () => thrower() }, 'TypeError: a mistake'],
    ])('failOpen does not hide %s', async (_, options, message) => {
      const site = await serve({ gate: new Throttle(10), failOpen: true, ...options });
      expect(await get(site)).toMatchObject({ status: 500, body: 'failed' });
      expect(String(site.failures[0])).toContain(message);
    });

    test('failOpen does not hide a key function that throws', async () => {
      for (const key of [thrower, async () => thrower()]) {
        const site = await serve({ keyed: onePerKey(), key, failOpen: true });
        expect((await get(site)).status).toBe(500);
        expect(site.failures).toEqual([mistake]);
      }
    });
  });
});
