/** Responses of clients such as node-fetch, whose body is a Node stream, and their garbage collection. */
import { EventEmitter } from 'node:events';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { clonesOf, discard, passOn, releaseWhenRead } from '../../src/web/response-body.js';

/** A Node stream that emits only the events of the test. */
class FakeStream extends EventEmitter {
  readonly destroy = vi.fn();
  readonly resume = vi.fn();
}

/** A response of node-fetch: its methods need the response itself as `this`. */
class NodeFetchResponse {
  readonly status = 200;
  readonly bodyUsed = false;
  readonly body: EventEmitter;
  readonly #text = 'ok';

  constructor(body: EventEmitter) {
    this.body = body;
  }

  text(): string {
    return this.#text;
  }
}

const createResponse = (body: EventEmitter = new FakeStream()): Response =>
  new NodeFetchResponse(body) as unknown as Response;

afterEach(() => void vi.unstubAllGlobals());

describe('a response with a Node stream', () => {
  test.each(['end', 'close', 'error'])('is released at the event %s, once', (event) => {
    const body = new FakeStream();
    const release = vi.fn();
    releaseWhenRead(createResponse(body), release);
    expect(release).not.toHaveBeenCalled();
    body.emit(event);
    expect(release).toHaveBeenCalledTimes(1);
    for (const later of ['end', 'error', 'close']) body.emit(later);
    expect(release).toHaveBeenCalledTimes(1);
  });

  test('has the properties and methods of the original', () => {
    const original = createResponse();
    const response = releaseWhenRead(original, () => {});
    expect([response.status, response.body]).toEqual([200, original.body]);
    expect(response.text()).toBe('ok');
    expect(response.constructor).toBe(NodeFetchResponse);
    expect(response).toBeInstanceOf(NodeFetchResponse);
  });

  test('is released immediately if its request was a HEAD', () => {
    const release = vi.fn();
    const original = createResponse();
    expect(releaseWhenRead(original, release, true)).toBe(original);
    expect(release).toHaveBeenCalledTimes(1);
  });
});

describe('a discarded body', () => {
  test('that is a Node stream is destroyed, and so are its sources', async () => {
    const [body, source] = [new FakeStream(), new FakeStream()];
    await discard({ body });
    expect([body.destroy.mock.calls.length, body.resume.mock.calls.length]).toEqual([1, 0]);
    body.emit('unpipe', source);
    expect(source.destroy).toHaveBeenCalledTimes(1);
    // An emitter throws the error of an `error` event that has no listener.
    body.emit('error', new Error('aborted'));
    source.emit('error', new Error('aborted'));
  });

  test('whose source is no stream, or has neither `destroy` nor `resume`, causes no error', async () => {
    const body = new FakeStream();
    await discard({ body });
    for (const source of [undefined, {}, new EventEmitter()]) body.emit('unpipe', source);
  });

  test.each([undefined, null, {}, { body: null }, { body: 'text' }])('%j needs no action', async (response) => {
    await expect(discard(response as { body?: unknown })).resolves.toBeUndefined();
  });
});

describe('the clones of a response', () => {
  test('are recorded in the order in which they are made', () => {
    const response = new Response('ok');
    const clones = clonesOf(response);
    expect(clones).toEqual([]);
    const made = [response.clone(), response.clone()];
    expect(clones).toEqual(made);
  });

  test('are not recorded for a response without `clone`, or a frozen response', () => {
    expect(clonesOf(createResponse())).toEqual([]);
    const frozen = Object.freeze(new Response('ok'));
    const clones = clonesOf(frozen);
    frozen.clone();
    expect(clones).toEqual([]);
  });

  test('are recorded by a method that another library may assign or redefine', () => {
    const response = new Response('ok');
    clonesOf(response);
    const clone = (): Response => response;
    response.clone = clone;
    expect(response.clone).toBe(clone);
    Object.defineProperty(response, 'clone', { get: () => undefined });
    expect(response.clone).toBeUndefined();
  });
});

test('passOn needs no watcher', async () => {
  const release = vi.fn();
  const stream = passOn(new Response('ok').body!, release);
  expect(await new Response(stream).text()).toBe('ok');
  expect(release).toHaveBeenCalledTimes(1);
});

test.each([
  ['no constructor', undefined],
  ['a constructor without a prototype', () => {}],
])('the copy of a response with %s is a Response', async (_, constructor) => {
  const { body, headers } = new Response('ok', { headers: { 'x-id': '7' } });
  const original = { body, headers, bodyUsed: false, status: 201, ok: true, constructor };
  const copy = releaseWhenRead(original as unknown as Response, () => {});
  expect(copy).toBeInstanceOf(Response);
  expect([copy.status, copy.headers.get('x-id'), await copy.text()]).toEqual([201, '7', 'ok']);
});

describe('an unread response that is garbage collected', () => {
  /** Collects garbage until `condition` returns true, for at most 200 rounds. */
  const collectUntil = async (condition: () => boolean): Promise<void> => {
    for (let round = 0; round < 200 && !condition(); round++) {
      globalThis.gc!();
      await new Promise((resolve) => void setTimeout(resolve, 1));
    }
    expect(condition()).toBe(true);
  };

  test('is released and its Node stream destroyed, unless its body or a method was used', async () => {
    const uses: Record<string, (response: Response) => unknown> = {
      nothing: () => undefined,
      status: (response) => response.status,
      constructor: (response: Response) => response.constructor,
      body: (response) => response.body,
      text: (response) => response['text'],
    };
    const bodies = new Map(Object.keys(uses).map((name) => [name, new FakeStream()]));
    const released = new Set<string>();
    for (const [name, body] of bodies) uses[name]?.(releaseWhenRead(createResponse(body), () => released.add(name)));
    await collectUntil(() => released.size === 3);
    expect(released).toEqual(new Set(['nothing', 'status', 'constructor']));
    const destroyed = [...bodies].filter(([, body]) => body.destroy.mock.calls.length > 0).map(([name]) => name);
    expect(new Set(destroyed)).toEqual(released);
    // The streams are needed until here: the collection of a response must not depend on its stream.
    for (const body of bodies.values()) body.emit('close');
    expect(released.size).toBe(5);
  });

  test('is released and the source of its web stream cancelled', async () => {
    const [release, cancel] = [vi.fn(), vi.fn()];
    const source = new ReadableStream<Uint8Array>({ cancel });
    releaseWhenRead(new Response(source), release);
    await collectUntil(() => release.mock.calls.length > 0);
    expect(cancel).toHaveBeenCalledTimes(1);
  });

  test('is only released at its end where the platform has no FinalizationRegistry', async () => {
    vi.resetModules();
    const fresh = await import('../../src/web/response-body.js');
    vi.stubGlobal('FinalizationRegistry', undefined);
    const release = vi.fn();
    const response = fresh.releaseWhenRead(new Response('ok'), release);
    expect(await response.text()).toBe('ok');
    expect(release).toHaveBeenCalledTimes(1);
  });
});
