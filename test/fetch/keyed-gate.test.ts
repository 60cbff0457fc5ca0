/** A gate with a limit for each key. */
import { type Gate, type KeyedGate, KeyedThrottle } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { setUp } from '../support/support.js';
import {
  deferResponse,
  FakeUpstream,
  refusal,
  registerHooks,
  retryAfter,
  setUpKeyedFetch,
  URL_A,
} from './fake-upstream.js';
import { ThrottleMap } from './throttle-map.js';

registerHooks();

describe('a keyed gate', () => {
  test('may be a KeyedThrottle', async () => {
    const clock = new ManualClock();
    const gate = new KeyedThrottle(100, 1, 1, { clock });
    const upstream = new FakeUpstream(clock, retryAfter(5));
    const limitedFetch = throttledFetch(gate, { fetch: upstream.fetch });
    const all = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A), limitedFetch('https://b.example/')]);
    await clock.advance(5);
    expect((await all).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(upstream.times).toEqual([0, 0, 5, 5]);
  });

  test('uses the origin of the URL as the key by default', async () => {
    const { gate, limitedFetch } = setUpKeyedFetch([]);
    await limitedFetch('https://a.example/x?y#z');
    await limitedFetch(new URL('https://A.example:443/other'));
    await limitedFetch(new Request('https://b.example/x', { method: 'POST', body: 'x' }));
    await limitedFetch('http://b.example:8080');
    expect([...gate.throttles.keys()]).toEqual(['https://a.example', 'https://b.example', 'http://b.example:8080']);
    expect(gate.of('https://a.example').tokens).toBe(98);
  });

  test('resolves a relative URL by the location, if the platform has one', async () => {
    const { gate, limitedFetch, upstream } = setUpKeyedFetch([]);
    vi.stubGlobal('location', new URL('https://page.example/a/b'));
    await limitedFetch('/items');
    await limitedFetch('items');
    expect([...gate.throttles.keys()]).toEqual(['https://page.example']);
    expect(upstream.calls.map(({ input }) => input)).toEqual(['/items', 'items']);
  });

  test('passes a URL without an origin to fetch, and takes no permit', async () => {
    const error = new TypeError('Invalid URL');
    const { gate, limitedFetch, upstream } = setUpKeyedFetch([error]);
    const init = {};
    await expect(limitedFetch('/items', init)).rejects.toBe(error);
    expect([upstream.calls[0]!.input, gate.throttles.size]).toEqual(['/items', 0]);
    expect(upstream.calls[0]!.init).toBe(init);
  });

  test('accepts a fixed key, or a function of the arguments', async () => {
    const constant = setUpKeyedFetch([], { key: 'github' });
    await constant.limitedFetch('/items');
    expect([...constant.gate.throttles.keys()]).toEqual(['github']);
    const computed = setUpKeyedFetch([], { key: (input, init) => `${init?.method} ${input as string}` });
    await computed.limitedFetch('/items', { method: 'POST' });
    expect([...computed.gate.throttles.keys()]).toEqual(['POST /items']);
  });

  test.each<[string, () => string, string]>([
    [
      'throws',
      () => {
        throw new Error('no user');
      },
      'no user',
    ],
    ['returns undefined', () => undefined as unknown as string, 'key must be a key, received undefined'],
  ])('rejects the request and does not send it, if the key function %s', async (_, key, message) => {
    const { gate, limitedFetch, upstream } = setUpKeyedFetch([], { key });
    await expect(limitedFetch(URL_A)).rejects.toThrow(message);
    expect([gate.throttles.size, upstream.calls.length]).toEqual([0, 0]);
  });

  test('decides whether null is a key', async () => {
    const clock = new ManualClock();
    const gate = new ThrottleMap<null>({ clock });
    await throttledFetch(gate, { fetch: async () => new Response('ok'), key: () => null })(URL_A);
    expect([...gate.throttles.keys()]).toEqual([null]);
  });

  test('pauses only the key of the refusal', async () => {
    const { clock, gate, limitedFetch, upstream } = setUpKeyedFetch([retryAfter(5)]);
    const a = limitedFetch(URL_A);
    await clock.advance(1);
    expect((await limitedFetch('https://b.example/')).status).toBe(200);
    expect([gate.of('https://a.example').pausedFor, gate.of('https://b.example').pausedFor]).toEqual([4, 0]);
    await clock.advance(4);
    expect([(await a).status, upstream.times]).toEqual([200, [0, 1, 5]]);
  });

  test('judges a late refusal by the pauses of its own key', async () => {
    const [first, second] = [deferResponse(), deferResponse()];
    const { clock, gate, limitedFetch } = setUpKeyedFetch([first.promise, second.promise]);
    const both = Promise.all([limitedFetch(URL_A), limitedFetch('https://b.example/')]);
    await clock.advance(1);
    first.resolve(refusal());
    await clock.advance(0.5);
    second.resolve(refusal());
    await clock.advance(0);
    expect([gate.of('https://a.example').pausedFor, gate.of('https://b.example').pausedFor]).toEqual([0.5, 1]);
    await clock.advance(2);
    await both;
  });

  test('with keys of another type than string needs a key of that type', async () => {
    const clock = new ManualClock();
    const gate = new ThrottleMap<number>({ clock });
    const { fetch } = new FakeUpstream(clock);
    // @ts-expect-error An origin is not a number.
    throttledFetch(gate, { fetch });
    // @ts-expect-error The key function returns a string.
    throttledFetch(gate, { fetch, key: () => 'a' });
    const limitedFetch: typeof globalThis.fetch = throttledFetch(gate, {
      fetch,
      key: (input, init) => (input as string).length + (init ? 1 : 0),
    });
    await limitedFetch(URL_A);
    await throttledFetch(gate, { fetch, key: 5 })(URL_A);
    expect([...gate.throttles.keys()]).toEqual([URL_A.length, 5]);
    const either = gate as unknown as Gate | KeyedGate;
    await throttledFetch(either, { fetch, cost: 0 })(URL_A);
    expect(gate.throttles.size).toBe(3);
  });

  test('retains no key when no request is in flight', async () => {
    const { clock, throttle } = setUp();
    const upstream = new FakeUpstream(clock, new Response('ok'), retryAfter(1), new Error('lost'));
    const gate: KeyedGate<object> = {
      keyed: true,
      acquire: (_, cost, options) => throttle.acquire(cost, options),
      tryAcquire: (_, cost) => throttle.tryAcquire(cost),
      run: (_, fn, cost, options) => throttle.run(fn, cost, options),
      pause: (_, seconds) => throttle.pause(seconds),
      resume: () => throttle.resume(),
      close: (reason) => throttle.close(reason),
    };
    const references: WeakRef<object>[] = [];
    const limitedFetch = throttledFetch(gate, {
      fetch: upstream.fetch,
      key: () => {
        const key = {};
        references.push(new WeakRef(key));
        return key;
      },
    });
    const all = Promise.allSettled([limitedFetch(URL_A), limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(5);
    expect((await all).map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected']);
    await vi.waitFor(() => {
      globalThis.gc!();
      expect(references.map((reference) => reference.deref())).toEqual([undefined, undefined, undefined]);
    });
    void limitedFetch;
  });
});
