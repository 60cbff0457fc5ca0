/** The behaviour of the adapter for Express on bare `node:http` and `node:http2`. */
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { Writable } from 'node:stream';
import { Throttle } from 'headgate';
import { express } from 'headgate/http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { refusingGate } from '../support/fixed-gates.js';
import { startServer } from '../support/framework-servers.js';
import { call, get, Latch, until } from '../support/http-client.js';

describe('node:http', () => {
  test('pipelined requests whose client disconnects take no permits', async () => {
    const gate = new Throttle(Infinity, 3);
    const latch = new Latch();
    const limited = express({ gate, wait: 60 });
    const paths: string[] = [];
    const permits: WeakRef<object>[] = [];
    const acquire = gate.acquire.bind(gate);
    gate.acquire = async (...args) => {
      const permit = await acquire(...args);
      permits.push(new WeakRef(permit));
      return permit;
    };
    const sockets: [socket: net.Socket, listeners: number][] = [];
    const server = http.createServer((req, res) =>
      limited(req, res, () => {
        paths.push(req.url ?? '');
        // After the handler has read the request to its end, the request emits no event for a disconnected client.
        req.resume();
        void latch.opened.then(() => res.end(req.url));
      }),
    );
    server.on('connection', (socket) => void sockets.push([socket, socket.listenerCount('close')]));
    const { port } = await startServer(server);
    const sendRequests = (count: number): net.Socket => {
      const socket = net.connect(port, '127.0.0.1');
      for (let index = 0; index < count; index++) socket.write(`GET /${index} HTTP/1.1\r\nhost: x\r\n\r\n`);
      return socket;
    };
    const dropped = sendRequests(5);
    await until(() => gate.active === 1);
    await new Promise((resolve) => void setTimeout(resolve, 20));
    // Only the request whose response is next takes a permit.
    expect([gate.active, gate.waiting]).toEqual([1, 0]);
    dropped.destroy();
    await until(() => gate.active === 0 && gate.waiting === 0);
    expect(paths).toEqual(['/0']);

    const warned = vi.fn();
    process.on('warning', warned);
    onTestFinished(() => void process.off('warning', warned));
    const staying = sendRequests(25);
    let text = '';
    staying.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk));
    await until(() => gate.active === 1 && sockets.length === 2);
    const [, [socket, listeners] = []] = sockets;
    latch.open();
    await until(() => text.endsWith('/24'));
    await until(() => gate.active === 0);
    // All requests share one listener of the socket.
    expect([socket!.listenerCount('close') - listeners!, warned.mock.calls]).toEqual([1, []]);
    // The permits of finished requests are collected while the connection is open.
    await new Promise((resolve) => void setTimeout(resolve, 10));
    globalThis.gc?.();
    expect(permits.slice(10, 20).map((permit) => permit.deref())).toEqual(Array.from({ length: 10 }));
    staying.destroy();
  });

  test('a request whose client has already disconnected takes no permit', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const limited = express({ gate, wait: 60 });
    const ran = vi.fn();
    let arrived = false;
    const server = http.createServer((req, res) => {
      arrived = true;
      void latch.opened.then(() => limited(req, res, ran));
    });
    const site = await startServer(server);
    const dropped = call(site);
    await until(() => arrived);
    dropped.hangUp();
    await new Promise((resolve) => void setTimeout(resolve, 50));
    latch.open();
    await new Promise((resolve) => void setTimeout(resolve, 20));
    expect([gate.active, gate.waiting, ran.mock.calls]).toEqual([0, 0, []]);
  });

  test('a response without a server releases its permit when it is finished', async () => {
    const gate = new Throttle(Infinity, 1);
    const req = new http.IncomingMessage(new net.Socket());
    const res = new http.ServerResponse(req);
    res.assignSocket(new Writable({ write: (_chunk, _encoding, done) => done() }) as net.Socket);
    await new Promise<void>((resolve) => express({ gate })(req, res, () => resolve()));
    expect(gate.active).toBe(1);
    res.end('done');
    await until(() => gate.active === 0);
    // The handler does not run for a response that was sent already.
    const ran = vi.fn();
    express({ gate })(req, res, ran);
    await new Promise((resolve) => void setTimeout(resolve, 10));
    expect([ran.mock.calls, gate.active]).toEqual([[], 0]);
  });

  test('an admitted request aborts no signal when it ends', async () => {
    const abort = vi.spyOn(AbortController.prototype, 'abort');
    const gate = new Throttle(Infinity, 1);
    const limited = express({ gate, wait: 5 });
    const site = await startServer(http.createServer((req, res) => limited(req, res, () => res.end('done'))));
    expect((await get(site)).status).toBe(200);
    await until(() => gate.active === 0);
    expect(abort).not.toHaveBeenCalled();
    abort.mockRestore();
  });

  test('the middleware limits HTTP/2 requests, and a reset stream leaves the queue', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const limited = express<http2.Http2ServerRequest, http2.Http2ServerResponse>({ gate, wait: 0 });
    const queued = express<http2.Http2ServerRequest, http2.Http2ServerResponse>({ gate, wait: 60 });
    const lookup = new Latch();
    const skip = vi.fn(async () => (await lookup.opened, false));
    const slow = express<http2.Http2ServerRequest, http2.Http2ServerResponse>({ gate, wait: 60, skip });
    const server = http2.createServer((req, res) =>
      (({ '/wait': queued, '/slow': slow })[req.url] ?? limited)(req, res, () => {
        res.write('first');
        void latch.opened.then(() => res.stream && !res.stream.destroyed && res.end());
      }),
    );
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const client = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
    onTestFinished(async () => {
      client.destroy();
      await new Promise((resolve) => void server.close(resolve));
    });
    const openStream = (path: string): { stream: http2.ClientHttp2Stream; status: Promise<unknown> } => {
      const stream = client.request({ ':path': path });
      stream.on('error', () => {});
      stream.resume();
      return {
        stream,
        status: new Promise((resolve) => void stream.once('response', (headers) => resolve(headers[':status']))),
      };
    };
    const first = openStream('/');
    expect(await first.status).toBe(200);
    expect(await openStream('/').status).toBe(429);
    const waiting = openStream('/wait');
    await until(() => gate.waiting === 1);
    waiting.stream.close(http2.constants.NGHTTP2_CANCEL);
    await until(() => gate.waiting === 0);
    // The client resets this stream before the request can queue.
    const dropped = openStream('/slow');
    await until(() => skip.mock.calls.length === 1);
    dropped.stream.close(http2.constants.NGHTTP2_CANCEL);
    await new Promise((resolve) => void setTimeout(resolve, 50));
    lookup.open();
    await new Promise((resolve) => void setTimeout(resolve, 10));
    expect(gate.waiting).toBe(0);
    first.stream.close(http2.constants.NGHTTP2_CANCEL);
    await until(() => gate.active === 0);
    const last = openStream('/');
    expect(await last.status).toBe(200);
    latch.open();
    await until(() => gate.active === 0);
  });
});

test('a whole URL as the request target has the same path as its path alone', async () => {
  const { keyed, keys } = refusingGate();
  const limited = express({ keyed, key: '{path}?{query.a}' });
  const site = await startServer(http.createServer((req, res) => limited(req, res, () => res.end())));
  for (const path of [
    '/export?a=1',
    'http://other.example/export?a=1',
    'HTTP://x:80/export?a=1#c?a=2',
    '/http://x/y?a=1',
  ])
    await get(site, path);
  expect(keys).toEqual(['/export?1', '/export?1', '/export?1', '/http://x/y?1']);
});
