/** A response that calls back when its body has ended, and has the metadata and the bytes of the original. */
import { once } from 'node:events';
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { discard, releaseWhenRead } from '../../src/web/response-body.js';

const servers: Server[] = [];
const serve = async (listener: RequestListener): Promise<string> => {
  const server = createServer(listener).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** A stream whose chunks come from the test, with the number of pulls and the reason of the cancellation. */
const createSource = (): {
  stream: ReadableStream<Uint8Array>;
  controller: ReadableStreamDefaultController<Uint8Array>;
  pulls: () => number;
  cancelled: () => unknown;
} => {
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  let pulls = 0;
  let cancelled: unknown;
  const stream = new ReadableStream<Uint8Array>(
    {
      start: (created) => void (controller = created),
      pull: () => void pulls++,
      cancel: (reason) => void (cancelled = reason),
    },
    { highWaterMark: 0 },
  );
  return { stream, controller, pulls: () => pulls, cancelled: () => cancelled };
};
const nextTurn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
const bytes = (...values: number[]): Uint8Array<ArrayBuffer> => new Uint8Array(values);

describe('release', () => {
  test('is called when the body has been read to the end, not earlier', async () => {
    const { stream, controller } = createSource();
    const release = vi.fn();
    const reader = releaseWhenRead(new Response(stream), release).body!.getReader();
    controller.enqueue(bytes(1));
    expect(await reader.read()).toEqual({ done: false, value: bytes(1) });
    await nextTurn();
    expect(release).not.toHaveBeenCalled();
    controller.close();
    expect(await reader.read()).toEqual({ done: true, value: undefined });
    expect(release).toHaveBeenCalledOnce();
  });

  test.each<[string, (response: Response) => Promise<unknown>]>([
    ['text', (response) => response.text()],
    ['json', (response) => response.json()],
    ['arrayBuffer', (response) => response.arrayBuffer()],
    ['blob', (response) => response.blob()],
    [
      'for await',
      async (response) => {
        for await (const _ of response.body!);
      },
    ],
    ['pipeTo', (response) => response.body!.pipeTo(new WritableStream())],
    ['text of a clone and of the original', (response) => Promise.all([response.clone().text(), response.text()])],
    [
      'text of a clone of a clone, and cancellation of the others',
      async (response) => {
        const clone = response.clone();
        await clone.clone().text();
        await Promise.all([response.body!.cancel(), clone.body!.cancel()]);
      },
    ],
  ])('has been called exactly once after %s', async (_, read) => {
    const release = vi.fn();
    await read(releaseWhenRead(new Response('[1, 2]'), release));
    expect(release).toHaveBeenCalledOnce();
    await nextTurn();
    expect(release).toHaveBeenCalledOnce();
  });

  test('is called when the body is cancelled, and the source receives the reason', async () => {
    const { stream, cancelled } = createSource();
    const release = vi.fn();
    await releaseWhenRead(new Response(stream), release).body!.cancel('enough');
    expect(release).toHaveBeenCalledOnce();
    expect(cancelled()).toBe('enough');
  });

  test('is called when the body is cancelled while a read is pending', async () => {
    const { stream, cancelled } = createSource();
    const release = vi.fn();
    const reader = releaseWhenRead(new Response(stream), release).body!.getReader();
    const pending = reader.read();
    await nextTurn();
    await reader.cancel('enough');
    expect(await pending).toEqual({ done: true, value: undefined });
    await nextTurn();
    expect(release).toHaveBeenCalledOnce();
    expect(cancelled()).toBe('enough');
  });

  test('is called when the cancellation fails or never settles', async () => {
    const release = vi.fn();
    const failing = new ReadableStream({ cancel: () => Promise.reject(new Error('no')) });
    await expect(releaseWhenRead(new Response(failing), release).body!.cancel()).rejects.toThrow('no');
    expect(release).toHaveBeenCalledOnce();
    const endless = new ReadableStream({ cancel: () => new Promise(() => {}) });
    void releaseWhenRead(new Response(endless), release).body!.cancel();
    await nextTurn();
    expect(release).toHaveBeenCalledTimes(2);
  });

  test('is called when the body fails, and the reader receives the error', async () => {
    const { stream, controller } = createSource();
    const release = vi.fn();
    const text = releaseWhenRead(new Response(stream), release).text();
    await nextTurn();
    const error = new Error('connection lost');
    controller.error(error);
    await expect(text).rejects.toBe(error);
    expect(release).toHaveBeenCalledOnce();
  });

  test('is called when the body fails without a reader', async () => {
    const { stream, controller } = createSource();
    const release = vi.fn();
    const response = releaseWhenRead(new Response(stream), release);
    const error = new Error('connection lost');
    controller.error(error);
    await nextTurn();
    expect(release).toHaveBeenCalledOnce();
    await expect(response.text()).rejects.toBe(error);
    await nextTurn();
    expect(release).toHaveBeenCalledOnce();
  });

  test.each<[string, () => Response]>([
    ['no body', () => new Response(null)],
    ['204', () => new Response(null, { status: 204 })],
    ['205', () => new Response(null, { status: 205 })],
    ['304', () => new Response(null, { status: 304 })],
    ['an error response', () => Response.error()],
    ['a redirect', () => Response.redirect('https://example.com/')],
    ['101', () => Object.defineProperty(new Response(null), 'status', { value: 101 })],
    [
      'a locked body',
      () => {
        const response = new Response('x');
        response.body!.getReader();
        return response;
      },
    ],
  ])('is called immediately for %s, and the original is returned', (_, make) => {
    const release = vi.fn();
    const response = make();
    expect(releaseWhenRead(response, release)).toBe(response);
    expect(release).toHaveBeenCalledOnce();
  });

  test('is called immediately for a body that was read already, in whole or in part', async () => {
    const release = vi.fn();
    const response = new Response('x');
    await response.text();
    expect(releaseWhenRead(response, release)).toBe(response);
    expect(release).toHaveBeenCalledOnce();
    const partlyRead = new Response('x');
    const reader = partlyRead.body!.getReader();
    await reader.read();
    reader.releaseLock();
    expect(releaseWhenRead(partlyRead, release)).toBe(partlyRead);
    expect(release).toHaveBeenCalledTimes(2);
  });

  test('is called exactly once for an empty body', async () => {
    const release = vi.fn();
    expect(await releaseWhenRead(new Response(''), release).text()).toBe('');
    expect(release).toHaveBeenCalledOnce();
  });
});

describe('the response', () => {
  test('pulls a chunk only when its reader requests one', async () => {
    const { stream, controller, pulls } = createSource();
    const response = releaseWhenRead(new Response(stream), () => {});
    await nextTurn();
    expect(pulls()).toBe(0);
    const reader = response.body!.getReader();
    for (let read = 1; read <= 3; read++) {
      const chunk = reader.read();
      await nextTurn();
      expect(pulls()).toBe(read);
      controller.enqueue(bytes(read));
      expect((await chunk).value).toEqual(bytes(read));
      await nextTurn();
      expect(pulls()).toBe(read);
    }
  });

  test('has every byte, in the chunks of the original', async () => {
    const chunks = Array.from({ length: 50 }, (_, index) => crypto.getRandomValues(new Uint8Array(index * 37 + 1)));
    const createResponse = (): Response =>
      new Response(
        new ReadableStream({
          start(controller) {
            for (const chunk of chunks) controller.enqueue(chunk);
            controller.close();
          },
        }),
      );
    const seen: Uint8Array[] = [];
    for await (const chunk of releaseWhenRead(createResponse(), () => {}).body!) seen.push(chunk);
    expect(seen).toEqual(chunks);
    const whole = Buffer.from(await releaseWhenRead(createResponse(), () => {}).arrayBuffer());
    expect(whole.equals(Buffer.concat(chunks))).toBe(true);
  });

  test('keeps the status, the status text and the headers, and separate Set-Cookie fields', () => {
    const headers = new Headers([
      ['content-type', 'text/x'],
      ['x-a', '1'],
      ['set-cookie', 'a=1; Path=/'],
      ['set-cookie', 'b=2, c'],
    ]);
    const original = new Response('x', { status: 418, statusText: "I'm a teapot", headers });
    const response = releaseWhenRead(original, () => {});
    expect(response).toBeInstanceOf(Response);
    expect([response.status, response.statusText, response.ok, response.bodyUsed]).toEqual([
      418,
      "I'm a teapot",
      false,
      false,
    ]);
    expect([...response.headers]).toEqual([...original.headers]);
    expect(response.headers.getSetCookie()).toEqual(['a=1; Path=/', 'b=2, c']);
  });

  test('has no content type if the original has none', () => {
    const bare = new Response(bytes(1));
    expect([...releaseWhenRead(bare, () => {}).headers]).toEqual([]);
  });

  test('keeps statuses and status texts that the constructor rejects', async () => {
    for (const [name, value] of [
      ['status', 999],
      ['status', 204],
      ['status', 0],
      ['statusText', 'zażółć'],
    ] as const) {
      const original = Object.defineProperty(new Response('hello', { headers: { 'x-a': '1' } }), name, { value });
      Object.defineProperty(original, 'ok', { value: false });
      const release = vi.fn();
      const response = releaseWhenRead(original, release);
      const clone = response.clone();
      expect([response[name], response.ok, clone[name], response.headers.get('x-a')]).toEqual([
        value,
        false,
        value,
        '1',
      ]);
      expect(release).not.toHaveBeenCalled();
      expect(await Promise.all([response.text(), clone.text()])).toEqual(['hello', 'hello']);
      expect(release).toHaveBeenCalledOnce();
    }
  });

  test('has the class of the original, unless its constructor has other parameters', async () => {
    class Plain extends Response {}
    class Json extends Response {
      constructor(value: unknown) {
        super(JSON.stringify(value));
      }
    }
    for (const [original, ExpectedClass] of [
      [new Plain('"hello"'), Plain],
      [new Json('hello'), Response],
    ] as const) {
      const release = vi.fn();
      const response = releaseWhenRead(original, release);
      expect(response.constructor).toBe(ExpectedClass);
      expect(await response.text()).toBe('"hello"');
      expect(release).toHaveBeenCalledOnce();
    }
  });

  test('keeps url, redirected and type, as do its clones', async () => {
    const url = await serve((request, response) => {
      if (request.url === '/from') response.writeHead(302, { location: '/to' }).end();
      else
        response
          .writeHead(
            200,
            'Fine',
            [
              ['set-cookie', 'a=1'],
              ['set-cookie', 'b=2'],
            ].flat(),
          )
          .end('there');
    });
    const original = await fetch(`${url}/from`);
    const metadataOf = (response: Response): unknown[] => [
      response.url,
      response.redirected,
      response.type,
      response.status,
      response.statusText,
      response.ok,
      [...response.headers],
    ];
    const expected = metadataOf(original);
    expect(expected.slice(0, 5)).toEqual([`${url}/to`, true, 'basic', 200, 'Fine']);
    const release = vi.fn();
    const response = releaseWhenRead(original, release);
    const clone = response.clone();
    const another = clone.clone();
    expect([response, clone, another].map(metadataOf)).toEqual([expected, expected, expected]);
    expect(await Promise.all([response, clone, another].map((each) => each.text()))).toEqual([
      'there',
      'there',
      'there',
    ]);
    expect(release).toHaveBeenCalledOnce();
    expect(() => response.clone()).toThrow(TypeError);
  });

  test('allows its url and clone to be redefined', () => {
    const other = new Response();
    const response = releaseWhenRead(
      Object.defineProperty(new Response('hello'), 'url', { value: 'http://there/' }),
      () => {},
    );
    expect(response.url).toBe('http://there/');
    response.clone = () => other;
    expect(response.clone()).toBe(other);
    Object.defineProperties(response, { url: { value: 'http://elsewhere/' }, clone: { get: () => () => response } });
    expect([response.url, response.clone()]).toEqual(['http://elsewhere/', response]);
  });
});

describe('a body from a real server', () => {
  test('a cancelled body releases the permit and closes the connection', async () => {
    let sent!: ServerResponse;
    const url = await serve((_, response) => {
      sent = response;
      response.write('first');
    });
    const release = vi.fn();
    const response = releaseWhenRead(await fetch(url), release);
    const closed = once(sent, 'close');
    await response.body!.cancel();
    expect(release).toHaveBeenCalledOnce();
    await closed;
  });

  test('releases when the server closes the connection early', async () => {
    const url = await serve((_, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('first', () => setTimeout(() => response.destroy(), 20));
    });
    const release = vi.fn();
    const response = releaseWhenRead(await fetch(url), release);
    await expect(response.text()).rejects.toThrow();
    expect(release).toHaveBeenCalledOnce();
  });

  test('releases when the signal aborts, without a reader', async () => {
    const url = await serve((_, response) => void response.write('first'));
    const release = vi.fn();
    const controller = new AbortController();
    const response = releaseWhenRead(await fetch(url, { signal: controller.signal }), release);
    controller.abort(new Error('caller aborted'));
    await vi.waitFor(() => expect(release).toHaveBeenCalledOnce());
    await expect(response.text()).rejects.toThrow('caller aborted');
  });
});

test('a discarded Node stream without `destroy` is read to its end', async () => {
  const body = { on: vi.fn(), resume: vi.fn() };
  await discard({ body });
  expect(body.resume).toHaveBeenCalledTimes(1);
  // Without a listener, an error of the stream would end the process.
  expect(body.on).toHaveBeenCalledWith('error', expect.any(Function));
  await discard({ body: { on: vi.fn() } });
});
