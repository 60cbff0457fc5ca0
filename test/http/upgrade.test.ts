/** Limits for upgrades: `limitUpgrade` with `ws`, and the adapter of Hono with the upgrades of its server (FAULTS 34). */
import { serve as serveHono, upgradeWebSocket } from '@hono/node-server';
import { Hono } from 'hono';
import http, { type Server } from 'node:http';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { type Gate, KeyedThrottle, QueueFullError, Throttle } from 'headgate';
import { concurrencyLimit, hono, type LimitOptions, limitUpgrade, permitOf, type Refusal } from 'headgate/http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type RawData, WebSocket, WebSocketServer } from 'ws';
import { fullGate } from '../support/fixed-gates.js';
import { Latch, listen, stop, until } from '../support/http-client.js';
import { pause } from './hold-support.js';

type Options = LimitOptions<never[]>;

interface Site {
  readonly port: number;
  /** The sockets of the server. */
  readonly sockets: Duplex[];
  readonly opened: WebSocket[];
  readonly permits: unknown[];
}

const finish = (server: Server, webSockets: WebSocketServer): void =>
  onTestFinished(async () => {
    for (const each of webSockets.clients) each.terminate();
    await stop(server);
  });

const echo = (ws: WebSocket): void => void ws.on('message', (data, binary) => ws.send(data as Buffer, { binary }));

const sites: Record<string, (options: Options) => Promise<Site>> = {
  async limitUpgrade(options) {
    const limit = limitUpgrade(options as LimitOptions<[http.IncomingMessage, Duplex]>);
    const webSockets = new WebSocketServer({ noServer: true });
    const server = http.createServer();
    const [sockets, opened, permits]: [Duplex[], WebSocket[], unknown[]] = [[], [], []];
    server.on('upgrade', (request, socket, head) => {
      sockets.push(socket);
      limit(request, socket, () => {
        permits.push(permitOf(request));
        webSockets.handleUpgrade(request, socket, head, (ws) => {
          opened.push(ws);
          echo(ws);
        });
      });
    });
    finish(server, webSockets);
    return { port: await listen(server), sockets, opened, permits };
  },

  async hono(options) {
    const [sockets, opened, permits]: [Duplex[], WebSocket[], unknown[]] = [[], [], []];
    const app = new Hono();
    app.onError((error, c) => {
      console.error(error);
      return c.text('failed', 500);
    });
    app.get(
      '/*',
      hono(options as Parameters<typeof hono>[0]),
      async (c, next) => {
        permits.push(permitOf(c));
        await next();
      },
      upgradeWebSocket(() => ({
        onOpen(_event, ws) {
          opened.push(ws.raw as WebSocket);
        },
        onMessage: (event, ws) => ws.send(event.data as string),
      })),
    );
    const webSockets = new WebSocketServer({ noServer: true });
    const port = await new Promise<number>((resolve) => {
      const server = serveHono(
        { fetch: app.fetch, port: 0, hostname: '127.0.0.1', websocket: { server: webSockets as never } },
        ({ port: own }) => resolve(own),
      ) as Server;
      // A second listener for 'upgrade' would change the behaviour of the server.
      server.on('connection', (socket) => void sockets.push(socket));
      finish(server, webSockets);
    });
    return { port, sockets, opened, permits };
  },
};

/** A client, and the response if the server refuses the upgrade. */
function connect(
  { port }: { port: number },
  headers: Record<string, string> = {},
): {
  ws: WebSocket;
  open: Promise<void>;
  refused: Promise<{ status: number; headers: http.IncomingHttpHeaders; body: string }>;
} {
  const ws = new WebSocket(`ws://127.0.0.1:${port}/`, { headers });
  ws.on('error', () => {});
  onTestFinished(() => ws.terminate());
  return {
    ws,
    open: new Promise((resolve) => void ws.on('open', () => resolve())),
    refused: new Promise((resolve) => {
      ws.on('unexpected-response', (_request, response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (text: string) => (body += text));
        response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
      });
    }),
  };
}

const HANDSHAKE =
  'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
/** A masked text frame with the text `hi` and a mask of zeros. */
const FRAME = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);

/** A client without a protocol of its own, that has sent the handshake. */
async function connectRaw({ port }: { port: number }, more: Buffer = Buffer.alloc(0)): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => {});
  await new Promise((resolve) => void socket.on('connect', resolve));
  socket.write(Buffer.concat([Buffer.from(HANDSHAKE), more]));
  return socket;
}

const message = (ws: WebSocket): Promise<string> =>
  new Promise((resolve) => void ws.once('message', (data: RawData) => resolve((data as Buffer).toString())));

describe.each(Object.entries(sites))('%s', (name, serve) => {
  describe('the permit of a socket', () => {
    test.each<[string, (ws: WebSocket, site: Site) => unknown]>([
      ['its client closes it', (ws) => ws.close()],
      ['its client drops it', (ws) => ws.terminate()],
      ['its client resets it', (ws) => (ws as unknown as Record<string, net.Socket>)['_socket']!.resetAndDestroy()],
      ['its server closes it', (_ws, { opened }) => opened[0]!.close()],
      ['its server drops it', (_ws, { opened }) => opened[0]!.terminate()],
      ['it fails', (_ws, { sockets }) => sockets[0]!.destroy(new Error('broken'))],
    ])('is held until %s', async (_when, end) => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate });
      const { ws, open } = connect(site);
      await open;
      ws.send('one');
      expect(await message(ws)).toBe('one');
      await pause(20);
      expect([gate.active, site.permits.length]).toEqual([1, 1]);
      expect(site.permits[0]).toMatchObject({ cost: 1, released: false });
      await until(() => site.opened.length === 1);
      site.opened[0]!.on('error', () => {});
      end(ws, site);
      await until(() => gate.active === 0);
    });

    test('is released at its ttl', async () => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate, ttl: 0.05 });
      const { ws, open } = connect(site);
      await open;
      await until(() => gate.active === 0);
      ws.send('still open');
      expect(await message(ws)).toBe('still open');
    });

    test('is one of maxConcurrent for each key', async () => {
      const site = await serve(concurrencyLimit<never[]>({ key: 'header:x-user', maxConcurrent: 2 }));
      const first = [connect(site, { 'x-user': 'ada' }), connect(site, { 'x-user': 'ada' })];
      await Promise.all(first.map(({ open }) => open));
      expect((await connect(site, { 'x-user': 'ada' }).refused).status).toBe(429);
      await connect(site, { 'x-user': 'bob' }).open;
      expect((await connect(site).refused).status).toBe(400);
      first[0]!.ws.terminate();
      await pause(50);
      await connect(site, { 'x-user': 'ada' }).open;
    });
  });

  describe('a refused client', () => {
    test('receives the status and the fields, and its socket is closed', async () => {
      const gate = new Throttle(1, 0, 60);
      const site = await serve({ gate });
      const admitted = connect(site);
      await admitted.open;
      const { status, headers } = await connect(site).refused;
      expect([status, headers['ratelimit-policy'], headers['connection']]).toEqual([
        429,
        '"default";q=1;w=60',
        'close',
      ]);
      expect(Number(headers['retry-after'])).toBeGreaterThan(58);
      await until(() => site.sockets[1]!.destroyed);
      expect(site.permits).toHaveLength(1);
    });

    test('receives a 503 if the gate is busy', async () => {
      const gate = { acquire: () => Promise.reject(new QueueFullError('full')) } as unknown as Gate;
      expect((await connect(await serve({ gate })).refused).status).toBe(503);
    });

    test('that ends its side first does not keep the socket open', async () => {
      const site = await serve({ gate: fullGate() });
      const socket = await connectRaw(site);
      socket.end();
      await until(() => site.sockets[0]?.destroyed === true);
    });
  });

  describe('a client that queues', () => {
    test('is admitted when a socket is closed', async () => {
      const gate = new Throttle(Infinity, 1);
      const site = await serve({ gate, wait: 30 });
      const first = connect(site);
      await first.open;
      const second = connect(site);
      await until(() => gate.waiting === 1);
      first.ws.close();
      await second.open;
      second.ws.send('two');
      expect(await message(second.ws)).toBe('two');
      expect(gate.active).toBe(1);
    });

    test.each<[string, (socket: net.Socket) => unknown]>([
      ['disconnects', (socket) => socket.destroy()],
      ['ends its side of the connection', (socket) => socket.end()],
      ['resets the connection', (socket) => socket.resetAndDestroy()],
    ])('leaves the queue when it %s', async (_how, end) => {
      const gate = new Throttle(Infinity, 1);
      const held = await gate.acquire();
      const site = await serve({ gate, wait: 30 });
      const socket = await connectRaw(site);
      await until(() => gate.waiting === 1);
      end(socket);
      await until(() => gate.waiting === 0);
      held.release();
      await pause(20);
      expect([gate.active, site.opened.length, site.sockets[0]!.destroyed]).toEqual([0, 0, true]);
    });

    test.each([
      ['with the handshake', true],
      ['while it queues', false],
    ])('loses no data that it sends %s', async (_when, early) => {
      const gate = new Throttle(Infinity, 1);
      const held = await gate.acquire();
      const site = await serve({ gate, wait: 30 });
      const socket = await connectRaw(site, early ? FRAME : undefined);
      let received = Buffer.alloc(0);
      socket.on('data', (data: Buffer) => (received = Buffer.concat([received, data])));
      await until(() => gate.waiting === 1);
      if (!early) socket.write(FRAME);
      await pause(20);
      held.release();
      await until(() => received.subarray(-4).equals(Buffer.from([0x81, 2, 0x68, 0x69])));
      socket.write(FRAME);
      await until(() => received.subarray(-8).equals(Buffer.from([0x81, 2, 0x68, 0x69, 0x81, 2, 0x68, 0x69])));
      socket.destroy();
      await until(() => gate.active === 0);
    });
  });

  test('with block: false, an upgrade over the limit is admitted and reported', async () => {
    const onLimited = vi.fn((_refusal: Refusal) => {});
    const site = await serve({ gate: fullGate(), block: false, onLimited });
    await connect(site).open;
    expect(onLimited.mock.calls[0]![0]).toMatchObject({ status: 429, dryRun: true });
    expect(site.permits).toEqual([undefined]);
  });

  test('a gate that fails is no refusal, and the client receives a 500', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    onTestFinished(() => log.mockRestore());
    const failure = new Error('down');
    const gate = { acquire: () => Promise.reject(failure) } as unknown as Gate;
    const site = await serve({ gate });
    const { status, headers } = await connect(site).refused;
    expect([status, headers['retry-after']]).toEqual([500, undefined]);
    expect(log.mock.calls).toEqual([[failure]]);
    await until(() => site.sockets[0]!.destroyed);
    await connect(await serve({ gate, failOpen: true })).open;
  });

  test('the socket keeps no listener of the limit but the one that releases the permit', async () => {
    const counts = async (options: Options): Promise<Record<string, number>> => {
      const site = await serve(options);
      await connect(site).open;
      await pause(10);
      const [socket] = site.sockets;
      return Object.fromEntries(
        ['close', 'end', 'error', 'readable'].map((each) => [each, socket!.listenerCount(each)]),
      );
    };
    const without = await counts({ gate: new Throttle(Infinity), skip: () => true });
    expect(await counts({ gate: new Throttle(Infinity, 1), wait: 5 })).toEqual({
      ...without,
      close: without['close']! + 1,
    });
  });

  if (name === 'limitUpgrade')
    test.each<[string, () => unknown, Partial<{ status: number; body: string }>]>([
      ['a text', () => 'no', { status: 429, body: 'no' }],
      ['an object', () => ({ no: 1 }), { status: 429, body: '{"no":1}' }],
      [
        'a Response',
        () => new Response('später', { status: 418, headers: { upgrade: 'x', 'x-own': '1', 'set-cookie': 'a=1' } }),
        { status: 418, body: 'später' },
      ],
    ])('onLimited can answer with %s', async (_what, onLimited, expected) => {
      const { headers, ...seen } = await connect(await serve({ gate: fullGate(), onLimited } as Options)).refused;
      expect(seen).toEqual(expected);
      expect([headers.upgrade, headers['retry-after']]).toEqual([undefined, '1']);
    });
});

describe('limitUpgrade', () => {
  const serveWith = async (
    next: (request: http.IncomingMessage, socket: Duplex) => void,
    gate: Gate,
  ): Promise<Site> => {
    const limit = limitUpgrade({ gate, wait: 5 });
    const server = http.createServer();
    const sockets: Duplex[] = [];
    server.on('upgrade', (request, socket) => {
      sockets.push(socket);
      limit(request, socket, () => next(request, socket));
    });
    onTestFinished(() => stop(server));
    return { port: await listen(server), sockets, opened: [], permits: [] };
  };

  test('an error of next is logged, closes the socket, and releases the permit', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    onTestFinished(() => log.mockRestore());
    const gate = new Throttle(Infinity, 1);
    const failure = new Error('broken');
    const site = await serveWith(() => {
      throw failure;
    }, gate);
    await connectRaw(site);
    await until(() => site.sockets[0]?.destroyed === true && gate.active === 0);
    expect(log.mock.calls).toEqual([[failure]]);
  });

  test('the permit settles and refunds', async () => {
    const gate = new Throttle(10, 0, 60);
    const done = new Latch();
    const site = await serveWith((request, socket) => {
      permitOf(request, gate)?.settle(4);
      socket.destroy();
      done.open();
    }, gate);
    await connectRaw(site);
    await done.opened;
    expect(Math.round(gate.tokens)).toBe(6);
  });

  test('a key comes from the address or from a property of the request', async () => {
    const keys: string[] = [];
    const keyed = new KeyedThrottle(Infinity, 1);
    const acquire = keyed.acquire.bind(keyed);
    keyed.acquire = (key, ...rest) => {
      keys.push(key);
      return acquire(key, ...rest);
    };
    for (const key of ['ip', 'user', '{path}:{query.room}:{method}']) {
      const limit = limitUpgrade({ keyed, key });
      const server = http.createServer();
      server.on('upgrade', (request, socket) => {
        Object.assign(request, { user: { id: 7 } });
        limit(request, socket, () => socket.destroy());
      });
      onTestFinished(() => stop(server));
      const ws = new WebSocket(`ws://127.0.0.1:${await listen(server)}/chat?room=a`);
      await new Promise((resolve) => void ws.on('error', resolve));
    }
    expect(keys).toEqual(['ip:127.0.0.1', 'user:7', '/chat:a:GET']);
  });

  test.each<[unknown, string]>([
    [undefined, 'TypeError: options must be an object, received undefined'],
    [{}, 'TypeError: options must have either gate or keyed'],
    [
      { gate: fullGate(), onLimited: 'throw' },
      'TypeError: onLimited must be a function, because an upgrade has no error handler, received "throw"',
    ],
  ])('throws for %j', (options, text) => {
    let thrown: unknown;
    try {
      limitUpgrade(options as Options);
    } catch (error) {
      thrown = error;
    }
    expect(String(thrown)).toBe(text);
  });
});
