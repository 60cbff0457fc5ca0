/** The global fetch of the platform behind a gate, against a real server. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Throttle } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { expectNothingHeld, registerHooks } from './fake-upstream.js';

registerHooks();

describe('against a real server', () => {
  const servers: Server[] = [];
  const serve = async (
    listener: (request: IncomingMessage, response: ServerResponse) => void | Promise<void>,
  ): Promise<string> => {
    const server = createServer((request, response) => void listener(request, response)).listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  };
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
  });
  const read = async (request: IncomingMessage): Promise<string> => {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk as string;
    return text;
  };

  test.each<[string, (url: string) => Parameters<typeof fetch>]>([
    ['a string', (url) => [url, { method: 'POST', body: 'hello' }]],
    ['a Request', (url) => [new Request(url, { method: 'POST', body: 'hello' })]],
    ['a Blob', (url) => [url, { method: 'POST', body: new Blob(['hello']) }]],
    [
      'a Request with a stream',
      (url) => [
        new Request(url, { method: 'POST', body: new Blob(['hello']).stream(), duplex: 'half' } as RequestInit),
      ],
    ],
  ])('a 429 is followed by a 200 with the same body: %s', async (_, createArguments) => {
    const received: string[] = [];
    const url = await serve(async (request, response) => {
      received.push(await read(request));
      if (received.length === 1)
        response.writeHead(429, { ratelimit: '"a";r=0;t=0', 'retry-after': '0.02' }).end('slow down');
      else response.end('ok');
    });
    const throttle = new Throttle(100, 1);
    const response = await throttledFetch(throttle, { hold: 'body' })(...createArguments(url));
    expect([response.status, response.url, await response.text(), received]).toEqual([
      200,
      url,
      'ok',
      ['hello', 'hello'],
    ]);
    expectNothingHeld(throttle);
  });

  test.each<[string, (url: string, signal: AbortSignal) => Parameters<typeof fetch>]>([
    ['of the Request', (url, signal) => [new Request(url, { method: 'POST', body: 'hello', signal })]],
    ['in init', (url, signal) => [new Request(url, { method: 'POST', body: 'hello' }), { signal }]],
  ])(
    'a Request that is sent again is still aborted by the signal %s after a garbage collection',
    async (_, createArguments) => {
      let requestCount = 0;
      const url = await serve(async (request, response) => {
        await read(request);
        if (++requestCount === 1) response.writeHead(429, { 'retry-after': '0.02' }).end('slow down');
      });
      const throttle = new Throttle(100, 1);
      const controller = new AbortController();
      const reason = new Error('caller aborted');
      const outcome = expect(throttledFetch(throttle)(...createArguments(url, controller.signal))).rejects.toBe(reason);
      await vi.waitFor(() => expect(requestCount).toBe(2));
      for (let round = 0; round < 5; round++) {
        globalThis.gc!();
        await new Promise((resolve) => void setTimeout(resolve, 10));
      }
      controller.abort(reason);
      await outcome;
      expectNothingHeld(throttle);
    },
  );

  test('a request with a stream as its body is sent only once', async () => {
    const url = await serve(async (request, response) => {
      await read(request);
      response.writeHead(429, { 'retry-after': '0.02' }).end('slow down');
    });
    const throttle = new Throttle(100, 1);
    const response = await throttledFetch(throttle)(url, {
      method: 'POST',
      body: new Blob(['hello']).stream(),
      duplex: 'half',
    } as RequestInit);
    expect([response.status, await response.text()]).toEqual([429, 'slow down']);
    expectNothingHeld(throttle);
  });

  test("with hold: 'body' a stream holds the slot until its end or its abort", async () => {
    const open: ServerResponse[] = [];
    const url = await serve((_, response) => {
      open.push(response);
      response.write('first ');
    });
    const throttle = new Throttle(100, 1);
    const limitedFetch = throttledFetch(throttle, { hold: 'body' });
    const controller = new AbortController();
    const first = await limitedFetch(url);
    const second = limitedFetch(url, { signal: controller.signal });
    const third = limitedFetch(url, { signal: AbortSignal.timeout(50) });
    await expect(third).rejects.toMatchObject({ name: 'TimeoutError' });
    expect([throttle.active, throttle.waiting, open.length]).toEqual([1, 1, 1]);
    open[0]!.end('last');
    expect(await first.text()).toBe('first last');
    const text = (await second).text();
    expect([throttle.active, open.length]).toEqual([1, 2]);
    const reason = new Error('caller aborted');
    controller.abort(reason);
    await expect(text).rejects.toBe(reason);
    expectNothingHeld(throttle);
  });

  test('a discarded refusal closes its connection', async () => {
    let refused: ServerResponse | undefined;
    const url = await serve((_, response) => {
      if (refused) response.end('ok');
      else (refused = response.writeHead(503, { 'retry-after': '0.02' })).write('a page that never ends');
    });
    const throttle = new Throttle(100, 1);
    const response = await throttledFetch(throttle)(url);
    expect(await response.text()).toBe('ok');
    if (!refused!.closed) await once(refused!, 'close');
    expectNothingHeld(throttle);
  });

  test('an unreachable server rejects with the error of fetch', async () => {
    const throttle = new Throttle(100, 1);
    const url = await serve(() => {});
    servers[0]!.close();
    await expect(throttledFetch(throttle)(url)).rejects.toThrow(new TypeError('fetch failed'));
    expectNothingHeld(throttle);
  });
});
