/** throttledFetch with the `fetch` of undici, of node-fetch and of the platform, against real servers. */
import { once } from 'node:events';
import {
  Agent as HttpAgent,
  createServer,
  get,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, gzipSync } from 'node:zlib';
import { KeyedThrottle, Throttle } from 'headgate';
import { throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import nodeFetch from 'node-fetch';
import { Agent, fetch as undiciFetch } from 'undici';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

const onUnhandledRejection = vi.fn();
process.on('unhandledRejection', onUnhandledRejection);
const servers: Server[] = [];
const closers: (() => unknown)[] = [];
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
  await new Promise((resolve) => void setImmediate(resolve));
  expect(onUnhandledRejection).not.toHaveBeenCalled();
});

const serve = async (listener: RequestListener): Promise<string> => {
  const server = createServer(listener).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
};
const expectNothingHeld = (throttle: Throttle): void => expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** Imitates node-fetch 2: the stream of the socket is piped into the body, a PassThrough, without `pipeline`. */
const nodeFetch2 = (
  url: string | URL,
  { agent, gzip }: { agent?: HttpAgent; gzip?: boolean } = {},
): Promise<{ status: number; headers: Headers; body: Readable; text(): Promise<string> }> =>
  new Promise((resolve, reject) => {
    get(url, { agent }, (message: IncomingMessage) => {
      const raw = message.pipe(new PassThrough());
      const body = gzip ? raw.pipe(createGunzip()) : raw;
      const text = async (): Promise<string> => Buffer.concat(await body.toArray()).toString();
      resolve({
        status: message.statusCode ?? 0,
        headers: new Headers(message.headers as Record<string, string>),
        body,
        text,
      });
    }).on('error', reject);
  });

const createOneSocketAgent = (): HttpAgent => {
  const agent = new HttpAgent({ keepAlive: true, maxSockets: 1 });
  closers.push(() => agent.destroy());
  return agent;
};
const createOneConnectionAgent = (): Agent => {
  const agent = new Agent({ connections: 1 });
  closers.push(() => agent.destroy());
  return agent;
};

/** Sends a request through a client that has one connection. */
type SendRequest = (url: string) => Promise<{ status: number; text(): Promise<string> }>;
interface ClientOptions extends Pick<ThrottledFetchOptions, 'hold' | 'timeout'> {
  settle?: (response: { text(): Promise<string> }) => void | Promise<void>;
}
const clients: Record<string, (throttle: Throttle, options?: ClientOptions) => SendRequest> = {
  undici(throttle, options) {
    const limitedFetch = throttledFetch(throttle, { ...options, fetch: undiciFetch });
    const dispatcher = createOneConnectionAgent();
    return (url) => limitedFetch(url, { dispatcher });
  },
  'node-fetch 3'(throttle, options) {
    const limitedFetch = throttledFetch(throttle, { ...options, fetch: nodeFetch });
    const agent = createOneSocketAgent();
    return (url) => limitedFetch(url, { agent });
  },
  'an imitation of node-fetch 2'(throttle, options) {
    const limitedFetch = throttledFetch(throttle, { ...options, fetch: nodeFetch2 });
    const agent = createOneSocketAgent();
    return (url) => limitedFetch(url, { agent });
  },
};

describe.each(Object.entries(clients))('%s, with one connection', (name, createClient) => {
  test.each<[string, (response: ServerResponse) => void]>([
    ['of 100 kB', (response) => response.end(Buffer.alloc(100_000))],
    ['of 10 MB', (response) => response.end(Buffer.alloc(10_000_000))],
    ['that never ends', (response) => void response.write(Buffer.alloc(100_000))],
    ['of a few bytes', (response) => response.end('slow down')],
    ['without bytes', (response) => response.end()],
  ])('a refusal with a body %s is discarded, and the retry reuses the connection (FAULTS 23)', async (_, respond) => {
    let count = 0;
    const url = await serve((_request, response) => {
      if (++count % 2 === 0) response.end('ok');
      else respond(response.writeHead(429, { 'retry-after-ms': '10' }));
    });
    const throttle = new Throttle(100, 1);
    const sendRequest = createClient(throttle);
    for (let round = 1; round <= 3; round++) {
      const response = await sendRequest(url);
      expect([response.status, await response.text(), count]).toEqual([200, 'ok', 2 * round]);
    }
    expectNothingHeld(throttle);
  });

  test("hold: 'body' holds the slot until the body has been read (FAULTS 23)", async () => {
    const open: ServerResponse[] = [];
    const url = await serve((_request, response) => {
      open.push(response);
      response.write('first ');
    });
    const throttle = new Throttle(100, 1);
    const sendRequest = createClient(throttle, { hold: 'body' });
    const response = await sendRequest(url);
    const next = sendRequest(url);
    await pause(20);
    expect([throttle.active, throttle.waiting, open.length]).toEqual([1, 1, 1]);
    open[0]!.end('last');
    expect(await response.text()).toBe('first last');
    await vi.waitFor(() => expect(open).toHaveLength(2));
    open[1]!.end('last');
    expect(await (await next).text()).toBe('first last');
    await vi.waitFor(() => expectNothingHeld(throttle));
  });

  // In node-fetch 2 the body does not end when the connection closes early.
  if (!name.endsWith('2'))
    test("hold: 'body' releases the slot when the connection closes early", async () => {
      const url = await serve((_request, response) => {
        response.writeHead(200, { 'content-length': '100' });
        response.write('first', () => setTimeout(() => response.destroy(), 20));
      });
      const throttle = new Throttle(100, 1);
      const response = await createClient(throttle, { hold: 'body' })(url);
      response.text().catch(() => {});
      await vi.waitFor(() => expectNothingHeld(throttle));
    });
});

describe.each(Object.entries(clients).slice(0, 2))('settle with %s', (_, createClient) => {
  const SIZE = 10_000_000;
  const setUpBig = async (
    options: ClientOptions,
  ): Promise<{ throttle: Throttle; sendRequest: () => ReturnType<SendRequest> }> => {
    const url = await serve((_request, response) => void response.end(Buffer.alloc(SIZE, 'x')));
    const throttle = new Throttle(100, 1);
    const send = createClient(throttle, options);
    return { throttle, sendRequest: () => send(url) };
  };

  test.each(['headers', 'body'] as const)("that reads nothing lets the caller read 10 MB, hold: '%s'", async (hold) => {
    const { throttle, sendRequest } = await setUpBig({ hold, settle: () => {} });
    for (let round = 0; round < 2; round++) expect(await (await sendRequest()).text()).toHaveLength(SIZE);
    await vi.waitFor(() => expectNothingHeld(throttle));
  });

  test.each(['headers', 'body'] as const)(
    "that reads the body reads 10 MB together with the caller, hold: '%s'",
    async (hold) => {
      const lengths: number[] = [];
      const { throttle, sendRequest } = await setUpBig({
        hold,
        settle: async (response) => void lengths.push((await response.text()).length),
      });
      for (let round = 0; round < 2; round++) expect(await (await sendRequest()).text()).toHaveLength(SIZE);
      await vi.waitFor(() => expectNothingHeld(throttle));
      expect(lengths).toEqual([SIZE, SIZE]);
    },
  );

  test('a timeout that is not reached lets the body pass', async () => {
    const { throttle, sendRequest } = await setUpBig({ timeout: 30, hold: 'body' });
    expect(await (await sendRequest()).text()).toHaveLength(SIZE);
    await vi.waitFor(() => expectNothingHeld(throttle));
  });

  test('a timeout closes the connection', async () => {
    let closed!: () => void;
    const onClosed = new Promise<void>((resolve) => void (closed = resolve));
    const url = await serve((request) => void request.once('close', closed));
    const throttle = new Throttle(100, 1);
    await expect(createClient(throttle, { timeout: 0.05 })(url)).rejects.toThrow('The attempt exceeded its timeout');
    await onClosed;
    expectNothingHeld(throttle);
  });
});

describe('an unread clone of the refusal function', () => {
  const endless: RequestListener = (request, response) => {
    if (request.headers['x-retry'] === undefined)
      response.writeHead(429, { 'retry-after-ms': '10' }).write(Buffer.alloc(100_000));
    else response.end('ok');
  };
  /** Returns the headers of each attempt. From the second attempt on, they mark the request as a retry. */
  const createHeaderCounter = (): (() => Record<string, string>) => {
    let count = 0;
    return () => (count++ === 0 ? {} : { 'x-retry': '1' });
  };

  test('does not keep the connection open: undici', async () => {
    const url = await serve(endless);
    const [dispatcher, headers] = [createOneConnectionAgent(), createHeaderCounter()];
    const limitedFetch = throttledFetch(new Throttle(100, 1), {
      fetch: (input: string) => undiciFetch(input, { dispatcher, headers: headers() }),
      refusal: (response) => void response.clone(),
    });
    expect(await (await limitedFetch(url)).text()).toBe('ok');
  });

  test('does not keep the connection open: node-fetch', async () => {
    const url = await serve(endless);
    const [agent, headers] = [createOneSocketAgent(), createHeaderCounter()];
    const limitedFetch = throttledFetch(new Throttle(100, 1), {
      fetch: (input: string) => nodeFetch(input, { agent, headers: headers() }),
      refusal: (response) => void response.clone(),
    });
    expect(await (await limitedFetch(url)).text()).toBe('ok');
  });
});

describe('node-fetch', () => {
  test('a redirect pauses the origin that refused, with every client (FAULTS 38)', async () => {
    let refusals = 0;
    const b = await serve(
      (_request, response) =>
        void (refusals++ === 0
          ? response.writeHead(429, { 'retry-after-ms': '300' }).end('slow down')
          : response.end('ok')),
    );
    const a = await serve((_request, response) => void response.writeHead(302, { location: b }).end());
    for (const send of [nodeFetch, undiciFetch, fetch]) {
      refusals = 0;
      const gate = new KeyedThrottle(100, 1);
      const paused = vi.spyOn(gate, 'pause');
      const limitedFetch =
        send === nodeFetch
          ? throttledFetch(gate, { fetch: nodeFetch })
          : send === undiciFetch
            ? throttledFetch(gate, { fetch: undiciFetch })
            : throttledFetch(gate);
      const response = await limitedFetch(a);
      expect([response.status, await response.text(), paused.mock.calls]).toEqual([
        200,
        'ok',
        [[new URL(b).origin, 0.3]],
      ]);
    }
  });

  test('an abort in flight rejects with the reason and releases the slot', async () => {
    const url = await serve(() => {});
    const throttle = new Throttle(100, 1);
    const controller = new AbortController();
    const response = throttledFetch(throttle, { fetch: nodeFetch })(url, { signal: controller.signal });
    await pause(20);
    const reason = new Error('caller aborted');
    controller.abort(reason);
    await expect(response).rejects.toBe(reason);
    expectNothingHeld(throttle);
  });

  test.each<[string, string, RequestListener]>([
    ['HEAD', 'HEAD', (_request, response) => response.writeHead(200, { 'content-length': '5' }).end()],
    ['204', 'GET', (_request, response) => response.writeHead(204).end()],
    ['304', 'GET', (_request, response) => response.writeHead(304).end()],
  ])("hold: 'body' holds no slot for a response without a body: %s", async (_, method, listener) => {
    const url = await serve(listener);
    const throttle = new Throttle(100, 1);
    await throttledFetch(throttle, { fetch: nodeFetch, hold: 'body' })(url, { method });
    expectNothingHeld(throttle);
  });

  test.each<[string, (response: Awaited<ReturnType<typeof nodeFetch>>) => Promise<unknown>]>([
    ['text', (response) => response.text()],
    ['json', (response) => response.json()],
    ['blob', (response) => response.blob()],
    ['a pipeline', (response) => pipeline(response.body!, new PassThrough().resume())],
    [
      'for await',
      async (response) => {
        for await (const _ of response.body!);
      },
    ],
    ['a clone and the response', (response) => Promise.all([response.clone().text(), response.text()])],
    ['a destroyed body', async (response) => void (response.body as Readable).destroy()],
  ])("hold: 'body' releases after %s, and the response is complete", async (_, read) => {
    const url = await serve(
      (_request, response) =>
        void response
          .writeHead(200, 'Fine', { 'content-type': 'application/json', 'content-encoding': 'gzip' })
          .end(gzipSync('[1, 2]')),
    );
    const throttle = new Throttle(100, 1);
    const response = await throttledFetch(throttle, { fetch: nodeFetch, hold: 'body' })(url);
    expect([
      throttle.active,
      response.status,
      response.ok,
      response.statusText,
      response.url,
      response.headers.get('content-type'),
      response.bodyUsed,
    ]).toEqual([1, 200, true, 'Fine', url, 'application/json', false]);
    expect([response.constructor.name, Object.prototype.toString.call(response)]).toEqual([
      'Response',
      '[object Response]',
    ]);
    const value = await read(response);
    if (Array.isArray(value) && typeof value[0] === 'string') expect(value).toEqual(['[1, 2]', '[1, 2]']);
    await vi.waitFor(() => expectNothingHeld(throttle));
  });

  test('a gzipped refusal that node-fetch 2 decodes releases its socket', async () => {
    let count = 0;
    const url = await serve((_request, response) => {
      if (++count === 1) response.writeHead(429, { 'retry-after-ms': '10' }).write(gzipSync(Buffer.alloc(100_000)));
      else response.end(gzipSync('ok'));
    });
    const agent = createOneSocketAgent();
    const limitedFetch = throttledFetch(new Throttle(100, 1), {
      fetch: (input: string) => nodeFetch2(input, { agent, gzip: true }),
    });
    expect(await (await limitedFetch(url)).text()).toBe('ok');
  });
});

test('the copy of a response of undici is an instance of the Response of undici', async () => {
  const url = await serve((_request, response) => void response.end('ok'));
  const response = await throttledFetch(new Throttle(100, 1), { fetch: undiciFetch, hold: 'body' })(url);
  expect(response).toBeInstanceOf((await undiciFetch(url)).constructor);
  expect([response.url, await response.text()]).toEqual([url, 'ok']);
});

describe("hold: 'body' and garbage collection (FAULTS 24, undici#4364, deno#4735)", () => {
  const collect = async (): Promise<void> => {
    globalThis.gc!();
    await pause(5);
  };
  /** Expects the slot to be released within 200 garbage collections. */
  const expectReleased = async (throttle: Throttle): Promise<void> => {
    for (let round = 0; round < 200 && throttle.active > 0; round++) await collect();
    expectNothingHeld(throttle);
  };
  const expectHeld = async (throttle: Throttle): Promise<void> => {
    for (let round = 0; round < 10; round++) await collect();
    expect(throttle.active).toBe(1);
  };
  /** Bodies below and above the size of the connection's buffers, and a body without an end. */
  const bodies: [string, (response: ServerResponse) => void][] = [
    ['short', (response) => response.end('ok')],
    ['long', (response) => response.end(Buffer.alloc(1_000_000))],
    ['endless', (response) => void response.write(Buffer.alloc(100_000))],
  ];
  const senders: Record<string, (throttle: Throttle) => (url: string) => Promise<{ ok: boolean }>> = {
    'the global fetch': (throttle) => throttledFetch(throttle, { hold: 'body' }),
    'the global fetch, with a refusal function': (throttle) =>
      throttledFetch(throttle, { hold: 'body', refusal: (response) => response.status === 403 }),
    undici: (throttle) => throttledFetch(throttle, { hold: 'body', fetch: undiciFetch }),
    'node-fetch': (throttle) => throttledFetch(throttle, { hold: 'body', fetch: nodeFetch }),
  };

  describe.each(Object.entries(senders))('%s', (_, createSender) => {
    test.each(bodies)('a response of which only `ok` is read releases its slot: %s', async (length, respond) => {
      const closed = vi.fn();
      const url = await serve((request, response) => {
        request.socket.on('close', closed);
        respond(response);
      });
      const throttle = new Throttle(100, 1);
      const sendRequest = createSender(throttle);
      for (let round = 0; round < 3; round++) {
        await (async () => void (await sendRequest(url)).ok)();
        expect(throttle.active).toBe(1);
        await expectReleased(throttle);
      }
      if (length === 'endless') await vi.waitFor(() => expect(closed).toHaveBeenCalledTimes(3));
    });
  });

  /** Begins to read, and returns the only reference that the reading needs. */
  type KeepReference = (response: Response) => unknown;
  test.each<[string, KeepReference, (kept: unknown) => unknown]>([
    [
      'a reader',
      async (response) => {
        const reader = response.body!.getReader();
        await reader.read();
        return [reader];
      },
      (kept) => (kept as [ReadableStreamDefaultReader])[0].cancel(),
    ],
    ['the body', (response) => [response.body], (kept) => (kept as [ReadableStream])[0].cancel()],
    ['the response', (response) => [response], (kept) => (kept as [Response])[0].body!.cancel()],
    [
      'a clone',
      (response) => {
        const clone = response.clone();
        void response.body!.cancel();
        return [clone];
      },
      (kept) => void (kept as [Response])[0].body!.cancel(),
    ],
    ['the response, but not its clone', (response) => (response.clone(), [response]), undefined as never],
    ['the result of text()', (response) => [response.text()], undefined as never],
    [
      'a pending read',
      async (response) => {
        const reader = response.body!.getReader();
        await reader.read();
        return [reader.read()];
      },
      undefined as never,
    ],
    [
      'a pipe',
      (response) => [response.body!.pipeTo(new WritableStream({ write: () => pause(5) }))],
      undefined as never,
    ],
    ['a Node stream', (response) => [Readable.fromWeb(response.body as never).resume()], undefined as never],
  ])('a body that is read through %s holds its slot', async (name, keepReference, finish) => {
    const open: ServerResponse[] = [];
    const url = await serve((_request, response) => {
      open.push(response);
      response.write(Buffer.alloc(1_000));
    });
    const throttle = new Throttle(100, 1);
    const kept = await (async () => keepReference(await throttledFetch(throttle, { hold: 'body' })(url)))();
    await expectHeld(throttle);
    if (finish) await finish(kept);
    else {
      open[0]!.end('last');
      if (name.startsWith('the response')) await (kept as [Response])[0].text();
      await Promise.allSettled(kept as Promise<unknown>[]);
    }
    await expectReleased(throttle);
  });

  test.each<[string, (response: Awaited<ReturnType<typeof nodeFetch>>) => unknown]>([
    ['the body', (response) => [response.body]],
    ['the response', (response) => [response]],
    ['a clone', (response) => [response.clone(), (response.body as Readable).resume()]],
    ['the result of text()', (response) => [response.text()]],
    ['a pipe', (response) => [response.body!.pipe(new PassThrough()).resume()]],
  ])('a Node stream that is read through %s holds its slot', async (_, keepReference) => {
    const open: ServerResponse[] = [];
    const url = await serve((_request, response) => {
      open.push(response);
      response.write(Buffer.alloc(1_000));
    });
    const throttle = new Throttle(100, 1);
    const kept = (await (async () =>
      keepReference(await throttledFetch(throttle, { hold: 'body', fetch: nodeFetch })(url)))()) as unknown[];
    await expectHeld(throttle);
    open[0]!.end('last');
    const first = kept[0] as Readable & { text?(): Promise<string> };
    if (first.text) await first.text();
    else first.resume?.();
    await expectReleased(throttle);
  });

  test('without a FinalizationRegistry, reading to the end releases the slot', async () => {
    vi.stubGlobal('FinalizationRegistry', undefined);
    vi.resetModules();
    const { throttledFetch: reimported } = await import('headgate/fetch');
    const throttle = new Throttle(100, 1);
    expect(
      await (
        await reimported(throttle, { hold: 'body', fetch: async () => new Response('ok') })('http://a.example/')
      ).text(),
    ).toBe('ok');
    const body = Readable.from(['ok']);
    const response = await reimported(throttle, {
      hold: 'body',
      fetch: async (_url: string) => ({ status: 200, headers: new Headers(), body }),
    })('http://a.example/');
    expect(throttle.active).toBe(1);
    expect((await response.body.toArray()).join('')).toBe('ok');
    vi.unstubAllGlobals();
    await vi.waitFor(() => expectNothingHeld(throttle));
  });
});
