/** The facts in the chapter "Hostile clients" of src/http/README.md: headgate's defaults, and the server's settings. */
import createFastify from 'fastify';
import http, { type RequestListener, type Server } from 'node:http';
import net from 'node:net';
import { readFileSync } from 'node:fs';
import { KeyedThrottle } from 'headgate';
import { concurrencyLimit, express } from 'headgate/http';
import { ManualClock } from 'headgate/testing';
import { expect, onTestFinished, test } from 'vitest';
import { addressKey } from '../../src/http/platform/address-key.js';
import { boundKey } from '../../src/http/bounded-key.js';
import { DEFAULT_MAX_KEYS } from '../../src/http/max-keys.js';
import { get, listen, stop, until } from '../support/http-client.js';

const readme = readFileSync(new URL('../../src/http/README.md', import.meta.url), 'utf8');
/** The chapter, without its line breaks. */
const chapter = (/^## Hostile clients\n(.*?)^## /ms.exec(readme)?.[1] ?? '').replaceAll(/\s+/g, ' ');

/** A server with one slot for each address. */
const serveOne = async (
  handler: RequestListener,
  options: http.ServerOptions = {},
): Promise<{ server: Server; port: number; keyed: KeyedThrottle }> => {
  const keyed = new KeyedThrottle(Infinity, 1);
  const limit = express(concurrencyLimit({ key: 'ip', maxConcurrent: 1, backend: keyed }));
  const server = http.createServer(options, (req, res) => limit(req, res, () => handler(req, res)));
  onTestFinished(() => stop(server));
  return { server, port: await listen(server), keyed };
};

/** A client that sends `text`, and then neither sends nor reads. */
const sendAndStall = (port: number, text: string): net.Socket => {
  const socket = net
    .connect(port, '127.0.0.1', () => socket.write(text))
    .on('error', () => {})
    .pause();
  onTestFinished(() => void socket.destroy());
  return socket;
};

test('an unfinished request body holds a slot until the requestTimeout of the server (FAULTS 37)', async () => {
  const { server, port, keyed } = await serveOne(
    (req, res) =>
      void req
        .on('error', () => res.destroy())
        .on('end', () => res.end('done'))
        .resume(),
    { connectionsCheckingInterval: 20 },
  );
  server.requestTimeout = 300;
  server.headersTimeout = 200;
  sendAndStall(port, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx');
  await until(() => keyed.peek('ip:127.0.0.1')?.active === 1);
  expect((await get({ port })).status).toBe(429);
  await until(() => keyed.peek('ip:127.0.0.1') === undefined, 'the slot');
  expect((await get({ port })).status).toBe(200);
});

test('an unread response holds a slot until the timeout of the server (FAULTS 37)', async () => {
  const large = Buffer.alloc(16_000_000);
  const { server, port, keyed } = await serveOne((req, res) => void res.end(req.url === '/large' ? large : 'done'));
  server.timeout = 300;
  sendAndStall(port, 'GET /large HTTP/1.1\r\nHost: x\r\n\r\n');
  await until(() => keyed.peek('ip:127.0.0.1')?.active === 1);
  expect((await get({ port })).status).toBe(429);
  await until(() => keyed.peek('ip:127.0.0.1') === undefined, 'the slot');
  expect((await get({ port })).status).toBe(200);
});

test('an unread response holds a slot until the ttl of the limit (FAULTS 37)', async () => {
  const keyed = new KeyedThrottle(Infinity, 1);
  const limit = express(concurrencyLimit({ key: 'ip', maxConcurrent: 1, ttl: 0.3, backend: keyed }));
  const server = http.createServer((req, res) =>
    limit(req, res, () => void res.end(req.url === '/large' ? Buffer.alloc(16_000_000) : 'done')),
  );
  onTestFinished(() => stop(server));
  const port = await listen(server);
  sendAndStall(port, 'GET /large HTTP/1.1\r\nHost: x\r\n\r\n');
  await until(() => keyed.peek('ip:127.0.0.1')?.active === 1);
  await until(() => keyed.peek('ip:127.0.0.1') === undefined, 'the slot');
  expect((await get({ port })).status).toBe(200);
});

test('the defaults of servers are as the README states', () => {
  const { requestTimeout, headersTimeout, timeout, maxConnections, maxRequestsPerSocket } = http.createServer();
  expect([requestTimeout, headersTimeout, timeout, maxConnections ?? Infinity, maxRequestsPerSocket]).toEqual([
    300_000,
    60_000,
    0,
    Infinity,
    0,
  ]);
  expect(createFastify().server.requestTimeout).toBe(0);
  expect(chapter).toContain('300 s and 60 s in Node. Fastify switches `requestTimeout` off');
});

test('the bounds of keys are as the README states', () => {
  expect(readme).toContain('A key of more than 128 characters');
  expect([boundKey('k'.repeat(128)).length, boundKey('k'.repeat(129)).length]).toEqual([128, 136]);
  expect(chapter).toContain('136 characters are kept');
  expect(chapter).toContain(`once ${DEFAULT_MAX_KEYS.toLocaleString('en')} are live`);
  expect(chapter).toContain('100,000 keys take less than 200 MB');
  // The default ipv6Prefix.
  expect(chapter).toContain('The network of 56 bits counts');
  expect(addressKey('2001:db8::1', 56)).toBe('2001:db8:0:0::/56');
});

test.each([
  ['used once is live for 36 s', 1, 36],
  ['used up is live for an hour', 100, 3_600],
])('with 100 per hour, a key that was %s', async (_, cost, seconds) => {
  const clock = new ManualClock();
  const keyed = new KeyedThrottle(100, 0, 3_600, { clock });
  keyed.tryAcquire('ip:203.0.113.7', cost)?.release();
  await clock.advance(seconds - 0.01);
  expect(keyed.size).toBe(1);
  await clock.advance(0.02);
  expect(keyed.size).toBe(0);
});
