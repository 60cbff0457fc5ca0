/** The options `wait` and `timeout`, and permits that are lost: what bounds a request in time. */
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { KeyedThrottle, Throttle } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { setUp, take } from '../support/support.js';
import {
  expectNothingHeld,
  FakeUpstream,
  refusal,
  registerHooks,
  retryAfter,
  setUpFetch,
  URL_A,
} from './fake-upstream.js';

registerHooks();

/** A fetch that settles only when its signal aborts, and the signals of its calls. */
const hanging = (): { fetch: typeof fetch; signals: AbortSignal[] } => {
  const signals: AbortSignal[] = [];
  const fetch: typeof globalThis.fetch = (_, init) =>
    new Promise((_resolve, reject) => {
      const signal = init!.signal!;
      signals.push(signal);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  return { fetch, signals };
};

const rejection = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => expect.fail('resolved'),
    (error: Error) => error,
  );

describe('wait', () => {
  test('bounds the time in the queue, and the request is not sent', async () => {
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([], { wait: 5 }, [100, 1]);
    const holder = take(throttle);
    const error = rejection(limitedFetch(URL_A));
    await clock.advance(4.9);
    expect(throttle.waiting).toBe(1);
    await clock.advance(0.1);
    expect((await error).name).toBe('ThrottleTimeoutError');
    holder.release();
    expect([upstream.calls.length, throttle.tokens, clock.pending]).toEqual([0, 100, 0]);
    expectNothingHeld(throttle);
  });

  test('0 never waits', async () => {
    const { throttle, limitedFetch } = setUpFetch([], { wait: 0 }, [100, 1]);
    expect((await limitedFetch(URL_A)).status).toBe(200);
    const holder = take(throttle);
    expect((await rejection(limitedFetch(URL_A))).name).toBe('ThrottleTimeoutError');
    holder.release();
  });

  test('does not count the time after the grant', async () => {
    const { clock, limitedFetch } = setUpFetch(
      [() => new Promise((resolve) => void clock.schedule(10, () => resolve(new Response('ok'))))],
      { wait: 5 },
    );
    const response = limitedFetch(URL_A);
    await clock.advance(10);
    expect((await response).status).toBe(200);
  });

  test.each([
    ['a stated wait', retryAfter(6)],
    ['a backoff of one request', refusal({}, 503)],
  ])('a refusal with a longer wait is returned: %s', async (_, reply) => {
    const { throttle, limitedFetch, upstream } = setUpFetch([reply], { wait: 0.5 });
    expect((await limitedFetch(URL_A)).status).toBe(reply.status);
    expect(upstream.calls.length).toBe(1);
    expectNothingHeld(throttle);
  });

  test('a refusal with a shorter wait is sent again', async () => {
    const { clock, limitedFetch, upstream } = setUpFetch([retryAfter(4)], { wait: 5 });
    const response = limitedFetch(URL_A);
    await clock.advance(4);
    expect([(await response).status, upstream.times]).toEqual([200, [0, 4]]);
  });

  test('bounds the turn at the first origin and the wait for the second one together', async () => {
    const clock = new ManualClock();
    const gate = new KeyedThrottle(100, 1, 1, { clock });
    const redirected = retryAfter(3);
    Object.defineProperties(redirected, { redirected: { value: true }, url: { value: 'https://b.example/' } });
    const { fetch, calls } = new FakeUpstream(clock, redirected);
    const own = gate.tryAcquire('https://a.example')!;
    own.release();
    const error = rejection(throttledFetch(gate, { fetch, clock, wait: 5 })(URL_A));
    await clock.advance(0);
    const holder = gate.tryAcquire('https://a.example')!;
    await clock.advance(4.9);
    expect(gate.peek('https://a.example')!.waiting).toBe(1);
    await clock.advance(0.1);
    expect([(await error).name, calls.length]).toEqual(['ThrottleTimeoutError', 1]);
    holder.release();
    await clock.advance(10);
    expect(clock.pending).toBe(0);
  });
});

describe('timeout', () => {
  test('aborts the attempt with a TimeoutError, and frees the slot', async () => {
    const { fetch, signals } = hanging();
    const { clock, throttle, limitedFetch } = setUpFetch([], { fetch, timeout: 5 }, [100, 1]);
    const error = rejection(limitedFetch(URL_A));
    await clock.advance(4.9);
    expect([throttle.active, signals[0]!.aborted]).toEqual([1, false]);
    await clock.advance(0.1);
    const reason = await error;
    expect(reason).toBeInstanceOf(DOMException);
    expect([reason.name, reason.message]).toEqual(['TimeoutError', 'The attempt exceeded its timeout of 5 s']);
    expect([signals[0]!.reason, throttle.active, clock.pending]).toEqual([reason, 0, 0]);
  });

  test('ends a fetch that ignores its signal, and its late response is discarded', async () => {
    const cancel = vi.fn();
    let resolve!: (response: Response) => void;
    const { clock, throttle, limitedFetch } = setUpFetch(
      [new Promise((settle) => void (resolve = settle))],
      { timeout: 5 },
      [100, 1],
    );
    const error = rejection(limitedFetch(URL_A));
    await clock.advance(5);
    expect((await error).name).toBe('TimeoutError');
    expectNothingHeld(throttle);
    resolve(new Response(new ReadableStream({ cancel })));
    await clock.advance(0);
    expect(cancel).toHaveBeenCalledOnce();
  });

  test('does not count the time in the queue', async () => {
    const { clock, throttle, limitedFetch } = setUpFetch([], { timeout: 5 }, [100, 1]);
    const holder = take(throttle);
    const response = limitedFetch(URL_A);
    await clock.advance(100);
    holder.release();
    expect((await response).status).toBe(200);
    expect(clock.pending).toBe(0);
  });

  test('counts anew for each attempt, and not during the wait between them', async () => {
    const clock = new ManualClock();
    const replies = [retryAfter(20), new Response('ok')];
    const after = (seconds: number): Promise<Response> =>
      new Promise((resolve) => void clock.schedule(seconds, () => resolve(replies.shift()!)));
    const limitedFetch = throttledFetch(new Throttle(100, 1, 1, { clock }), {
      fetch: () => after(4),
      clock,
      timeout: 5,
    });
    const response = limitedFetch(URL_A);
    await clock.advance(28);
    expect([(await response).status, replies, clock.pending]).toEqual([200, [], 0]);
  });

  test('covers the refusal function, but not the body', async () => {
    const never = new Promise<never>(() => {});
    const covered = setUpFetch([], { timeout: 5, refusal: () => never });
    const error = rejection(covered.limitedFetch(URL_A));
    await covered.clock.advance(5);
    expect((await error).name).toBe('TimeoutError');
    expectNothingHeld(covered.throttle);

    let controller!: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream({ start: (created) => void (controller = created) });
    const { clock, throttle, limitedFetch, upstream } = setUpFetch([new Response(body)], { timeout: 5, hold: 'body' });
    const response = await limitedFetch(URL_A);
    await clock.advance(100);
    expect([upstream.calls[0]!.init!.signal!.aborted, throttle.active, clock.pending]).toEqual([false, 1, 0]);
    controller.close();
    await response.text();
    expectNothingHeld(throttle);
  });

  test.each<[string, (controller: AbortController) => [string | Request, RequestInit?]]>([
    ['init', (controller) => [URL_A, { signal: controller.signal }]],
    ['a Request', (controller) => [new Request(URL_A, { signal: controller.signal })]],
  ])('the signal of %s still aborts the attempt, and no listener is left', async (_, createArguments) => {
    const { fetch, signals } = hanging();
    const { clock, throttle, limitedFetch } = setUpFetch([], { fetch, timeout: 5 }, [100, 1]);
    const controller = new AbortController();
    const args = createArguments(controller);
    const signal = args[1]?.signal ?? (args[0] as Request).signal;
    const [added, removed] = [vi.spyOn(signal, 'addEventListener'), vi.spyOn(signal, 'removeEventListener')];
    const error = rejection(limitedFetch(...args));
    await clock.advance(1);
    const reason = new Error('caller aborted');
    controller.abort(reason);
    expect(await error).toBe(reason);
    expect([signals[0]!.reason, clock.pending]).toEqual([reason, 0]);
    expect(added).toHaveBeenCalled();
    expect(removed).toHaveBeenCalledTimes(added.mock.calls.length);
    expectNothingHeld(throttle);
  });

  test.each<[string, (init: RequestInit) => unknown]>([
    ['the response has no body', () => new Response(null, { status: 204 })],
    ['the attempt fails', () => Promise.reject(new Error('lost'))],
    ['the response is a refusal', () => refusal({}, 429)],
  ])('no listener is left when %s', async (_, reply) => {
    const { clock, throttle, limitedFetch } = setUpFetch([], {
      fetch: (async (_input: unknown, init: RequestInit) => reply(init)) as typeof fetch,
      timeout: 5,
      retries: 1,
    });
    const { signal } = new AbortController();
    const [added, removed] = [vi.spyOn(signal, 'addEventListener'), vi.spyOn(signal, 'removeEventListener')];
    const settled = limitedFetch(URL_A, { signal }).then(
      async (response) => response.body?.cancel(),
      () => {},
    );
    await clock.advance(10);
    await settled;
    expectNothingHeld(throttle);
    expect(clock.pending).toBe(0);
    await vi.waitFor(() => {
      globalThis.gc!();
      expect(removed).toHaveBeenCalledTimes(added.mock.calls.length);
    });
  });

  test('many responses that are dropped unread leave no listener on a signal that lives on', async () => {
    const { limitedFetch } = setUpFetch([], { timeout: 5 });
    const { signal } = new AbortController();
    const [added, removed] = [vi.spyOn(signal, 'addEventListener'), vi.spyOn(signal, 'removeEventListener')];
    for (let count = 0; count < 100; count++) await limitedFetch(URL_A, { signal });
    await vi.waitFor(() => {
      globalThis.gc!();
      expect(removed).toHaveBeenCalledTimes(added.mock.calls.length);
    });
  });

  test('an invalid signal reaches fetch, which reports it', async () => {
    const { clock, limitedFetch, upstream } = setUpFetch([], { timeout: 5 });
    await limitedFetch(URL_A, { signal: 'now' as never });
    expect(upstream.calls[0]!.init!.signal).toBe('now');
    expect(clock.pending).toBe(0);
  });

  test('the init of the caller stays as it is, and a Request keeps its referrer', async () => {
    const { limitedFetch, upstream } = setUpFetch([], { timeout: 5 });
    const init = Object.freeze({ method: 'POST', body: 'x' });
    await limitedFetch(URL_A, init);
    const { signal, ...rest } = upstream.calls[0]!.init!;
    expect([rest, signal!.aborted]).toEqual([init, false]);
    const request = new Request(URL_A, { referrer: '', referrerPolicy: 'origin' });
    await limitedFetch(request);
    expect(upstream.calls[1]!.input).toBe(request);
    expect(upstream.calls[1]!.init).toMatchObject({ referrer: '', referrerPolicy: 'origin' });
  });

  test.each<[string, ManualClock['schedule']]>([
    ['calls back at once', (_, callback) => (callback(), () => {})],
    [
      'calls back twice, and ignores the cancellation',
      (_, callback) => (queueMicrotask(callback), queueMicrotask(callback), () => {}),
    ],
    ['throws', () => JSON.parse('') as never],
  ])('a clock that %s leaves nothing behind', async (_, schedule) => {
    const throttle = new Throttle(100, 1, 1e9, { clock: new ManualClock() });
    const { fetch } = hanging();
    const limitedFetch = throttledFetch(throttle, { fetch, timeout: 5, clock: { now: () => 0, schedule } });
    const { signal } = new AbortController();
    const [added, removed] = [vi.spyOn(signal, 'addEventListener'), vi.spyOn(signal, 'removeEventListener')];
    expect((await rejection(limitedFetch(URL_A, { signal }))).name).toMatch(/^(TimeoutError|SyntaxError)$/);
    expectNothingHeld(throttle);
    expect(removed).toHaveBeenCalledTimes(added.mock.calls.length);
  });

  test('a late timer has no effect on the body', async () => {
    let late!: () => void;
    const clock = { now: () => 0, schedule: (_: number, callback: () => void) => ((late = callback), () => {}) };
    const { limitedFetch, upstream } = setUpFetch([], { timeout: 5, clock });
    const response = await limitedFetch(URL_A);
    late();
    expect(upstream.calls[0]!.init!.signal!.aborted).toBe(false);
    expect(await response.text()).toBe('ok');
  });
});

describe('a permit that is lost', () => {
  /** A fetch that answers each request, and the signals of the requests. */
  const answering = (): { fetch: typeof globalThis.fetch; signals: AbortSignal[] } => {
    const signals: AbortSignal[] = [];
    return { signals, fetch: async (_, init) => (signals.push(init!.signal!), new Response('ok')) };
  };
  const setUpLosing = (fetch: typeof globalThis.fetch, hold: 'headers' | 'body' = 'headers') => {
    const { clock, throttle } = setUp(100, 1, 1e9, { ttl: 5 });
    return { clock, throttle, limitedFetch: throttledFetch(throttle, { fetch, clock, hold }) };
  };

  test('aborts its request, with the reason of the permit', async () => {
    const { fetch, signals } = hanging();
    const { clock, throttle, limitedFetch } = setUpLosing(fetch);
    const error = rejection(limitedFetch(URL_A));
    await clock.advance(5);
    expect((await error).name).toBe('PermitExpiredError');
    expect(signals[0]!.reason).toBe(await error);
    expectNothingHeld(throttle);
    expect(clock.pending).toBe(0);
  });

  test("aborts the body with hold: 'body', and not after the body has been read", async () => {
    const { fetch, signals } = answering();
    const { clock, throttle, limitedFetch } = setUpLosing(fetch, 'body');
    const response = await limitedFetch(URL_A);
    await response.text();
    const unread = await limitedFetch(URL_A);
    await clock.advance(10);
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, true]);
    expectNothingHeld(throttle);
    expect(unread.status).toBe(200);
  });

  test("does not abort the body with hold: 'headers', because the permit is released", async () => {
    const { fetch, signals } = answering();
    const { clock, limitedFetch } = setUpLosing(fetch);
    const response = await limitedFetch(URL_A);
    await clock.advance(10);
    expect(signals[0]!.aborted).toBe(false);
    expect(await response.text()).toBe('ok');
  });
});

describe('with the fetch of the platform', () => {
  const closers: (() => unknown)[] = [];
  afterEach(() => closers.splice(0).forEach((close) => close()));
  const serve = async (afterHeaders: boolean): Promise<{ url: string; closed: Promise<unknown> }> => {
    let onClose!: (value: unknown) => void;
    const closed = new Promise((resolve) => void (onClose = resolve));
    const server = createServer((_, response) => {
      response.once('close', onClose);
      if (afterHeaders) response.writeHead(200).write('first');
    }).listen(0, '127.0.0.1');
    closers.push(() => (server.closeAllConnections(), server.close()));
    await once(server, 'listening');
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, closed };
  };

  test('a timeout closes the connection', async () => {
    const { url, closed } = await serve(false);
    const throttle = new Throttle(100, 1);
    const error = await rejection(throttledFetch(throttle, { timeout: 0.05 })(url));
    expect(error.name).toBe('TimeoutError');
    await closed;
    expectNothingHeld(throttle);
  });

  test.each(['the response', 'the reader'])(
    'an abort of the caller reaches the body, although only %s is kept and memory was collected',
    async (kept) => {
      const { url, closed } = await serve(true);
      const controller = new AbortController();
      const limitedFetch = throttledFetch(new Throttle(100, 1), { timeout: 60 });
      let response: Response | undefined = await limitedFetch(url, { signal: controller.signal });
      const reader = kept === 'the reader' ? response.body!.getReader() : undefined;
      await reader?.read();
      const text = kept === 'the response' ? response.text() : undefined;
      response = undefined;
      for (let count = 0; count < 5; count++) {
        globalThis.gc!();
        await new Promise((resolve) => void setTimeout(resolve, 5));
      }
      const pending = rejection(text ?? reader!.read());
      controller.abort(new Error('caller aborted'));
      expect((await pending).message).toBe('caller aborted');
      await closed;
    },
  );
});
