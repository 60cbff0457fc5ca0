/** The option `settle`: the true cost of a request, stated after its response. */
import { type Permit, Throttle, type ThrottleOptions } from 'headgate';
import { throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { expectNothingHeld, FakeUpstream, registerHooks, type Reply, retryAfter, URL_A } from './fake-upstream.js';
import { expectNoWarning, recordWarnings } from './warnings.js';

registerHooks();
const warnings = recordWarnings();

/** A promise that the test settles. */
const defer = (): { promise: Promise<void>; resolve: () => void; reject: (error: unknown) => void } => {
  let settlers!: { resolve: () => void; reject: (error: unknown) => void };
  const promise = new Promise<void>((resolve, reject) => void (settlers = { resolve, reject }));
  return { promise, ...settlers };
};

interface Scene {
  clock: ManualClock;
  throttle: Throttle<'tokens'>;
  upstream: FakeUpstream;
  limitedFetch: typeof fetch;
}

/** One slot, 500 requests, and 1,000 tokens. The rate refills nothing during a test. */
const setUpLlm = (
  replies: Reply[],
  options: ThrottledFetchOptions<string, typeof fetch, 'tokens'>,
  more: Pick<ThrottleOptions, 'ttl'> = {},
): Scene => {
  const clock = new ManualClock();
  const also = [{ name: 'tokens' as const, capacity: 1_000, period: 1e9 + 1 }];
  const throttle = new Throttle(500, 1, 1e9 + 1, { clock, also, ...more });
  const upstream = new FakeUpstream(clock, ...replies);
  const limitedFetch = throttledFetch(throttle, { fetch: upstream.fetch, clock, cost: { tokens: 100 }, ...options });
  return { clock, throttle, upstream, limitedFetch };
};

/** A response whose body the test writes. */
const streamed = (
  cancelled = vi.fn<() => void>(),
): { response: Response; write: (text: string) => void; close: () => void; fail: (error: Error) => void } => {
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  const body = new ReadableStream({ start: (created) => void (controller = created), cancel: cancelled });
  return {
    response: new Response(body),
    write: (text) => controller.enqueue(new TextEncoder().encode(text)),
    close: () => controller.close(),
    fail: (error) => controller.error(error),
  };
};

describe('settle', () => {
  test('states the true cost of a rate, and the request itself stays charged', async () => {
    const { clock, throttle, limitedFetch } = setUpLlm([Response.json({ usage: { total_tokens: 30 } })], {
      settle: async (response, permit) => {
        const { usage } = (await response.json()) as { usage: { total_tokens: number } };
        permit.settle({ tokens: usage.total_tokens });
      },
    });
    expect(await (await limitedFetch(URL_A)).json()).toEqual({ usage: { total_tokens: 30 } });
    await clock.advance(1);
    expect([throttle.tokens, throttle.levels.tokens]).toEqual([expect.closeTo(499, 3), expect.closeTo(970, 3)]);
    expectNothingHeld(throttle);
    expectNoWarning(warnings);
  });

  test('does not delay the caller, and the slot stays taken until it has ended', async () => {
    const end = defer();
    const { clock, throttle, limitedFetch, upstream } = setUpLlm([], { settle: () => end.promise });
    expect(await (await limitedFetch(URL_A)).text()).toBe('ok');
    const next = limitedFetch(URL_A);
    await clock.advance(10);
    expect([throttle.active, throttle.waiting, upstream.calls.length]).toEqual([1, 1, 1]);
    end.resolve();
    await next;
    expect(upstream.calls.length).toBe(2);
    await clock.advance(0);
    expectNothingHeld(throttle);
  });

  test.each(['settle', 'body'])(
    "with hold: 'body', the slot is released when both have ended: %s first",
    async (first) => {
      const end = defer();
      const { response, close } = streamed();
      const { clock, throttle, limitedFetch } = setUpLlm([response], { settle: () => end.promise, hold: 'body' });
      const received = await limitedFetch(URL_A);
      const steps = [end.resolve, () => (close(), received.text())];
      if (first === 'body') steps.reverse();
      await steps[0]!();
      await clock.advance(1);
      expect(throttle.active).toBe(1);
      await steps[1]!();
      await clock.advance(1);
      expectNothingHeld(throttle);
    },
  );

  test('receives a body of its own: the caller and settle read at different times', async () => {
    const { response, write, close } = streamed();
    let copy!: Response;
    const end = defer();
    const { clock, throttle, limitedFetch } = setUpLlm([response], {
      settle: (own) => ((copy = own), end.promise),
    });
    const received = await limitedFetch(URL_A);
    expect(copy).not.toBe(received);
    expect([copy.status, copy.url]).toEqual([received.status, received.url]);
    write('first ');
    const reader = received.body!.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe('first ');
    write('second');
    close();
    expect(await copy.text()).toBe('first second');
    expect(new TextDecoder().decode((await reader.read()).value)).toBe('second');
    end.resolve();
    await clock.advance(0);
    expectNothingHeld(throttle);
  });

  test('may read only a header field: the rest of its copy is dropped, and the caller reads on', async () => {
    const cancelled = vi.fn();
    const { response, write, close } = streamed(cancelled);
    const copies: Response[] = [];
    const { clock, throttle, limitedFetch } = setUpLlm([response], { settle: (own) => void copies.push(own) });
    const received = await limitedFetch(URL_A);
    await clock.advance(0);
    expectNothingHeld(throttle);
    expect(await copies[0]!.text()).toBe('');
    write('ok');
    close();
    expect(await received.text()).toBe('ok');
    expect(cancelled).not.toHaveBeenCalled();
  });

  test.each(['headers', 'body'] as const)(
    'with hold: %j, a caller that cancels its body ends the copy at once, and the estimate stays',
    async (hold) => {
      const cancelled = vi.fn();
      const { response, write } = streamed(cancelled);
      const seen: unknown[] = [];
      const settle = async (own: Response): Promise<void> => {
        await own.text().catch((error: unknown) => {
          seen.push((error as Error).name);
          throw error;
        });
      };
      const { throttle, limitedFetch } = setUpLlm([response], { settle, hold });
      const received = await limitedFetch(URL_A, { method: 'POST' });
      const reader = received.body!.getReader();
      write('ok');
      await reader.read();
      await reader.cancel('enough');
      await vi.waitFor(() => expectNothingHeld(throttle));
      expect([seen, cancelled.mock.calls.length]).toEqual([['AbortError'], 1]);
      expectNoWarning(warnings);
    },
  );

  test('the connection is closed when the caller cancels the body after settle has ended', async () => {
    const cancelled = vi.fn();
    const { limitedFetch, clock } = setUpLlm([streamed(cancelled).response], { settle: () => {} });
    const received = await limitedFetch(URL_A);
    await clock.advance(0);
    expect(cancelled).not.toHaveBeenCalled();
    await received.body!.cancel();
    expect(cancelled).toHaveBeenCalledOnce();
  });

  test('is called for a response that is not a refusal, whatever its status', async () => {
    const statuses: number[] = [];
    const { clock, throttle, limitedFetch } = setUpLlm([retryAfter(1), new Response('bad', { status: 400 })], {
      settle: ({ status }, permit) => (statuses.push(status), permit.settle({ tokens: 0 })),
    });
    const response = limitedFetch(URL_A);
    await clock.advance(2);
    expect([(await response).status, statuses]).toEqual([400, [400]]);
    expect(throttle.levels.tokens).toBeCloseTo(1_000, 3);
    expectNothingHeld(throttle);
  });

  test('is not called for a refusal that is returned', async () => {
    const settle = vi.fn();
    const { throttle, limitedFetch } = setUpLlm([retryAfter(1)], { settle, retries: 0 });
    expect((await limitedFetch(URL_A)).status).toBe(429);
    expect(settle).not.toHaveBeenCalled();
    expectNothingHeld(throttle);
  });

  test('an abort frees the slot although settle has not ended, and settle may still state the cost', async () => {
    const end = defer();
    const { clock, throttle, limitedFetch } = setUpLlm([], {
      settle: async (_, permit) => {
        await end.promise;
        permit.settle({ tokens: 10 });
        throw new Error('after the abort');
      },
    });
    const controller = new AbortController();
    const added = vi.spyOn(controller.signal, 'addEventListener');
    const removed = vi.spyOn(controller.signal, 'removeEventListener');
    await limitedFetch(URL_A, { signal: controller.signal });
    expect(throttle.active).toBe(1);
    controller.abort();
    await clock.advance(0);
    expectNothingHeld(throttle);
    expect(removed).toHaveBeenCalledTimes(added.mock.calls.length);
    end.resolve();
    await clock.advance(1);
    expect(throttle.levels.tokens).toBeCloseTo(990, 3);
    expectNoWarning(warnings);
  });

  const failures: [string, ThrottledFetchOptions['settle']][] = [
    [
      'throws',
      () => {
        throw new Error('no usage');
      },
    ],
    ['rejects', () => Promise.reject(new Error('no usage'))],
    ['reads a body that is no JSON', async (response) => void (await response.json())],
    ['states an invalid cost', (_, permit) => permit.settle(-1)],
    ['states an unknown rate', (_, permit) => permit.settle({ tokns: 1 })],
    [
      'returns an object whose `then` throws',
      () => Object.defineProperty({}, 'then', { get: () => JSON.parse('') }) as never,
    ],
  ];
  test.each(failures)('a settle function that %s does not affect the request, and warns once', async (_, settle) => {
    const { clock, throttle, limitedFetch } = setUpLlm([], { settle });
    for (let count = 0; count < 2; count++) {
      expect(await (await limitedFetch(URL_A)).text()).toBe('ok');
      await clock.advance(0);
      expectNothingHeld(throttle);
    }
    expect(throttle.levels.tokens).toBeCloseTo(800, 3);
    expect(warnings.codes()).toEqual(['HEADGATE_SETTLE_FAILED']);
    expect(warnings.messages()[0]).toMatch(/^The settle function of a request failed, .*: \w*Error/);
  });

  test('a body that fails ends a settle function that reads it', async () => {
    const { response, fail } = streamed();
    const { clock, throttle, limitedFetch } = setUpLlm([response], {
      settle: async (own) => void (await own.text()),
    });
    const received = await limitedFetch(URL_A);
    fail(new Error('lost'));
    await expect(received.text()).rejects.toThrow('lost');
    await clock.advance(0);
    expectNothingHeld(throttle);
    expect(warnings.codes()).toEqual(['HEADGATE_SETTLE_FAILED']);
  });

  test('receives the response itself if it cannot be cloned', async () => {
    const reply = { status: 200, headers: new Headers({ 'x-used': '7' }) };
    const { clock, throttle, limitedFetch } = setUpLlm([reply as unknown as Response], {
      settle: (response, permit) => permit.settle({ tokens: Number(response.headers.get('x-used')) }),
    });
    expect(await limitedFetch(URL_A)).toBe(reply);
    await clock.advance(0);
    expect(throttle.levels.tokens).toBeCloseTo(993, 3);
    expectNothingHeld(throttle);
  });

  test('a body that the refusal function has read leaves the header fields to settle', async () => {
    const seen: (string | null)[] = [];
    const { clock, throttle, limitedFetch } = setUpLlm([new Response('ok', { headers: { 'x-used': '7' } })], {
      refusal: async (response) => (await response.text()) !== 'ok',
      settle: ({ headers }) => void seen.push(headers.get('x-used')),
    });
    await limitedFetch(URL_A);
    await clock.advance(0);
    expect(seen).toEqual(['7']);
    expectNothingHeld(throttle);
  });

  test('works with a Request, and with a cost that is computed from its body', async () => {
    const bodies: string[] = [];
    const permits: Permit<'tokens'>[] = [];
    const { clock, throttle, limitedFetch } = setUpLlm(
      [async ({ input }) => new Response(await (input as Request).text())],
      {
        cost: async (input) => {
          const text = await (input as Request).text();
          bodies.push(text);
          return { tokens: text.length };
        },
        settle: (_, permit) => void permits.push(permit),
      },
    );
    const request = new Request(URL_A, { method: 'POST', body: 'a prompt' });
    expect(await (await limitedFetch(request)).text()).toBe('a prompt');
    await clock.advance(0);
    expect(bodies).toEqual(['a prompt']);
    expect([permits[0]!.cost, permits[0]!.costs.tokens]).toEqual([1, 8]);
    expectNothingHeld(throttle);
  });

  test('a permit that expires during settle frees its slot, and aborts the request', async () => {
    let sent: AbortSignal | null | undefined;
    const { clock, throttle, limitedFetch } = setUpLlm(
      [({ init }) => ((sent = init?.signal), new Response('ok'))],
      { settle: () => new Promise(() => {}) },
      { ttl: 5 },
    );
    await limitedFetch(URL_A);
    await clock.advance(4);
    expect([throttle.active, sent!.aborted]).toEqual([1, false]);
    await clock.advance(1);
    expect([throttle.active, sent!.aborted]).toEqual([0, true]);
    expect((sent!.reason as Error).name).toBe('PermitExpiredError');
    expectNoWarning(warnings);
    expect(clock.pending).toBe(0);
  });
});
