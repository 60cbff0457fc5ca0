/** The interceptor for undici, with the real package and a real server. */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { Readable, Writable } from 'node:stream';
import { KeyedThrottle, QueueFullError, Throttle, type ThrottleOptions } from 'headgate';
import { undiciThrottle, type UndiciThrottleOptions } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Agent, Client, type Dispatcher, fetch as undiciFetch, interceptors, MockAgent, Pool, request } from 'undici';
import { Latch, listen, stop, until } from '../support/http-client.js';

type Handler = (req: IncomingMessage, res: ServerResponse, count: number) => unknown;

async function serve(handler: Handler): Promise<{ url: string; bodies: string[] }> {
  const bodies: string[] = [];
  const server = http.createServer((req, res) => {
    let body = '';
    req.setEncoding('utf8').on('data', (text: string) => (body += text));
    req.on('end', () => handler(req, res, bodies.push(body)));
    req.on('error', () => {});
  });
  onTestFinished(() => stop(server));
  return { url: `http://127.0.0.1:${await listen(server)}`, bodies };
}

const refuseFirst =
  (refusals: number, headers: Record<string, string> = {}, status = 429): Handler =>
  (_req, res, count) => {
    if (count <= refusals) res.writeHead(status, headers).end('slow down');
    else res.end('ok');
  };

/** A throttle on a manual clock behind a dispatcher. */
function setUp(
  options: UndiciThrottleOptions = {},
  limits: [number, number] = [100, 0],
  throttleOptions: ThrottleOptions = {},
  make: () => Dispatcher = () => new Agent(),
): { clock: ManualClock; throttle: Throttle; dispatcher: Dispatcher } {
  vi.spyOn(Math, 'random').mockReturnValue(0);
  onTestFinished(() => void vi.restoreAllMocks());
  const clock = new ManualClock();
  const throttle = new Throttle(...limits, 1, { clock, ...throttleOptions });
  const inner = make();
  // MockAgent has no `destroy`.
  onTestFinished(() => (inner instanceof MockAgent ? inner.close() : inner.destroy()));
  return { clock, throttle, dispatcher: inner.compose(undiciThrottle(throttle, { clock, ...options })) };
}

const textOf = async (pending: Promise<Dispatcher.ResponseData>): Promise<[number, string]> => {
  const { statusCode, body } = await pending;
  return [statusCode, await body.text()];
};

/** Advances the clock until the promise settles. */
async function drive<T>(clock: ManualClock, pending: Promise<T>): Promise<T> {
  let settled = false;
  const mark = (): void => void (settled = true);
  pending.then(mark, mark);
  await until(() => {
    if (!settled && clock.pending > 0) void clock.advance(1);
    return settled;
  });
  return pending;
}

describe('a request', () => {
  test('takes a permit, and releases it when the headers have arrived', async () => {
    const latch = new Latch();
    const { url } = await serve((_req, res) => {
      res.write('first ');
      void latch.opened.then(() => res.end('last'));
    });
    const { throttle, dispatcher } = setUp({}, [100, 1]);
    const { body } = await request(url, { dispatcher });
    expect([throttle.active, throttle.tokens]).toEqual([0, 99]);
    latch.open();
    expect(await body.text()).toBe('first last');
  });

  test.each<[string, (body: Readable & { dump?(): Promise<void> }) => unknown]>([
    ['has been read', (body) => body.resume()],
    ['is destroyed', (body) => body.destroy()],
    ['is dumped', (body) => body.dump?.()],
  ])("with hold: 'body', holds its slot until the body %s", async (_how, end) => {
    const latch = new Latch();
    const { url } = await serve((_req, res) => {
      res.write('first ');
      void latch.opened.then(() => res.end('last'));
    });
    const { throttle, dispatcher } = setUp({ hold: 'body' }, [100, 1]);
    const { body } = await request(url, { dispatcher });
    body.on('error', () => {});
    await new Promise((resolve) => void setTimeout(resolve, 20));
    expect(throttle.active).toBe(1);
    void end(body);
    latch.open();
    await until(() => throttle.active === 0);
  });

  test('waits for its turn, in order, and no more run than the gate allows', async () => {
    let [running, most] = [0, 0];
    const order: string[] = [];
    const { url } = await serve((req, res) => {
      order.push(req.url!);
      most = Math.max(most, ++running);
      setTimeout(() => {
        running--;
        res.end('ok');
      }, 5);
    });
    const { throttle, dispatcher } = setUp({ hold: 'body' }, [100, 2]);
    await Promise.all(Array.from({ length: 10 }, (_, index) => textOf(request(`${url}/${index}`, { dispatcher }))));
    expect([most, order.length, throttle.active]).toEqual([2, 10, 0]);
    expect(order.slice(0, 2).toSorted()).toEqual(['/0', '/1']);
  });

  test.each(['fetch of undici', 'fetch of Node', 'stream', 'Pool', 'Client', 'POST'])('%s works', async (kind) => {
    const { url, bodies } = await serve((_req, res) => res.setHeader('x-own', 'a').end('ok'));
    const make = { Pool: () => new Pool(url), Client: () => new Client(url) }[kind] ?? (() => new Agent());
    const { throttle, dispatcher } = setUp({ hold: 'body' }, [100, 1], {}, make);
    if (kind === 'fetch of undici') expect(await (await undiciFetch(url, { dispatcher })).text()).toBe('ok');
    else if (kind === 'fetch of Node')
      expect(await (await fetch(url, { dispatcher } as unknown as RequestInit)).text()).toBe('ok');
    else if (kind === 'stream') {
      const chunks: Buffer[] = [];
      await dispatcher.stream(
        { origin: url, path: '/', method: 'GET' },
        () => new Writable({ write: (chunk: Buffer, _encoding, done) => (chunks.push(chunk), done()) }),
      );
      expect(Buffer.concat(chunks).toString()).toBe('ok');
    } else if (kind === 'POST') {
      expect(await textOf(request(url, { dispatcher, method: 'POST', body: 'sent' }))).toEqual([200, 'ok']);
      expect(bodies).toEqual(['sent']);
    } else {
      const { body, headers } = await dispatcher.request({ path: '/', method: 'GET' });
      expect([headers['x-own'], await body.text()]).toEqual(['a', 'ok']);
    }
    await until(() => throttle.active === 0);
    expect(throttle.tokens).toBe(99);
  });

  test('with an early hint and a final response, counts once', async () => {
    const { url } = await serve((_req, res) => {
      res.writeProcessing();
      res.end('ok');
    });
    const { throttle, dispatcher } = setUp({}, [100, 1]);
    expect(await textOf(request(url, { dispatcher }))).toEqual([200, 'ok']);
    expect(throttle.tokens).toBe(99);
  });

  test('an upgrade holds its slot until the socket is closed', async () => {
    const server = http.createServer();
    server.on('upgrade', (_req, socket) =>
      socket.write('HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n'),
    );
    const port = await listen(server);
    const { throttle, dispatcher } = setUp({ hold: 'body' }, [100, 1], {}, () => new Pool(`http://127.0.0.1:${port}`));
    const { socket } = await dispatcher.upgrade({ path: '/', protocol: 'own' });
    expect(throttle.active).toBe(1);
    socket.destroy();
    await until(() => throttle.active === 0);
    server.close();
  });
});

describe('a refusal', () => {
  test('pauses the gate for the stated wait, and the request is sent again', async () => {
    const { url, bodies } = await serve(refuseFirst(1, { 'retry-after': '20' }));
    const { clock, throttle, dispatcher } = setUp({}, [100, 1]);
    const pause = vi.spyOn(throttle, 'pause');
    const pending = textOf(request(url, { dispatcher, method: 'POST', body: 'again' }));
    await until(() => throttle.pausedFor > 0);
    expect([throttle.active, throttle.tokens]).toEqual([0, 100]);
    expect(await drive(clock, pending)).toEqual([200, 'ok']);
    expect([pause.mock.calls, bodies, clock.now()]).toEqual([[[20]], ['again', 'again'], 20]);
  });

  test('without a stated wait backs off; a 503 delays only its own request', async () => {
    const { url } = await serve(refuseFirst(1, {}, 503));
    const { clock, throttle, dispatcher } = setUp();
    const pause = vi.spyOn(throttle, 'pause');
    expect(await drive(clock, textOf(request(url, { dispatcher })))).toEqual([200, 'ok']);
    expect([pause.mock.calls, clock.now()]).toEqual([[], 1]);
  });

  test('after all retries goes to the caller, with its body', async () => {
    const { url, bodies } = await serve(refuseFirst(9, { 'retry-after': '1' }));
    const { clock, throttle, dispatcher } = setUp({ hold: 'body' }, [100, 1]);
    expect(await drive(clock, textOf(request(url, { dispatcher })))).toEqual([429, 'slow down']);
    expect([bodies.length, throttle.active, throttle.tokens]).toEqual([3, 0, 100]);
  });

  test('of a stream goes to the caller at once', async () => {
    const { url, bodies } = await serve(refuseFirst(9, { 'retry-after': '1' }));
    const { throttle, dispatcher } = setUp();
    const body = Readable.from(['one', 'two']);
    expect(await textOf(request(url, { dispatcher, method: 'POST', body }))).toEqual([429, 'slow down']);
    expect([bodies, throttle.pausedFor]).toEqual([['onetwo'], 1]);
  });

  test('with a body that never ends does not delay the next attempt', async () => {
    const { url } = await serve((_req, res, count) => {
      if (count > 1) return res.end('ok');
      res.writeHead(429, { 'retry-after': '1' });
      const write = (): void => {
        while (!res.destroyed && res.write(Buffer.alloc(20_000)));
        if (!res.destroyed) res.once('drain', write);
      };
      return write();
    });
    const { clock, dispatcher } = setUp();
    expect(await drive(clock, textOf(request(url, { dispatcher })))).toEqual([200, 'ok']);
  });

  test.each<[string, UndiciThrottleOptions['refusal'], number, [number, string]]>([
    ['true', ({ status }) => status === 403, 2, [200, 'ok']],
    ['a wait', ({ headers }) => Number(headers.get('X-Wait')), 2, [200, 'ok']],
    ['a promise', async ({ status }) => status === 403, 2, [200, 'ok']],
    ['false', () => false, 1, [403, 'slow down']],
  ])('is decided by a refusal function that returns %s', async (_what, refusal, sent, expected) => {
    const { url, bodies } = await serve(refuseFirst(1, { 'x-wait': '3' }, 403));
    const { clock, dispatcher } = setUp({
      refusal: (response, given) => (bodies.length > 1 ? false : refusal!(response, given)),
    });
    expect(await drive(clock, textOf(request(`${url}/p?q=1`, { dispatcher })))).toEqual(expected);
    expect(bodies).toHaveLength(sent);
  });

  test('of a burst pauses once, and only its own origin', async () => {
    const [slow, fast] = [await serve(refuseFirst(3)), await serve(refuseFirst(0))];
    vi.spyOn(Math, 'random').mockReturnValue(0);
    onTestFinished(() => void vi.restoreAllMocks());
    const clock = new ManualClock();
    const keyed = new KeyedThrottle(100, 0, 1, { clock });
    const pause = vi.spyOn(keyed, 'pause');
    const agent = new Agent();
    onTestFinished(() => agent.destroy());
    const dispatcher = agent.compose(undiciThrottle(keyed, { clock }));
    const pending = Promise.all([1, 2, 3].map(() => textOf(request(slow.url, { dispatcher }))));
    expect(await textOf(request(fast.url, { dispatcher }))).toEqual([200, 'ok']);
    expect(await drive(clock, pending)).toEqual([1, 2, 3].map(() => [200, 'ok']));
    expect(pause.mock.calls[0]).toEqual([slow.url, 1]);
    expect(pause.mock.calls.every(([key]) => key === slow.url)).toBe(true);
  });
});

describe('an abort', () => {
  test.each(['request', 'fetch of undici', 'fetch of Node'])('of a %s that queues leaves the queue', async (kind) => {
    const { url, bodies } = await serve((_req, res) => res.end('ok'));
    const { throttle, dispatcher } = setUp({}, [100, 1]);
    const held = await throttle.acquire();
    const controller = new AbortController();
    const { signal } = controller;
    const pending: Promise<unknown> =
      kind === 'request'
        ? request(url, { dispatcher, signal })
        : kind === 'fetch of undici'
          ? undiciFetch(url, { dispatcher, signal })
          : fetch(url, { dispatcher, signal } as unknown as RequestInit);
    const failure = pending.catch((error: unknown) => error);
    await until(() => throttle.waiting === 1);
    controller.abort();
    expect(await failure).toMatchObject({ name: 'AbortError' });
    expect([throttle.waiting, throttle.tokens]).toEqual([0, 99]);
    held.release();
    expect([throttle.active, bodies.length]).toEqual([0, 0]);
  });

  test('before the call sends nothing', async () => {
    const { url, bodies } = await serve((_req, res) => res.end('ok'));
    const { throttle, dispatcher } = setUp({}, [100, 1]);
    await expect(request(url, { dispatcher, signal: AbortSignal.abort() })).rejects.toThrow();
    expect([throttle.active, throttle.waiting, throttle.tokens, bodies.length]).toEqual([0, 0, 100, 0]);
  });

  test.each(['headers', 'body'] as const)('before the %s frees the slot', async (stage) => {
    const { url } = await serve((_req, res) => void (stage === 'body' && res.write('first')));
    const { throttle, dispatcher } = setUp({ hold: 'body' }, [100, 1]);
    const controller = new AbortController();
    const pending = request(url, { dispatcher, signal: controller.signal });
    pending.catch(() => {});
    if (stage === 'body') (await pending).body.on('error', () => {});
    else await until(() => throttle.active === 1);
    await new Promise((resolve) => void setTimeout(resolve, 20));
    controller.abort();
    if (stage === 'headers') await expect(pending).rejects.toThrow('abort');
    await until(() => throttle.active === 0);
  });

  test('during the wait after a refusal ends the request', async () => {
    const { url, bodies } = await serve(refuseFirst(9, { 'retry-after': '30' }));
    const { throttle, dispatcher } = setUp({}, [100, 1]);
    const controller = new AbortController();
    const pending = request(url, { dispatcher, signal: controller.signal });
    pending.catch(() => {});
    await until(() => throttle.waiting === 1);
    controller.abort();
    await expect(pending).rejects.toThrow('abort');
    expect([throttle.waiting, bodies.length]).toEqual([0, 1]);
  });
});

describe('an error', () => {
  test('of the gate rejects the request', async () => {
    const { url } = await serve(refuseFirst(0));
    const { throttle, dispatcher } = setUp({}, [100, 1], { maxQueue: 1 });
    await throttle.acquire();
    void request(url, { dispatcher }).catch(() => {});
    await expect(request(url, { dispatcher })).rejects.toBeInstanceOf(QueueFullError);
    throttle.close();
    await expect(request(url, { dispatcher })).rejects.toMatchObject({ code: 'ERR_THROTTLE_CLOSED' });
  });

  test('of the wait rejects the request', async () => {
    const { url } = await serve(refuseFirst(0));
    const { throttle, dispatcher } = setUp({ wait: 0 }, [100, 1]);
    await throttle.acquire();
    await expect(request(url, { dispatcher })).rejects.toMatchObject({ code: 'ERR_THROTTLE_TIMEOUT' });
  });

  test.each<[string, UndiciThrottleOptions]>([
    ['cost', { cost: () => Promise.reject(new Error('broken')) }],
    [
      'refusal',
      {
        refusal: () => {
          throw new Error('broken');
        },
      },
    ],
  ])('of the function %s rejects the request, and frees the slot', async (_name, options) => {
    const { url } = await serve(refuseFirst(0));
    const { throttle, dispatcher } = setUp({ hold: 'body', ...options }, [100, 1]);
    await expect(request(url, { dispatcher })).rejects.toThrow('broken');
    expect(throttle.active).toBe(0);
  });

  test('of the connection rejects the request, and frees the slot', async () => {
    const { throttle, dispatcher } = setUp({ hold: 'body' }, [100, 1]);
    await expect(request('http://127.0.0.1:1', { dispatcher })).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    expect(throttle.active).toBe(0);
    const { url } = await serve((_req, res) => void (res.write('first'), setTimeout(() => res.destroy(), 10)));
    const { body } = await request(url, { dispatcher });
    await expect(body.text()).rejects.toThrow();
    expect(throttle.active).toBe(0);
  });

  test.each(['onRequestStart', 'onResponseStart', 'onResponseData', 'onResponseEnd'] as const)(
    'of the handler in %s reaches its onResponseError once, and frees the slot',
    async (name) => {
      const { url } = await serve(refuseFirst(0));
      const { throttle, dispatcher } = setUp({ hold: 'body' }, [100, 1]);
      const broken = new Error('broken');
      const errors: unknown[] = [];
      const handler: Dispatcher.DispatchHandler = {
        onRequestStart() {},
        onResponseStart() {},
        onResponseData() {},
        onResponseEnd() {},
        [name]() {
          throw broken;
        },
        onResponseError: (_controller, error) => void errors.push(error),
      };
      expect(dispatcher.dispatch({ origin: url, path: '/', method: 'GET' }, handler)).toBe(true);
      await until(() => errors.length > 0 && throttle.active === 0);
      await new Promise((resolve) => void setTimeout(resolve, 20));
      expect(errors).toEqual([broken]);
    },
  );

  test('a permit that is lost aborts its request', async () => {
    const { url } = await serve((_req, res) => void res.write('first'));
    const { clock, throttle, dispatcher } = setUp({ hold: 'body' }, [100, 1], { ttl: 5 });
    const { body } = await request(url, { dispatcher });
    const text = body.text();
    text.catch(() => {});
    await clock.advance(5);
    await expect(text).rejects.toMatchObject({ code: 'ERR_THROTTLE_PERMIT_EXPIRED' });
    expect(throttle.active).toBe(0);
  });
});

test("undici's own retry, composed afterwards, takes a permit for each attempt", async () => {
  const { url, bodies } = await serve((_req, res, count) => res.writeHead(count === 1 ? 500 : 200).end('ok'));
  const { throttle, dispatcher } = setUp({ hold: 'body' }, [100, 1]);
  const retrying = dispatcher.compose(interceptors.retry({ minTimeout: 1 }));
  expect(await textOf(request(url, { dispatcher: retrying }))).toEqual([200, 'ok']);
  expect([bodies.length, throttle.tokens, throttle.active]).toEqual([2, 98, 0]);
});

test('a response of MockAgent, which ignores a pause, arrives whole and in order', async () => {
  const make = (): Dispatcher => {
    const agent = new MockAgent();
    agent.disableNetConnect();
    const pool = agent.get('http://mock.example');
    pool.intercept({ path: '/' }).reply(429, 'no', { headers: { 'retry-after': '1' } });
    pool.intercept({ path: '/' }).reply(200, 'ok');
    return agent;
  };
  const { clock, dispatcher } = setUp({ refusal: async () => undefined }, [100, 1], {}, make);
  expect(await drive(clock, textOf(request('http://mock.example/', { dispatcher })))).toEqual([200, 'ok']);
});

test.each<[unknown, unknown, string]>([
  [undefined, {}, 'gate must be a Gate or a KeyedGate, received undefined'],
  [new Throttle(1), null, 'options must be an object, received null'],
  [new Throttle(1), { key: 'a' }, 'key must be undefined for a gate without keys, received "a"'],
  [new Throttle(1), { wait: -1 }, 'wait must be a number >= 0, received -1'],
  [new Throttle(1), { hold: 'x' }, 'hold must be "headers" or "body", received "x"'],
  [new Throttle(1), { refusal: 1 }, 'refusal must be a function, received 1'],
])('undiciThrottle(%o, %o) throws', (gate, options, message) => {
  expect(() => undiciThrottle(gate as Throttle, options as UndiciThrottleOptions)).toThrow(message);
});
