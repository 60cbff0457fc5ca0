/** Handlers from `Request` to `Response`, without a server: `web`, and Hono on other runtimes than Node. */
import { Hono } from 'hono';
import { type Gate, KeyedThrottle, Throttle } from 'headgate';
import { concurrencyLimit, hono, web } from 'headgate/http';
import { describe, expect, test, vi } from 'vitest';
import { Latch, until } from '../support/http-client.js';
import { fullGate, refusingGate } from '../support/fixed-gates.js';

describe('the client address', () => {
  const key = 'ip';
  test.each<[string, unknown, string | undefined]>([
    ['Deno', { remoteAddr: { hostname: '203.0.113.7', port: 1 } }, 'ip:203.0.113.7'],
    ['Deno on a Unix socket', { remoteAddr: { transport: 'unix', path: '/tmp/x' } }, undefined],
    ['Bun', { requestIP: () => ({ address: '::ffff:203.0.113.7' }) }, 'ip:203.0.113.7'],
    [
      'Bun with a `server` property',
      { server: { requestIP: () => ({ address: '2001:db8::1' }) } },
      'ip:2001:db8:0:0::/56',
    ],
    ['Bun after the client has disconnected', { requestIP: () => null }, undefined],
    ['Node', { incoming: { socket: { remoteAddress: '203.0.113.7' } } }, 'ip:203.0.113.7'],
  ])('is read from the connection of %s', async (_, connection, expected) => {
    const { keyed, keys } = refusingGate();
    const app = new Hono();
    app.use(hono({ keyed, key }));
    const handler = web((_request: Request, _connection: unknown) => new Response('done'), { keyed, key });
    const statuses = [
      (await app.request('/', {}, connection)).status,
      (await handler(new Request('http://x/'), connection)).status,
    ];
    expect([statuses, keys]).toEqual(
      expected === undefined
        ? [[400, 400], []]
        : [
            [429, 429],
            [expected, expected],
          ],
    );
  });

  test.each([[undefined], [{}], [{ requestIP: 'no' }], ['text']])(
    'is missing in %j: the error requests a key function',
    async (connection) => {
      const { keyed } = refusingGate();
      const handler = web((_request: Request, _connection: unknown) => new Response('done'), { keyed, key });
      const headers = { 'x-forwarded-for': '203.0.113.7', 'cf-connecting-ip': '203.0.113.7' };
      await expect(handler(new Request('http://x/', { headers }), connection)).rejects.toThrow(
        'key must be a function',
      );
      const app = new Hono();
      app.use(hono({ keyed, key }));
      let failure: unknown;
      app.onError((error, c) => ((failure = error), c.text('failed', 500)));
      await app.request('/', { headers }, connection);
      expect(failure).toBeInstanceOf(TypeError);
    },
  );
});

describe('web', () => {
  const url = 'http://localhost/';

  test('passes the arguments of the runtime to the handler and to the functions of the options', async () => {
    const key = vi.fn((_request: Request, env: { tenant: string }) => env.tenant);
    const handler = web(
      (request: Request, env: { tenant: string }) => new Response(`${request.url} ${env.tenant}`),
      concurrencyLimit({ key, maxConcurrent: 1 }),
    );
    const request = new Request(url);
    const env = { tenant: 'acme' };
    expect(await (await handler(request, env)).text()).toBe(`${url} acme`);
    expect(key.mock.calls).toEqual([[request, env]]);
  });

  test('holds the permit until the body was read or cancelled, or cannot be read', async () => {
    const gate = new Throttle(Infinity, 1);
    const responses: Record<string, () => Response | Promise<Response>> = {
      text: () => new Response('done'),
      none: () => new Response(null, { status: 204 }),
      moved: () => Response.redirect('http://localhost/elsewhere'),
      fails: () => {
        throw new Error('no');
      },
      rejects: async () => {
        throw new Error('no');
      },
      mistake: () => undefined as never,
    };
    const handler = web((request: Request) => responses[new URL(request.url).pathname.slice(1)]!(), { gate });
    const send = (path: string, init?: RequestInit): Promise<Response> => handler(new Request(url + path, init));

    const response = await send('text');
    expect([gate.active, (await send('text')).status]).toEqual([1, 429]);
    expect(await response.text()).toBe('done');
    await until(() => gate.active === 0);
    await (await send('text')).body?.cancel();
    await until(() => gate.active === 0);
    expect([(await send('text', { method: 'HEAD' })).status, gate.active]).toEqual([200, 0]);
    expect([(await send('none')).status, gate.active]).toEqual([204, 0]);
    const moved = await send('moved');
    expect([moved.status, moved.headers.get('location'), moved.headers.get('ratelimit'), gate.active]).toEqual([
      302,
      'http://localhost/elsewhere',
      '"default";r=0',
      0,
    ]);
    for (const path of ['fails', 'rejects', 'mistake']) {
      await expect(send(path)).rejects.toThrow();
      expect(gate.active).toBe(0);
    }
  });

  test('returns an immutable response unchanged if it cannot be copied', async () => {
    const gate = new Throttle(Infinity, 1);
    const error = Object.defineProperty(Response.redirect('http://localhost/'), 'status', { value: 101 });
    expect(await web(() => error, { gate })(new Request(url))).toBe(error);
    expect(gate.active).toBe(0);
  });

  test('releases the permit whenever the client disconnects', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const ran = vi.fn();
    const handler = web(async () => (ran(), await latch.opened, new Response('done')), { gate, wait: 60 });
    expect((await handler(new Request(url, { signal: AbortSignal.abort() }))).status).toBe(499);
    expect(
      (
        await web(async () => (ran(), new Response('done')), { gate })(
          new Request(url, { signal: AbortSignal.abort() }),
        )
      ).status,
    ).toBe(499);
    expect(ran).not.toHaveBeenCalled();

    const [running, waiting] = [new AbortController(), new AbortController()];
    const one = handler(new Request(url, { signal: running.signal }));
    await until(() => gate.active === 1);
    const two = handler(new Request(url, { signal: waiting.signal }));
    await until(() => gate.waiting === 1);
    waiting.abort();
    expect([(await two).status, gate.waiting]).toEqual([499, 0]);
    running.abort();
    expect(gate.active).toBe(0);
    latch.open();
    await one;
    expect(gate.active).toBe(0);

    const reading = new AbortController();
    await handler(new Request(url, { signal: reading.signal }));
    expect(gate.active).toBe(1);
    reading.abort();
    expect([gate.active, ran.mock.calls.length]).toEqual([0, 2]);
  });

  test('sets the fields of each client on a copy of a shared response', async () => {
    const same = new Response(null, { status: 204 });
    const keyed = new KeyedThrottle(3, 0, 60);
    const handler = web(() => same, { keyed, key: 'header:x-key' });
    const left = async (key: string): Promise<unknown> =>
      (await handler(new Request(url, { headers: { 'x-key': key } }))).headers.get('ratelimit')?.split(';')[1];
    expect([await left('a'), await left('a'), await left('b')]).toEqual(['r=2', 'r=1', 'r=2']);
    expect(same.headers.has('ratelimit')).toBe(false);
  });

  test('returns a response with an invalid status unchanged, and releases its permit', async () => {
    const gate = new Throttle(Infinity, 1);
    const invalid = Object.defineProperty(new Response('done'), 'status', { value: 999 });
    expect(await web(() => invalid, { gate })(new Request(url))).toBe(invalid);
    expect(gate.active).toBe(0);
  });

  test.each([0, 5])('removes its listener from the signal of a request (wait: %i)', async (wait) => {
    const gate = new Throttle(Infinity, 1);
    const lasting = new AbortController();
    const add = vi.spyOn(AbortSignal.prototype, 'addEventListener');
    const remove = vi.spyOn(AbortSignal.prototype, 'removeEventListener');
    const request = new Request(url, { signal: lasting.signal });
    const before = add.mock.calls.length;
    await (await web(() => new Response('done'), { gate, wait })(request)).text();
    await until(() => gate.active === 0);
    const added = add.mock.calls.slice(before).map(([, listener]) => listener);
    expect(added).toHaveLength(1);
    expect(remove.mock.calls.map(([, listener]) => listener)).toContain(added[0]);
    // A refused request removes its listeners, too.
    const counts = [add.mock.calls.length, remove.mock.calls.length];
    expect((await web(() => new Response('done'), { gate: fullGate(), wait: wait / 1_000 })(request)).status).toBe(429);
    expect(add.mock.calls.length - counts[0]!).toBe(remove.mock.calls.length - counts[1]!);
    add.mockRestore();
    remove.mockRestore();
  });

  test('fills a template in with the properties of the request', async () => {
    const { keyed, keys } = refusingGate();
    const handler = web(() => new Response('done'), { keyed, key: '{tenant}:{params.x}' });
    expect((await handler(Object.assign(new Request(url), { tenant: 'acme' }))).status).toBe(400);
    const other = web(() => new Response('done'), { keyed, key: '{tenant}:{path}' });
    expect((await other(Object.assign(new Request(`${url}a?b#c`), { tenant: 'acme' }))).status).toBe(429);
    expect(keys).toEqual(['acme:/a']);
  });

  test('sends a refusal without a body where onLimited returns none', async () => {
    const onLimited = (): Response => new Response(null, { status: 204 });
    const app = new Hono();
    app.use(hono({ gate: fullGate(), onLimited }));
    for (const response of [
      await web(() => new Response('done'), { gate: fullGate(), onLimited })(new Request(url)),
      await app.request('/'),
    ]) {
      expect([response.status, response.body, response.headers.get('retry-after')]).toEqual([204, null, '1']);
    }
    const { status, body } = await web(() => new Response('done'), { gate: fullGate() })(
      new Request(url, { method: 'HEAD' }),
    );
    expect([status, body]).toEqual([429, null]);
  });

  test('throws at creation for a handler that is not a function', () => {
    expect(() => web('no' as never, { gate: fullGate() })).toThrow('handler must be a function, received "no"');
  });
});

test('a response has no RateLimit fields if a getter of the gate throws', async () => {
  const permit = { release() {}, refund() {} };
  const gate = {
    acquire: async () => permit,
    get capacity(): number {
      throw new Error('no');
    },
  } as unknown as Gate;
  const response = await web(() => new Response('done'), { gate })(new Request('http://localhost/'));
  expect([response.status, response.headers.get('ratelimit')]).toEqual([200, null]);
});
